"""Files of Arrow and Parquet, read a batch of rows at a time."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core.errors import DataError, missing_package
from tfxc.core.storage.reading import read_errors

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

#: Endings of the files that ``TableFile`` reads.
SUFFIXES = (".parquet", ".arrow", ".feather")
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_MAGIC = b"ARROW1"
_ROWS = 1024


def arrow(where: str | Path) -> Any:
    """Returns the package ``pyarrow``.

    Args:
        where: the file that needs it.

    Raises:
        ConfigError: it is not installed.
    """
    with missing_package("parquet", where=where):
        import pyarrow
        import pyarrow.parquet
    return pyarrow


class TableFile:
    """One file of rows: Parquet, Arrow's file format (also called Feather) or its stream format.

    Args:
        path: the file; its ending says whether it is Parquet.

    Attributes:
        schema: pyarrow's, of names and types.
        columns: names of the columns, where a column of structures is one of each of its fields:
            ``content.body``.
        types: {name: pyarrow's type} of these.
        readable: names of those that can be texts or labels: of texts, numbers or truth values, or
            of lists of these.
        unreadable: {name: type} of the others.
        num_rows: number of rows, or None of a stream, which does not say.

    Raises:
        DataError: the file is damaged.
        ConfigError: pyarrow is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrow = arrow(path)
        with self._errors(), self._opened() as file:
            self.schema = schema = file.schema_arrow if self._is_parquet else file.schema
            self.columns: list[str] = []
            self.types: dict[str, Any] = {}
            for field in schema:
                self._add(field.name, field.type)
            self.readable = [name for name in self.columns if self._holds_labels(self.types[name])]
            self.unreadable = {
                name: str(self.types[name]) for name in self.columns if name not in self.readable
            }
            self.num_rows = file.metadata.num_rows if self._is_parquet else None
            self._metadata = dict(schema.metadata or {})
        self.bytes_read = 0

    def _add(self, name: str, kind: "pyarrow.DataType") -> None:
        if self._arrow.types.is_struct(kind) and kind.num_fields:
            for field in kind:
                self._add(f"{name}.{field.name}", field.type)
            return
        self.columns.append(name)
        self.types[name] = kind

    def _holds_labels(self, kind: "pyarrow.DataType") -> bool:
        types = self._arrow.types
        while not types.is_map(kind) and hasattr(kind, "value_type"):
            kind = kind.value_type  # of a list of any kind, a dictionary or runs of equal values
        return (
            types.is_string(kind)
            or types.is_large_string(kind)
            or types.is_string_view(kind)
            or types.is_integer(kind)
            or types.is_floating(kind)
            or types.is_decimal(kind)
            or types.is_boolean(kind)
        )

    def class_names(self, column: str) -> list[str] | None:
        """Returns the names behind the numbers of a column of classes, as Hugging Face writes
        them.
        """
        with contextlib.suppress(ValueError, TypeError, KeyError):
            info = json.loads(self._metadata[b"huggingface"])
            return class_names_of(info["info"]["features"][column])
        return None

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yields the number of each row, from 1, and the values of some columns.

        One row group of Parquet, or one batch of Arrow, is in memory at a time.

        Args:
            columns: names of ``columns``.
        """
        self.bytes_read = 0
        number = 0
        with self._errors(), self._opened() as file:
            size = self.path.stat().st_size
            for batch in self._batches(file, columns):
                values = [self._column(batch, name).to_pylist() for name in columns]
                for row in zip(*values, strict=True):
                    number += 1
                    yield number, row
                if self.num_rows:
                    self.bytes_read = size * number // self.num_rows
            self.bytes_read = size

    def _column(self, batch: "pyarrow.RecordBatch", name: str) -> "pyarrow.Array":
        """Returns a column of a batch, or a field of a column of structures."""
        if name in self.schema.names:
            return batch.column(name)
        import pyarrow.compute

        top = next(top for top in self.schema.names if name.startswith(f"{top}."))
        column = batch.column(top)
        rest = name.removeprefix(f"{top}.")
        while rest:
            fields = [each.name for each in column.type if f"{rest}.".startswith(f"{each.name}.")]
            column = pyarrow.compute.struct_field(column, [fields[0]])
            rest = rest.removeprefix(fields[0]).removeprefix(".")
        return column

    @property
    def _is_parquet(self) -> bool:
        return self.path.suffix.lower() == ".parquet"

    def _opened(self) -> Any:
        if self._is_parquet:
            return self._arrow.parquet.ParquetFile(self.path)
        with open(self.path, "rb") as stream:
            if stream.read(len(_MAGIC)) == _MAGIC:
                return self._arrow.ipc.open_file(str(self.path))
            # To pyarrow a stream that ends too early would be a shorter one.
            stream.seek(max(0, self.path.stat().st_size - len(_END_OF_STREAM)))
            if stream.read() != _END_OF_STREAM:
                raise self._damaged("the end of the stream is missing")
        return self._arrow.ipc.open_stream(str(self.path))

    def _batches(
        self,
        file: "pyarrow.parquet.ParquetFile | pyarrow.RecordBatchReader",
        columns: Sequence[str],
    ) -> "Iterator[pyarrow.RecordBatch]":
        if self._is_parquet:
            yield from file.iter_batches(_ROWS, columns=list(columns))
        elif isinstance(file, self._arrow.ipc.RecordBatchFileReader):
            for number in range(file.num_record_batches):
                yield from _sliced(file.get_batch(number))
        else:
            for batch in file:
                yield from _sliced(batch)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        with read_errors(self.path):
            try:
                yield
            except self._arrow.ArrowException as error:
                raise self._damaged(str(error)) from error
            except OSError as error:
                if error.errno is not None:
                    raise
                raise self._damaged(str(error)) from error

    def _damaged(self, reason: str) -> DataError:
        return DataError(
            f"the file is truncated or damaged ({reason})",
            where=self.path,
            fix="copy or download it again",
        )


def _sliced(batch: "pyarrow.RecordBatch") -> "Iterator[pyarrow.RecordBatch]":
    for start in range(0, batch.num_rows, _ROWS):
        yield batch.slice(start, _ROWS)


def class_names_of(feature: object) -> list[str] | None:
    """Returns the names of a feature of Hugging Face's ``datasets`` that is a class, or a list of
    classes.

    Example:
        >>> class_names_of({"feature": {"names": ["cat", "dog"], "_type": "ClassLabel"}})
        ['cat', 'dog']
    """
    while isinstance(feature, (dict, list)):
        if isinstance(feature, list):  # a list as older versions write it
            feature = feature[0] if len(feature) == 1 else None
        elif feature.get("_type") == "ClassLabel":
            return feature.get("names")
        else:
            feature = feature.get("feature")
    return None
