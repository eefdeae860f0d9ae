"""Labels for chunks of raw examples, by the models of runs."""

import abc
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfxc.core.declared import check_k
from tfxc.core.errors import ConfigError
from tfxc.inference.decision import decision_of
from tfxc.inference.searcher import Searcher

if TYPE_CHECKING:
    from tfxc.data.examples.chunk import Chunk
    from tfxc.decision.decision import Decision
    from tfxc.decision.fitted import FittedDecision
    from tfxc.ranker.fusion.trees import ListTrees


_DEFAULT_K = 5


class Predictions(NamedTuple):
    """Labels of examples, best first.

    Attributes:
        labels: n lists of k label names; of an estimator an array (n, k) of its classes.
        scores: float32 (n, k), or probabilities where there are any.
    """

    labels: Any
    scores: np.ndarray


class Predictor(abc.ABC):
    """Base of what finds labels for chunks of raw examples.

    Attributes:
        k: labels per example, at most.
        input_kind: a name in ``tfxc.data.examples.kinds.INPUTS``.
        num_features: width of given features.
        names: of the labels, by id.
        decides: whether as many labels are listed as a decision returns, instead of k.
    """

    k: int
    input_kind: str
    num_features: int | None
    names: Sequence[str]
    decides = False

    @abc.abstractmethod
    def find(self, chunk: "Chunk", where: str = "input") -> tuple[np.ndarray, np.ndarray]:
        """Returns ids int32 and scores float32 (n, k) of a chunk, best first, padded with id -1.

        Raises:
            DataError: examples of another kind or width than the run was trained on, or an image
                that cannot be decoded.
        """

    def __call__(self, chunk: "Chunk", where: str = "input") -> Predictions:
        """Returns ``Predictions`` of a chunk; raises as ``find`` does."""
        return named(*self.find(chunk, where), self.names)

    def find_over(
        self, chunks: "Iterable[Chunk]", where: str = "input"
    ) -> "Iterator[tuple[Chunk, tuple[np.ndarray, np.ndarray]]]":
        """Yields chunks with what ``find`` finds for each."""
        for chunk in chunks:
            yield chunk, self.find(chunk, where)


class RunPredictor(Predictor):
    """Predicts with a run's text features and the head's native search.

    Args:
        loaded_run: a ``tfxc.runs.loaded.LoadedRun``.
        k: labels per example; None means 5, or all if there are fewer.
        probabilities: whether to return probabilities instead of scores; None if the head has
            any.

    Raises:
        ConfigError: k exceeds the number of labels, or the head has no probabilities.

    Example:
        >>> predictor = RunPredictor(load_run("runs/quickstart"), k=1)  # doctest: +SKIP
        >>> predictor(Chunk(labels=[[]], texts=["Sorts a list."])).labels  # doctest: +SKIP
        [['key']]
    """

    def __init__(
        self,
        loaded_run: Any,
        k: int | None = None,
        probabilities: bool | None = False,
    ) -> None:
        num_labels = loaded_run.manifest["num_labels"]
        self.k = checked_k(min(_DEFAULT_K, num_labels) if k is None else k, num_labels)
        self.num_features = loaded_run.manifest["num_features"]
        self.input_kind = loaded_run.input_kind
        self.names = loaded_run.vocabulary.names
        self._loaded = loaded_run
        model = loaded_run.model
        self._probabilities = model.has_probabilities if probabilities is None else probabilities
        self._search = loaded_run.options.search
        self._searcher(self.k)  # refuses what cannot be found

    def find(self, chunk: "Chunk", where: str = "input") -> tuple[np.ndarray, np.ndarray]:
        return self._labels_of({"features": self._loaded.features_of(chunk, where)})

    def find_over(
        self, chunks: "Iterable[Chunk]", where: str = "input"
    ) -> "Iterator[tuple[Chunk, tuple[np.ndarray, np.ndarray]]]":
        """Yields chunks with what ``find`` finds for each; of a streamed run in few passes."""
        features_of = self._loaded.features_of
        batches = ({"features": features_of(chunk, where), "chunk": chunk} for chunk in chunks)
        for batch in self._loaded.model.stream(batches):
            yield batch["chunk"], self._labels_of(batch)

    def release(self) -> None:
        """See ``LoadedRun.release``."""
        self._loaded.release()

    def _labels_of(self, batch: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Returns ids and scores of a batch that the model's ``stream`` may have seen."""
        return self._searcher(self.k)(batch)

    def _searcher(self, k: int) -> Searcher:
        return Searcher(self._loaded.model, k, self._search, probabilities=self._probabilities)


class DecidingPredictor(RunPredictor):
    """Predicts all labels that a decision returns, however many there are.

    Args:
        loaded_run: a ``tfxc.runs.loaded.LoadedRun``.
        decision: ``Decision`` that is not of the best label alone.

    Attributes:
        decision: the same.

    Raises:
        ConfigError: there are no probabilities, and the decision is by them.
    """

    decides = True

    def __init__(self, loaded_run: Any, decision: "Decision") -> None:
        super().__init__(loaded_run, 1, decision.probabilities)
        self.decision = decision
        self.k = len(self.names)

    def _labels_of(self, batch: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """As of ``RunPredictor``, with as many columns as the longest list needs."""
        return reaching(self.decision, lambda k: self._searcher(k)(batch), self.k)


def deciding_predictor(
    loaded_run: Any, probabilities: bool | None = None
) -> DecidingPredictor | None:
    """Returns what lists the labels that a run decides for; None where that is the best one alone.

    Args:
        loaded_run: a ``tfxc.runs.loaded.LoadedRun``.
        probabilities: whether these are wanted, or scores; None for either. A decision by the other
            ones is none.
    """
    threshold = loaded_run.config.evaluation.threshold
    decision = decision_of(loaded_run.model, loaded_run.single_label, threshold)
    if decision.best_alone or probabilities not in (None, decision.probabilities):
        return None
    return DecidingPredictor(loaded_run, decision)


class EnsemblePredictor(Predictor):
    """Predicts with several runs over the same labels, whose lists are joined.

    Args:
        predictors: dict of ``RunPredictor`` by the path of their run, two or more; each lists as
            many labels as its ``k`` says.
        method: one of ``tfxc.core.cli.ENSEMBLES``, or trees.
        k: labels per example; None means 5, or all if there are fewer.
        weights: one per run, see ``tfxc.ranker.ensemble.combine``.
        decision: what was learned of the joined lists; None means nothing. Without ``k``, the
            labels that it returns are listed.
        probabilities: whether its probabilities are given, where it has any.

    Attributes:
        rule: by which labels are listed; None where ``k`` are.

    Raises:
        ConfigError: runs on other kinds of examples or other labels, or k exceeds the number of
            labels that a run lists.
    """

    def __init__(
        self,
        predictors: "Mapping[str, RunPredictor]",
        method: "str | ListTrees",
        k: int | None = None,
        weights: Sequence[float] | None = None,
        decision: "FittedDecision | None" = None,
        probabilities: bool = True,
    ) -> None:
        from tfxc.ranker.ensemble import check_weights, label_map

        (_, first), *others = predictors.items()
        self.input_kind = first.input_kind
        self.num_features = first.num_features
        self.names = first.names
        for path, predictor in others:
            if predictor.input_kind != self.input_kind:
                raise ConfigError(
                    f"the run reads {predictor.input_kind!r}, but the first run reads "
                    f"{self.input_kind!r}",
                    where=path,
                    fix="combine runs that read the same examples",
                )
        self._maps = [
            label_map(predictor.names, first.names, path) for path, predictor in predictors.items()
        ]
        self._predictors = list(predictors.values())
        self._method = method
        self._weights = check_weights(weights, method, len(predictors))
        listed = max(predictor.k for predictor in self._predictors)
        self._calibration = decision.calibration if decision and probabilities else None
        rule = decision.rule if decision and k is None else None
        self.rule = rule if rule and rule.probabilities == probabilities else None
        self.decides = self.rule is not None
        usual = listed if self.decides else min(_DEFAULT_K, listed)
        self.k = checked_k(usual if k is None else k, listed)

    def find(self, chunk: "Chunk", where: str = "input") -> tuple[np.ndarray, np.ndarray]:
        return self._combined([predictor.find(chunk, where) for predictor in self._predictors])

    def find_over(
        self, chunks: "Iterable[Chunk]", where: str = "input", keep: bool = False
    ) -> "Iterator[tuple[Chunk, tuple[np.ndarray, np.ndarray]]]":
        """Yields chunks with ids and scores of each, one run in memory at a time.

        Chunks and lists wait in temporary files until the last run has read them.

        Args:
            keep: whether the runs stay in memory instead, all of them, for the next call.
        """
        from tfxc.core.storage.spill import Spill

        with contextlib.ExitStack() as stack:
            waiting = stack.enter_context(Spill())
            lists = [stack.enter_context(Spill()) for _ in self._predictors]
            for number, (predictor, spill) in enumerate(zip(self._predictors, lists, strict=True)):
                for chunk, answer in predictor.find_over(waiting if number else chunks, where):
                    spill.append(answer)
                    if number == 0:
                        waiting.append(chunk)
                if not keep:
                    predictor.release()
            for chunk, *of_runs in zip(waiting, *lists, strict=True):
                yield chunk, self._combined(of_runs)

    def _combined(
        self, lists: Iterable[tuple[np.ndarray, np.ndarray]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns ids and scores from those that each run has found."""
        from tfxc.ranker.ensemble import combine

        of_first = [
            (np.where(ids >= 0, numbers[ids], -1), scores)
            for (ids, scores), numbers in zip(lists, self._maps, strict=True)
        ]
        ids, scores = combine(of_first, self._method, self.k, self._weights)
        if self._calibration is not None:
            scores = self._calibration(scores)
        if self.rule is not None:
            ids = np.where(self.rule.predicted(ids, scores), ids, -1)
        return ids, scores


def reaching(
    decision: "Decision", search: Callable[[int], tuple[np.ndarray, np.ndarray]], num_labels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns all labels that a decision returns, however many there are.

    Args:
        decision: ``Decision``, not of the best label alone.
        search: finds the k best labels of some examples: ids int32 and scores float32 (n, k).
        num_labels: size of the label space.

    Returns:
        Ids, -1 where a label is not returned, and scores, with as many columns as were searched.

    Example:
        >>> from tfxc.decision.decision import Decision
        >>> ids, scores = np.array([[2, 0, 1]]), np.array([[0.9, 0.6, 0.1]])
        >>> reaching(Decision(0.5), lambda k: (ids[:, :k], scores[:, :k]), 3)[0].tolist()
        [[2, 0, -1]]
    """
    k = decision.depth(1, num_labels)  # as an evaluation does: a search's beam widens with it
    while True:
        k = min(k, num_labels)
        ids, scores = search(k)
        if k == num_labels or not decision.may_go_on(ids, scores).any():
            return np.where(decision.predicted(ids, scores), ids, -1), scores
        k *= 4


def named(ids: np.ndarray, scores: np.ndarray, names: Sequence[str]) -> "Predictions":
    """Returns ``Predictions`` of label ids; a padding id has the name ``""``."""
    labels = [[names[i] if i >= 0 else "" for i in row] for row in ids.tolist()]
    return Predictions(labels, scores)


def checked_k(k: int, available: int) -> int:
    """Returns ``k``, the labels to list per example.

    Raises:
        ConfigError: it is less than 1, or more than there are.
    """
    check_k(k, available)
    return k
