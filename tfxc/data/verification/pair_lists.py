"""Text files that list pairs of names: LFW's ``pairs.txt``, and ``name1 name2 same``."""

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from tfxc.core.errors import DataError
from tfxc.data.reading.parsing.lines import Lines

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")  # in capitals, too
_FLAGS = {"1": True, "true": True, "0": False, "-1": False, "false": False}


def read_pair_list(path: str | Path) -> Iterator[tuple[int, str, str, bool]]:
    """Yields ``(line number, name, other name, same)`` of a list.

    A first line of one or two numbers makes it LFW's form: ``person n1 n2`` for the same person,
    ``person1 n1 person2 n2`` for different ones, with names ``person/person_0001``. The numbers
    are the folds (1 where there is one number) and the same pairs in each, which has as many
    different ones. Otherwise a line is ``name1 name2 same``, separated by commas, tabs or spaces,
    with an optional header.

    Raises:
        DataError: a line of another form, or not as many pairs as the first line announces; the
            message names file and line.
    """
    texts = Lines(path).texts()
    lines = [(number, fields_of(line)) for number, line in texts if line.strip()]
    if not lines:
        raise DataError("the list of pairs is empty", where=path, fix="check the file")
    head = lines[0][1]
    lfw = len(head) <= 2 and all(field.isdecimal() for field in head)
    header = lfw or (len(head) == 3 and head[2].lower() in ("same", "issame", "label"))
    for number, fields in lines[header:]:
        pair = _lfw_pair(fields) if lfw else _named_pair(fields)
        if pair is None:
            form = "'person n1 n2' or 'person1 n1 person2 n2'" if lfw else "'name1 name2 same'"
            raise DataError(
                f"{' '.join(fields)!r} is not {form}",
                where=f"{path}:{number}",
                fix="correct the line; same is 1 or 0",
            )
        yield number, *pair
    num_pairs = len(lines) - header
    if lfw and num_pairs != 2 * math.prod(map(int, head)):
        raise DataError(
            f"the list has {num_pairs:,} pairs, but its first line ({' '.join(head)}) says "
            f"{2 * math.prod(map(int, head)):,}",
            where=path,
            fix="copy or download it again, or correct the first line",
        )


def fields_of(line: str) -> list[str]:
    """Returns the fields of a line, separated by tabs, else commas, else spaces."""
    separator = next((sign for sign in "\t," if sign in line), None)
    return [field.strip() for field in line.strip().split(separator)]


def _lfw_pair(fields: list[str]) -> tuple[str, str, bool] | None:
    if len(fields) == 3:
        fields = [*fields[:2], fields[0], fields[2]]
    if len(fields) != 4 or not (fields[1].isdecimal() and fields[3].isdecimal()):
        return None
    first, second = (
        f"{person}/{person}_{int(number):04d}" for person, number in (fields[:2], fields[2:])
    )
    return first, second, fields[0] == fields[2]


def _named_pair(fields: list[str]) -> tuple[str, str, bool] | None:
    if len(fields) != 3 or fields[2].lower() not in _FLAGS:
        return None
    return fields[0], fields[1], _FLAGS[fields[2].lower()]


def resolve(path: str | Path, row_of: Callable[[str, str], int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pairs of rows of a list's names.

    Args:
        path: the list.
        row_of: function (name, where) → row number.

    Returns:
        ``(pairs int64 (n, 2), same bool (n,))``.
    """
    pairs = []
    same = []
    for number, first, second, flag in read_pair_list(path):
        pairs.append([row_of(name, f"{path}:{number}") for name in (first, second)])
        same.append(flag)
    return np.array(pairs, np.int64).reshape(-1, 2), np.array(same, bool)


class ImageFolder:
    """Numbers the images of a folder in the order they are requested.

    Args:
        folder: the folder.
        paths: images that are numbered already; None for none.

    Attributes:
        paths: the images numbered so far.
    """

    def __init__(self, folder: str | Path, paths: list[Path] | None = None) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError("no such folder", where=folder, fix="check --images")
        self.paths: list[Path] = [] if paths is None else paths
        self._rows: dict[str, int] = {}
        self._images: dict[Path, dict[str, Path]] = {}  # of folders, without their endings

    def row_of(self, name: str, where: str) -> int:
        """Returns the number of an image; the ending of ``name`` may be missing.

        Raises:
            DataError: there is no such image.
        """
        if name not in self._rows:
            path = self._path_of(name)
            if path is None:
                person = Path(name).parent
                if not (self.folder / person).is_dir():
                    problem = f"there is no folder {str(person)!r} in {self.folder}"
                else:
                    problem = f"there is no image {name!r} in {self.folder}"
                raise DataError(problem, where=where, fix="check --images, or remove the line")
            self._rows[name] = len(self.paths)
            self.paths.append(path)
        return self._rows[name]

    def _path_of(self, name: str) -> Path | None:
        path = self.folder / name
        if path.is_file():
            return path
        if path.parent not in self._images:
            files = path.parent.iterdir() if path.parent.is_dir() else ()
            images = [file for file in files if file.suffix.lower() in _ENDINGS and file.is_file()]
            # Of two with one name, that with the first ending is the image.
            images.sort(key=lambda file: (_ENDINGS.index(file.suffix.lower()), file.name))
            self._images[path.parent] = {file.stem: file for file in reversed(images)}
        return self._images[path.parent].get(path.name)


class NamedRows:
    """Rows of a matrix by their names, or by their numbers from 0 where they have none.

    Raises:
        DataError: two rows have the same name, the endings of images aside.
    """

    def __init__(self, num_rows: int, names: Iterable[str] | None = None) -> None:
        self._names = names is not None
        known = map(str, range(num_rows)) if names is None else map(_stem, map(str, names))
        self._rows: dict[str, int] = {}
        for row, name in enumerate(known):
            if self._rows.setdefault(name, row) != row:
                raise DataError(
                    f"rows {self._rows[name]} and {row} of the embeddings have the same name "
                    f"{name!r}",
                    fix="leave one out",
                )

    def row_of(self, name: str, where: str) -> int:
        """Returns the row of a name, with or without an image's ending.

        Raises:
            DataError: there is no such row.
        """
        row = self._rows.get(_stem(name) if self._names else name)
        if row is None:
            kind = "name" if self._names else f"row number below {len(self._rows):,}"
            raise DataError(
                f"{name!r} is not a {kind} of the embeddings",
                where=where,
                fix="check that pairs and embeddings belong together",
            )
        return row


def _stem(name: str) -> str:
    endings = (ending for ending in _ENDINGS if name.lower().endswith(ending))
    return name[: len(name) - len(next(endings, ""))]
