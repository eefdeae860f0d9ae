"""Labels for chunks of raw examples, by the models of runs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.inference.searcher import Searcher
from tfxc.ranker.ensemble import check_weights, combine, label_map

if TYPE_CHECKING:
    from tfxc.data.chunk import Chunk
    from tfxc.metrics.classification import Decision


_DEFAULT_K = 5
_FIRST_K = 16  # labels searched first where a threshold decides how many there are


class Predictions(NamedTuple):
    """Labels of a chunk, best first.

    Attributes:
        labels: n lists of k label names.
        scores: float32 (n, k), or probabilities where they were requested.
    """

    labels: list
    scores: np.ndarray


class RunPredictor:
    """Predicts with a run's text features and the head's native search.

    Args:
        loaded_run: a ``tfxc.runs.loaded.LoadedRun``.
        k: labels per example; None means 5, or all if there are fewer.
        probabilities: whether to return probabilities instead of scores; None if the head has
            any.

    Attributes:
        input_kind: a name in ``tfxc.data.kinds.INPUTS``.
        num_features: width of given features.
        names: of the labels, by id.

    Raises:
        ConfigError: k exceeds the number of labels, or the head has no probabilities.

    Example:
        >>> predictor = RunPredictor(load_run("runs/quickstart"), k=1)  # doctest: +SKIP
        >>> predictor(Chunk(labels=[[]], texts=["Sorts a list."])).labels  # doctest: +SKIP
        [['key']]
    """

    def __init__(
        self, loaded_run: Any, k: int | None = None, probabilities: bool | None = False
    ) -> None:
        num_labels = loaded_run.manifest["num_labels"]
        self.k = checked_k(min(_DEFAULT_K, num_labels) if k is None else k, num_labels)
        self.num_features = loaded_run.manifest["num_features"]
        self.input_kind, self.names = loaded_run.input_kind, loaded_run.vocabulary.names
        model = loaded_run.model
        if probabilities is None:
            probabilities = model.has_probabilities
        self._search = Searcher(model, self.k, probabilities=probabilities)
        self._features = loaded_run.features_of

    def find(self, chunk: "Chunk", where: str = "input") -> tuple[np.ndarray, np.ndarray]:
        """Ids int32 and scores float32 (n, k) of a chunk, best first, padded with id -1.

        Raises:
            DataError: examples of another kind or width than the run was trained on, or an image
                that cannot be decoded.
        """
        return self._search({"features": self._features(chunk, where)})

    def __call__(self, chunk: "Chunk", where: str = "input") -> "Predictions":
        """``Predictions`` of a chunk; raises as ``find`` does."""
        return _named(*self.find(chunk, where), self.names)


class DecidingPredictor(RunPredictor):
    """Predicts all labels that reach a threshold, however many there are.

    Args:
        loaded_run: a ``tfxc.runs.loaded.LoadedRun``.
        decision: ``Decision`` with a threshold, of probabilities or scores as it says.

    Raises:
        ConfigError: there are no probabilities, and the decision is by them.
    """

    def __init__(self, loaded_run: Any, decision: "Decision") -> None:
        super().__init__(loaded_run, 1, decision.probabilities)
        assert decision.threshold is not None
        self._threshold, self._num_labels = decision.threshold, len(self.names)
        self._model, self._probabilities = loaded_run.model, decision.probabilities
        self.k = self._num_labels

    def find(self, chunk: "Chunk", where: str = "input") -> tuple[np.ndarray, np.ndarray]:
        """As of ``RunPredictor``, with as many columns as the longest list needs."""
        batch, k = {"features": self._features(chunk, where)}, _FIRST_K
        while True:
            k = min(k, self._num_labels)
            ids, scores = Searcher(self._model, k, probabilities=self._probabilities)(batch)
            reaches = (scores >= self._threshold) & (ids >= 0)
            if k == self._num_labels or not reaches[:, -1].any():
                return np.where(reaches, ids, -1), scores
            k *= 4


class EnsemblePredictor:
    """Predicts with several runs over the same labels, whose lists are joined.

    Args:
        predictors: dict of ``RunPredictor`` by the path of their run, two or more; each lists as
            many labels as its ``k`` says.
        method: one of ``tfxc.core.cli.ENSEMBLES``.
        k: labels per example; None means 5, or all if there are fewer.
        weights: one per run, see ``tfxc.ranker.ensemble.combine``.

    Attributes:
        input_kind, num_features: see ``RunPredictor``.

    Raises:
        ConfigError: runs on other kinds of examples or other labels, or k exceeds the number of
            labels that a run lists.
    """

    def __init__(
        self,
        predictors: "Mapping[str, RunPredictor]",
        method: str,
        k: int | None = None,
        weights: Sequence[float] | None = None,
    ) -> None:
        (_, first), *others = predictors.items()
        self.input_kind, self.num_features, self._names = (
            first.input_kind,
            first.num_features,
            first.names,
        )
        for path, other in others:
            if other.input_kind != self.input_kind:
                raise ConfigError(
                    f"a run with input {self.input_kind!r}, like the first one, expected, found "
                    f"one with {other.input_kind!r}",
                    where=path, fix="combine runs that read the same examples",
                )  # fmt: skip
        self._maps = [label_map(one.names, first.names, path) for path, one in predictors.items()]
        self._predictors, self._method = list(predictors.values()), method
        self._weights = check_weights(weights, method, len(predictors))
        listed = max(one.k for one in self._predictors)
        self.k = checked_k(min(_DEFAULT_K, listed) if k is None else k, listed)

    def __call__(self, chunk: "Chunk", where: str = "input") -> "Predictions":
        """``Predictions`` of a chunk; see ``RunPredictor``."""
        lists = []
        for predictor, numbers in zip(self._predictors, self._maps, strict=True):
            ids, scores = predictor.find(chunk, where)
            lists.append((np.where(ids >= 0, numbers[ids], -1), scores))
        return _named(*combine(lists, self._method, self.k, self._weights), self._names)


def _named(ids, scores, names):
    """``Predictions`` of label ids."""
    found = [[names[i] if i >= 0 else "" for i in row] for row in ids.tolist()]
    return Predictions(found, scores)


def checked_k(k: int, available: int) -> int:
    """``k``, the labels to list per example.

    Raises:
        ConfigError: it is less than 1, or more than there are.
    """
    if not 1 <= k <= available:
        raise ConfigError(
            f"1 to {available} labels per example expected, found {k}",
            where="--k",
            fix=f"choose k up to {available}",
        )
    return k
