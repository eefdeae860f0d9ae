"""Workbooks of Excel: a column of texts and a column of labels in a sheet."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfxc.data.reading.formats.base import NONE_GIVEN, LabelSeparator, LabelsField, TextField
from tfxc.data.reading.formats.parquet import Parquet
from tfxc.data.reading.parsing.column_guess import Wanted
from tfxc.data.reading.parsing.path_probe import PathProbe
from tfxc.data.reading.parsing.workbooks import SUFFIXES, Workbook


class ExcelWorkbook(Parquet):
    """Reads a sheet of an ``.xlsx`` file whose first row names the columns.

    Cells are texts as in a CSV file of the sheet; an empty label cell means no labels. Of formulas
    the value counts that Excel has saved.

    Args:
        path: ``.xlsx`` or ``.xlsm`` file.
        sheet: name of the sheet; None = the first.

    Raises:
        ConfigError: openpyxl is not installed.
        DataError: naming file and row: a column is missing, a label name is impossible; or the file
            is damaged or has no such sheet.

    Example:
        >>> reader = ExcelWorkbook("tickets.xlsx", labels_field="queue")     # doctest: +SKIP
        >>> next(reader.chunks(1)).labels                                    # doctest: +SKIP
        [['billing']]
    """

    suffixes = SUFFIXES
    summary = ".xlsx workbooks"
    specificity = 0

    def __init__(
        self,
        path: str | Path,
        *,
        text_field: TextField | None = None,
        labels_field: LabelsField | None = None,
        label_separator: LabelSeparator | None = None,
        sheet: str | None = None,
        labelled: bool = True,
    ) -> None:
        self._sheet = sheet
        super().__init__(
            path,
            text_field=text_field,
            labels_field=labels_field,
            label_separator=label_separator,
            labelled=labelled,
        )

    @classmethod
    def recognises(cls, probe: PathProbe) -> bool:
        return probe.suffix() in cls.suffixes

    @classmethod
    def splits_of(cls, path: Path) -> list[str]:
        return []

    @classmethod
    def options_of(
        cls,
        path: Path,
        wanted: Wanted,
        split: str | None = None,
        given: Mapping[str, Any] = NONE_GIVEN,
    ) -> dict[str, Any]:
        return cls._columns_in(Workbook(path, given.get("sheet")), wanted)

    def _open(self, file: Path) -> Workbook:
        return Workbook(file, self._sheet)

    @classmethod
    def _files(cls, path: Path, split: str | None) -> Sequence[Path]:
        return [path]
