"""Columns: the arrays that hold the features of rows, in memory and in records.

A column has an entry of one shape per row, or lists of different lengths: bounds, and the values
between them, one list after the other. A kind of features has one column or several
(``tfxc.data.examples.kinds``); the labels of rows are one, too.
"""

import abc
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfxc.core.errors import DataError
from tfxc.data.examples.lists import gather_lists, joined_files, slice_lists
from tfxc.ops.csr import bounds_of

Arrays = dict[str, np.ndarray]
Sizes = Mapping[str, Any]
Fields = dict[str, np.ndarray | list[bytes]]  # of a record
_NO_VALUES = np.zeros(0, np.int64)


class Column(abc.ABC):
    """Arrays that are cut, joined and stored together.

    Attributes:
        types: dict of the arrays' names to their types.
        values: name of the array whose size counts as the number of values.
        bounds: name of the bounds of lists, int64 (n + 1,), else None.
        fields: dict of the names in records to ``"int64"``, ``"float32"`` or ``"string"``.
        counts: dict of the field of a list to that of its lengths; empty if a record needs none.
    """

    types: dict[str, type]
    values: str
    bounds: str | None = None
    fields: dict[str, str]
    counts: dict[str, str]

    @property
    def row_bytes(self) -> int:
        """Bytes of memory a row takes, except its values."""
        return 0 if self.bounds is None else 8

    @property
    def value_bytes(self) -> int:
        """Bytes of memory a value takes."""
        values = [dtype for name, dtype in self.types.items() if name != self.bounds]
        return sum(np.dtype(dtype).itemsize for dtype in values)

    @abc.abstractmethod
    def count(self, arrays: Arrays) -> int:
        """Returns the number of rows."""

    @abc.abstractmethod
    def slice(self, arrays: Arrays, start: int, stop: int) -> Arrays:
        """Returns the arrays of the rows ``start`` to ``stop`` (exclusive); values are views."""

    @abc.abstractmethod
    def select(self, arrays: Arrays, row_numbers: np.ndarray) -> Arrays:
        """Returns the arrays of the given rows, in the given order."""

    @abc.abstractmethod
    def empty(self, num_rows: int, num_values: int, sizes: Sizes) -> Arrays:
        """Arrays for this many rows, to be filled; ``sizes`` see ``tfxc.data.examples.kinds``."""

    @abc.abstractmethod
    def fill(self, target: Arrays, row: int, value: int, arrays: Arrays) -> int:
        """Copies ``arrays`` into ``target``, from a row and a value on; returns the next value."""

    @abc.abstractmethod
    def record(self, arrays: Arrays) -> Fields:
        """Returns the fields of a record that holds these rows, as ``encode_example`` takes
        them.
        """

    def lengths(self, arrays: Arrays) -> Arrays:
        """Returns the fields with the lengths of a record's lists, where it needs them."""
        return {}

    @abc.abstractmethod
    def read(self, fields: Arrays, num_rows: int | None, sizes: Sizes) -> Arrays:
        """Returns the arrays of what records hold.

        Args:
            fields: dict of flat arrays: ``fields`` of several records, and the lengths.
            num_rows: number of rows they have to hold, or None.
            sizes: see ``tfxc.data.examples.kinds``; what is missing is not checked.

        Raises:
            DataError: they hold something else.
        """

    @abc.abstractmethod
    def width(self, arrays: Arrays) -> int:
        """Returns the width of the features as far as the arrays say."""


class Lists(Column):
    """Lists of different lengths: of ids, or of ids with a value each.

    Args:
        bounds: name of the bounds.
        ids, field: name of the ids, int32, and of their field.
        counts: field of the lengths.
        values, values_field: the same of float32 values; None without any.
        what: what an id stands for, in messages.
        limit: name of the size that ids are below.
    """

    bounds: str

    def __init__(
        self,
        bounds: str,
        ids: str,
        field: str,
        counts: str,
        *,
        values: str | None = None,
        values_field: str | None = None,
        what: str = "feature",
        limit: str | None = "num_features",
    ) -> None:
        self.bounds = bounds
        self.values = ids
        self.what = what
        self.limit = limit
        self.types = {bounds: np.int64, ids: np.int32}
        self.fields = {field: "int64"}
        self._field_names = {ids: field}
        self.counts = {field: counts}
        if values is not None and values_field is not None:
            self.types[values] = np.float32
            self.fields[values_field] = "float32"
            self._field_names[values] = values_field

    def count(self, arrays: Arrays) -> int:
        return len(arrays[self.bounds]) - 1

    def slice(self, arrays: Arrays, start: int, stop: int) -> Arrays:
        return self._named(slice_lists(arrays[self.bounds], start, stop, *self._lists(arrays)))

    def select(self, arrays: Arrays, row_numbers: np.ndarray) -> Arrays:
        return self._named(gather_lists(arrays[self.bounds], row_numbers, *self._lists(arrays)))

    def _lists(self, arrays: Arrays) -> list[np.ndarray]:
        return [arrays[name] for name in self.types if name != self.bounds]

    def _named(self, arrays: Iterable[np.ndarray]) -> Arrays:
        return dict(zip(self.types, arrays, strict=True))

    def empty(self, num_rows: int, num_values: int, sizes: Sizes) -> Arrays:
        lengths = dict.fromkeys(self.types, num_values) | {self.bounds: num_rows + 1}
        return {name: np.zeros(lengths[name], dtype) for name, dtype in self.types.items()}

    def fill(self, target: Arrays, row: int, value: int, arrays: Arrays) -> int:
        bounds = arrays[self.bounds]
        end = value + arrays[self.values].size
        target[self.bounds][row + 1 : row + len(bounds)] = bounds[1:] + value
        for name in self.types:
            if name != self.bounds:
                target[name][value:end] = arrays[name]
        return end

    def record(self, arrays: Arrays) -> Fields:
        return {field: arrays[name] for name, field in self._field_names.items()}

    def lengths(self, arrays: Arrays) -> Arrays:
        return {field: np.diff(arrays[self.bounds]) for field in self.counts.values()}

    def read(self, fields: Arrays, num_rows: int | None, sizes: Sizes) -> Arrays:
        (counts_field,) = self.counts.values()
        counts = fields.get(counts_field, _NO_VALUES)
        lists = {name: fields.get(field, _NO_VALUES) for name, field in self._field_names.items()}
        complete = num_rows in (None, len(counts))
        # Negative counts, or a sum that overflows, could give the same total.
        complete &= all(
            counts.sum() == len(values) and (counts >= 0).all() and (counts <= len(values)).all()
            for values in lists.values()
        )
        _check(complete, f"there are not as many {self.what}s as their counts say")
        ids = lists[self.values]
        limit = (self.limit and sizes.get(self.limit)) or np.iinfo(np.int32).max
        if len(ids) and (ids.min() < 0 or ids.max() >= limit):
            raise DataError(
                f"{self.what} ids go from 0 to {limit - 1}, but here from {ids.min()} to "
                f"{ids.max()}"
            )
        return {self.bounds: bounds_of(counts), **lists}

    def width(self, arrays: Arrays) -> int:
        return int(arrays[self.values].max(initial=-1)) + 1


class Vectors(Column):
    """A vector per row, float32 (n, num_features).

    Args:
        array: its name.
        field: of a record.
    """

    dtype: type = np.float32
    storage = "float32"
    entries = "dense vectors of {} values"

    def __init__(self, array: str, field: str) -> None:
        self.values = array
        self.field = field
        self.types = {array: self.dtype}
        self.fields = {field: self.storage}
        self.counts = {}

    def count(self, arrays: Arrays) -> int:
        return len(arrays[self.values])

    def slice(self, arrays: Arrays, start: int, stop: int) -> Arrays:
        return {self.values: arrays[self.values][start:stop]}

    def select(self, arrays: Arrays, row_numbers: np.ndarray) -> Arrays:
        return {self.values: arrays[self.values][row_numbers]}

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        """Returns the shape of an entry."""
        return (sizes["num_features"],)

    def empty(self, num_rows: int, num_values: int, sizes: Sizes) -> Arrays:
        return {self.values: np.zeros((num_rows, *self.shape(sizes)), self.dtype)}

    def fill(self, target: Arrays, row: int, value: int, arrays: Arrays) -> int:
        entries = arrays[self.values]
        target[self.values][row : row + len(entries)] = entries
        return value + entries.size

    def record(self, arrays: Arrays) -> Fields:
        return {self.field: arrays[self.values].ravel()}

    def read(self, fields: Arrays, num_rows: int | None, sizes: Sizes) -> Arrays:
        assert num_rows is not None, "vectors do not say how many they are"
        shape = self.shape(sizes)
        values = self._flat(fields.get(self.field, _NO_VALUES))
        lengths = " x ".join(map(str, shape))
        complete = len(values) == num_rows * int(np.prod(shape))
        _check(complete, f"it does not hold {self.entries.format(lengths)}")
        return {self.values: values.reshape(num_rows, *shape)}

    def _flat(self, values: np.ndarray) -> np.ndarray:
        return values

    def width(self, arrays: Arrays) -> int:
        return int(np.prod(arrays[self.values].shape[1:]))


class Pixels(Vectors):
    """An image per row, uint8 (n, height, width, channels); in records as bytes."""

    dtype = np.uint8
    storage = "string"
    entries = "images of {} pixels"

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        """Returns the shape of an image."""
        return tuple(sizes["image_shape"])

    def record(self, arrays: Arrays) -> Fields:
        return {self.field: [arrays[self.values].tobytes()]}

    def _flat(self, values: np.ndarray) -> np.ndarray:
        return joined_files(values.tolist())["content"]


class Files(Lists):
    """An image's file per row: its bytes, uint8; in records one value each, without counts."""

    def __init__(self) -> None:
        self.bounds = "indptr"
        self.values = "content"
        self.types = {"indptr": np.int64, "content": np.uint8}
        self.field = "image/encoded"
        self.fields = {self.field: "string"}
        self.counts = {}

    def files(self, arrays: Arrays) -> np.ndarray:
        """Returns the files, object (n,) of ``bytes``."""
        bounds = arrays[self.bounds].tolist()
        content = arrays[self.values]
        files = np.empty(len(bounds) - 1, object)
        # One copy of each file and nothing else: files are long, so that this costs what it must.
        for row in range(len(files)):
            files[row] = content[bounds[row] : bounds[row + 1]].tobytes()
        return files

    def record(self, arrays: Arrays) -> Fields:
        return {self.field: self.files(arrays).tolist()}

    def read(self, fields: Arrays, num_rows: int | None, sizes: Sizes) -> Arrays:
        assert num_rows is not None, "files do not say of how many rows they are"
        files = joined_files(fields.get(self.field, np.zeros(0, object)).tolist())
        complete = len(files["indptr"]) == num_rows + 1
        _check(complete, "it does not hold one image per example")
        return files

    def width(self, arrays: Arrays) -> int:
        """Returns 0: the width is not known."""
        return 0


#: The labels of rows.
LABELS = Lists("label_indptr", "label_ids", "labels", "label_counts", what="label", limit=None)


def _check(complete: bool, problem: str) -> None:
    if not complete:
        raise DataError(f"{problem}: the layout is another one, or the shard is damaged")
