"""The second task of a block: its rows, once labels and terms are numbered."""

from typing import Any, NamedTuple

import numpy as np

from tfxc.data.examples.columns import Arrays
from tfxc.data.examples.kinds import JOINED, SPARSE, TOKENS
from tfxc.data.examples.order import permutation
from tfxc.data.examples.rows import Rows
from tfxc.data.store.blocks.array_file import ArrayFile, write_arrays
from tfxc.data.store.blocks.job import LABELS, READ, ROWS, TERMS, SplitJob
from tfxc.data.store.blocks.reading import LABEL_BOUNDS, LABEL_PLACES, TEXTS
from tfxc.data.store.blocks.texts import texts_of
from tfxc.data.text.base import parts_of
from tfxc.data.text.registry import given_terms
from tfxc.ops.csr import bounds_of

_STREAM = 8  # of random numbers: not that of shards, of folds or of what is held out


class BlockRows(NamedTuple):
    """What the second task reports.

    Attributes:
        examples, nbytes: of the rows.
        truncated: texts whose tokens were cut off only now.
        label_counts: int64 (num_labels,) if they are wanted, else None.
    """

    examples: int
    nbytes: int
    truncated: int
    label_counts: np.ndarray | None


def order_in_block(count: int, seed: int, number: int) -> np.ndarray:
    """Returns the order in which a block of the training split keeps its examples.

    Args:
        count: of its examples.
        seed: of the data settings.
        number: of the block.

    Example:
        >>> sorted(order_in_block(3, seed=0, number=5).tolist())
        [0, 1, 2]
    """
    return permutation(count, seed, _STREAM, number)


class BlockConverter:
    """The second task of the blocks of a split.

    Args:
        job: the ``SplitJob``, whose text features are fitted.
    """

    def __init__(self, job: SplitJob) -> None:
        self._job = job

    def convert(self, number: int, count_labels: bool) -> BlockRows:
        """Writes the rows of a block next to what was read.

        Args:
            number: of the block.
            count_labels: whether to count the labels.
        """
        job = self._job
        assert job.kind is not None, "all is learned"
        arrays = ArrayFile(job.file(READ, number)).read_all()
        labels = self._labels(arrays, number)
        features, truncated = self._features(arrays, number)
        rows = Rows(job.kind, features, **labels, num_features=job.num_features)
        if job.training:
            rows = rows.select(order_in_block(len(rows), job.settings.seed, number))
        write_arrays(job.file(ROWS, number), {**rows.labels, **rows.arrays})
        counts = np.bincount(rows.label_ids, minlength=job.num_labels) if count_labels else None
        return BlockRows(len(rows), rows.nbytes, truncated, counts)

    def _labels(self, arrays: Arrays, number: int) -> Arrays:
        """Returns ids in ascending order, each once; in training without labels of no id."""
        bounds = arrays.pop(LABEL_BOUNDS)
        places = arrays.pop(LABEL_PLACES)
        ids = np.load(self._job.file(LABELS, number))
        if self._job.training:
            ids = np.load(self._job.label_ids_file, mmap_mode="r")[ids]
        rows = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        ids = ids[places]
        keys = np.unique((rows * np.int64(1 << 32) + ids)[ids >= 0])
        counts = np.bincount(keys >> 32, minlength=len(bounds) - 1)
        return {
            "label_indptr": bounds_of(counts),
            "label_ids": (keys & 0xFFFFFFFF).astype(np.int32),
        }

    def _features(self, arrays: Arrays, number: int) -> tuple[Arrays, int]:
        """Arrays of the rows, and how many texts were cut off."""
        kind = self._job.kind
        assert kind is not None, "all is learned"
        text_features = self._job.text_features
        if arrays.keys() >= kind.arrays.keys():
            return {name: arrays[name] for name in kind.arrays}, 0
        before = getattr(text_features, "num_truncated", 0)
        texts = texts_of(arrays, TEXTS) if f"{TEXTS}indptr" in arrays else None
        parts = {
            name: self._part(name, part, arrays, number, texts)
            for name, part in parts_of(text_features).items()
        }
        if kind is JOINED:
            from tfxc.data.text.joined import JoinedRows

            rows: Any = JoinedRows(**parts)
        else:
            rows = parts[""]
        return kind.arrays_of(rows), getattr(text_features, "num_truncated", 0) - before

    def _part(
        self, name: str, part: Any, arrays: Arrays, number: int, texts: list[str] | None
    ) -> Any:
        """Returns what a part of the text features makes of the block."""
        if f"{name}.indptr" not in arrays:
            return part.transform(texts)
        names = (f"{name}.indptr", f"{name}.ids", f"{name}.values")
        bounds, ids, *values = (arrays[name] for name in names if name in arrays)
        terms = self._job.file(TERMS, number, name or "all")
        if terms.exists():
            term_ids = np.load(self._job.term_ids_file(name), mmap_mode="r")[np.load(terms)]
            return part.rows_of(bounds, term_ids[ids], *values)
        if part.kind is TOKENS:
            from tfxc.data.text.tokens import TokenRows

            return TokenRows(bounds, ids, part.num_features)
        bags = {"indptr": bounds, "indices": ids, "values": values[0]}
        matrix = SPARSE.matrix_of(bags, part.num_features)
        given = given_terms(self._job.text_features)
        if given is None or part is not given:
            return matrix
        return given.rows(matrix, self._job.where)
