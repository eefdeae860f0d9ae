"""What every trained model offers that finds labels, however it was trained."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from tfxc.core.declared import check_k
from tfxc.core.errors import ConfigError
from tfxc.decision.fitted import FittedDecision

if TYPE_CHECKING:
    import scipy.sparse
    import tensorflow as tf

    from tfxc.ranker.fusion.memory import ExampleMemory


@runtime_checkable
class RunModel(Protocol):
    """A model that finds the best labels of examples; what ``Recipe.assemble`` returns.

    ``XCModel`` is one, and so are the models of linear rankers (``RankerModel``). What searches,
    measures, serves or exports a run needs nothing else.

    Features are those of a batch of the data pipeline, as arrays for ``find_top_k`` and
    ``find_with_loss``, as tensors for ``top_k``: a dict ``ids``, ``weights``, ``row_splits`` for
    sparse bags, float32 (batch, num_features) for dense vectors, and so on (docs/architecture.md).

    Attributes:
        num_labels: number of labels that can be found.
        search_methods: names of the searches outside the graph that ``find_top_k`` knows, the usual
            one first; empty if there is one search only.
        full_softmax: whether there is a softmax over all labels, so that ``find_with_loss`` works.
        partial_loss: whether the training loss of the model is no measure of the fit to all labels.
        has_probabilities: whether scores can be given as probabilities.
        decides_each_label: whether these are of each label by itself, not of one among all.
        decision: what was learned of it after training: how scores become probabilities, and which
            labels are returned. It is applied by whoever searches, not by the model.
        searched_part: what finds the labels, in words for messages, e.g. ``"head Dense"``.
    """

    @property
    def num_labels(self) -> int: ...

    @property
    def search_methods(self) -> tuple[str, ...]: ...

    @property
    def full_softmax(self) -> bool: ...

    @property
    def partial_loss(self) -> bool: ...

    @property
    def has_probabilities(self) -> bool: ...

    @property
    def decides_each_label(self) -> bool: ...

    decision: FittedDecision

    @property
    def searched_part(self) -> str: ...

    def check_k(self, k: int) -> None:
        """Raises a ``ValueError`` if more labels are requested than there are."""

    def check_probabilities(self) -> None:
        """Raises a ``ConfigError`` that names the reason if there are no probabilities."""

    def stream(self, batches: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Yields batches in their order, to be searched one by one.

        A model of several networks of which one at a time is in memory has run each of them over
        many batches then; what they have found is in the place of the features. Other models
        yield the batches as they are.

        Args:
            batches: dicts with ``features``, and anything else.
        """

    def find_top_k(
        self,
        features: Mapping[str, Any] | np.ndarray,
        k: int,
        probabilities: bool = False,
        method: str | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the best labels of a batch, by the fastest search there is.

        Args:
            features: arrays of a batch, or what ``stream`` has put in their place.
            k: number of labels.
            probabilities: whether to return probabilities instead of scores.
            method: one of ``search_methods``; None means the first.

        Returns:
            ids int32 and scores float32, both (batch, k), best first; where fewer labels are found
            the rest is id -1 with score minus infinity.
        """

    def find_with_loss(
        self,
        features: Mapping[str, Any] | np.ndarray,
        labels: np.ndarray,
        k: int,
        probabilities: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns ``find_top_k``, and the cross-entropy of the softmax over all labels.

        Args:
            features: arrays of a batch.
            labels: true ones, int32 (batch, max_labels) padded with -1.
            k: number of labels.
            probabilities: see ``find_top_k``.

        Returns:
            ids, scores, and losses float32 (batch,), see ``Head.top_k_and_loss``.
        """

    def similar_labels(self, label: int, k: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns the neighbours of a label: others whose weights are like its own.

        Args:
            label: its id.
            k: how many.

        Returns:
            ids int32 and similarities float32, at most k, best first; None where labels have no
            weights that can be compared.
        """

    def top_k(
        self, features: "Mapping[str, tf.Tensor] | tf.Tensor", k: int, probabilities: bool = False
    ) -> tuple[Any, Any]:
        """Returns the best labels as TensorFlow operations: tensors in, tensors out."""


class RankerModel:
    """What the models share that a linear ranker searches, outside TensorFlow and by a beam.

    A subclass has ``num_labels``, ``searching_with``, ``find_top_k``, ``top_k``, ``similar_labels``
    and ``score_pairs``. Its probabilities are those of its ``decision``.

    Attributes:
        memory: an ``ExampleMemory`` that it finds labels by, which no graph of TensorFlow searches;
            or None.
    """

    search_methods: tuple[str, ...] = ()
    full_softmax = False
    partial_loss = False
    decides_each_label = True
    searched_part = "model"
    decision = FittedDecision()
    memory: "ExampleMemory | None" = None

    @property
    def num_labels(self) -> int:
        """Number of labels that can be found."""
        raise TypeError(f"{type(self).__name__} must define num_labels")

    @property
    def has_probabilities(self) -> bool:
        """Whether there is a calibration, and it holds for the post-processor searched with."""
        return self.decision.calibration is not None

    def check_k(self, k: int) -> None:
        """Raises a ``ValueError`` if more labels are requested than there are."""
        check_k(k, self.num_labels)

    def check_probabilities(self) -> None:
        """Raises a ``ConfigError`` if the scores are not calibrated."""
        if not self.has_probabilities:
            raise ConfigError(
                "the scores of this model and post-processor are not calibrated as probabilities",
                where="--probabilities",
                fix="leave it out to get scores",
            )

    def stream(self, batches: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Yields the batches as they are, see ``RunModel``."""
        yield from batches

    def find_with_loss(
        self,
        features: Mapping[str, Any] | np.ndarray,
        labels: np.ndarray,
        k: int,
        probabilities: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Raises a ``TypeError``: there is no softmax over all labels."""
        raise TypeError(f"{type(self).__name__} has no softmax over all labels")

    def search_settings(self) -> list[tuple[str, int]] | None:
        """Returns the post-processor of each layer and the nodes kept in it.

        None where the ranker reads more than the features of the examples, so that its files do not
        answer alone.
        """
        return None

    def searching_with(
        self, beam: int | None = None, post_processor: str | None = None
    ) -> "RankerModel":
        """Returns a model of the same weights that searches with another beam or post-processor.

        Args:
            beam: nodes kept in every layer but the last; None keeps the run's.
            post_processor: name, of all layers; None keeps the run's.

        Raises:
            ConfigError: an unknown post-processor, or a beam below 1.
        """
        raise TypeError(f"{type(self).__name__} must define searching_with(beam, post_processor)")

    def score_pairs(
        self,
        features: Mapping[str, Any] | np.ndarray,
        pairs: "scipy.sparse.csr_matrix",
    ) -> "scipy.sparse.csr_matrix":
        """Returns scores of chosen labels of a batch, whether or not the beam would find them.

        Args:
            features: arrays of a batch, as of ``RunModel.find_top_k``.
            pairs: sparse (batch, num_labels); the places of its entries are the labels to score.

        Returns:
            float32 CSR with the places of ``pairs``; minus infinity for a
            label that is never predicted.
        """
        raise TypeError(f"{type(self).__name__} must define score_pairs(features, pairs)")
