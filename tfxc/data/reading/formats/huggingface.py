"""Data sets that Hugging Face's ``datasets`` has saved with ``save_to_disk``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfxc.core.errors import DataError
from tfxc.core.storage.reading import read_json
from tfxc.data.reading.formats.base import split_error
from tfxc.data.reading.formats.parquet import Parquet
from tfxc.data.reading.parsing.arrow_tables import TableFile, class_names_of
from tfxc.data.reading.parsing.path_probe import PathProbe
from tfxc.data.reading.parsing.workbooks import Workbook

_STATE = "state.json"
_INFO = "dataset_info.json"
_SPLITS = "dataset_dict.json"


class SavedDataset(Parquet):
    """Reads the folder of a ``Dataset``, or of one split of a ``DatasetDict``.

    The files and their order are those of ``state.json``, the names of classes those of
    ``dataset_info.json``; the package ``datasets`` is not needed. Options and labels are those of
    format ``parquet``.

    Args:
        path: folder with ``state.json``, or with ``dataset_dict.json`` and a folder per split.
        split: of a ``DatasetDict``: name of the split.

    Raises:
        DataError: as ``Parquet``; or the folder is not as ``save_to_disk`` writes it, or holds a
            selection of rows apart from the rows.

    Example:
        >>> reader = SavedDataset("clinc_oos", split="train")   # doctest: +SKIP
        >>> reader.label_names[:2]                              # doctest: +SKIP
        ['restaurant_reviews', 'nutrition_info']
    """

    suffixes = ()
    summary = "a folder of Hugging Face's save_to_disk"
    specificity = 30

    @classmethod
    def recognises(cls, probe: PathProbe) -> bool:
        return _SPLITS in probe.files or {_STATE, _INFO} <= probe.files

    @classmethod
    def splits_of(cls, path: Path) -> list[str]:
        return _splits(path) if (path / _SPLITS).is_file() else []

    @classmethod
    def _files(cls, path: Path, split: str | None) -> Sequence[Path]:
        folder = _split_folder(path, split)
        state = _json(folder / _STATE)
        if state.get("_indices_data_files"):
            raise DataError(
                "the folder stores a selection of rows separately from the rows",
                where=folder,
                fix="call flatten_indices() and save_to_disk() again",
            )
        entries = state.get("_data_files")
        names = list(map(_file_name, entries)) if isinstance(entries, list) else []
        files = [folder / name for name in names if name]
        if not files or len(files) < len(names):
            raise DataError(
                "'_data_files' is not a list of data files",
                where=folder / _STATE,
                fix="save the data set again with save_to_disk()",
            )
        for file in files:
            if not file.is_file():
                raise DataError(
                    "state.json names this data file, but there is none",
                    where=file,
                    fix="copy or save the data set again",
                )
        return files

    @classmethod
    def _class_names(cls, table: TableFile | Workbook, column: str) -> list[str] | None:
        features = _json(table.path.with_name(_INFO)).get("features")
        return class_names_of(features.get(column)) if isinstance(features, dict) else None


def _split_folder(path: Path, split: str | None) -> Path:
    if not (path / _SPLITS).is_file():
        if split is not None:
            raise DataError(
                f"the folder contains a single Dataset, without the split {split!r}",
                where=path,
                fix="leave the option split out",
            )
        return path
    splits = _splits(path)
    if split is None or split not in splits:
        raise split_error(path, splits, split)
    return path / split


def _splits(path: Path) -> list[str]:
    splits = _json(path / _SPLITS).get("splits")
    return [name for name in splits if isinstance(name, str)] if isinstance(splits, list) else []


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_json(path, fix="copy or save the set again")
    return content


def _file_name(entry: object) -> str | None:
    """Returns the name of a file in its folder; nothing that leads out of it."""
    name = entry.get("filename") if isinstance(entry, dict) else None
    return name if isinstance(name, str) and Path(name).name == name else None
