"""Which examples a cluster's children are trained on: negatives of every layer."""

import numpy as np
import scipy.sparse

from tfxc.core.errors import ConfigError, DataError

PARTS = ("tfn", "man", "usn")


def scheme_of(text: str, where: str = "negatives") -> tuple[str, ...]:
    """Returns the parts of a scheme such as ``"tfn+man"``.

    ``tfn`` (teacher forcing): examples with a label under the parent. ``man`` (matcher aware):
    examples for which the layers above predict the parent. ``usn``: pairs provided by the user.

    Raises:
        ConfigError: an unknown part.

    Example:
        >>> scheme_of("tfn+man")
        ('tfn', 'man')
    """
    parts = tuple(str(text).split("+"))
    if not set(parts) <= set(PARTS) or len(set(parts)) < len(parts):
        raise ConfigError(
            f"{text!r} is not a scheme of negatives",
            where=where,
            fix=f"give one or some of {', '.join(PARTS)}, joined by +",
        )
    return parts


def examples_of(
    scheme: tuple[str, ...],
    *,
    above: scipy.sparse.csr_matrix | None = None,
    predicted: scipy.sparse.csr_matrix | None = None,
    given: scipy.sparse.csr_matrix | None = None,
) -> scipy.sparse.csc_matrix:
    """Returns M: the parents whose children an example is trained on, other than those of its own
    labels.

    Args:
        scheme: what ``scheme_of`` returns.
        above: sparse (N, K of the level above), the examples' labels there, for ``tfn``.
        predicted: the same from the layers above, for ``man``.
        given: the same from the user, for ``usn``.

    Returns:
        CSC of bool; only the places of the entries count, explicit zeros too.

    Raises:
        DataError: the scheme needs a matrix that is not given, or shapes differ.

    Reference: Zhang et al., NeurIPS 2021, arXiv 2110.00685, section 3.

    Example:
        >>> above = scipy.sparse.csr_matrix([[2.0, 0.0], [0.0, 0.0]])
        >>> examples_of(("tfn",), above=above).toarray().tolist()
        [[True, False], [False, False]]
    """
    sources = {"tfn": above, "man": predicted, "usn": given}
    total: scipy.sparse.csr_matrix | None = None
    for part in scheme:
        matrix = sources[part]
        if matrix is None:
            raise DataError(f"the matrix (examples, parents) for {part} is missing")
        matrix = scipy.sparse.csr_matrix(matrix)
        ones = np.ones(len(matrix.indices), bool)
        pattern = scipy.sparse.csr_matrix((ones, matrix.indices, matrix.indptr), matrix.shape)
        if total is not None and total.shape != pattern.shape:
            raise DataError(
                f"the matrix for {part} has the shape {pattern.shape}, others {total.shape}"
            )
        total = pattern if total is None else total + pattern
    assert total is not None, "a scheme has at least one part"
    examples = total.tocsc()
    examples.sort_indices()
    return examples
