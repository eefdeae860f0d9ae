"""What needs no graph runs where TensorFlow and Keras cannot be imported, with the same bytes."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.source_tree import ROOT
from tfxc.__main__ import module_of

# Times of this machine, and checksums of files that hold some.
VARYING = {
    "checksums.json", "environment.json", "log.txt", "metrics.jsonl", "sources.json",
    "summary.json",
}  # fmt: skip
PECOS = Path(__file__).parent / "ranker" / "data" / "pecos_model"
# Runs cases that lack the same, {name: [folder, code]}, one after the other: an interpreter that
# starts and imports NumPy and SciPy takes longer than most of them.
ALONE = """
import contextlib, io, json, os, sys, traceback
class Blocked:
    def __init__(self, finder): self.finder = finder
    def __getattr__(self, name): return getattr(self.finder, name)
    def find_spec(self, *given):
        blocked = {given[0], given[0].partition(".")[0]} & set(BLOCKED)
        return None if blocked else self.finder.find_spec(*given)
sys.meta_path[:] = map(Blocked, sys.meta_path)
from tfxc.__main__ import module_of
def tfxc(command, *arguments): assert not module_of(command).main(list(map(str, arguments)))
found, stdin = {}, sys.stdin
with open("cases.json") as stream:
    cases = json.load(stream)
for name, (folder, code) in cases.items():
    os.chdir(folder)
    printed, error = io.StringIO(), None
    try:
        with contextlib.redirect_stdout(printed):
            exec(code, {"tfxc": tfxc})
    except BaseException:
        error = traceback.format_exc()
    sys.stdin = stdin
    found[name] = printed.getvalue(), error
json.dump(found, sys.__stdout__)
"""
GRAPHS = ("tensorflow", "keras")
ALL = (*GRAPHS, "google.protobuf", "h5py", "sklearn", "joblib", "pandas", "pyarrow", "matplotlib")
ESTIMATOR = """
import json
from tfxc import Run, XCClassifier
lines = [json.loads(line) for line in open("my.jsonl")]
texts, labels = ([line[key] for line in lines] for key in ("text", "labels"))
XCClassifier(recipe="xr_linear", random_state=0).fit(texts, labels).save("saved")
predicted = Run("saved").predict(texts[:30], k=3)
json.dump([predicted.labels, predicted.scores.tolist()], open("predicted.json", "w"))
"""
SERVER = """
from starlette.testclient import TestClient
from tfxc.serving.application import Application
from tfxc.serving.metrics import Metrics
from tfxc.serving.served import Catalog
metrics = Metrics()
application = Application(Catalog({"run": "trained"}, on_batch=metrics.searched), metrics)
client = TestClient(application.asgi, "http://127.0.0.1")
answer = client.post("/predict", json={"texts": ["word1 thing2", "item3"], "k": 3})
open("answer.json", "w").write(answer.text)
"""
PIPE = """
import os, sys
reading, writing = os.pipe()
os.write(writing, b"word1 thing2\\nitem3\\n")
os.close(writing)
sys.stdin = open(reading)
tfxc("predict", "trained", "-", "--k", 3, "--output", "streamed.jsonl")
"""
# Code, and what it must do without.
CASES = {
    "train, one label": ('tfxc("train", "my.csv", "--preset", "fast", "--run", "runs/new")', ALL),
    "train, several labels": ('tfxc("train", "my.jsonl", "--run", "runs/new")', ALL),
    "train, static": (
        'tfxc("train", "my.csv", "--static", "words.vec", "--run", "runs/new")', ALL,
    ),
    "train --dry-run": (
        'tfxc("train", "my.csv", "--preset", "fast", "--run", "planned", "--dry-run")', ALL,
    ),
    "ensemble": ('tfxc("ensemble", "trained", "trained2", "--data", "my.csv")', ALL),
    "prepare": ('tfxc("prepare", "--config", "trained.json", "--prepared", "other")', ALL),
    "predict": ('tfxc("predict", "trained", "my.csv", "--output", "p.jsonl")', ALL),
    "predict a pipe": (PIPE, ALL),
    "evaluate": ('tfxc("evaluate", "trained")', ALL),
    "evaluate a file": ('tfxc("evaluate", "trained", "--data", "my.csv")', ALL),
    "report": ('tfxc("report", "trained")', ALL),
    "card": ('tfxc("card", "trained")', ALL),
    "serve": (SERVER, ALL),
    "add-labels": (
        'tfxc("add-labels", "trained", "--data", "new.csv", "--output", "extended")', ALL,
    ),
    "export": ('tfxc("export", "trained", "--format", "runtime")', ALL),
    "import pecos": (f'tfxc("import", "pecos", {str(PECOS)!r}, "--run", "imported")', ALL),
    "XCClassifier": (ESTIMATOR, GRAPHS),
}  # fmt: skip
# Cases that only print.
PRINTED = ("train --dry-run", "ensemble")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with examples, and a run that was trained on them in this process."""
    folder = tmp_path_factory.mktemp("home")
    rows = [(f"word{n % 8} thing{n % 5} item{n % 13}", f"class{n % 8}") for n in range(200)]
    lines = [f"{text},{label}\n" for text, label in rows]
    (folder / "my.csv").write_text("text,label\n" + "".join(lines))
    (folder / "words.vec").write_text("word1 1 2\nthing2 0 1\n")
    (folder / "new.csv").write_text("text,label\n" + "word1 thing2 fresh,new\n" * 3)
    with open(folder / "my.jsonl", "w") as stream:
        for number, (text, label) in enumerate(rows):
            labels = [label, f"thing{number % 5}"]
            stream.write(json.dumps({"text": text, "labels": labels}) + "\n")
    with contextlib.chdir(folder):
        run_here('tfxc("train", "my.csv", "--preset", "fast", "--run", "trained", "--no-refit")')
        shutil.copytree("trained", "trained2")
    return folder


def run_here(code):
    """Runs the code of a case in this process, which has TensorFlow."""

    def tfxc(command, *arguments):
        assert not module_of(command).main(list(map(str, arguments)))

    stdin = sys.stdin
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, {"tfxc": tfxc})
    finally:
        sys.stdin = stdin


def files_of(folder):
    """Bytes of every file, or the arrays of archives, whose bytes hold the time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in VARYING:
            content = path.read_bytes()
            if path.suffix == ".npz":
                arrays = np.load(path, allow_pickle=True)
                content = {name: arrays[name].tobytes() for name in arrays.files}
            found[str(path.relative_to(folder))] = content
    return found


@pytest.fixture(scope="module")
def without(home, tmp_path_factory):
    """{case: (folder it ran in, what it printed, its error)}, of processes that lack packages."""
    found = {}
    for blocked in {blocked for _, blocked in CASES.values()}:
        folder, cases = tmp_path_factory.mktemp("without"), {}
        for number, (case, (code, lacks)) in enumerate(CASES.items()):
            if lacks == blocked:
                shutil.copytree(home, folder / str(number))
                cases[case] = str(folder / str(number)), code
        (folder / "cases.json").write_text(json.dumps(cases))
        done = subprocess.run(
            [sys.executable, "-c", f"BLOCKED = {blocked}\n{ALONE}"],
            cwd=folder,
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        for case, (printed, error) in json.loads(done.stdout).items():
            found[case] = Path(cases[case][0]), printed, error
    return found


@pytest.mark.parametrize("case", CASES)
def test_with_and_without(home, without, tmp_path, case):
    if case == "serve":
        pytest.importorskip("starlette", reason="needs the extra serve")
    shutil.copytree(home, tmp_path / "with")
    with contextlib.chdir(tmp_path / "with"):
        run_here(CASES[case][0])
    folder, printed, error = without[case]
    assert error is None, error
    expected, found = files_of(tmp_path / "with"), files_of(folder)
    assert found.keys() == expected.keys()
    assert len(found) > len(files_of(home)) or (case in PRINTED and printed)
    assert not [name for name in found if found[name] != expected[name]]
