"""Galleries and probes: examples and whose they are, for identification.

What can be read (``open_subjects``):

* a folder with one sub-folder of images per subject;
* a text file of ``name subject`` lines, separated by commas, tabs or spaces, with an optional
  header and further columns, over a folder of images or named embeddings.

IJB's lists (``read_subjects``) name templates instead: ``TEMPLATE_ID,SUBJECT_ID,...``.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tfxc.core.errors import ConfigError, DataError
from tfxc.data.reading.formats.image_folder import ImageFolder as SubjectFolder
from tfxc.data.reading.parsing.lines import Lines
from tfxc.data.verification.pair_lists import ImageFolder, NamedRows, fields_of
from tfxc.data.verification.pairs import Examples, PairSource

_HEADERS = ("template_id", "template", "name", "image", "file", "filename")


@dataclasses.dataclass(frozen=True)
class SubjectSet:
    """Examples and whose they are.

    Attributes:
        rows: int64 (n,), row numbers of the examples.
        subjects: (n,) of texts.
    """

    rows: np.ndarray
    subjects: np.ndarray


@dataclasses.dataclass(frozen=True)
class IdentificationSet:
    """Galleries and probes.

    Attributes:
        probes: what is searched.
        galleries: what it is searched in.
        source: the examples, or None if there are only embeddings.
    """

    probes: SubjectSet
    galleries: list[SubjectSet]
    source: PairSource | None = None


def read_subjects(path: str | Path) -> Iterator[tuple[int, str, str]]:
    """Yields ``(line number, name, subject)`` of a list.

    Args:
        path: a text file; the first two columns count, a header is skipped.

    Raises:
        DataError: a line of another form, or no line; the message names file and line.
    """
    is_empty = True
    for number, line in Lines(path).texts():
        fields = fields_of(line) if line.strip() else None
        if fields is None or (is_empty and fields[0].lower() in _HEADERS):
            continue
        if len(fields) < 2 or not all(fields[:2]):
            raise DataError(
                f"{line.strip()!r} is not 'name subject'",
                where=f"{path}:{number}",
                fix="write the name of an image, or the id of a template, and whose it is",
            )
        is_empty = False
        yield number, fields[0], fields[1]
    if is_empty:
        raise DataError("the list of names and subjects is empty", where=path, fix="check the file")


def resolve_subjects(path: str | Path, row_of: Callable[[str, str], int]) -> SubjectSet:
    """Returns the rows that a list names; one that it names twice counts once.

    Args:
        path: the list.
        row_of: function (name, where) -> row number.

    Raises:
        DataError: a name is of two subjects.
    """
    subjects: dict[int, str] = {}
    for number, name, subject in read_subjects(path):
        row = row_of(name, f"{path}:{number}")
        if subjects.setdefault(row, subject) != subject:
            raise DataError(
                f"{name!r} has two subjects, {subjects[row]!r} and {subject!r}",
                where=f"{path}:{number}",
                fix="remove one of the lines",
            )
    return SubjectSet(np.array(list(subjects), np.int64), np.array(list(subjects.values())))


def open_subjects(
    galleries: Sequence[str | Path],
    probes: str | Path,
    *,
    images: str | Path | None = None,
    embeddings: np.ndarray | None = None,
    names: Sequence[str] | np.ndarray | None = None,
) -> IdentificationSet:
    """Reads galleries and probes.

    Args:
        galleries, probes: folders or files as in the module's text.
        images: folder of the images that text files name.
        embeddings: (m, dim), what text files refer to instead of images.
        names: (m,) names of the rows of ``embeddings``; None = row numbers from 0.

    Raises:
        ConfigError: a text file without ``images`` or ``embeddings``, or a folder with embeddings.
        DataError: a file or an image is missing, or malformed.

    Example:
        >>> open_subjects(["enrolled/"], "cameras/").probes.rows.shape  # doctest: +SKIP
        (1200,)
    """
    if embeddings is not None:
        row_of = NamedRows(len(embeddings), names).row_of
        for path in (probes, *galleries):
            if Path(path).is_dir():
                raise ConfigError(
                    "this is a folder, but embeddings need a list of names and subjects",
                    where=path,
                    fix="leave --embeddings out, or write a list",
                )
        sets = [resolve_subjects(path, row_of) for path in (probes, *galleries)]
        return IdentificationSet(sets[0], sets[1:])
    collected = _Images(images)
    sets = [collected.add(path) for path in (probes, *galleries)]
    assert collected.where is not None, "the first folder names it"
    source = Examples(collected.where, images=collected.paths)
    return IdentificationSet(sets[0], sets[1:], source)


class _Images:
    """The images of folders and lists, numbered as they come."""

    def __init__(self, folder: str | Path | None) -> None:
        self.paths: list[Path] = []
        self.where = folder
        self._folder = None if folder is None else ImageFolder(folder, self.paths)

    def add(self, path: str | Path) -> SubjectSet:
        """Returns the ``SubjectSet`` of a folder or list."""
        if not Path(path).is_dir():
            if self._folder is None:
                raise ConfigError(
                    "the list of names needs a folder of images",
                    where=path,
                    fix="give --images",
                )
            return resolve_subjects(path, self._folder.row_of)
        self.where = self.where or path
        first = len(self.paths)
        labels, files = zip(*SubjectFolder(path).files(), strict=True)
        self.paths += files
        return SubjectSet(np.arange(first, len(self.paths)), np.array(labels))
