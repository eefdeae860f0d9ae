"""A linear ranker behind the estimator: recipe ``xr_linear`` on examples in memory."""

import contextlib
import functools
import itertools
import json
import shutil
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from tfxc.core import registry
from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError
from tfxc.core.storage.files import copy_folder
from tfxc.core.storage.locks import scratch_folder
from tfxc.data.reading.held_out import held_out_examples, queries_of
from tfxc.data.reading.inspection.completion import DEV_SHARE, folds_of
from tfxc.data.sources.base import RowStream
from tfxc.data.sources.matrices import matrices
from tfxc.estimator.fitted_model import FitData, FittedModel, best_labels
from tfxc.inference.deciding import Examined
from tfxc.ranker.fusion.titles import title_examples
from tfxc.recipes.xr_linear.example_matrices import ExampleMatrices
from tfxc.recipes.xr_linear.model import LinearModel
from tfxc.recipes.xr_linear.settings import TreeSettings, checked_settings, ranker_settings
from tfxc.recipes.xr_linear.stages import with_text_rows
from tfxc.recipes.xr_linear.training import ENOUGH_GAIN, TREE, text_rows_gain, train_layers
from tfxc.runs.writer import RunWriter
from tfxc.training.evaluation import Evaluation

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.examples.rows import Rows
    from tfxc.recipes.xr_linear.recipe import XRLinear
    from tfxc.runs.loaded import LoadedRun

_FILES = ("ranker", TREE)
_LOWEST = np.finfo(np.float32).min


class FittedLinear(FittedModel):
    """A ``LinearModel``, whose weights stay in files; see ``FittedModel``.

    The files are in a scratch folder of the object's own, which is removed with it, or in the run
    that it was loaded from.
    """

    model: LinearModel
    _example_texts: scipy.sparse.csr_matrix | None

    @property
    def _recipe(self) -> "XRLinear":
        return registry.create("recipe", self.config.recipe.section())

    def train(self, data: FitData, callbacks: Sequence[Any] = ()) -> None:
        """See ``FittedModel.train``."""
        recipe = self._recipe
        self._check(recipe, data, callbacks)
        X, Y = matrices(data.train)
        self._new_folder()
        texts = self._texts(data)
        if recipe.label_text_rows == "held_out":

            def train(folder: RunWriter, X: Any, Y: scipy.sparse.csr_matrix) -> None:
                self._train_into(folder.path, X, Y, None)

            if text_rows_gain(train, X, Y, texts, self.config.seed, self._folder) < ENOUGH_GAIN:
                texts = None
        self._example_texts = texts
        reports = self._train_into(self._folder, X, Y, texts)
        self.model = LinearModel(self._folder, recipe.threads)
        measured = Evaluation(self.model, self.config, data.labels, None, data.dev).of_dev()
        self.summary = {"layers": reports, "dev": measured}

    def _texts(self, data: FitData) -> scipy.sparse.csr_matrix | None:
        """Returns the features of the labels' texts, if these are examples, too."""
        if not self._recipe.label_text_rows:
            return None
        texts = data.train.label_texts()
        assert texts is not None, "the estimator has asked for them"
        return texts.rows.kind.matrix(texts.rows.batch()["features"], texts.rows.num_features)

    def _train_into(
        self,
        folder: Path,
        X: Any,
        Y: scipy.sparse.csr_matrix,
        texts: scipy.sparse.csr_matrix | None,
    ) -> list[dict[str, Any]]:
        """Trains tree and classifiers; returns the reports of the layers."""
        recipe = self._recipe
        if texts is not None:
            X, Y = with_text_rows(X, Y, texts)
        return train_layers(
            RunWriter(folder),
            X,
            Y,
            TreeSettings(recipe.tree, self.config.seed),
            ExampleMatrices(recipe.ranker).settings(self.config.seed),
            {},
            memory_gb=recipe.memory_gb,
            threads=recipe.threads,
        )

    def held_out(self, data: FitData) -> "Iterator[Examined]":
        """Yields models that were trained without a part of the examples, and that part.

        The parts are those of ``tfxc train FILE``: folds, or one of 15 %; equal examples are in the
        same. With label texts, titles of labels are not held out, see ``title_examples``.
        """
        X, Y = matrices(data.train)
        rows = data.train.rows()
        matrix = scipy.sparse.csr_matrix(X)
        texts = self._texts(data)
        usable = np.ones(len(rows), bool)
        if texts is not None:
            usable = queries_of(title_examples(matrix, Y, texts))
        bounds = itertools.pairwise(matrix.indptr)
        contents = [(matrix.indices[a:b].tobytes(), matrix.data[a:b].tobytes()) for a, b in bounds]
        number_of = {content: number for number, content in enumerate(contents)}
        groups = np.array([number_of[content] for content in contents])
        several_labels = bool((np.diff(Y.indptr) > 1).any())
        folds = folds_of(len(groups), Y.shape[1], several_labels)
        share = 1 / folds if folds else DEV_SHARE
        for part in range(folds or 1):
            chosen = np.zeros(len(groups), bool)
            chosen[usable] = held_out_examples(groups[usable], share, self.config.seed, part)
            if chosen.any() and not chosen.all():
                with scratch_folder("linear") as folder:
                    self._train_into(folder, X[~chosen], Y[~chosen], self._example_texts)
                    model = LinearModel(folder, self._recipe.threads)
                    inside = rows.select(np.flatnonzero(chosen))
                    part_rows = RowStream(functools.partial(iter, [inside]))
                    yield Examined(model, part_rows, range(model.num_labels))

    def _check(self, recipe: "XRLinear", data: FitData, callbacks: Sequence[Any]) -> None:
        """Refuses settings that do not fit the data, before anything is trained."""
        arguments = {"sample_weight": data.weights is not None, "callbacks": bool(callbacks)}
        for name, is_given in arguments.items():
            if is_given:
                raise ConfigError(
                    "recipe 'xr_linear' does not take this argument",
                    where=name,
                    fix="leave it out, or use recipe 'fit'",
                )
        tree = TreeSettings(recipe.tree, self.config.seed)
        sizes = tree.sizes(self._sizes["num_labels"], self._sizes["num_features"])
        checked_settings(ranker_settings(recipe.ranker, self.config.seed), sizes)

    def _new_folder(self) -> None:
        stack = contextlib.ExitStack()
        self._folder = stack.enter_context(scratch_folder("linear"))
        self._removal = weakref.finalize(self, stack.close)

    def search(
        self, rows: "Rows", k: int, batch_size: int, probabilities: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """As of ``FittedModel``: all of the k labels, also where the beam finds fewer.

        Then all labels are searched. Those without a training example come last, with the lowest
        score, or probability 0.
        """
        ids, scores = super().search(rows, k, batch_size, probabilities)
        short = np.flatnonzero(ids[:, -1] < 0)
        if len(short):
            wide = self.model.searching_with(beam=self.model.num_labels)
            ids[short], scores[short] = best_labels(
                wide, rows.select(short), k, batch_size, probabilities
            )
        unknown = ids < 0
        scores[unknown] = 0 if probabilities else _LOWEST
        for row in np.flatnonzero(unknown.any(axis=1)):
            missing = np.setdiff1d(np.arange(self.model.num_labels, dtype=np.int32), ids[row])
            ids[row, unknown[row]] = missing[: np.count_nonzero(unknown[row])]
        return ids, scores

    @classmethod
    def of_run(cls, loaded: "LoadedRun") -> "FittedLinear":
        """See ``FittedModel.of_run``."""
        fitted = super().of_run(loaded)
        assert isinstance(fitted, FittedLinear)
        fitted._folder = loaded.folder.path
        return fitted

    def _save_model(self, run: RunWriter) -> None:
        for name in _FILES:
            source = self._folder / name
            if source.is_dir():
                copy_folder(source, run / name)
            elif source.exists():
                shutil.copyfile(source, run / name)
        if (run / TREE).exists():  # an imported run has none
            run.record_file(TREE)

    def __getstate__(self) -> dict[str, Any]:
        left_out = {"model", "config", "_removal", "_folder"}
        state = {name: value for name, value in vars(self).items() if name not in left_out}
        files = {
            path.relative_to(self._folder).as_posix(): path.read_bytes()
            for name in _FILES
            for path in (self._folder / name, *(self._folder / name).rglob("*"))
            if path.is_file()
        }
        config = json.loads(self.config.to_json())
        return {**state, "config": config, "files": files, "decision": self.model.decision}

    def __setstate__(self, state: dict[str, Any]) -> None:
        files = state.pop("files")
        config = state.pop("config")
        decision = state.pop("decision")
        vars(self).update(state)
        self.config: Config = parse_config(config)
        self._new_folder()
        for name, content in files.items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.model = LinearModel(self._folder, self._recipe.threads)
        self.model.decision = decision
