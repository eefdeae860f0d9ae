"""One score column per label."""

import functools
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack

import keras
import numpy as np
import tensorflow as tf

from tfxc.core.declared import FromData, LayerArguments, Positive
from tfxc.core.errors import ConfigError
from tfxc.heads.base import Head, rare_label_bias, seen_labels
from tfxc.ops.logit_group import LogitGroup
from tfxc.ops.search.top_k import read_once

if TYPE_CHECKING:
    from tfxc.heads.bases.label_chunks import LabelChunks
    from tfxc.heads.bases.sharded_chunks import ShardedChunks
    from tfxc.ops.fused.logit_chunks import ChunkUpdate
    from tfxc.ops.search.nearest import InnerProducts


@keras.saving.register_keras_serializable("tfxc")
class Dense(Head):
    """A linear classifier with one weight vector and bias per label.

    Args:
        num_labels: number of labels (from the data).
        initial_std: standard deviation of the truncated normal initialisation of the kernel; None
            means 1 / sqrt(dim).
        seed: seed of the initial kernel, and of the rounding of ``"bfloat16"``.
        update: ``"gradient"``: the optimizer updates the kernel from a gradient of its size.
            ``"fused"``: a training step updates the kernel itself, by plain gradient descent, a
            chunk of 8,192 labels (or a 128th of them) at a time, and needs hardly more memory than
            the weights. Needs an objective that says its gradient (``sigmoid``, ``softmax``,
            ``decoupled_softmax``, ``hinge``, ``squared_hinge``), and the optimizer ``sgd`` without
            momentum or a ``learning_rate``; see docs/training.md. With replicas, each holds and
            updates only its own labels. They are then no Keras weights, but weight files hold them
            as a whole.
        learning_rate: learning rate of ``"fused"``, times the schedule; any optimizer may then
            train the other weights. None takes that of the optimizer.
        weights: precision of the kernel with ``"fused"``: ``"float32"``, or ``"bfloat16"``, half
            the memory, with stochastic rounding of every update.

    Input: float (batch, dim). Output of ``call``: logits (batch, num_labels).

    Example:
        >>> head = Dense(num_labels=5)
        >>> ids, scores = head.top_k(tf.ones((2, 3)), k=2)
        >>> ids.shape
        TensorShape([2, 2])
    """

    full_softmax = True
    has_inner_products = True

    def __init__(
        self,
        num_labels: FromData[int],
        *,
        initial_std: Positive | None = None,
        seed: int = 0,
        update: Literal["gradient", "fused"] = "gradient",
        learning_rate: Positive | None = None,
        weights: Literal["float32", "bfloat16"] = "float32",
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.num_labels = num_labels
        self.initial_std = initial_std
        self.seed = seed
        self.update = update
        self.weights_dtype = weights
        self.fused_learning_rate = learning_rate
        for name, given in (("learning_rate", learning_rate), ("weights", weights)):
            if update != "fused" and given not in (None, "float32"):
                raise ConfigError(
                    f"{given!r} has no effect with update {update!r}",
                    where=name,
                    fix=f"set update to 'fused', or leave {name} out",
                )
        self.sharded = update == "fused"
        self.chunks: LabelChunks | ShardedChunks | None = None
        self.shards: ShardedChunks | None = None  # the chunks, where replicas share them

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes kernel (dim, num_labels), or chunks (labels, dim) of its transpose, and bias."""
        self.dim = dim = input_shape[-1]
        std = self.initial_std or dim**-0.5
        start = keras.initializers.Constant(rare_label_bias(self.num_labels))
        if self.update == "gradient":
            normal = keras.initializers.TruncatedNormal(stddev=std, seed=self.seed)
            self.kernel = self.add_weight((dim, self.num_labels), normal, name="kernel")
            self.bias = self.add_weight((self.num_labels,), start, name="bias")
            return
        from tfxc.heads.bases.label_chunks import chunk_size

        size = self.tile = chunk_size(self.num_labels)
        if tf.distribute.has_strategy():
            self.chunks = self.shards = self._sharded_chunks(size, std)
            self.sharded_tables = self.shards.tables
        else:
            self.chunks = self._own_chunks(size, std, start)
        self.fused_variables = self.chunks.variables

    def _own_chunks(self, size, std, start):
        """The chunks as Keras weights."""
        from tfxc.heads.bases.label_chunks import LabelChunks, Piece

        pieces = []
        for number, begin in enumerate(range(0, self.num_labels, size)):
            end = min(begin + size, self.num_labels)
            kernel = self.add_weight(
                (end - begin, self.dim),
                functools.partial(_start_of_chunk, std, (self.seed, begin)),
                self.weights_dtype,
                autocast=False,
                name=f"kernel_{number}",
            )
            pieces.append(Piece(kernel, begin, end, begin, self.seed + number))
        self.bias = self.add_weight((self.num_labels,), start, autocast=False, name="bias")
        return LabelChunks(pieces, self.bias)

    def _sharded_chunks(self, size, std):
        """The chunks, of which each replica has a part."""
        from tfxc.heads.bases.sharded_chunks import ShardedChunks
        from tfxc.heads.bases.shards import ShardLayout

        strategy = tf.distribute.get_strategy()
        layout = ShardLayout(self.num_labels, size, strategy.num_replicas_in_sync)
        if layout.size * (layout.count - 1) >= min(size, self.num_labels):
            raise ConfigError(
                f"{self.num_labels} labels are too few for {layout.count} replicas with update "
                "'fused': one would get none",
                where="head.update",
                fix="leave it out, or train on fewer devices",
            )
        bias = rare_label_bias(self.num_labels)

        def start(begin, shape):
            return _start_of_chunk(std, (self.seed, begin), shape, self.weights_dtype)

        return ShardedChunks(strategy, layout, self.dim, start, bias, self.seed)

    @property
    def columns_are_labels(self) -> bool:
        """True."""
        return True

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Logits of all labels."""
        if self.chunks is not None:
            return self.chunks.logits(features)
        return self.as_logits(keras.ops.matmul(features, self.kernel) + self.bias)

    def training_groups(
        self, features: tf.Tensor, labels: np.ndarray | tf.Tensor
    ) -> tuple[LogitGroup, ...]:
        """One group over all labels."""
        return (LogitGroup(self(features), seen_labels(labels, self.num_labels)),)

    def tile_scores(self, features: tf.Tensor) -> Callable[..., tf.Tensor]:
        """Function that returns the logits of a range of labels."""
        if self.chunks is not None:
            return self.chunks.scores(features)
        features = tf.cast(features, tf.float32)
        kernel = read_once(self.kernel.value)
        bias = read_once(self.bias.value)

        def score(begin, end):
            if not tf.is_tensor(begin) and end - begin == self.num_labels:
                return tf.matmul(features, kernel) + bias
            return tf.matmul(features, kernel[:, begin:end]) + bias[begin:end]

        return score

    def top_k(self, features: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Best k labels, exact; of shards each replica finds its own best."""
        if self.shards is None:
            return super().top_k(features, k)
        self.check_k(k)
        return self.shards.search().top_k(features, k)

    def top_k_and_loss(
        self, features: tf.Tensor, labels: tf.Tensor, k: int
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """``top_k``, and the loss over all labels."""
        if self.shards is None:
            return super().top_k_and_loss(features, labels, k)
        self.check_k(k)
        labels = tf.cast(seen_labels(labels, self.num_labels), tf.int32)
        return self.shards.search().top_k_and_loss(features, labels, k)

    def inner_products(self) -> "InnerProducts":
        """Those with the columns of the kernel."""
        from tfxc.ops.search.nearest import of_linear_scores

        if self.shards is not None:
            bias = tf.constant(self.shards.bias_of_labels())
            return of_linear_scores(self.shards.rows, bias, self.dim)
        bias = read_once(self.bias.value)
        if self.chunks is not None:
            return of_linear_scores(self.chunks.rows, bias, self.dim)
        kernel = read_once(self.kernel.value)
        return of_linear_scores(lambda b, e: tf.transpose(kernel[:, b:e]), bias, self.dim)

    def label_similarities(self, label: int) -> np.ndarray:
        """Cosines of the columns of the kernel."""
        from tfxc.ops.search.similarity import cosines_to_row

        if self.chunks is not None:
            return cosines_to_row(self.chunks.rows, label, self.num_labels)
        kernel = read_once(self.kernel.value)
        return cosines_to_row(lambda b, e: tf.transpose(kernel[:, b:e]), label, self.num_labels)

    def fused_step(
        self,
        features: tf.Tensor,
        labels: tf.Tensor,
        update: "ChunkUpdate",
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Updates the chunks one after the other, see ``LabelChunks``."""
        assert self.chunks is not None
        return self.chunks.step(features, seen_labels(labels, self.num_labels), update)

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Writes the weights of one device, also where they are sharded."""
        if self.shards is None:
            super().save_own_variables(store)
            return
        for number, gathered in enumerate(self.shards.weights()):
            store[str(number)] = gathered()

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Reads what ``save_own_variables`` wrote, sharded or not."""
        if self.shards is None:
            super().load_own_variables(store)
            return
        self.shards.assign([store[str(number)] for number in range(len(self.shards.tables))])

    @property
    def training_columns(self) -> int:
        """All labels; of a fused step those of one chunk."""
        if self.update != "fused":
            return self.num_labels
        from tfxc.heads.bases.label_chunks import chunk_size

        return chunk_size(self.num_labels)


def _start_of_chunk(std, seed, shape, dtype=None):
    """Truncated normal numbers, drawn in float32 and then rounded, different for each chunk."""
    drawn = int(np.random.SeedSequence(seed).generate_state(1)[0] >> 1)
    normal = keras.initializers.TruncatedNormal(stddev=std, seed=drawn)
    return tf.cast(normal(shape, "float32"), dtype or "float32")
