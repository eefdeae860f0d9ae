"""A folder of tables: parts of one, as Spark writes them, or a file for each split."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfxc.core import declared
from tfxc.core.declared import Count
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.core.storage.compression import ending_of
from tfxc.data.reading.formats.base import (
    NONE_GIVEN,
    LabelSeparator,
    LabelsField,
    TextField,
    TextReader,
    split_error,
    warn_once,
)
from tfxc.data.reading.formats.delimited import Delimited
from tfxc.data.reading.formats.jsonl import JSONLines
from tfxc.data.reading.parsing.column_guess import Wanted
from tfxc.data.reading.parsing.lines import UTF_8, Lines
from tfxc.data.reading.parsing.path_probe import PathProbe
from tfxc.data.reading.parsing.split_files import files_by_split, names_split

_READERS: Mapping[str, type[Delimited | JSONLines]] = {
    **dict.fromkeys(Delimited.suffixes, Delimited),
    **dict.fromkeys(JSONLines.suffixes, JSONLines),
}
_PART = "part-"
_TRAIN = ("train", "training")


class TableFolder(TextReader):
    """Reads the ``.csv``, ``.tsv``, ``.jsonl`` or ``.json`` files of a folder, one after the other.

    They are read in the order of their names. Where these say to which split they belong, as
    ``train.csv`` and ``test-2.jsonl`` do, ``split`` selects those of one. Of ``.json`` files only
    such and parts (``part-00000-....json``) count, as others hold settings. Hidden files and those
    that begin with an underscore, as Spark's ``_SUCCESS``, do not count.

    Options are those of the files' format, ``delimited`` or ``jsonl``.

    Args:
        path: the folder, without folders in it.
        split: of a folder with several: the one to read.
        delimiter, quotes, escape, columns: as of ``delimited``; None = its defaults.
        only: as of ``jsonl``.

    Raises:
        ConfigError: an option that the files' format has not.
        DataError: there are no such files, several splits or several formats; or as of the files'
            format.

    Example:
        >>> reader = TableFolder("kaggle", split="train", labels_field="target")  # doctest: +SKIP
        >>> next(reader.chunks(1)).labels                                         # doctest: +SKIP
        [['1']]
    """

    summary = "a folder of .csv, .tsv, .jsonl or .json files"
    label_options = ("labels_field", "label_separator", "only")

    def __init__(
        self,
        path: str | Path,
        *,
        split: str | None = None,
        text_field: TextField | None = None,
        labels_field: LabelsField | None = None,
        label_separator: LabelSeparator | None = None,
        id_field: str | None = None,
        delimiter: str | None = None,
        quotes: bool | None = None,
        escape: str | None = None,
        columns: Sequence[str] | None = None,
        only: Mapping[str, str] | None = None,
        labelled: bool = True,
        max_line_bytes: Count = MAX_LINE_BYTES,
        encoding: str | None = UTF_8,
    ) -> None:
        super().__init__(path, max_line_bytes, encoding)
        files = _files(self.path, split)
        options: dict[str, Any] = {
            "text_field": text_field,
            "labels_field": labels_field,
            "label_separator": label_separator,
            "id_field": id_field,
            "delimiter": delimiter,
            "quotes": quotes,
            "escape": escape,
            "columns": columns,
            "only": only,
        }
        chosen = {key: value for key, value in options.items() if value is not None}
        for key in chosen.keys() - declared.arguments_of(_reader_of(files[0])).keys():
            raise ConfigError(
                f"files that end in {ending_of(files[0])} have no such option",
                where=key,
                fix="remove it",
            )
        self._parts = [
            _reader_of(files[0])(
                file,
                labelled=labelled,
                max_line_bytes=max_line_bytes,
                encoding=encoding,
                **chosen,
            )
            for file in files
        ]
        self.label_names = self._parts[0].label_names
        self.num_labels = self._parts[0].num_labels
        self.total_bytes = sum(file.stat().st_size for file in files)

    @classmethod
    def recognises(cls, probe: PathProbe) -> bool:
        return probe.is_folder and not probe.folders and bool(_tables(probe.path))

    @classmethod
    def splits_of(cls, path: Path) -> list[str]:
        """Returns the splits; not those without the columns of the training split, as test files of
        competitions have no labels.
        """
        by_split = files_by_split(path, _tables(path))
        train = next((by_split[name] for name in _TRAIN if name in by_split), None)
        if len(by_split) == 1 or train is None:
            return sorted(by_split) if len(by_split) > 1 else []
        columns = _columns(train[0])
        usable = []
        for split, files in by_split.items():
            missing = columns - _columns(files[0])
            if missing:
                warn_once(
                    f"{files[0]}: the file is not used: it has no column "
                    f"{', '.join(map(repr, sorted(missing)[:3]))}, as {train[0].name} has"
                )
            else:
                usable.append(split)
        return sorted(usable)

    @classmethod
    def options_of(
        cls,
        path: Path,
        wanted: Wanted,
        split: str | None = None,
        given: Mapping[str, Any] = NONE_GIVEN,
    ) -> dict[str, Any]:
        """Returns those of the first file."""
        file = _files(path, split)[0]
        given = {key: value for key, value in given.items() if key != "split"}
        return _reader_of(file).options_of(file, wanted, None, given)

    def column_names(self) -> Sequence[str]:
        """Returns those of the first file."""
        return self._parts[0].column_names()

    @property
    def bytes_read(self) -> int:
        return sum(part.bytes_read for part in self._parts)

    def _examples(self) -> Iterator[tuple[str, list[Any]] | tuple[str, list[Any], str]]:
        for part in self._parts:
            yield from part._examples()


def _tables(folder: Path) -> list[Path]:
    """Returns the files that are tables."""
    files = [file for file in folder.iterdir() if not file.name.startswith((".", "_"))]
    return [
        file
        for file in files
        if ending_of(file) in _READERS
        and (ending_of(file) != ".json" or file.name.startswith(_PART) or names_split(file))
    ]


def _files(folder: Path, split: str | None) -> list[Path]:
    """Returns the files of a split, in order."""
    by_split = files_by_split(folder, _tables(folder))
    if not by_split:
        endings = ", ".join(_READERS)
        raise DataError(f"the folder has no {endings} files", where=folder, fix="check it")
    if split is None and len(by_split) == 1:
        (files,) = by_split.values()
    elif split in by_split:
        files = by_split[split]
    else:
        raise split_error(folder, sorted(by_split), split)
    kinds = {_reader_of(file) for file in files}
    if len(kinds) > 1:
        names = ", ".join(file.name for file in files[:3])
        raise DataError(
            f"the folder has files of several formats: {names}",
            where=folder,
            fix="move those of one format into a folder of their own",
        )
    return files


def _reader_of(file: Path) -> type[Delimited | JSONLines]:
    return _READERS[ending_of(file)]


def _columns(file: Path) -> set[str]:
    """Returns the names in the first line of a table, whatever separates them."""
    line = (Lines(file).first() or b"").decode(UTF_8, "replace")
    if _reader_of(file) is Delimited:
        return set(filter(None, re.split(r'\s*"?[,;\t|]"?\s*', line.strip().strip('"'))))
    try:
        record = json.loads(line)
    except ValueError:
        return set()
    return set(record) if isinstance(record, dict) else set()
