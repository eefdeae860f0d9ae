"""Data sets that Hugging Face's ``datasets`` has saved with ``save_to_disk``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core.errors import DataError
from tfxc.core.storage.reading import read_json
from tfxc.data.formats.parquet import Parquet
from tfxc.data.parsing.arrow_tables import TableFile, class_names_of

if TYPE_CHECKING:
    from tfxc.data.parsing.path_probe import PathProbe

_STATE, _INFO, _SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"


class SavedDataset(Parquet):
    """Reads the folder of a ``Dataset``, or of one split of a ``DatasetDict``.

    The files and their order are those of ``state.json``, the names of classes those of
    ``dataset_info.json``; the package ``datasets`` is not needed. Options and labels are those of
    format ``parquet``.

    Args:
        path: folder with ``state.json``, or with ``dataset_dict.json`` and a folder per split.
        text_field: column of the texts; None = ``text`` or ``sentence``.
        labels_field: column of the labels; None = ``labels`` or ``label``.
        label_separator: what separates the labels in a column of texts; None = the text is one.
        split: of a ``DatasetDict``: name of the split.
        labelled: if False, yields the texts without labels, which are optional.

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
    def recognises(cls, probe: "PathProbe") -> bool:
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
                "all rows expected, found a selection of rows kept apart from them",
                where=folder,
                fix="call flatten_indices() and save_to_disk() again",
            )
        found = [folder / _file_name(entry) for entry in _entries(state, folder)]
        missing = next((file for file in found if not file.is_file()), None)
        if missing is not None:
            raise DataError(
                "the data file that state.json names expected, found none",
                where=missing,
                fix="copy or save the data set again",
            )
        return found

    @classmethod
    def _class_names(cls, table: TableFile, column: str) -> list[str] | None:
        features = _json(table.path.with_name(_INFO)).get("features")
        return class_names_of(features.get(column)) if isinstance(features, dict) else None


def _split_folder(path, split):
    if not (path / _SPLITS).is_file():
        if split is not None:
            raise DataError(
                f"a DatasetDict with the split {split!r} expected, found one Dataset",
                where=path,
                fix="leave the option split out",
            )
        return path
    splits = _splits(path)
    if split not in splits:
        raise DataError(
            f"{'a split' if split is None else f'the split {split!r}'} expected, found "
            f"{', '.join(splits) or 'none'}",
            where=path,
            fix="choose one of these with the reader's option split",
        )
    return path / split


def _splits(path):
    splits = _json(path / _SPLITS).get("splits")
    return [each for each in splits if isinstance(each, str)] if isinstance(splits, list) else []


def _entries(state, folder):
    entries = state.get("_data_files")
    if not isinstance(entries, list) or not entries or not all(map(_file_name, entries)):
        raise DataError(
            "a list of data files expected as '_data_files', found none",
            where=folder / _STATE,
            fix="save the data set again with save_to_disk()",
        )
    return entries


def _json(path):
    found: dict[str, Any] = read_json(path, fix="copy or save the set again")
    return found


def _file_name(entry):
    """The name of a file in its folder; nothing that leads out of it."""
    name = entry.get("filename") if isinstance(entry, dict) else None
    return name if isinstance(name, str) and Path(name).name == name else None
