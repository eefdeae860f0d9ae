"""Chunks of raw examples to rows: texts vectorised, labels numbered, features, images checked."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import DataError
from tfxc.data.kinds import TEXT, kind_of_features
from tfxc.data.lists import gather_lists
from tfxc.data.rows import Rows
from tfxc.data.text.joined import JoinedFeatures, given_terms

if TYPE_CHECKING:
    from tfxc.data.chunk import Chunk
    from tfxc.data.images.conversion import ImageConverter
    from tfxc.data.kinds import FeatureKind
    from tfxc.data.label_ids import LabelNumbering


class Converter:
    """Turns the chunks of a reader into ``Rows`` of one feature space and one label vocabulary.

    Args:
        numbering: a frozen ``LabelNumbering``.
        num_features: width of the feature space, length of the dense vectors or values of an image.
        kind: ``FeatureKind`` of the rows.
        text_features: fitted text features, or None for the features the format gives.
        normalise: ``"l2"`` scales each row of given features to length 1.
        jobs: processes that vectorise texts.
        images: ``ImageConverter`` of images, else None.
    """

    def __init__(
        self,
        *,
        numbering: "LabelNumbering",
        num_features: int,
        kind: "FeatureKind",
        text_features: Any = None,
        normalise: str | None = None,
        jobs: int = 1,
        images: "ImageConverter | None" = None,
    ) -> None:
        self._images = images
        self._numbering, self._num_features, self._kind = numbering, num_features, kind
        self._text_features, self._normalise, self._jobs = text_features, normalise, jobs

    def rows(
        self, chunks: "Iterable[Chunk]", where: str | Path, *, training: bool
    ) -> Iterator[Rows]:
        """Yields one ``Rows`` per chunk; without the images that cannot be decoded.

        Args:
            where: the source, for messages.
            training: leave out labels that are not in the vocabulary.

        Raises:
            DataError: features of another kind or width, NaN or infinity, a label out of range, an
                image that cannot be used.
        """
        first = 0
        for chunk in chunks:
            check_kind(chunk, self._wanted, where)
            indptr, ids = self._numbering.convert(chunk.labels, where, first, training=training)
            if self._images is not None:
                kept, arrays = self._images.convert(chunk, where, first)
                indptr, ids = gather_lists(indptr, kept, ids)
            else:
                arrays = self._kind.arrays_of(self._features(chunk, where, first))
            yield Rows(
                self._kind, arrays, label_indptr=indptr, label_ids=ids,
                num_features=self._num_features,
            )  # fmt: skip
            first += len(chunk)

    @property
    def _wanted(self):
        return self._kind.chunk_field if self._text_features is None else TEXT.chunk_field

    def _features(self, chunk, where, first):
        if given_terms(self._text_features) is not None:
            assert isinstance(self._text_features, JoinedFeatures)
            if (given := chunk.features) is not None:
                _check_finite(given, kind_of_features(given, where), where, first)
            return self._text_features.transform(chunk.texts, self._jobs, given, where)
        if self._text_features is not None:
            return self._text_features.transform(chunk.texts, jobs=self._jobs)
        features, kind = chunk.features, kind_of_features(chunk.features, where)
        self._check_width(features, kind, where)
        _check_finite(features, kind, where, first)
        return features if self._normalise is None else kind.normalised(features, self._normalise)

    def arrays_of(self, chunk: "Chunk", where: str | Path) -> dict[str, np.ndarray]:
        """The features of a chunk as the arrays of ``Rows``; raises as ``rows``."""
        return self._kind.arrays_of(self._features(chunk, where, 0))

    def _check_width(self, features, kind, where):
        width, expected = kind.width(features), self._kind.name
        if kind is not self._kind or not kind.fits(width, self._num_features):
            raise DataError(
                f"{self._num_features} {expected} features as in the training split expected, "
                f"found {width} {kind.name} ones",
                where=where,
                fix="give every split the same features (see the reader's option num_features)",
            )


_REMEDIES = {
    "texts": "remove text_features",
    "features": "set in text_features how to vectorise them",
    "images": "remove data.images",
}


def check_kind(
    chunk: "Chunk", wanted: str, where: str | Path, fix: str | None = "give examples as in training"
) -> None:
    """Refuses a chunk without what is needed.

    Args:
        wanted: ``"texts"``, ``"features"`` or ``"images"``.
        where, fix: of the error; ``fix=None`` says how to change the settings.

    Raises:
        DataError: texts where features are needed, and the like.
    """
    if getattr(chunk, wanted) is not None:
        return
    found = next((kind for kind in _REMEDIES if getattr(chunk, kind) is not None), "none")
    if fix is None:
        fix = _REMEDIES[wanted]
        if wanted == "features" and found == "images":
            fix = "give images in every split, and no data.normalise"
    raise DataError(f"examples with {wanted} expected, found {found}", where=where, fix=fix)


def report_unused_features(chunk: "Chunk", where: str | Path, split: str) -> None:
    """Reports on standard error that the features of a split are not used in addition to its texts.

    Args:
        chunk: its first ``Chunk``, of a set whose texts are vectorised.
        where: the source.
        split: its name.
    """
    if chunk.features is not None:
        print(
            f"{split}: the features of {where} are not used, as data.text_features makes them from "
            f"the texts; remove text_features to use those of the file",
            file=sys.stderr,
        )


def _check_finite(features, kind, where, first):
    row = kind.first_not_finite(features)
    if row is not None:
        raise DataError(
            f"finite feature values expected, found NaN or infinity in example {first + row + 1}",
            where=where,
            fix="correct the value",
        )
