"""Only what tfxc wrote is ever removed, and by one process at a time."""

import itertools
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests import tiny
from tests.commands.calls import call, listing
from tests.small_runs import NAMES, make_run
from tests.source_tree import ROOT
from tfxc.commands import export, train
from tfxc.core import cli
from tfxc.core.config import parse_config
from tfxc.core.errors import CheckpointError, ConfigError, UserError
from tfxc.core.storage.files import atomic_file
from tfxc.core.storage.locks import holder, locked, owned, scratch_folder, sweep
from tfxc.core.storage.ownership import MARKER, atomic_folder, check_own, lock_of
from tfxc.data.store.preparation import ensure_prepared
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.recipes.base import Context
from tfxc.recipes.fit import Fit
from tfxc.runs import lock as run_lock
from tfxc.runs import resuming
from tfxc.runs.folder import RunFolder

HOLDER = """
import signal, sys
from tfxc.core.storage.locks import locked
with locked(sys.argv[1], print):
    print("holds", flush=True)
    signal.pause()
"""


@pytest.fixture
def holding():
    """A function: lock file -> a process that holds it, killed at the end."""
    started = []

    def hold(path):
        command = [sys.executable, "-c", HOLDER, str(path)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT))
        assert started[-1].stdout.readline() == "holds\n"
        return started[-1]

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def names_of(folder):
    return sorted(path.name for path in folder.iterdir())


# what is removed


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A trained run with its config and data."""
    folder = tmp_path_factory.mktemp("finished")
    config = tiny.write_config(folder, training={"epochs": 0.1})
    with pytest.raises(SystemExit) as caught:
        cli.run(train.main, ["--config", str(config), "--prepared", str(folder / "prepared")])
    assert caught.value.code == 0
    return folder


@pytest.fixture
def trained(finished, tmp_path):
    """A copy of the run, and the arguments of its training with ``run`` in its place."""
    shutil.copytree(finished / "run", tmp_path / "run")
    arguments = ["--config", finished / "config.json", "--prepared", finished / "prepared"]
    return tmp_path / "run", [*arguments, "--set", f"run={tmp_path / 'run'}"]


@pytest.mark.parametrize(
    "files",
    [
        {"config.json": "{}", "model.safetensors": "weights"},  # as Hugging Face's folders
        {"config.json": '{"run": "x", "data": {"name": "a", "train": "b"}}', "main.py": "code"},
        {"thesis.txt": "years of work"},
        {MARKER: '{"holds": "exported model", "names": ["*"]}', "saved_model.pb": "model"},
        {MARKER: "no JSON", "notes": "x"},
    ],
)
def test_fresh_never_removes_what_others_wrote(capsys, trained, files):
    run, arguments = trained
    shutil.rmtree(run)
    run.mkdir()
    for name, text in files.items():
        (run / name).write_text(text)
    before = listing(run)
    problem = call(capsys, train, *arguments, "--fresh").problem()
    assert "the folder is for a tfxc run, but contains" in problem
    assert "nothing was removed" in problem
    assert listing(run) == before


def test_fresh_names_files_that_were_put_into_a_run(capsys, trained):
    run, arguments = trained
    (run / "notes.txt").write_text("mine")
    before = listing(run)
    problem = call(capsys, train, *arguments, "--fresh").problem()
    assert "contains files that tfxc did not write (notes.txt); nothing was removed" in problem
    assert listing(run) == before


def test_fresh_refuses_a_run_whose_config_cannot_be_read(capsys, trained):
    run, arguments = trained
    (run / "config.json").write_text('{"run": ')
    before = listing(run)
    assert "config.json" in call(capsys, train, *arguments, "--fresh").problem()
    assert listing(run) == before


def test_fresh_trains_again(capsys, trained):
    run, arguments = trained
    (run / "summary.json").write_text('{"steps": -1}')
    assert call(capsys, train, *arguments, "--fresh").code == 0
    assert json.loads((run / "summary.json").read_text())["steps"] > 0
    assert not list(run.glob(".removed-*"))


def test_exports_replace_exports_only(capsys, tmp_path):
    run = make_run(tmp_path / "run")
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    problem = call(capsys, export, "--run", run, "--output", other).problem()
    assert "the folder is for a tfxc exported SavedModel, but contains other files" in problem
    assert (other / "thesis.txt").read_text() == "years of work"


def test_a_folder_that_is_written_to_is_not_replaced(tmp_path, holding):
    with atomic_folder(tmp_path / "run", "run", ["*"]) as scratch:
        (scratch / "a").write_text("")
    process = holding(lock_of(tmp_path / "run"))
    with (
        pytest.raises(UserError, match=f"process {process.pid} on .* is writing to this folder"),
        atomic_folder(tmp_path / "run", "run", ["*"]),
    ):
        pass
    check_own(tmp_path / "run", "run")


def test_a_folder_with_a_part_that_is_written_to_is_not_replaced(tmp_path, holding):
    with atomic_folder(tmp_path / "run", "run", ["*"]) as scratch:
        (scratch / "repetition-03").mkdir()
    process = holding(lock_of(tmp_path / "run" / "repetition-03"))
    with (
        pytest.raises(UserError, match=f"process {process.pid} on .* is writing to this folder"),
        atomic_folder(tmp_path / "run", "run", ["*"]),
    ):
        pass
    assert (tmp_path / "run" / "repetition-03").is_dir()


def test_what_is_put_into_a_folder_meanwhile_stays(tmp_path):
    path = tmp_path / "served"
    with (
        pytest.raises(UserError, match="contains other files; nothing was removed"),
        atomic_folder(path, "exported model"),
    ):
        path.mkdir()
        (path / "thesis.txt").write_text("years of work")
    assert (path / "thesis.txt").exists() and names_of(tmp_path) == ["served"]


def test_files_in_the_folders_of_a_run_are_named(trained):
    run, _ = trained
    with atomic_folder(run / "savedmodel", "exported SavedModel") as scratch:
        (scratch / "saved_model.pb").touch()
    (run / "savedmodel" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"did not write \(savedmodel/notes.txt\)"):
        check_own(run, "run")


def test_a_foreign_folder_is_not_tidied_up(tmp_path):
    for name in ("checkpoints/best_temp", ".removed-photos"):
        (tmp_path / "project" / name).mkdir(parents=True)
    before = listing(tmp_path / "project")
    with run_lock.locked(RunFolder(tmp_path / "project")):
        pass
    assert listing(tmp_path / "project") == before


def test_a_link_to_a_run_has_the_same_lock(tmp_path, holding):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    process = holding(lock_of(tmp_path / "run"))
    with (
        pytest.raises(CheckpointError, match=f"process {process.pid} on"),
        run_lock.locked(RunFolder(tmp_path / "link")),
    ):
        pass


def test_the_current_folder_and_the_root_are_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path, message in ((".", "the current folder"), ("/", "but contains|the root")):
        with pytest.raises(UserError, match=message), atomic_folder(path, "run"):
            pass


# a config that is corrected


def test_a_run_without_a_step_takes_a_corrected_config(trained, finished):
    run, _ = trained
    shutil.rmtree(run)
    data = next((finished / "prepared").glob("tiny-*"))
    wrong = parse_config(tiny.tiny_tree(finished, run=str(run), training={"batch_size": 8}))
    resuming.start(RunFolder(run), wrong, data)
    (run / "log.txt").write_text("failed")
    right = parse_config(tiny.tiny_tree(finished, run=str(run), training={"epochs": 0.1}))
    assert Fit().run(Context(right, data, run))["steps"] == 2
    assert RunFolder(run).config().training.epochs == 0.1
    with pytest.raises(CheckpointError, match=r"with other settings: training.batch_size"):
        resuming.start(RunFolder(run), wrong, data)


# one writer


def test_a_run_has_one_writer(capsys, trained, holding):
    run, arguments = trained
    process = holding(lock_of(run))
    before = listing(run)
    for more in ([], ["--fresh"]):
        problem = call(capsys, train, *arguments, *more).problem()
        assert f"{run}: process {process.pid} on" in problem
        assert "is writing into this run" in problem
    assert listing(run) == before
    process.kill()
    process.wait()
    assert call(capsys, train, *arguments, "--fresh").code == 0
    assert not lock_of(run).exists()


def test_fresh_waits_for_no_part_of_a_run(trained, finished, holding):
    run, _ = trained
    data = next((finished / "prepared").glob("tiny-*"))
    (run / "fold-01").mkdir()
    process = holding(lock_of(run / "fold-01"))
    config = RunFolder(run).config()
    before = listing(run)
    with pytest.raises(CheckpointError, match=f"fold-01: process {process.pid}"):
        resuming.start(RunFolder(run), config, data, fresh=True)
    assert listing(run) == before


def test_locks_of_killed_processes_are_free(tmp_path, holding):
    process = holding(tmp_path / ".lock")
    assert f"process {process.pid} on" in holder(tmp_path / ".lock")
    process.kill()
    process.wait()
    assert (tmp_path / ".lock").exists() and holder(tmp_path / ".lock") is None
    with locked(tmp_path / ".lock", pytest.fail):
        assert f'"process": {os.getpid()}' in (tmp_path / ".lock").read_text()
        assert holder(tmp_path / ".lock") is None, "it is our own"
    assert holder(tmp_path / ".lock") is None and not (tmp_path / ".lock").exists()


def test_a_process_locks_a_run_twice_and_frees_it_once(tmp_path):
    run = RunFolder(tmp_path / "deep" / "run")
    with run_lock.locked(run):
        with run_lock.locked(RunFolder(tmp_path / "deep" / "run")):
            pass
        assert lock_of(run.path).exists()
    assert list(tmp_path.iterdir()) == []


# scratch of killed processes


def test_scratch_of_killed_processes_is_swept(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("tfxc.core.storage.locks._is_new", lambda handle: False)
    (tmp_path / "tfxc-worker-12345678").mkdir()
    (tmp_path / "tfxc-worker-12345678" / "ckpt-1").write_text("x")
    (tmp_path / "tfxc-other-dead").mkdir()
    with scratch_folder("worker") as first, scratch_folder("worker") as second:
        assert first.is_dir() and second.is_dir()
        assert not (tmp_path / "tfxc-worker-12345678").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["tfxc-other-dead"]


def test_files_and_folders_sweep_what_stood_in_their_way(tmp_path, monkeypatch):
    monkeypatch.setattr("tfxc.core.storage.locks._is_new", lambda handle: False)
    (tmp_path / ".a.new-12345678").write_text("half")
    (tmp_path / ".b.new-12345678").mkdir()
    (tmp_path / ".c.new-12345678").write_text("half")
    with owned(tmp_path / ".c.new-12345678"):
        with atomic_file(tmp_path / "a") as stream:
            stream.write("whole")
        with atomic_folder(tmp_path / "b", "thing"):
            sweep(tmp_path, ".c.new-*")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".c.new-12345678", "a", "b"]


def test_folders_sweep_what_a_process_left_that_was_killed_just_now(tmp_path):
    """A command that is started again at once; others cannot be making one, which the lock says."""
    (tmp_path / ".a.new-12345678").mkdir()
    (tmp_path / ".a.new-12345678" / "half").write_text("")
    with atomic_folder(tmp_path / "a", "thing"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_scratch_is_swept_though_a_process_still_writes_there(tmp_path, monkeypatch):
    scratch = tmp_path / ".a.new-12345678"
    scratch.mkdir()
    remove = shutil.rmtree

    def remove_late(path, **options):
        with pytest.raises(FileNotFoundError):
            (scratch / "late").write_text("")
        remove(path, **options)

    monkeypatch.setattr("tfxc.core.storage.locks.shutil.rmtree", remove_late)
    sweep(tmp_path, ".a.new-????????", alone=True)
    assert not list(tmp_path.iterdir())


def test_a_run_begins_in_a_folder_whose_marker_was_half_written(tmp_path):
    half = tmp_path / "run" / "..tfxc.json.new-0123abcd"
    half.parent.mkdir()
    half.touch()
    check_own(half.parent, "run")
    with run_lock.locked(RunFolder(half.parent)):
        assert not half.exists()


def test_runs_sweep_what_a_kill_left_half_written(tmp_path):
    run = make_run(tmp_path / "run")
    (run / ".new-model.weights.h5").write_text("half")
    with run_lock.locked(RunFolder(run)):
        pass
    assert (run / ".new-model.weights.h5").exists(), "not known to be a run of tfxc"
    RunFolder(run).mark()
    (run / ".removed-x").mkdir()
    (run / "checkpoints" / "ckpt-7_temp").mkdir(parents=True)
    (run / ".level-02.lock").touch()
    (run / ".config.json.new-0123abcd").touch()
    (run / "assets" / "text_features").mkdir(exist_ok=True)
    (run / "assets" / "text_features" / ".idf.npy.new-0123abcd").touch()
    with locked(run / ".level-01.lock", print), run_lock.locked(RunFolder(run)):
        assert [path.name for path in run.glob(".*.lock")] == [".level-01.lock"], "it is held"
    assert not list(run.rglob(".*-*")) and not list((run / "checkpoints").iterdir())
    assert LabelVocabulary.load(run / "assets" / "labels.txt").names == list(NAMES)
    assert np.load(run / "assets" / "label_counts.npy").sum() == len(NAMES)


# storages that are not on this machine


@pytest.mark.parametrize("address", ["gs://bucket/x", "s3://b/x", "hdfs://n/x", "gs:/bucket/x"])
def test_what_must_be_on_this_machine(capsys, tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    config = tiny.write_config(tmp_path)
    before = listing(tmp_path)
    for place in ("--prepared", "--config"):
        options = {"--config": config, place: address}
        problem = call(capsys, train, *itertools.chain(*options.items())).problem()
        assert place in problem and f"'{address}' is the address of a remote storage" in problem
    with (
        pytest.raises(ConfigError, match="is the address of a remote storage"),
        atomic_file(address),
    ):
        pass
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("gs:/bucket/x", "the address 'gs:/bucket/x"),
        ("nowhere://n/x", "fsspec knows no storage 'nowhere'"),
    ],
)
def test_addresses_are_checked_before_any_work(capsys, tmp_path, monkeypatch, address, message):
    monkeypatch.setenv("TFXC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    config = tiny.write_config(tmp_path)
    before = listing(tmp_path)
    monkeypatch.setenv("BUCKET", address)
    places = {"run": address, "data.train": address, "data.label_names": "${BUCKET}/a"}
    for place, text in places.items():
        problem = call(capsys, train, "--config", config, "--set", f"{place}={text}").problem()
        assert place in problem and message in problem
    problem = call(capsys, export, "--run", "run", "--output", address).problem()
    assert "--output" in problem and message in problem
    assert listing(tmp_path) == before


def test_preparing_sweeps_what_killed_preparations_left(tmp_path, monkeypatch):
    monkeypatch.setattr("tfxc.core.storage.locks._is_new", lambda handle: False)
    settings = parse_config(tiny.tiny_tree(tmp_path)).data
    root = tmp_path / "prepared"
    for name in (".other-12345678.new-abcdefgh", ".kept", ".gitignore"):
        (root / name).mkdir(parents=True)
    for _ in range(2):  # also where there is nothing to prepare any more
        folder = ensure_prepared(settings, root, jobs=1)
        assert sorted(path.name for path in root.iterdir()) == [".gitignore", ".kept", folder.name]
        (root / f".{folder.name}.new-abcdefgh").mkdir()
    ensure_prepared(settings, root, jobs=1)
    assert sorted(path.name for path in root.iterdir()) == [".gitignore", ".kept", folder.name]
