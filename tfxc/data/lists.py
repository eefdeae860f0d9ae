"""Lists of different lengths in CSR form: bounds ``indptr``, and the values one after the other."""

from collections.abc import Sequence

import numpy as np

from tfxc.ops.csr import bounds_of

PADDING = -1
_TOKENS = 8  # lists of tokens are padded to a multiple of it


def joined_files(files: Sequence[bytes]) -> dict[str, np.ndarray]:
    """Encoded files (``bytes``) as the arrays ``indptr`` and ``content`` of ``Rows``.

    Example:
        >>> joined_files([b"GIF", b"BM"])["indptr"].tolist()
        [0, 3, 5]
    """
    sizes = np.fromiter(map(len, files), np.int64, len(files))
    content = np.frombuffer(b"".join(files), np.uint8)
    return {"indptr": bounds_of(sizes), "content": content}


def pad_tokens(indptr: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Token lists as an int32 matrix (n, length) padded with 0.

    The length is a multiple of 8, so that batches have few shapes.

    Example:
        >>> pad_tokens(np.array([0, 2, 2]), np.array([4, 5])).tolist()
        [[4, 5, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]]
    """
    counts = np.diff(indptr)
    width = max(1, -(-int(counts.max(initial=0)) // _TOKENS)) * _TOKENS
    padded = np.zeros((len(counts), width), np.int32)
    padded[np.arange(width) < counts[:, None]] = tokens
    return padded


def pad_labels(label_indptr: np.ndarray, label_ids: np.ndarray) -> np.ndarray:
    """Label lists in CSR form as an int32 matrix (n, max(1, longest list)) padded with −1.

    Example:
        >>> pad_labels(np.array([0, 2, 2]), np.array([4, 5])).tolist()
        [[4, 5], [-1, -1]]
    """
    counts = np.diff(label_indptr)
    width = max(1, int(counts.max(initial=0)))
    padded = np.full((len(counts), width), PADDING, np.int32)
    # A boolean mask fills row by row, which is the order of the ids.
    padded[np.arange(width) < counts[:, None]] = label_ids
    return padded


def slice_lists(
    indptr: np.ndarray, start: int, stop: int, *values: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Lists ``start`` to ``stop`` of CSR arrays: ``indptr`` and a view of each of ``values``."""
    first, last = indptr[start], indptr[stop]
    return indptr[start : stop + 1] - first, *(array[first:last] for array in values)


def gather_lists(
    indptr: np.ndarray, row_numbers: np.ndarray, *values: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The given lists of CSR arrays in the given order: ``indptr`` and each of ``values``."""
    starts = indptr[row_numbers]
    stops = indptr[row_numbers + 1]
    gathered = bounds_of(stops - starts)
    if values[0].dtype == np.uint8:
        # Files: an index per byte would cost eight times the bytes.
        (content,) = values
        bounds = zip(starts.tolist(), stops.tolist(), strict=True)
        return gathered, np.concatenate([content[:0], *(content[a:b] for a, b in bounds)])
    positions = np.repeat(starts - gathered[:-1], np.diff(gathered))
    positions += np.arange(gathered[-1])
    return gathered, *(array[positions] for array in values)
