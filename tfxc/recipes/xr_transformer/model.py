"""A text encoder and the linear ranker that searches after it, as one model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import scipy.sparse
import tensorflow as tf

from tfxc.core.errors import ConfigError
from tfxc.data.examples.kinds import KINDS
from tfxc.decision.fitted import FittedDecision
from tfxc.inference.embedder import Embedder
from tfxc.inference.protocol import RankerModel
from tfxc.model import example_features, make_components
from tfxc.recipes.xr_transformer.embeddings import concatenated

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.encoders.base import Encoder
    from tfxc.recipes.xr_linear.model import LinearModel


class EncoderRanker(RankerModel, keras.Model):
    """Encoder, then a linear ranker over ``[terms | length · l2(encoding)]``.

    The encoder's weights are the model's; the ranker's stay in their files. A run on texts without
    terms has a ranker on the encodings alone.

    Args:
        encoder: an ``Encoder`` that has its weights.
        linear: ``LinearModel``, or None: such a model encodes and finds nothing.
        length: that the ranker's encodings are scaled to.

    Example:
        >>> ids, scores = model.find_top_k(features, 5)  # doctest: +SKIP
    """

    sharded_tables = ()  # see ``XCModel``

    def __init__(
        self, encoder: "Encoder", linear: "LinearModel | None", length: float = 1.0
    ) -> None:
        super().__init__(autocast=False)
        self.encoder = encoder
        self._length = length
        self._linear = [linear]  # in a list: Keras is not to look into it
        self._embed = Embedder(self)
        self.built = True

    @property
    def linear(self) -> "LinearModel":
        """The ranker, a ``LinearModel``.

        Raises:
            ConfigError: the run has none.
        """
        if self._linear[0] is None:
            raise ConfigError(
                "the run has only an encoder and no ranker",
                where="recipe.only_encoder",
                fix="train with only_encoder false",
            )
        return self._linear[0]

    @property
    def num_labels(self) -> int:
        """Number of labels that the ranker finds."""
        return self.linear.num_labels

    def searching_with(
        self, beam: int | None = None, post_processor: str | None = None
    ) -> "EncoderRanker":
        """See ``RankerModel.searching_with``."""
        linear = self.linear.searching_with(beam, post_processor)
        model = EncoderRanker(self.encoder, linear, self._length)
        model.decision = self.decision if post_processor is None else FittedDecision()
        return model

    def call(
        self, features: Mapping[str, tf.Tensor] | tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Returns encodings (batch, dim)."""
        return self.encoder(features, training=training)

    def find_top_k(
        self,
        features: Mapping[str, Any] | np.ndarray,
        k: int,
        probabilities: bool = False,
        method: str | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds the best labels of a batch by the native search, see ``RunModel.find_top_k``.

        Args:
            features: arrays as the data pipeline makes them: a dict ``ids``, ``weights``,
                ``row_splits``, and ``tokens`` where the encoder reads these; or the tokens alone.
            k: number of labels.
            probabilities: False, as the model has none of its own.
            method: None, there is one search.

        Raises:
            ConfigError: the run has no ranker.
        """
        return self.linear.find_top_k(self._joined(features), k)

    def similar_labels(self, label: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Asks the ranker, see ``LinearModel.similar_labels``."""
        return self.linear.similar_labels(label, k)

    def score_pairs(
        self,
        features: Mapping[str, Any] | np.ndarray,
        pairs: scipy.sparse.csr_matrix,
    ) -> scipy.sparse.csr_matrix:
        """See ``RankerModel.score_pairs``; features as of ``find_top_k``."""
        return self.linear.score_pairs(self._joined(features), pairs)

    def _joined(self, features: Mapping[str, Any] | np.ndarray) -> dict[str, np.ndarray]:
        """Makes what the ranker reads, a bag: the terms if there are any, and the encodings."""
        features = tf.nest.map_structure(np.asarray, features)
        vectors = self._embed(features)
        terms = None
        if isinstance(features, dict):
            parts = tuple(features[name] for name in ("weights", "ids", "row_splits"))
            shape = (len(parts[2]) - 1, self.linear.ranker.num_features - vectors.shape[1])
            terms = scipy.sparse.csr_matrix(parts, shape, dtype=np.float32, copy=True)
            terms.sum_duplicates()
        both = concatenated(terms, vectors, self._length)
        return {"ids": both.indices, "weights": both.data, "row_splits": both.indptr}

    def top_k(
        self,
        features: Mapping[str, tf.Tensor] | tf.Tensor,
        k: int,
        probabilities: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Does the same in TensorFlow's graph, with the same features as tensors."""
        vectors = tf.cast(self.encoder(features, training=False), tf.float32)
        lengths = tf.norm(vectors, axis=1, keepdims=True)
        vectors = tf.math.divide_no_nan(vectors, lengths) * self._length
        if not isinstance(features, dict):
            return self.linear.top_k(vectors, k)
        width = vectors.shape[1]
        columns = tf.range(width) + (self.linear.ranker.num_features - width)
        columns = tf.broadcast_to(columns, tf.shape(vectors))
        splits = features["row_splits"]
        pairs = {"ids": columns, "weights": vectors}
        joined = {
            name: tf.concat(
                [
                    tf.RaggedTensor.from_row_splits(features[name], splits, validate=False),
                    tf.RaggedTensor.from_tensor(dense, row_splits_dtype=tf.int64),
                ],
                axis=1,
            )
            for name, dense in pairs.items()
        }
        bag = {name: ragged.values for name, ragged in joined.items()}
        bag["row_splits"] = joined["ids"].row_splits
        return self.linear.top_k(bag, k)


def built_encoder(config: "Config", dimensions: Mapping[str, Any]) -> "Encoder":
    """Builds the encoder of a config with its first weights.

    Args:
        config: ``Config``.
        dimensions: what the data decides.

    Raises:
        ConfigError: an argument does not fit.
    """
    keras.config.set_dtype_policy(config.training.precision)
    encoder, _, _ = make_components(config, **dimensions)
    encoder(example_features(KINDS[dimensions["feature_kind"]], dimensions))
    return encoder
