"""The texts of the dev split that a run keeps."""

import json
import os

import pytest

from tests.commands.calls import call
from tests.data.reading.inspection.test_contents import pairs, write
from tests.serving.runs import client_of
from tests.small_runs import make_run
from tfxc.commands import predict, train
from tfxc.core.escaping import clipped
from tfxc.runs.dev_examples import FILE, DevExample, read_dev_examples

SHORT = ("--preset", "fast", "--no-refit", "--run", "run")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Examples with three labels, of which some contradict each other."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")
    rows = [f"{text} told anew,moon" for text, _ in map(_cells, pairs(12))]
    write(tmp_path / "mine.csv", "text,label", [*pairs(94), *rows])
    return tmp_path


def _cells(row):
    return row.rsplit(",", 1)


def test_they_are_right_and_wrong_ones_that_training_has_not_seen(folder, capsys):
    outcome = call(capsys, train, "mine.csv", *SHORT)
    assert outcome.code == 0
    examples = read_dev_examples("run")
    assert len(examples) == 3
    known = dict(map(_cells, (folder / "mine.csv").read_text().split("\n")[1:-1]))
    assert all(example.labels == [known[example.text]] for example in examples)
    right = [example.right for example in examples]
    assert right == sorted(right, reverse=True)
    # The run answers now as it did then.
    (folder / "texts.jsonl").write_text(
        "".join(json.dumps({"text": example.text}) + "\n" for example in examples)
    )
    answers = call(capsys, predict, "run", "texts.jsonl", "--k", 1).out.splitlines()
    assert [json.loads(line)["labels"][0] for line in answers] == [e.predicted for e in examples]
    lines = outcome.out.splitlines()
    first = lines.index("of the dev split:") + 1
    shown = lines[first : first + 3]
    assert lines[first + 3] == "run: run"
    for line, example in zip(shown, examples, strict=True):
        not_ = "" if example.right else f", not {example.labels[0]}"
        kind = "right" if example.right else "wrong"
        assert line == clipped(f"  {kind}  {example.predicted}{not_} <- {example.text}", 60)
        assert len(line) <= 60


def test_wrong_ones_are_among_them(folder, capsys, monkeypatch):
    """A model of one label gets the others wrong."""
    from tfxc.inference.searcher import Searcher

    find = Searcher.find

    def moon(self, batch):
        found = find(self, batch)
        found.ids[:, 0] = 1
        return found

    monkeypatch.setattr(Searcher, "find", moon)
    call(capsys, train, "mine.csv", *SHORT)
    right = [example.right for example in read_dev_examples("run")]
    assert right == [True, True, False]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_their_number_is_a_setting(folder, capsys, count):
    outcome = call(capsys, train, "mine.csv", *SHORT, "--set", f"evaluation.examples={count}")
    assert outcome.code == 0
    assert len(read_dev_examples("run")) == count
    assert ("of the dev split:" in outcome.out) == (count > 0)
    assert (folder / "run" / FILE).exists() == (count > 0)


def test_as_json_there_are_none(folder, capsys):
    outcome = call(capsys, train, "mine.csv", *SHORT, "--json")
    assert "dev" in json.loads(outcome.out)
    assert "of the dev split" not in outcome.out + outcome.err


def test_a_run_goes_without_them(folder, capsys):
    call(capsys, train, "mine.csv", *SHORT)
    os.remove("run/examples.jsonl")
    assert call(capsys, predict, "run", "mine.csv", "--output", "out.csv").code == 0
    again = call(capsys, train, "mine.csv", *SHORT)
    assert again.code == 0 and "of the dev split" not in again.out


def test_a_network_keeps_those_of_its_best_weights(folder, capsys):
    config = {
        "run": "net",
        "data": {"name": "mine", "train": "mine.csv", "dev_share": 0.2,
                 "reader_options": {"text_field": "text", "labels_field": "label"},
                 "text_features": {"name": "tfidf", "min_df": 1}},
        "encoder": {"name": "bag_mlp", "hidden": [8]}, "head": {"name": "dense"},
        "objective": {"name": "softmax"}, "training": {"epochs": 3, "batch_size": 16},
    }  # fmt: skip
    (folder / "net.json").write_text(json.dumps(config))
    assert call(capsys, train, "--config", "net.json").code == 0
    examples = read_dev_examples("net")
    (folder / "texts.jsonl").write_text(
        "".join(json.dumps({"text": example.text}) + "\n" for example in examples)
    )
    answers = call(capsys, predict, "net", "texts.jsonl", "--k", 1).out.splitlines()
    found = [json.loads(line)["labels"][0] for line in answers]
    assert len(found) == 3 and found == [example.predicted for example in examples]


def test_of_a_run_that_was_trained_again_they_are_those_from_before(tmp_path):
    example = DevExample("a text", ["cat"], "dog")
    for name in ("held-out-0", "held-out-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE).write_text(json.dumps(example._asdict()) + "\n")
        example = example._replace(text="another")
    assert [found.text for found in read_dev_examples(tmp_path)] == ["a text"]
    (tmp_path / FILE).write_text(json.dumps(example._asdict()) + "\n")
    assert [found.text for found in read_dev_examples(tmp_path)] == ["another"]


@pytest.mark.parametrize(
    "content",
    ["no json", "[1]", '{"text": 3, "labels": [], "predicted": ""}', '{"text": "a"}', "\xff"],
)
def test_a_damaged_file_is_as_none(tmp_path, content):
    (tmp_path / FILE).write_bytes(content.encode("latin-1"))
    assert read_dev_examples(tmp_path) == []


def test_a_link_out_of_the_run_is_not_read(tmp_path):
    (tmp_path / "secret.jsonl").write_text('{"text": "a", "labels": ["b"], "predicted": "b"}\n')
    (tmp_path / "run").mkdir()
    os.symlink(tmp_path / "secret.jsonl", tmp_path / "run" / FILE)
    assert read_dev_examples(tmp_path / "run") == []


def test_the_server_offers_them(tmp_path):
    run = tmp_path / "run"
    make_run(run, text_features={"name": "tfidf", "min_df": 1})
    (run / FILE).write_text('{"text": "butter", "labels": ["soup"], "predicted": "tea"}\n')
    client, _ = client_of({"bot": run})
    with client:
        (model,) = client.get("/models").json()["models"]
    assert model["texts"] == ["butter"]


def test_a_refit_shows_texts_that_its_model_had_not_seen(folder, capsys):
    outcome = call(capsys, train, "mine.csv", "--preset", "fast", "--run", "run")
    assert outcome.code == 0
    assert not (folder / "run" / FILE).exists(), "nothing is held out of the training on all"
    assert read_dev_examples("run") == read_dev_examples("run/held-out-0")
    assert len(read_dev_examples("run")) == 3 and "of the dev split:" in outcome.out
