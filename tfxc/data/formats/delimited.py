"""CSV and TSV with a header line: a column of texts and a column of labels."""

import contextlib
import csv
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.data.formats.base import TextReader
from tfxc.data.parsing.column_guess import (
    TEXT_FIELDS,
    Columns,
    Wanted,
    find_column,
    find_label_columns,
    first_values,
    guess_columns,
    names_are_values,
)
from tfxc.data.parsing.label_cells import RowLabels, columns_of
from tfxc.data.parsing.label_checks import check_label_name

# Rows by which the delimiter is found, and what it may be besides that of the file's ending.
_ROWS = 100
_DELIMITERS = (",", ";", "\t", "|")
# What Excel writes in front of the header, to know it itself.
_SEPARATOR = re.compile(r'"?sep=."?')


class Delimited(TextReader):
    """Reads comma- or tab-separated values whose first line names the columns.

    Cells may be quoted with ``"`` and then hold separators and line breaks. White space around
    label names is dropped, an empty label cell means no labels, a label given twice counts once.
    Blank lines, and Excel's first line ``sep=;``, are skipped. Reading sets Python's process-wide
    limit on the length of a cell.

    Args:
        path: ``.csv`` or ``.tsv`` file, also ``.gz`` or ``.xz``.
        text_field: column of the texts; None = ``text`` or ``sentence``.
        labels_field: column of the labels; None = ``labels`` or ``label``. A list names columns of
            0 and 1 that are a label each.
        id_field: column of the examples' names, which answers can repeat; None = none.
        label_separator: what separates the labels within their cell, e.g. ``";"``; ``"[]"`` = the
            cell is a list such as ``['law', 'health']``; None = it is one label.
        delimiter: what separates the cells; None = a tab in ``.tsv`` files, else a comma.
        quotes: whether ``"`` quotes; False takes it as an ordinary character.
        columns: names of all columns of a file whose first line is an example already; None = the
            first line names them.
        labelled: if False, yields the texts without labels, which are optional.
        max_line_bytes: longest line, and longest cell of several lines.

    Raises:
        ConfigError: ``label_separator`` or ``delimiter`` is not a proper separator, ``columns``
            no list of names, ``labels_field`` a list that names no column or one twice.
        DataError: naming file and line: a column is missing, a line has another number of cells,
            a quote is not closed, a cell of labels is no list where one is expected, a label name
            holds a line break, the text is not UTF-8.

    Example:
        >>> reader = Delimited("train.csv", label_separator=",")     # doctest: +SKIP
        >>> next(reader.chunks(1)).labels                            # doctest: +SKIP
        [['law', 'health']]
    """

    suffixes = (".csv", ".tsv")
    label_options = ("labels_field", "label_separator")

    def __init__(
        self,
        path: str | Path,
        *,
        text_field: str | None = None,
        labels_field: str | Sequence[str] | None = None,
        id_field: str | None = None,
        label_separator: str | None = None,
        delimiter: str | None = None,
        quotes: bool = True,
        columns: Sequence[str] | None = None,
        labelled: bool = True,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        super().__init__(path, max_line_bytes)
        self._row_labels = RowLabels(labels_field, label_separator)
        if labelled and self._row_labels.names is not None:
            self.label_names = self._row_labels.names
            self.num_labels = len(self.label_names)
        if delimiter is None:
            endings = [ending.lower() for ending in self.path.suffixes[-2:]]
            delimiter = "\t" if ".tsv" in endings else ","
        elif len(delimiter) != 1 or delimiter in '\r\n"':
            raise ConfigError(f"one character expected, found {delimiter!r}", where="delimiter")
        self.text_field, self.labels_field, self.id_field = text_field, labels_field, id_field
        self.delimiter, self.quotes = delimiter, quotes
        if columns is not None and (
            isinstance(columns, str) or not all(isinstance(name, str) for name in columns)
        ):
            raise ConfigError(f"a list of names expected, found {columns!r}", where="columns")
        self.columns, self._labelled = columns, labelled

    @classmethod
    def options_of(cls, path: Path, wanted: Wanted, split: str | None = None) -> dict[str, Any]:
        """Delimiter, columns and what separates labels, by the first rows."""
        options = _layout_of(path)
        rows = (row for _, row in cls(path, **options)._rows())
        header: list[str] = next(rows, [])
        where = f"{path}:1"
        values = first_values(row for row in rows if len(row) == len(header))
        if header and wanted == Wanted() and names_are_values(header, values):
            names = [f"column {number}" for number in range(1, len(header) + 1)]
            found = guess_columns(_table(names, values), wanted, where)
            names[names.index(found.text)] = "text"
            labels = found.labels
            if isinstance(labels, str):
                names[names.index(labels)] = labels = "label"
            found = Columns("text", labels, found.separator)
            options["columns"] = names
        else:
            found = guess_columns(_table(header, values), wanted, where)
            _refuse_twice(header, found, where)
        options |= {"text_field": found.text, "labels_field": found.labels}
        return options | ({"label_separator": found.separator} if found.separator else {})

    def _examples(self):
        rows = self._rows()
        number, header = (1, list(self.columns)) if self.columns else next(rows, (1, []))
        where = f"{self.path}:1"
        text_at = find_column(header, self.text_field, TEXT_FIELDS, "text_field", where)
        id_at, labels_at = None, []
        if self.id_field is not None:
            id_at = find_column(header, self.id_field, (), "id_field", where)
        if self._labelled:
            labels_at = find_label_columns(header, self.labels_field, where)
        for number, row in rows:
            where = f"{self.path}:{number}"
            if len(row) != len(header):
                raise DataError(
                    f"{len(header)} cells expected as in the header, found {len(row)}",
                    where=where,
                    fix="quote cells that hold a separator",
                )
            labels = (
                self._row_labels.read([row[at] for at in labels_at], where) if labels_at else []
            )
            for name in labels:
                check_label_name(name, where)
            yield (row[text_at], labels) if id_at is None else (row[text_at], labels, row[id_at])

    def _rows(self):
        """Yields ``(number of the row's first line, cells)``, blank lines left out."""
        quoting = csv.QUOTE_MINIMAL if self.quotes else csv.QUOTE_NONE
        texts = self._lines.texts()
        first = [text for text in itertools.islice(texts, 1) if not _SEPARATOR.fullmatch(text[1])]
        lines = (f"{line}\n" for _, line in itertools.chain(first, texts))
        rows = csv.reader(lines, delimiter=self.delimiter, quoting=quoting, strict=True)
        skipped = 1 - len(first)
        while True:
            number = rows.line_num + 1 + skipped
            try:
                row = self._next(rows)
            except csv.Error as error:
                raise self._unparsable(error, number) from None
            if row is None:
                return
            if row:
                yield number, row

    def _unparsable(self, error, number):
        fix = "close quotes and double those within cells, read with quotes=False, or raise "
        fix += "max_line_bytes"
        if "new-line character" in str(error):  # in csv's words, which are about its own options
            error = "a carriage return without a line feed"
            fix = "end lines with a line feed, e.g. with tr '\\r' '\\n'"
        return DataError(
            f"the cells cannot be parsed: {error}", where=f"{self.path}:{number}", fix=fix
        )

    def _next(self, rows):
        """The next row, or None, within the longest line; the limit is the whole process's."""
        before = csv.field_size_limit(self._lines.max_line_bytes)
        try:
            return next(rows, None)
        finally:
            csv.field_size_limit(before)


def _layout_of(path):
    """``delimiter`` and ``quotes`` as options, where they are not those of the file's ending."""
    usual = Delimited(path).delimiter
    best, fitting = {}, 0.0
    for delimiter in (usual, *(one for one in _DELIMITERS if one != usual)):
        for quotes in (True, False):
            share = _share_of_equal_rows(path, delimiter, quotes)
            if share > fitting:
                other = {} if delimiter == usual else {"delimiter": delimiter}
                best, fitting = other | ({} if quotes else {"quotes": False}), share
    return best


def _share_of_equal_rows(path, delimiter, quotes):
    """The share of the first rows with as many cells as the first of all, if these are several."""
    reader, widths = Delimited(path, delimiter=delimiter, quotes=quotes), []
    with contextlib.suppress(DataError):  # whoever reads the file says what is wrong with it
        widths += [len(row) for _, row in itertools.islice(reader._rows(), _ROWS)]
        if widths and widths[0] > 1:
            return sum(width == widths[0] for width in widths) / len(widths)
    return 0.0


def _table(names, values):
    """{name: first values}; of a name given twice the first column."""
    table: dict[str, list] = {}
    for number, name in enumerate(names):
        table.setdefault(name, [row[number] for row in values])
    return table


def _refuse_twice(header, found, where):
    for name in (found.text, *columns_of(found.labels)):
        if header.count(name) > 1:
            raise DataError(
                f"one column {name!r} expected, found {header.count(name)} of that name",
                where=where,
                fix="rename all but one of them",
            )
