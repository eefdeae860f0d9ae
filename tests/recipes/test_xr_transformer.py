"""Recipe 'xr_transformer': level by level, stopped and gone on with, and what comes out."""

import json
import shutil

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from tests.commands.calls import call
from tests.contracts.recipe import RecipeContract
from tests.recipes.xr_texts import tree_of_config, work_of, write_texts
from tfxc.commands import encode, evaluate, info, predict, train
from tfxc.core.errors import ConfigError
from tfxc.data.sources.matrices import matrices
from tfxc.data.sources.shards import open_source
from tfxc.data.store import row_writer
from tfxc.inference.embedder import Embedder
from tfxc.inference.searcher import Searcher
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.ranker.chain import train_ranker
from tfxc.ranker.search import Ranker
from tfxc.ranker.settings import RankerSettings
from tfxc.ranker.sizes import size_lines
from tfxc.recipes.xr_transformer import embeddings, levels
from tfxc.recipes.xr_transformer.recipe import XRTransformer
from tfxc.runs.loaded import load_run


class TestXRTransformer(RecipeContract):
    name = "xr_transformer"
    arguments = {"only_topk": 7, "initial": ["none", "inherit"]}  # noqa: RUF012 (read only)
    trained = {"only_topk": 3}  # noqa: RUF012 (read only)
    sections = {  # noqa: RUF012 (read only)
        "head": {"name": "tree", "nr_splits": 4, "max_leaf_size": 8},
        "objective": {"name": "squared_hinge", "weighted": True},
    }
    pieces = 20  # in the second level


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    write_texts(folder / "train.jsonl", 10, 0)
    write_texts(folder / "dev.jsonl", 3, 1)
    return folder


@pytest.fixture(scope="module")
def finished(texts):
    """A finished run of three levels, and its summary."""
    context = work_of(texts, "whole")
    summary = XRTransformer(only_topk=3).run(context)
    return context, summary


def test_stages_leave_their_files(finished):
    context, summary = finished
    tree = ClusterTree.load(context.run / "tree-preliminary.npz")
    assert tree.sizes == [4, 16, 56]
    for level, nodes in enumerate(tree.sizes):
        assert (context.run / f"level-{level:02}" / "summary.json").is_file()
        assert not (context.run / f"level-{level:02}" / "checkpoints").exists()
        if level < 2:
            found = scipy.sparse.load_npz(context.run / f"level-{level:02}" / "matched.npz")
            assert found.shape == (560, nodes)
            assert np.diff(found.indptr).max() <= 3
    assert ClusterTree.load(context.run / "tree.npz").sizes == [4, 16, 56]
    assert len(summary["levels"]) == 3
    assert [layer["trained"] for layer in summary["layers"]] == [4, 16, 56]
    assert "trained 3 layers in" in (context.run / "log.txt").read_text()
    assert summary["steps"] == 3 * 35


def test_beats_its_ranker_on_terms_alone(finished):
    """Terms know nothing of the order: half of the texts are told wrong by them."""
    context, summary = finished
    terms, labels = matrices(open_source(context.data_folder, "train"))
    tree = ClusterTree.load(context.run / "tree.npz")
    train_ranker(terms, labels, tree, context.run / "alone", RankerSettings(threshold=0.001))
    terms, labels = matrices(open_source(context.data_folder, "dev"))
    ids, _ = Ranker.load(context.run / "alone").predict(terms, 1)
    alone = np.mean([label in row.indices for label, row in zip(ids[:, 0], labels, strict=True)])
    assert alone < 0.7
    assert summary["dev"]["P@1"] > max(0.9, alone)


def test_evaluate_and_predict(finished, texts, capsys):
    context, summary = finished
    options = ("--prepared", texts / "prepared")
    assert call(capsys, evaluate, "--run", context.run, *options).code == 0
    record = json.loads((context.run / "evaluation-dev.json").read_text())
    assert record["metrics"]["P@1"] == pytest.approx(summary["dev"]["P@1"])
    (texts / "raw.txt").write_text("noise1 word3 word1 noise2\nnoise3 word1 word3 noise4\n")
    output = call(capsys, predict, "--run", context.run, texts / "raw.txt", "--k", "2")
    best = [json.loads(line)["labels"][0] for line in output.out.splitlines()]
    assert best == ["word3 word1", "word1 word3"]
    again = call(capsys, train, "--config", _config_file(texts, "whole"), *options)
    assert "already finished" in again.out


def test_encode(finished, texts, tmp_path, capsys):
    """The command gives for the training texts what the ranker was trained on."""
    context, _ = finished
    arguments = (texts / "train.jsonl", "--output", tmp_path / "vectors.npy")
    assert call(capsys, encode, "--run", context.run, *arguments).code == 0
    found, known = np.load(tmp_path / "vectors.npy"), np.load(context.run / "embeddings/train.npy")
    # The records are shuffled, the command keeps the file's order.
    np.testing.assert_allclose(*(rows[np.lexsort(rows.T)] for rows in (found, known)), atol=1e-5)


def test_info_shows_encoder_and_ranker(finished, capsys):
    context, _ = finished
    shown = call(capsys, info, "--run", context.run).out
    encoder = load_run(context.run).model.encoder
    parameters = sum(weight.shape.num_elements() for weight in encoder.trainable_weights)
    assert f"\n{parameters:,} parameters" in shown and "head tree" not in shown
    table = size_lines(context.run)
    assert len(table) == 5 and "\n".join(table) in shown


def test_search_in_the_graph_equals_the_native_one(finished):
    context, _ = finished
    model = load_run(context.run).model
    features = next(open_source(context.data_folder, "dev").sequential(40))["features"]
    ids, scores = model.find_top_k(features, 3)
    found = tf.function(lambda x: model.top_k(x, 3), autograph=False)(
        tf.nest.map_structure(tf.constant, features)
    )
    np.testing.assert_array_equal(found[0], ids)
    np.testing.assert_allclose(found[1], scores, rtol=1e-4, atol=1e-5)
    rows, labels = np.arange(len(ids)), ids[:, 1]
    pairs = scipy.sparse.csr_matrix((scores[:, 1], (rows, labels)), (len(ids), 56))
    np.testing.assert_allclose(model.score_pairs(features, pairs).data, pairs.data, rtol=1e-5)
    with pytest.raises(ValueError, match=r"k: must be from 1 to 56,"):
        model.check_k(57)
    assert not model.has_probabilities


def _config_file(folder, run, **changes):
    path = folder / f"{run}.json"
    path.write_text(json.dumps(tree_of_config(folder, run, **changes)))
    return path


class Killed(Exception):
    pass


@pytest.mark.usefixtures("memory_estimated_once")
def test_outline(texts, capsys):
    options = ("--prepared", texts / "prepared")
    changes = {"epochs": [0.5, 1, 2], "negatives": "tfn", "initial": "inherit"}
    config = _config_file(texts, "outline", recipe={"name": "xr_transformer", **changes})
    output = call(capsys, train, "--config", config, *options, "--dry-run").out
    assert "first tree: levels of 4, 16, 56 nodes, 3 of them are fine-tuned on" in output
    assert (
        "  level 1: 5 steps\n  level 2: 9 steps, negatives tfn, the head begins with inh" in output
    )
    assert "  level 3: 18 steps" in output and "tried one batch: loss" in output
    assert "ranker on 20 terms and vectors of 48:\nlayers of 4, 16, 56 nodes" in output
    assert "blocks to train: 21;" in output and "largest of these training runs:" in output
    assert "blocks to train: 21;" in call(capsys, info, "--config", config, *options).out
    for switch in ("do_fine_tune=false", "only_encoder=true", "fix_clustering=true"):
        frozen, changes = switch.startswith("do_"), ("--set", f"recipe.{switch}", "--dry-run")
        output = call(capsys, train, "--config", config, *options, *changes)
        assert output.code == 0 and ("tried one batch" in output.out) != frozen
        assert ("level 1: 5 steps" in output.out) != frozen
        assert ("ranker on" in output.out) != switch.startswith("only")
        unused = "not used, as recipe.do_fine_tune is false: recipe.negatives, recipe.initial"
        assert (unused in output.out) == frozen
    changes = ("--set", "recipe.epochs=[1,2]", "--dry-run")
    problem = call(capsys, train, "--config", config, *options, *changes).problem()
    assert problem.startswith("recipe.epochs: there are 2 values for 3 fine-tuned levels")
    assert not (texts / "outline").exists()


@pytest.mark.slow  # killed in every stage; the contract kills one
def test_killed_and_resumed(finished, texts, monkeypatch):
    """Killed between levels, while encoding and before the ranker; in a level: the contract."""
    context = work_of(texts, "killed")
    for name, when in (("embedding", 1), ("embedding", 3), ("matched", 2)):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            _kill(patch, name, when)
            XRTransformer(only_topk=3).run(context)
    summary = XRTransformer(only_topk=3).run(context)
    whole = finished[0].run
    # Two trainings of the same differ in the last bits; steps and layers make more of it.
    for name, tolerance in (("level-01/embeddings.npy", 1e-4), ("embeddings/train.npy", 2e-3)):
        one, other = np.load(whole / name), np.load(context.run / name)
        np.testing.assert_allclose(other, one, atol=tolerance)
    one, other = (ClusterTree.load(run / "tree-preliminary.npz") for run in (whole, context.run))
    assert one == other
    assert summary["dev"]["P@1"] == pytest.approx(finished[1]["dev"]["P@1"], abs=0.02)
    assert summary["steps"] == 3 * 35
    shutil.rmtree(context.run)


def _kill(patch, name, when):
    """Raises ``Killed`` in the ``when``-th call of something."""
    kind, method = {
        "embedding": (Embedder, "__call__"),
        "matched": (levels.Levels, "_predict"),
    }[name]
    original, calls = getattr(kind, method), []

    def counted(self, *arguments):
        calls.append(1)
        if len(calls) == when:
            raise Killed
        return original(self, *arguments)

    patch.setattr(kind, method, counted)
    patch.setattr(embeddings, "_BLOCK", 1)
    patch.setattr(row_writer, "_SECONDS_BETWEEN_FLUSHES", 0.0)


def test_encoder_as_it_is(texts, capsys):
    context = work_of(texts, "frozen")
    recipe = XRTransformer(do_fine_tune=False, fix_clustering=True, steps=[3, 2, 4])
    summary = recipe.run(context)
    assert "not used, as recipe.do_fine_tune is false: recipe.steps\n" in capsys.readouterr().out
    assert summary["steps"] == 0 and summary["dev"]["P@1"] > 0.2
    assert not list(context.run.glob("level-*"))
    first, last = (context.run / name for name in ("tree-preliminary.npz", "tree.npz"))
    assert ClusterTree.load(first) == ClusterTree.load(last)


def test_length_of_encodings(texts):
    changes = {"do_fine_tune": False, "encoding_length": 0.25}
    context = work_of(texts, "short", recipe={"name": "xr_transformer", **changes})
    XRTransformer(**changes).run(context)
    loaded = load_run(context.run)
    terms, _ = matrices(open_source(context.data_folder, "train"))
    vectors = np.load(context.run / "embeddings" / "train.npy")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    both = scipy.sparse.hstack([terms, scipy.sparse.csr_matrix(0.25 * vectors)]).tocsr()[:64]
    ids, scores = Ranker.load(context.run).predict(both, 3)
    features = next(open_source(context.data_folder, "train").sequential(64))["features"]
    for found in (
        loaded.model.find_top_k(features, 3),
        loaded.model.top_k(tf.nest.map_structure(tf.constant, features), 3),
    ):
        np.testing.assert_array_equal(found[0], ids)
        np.testing.assert_allclose(found[1], scores, rtol=1e-5, atol=1e-6)


def test_probabilities(texts):
    changes = {"do_fine_tune": False}
    sections = {"decision": {"probabilities": "isotonic", "k": 10}}
    context = work_of(texts, "likely", recipe={"name": "xr_transformer", **changes}, **sections)
    XRTransformer(**changes).run(context)
    model = load_run(context.run).model
    batch = next(open_source(context.data_folder, "dev").sequential(1000))
    ids, chances = Searcher(model, 10, probabilities=True)(batch)
    raw, scores = model.find_top_k(batch["features"], 10)
    np.testing.assert_array_equal(ids, raw)
    # They were learned from just these: what is promised comes true.
    true = ids == batch["labels"][:, :1]
    assert model.has_probabilities and true.sum() == pytest.approx(chances.sum(), rel=0.02)
    assert (chances[:, 0] >= chances[:, 1]).all() and not np.allclose(chances, scores)


def test_probabilities_need_a_dev_split(texts):
    data = {**tree_of_config(texts)["data"], "dev": None}
    context = work_of(texts, "no-dev", data=data, decision={"probabilities": "rows"})
    with pytest.raises(ConfigError, match="decision: the data have no dev split"):
        XRTransformer().run(context)
    context = work_of(texts, "no-labels", decision={"probabilities": "rows"})
    with pytest.raises(ConfigError, match="decision: there are no labels to decide on"):
        XRTransformer(only_encoder=True).run(context)


def test_encoder_only(texts):
    changes = {"recipe": {"name": "xr_transformer", "only_encoder": True, "steps": [3, 2]}}
    changes["recipe"] |= {"negatives": "tfn", "initial": ["none", "inherit"]}
    head = {"name": "tree", "nr_splits": 4, "max_leaf_size": 14}
    context = work_of(texts, "encoder", head=head, **changes)
    arguments = {name: value for name, value in changes["recipe"].items() if name != "name"}
    summary = XRTransformer(**arguments).run(context)
    assert [level["steps"] for level in summary["levels"]] == [3, 2]
    # Nobody asks for the clusters that were found.
    assert not list(context.run.glob("level-*/embeddings.npy"))
    assert np.load(context.run / "embeddings" / "train.npy").shape[0] == 560
    loaded = load_run(context.run)
    source = open_source(context.data_folder, "train")
    batch = next(source.sequential(256))
    encoded = Embedder(loaded.model)(batch["features"])
    expected = np.load(context.run / "embeddings" / "train.npy")[:256]
    np.testing.assert_allclose(encoded, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ConfigError, match="the run has only an encoder and no ranker"):
        loaded.model.find_top_k(batch["features"], 1)


def test_impossible_settings_leave_no_run(texts):
    for changes, message in (
        ({"steps": [3, 4]}, "2 values for 3 .*of 4, 16, 56 nodes"),
        ({"ranker": {"only_topk": [1, 2]}}, "2 values for 3 layers .of 4, 16, 56 nodes"),
    ):
        context = work_of(texts, "impossible")
        with pytest.raises(ConfigError, match=message):
            XRTransformer(**changes).run(context)
        assert not context.run.exists()
