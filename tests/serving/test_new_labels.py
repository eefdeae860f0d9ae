"""Labels that are added to a server by their texts."""

import asyncio
import errno
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.label_text_runs import train, write_data
from tests.serving.runs import client_of, text_run
from tfxc.core.errors import ConfigError, DataError, MachineError
from tfxc.data.reading.label_texts import read_label_texts
from tfxc.decision.decision import Decision
from tfxc.decision.fitted import FittedDecision
from tfxc.runs.loaded import load_run
from tfxc.runs.new_labels import add_labels_by_text
from tfxc.serving.limits import RequestError
from tfxc.serving.new_labels import NewLabels
from tfxc.serving.served import Catalog, RunOptions

QUESTION = {"texts": ["where is my purple emu"], "k": 3}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("label_texts")
    write_data(folder)
    train(folder, training={"epochs": 1})
    return folder / "run"


def served(paths, file):
    return client_of(paths, options=RunOptions(new_labels=NewLabels(file)))


def test_an_added_label_is_found_at_once_and_after_a_start(run, tmp_path):
    file, other = tmp_path / "new.jsonl", text_run(tmp_path / "other")
    file.write_text('{"label": "red_emu", "text": "red emu"}\n')
    client, application = served({"bot": run, "other": other}, file)
    with client:
        models = client.get("/models").json()["models"]
        assert [model["takes_labels"] for model in models] == [True, False]
        before = client.post("/predict", json=QUESTION).json()["predictions"][0]
        answer = client.post("/labels", json={"label": "purple_emu"})
        assert answer.json() == {"label": "purple_emu", "text": "purple emu", "models": ["bot"]}
        answer = client.post("/labels", json={"label": "e7", "text": "where is my purple emu"})
        assert answer.json()["models"] == ["bot"]
        found = client.post("/predict", json=QUESTION).json()["predictions"][0]
        neighbours = client.post("/neighbours", json={"label": "e7", "k": 2}).json()["neighbours"]
        asyncio.run(application.catalog.reload())  # nothing is newer: the labels stay
        assert client.post("/predict", json=QUESTION).json()["predictions"][0] == found
        assert client.get("/openapi.json").json()["paths"]["/labels"]["post"]
        again = client.post("/labels", json={"label": "purple_emu"})
        assert again.status_code == 409 and "is known already" in again.json()["error"]
    assert found[0]["label"] == "e7" and found[0]["score"] > before[0]["score"]
    assert "purple_emu" in [one["label"] for one in (*found, *neighbours)]
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["label"] for line in lines] == ["red_emu", "purple_emu", "e7"]
    client, _ = served({"bot": run}, file)
    with client:
        assert client.post("/predict", json=QUESTION).json()["predictions"][0] == found
    # A run that keeps them answers alike, and takes the same file.
    add_labels_by_text(load_run(run), file, tmp_path / "kept")
    client, _ = served({"bot": tmp_path / "kept"}, file)
    with client:
        assert client.post("/predict", json=QUESTION).json()["predictions"][0] == found


def test_a_decision_stays_where_labels_are_added(run, tmp_path):
    """A new label has the median threshold of the others."""
    decided = tmp_path / "decided"
    shutil.copytree(run, decided)
    names = load_run(run).vocabulary.names
    thresholds = np.linspace(0.1, 0.2, len(names), dtype=np.float32)
    FittedDecision(None, Decision(0.9, of_labels=thresholds, at_most=5)).save(decided)
    file = tmp_path / "new.jsonl"
    file.write_text('{"label": "red_emu", "text": "red emu"}\n')
    add_labels_by_text(load_run(decided), file, tmp_path / "more")
    rule = load_run(tmp_path / "more").model.decision.rule
    np.testing.assert_allclose(rule.of_labels, [*thresholds, 0.15])
    question = {"texts": QUESTION["texts"]}
    answers = []
    for folder, options in (
        (tmp_path / "more", RunOptions()),
        (decided, RunOptions(new_labels=NewLabels(file))),
    ):
        client, _ = client_of({"bot": folder}, options=options)
        with client:
            answers.append(client.post("/predict", json=question).json()["predictions"][0])
    assert answers[0] == answers[1]


def test_a_newer_version_gets_the_labels_as_well(run, tmp_path):
    shutil.copytree(run, tmp_path / "bot" / "1")
    client, application = served({"bot": tmp_path / "bot"}, tmp_path / "new.jsonl")
    with client:
        client.post("/labels", json={"label": "e7", "text": "where is my purple emu"})
        shutil.copytree(run, tmp_path / "bot" / "2")
        assert asyncio.run(application.catalog.reload()) == ["bot"]
        answer = client.post("/predict", json=QUESTION).json()
    assert answer["version"] == 2 and answer["predictions"][0][0]["label"] == "e7"


def test_what_others_write_into_the_file_stays(run, tmp_path):
    shutil.copytree(run, tmp_path / "bot" / "1")
    file = tmp_path / "new.jsonl"
    (tmp_path / "link.jsonl").symlink_to(file)
    client, application = served({"bot": tmp_path / "bot"}, tmp_path / "link.jsonl")
    with client:
        client.post("/labels", json={"label": "one"})
        with file.open("a") as stream:
            stream.write('{"label": "by hand", "text": "where is my purple emu"}\n')
        client.post("/labels", json={"label": "two"})
        shutil.copytree(run, tmp_path / "bot" / "2")
        assert asyncio.run(application.catalog.reload()) == ["bot"]
        answer = client.post("/predict", json=QUESTION).json()
    assert answer["predictions"][0][0]["label"] == "by hand"
    assert list(read_label_texts(file)) == ["one", "by hand", "two"]


def test_servers_that_add_at_the_same_moment_lose_nothing(tmp_path):
    def add(server):
        labels = NewLabels(tmp_path / "new.jsonl")
        for number in range(20):
            labels.add(f"{server}{number}", "a text")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(add, "ab"))
    assert len(read_label_texts(tmp_path / "new.jsonl")) == 40
    assert os.listdir(tmp_path) == ["new.jsonl"]


def test_a_label_of_3_megabytes_is_refused_and_later_ones_are_not(run, tmp_path):
    file = tmp_path / "new.jsonl"
    client, _ = served({"bot": run}, file)
    with client:
        answer = client.post("/labels", json={"label": "huge", "text": "x" * 3_000_000})
        assert answer.status_code == 400
        assert "text: the text has 3,000,000 characters" in answer.json()["error"]
        longest = {"label": "long", "text": "\N{GRINNING FACE}" * 10_000}
        assert client.post("/labels", json=longest).status_code == 200
    assert list(NewLabels(file).texts) == ["long"]


CUT = '{"label": "a", "text": "first"}\n{"label": "b", "te'


def test_a_last_line_that_was_cut_off_is_dropped(tmp_path, caplog):
    """As a killed server or a full disk leaves it."""
    file = tmp_path / "new.jsonl"
    file.write_text(CUT)
    labels = NewLabels(file)
    assert labels.texts == {"a": "first"} and "is dropped" in caplog.text
    file.write_text(CUT)
    labels.add("c", "third")
    assert read_label_texts(file) == {"a": "first", "c": "third"}
    file.write_text(CUT[: CUT.index("\n")])  # by hand, without a line break
    labels = NewLabels(file)
    labels.add("c", "third")
    assert read_label_texts(file) == {"a": "first", "c": "third"}


def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    labels = NewLabels(tmp_path / "new.jsonl")
    labels.add("a", "first")
    before = labels.path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match="cannot write"):
        labels.add("b", "second")
    monkeypatch.undo()
    assert labels.path.read_bytes() == before and list(labels.texts) == ["a"]
    labels.add("b", "second")
    assert list(read_label_texts(labels.path)) == ["a", "b"]


def test_nothing_is_written_that_cannot_be_read(tmp_path):
    labels = NewLabels(tmp_path / "new.jsonl")
    labels.path.write_text('\n{"label": 7, "text": "labels of this file are numbers"}\n')
    before = labels.path.read_bytes()
    with pytest.raises(
        RequestError, match=r"label: new\.jsonl could not be read with it"
    ) as caught:
        labels.add("name", "a text")
    assert caught.value.status == 400 and labels.path.read_bytes() == before
    labels.path.write_text('{"label": "a", "text": "first"}\n')
    with pytest.raises(RequestError, match=r"'a' has another text in new\.jsonl already"):
        labels.add("a", "second")
    labels.add("a", "first")  # it is there
    assert len(labels.path.read_text().splitlines()) == 1
    labels.path.write_text("broken\n")
    with pytest.raises(RequestError, match="the file of new labels is damaged") as caught:
        labels.add("b", "second")
    assert caught.value.status == 500


@pytest.mark.parametrize("name", ["new.jsonl.xz", "new.jsonl.GZ", "no/new.jsonl"])
def test_files_that_cannot_be_added_to_are_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=r"--label-texts: no labels can be added to"):
        NewLabels(tmp_path / name)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "label: it is missing. Send a text"),
        ({"label": " "}, "must be a name of 1 to 200 characters"),
        ({"label": "x" * 201}, "must be a name of 1 to 200 characters"),
        ({"label": "two\nlines"}, "label: the label name 'two\\nlines' is not one non-empty line"),
        ({"label": "a", "text": ""}, 'text: must be a text, not ""'),
        ({"label": "a", "text": 3}, "text: must be a text, not 3"),
        ({"label": "a", "text": "\ud800"}, "body: this is not JSON"),
        ({"label": "a", "model": "bot"}, "there is no field 'model'. Use label, text"),
    ],
)
def test_wrong_labels_are_refused(taking, body, message):
    client, file = taking
    content, headers = json.dumps(body), {"Content-Type": "application/json"}
    answer = client.post("/labels", content=content, headers=headers)
    assert answer.status_code == 400 and message in answer.json()["error"]
    assert not file.exists()


@pytest.fixture(scope="module")
def taking(run, tmp_path_factory):
    file = tmp_path_factory.mktemp("taking") / "new.jsonl"
    client, _ = served({"bot": run}, file)
    with client:
        yield client, file


def test_pages_of_other_hosts_cannot_add_labels(taking):
    client, _ = taking
    answer = client.post(
        "/labels", content='{"label": "a"}', headers={"Content-Type": "text/plain"}
    )
    assert answer.status_code == 415 and "Send application/json" in answer.json()["error"]


def test_labels_are_added_only_where_the_server_takes_them(run):
    client, _ = client_of({"bot": run})
    with client:
        answer = client.post("/labels", json={"label": "a"})
        assert answer.status_code == 404 and "--label-texts" in answer.json()["error"]
        assert not client.get("/models").json()["models"][0]["takes_labels"]
        assert "/labels" not in client.get("/openapi.json").json()["paths"]


def test_a_file_needs_a_run_that_reads_texts(tmp_path):
    other = text_run(tmp_path / "other")
    options = RunOptions(new_labels=NewLabels(tmp_path / "new.jsonl"))
    with pytest.raises(ConfigError, match="--label-texts: no run has head 'label_text'"):
        Catalog({"other": other}, options=options)


def test_a_wrong_file_is_refused(tmp_path):
    (tmp_path / "new.jsonl").write_text('{"label": "a"}\n')
    with pytest.raises(DataError, match=r"new\.jsonl"):
        NewLabels(tmp_path / "new.jsonl")
