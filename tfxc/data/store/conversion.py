"""Chunks of raw examples to rows: texts vectorised, labels numbered, features, images checked."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tfxc.core.errors import DataError
from tfxc.core.messages import NOTES
from tfxc.data.examples.kinds import TEXT, kind_of_features
from tfxc.data.examples.lists import gather_lists
from tfxc.data.examples.rows import Rows
from tfxc.data.text.registry import given_terms

if TYPE_CHECKING:
    import scipy.sparse

    from tfxc.data.examples.chunk import Chunk
    from tfxc.data.examples.kinds import FeatureKind
    from tfxc.data.examples.kinds.base import Given
    from tfxc.data.store.image_conversion import ImageConverter


class Numbering(Protocol):
    """Numbers labels."""

    def convert(self, labels: Sequence[Sequence[Any]]) -> tuple[np.ndarray, np.ndarray]:
        """Returns ``indptr`` int64 (n + 1,) and ``ids`` int32 of label lists, ascending and
        distinct.
        """


class Converter:
    """Turns the chunks of a reader into ``Rows`` of one feature space and one label vocabulary.

    Args:
        numbering: numbers the labels, see ``Numbering``; None where only ``arrays_of`` is called.
        num_features: width of the feature space, length of the dense vectors or values of an image.
        kind: ``FeatureKind`` of the rows.
        text_features: fitted text features, or None for the features the format gives.
        normalise: ``"l2"`` scales each row of given features to length 1.
        images: ``ImageConverter`` of images, else None.
    """

    def __init__(
        self,
        *,
        numbering: Numbering | None,
        num_features: int,
        kind: "FeatureKind",
        text_features: Any = None,
        normalise: str | None = None,
        images: "ImageConverter | None" = None,
    ) -> None:
        self._images = images
        self._numbering = numbering
        self._num_features = num_features
        self._kind = kind
        self._text_features = text_features
        self._normalise = normalise

    def rows(self, chunks: "Iterable[Chunk]", where: str | Path) -> Iterator[Rows]:
        """Yields one ``Rows`` per chunk; without the images that cannot be decoded.

        Args:
            where: the source, for messages.

        Raises:
            DataError: features of another kind or width, NaN or infinity, an image that cannot be
                used.
        """
        assert self._numbering is not None, "rows have labels"
        first = 0
        for chunk in chunks:
            indptr, ids = self._numbering.convert(chunk.labels)
            if self._images is not None:
                check_kind(chunk, self._wanted, where)
                decoded, arrays = self._images.convert(chunk, where, first)
                indptr, ids = gather_lists(indptr, decoded, ids)
            else:
                arrays = self.arrays_of(chunk, where, first)
            yield Rows(
                self._kind,
                arrays,
                label_indptr=indptr,
                label_ids=ids,
                num_features=self._num_features,
            )
            first += len(chunk)

    @property
    def _wanted(self) -> str:
        return self._kind.chunk_field if self._text_features is None else TEXT.chunk_field

    def _features(self, chunk: "Chunk", where: str | Path, first: int) -> Any:
        if given_terms(self._text_features) is not None:
            if (given := chunk.features) is not None:
                check_finite(given, kind_of_features(given, where), where, first)
            assert chunk.texts is not None, "the kind is checked"
            return self._text_features.transform(chunk.texts, given, where)
        if self._text_features is not None:
            return self._text_features.transform(chunk.texts)
        features = chunk.features
        kind = kind_of_features(chunk.features, where)
        check_width(kind, kind.width(features), self._kind, self._num_features, where)
        check_finite(features, kind, where, first)
        return features if self._normalise is None else kind.normalised(features, self._normalise)

    def arrays_of(self, chunk: "Chunk", where: str | Path, first: int = 0) -> dict[str, np.ndarray]:
        """Returns the features of a chunk without images as the arrays of ``Rows``; raises as
        ``rows``.

        Args:
            where: the source, for messages.
            first: number of the chunk's first example.
        """
        check_kind(chunk, self._wanted, where)
        return self._kind.arrays_of(self._features(chunk, where, first))


def check_width(
    kind: "Given", width: int, training_kind: "FeatureKind", num_features: int, where: str | Path
) -> None:
    """Refuses given features of another kind or width than those of the training split.

    Args:
        kind, width: of the features.
        training_kind, num_features: of the training split.
        where: the source, for messages.

    Raises:
        DataError: they differ.
    """
    if kind is not training_kind or not kind.fits(width, num_features):
        raise DataError(
            f"these are {width} {kind.name} features, but the training split has {num_features} "
            f"{training_kind.name} ones",
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
    present = next((kind for kind in _REMEDIES if getattr(chunk, kind) is not None), None)
    if fix is None:
        fix = _REMEDIES[wanted]
        if wanted == "features" and present == "images":
            fix = "give images in every split, and no data.normalise"
    contents = "" if present is None else f", but {present}"
    raise DataError(f"the examples have no {wanted}{contents}", where=where, fix=fix)


def report_unused_features(where: str | Path, split: str) -> None:
    """Reports that the features of a split are not used in addition to its texts.

    Args:
        where: the source.
        split: its name.
    """
    NOTES.info(
        f"{split}: the features of {where} are not used, as data.text_features makes them from "
        f"the texts; remove text_features to use those of the file"
    )


def check_finite(
    features: "np.ndarray | scipy.sparse.csr_matrix", kind: "Given", where: str | Path, first: int
) -> None:
    """Refuses given features with NaN or infinity.

    Args:
        features: as readers return them.
        kind: theirs.
        where: the source, for messages.
        first: number of the first example.

    Raises:
        DataError: naming the example.
    """
    row = kind.first_not_finite(features)
    if row is not None:
        raise DataError(
            f"example {first + row + 1} has a feature that is NaN or infinite",
            where=where,
            fix="correct the value",
        )
