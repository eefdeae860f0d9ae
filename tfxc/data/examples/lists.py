"""Lists of different lengths in CSR form: bounds ``indptr``, and the values one after the other."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfxc.ops.csr import bounds_of

PADDING = -1
_TOKENS = 8  # lists of tokens are padded to a multiple of it


def joined_files(files: Sequence[bytes]) -> dict[str, np.ndarray]:
    """Returns encoded files (``bytes``) as the arrays ``indptr`` and ``content`` of ``Rows``.

    Example:
        >>> joined_files([b"GIF", b"BM"])["indptr"].tolist()
        [0, 3, 5]
    """
    sizes = np.fromiter(map(len, files), np.int64, len(files))
    content = np.frombuffer(b"".join(files), np.uint8)
    return {"indptr": bounds_of(sizes), "content": content}


def pad_tokens(indptr: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Returns token lists as an int32 matrix (n, length) padded with 0.

    The length is a multiple of 8, so that batches have few shapes.

    Example:
        >>> pad_tokens(np.array([0, 2, 2]), np.array([4, 5])).tolist()
        [[4, 5, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]]
    """
    longest = int(np.diff(indptr).max(initial=0))
    return pad_lists(indptr, tokens, max(1, -(-longest // _TOKENS)) * _TOKENS, 0)


def pad_labels(label_indptr: np.ndarray, label_ids: np.ndarray) -> np.ndarray:
    """Returns label lists in CSR form as an int32 matrix (n, max(1, longest list)) padded with −1.

    Example:
        >>> pad_labels(np.array([0, 2, 2]), np.array([4, 5])).tolist()
        [[4, 5], [-1, -1]]
    """
    longest = int(np.diff(label_indptr).max(initial=0))
    return pad_lists(label_indptr, label_ids, max(1, longest), PADDING)


def pad_lists(indptr: np.ndarray, values: np.ndarray, width: int, padding: int) -> np.ndarray:
    """Returns lists, none longer than ``width``, as an int32 matrix (n, width) with padding.

    Example:
        >>> pad_lists(np.array([0, 2, 2, 3]), np.array([4, 1, 2]), 2, -1).tolist()
        [[4, 1], [-1, -1], [2, -1]]
    """
    padded = np.full((len(indptr) - 1, width), padding, np.int32)
    # A boolean mask fills row by row, which is the order of the values.
    padded[np.arange(width) < np.diff(indptr)[:, None]] = values
    return padded


def slice_lists(
    indptr: np.ndarray, start: int, stop: int, *values: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Returns lists ``start`` to ``stop`` of CSR arrays: ``indptr`` and a view of each of
    ``values``.
    """
    first = indptr[start]
    last = indptr[stop]
    return indptr[start : stop + 1] - first, *(array[first:last] for array in values)


def gather_lists(
    indptr: np.ndarray, row_numbers: np.ndarray, *values: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Returns the given lists of CSR arrays in the given order: ``indptr`` and each of
    ``values``.
    """
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


class LabelLists(Sequence[list[Any]]):
    """The labels of examples in CSR form, which reads as a sequence of lists.

    Args:
        indptr: int64 (n + 1,), bounds of each example's labels in ``ids``.
        ids: integers (total,): label ids, or places in ``names``.
        names: object (labels,), the names that ``ids`` are places in; None where labels are
            numbers.

    Example:
        >>> labels = LabelLists(np.array([0, 2, 2]), np.array([4, 5]))
        >>> labels[0], len(labels), labels == [[4, 5], []]
        ([4, 5], 2, True)
        >>> LabelLists.of([["cow"], ["owl", "cow"]]).names.tolist()
        ['cow', 'owl']
    """

    def __init__(
        self, indptr: np.ndarray, ids: np.ndarray, names: np.ndarray | None = None
    ) -> None:
        self.indptr = np.asarray(indptr, np.int64)
        self.ids = ids
        self.names = names

    @classmethod
    def of(cls, lists: "Sequence[Sequence[Any]]") -> "LabelLists":
        """Makes one of lists of names (``str``) or of integers; names are numbered as they first
        occur.
        """
        if isinstance(lists, cls):
            return lists
        flat = [label for row in lists for label in row]
        indptr = bounds_of(np.fromiter(map(len, lists), np.int64, len(lists)))
        if not flat or not isinstance(flat[0], str):
            return cls(indptr, np.fromiter(flat, np.int64, len(flat)))
        places: dict[str, int] = {}
        ids = np.fromiter((places.setdefault(x, len(places)) for x in flat), np.int64, len(flat))
        names = np.empty(len(places), object)
        names[:] = list(places)
        return cls(indptr, ids, names)

    @classmethod
    def none(cls, count: int) -> "LabelLists":
        """Makes one of examples without labels."""
        return cls(np.zeros(count + 1, np.int64), np.zeros(0, np.int64))

    @classmethod
    def joined(cls, parts: "Sequence[Sequence[Any]]") -> "Sequence[Any]":
        """Joins several, one after the other; in CSR form if all of them are, with the same
        names.
        """
        lists = [part for part in parts if isinstance(part, cls)]
        if len(lists) < len(parts) or any(part.names is not lists[0].names for part in lists):
            return [labels for part in parts for labels in part]
        counts = np.concatenate([np.diff(part.indptr) for part in lists])
        return cls(bounds_of(counts), np.concatenate([part.ids for part in lists]), lists[0].names)

    def distinct(self) -> "LabelLists":
        """Returns each label of a row once, where it first occurs."""
        rows = np.repeat(np.arange(len(self)), np.diff(self.indptr))
        keys = rows * (np.int64(1) << 32) + self.ids
        if (np.diff(keys) > 0).all():
            return self
        _, first = np.unique(keys, return_index=True)
        first.sort()
        counts = np.bincount(rows[first], minlength=len(self))
        return LabelLists(bounds_of(counts), self.ids[first], self.names)

    def select(self, row_numbers: np.ndarray) -> "LabelLists":
        """Returns the given rows, in the given order."""
        indptr, ids = gather_lists(self.indptr, row_numbers, self.ids)
        return LabelLists(indptr, ids, self.names)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step != 1:
                return self.select(np.arange(start, stop, step))
            indptr, ids = slice_lists(self.indptr, start, max(start, stop), self.ids)
            return LabelLists(indptr, ids, self.names)
        row = range(len(self))[place]
        return self._values(self.ids[self.indptr[row] : self.indptr[row + 1]])

    def __iter__(self) -> Iterator[list[Any]]:
        flat = self._values(self.ids)
        bounds = self.indptr.tolist()
        return (flat[start:end] for start, end in itertools.pairwise(bounds))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, other: "Sequence[Any]") -> "Sequence[Any]":
        return LabelLists.joined([self, other])

    def __repr__(self) -> str:
        return f"LabelLists({list(self)!r})"

    def _values(self, ids: np.ndarray) -> list[Any]:
        return (ids if self.names is None else self.names[ids]).tolist()
