"""Prediction with a linear ranker: beam search through the layers of a model folder."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pydantic

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage import checksums
from tfxc.core.storage.reading import read_array, read_record
from tfxc.decision.decision import at_least
from tfxc.ops.search.beam_search import beam_search
from tfxc.ops.search.beam_search.chunked_layer import ChunkedLayer, column_of
from tfxc.ops.search.beam_search.post_processors import PostProcessor
from tfxc.ranker.post_processors import post_processor
from tfxc.ranker.store import PARAMETERS, RESTORE

if TYPE_CHECKING:
    import scipy.sparse

    from tfxc.ops.search.pair_scores import PairScores


FORMAT = 1


def search(
    layers: Sequence[ChunkedLayer],
    features: "scipy.sparse.csr_matrix",
    only_topk: Sequence[int],
    post_processors: Sequence[str],
    *,
    bias: float | None = None,
    csr_codes: "scipy.sparse.csr_matrix | None" = None,
    threads: int | None = None,
) -> "scipy.sparse.csr_matrix":
    """Calls ``ops.search.beam_search.beam_search.search`` with post-processors by name.

    Args:
        layers, features, only_topk, bias, csr_codes, threads: see there.
        post_processors: a name per layer.

    Returns:
        CSR float32 (N, K).

    Raises:
        ConfigError, DataError: see there; an unknown post-processor.
    """
    rules = [post_processor(name) for name in post_processors]
    return beam_search.search(
        layers, features, only_topk, rules, bias=bias, csr_codes=csr_codes, threads=threads
    )


_Count = Annotated[int, pydantic.Field(ge=1, lt=1 << 31)]


class _Settings(pydantic.BaseModel):
    only_topk: list[_Count]
    post_processor: list[str]


class _Parameters(pydantic.BaseModel):
    """What a search needs of ``param.json``."""

    format: int
    layers: _Count
    num_features: _Count
    num_labels: _Count
    bias: pydantic.FiniteFloat | None
    settings: _Settings


class Ranker:
    """A trained or imported linear ranker whose weights stay in their files.

    Args:
        layers: layers' weights from the top, see ``ops.search.beam_search.chunked_layer``.
        num_features: D.
        bias: of the constant last feature; None for none.
        only_topk: nodes kept in every layer, a list; the last is not used here.
        post_processors: names, a list with one for every layer.

    Attributes:
        num_features, num_labels: D and L.
        sizes: nodes of every layer, L last.

    Raises:
        ConfigError, DataError: see ``tfxc.ops.search.beam_search.beam_search.BeamSearch``.
    """

    def __init__(
        self,
        layers: Sequence[ChunkedLayer],
        num_features: int,
        *,
        bias: float | None,
        only_topk: Sequence[int],
        post_processors: Sequence[str],
        native: bool | None = None,
    ) -> None:
        self._last = layers[-1]
        self._search = beam_search.BeamSearch(layers, num_features, bias=bias, native=native)

        def pairs() -> "PairScores":
            from tfxc.ops.search.pair_scores import PairScores

            return PairScores(layers, num_features, bias=bias, native=native)

        self._pairs = functools.cache(pairs)
        self.num_features = num_features
        self.bias = bias
        self.sizes = self._search.sizes
        self.num_labels = self.sizes[-1]
        self.only_topk = list(only_topk)
        self.post_processors = [post_processor(name) for name in post_processors]

    @classmethod
    def load(cls, folder: str | Path, native: bool | None = None) -> "Ranker":
        """Opens a model folder; the weights are mapped into memory.

        Args:
            folder: what the training or ``write_pecos_model`` wrote.
            native: see ``tfxc.ops.search.beam_search.beam_search.BeamSearch``.

        Raises:
            DataError: a file is missing or damaged, or the files do not fit together.
        """
        folder = Path(folder) / "ranker"
        path = folder / PARAMETERS
        param = read_record(path, _Parameters, fix="copy the whole model folder")
        checksums.check(folder, RESTORE)
        if param.format != FORMAT:
            raise DataError(
                f"its format is {param.format}, not {FORMAT}", where=path, fix="train it again"
            )
        depth = param.layers
        only_topk = param.settings.only_topk
        rules = param.settings.post_processor
        for name, values in (("only_topk", only_topk), ("post_processors", rules)):
            if len(values) != depth:
                raise DataError(
                    f"there are {len(values)} values for {depth} layers", where=f"{path}, {name}"
                )
        for rule in rules:
            post_processor(rule, where=path)
        layers = [load_layer(folder / f"layer-{number}") for number in range(depth)]
        try:
            ranker = cls(
                layers,
                param.num_features,
                bias=param.bias,
                only_topk=only_topk,
                post_processors=rules,
                native=native,
            )
        except DataError as error:
            raise DataError(str(error), where=folder) from error
        if ranker.num_labels != param.num_labels:
            raise DataError(
                f"num_labels is {param.num_labels}, but the last layer has {ranker.num_labels}",
                where=path,
            )
        return ranker

    def predict(
        self,
        features: "np.ndarray | scipy.sparse.csr_matrix",
        k: int = 10,
        *,
        beam_size: int | None = None,
        post_processor: str | None = None,
        min_score: float | None = None,
        csr_codes: "scipy.sparse.csr_matrix | None" = None,
        threads: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the best labels of every row.

        Args:
            features: float32 CSR (N, D), or a dense array.
            k: labels wanted.
            beam_size: nodes kept in every layer but the last; None means the model's.
            post_processor: of all layers; None means the model's.
            min_score: labels with a lower score are left out.
            csr_codes: CSR (N, parents of the first layer), scored nodes to begin with; needed
                where the model has only the lower layers of a tree.
            threads: at most this many; None means all cores.

        Returns:
            ids int32 and scores float32 (N, k), by descending score, then ascending id; where
            fewer labels are found, the rest is id −1 with score minus infinity.

        Raises:
            ConfigError: k is not in 1..L, beam_size below 1, an unknown post-processor.
            DataError: another number of features, NaN or infinity in them.
        """
        if not 1 <= k <= self.num_labels:
            raise ConfigError(
                f"{k} is out of range, as there are {self.num_labels} labels",
                where="k",
                fix=f"give 1 to {self.num_labels}",
            )
        if beam_size is not None and beam_size < 1:
            raise ConfigError(
                f"{beam_size} is less than 1", where="beam_size", fix="give 1 or more"
            )
        inner = self.only_topk[:-1] if beam_size is None else [beam_size] * (len(self.sizes) - 1)
        rules = self._rules(post_processor)
        ids, scores, counts = self._search.top(
            features, [*inner, k], rules, csr_codes=csr_codes, threads=threads
        )
        if len(counts) and counts.min() < k:
            short = np.arange(k) >= counts[:, None]
            ids[short] = -1
            scores[short] = -np.inf
        return (ids, scores) if min_score is None else at_least(ids, scores, min_score)

    def score_pairs(
        self,
        features: "np.ndarray | scipy.sparse.csr_matrix",
        pairs: "scipy.sparse.csr_matrix",
        *,
        post_processor: str | None = None,
        threads: int | None = None,
    ) -> "scipy.sparse.csr_matrix":
        """Returns scores of chosen labels, whether or not a search would find them.

        Args:
            features: float32 CSR (N, D), or a dense array.
            pairs: sparse (N, L); the places of its entries are the labels to score.
            post_processor, threads: see ``predict``.

        Returns:
            float32 CSR (N, L) with the places of ``pairs``, ascending in each row; minus infinity
            for a label that is never predicted, as it had no training example.

        Raises:
            ConfigError: an unknown post-processor.
            DataError: another number of features, rows or labels, NaN or infinity in the features.
        """
        return self._pairs().score(features, pairs, self._rules(post_processor), threads)

    def weights_of(self, label: int) -> "scipy.sparse.csr_matrix":
        """Returns a label's weights in the last layer, without the bias, float32 CSR (1, D)."""
        return column_of(self._last, label, self.num_features)

    def _rules(self, name: str | None) -> list[PostProcessor]:
        return self.post_processors if name is None else [post_processor(name)] * len(self.sizes)


def load_layer(folder: str | Path) -> ChunkedLayer:
    """Returns a ``ChunkedLayer`` whose arrays are mapped into memory.

    Raises:
        DataError: a file is missing or damaged.
    """
    arrays = {}
    checksums.check(folder, RESTORE)
    for name in ChunkedLayer._fields:
        path = Path(folder) / f"{name}.npy"
        arrays[name] = read_array(path, fix="copy the whole model folder", mapped=True)
    return ChunkedLayer(**arrays)
