"""Runs with texts of labels: trained, resumed, evaluated, extended by labels, exported."""

import itertools
import json
import os
import shutil
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
import scipy.stats
import tensorflow as tf

from tests.commands.calls import call
from tests.label_text_runs import ANIMALS, COLOURS, HELD_OUT, train, tree_of, write_data
from tests.processes import Started, finish
from tests.small_runs import make_run
from tests.training.test_strategies import load_h5
from tfxc.commands import add_labels, ensemble, evaluate
from tfxc.commands import train as train_command
from tfxc.core import registry
from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.interrupts import Stopped
from tfxc.data.examples.kinds import SPARSE
from tfxc.data.examples.rows import Rows
from tfxc.data.label_texts.prepared import label_texts_by_name, own_labels
from tfxc.data.sources.exclusions import exclusions
from tfxc.data.sources.shards import open_source
from tfxc.data.store.manifest import Manifest
from tfxc.data.store.preparation import ensure_prepared
from tfxc.data.text.registry import load_text_features
from tfxc.decision.calibration import Calibration
from tfxc.decision.fitted import FittedDecision
from tfxc.exports.savedmodel import export_savedmodel
from tfxc.inference.embedder import vectors_of_texts
from tfxc.inference.search_options import SearchOptions
from tfxc.inference.searcher import Searcher
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.recipes.prune.smaller_model import check_model
from tfxc.recipes.xr_linear.stages import label_text_matrix, measure
from tfxc.reports.measurement import Measurement
from tfxc.reports.seen_penalty import calibrate_penalty
from tfxc.runs.folder import RunFolder
from tfxc.runs.loaded import load_run
from tfxc.runs.new_labels import encoded_texts
from tfxc.training.job import TrainingJob
from tfxc.training.negatives.mined_labels import MinedLabels
from tfxc.training.negatives.near_batches import NearBatches
from tfxc.training.negatives.refresh_times import RefreshTimes
from tfxc.training.strategies import make_strategy


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("label_texts")
    write_data(folder)
    summary = train(folder, evaluation={"k": [1, 3], "ranks": True})
    return folder, summary


def test_labels_without_an_example_are_found(trained):
    dev = trained[1]["dev"]
    assert dev["R@1/trained"] > 0.8 and dev["R@1/untrained"] > 0.6
    assert dev["MRR/untrained"] > 0.7
    loaded = load_run(trained[0] / "run")
    assert loaded.manifest["num_trained_labels"] == len(COLOURS) * len(ANIMALS) - len(HELD_OUT)
    assert len(label_texts_by_name(loaded.folder / "assets")) == loaded.manifest["num_labels"]


def test_evaluation_of_the_run_is_that_of_training(trained, capsys, monkeypatch):
    folder, summary = trained
    monkeypatch.chdir(folder)
    assert evaluate.main(["--run", str(folder / "run"), "--split", "dev", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]
    assert {name: found[name] for name in summary["dev"]} == summary["dev"]


def test_kept_vectors_are_those_of_the_texts(trained):
    loaded = load_run(trained[0] / "run")
    texts = label_texts_by_name(loaded.folder / "assets")
    vectors = encoded_texts(loaded, [texts[name] for name in loaded.vocabulary.names])
    kept = loaded.model.head.label_vectors.numpy()
    np.testing.assert_allclose(kept, vectors, rtol=1e-5, atol=1e-6)


def test_resumed_training_is_the_same(trained):
    folder, _ = trained
    whole = load_run(folder / "run").model
    config = parse_config(tree_of(folder, run="resumed", evaluation={"k": [1, 3], "ranks": True}))
    data = ensure_prepared(config.data, folder / "prepared")

    class Killed(TrainingJob):
        def trainer(self, strategy):
            trainer = super().trainer(strategy)
            run, steps = trainer.step_function.run, itertools.count()

            def stopping(iterator):
                if next(steps) == 17:
                    os.kill(os.getpid(), signal.SIGTERM)
                return run(iterator)

            trainer.step_function.run = stopping
            return trainer

    with pytest.raises(Stopped):
        Killed(config, data, folder / "resumed").run()
    TrainingJob(config, data, folder / "resumed").run()
    resumed = load_run(folder / "resumed").model
    for one, other in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_averaged_weights_make_the_vectors(tmp_path):
    write_data(tmp_path)
    train(tmp_path, techniques=[{"name": "ema", "decay": 0.9}], training={"epochs": 1})
    loaded = load_run(tmp_path / "run")
    texts = label_texts_by_name(loaded.folder / "assets")
    vectors = encoded_texts(loaded, [texts[name] for name in loaded.vocabulary.names])
    np.testing.assert_allclose(loaded.model.head.label_vectors, vectors, rtol=1e-5, atol=1e-6)


def new_texts(folder, *entries):
    path = folder / "new.jsonl"
    path.write_text("".join(json.dumps({"label": n, "text": t}) + "\n" for n, t in entries))
    return str(path)


def test_added_labels_are_found_and_old_ones_stay(trained, tmp_path, capsys):
    run, output = trained[0] / "run", tmp_path / "more"
    path = new_texts(tmp_path, ("cat", "red cat"), ("same", "green hen"))
    assert add_labels.main([str(run), "--label-texts", path, "--output", str(output)]) == 0
    assert "2 new labels (cat, same)" in capsys.readouterr().out
    old, new = load_run(run), load_run(output)
    count = old.manifest["num_labels"]
    assert new.vocabulary.names == [*old.vocabulary.names, "cat", "same"]
    assert new.label_counts.tolist() == [*old.label_counts.tolist(), 0, 0]
    vectors = new.model.head.label_vectors.numpy()
    np.testing.assert_array_equal(vectors[:count], old.model.head.label_vectors)
    # The text of an old label makes its vector, and so its score, whatever the batch it is in.
    twin = old.vocabulary.ids(["green_hen"])[0]
    np.testing.assert_allclose(vectors[count + 1], vectors[twin], rtol=1e-5, atol=1e-6)
    trained_labels = old.model.head.trained.numpy().tolist()
    assert new.model.head.trained.numpy().tolist() == [*trained_labels, 0, 0]
    assert label_texts_by_name(new.folder / "assets")["cat"] == "red cat"
    for mine, theirs in zip(new.model.encoder.weights, old.model.encoder.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    more = new_texts(tmp_path, ("dog", "blue dog"))
    add_labels.main([str(output), "--label-texts", more, "--output", str(tmp_path / "again")])
    assert load_run(tmp_path / "again").manifest["num_labels"] == count + 3


def test_labels_that_cannot_be_added_are_refused(trained, tmp_path):
    run, output = str(trained[0] / "run"), str(tmp_path / "more")
    known = new_texts(tmp_path, ("red_fox", "red fox"))
    with pytest.raises(DataError, match="the run knows 1 of these labels already: 'red_fox'"):
        add_labels.main([run, "--label-texts", known, "--output", output])
    path = new_texts(tmp_path, ("cat", "red cat"))
    with pytest.raises(
        ConfigError, match="--memory-gb: this option is for labels that are added with --data"
    ):
        add_labels.main([run, "--label-texts", path, "--output", output, "--memory-gb", "1"])
    with pytest.raises(ConfigError, match="the folder already exists"):
        add_labels.main([run, "--label-texts", path, "--output", run])
    with pytest.raises(ConfigError, match="'xr_linear' or 'xr_transformer'"):
        add_labels.main([run, "--data", path, "--output", output])


def test_export_finds_and_encodes(trained, tmp_path):
    loaded = load_run(trained[0] / "run")
    ids, scores = loaded.model.find_top_k(
        loaded.kind.batch(loaded.kind.arrays_of(loaded.text_features.transform(["my blue owl"]))), 3
    )
    texts = label_texts_by_name(loaded.folder / "assets")
    vectors = loaded.model.head.label_vectors.numpy()
    export_savedmodel(loaded, tmp_path / "served", k=3)
    signatures = tf.saved_model.load(str(tmp_path / "served")).signatures
    found = signatures["serving_default"](text=tf.constant(["my blue owl"]))
    np.testing.assert_array_equal(found["ids"], ids)
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-5)
    assert found["labels"].numpy()[0, 0] == b"blue_owl"
    names = load_run(trained[0] / "run").vocabulary.names[:4]
    encoded = signatures["encode"](text=tf.constant([texts[name] for name in names]))["vectors"]
    np.testing.assert_allclose(encoded, vectors[:4], rtol=1e-5, atol=1e-6)


def test_penalty_is_calibrated_on_labels_of_both_kinds(trained, tmp_path, capsys, monkeypatch):
    folder, _ = trained
    monkeypatch.chdir(folder)
    run, output = str(folder / "run"), str(tmp_path / "measured")
    evaluate.main(["--run", run, "--split", "dev", "--calibrate", "--output", output])
    text = capsys.readouterr().out
    penalty = float(text.split("seen_penalty ")[1].split(":")[0])
    loaded = load_run(run)
    rows = open_source(ensure_prepared(loaded.config.data, folder / "prepared"), "dev")
    found = calibrate_penalty(loaded, rows, 32)
    assert found.penalty == penalty
    assert float(loaded.model.head.penalty.numpy()) == 0, "of the run, which stays as it is"
    assert found.before == pytest.approx(recalls_of_search(loaded, rows, 0.0))
    assert found.after == pytest.approx(recalls_of_search(loaded, rows, penalty))
    assert scipy.stats.hmean(found.after) >= best_mean(loaded, rows) - 1e-9
    name = f"evaluation-dev-seen-penalty-{penalty:g}"
    record = json.loads((tmp_path / f"measured/{name}.json").read_text("utf-8"))
    assert record["seen_penalty"] == penalty
    given = ["--seen-penalty", f"{penalty:g}", "--output", str(tmp_path / "given")]
    evaluate.main(["--run", run, "--split", "dev", *given])
    assert json.loads((tmp_path / f"given/{name}.json").read_text("utf-8")) == record
    with pytest.raises(SystemExit):
        evaluate.main(["--run", run, "--seen-penalty", "2.5"])
    assert "--seen-penalty: must be a number from -2 to 2, not 2.5" in capsys.readouterr().err


def test_a_penalty_is_refused_with_another_head(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "run", text_features={"name": "tfidf"})
    for option in (["--calibrate"], ["--seen-penalty", "0.1"]):
        with pytest.raises(ConfigError, match=f"{option[0]}( is for|: the run's head is '[a-z]+')"):
            evaluate.main(["--run", str(trained[0] / "run"), "--compare", "run", *option])


def test_labels_of_training_are_preferred_where_others_are_found_too_often(trained):
    folder, _ = trained
    loaded = load_run(folder / "run")
    head = loaded.model.head
    share = np.where(head.trained.numpy() > 0, 0.2, 1.0)  # of the cosines
    head.label_vectors.assign(head.label_vectors.numpy() * share[:, None])
    rows = open_source(ensure_prepared(loaded.config.data, folder / "prepared"), "dev")
    found = calibrate_penalty(loaded, rows, 32)
    assert -1 <= found.penalty < 0
    assert found.after == pytest.approx(recalls_of_search(loaded, rows, found.penalty))
    best = best_mean(loaded, rows)
    assert scipy.stats.hmean(found.after) >= best - 1e-9
    assert best > scipy.stats.hmean(found.before)


def recalls_of_search(loaded, rows, penalty):
    """R@1 of trained and of untrained labels by a search over all."""
    loaded.model.head.penalty.assign(penalty)
    (result,) = Searcher(loaded.model, 1).over(rows, 1000)
    right = result.ids[:, 0] == result.labels[:, 0]
    is_trained = loaded.model.head.trained.numpy()[result.labels[:, 0]] > 0
    return right[is_trained].mean(), right[~is_trained].mean()


def best_mean(loaded, rows):
    """The highest harmonic mean of both recalls, of some penalties."""
    of_each = [recalls_of_search(loaded, rows, step / 20) for step in range(-20, 21)]
    return max(scipy.stats.hmean(both) for both in of_each)


def test_calibration_needs_labels_without_examples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path)
    train(tmp_path, training={"epochs": 1}, data={"label_texts": "names"})
    with pytest.raises(ConfigError, match="untrained labels; the penalty balances"):
        evaluate.main(["--run", str(tmp_path / "run"), "--split", "train", "--calibrate"])


def test_what_cannot_be_combined_is_refused(tmp_path):
    write_data(tmp_path)
    with pytest.raises(ConfigError, match=r"training\.accumulate: accumulate is"):
        train(tmp_path, training={"accumulate": 2})
    with pytest.raises(ConfigError, match="head 'label_text' needs texts of the labels"):
        train(tmp_path, data={"label_texts": None})
    assert not (tmp_path / "run").exists()


MINED = {"mined": 2, "mined_candidates": 5, "mine_from": 1, "refresh": 2, "pre_batch": 2}


NEAR = {"batching": "near", "near_size": 8, "mine_from": 1, "refresh": 2}


def mining_trainer(folder, run="mined", head=MINED, **changes):
    config = parse_config(tree_of(folder, run=run, head=head, **changes))
    data = ensure_prepared(config.data, folder / "prepared")
    return TrainingJob(config, data, folder / run).trainer(make_strategy(config.training, config))


def test_mined_labels_are_wrong_and_trained(tmp_path):
    write_data(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    twin = next(entry for entry in lines if entry["label"] == "green_hen")
    twin["text"] = "red fox"  # two labels with one text
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    trainer = mining_trainer(tmp_path, training={"epochs": 1.5})
    (mining,) = (t for t in trainer.techniques if isinstance(t, MinedLabels))
    assert (mining.candidates.numpy() == -1).all()
    trainer.fit()
    found, head = mining.candidates.numpy(), trainer.model.head
    assert (found >= 0).all() and len(found) == trainer.source.num_examples
    assert (head.trained.numpy()[found] == 1).all()
    assert all(len(set(row)) == 5 for row in found.tolist())
    names = LabelVocabulary.load(next((tmp_path / "prepared").glob("*/labels.txt")))
    red, green = names.ids(["red_fox", "green_hen"])
    for row, labels in zip(found, trainer.source.rows().batch()["labels"], strict=True):
        assert not set(row) & set(labels)
        if {red, green} & set(labels):
            assert not set(row) & {red, green}


@pytest.mark.parametrize(("examples", "batch"), [(440, 32), (9, 7), (7, 9), (64, 16)])
def test_mining_is_due_where_an_epoch_begins(examples, batch):
    head = SimpleNamespace(mine_from=1, refresh_every=2)
    times = RefreshTimes(head, examples, batch)
    epochs = [step * batch // examples for step in range(60)]
    due = [step for step in range(60) if times.is_due(step)]
    periods = [(epoch - 1) // 2 for epoch in epochs]
    assert due == [n for n in range(1, 60) if epochs[n] >= 1 and periods[n] != periods[n - 1]]


@pytest.mark.parametrize("head", [MINED, {"batching": "near", "mine_from": 1}])
def test_mining_that_would_never_happen_is_refused(tmp_path, head):
    write_data(tmp_path)
    with pytest.raises(ConfigError, match=r"head\.mine_from: 1 is after the last epoch, 0"):
        mining_trainer(tmp_path, training={"epochs": 1}, head=head)


def test_near_batches_need_several_groups(tmp_path):
    write_data(tmp_path)
    with pytest.raises(ConfigError, match=r"head\.near_size: a group of 100,000 would contain all"):
        mining_trainer(tmp_path, head={**NEAR, "near_size": 100_000})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": {"mined": 1, "mine_from": 6}}, "head.mine_from: 6 is after the last epoch, 5"),
        ({"head": {"batching": "near", "mine_from": 9}}, "head.mine_from: 9 is after the last"),
        (
            {"head": {"batching": "near"}, "training": {"group_by_length": True}},
            "training.group_by_length: it contradicts",
        ),
        ({"training": {"accumulate": 2}}, "training.accumulate: accumulate is 2"),
        ({"recipe": {"name": "repetitions"}}, "recipe.name: recipe 'repetitions' needs a head"),
    ],
)
def test_contradictions_are_found_before_there_are_data(tmp_path, changes, message):
    with pytest.raises(ConfigError) as error:
        train_command.check_config(parse_config(tree_of(tmp_path, **changes)))
    assert str(error.value).startswith(message)
    train_command.check_config(parse_config(tree_of(tmp_path, head={"mined": 1, "mine_from": 5})))


def test_near_batches_do_not_go_with_groups_by_length(tmp_path):
    write_data(tmp_path)
    with pytest.raises(ConfigError, match=r"training\.group_by_length: it contradicts"):
        mining_trainer(
            tmp_path, training={"group_by_length": True}, head=NEAR, encoder={"name": "fasttext"},
            data={"text_features": {"name": "words"}},
        )  # fmt: skip


def test_near_batches_need_the_examples_in_memory(tmp_path):
    write_data(tmp_path)
    with pytest.raises(
        ConfigError, match=r"head\.batching: 'near' needs the training split in memory"
    ):
        mining_trainer(tmp_path, training={"memory_gb": 1e-9}, head=NEAR)


@pytest.fixture(scope="module")
def near(tmp_path_factory):
    """A folder, what was trained there by near batches, and the examples of each step."""
    folder, seen = tmp_path_factory.mktemp("near"), []
    write_data(folder)
    trainer = mining_trainer(folder, "by-1", NEAR, training={"epochs": 4})
    batch_of = trainer.source.batch

    def recorded(seed, step, *position, **part):
        batch = batch_of(seed, step, *position, **part)
        seen.append((step, batch["example_index"]))
        return batch

    trainer.source.batch = recorded
    trainer.fit()
    return folder, trainer, dict(seen)  # a batch that was read ahead is fetched again


def test_near_batches_have_similar_examples_and_each_once_an_epoch(near):
    _, trainer, trained = near
    (technique,) = (t for t in trainer.techniques if isinstance(t, NearBatches))
    count, size = trainer.source.num_examples, 32
    assert trainer.steps_per_epoch % 1, "an epoch ends within a batch"
    index = np.concatenate([trained[step] for step in range(len(trained))])
    for epoch in range(4):
        assert len(set(index[epoch * count : (epoch + 1) * count].tolist())) == count
    groups = technique.clusters.numpy()
    assert np.bincount(groups).max() <= NEAR["near_size"]
    last = [len(set(groups[trained[step]])) for step in range(len(trained) - 8, len(trained))]
    first = [len(set(groups[trained[step]])) for step in range(8)]
    assert np.mean(last) < 0.5 * np.mean(first)
    vectors = vectors_of_texts(trainer.model, trainer.source.rows())

    def likeness(step):
        chosen = vectors[trained[step]]
        return (chosen @ chosen.T).mean()

    near_ones = np.mean([likeness(step) for step in range(len(trained) - 8, len(trained))])
    assert near_ones > 1.2 * np.mean([likeness(step) for step in range(8)])
    assert index[: size * 8].tolist() != index[count : count + size * 8].tolist()


def test_near_batches_are_the_same_with_several_steps_per_call(near):
    folder, trainer, _ = near
    other = mining_trainer(folder, "by-4", NEAR, training={"steps_per_call": 4, "epochs": 4})
    other.fit()
    for one, two in zip(trainer.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_mined_labels_need_calls_of_one_step(tmp_path):
    write_data(tmp_path)
    with pytest.raises(ConfigError, match=r"but head\.mined acts between steps"):
        mining_trainer(tmp_path, "run", MINED, training={"steps_per_call": 4})


def test_resumed_training_with_mined_labels_and_near_batches_is_the_same(tmp_path):
    write_data(tmp_path)
    # After the first epoch, of 14 steps, and after the second.
    head, training = {**MINED, **NEAR, "refresh": 1}, {"epochs": 2.4}
    mining_trainer(tmp_path, "whole", head, training=training).fit()
    trainer = mining_trainer(tmp_path, "parts", head, training=training)
    run, steps = trainer.step_function.run, itertools.count()

    def stopping(iterator):
        if next(steps) == 20:
            os.kill(os.getpid(), signal.SIGTERM)
        return run(iterator)

    trainer.step_function.run = stopping
    with pytest.raises(Stopped):
        trainer.fit()
    mining_trainer(tmp_path, "parts", head, training=training).fit()
    whole, parts = (load_h5(tmp_path / run / "model.weights.h5") for run in ("whole", "parts"))
    assert whole.keys() == parts.keys() and whole
    for name, values in whole.items():
        np.testing.assert_array_equal(values, parts[name])


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A folder with a run, every question of whose dev is the text of a label; another is true."""
    folder = tmp_path_factory.mktemp("asked")
    write_data(folder)
    labels = [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]
    with open(folder / "train.jsonl", "a") as stream:  # "train" leaves one more out than "self"
        for own, other in zip(labels[:30], labels[5:] + labels[:5], strict=False):
            given = [own["label"], other["label"]]
            stream.write(json.dumps({"text": own["text"], "labels": given}) + "\n")
    rows = [
        json.dumps({"text": own["text"], "labels": [other["label"]]})
        for own, other in zip(labels, labels[1:] + labels[:1], strict=True)
    ]
    for name in ("dev.jsonl", "other.jsonl"):
        (folder / name).write_text("\n".join(rows))
    pairs = (f"{number} {label['label']}\n" for number, label in enumerate(labels[:40]))
    (folder / "filter_dev.txt").write_text("".join(pairs))
    ranked = {"k": [1, 3], "ranks": True, "exclude": ["train"]}
    train(folder, training={"epochs": 1}, evaluation=ranked)
    return folder


def test_excluded_labels_are_not_found(asked, capsys, monkeypatch):
    monkeypatch.chdir(asked)
    command = ["--run", str(asked / "run"), "--split", "dev", "--json", "--exclude"]
    capsys.readouterr()
    found = {}
    for kinds in ((), ("self",)):
        evaluate.main([*command, *kinds])
        found[kinds] = json.loads(capsys.readouterr().out)["metrics"]
    loaded = load_run(asked / "run")
    data = ensure_prepared(loaded.config.data, asked / "prepared")
    source, own = open_source(data, "dev"), own_labels(data, "dev")
    excluded = exclusions(data, "dev", ["self"], source, open_source(data, "train"))
    (result,) = Searcher(loaded.model, 3, ranks=True, excluded=excluded).over(source, 1000)
    features = next(source.sequential(1000))["features"]
    scores = loaded.model.head.all_scores(loaded.model.encoder(features)).numpy()
    assert (scores.argmax(axis=1) == own).mean() > 0.5
    scores[np.arange(len(own)), own] = -np.inf
    np.testing.assert_array_equal(result.ids, np.argsort(-scores, axis=1, kind="stable")[:, :3])
    true = np.take_along_axis(scores, result.labels[:, :1], 1)
    np.testing.assert_array_equal(result.ranks[:, 0], 1 + (scores > true).sum(axis=1))
    assert found[("self",)]["MRR"] == pytest.approx((1 / result.ranks[:, 0]).mean())
    assert found[()]["MRR"] < found[("self",)]["MRR"]


def test_probabilities_are_those_of_lists_without_excluded_labels(asked):
    """A decision is learned of such lists; here the label of the text comes first in most."""
    loaded = load_run(asked / "run")
    data = ensure_prepared(loaded.config.data, asked / "prepared")
    source = open_source(data, "dev")
    excluded = exclusions(data, "dev", ["self"], source, open_source(data, "train"))
    loaded.model.decision = FittedDecision()
    (plain,) = Searcher(loaded.model, 3, excluded=excluded).over(source, 1000)
    calibration = Calibration(weights=np.array([-0.5, 1.0, -1.0, 0.25]))
    loaded.model.decision = FittedDecision(calibration)
    searcher = Searcher(loaded.model, 3, probabilities=True, excluded=excluded)
    (likely,) = searcher.over(source, 1000)
    np.testing.assert_array_equal(likely.ids, plain.ids)
    np.testing.assert_array_equal(likely.scores, calibration(plain.scores))
    every = loaded.model.num_labels
    (whole,) = Searcher(loaded.model, every, excluded=excluded).over(source, 1000)
    assert ((whole.ids >= 0).sum(axis=1) == every - 1).all()
    assert not (whole.ids == own_labels(data, "dev")[:, None]).any()


def test_a_file_has_the_exclusions_of_its_split(asked, capsys, monkeypatch):
    """Whatever its name."""
    monkeypatch.chdir(asked)
    labels = [json.loads(line) for line in (asked / "labels.jsonl").read_text().splitlines()]
    loaded, found = load_run("run"), []

    def excluded(kinds, **examples):
        measurement = Measurement(exclude=kinds, **examples)
        rows = measurement.excluded(loaded, measurement.examples(loaded)[1])
        return rows.rows(np.arange(len(labels))).tolist()

    for kinds in (["train"], ["self"], ["filter_{split}.txt"], ["train", "filter_{split}.txt"]):
        found.append(excluded(kinds, split="dev"))
        assert excluded(kinds, data="dev.jsonl") == found[-1], kinds
        files = [kind.replace("{split}", "dev") for kind in kinds]
        assert excluded(files, data="other.jsonl") == found[-1], kinds
    assert len(set(map(str, found))) == len(found)
    assert excluded(None, data="other.jsonl") == found[0], "the config's"
    unknown = ("--run", "run", "--data", "other.jsonl", "--exclude", "filter_{split}.txt")
    problem = call(capsys, evaluate, *unknown).problem()
    assert problem.startswith("--exclude: ") and "other.jsonl is not a split" in problem
    figures = []
    for examples in (["--split", "dev"], ["--data", "other.jsonl"]):
        outcome = call(capsys, evaluate, "--run", "run", *examples, "--json")
        figures.append(json.loads(outcome.out)["metrics"])
    assert figures[0] == figures[1]
    shutil.copytree("run", "copy")
    outcome = call(capsys, ensemble, "run", "copy", "--data", "other.jsonl", "--k", "1")
    assert outcome.code == 0, outcome.err
    alike = [line.split()[-1] for line in outcome.out.splitlines() if " P@1 " in line]
    assert [float(value) for value in alike] == [
        pytest.approx(100 * figures[0]["P@1"], abs=0.01)
    ] * 3


def test_labels_without_texts_have_no_such_exclusions(tmp_path, capsys):
    run = make_run(tmp_path / "run", kind="sparse", normalise="l2")
    (tmp_path / "a.svm").write_text("0 1:1\n")
    options = ("--run", run, "--data", tmp_path / "a.svm", "--exclude", "self")
    problem = call(capsys, evaluate, *options).problem()
    assert problem.startswith("--exclude: 'self' needs texts of labels")


def train_two_replicas(folder):
    """Runs in a process of its own, which may make two devices of its CPU."""
    strategy = {"strategy": "mirrored", "devices": ["CPU:0", "CPU:1"]}
    train_with_all(folder, "two", strategy)


def train_with_all(folder, run, more=None):
    """Everything that draws or keeps: own and mined labels, dropout, chunks, a queue."""
    optimizer = {"name": "adam", "learning_rate": 0.02, "epsilon": 1e-3}
    train(
        folder, run=run, head={**MINED, "self_negatives": True, "label_chunk": 7},
        training={"epochs": 1.4, "optimizer": optimizer, **(more or {})},
    )  # fmt: skip


def test_two_replicas_equal_one_device(tmp_path):
    write_data(tmp_path)
    train_with_all(tmp_path, "one")
    finish(Started(train_two_replicas, tmp_path))
    one, two = (load_run(tmp_path / run).model for run in ("one", "two"))
    for mine, theirs in zip(one.weights, two.weights, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-5)


def test_a_checkpoint_is_searched_by_its_own_vectors(trained, tmp_path, monkeypatch):
    """Checkpoints between evaluations hold vectors that an older encoder has made."""
    folder, _ = trained
    head = {"self_negatives": True, "columns": "all"}
    training = {"epochs": 3, "checkpoint_every": 5, "keep_checkpoints": 10}
    train(folder, run="steps", head=head, training=training)
    for step in (5, 20):
        loaded = load_run(folder / "steps", options=SearchOptions(step=step))
        texts = label_texts_by_name(loaded.folder / "assets")
        vectors = encoded_texts(loaded, [texts[name] for name in loaded.vocabulary.names])
        np.testing.assert_allclose(loaded.model.head.label_vectors, vectors, rtol=1e-5, atol=1e-6)


def test_a_start_keeps_its_own_penalty(trained):
    folder, _ = trained
    recipe = {"name": "fit", "start": str(folder / "run")}
    config = parse_config(tree_of(folder, run="b", head={"seen_penalty": 0.3}, recipe=recipe))
    data = ensure_prepared(config.data, folder / "prepared")
    start = registry.create("recipe", config.recipe.section()).run_start()
    job = TrainingJob(config, data, folder / "b", start=start)
    model = job.trainer(make_strategy(config.training, config)).model
    assert float(model.head.penalty.numpy()) == pytest.approx(0.3)
    np.testing.assert_array_equal(
        model.encoder.weights[0], load_run(folder / "run").model.encoder.weights[0]
    )


def test_texts_are_cut_alike_everywhere(tmp_path):
    write_data(tmp_path)
    encoder = {"name": "fasttext", "embedding_dim": 8, "hidden_dim": 8}
    train(
        tmp_path, head={"label_length": 1}, encoder=encoder, training={"epochs": 1},
        data={"text_features": {"name": "words", "min_count": 1}},
    )  # fmt: skip
    loaded = load_run(tmp_path / "run")
    texts = label_texts_by_name(loaded.folder / "assets")
    names = loaded.vocabulary.names
    kept = loaded.model.head.label_vectors.numpy()
    found = encoded_texts(loaded, [texts[name] for name in names])
    np.testing.assert_allclose(found, kept, rtol=1e-5, atol=1e-6)
    export_savedmodel(loaded, tmp_path / "served", k=3)
    encode = tf.saved_model.load(str(tmp_path / "served")).signatures["encode"]
    found = encode(text=tf.constant([texts[name] for name in names]))["vectors"]
    np.testing.assert_allclose(found, kept, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"recipe": {"name": "distill", "teachers": ["x"]}},
            "does not score all labels in training",
        ),
        (
            {"recipe": {"name": "kfold", "folds": 2}, "evaluation": {"ranks": True}},
            r"evaluation\.ranks: it needs a split of the data",
        ),
    ],
)
def test_recipes_that_have_no_use_for_it_are_refused(tmp_path, changes, message):
    config = parse_config(tree_of(tmp_path, **changes))
    with pytest.raises(ConfigError, match=message):
        registry.get("recipe", config.recipe.name).check_config(config)


def test_a_run_with_texts_cannot_be_pruned(trained):
    with pytest.raises(ConfigError, match="'label_text' reads texts of labels"):
        check_model(load_run(trained[0] / "run").model, "recipe.source")


# With a window over the words, and with a mask of them: what pads a text's end counts for neither.
@pytest.mark.parametrize(
    "name",
    [
        "textcnn",
        "transformer",
        pytest.param("textrnn", marks=pytest.mark.slow),
        pytest.param("textrcnn", marks=pytest.mark.slow),
    ],
)
def test_encoders_of_tokens_train_and_search(tmp_path, name):
    write_data(tmp_path)
    encoder = {"name": name, "embedding_dim": 8}
    encoder |= {"num_heads": 2, "num_layers": 1} if name == "transformer" else {}
    tokens = {"text_features": {"name": "words", "min_count": 1}}
    summary = train(tmp_path, encoder=encoder, data=tokens, training={"epochs": 0.5})
    assert np.isfinite(summary["loss"]) and "R@1/untrained" in summary["dev"]
    assert load_run(tmp_path / "run").model.head.label_vectors.numpy().any(axis=1).all()


def test_linear_rankers_exclude_labels_and_refuse_ranks(tmp_path):
    write_data(tmp_path)
    tree = tree_of(tmp_path, recipe={"name": "xr_linear"}, evaluation={"exclude": ["self"]})
    for section in ("encoder", "head", "objective", "training"):
        tree.pop(section)
    config = parse_config(tree)
    data = ensure_prepared(config.data, tmp_path / "prepared")
    found = {}
    model = run_recipe(config, data, tmp_path / "run")
    manifest = Manifest.load(data)
    folder = RunFolder(tmp_path / "run")
    for kinds in ([], ["self"]):
        evaluation = config.evaluation.model_copy(update={"exclude": kinds})
        changed = config.model_copy(update={"evaluation": evaluation})
        found[bool(kinds)] = measure(model, changed, data, manifest, folder)["dev"]
    # Nobody's own label is true here: without it, precision can only rise.
    assert found[True]["P@5"] >= found[False]["P@5"]
    assert "R@1/untrained" in found[True]
    ranks = config.model_copy(
        update={"evaluation": config.evaluation.model_copy(update={"ranks": True})}
    )
    with pytest.raises(
        ConfigError, match=r"a head with a score for each label, and recipe 'xr_linear' has none"
    ):
        registry.get("recipe", "xr_linear").check_config(ranks)


def trainer_of(folder, **changes):
    sections = tree_of(folder, **changes)
    config = parse_config(sections)
    data = ensure_prepared(config.data, folder / "prepared")
    return TrainingJob(config, data, folder / "start").trainer(
        make_strategy(config.training, config)
    )


@pytest.mark.parametrize("head", [{"name": "dense"}, {"name": "sampled", "classes": "all"}])
def test_weights_of_labels_begin_with_their_texts(tmp_path, head):
    write_data(tmp_path)
    plain = trainer_of(tmp_path, head=head).model
    trainer = trainer_of(tmp_path, head={**head, "start": "label_texts"})
    model = trainer.model
    data = next((tmp_path / "prepared").glob("*/labels.txt")).parent
    names, given = LabelVocabulary.load(data / "labels.txt").names, label_texts_by_name(data)
    rows = load_text_features(data / "text_features").transform([given[name] for name in names])
    features = Rows.of(SPARSE, rows, [[]] * len(names)).batch()["features"]
    expected = model.find_vectors(features)
    weights = model.head.kernel.numpy()
    before = plain.head.kernel.numpy()
    weights, before = (w if head["name"] == "sampled" else w.T for w in (weights, before))
    lengths = np.linalg.norm(weights, axis=1)
    np.testing.assert_allclose(lengths, np.sqrt(np.square(before).sum(axis=1).mean()), rtol=1e-5)
    np.testing.assert_allclose(weights / lengths[:, None], expected, rtol=1e-4, atol=1e-6)
    trainer.fit()


def test_starts_without_texts_or_weights_of_labels_are_refused(tmp_path):
    write_data(tmp_path)
    start = {"start": "label_texts"}
    with pytest.raises(ConfigError, match=r"head\.start: .* needs data\.label_texts"):
        trainer_of(tmp_path, head={"name": "dense", **start}, data={"label_texts": None})
    mach = {"name": "mach", "num_repetitions": 2, "num_buckets": 8, **start}
    with pytest.raises(ConfigError, match=r"head\.start: head .* has no weights that start"):
        trainer_of(tmp_path, head=mach)
    with pytest.raises(ConfigError, match="xavier, kaiming, not 'label_texts'"):
        registry.check_section("encoder", {"name": "bag_mlp", **start}, where="encoder")


def linear_tree(folder, run, **tree):
    sections = tree_of(folder, run, recipe={"name": "xr_linear", "tree": tree})
    for section in ("encoder", "head", "objective", "training"):
        sections.pop(section)
    return sections


def test_trees_of_labels_read_their_texts(tmp_path):
    """Taken as given, the texts cluster labels that nothing was trained for like the others."""
    write_data(tmp_path)
    shape = {"max_leaf_size": 10, "nr_splits": 2}
    config = parse_config(linear_tree(tmp_path, "texts", **shape, label_features="texts"))
    data = ensure_prepared(config.data, tmp_path / "prepared")
    given = label_text_matrix(data)
    texts = label_texts_by_name(data)
    names = LabelVocabulary.load(data / "labels.txt").names
    expected = load_text_features(data / "text_features").transform([texts[n] for n in names])
    rows = Rows.of(SPARSE, expected, [[]] * len(names)).batch()["features"]
    assert abs(given - SPARSE.matrix(rows, given.shape[1])).nnz == 0 and given.nnz
    scipy.sparse.save_npz(tmp_path / "texts.npz", given)
    run_recipe(config, data, tmp_path / "texts")
    file = str(tmp_path / "texts.npz")
    tree = linear_tree(tmp_path, "file", **shape, label_features=file)
    run_recipe(parse_config(tree), data, tmp_path / "file")
    one, other = (ClusterTree.load(tmp_path / run / "tree.npz") for run in ("texts", "file"))
    assert one == other


def test_trees_without_texts_are_refused(tmp_path):
    write_data(tmp_path)
    tree = linear_tree(tmp_path, "none", label_features="texts")
    del tree["data"]["label_texts"]
    config = parse_config(tree)
    data = ensure_prepared(config.data, tmp_path / "prepared")
    with pytest.raises(ConfigError, match=r"label_features: .* needs data\.label_texts"):
        run_recipe(config, data, tmp_path / "none")


def run_recipe(config, data, run):
    """The model of a linear ranker that is trained."""
    path = run.parent / "config.json"
    path.write_text(config.model_dump_json())
    assert train_command.main(["--config", str(path), "--prepared", str(data.parent)]) == 0
    return load_run(run).model
