"""CSV and TSV with a header line: a column of texts and a column of labels."""

import csv
from pathlib import Path

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.data.formats.base import TextReader
from tfxc.data.parsing.label_checks import check_label_name

_TEXT_FIELDS = ("text", "sentence")
_LABELS_FIELDS = ("labels", "label")


class Delimited(TextReader):
    """Reads comma- or tab-separated values whose first line names the columns.

    Cells may be quoted with ``"`` and then hold separators and line breaks. White space around
    label names is dropped, an empty label cell means no labels, a label given twice counts once.
    Blank lines are skipped. Reading sets Python's process-wide limit on the length of a cell.

    Args:
        path: ``.csv`` or ``.tsv`` file, also ``.gz`` or ``.xz``.
        text_field: column of the texts; None = ``text`` or ``sentence``.
        labels_field: column of the labels; None = ``labels`` or ``label``.
        label_separator: what separates the labels within their cell, e.g. ``";"``; None = the cell
            is one label.
        delimiter: what separates the cells; None = a tab in ``.tsv`` files, else a comma.
        quotes: whether ``"`` quotes; False takes it as an ordinary character.
        max_line_bytes: longest line, and longest cell of several lines.

    Raises:
        ConfigError: ``label_separator`` or ``delimiter`` is not a proper separator.
        DataError: naming file and line: a column is missing, a line has another number of cells,
            a quote is not closed, a label name holds a line break, the text is not UTF-8.

    Example:
        >>> reader = Delimited("train.csv", label_separator=",")     # doctest: +SKIP
        >>> next(reader.chunks(1)).labels                            # doctest: +SKIP
        [['law', 'health']]
    """

    suffixes = (".csv", ".tsv")

    def __init__(
        self,
        path: str | Path,
        *,
        text_field: str | None = None,
        labels_field: str | None = None,
        label_separator: str | None = None,
        delimiter: str | None = None,
        quotes: bool = True,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        super().__init__(path, max_line_bytes)
        if label_separator == "":
            raise ConfigError("text or null expected, found ''", where="label_separator")
        if delimiter is None:
            delimiter = "\t" if ".tsv" in self.path.suffixes[-2:] else ","
        elif len(delimiter) != 1 or delimiter in '\r\n"':
            raise ConfigError(f"one character expected, found {delimiter!r}", where="delimiter")
        self.text_field, self.labels_field = text_field, labels_field
        self.label_separator, self.delimiter, self.quotes = label_separator, delimiter, quotes

    def _examples(self):
        rows = self._rows()
        number, header = next(rows, (1, []))
        text_at = self._column(header, self.text_field, _TEXT_FIELDS, "text_field")
        labels_at = self._column(header, self.labels_field, _LABELS_FIELDS, "labels_field")
        for number, row in rows:
            where = f"{self.path}:{number}"
            if len(row) != len(header):
                raise DataError(
                    f"{len(header)} cells expected as in the header, found {len(row)}",
                    where=where,
                    fix="quote cells that hold a separator",
                )
            yield row[text_at], self._labels(row[labels_at], where)

    def _rows(self):
        """Yields ``(number of the row's first line, cells)``, blank lines left out."""
        quoting = csv.QUOTE_MINIMAL if self.quotes else csv.QUOTE_NONE
        lines = (f"{line}\n" for _, line in self._lines.texts())
        rows = csv.reader(lines, delimiter=self.delimiter, quoting=quoting, strict=True)
        while True:
            first = rows.line_num + 1
            try:
                row = self._next(rows)
            except csv.Error as error:
                raise DataError(
                    f"the cells cannot be parsed: {error}",
                    where=f"{self.path}:{first}",
                    fix="close quotes and double those within cells, read with quotes=False, or "
                    "raise max_line_bytes",
                ) from None
            if row is None:
                return
            if row:
                yield first, row

    def _next(self, rows):
        """The next row, or None, within the longest line; the limit is the whole process's."""
        before = csv.field_size_limit(self._lines.max_line_bytes)
        try:
            return next(rows, None)
        finally:
            csv.field_size_limit(before)

    def _column(self, header, wanted, usual, option):
        candidates = usual if wanted is None else (wanted,)
        for name in candidates:
            if header.count(name) == 1:
                return header.index(name)
        raise DataError(
            f"one column {' or '.join(map(repr, candidates))} expected, found the header "
            f"{', '.join(map(repr, header)) or 'none'}",
            where=f"{self.path}:1",
            fix=f"name the right column as {option}",
        )

    def _labels(self, cell, where):
        parts = [cell] if self.label_separator is None else cell.split(self.label_separator)
        names = list(dict.fromkeys(filter(None, (part.strip() for part in parts))))
        for name in names:
            check_label_name(name, where)
        return names
