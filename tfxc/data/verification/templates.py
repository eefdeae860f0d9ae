"""IJB-B and IJB-C: images joined to templates, pairs of templates (1:1), and galleries (1:N).

A root folder holds, for the target ``ijbb`` or ``ijbc``,

* ``meta/<target>_name_5pts_score.txt``: image, ten numbers of five landmarks, detector's score;
* ``meta/<target>_face_tid_mid.txt``: image, template, media;
* for 1:1, ``meta/<target>_template_pair_label.txt``: template, template, 1 or 0;
* for 1:N, ``meta/<target>_1N_probe_mixed.csv`` and the two of ``<target>_1N_gallery_*.csv``:
  template, subject, and columns that are not read;
* ``loose_crop/``: the images, needed only where embeddings are to be made.
"""

import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfxc.core.errors import DataError
from tfxc.core.storage.reading import existing_file, read_errors
from tfxc.data.examples.chunk import Chunk
from tfxc.data.images.alignment import SIZE, aligned_images
from tfxc.data.verification.pairs import PairSource
from tfxc.data.verification.subjects import IdentificationSet, resolve_subjects

# Letter of the galleries' files.
_GALLERIES = {"ijbb": "S", "ijbc": "G"}


@dataclasses.dataclass(frozen=True)
class Templates:
    """Images and the templates they belong to.

    Attributes:
        root: the folder.
        names: list of m image names, in the order of the meta files.
        points: float64 (m, 5, 2), landmarks as (x, y).
        scores: float64 (m,), how sure the face detector was.
        template_ids, media_ids: int64 (m,).
    """

    root: Path
    names: list[str]
    points: np.ndarray
    scores: np.ndarray
    template_ids: np.ndarray
    media_ids: np.ndarray


@dataclasses.dataclass(frozen=True)
class TemplateSet(Templates):
    """``Templates`` and pairs of them.

    Attributes:
        pairs: int64 (n, 2) template ids.
        same: bool (n,).
    """

    pairs: np.ndarray
    same: np.ndarray

    def rows_of(self, template_ids: np.ndarray) -> np.ndarray:
        """Returns ``pairs`` as rows (n, 2) of a sorted list of template ids.

        Raises:
            DataError: a pair names a template without images.
        """
        places = np.minimum(np.searchsorted(template_ids, self.pairs), len(template_ids) - 1)
        unknown = self.pairs[template_ids[places] != self.pairs]
        if len(unknown):
            raise DataError(
                f"template {unknown[0]} is in a pair, but has no images",
                where=self.root,
                fix="give all files of one set",
            )
        return places


class AlignedFaces(PairSource):
    """The images of ``Templates`` as a reader returns them: aligned, 112 x 112, RGB.

    Raises:
        DataError: an image is missing in ``loose_crop/``.
    """

    def __init__(self, templates: "Templates") -> None:
        self.path: Path = templates.root / "loose_crop"
        self.num_examples = len(templates.names)
        self._templates = templates
        there = {path.name for path in self.path.iterdir()} if self.path.is_dir() else set()
        missing = next((name for name in templates.names if name not in there), None)
        if missing is not None:
            line = templates.names.index(missing) + 1
            raise DataError(
                f"image {missing!r} (line {line} of the meta files) is missing",
                where=self.path,
                fix="unpack all images, or give --embeddings",
            )

    def chunks(self, size: int) -> Iterator[Chunk]:
        """Yields ``Chunk``s of ``size`` images, uint8 (n, 112, 112, 3), without labels."""
        paths = [self.path / name for name in self._templates.names]
        first = 0
        for images in aligned_images(paths, self._templates.points, size):
            assert images.shape[1:] == (SIZE, SIZE, 3)
            names = self._templates.names[first : first + len(images)]
            first += len(images)
            yield Chunk(labels=[[] for _ in names], images=images, names=names)


def open_templates(root: str | Path, target: str) -> "TemplateSet":
    """Reads the meta files of the 1:1 protocol.

    Args:
        root: folder as in the module's text.
        target: ``"ijbb"`` or ``"ijbc"``.

    Returns:
        ``TemplateSet``.

    Raises:
        DataError: a file is missing or malformed, or the files do not fit each other.

    Example:
        >>> open_templates("IJBC", "ijbc").pairs.shape     # doctest: +SKIP
        (15658489, 2)
    """
    compared = Path(root) / "meta" / f"{target}_template_pair_label.txt"
    images = _images_of(root, target)
    triples = _numbers(compared, range(3), np.int64)
    if not np.isin(triples[:, 2], (0, 1)).all():
        line = int(np.flatnonzero(~np.isin(triples[:, 2], (0, 1)))[0]) + 1
        raise DataError(
            "the third number is neither 0 nor 1",
            where=f"{compared}:{line}",
            fix="write 1 for the same person, else 0",
        )
    return TemplateSet(**images, pairs=triples[:, :2], same=triples[:, 2] == 1)


def open_template_subjects(root: str | Path, target: str) -> "tuple[Templates, IdentificationSet]":
    """Reads the meta files of the 1:N protocol.

    Args:
        root, target: as in ``open_templates``.

    Returns:
        Tuple of the templates, and the galleries and probes, whose rows are places in the sorted
        list of template ids.

    Raises:
        DataError: a file is missing or malformed, or a template has no images.

    Example:
        >>> _, subjects = open_template_subjects("IJBC", "ijbc")  # doctest: +SKIP
        >>> subjects.probes.rows.shape  # doctest: +SKIP
        (19593,)
    """
    images = Templates(**_images_of(root, target))
    known = {str(number): row for row, number in enumerate(np.unique(images.template_ids))}

    def row_of(name: str, where: str) -> int:
        if name not in known:
            raise DataError(
                f"template {name!r} has no images", where=where, fix="give all files of one set"
            )
        return known[name]

    meta = Path(root) / "meta"
    letter = _GALLERIES[target]
    lists = ["probe_mixed.csv", *(f"gallery_{letter}{number}.csv" for number in (1, 2))]
    paths = [meta / f"{target}_1N_{name}" for name in lists]
    for path in paths:
        existing_file(path, fix="check --ijb and --target")
    sets = [resolve_subjects(path, row_of) for path in paths]
    return images, IdentificationSet(sets[0], sets[1:])


def _images_of(root: str | Path, target: str) -> dict[str, Any]:
    """Returns what the two meta files of images hold, as the fields of ``Templates``."""
    meta = Path(root) / "meta"
    detected = meta / f"{target}_name_5pts_score.txt"
    members = meta / f"{target}_face_tid_mid.txt"
    names, values = _named_numbers(detected, 11, np.float64)
    member_names, ids = _named_numbers(members, 2, np.int64)
    for line, (name, member) in enumerate(zip(names, member_names, strict=False), 1):
        if name != member:
            raise DataError(
                f"the image is {member!r}, but {name!r} in {detected.name}",
                where=f"{members}:{line}",
                fix="give both files of one set",
            )
    if len(names) != len(member_names):
        raise DataError(
            f"the file has {len(member_names):,} lines, but {detected.name} has {len(names):,}",
            where=members,
            fix="give both files of one set",
        )
    return {
        "root": Path(root),
        "names": names,
        "points": values[:, :10].reshape(-1, 5, 2),
        "scores": values[:, 10],
        "template_ids": ids[:, 0],
        "media_ids": ids[:, 1],
    }


def _named_numbers(path: Path, count: int, dtype: type) -> tuple[list[str], np.ndarray]:
    values = _numbers(path, range(1, count + 1), dtype)
    with read_errors(path), open(path, encoding="utf-8") as stream:
        names = [line.split(maxsplit=1)[0] for line in stream if line.strip()]
    return names, values


def _numbers(path: Path, columns: range, dtype: type) -> np.ndarray:
    existing_file(path, fix="check --ijb and --target")
    try:
        with warnings.catch_warnings():  # of an empty file, which is refused below
            warnings.simplefilter("ignore")
            values: np.ndarray = np.loadtxt(
                path, dtype, comments=None, usecols=columns, ndmin=2, encoding="utf-8"
            )
    except ValueError as error:
        raise DataError(
            f"a line does not have {len(columns)} numbers: {error} (rows count from 0)",
            where=path,
            fix="correct the line",
        ) from error
    if not len(values):
        raise DataError("the file is empty", where=path, fix="copy it again")
    return values
