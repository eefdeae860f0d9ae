"""The model: encoder -> head, with its objective."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from tfxc.core import registry
from tfxc.core.errors import ConfigError
from tfxc.data.examples.kinds import KINDS
from tfxc.decision.fitted import FittedDecision
from tfxc.encoders.bases.repeated import Repeated
from tfxc.encoders.bases.starts import restart_encoder, restart_head
from tfxc.ops.batch_function import BatchFunction
from tfxc.ops.margins import unit_rows
from tfxc.ops.perturbations import perturbations
from tfxc.ops.tables.large_weights import starts_are_left_out

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.examples.kinds import FeatureKind
    from tfxc.encoders.base import Encoder
    from tfxc.heads.base import Head
    from tfxc.objectives.base import Objective
    from tfxc.ops.distributed.sharded_table import ShardedTable
    from tfxc.ops.logit_group import LogitGroup
    from tfxc.ops.search.nearest import NearestRows


@keras.saving.register_keras_serializable("tfxc")
class XCModel(keras.Model):
    """An extreme classifier.

    Calling it returns the head's raw scores; ``top_k`` finds labels in the graph, ``find_top_k``
    outside it: it is a ``tfxc.inference.protocol.RunModel``.

    Args:
        encoder: an ``Encoder``.
        head: a ``Head``.
        objective: an ``Objective``; its state is saved with the model.

    Example:
        >>> from tfxc.encoders.precomputed import Precomputed
        >>> from tfxc.heads.dense import Dense
        >>> from tfxc.objectives.softmax import Softmax
        >>> model = XCModel(Precomputed(4), Dense(10), Softmax())
        >>> ids, scores = model.top_k(tf.ones((2, 4)), k=3)
        >>> ids.shape
        TensorShape([2, 3])
    """

    decision = FittedDecision()

    def __init__(
        self, encoder: "Encoder", head: "Head", objective: "Objective", **kwargs: Any
    ) -> None:
        # Weights of features stay float32 under mixed precision; each part casts for itself.
        super().__init__(autocast=False, **kwargs)
        self.encoder = encoder
        self.head = head
        self.objective = objective
        self._find = BatchFunction(self.top_k)
        self._find_with_loss = BatchFunction(self._top_k_and_loss)
        self._search_scores = BatchFunction(self._scores_to_search)
        self._ranks = BatchFunction(self._label_ranks)
        self._unit_vectors = BatchFunction(self.vectors)
        self._label_vectors = BatchFunction(self._label_text_vectors)
        self._queries = BatchFunction(self._search_queries)
        self._nearest: NearestRows | None = None

    def build(self, input_shape: Sequence | Mapping[str, Any] | None = None) -> None:
        """Does nothing: weights are made when the model is first called, see ``build_model``."""

    def call(
        self, features: Mapping[str, tf.Tensor] | tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Returns the head's raw scores of a batch."""
        if not self.objective.built:
            self.objective.build(None)
        return self.head(self.encoder(features, training=training))

    def losses_of(
        self,
        batch: Mapping[str, Any],
        training: bool = True,
        update_state: bool = True,
        groups_of: "Callable[..., list[tuple[LogitGroup, ...]]] | None" = None,
    ) -> tf.Tensor:
        """Returns per-example losses of a batch, summed over the head's logit groups, float32
        (batch,).

        Args:
            batch: dict ``features``, ``labels``, and ``example_index``, without which objectives
                with a state per example leave it as it is.
            training: whether dropout and the like are on.
            update_state: whether, in training, such states change.
            groups_of: what takes the place of ``groups_of_passes``.
        """
        vectors = self.encoder(batch["features"], training=training)
        groups_of = groups_of or functools.partial(self.groups_of_passes, training=training)
        (groups,) = groups_of([vectors], batch["labels"])
        index = batch.get("example_index")
        return self.objective.of_groups(groups, index, training and update_state)

    def groups_of_passes(
        self, passes: Sequence[tf.Tensor], labels: tf.Tensor, training: bool = True
    ) -> "list[tuple[LogitGroup, ...]]":
        """Returns the head's ``groups_of_passes``; the encoder makes the columns that have texts.

        Args:
            passes: list of features, e.g. of different dropout masks.
            labels: int32 (batch, max_labels) padded with -1.
            training: whether dropout and the like are on.
        """
        head: Any = self.head
        if not head.reads_label_texts:
            return head.groups_of_passes(passes, labels)
        from tfxc.ops.encoded_in_chunks import encoded_in_chunks

        columns = head.columns_of(labels)

        def encode(ids: tf.Tensor) -> tf.Tensor:
            # What a technique adds to the words is for those of the examples.
            with perturbations(()):
                return self.encoder(head.label_features(ids), training=training)

        encoded = encoded_in_chunks(encode, columns.ids, head.label_chunks(labels.shape[0]))
        rows = head.vectors_of(columns.ids, encoded)
        return head.groups_of_passes(passes, labels, columns=columns, rows=rows)

    def refresh(self) -> None:
        """Brings what the head keeps of labels' texts up to date with the encoder."""
        head: Any = self.head
        if head.reads_label_texts:
            head.refresh(self._label_vectors)

    @property
    def num_labels(self) -> int:
        """Number of labels."""
        return self.head.num_labels

    @property
    def sharded_tables(self) -> "Sequence[ShardedTable]":
        """The head's ``ShardedTable``s."""
        return self.head.sharded_tables

    @property
    def search_methods(self) -> tuple[str, ...]:
        """Names of the searches outside the graph, the usual one first: the head's own, or two."""
        if self.head.has_inner_products:
            return ("exact", "approximate")
        return self.head.search_methods

    @property
    def full_softmax(self) -> bool:
        """Whether the head has a softmax over all labels."""
        return self.head.full_softmax

    @property
    def partial_loss(self) -> bool:
        """Whether the objective's loss is not a measure of the fit to all labels."""
        return self.objective.partial_loss

    @property
    def searched_part(self) -> str:
        """The head, for messages."""
        return f"head {type(self.head).__name__}"

    @property
    def has_probabilities(self) -> bool:
        """Whether scores can be given as probabilities; of margins these have to be learned."""
        if self.decision.calibration is not None:
            return True
        if self.objective.link == "hinge":
            return False
        return self.head.full_softmax or self.head.log_scores

    @property
    def decides_each_label(self) -> bool:
        """Whether probabilities are of each label by itself, not of one among all."""
        return self.objective.link == "sigmoid"

    def check_k(self, k: int) -> None:
        """Raises a ``ValueError`` if more labels are requested than there are."""
        self.head.check_k(k)

    def check_probabilities(self) -> None:
        """Raises a ``ConfigError`` that names the reason if there are no probabilities."""
        if not self.has_probabilities:
            hinge = self.objective.link == "hinge"
            why = "its scores are margins" if hinge else "it has no softmax over all labels"
            raise ConfigError(
                f"the {self.searched_part} has no probabilities: {why}",
                where="--probabilities",
                fix="leave it out to get scores",
            )

    def stream(self, batches: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Yields the batches as they are, see ``RunModel.stream``."""
        yield from batches

    def find_top_k(
        self,
        features: Mapping[str, Any] | np.ndarray,
        k: int,
        probabilities: bool = False,
        method: str | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the best labels of a batch of arrays, by the head's native search where it has
        one.

        See ``RunModel.find_top_k``.
        """
        if self.head.has_inner_products and method == "approximate":
            if probabilities and not self.decides_each_label:
                raise ConfigError(
                    "the approximate search has no probabilities: a softmax needs the scores of "
                    "all labels",
                    where="--search",
                    fix="ask for scores (tfxc serve --scores), or search exactly",
                )
            from tfxc.ops.search.nearest import NearestRows

            if self._nearest is None:  # an index of the labels' rows
                self._nearest = NearestRows(self.head.inner_products(), self.num_labels)
            ids, scores = self._nearest.search(self._queries(features), k)
            return ids, tf.sigmoid(scores).numpy() if probabilities else scores
        if not self.head.search_methods:
            return self._find(features, k=k, probabilities=probabilities)
        scores = self._search_scores(features)
        return self.head.search_top_k(scores, k, method or self.search_methods[0])

    def search_scores(self, features: Mapping[str, Any] | np.ndarray) -> np.ndarray:
        """Returns what the head's native search is given for a batch of arrays, see
        ``search_top_k``.
        """
        return self._search_scores(features)

    def find_with_loss(
        self,
        features: Mapping[str, Any] | np.ndarray,
        labels: np.ndarray,
        k: int,
        probabilities: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns ids, scores and losses of a batch of arrays, see ``RunModel.find_with_loss``."""
        return self._find_with_loss(features, labels, k=k, probabilities=probabilities)

    def find_ranks(
        self, features: Mapping[str, Any] | np.ndarray, labels: np.ndarray, excluded: np.ndarray
    ) -> np.ndarray:
        """Returns the ranks of the true labels of a batch of arrays, see ``Head.label_ranks``."""
        return self._ranks(features, labels, excluded)

    def vectors(self, features: Mapping[str, Any] | tf.Tensor) -> tf.Tensor:
        """Returns the vectors of a batch, float32 (batch, dim), scaled to length 1, in the
        graph.
        """
        return unit_rows(self.encoder(features, training=False))

    def find_vectors(self, features: Mapping[str, Any] | np.ndarray) -> np.ndarray:
        """Returns the ``vectors`` of a batch of arrays."""
        return self._unit_vectors(features)

    def similar_labels(self, label: int, k: int) -> tuple[np.ndarray, np.ndarray] | None:
        """By the cosines of the head's weights, see ``RunModel.similar_labels``."""
        from tfxc.ops.search.similarity import most_similar

        similarities = self.head.label_similarities(label)
        return None if similarities is None else most_similar(similarities, label, k)

    def top_k(
        self, features: Mapping[str, Any] | tf.Tensor, k: int, probabilities: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns ids int32 and scores float32 (batch, k) of the best labels, in the graph.

        Args:
            features: tensors of a batch.
            k: number of labels.
            probabilities: whether to return probabilities instead of scores.
        """
        vectors = self.encoder(features, training=False)
        ids, scores = self.head.top_k(vectors, k)
        return ids, self._as_probabilities(vectors, ids, scores) if probabilities else scores

    def _top_k_and_loss(
        self, features: Mapping[str, Any], labels: tf.Tensor, k: int, probabilities: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        vectors = self.encoder(features, training=False)
        ids, scores, losses = self.head.top_k_and_loss(vectors, labels, k)
        if probabilities:
            scores = self._as_probabilities(vectors, ids, scores)
        return ids, scores, losses

    def _label_ranks(
        self, features: Mapping[str, Any], labels: tf.Tensor, excluded: tf.Tensor
    ) -> tf.Tensor:
        return self.head.label_ranks(self.encoder(features, training=False), labels, excluded)

    def _label_text_vectors(self, ids: tf.Tensor) -> tf.Tensor:
        head: Any = self.head
        return head.vectors_of(ids, self.encoder(head.label_features(ids), training=False))

    def _search_queries(self, features: Mapping[str, Any]) -> tf.Tensor:
        return self.head.inner_products().queries(self.encoder(features, training=False))

    def _scores_to_search(self, features: Mapping[str, Any]) -> tf.Tensor:
        return self.head.search_scores(self.encoder(features, training=False))

    def _as_probabilities(self, vectors: tf.Tensor, ids: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        if self.head.log_scores:
            return tf.exp(scores)
        if self.objective.link == "sigmoid":
            return tf.sigmoid(scores)
        # The loss of the best label yields the sum over all: log sum = loss + score.
        losses = self.head.top_k_and_loss(vectors, ids[:, :1], 1)[2]
        return tf.exp(scores - scores[:, :1] - losses[:, None])

    def get_config(self) -> dict[str, Any]:
        """Returns the three parts, serialised."""
        parts = {"encoder": self.encoder, "head": self.head, "objective": self.objective}
        saved = {key: keras.saving.serialize_keras_object(part) for key, part in parts.items()}
        return {**super().get_config(), **saved}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "XCModel":
        """Makes the three parts again."""
        names = ("encoder", "head", "objective")
        parts = [keras.saving.deserialize_keras_object(config.pop(name)) for name in names]
        return cls(*parts, **config)


def build_model(
    config: "Config",
    *,
    feature_kind: str = "sparse",
    repetition: int | None = None,
    **data_dependent: Any,
) -> "XCModel":
    """Makes and builds the model of a config.

    Args:
        config: a ``tfxc.core.config.Config``.
        feature_kind: name of the kind of features, see ``tfxc.data.examples.kinds.KINDS``.
        repetition: number r for the model of repetition r alone; None for the complete model.
        data_dependent: values of ``data_dependent_arguments``: ``num_features``, ``num_labels``,
            for images ``image_shape`` (height, width, channels), for joined texts
            ``vocabulary_size`` of their tokens, and whatever else encoder, head or objective list,
            as ``num_examples`` of the training split.

    Raises:
        ConfigError: an argument does not fit; the message names the config section.
    """
    keras.config.set_dtype_policy(config.training.precision)
    parts = make_components(
        config, feature_kind=feature_kind, repetition=repetition, **data_dependent
    )
    model = XCModel(*parts)
    example = example_features(KINDS[feature_kind], data_dependent)
    model(example)
    if not starts_are_left_out():
        _restart(model, config, example)
    return model


@contextlib.contextmanager
def own_precision() -> Iterator[None]:
    """Inside, models may be built in another precision; what is built later keeps its own."""
    before = keras.config.dtype_policy()
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _restart(
    model: XCModel, config: "Config", example: Mapping[str, tf.Tensor] | tf.Tensor
) -> None:
    """Gives kernels the start that the sections of encoder and head name.

    A constructor with an argument ``start`` has done so.
    """
    assert config.encoder is not None and config.head is not None, "a network is trained"
    start = config.encoder.section().get("start")
    repeated = isinstance(model.encoder, Repeated)
    encoders = model.encoder.encoders if repeated else [model.encoder]
    for encoder in encoders:
        if start is None or "start" in registry.arguments(type(encoder)):
            continue
        if encoder.pretrained:
            raise ConfigError(
                f"start {start!r} would replace the encoder's pretrained weights",
                where="encoder.start",
                fix="remove it",
            )
        seed = config.encoder.section().get("seed", config.seed)
        restart_encoder(encoder.weights, start, vars(encoder).get("seed", seed), encoder.tables)
    start = config.head.section().get("start")
    head = model.head
    if start in (None, registry.LABEL_TEXTS):  # the latter needs the data, see training.start
        return
    if head.sharded_tables:
        raise ConfigError(
            f"start {start!r} cannot be given to weights that are sharded over replicas",
            where="head.start",
            fix="remove it, or head.sharded and head.update, or train on one device",
        )
    if head.reads_label_texts:
        raise ConfigError(
            f"start {start!r} has no effect on head 'label_text': the encoder makes its vectors",
            where="head.start",
            fix="remove it",
        )
    if head.fused_variables and start == "xavier":
        raise ConfigError(
            "start 'xavier' depends on the number of labels, which head.update 'fused' does not "
            "allow",
            where="head.start",
            fix="choose 'uniform', 'normal' or 'kaiming', or remove it",
        )
    assert config.head is not None
    seed = config.head.section().get("seed", config.seed)
    dim = model.encoder(example).shape[-1]
    restart_head(head.trainable_weights, start, seed, dim=dim, first=head.first_repetition)


def make_components(
    config: "Config",
    *,
    feature_kind: str = "sparse",
    repetition: int | None = None,
    **data_dependent: Any,
) -> "tuple[Encoder, Head, Objective]":
    """Returns encoder, head and objective of a config, not yet built; arguments of
    ``build_model``.
    """
    assert config.encoder is not None, "a network is trained"
    assert config.head is not None and config.objective is not None
    kind = KINDS[feature_kind]
    input_kind = registry.get("encoder", config.encoder.name).input_kind
    if not kind.holds(KINDS[input_kind]):
        raise ConfigError(
            f"encoder {config.encoder.name!r} reads {KINDS[input_kind].description}, but the data "
            f"have {kind.description}",
            where="encoder.name",
            fix=f"use encoder {kind.encoder!r}",
        )
    data_dependent = dict(kind.model_arguments(data_dependent))
    section = {"seed": config.seed, **config.head.section()}
    known = registry.arguments(registry.get("head", section["name"]))
    if "seed" not in known:
        section.pop("seed")
    if "link" in known and section.get("link") is None:
        section["link"] = registry.get("objective", config.objective.name).link
    if repetition is not None:
        first = section.get("first_repetition", 0)
        section |= {"num_repetitions": 1, "first_repetition": first + repetition, "trunk": "shared"}
    head = registry.create("head", section, **data_dependent)
    data_dependent["num_groups"] = head.num_groups
    data_dependent["columns_are_labels"] = head.columns_are_labels
    objective = registry.create("objective", config.objective.section(), **data_dependent)
    return _encoder(config, head, repetition, data_dependent), head, objective


def example_features(
    kind: "FeatureKind", sizes: Mapping[str, Any]
) -> dict[str, tf.Tensor] | tf.Tensor:
    """Returns the features of two examples, to build a model with.

    Args:
        kind: ``tfxc.data.examples.kinds.FeatureKind``.
        sizes: what the data decides, with ``num_features``.
    """
    return tf.nest.map_structure(tf.constant, kind.batch(kind.example(sizes)))


def load_model(path: str | Path, **kwargs: Any) -> "XCModel":
    """Returns the ``keras.models.load_model`` that knows tfxc's classes.

    Keras' safe mode is on: code in the file is refused, see docs/trust.md.

    Example:
        >>> model = load_model("model.keras")  # doctest: +SKIP
    """
    registry.register_all()
    return keras.models.load_model(path, **kwargs)


def _encoder(
    config: "Config", head: "Head", repetition: int | None, data_dependent: Mapping[str, Any]
) -> "Encoder":
    assert config.encoder is not None
    section = config.encoder.section()
    known = registry.arguments(registry.get("encoder", section["name"]))
    if "seed" in known:
        section.setdefault("seed", config.seed)
    if repetition is None and head.trunk == "shared":
        return registry.create("encoder", section, **data_dependent)
    encoders = []
    for number in range(head.first_repetition, head.first_repetition + head.num_repetitions):
        repeated = dict(section)  # each has its own start, masks and feature hash
        if "seed" in known:
            repeated["seed"] = 100 * section["seed"] + number
        if "hash_seed" in known:
            repeated["hash_seed"] = section.get("hash_seed", 0) + number
        encoders.append(registry.create("encoder", repeated, **data_dependent))
    return encoders[0] if repetition is not None else Repeated(encoders)
