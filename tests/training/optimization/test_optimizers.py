import numpy as np
import pytest
import tensorflow as tf

from tfxc.core.declared import from_section
from tfxc.core.errors import ConfigError
from tfxc.ops.gradients import sum_repeated_rows
from tfxc.training.optimization import row_optimizer
from tfxc.training.optimization.optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    RMSprop,
    get_optimizer,
)

ROWS, DIM, STEPS = 9, 4, 6
TOUCHED = [[2, 5, 2], [2, 5, 7, 7, 7], [5, 2], [2, 2, 5], [5, 2, 0], [2, 5]]  # rows 2, 5: each step


class Reference:
    """The textbook rules in float64 on whole matrices."""

    def __init__(self, start):
        self.weight = start.astype(np.float64)
        self.first = np.zeros_like(self.weight)
        self.second = np.zeros_like(self.weight)

    def sgd(self, gradient, rate):
        self.weight -= rate * gradient

    def momentum(self, gradient, rate, momentum, nesterov):
        self.first = momentum * self.first + gradient
        ahead = gradient + momentum * self.first
        self.weight -= rate * (ahead if nesterov else self.first)

    def adagrad(self, gradient, rate, epsilon, start=0.0):
        self.second += gradient**2
        self.weight -= rate * gradient / (np.sqrt(start + self.second) + epsilon)

    def adam(self, gradient, rate, step, betas, epsilon):
        self.first = betas[0] * self.first + (1 - betas[0]) * gradient
        self.second = betas[1] * self.second + (1 - betas[1]) * gradient**2
        first = self.first / (1 - betas[0] ** step)
        second = self.second / (1 - betas[1] ** step)
        self.weight -= rate * first / (np.sqrt(second) + epsilon)

    def rmsprop(self, gradient, rate, rho, momentum, epsilon):
        self.second = rho * self.second + (1 - rho) * gradient**2
        self.first = momentum * self.first + gradient / (np.sqrt(self.second) + epsilon)
        self.weight -= rate * self.first

    def adadelta(self, gradient, rate, rho, epsilon):
        self.second = rho * self.second + (1 - rho) * gradient**2
        change = np.sqrt(self.first + epsilon) / np.sqrt(self.second + epsilon) * gradient
        self.first = rho * self.first + (1 - rho) * change**2
        self.weight -= rate * change


# name -> (optimizer, rule of Reference)
CASES = {
    "sgd": (lambda: SGD(0.1), lambda r, g, t: r.sgd(g, 0.1)),
    "momentum": (lambda: SGD(0.1, 0.9), lambda r, g, t: r.momentum(g, 0.1, 0.9, False)),
    "nesterov": (lambda: SGD(0.1, 0.9, True), lambda r, g, t: r.momentum(g, 0.1, 0.9, True)),
    "adagrad": (lambda: Adagrad(0.1), lambda r, g, t: r.adagrad(g, 0.1, 1e-7)),
    "adagrad from 0.1": (
        lambda: Adagrad(0.1, 0.1, 1e-5),
        lambda r, g, t: r.adagrad(g, 0.1, 1e-5, 0.1),
    ),
    "adam": (lambda: Adam(0.1), lambda r, g, t: r.adam(g, 0.1, t, (0.9, 0.999), 1e-7)),
    "adam of other betas": (
        lambda: Adam(0.1, 0.8, 0.95, 1e-3),
        lambda r, g, t: r.adam(g, 0.1, t, (0.8, 0.95), 1e-3),
    ),
    "rmsprop": (lambda: RMSprop(0.1), lambda r, g, t: r.rmsprop(g, 0.1, 0.99, 0.0, 1e-8)),
    "rmsprop with momentum": (
        lambda: RMSprop(0.1, 0.9, 0.8, 1e-4),
        lambda r, g, t: r.rmsprop(g, 0.1, 0.9, 0.8, 1e-4),
    ),
    "adadelta": (lambda: Adadelta(), lambda r, g, t: r.adadelta(g, 1.0, 0.9, 1e-6)),
}
COASTING = ["momentum", "nesterov", "adam", "adam of other betas", "rmsprop with momentum"]


def start_values(rows=ROWS):
    return np.random.default_rng(0).normal(size=(rows, DIM)).astype(np.float32)


def row_gradient(values, rows):
    """``IndexedSlices`` of a (ROWS, DIM) variable."""
    shape = tf.constant([ROWS, DIM])
    return tf.IndexedSlices(tf.constant(values), tf.constant(rows, tf.int32), shape)


def sparse_gradients():
    """One ``IndexedSlices`` per step, with repeated rows, and the same as dense arrays."""
    rng = np.random.default_rng(1)
    for rows in TOUCHED:
        values = rng.normal(size=(len(rows), DIM)).astype(np.float32)
        dense = np.zeros((ROWS, DIM))
        np.add.at(dense, rows, values.astype(np.float64))
        yield row_gradient(values, rows), dense


def trained(optimizer, gradients, start):
    """The variable after updates as ``TrainStep`` does them."""
    variable = tf.Variable(start)
    optimizer.build([variable])
    slots = optimizer.slots[variable.ref()]

    @tf.function(reduce_retracing=True, autograph=False)
    def update(gradient, step):
        gradient = sum_repeated_rows(gradient)
        rate = tf.constant(optimizer.learning_rate)
        optimizer.update(variable, gradient, slots, rate, step)

    for number, gradient in enumerate(gradients, start=1):
        update(gradient, tf.constant(number, tf.int64))
    return variable.numpy()


@pytest.mark.parametrize("name", CASES)
def test_dense_equals_the_formula(name):
    make, rule = CASES[name]
    rng = np.random.default_rng(2)
    gradients = [rng.normal(size=(ROWS, DIM)).astype(np.float32) for _ in range(STEPS)]
    reference = Reference(start_values())
    for step, gradient in enumerate(gradients, start=1):
        rule(reference, gradient.astype(np.float64), step)
    found = trained(make(), map(tf.constant, gradients), start_values())
    np.testing.assert_allclose(found, reference.weight, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", ["sgd", "adagrad", "adagrad from 0.1"])
def test_sparse_equals_dense(name):
    """Also for rows touched now and then, and for rows that come up twice in a step."""
    make, rule = CASES[name]
    reference = Reference(start_values())
    for step, (_, dense) in enumerate(sparse_gradients(), start=1):
        rule(reference, dense, step)
    found = trained(make(), (g for g, _ in sparse_gradients()), start_values())
    np.testing.assert_allclose(found, reference.weight, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", COASTING)
def test_sparse_equals_dense_for_rows_touched_in_each_step(name):
    make, rule = CASES[name]
    reference = Reference(start_values())
    for step, (_, dense) in enumerate(sparse_gradients(), start=1):
        rule(reference, dense, step)
    found = trained(make(), (g for g, _ in sparse_gradients()), start_values())
    np.testing.assert_allclose(found[[2, 5]], reference.weight[[2, 5]], rtol=1e-4, atol=2e-6)
    # Row 7 is touched once only: the dense rule moves it on, the lazy one lets it rest.
    assert np.abs(found[7] - reference.weight[7]).max() > 1e-3


@pytest.mark.parametrize("name", CASES)
def test_untouched_rows_stay_to_the_bit(name):
    found = trained(CASES[name][0](), (g for g, _ in sparse_gradients()), start_values())
    untouched = [1, 3, 4, 6, 8]
    np.testing.assert_array_equal(found[untouched], start_values()[untouched])


def test_a_row_touched_late_is_corrected_by_the_number_of_the_step():
    """The lazy rule in closed form: row 0 is first touched in step 5."""
    gradients = [dense for _, dense in sparse_gradients()]
    gradient = gradients[4][0]
    first = 0.1 * gradient / (1 - 0.9**5)
    second = 0.001 * gradient**2 / (1 - 0.999**5)
    expected = start_values()[0] - 0.1 * first / (np.sqrt(second) + 1e-7)
    found = trained(Adam(0.1), (g for g, _ in sparse_gradients()), start_values())
    np.testing.assert_allclose(found[0], expected, rtol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_more_rows_than_a_chunk(name):
    """2,048 rows are updated at a time; the result must not show where the cuts are."""
    rows = row_optimizer._CHUNK_ROWS * 2 + 3
    rng = np.random.default_rng(3)
    order = rng.permutation(rows)
    start = start_values(rows)
    gradients = [rng.normal(size=(rows, DIM)).astype(np.float32) for _ in range(2)]
    sparse = [tf.IndexedSlices(tf.constant(g[order]), tf.constant(order)) for g in gradients]
    make, rule = CASES[name]
    reference = Reference(start)
    for step, gradient in enumerate(gradients, start=1):
        rule(reference, gradient.astype(np.float64), step)
    np.testing.assert_allclose(
        trained(make(), sparse, start), reference.weight, rtol=1e-3, atol=1e-5
    )


def test_no_rows_at_all():
    empty = row_gradient(np.zeros((0, DIM), np.float32), [])
    np.testing.assert_array_equal(trained(Adam(), [empty], start_values()), start_values())


def test_slots_to_save():
    variables = [tf.Variable(tf.zeros((3, 2))), tf.Variable(tf.zeros(4))]
    for optimizer, count in ((SGD(), 0), (SGD(momentum=0.9), 1), (Adagrad(), 1), (Adam(), 2)):
        optimizer.build(variables)
        shapes = [tuple(slot.shape) for slot in optimizer.variables_to_save]
        assert shapes == [(3, 2)] * count + [(4,)] * count


def test_from_config_section():
    optimizer = get_optimizer({"name": "adam", "learning_rate": 0.5, "beta_1": 0.7})
    assert isinstance(optimizer, Adam)
    assert (optimizer.learning_rate, optimizer.beta_1) == (0.5, 0.7)
    assert isinstance(get_optimizer({"name": "sgd"}), SGD)
    decayed = get_optimizer({"name": "adamw", "beta_2": 0.9})
    assert isinstance(decayed, AdamW) and (decayed.weight_decay, decayed.beta_2) == (0.01, 0.9)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"name": "adan"},
            "unknown optimizer 'adan', did you mean 'adam'.*Choose one of: sgd, adagr",
        ),
        ({"name": "adam", "beta1": 0.9}, "no argument 'beta1', did you mean 'beta_1'"),
        (
            {"name": "adam", "learning_rate": 0},
            "learning_rate: must be a positive number, not 0",
        ),
        ({"name": "sgd", "nesterov": True}, "nesterov needs momentum.*Set momentum"),
    ],
)
def test_bad_sections(section, message):
    with pytest.raises(ConfigError, match=message):
        get_optimizer(section)


def test_what_is_decided_elsewhere_is_no_key():
    def factory(total, *, rate=1.0):
        return total, rate

    assert from_section(factory, {"rate": 2.0}, "place", total=3) == (3, 2.0)
    with pytest.raises(ConfigError, match=r"place\.total: 'total' cannot be set here"):
        from_section(factory, {"total": 2}, "place", total=3)


@pytest.mark.parametrize("name", ["adam", "adamw", "adagrad", "rmsprop", "adadelta"])
@pytest.mark.parametrize("epsilon", [0, 1e-40])
def test_an_epsilon_that_is_no_divisor_is_refused(name, epsilon):
    with pytest.raises(ConfigError, match=r"training\.optimizer\.epsilon: "):
        get_optimizer({"name": name, "epsilon": epsilon})


@pytest.mark.parametrize(
    "section",
    [
        {"name": "adam", "epsilon": 1e-30},
        {"name": "rmsprop", "epsilon": 1e-30},
        {"name": "adagrad", "epsilon": 1e-30},
        {"name": "adagrad", "epsilon": 0, "initial_accumulator": 0.1},
    ],
)
@pytest.mark.parametrize("sparse", [False, True])
def test_the_least_epsilon_leaves_a_weight_without_a_gradient_alone(section, sparse):
    optimizer, variable = get_optimizer(section), tf.Variable(tf.ones((2, 3)))
    optimizer.build([variable])
    gradient = tf.constant([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
    if sparse:
        gradient = tf.IndexedSlices(gradient, tf.constant([0, 1], tf.int64), (2, 3))
    for step in (1, 2):
        slots = optimizer.slots[variable.ref()]
        optimizer.update(variable, gradient, slots, tf.constant(0.1), tf.constant(step, tf.int64))
    assert np.isfinite(variable).all()
    assert variable.numpy()[[0, 1, 1, 1], [1, 0, 1, 2]].tolist() == [1.0] * 4
