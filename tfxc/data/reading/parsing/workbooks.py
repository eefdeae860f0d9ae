"""Workbooks of Excel, read a row at a time."""

import contextlib
import datetime
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tfxc.core.errors import DataError, missing_package
from tfxc.core.storage.reading import existing_file, read_errors

#: Endings of the files that ``Workbook`` reads.
SUFFIXES = (".xlsx", ".xlsm")


class Workbook:
    """One sheet of a workbook, whose first row that is not empty names the columns.

    All cells are texts, as in the CSV file that Excel would write of them: a whole number is its
    digits, an empty cell an empty text.

    Args:
        path: the file.
        sheet: name of the sheet; None = the first.

    Attributes:
        columns: names of the columns that have one.
        types: empty.
        readable: ``columns``.
        unreadable: empty.
        num_rows: None.
        bytes_read: the size of the file once it was read to its end.

    Raises:
        ConfigError: openpyxl is not installed.
        DataError: the file is damaged, has no such sheet or no rows, or two columns have the same
            name.
    """

    num_rows = None

    def __init__(self, path: Path, sheet: str | None = None) -> None:
        self.path = existing_file(path)
        self.bytes_read = 0
        self._sheet = sheet
        with missing_package("excel", where=path, otherwise="save the workbook as CSV UTF-8"):
            import openpyxl  # noqa: F401
        names = next((cells for _, cells in self._rows()), None)
        if names is None:
            raise DataError("the sheet is empty", where=path, fix="check the workbook")
        self._places = {name: place for place, name in enumerate(names) if name}
        self.columns = list(self._places)
        twice = [name for name in self.columns if names.count(name) > 1]
        if twice:
            raise DataError(
                f"{names.count(twice[0])} columns have the name {twice[0]!r}",
                where=path,
                fix="rename all but one of them",
            )
        self.readable = self.columns
        self.types: dict[str, Any] = dict.fromkeys(self.columns)
        self.unreadable: dict[str, str] = {}

    def class_names(self, column: str) -> None:
        """Returns None: labels are names."""

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Yields the number of each row below the header in the sheet, and the texts of some
        columns; rows that are empty are left out.

        Args:
            columns: names of ``columns``.
        """
        self.bytes_read = 0
        places = [self._places[name] for name in columns]
        rows = self._rows()
        next(rows, None)
        for number, cells in rows:
            yield number, tuple(cells[at] if at < len(cells) else "" for at in places)
        self.bytes_read = self.path.stat().st_size

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yields the number and the texts of each row that is not empty."""
        import openpyxl
        from openpyxl.utils.exceptions import InvalidFileException

        with read_errors(self.path), contextlib.ExitStack() as stack:
            # Of styles and the like, which are not read.
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore", UserWarning)
            try:
                book = openpyxl.load_workbook(self.path, read_only=True, data_only=True)
            except (zipfile.BadZipFile, InvalidFileException) as error:
                raise DataError(
                    f"the file is no workbook, or is protected by a password ({error})",
                    where=self.path,
                    fix="save it again in Excel, or as CSV UTF-8",
                ) from error
            stack.callback(book.close)
            names = [sheet.title for sheet in book.worksheets]
            if not names or self._sheet not in (None, *names):
                raise DataError(
                    f"there is no sheet {self._sheet!r}, only {', '.join(map(repr, names))}",
                    where=self.path,
                    fix="name one of these as the reader's option sheet",
                )
            sheet = book.worksheets[0 if self._sheet is None else names.index(self._sheet)]
            sheet.reset_dimensions()  # as some programs write them wrongly
            for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
                cells = [_text(value) for value in row]
                if any(cells):
                    yield number, cells


def _text(value: object) -> str:
    """Returns the text of a cell.

    Example:
        >>> _text(3.0), _text(None), _text(True)
        ('3', '', 'true')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    return str(value).strip()
