"""Top-k labels of many examples with a trained model, and the loss over all labels."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.core.progress import Progress
from tfxc.inference.protocol import RunModel
from tfxc.metrics.base import hits


class Examples(Protocol):
    """Examples in their order, as batches: a ``Source``, or a ``RowStream``.

    Attributes:
        num_examples: how many there are; None if that is not known.
    """

    @property
    def num_examples(self) -> int | None: ...

    def sequential(self, batch_size: int) -> Iterator[dict]:
        """Yields batches of arrays; the last one may be smaller."""


class SearchResult(NamedTuple):
    """What was found for a batch of examples, as arrays.

    Attributes:
        ids: int32 (batch, k).
        scores: float32 (batch, k).
        labels: int32 (batch, max_labels), the true ones.
        losses: float32 (batch,), see ``Head.top_k_and_loss``, or None.
        ranks: float32 (batch, max_labels), see ``Head.label_ranks``, or None.
    """

    ids: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    losses: np.ndarray | None
    ranks: np.ndarray | None = None


class Excluded(Protocol):
    """Labels that do not count for examples, as ``tfxc.data.sources.exclusions``.

    Attributes:
        most: labels of the example that has most.
    """

    most: int

    def rows(self, examples: np.ndarray) -> np.ndarray:
        """Returns int32 (n, at least 1), labels of these examples, distinct, padded with -1."""


class Searcher:
    """Finds the best k labels of many examples.

    Args:
        model: what a recipe assembles.
        k: number of labels.
        method: one of the model's ``search_methods``; None means the first.
        full_loss: whether ``over`` finds losses too.
        probabilities: whether a call gives probabilities instead of scores: of the softmax over
            all labels, or of each label by itself, as the objective has it.
        ranks: whether ``find`` gives the ranks of the true labels too.
        excluded: ``Excluded`` labels of the examples, which are left out; None for none. Batches
            then come with ``example_index``.
        compared: ``Agreement`` with the usual search, which ``find`` then does as well; or None.

    Raises:
        ConfigError: the model has no such search, no softmax over all labels or no probabilities.

    Example:
        >>> ids, scores = Searcher(model, 5)(batch)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: RunModel,
        k: int,
        method: str | None = None,
        full_loss: bool = False,
        probabilities: bool = False,
        ranks: bool = False,
        excluded: Excluded | None = None,
        compared: "Agreement | None" = None,
    ) -> None:
        model.check_k(k)
        self._calibration = None
        if probabilities:
            model.check_probabilities()
            self._calibration = model.decision.calibration
        if full_loss and not model.full_softmax:
            raise ConfigError(
                f"the {model.searched_part} has no softmax over all labels",
                where="evaluation.full_loss",
                fix="leave it out",
            )
        if ranks and not (model.full_softmax and hasattr(model, "find_ranks")):
            raise ConfigError(
                f"the {model.searched_part} has no score for each label, which ranks need",
                where="evaluation.ranks",
                fix="leave it out",
            )
        known = model.search_methods
        if method is not None and method not in known:
            raise ConfigError(
                f"the {model.searched_part} has no search {method!r}",
                where="--search",
                fix=f"choose one of: {', '.join(known)}" if known else "leave it out",
            )
        self.model = model
        self.k = k
        self._method = method
        self._full_loss = full_loss
        self._probabilities = probabilities and self._calibration is None  # the model's own
        self._ranks = ranks
        self._excluded = excluded
        self._compared = compared
        more = 0 if excluded is None else excluded.most
        self._depth = min(k + more, model.num_labels) if more else k

    def __call__(self, batch: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Returns NumPy (ids int32, scores float32), both (batch, k)."""
        arguments = (batch["features"], self.k, self._probabilities, self._method)
        ids, scores = self.model.find_top_k(*arguments)
        return ids, self._calibrated(scores)

    def find(self, batch: Mapping[str, Any]) -> SearchResult:
        """Returns ``SearchResult`` of a batch of arrays, without excluded labels."""
        features = batch["features"]
        labels = batch["labels"]
        excluded = np.full((len(labels), 1), -1, np.int32)
        losses = None
        ranks = None
        if self._excluded is not None:
            excluded = self._excluded.rows(batch["example_index"])
        if self._full_loss:
            ids, scores, losses = self.model.find_with_loss(
                features, labels, self._depth, self._probabilities
            )
        if not self._full_loss or self._method is not None:
            ids, scores = self._search(features)
        if self._excluded is not None:
            # Excluded labels move behind the others; where these run out, there is no label.
            left_out = hits(ids, excluded)
            order = np.argsort(left_out, axis=1, kind="stable")[:, : self.k]
            left_out = np.take_along_axis(left_out, order, 1)
            ids = np.where(left_out, -1, np.take_along_axis(ids, order, 1))
            scores = np.where(left_out, -np.inf, np.take_along_axis(scores, order, 1))
        scores = self._calibrated(scores)  # it was learned of lists without excluded labels
        if self._ranks:
            model: Any = self.model
            ranks = model.find_ranks(features, np.asarray(labels, np.int32), excluded)
        return SearchResult(ids, scores, labels, losses, ranks)

    def _calibrated(self, scores: np.ndarray) -> np.ndarray:
        return scores if self._calibration is None else self._calibration(scores)

    def _search(self, features: Mapping[str, Any] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns ids and scores by the method, perhaps compared with those of the usual one."""
        began = time.perf_counter()
        arguments = (features, self._depth, self._probabilities)
        ids, scores = self.model.find_top_k(*arguments, self._method)
        if self._compared is not None:
            between = time.perf_counter()
            usual, _ = self.model.find_top_k(*arguments)
            seconds = between - began, time.perf_counter() - between
            self._compared.update(ids[:, : self.k], usual[:, : self.k], seconds)
        return ids, scores

    def over(
        self,
        examples: Examples,
        batch_size: int,
        title: str | None = None,
        watch: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> Iterator[SearchResult]:
        """Yields ``SearchResult`` of examples in order, with a progress line if it has a title.

        Args:
            examples: what is searched.
            batch_size: at a time.
            title: of the progress line.
            watch: is called with each batch, as ``RunModel.stream`` yields it, before the search.
        """
        progress = Progress(title, examples.num_examples, "examples")
        for batch in self.model.stream(examples.sequential(batch_size)):
            if watch is not None:
                watch(batch)
            result = self.find(batch)
            yield result
            if title:
                progress.advance(len(result.ids))
        if title:
            progress.close()


class Agreement:
    """How many of the labels of one search another one finds, and how long both take.

    The first batch does not count for the times: it compiles, and makes indices.

    Example:
        >>> agreement = Agreement()
        >>> agreement.update(np.array([[3, 1]]), np.array([[1, 2]]), (1.0, 2.0))
        >>> agreement.recall
        0.5
    """

    def __init__(self) -> None:
        self._hits = 0
        self._wanted = 0
        self._k = 0
        self._batches = 0
        self._timed = 0
        self._seconds = np.zeros(2)

    def update(self, ids: np.ndarray, usual: np.ndarray, seconds: tuple[float, float]) -> None:
        """Adds the ids (batch, k) of a batch by the search and by the usual one."""
        self._hits += int(np.count_nonzero(hits(usual, ids)))
        self._wanted += int(np.count_nonzero(usual >= 0))
        self._k = usual.shape[1]
        if self._batches:
            self._seconds += seconds
            self._timed += len(ids)
        self._batches += 1

    @property
    def recall(self) -> float:
        """Share of the labels of the usual search that the other one finds."""
        return self._hits / max(1, self._wanted)

    def record(self) -> dict[str, Any]:
        """Returns what a file says of the search."""
        return {"search": "approximate", "recall_of_search": self.recall}

    def __str__(self) -> str:
        line = f"recall@{self._k} against the exact search {100 * self.recall:.2f} %"
        if not self._timed:
            return line
        ms, usual_ms = 1000 * self._seconds / self._timed
        return f"{line}; {ms:.3f} ms per example, with the encoder, instead of {usual_ms:.3f}"
