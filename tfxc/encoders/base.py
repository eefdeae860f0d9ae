"""What every encoder shares."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import keras
import numpy as np

from tfxc.core.declared import Declared
from tfxc.data.examples.kinds import KINDS
from tfxc.ops.empty_batch import with_one_example
from tfxc.ops.tables.large_weights import LargeWeights

if TYPE_CHECKING:
    import tensorflow as tf


class FeedForward(NamedTuple):
    """What ``Encoder.feed_forward`` returns; NumPy alone can compute it.

    The rows of a sparse bag are added up with their weights, those of tokens averaged. On the sum x
    follow ``activation(x + bias)`` and then, layer by layer, ``activation(x @ kernel + bias)``.

    Attributes:
        table: float32 (features or words, width).
        lookup: int32 (features,), the row of each feature where features are hashed; else None.
        kernels: float32 (inputs, outputs) of the layers above the table.
        biases: float32 (outputs,) of the table and of the layers above it.
        activations: Keras name of each of the biases' activations.
    """

    table: np.ndarray
    lookup: np.ndarray | None
    kernels: list[np.ndarray]
    biases: list[np.ndarray]
    activations: list[str]


class Encoder(Declared, LargeWeights):
    """Turns a batch's features into vectors.

    ``call(features, training=False)`` returns (batch, dim), or (batch, repetitions, dim) where
    each repetition of a head has its own trunk. ``features`` is what the data pipeline
    yields: a dict ``ids``, ``weights``, ``row_splits`` for sparse bags, a float32 (batch,
    num_features) tensor for dense vectors, a uint8 or float32 (batch, height, width, channels)
    tensor with values 0..255 for images, an int32 (batch, length) tensor padded with 0 for texts.
    Of joined features, which hold the tokens and the bag of each text, it is called with its own.

    ``build(None)`` makes the weights and ``compute_output_shape((None, num_features))`` returns the
    shape of the vectors where there is no example, as when weights are counted.

    Class attributes:
        providers: functions that find arguments marked by ``FromData`` in the training split, by
            argument, where ``data.sources.providers.PROVIDERS`` has none or another; see there.
        input_kind: name of the kind of features, see ``tfxc.data.examples.kinds.KINDS``.
        num_features: length of the vectors or width of the bags it was made for, if it depends on
            that.
        architecture: the shape of the network as a dict for JSON, where the config does
            not say it; a run keeps it.
        pretrained: whether weights come from elsewhere, so that they have no other start.
        compilable: whether ``encoders.bases.compiled`` has an effect on it.
        gates: ``Gates`` on the heads and inner units of an encoder whose layers can be pruned.
    """

    providers: ClassVar[Mapping[str, Callable[..., Any]]] = {}
    input_kind = "sparse"
    num_features: int | None = None
    gates: Any = None
    pretrained = False
    compilable = False

    @property
    def architecture(self) -> dict[str, Any] | None:
        """The shape of the network, for JSON; None where the config says all."""
        return None

    def feed_forward(self) -> FeedForward | None:
        """Returns its weights, if it is a table and dense layers and nothing else; else None."""
        return None

    @property
    def hash_seeds(self) -> list[int]:
        """Seeds of hashes, without which equally shaped weights are not of the same features."""
        return []

    def hash_with(self, seeds: list[int]) -> None:
        """Replaces ``hash_seeds`` and what was hashed with them: the encoder of a repetition.

        Encoders whose ``hash_seeds`` are not empty define it.
        """
        if seeds != self.hash_seeds:
            raise TypeError(f"{type(self).__name__} must define hash_with(seeds)")

    @property
    def layers_above(self) -> dict[int, int]:
        """Number of layers above each weight, by its ``id``; empty if there are no layers."""
        return {}

    @property
    def tables(self) -> "list[tf.Tensor]":
        """Keras variables: the embedding tables, read by ``ops.perturbations.read_rows`` only."""
        return []

    def __call__(
        self, features: "Mapping[str, tf.Tensor] | tf.Tensor", *args: object, **kwargs: object
    ) -> "tf.Tensor":
        """Encodes one batch, see ``call``; outside of training also one without examples."""
        features = self.select_features(features)
        symbolic = any(map(keras.utils.is_keras_tensor, keras.tree.flatten(features)))
        if symbolic or kwargs.get("training"):
            return super().__call__(features, *args, **kwargs)
        features, batch = with_one_example(features)
        vectors = super().__call__(features, *args, **kwargs)
        return vectors if batch is None else vectors[:batch]

    def select_features(self, features: "Mapping[str, tf.Tensor] | tf.Tensor") -> Any:
        """Returns the part of joined features that the encoder reads; other features as they are.

        Args:
            features: of a batch; joined ones are a dict ``tokens``, ``ids``, ``weights``,
                ``row_splits``.
        """
        return KINDS[self.input_kind].select_features(features)

    def call(
        self, features: "Mapping[str, tf.Tensor] | tf.Tensor", training: bool = False
    ) -> "tf.Tensor":
        """Encodes one batch."""
        raise TypeError(f"{type(self).__name__} must define call(features, training)")
