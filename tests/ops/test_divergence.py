import numpy as np
import pytest
import tensorflow as tf

from tfxc.ops.divergence import symmetric_divergence
from tfxc.ops.logit_group import LogitGroup


def both_directions(p, q):
    return np.sum(p * np.log(p / q) + q * np.log(q / p))


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
@pytest.mark.parametrize("weighted", [False, True])
def test_only_valid_columns_count(link, weighted):
    rng = np.random.default_rng(0)
    z = rng.normal(0, 2, (2, 6, 7))
    valid = rng.random((6, 7)) < 0.6
    valid[0], valid[1] = True, False
    log_weights = rng.normal(size=7) if weighted else None
    weights = np.exp(log_weights) if weighted else np.ones(7)
    expected = []
    for row in range(6):
        one, other, w = (part[valid[row]] for part in (z[0, row], z[1, row], weights))
        if link == "softmax":
            p, q = (w * np.exp(part) / np.sum(w * np.exp(part)) for part in (one, other))
            expected.append(both_directions(p, q))
        else:
            p, q = (1 / (1 + np.exp(-part)) for part in (one, other))
            columns = zip(p, q, w, strict=True)
            parts = [
                c * (both_directions(a, b) + both_directions(1 - a, 1 - b)) for a, b, c in columns
            ]
            expected.append(sum(parts))
    tensors = [tf.Variable(np.where(valid, part, np.nan), dtype=tf.float32) for part in z]
    if weighted:
        log_weights = tf.constant(log_weights, tf.float32)
    with tf.GradientTape() as tape:
        groups = [LogitGroup(t, None, tf.constant(valid), None, log_weights) for t in tensors]
        found = symmetric_divergence(*groups, link)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    for gradient in tape.gradient(found, tensors):
        assert np.isfinite(gradient).all()
        assert not gradient.numpy()[~valid].any()


def test_logits_far_out():
    groups = [LogitGroup(tf.constant([[1e4, -1e4, float("-inf")]]), None)] * 2
    assert symmetric_divergence(*groups, "softmax").numpy().tolist() == [0]
