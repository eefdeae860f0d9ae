"""The names of the labels: a label's id is its name's line number in ``labels.txt``."""

import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tfxc.core.errors import DataError
from tfxc.core.storage.files import atomic_file
from tfxc.core.storage.reading import existing_file, read_errors


class LabelVocabulary:
    """Label names in the order of their ids.

    Any text is a legal name (commas, spaces, non-ASCII) except the empty one and one with a line
    break, which a file of one name per line could not hold.

    Args:
        names: one distinct name per label; name number i gets id i.
        where: the file or config key the names come from, for error messages.

    Raises:
        DataError: an empty name, a name with a line break, or a name given twice.

    Example:
        >>> LabelVocabulary(["cat", "dog"]).ids(["dog", "cow"])
        [1]
    """

    def __init__(self, names: Iterable[str], where: str | Path | None = None) -> None:
        self.names = list(names)
        self._check(where)

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        """Ids by name: of ten million labels more than a gigabyte, which searches do without."""
        return {name: number for number, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._ids

    def ids(self, names: Iterable[str]) -> list[int]:
        """Returns the ids of those of ``names`` that are known, in the given order."""
        return [self._ids[name] for name in names if name in self._ids]

    def save(self, path: str | Path) -> None:
        """Writes one name per line, UTF-8."""
        with atomic_file(path) as stream:
            stream.writelines(f"{name}\n" for name in self.names)

    @classmethod
    def of(cls, path: str | Path | None, num_labels: int) -> "LabelVocabulary":
        """Returns the names in a file, or the numbers from 0 as names without one.

        Args:
            path: see ``load``, or None.
            num_labels: number of labels.

        Raises:
            DataError: as ``load``; or another number of names.
        """
        if path is None:
            return cls([str(number) for number in range(num_labels)])
        vocabulary = cls.load(path)
        if len(vocabulary) != num_labels:
            raise DataError(
                f"there are {len(vocabulary):,} names for {num_labels:,} labels",
                where=path,
                fix="give one name per line, for every label",
            )
        return vocabulary

    @classmethod
    def load(cls, path: str | Path) -> "LabelVocabulary":
        """Reads a file of one name per line, UTF-8; Windows line ends are accepted.

        Raises:
            DataError: no such file, not UTF-8, an empty line or a name that occurs twice.
        """
        path = Path(path)
        with read_errors(path):
            content = existing_file(path).read_bytes()
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"the label names are not in UTF-8: the byte at offset {error.start} is invalid",
                where=path,
                fix="convert the file to UTF-8",
            ) from error
        # Not str.splitlines: it also splits at characters that are legal inside a name.
        lines = text.removesuffix("\n").split("\n") if text else []
        return cls([line.removesuffix("\r") for line in lines], where=path)

    def _check(self, where: str | Path | None) -> None:
        for number, name in enumerate(self.names):
            if not name or "\n" in name or "\r" in name:
                problem = f"has a line break: {name!r}" if name else "is empty"
                raise DataError(
                    f"the name of label {number} {problem}",
                    where=f"{where}:{number + 1}" if isinstance(where, Path) else where,
                    fix="rename the label",
                )
        hashes = np.fromiter(map(hash, self.names), np.int64, len(self.names))
        hashes.sort()
        # Only where two hashes are equal is a set of all names made.
        if (hashes[1:] == hashes[:-1]).any() and len(self._ids) < len(self.names):
            first = next(
                number for number, name in enumerate(self.names) if self._ids[name] != number
            )
            name = self.names[first]
            raise DataError(
                f"the labels {first} and {self._ids[name]} have the same name, {name!r}",
                where=where,
                fix="give each label its own name",
            )
