"""Recipe 'memory': a run as any other, whose examples and labels come and go."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests import fused_runs
from tests.commands.calls import call
from tests.fused_runs import FUSE, KNOWN, MEMORY, NUM_LABELS
from tests.source_tree import ROOT
from tfxc.commands import add_labels, evaluate, export, predict, remove_labels, train
from tfxc.core.errors import DataError
from tfxc.data.examples.chunk import Chunk
from tfxc.recipes.memory.updates import remove_labels as without_labels
from tfxc.runs.loaded import load_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fused_runs.train(tmp_path_factory.mktemp("memory"), MEMORY)


def answers(path, texts, k=5):
    """Names and scores of the best labels; those of the same score in the order of their names."""
    loaded = load_run(path)
    ids, scores = loaded.model.find_top_k(
        loaded.features_of(Chunk(texts=texts, labels=[[]] * len(texts))), k
    )
    names = loaded.vocabulary.names
    return [
        sorted(
            ((names[i], s) for i, s in zip(*row, strict=True) if i >= 0),
            key=lambda p: (-p[1], p[0]),
        )
        for row in zip(ids.tolist(), scores.tolist(), strict=True)
    ]


def dev_texts(run):
    return [
        json.loads(line)["text"] for line in (run.parent / "dev.jsonl").read_text().splitlines()
    ]


def test_finds_known_and_new_labels(run, capsys):
    summary = json.loads((run / "summary.json").read_text())
    assert summary["dev"]["P@1"] > 0.9
    assert answers(run, ["w28a w28c n1"])[0][0][0] == "label 28", "it has a text alone"
    done = call(capsys, evaluate, run, "--prepared", run.parent / "prepared")
    assert done.code == 0 and f"{100 * summary['dev']['P@1']:.2f}" in done.out


def test_label_texts_can_be_left_out(run, tmp_path):
    shutil.copytree(run.parent, tmp_path / "data", ignore=shutil.ignore_patterns("run*"))
    bare = fused_runs.train(tmp_path / "data", {**MEMORY, "label_texts": False}, "bare")
    named = {name for row in answers(bare, dev_texts(run)) for name, _ in row}
    assert named and not named & {f"label {label}" for label in range(KNOWN, NUM_LABELS)}


def test_added_examples_have_always_been_there(run, tmp_path, capsys):
    lines = (run.parent / "train.jsonl").read_text().splitlines(keepends=True)
    for name, part in (("first", lines[:200]), ("whole", lines)):
        folder = tmp_path / name
        folder.mkdir()
        fused_runs.write(folder)
        (folder / "train.jsonl").write_text("".join(part))
        # All are neighbours: examples as near as each other come in the order of the records.
        fused_runs.train(folder, {**MEMORY, "neighbours": 400})
    (tmp_path / "new.jsonl").write_text("".join(lines[200:]))
    arguments = (tmp_path / "first" / "run", "--data", tmp_path / "new.jsonl")
    done = call(capsys, add_labels, *arguments, "--output", tmp_path / "extended")
    assert done.code == 0 and "0 new labels" in done.out
    extended, whole = (load_run(tmp_path / path) for path in ("extended", "whole/run"))
    assert sorted(extended.label_counts) == sorted(whole.label_counts)
    found, expected = (answers(x.folder.path, dev_texts(run)) for x in (extended, whole))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose([s for _, s in one], [s for _, s in other], rtol=1e-5)
    assert [row[0][0] for row in found] == [row[0][0] for row in expected]


def test_new_labels_by_text_and_by_example(run, tmp_path, capsys):
    (tmp_path / "texts.jsonl").write_text('{"label": "owl", "text": "owl barn night"}\n')
    arguments = (run, "--label-texts", tmp_path / "texts.jsonl", "--output", tmp_path / "more")
    assert "1 new labels (owl)" in call(capsys, add_labels, *arguments).out
    (tmp_path / "new.jsonl").write_text('{"text": "zebra stripes", "labels": ["zebra"]}\n')
    arguments = (tmp_path / "more", "--data", tmp_path / "new.jsonl", "--output", tmp_path / "two")
    assert "1 new labels (zebra)" in call(capsys, add_labels, *arguments).out
    best = [row[0][0] for row in answers(tmp_path / "two", ["barn owl", "zebra stripes"])]
    assert best == ["owl", "zebra"]
    two = load_run(tmp_path / "two")
    assert two.label_texts[-2:] == ["owl barn night", ""] and two.label_counts[-2:].tolist() == [
        0,
        1,
    ]
    assert answers(tmp_path / "two", dev_texts(run)) == answers(run, dev_texts(run))
    again = (tmp_path / "two", "--label-texts", tmp_path / "texts.jsonl")
    problem = call(capsys, add_labels, *again, "--output", tmp_path / "three").problem()
    assert "knows 1 of these labels already: 'owl'" in problem


def test_a_label_known_by_examples_is_given_a_text(run, tmp_path, capsys):
    (tmp_path / "new.jsonl").write_text('{"text": "zebra stripes", "labels": ["zebra"]}\n')
    arguments = (run, "--data", tmp_path / "new.jsonl", "--output", tmp_path / "one")
    assert call(capsys, add_labels, *arguments).code == 0
    lines = ["yak", "zebra"]
    text = "".join(f'{{"label": "{name}", "text": "{name} of the plains"}}\n' for name in lines)
    (tmp_path / "texts.jsonl").write_text(text)
    arguments = (tmp_path / "one", "--label-texts", tmp_path / "texts.jsonl")
    done = call(capsys, add_labels, *arguments, "--output", tmp_path / "two")
    assert "1 new labels (yak)" in done.out
    assert "; 1 labels known by examples alone have a text now" in done.out
    two = load_run(tmp_path / "two")
    assert two.vocabulary.names[-2:] == ["zebra", "yak"]
    assert two.label_texts[-2:] == ["zebra of the plains", "yak of the plains"]
    assert two.label_counts[-2:].tolist() == [1, 0]
    best = [row[0][0] for row in answers(tmp_path / "two", ["plains yak", "plains zebra"])]
    assert best == ["yak", "zebra"]


def test_additions_and_removals_need_no_tensorflow(run, tmp_path):
    """In a process of its own, where nothing else has imported it."""
    (tmp_path / "texts.jsonl").write_text('{"label": "owl", "text": "owl barn night"}\n')
    (tmp_path / "new.jsonl").write_text('{"text": "zebra stripes", "labels": ["zebra"]}\n')
    (tmp_path / "gone.txt").write_text("owl\n")
    code = f"""
import os, sys
from tfxc.commands import add_labels, remove_labels
os.chdir({str(tmp_path)!r})
assert add_labels.main([{str(run)!r}, "--label-texts", "texts.jsonl", "--output", "one"]) == 0
assert add_labels.main(["one", "--data", "new.jsonl", "--output", "two"]) == 0
assert remove_labels.main(["two", "--labels", "gone.txt", "--output", "three"]) == 0
print([name for name in ("tensorflow", "keras") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_was_added_is_removed_without_a_trace(run, tmp_path, capsys):
    (tmp_path / "new.jsonl").write_text('{"text": "w1a w2b w3c", "labels": ["new"]}\n')
    arguments = (run, "--data", tmp_path / "new.jsonl", "--output", tmp_path / "more")
    assert call(capsys, add_labels, *arguments).code == 0
    assert answers(tmp_path / "more", dev_texts(run)) != answers(run, dev_texts(run))
    (tmp_path / "gone.txt").write_text("new\n")
    arguments = (
        tmp_path / "more",
        "--labels",
        tmp_path / "gone.txt",
        "--output",
        tmp_path / "less",
    )
    assert "1 examples that had no other label" in call(capsys, remove_labels, *arguments).out
    assert answers(tmp_path / "less", dev_texts(run)) == answers(run, dev_texts(run))
    for file in (run / "memory").rglob("*.npy"):
        same = tmp_path / "less" / "memory" / file.relative_to(run / "memory")
        np.testing.assert_array_equal(np.load(file), np.load(same))
    names = load_run(run).vocabulary.names
    for named, problem in (
        (["cat"], "no label 'cat'. Name its labels"),
        ([], "no label is named. Name at least one"),
        (names, "no label would be left. Keep at least one"),
    ):
        with pytest.raises(DataError, match=problem):
            without_labels(load_run(run), named, tmp_path / "none")


def test_a_name_is_a_line_whatever_it_holds(run, tmp_path, capsys):
    line = json.dumps({"text": "w1a", "labels": ["a\u2028b", "label 1", "label 2"]})
    (tmp_path / "new.jsonl").write_text(line + "\n")
    arguments = (run, "--data", tmp_path / "new.jsonl", "--output", tmp_path / "more")
    assert call(capsys, add_labels, *arguments).code == 0
    train = load_run(tmp_path / "more").manifest["splits"]["train"]
    before = load_run(run).manifest["splits"]["train"]
    assert (train["examples"], train["max_labels"]) == (301, 3)
    assert train["nonzeros"] == before["nonzeros"] + 1
    (tmp_path / "gone.txt").write_text("a\u2028b\r\n", encoding="utf-8", newline="")
    arguments = ("--labels", tmp_path / "gone.txt", "--output", tmp_path / "less")
    assert call(capsys, remove_labels, tmp_path / "more", *arguments).code == 0
    assert load_run(tmp_path / "less").vocabulary.names == load_run(run).vocabulary.names


def with_vectors(folder):
    """A memory that also compares the vectors of a static table, in which words have synonyms."""
    random = np.random.default_rng(0)
    lines = []
    for label in range(NUM_LABELS):
        for word in fused_runs.words_of(label):
            vector = " ".join(map(str, random.normal(size=8).round(3)))
            lines += [f"{word} {vector}", f"{word.replace('w', 's')} {vector}"]
    (folder / "table.vec").write_text(f"{len(lines)} 8\n" + "\n".join(lines) + "\n")
    features = {"name": "static", "table": str(folder / "table.vec"), "terms": {"name": "tfidf"}}
    return fused_runs.train(folder, MEMORY, text_features=features)


def test_vectors_of_a_table_are_compared_on_their_own(tmp_path):
    run = with_vectors(tmp_path)
    assert len(load_run(run).model.memory.rows) == 2
    best = [row[0][0] for row in answers(run, ["s3a s3b s3c", "s5a s5b s5c"])]
    assert best == ["label 3", "label 5"], "no example or text has these words"


@pytest.mark.parametrize("has_vectors", [False, True])
def test_answers_alone_are_those_of_predict(run, tmp_path, capsys, has_vectors):
    texts = [*dev_texts(run), "", "unknown words"]
    run = with_vectors(tmp_path) if has_vectors else run
    here, expected = fused_runs.answers_alone(run, tmp_path, texts, capsys)
    for one, other in zip(here, expected, strict=True):
        np.testing.assert_allclose(one["scores"], other["scores"], atol=1e-5)
        assert one["labels"][:1] == other["labels"][:1]


@pytest.mark.parametrize("recipe", [MEMORY, FUSE], ids=["memory", "fuse"])
def test_what_was_held_out_is_remembered_at_last(tmp_path, recipe):
    path = fused_runs.write_config(tmp_path, recipe, dev=None)
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "refit": {"share": 0.2}}))
    assert train.main(["--config", str(path), "--prepared", str(tmp_path / "prepared")]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    before = json.loads((tmp_path / "run" / "held-out" / "summary.json").read_text())
    assert summary["dev"]["P@1"] == before["dev"]["P@1"] > 0.9
    counts = [
        load_run(tmp_path / path).model.memory.labels.shape[0] for path in ("run", "run/held-out")
    ]
    assert counts[0] == 300 and counts[1] == 300 - summary["dev_examples"] < 300


def test_is_served(run):
    client = pytest.importorskip("starlette.testclient")
    from tfxc.serving.application import Application
    from tfxc.serving.metrics import Metrics
    from tfxc.serving.served import Catalog

    metrics = Metrics()
    application = Application(Catalog({"run": str(run)}, on_batch=metrics.searched), metrics)
    texts = dev_texts(run)[:20]
    request = {"texts": texts, "k": 1}
    answer = client.TestClient(application.asgi, "http://127.0.0.1").post("/predict", json=request)
    assert answer.status_code == 200, answer.text
    found = [prediction[0]["label"] for prediction in answer.json()["predictions"]]
    assert found == [row[0][0] for row in answers(run, texts, 1)]


def test_what_a_memory_cannot_do_is_said(run, tmp_path, capsys):
    for name in ("savedmodel", "onnx"):
        done = call(capsys, export, run, "--format", name, "--output", tmp_path / "out")
        assert f"cannot be exported as {name}. Choose runtime" in done.problem()
    done = call(capsys, export, run, "--quantize", "int8", "--output", tmp_path / "out")
    assert "no weights to store in 8 bits" in done.problem() and not (tmp_path / "out").exists()
    done = call(capsys, predict, run, run.parent / "dev.jsonl", "--beam", 5)
    assert "--beam" in done.problem()
    arguments = (run, "--data", run.parent / "dev.jsonl", "--output", tmp_path / "out")
    done = call(capsys, add_labels, *arguments, "--memory-gb", 1)
    assert "--memory-gb: nothing is trained for a memory" in done.problem()
    config = fused_runs.write_config(run.parent, {**MEMORY, "tail_places": 11}, "wrong")
    problem = call(capsys, train, "--config", config).problem()
    assert "recipe.tail_places: must be an integer from 0 to 10, not 11" in problem
