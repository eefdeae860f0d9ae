"""Sets for verification: pairs of examples and whether they show the same thing.

What can be read (``open_pairs``):

* ``.bin``: a pickle of (list of encoded images, list of flags) as InsightFace hands LFW, CFP-FP,
  AgeDB-30 and others around; read without running anything it holds;
* ``.npz``: ``pairs`` int (n, 2) and ``same`` bool (n,), with ``images`` uint8 (m, H, W) or
  (m, H, W, channels), ``features`` (m, dim) or ``embeddings`` (m, dim), and optional ``names``;
* a text file of ``name1 name2 same`` lines, or LFW's ``pairs.txt``, over a folder of images.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from tfxc.core.errors import ConfigError, DataError
from tfxc.data.examples.chunk import Chunk
from tfxc.data.reading.parsing.arrays import load_embeddings, matrix, read_arrays
from tfxc.data.verification.insightface_bin import read_bin
from tfxc.data.verification.pair_lists import ImageFolder, NamedRows, resolve
from tfxc.data.verification.sampled_pairs import make_pairs

if TYPE_CHECKING:
    from tfxc.data.reading.formats.base import Reader


__all__ = ["Examples", "PairSet", "load_embeddings", "make_pairs", "open_pairs", "pairs_of_reader"]


class PairSource:
    """Examples of pairs, in chunks as a reader returns them, without labels.

    Attributes:
        path: where they come from, for messages.
        num_examples: how many there are.
    """

    path: str | Path
    num_examples: int

    def chunks(self, size: int) -> Iterator[Chunk]:
        """Yields ``Chunk``s of at most ``size`` examples."""
        raise TypeError(f"{type(self).__name__} must define chunks(size)")

    def sparse(self) -> "PairSource":
        """Returns the same with dense vectors in memory as sparse bags; everything else stays as it
        is.
        """
        return self


@dataclasses.dataclass(frozen=True)
class PairSet:
    """Pairs of examples.

    Attributes:
        pairs: int64 (n, 2), row numbers of the examples.
        same: bool (n,).
        source: the examples, or None if there are only embeddings.
        embeddings: float (m, dim), or None if they are to be made.
    """

    pairs: np.ndarray
    same: np.ndarray
    source: PairSource | None = None
    embeddings: np.ndarray | None = None


class Examples(PairSource):
    """Images or dense vectors in memory, in chunks as a reader returns them, without labels.

    Args:
        path: where they come from, for messages.
        images: uint8 (m, height, width, channels), or a list of encoded images (``bytes``) or of
            paths, which are read a chunk at a time.
        features: (m, dim), dense or CSR, or None.
    """

    def __init__(
        self,
        path: str | Path,
        images: "np.ndarray | Sequence[bytes | Path] | None" = None,
        features: np.ndarray | scipy.sparse.csr_matrix | None = None,
    ) -> None:
        self.path = path
        self._images = images
        self._features = features
        if images is not None:
            self.num_examples = len(images)
        else:
            assert features is not None, "images or features"
            self.num_examples = features.shape[0]

    def sparse(self) -> "Examples":
        """Returns the same with its dense vectors as sparse bags; images stay as they are."""
        if self._features is None:
            return self
        return Examples(self.path, features=scipy.sparse.csr_matrix(self._features))

    def chunks(self, size: int) -> Iterator[Chunk]:
        """Yields ``Chunk``s of ``size`` examples, the last smaller."""
        for start in range(0, self.num_examples, size):
            end = min(start + size, self.num_examples)
            labels: list[list[Any]] = [[] for _ in range(start, end)]
            if self._images is None:
                assert self._features is not None, "images or features"
                yield Chunk(labels=labels, features=self._features[start:end].astype(np.float32))
            else:
                images = self._images[start:end]
                names = [
                    str(image) if isinstance(image, Path) else f"image {row}"
                    for row, image in enumerate(images, start)
                ]
                if not isinstance(images, np.ndarray):
                    images = [
                        image.read_bytes() if isinstance(image, Path) else image for image in images
                    ]
                yield Chunk(labels=labels, images=images, names=names)


class _Selected(PairSource):
    """Some of the examples of a reader, in its order."""

    def __init__(self, reader: "Reader", wanted: np.ndarray) -> None:
        self.path = reader.path
        self._reader = reader
        self._wanted = wanted
        self.num_examples = int(np.count_nonzero(wanted))

    def chunks(self, size: int) -> Iterator[Chunk]:
        """Yields ``Chunk``s of at most ``size`` examples."""
        first = 0
        for chunk in self._reader.chunks(size):
            rows = np.flatnonzero(self._wanted[first : first + len(chunk)])
            first += len(chunk)
            if len(rows):
                yield chunk.select(rows)


def open_pairs(
    path: str | Path,
    *,
    images: str | Path | None = None,
    embeddings: np.ndarray | None = None,
    names: Sequence[str] | np.ndarray | None = None,
) -> "PairSet":
    """Reads a set of pairs.

    Args:
        path: a file as in the module's text.
        images: folder of the images a text file names.
        embeddings: (m, dim), what pairs of row numbers or names refer to, instead of what the
            file itself holds.
        names: (m,) names of the rows of ``embeddings``, for text files; None = row numbers from 0.

    Returns:
        ``PairSet``.

    Raises:
        ConfigError: a text file without ``images`` or ``embeddings``.
        DataError: the file is missing or malformed, an image or a person is missing, or a pair
            is outside the examples.

    Example:
        >>> open_pairs("lfw/pairs.txt", images="lfw/images").same.sum()     # doctest: +SKIP
        3000
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("no such file", where=path, fix="check the path")
    if path.suffix == ".bin":
        encoded, same = read_bin(path)
        pairs = np.arange(len(encoded)).reshape(-1, 2)
        source: Examples | None = Examples(path, images=encoded)
    elif path.suffix == ".npz":
        pairs, same, source, stored = _archive(path, embeddings is not None)
        embeddings = stored if embeddings is None else embeddings
    elif embeddings is not None:
        pairs, same = resolve(path, NamedRows(len(embeddings), names).row_of)
        source = None
    elif images is not None:
        folder = ImageFolder(images)
        pairs, same = resolve(path, folder.row_of)
        source = Examples(images, images=folder.paths)
    else:
        raise ConfigError(
            "the list of names needs a folder of images",
            where=path,
            fix="give --images",
        )
    counts = [source.num_examples] if source else []
    _check(path, pairs, same, counts if embeddings is None else [*counts, len(embeddings)])
    return PairSet(pairs, same, source, embeddings)


def _check(path: Path, pairs: np.ndarray, same: np.ndarray, counts: Sequence[int]) -> None:
    if pairs.ndim != 2 or pairs.shape[1:] != (2,) or same.shape != (len(pairs),):
        raise DataError(
            f"the shapes of pairs and same must be (n, 2) and (n,), not {pairs.shape} and "
            f"{same.shape}",
            where=path,
            fix="save the arrays in these shapes",
        )
    if not len(pairs):
        raise DataError("there are no pairs", where=path, fix="check the file")
    if not 0 <= pairs.min() <= pairs.max() < min(counts):
        raise DataError(
            f"the pairs name the rows {pairs.min()} to {pairs.max()}, but there are rows 0 to "
            f"{min(counts) - 1}",
            where=path,
            fix="check that pairs and examples belong together",
        )


def _archive(
    path: Path, has_embeddings: bool
) -> tuple[np.ndarray, np.ndarray, Examples | None, np.ndarray | None]:
    """Returns pairs, flags, examples and embeddings of an ``.npz`` file."""
    arrays = read_arrays(path)
    kinds = [name for name in ("images", "features", "embeddings") if name in arrays]
    missing = [name for name in ("pairs", "same") if name not in arrays]
    if not kinds and not has_embeddings:
        missing.append("images, features or embeddings")
    if missing:
        raise DataError(
            f"the array {missing[0]} is missing; there are: {', '.join(arrays) or 'none'}",
            where=path,
            fix="save it with the others",
        )
    pairs = arrays["pairs"]
    same = arrays["same"]
    if pairs.dtype.kind not in "iu" or not np.isin(same, (0, 1)).all():
        raise DataError(
            f"pairs is {pairs.dtype} and same {same.dtype} instead of integers and flags",
            where=path,
            fix="save row numbers as pairs, and 0 or 1 as same",
        )
    source = None
    if "images" in arrays:
        source = Examples(path, images=_pixels(path, arrays["images"]))
    elif "features" in arrays:
        source = Examples(path, features=matrix(path, "features", arrays["features"]))
    embeddings = None
    if "embeddings" in arrays:
        embeddings = matrix(path, "embeddings", arrays["embeddings"])
    return pairs.astype(np.int64), same.astype(bool), source, embeddings


def _pixels(path: Path, images: np.ndarray) -> np.ndarray:
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataError(
            f"images is {images.dtype} {images.shape} instead of uint8 (m, height, width[, "
            "channels])",
            where=path,
            fix="convert the images",
        )
    return images if images.ndim == 4 else images[..., None]


def pairs_of_reader(
    reader: "Reader",
    num_pairs: int,
    seed: int = 0,
    folds: int = 10,
    disjoint: bool = False,
    embeddings: np.ndarray | None = None,
) -> "PairSet":
    """Returns a ``PairSet`` drawn from the examples of a reader that have one label each.

    The reader is read twice, for the labels and then for the examples that were drawn.

    Args:
        reader: a ``Reader``.
        num_pairs, seed, folds, disjoint: as in ``make_pairs``.
        embeddings: (m, dim) of all the examples, or None.

    Raises:
        DataError: an example has no label or several, there are too few for that many pairs, or
            not as many as embeddings.
    """
    labels = _labels_of(reader)
    pairs, same = make_pairs(labels, num_pairs, seed, folds, disjoint)
    if embeddings is not None:
        if len(embeddings) != len(labels):
            raise DataError(
                f"there are {len(embeddings):,} embeddings for {len(labels):,} examples",
                where=reader.path,
                fix="give one for each example",
            )
        return PairSet(pairs, same, embeddings=embeddings)
    wanted = np.zeros(len(labels), bool)
    wanted[pairs] = True
    return PairSet((np.cumsum(wanted) - 1)[pairs], same, _Selected(reader, wanted))


def _labels_of(reader: "Reader") -> list[int | str]:
    labels: list[int | str] = []
    for chunk in reader.chunks(4096):
        for row, row_labels in enumerate(chunk.labels, len(labels) + 1):
            if len(row_labels) != 1:
                raise DataError(
                    f"example {row} has {len(row_labels)} labels instead of one",
                    where=reader.path,
                    fix="give examples with one label each",
                )
        labels += [label for (label,) in chunk.labels]
    return labels
