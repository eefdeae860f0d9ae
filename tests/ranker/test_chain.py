"""Whole rankers: against weights that libpecos 1.2.8 trained, negatives by brute force."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from tfxc.core.errors import ConfigError, DataError
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.ops.linear.solver import has_native
from tfxc.ranker import chain as chain_module
from tfxc.ranker.chain import train_ranker
from tfxc.ranker.layer import Limits, min_budget, train_layer
from tfxc.ranker.negatives import examples_of
from tfxc.ranker.problem import BudgetError, LayerProblem
from tfxc.ranker.relevance import relevance_of
from tfxc.ranker.search import Ranker, load_layer
from tfxc.ranker.settings import RankerSettings
from tfxc.ranker.store import weight_matrix

EXACT = {"epsilon": 1e-7, "max_passes": 100_000, "threshold": 0.0}
PECOS = {**EXACT, "cost_positive": 2.0, "cost_negative": 0.5, "bias": 1.5}
needs_native = pytest.mark.skipif(not has_native(), reason="compiled linear solver not built")


@pytest.fixture(scope="module")
def frozen():
    return dict(np.load(Path(__file__).parent / "data" / "pecos_training.npz"))


@pytest.fixture(scope="module")
def problem(frozen):
    """Features, labels and tree."""
    tree = ClusterTree([frozen[f"parents_{level}"] for level in range(3)])
    labels = scipy.sparse.csr_matrix(frozen["labels"])
    return scipy.sparse.csr_matrix(frozen["features"]), labels, tree


def weights_of(folder, layer, num_features=50):
    layer = load_layer(folder / "ranker" / f"layer-{layer}")
    return weight_matrix(layer, num_features).toarray()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("tfn", {}),
        ("man", {"negatives": "tfn+man", "only_topk": 2, "relevance_mode": "induce"}),
    ],
)
def test_weights_are_those_of_pecos(tmp_path, frozen, problem, name, changes):
    train_ranker(*problem, tmp_path, RankerSettings(**PECOS, **changes))
    for layer in range(3):
        np.testing.assert_allclose(
            weights_of(tmp_path, layer), frozen[f"{name}_{layer}"], atol=1e-5
        )


def test_negatives_the_layers_above_find(tmp_path, problem, monkeypatch):
    seen = {}

    def watched(*arguments, **options):
        seen[arguments[1].name] = arguments[0].examples
        return train_layer(*arguments, **options)

    monkeypatch.setattr(chain_module, "train_layer", watched)
    features, _, tree = problem
    train_ranker(*problem, tmp_path, RankerSettings(negatives="man", only_topk=[2, 3, 5]))
    assert seen["layer-0"] is None
    scores = np.ones((features.shape[0], 1))
    for layer, kept in ((0, 2), (1, 3)):
        extended = np.column_stack([features.toarray(), np.ones(features.shape[0])])
        margins = extended @ weights_of(tmp_path, layer)
        transformed = np.exp(-(np.maximum(0, 1 - margins) ** 3))
        scores = transformed * scores[:, tree.parents[layer]]
        best = np.argsort(-scores, axis=1, kind="stable")[:, :kept]
        mask = np.zeros(scores.shape, bool)
        np.put_along_axis(mask, best, True, axis=1)
        scores[~mask] = 0
        mask &= scores > 0
        np.testing.assert_array_equal(seen[f"layer-{layer + 1}"].toarray(), mask)


def test_user_negatives_join(tmp_path, problem, monkeypatch):
    seen = []

    def watched(*arguments, **options):
        seen.append(arguments[0].examples)
        return train_layer(*arguments, **options)

    monkeypatch.setattr(chain_module, "train_layer", watched)
    _, labels, tree = problem
    given = scipy.sparse.random(70, 9, 0.1, "csr", random_state=0)
    settings = RankerSettings(negatives=["tfn", "tfn", "tfn+usn"])
    train_ranker(*problem, tmp_path, settings, negatives={2: given})
    above = tree.multi_resolution(labels)[1]
    np.testing.assert_array_equal(seen[2].toarray(), (above.toarray() > 0) | (given.toarray() != 0))
    with pytest.raises(DataError, match="usn"):
        train_ranker(*problem, tmp_path, settings)


def test_modes_train_parts_of_the_tree(tmp_path, problem):
    tree = problem[2]
    train_ranker(*problem, tmp_path / "whole", RankerSettings(**EXACT))
    train_ranker(*problem, tmp_path / "top", RankerSettings(**EXACT, mode="matcher"))
    settings = RankerSettings(**EXACT, mode="ranker", ranker_levels=2)
    train_ranker(*problem, tmp_path / "bottom", settings)
    assert Ranker.load(tmp_path / "top").sizes == tree.sizes[:2]
    assert Ranker.load(tmp_path / "bottom").sizes == tree.sizes[1:]
    for part, shift in (("top", 0), ("bottom", 1)):
        for layer in range(2):
            np.testing.assert_allclose(
                weights_of(tmp_path / part, layer),
                weights_of(tmp_path / "whole", layer + shift),
                atol=1e-5,
            )
    with pytest.raises(ConfigError, match="the first layer of mode ranker has none"):
        train_ranker(*problem, tmp_path, RankerSettings(mode="ranker", negatives="man"))


def test_labels_without_positives_are_never_predicted(tmp_path, problem):
    features, labels, tree = problem
    dense = labels.toarray()
    dense[:, [3, 17]] = 0
    features = scipy.sparse.vstack([features, features[:1] * 0], "csr")
    features.eliminate_zeros()
    labels = scipy.sparse.csr_matrix(np.vstack([dense, dense[:1]]))
    reports = train_ranker(features, labels, tree, tmp_path)
    assert reports[0]["without_features"] == 1
    assert reports[2]["without_positives"] == 2 and reports[2]["trained"] == 28
    ids, _ = Ranker.load(tmp_path).predict(features, 30, beam_size=100)
    assert not np.isin(ids, [3, 17]).any() and (np.sort(ids, axis=1)[:, 2:] >= 0).all()


def test_finished_layers_are_kept(tmp_path, problem, monkeypatch):
    train_ranker(*problem, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(chain_module, "search", None)

        def dies(*arguments, **options):
            if arguments[1].name == "layer-2":
                raise KeyboardInterrupt
            return train_layer(*arguments, **options)

        patch.setattr(chain_module, "train_layer", dies)
        with pytest.raises(KeyboardInterrupt):
            train_ranker(*problem, tmp_path / "killed")
    with pytest.raises(DataError, match=r"param\.json"):
        Ranker.load(tmp_path / "killed")
    before = (tmp_path / "killed/ranker/layer-0/values.npy").stat().st_mtime_ns
    train_ranker(*problem, tmp_path / "killed")
    assert (tmp_path / "killed/ranker/layer-0/values.npy").stat().st_mtime_ns == before
    for layer in range(3):
        np.testing.assert_array_equal(
            weights_of(tmp_path / "killed", layer), weights_of(tmp_path / "whole", layer)
        )


def test_parameters_of_the_folder(tmp_path, problem):
    settings = RankerSettings(only_topk=[4, 5, 6], post_processor=["noop", "sigmoid", "l3-hinge"])
    train_ranker(*problem, tmp_path, settings)
    found = json.loads((tmp_path / "ranker" / "param.json").read_text())
    assert (found["num_features"], found["num_labels"], found["layers"]) == (50, 30, 3)
    ranker = Ranker.load(tmp_path)
    assert ranker.only_topk == [4, 5, 6] and ranker.bias == 1.0
    assert [rule.name for rule in ranker.post_processors] == ["noop", "sigmoid", "l3-hinge"]


@needs_native
@pytest.mark.parametrize(("parents", "largest"), [([[0] * 30], 0), ([[0, 0], [0] * 29 + [1]], 1)])
def test_the_least_budget_works(tmp_path, problem, parents, largest):
    """Of all layers: the largest block, and the matrices of labels and relevance."""
    features, labels, _ = problem
    tree, settings = ClusterTree(parents), RankerSettings(relevance_mode="induce")
    targets = tree.multi_resolution(labels)
    relevance = relevance_of(targets, tree, "induce")
    held = 2 * sum(8 * matrix.nnz + 4 * (features.shape[0] + 1) for matrix in targets)
    blocks = []
    for layer, solver in enumerate(settings.solvers(tree.sizes)):
        examples = examples_of(("tfn",), above=targets[layer - 1]) if layer else None
        parts = targets[layer], tree.parents[layer], examples, relevance[layer]
        blocks.append(min_budget(LayerProblem(features, *parts), solver, 0, 0))
    assert np.argmax(blocks) == largest
    least = held + max(blocks)
    for budget in (100_000, least - 1):
        message = f"{budget:,} bytes are too few .* at least {least:,}"
        with pytest.raises(BudgetError, match=message):
            train_ranker(features, labels, tree, tmp_path, settings, limits=Limits(budget))
    assert not any(tmp_path.iterdir()), "found before anything is trained"
    train_ranker(features, labels, tree, tmp_path, settings, limits=Limits(least))


@needs_native
def test_blocks_the_layers_above_decide(tmp_path, problem):
    """Their need is known when these are trained; what is named gets the training on."""
    features, labels, _ = problem
    tree, budgets = ClusterTree([[0, 0], [0] * 29 + [1]]), [100_000]
    settings = RankerSettings(negatives="man")
    for _ in range(2):
        with pytest.raises(BudgetError) as caught:
            train_ranker(features, labels, tree, tmp_path, settings, limits=Limits(budgets[-1]))
        budgets.append(caught.value.least)
    assert budgets == sorted(budgets)
    with pytest.raises(BudgetError):
        train_ranker(features, labels, tree, tmp_path, settings, limits=Limits(budgets[-1] - 1))
    train_ranker(features, labels, tree, tmp_path, settings, limits=Limits(budgets[-1]))


def test_shapes_that_do_not_fit(tmp_path, problem):
    features, labels, tree = problem
    for wrong, message in (
        ((features[:5], labels, tree), "labels of 70 examples, but features of 5"),
        ((features, labels[:, :4], tree), "4 labels, but 30 in the tree"),
        ((features[:0], labels[:0], tree), "no examples or no features"),
    ):
        with pytest.raises(DataError, match=message):
            train_ranker(*wrong, tmp_path)
    with pytest.raises(ConfigError, match="3, 9, 30 nodes"):
        train_ranker(*problem, tmp_path, RankerSettings(threshold=[0.1, 0.2]))
