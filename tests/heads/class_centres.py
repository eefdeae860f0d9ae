"""What the tests of heads with class centres share: scores and losses by NumPy."""

import numpy as np
import tensorflow as tf

from tfxc.objectives.softmax import Softmax
from tfxc.ops.randomness import step_scope


def cosines(features, centres, sub_centers=1):
    """Cosines to the nearest sub-centre by NumPy, float64 (batch, labels)."""
    features, centres = (np.asarray(x, np.float64) for x in (features, centres))
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    norms = np.linalg.norm(centres, axis=1, keepdims=True)
    centres = centres / np.where(norms > 0, norms, 1)
    return (features @ centres.T).reshape(len(features), -1, sub_centers).max(axis=-1)


def loss_by_numpy(logits, true):
    """Softmax cross-entropy of float64 logits (batch, columns)."""
    highest = logits.max(axis=1)
    sums = np.log(np.exp(logits - highest[:, None]).sum(axis=1)) + highest
    return sums - logits[np.arange(len(true)), true]


def losses(head, features, labels, step=3):
    """Per-example losses in a training step and the gradient of their sum, dense."""
    centres = head.centres.value
    with tf.GradientTape() as tape, step_scope(step, 0):
        tape.watch(features)
        groups = head.training_groups(features, tf.constant(labels, tf.int32))
        loss = Softmax().of_groups(groups)
        total = tf.reduce_sum(loss)
    to_features, to_centres = tape.gradient(total, [features, centres])
    return loss.numpy(), to_features.numpy(), tf.convert_to_tensor(to_centres).numpy()
