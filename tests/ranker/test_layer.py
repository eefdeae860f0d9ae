"""One layer: its examples by brute force, resuming, budgets, wrong data."""

import numpy as np
import pytest
import scipy.sparse

from tfxc.core.errors import ConfigError, DataError
from tfxc.ops.linear.settings import SolverSettings
from tfxc.ops.linear.solver import block_memory, has_native, solve_block
from tfxc.ranker import problem as problem_module
from tfxc.ranker.block_queue import AHEAD
from tfxc.ranker.features import check_features
from tfxc.ranker.layer import Limits, train_layer
from tfxc.ranker.problem import Blocks, LayerProblem
from tfxc.ranker.search import load_layer
from tfxc.ranker.store import weight_matrix

ROWS, FEATURES, NODES, PARENTS = 90, 40, 33, 6
EXACT = SolverSettings(2.0, 0.5, 1.5, epsilon=1e-8, max_passes=100_000, threshold=0.0)
# Without the compiled solver scikit-learn reads all features of a block.
needs_native = pytest.mark.skipif(not has_native(), reason="compiled linear solver not built")


@pytest.fixture
def drawn():
    """Arguments of ``LayerProblem``; node 4 has no positive, parent 5 no example of its own."""
    random = np.random.default_rng(0)
    features = scipy.sparse.random(ROWS, FEATURES, 0.2, "csr", np.float32, random_state=1)
    targets = (random.random((ROWS, NODES)) < 0.07).astype(np.float32)
    targets[:, 4] = 0
    examples = random.random((ROWS, PARENTS)) < 0.3
    examples[:, 5] = False
    relevance = targets * (0.5 + random.random(targets.shape))
    return {
        "features": features,
        "targets": scipy.sparse.csr_matrix(targets),
        "parents": random.integers(0, PARENTS, NODES),
        "examples": scipy.sparse.csr_matrix(examples),
        "relevance": scipy.sparse.csr_matrix(relevance.astype(np.float32)),
    }


def weights_in(folder):
    return weight_matrix(load_layer(folder), FEATURES).toarray()


@pytest.mark.parametrize("is_root", [False, True])
def test_every_node_learns_from_its_examples(tmp_path, drawn, is_root):
    if is_root:
        drawn.update(examples=None, parents=np.zeros(NODES, int))
    report = train_layer(LayerProblem(**drawn), tmp_path / "layer-0", EXACT)
    assert report == (NODES - 1, 1, 0)
    found = weights_in(tmp_path / "layer-0")
    targets, relevance = drawn["targets"].toarray(), drawn["relevance"].toarray()
    for node, parent in enumerate(drawn["parents"]):
        positive = targets[:, node] > 0
        taken = np.ones(ROWS, bool) if is_root else drawn["examples"].toarray()[:, parent]
        rows = np.flatnonzero(taken | positive)
        block = solve_block(
            drawn["features"][rows],
            [np.flatnonzero(positive[rows])],
            EXACT,
            relevance=[relevance[rows, node][positive[rows]]],
        )
        expected = np.zeros(FEATURES + 1)
        expected[block.rows] = block.values
        np.testing.assert_allclose(found[:, node], expected, atol=1e-5)
    assert load_layer(tmp_path / "layer-0").trained.tolist() == [n != 4 for n in range(NODES)]


def test_a_killed_training_goes_on(tmp_path, drawn, monkeypatch):
    train_layer(LayerProblem(**drawn), tmp_path / "whole")
    asked = []

    def dies(*arguments, **options):
        asked.append(1)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return solve_block(*arguments, **options)

    monkeypatch.setattr(problem_module, "solve_block", dies)
    with pytest.raises(KeyboardInterrupt):
        train_layer(LayerProblem(**drawn), tmp_path / "killed", limits=Limits(threads=1))
    assert not (tmp_path / "killed").exists()
    before = len(asked)
    train_layer(LayerProblem(**drawn), tmp_path / "killed", limits=Limits(threads=2))
    assert len(asked) == before + 3  # three blocks were done
    report = train_layer(LayerProblem(**drawn), tmp_path / "killed")
    assert len(asked) == before + 3 and report.trained == NODES - 1  # nothing was left to do
    for path in (tmp_path / "whole").glob("*.npy"):
        assert path.read_bytes() == (tmp_path / "killed" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("half", [slice(0, None, 2), slice(1, None, 2)])
@pytest.mark.parametrize("name", ["data", "indices"])
def test_the_fingerprint_sees_every_number(monkeypatch, half, name):
    """Half of a million numbers changed, none at either end: another layer."""
    monkeypatch.setattr(problem_module, "_AT_ONCE", 1 << 16)
    random = np.random.default_rng(0)
    rows, width, entries = 1000, 5000, 1000
    columns = np.sort(random.permuted(np.tile(np.arange(width), (rows, 1)), axis=1)[:, :entries])
    values = random.random(columns.size, np.float32)
    splits = np.arange(0, columns.size + 1, entries)
    features = scipy.sparse.csr_matrix((values, columns.ravel(), splits), (rows, width))
    targets = scipy.sparse.csc_matrix(np.eye(rows, 2, dtype=np.float32))

    def fingerprint():
        problem = LayerProblem(features, targets, np.zeros(2, int))
        return problem_module.Blocks(problem, SolverSettings()).fingerprint()

    before, inner = fingerprint(), getattr(features, name)[300_000:-300_000]
    assert fingerprint() == before
    inner[half] += 1
    assert fingerprint() != before


def test_other_settings_train_anew(tmp_path, drawn):
    train_layer(LayerProblem(**drawn), tmp_path / "layer-0")
    before = weights_in(tmp_path / "layer-0")
    train_layer(LayerProblem(**drawn), tmp_path / "layer-0", EXACT)
    assert not np.array_equal(before, weights_in(tmp_path / "layer-0"))


@pytest.mark.parametrize("at_once", [7, 1 << 22])
def test_a_wide_budget_is_planned_with_bounds_of_what_blocks_need(drawn, at_once, monkeypatch):
    monkeypatch.setattr(problem_module, "_AT_ONCE", at_once)
    blocks = Blocks(LayerProblem(**drawn), SolverSettings())
    wide = blocks.plan(1 << 40, 0, 1)
    together = sum(sorted(wide.needs)[-AHEAD * wide.blocks :])
    exact = blocks.plan(together - 1, 0, 1)
    assert exact[:3] == wide[:3] and len(exact.needs) == PARENTS
    assert (np.array(wide.needs) >= exact.needs).all()
    # Without positives the bound counts the examples of a block.
    bare = Blocks(LayerProblem(**{**drawn, "targets": 0 * drawn["targets"]}), SolverSettings())
    rows = np.diff(drawn["examples"].tocsc().indptr)
    lengths = np.diff(drawn["features"].indptr)
    entries = drawn["examples"].T.astype(np.int64) @ lengths
    children = np.bincount(drawn["parents"], minlength=PARENTS)
    expected = [
        block_memory(*map(int, sizes), SolverSettings()) + 32 * int(sizes[0])
        for sizes in zip(rows, entries, [FEATURES] * PARENTS, children, strict=True)
    ]
    assert bare.plan(1 << 40, 0, 1).needs == expected


@needs_native
@pytest.mark.parametrize("is_root", [False, True])
def test_the_least_budget_works(tmp_path, drawn, is_root):
    if is_root:
        drawn.update(examples=None, parents=np.zeros(NODES, int))
    problem = LayerProblem(**drawn)
    with pytest.raises(ConfigError, match=r"at least [0-9,]+") as caught:
        train_layer(problem, tmp_path / "layer-0", limits=Limits(1000))
    least = int(str(caught.value).split()[-1].strip(".").replace(",", ""))
    with pytest.raises(ConfigError, match="memory_budget"):
        train_layer(problem, tmp_path / "layer-0", limits=Limits(least - 1))
    with pytest.raises(ConfigError, match=f"{least + 499:,} bytes .* at least {least + 500:,}"):
        train_layer(problem, tmp_path / "layer-0", limits=Limits(least + 499), held=500)
    train_layer(problem, tmp_path / "layer-0", limits=Limits(least + 500), held=500)
    train_layer(problem, tmp_path / "free")
    np.testing.assert_allclose(
        weights_in(tmp_path / "layer-0"), weights_in(tmp_path / "free"), atol=1e-5
    )


@pytest.mark.parametrize("is_root", [False, True])
def test_mapped_features(tmp_path, drawn, monkeypatch, is_root):
    """Of many, not even those of a root's block are copied; the weights are the same."""
    if is_root:
        drawn.update(examples=None, parents=np.zeros(NODES, int), relevance=None)
    parts = {}
    for name in ("data", "indices", "indptr"):
        np.save(tmp_path / f"{name}.npy", getattr(drawn["features"], name))
        parts[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    train_layer(LayerProblem(**drawn), tmp_path / "expected", EXACT)
    before = drawn["features"].copy()
    drawn["features"] = scipy.sparse.csr_matrix(
        (parts["data"], parts["indices"], parts["indptr"]), (ROWS, FEATURES)
    )
    copies, expected = [], weights_in(tmp_path / "expected")

    def solved(*arguments, compress, **more):
        copies.append(compress is True)
        return solve_block(*arguments, compress=compress, **more)

    monkeypatch.setattr(problem_module, "solve_block", solved)
    for large in (1, 1 << 30):
        monkeypatch.setattr(problem_module, "_LARGE", large)
        train_layer(LayerProblem(**drawn), tmp_path / str(large), EXACT)
        np.testing.assert_allclose(weights_in(tmp_path / str(large)), expected, atol=1e-5)
        assert any(copies) == (is_root and large > 1)
        copies.clear()
    assert (drawn["features"] != before).nnz == 0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("targets", scipy.sparse.csr_matrix((7, NODES)), "targets: it has 7 rows, the features 90"),
        ("parents", np.zeros(3, int), "there are 3 parents for 33 nodes"),
        ("parents", np.full(NODES, PARENTS), "parents: .* 0 to 5"),
        (
            "examples",
            scipy.sparse.csr_matrix((7, PARENTS)),
            "examples: it has 7 rows, the features 90",
        ),
        ("relevance", scipy.sparse.csr_matrix((ROWS, NODES)), "relevance above 0"),
    ],
)
def test_arguments_that_do_not_fit(tmp_path, drawn, name, value, message):
    with pytest.raises(DataError, match=message):
        train_layer(LayerProblem(**{**drawn, name: value}), tmp_path / "layer-0")


def test_features_that_cannot_be_learned_from():
    good = scipy.sparse.csr_matrix(np.float32([[1, 2], [0, 0], [0, 3]]))
    assert check_features(good) == 1
    for value in (np.nan, np.inf):
        wrong = good.copy()
        wrong.data[2] = value
        with pytest.raises(DataError, match=r"features, row 2: .*NaN"):
            check_features(wrong)
    twice = scipy.sparse.csr_matrix((np.ones(3, np.float32), [0, 1, 1], [0, 1, 3]), (2, 2))
    with pytest.raises(DataError, match=r"row 1.*sum_duplicates"):
        check_features(twice)
    with pytest.raises(DataError, match="float32"):
        check_features(good.astype(np.float64))
    with pytest.raises(DataError, match="CSR"):
        check_features(good.toarray())
