"""Recipe and command 'prune': a smaller run that is a run like any other."""

import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests.commands.calls import call, listing
from tests.contracts.recipe import RecipeContract
from tests.encoders.hub_folders import write_folder
from tests.end_to_end.test_tokens import config_of
from tests.folders import record_again
from tfxc.commands import evaluate, export, info, predict, prune, train
from tfxc.core.errors import ConfigError
from tfxc.recipes.prune.layer_slices import layer_sizes
from tfxc.recipes.prune.recipe import Prune
from tfxc.runs.loaded import load_run
from tfxc.training.step import TrainStep

WORDS = {"name": "words", "min_count": 1}
SMALL = {
    "name": "transformer", "num_layers": 2, "num_heads": 4, "embedding_dim": 16,
    "feed_forward_dim": 12,
}  # fmt: skip


class TestPrune(RecipeContract):
    name = "prune"
    arguments = {"source": "runs/a", "num_heads": 2, "uneven_heads": True}  # noqa: RUF012

    def tree(self, folder):
        """Texts that a small transformer reads."""
        if not (folder / "config.json").exists():
            config_of(folder, WORDS, {**SMALL, "num_layers": 1})
        tree = json.loads((folder / "config.json").read_text())
        return {**tree, "training": {**tree["training"], "epochs": 1, "checkpoint_every": 4}}

    def trained_with(self, folder):
        """A source that was trained on the same data."""
        source = self.fitted(folder, "source")
        return {"source": source, "num_heads": 2, "iters": 2, "examples": 40}

    def test_defaults_suffice(self):
        with pytest.raises(TypeError, match="source"):
            Prune()


def add_rare(folder):
    """Puts words into the training texts that occur once each."""
    with open(folder / "train.jsonl", "a") as stream:
        for number in range(6):
            text = {"text": f"a fox rare{number}", "labels": ["fox"]}
            stream.write(json.dumps(text) + "\n")


def trained(folder, capsys, text_features, encoder, epochs=2):
    """A finished run, and the option that says where its prepared data are."""
    config = config_of(folder, text_features, encoder)
    add_rare(folder)
    prepared = ("--prepared", folder / "prepared")
    changes = ("--set", f"training.epochs={epochs}")
    outcome = call(capsys, train, "--config", config, *prepared, *changes)
    assert outcome.code == 0, outcome.err
    return folder / "run", prepared


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A finished run of a transformer that tests may prune but not change."""
    folder = tmp_path_factory.mktemp("prune")
    config = config_of(folder, WORDS, SMALL)
    add_rare(folder)
    command = ["--config", str(config), "--prepared", str(folder / "prepared")]
    assert train.main([*command, "--set", "training.epochs=2"]) == 0
    return folder / "run", ("--prepared", folder / "prepared")


def scores(run, texts):
    loaded = load_run(run)
    rows = loaded.text_features.transform(texts)
    ids = tf.ragged.constant(np.split(rows.tokens, rows.indptr[1:-1]), row_splits_dtype=tf.int64)
    return loaded.model(ids.to_tensor()).numpy()


def test_the_command_says_what_became_smaller(shared, tmp_path, capsys):
    source, prepared = shared
    before = listing(source)
    command = ("--run", source, "--output", tmp_path / "small", *prepared)
    command += ("--num-heads", 2, "--feed-forward-dim", 5, "--min-count", 2, "--examples", 64)
    outcome = call(capsys, prune, *command, "--epochs", 0)
    assert outcome.code == 0, outcome.err
    assert listing(source) == before and not list(tmp_path.glob(".small*"))
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["heads", "per", "layer", "4", "2"] in lines
    assert ["inner", "units", "per", "layer", "12", "5"] in lines
    assert ["vocabulary", "15", "9"] in lines
    assert "step 4 of 4: 4 of 8 heads, 5 of 12 inner units" in outcome.out
    summary = json.loads((tmp_path / "small" / "summary.json").read_text())
    assert summary["steps"] == 0 and 0 <= summary["dev"]["P@1"] <= 1
    counts = [load_run(run).model.count_params() for run in (source, tmp_path / "small")]
    assert ["parameters", *(f"{count:,}" for count in counts)] in lines
    files = [run / "model.weights.h5" for run in (source, tmp_path / "small")]
    one, other = (file.stat().st_size for file in files)
    assert other < one
    assert (tmp_path / "small/assets/text_features/vocabulary.txt").read_text().count("\n") == 9
    again = call(capsys, prune, *command)
    assert again.code == 0 and "already finished" in again.out


@pytest.mark.slow  # evaluated and exported: the contract
def test_everything_works_on_the_pruned_run(shared, tmp_path, capsys):
    source, prepared = shared
    command = ("--run", source, "--output", tmp_path / "small", *prepared)
    command += ("--num-heads", 2, "--min-count", 2, "--examples", 64)
    assert call(capsys, prune, *command).code == 0
    run = ("--run", tmp_path / "small")
    measured = call(capsys, evaluate, *run, *prepared, "--k", "1")
    assert measured.code == 0 and "on dev: 80 examples" in measured.out
    assert call(capsys, export, *run, "--output", tmp_path / "served").code == 0
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["serving_default"]
    texts = ["a fox", "no rare1 but a hen"]
    answer = served(text=tf.constant(texts))["scores"].numpy()
    np.testing.assert_allclose(
        answer, np.sort(scores(tmp_path / "small", texts))[:, ::-1], atol=1e-5
    )
    assert "heads" not in call(capsys, info, *run).err
    (tmp_path / "texts.txt").write_text("a fox\n")
    assert call(capsys, predict, *run, "--k", "1", tmp_path / "texts.txt").code == 0


@pytest.mark.slow
def test_a_pruned_run_is_pruned_again(shared, tmp_path, capsys):
    source, prepared = shared
    command = ("--run", source, "--output", tmp_path / "one", *prepared, "--examples", 40)
    outcome = call(capsys, prune, *command, "--num-heads", 2, "--uneven-heads", "--iters", 2)
    assert outcome.code == 0, outcome.err
    heads, units = zip(*layer_sizes(load_run(tmp_path / "one").model.encoder), strict=True)
    assert sum(heads) == 4 and min(heads) >= 1 and units == (12, 12)
    command = ("--run", tmp_path / "one", "--output", tmp_path / "two", *prepared)
    assert call(capsys, prune, *command, "--num-heads", 1, "--min-count", 3).code == 0
    encoder = load_run(tmp_path / "two").model.encoder
    assert layer_sizes(encoder) == [(1, 12), (1, 12)] and encoder.vocabulary_size == 9


# Of pretrained encoders, data/text/test_subwords_pruning.py checks the pieces.
@pytest.mark.parametrize(
    "kind", ["words", "characters", pytest.param("pretrained", marks=pytest.mark.slow)]
)
def test_texts_without_dropped_tokens_are_scored_as_before(tmp_path, capsys, kind):
    text_features = {"name": kind}
    encoder = {"name": "textcnn", "embedding_dim": 8, "num_filters": 8, "widths": [2]}
    if kind == "words":
        text_features = WORDS
    if kind == "pretrained":
        pytest.importorskip("tensorflow_text", reason="the extra hub is not installed")
        write_folder(tmp_path / "model", num_hidden_layers=1)
        folder = str(tmp_path / "model")
        text_features = {"name": kind, "folder": folder, "max_length": 12}
        encoder = {"name": "pretrained", "folder": folder}
    source, prepared = trained(tmp_path, capsys, text_features, encoder, epochs=0.5)
    command = ("--run", source, "--output", tmp_path / "small", *prepared, "--min-count", 5)
    outcome = call(capsys, prune, *command)
    assert outcome.code == 0, outcome.err
    texts = ["no fox but a hen", "a cat", "a owl but no fox", ""]
    np.testing.assert_allclose(scores(tmp_path / "small", texts), scores(source, texts), atol=1e-6)
    one, other = (load_run(run).model.encoder for run in (source, tmp_path / "small"))
    assert other.embedding.shape[0] < one.embedding.shape[0]
    dropped = ["a rare1 fox!"]
    assert not np.allclose(scores(tmp_path / "small", dropped), scores(source, dropped), atol=1e-6)


@pytest.mark.slow
def test_a_pretrained_run_without_its_folder(tmp_path, capsys):
    pytest.importorskip("tensorflow_text", reason="the extra hub is not installed")
    write_folder(tmp_path / "model")
    folder = str(tmp_path / "model")
    features = {"name": "pretrained", "folder": folder, "max_length": 12}
    encoder = {"name": "pretrained", "folder": folder, "pooling": "mean"}
    source, prepared = trained(tmp_path, capsys, features, encoder)
    command = ("--run", source, "--output", tmp_path / "small", *prepared, "--epochs", "0.5")
    sizes = ("--num-heads", 1, "--feed-forward-dim", 10, "--min-count", 1)
    outcome = call(capsys, prune, *command, *sizes, "--examples", 60, "--iters", 2)
    assert outcome.code == 0, outcome.err
    shutil.rmtree(tmp_path / "model")
    assert json.loads((tmp_path / "small" / "summary.json").read_text())["steps"] == 8
    encoder = load_run(tmp_path / "small").model.encoder
    assert layer_sizes(encoder) == [(1, 10)] * 2 and encoder.head_width == 8
    run = ("--run", tmp_path / "small")
    assert call(capsys, evaluate, *run, *prepared, "--k", "1").code == 0
    assert call(capsys, export, *run, "--output", tmp_path / "served").code == 0


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.slow
def test_training_goes_on_after_a_kill(shared, tmp_path, capsys, monkeypatch):
    source, prepared = shared
    config = tmp_path / "prune.json"
    section = {"name": "prune", "source": str(source), "num_heads": 1, "iters": 2, "examples": 40}
    tree = json.loads((source / "config.json").read_text()) | {"recipe": section}
    tree["training"] |= {"epochs": 1, "checkpoint_every": 4}
    config.write_text(json.dumps(tree))

    def weights(name):
        command = ("--config", config, *prepared, "--set", f"run={tmp_path / name}")
        assert call(capsys, train, *command).code == 0
        return load_run(tmp_path / name).model.get_weights()

    whole, step, count = weights("whole"), TrainStep.run, []
    for stop in (2, 7):  # before the first checkpoint, and behind it

        def dying(self, iterator, stop=stop):
            count.append(1)
            if len(count) > stop:
                raise Killed
            return step(self, iterator)

        count.clear()
        monkeypatch.setattr(TrainStep, "run", dying)
        with pytest.raises(Killed):
            train.main(["--config", str(config), *map(str, prepared),
                        "--set", f"run={tmp_path / 'killed'}"])  # fmt: skip
        monkeypatch.setattr(TrainStep, "run", step)
    for one, other in zip(whole, weights("killed"), strict=True):
        np.testing.assert_array_equal(one, other)
    assert layer_sizes(load_run(tmp_path / "whole").model.encoder) == [(1, 12)] * 2


@pytest.mark.slow
def test_a_first_step_that_fails_leaves_room_for_a_corrected_config(
    shared, tmp_path, capsys, monkeypatch
):
    source, prepared = shared
    command = ("--run", source, "--output", tmp_path / "small", *prepared, "--num-heads", 2)
    command += ("--epochs", 0.1)

    def dying(self, iterator):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(TrainStep, "run", dying)
        prune.main([str(part) for part in command])
    assert (tmp_path / "small" / "start" / "model.weights.h5").exists()
    corrected = ("--set", "training.batch_size=10")
    assert call(capsys, prune, *command, *corrected).code == 0
    assert load_run(tmp_path / "small").config.training.batch_size == 10
    assert not (tmp_path / "small" / "start").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--num-heads", "5"), "recipe.num_heads: must be at most 4, .* not 5"),
        (("--feed-forward-dim", "13"), "must be at most 12, .* not 13"),
        ((), "recipe: there is nothing to prune"),
        (("--min-count", "1"), "recipe: there is nothing to prune"),
        (("--num-heads", "2", "--set", "seed=3"), "seed: 3 differs from the source's 0"),
        (
            ("--num-heads", "2", "--set", "encoder.num_layers=1"),
            "encoder: .* differs from the source's",
        ),
        (
            ("--num-heads", "2", "--set", "data.text_features.max_length=9"),
            "max_length: 9 differs from the source's 256",
        ),
        (
            ("--num-heads", "2", "--set", "training.strategy=multi_worker"),
            "pruning runs in one process",
        ),
    ],
)
def test_what_cannot_be(shared, tmp_path, capsys, options, message):
    source, prepared = shared
    command = ("--run", source, "--output", tmp_path / "small", *prepared)
    problem = call(capsys, prune, *command, *options).problem()
    assert re.search(message, problem), problem
    assert not list(tmp_path.iterdir()), "nothing is left behind"


@pytest.mark.parametrize("option", ["--num-heads", "--feed-forward-dim"])
def test_sizes_that_cannot_be(capsys, option):
    outcome = call(capsys, prune, "run", "--output", "small", option, "0")
    assert f"{option}: must be an integer of at least 1, not 0" in outcome.err


def test_runs_that_cannot_be(shared, tmp_path, capsys):
    source, prepared = shared
    output = ("--output", tmp_path / "small", *prepared, "--num-heads", 2)
    problem = call(capsys, prune, "--run", tmp_path / "none", *output).problem()
    assert "is not a finished run: it has no config.json" in problem
    (tmp_path / "ranker").mkdir()
    (tmp_path / "ranker" / "config.json").write_text('{"recipe": {"name": "xr_linear"}}')
    problem = call(capsys, prune, "--run", tmp_path / "ranker", *output).problem()
    assert "this run has no encoder that could be made smaller" in problem
    unfinished = tmp_path / "unfinished"
    shutil.copytree(source, unfinished)
    (unfinished / "summary.json").unlink()
    problem = call(capsys, prune, "--run", unfinished, *output).problem()
    assert "recipe.source: there is no finished run in" in problem
    same = ("--output", source, *prepared, "--num-heads", 2)
    assert "folder of the source itself" in call(capsys, prune, "--run", source, *same).problem()
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "thesis.txt").write_text("years of work")
    problem = call(capsys, prune, "--run", source, *output).problem()
    assert "contains other files; nothing was removed" in problem
    assert (tmp_path / "small" / "thesis.txt").exists()
    shutil.rmtree(tmp_path / "small")
    labels = unfinished / "assets" / "labels.txt"
    (unfinished / "summary.json").write_text("{}")
    labels.write_text(labels.read_text().replace("owl", "eagle"))
    record_again(unfinished)
    assert "the labels are not the 4" in call(capsys, prune, "--run", unfinished, *output).problem()


def test_a_run_without_heads(tmp_path, capsys):
    encoder = {"name": "fasttext", "embedding_dim": 8}
    source, prepared = trained(tmp_path, capsys, WORDS, encoder, epochs=0.1)
    command = ("--run", source, "--output", tmp_path / "small", *prepared)
    problem = call(capsys, prune, *command, "--num-heads", 2).problem()
    assert "the encoder, a FastText, has no heads and inner units" in problem
    assert call(capsys, prune, *command, "--min-count", 2).code == 0


def test_tokens_that_no_vocabulary_has(tmp_path, capsys):
    encoder = {"name": "fasttext", "embedding_dim": 8}
    text_features = {"name": "words", "min_count": 2}
    source, prepared = trained(tmp_path, capsys, text_features, encoder, epochs=0.1)
    command = ("--run", source, "--output", tmp_path / "small", *prepared)
    problem = call(capsys, prune, *command, "--min-count", 1).problem()
    assert "6 tokens are not in the source's vocabulary, such as 'rare0'" in problem


@pytest.mark.parametrize("name", ["num_heads", "iters", "examples"])
def test_sizes_are_whole_numbers(name):
    for wrong in (0, -1, 1.5, "many", True):
        with pytest.raises(ConfigError, match=f"^{name}: must be "):
            Prune(source="a", **{name: wrong})
