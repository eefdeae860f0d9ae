"""Class centres on a sphere, and a margin around the true one."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Unpack

import keras
import tensorflow as tf
from annotated_types import Ge

from tfxc.core.declared import (
    Count,
    FromData,
    LayerArguments,
    NotNegative,
    Positive,
    ShareAboveZero,
)
from tfxc.heads.bases.class_centres.checks import Angle, Sampling
from tfxc.heads.bases.class_centres.head import ClassCentres
from tfxc.ops.margins import angular_margin, least_scale


@keras.saving.register_keras_serializable("tfxc")
class Margin(ClassCentres):
    """The family of ArcFace and CosFace: scaled cosines, with a margin on the true class.

    A label's score is ``scale`` times the cosine of the angle t between the feature vector and
    the label's centre, the nearest of its ``sub_centers``. In training the true class has
    ``scale (cos(m1 t + m2) - m3)`` instead (``ops.margins``); ``call`` and ``top_k`` know no
    margin. ArcFace is ``m2=0.5``, CosFace ``m2=0, m3=0.4``. An example with several labels has the
    margin on each of them. The loss is the objective's; the papers' is ``softmax``. Everything
    is computed in float32, in any precision.

    ``sampling`` says which classes the loss of a batch runs over:

    * None: all.
    * ``"batch_heads"``: with label id = d0 · C1 + d1, all classes of the heads d0 that labels of
      the batch belong to.
    * ``"heads"``: the classes of the example's own head and of ``num_sampled_heads`` - 1 others,
      drawn per example. If its labels have more heads than that, the first of them. Each example
      gathers its centres for itself: for small heads only.
    * ``"partial"``: the classes of the batch and uniformly drawn others, ``sample_rate`` ·
      num_labels together; the batch's alone if they are more.

    With ``sharded`` and n > 1 replicas, replica r holds only the centres of the labels
    ``[r · ceil(N / n), (r + 1) · ceil(N / n))``, and scores the examples of all replicas against
    them; the softmax runs over all. Such centres are not Keras weights, but weight files hold
    them as a whole. ``sampling`` may then be ``"partial"``, each shard drawing for itself.

    A batch is what the replicas see together, a micro-batch where gradients are accumulated.
    Centres outside the sample get no gradient, and a row-sparse optimizer leaves them and their
    momenta alone.

    Args:
        num_labels: number of labels N (from the data).
        scale: the factor s of the cosines. None takes the least with which the true class can have
            probability 0.9999 (``ops.margins.least_scale``): 16.1 for 1,000 classes, 23.0 for a
            million. The papers' 64 is for sets of faces.
        m1, m2, m3: factor of the angle (at least 1), margin of the angle in radians (0 to below
            pi), margin of the cosine.
        sub_centers: centres per label (sub-center ArcFace).
        sampling: see above.
        heads: [C0, C1] with C0 · C1 >= num_labels, for ``"batch_heads"`` and ``"heads"``.
        num_sampled_heads: heads per example, 1 to C0, for ``"heads"``.
        sample_rate: in (0, 1], for ``"partial"``.
        sharded: whether the centres are sharded over the replicas; no difference without replicas.
        seed: seed of the initial centres, N(0, 0.01), and of the draws.

    Input: float (batch, dim). Output of ``call``: float32 (batch, num_labels).

    Raises:
        ValueError: an argument out of range, missing, or without effect.

    Example:
        >>> head = Margin(num_labels=5, scale=16.0)
        >>> ids, scores = head.top_k(tf.ones((2, 3)), k=2)
        >>> bool(tf.reduce_all(tf.abs(scores) <= 16))
        True

    Reference: Deng et al., CVPR 2019 (arXiv 1801.07698); Wang et al., CVPR 2018 (1801.09414); An
    et al., ICCVW 2021 (2010.05222); Liang et al., TPAMI 2024 (2412.10182).
    """

    def __init__(
        self,
        num_labels: FromData[int],
        *,
        scale: Positive | None = None,
        m1: Annotated[float, Ge(1)] = 1.0,
        m2: Angle = 0.5,
        m3: NotNegative = 0.0,
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
            scale=least_scale(num_labels) if scale is None else scale,
            sub_centers=sub_centers,
            sampling=sampling,
            heads=heads,
            num_sampled_heads=num_sampled_heads,
            sample_rate=sample_rate,
            sharded=sharded,
            seed=seed,
            **kwargs,
        )
        self.m1 = m1
        self.m2 = m2
        self.m3 = m3

    @classmethod
    def resolved(cls, section: Mapping[str, Any], num_labels: int) -> dict[str, Any]:
        """Returns the scale, where the section has none."""
        return {"scale": least_scale(num_labels)} if section.get("scale") is None else {}

    def with_margin(self, cosines: tf.Tensor, strength: tf.Tensor | None = None) -> tf.Tensor:
        """Returns ``cos(m1 t + m2) - m3``."""
        return angular_margin(cosines, self.m1, self.m2, self.m3)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments, with the scale in use: it must not change with more
        labels.
        """
        return {**super().get_config(), "scale": self.scale}
