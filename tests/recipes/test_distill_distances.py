"""Distances of intermediate features, against loops over examples and words."""

import numpy as np
import pytest
import tensorflow as tf

from tfxc.recipes.distill.distances import ATTENTION_DISTANCES, PAIR_DISTANCES, STATE_DISTANCES

LENGTHS, LENGTH, HEADS = (4, 1, 3, 0), 5, 2
MASK = np.arange(LENGTH) < np.array(LENGTHS)[:, None]


def states(seed, dim=3):
    """Hidden states; what stands at the padding is large, so that it shows if it counts."""
    values = np.random.default_rng(seed).normal(size=(len(LENGTHS), LENGTH, dim))
    return np.where(MASK[:, :, None], values, 99.0)


def attention(seed, heads=HEADS):
    """Scores as encoders give them: very low where padding would be looked at."""
    values = np.random.default_rng(seed).normal(0, 2, (len(LENGTHS), heads, LENGTH, LENGTH))
    return np.where(MASK[:, None, None, :], values, np.finfo(np.float32).min / 2)


def shares(scores):
    found = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return found / found.sum(axis=-1, keepdims=True)


def unit(vector):
    return vector / np.sqrt((vector**2).sum())


def by_hand(loss, student, teacher):
    """One example without its padding; pairs of states, or of lists of heads."""
    if loss == "hidden_mse":
        return np.mean((student[0] - teacher[0]) ** 2)
    if loss == "cos":
        pairs = zip(student[0], teacher[0], strict=True)
        return np.mean([1 - unit(one) @ unit(other) for one, other in pairs])
    if loss == "pkd":
        return ((unit(student[0][0]) - unit(teacher[0][0])) ** 2).sum()
    if loss in ("gram", "fsp"):
        one, other = (a.T @ b / len(a) for a, b in (student, teacher))
        return np.mean((one - other) ** 2)
    if loss in ("mmd", "nst"):
        one, other = (a @ b.T / a.shape[1] for a, b in (student, teacher))
        return np.mean((one - other) ** 2)
    student, teacher = (shares(scores) for scores in (student, teacher))
    if loss == "attention_mse":
        return np.mean((student - teacher) ** 2)
    if loss == "attention_mse_sum":
        return np.mean((student.sum(axis=0) - teacher.sum(axis=0)) ** 2)
    if loss == "attention_ce":
        return np.mean(
            [-(p * np.log(q)).sum(axis=1) for q, p in zip(student, teacher, strict=True)]
        )
    return np.mean(-(teacher.mean(axis=0) * np.log(student.mean(axis=0))).sum(axis=1))


def expected(loss, student, teacher):
    found = []
    for row, length in enumerate(LENGTHS):
        if loss in STATE_DISTANCES:
            parts = [[layer[row, :length] for layer in each] for each in (student, teacher)]
        else:
            parts = [each[row, :, :length, :length] for each in (student, teacher)]
        found.append(by_hand(loss, *parts) if length else 0.0)
    return found


@pytest.mark.parametrize("loss", STATE_DISTANCES)
def test_distances_of_states(loss):
    widths = (3, 4) if loss in ("mmd", "nst") else (3, 3)
    student, teacher = (
        [states(i + 10 * w, w), states(i + 20 * w, w)] for i, w in enumerate(widths)
    )
    given = [[tf.constant(x, tf.float32) for x in each] for each in (student, teacher)]
    if loss not in PAIR_DISTANCES:
        given = [each[0] for each in given]
    found = STATE_DISTANCES[loss](*given, tf.constant(MASK))
    np.testing.assert_allclose(found, expected(loss, student, teacher), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", ATTENTION_DISTANCES)
def test_distances_of_attention(loss):
    heads = 3 if loss in ("attention_mse_sum", "attention_ce_mean") else HEADS
    student, teacher = attention(0), attention(1, heads)
    given = [tf.constant(each, tf.float32) for each in (student, teacher)]
    found = ATTENTION_DISTANCES[loss](*given, tf.constant(MASK))
    np.testing.assert_allclose(found, expected(loss, student, teacher), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", [*STATE_DISTANCES, *ATTENTION_DISTANCES])
def test_padding_and_extremes(loss):
    """Nothing flows to the padding, and no gradient is without a number."""
    of_states = loss in STATE_DISTANCES
    first = np.where(MASK[:, :, None], states(0) * 0, 99) if of_states else attention(0)
    student = tf.Variable(first, dtype=tf.float32)
    teacher = tf.constant(states(1) if of_states else attention(1), tf.float32)
    with tf.GradientTape() as tape:
        pair = loss in PAIR_DISTANCES
        given = ([student, student], [teacher, teacher]) if pair else (student, teacher)
        total = tf.reduce_sum(
            (STATE_DISTANCES | ATTENTION_DISTANCES)[loss](*given, tf.constant(MASK))
        )
    gradient = tape.gradient(total, student).numpy()
    assert np.isfinite(total) and np.isfinite(gradient).all()
    outside = (
        ~MASK
        if of_states
        else ~np.broadcast_to((MASK[:, :, None] & MASK[:, None, :])[:, None], gradient.shape)
    )
    assert not gradient[outside].any()
