"""Training of a whole ranker: the layers of a label tree from top to bottom."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage.files import write_errors
from tfxc.parallel import workers
from tfxc.ranker.block_queue import finished
from tfxc.ranker.features import check_features
from tfxc.ranker.layer import NO_LIMITS, Limits, layer_steps, min_budget, train_layer
from tfxc.ranker.negatives import examples_of, scheme_of
from tfxc.ranker.problem import BudgetError, LayerProblem, features_digest
from tfxc.ranker.relevance import relevance_of
from tfxc.ranker.search import FORMAT, load_layer, search
from tfxc.ranker.settings import RankerSettings
from tfxc.ranker.shared_layer import AT_A_TIME, SharedFiles
from tfxc.ranker.store import PARAMETERS, write_parameters

if TYPE_CHECKING:
    from tfxc.labels.cluster_tree import ClusterTree
    from tfxc.ops.linear.settings import SolverSettings


def train_ranker(
    features: scipy.sparse.csr_matrix,
    labels: scipy.sparse.csr_matrix,
    tree: "ClusterTree",
    folder: str | Path,
    settings: RankerSettings | None = None,
    *,
    relevance: scipy.sparse.csr_matrix | None = None,
    negatives: Mapping[int, scipy.sparse.csr_matrix] | None = None,
    limits: Limits = NO_LIMITS,
) -> list[dict[str, int]]:
    """Trains an XR-Linear ranker and writes its model folder.

    Calling it again after a crash resumes after the last finished block; a finished layer whose
    data and settings are the same is not trained again.

    Args:
        features: float32 CSR (N, D), one row per example; memory-mapped arrays will do.
        labels: sparse (N, L); entries that are not 0 are positives.
        tree: ``tfxc.labels.cluster_tree.ClusterTree`` over the labels.
        folder: the model folder, whose ``ranker/`` is written: what
            ``tfxc.ranker.search.Ranker.load`` reads.
        settings: ``RankerSettings``; None means its defaults.
        relevance: sparse (N, L), how much each positive counts; None for equally.
        negatives: ``{level: sparse (N, nodes of the level above)}``, parents of extra negatives
            for layers with ``usn``.
        limits: ``tfxc.ranker.layer.Limits``; the label matrices of all levels, which are made here,
            count as part of the memory budget.

    Returns:
        list of dicts, one for each layer: its nodes ``trained``, those ``without_positives``, which
        are never predicted, those ``unfinished`` after ``max_passes``; the first has also the
        examples ``without_features``, from which only the bias is learned.

    Raises:
        DataError: shapes that do not fit, NaN or infinity.
        ConfigError: settings that are not allowed or do not fit the tree.
        BudgetError: the budget is too small; the message says the least that works. Where layers
            learn from ``man``, that is the least of the layers known so far.
        UserError: the folder cannot be written.

    Example:
        >>> import tempfile
        >>> from tfxc.labels.cluster_tree import ClusterTree
        >>> from tfxc.ranker.search import Ranker
        >>> features = scipy.sparse.csr_matrix(np.eye(4, dtype=np.float32))
        >>> tree = ClusterTree([[0, 0], [0, 0, 1, 1]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     reports = train_ranker(features, features, tree, folder)
        ...     Ranker.load(folder).predict(features, 1)[0].ravel().tolist()
        [0, 1, 2, 3]

    Reference: Yu et al., "PECOS", JMLR 2022, arXiv 2010.05878.
    """
    chain = _Chain(features, labels, tree, settings or RankerSettings(), relevance, negatives)
    without_features = check_features(features)
    if limits.memory_budget is not None:
        chain.check_budget(limits.memory_budget)
    folder = Path(folder) / "ranker"
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PARAMETERS).unlink(missing_ok=True)  # a half-trained folder is not a model
    with SharedFiles(features, folder) as shared:
        numbers = range(len(chain.levels))
        arguments = (chain.arguments(layer, folder, limits, shared) for layer in numbers)
        if workers() is None or chain.is_stepwise:
            layer_reports = [train_layer(*positional, **named) for positional, named in arguments]
        else:
            layers = (layer_steps(*positional, **named) for positional, named in arguments)
            layer_reports = finished(layers, AT_A_TIME)
    reports = [report._asdict() for report in layer_reports]
    reports[0]["without_features"] = without_features
    write_parameters(folder, chain.parameters())
    return reports


class _Chain:
    """The matrices of all levels and the settings of all layers, checked."""

    def __init__(
        self,
        features: scipy.sparse.csr_matrix,
        labels: scipy.sparse.csr_matrix,
        tree: "ClusterTree",
        settings: RankerSettings,
        relevance: scipy.sparse.csr_matrix | None,
        negatives: Mapping[int, scipy.sparse.csr_matrix] | None,
    ) -> None:
        if labels.shape[0] != features.shape[0]:
            raise DataError(
                f"there are labels of {labels.shape[0]:,} examples, but features of "
                f"{features.shape[0]:,}",
                where="labels",
            )
        if labels.shape[1] != tree.sizes[-1]:
            raise DataError(
                f"there are {labels.shape[1]:,} labels, but {tree.sizes[-1]:,} in the tree",
                where="labels",
            )
        if 0 in features.shape:
            raise DataError(
                f"a matrix of shape {features.shape} has no examples or no features",
                where="features",
            )
        self.features = features
        self.tree = tree
        self.settings = settings
        self.negatives = negatives or {}
        self.levels = settings.levels(len(tree.sizes))
        self.sizes = [tree.sizes[level] for level in self.levels]
        self.values = settings.of_layers(self.sizes)
        self.solvers = settings.solvers(self.sizes)
        for layer, level in enumerate(self.levels):
            scheme = scheme_of(self.values["negatives"][layer])
            if "man" in scheme and layer == 0 and level > 0:
                raise ConfigError(
                    "negatives of the scheme man are predicted by the layer above, and the first "
                    "layer of mode ranker has none",
                    where="negatives[0]",
                    fix="give the predictions as `negatives` and use usn",
                )
            if "usn" in scheme and level > 0:
                shape = (features.shape[0], tree.sizes[level - 1])
                matrix = self.negatives.get(level)
                if matrix is None or matrix.shape != shape:
                    problem = "is missing" if matrix is None else f"has the shape {matrix.shape}"
                    raise DataError(
                        f"the matrix for usn {problem}",
                        where=f"negatives[{level}]",
                        fix=f"give one of shape {shape}",
                    )
        self.targets = tree.multi_resolution(_positives(labels))
        self.relevance = relevance_of(
            self.targets, tree, settings.relevance_mode, settings.relevance_norm, relevance
        )
        self._predicted: scipy.sparse.csr_matrix | None = None

    @property
    def is_stepwise(self) -> bool:
        """Whether a layer learns from what those above it predict, so that they come first."""
        return any("man" in scheme_of(scheme) for scheme in self.values["negatives"])

    def arguments(
        self, layer: int, folder: Path, limits: Limits, shared: SharedFiles
    ) -> tuple[tuple[LayerProblem, Path, "SolverSettings"], dict[str, Any]]:
        """Returns the arguments of ``train_layer`` for a layer, by position and by name."""
        problem = self.problem(layer, self.examples(layer, folder, limits.threads))
        problem = problem._replace(digest=self._digest)
        title = f"layer {layer + 1} of {len(self.levels)}"
        named = {"limits": limits, "held": self.held(), "title": title, "shared": shared}
        return (problem, folder / f"layer-{layer}", self.solvers[layer]), named

    def problem(self, layer: int, examples: scipy.sparse.csc_matrix | None) -> LayerProblem:
        """Returns the ``LayerProblem`` of a layer with these examples."""
        level = self.levels[layer]
        return LayerProblem(
            self.features,
            self.targets[level],
            self.tree.parents[level],
            examples,
            self.relevance[level],
        )

    @cached_property
    def _digest(self) -> str:
        return features_digest(self.features)

    def examples(
        self, layer: int, folder: Path, threads: int | None
    ) -> scipy.sparse.csc_matrix | None:
        """Returns M of a layer, or None under one root; predicts where this or a later layer needs
        it.
        """
        wanted_below = self.values["negatives"][layer:]
        if layer and any("man" in scheme_of(later) for later in wanted_below):
            self._predict(layer - 1, folder, threads)
        return self._examples(layer)

    def _examples(self, layer: int) -> scipy.sparse.csc_matrix | None:
        level = self.levels[layer]
        if level == 0:
            return None
        return examples_of(
            scheme_of(self.values["negatives"][layer]),
            above=self.targets[level - 1],
            predicted=self._predicted,
            given=self.negatives.get(level),
        )

    def _predict(self, layer: int, folder: Path, threads: int | None) -> None:
        """Returns nodes that the layers down to this one predict for the training examples."""
        self._predicted = search(
            [load_layer(folder / f"layer-{layer}")],
            self.features,
            [self.values["only_topk"][layer]],
            [self.values["post_processor"][layer]],
            bias=self.settings.bias,
            csr_codes=self._predicted,
            threads=threads,
        )

    def held(self) -> int:
        """Returns bytes of the matrices that stay in memory while a layer is trained."""
        matrices = [*self.targets, *self.relevance, self._predicted]
        arrays = [
            array
            for matrix in matrices
            if matrix is not None
            for array in (matrix.data, matrix.indices, matrix.indptr)
        ]
        return sum(array.nbytes for array in arrays)

    def check_budget(self, budget: int) -> None:
        """Refuses a budget that is too small, as far as the blocks are known before training.

        Raises:
            BudgetError: it names what is enough for all these layers.
        """
        least = budget
        for layer, level in enumerate(self.levels):
            if level == 0 or "man" not in scheme_of(self.values["negatives"][layer]):
                problem = self.problem(layer, self._examples(layer))
                needed = min_budget(problem, self.solvers[layer], budget, self.held())
                least = max(least, needed)
        if least > budget:
            raise BudgetError(least, budget)

    def parameters(self) -> dict[str, Any]:
        """Returns the content of ``param.json``."""
        return {
            "format": FORMAT,
            "num_features": self.features.shape[1],
            "bias": self.settings.bias or None,
            "num_labels": self.sizes[-1],
            "layers": len(self.sizes),
            "settings": self.values,
        }


def _positives(labels: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """Returns ones where the labels are not 0."""
    positives = scipy.sparse.csr_matrix(labels, copy=True)
    positives.sum_duplicates()
    positives.eliminate_zeros()
    positives.data = np.ones(positives.nnz, np.float32)
    return positives
