"""How far two predictions over the same columns are apart."""

from typing import TYPE_CHECKING

import tensorflow as tf

if TYPE_CHECKING:
    from tfxc.ops.logit_group import LogitGroup


_NOTHING = -1e30  # a logit whose probability is 0


def symmetric_divergence(first: "LogitGroup", second: "LogitGroup", link: str) -> tf.Tensor:
    """Returns ``KL(p || q) + KL(q || p)``, summed over the columns, float32 (batch,).

    Both directions together are ``sum (p - q) (log p - log q)``, and for probabilities of single
    columns ``sum (p - q) (z_p - z_q)`` with their logits z.

    Args:
        first, second: ``LogitGroup``s with the same columns.
        link: ``"softmax"``: p and q are distributions over the columns; ``"sigmoid"``: each
            column is a yes or no by itself.

    Example:
        >>> from tfxc.ops.logit_group import LogitGroup
        >>> first, second = (LogitGroup(tf.constant([[z]]), None) for z in (0.0, 2.0))
        >>> round(float(symmetric_divergence(first, second, "sigmoid")[0]), 4)
        0.7616
    """
    log_weights = 0.0 if first.log_weights is None else first.log_weights
    logits = [tf.cast(group.logits, tf.float32) for group in (first, second)]
    counts = (logits[0] > float("-inf")) & (logits[1] > float("-inf"))
    if first.valid is not None:
        counts &= first.valid
    logits = [tf.where(counts, z, _NOTHING) for z in logits]
    if link == "softmax":
        logits = [tf.nn.log_softmax(z + log_weights) for z in logits]
        p, q = map(tf.exp, logits)
        parts = (p - q) * (logits[0] - logits[1])
    else:
        p, q = map(tf.sigmoid, logits)
        parts = (p - q) * (logits[0] - logits[1]) * tf.exp(log_weights)
    return tf.reduce_sum(tf.where(counts, parts, 0.0), axis=1)


def teacher_divergence(
    student: tf.Tensor, teacher: tf.Tensor, temperature: tf.Tensor, link: str, distance: str
) -> tf.Tensor:
    """Returns the distance of a student's logits from a teacher's, summed over the columns, float32
    (batch,).

    With p the teacher's and q the student's probabilities at a temperature T (of logits / T):
    ``"kl"`` is ``sum p (log p - log q)``; ``"ce"`` is ``- sum p log q``, which has the same
    gradients; ``"mse"`` is the mean over the columns of the squared difference of the logits,
    whatever T is.

    Args:
        student, teacher: float (batch, columns) logits.
        temperature: positive, a scalar or (batch,).
        link: ``"softmax"`` or ``"sigmoid"``: over which probabilities go.
        distance: see above.

    Example:
        >>> same = tf.constant([[1.0, 2.0]])
        >>> float(teacher_divergence(same, same, 2.0, "softmax", "kl")[0])
        0.0

    Reference: Hinton et al. 2015, arXiv 1503.02531.
    """
    student, teacher = (tf.cast(logits, tf.float32) for logits in (student, teacher))
    if distance == "mse":
        return tf.reduce_mean(tf.square(student - teacher), axis=1)
    temperature = tf.reshape(temperature, [-1, 1])
    student = student / temperature
    teacher = teacher / temperature
    if link == "softmax":
        log_q = tf.nn.log_softmax(student)
        log_p = tf.nn.log_softmax(teacher)
        parts = -tf.exp(log_p) * log_q
        entropy = -tf.exp(log_p) * log_p
    else:
        p = tf.sigmoid(teacher)
        parts = tf.nn.sigmoid_cross_entropy_with_logits(p, student)
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(p, teacher)
    return tf.reduce_sum(parts - entropy if distance == "kl" else parts, axis=1)


def difficulty(
    student: tf.Tensor, teacher: tf.Tensor, scheduler: str, gamma: float = 1.0
) -> tf.Tensor:
    """Measures what a temperature scheduler uses, float32 (batch,), without a gradient.

    * ``"flsw"``: ``(1 - cosine of the two logit vectors) ^ gamma``: how far they are apart.
    * ``"cwsm"``: ``1 / (q + 0.001)``, q the student's largest probability at temperature 1.

    The temperature of an example is then ``T + beta (mean of the batch - its own value)``: a hard
    example gets sharper probabilities than an easy one.

    Args:
        student, teacher: float (batch, columns) logits.
        scheduler, gamma: see above.

    Example:
        >>> difficulty(tf.constant([[1.0, 0.0]]), tf.constant([[0.0, 2.0]]), "flsw").numpy()
        array([1.], dtype=float32)

    Reference: Wen et al. 2019, arXiv 1911.07471, as in TextBrewer (Yang et al. 2020).
    """
    student, teacher = (tf.cast(logits, tf.float32) for logits in (student, teacher))
    if scheduler == "flsw":
        lengths = tf.norm(student, axis=1) * tf.norm(teacher, axis=1)
        cosine = tf.math.divide_no_nan(tf.reduce_sum(student * teacher, axis=1), lengths)
        values = tf.pow(tf.maximum(1 - cosine, 0.0), gamma)
    else:
        values = 1 / (tf.reduce_max(tf.nn.softmax(student), axis=1) + 1e-3)
    return tf.stop_gradient(values)
