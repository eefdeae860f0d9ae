"""The forms of ``X`` that the estimator accepts: texts, matrices, images."""

from collections.abc import Sequence
from typing import Any, TypeAlias, TypeGuard

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError

#: ``X`` and ``y`` of any form that is accepted; tables and columns of other libraries, too.
Examples: TypeAlias = Sequence[Any] | np.ndarray | scipy.sparse.csr_matrix


def is_texts(X: Examples) -> TypeGuard[list[str]]:
    """Tells whether what ``listed_texts`` returns are texts."""
    return isinstance(X, list) and bool(X) and isinstance(X[0], str)


def listed_texts(X: Examples) -> Examples:
    """Returns texts as a list, all else as it is.

    Args:
        X: a list, array or column of any library, or a table of one column.

    Raises:
        DataError: some are texts, and one is missing or something else.

    Example:
        >>> listed_texts(np.array([["a fox"], ["an owl"]]))
        ['a fox', 'an owl']
    """
    texts = X
    if not isinstance(X, (list, tuple)):
        if scipy.sparse.issparse(X) or getattr(X, "shape", ())[1:] not in ((), (1,)):
            return X
        texts = np.asarray(X).ravel().tolist()
    if not any(isinstance(text, str) for text in texts):
        return X
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(
                f"the example at index {number} is not a text but {text!r:.80}",
                where="X",
                fix="leave it out, or give '' for it",
            )
    return list(texts)


def checked_images(X: Examples, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Returns images as uint8 (n, height, width, channels).

    Args:
        X: an array of them.
        shape: (height, width, channels) that they must have; None for any.

    Raises:
        DataError: it is something else.
    """
    images = np.asarray(X)
    fits = images.ndim == 4 and images.dtype == np.uint8 and images.shape[3] in (1, 3)
    if not fits or (shape is not None and images.shape[1:] != tuple(shape)):
        form = "height, width, 1 or 3" if shape is None else ", ".join(map(str, shape))
        raise DataError(
            f"the images are an array of {images.dtype} and shape {images.shape}",
            where="X",
            fix=f"pass a uint8 array (n, {form})",
        )
    return images


def checked_weights(weights: Sequence[float] | np.ndarray, count: int) -> np.ndarray:
    """Returns the weights of examples as float32 (count,), scaled to a mean of 1.

    Raises:
        DataError: another number of them, one below 0 or not finite, or only zeros.
    """
    array = np.asarray(weights, np.float64)
    if array.shape != (count,):
        raise DataError(
            f"the weights have shape {array.shape} instead of ({count},)",
            where="sample_weight",
            fix="pass a number for each example",
        )
    if not (np.isfinite(array) & (array >= 0)).all():
        raise DataError(
            "a weight is below 0 or not finite",
            where="sample_weight",
            fix="pass finite numbers of at least 0",
        )
    if not array.any():
        raise DataError(
            "all weights are 0", where="sample_weight", fix="give some examples a weight above 0"
        )
    return (array * (count / array.sum())).astype(np.float32)
