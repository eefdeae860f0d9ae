"""Fine-tuning of one encoder, level by level of a label tree, on ever finer clusters."""

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse
import tensorflow as tf
from sklearn.preprocessing import normalize

from tfxc.core.config import Method
from tfxc.core.messages import OUTPUT
from tfxc.core.storage.files import atomic_file
from tfxc.data.examples.lists import PADDING, pad_lists
from tfxc.data.sources.shards import Source
from tfxc.inference.embedder import Embedder
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.model import build_model
from tfxc.ops.csr import as_csr, bounds_of
from tfxc.ops.linear.settings import SolverSettings
from tfxc.ops.search.beam_search.chunked_layer import ChunkedLayer, chunks_of
from tfxc.ranker.ensemble import combine
from tfxc.ranker.layer import Limits, train_layer
from tfxc.ranker.negatives import examples_of, scheme_of
from tfxc.ranker.problem import LayerProblem
from tfxc.ranker.search import load_layer, search
from tfxc.ranker.store import weight_matrix
from tfxc.recipes.xr_transformer.embeddings import concatenated_on_disk, origin_of, write_embeddings
from tfxc.runs.folder import RunFolder
from tfxc.training.job import StageJob
from tfxc.training.strategies import by_chief

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.model import XCModel
    from tfxc.recipes.xr_transformer.plan import Plan


_MARGIN_RULE = "l3-hinge"
_ROWS = 65_536  # texts that are searched at a time


class LevelData(NamedTuple):
    """What the levels learn from.

    Attributes:
        source: training ``Source``.
        terms: X, CSR (examples, terms).
        targets: label matrices of the tree's levels, from ``ClusterTree.multi_resolution``.
        tree: ``ClusterTree``.
        dimensions: what the data decides, keyword arguments of ``build_model``.
    """

    source: Source
    terms: scipy.sparse.csr_matrix
    targets: list[scipy.sparse.csr_matrix]
    tree: ClusterTree
    dimensions: dict[str, Any]


class Levels:
    """The matchers of a run: on each level its own head on one encoder.

    Each level has a folder, ``level-00``, ``level-01``, ...: its training's run folder, ``start``
    (the linear layer its head begins with), and where the next level asks for them
    ``embeddings.npy`` of the training texts, ``concat`` (a linear layer on these and the terms) and
    ``matched.npz``, the best nodes of each training text. What is there is not made again. Of
    several workers all train, and the chief alone does what is between the training runs.

    Args:
        plan: ``Plan``.
        config: ``Config`` of the run.
        data_folder: prepared records.
        run: ``RunFolder``.
        data: ``LevelData``.
        strategy: a ``tf.distribute.Strategy``.
    """

    def __init__(
        self,
        plan: "Plan",
        config: "Config",
        data_folder: str | Path,
        run: RunFolder,
        data: LevelData,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        self.plan = plan
        self.config = config
        self.data_folder = data_folder
        self.run = run
        self.source, self.terms, self.targets, self.tree, self.dimensions = data
        self.strategy = strategy or tf.distribute.get_strategy()

    def train(self) -> list[dict[str, Any]]:
        """Trains all levels that are not trained yet.

        Returns:
            list of the training runs' summaries.

        Raises:
            Stopped: SIGTERM or Ctrl-C came during training; the state is saved.
        """
        predicted = None
        summaries = []
        count = self.plan.count
        for level in range(count):
            summaries.append(self._train_level(level, predicted))
            gc.collect()  # model and optimizer are full of circles
            if any("man" in later for later in self.plan.negatives[level + 1 :]):
                predicted = self._predict(level, predicted)
        return summaries

    def model(self, level: int) -> "XCModel":
        """Loads the model of a trained level."""
        folder = self._folder(level)
        dimensions = dict(self.dimensions)
        if folder.architecture() is not None:
            dimensions["architecture"] = folder.architecture()
        model = build_model(self._config(level), **dimensions, label_tree=self.tree, level=level)
        folder.load_weights(model)
        return model

    def _folder(self, level: int) -> RunFolder:
        return RunFolder(self.run / f"level-{level:02}", self.run.chief)

    def _config(self, level: int) -> "Config":
        """Returns the config of a level's training."""
        training = self.config.training
        steps = self.plan.steps[level]
        changes: dict[str, Any] = {"epochs": self.plan.epochs[level]}
        changes["keep_checkpoints"] = 0  # nothing resumes from the end of a level
        if steps is not None:
            # Half a step fewer, so that rounding up gives the number whatever the division does.
            changes["epochs"] = (steps - 0.5) * training.batch_size / self.source.num_examples
        warmup_steps = self.plan.warmup_steps[level]
        if warmup_steps is not None:
            assert steps is not None, "``plan_of`` refuses warm-up steps without steps"
            share = warmup_steps / steps
            changes["schedule"] = Method(**{**training.schedule.section(), "warmup": share})
        assert self.config.head is not None, "``check_fit`` has asked for one"
        head = {**self.config.head.section(), "negatives": self.plan.negatives[level]}
        return self.config.model_copy(
            update={
                "run": str(self._folder(level).path),
                "recipe": Method(name="fit"),
                "head": Method(**head),
                "training": training.model_copy(update=changes),
            }
        )

    def _train_level(self, level: int, predicted: scipy.sparse.csr_matrix | None) -> dict[str, Any]:
        """Trains a level, unless it is finished; returns the summary."""
        folder = self._folder(level)
        summary = folder.summary()
        if summary:
            return summary
        nodes = self.tree.sizes[level]
        OUTPUT.info(f"level {level + 1} of {self.plan.count}: {nodes:,} clusters")
        if self.run.chief:
            folder.mark()  # what the head begins with is written before the training begins
        arguments: dict[str, Any] = {"label_tree": self.tree, "level": level}
        if level and "man" in self.plan.negatives[level]:
            assert predicted is not None, "the level above was searched for it"
            arguments["matched"] = pad_lists(
                predicted.indptr, predicted.indices, self.plan.only_topk, PADDING
            )
        job = StageJob(
            self._config(level),
            Path(self.data_folder),
            folder.path,
            arguments=arguments,
            start=_Start(self, level, self._start_values(level, predicted)) if level else None,
            source=self.source,
            title=f"level {level + 1} of {self.plan.count}: training",
        )
        summary = job.run()
        by_chief(self.strategy, lambda: None)  # until its weights are in their file
        return summary

    def _start_values(
        self, level: int, predicted: scipy.sparse.csr_matrix | None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns kernel and bias that a level's head begins with, or None for its own."""
        initial = self.plan.initial[level]
        if initial == "none" or not level:
            return None
        if initial == "inherit":
            head = self.model(level - 1).head
            parents = self.tree.parents[level]
            kernel = head.kernels[level - 1].numpy()
            return kernel[parents], head.biases[level - 1].numpy()[parents]
        folder = self._folder(level) / "start"

        def train() -> None:
            problem = LayerProblem(
                as_csr(self._embeddings(level - 1)),
                self.targets[level],
                self.tree.parents[level],
                self._examples(level, predicted),
                self.targets[level] if initial == "weighted-linear" else None,
            )
            limits = Limits(threads=self.plan.threads)
            title = f"level {level + 1}: the head's start"
            solver = SolverSettings(cost_positive=100.0, cost_negative=100.0, threshold=0.0)
            train_layer(problem, folder, solver, limits=limits, title=title)

        by_chief(self.strategy, train)
        width = self._embeddings(level - 1).shape[1]
        weights = weight_matrix(load_layer(folder), width).toarray()
        return np.ascontiguousarray(weights[:-1].T), weights[-1]

    def _examples(
        self, level: int, predicted: scipy.sparse.csr_matrix | None
    ) -> scipy.sparse.csc_matrix | None:
        """Returns M of a level, None for level 0."""
        if not level:
            return None
        scheme = scheme_of(self.plan.negatives[level])
        return examples_of(scheme, above=self.targets[level - 1], predicted=predicted)

    def _embeddings(self, level: int) -> np.ndarray:
        """Encodes the training texts with this level's encoder, float32 (examples, dim)."""
        folder = self._folder(level)
        path = folder / "embeddings.npy"
        if not path.exists():
            write_embeddings(
                path,
                Embedder(self.model(level)),
                self.source,
                self.config.evaluation.batch_size,
                f"level {level + 1} of {self.plan.count}: embedding",
                origin_of(self.data_folder, folder),
            )
        return np.load(path, mmap_mode="r")

    def _predict(
        self, level: int, above: scipy.sparse.csr_matrix | None
    ) -> scipy.sparse.csr_matrix:
        """Returns P of a level: each text's best nodes under the best of the level above."""
        path = self._folder(level) / "matched.npz"

        def write() -> None:
            if path.exists():
                return
            vectors = self._embeddings(level)
            predictions = []
            if self.plan.ensemble != "concat-only":
                predictions.append(self._by_encoder(level, vectors, above))
            if self.plan.ensemble != "transformer-only":
                predictions.append(self._by_both(level, vectors, above))
            best = predictions[0]
            if len(predictions) > 1:
                ids, scores = combine(predictions, self.plan.ensemble, self.plan.only_topk)
                is_node = ids >= 0
                splits = bounds_of(is_node.sum(axis=1))
                parts = (scores[is_node], ids[is_node], splits)
                best = scipy.sparse.csr_matrix(parts, best.shape)
            with atomic_file(path, "wb") as stream:
                scipy.sparse.save_npz(stream, best)

        by_chief(self.strategy, write)
        return scipy.sparse.load_npz(path)

    def _by_encoder(
        self, level: int, vectors: np.ndarray, above: scipy.sparse.csr_matrix | None
    ) -> scipy.sparse.csr_matrix:
        """Finds the best nodes by the level's head."""
        head = self.model(level).head
        weights = np.vstack([head.kernels[level].numpy().T, head.biases[level].numpy()])
        num_parents = self.tree.sizes[level - 1] if level else 1
        layer = chunks_of(scipy.sparse.csc_matrix(weights), self.tree.parents[level], num_parents)
        rule = _MARGIN_RULE if head.link == "hinge" else "sigmoid"
        blocks = []
        for begin in range(0, len(vectors), _ROWS):
            rows = slice(begin, begin + _ROWS)
            codes = None if above is None else above[rows]
            blocks.append(self._search(layer, as_csr(vectors[rows]), rule, codes))
        return scipy.sparse.vstack(blocks, "csr")

    def _by_both(
        self, level: int, vectors: np.ndarray, above: scipy.sparse.csr_matrix | None
    ) -> scipy.sparse.csr_matrix:
        """Finds the best nodes by a linear layer on vectors and terms."""
        folder = self._folder(level) / "concat"
        relevance = normalize(self.targets[level], "l1") if self.plan.cost_sensitive else None
        with concatenated_on_disk(self.terms, vectors) as both:
            problem = LayerProblem(
                both,
                self.targets[level],
                self.tree.parents[level],
                self._examples(level, above),
                relevance,
            )
            train_layer(
                problem,
                folder,
                SolverSettings(threshold=self.plan.threshold),
                limits=Limits(threads=self.plan.threads),
                title=f"level {level + 1} of {self.plan.count}: linear layer",
            )
            return self._search(load_layer(folder), both, _MARGIN_RULE, above)

    def _search(
        self,
        layer: ChunkedLayer,
        features: scipy.sparse.csr_matrix,
        rule: str,
        above: scipy.sparse.csr_matrix | None,
    ) -> scipy.sparse.csr_matrix:
        return search(
            [layer],
            features,
            [self.plan.only_topk],
            [rule],
            bias=1.0,
            csr_codes=above,
            threads=self.plan.threads,
        )


class _Start:
    """What a level's model begins with: the encoder of the level above, and a head."""

    def __init__(
        self, levels: Levels, level: int, values: tuple[np.ndarray, np.ndarray] | None
    ) -> None:
        self._levels = levels
        self._level = level
        self._values = values

    def architecture(self) -> dict[str, Any] | None:
        return self._levels._folder(self._level - 1).architecture()

    def load_weights(self, model: "XCModel") -> None:
        before = self._levels.model(self._level - 1)
        model.encoder.set_weights(before.encoder.get_weights())
        if self._values is not None:
            kernel, bias = self._values
            model.head.kernels[self._level].assign(kernel)
            model.head.biases[self._level].assign(bias)
