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
from tfxc.data.chunk import Chunk
from tfxc.data.parsing.arrays import load_embeddings, matrix, read_arrays
from tfxc.data.verification.insightface_bin import read_bin
from tfxc.data.verification.pair_lists import ImageFolder, NamedRows, resolve
from tfxc.data.verification.sampled_pairs import make_pairs

if TYPE_CHECKING:
    from tfxc.data.formats.base import Reader


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
        """The same with dense vectors in memory as sparse bags; everything else stays as it is."""
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

    def __init__(self, path: str | Path, images: Any = None, features: Any = None) -> None:
        self.path, self._images, self._features = path, images, features
        self.num_examples = features.shape[0] if images is None else len(images)

    def sparse(self) -> "Examples":
        """The same with its dense vectors as sparse bags; images stay as they are."""
        if self._features is None:
            return self
        return Examples(self.path, features=scipy.sparse.csr_matrix(self._features))

    def chunks(self, size: int) -> Iterator[Chunk]:
        """Yields ``Chunk``s of ``size`` examples, the last smaller."""
        for start in range(0, self.num_examples, size):
            end = min(start + size, self.num_examples)
            labels: list[list[Any]] = [[] for _ in range(start, end)]
            if self._images is None:
                yield Chunk(labels=labels, features=self._features[start:end].astype(np.float32))
            else:
                part = self._images[start:end]
                yield Chunk(labels=labels, images=_read(part), names=self._names(start, part))

    def _names(self, start, part):
        return [
            str(item) if isinstance(item, Path) else f"image {row}"
            for row, item in enumerate(part, start)
        ]


def _read(images):
    if isinstance(images, np.ndarray):
        return images
    return [image.read_bytes() if isinstance(image, Path) else image for image in images]


class _Selected(PairSource):
    """Some of the examples of a reader, in its order."""

    def __init__(self, reader, wanted):
        self.path, self._reader, self._wanted = reader.path, reader, wanted
        self.num_examples = int(np.count_nonzero(wanted))

    def chunks(self, size):
        """Yields ``Chunk``s of at most ``size`` examples."""
        first = 0
        for chunk in self._reader.chunks(size):
            rows = np.flatnonzero(self._wanted[first : first + len(chunk)])
            first += len(chunk)
            if len(rows):
                yield _subset(chunk, rows)


def _subset(chunk, rows):
    def of(values):
        if values is None or hasattr(values, "shape"):
            return None if values is None else values[rows]
        return [values[row] for row in rows]

    names = [field.name for field in dataclasses.fields(chunk)]
    return Chunk(**{name: of(getattr(chunk, name)) for name in names})


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
        pairs, source = np.arange(len(encoded)).reshape(-1, 2), Examples(path, images=encoded)
    elif path.suffix == ".npz":
        pairs, same, source, found = _archive(path, embeddings is not None)
        embeddings = found if embeddings is None else embeddings
    elif embeddings is not None:
        pairs, same = resolve(path, NamedRows(len(embeddings), names).row_of)
        source = None
    elif images is not None:
        folder = ImageFolder(images)
        pairs, same = resolve(path, folder.row_of)
        source = Examples(images, images=folder.paths)
    else:
        raise ConfigError(
            "a folder of images for this list of names expected, found none",
            where=path,
            fix="give --images",
        )
    counts = [source.num_examples] if source else []
    _check(path, pairs, same, counts if embeddings is None else [*counts, len(embeddings)])
    return PairSet(pairs, same, source, embeddings)


def _check(path, pairs, same, counts):
    if pairs.ndim != 2 or pairs.shape[1:] != (2,) or same.shape != (len(pairs),):
        raise DataError(
            f"pairs (n, 2) and same (n,) expected, found {pairs.shape} and {same.shape}",
            where=path,
        )
    if not len(pairs):
        raise DataError("at least one pair expected, found none", where=path)
    if not 0 <= pairs.min() <= pairs.max() < min(counts):
        raise DataError(
            f"pairs of rows 0 to {min(counts) - 1} expected, found {pairs.min()} to {pairs.max()}",
            where=path,
            fix="check that pairs and examples belong together",
        )


def _archive(path, has_embeddings):
    """Pairs, flags, examples and embeddings of an ``.npz`` file."""
    arrays = read_arrays(path)
    kinds = [name for name in ("images", "features", "embeddings") if name in arrays]
    missing = [name for name in ("pairs", "same") if name not in arrays]
    if not kinds and not has_embeddings:
        missing.append("images, features or embeddings")
    if missing:
        raise DataError(
            f"array {missing[0]} expected, found {', '.join(arrays) or 'none'}", where=path
        )
    pairs, same = arrays["pairs"], arrays["same"]
    _check_types(path, pairs, same)
    source = None
    if "images" in arrays:
        source = Examples(path, images=_pixels(path, arrays["images"]))
    elif "features" in arrays:
        source = Examples(path, features=matrix(path, "features", arrays["features"]))
    embeddings = None
    if "embeddings" in arrays:
        embeddings = matrix(path, "embeddings", arrays["embeddings"])
    return pairs.astype(np.int64), same.astype(bool), source, embeddings


def _check_types(path, pairs, same):
    if pairs.dtype.kind not in "iu" or not np.isin(same, (0, 1)).all():
        raise DataError(
            f"integers as pairs and flags as same expected, found {pairs.dtype} and {same.dtype}",
            where=path,
        )


def _pixels(path, images):
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataError(
            f"images: uint8 (m, height, width[, channels]) expected, found {images.dtype} "
            f"{images.shape}",
            where=path,
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
    """A ``PairSet`` drawn from the examples of a reader that have one label each.

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
                f"{len(labels):,} embeddings as there are examples expected, found "
                f"{len(embeddings):,}",
                where=reader.path,
            )
        return PairSet(pairs, same, embeddings=embeddings)
    wanted = np.zeros(len(labels), bool)
    wanted[pairs] = True
    return PairSet((np.cumsum(wanted) - 1)[pairs], same, _Selected(reader, wanted))


def _labels_of(reader):
    labels = []
    for chunk in reader.chunks(4096):
        for row, given in enumerate(chunk.labels, len(labels) + 1):
            if len(given) != 1:
                raise DataError(
                    f"one label per example expected, found {len(given)} in example {row}",
                    where=reader.path,
                )
        labels += [given[0] for given in chunk.labels]
    return labels
