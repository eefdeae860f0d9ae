"""A margin that depends on how sure the network is of an image."""

from collections.abc import Sequence
from typing import Unpack

import keras
import tensorflow as tf

from tfxc.core.declared import Count, FromData, LayerArguments, Positive, Share, ShareAboveZero
from tfxc.heads.bases.class_centres.checks import Angle, Sampling
from tfxc.heads.bases.class_centres.head import ClassCentres
from tfxc.ops.distributed.cross_replica import rows_everywhere
from tfxc.ops.margins import turned_cosine
from tfxc.ops.randomness import in_training_step

# Lengths of vectors beyond these count as these, and the statistics that training starts from, as
# in the authors' code.
_LENGTHS = (1e-3, 100.0)
_START_MEAN = 20.0
_START_STD = 100.0
_EPSILON = 1e-3


@keras.saving.register_keras_serializable("tfxc")
class AdaFace(ClassCentres):
    """AdaFace: class centres with a margin by the length of the feature vector.

    A long vector is a sign of a good image. Its length, less the mean of all and divided by their
    standard deviation, times ``concentration``, is cut to z in [-1, 1]. The true class, at the
    angle t, has ``scale (cos(t - margin z) - margin - margin z)`` in training, with the new angle
    cut to [0, pi]: for z = -1 that is ArcFace, for 0 CosFace, for 1 a negative angular margin with
    twice the additive one. So an unrecognisable image is not emphasised. No gradient flows through
    z.

    Mean and standard deviation are moving averages over training batches; they change with each
    pass of a training step, before it uses them, and so once per micro-batch. Otherwise this head
    is ``margin``: sampling, shards and precision are those of ``heads.margin.Margin``.

    Args:
        num_labels: number of labels N (from the data).
        scale: the factor s of the cosines.
        margin: the margin m.
        concentration: the factor h; the larger, the more examples have z at an end of [-1, 1].
        momentum: share of the old mean and deviation that a batch keeps.
        sub_centers: centres per label (sub-center ArcFace).
        sampling: see ``heads.margin.Margin``.
        heads: [C0, C1] with C0 · C1 >= num_labels, for ``"batch_heads"`` and ``"heads"``.
        num_sampled_heads: heads per example, 1 to C0, for ``"heads"``.
        sample_rate: in (0, 1], for ``"partial"``.
        sharded: whether the centres are sharded over the replicas; no difference without replicas.
        seed: seed of the initial centres, N(0, 0.01), and of the draws.

    Input: float (batch, dim). Output of ``call``: float32 (batch, num_labels).

    Raises:
        ValueError: an argument out of range, missing, or without effect.

    Example:
        >>> head = AdaFace(num_labels=5, scale=16.0)
        >>> ids, scores = head.top_k(tf.ones((2, 3)), k=2)
        >>> bool(tf.reduce_all(tf.abs(scores) <= 16))
        True

    Reference: Kim et al., CVPR 2022 (arXiv 2204.00964).
    """

    def __init__(
        self,
        num_labels: FromData[int],
        *,
        scale: Positive = 64.0,
        margin: Angle = 0.4,
        concentration: Positive = 0.333,
        momentum: Share = 0.99,
        sub_centers: Count = 1,
        sampling: Sampling = None,
        heads: Sequence[Count] | None = None,
        num_sampled_heads: Count | None = None,
        sample_rate: ShareAboveZero | None = None,
        sharded: bool = False,
        seed: int = 0,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(
            num_labels,
            scale=scale,
            sub_centers=sub_centers,
            sampling=sampling,
            heads=heads,
            num_sampled_heads=num_sampled_heads,
            sample_rate=sample_rate,
            sharded=sharded,
            seed=seed,
            **kwargs,
        )
        self.margin = margin
        self.concentration = concentration
        self.momentum = momentum

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes the centres, and the statistics of the lengths."""
        super().build(input_shape)
        self.length_mean = self._statistic(_START_MEAN, "length_mean")
        self.length_std = self._statistic(_START_STD, "length_std")

    def _statistic(self, start, name):
        # All replicas write the same.
        kind = {"trainable": False, "autocast": False, "aggregation": "only_first_replica"}
        return self.add_weight((), keras.initializers.Constant(start), name=name, **kind)

    def strength(self, lengths: tf.Tensor) -> tf.Tensor:
        """Returns the z of each example; in a training step, moves the statistics first."""
        lengths = tf.clip_by_value(tf.stop_gradient(lengths), *_LENGTHS)
        mean = self.length_mean.value
        std = self.length_std.value
        if in_training_step():
            mean, std = self._moved(lengths if self.sharded_table else rows_everywhere(lengths))
        z = self.concentration * (lengths - mean) / (std + _EPSILON)
        return tf.clip_by_value(z, -1.0, 1.0)

    def _moved(self, lengths):
        """Returns the mean and deviation with those of a batch in them; a single example has no
        deviation.
        """
        mean, variance = tf.nn.moments(lengths, axes=[0])
        count = tf.cast(tf.size(lengths), tf.float32)
        std = tf.sqrt(variance * count / tf.maximum(count - 1, 1))
        moved = []
        for variable, value in ((self.length_mean, mean), (self.length_std, std)):
            new = variable.value + (1 - self.momentum) * (value - variable.value)
            variable.value.assign(new)
            moved.append(new)
        return moved

    def with_margin(self, cosines: tf.Tensor, strength: tf.Tensor | None = None) -> tf.Tensor:
        """Returns ``cos(t - margin z) - margin - margin z``."""
        assert strength is not None
        turned = turned_cosine(cosines, -self.margin * strength)
        return turned - self.margin * (1 + strength)
