"""Full disks, read-only folders and limits: each command says so in one line, and exits with 1."""

import builtins
import errno
import glob
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests import small_runs, tiny
from tests.commands.calls import call, default_signals, listing
from tfxc.commands import encode, evaluate, export, predict, prepare, report, train, verify

NUMBERS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "the system does not permit it",
    errno.EFBIG: "the file would be too large",
    errno.EIO: "the disk reports an error",
}


class Refusal:
    """Answers every write below a folder with an error of the system."""

    def __init__(self, patch, folder, number):
        self.folder, self.number, self.mkdir = str(folder), number, os.mkdir
        for module in (builtins, io):
            patch.setattr(module, "open", self.opener(module.open))
        patch.setattr(os, "open", self.os_opener(os.open))
        for name in ("mkdir", "replace", "rename"):
            patch.setattr(os, name, self.changer(getattr(os, name)))

    def check(self, path):
        inside = isinstance(path, (str, os.PathLike)) and os.path.abspath(path)
        if inside and inside.startswith(self.folder):
            raise OSError(self.number, os.strerror(self.number), str(path))

    def opener(self, original):
        def opened(path, mode="r", *arguments, **options):
            if set(mode) & set("wax+"):
                self.check(path)
            return original(path, mode, *arguments, **options)

        return opened

    def os_opener(self, original):
        def opened(path, flags, *arguments, **options):
            if flags & (os.O_WRONLY | os.O_RDWR):
                self.check(path)
            return original(path, flags, *arguments, **options)

        return opened

    def changer(self, original):
        mkdir = self.mkdir

        def changed(*arguments, **options):
            self.check(arguments[0] if original is mkdir else arguments[1])
            return original(*arguments, **options)

        return changed


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("network")
    path = small_runs.make_run(folder / "run", text_features={"name": "tfidf", "min_df": 1})
    (folder / "texts.txt").write_text("soup\ntea\n")
    rows = [{"text": text, "labels": ["soup", "tea"]} for text in small_runs.TEXTS]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    vectors = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    np.save(folder / "vectors.npy", vectors)
    lines = [f"{a} {b} {int(a % 2 == b % 2)}" for a in range(8) for b in range(a)]
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    tiny.write_config(folder / "data")
    return path


def commands(run, output):
    """Every command that writes, with ``output`` as the place it writes to."""
    folder = run.parent
    data = ["--run", run, "--data", folder / "rows.jsonl"]
    config = ["--config", folder / "data/config.json"]
    embeddings = ["--embeddings", folder / "vectors.npy"]
    return {
        "evaluate": (evaluate, [*data, "--output", output]),
        "evaluate --tables": (
            evaluate,
            [*data, "--output", folder / "written", "--tables", output],
        ),
        "report": (report, [*data, "--output", output]),
        "report --no-plots": (report, [*data, "--output", output, "--no-plots"]),
        "predict": (
            predict,
            ["--run", run, folder / "texts.txt", "--k", 1, "--output", output / "a.jsonl"],
        ),
        "encode": (encode, ["--run", run, folder / "texts.txt", "--output", output / "a.npy"]),
        "export": (export, ["--run", run, "--output", output / "exported"]),
        "verify": (
            verify,
            [*embeddings, "--pairs", folder / "pairs.txt", "--output", output],
        ),
        "prepare": (prepare, [*config, "--prepared", output]),
        "train": (
            train,
            [*config, "--prepared", folder / "prepared", "--set", f"run={output / 'run'}"],
        ),
    }


NAMES = list(commands(Path("run"), Path("output")))


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_read_only_folder(run, tmp_path, capsys, monkeypatch, name, there):
    output = tmp_path / "output"
    if there:
        output.mkdir()
    command, arguments = commands(run, output)[name]
    if name == "train":  # the data are prepared elsewhere, in time
        assert call(capsys, prepare, *arguments[:4]).code == 0
    before = listing(tmp_path)
    with monkeypatch.context() as patch:
        Refusal(patch, output, errno.EROFS)
        problem = call(capsys, command, *arguments).problem(code=1)
    assert str(output) in problem and "read-only" in problem
    assert listing(tmp_path) == before


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("name", ["evaluate", "predict"])
def test_every_refusal_has_its_words(run, tmp_path, capsys, monkeypatch, name, number):
    (output := tmp_path / "output").mkdir()
    command, arguments = commands(run, output)[name]
    with monkeypatch.context() as patch:
        Refusal(patch, output, number)
        problem = call(capsys, command, *arguments).problem(code=1)
    assert f"cannot write: {NUMBERS[number]}. " in problem
    assert not list(output.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_a_file_in_the_place_of_the_folder(run, tmp_path, capsys, name):
    output = tmp_path / "output"
    output.write_text("x")
    command, arguments = commands(run, output)[name]
    if name == "train":
        assert call(capsys, prepare, *arguments[:4]).code == 0
    problem = call(capsys, command, *arguments).problem()
    assert f"{output}: there is a file where a folder is to be written" in problem
    assert output.read_text() == "x"


@pytest.mark.parametrize("name", [name for name in NAMES if " " not in name and name != "report"])
def test_a_limit_on_the_size_of_files(run, tmp_path, capsys, name):
    """``ulimit -f`` refuses writes in Python, HDF5 and TensorFlow alike."""
    output = tmp_path / "output"
    command, arguments = commands(run, output)[name]
    if name == "train":
        assert call(capsys, prepare, *arguments[:4]).code == 0
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, hard))
    try:
        outcome = call(capsys, command, *arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    problem = outcome.problem(code=1)
    assert "cannot write: the file would be too large" in problem and str(output) in problem
    left = [path for path in output.rglob("*") if path.is_file()] if output.exists() else []
    assert not left


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_preparation_that_is_stopped(tmp_path, number):
    """The process ends with 128 + the signal, one line, and no file of its own."""
    path = tmp_path / "train.svm"
    path.write_text("".join(f"{n % 50} {n % 90}:1 {90 + n % 400}:0.5\n" for n in range(600_000)))
    tree = tiny.tiny_tree(tmp_path, data={"train": str(path), "dev": None})
    (tmp_path / "config.json").write_text(json.dumps(tree))
    before = {name: size for name, size in listing(tmp_path).items() if size is not None}
    command = [sys.executable, "-m", "tfxc", "prepare", "--config", tmp_path / "config.json"]
    process = subprocess.Popen(
        [*command, "--prepared", tmp_path / "prepared"],
        stderr=subprocess.PIPE, text=True, preexec_fn=default_signals,
    )  # fmt: skip
    while not list((tmp_path / "prepared").glob(".*")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number, err
    assert err.splitlines()[-1] == f"tfxc: stopped by {number.name}" and "Traceback" not in err
    assert {name: size for name, size in listing(tmp_path).items() if size is not None} == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_preparation_that_is_stopped_while_its_processes_work(tmp_path, number):
    """Ctrl-C reaches all processes of a terminal; they end, and leave nothing."""
    data = {"train": "builtin:synthetic", "dev": None, "test": None}
    data["reader_options"] = {"shape": "amazon670k", "examples": 1_000_000}
    tree = tiny.tiny_tree(tmp_path, data=data)
    (tmp_path / "config.json").write_text(json.dumps(tree))
    before = listing(tmp_path)
    command = [sys.executable, "-m", "tfxc", "prepare", "--config", tmp_path / "config.json"]
    process = subprocess.Popen(
        [*command, "--prepared", tmp_path / "prepared", "--jobs", "2"],
        stderr=subprocess.PIPE, text=True, preexec_fn=default_signals, process_group=0,
    )  # fmt: skip
    blocks = f"{tmp_path}/prepared/.*/scratch-train/read-*"
    while len(glob.glob(blocks)) < 4 and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, err = process.communicate(timeout=120)  # it ends once no process has the pipe any more
    assert process.returncode == 128 + number, err
    assert err.splitlines()[-1] == f"tfxc: stopped by {number.name}" and "Traceback" not in err
    left = {name: size for name, size in listing(tmp_path).items() if size is not None}
    assert left == {name: size for name, size in before.items() if size is not None}
