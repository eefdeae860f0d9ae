"""CSV and TSV with a header line: a column of texts and a column of labels."""

import codecs
import collections
import contextlib
import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tfxc.core.declared import Count
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.core.storage.compression import compression_of
from tfxc.core.storage.reading import read_errors
from tfxc.data.reading.formats.base import (
    NONE_GIVEN,
    LabelSeparator,
    LabelsField,
    Table,
    TextField,
    TextReader,
    column_options,
)
from tfxc.data.reading.parsing.column_guess import (
    Columns,
    Wanted,
    find_column,
    find_label_columns,
    find_text_columns,
    first_values,
    guess_columns,
    has_usual_names,
    names_are_values,
)
from tfxc.data.reading.parsing.label_cells import RowLabels, columns_of
from tfxc.data.reading.parsing.label_checks import check_label_name
from tfxc.data.reading.parsing.lines import UTF_8
from tfxc.data.reading.parsing.path_probe import PathProbe
from tfxc.data.reading.parsing.records import columns_of_shape, shape_of

if TYPE_CHECKING:
    import _csv

# Lines and characters by which delimiter and quotes are found, and what may separate cells besides
# what the file's ending says.
_LINES = 2000
_CHARACTERS = 4 << 20
_LOOKED_AT = 1 << 20  # bytes by which the encoding is told
_MARK = "\ufeff"
_DELIMITERS = (",", ";", "\t", "|")
# What Excel writes in front of the header, to know it itself.
_SEPARATOR = re.compile(r'"?sep=."?')


class Delimited(TextReader):
    """Reads comma- or tab-separated values whose first line names the columns.

    Cells may be quoted with ``"`` and then hold separators and line breaks. Blanks in front of a
    cell between commas, and white space around label names, are dropped. An empty label cell means
    no labels, a label given twice counts once. Blank lines, and Excel's first line ``sep=;``, are
    skipped. Reading sets Python's process-wide limit on the length of a cell.

    Args:
        path: ``.csv`` or ``.tsv`` file, perhaps compressed; or a ``.txt`` file with a header.
        delimiter: what separates the cells; None = a tab in ``.tsv`` files, else a comma.
        quotes: whether ``"`` quotes; False takes it as an ordinary character.
        escape: character behind which a quote, a delimiter, a line break and itself are ordinary
            characters, ``"\\"`` in files of Spark and MySQL; a cell of it and ``N`` is empty then.
            None = a quote in a quoted cell is doubled.
        columns: names of all columns of a file whose first line is an example already; None = the
            first line names them.
        max_line_bytes: longest line, and longest cell of several lines.

    Raises:
        ConfigError: ``delimiter`` or ``escape`` is no single character, or one that means something
            else.
        DataError: naming file and line: a column is missing, a line has another number of cells,
            a quote is not closed, a cell of labels is no list where one is expected, a label name
            holds a line break, the text is not in its ``encoding``.

    Example:
        >>> reader = Delimited("train.csv", label_separator=",")     # doctest: +SKIP
        >>> next(reader.chunks(1)).labels                            # doctest: +SKIP
        [['law', 'health']]
    """

    suffixes = (".csv", ".tsv")
    summary = ".csv, .tsv, or .txt whose first line names columns of texts and labels"
    specificity = 30
    label_options = ("labels_field", "label_separator")

    def __init__(
        self,
        path: str | Path,
        *,
        text_field: TextField | None = None,
        labels_field: LabelsField | None = None,
        id_field: str | None = None,
        label_separator: LabelSeparator | None = None,
        delimiter: str | None = None,
        quotes: bool = True,
        escape: str | None = None,
        columns: Sequence[str] | None = None,
        labelled: bool = True,
        max_line_bytes: Count = MAX_LINE_BYTES,
        encoding: str | None = UTF_8,
    ) -> None:
        super().__init__(path, max_line_bytes, encoding)
        self._row_labels = RowLabels(labels_field, label_separator)
        if labelled and self._row_labels.names is not None:
            self.label_names = self._row_labels.names
            self.num_labels = len(self.label_names)
        if delimiter is None:
            endings = [ending.lower() for ending in self.path.suffixes[-2:]]
            delimiter = "\t" if ".tsv" in endings else ","
        elif len(delimiter) != 1 or delimiter in '\r\n"':
            raise ConfigError(
                f"{delimiter!r} cannot separate cells",
                where="delimiter",
                fix="give one character that is neither a quote nor a line break",
            )
        if escape is not None and (len(escape) != 1 or escape in f'\r\n"{delimiter}'):
            raise ConfigError(
                f"{escape!r} cannot escape other characters",
                where="escape",
                fix="name one character that is neither the delimiter nor a quote",
            )
        columns_of(text_field, "text_field")
        self.text_field = text_field
        self.labels_field = labels_field
        self.id_field = id_field
        self.delimiter = delimiter
        self.quotes = quotes
        self.escape = escape
        self.columns = columns
        self._labelled = labelled

    @classmethod
    def recognises(cls, probe: PathProbe) -> bool:
        if super().recognises(probe):
            return True
        # As Excel saves "Unicode text".
        return probe.suffix(cls.compressed) == ".txt" and has_usual_names(
            (probe.first_line or b"").decode(UTF_8, "replace"), _DELIMITERS
        )

    @classmethod
    def options_of(
        cls,
        path: Path,
        wanted: Wanted,
        split: str | None = None,
        given: Mapping[str, Any] = NONE_GIVEN,
    ) -> dict[str, Any]:
        """Returns how cells are separated and quoted, columns and what separates labels, by the
        first rows.

        What is ``given`` is not looked for.
        """
        options = _layout_of(path, given)
        rows = (row for _, row in cls(path, **{**given, **options})._rows())
        header: list[str] = next(rows, [])
        where = f"{path}:1"
        values = first_values(row for row in rows if len(row) == len(header))
        if header and wanted == Wanted() and names_are_values(header, values):
            names = [f"column {number}" for number in range(1, len(header) + 1)]
            columns = guess_columns(_table(names, values), wanted, where)
            assert isinstance(columns.text, str), "none is named"
            names[names.index(columns.text)] = "text"
            labels = columns.labels
            if isinstance(labels, str):
                names[names.index(labels)] = labels = "label"
            columns = Columns("text", labels, columns.separator)
            options["columns"] = names
        else:
            table: Mapping[str, Sequence[Any]] = _table(header, values)
            shape = shape_of(table)
            if shape is not None and shape.only is None:
                table, _ = columns_of_shape(shape, table, wanted, where)
            columns = guess_columns(table, wanted, where)
            for name in (*columns_of(columns.text), *columns_of(columns.labels)):
                if header.count(name) > 1:
                    raise DataError(
                        f"{header.count(name)} columns have the name {name!r}",
                        where=where,
                        fix="rename all but one of them",
                    )
        return options | column_options(columns)

    def table(self) -> Table:
        rows = (row for _, row in self._rows())
        return Table(list(self.columns) if self.columns else next(rows, []), rows)

    def mark_of_copies(self) -> str:
        """Returns what tables made of this one begin with, which are UTF-8: a byte order mark, or
        nothing if this one is UTF-8 without. Excel, which writes others, needs it to read UTF-8.
        """
        with read_errors(self.path), open(self.path, "rb") as stream:
            head = stream.read(_LOOKED_AT)
        try:
            text = codecs.getincrementaldecoder(UTF_8)().decode(head)
        except UnicodeDecodeError:
            return "" if compression_of(head) else _MARK
        return _MARK if text.startswith(_MARK) else ""

    def _examples(self) -> Iterator[tuple[str, list[Any]] | tuple[str, list[Any], str]]:
        rows = self._rows()
        header = list(self.columns) if self.columns else next(rows, (1, []))[1]
        where = f"{self.path}:1"
        text_at, *more_at = find_text_columns(header, self.text_field, where)
        id_at = None
        labels_at: Sequence[int] = []
        if self.id_field is not None:
            id_at = find_column(header, self.id_field, (), "id_field", where)
        if self._labelled:
            labels_at = find_label_columns(header, self.labels_field, where)
        for number, row in rows:
            where = f"{self.path}:{number}"
            if len(row) != len(header):
                cells = f"{len(row)} cell{'s' if len(row) != 1 else ''}"
                fix = "quote cells that hold a separator or a line break"
                if not self.quotes and any('"' in cell for cell in row):
                    fix = "if quotes are not text here, add --set data.reader_options.quotes=true"
                raise DataError(
                    f"the row has {cells}, the header {len(header)}", where=where, fix=fix
                )
            labels = (
                self._row_labels.read([row[at] for at in labels_at], where) if labels_at else []
            )
            for name in labels:
                check_label_name(name, where)
            text = row[text_at]
            if more_at:
                text = "\n".join(filter(None, (text, *(row[at] for at in more_at))))
            yield (text, labels) if id_at is None else (text, labels, row[id_at])

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yields ``(number of the row's first line, cells)``, blank lines left out."""
        texts = self._lines.texts()
        first = [text for text in itertools.islice(texts, 1) if not _SEPARATOR.fullmatch(text[1])]
        skipped = 1 - len(first)
        rows = self._cells(line for _, line in itertools.chain(first, texts))
        while True:
            number = rows.line_num + 1 + skipped
            try:
                row = self._next(rows)
            except csv.Error as error:
                raise self._unparsable(str(error), number, rows.line_num + skipped) from None
            if row is None:
                return
            if row:
                yield number, row

    def _cells(self, lines: Iterable[str]) -> "_csv.Reader":
        """Returns the ``csv.reader`` of lines without their endings."""
        if self.escape is not None:
            escape = self.escape
            escaped = re.compile(re.escape(escape) + "(.)")
            special = f'"{escape}{self.delimiter}'
            bounds = ("", self.delimiter)

            def protected(match: re.Match[str]) -> str:
                before = match.string[match.start() - 1 : match.start()]
                behind = match.string[match.end() : match.end() + 1]
                if match[1] == "N" and before in bounds and behind in bounds:
                    return ""  # MySQL's NULL
                # Python drops the character wherever it stands.
                return match[0] if match[1] in special else escape + match[0]

            lines = (escaped.sub(protected, line) for line in lines)
        return csv.reader(
            (f"{line}\n" for line in lines),
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if self.quotes else csv.QUOTE_NONE,
            escapechar=self.escape,
            skipinitialspace=self.quotes and self.delimiter not in " \t",
            strict=True,
        )

    def _unparsable(self, error: str, number: int, last: int) -> DataError:
        """Returns the error of a row, by the words of ``csv``, which are about its own options.

        Args:
            number, last: of the row's first line, and of that in which it was noticed.
        """
        lines = [line for _, line in itertools.islice(self._lines.texts(), number - 1, last)]
        where = f"{self.path}:{number}"
        if "new-line character" in error:
            return DataError(
                "the line contains a carriage return without a line feed",
                where=where,
                fix="end lines with a line feed, e.g. with tr '\\r' '\\n'",
            )
        fix = "repair the line, or treat quotes as text: --set data.reader_options.quotes=false "
        fix += "(predict and others: --reader-option quotes=false)"
        if "field limit" in error:
            problem = f"a cell is longer than max_line_bytes ({self._lines.max_line_bytes:,}): "
            problem += "perhaps its quotation mark is never closed"
            fix += ", or raise data.max_line_bytes"
        elif "end of data" in error and self.escape and lines[-1].endswith(self.escape):
            problem = f"the file ends with {self.escape!r}, behind which a character is missing"
        elif "end of data" in error:
            problem = "a cell starts with a quotation mark that is never closed"
        elif last > number:
            problem = "a cell starts with a quotation mark that is never closed: text follows the "
            problem += f"next one, in line {last}"
        else:
            problem = "a quotation mark in a quoted cell is neither doubled nor at its end"
        if self.escape is None and any(r"\"" in line for line in lines):
            fix = "if quotes are escaped by a backslash, as Spark and MySQL do, add --set "
            fix += r"'data.reader_options.escape=\'; else repair the line"
        return DataError(problem, where=where, fix=fix)

    def _next(self, rows: "_csv.Reader") -> list[str] | None:
        """Returns the next row, or None, within the longest line; the limit is the whole
        process's.
        """
        before = csv.field_size_limit(self._lines.max_line_bytes)
        try:
            return next(rows, None)
        finally:
            csv.field_size_limit(before)


class _Fit(NamedTuple):
    """How well the first lines of a file are read with some options.

    Attributes:
        good: number of rows with as many cells as the first, if these are several.
        bad: number of other rows, and of those that cannot be parsed.
        quoted: number of good rows in which a cell starts with a quote.
        unquoted: number of bad ones.
    """

    good: int
    bad: int
    quoted: int
    unquoted: int


def _layout_of(path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns ``delimiter``, ``quotes`` and ``escape`` as options, where they are not the usual
    ones.
    """
    usual = Delimited(path, **given)
    lines = []
    characters = 0
    with contextlib.suppress(DataError):  # whoever reads the file says what is wrong with it
        for _, line in itertools.islice(usual._lines.texts(), _LINES):
            lines.append(line)
            characters += len(line)
            if characters > _CHARACTERS:
                break
    if lines and _SEPARATOR.fullmatch(lines[0]):
        del lines[0]
    delimiters = (usual.delimiter, *(sign for sign in _DELIMITERS if sign != usual.delimiter))
    best: dict[str, Any] = {}
    most = 0.0
    for delimiter in delimiters if given.get("delimiter") is None else delimiters[:1]:
        options, fit = _quoting_of(path, lines, {**given, "delimiter": delimiter})
        share = fit.good / max(1, fit.good + fit.bad)
        if share > most:
            best = options if delimiter == usual.delimiter else options | {"delimiter": delimiter}
            most = share
        if most == 1:
            break
    return best


def _quoting_of(
    path: Path, lines: Sequence[str], given: Mapping[str, Any]
) -> tuple[dict[str, Any], _Fit]:
    """Returns ``quotes`` and ``escape`` as options, where they are not those given, and the
    ``_Fit``.

    Quotes count unless more rows are broken by them than are well quoted: a single broken row is
    an error to be named, not a sign that quotes are text. They also count where they are around
    every cell. Of two readings with as many broken rows
    the one counts in which a backslash in front of a quote escapes it, as where a cell is MySQL's
    ``\\N``.
    """
    sign = re.escape(Delimited(path, **given).delimiter)
    null = re.compile(rf"(?:^|{sign})\\N(?:{sign}|$)")
    has_null = any(null.search(line.rstrip("\r\n")) for line in lines)

    def with_quotes(quotes: bool) -> tuple[str | None, _Fit]:
        escapes = [None, "\\"] if any("\\" in line for line in lines) else [None]
        if has_null or (quotes and any('\\"' in line for line in lines)):
            escapes.reverse()
        if "escape" in given:
            escapes = [given["escape"]]
        trials = [{**given, "quotes": quotes, "escape": escape} for escape in escapes]
        fits = [_fit(Delimited(path, **options), lines) for options in trials]
        place = min(range(len(fits)), key=lambda number: fits[number].bad)
        return escapes[place], fits[place]

    quotes = given.get("quotes", True)
    escape, fit = with_quotes(quotes)
    if "quotes" not in given and fit.unquoted > fit.quoted:
        plain = Delimited(path, **{**given, "quotes": False, "escape": None})
        if not _are_around_every_cell(plain, lines):
            quotes = False
            escape, fit = with_quotes(quotes)
    options = {} if quotes == given.get("quotes", True) else {"quotes": quotes}
    if escape != given.get("escape"):
        options["escape"] = escape
    return options, fit


def _are_around_every_cell(reader: Delimited, lines: Sequence[str]) -> bool:
    """Tells whether all cells below the header begin and end with a quote, in rows that are as long
    as the header where quotes are text.
    """
    parsed = reader._cells(lines)
    rows: list[list[str]] = []
    with contextlib.suppress(csv.Error):  # whoever reads the file says what is wrong with it
        while (row := reader._next(parsed)) is not None:
            rows += [row] if row else []
    cells = [cell.strip() for row in rows[1:] if len(row) == len(rows[0]) > 1 for cell in row]
    return bool(cells) and all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells)


def _fit(reader: Delimited, lines: Sequence[str]) -> _Fit:
    """Returns the ``_Fit`` of a reader to lines of its file; after a broken row it goes on in the
    next.
    """
    starts = re.compile(rf'(?:^|{re.escape(reader.delimiter)}) *"')
    counts: collections.Counter[str] = collections.Counter()
    rows = reader._cells(lines)
    at = width = 0
    while at < len(lines):
        before = rows.line_num
        try:
            row = reader._next(rows)
            end = at + rows.line_num - before
        except csv.Error:
            row = None
            end = at + 1
            rows = reader._cells(lines[end:])
        if row != []:  # a blank line
            cells = 0 if row is None else len(row)
            width = width or cells
            is_good = cells == width > 1
            counts["good" if is_good else "bad"] += 1
            if any(starts.search(line) for line in lines[at:end]):
                counts["quoted" if is_good else "unquoted"] += 1
        at = end
    return _Fit(*(counts[name] for name in _Fit._fields))


def _table(names: Sequence[str], values: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    """Returns {name: first values}; of a name given twice the first column."""
    table: dict[str, list[Any]] = {}
    for number, name in enumerate(names):
        table.setdefault(name, [row[number] for row in values])
    return table
