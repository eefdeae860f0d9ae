"""The levels of an XR-Transformer: first weights of heads, clusters found, settings per level."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from tests.source_tree import ROOT
from tfxc.core import registry
from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError
from tfxc.data.examples.kinds import JOINED, TOKENS
from tfxc.data.reading.inspection.completion import load_config
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.recipes.xr_transformer import levels as levels_module
from tfxc.recipes.xr_transformer.checks import check_fit
from tfxc.recipes.xr_transformer.levels import LevelData, Levels
from tfxc.recipes.xr_transformer.plan import Plan, fine_tuned_levels, per_level
from tfxc.recipes.xr_transformer.recipe import XRTransformer
from tfxc.runs.folder import RunFolder

TREE = ClusterTree([[0, 0, 0], [0, 1, 1, 2, 2, 2], [0, 0, 1, 2, 3, 3, 4, 5, 5]])
EXAMPLES, DIM = 40, 5


class FrozenLevels(Levels):
    """Levels whose encodings and heads are drawn, not trained."""

    def _embeddings(self, level):
        return np.random.default_rng(level).normal(0, 1, (EXAMPLES, DIM)).astype(np.float32)

    def model(self, level):
        random = np.random.default_rng(50 + level)
        weights = {}
        for name, shape in (("kernels", (TREE.sizes[level], DIM)), ("biases", TREE.sizes[level])):
            values = random.normal(0, 1, shape).astype(np.float32)
            weights[name] = {level: SimpleNamespace(numpy=lambda values=values: values)}
        return SimpleNamespace(head=SimpleNamespace(**weights, link="hinge"))


@pytest.fixture
def make(tmp_path):
    random = np.random.default_rng(0)
    labels = (random.random((EXAMPLES, 9)) < 0.2).astype(np.float32)
    labels[:9] += np.eye(9, dtype=np.float32)
    labels = scipy.sparse.csr_matrix(np.minimum(labels, 1))
    terms = scipy.sparse.random(EXAMPLES, 7, 0.4, "csr", np.float32, random_state=1)

    def build(**changes):
        plan = {
            "count": 3, "negatives": ["tfn+man"] * 3, "initial": ["linear"] * 3,
            "epochs": [1] * 3, "steps": [None] * 3, "warmup_steps": [None] * 3, "only_topk": 2,
            "ensemble": "concat-only", "threshold": 0.0, "cost_sensitive": False, "threads": None,
            **changes,
        }  # fmt: skip
        config = SimpleNamespace(evaluation=SimpleNamespace(batch_size=8))
        targets = TREE.multi_resolution(labels)
        run = RunFolder(tmp_path)
        data = LevelData(None, terms, targets, TREE, {})
        return FrozenLevels(Plan(**plan), config, None, run, data)

    return build


def best_by_hand(margins, level, above, count):
    """P of a level from the margins of all nodes: {row: {node: score}}."""
    scores = np.exp(-(np.maximum(0, 1 - margins) ** 3))
    found = []
    for row, own in enumerate(scores):
        if level:
            pairs = [(n, p) for n, p in enumerate(TREE.parents[level]) if p in above[row]]
            kept = {node: own[node] * above[row][parent] for node, parent in pairs}
        else:
            kept = dict(enumerate(own))
        best = sorted(kept, key=lambda node: -kept[node])[:count]
        found.append({node: kept[node] for node in best})
    return found


def rows_of(matrix):
    return [
        dict(zip(matrix.indices[a:b].tolist(), matrix.data[a:b].tolist(), strict=True))
        for a, b in zip(matrix.indptr, matrix.indptr[1:], strict=False)
    ]


def svm_margins(features, levels, level, above, relevance):
    """Margins of every example by one ``LinearSVC`` per node, on the examples of the definition."""
    targets, margins = levels.targets[level].toarray() > 0, []
    for node in range(TREE.sizes[level]):
        rows = np.arange(EXAMPLES)
        if level:
            parent = TREE.parents[level][node]
            true = levels.targets[level - 1].toarray()[:, parent] > 0
            rows = np.flatnonzero(true | [parent in found for found in above])
        weight = None
        if relevance is not None:
            weight = np.where(targets[rows, node], relevance[rows, node], 1.0)
        machine = LinearSVC(tol=1e-7, max_iter=100_000).fit(
            features[rows], targets[rows, node], sample_weight=weight
        )
        margins.append(machine.decision_function(features))
    return np.stack(margins, axis=1)


@pytest.mark.parametrize("ensemble", ["transformer-only", "concat-only", "average"])
@pytest.mark.parametrize("cost_sensitive", [False, True])
def test_clusters_found(make, ensemble, cost_sensitive, monkeypatch):
    exact = levels_module.SolverSettings
    monkeypatch.setattr(
        levels_module, "SolverSettings", lambda **a: exact(**a, epsilon=1e-6, max_passes=10_000)
    )
    monkeypatch.setattr(levels_module, "_ROWS", 7)
    levels = make(ensemble=ensemble, cost_sensitive=cost_sensitive)
    above = predicted = None
    for level in (0, 1):
        predicted = levels._predict(level, predicted)
        vectors, head = levels._embeddings(level), levels.model(level).head
        own = vectors @ head.kernels[level].numpy().T + head.biases[level].numpy()
        relevance = None
        if cost_sensitive:
            relevance = normalize(levels.targets[level], "l1").toarray()
        both = np.hstack([levels.terms.toarray(), normalize(vectors)])
        linear = svm_margins(both, levels, level, above, relevance)
        parts = {"transformer-only": [own], "concat-only": [linear], "average": [own, linear]}
        lists = [best_by_hand(margins, level, above, 2) for margins in parts[ensemble]]
        found = rows_of(predicted)
        for row in range(EXAMPLES):
            if len(lists) == 1:
                assert found[row] == pytest.approx(lists[0][row], abs=2e-4)
            else:
                assert set(found[row]) <= set(lists[0][row]) | set(lists[1][row])
                assert len(found[row]) == min(2, len(set(lists[0][row]) | set(lists[1][row])))
        above = found


def test_linear_start(make, monkeypatch):
    exact = levels_module.SolverSettings
    monkeypatch.setattr(
        levels_module, "SolverSettings", lambda **a: exact(**a, epsilon=1e-6, max_passes=100_000)
    )
    for how in ("linear", "weighted-linear"):
        levels = make(initial=["none", how, how], negatives=["tfn"] * 3)
        kernel, bias = levels._start_values(1, None)
        assert kernel.shape == (6, DIM) and bias.shape == (6,)
        vectors, targets = levels._embeddings(0), levels.targets[1].toarray()
        for node, parent in enumerate(TREE.parents[1]):
            rows = np.flatnonzero(levels.targets[0].toarray()[:, parent])
            weights = np.maximum(targets[rows, node], 1) if how == "weighted-linear" else None
            machine = LinearSVC(C=100, tol=1e-7, max_iter=10**6)
            if not 0 < (targets[rows, node] > 0).sum() < len(rows):
                continue
            machine.fit(vectors[rows], targets[rows, node] > 0, sample_weight=weights)
            np.testing.assert_allclose(kernel[node], machine.coef_[0], rtol=2e-2, atol=5e-3)
            np.testing.assert_allclose(bias[node], machine.intercept_[0], rtol=2e-2, atol=5e-3)


def test_inherited_start(make):
    levels = make(initial=["none", "inherit", "none"])
    kernel, bias = levels._start_values(1, None)
    head = levels.model(0).head
    expected = TREE.matrix(1) @ head.kernels[0].numpy()
    np.testing.assert_allclose(kernel, expected)
    np.testing.assert_allclose(bias, TREE.matrix(1) @ head.biases[0].numpy())
    assert levels._start_values(2, None) is None and levels._start_values(0, None) is None


def test_values_per_level():
    assert per_level("tfn", [4, 16], "negatives") == ["tfn", "tfn"]
    assert fine_tuned_levels([4, 16, 60], 16) == 2
    with pytest.raises(ConfigError, match=r"2 values for 3 .* \(of 4, 16, 60 nodes\)"):
        per_level([1, 2], [4, 16, 60], "steps")
    with pytest.raises(ConfigError, match="at least 4, the nodes of the tree's first level, not 3"):
        fine_tuned_levels([4, 16, 60], 3)


def config_of(**changes):
    plain = {
        "run": "runs/x",
        "data": {"name": "x", "train": "x.jsonl", "text_features": {"name": "joined"}},
        "encoder": {"name": "textcnn"},
        "head": {"name": "tree"},
        "objective": {"name": "squared_hinge"},
        "recipe": {"name": "xr_transformer"},
    }
    return parse_config({**plain, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"head": {"name": "dense"}},
            "head.name: recipe 'xr_transformer' does not work with head 'dense'",
        ),
        ({"head": {"name": "tree", "beam": 3}}, "head.beam: recipe 'xr_transformer' does not use"),
        ({"training": {"keep": "best"}}, "training.keep: it does not apply to recipe"),
    ],
)
def test_configs_that_do_not_fit(changes, message):
    manifest = SimpleNamespace(feature_kind="joined", kind=JOINED)
    check_fit(config_of(), manifest)
    with pytest.raises(ConfigError, match=message):
        check_fit(config_of(**changes), manifest)


def test_tokens_alone_do_not_suffice():
    with pytest.raises(ConfigError, match="Use text_features 'joined'"):
        check_fit(config_of(), SimpleNamespace(feature_kind="tokens", kind=TOKENS))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"only_topk": 0}, "only_topk: must be an integer of at least 1, not 0"),
        ({"warmup_steps": 5}, "recipe.warmup_steps: warmup_steps needs recipe.steps"),
        ({"steps": 2.5}, r"steps: must be an integer of at least 1 .*, not 2\.5"),
        ({"steps": [5, 0, 5]}, "steps: must be an integer of at least 1 .*, not .5, 0, 5."),
        ({"steps": True}, "steps: must be an integer of at least 1 .*, not true"),
        ({"negatives": "mann"}, "negatives: must be one of tfn, .* not 'mann'"),
        ({"steps": 5, "epochs": 2}, "recipe.steps: steps and epochs exclude each other"),
        ({"ranker": {"colour": 1}}, "recipe.ranker.colour: the ranker has no argument 'colour'"),
        ({"refined_tree": 7}, "refined_tree: must be a section, not 7"),
        ({"memory_gb": 0}, "memory_gb: must be a positive number, not 0"),
        ({"ensemble": "all"}, "ensemble: must be one of concat-only, .* not 'all'"),
        ({"initial": "zeros"}, "initial: must be one of linear, .* not 'zeros'"),
        ({"steps": 5, "warmup_steps": 5}, "recipe.warmup_steps: 5 warm-up steps are not fewer"),
        ({"ranker": {"threshold": [0.1]}}, r"threshold: .*4, 16, 60"),
        ({"ranker": {"mode": "ranker"}}, "recipe.ranker.mode: must be 'full-model' here"),
        (
            {"refined_tree": {"nr_splits": 1}},
            "recipe.refined_tree.nr_splits: must be an integer of at least 2",
        ),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ConfigError, match=message):
        recipe = XRTransformer(**arguments)
        recipe.plan_of(config_of(), [4, 16, 60])
        recipe.tree_settings(config_of(), SimpleNamespace(num_labels=60, num_features=9))
        recipe.settings_of_ranker(config_of(), [4, 16, 60])


PUBLISHED = {  # labels, levels of the first tree that are fine-tuned, levels of the second tree
    "eurlex4k": (3956, [16, 256, 3956], [4, 32, 256, 3956]),
    "wiki10": (30938, [128, 2048, 30938], [8, 128, 2048, 30938]),
    "amazoncat13k": (13330, [128, 1024, 13330], [128, 1024, 13330]),
    "wiki500k": (501070, [64, 512, 4096, 32768], [8, 256, 8192, 501070]),
    "amazon670k": (670091, [128, 2048, 32768], [8, 256, 8192, 670091]),
    "amazon3m": (2812281, [128, 2048, 32768], [32, 1024, 32768, 2812281]),
    "amazon3m_bert2": (2812281, [32, 512, 8192], [32, 1024, 32768, 2812281]),
    "amazon3m_bert3": (2812281, [32, 512, 8192], [32, 1024, 32768, 2812281]),
    "amazoncat13k_xlnet": (13330, [128, 1024, 13330], [32, 256, 13330]),
}
CONFIGS = ROOT / "configs" / "xr_transformer"


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.json")))
def test_published_configs_fit_their_trees(name):
    num_labels, first, second = PUBLISHED.get(name) or PUBLISHED[name.split("_")[0]]
    config = load_config(CONFIGS / f"{name}.json")
    recipe = registry.create("recipe", config.recipe.section())
    manifest = SimpleNamespace(num_labels=num_labels, num_features=9)
    (_, one), (_, other) = recipe.tree_settings(config, manifest)
    plan = recipe.plan_of(config, one)
    assert one[: plan.count] == first and other == second
    recipe.settings_of_ranker(config, other)
    check_fit(config, SimpleNamespace(feature_kind="joined", kind=JOINED))
