"""The linear solver against the conditions of an optimum, and against scikit-learn."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse

from tfxc.core.errors import ConfigError
from tfxc.ops.linear.settings import SolverSettings
from tfxc.ops.linear.solver import block_memory, has_native, solve_block

needs_native = pytest.mark.skipif(not has_native(), reason="compiled linear solver not built")
NATIVE = [False, pytest.param(True, marks=needs_native)]
both = pytest.mark.parametrize("native", NATIVE)
EXACT = {"epsilon": 1e-9, "max_passes": 200_000, "threshold": 0.0}


def drawn(seed=0, rows=120, features=90, children=21, density=0.1):
    """Features, some with one example only, and positives of children, one without any."""
    random = np.random.default_rng(seed)
    matrix = scipy.sparse.random(rows, features, density, "csr", np.float32, random_state=seed)
    matrix.data -= 0.3
    positives = [np.flatnonzero(random.random(rows) < 0.1) for _ in range(children)]
    positives[2], positives[5] = np.empty(0, int), np.arange(rows)
    return matrix, positives


def dense(block, features, children):
    weights = np.zeros((features + 1, children))
    weights[np.repeat(block.rows, block.counts), block.columns] = block.values
    return weights


def problem_of(child, matrix, positives, settings, members, relevance):
    """Rows with the bias column, signs and costs of one child's examples."""
    signs, costs = -np.ones(matrix.shape[0]), np.full(matrix.shape[0], settings.cost_negative)
    taken = np.ones(len(signs), bool) if members is None else members.copy()
    signs[positives[child]], taken[positives[child]] = 1, True
    factors = 1 if relevance is None else relevance[child]
    costs[positives[child]] = settings.cost_positive * factors
    rows = np.column_stack([matrix.toarray(), np.full(len(signs), settings.bias)])
    return rows[taken], signs[taken], costs[taken]


def objective(weights, rows, signs, costs):
    return weights @ weights / 2 + costs @ np.maximum(0, 1 - signs * (rows @ weights)) ** 2


@both
@pytest.mark.parametrize("bias", [0, 1, 2.5])
def test_the_gradient_is_zero(native, bias):
    matrix, positives = drawn()
    random = np.random.default_rng(1)
    settings = SolverSettings(2.0, 0.7, bias, **EXACT)
    options = {
        "members": random.random(120) < 0.7,
        "relevance": [random.random(len(rows)) for rows in positives],
    }
    block = solve_block(matrix, positives, settings, native=native, **options)
    weights = dense(block, 90, 21)
    assert block.unfinished == 0
    for child in range(21):
        if len(positives[child]):
            rows, signs, costs = problem_of(child, matrix, positives, settings, **options)
            lacking = np.maximum(0, 1 - signs * (rows @ weights[:, child]))
            gradient = weights[:, child] - rows.T @ (2 * costs * lacking * signs)
            np.testing.assert_allclose(gradient, 0, atol=3e-5)
    assert not weights[:, 2].any()


@pytest.mark.parametrize("bias", [0, 2.5])
def test_the_gradient_of_the_logistic_loss_is_zero(bias):
    matrix, positives = drawn(children=7)
    draw = np.random.default_rng(1)
    settings = SolverSettings(2.0, 0.7, bias, "logistic", **EXACT)
    options = {
        "members": draw.random(120) < 0.7,
        "relevance": [draw.uniform(0.1, 1, len(rows)) for rows in positives],
    }
    block = solve_block(matrix, positives, settings, **options)
    weights = dense(block, 90, 7)
    assert block.unfinished == 0 and not weights[:, 2].any()
    for child in (0, 1, 3, 4, 5, 6):
        rows, signs, costs = problem_of(child, matrix, positives, settings, **options)
        wrong = 1 / (1 + np.exp(signs * (rows @ weights[:, child])))
        gradient = weights[:, child] - rows.T @ (costs * wrong * signs)
        np.testing.assert_allclose(gradient, 0, atol=3e-5)


@both
@pytest.mark.parametrize("loss", ["squared-hinge", "hinge", "logistic"])
def test_a_child_whose_positives_do_not_count_gets_no_weights(native, loss):
    matrix, positives = drawn(children=7)
    relevance = [np.ones(len(rows)) for rows in positives]
    relevance[3][:] = 0
    settings = SolverSettings(loss=loss)
    native = native and loss != "logistic"
    block = solve_block(matrix, positives, settings, relevance=relevance, native=native)
    assert 3 not in block.columns and 4 in block.columns
    others = [rows if child != 3 else rows[:0] for child, rows in enumerate(positives)]
    expected = solve_block(matrix, others, settings, native=native)
    np.testing.assert_array_equal(dense(block, 90, 7), dense(expected, 90, 7))


def test_the_logistic_loss_is_not_compiled():
    matrix, positives = drawn(children=7)
    with pytest.raises(ConfigError, match=r"no logistic, only squared-hinge and hinge|not built"):
        solve_block(matrix, positives, SolverSettings(loss="logistic"), native=True)
    shape = (120, matrix.nnz, 90, 7)
    plain, logistic = (
        block_memory(*shape, SolverSettings(loss=one)) for one in ("hinge", "logistic")
    )
    assert logistic > plain


@needs_native
@pytest.mark.parametrize("loss", ["squared-hinge", "hinge"])
@pytest.mark.parametrize("compress", [True, False])
def test_equals_scikit_learn(loss, compress):
    matrix, positives = drawn(2)
    settings = SolverSettings(1.0, 3.0, 1.0, loss, **EXACT)
    relevance = [np.arange(len(rows)) % 3 / 2 for rows in positives]  # some do not count at all
    options = {"members": np.arange(120) % 4 > 0, "relevance": relevance}
    found = solve_block(matrix, positives, settings, compress=compress, native=True, **options)
    expected = solve_block(matrix, positives, settings, native=False, **options)
    np.testing.assert_allclose(dense(found, 90, 21), dense(expected, 90, 21), atol=1e-5)


@needs_native
def test_the_usual_precision_is_near_the_optimum():
    matrix, positives = drawn(3, rows=400, children=40)
    settings = SolverSettings(threshold=0.0)
    weights = dense(solve_block(matrix, positives, settings, native=True), 90, 40)
    exact = dense(solve_block(matrix, positives, SolverSettings(**EXACT), native=True), 90, 40)
    for child in np.flatnonzero([len(rows) > 0 for rows in positives]):
        problem = problem_of(child, matrix, positives, settings, None, None)
        least = objective(exact[:, child], *problem)
        assert least * (1 - 1e-6) <= objective(weights[:, child], *problem) < 1.01 * least


@needs_native
def test_weights_do_not_depend_on_threads_and_are_repeatable():
    matrix, positives = drawn(4, children=60)
    settings = SolverSettings(threshold=0.0, seed=3)
    first = solve_block(matrix, positives, settings, native=True)
    second = solve_block(matrix, positives, settings, native=True, threads=3)
    other = solve_block(matrix, positives, SolverSettings(threshold=0.0, seed=4), native=True)
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first.values, other.values)


@both
def test_small_weights_are_dropped(native):
    matrix, positives = drawn(5)
    whole = dense(solve_block(matrix, positives, SolverSettings(**EXACT), native=native), 90, 21)
    settings = SolverSettings(**{**EXACT, "threshold": 0.2})
    found = dense(solve_block(matrix, positives, settings, native=native), 90, 21)
    np.testing.assert_allclose(found, np.where(np.abs(whole) >= 0.2, whole, 0), atol=1e-6)
    settings = SolverSettings(**EXACT, max_nonzeros=7)
    found = dense(solve_block(matrix, positives, settings, native=native), 90, 21)
    least = np.sort(np.abs(whole), axis=0)[-7]
    np.testing.assert_allclose(found, np.where(np.abs(whole) >= least, whole, 0), atol=1e-6)


@both
def test_rows_without_features_teach_the_bias(native):
    empty = scipy.sparse.csr_matrix((4, 3), dtype=np.float32)
    block = solve_block(empty, [[0]], SolverSettings(**EXACT), native=native)
    # The minimum of b²/2 + (1 - b)² + 3 (1 + b)².
    assert block.rows.tolist() == [3]
    np.testing.assert_allclose(block.values, -4 / 9, atol=1e-6)


@both
def test_labels_that_do_not_get_done_are_counted(native):
    matrix, positives = drawn(6)
    settings = SolverSettings(epsilon=1e-6, max_passes=2)
    assert solve_block(matrix, positives, settings, native=native).unfinished == 20


@both
def test_nothing_to_learn(native):
    matrix, _ = drawn(7)
    block = solve_block(matrix, [np.empty(0, int)] * 3, SolverSettings(), native=native)
    assert [len(part) for part in block[:4]] == [0, 0, 0, 0]


@needs_native
def test_features_that_may_be_overwritten():
    matrix, positives = drawn(8, children=20)
    one = solve_block(matrix, positives, SolverSettings())
    other = solve_block(matrix.copy(), positives, SolverSettings(), compress="in place")
    for part, same in zip(other, one, strict=True):
        np.testing.assert_array_equal(part, same)


def peak_and_bound(threads, compress, children=40, changes=(), **shape):
    """Bytes that solving a drawn block allocates at most, and the bound on them."""
    matrix, positives = drawn(8, children=children, **shape)
    settings = SolverSettings(**{"threshold": 0.0, **dict(changes)})
    tracemalloc.start()
    solve_block(matrix, positives, settings, compress=compress, threads=threads, native=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, block_memory(
        matrix.shape[0], matrix.nnz, matrix.shape[1], children, settings, compress=compress,
        threads=threads, occurring=len(np.unique(matrix.indices)),
    )  # fmt: skip


@needs_native
@pytest.mark.parametrize(
    ("compress", "changes"),
    [
        (True, {}),
        (False, {"threshold": 0.1, "epsilon": 1e-4}),
        pytest.param(True, {"max_nonzeros": 5}, marks=pytest.mark.slow),
        pytest.param(False, {}, marks=pytest.mark.slow),
    ],
)
def test_memory_stays_below_the_bound(compress, changes):
    shape = {"rows": 1500, "features": 8000, "density": 0.01}
    for threads in (1, 3):
        peak, bound = peak_and_bound(threads, compress, changes=changes, **shape)
        assert peak < bound


@needs_native
@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize(
    "shape",
    [
        {"rows": 300, "features": 20_000, "density": 0.002},  # most features in one row
        {"rows": 1200, "features": 5000, "density": 0.02},
        {"rows": 200, "features": 9000, "density": 0.02, "children": 100},
        {"rows": 4000, "features": 2000, "density": 0.01, "children": 12},
    ],
)
def test_the_bound_is_close_where_all_weights_are_kept(compress, shape):
    peak, bound = peak_and_bound(1, compress, **shape)
    assert peak < bound < 3 * peak


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"cost_positive": 0}, "cost_positive"),
        ({"epsilon": float("nan")}, "epsilon"),
        ({"bias": -1}, "bias"),
        ({"loss": "absolute"}, "loss"),
    ],
)
def test_settings_out_of_range(changes, where):
    with pytest.raises(ConfigError, match=where):
        SolverSettings(**changes)


def test_a_missing_build_is_reported(monkeypatch):
    monkeypatch.setattr("tfxc.ops.linear.solver._linear_solver", None)
    with pytest.raises(ConfigError, match="not built"):
        solve_block(drawn()[0], [[0]], SolverSettings(), native=True)
