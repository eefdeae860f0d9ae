"""Angular margins on the cosine of the true class."""

import math
from collections.abc import Callable

import tensorflow as tf

from tfxc.ops.gradients import custom_gradient
from tfxc.ops.losses import places_of


def angular_margin(
    cosines: tf.Tensor, m1: float = 1.0, m2: float | tf.Tensor = 0.5, m3: float = 0.0
) -> tf.Tensor:
    """Returns ``cos(m1 t + m2) - m3`` of the angles t with the given cosines.

    Where ``m1 t + m2`` passes pi the cosine would rise again; from there on the value is the
    cosine itself minus ``r sin r``, where ``r = pi - (pi - m2) / m1`` is the margin at that angle.
    For ``m1 = 1`` this is the published fallback ``cos t - m2 sin m2``. Where ``r sin r`` is too
    little for the value to fall (r above 2.33), ``1 - cos r`` takes its place, so the value never
    rises with the angle. Values and gradients are finite at the cosines -1 and 1.

    Args:
        cosines: float32; what rounding has put outside [-1, 1] counts as -1 or 1.
        m1: factor of the angle, at least 1 (SphereFace).
        m2: added to the angle, in [0, pi) (ArcFace); one for all, or with ``m1 = 1`` float32 of the
            shape of the cosines (MagFace).
        m3: subtracted from the cosine (CosFace).

    Returns:
        float32 of the same shape.

    Example:
        >>> round(float(angular_margin(tf.constant(0.5))), 5)
        0.0236

    Reference: Deng et al., CVPR 2019 (arXiv 1801.07698), equation 4 and its code.
    """
    cosines = tf.clip_by_value(cosines, -1.0, 1.0)
    if tf.is_tensor(m2):
        drop = tf.maximum(m2 * tf.sin(m2), 1 - tf.cos(m2))
        turned = cosines * tf.cos(m2) - _sine(cosines) * tf.sin(m2)
        return tf.where(cosines > -tf.cos(m2), turned, cosines - drop) - m3
    if m1 == 1 and m2 == 0:
        return cosines - m3
    sines = _sine(cosines)
    if m1 == 1:
        turned = cosines * math.cos(m2) - sines * math.sin(m2)
    else:
        # atan2 and not acos: the slope of acos at -1 and 1 is infinite.
        turned = tf.cos(m1 * tf.atan2(sines, cosines) + m2)
    reach = math.pi - (math.pi - m2) / m1
    drop = max(reach * math.sin(reach), 1 - math.cos(reach))
    return tf.where(cosines > -math.cos(reach), turned, cosines - drop) - m3


def least_scale(num_classes: int, probability: float = 0.9999) -> float:
    """Returns the least scale of cosines with which a softmax can reach a probability.

    With the true class at cosine 1 and the others at 0, the true one of C classes has the
    probability p where ``s = log((C - 1) p / (1 - p))``. A smaller scale keeps the loss up even
    where nothing is left to learn, a much larger one lets it vanish, and the gradient with it,
    before the classes are apart.

    Args:
        num_classes: C.
        probability: p, below 1.

    Example:
        >>> round(least_scale(964), 2)
        16.08

    Reference: Wang et al., CosFace, CVPR 2018 (arXiv 1801.09414), equation 6, with the other
    classes at -1 / (C - 1) there.
    """
    return math.log(max(num_classes - 1, 1) * probability / (1 - probability))


def turned_cosine(cosines: tf.Tensor, angles: tf.Tensor) -> tf.Tensor:
    """Returns ``cos(t + angles)`` of the angles t with the given cosines, the sum cut to [0, pi].

    Values and gradients are finite at the cosines -1 and 1; where the sum is cut, the slope is 0.

    Args:
        cosines: float32; what rounding has put outside [-1, 1] counts as -1 or 1.
        angles: float32 of the same shape, within [-pi, pi].

    Example:
        >>> turned_cosine(tf.constant([0.0, 1.0]), tf.constant([-0.5, -0.5])).numpy().round(4)
        array([0.4794, 1.    ], dtype=float32)
    """
    cosines = tf.clip_by_value(cosines, -1.0, 1.0)
    turned = cosines * tf.cos(angles) - _sine(cosines) * tf.sin(angles)
    # t + a < 0 for a negative a and t < -a, so cos t > cos a; likewise at pi.
    turned = tf.where((angles < 0) & (cosines > tf.cos(angles)), 1.0, turned)
    return tf.where((angles > 0) & (cosines < -tf.cos(angles)), -1.0, turned)


def _sine(cosines: tf.Tensor) -> tf.Tensor:
    """Returns the sine of angles in [0, pi], with slope 0 where it is 0."""
    squares = 1 - tf.square(cosines)
    inside = squares > 0
    return tf.where(inside, tf.sqrt(tf.where(inside, squares, 1.0)), 0.0)


def at_positives(
    scores: tf.Tensor,
    positives: tf.Tensor,
    change: Callable[..., tf.Tensor],
    *of_rows: tf.Tensor,
) -> tf.Tensor:
    """Applies ``change`` to the true columns and leaves the others as they are.

    Neither forward nor backward does it need a second (batch, columns) matrix in addition to the
    result.

    Args:
        scores: float32 (batch, columns).
        positives: int64 (batch, max_positives), distinct columns padded with -1.
        change: elementwise function of a float32 vector, and of one of each of ``of_rows``.
        of_rows: float32 (batch,) each, what the change depends on besides the score.

    Returns:
        float32 (batch, columns).

    Example:
        >>> at_positives(tf.ones((1, 3)), tf.constant([[2, -1]]), lambda x: x - 5).numpy().tolist()
        [[1.0, 1.0, -4.0]]
    """
    places, is_true, exists = places_of(positives)
    rows = places[:, 0]

    @custom_gradient
    def changed(
        values: tf.Tensor, *of_rows: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, ...]]]:
        inputs = [tf.gather_nd(values, places)]
        inputs += [tf.gather(row, rows) for row in of_rows]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            moved = tf.where(exists, change(*inputs), inputs[0])
        slopes = tape.gradient(moved, inputs, unconnected_gradients=tf.UnconnectedGradients.ZERO)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            true = tf.gather_nd(upstream, places)
            of_values = tf.tensor_scatter_nd_update(upstream, places, true * slopes[0])
            count = tf.shape(values)[0]
            return of_values, *(
                tf.math.unsorted_segment_sum(tf.where(is_true, true * slope, 0.0), rows, count)
                for slope in slopes[1:]
            )

        return tf.tensor_scatter_nd_update(values, places, moved), gradient

    return changed(scores, *of_rows)


def row_lengths(vectors: tf.Tensor) -> tf.Tensor:
    """Returns lengths of vectors (batch, dim), float32 (batch,); the slope at a vector of zeros is
    0.

    Example:
        >>> row_lengths(tf.constant([[3.0, 4.0], [0.0, 0.0]])).numpy().tolist()
        [5.0, 0.0]
    """
    squares = tf.reduce_sum(tf.square(tf.cast(vectors, tf.float32)), axis=-1)
    positive = squares > 0
    return tf.where(positive, tf.sqrt(tf.where(positive, squares, 1.0)), 0.0)


def unit_rows(vectors: tf.Tensor) -> tf.Tensor:
    """Scales vectors to length 1, float32; zeros stay zeros.

    Example:
        >>> unit_rows(tf.constant([[3.0, 4.0], [0.0, 0.0]])).numpy().round(4).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    return tf.math.l2_normalize(tf.cast(vectors, tf.float32), axis=-1)
