"""Class centres on a sphere, and a margin around the true one."""

import math

import keras
import tensorflow as tf

from tfxc.heads import _margin_sampling as sampling_of
from tfxc.heads.base import Head, seen_labels
from tfxc.ops.logit_group import LogitGroup
from tfxc.ops.margins import angular_margin, at_positives
from tfxc.ops.top_k import tiled_top_k

_TILE = 131_072  # labels scored at a time in top_k
_START_ROWS = 65_536  # centres drawn from one seed
_START_STD = 0.01
_SAMPLINGS = (None, "batch_heads", "heads", "partial")
_NEEDS = {
    "heads": ("batch_heads", "heads"),
    "num_sampled_heads": ("heads",),
    "sample_rate": ("partial",),
}


@keras.saving.register_keras_serializable("tfxc")
class Margin(Head):
    """ArcFace, CosFace and their kin: scaled cosines to class centres, the true one made harder.

    A label's score is ``scale`` times the cosine of the angle t between the feature vector and
    the label's centre, the nearest of its ``sub_centers``. In training the true class has
    ``scale (cos(m1 t + m2) - m3)`` instead (``ops.margins``); ``call`` and ``top_k`` know no
    margin. ArcFace is ``m2=0.5``, CosFace ``m2=0, m3=0.4``. An example with several labels has the
    margin on each of them. The loss is the objective's; the papers' is ``softmax``. All is
    computed in float32, in any precision.

    ``sampling`` says which classes the loss of a batch runs over:

    * None: all.
    * ``"batch_heads"``: with label id = d0 · C1 + d1, all classes of the heads d0 that labels of
      the batch belong to.
    * ``"heads"``: the classes of the example's own head and of ``num_sampled_heads`` - 1 others,
      drawn per example. If its labels have more heads than that, the first of them.
    * ``"partial"``: the classes of the batch and uniformly drawn others, ``sample_rate`` ·
      num_labels together; the batch's alone if they are more.

    A batch is what the replicas see together, a micro-batch where gradients are accumulated.
    Centres outside the sample get no gradient, and a row-sparse optimizer leaves them and their
    momenta alone.

    Args:
        num_labels: number of labels N (from the data).
        scale: the factor s of the cosines.
        m1, m2, m3: factor of the angle (at least 1), margin of the angle in radians (0 to below
            pi), margin of the cosine.
        sub_centers: centres per label (sub-center ArcFace).
        sampling: see above.
        heads: [C0, C1] with C0 · C1 >= num_labels, for ``"batch_heads"`` and ``"heads"``.
        num_sampled_heads: heads per example, 1 to C0, for ``"heads"``.
        sample_rate: in (0, 1], for ``"partial"``.
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
        num_labels,
        *,
        scale=64.0,
        m1=1.0,
        m2=0.5,
        m3=0.0,
        sub_centers=1,
        sampling=None,
        heads=None,
        num_sampled_heads=None,
        sample_rate=None,
        seed=0,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.num_labels = num_labels
        self.scale = scale
        self.m1, self.m2, self.m3 = m1, m2, m3
        self.sub_centers = sub_centers
        self.sampling = sampling
        self.heads = list(heads) if heads is not None else None
        self.num_sampled_heads = num_sampled_heads
        self.sample_rate = sample_rate
        self.seed = seed
        _check_margin(scale, m1, m2, m3, sub_centers)
        _check_sampling(self)

    def build(self, input_shape):
        """Makes the centres, (num_labels · sub_centers, dim), those of a label side by side."""
        shape = (self.num_labels * self.sub_centers, input_shape[-1])
        self.centres = self.add_weight(shape, self._start, name="centres")

    def _start(self, shape, dtype=None):
        """Normal numbers, drawn in blocks of rows that do not depend on each other."""
        blocks = (
            tf.random.stateless_normal(
                (min(_START_ROWS, shape[0] - first), shape[1]),
                (self.seed, first),
                stddev=_START_STD,
            )
            for first in range(0, shape[0], _START_ROWS)
        )
        return tf.cast(tf.concat(list(blocks), axis=0), dtype or tf.float32)

    def call(self, features):
        """Scaled cosines to all labels."""
        return self.scale * self._cosines(unit_rows(features), self.centres.value)

    def training_groups(self, features, labels):
        """One group over the classes of ``sampling``."""
        labels = seen_labels(labels, self.num_labels)
        features = unit_rows(features)
        if self.sampling is None:
            cosines = self._cosines(features, self.centres.value)
            return (LogitGroup(self._with_margin(cosines, labels), labels),)
        ids, positives = self._columns(labels)
        known = tf.minimum(ids, self.num_labels - 1)
        rows = known[..., None] * self.sub_centers + tf.range(self.sub_centers)
        rows = tf.reshape(rows, [*tf.unstack(tf.shape(ids)[:-1]), -1])
        cosines = self._cosines(features, tf.gather(self.centres.value, rows))
        logits = self._with_margin(cosines, positives)
        valid = None
        if self.heads and math.prod(self.heads) > self.num_labels:
            valid = tf.broadcast_to(ids < self.num_labels, tf.shape(logits))
        return (LogitGroup(logits, positives, valid),)

    def _columns(self, labels):
        if self.sampling == "heads":
            count = self.num_sampled_heads
            return sampling_of.sampled_heads(labels, self.heads, count, self.seed)
        flat = tf.reshape(labels, [-1])
        if self.sampling == "batch_heads":
            return sampling_of.true_heads(labels, self.heads, flat)
        count = max(1, int(self.sample_rate * self.num_labels))
        return sampling_of.partial(labels, self.num_labels, count, self.seed, flat)

    def _with_margin(self, cosines, positives):
        def margin(true):
            return angular_margin(true, self.m1, self.m2, self.m3)

        return self.scale * at_positives(cosines, positives, margin)

    def _cosines(self, features, centres):
        """Cosines to the nearest sub-centre of each label, float32 (batch, labels).

        Args:
            features: unit vectors (batch, dim).
            centres: (labels · sub_centers, dim), or (batch, labels · sub_centers, dim).
        """
        centres = unit_rows(centres)
        if len(centres.shape) == 3:
            cosines = tf.linalg.matvec(centres, features)
        else:
            cosines = tf.matmul(features, centres, transpose_b=True)
        if self.sub_centers == 1:
            return cosines
        by_label = tf.reshape(cosines, [tf.shape(cosines)[0], -1, self.sub_centers])
        return tf.reduce_max(by_label, axis=-1)

    def top_k(self, features, k):
        """Best k labels by cosine, exact; scores in tiles of labels."""
        self.check_k(k)
        if not self.built:
            self.build(features.shape)
        features = unit_rows(features)

        def score(begin, end):
            centres = self.centres.value
            if self.num_labels > _TILE:
                centres = centres[begin * self.sub_centers : end * self.sub_centers]
            return self.scale * self._cosines(features, centres)

        return tiled_top_k(score, self.num_labels, tf.shape(features)[0], k, _TILE)

    def get_config(self):
        """Constructor arguments."""
        names = ("num_labels", "scale", "m1", "m2", "m3", "sub_centers", "sampling", "heads")
        more = ("num_sampled_heads", "sample_rate", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in (*names, *more)}}


def unit_rows(vectors):
    """Float32 vectors of length 1; zeros stay zeros.

    Example:
        >>> unit_rows(tf.constant([[3.0, 4.0], [0.0, 0.0]])).numpy().round(4).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    return tf.math.l2_normalize(tf.cast(vectors, tf.float32), axis=-1)


def _check_margin(scale, m1, m2, m3, sub_centers):
    checks = (
        (scale > 0, "scale must be positive", scale),
        (m1 >= 1, "m1 must be at least 1", m1),
        (0 <= m2 < math.pi, "m2 must lie in [0, pi)", m2),
        (m3 >= 0, "m3 must not be negative", m3),
        (sub_centers >= 1, "sub_centers must be at least 1", sub_centers),
    )
    for good, message, found in checks:
        if not good:
            raise ValueError(f"{message}, found {found}")


def _check_sampling(head):
    if head.sampling not in _SAMPLINGS:
        choices = ", ".join(map(str, _SAMPLINGS))
        raise ValueError(f"sampling must be one of {choices}, found {head.sampling!r}")
    for name, users in _NEEDS.items():
        given, used = getattr(head, name) is not None, head.sampling in users
        if given != used:
            verb = "needs" if used else "has no use for"
            raise ValueError(f"sampling {head.sampling!r} {verb} {name}")
    if head.heads is not None:
        _check_heads(head)
    if head.sample_rate is not None and not 0 < head.sample_rate <= 1:
        raise ValueError(f"sample_rate must lie in (0, 1], found {head.sample_rate}")


def _check_heads(head):
    heads, sampled = head.heads, head.num_sampled_heads
    if len(heads) != 2 or min(heads) < 1 or math.prod(heads) < head.num_labels:
        raise ValueError(
            f"heads must be two lengths with a product of at least {head.num_labels} (the "
            f"labels), found {heads}"
        )
    if sampled is not None and not 1 <= sampled <= heads[0]:
        raise ValueError(f"num_sampled_heads must lie in 1 .. {heads[0]} (heads), found {sampled}")
