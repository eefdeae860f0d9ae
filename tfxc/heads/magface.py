"""A margin that grows with the length of the feature vector."""

from collections.abc import Sequence
from typing import Unpack

import keras
import tensorflow as tf

from tfxc.core.declared import (
    Count,
    FromData,
    LayerArguments,
    NotNegative,
    Positive,
    ShareAboveZero,
)
from tfxc.core.errors import ConfigError
from tfxc.heads.bases.class_centres.checks import Angle, Sampling
from tfxc.heads.bases.class_centres.head import ClassCentres
from tfxc.ops.margins import angular_margin


@keras.saving.register_keras_serializable("tfxc")
class MagFace(ClassCentres):
    """MagFace: class centres with an angular margin that grows with the feature vector's length.

    The length a of a vector, cut to [``least_length``, ``largest_length``], sets the margin m(a),
    linear from ``least_margin`` to ``largest_margin``; the true class, at the angle t, has
    ``scale cos(t + m(a))`` in training, as ArcFace with this margin. The loss of each example has
    ``length_weight (1 / a + a / largest_length^2)`` added, which rewards long vectors. So images
    that are easy to recognise get long vectors close to their centre, and a vector's length
    measures an image's quality. Gradients flow through a.

    The statistics of lengths that these limits fit are those of 512 batch-normalised values, about
    23 at the start. Otherwise this head is ``margin``: sampling, shards and precision are those of
    ``heads.margin.Margin``.

    Args:
        num_labels: number of labels N (from the data).
        scale: the factor s of the cosines.
        least_length, largest_length: the limits l_a and u_a of a.
        least_margin, largest_margin: the margins l_m and u_m there, in radians.
        length_weight: the factor lambda_g of the loss of the lengths, which belongs to a scale of
            64; 0 leaves it out.
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
        >>> head = MagFace(num_labels=5, scale=16.0)
        >>> ids, scores = head.top_k(tf.ones((2, 3)), k=2)
        >>> bool(tf.reduce_all(tf.abs(scores) <= 16))
        True

    Reference: Meng et al., CVPR 2021 (arXiv 2103.06627).
    """

    def __init__(
        self,
        num_labels: FromData[int],
        *,
        scale: Positive = 64.0,
        least_length: Positive = 10.0,
        largest_length: float = 110.0,
        least_margin: Angle = 0.45,
        largest_margin: Angle = 0.8,
        length_weight: NotNegative = 35.0,
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
        if largest_length <= least_length:
            raise ConfigError(
                f"must be above least_length, {least_length}, not {largest_length}",
                where="largest_length",
            )
        if largest_margin < least_margin:
            raise ConfigError(
                f"must be at least least_margin, {least_margin}, not {largest_margin}",
                where="largest_margin",
            )
        self.least_length = least_length
        self.largest_length = largest_length
        self.least_margin = least_margin
        self.largest_margin = largest_margin
        self.length_weight = length_weight

    def strength(self, lengths: tf.Tensor) -> tf.Tensor:
        """Returns the margin m(a) of each example."""
        slope = self.largest_margin - self.least_margin
        slope /= self.largest_length - self.least_length
        return self.least_margin + slope * (self._cut(lengths) - self.least_length)

    def with_margin(self, cosines: tf.Tensor, strength: tf.Tensor | None = None) -> tf.Tensor:
        """Returns ``cos(t + m(a))``."""
        assert strength is not None
        return angular_margin(cosines, 1.0, strength)

    def penalties(self, lengths: tf.Tensor) -> tf.Tensor | None:
        """Returns ``length_weight (1 / a + a / largest_length^2)``."""
        if not self.length_weight:
            return None
        lengths = self._cut(lengths)
        return self.length_weight * (1 / lengths + lengths / self.largest_length**2)

    def _cut(self, lengths):
        return tf.clip_by_value(lengths, self.least_length, self.largest_length)
