"""The memory of a run: its training examples and label texts, searched, appended to and cut.

A set of rows is a layer of one parent whose nodes are the rows, see
``tfxc.ops.search.beam_search.chunked_layer``: an inverted index. The rows with the largest inner
products are found exactly, by a kernel, or by NumPy where that is not built.
"""

import dataclasses
import itertools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic
import scipy.sparse
from annotated_types import Ge, Le

from tfxc.core.bounds import Count, Natural, Positive
from tfxc.core.resources import thread_count
from tfxc.core.storage import checksums
from tfxc.core.storage.files import write_array, write_json
from tfxc.core.storage.reading import read_array, read_record
from tfxc.ops.csr import unit_rows
from tfxc.ops.search.beam_search.chunked_layer import ChunkedLayer
from tfxc.ranker.fusion.fused_numpy import (
    Fusion,
    Parts,
    Rows,
    Search,
    entry_splits,
    nearest_rows,
)
from tfxc.ranker.search import load_layer
from tfxc.ranker.store import PARAMETERS, RESTORE, write_layer

try:
    from tfxc.ops.search import _fusion as kernels
except ImportError:  # not built: NumPy does the work
    kernels = None  # type: ignore[assignment]

#: The folder inside a run.
FOLDER = "memory"
# A long list has more than every fourth row; rows of that many entries, on average, are worth a
# second index. Both were measured on the n-grams of Debian and ICD-10-CM.
_SHORT = 4
_LONG_ROW = 128
#: A number of the first ten places of a list.
Places = Annotated[int, Ge(0), Le(10)]


class MemorySettings(pydantic.BaseModel):
    """How a memory is searched.

    Attributes:
        blocks: where blocks of features that are compared on their own begin, and their number.
        neighbours: nearest examples, and nearest texts, that count.
        power: a neighbour votes with this power of its similarity.
        tail_places: of the first ten places, how many are kept for rare labels.
        rare: most training examples of such a label.
    """

    blocks: list[int]
    neighbours: Count = 50
    power: Positive = 2.0
    tail_places: Places = 0
    rare: Natural = 5


@dataclasses.dataclass(frozen=True)
class ExampleMemory:
    """Training examples and label texts, and what their similarities say of labels.

    Attributes:
        settings: how it is searched.
        rows: layer of the training examples for each block of features, see ``block_layers``.
        labels: CSR (examples, num_labels) of ones.
        texts: layers of the labels' texts, a row for each label; empty without texts.
        ranker_labels: int32, the label of each label of the run's ranker, -1 if it was removed.
        trees: see ``fused_numpy.Parts``.

    Example:
        >>> words = scipy.sparse.csr_matrix(np.float32([[1, 0], [3, 4]]))
        >>> labels = scipy.sparse.csr_matrix(np.float32([[0, 1], [1, 0]]))
        >>> memory = ExampleMemory.of(MemorySettings(blocks=[0, 2]), words, labels)
        >>> memory.fusion().top_k(csr_rows(words[:1]), None, 2)[0].tolist()
        [[1, 0]]
    """

    settings: MemorySettings
    rows: Sequence[ChunkedLayer]
    labels: scipy.sparse.csr_matrix
    texts: Sequence[ChunkedLayer] = ()
    ranker_labels: np.ndarray | None = None
    trees: Mapping[str, np.ndarray] | None = None

    @classmethod
    def of(
        cls,
        settings: MemorySettings,
        features: scipy.sparse.csr_matrix,
        labels: scipy.sparse.csr_matrix,
        texts: scipy.sparse.csr_matrix | None = None,
    ) -> "ExampleMemory":
        """Makes a memory of features (examples, D), labels, and features of texts (labels, D)."""
        layers = () if texts is None else block_layers(texts, settings.blocks)
        return cls(settings, block_layers(features, settings.blocks), labels, layers)

    def fusion(self, threads: int | None = None, native: bool | None = None) -> Fusion:
        """Returns what finds labels.

        Args:
            threads: of the search, at most this many; None means all cores.
            native: False takes the paths of NumPy.
        """
        settings = self.settings
        widths = np.diff(settings.blocks).tolist()
        text_rows = [
            csr_rows(_matrix_of(layer, width))
            for layer, width in zip(self.texts, widths, strict=False)
        ]
        common = (settings.neighbours, threads, native)
        layers = zip(self.rows, widths, strict=True)
        text_layers = zip(self.texts, widths, text_rows, strict=False)
        parts = Parts(
            [_nearest(layer, width, *common) for layer, width in layers],
            [_nearest(layer, width, *common, rows) for layer, width, rows in text_layers],
            text_rows,
            self.labels.indptr.astype(np.int64),
            self.labels.indices.astype(np.int64),
            np.bincount(self.labels.indices, minlength=self.labels.shape[1]),
            settings.blocks,
            self.ranker_labels,
            self.trees,
        )
        return Fusion(
            parts,
            settings.power,
            settings.tail_places,
            settings.rare,
            kernels=None if native is False else kernels,
        )

    def with_examples(
        self, features: scipy.sparse.csr_matrix, labels: scipy.sparse.csr_matrix
    ) -> "ExampleMemory":
        """Returns a memory that has more examples; answers are as if it always had.

        Args:
            features: CSR (new examples, D).
            labels: CSR (new examples, labels), as many labels as before or more.
        """
        new = block_layers(features, self.settings.blocks)
        old = self.labels.copy()
        old.resize(old.shape[0], labels.shape[1])
        rows = [_joined(*pair) for pair in zip(self.rows, new, strict=True)]
        joined = scipy.sparse.vstack([old, labels], format="csr", dtype=np.float32)
        more = labels.shape[1] - self.labels.shape[1]
        texts = self.texts
        if texts and more:
            none = scipy.sparse.csr_matrix((more, features.shape[1]), dtype=np.float32)
            empty = block_layers(none, self.settings.blocks)
            texts = [_joined(*pair) for pair in zip(texts, empty, strict=True)]
        return dataclasses.replace(self, rows=rows, labels=joined, texts=texts)

    def with_texts(
        self, features: scipy.sparse.csr_matrix, ids: Sequence[int] | None = None
    ) -> "ExampleMemory":
        """Returns a memory of texts that has more of them, as if it always had.

        Args:
            features: CSR (texts, D).
            ids: the label of each text: one that has had no text, or a new one; the new ones are
                the next numbers, each once. None means that all are new, in this order.
        """
        count = self.labels.shape[1]
        places = np.arange(count, count + features.shape[0]) if ids is None else np.asarray(ids)
        new = block_layers(features, self.settings.blocks)
        labels = self.labels.copy()
        labels.resize(labels.shape[0], max(count, places.max(initial=-1) + 1))
        texts = [_joined(*pair, places) for pair in zip(self.texts, new, strict=True)]
        return dataclasses.replace(self, labels=labels, texts=texts)

    def without_labels(self, removed: Sequence[int] | np.ndarray) -> "ExampleMemory":
        """Returns a memory that never had some labels, nor examples with no other label.

        Args:
            removed: ids of labels; the others keep their order.
        """
        kept = np.setdiff1d(np.arange(self.labels.shape[1]), removed)
        labels = scipy.sparse.csr_matrix(self.labels[:, kept])
        bare = (np.diff(labels.indptr) == 0) & (np.diff(self.labels.indptr) > 0)
        rows = [_picked(layer, np.flatnonzero(~bare)) for layer in self.rows]
        texts = [_picked(layer, kept) for layer in self.texts]
        numbers = np.full(self.labels.shape[1] + 1, -1, np.int32)  # the last is that of -1
        numbers[kept] = np.arange(len(kept))
        of_ranker = None if self.ranker_labels is None else numbers[self.ranker_labels]
        return dataclasses.replace(
            self, rows=rows, labels=labels[~bare], texts=texts, ranker_labels=of_ranker
        )

    def save(self, run: str | Path) -> None:
        """Writes the folder ``memory`` of a run, its checksums last."""
        folder = Path(run) / FOLDER
        shutil.rmtree(folder, ignore_errors=True)  # of a training that was killed here
        names = []
        for kind, layers in (("rows", self.rows), ("texts", self.texts)):
            for number, layer in enumerate(layers):
                write_layer(layer, folder / f"{kind}-{number}")
                names.append(f"{kind}-{number}/{checksums.FILE}")
        for name, array in self.arrays().items():
            write_array(folder / f"{name}.npy", array)
            names.append(f"{name}.npy")
        write_json(folder / PARAMETERS, {**self.settings.model_dump(), **self.shape()})
        checksums.record(folder, [PARAMETERS, *names])

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the arrays that are neither rows nor texts, by their files' names."""
        arrays: dict[str, Any] = {
            "row_splits": self.labels.indptr.astype(np.int64),
            "row_labels": self.labels.indices.astype(np.int32),
        }
        if self.ranker_labels is not None:
            arrays["ranker_labels"] = self.ranker_labels
        return arrays | {f"trees-{name}": array for name, array in (self.trees or {}).items()}

    def shape(self) -> dict[str, Any]:
        """Returns what the arrays do not say."""
        return {"num_labels": self.labels.shape[1], "has_texts": bool(self.texts)}

    @classmethod
    def load(cls, run: str | Path) -> "ExampleMemory":
        """Opens the memory of a run; rows and texts are mapped into memory.

        Raises:
            DataError: a file is missing or damaged.
        """
        folder = Path(run) / FOLDER
        param = read_record(folder / PARAMETERS, _Parameters, fix=RESTORE)
        checksums.check(folder, RESTORE)
        numbers = range(len(param.blocks) - 1)
        arrays = {path.stem: read_array(path, fix=RESTORE) for path in folder.glob("*.npy")}
        splits = arrays["row_splits"]
        ones = np.ones(len(arrays["row_labels"]), np.float32)
        shape = (len(splits) - 1, param.num_labels)
        trees = {
            name.removeprefix("trees-"): array
            for name, array in arrays.items()
            if name.startswith("trees-")
        }
        return cls(
            MemorySettings(**param.model_dump(exclude={"num_labels", "has_texts"})),
            [load_layer(folder / f"rows-{number}") for number in numbers],
            scipy.sparse.csr_matrix((ones, arrays["row_labels"], splits), shape),
            [load_layer(folder / f"texts-{number}") for number in numbers if param.has_texts],
            arrays.get("ranker_labels"),
            trees or None,
        )


class _Parameters(MemorySettings):
    """The file of the settings."""

    num_labels: Count
    has_texts: bool


def block_layers(features: scipy.sparse.csr_matrix, blocks: Sequence[int]) -> list[ChunkedLayer]:
    """Returns the layer of each block of columns, whose rows have length 1.

    Args:
        features: float32 CSR (rows, D).
        blocks: where the blocks begin, and D.

    Example:
        >>> rows = scipy.sparse.csr_matrix(np.float32([[3, 4, 0], [0, 0, 2]]))
        >>> [layer.values.round(1).tolist() for layer in block_layers(rows, [0, 2, 3])]
        [[0.6000000238418579, 0.800000011920929], [1.0]]
    """
    layers = []
    for first, last in itertools.pairwise(blocks):
        block = features[:, first:last].astype(np.float32)
        layers.append(_layer_of(unit_rows(scipy.sparse.csr_matrix(block))))
    return layers


def csr_rows(matrix: scipy.sparse.csr_matrix) -> Rows:
    """Returns the arrays of a CSR matrix as ``fused_numpy`` reads them."""
    values = np.ascontiguousarray(matrix.data, np.float32)
    return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), values


def _layer_of(rows: scipy.sparse.csr_matrix) -> ChunkedLayer:
    by_feature = rows.tocsc()
    by_feature.sort_indices()
    counts = np.diff(by_feature.indptr)
    place = np.uint16 if rows.shape[0] <= 1 << 16 else np.int32
    return ChunkedLayer(
        children=np.arange(rows.shape[0], dtype=np.int32),
        child_splits=np.array([0, rows.shape[0]], np.int64),
        rows=np.flatnonzero(counts).astype(np.int32),
        row_splits=np.array([0, np.count_nonzero(counts)], np.int64),
        entry_splits=np.append(0, np.cumsum(counts[counts > 0])).astype(np.int64),
        columns=by_feature.indices.astype(place),
        values=by_feature.data,
        trained=np.ones(rows.shape[0], bool),
    )


def _matrix_of(layer: ChunkedLayer, width: int) -> scipy.sparse.csr_matrix:
    parts = (layer.values, layer.columns.astype(np.int32), entry_splits(layer, width))
    return scipy.sparse.csc_matrix(parts, (len(layer.children), width)).tocsr()


def _joined(
    first: ChunkedLayer, second: ChunkedLayer, places: np.ndarray | None = None
) -> ChunkedLayer:
    """Returns the rows of both; ``places`` are those of the second, None means at the end."""
    width = 1 + max(int(layer.rows.max(initial=-1)) for layer in (first, second))
    rows = scipy.sparse.vstack([_matrix_of(layer, width) for layer in (first, second)], "csr")
    if places is not None:
        count = len(first.children)
        sources = np.arange(max(count, places.max(initial=-1) + 1))
        sources[places] = count + np.arange(len(places))
        rows = rows[sources]
    return _layer_of(rows)


def _picked(layer: ChunkedLayer, rows: np.ndarray) -> ChunkedLayer:
    """Returns some of the rows."""
    return _layer_of(_matrix_of(layer, 1 + int(layer.rows.max(initial=-1)))[rows])


def _nearest(
    layer: ChunkedLayer,
    width: int,
    k: int,
    threads: int | None,
    native: bool | None,
    by_row: Rows | None = None,
) -> Search:
    """Returns what finds the k rows with the largest inner products above 0."""
    count = len(layer.children)
    lists = (entry_splits(layer, width), layer.columns, layer.values)
    if kernels is None or native is False:
        return lambda rows: nearest_rows(rows, *lists, count, k)
    most = thread_count(threads)
    if 2 * layer.values.size > width * count:  # as vectors of a static table
        dense = _matrix_of(layer, width).T.toarray(order="C")
        return lambda rows: kernels.nearest_dense(*rows, dense, k, most)
    long_lists = _long_lists(layer, width, by_row)
    return lambda rows: kernels.nearest_rows(*rows, *lists, count, k, most, long_lists)


def _long_lists(layer: ChunkedLayer, width: int, by_row: Rows | None) -> tuple[Any, ...] | None:
    """Returns what saves a search the longest lists, see ``by_row`` of ``kernels.nearest_rows``.

    Args:
        layer: rows of length 1.
        width: of their block of features.
        by_row: the same rows, if they are at hand.

    Returns:
        None where it would save nothing, or there are numbers below 0.
    """
    count = len(layer.children)
    if layer.values.size < _LONG_ROW * count or layer.values.min(initial=0) < 0:
        return None
    longest = count // _SHORT
    entries = np.diff(layer.entry_splits)
    is_long = np.repeat(entries > longest, entries)
    if not is_long.any():
        return None
    squares = np.square(layer.values[is_long], dtype=np.float64)
    squares = np.bincount(layer.columns[is_long], squares, count)
    lengths = np.sqrt(squares).astype(np.float32) * np.float32(1.000001)  # not below the true ones
    return longest, lengths, *(by_row or csr_rows(_matrix_of(layer, width)))
