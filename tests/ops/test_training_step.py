"""The compiled operations of a training step against the textbook and TensorFlow's own."""

import numpy as np
import pytest
import tensorflow as tf

from tfxc.ops.losses import sigmoid_cross_entropy
from tfxc.ops.training_step import adam, sigmoid_loss
from tfxc.training.optimization.optimizers import Adam

needs_compiler = pytest.mark.usefixtures("compiled_operations")


@pytest.fixture
def compiled_or_not(monkeypatch):
    """Function that chooses whether the operations are compiled from here on."""

    def choose(switch):
        monkeypatch.setenv("TFXC_COMPILE", switch)
        adam.forget()
        sigmoid_loss.forget()

    yield choose
    adam.forget()
    sigmoid_loss.forget()


def state(seed=0, shape=(50, 7)):
    """A variable and its two moments, none zero."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(3, *shape)).astype(np.float32)
    return [tf.Variable(values[0]), tf.Variable(values[1]), tf.Variable(values[2] ** 2)]


def update(weight, first, second, gradient, rows=None):
    """One update with fixed scalars, of all numbers without rows."""
    adam.get()(
        variable=weight.handle,
        first_moment=first.handle,
        second_moment=second.handle,
        rows=[] if rows is None else rows,
        gradient=gradient,
        rate=0.05,
        epsilon=1e-3,
        kept=0.75,
        share_1=0.1,
        share_2=0.01,
        dense=rows is None,
    )


@needs_compiler
@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        ((50, 7), [3, 49, 0, 17]),
        ((50, 3, 5), [3, 49, 0, 17]),
        ((50,), [3, 49, 0, 17]),
        ((50, 7), []),
        ((50, 7), None),
        ((1, 300, 71), None),
        ((), None),
    ],
)
def test_equals_the_textbook(shape, rows):
    weight, first, second = state(shape=shape)
    touched = ... if rows is None else np.array(rows, np.int64)
    w, m, v = (np.array(x, np.float64) for x in (weight, first, second))
    gradient = np.random.default_rng(1).normal(size=w[touched].shape)
    m[touched] += 0.1 * (gradient - m[touched])
    v[touched] += 0.01 * (gradient**2 - v[touched])
    w[touched] = 0.75 * w[touched] - 0.05 * m[touched] / (np.sqrt(v[touched]) + 1e-3)
    update(weight, first, second, gradient.astype(np.float32), rows)
    for found, expected in zip((weight, first, second), (w, m, v), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@needs_compiler
@pytest.mark.parametrize("rows", [[1], None])
def test_a_variable_made_from_another_keeps_its_values(rows):
    weight, first, second = state()
    twin = tf.Variable(weight)  # shares the buffer until one of them is written to
    before = twin.numpy().copy()
    update(weight, first, second, tf.ones((50 if rows is None else 1, 7)), rows)
    np.testing.assert_array_equal(twin, before)
    assert (weight.numpy()[1] != before[1]).all()


@needs_compiler
def test_a_row_outside_is_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"row 50 is outside of 0 .. 49"):
        update(*state(), tf.ones((1, 7)), [50])


@needs_compiler
def test_a_gradient_of_another_shape_is_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match="gradient of the variable's shape"):
        update(*state(), tf.ones((7, 50)))


@needs_compiler
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("sparse", [True, False])
def test_optimizer_gives_the_same_with_and_without(compiled_or_not, sparse, weight_decay):
    results = []
    for switch in ("1", "0"):
        compiled_or_not(switch)
        optimizer, variable = Adam(0.1, weight_decay=weight_decay), state()[0]
        optimizer.build([variable])
        for step in range(3):
            gradient = tf.fill((50, 7), 0.5 + step)
            if sparse:
                rows = tf.constant([step, 9, 20])
                gradient = tf.IndexedSlices(gradient[:3], rows, variable.shape)
            slots = optimizer.slots[variable.ref()]
            optimizer.update(variable, gradient, slots, tf.constant(0.1), tf.constant(step + 1))
        assert adam.requested
        results.append([variable.numpy(), *(slot.numpy() for slot in slots)])
    # TensorFlow's dense kernel has 1 - beta from betas in float32, a share of 1e-5 off.
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6 if sparse else 1e-5)


def loss_and_gradient(logits, positives):
    """By ``sigmoid_cross_entropy``, weighted as by an example's share."""
    logits = tf.constant(logits, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        losses = sigmoid_cross_entropy(logits, tf.constant(positives))
        total = tf.reduce_sum(losses * tf.range(1.0, 1.0 + len(logits)))
    return losses.numpy(), tape.gradient(total, logits).numpy()


@needs_compiler
@pytest.mark.parametrize("switch", ["1", "0"])
@pytest.mark.parametrize("columns", [1, 7, 256, 1000])
def test_loss_and_gradient_are_those_of_float64(compiled_or_not, switch, columns):
    """Logits of any size, small and large; padding at any place; a row without a true column."""
    compiled_or_not(switch)
    random = np.random.default_rng(columns)
    sizes = np.array([0.0, 1e-6, 1.0, 8.0, 20.0, 1e3])
    logits = (random.normal(size=(6, columns)) * sizes[:, None]).astype(np.float32)
    target = random.random((6, columns)) < 3 / columns
    target[2] = False
    positives = np.full((6, columns + 1), -1)
    for row, true in enumerate(target):
        columns_of_row = np.flatnonzero(true)
        positives[row, 1 : 1 + len(columns_of_row)] = columns_of_row
    losses, gradient = loss_and_gradient(logits, positives)
    z = logits.astype(np.float64)
    exact = (np.logaddexp(0, z) - target * z).sum(axis=1)
    # Large terms may cancel: what rounding leaves is a share of them, not of their sum.
    scale = (np.logaddexp(0, z) + target * np.abs(z)).sum(axis=1)
    np.testing.assert_allclose(losses, exact, rtol=0, atol=3e-7 * scale.max() + 1e-30)
    np.testing.assert_array_less(np.abs(losses - exact), 2e-6 * scale + 1e-30)
    with np.errstate(over="ignore"):
        slopes = (1 / (1 + np.exp(-z)) - target) * np.arange(1, 7)[:, None]
    np.testing.assert_allclose(gradient, slopes, rtol=2e-6, atol=2e-6)


@needs_compiler
def test_a_small_probability_is_exact():
    """The sigmoid of -80 and the loss of a thousand such columns, which 1 + e would lose."""
    logits = tf.fill((1, 1000), -30.0)
    losses, gradient = sigmoid_loss.get()(logits, tf.constant([[-1]], tf.int64))
    np.testing.assert_allclose(losses, [1000 * np.log1p(np.exp(-30.0))], rtol=1e-6)
    np.testing.assert_allclose(gradient, np.full((1, 1000), 1 / (1 + np.exp(30.0))), rtol=1e-6)
    far = tf.constant([[-80.0, 80.0, -1e30, 1e30]])
    losses, gradient = sigmoid_loss.get()(far, tf.constant([[1, 3]], tf.int64))
    np.testing.assert_allclose(gradient, [[np.exp(-80.0), 0, 0, 0]], rtol=1e-6)
    assert np.isfinite(losses).all()


@needs_compiler
@pytest.mark.parametrize("switch", ["1", "0"])
def test_what_does_not_count_and_what_is_no_number(compiled_or_not, switch):
    """-inf takes a column out; NaN and infinity are to be seen in the loss, or in the gradient."""
    compiled_or_not(switch)
    logits = np.zeros((3, 40), np.float32)
    logits[0, 5] = -np.inf
    logits[1, 17] = np.nan
    logits[2, 39] = np.inf
    losses, gradient = loss_and_gradient(logits, [[0], [0], [0]])
    np.testing.assert_allclose(losses[0], 39 * np.log(2), rtol=1e-6)
    assert gradient[0, 5] == 0 and np.isfinite(gradient[0]).all()
    assert np.isnan(losses[1]) and np.isnan(gradient[1, 17])
    assert losses[2] == np.inf and gradient[2, 39] == 3


@needs_compiler
def test_logits_that_something_else_reads_stay():
    """In a graph, where the gradient is written over logits that nothing else reads."""
    features = tf.random.normal((4, 300), seed=1)
    positives = tf.constant([[1], [2], [-1], [299]])

    @tf.function(autograph=False)
    def step(read_later):
        logits = features * 2
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = tf.reduce_sum(sigmoid_cross_entropy(logits, positives))
        slopes = tape.gradient(loss, logits)
        return (loss, slopes, logits + 0) if read_later else (loss, slopes)

    loss, slopes, logits = step(True)
    np.testing.assert_array_equal(logits, features * 2)
    for one, other in zip((loss, slopes), step(False), strict=True):
        np.testing.assert_array_equal(one, other)


@needs_compiler
def test_a_column_outside_is_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"column 7 is outside of 0 .. 6"):
        sigmoid_loss.get()(tf.zeros((1, 7)), tf.constant([[7]], tf.int64))


def test_without_a_compiler_there_is_none(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    adam.forget()
    assert adam.get() is None
    assert "no C++ compiler" in adam.problem
    adam.forget()
