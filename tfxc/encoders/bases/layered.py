"""What the encoders of stacked self-attention share: a look at what they compute on the way."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf

from tfxc.encoders.bases.compiled import compiled, compiles_encoders, in_bucket
from tfxc.encoders.bases.tokens import TokenEncoder

if TYPE_CHECKING:
    from tfxc.encoders.base import Encoder


class LayerOutputs(NamedTuple):
    """One pass through a ``LayeredEncoder``.

    Attributes:
        vectors: what ``call`` returns, float (batch, output_dim).
        mask: bool (batch, length), False at padding.
        states: what enters the first layer, and what comes out of each; list of float
            (batch, length, dim).
        scores: list of float32 (batch, heads, length, length), one of each layer: the attention
            before the softmax, very low at padding. Empty where it was not requested.
    """

    vectors: Any
    mask: Any
    states: list[Any]
    scores: list[Any]


class LayeredEncoder(TokenEncoder):
    """Base of the encoders with layers of self-attention.

    A subclass writes ``hidden_states(x, mask, training, scores)`` (``scores``: None, or a list that
    gets the scores of each layer), ``pooled(states, mask)``, ``depth`` and
    ``weights_of_layer(number)``, and adds to ``embedding_weights`` and ``final_weights`` what it
    has there.
    """

    compilable = True
    longest = 0  # most ids of a text; 0 for no limit

    def call(self, features: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Encodes a batch of texts; inside ``compiled_encoders``, in training, by a program."""
        if not (training and compiles_encoders()):
            return super().call(features, training)
        ids = in_bucket(tf.cast(features, tf.int64), self.longest)
        # The table is read outside: its gradient is rows of it.
        return compiled(lambda x, mask: self.encode(x, mask, True), self.embed(ids), ids != 0)

    @property
    def depth(self) -> int:
        """Number of layers."""
        raise TypeError(f"{type(self).__name__} must define depth")

    @property
    def embedding_weights(self) -> dict[str, tf.Tensor]:
        """The weights in front of the layers by name."""
        return {"table": self.table}

    @property
    def final_weights(self) -> dict[str, Any]:
        """The weights after the layers by name."""
        return {}

    @property
    def layers_above(self) -> dict[int, int]:
        """Number of layers above each weight; of one that layers share, above the highest."""
        counts = {id(weight): self.depth for weight in self.embedding_weights.values()}
        for above in reversed(range(self.depth)):
            layer = self.weights_of_layer(self.depth - above)
            counts |= {id(weight): above for weight in layer.values()}
        return counts

    def pool(self, x: tf.Tensor, mask: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns the pooled vector of the states."""
        return self.pooled(self.hidden_states(x, mask, training), mask)

    def watched(
        self, features: tf.Tensor, training: bool = False, attention: bool = False
    ) -> "LayerOutputs":
        """Encodes a batch and keeps what is computed on the way.

        Args:
            features: of a batch.
            training: whether dropout is on.
            attention: whether to keep the scores of the attention.

        Returns:
            ``LayerOutputs``.
        """
        ids = tf.cast(self.select_features(features), tf.int32)
        scores: list[tf.Tensor] = []
        mask = ids != 0
        x = self.masked_inputs(self.embed(ids), mask, training)
        states = self.hidden_states(x, mask, training, scores if attention else None)
        vectors = self.dropped_outputs(self.pooled(states, mask), training)
        return LayerOutputs(vectors, mask, states, scores)

    def pooled(self, states: Sequence[tf.Tensor], mask: tf.Tensor) -> tf.Tensor:
        """Returns vectors (batch, output_dim) of the states."""
        raise TypeError(f"{type(self).__name__} must define pooled(states, mask)")

    def hidden_states(
        self,
        x: tf.Tensor,
        mask: tf.Tensor,
        training: bool = False,
        scores: list[tf.Tensor] | None = None,
    ) -> list[tf.Tensor]:
        """Returns what enters the first layer, and what comes out of each, a list."""
        raise TypeError(f"{type(self).__name__} must define hidden_states")

    def weights_of_layer(self, number: int) -> dict[str, tf.Tensor]:
        """Returns the weights of layer ``number`` from 1, by names that are the same in each
        layer.
        """
        raise TypeError(f"{type(self).__name__} must define weights_of_layer(number)")

    def start_from(self, teacher: "Encoder", layers: Sequence[int]) -> None:
        """Copies what comes before another encoder's layers and after them, and some of these.

        Args:
            teacher: a built encoder of the same class.
            layers: numbers (from 1) of its layers, one for each of this encoder's, from below.

        Raises:
            ValueError: classes, sizes or the number of layers do not fit.
        """
        if type(teacher) is not type(self) or len(layers) != self.depth:
            raise ValueError(
                f"a {type(self).__name__} with {self.depth} layers cannot start from "
                f"{len(layers)} of a {type(teacher).__name__}; give one for each, of the same kind "
                "of network"
            )
        for layer in layers:
            if not 1 <= layer <= teacher.depth:
                raise ValueError(
                    f"the teacher has no layer {layer}; choose from 1 to {teacher.depth}"
                )
        pairs = [
            (self.embedding_weights, teacher.embedding_weights),
            (self.final_weights, teacher.final_weights),
        ]
        for number, layer in enumerate(layers, 1):
            pairs.append((self.weights_of_layer(number), teacher.weights_of_layer(layer)))
        for ours, theirs in pairs:
            for name, weight in ours.items():
                shape = tuple(theirs[name].shape) if name in theirs else None
                if shape != tuple(weight.shape):
                    raise ValueError(
                        f"weight {name} of the student is {tuple(weight.shape)}, but that of the "
                        f"teacher {shape or 'is missing'}; give both the same sizes"
                    )
        for ours, theirs in pairs:
            for name, weight in ours.items():
                weight.assign(theirs[name].numpy())
