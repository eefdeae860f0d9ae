"""The forms of ``X`` that the estimator accepts: texts, matrices, images."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfxc.core.errors import DataError


def is_texts(X: Any) -> bool:
    """Whether examples are texts."""
    one_dimensional = np.ndim(X) == 1 if hasattr(X, "ndim") else isinstance(X, (list, tuple))
    return bool(one_dimensional and len(X) and isinstance(next(iter(X)), str))


def checked_texts(X: Sequence[Any]) -> list[str]:
    """Texts as a list.

    Raises:
        DataError: one is something else.
    """
    for number, text in enumerate(X):
        if not isinstance(text, str):
            raise DataError(f"texts expected, found {text!r} at index {number}", where="X")
    return list(X)


def checked_images(X: Any, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Images as uint8 (n, height, width, channels).

    Args:
        X: an array of them.
        shape: (height, width, channels) that they must have; None for any.

    Raises:
        DataError: it is something else.
    """
    images = np.asarray(X)
    fits = images.ndim == 4 and images.dtype == np.uint8 and images.shape[3] in (1, 3)
    if not fits or (shape is not None and images.shape[1:] != tuple(shape)):
        wanted = "height, width, 1 or 3" if shape is None else ", ".join(map(str, shape))
        raise DataError(
            f"images as a uint8 array (n, {wanted}) expected, found {images.dtype} of shape "
            f"{images.shape}",
            where="X",
        )
    return images


def checked_weights(weights: Sequence[float] | np.ndarray, count: int) -> np.ndarray:
    """Weights of examples as float32 (count,), scaled to a mean of 1.

    Raises:
        DataError: another number of them, one below 0 or not finite, or only zeros.
    """
    found = np.asarray(weights, np.float64)
    if found.shape != (count,) or not (np.isfinite(found) & (found >= 0)).all():
        raise DataError(
            f"{count:,} numbers of at least 0 expected, found others, or another shape "
            f"{found.shape}",
            where="sample_weight",
        )
    if not found.any():
        raise DataError("a number above 0 expected, found only zeros", where="sample_weight")
    return (found * (count / found.sum())).astype(np.float32)
