"""Models of several networks, of which one at a time is in memory."""

import abc
import contextlib
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from shutil import disk_usage
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfxc.core.progress import Progress
from tfxc.core.storage.spill import Spill
from tfxc.decision.fitted import FittedDecision

if TYPE_CHECKING:
    import tensorflow as tf

    from tfxc.heads.base import Head
    from tfxc.model import XCModel

_LEAST = 2**30  # bytes of a block of examples, unless the disk is small


class Found(NamedTuple):
    """What the networks have found for a batch, in the place of its features.

    Attributes:
        scores: of each network, an array whose first axis is the batch.
    """

    scores: list[np.ndarray]


class StreamedModel(abc.ABC):
    """A ``RunModel`` that joins the scores of several networks of one shape.

    ``stream`` runs one member after the other over a block of examples; examples and scores wait
    in temporary files meanwhile. A block is as many examples as take the space of all members'
    weights there, so that reading weights takes no longer than reading scores, and at most half of
    the free space. The answers are those of the model with all networks in memory.

    ``find_top_k`` also finds labels of a batch that was not streamed, for which it loads every
    member. There is no search in the graph: exports need all networks.

    A subclass has ``network``, an ``XCModel`` into which ``load`` reads the weights of a member.

    Args:
        whole: how the joined scores are searched; weights of it that do not exist are not used.
        count: number of members.
        unit: what a member is, ``"repetition"`` or ``"fold"``.
    """

    network: "XCModel"
    decision = FittedDecision()

    def __init__(self, whole: "XCModel", count: int, unit: str) -> None:
        self._whole = whole
        self._count = count
        self._unit = unit
        self._loaded: int | None = None

    @abc.abstractmethod
    def load(self, number: int) -> None:
        """Gives the network the weights of a member.

        Raises:
            CheckpointError: they cannot be read.
        """

    @abc.abstractmethod
    def scores_of(self, features: Mapping[str, Any] | np.ndarray) -> np.ndarray:
        """Returns what the network finds for a batch of arrays, whose first axis is the batch."""

    @abc.abstractmethod
    def joined(self, scores: list[np.ndarray]) -> np.ndarray:
        """Returns what the whole model searches, from what each member has found."""

    @abc.abstractmethod
    def find_in_scores(
        self, scores: np.ndarray, k: int, probabilities: bool, method: str | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns ``find_top_k`` in joined scores."""

    @property
    def head(self) -> "Head":
        """That of the whole model, without weights."""
        return self._whole.head

    @property
    def num_labels(self) -> int:
        """Number of labels that can be found."""
        return self._whole.num_labels

    @property
    def search_methods(self) -> tuple[str, ...]:
        """See ``RunModel``."""
        return self._whole.search_methods

    @property
    def full_softmax(self) -> bool:
        """See ``RunModel``."""
        return self._whole.full_softmax

    @property
    def partial_loss(self) -> bool:
        """See ``RunModel``."""
        return self._whole.partial_loss

    @property
    def has_probabilities(self) -> bool:
        """See ``RunModel``."""
        return self.decision.calibration is not None or self._whole.has_probabilities

    @property
    def decides_each_label(self) -> bool:
        """See ``RunModel``."""
        return self._whole.decides_each_label

    @property
    def searched_part(self) -> str:
        """See ``RunModel``."""
        return self._whole.searched_part

    def check_k(self, k: int) -> None:
        """Raises a ``ValueError`` if more labels are requested than there are."""
        self._whole.check_k(k)

    def check_probabilities(self) -> None:
        """Raises a ``ConfigError`` that names the reason if there are no probabilities."""
        if not self.has_probabilities:
            self._whole.check_probabilities()

    def stream(self, batches: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yields the batches in their order, each with a ``Found`` as its features.

        Args:
            batches: dicts with ``features``; what else they hold must be picklable.

        Raises:
            MachineError: the disk is full.
            CheckpointError: a member's weights cannot be read.
        """
        batches = iter(batches)
        for first in batches:
            yield from self._block(itertools.chain([first], batches))

    def _block(self, batches: Iterator[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yields the batches of a block, once each member has run over them."""
        last = self._count - 1
        with contextlib.ExitStack() as stack:
            waiting: Any = stack.enter_context(Spill())
            spills = [stack.enter_context(Spill()) for _ in range(last)]
            if not spills:
                waiting = batches
            for number, spill in enumerate(spills):
                block = self._collected(batches, waiting, spill) if number == 0 else waiting
                self._use(number)
                title = f"{self._unit} {number + 1} of {self._count}"
                with Progress(title, unit="examples") as progress:
                    for batch in block:
                        scores_of_member = self.scores_of(batch["features"])
                        spill.append(scores_of_member)
                        progress.advance(len(scores_of_member))
            self._use(last)
            for batch, *scores in zip(waiting, *spills, strict=True):
                scores.append(self.scores_of(batch["features"]))
                yield {**batch, "features": Found(scores)}

    def _collected(
        self, batches: Iterator[Mapping[str, Any]], waiting: Spill, scores: Spill
    ) -> Iterator[Mapping[str, Any]]:
        """Yields batches and keeps them, until the files of a block are full."""
        values = [variable.value for variable in self.network.variables]
        bytes_of_member = sum(value.shape.num_elements() * value.dtype.size for value in values)
        space = disk_usage(tempfile.gettempdir()).free // 2
        limit = min(max(self._count * bytes_of_member, _LEAST), space)
        for batch in batches:
            waiting.append(batch)
            yield batch
            if waiting.size + (self._count - 1) * scores.size >= limit:
                return

    def _use(self, number: int) -> None:
        if self._loaded != number:
            self._loaded = None  # where it cannot be read, there is no member at all
            self.load(number)
            self._loaded = number

    def search_scores(self, features: Mapping[str, Any] | np.ndarray | Found) -> np.ndarray:
        """Returns the joined scores of a batch; for one not streamed, every member is loaded."""
        if isinstance(features, Found):
            return self.joined(features.scores)
        (batch,) = self.stream([{"features": features}])
        return self.joined(batch["features"].scores)

    def find_top_k(
        self,
        features: Mapping[str, Any] | np.ndarray | Found,
        k: int,
        probabilities: bool = False,
        method: str | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """See ``RunModel``; ``features`` may be what ``stream`` yields."""
        return self.find_in_scores(self.search_scores(features), k, probabilities, method)

    def find_with_loss(
        self,
        features: Mapping[str, Any] | np.ndarray | Found,
        labels: np.ndarray,
        k: int,
        probabilities: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See ``RunModel``; ``features`` may be what ``stream`` yields."""
        return self._whole.find_with_loss(self.search_scores(features), labels, k, probabilities)

    def similar_labels(self, label: int, k: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Raises a ``TypeError``: the weights of all members are compared."""
        raise TypeError(f"{type(self).__name__} compares no labels")

    def top_k(
        self, features: "Mapping[str, tf.Tensor] | tf.Tensor", k: int, probabilities: bool = False
    ) -> tuple[Any, Any]:
        """Raises a ``TypeError``: a search in the graph needs all members."""
        raise TypeError(f"{type(self).__name__} has no search in the graph")
