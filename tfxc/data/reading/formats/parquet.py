"""Parquet and Arrow: a column of texts and a column of labels, in one file or a folder of them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfxc.core.errors import ConfigError, DataError
from tfxc.data.reading.formats.base import (
    NONE_GIVEN,
    LabelSeparator,
    LabelsField,
    Reader,
    Table,
    TextField,
    TextReader,
    column_options,
    split_error,
)
from tfxc.data.reading.parsing.arrow_tables import SUFFIXES, TableFile
from tfxc.data.reading.parsing.column_guess import (
    Wanted,
    find_column,
    find_label_columns,
    find_text_columns,
    first_values,
    guess_columns,
)
from tfxc.data.reading.parsing.label_cells import RowLabels
from tfxc.data.reading.parsing.label_checks import check_label_names, check_unicode, of_one_kind
from tfxc.data.reading.parsing.path_probe import PathProbe
from tfxc.data.reading.parsing.split_files import files_by_split
from tfxc.data.reading.parsing.workbooks import Workbook


class Parquet(TextReader):
    """Reads a ``.parquet``, ``.arrow`` or ``.feather`` file, or all those in a folder.

    Labels are a list of names or ids, or a single one of either, in columns of any type of texts,
    numbers or truth values; nothing (null, NaN, an empty list or an empty text) means no labels, a
    label given twice counts once. Numbers of classes that the file names, as files of Hugging
    Face's ``datasets`` do, are read as these names; their number -1 means no label. Files are read
    by row groups, in constant memory.

    The files of a folder, at any depth, are read in the order of their names. Where these say to
    which split they belong, as ``train-00000-of-00002.parquet`` and ``test/0.parquet`` do,
    ``split`` selects those of one.

    Args:
        path: the file or folder.
        split: of a folder with several: the one to read.

    Raises:
        ConfigError: pyarrow is not installed, or ``split`` is given with a file.
        DataError: naming file and row: a column is missing or of another type, a text is null, a
            label name is impossible, a file is damaged; or a folder holds several splits.

    Example:
        >>> reader = Parquet("train.parquet", labels_field="tags")   # doctest: +SKIP
        >>> next(reader.chunks(1)).labels                            # doctest: +SKIP
        [['sauce', 'cheese']]
    """

    suffixes: tuple[str, ...] = SUFFIXES
    compressed = False
    summary = "Parquet and Arrow files, or a folder of them"
    specificity = 20
    label_options = ("labels_field", "label_separator")

    @classmethod
    def recognises(cls, probe: PathProbe) -> bool:
        endings = (probe.endings, probe.inner_endings)
        return probe.suffix() in SUFFIXES or any(not e.isdisjoint(SUFFIXES) for e in endings)

    @classmethod
    def splits_of(cls, path: Path) -> list[str]:
        splits = _files_by_split(path) if path.is_dir() else {}
        return sorted(splits) if len(splits) > 1 else []

    @classmethod
    def options_of(
        cls,
        path: Path,
        wanted: Wanted,
        split: str | None = None,
        given: Mapping[str, Any] = NONE_GIVEN,
    ) -> dict[str, Any]:
        """Returns columns and what separates labels, by the first rows of the first file."""
        return cls._columns_in(TableFile(cls._files(path, split)[0]), wanted)

    @staticmethod
    def _columns_in(table: TableFile | Workbook, wanted: Wanted) -> dict[str, Any]:
        """Returns columns and what separates labels, by the first rows of a file."""
        values = first_values(row for _, row in table.rows(table.readable))
        columns = {name: [row[at] for row in values] for at, name in enumerate(table.readable)}
        guess = guess_columns(columns, wanted, str(table.path), unreadable=table.unreadable)
        return column_options(guess)

    def __init__(
        self,
        path: str | Path,
        *,
        text_field: TextField | None = None,
        labels_field: LabelsField | None = None,
        label_separator: LabelSeparator | None = None,
        split: str | None = None,
        labelled: bool = True,
    ) -> None:
        Reader.__init__(self, path)
        self._labelled = labelled
        self._tables = [self._open(file) for file in self._files(self.path, split)]
        first = self._tables[0]
        texts = find_text_columns(first.columns, text_field, first.path)
        self._texts = [first.columns[place] for place in texts]
        self._label_columns: list[str] = []
        self._classes: list[str] | None = None
        if labelled:
            places = find_label_columns(first.columns, labels_field, first.path)
            names = [first.columns[place] for place in places]
            single = labels_field is None or isinstance(labels_field, str)
            self._row_labels = RowLabels(names[0] if single else names, label_separator)
            self._label_columns = names
            if single:
                self._classes = self._class_names(first, names[0])
            self.label_names = self._classes if single else names
            if self.label_names is not None:
                check_label_names(self.label_names, f"{first.path}: {names[0]}")
                self.num_labels = len(self.label_names)
        for table in self._tables[1:]:
            find_text_columns(table.columns, self._texts, table.path)
            for name in self._label_columns:
                find_column(table.columns, name, (), "labels_field", table.path)
        counts = [table.num_rows for table in self._tables]
        self.num_examples = None if None in counts else sum(filter(None, counts))

    def _open(self, file: Path) -> TableFile | Workbook:
        return TableFile(file)

    @property
    def bytes_read(self) -> int:
        return sum(table.bytes_read for table in self._tables)

    def table(self) -> Table:
        """Returns the columns that all files have."""
        first, *others = self._tables
        columns = [c for c in first.columns if all(c in table.columns for table in others)]
        rows = (row for table in self._tables for _, row in table.rows(columns))
        types = [first.types[name] for name in columns]
        return Table(columns, rows, types if all(types) else None)  # a workbook has none

    @classmethod
    def _files(cls, path: Path, split: str | None) -> Sequence[Path]:
        """Returns the files of a split, in order."""
        if path.is_file():
            if split is not None:
                raise ConfigError(
                    f"{path} is a file, and only folders have splits",
                    where="split",
                    fix="leave it out",
                )
            return [path]
        by_split = _files_by_split(path)
        if split in by_split:
            return by_split[split]
        if not by_split or split is not None or len(by_split) > 1:
            if by_split:
                raise split_error(path, sorted(by_split), split)
            problem = f"the folder has no {', '.join(SUFFIXES)} files"
            raise DataError(problem, where=path, fix="check the folder")
        return next(iter(by_split.values()))

    @classmethod
    def _class_names(cls, table: TableFile | Workbook, column: str) -> list[str] | None:
        return table.class_names(column)

    def _examples(self) -> Iterator[tuple[str, list[Any]]]:
        kind = None
        single = len(self._texts) == 1
        for table in self._tables:
            for number, row in table.rows([*self._texts, *self._label_columns]):
                where = f"{table.path}: row {number}"
                texts = row[: len(self._texts)]
                for name, text in zip(self._texts, texts, strict=True):
                    if not isinstance(text, str) and (single or text is not None):
                        raise _wrong_value("a text", name, text, where)
                text = texts[0] if single else "\n".join(filter(None, texts))
                check_unicode(text, "a text", where)
                labels: list[Any] = []
                if self._labelled:
                    labels = self._labels(row[len(self._texts) :], where)
                    labels, kind = of_one_kind(labels, kind, where)
                yield text, labels

    def _labels(self, values: Sequence[Any], where: str) -> list[Any]:
        labels = self._row_labels.read(values, where)
        classes = self._classes
        if classes is None:
            return labels
        numbers = [label for label in labels if label != -1]
        for number in numbers:
            if type(number) is not int or not 0 <= number < len(classes):
                wanted = f"the number of one of {len(classes)} classes"
                raise _wrong_value(wanted, self._label_columns[0], number, where)
        return [classes[number] for number in numbers]


def _files_by_split(folder: Path) -> dict[str, list[Path]]:
    tables = (path for path in folder.rglob("[!.]*") if path.suffix.lower() in SUFFIXES)
    return files_by_split(folder, tables)


def _wrong_value(wanted: str, column: str, value: object, where: str) -> DataError:
    return DataError(
        f"column {column!r} contains {str(value)[:60]!r}, which is not {wanted}",
        where=where,
        fix="correct the row, or name another column",
    )
