"""Files of a folder by the split they belong to, as their names and folders say."""

import re
from collections.abc import Iterable
from pathlib import Path

from tfxc.core.errors import DataError
from tfxc.core.storage.compression import COMPRESSED

# As train-00000-of-00002.parquet; and names that files or folders of one split begin with.
_SHARD = re.compile(r"^(.+?)-\d+-of-\d+$")
_SPLIT = re.compile(r"^(train|training|dev|val|valid|validation|test)(?![a-z])")
#: The split of files whose names say none.
REST = "(other files)"


def files_by_split(folder: Path, files: Iterable[Path]) -> dict[str, list[Path]]:
    """Returns files of a folder in order, by the split they belong to.

    Args:
        folder: the folder.
        files: those in it that count, at any depth.

    Raises:
        DataError: two folders in it have files of the same name that are parts of a whole.

    Example:
        >>> files = [Path("set/test.csv"), Path("set/train/0.csv"), Path("set/more.csv")]
        >>> list(files_by_split(Path("set"), files))
        ['(other files)', 'test', 'train']
    """
    by_split: dict[str, list[Path]] = {}
    shards: dict[str, Path] = {}
    for file in sorted(files):
        stem = _stem(file)
        shard = _SHARD.match(stem)
        namesake = shards.setdefault(file.name, file) if shard else file
        if namesake != file:
            raise DataError(
                f"the folder contains several data sets: {file.name} is in "
                f"{namesake.parent.relative_to(folder)} and in {file.parent.relative_to(folder)}",
                where=folder,
                fix="name one of these folders",
            )
        # The name of the file says which split it is of, or that of a folder it is in.
        names = [*file.relative_to(folder).parent.parts, stem]
        split = shard or next(filter(None, map(_SPLIT.match, names)), None)
        by_split.setdefault(split[1] if split else REST, []).append(file)
    return by_split


def names_split(file: Path) -> bool:
    """Tells whether the name of a file says which split it belongs to.

    Example:
        >>> names_split(Path("train.json")), names_split(Path("settings.json"))
        (True, False)
    """
    stem = _stem(file)
    return bool(_SHARD.match(stem) or _SPLIT.match(stem))


def _stem(file: Path) -> str:
    return Path(file.stem).stem if file.suffix.lower() in COMPRESSED else file.stem
