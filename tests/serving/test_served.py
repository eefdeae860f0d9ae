"""Names, versions and reloads of runs, and the limits that need time."""

import asyncio
import json
import shutil
import threading

import numpy as np
import pytest

from tests.commands.calls import call
from tests.serving.runs import client_of, text_run
from tests.small_runs import NAMES, make_run
from tfxc.commands import predict
from tfxc.core.errors import ConfigError
from tfxc.core.storage import checksums
from tfxc.decision.calibration import Calibration
from tfxc.decision.decision import Decision
from tfxc.decision.fitted import FittedDecision
from tfxc.inference.ensemble_file import EnsembleFile, digest_of
from tfxc.serving import served
from tfxc.serving.limits import Limits
from tfxc.serving.served import Catalog, RunOptions, newest_version, paths_by_name


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return text_run(tmp_path_factory.mktemp("runs") / "run")


def test_the_highest_complete_version_counts(run, tmp_path):
    model = tmp_path / "model"
    for number in ("2", "10", "11"):
        shutil.copytree(run, model / number)
    (model / "11" / "summary.json").unlink()
    (model / "notes").mkdir()
    assert newest_version(model).number == 10
    assert newest_version(model / "2").number is None
    assert newest_version(tmp_path / "none") is None


def test_a_reload_changes_answers_and_keeps_what_cannot_be_replaced(run, tmp_path, capsys):
    here, names = tmp_path / "run", [f"new {name}" for name in NAMES]
    shutil.copytree(run, here)
    catalog = Catalog({"run": here})

    def replace(other):
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(other, here)
        return asyncio.run(catalog.reload())

    assert asyncio.run(catalog.reload()) == []
    assert replace(text_run(tmp_path / "other", names=names)) == ["run"]
    current = catalog.find("run")
    assert current.number == 2 and current.names == names
    shutil.rmtree(here)
    assert asyncio.run(catalog.reload()) == []  # a run that is being written anew
    shutil.copytree(run, tmp_path / "damaged")
    (tmp_path / "damaged" / "assets" / "labels.txt").write_text("x")
    assert replace(tmp_path / "damaged") == []
    assert "version 2 stays" in capsys.readouterr().err
    assert catalog.find("run") is current
    catalog.close()


def test_a_folder_that_cannot_be_listed(run, tmp_path, monkeypatch, capsys):
    here = tmp_path / "run"
    shutil.copytree(run, here)
    catalog = Catalog({"run": here})
    (here / "checksums.json").touch()

    def refuse(path):
        raise PermissionError(13, "denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(served, "newest_version", refuse)
        assert asyncio.run(catalog.reload()) == []
    assert f"version 1 stays, as the newer one cannot be loaded: [Errno 13] denied: '{here}'" in (
        capsys.readouterr().err
    )
    assert asyncio.run(catalog.reload()) == ["run"]
    catalog.close()


def test_labels_of_weighted_probabilities_are_chosen_from_more_than_are_listed(tmp_path, capsys):
    run = text_run(tmp_path / "run")
    count = len(NAMES)
    gains = np.geomspace(1, 1000, count).astype(np.float32)  # the last one is always among them
    rule = Decision(None, True, np.zeros(count, np.float32), at_most=count, gains=gains, count=2)
    calibration = Calibration(weights=np.array([0.5, 2.0, 0.1, 0.3]))
    FittedDecision(calibration, rule).save(run)
    checksums.add(run, "decision.json")
    (tmp_path / "some.txt").write_text("red fox\nold hen\n")
    lines = call(capsys, predict, run, tmp_path / "some.txt").out.splitlines()
    returned = [set(json.loads(line)["labels"]) for line in lines]
    client, _ = client_of(paths_by_name([str(run)]))
    with client:
        for k in range(1, count + 1):
            asked = {"texts": ["red fox", "old hen"], "k": k}
            for row, right in zip(
                client.post("/predict", json=asked).json()["predictions"], returned, strict=True
            ):
                assert len(row) == k
                assert {one["label"] for one in row if one["returned"]} == right & {
                    one["label"] for one in row
                }


@pytest.mark.parametrize("decided", [False, True])
def test_several_runs_answer_together(tmp_path, capsys, decided):
    """By ``tfxc ensemble --output``: the page, requests and files say what ``predict`` does."""
    names = [str(text_run(tmp_path / name, seed=seed)) for seed, name in enumerate(("one", "two"))]
    rule = Decision(0.2, probabilities=True)
    calibration = Calibration(weights=np.array([0.5, 2.0, 0.1, 0.3]))
    EnsembleFile(
        runs=names,
        method="average",
        weights=[2, 1],
        top=4,
        num_labels=len(NAMES),
        labels=digest_of(NAMES),
        decision=FittedDecision(calibration, rule) if decided else FittedDecision(),
    ).save(tmp_path / "both.json")
    (tmp_path / "some.txt").write_text("red fox\nold hen\n")
    client, application = client_of(paths_by_name([str(tmp_path / "both.json")]))
    with client:
        model = client.get("/models").json()["models"][0]
        assert (model["name"], model["max_k"], model["decides"]) == ("both", 4, decided)
        assert model["probabilities"] is decided and not model["neighbours"]
        answer = client.post("/predict", json={"texts": ["red fox", "old hen"], "k": 3}).json()
        content = (tmp_path / "some.txt").read_bytes()
        labelled = client.post("/predict-file?name=some.txt", content=content)
    asked = (tmp_path / "both.json", tmp_path / "some.txt")
    best = [json.loads(line) for line in call(capsys, predict, *asked, "--k", 3).out.splitlines()]
    for mine, right in zip(answer["predictions"], best, strict=True):
        assert [one["label"] for one in mine] == right["labels"]
        np.testing.assert_allclose([one["score"] for one in mine], right["scores"], atol=1e-5)
        returned = [one["returned"] for one in mine]
        assert returned == [s >= 0.2 if decided else n == 0 for n, s in enumerate(right["scores"])]
    call(capsys, predict, *asked, "--output", tmp_path / "right.csv")
    assert labelled.content == (tmp_path / "right.csv").read_bytes()
    catalog = application.catalog
    assert asyncio.run(catalog.reload()) == []
    (tmp_path / "one" / "checksums.json").touch()  # trained again
    assert asyncio.run(catalog.reload()) == ["both"] and catalog.find("both").number == 2
    (tmp_path / "both.json").write_text("{}")
    assert asyncio.run(catalog.reload()) == []
    assert "version 2 stays" in capsys.readouterr().err


def test_an_answer_that_takes_too_long(run, monkeypatch):
    client, application = client_of({"run": run}, Limits(seconds=300))
    batcher, free = application.catalog.find().batcher, threading.Event()
    original, limits = asyncio.timeout, []

    def timeout(seconds):
        limits.append((asyncio.get_running_loop(), original(seconds)))
        return limits[-1][1]

    def search(chunk, k):
        if not free.is_set():  # the time is over now, however fast or slow this machine is
            loop, limit = limits[-1]
            loop.call_soon_threadsafe(limit.reschedule, 0)
        assert free.wait(120)
        return np.zeros((len(chunk), k), np.int32), np.zeros((len(chunk), k), np.float32)

    batcher._search = search
    monkeypatch.setattr(asyncio, "timeout", timeout)
    with client:
        answer = client.post("/predict", json={"texts": ["soup"]})
        assert answer.status_code == 504
        assert "there was no answer within 300 seconds" in answer.json()["error"]
        free.set()
        assert client.post("/predict", json={"texts": ["soup"]}).status_code == 200


def test_a_server_that_ends_says_so(run):
    client, application = client_of({"run": run})
    with client:
        application.draining = True
        assert client.get("/health").status_code == 503
        answer = client.post("/predict", json={"texts": ["soup"]})
        assert answer.status_code == 200 and answer.headers["connection"] == "close"


def test_a_bug_is_no_secret_and_no_end(run):
    client, application = client_of({"run": run})
    batcher = application.catalog.find().batcher
    search, batcher._search = batcher._search, lambda chunk, k: 1 / 0
    with client:
        answer = client.post("/predict", json={"texts": ["soup"]})
        assert answer.status_code == 500 and "division" not in answer.text
        batcher._search = search
        assert client.post("/predict", json={"texts": ["soup"]}).status_code == 200


def test_scores_instead_of_probabilities(run):
    found = []
    for scores in (False, True):
        client, _ = client_of({"run": run}, options=RunOptions(k=12, scores=scores))
        with client:
            found.append(client.post("/predict", json={"texts": ["soup"]}).json())
    (probabilities,), (margins,) = (
        [[one["score"] for one in row] for row in answer["predictions"]] for answer in found
    )
    assert [answer["probabilities"] for answer in found] == [True, False]
    exponents = np.exp(margins)
    np.testing.assert_allclose(probabilities, exponents / exponents.sum(), rtol=1e-4)


def test_names_of_runs(tmp_path):
    assert list(paths_by_name(["a/b", "c=a/b", "x/y=z"])) == ["b", "c", "y=z"]
    with pytest.raises(ConfigError, match="two runs have the name 'b'"):
        paths_by_name(["a/b", "b=c"])


def test_what_a_request_cannot_hold_is_not_served(tmp_path):
    run = make_run(tmp_path / "run", kind="tokens", encoder={"name": "textcnn"})
    with pytest.raises(ConfigError, match="this run reads lists of tokens"):
        Catalog({"run": run})
