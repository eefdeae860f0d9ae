import numpy as np
import pytest
import tensorflow as tf

from tfxc.ops.randomness import dropout, keep_lists, keep_mask, step_scope


def mask(rate=0.3, seed=1, step=7, first_row=0, rows=200, columns=300):
    with step_scope(step, first_row):
        places = tf.range(rows)[:, None], tf.range(columns)[None, :]
        return keep_mask(*places, rate, seed).numpy()


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.5, 0.99])
def test_share(rate):
    kept = mask(rate)
    # 60,000 draws; five standard deviations
    allowed = 5 * np.sqrt(rate * (1 - rate) / kept.size)
    assert kept.mean() == pytest.approx(1 - rate, abs=allowed)
    for axis, size in ((0, 200), (1, 300)):
        means = kept.mean(axis=axis)
        assert np.abs(means - (1 - rate)).max() < 5 * np.sqrt(rate * (1 - rate) / size)


def lists(length, rate=0.3):
    with step_scope(7, 0):
        return keep_lists(tf.range(50)[:, None], tf.range(40) * 100, length, rate, 1).numpy()


def test_lists():
    kept = lists(33)
    assert kept.shape == (50, 40, 33)
    spread = np.sqrt(0.3 * 0.7 / kept.size)
    assert kept.mean() == pytest.approx(0.7, abs=5 * spread)
    assert np.abs(kept.mean(axis=(0, 1)) - 0.7).max() < 5 * np.sqrt(0.3 * 0.7 / 2000)
    for both in (kept[..., 1:] & kept[..., :-1], kept[1:] & kept[:-1], kept[:, 1:] & kept[:, :-1]):
        assert both.mean() == pytest.approx(0.49, abs=5 * np.sqrt(0.49 * 0.51 / both.size) * 2)
    for length in (1, 8, 32):  # whatever comes behind
        np.testing.assert_array_equal(lists(length), kept[..., :length])
    assert lists(0).shape == (50, 40, 0)


def test_same_place_same_draw():
    np.testing.assert_array_equal(mask(), mask())
    np.testing.assert_array_equal(mask()[50:90], mask(first_row=50, rows=40))


@pytest.mark.parametrize("change", [{"seed": 2}, {"step": 8}, {"first_row": 1}])
def test_another_seed_step_or_row_is_independent(change):
    one, other = mask(0.5), mask(0.5, **change)
    # Two independent fair masks agree in half of the 60,000 places.
    assert (one == other).mean() == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(one.size))


def test_neighbours_are_independent():
    kept = mask(0.5)
    allowed = 5 * 0.5 / np.sqrt(kept.size)
    for one, other in ((kept[1:], kept[:-1]), (kept[:, 1:], kept[:, :-1])):
        assert (one == other).mean() == pytest.approx(0.5, abs=allowed + 1e-3)


def test_a_second_pass_draws_anew_and_reproducibly():
    def two_passes():
        with step_scope(3, 0):
            return dropout(tf.ones((20, 30)), 0.5, 1), dropout(tf.ones((20, 30)), 0.5, 1)

    first, second = two_passes()
    assert (first.numpy() != second.numpy()).any()
    again = two_passes()
    np.testing.assert_array_equal(first, again[0])
    np.testing.assert_array_equal(second, again[1])


def test_values_are_scaled_up():
    values = tf.random.stateless_normal((300, 40), (1, 2))
    with step_scope(1, 0):
        dropped = dropout(values, 0.2, seed=4).numpy()
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], values.numpy()[kept] / 0.8, rtol=1e-6)
    assert kept.mean() == pytest.approx(0.8, abs=5 * 0.4 / np.sqrt(kept.size))


def test_more_dimensions_and_half_precision():
    with step_scope(1, 0):
        dropped = dropout(tf.ones((4, 3, 5), tf.bfloat16), 0.5, seed=4)
    assert dropped.shape == (4, 3, 5) and dropped.dtype == tf.bfloat16
    assert set(np.unique(tf.cast(dropped, tf.float32))) == {0, 2}


def test_rate_zero_is_nothing():
    values = tf.ones((2, 3))
    assert dropout(values, 0.0, seed=1) is values


def test_outside_a_step_masks_are_random():
    one, other = (dropout(tf.ones((40, 40)), 0.5, 1).numpy() for _ in range(2))
    assert (one != other).any()


def test_the_step_is_read_when_the_graph_runs():
    step = tf.Variable(0, dtype=tf.int64)

    @tf.function(autograph=False)
    def draw():
        with step_scope(step, 0):
            return dropout(tf.ones((20, 30)), 0.5, 1)

    first = draw().numpy()
    step.assign(1)
    assert (draw().numpy() != first).any()
    step.assign(0)
    np.testing.assert_array_equal(draw(), first)


def test_scopes_nest_and_close():
    with step_scope(1, 0):
        with step_scope(2, 0):
            inner = dropout(tf.ones((20, 30)), 0.5, 1).numpy()
        outer = dropout(tf.ones((20, 30)), 0.5, 1).numpy()
    with step_scope(1, 0):
        np.testing.assert_array_equal(outer, dropout(tf.ones((20, 30)), 0.5, 1))
    assert (inner != outer).any()
