"""The first task of a block: its labels, and its features as far as they need no learning."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfxc.core.storage.files import write_array
from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.columns import Arrays
from tfxc.data.examples.kinds import SPARSE, kind_of_features
from tfxc.data.examples.label_ids import OwnLabels, own_labels
from tfxc.data.examples.lists import LabelLists, gather_lists
from tfxc.data.store.blocks.array_file import write_arrays
from tfxc.data.store.blocks.job import KEYS, READ, SplitJob
from tfxc.data.store.blocks.texts import text_arrays
from tfxc.data.store.conversion import Converter, check_finite, check_kind
from tfxc.data.text.base import parts_of
from tfxc.data.text.registry import given_terms
from tfxc.data.text.terms import CutTexts
from tfxc.ops.csr import as_csr

if TYPE_CHECKING:
    from tfxc.data.store.image_conversion import ImageConverter

#: Names of arrays in the file of a block, see ``tfxc.data.store.blocks.job``.
LABEL_BOUNDS = "label_indptr"
LABEL_PLACES = "label_places"
TEXTS = "texts."
_NO_FEATURES = (
    "name their file in the reader's option features, or choose other data.text_features.terms"
)


class BlockRead(NamedTuple):
    """What the first task reports.

    Attributes:
        examples: how many; of images those that were decoded.
        labels: those that occur.
        cuts: of each part of the text features that learns, what it found but the texts' own terms.
        kind, width: of given features, their name and width; None and 0 without any.
        truncated: texts whose tokens were cut off.
    """

    examples: int
    labels: OwnLabels
    cuts: dict[str, CutTexts]
    kind: str | None
    width: int
    truncated: int


class BlockReader:
    """The first task of the blocks of a split.

    Args:
        job: the ``SplitJob``.
    """

    def __init__(self, job: SplitJob) -> None:
        self._job = job

    def read(self, chunk: Chunk, number: int, first: int) -> BlockRead:
        """Reads a block that has no images.

        Args:
            chunk: its examples.
            number: of the block.
            first: number of its first example.

        Raises:
            DataError: a label out of range, features of another kind or width, NaN or infinity.
        """
        job = self._job
        features = chunk.features
        if job.kind is not None:
            arrays, cuts, truncated = self._rows(chunk, first)
        elif job.text_features is None:
            check_kind(chunk, "features", job.where, fix=None)
            arrays = self._given(chunk, first)
            cuts = {}
            truncated = 0
        else:
            check_kind(chunk, "texts", job.where, fix=None)
            arrays, cuts, truncated = self._cut(chunk, first)
        if job.settings.label_texts is not None:
            from tfxc.data.label_texts.keys import keys_of_examples

            keys = keys_of_examples(chunk.texts or [], job.settings.self_part)
            write_array(job.file(KEYS, number), keys)
        kind = None if features is None else kind_of_features(features, job.where)
        label_arrays, labels = self._labels(chunk, first)
        write_arrays(job.file(READ, number), {**label_arrays, **arrays})
        return BlockRead(
            examples=len(chunk),
            labels=labels,
            cuts=cuts,
            kind=None if kind is None else kind.name,
            width=0 if kind is None else kind.width(features),
            truncated=truncated,
        )

    def read_images(
        self, chunk: Chunk, number: int, first: int, images: "ImageConverter"
    ) -> BlockRead:
        """Reads a block of images, which are decoded; no file is written if none of them can be.

        Args:
            chunk, number, first: see ``read``.
            images: the ``ImageConverter``, which counts what it leaves out.
        """
        check_kind(chunk, "images", self._job.where, fix=None)
        label_arrays, labels = self._labels(chunk, first)
        decoded, arrays = images.convert(chunk, self._job.where, first)
        if len(decoded):
            bounds, places = gather_lists(
                label_arrays[LABEL_BOUNDS], decoded, label_arrays[LABEL_PLACES]
            )
            label_arrays = {LABEL_BOUNDS: bounds, LABEL_PLACES: places}
            write_arrays(self._job.file(READ, number), {**label_arrays, **arrays})
        return BlockRead(len(decoded), labels, {}, None, 0, 0)

    def _labels(self, chunk: Chunk, first: int) -> tuple[Arrays, OwnLabels]:
        lists = LabelLists.of(chunk.labels)
        labels, places = own_labels(lists, self._job.where, first, self._job.limit)
        return {LABEL_BOUNDS: lists.indptr, LABEL_PLACES: places}, labels

    def _rows(self, chunk: Chunk, first: int) -> tuple[Arrays, dict[str, CutTexts], int]:
        """Returns the features of which nothing has to be learned any more."""
        job = self._job
        assert job.kind is not None, "all is learned"
        text_features = self._job.text_features
        converter = Converter(
            numbering=None,
            num_features=job.num_features,
            kind=job.kind,
            text_features=text_features,
            normalise=job.settings.normalise,
        )
        before = getattr(text_features, "num_truncated", 0)
        arrays = converter.arrays_of(chunk, job.where, first)
        return arrays, {}, getattr(text_features, "num_truncated", 0) - before

    def _given(self, chunk: Chunk, first: int) -> Arrays:
        """Returns the features that the format gives."""
        features = chunk.features
        norm = self._job.settings.normalise
        kind = kind_of_features(features, self._job.where)
        check_finite(features, kind, self._job.where, first)
        return kind.arrays_of(features if norm is None else kind.normalised(features, norm))

    def _cut(self, chunk: Chunk, first: int) -> tuple[Arrays, dict[str, CutTexts], int]:
        """Returns texts, cut by each part of the text features."""
        assert chunk.texts is not None, "the kind is checked"
        arrays: Arrays = {}
        cuts = {}
        truncated = 0
        given = given_terms(self._job.text_features)
        for name, part in parts_of(self._job.text_features).items():
            if part is given:
                where = self._job.where
                check_kind(chunk, "features", where, fix=_NO_FEATURES)
                features = chunk.features
                check_finite(features, kind_of_features(features, where), where, first)
                features = as_csr(features) if isinstance(features, np.ndarray) else features
                arrays |= _named(name, SPARSE.arrays_of(features).values())
                continue
            if name not in self._job.learning:
                before = getattr(part, "num_truncated", 0)
                rows = part.kind.arrays_of(part.transform(chunk.texts))
                truncated += getattr(part, "num_truncated", 0) - before
                arrays |= _named(name, rows.values())
                continue
            cut = part.cut(chunk.texts)
            if part.cuts_once:
                arrays |= _named(name, [cut.indptr, cut.ids, cut.values])
                truncated += cut.truncated
            else:
                arrays |= text_arrays(TEXTS, chunk.texts)
            cuts[name] = cut.without_texts()
        return arrays, cuts, truncated


def _named(part: str, arrays: Iterable[np.ndarray | None]) -> Arrays:
    """Returns bounds, ids and perhaps values of a part of the text features."""
    names = (f"{part}.indptr", f"{part}.ids", f"{part}.values")
    return {name: array for name, array in zip(names, arrays, strict=False) if array is not None}
