"""A full disk, whatever is being written: one line, exit code 1, nothing half-written, and again.

The wide sweep fills a small file system of its own (``tmpfs``), to several degrees, so that every
file of a command is the one that does not fit. The fast tests limit the size of files instead.
"""

import contextlib
import importlib
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest

from tests import linear_runs, tiny
from tests.commands.calls import call
from tests.data.sources.examples import write_jsonl
from tests.data.store.feature_sets.examples import vectors, write_set
from tests.ranker.conftest import DATA
from tests.recipes import xr_texts
from tests.small_runs import TEXTS, config_tree, make_run
from tfxc.commands import (
    add_labels,
    distill,
    encode,
    evaluate,
    export,
    predict,
    prepare,
    report,
    train,
    verify,
)
from tfxc.commands import features as features_command
from tfxc.commands import tree as tree_command
from tfxc.core.errors import MachineError
from tfxc.core.storage.files import copy_folder, write_errors
from tfxc.runs.weights_file import write_weights

import_model = importlib.import_module("tfxc.commands.import")
WORDS = {"name": "words", "min_count": 1, "max_length": 12}
# Names of temporary files and folders, all of which have to be gone after an error.
TEMPORARY = re.compile(r"\.new-|\.unfinished$|\.progress")


def texts_of(folder):
    """A file of texts, and a run with weights that read them."""
    (folder / "texts.txt").write_text("\n".join(TEXTS * 20) + "\n", encoding="utf-8")
    names = [f"label {number}" for number in range(300)]
    return make_run(
        folder / "run", text_features=WORDS, names=names, kind="tokens",
        objective={"name": "softmax"},
        encoder={"name": "textcnn", "embedding_dim": 16, "num_filters": 64},
    )  # fmt: skip


def training(folder, **changes):
    """The command that trains a small model on sparse features."""
    config = tiny.write_config(folder, **changes)
    assert prepare.main(["--config", str(config), "--prepared", str(folder / "prepared")]) == 0
    return ["--config", config, "--prepared", folder / "prepared"]


# Each of these makes what a command needs in ``folder`` and returns the command, which writes to
# ``disk`` only.


def prepared_records(folder, disk, tool):
    config = linear_runs.write_config(folder)
    return prepare, "--config", config, "--prepared", disk / "prepared"


def prepared_feature_sets(folder, disk, tool):
    features = write_set(folder / "set")
    tree = {"run": "r", "data": {"name": "set", "train": str(features)}}
    tree |= {"encoder": {"name": "precomputed"}, "head": {"name": "dense"}}
    tree["objective"] = {"name": "softmax"}
    (folder / "config.json").write_text(json.dumps(tree))
    return prepare, "--config", folder / "config.json", "--prepared", disk / "prepared"


def run_folder(folder, disk, tool):
    return train, *training(folder, run=str(disk / "run"))


def repetitions(folder, disk, tool):
    head = {"name": "mach", "num_buckets": 8, "num_repetitions": 2}
    changes = {"head": head, "recipe": {"name": "repetitions", "together": True}}
    return train, *training(folder, run=str(disk / "run"), **changes)


def linear_ranker(folder, disk, tool):
    command = linear_runs.command(folder)
    assert prepare.main([str(argument) for argument in command]) == 0
    return train, *command, "--set", f"run={disk / 'run'}"


def xr_transformer(folder, disk, tool):
    for split, each in (("train", 4), ("dev", 1)):
        xr_texts.write_texts(folder / f"{split}.jsonl", each, each)
    config = xr_texts.tree_of_config(folder)
    config["run"], config["training"]["epochs"] = str(disk / "run"), 1
    (folder / "config.json").write_text(json.dumps(config))
    command = ("--config", folder / "config.json", "--prepared", folder / "prepared")
    assert prepare.main([str(argument) for argument in command]) == 0
    return train, *command


def distilled(folder, disk, tool):
    names = ["fox", "hen", "owl"]
    for split, count in (("train", 150), ("dev", 10)):
        texts = [(f"the butter {n} {names[n % 3]}", [names[n % 3]]) for n in range(count)]
        write_jsonl(folder / f"{split}.jsonl", texts)
    teachers = [
        make_run(
            folder / f"teacher-{number}", text_features=WORDS, names=names, kind="tokens",
            encoder={"name": "fasttext", "embedding_dim": 8},
        )
        for number in range(2)
    ]  # fmt: skip
    data = {"name": "student", "text_features": {"name": "tfidf"}, "shard_examples": 40}
    encoder = {"name": "bag_mlp", "hidden": [4]}
    tree = config_tree(folder, encoder, run="student", data=data, training={"epochs": 1})
    (folder / "student.json").write_text(json.dumps({**tree, "run": str(disk / "run")}))
    command = ["--config", folder / "student.json", "--prepared", folder / "prepared"]
    assert prepare.main([str(argument) for argument in command]) == 0
    return distill, *command, "--teacher", teachers[0], "--teacher", teachers[1]


def pruned(folder, disk, tool):
    names = ["fox", "hen", "owl"]
    texts = [(f"the butter {n} {names[n % 3]}", [names[n % 3]]) for n in range(60)]
    write_jsonl(folder / "train.jsonl", texts)
    write_jsonl(folder / "dev.jsonl", texts[:10])
    encoder = {"name": "transformer", "num_layers": 2, "num_heads": 2, "embedding_dim": 16}
    tree = config_tree(folder, encoder, training={"epochs": 1},
                       data={"name": "small", "text_features": WORDS})  # fmt: skip
    (folder / "config.json").write_text(json.dumps(tree))
    prepared = ("--prepared", folder / "prepared")
    command = ("--config", folder / "config.json", *prepared)
    assert train.main([str(argument) for argument in command]) == 0
    from tfxc.commands import prune

    return prune, "--run", folder / "run", "--num-heads", 1, *prepared, "--output", disk / "run"


def imported_features(folder, disk, tool):
    np.save(folder / "features.npy", vectors(430))
    np.save(folder / "labels.npy", np.arange(430) % 7)
    files = (folder / "features.npy", folder / "labels.npy")
    return features_command, "import", *files, "--output", disk / "set"


def split_features(folder, disk, tool):
    features = write_set(folder / "set", vectors(4300))
    sizes = ("--val", 0.3, "--test", 0.3)
    return features_command, "split", features, "--output", disk / "sets", *sizes


def extracted_features(folder, disk, tool):
    run = texts_of(folder)
    texts = [(text, [f"label {number % 3}"]) for number, text in enumerate(TEXTS * 20)]
    write_jsonl(folder / "texts.jsonl", texts)
    return (
        features_command, "extract", folder / "texts.jsonl", "--run", run, "--output", disk / "set",
        "--batch-size", 20,
    )  # fmt: skip


def encoded(folder, disk, tool):
    run = texts_of(folder)
    texts = folder / "texts.txt"
    return encode, "--run", run, texts, "--output", disk / "v.npy", "--batch-size", 20


def predicted(folder, disk, tool):
    run = texts_of(folder)
    return predict, "--run", run, folder / "texts.txt", "--output", disk / "found.jsonl"


def _trained(folder):
    """A finished run and the options that say what it was trained on."""
    command = linear_runs.command(folder)
    assert train.main([str(argument) for argument in command]) == 0
    return folder / "run", "--prepared", folder / "prepared"


def evaluated(folder, disk, tool):
    run, *prepared = _trained(folder)
    return evaluate, "--run", run, *prepared, "--output", disk / "a", "--tables", disk / "b"


def reported(folder, disk, tool):
    run, *prepared = _trained(folder)
    return report, "--run", run, *prepared, "--output", disk / "report"


def verified(folder, disk, tool):
    np.save(folder / "v.npy", vectors(400))
    pairs = "".join(f"{n} {n + 1} {n % 2}\n" for n in range(300))
    (folder / "pairs.txt").write_text(pairs)
    files = ("--embeddings", folder / "v.npy", "--pairs", folder / "pairs.txt")
    return verify, *files, "--output", disk / "a", "--roc", disk / "roc.svg"


def saved_model(folder, disk, tool):
    return export, "--run", texts_of(folder), "--output", disk / "served"


def onnx(folder, disk, tool):
    pytest.importorskip("tf2onnx")
    return *saved_model(folder, disk, tool), "--format", "onnx"


def litert(folder, disk, tool):
    pytest.importorskip("ai_edge_litert")
    return *saved_model(folder, disk, tool), "--format", "litert"


def imported_pecos(folder, disk, tool):
    return import_model, "pecos", DATA / "pecos_model", "--run", disk / "run"


def added_labels(folder, disk, tool):
    run, *prepared = _trained(folder)
    linear_runs.write_texts(folder / "new.jsonl", 40, 3, suffix=" new")
    more = ("--data", folder / "new.jsonl", *prepared)
    return add_labels, run, *more, "--output", disk / "run"


def label_tree(folder, disk, tool):
    config = linear_runs.write_config(folder)
    command = ["--config", str(config), "--prepared", str(folder / "prepared")]
    assert prepare.main(command) == 0
    (data,) = (path for path in (folder / "prepared").iterdir() if path.is_dir())
    return tree_command, "build", "--prepared-data", data, "--output", disk / "tree.npz"


class Estimator:
    """Saving a fitted classifier, as if it were a command."""

    def __init__(self, path):
        from tfxc import XCClassifier

        self._path, random = path, np.random.default_rng(0)
        x = random.normal(size=(60, 40)).astype(np.float32)
        self._model = XCClassifier(epochs=1).fit(x, np.arange(60) % 3)

    def main(self, _):
        self._model.save(self._path)
        return 0


def estimator(folder, disk, tool):
    return (Estimator(disk / "run"),)


# What a later command goes on with: it may stay, and is not temporary.
GOES_ON = {run_folder, repetitions, linear_ranker, xr_transformer, distilled, encoded, pruned}
# What is complete before the rest of a command is written.
EARLIER = {
    verified: ["roc.svg"],
    evaluated: ["a/evaluation-dev.json", "a/evaluation-dev.npz"],
}
KINDS = [
    prepared_records, prepared_feature_sets, run_folder, repetitions, linear_ranker,
    xr_transformer, distilled, pruned, imported_features, split_features, extracted_features,
    encoded, predicted, evaluated, reported, verified, saved_model, onnx, litert, imported_pecos,
    added_labels, label_tree, estimator,
]  # fmt: skip


def listing(disk):
    return sorted(str(path.relative_to(disk)) for path in disk.rglob("*"))


def machine_line(outcome):
    """The one line of an error of the machine."""
    assert "Traceback" not in outcome.err, outcome.err
    lines = [line for line in outcome.err.splitlines() if line.startswith("tfxc: ")]
    assert outcome.code == 1 and len(lines) == 1, (outcome.code, outcome.err)
    return lines[0]


def check_rest(kind, disk):
    """Nothing half-written is there; what a later command goes on with is under its own names."""
    left = listing(disk)
    if kind is encoded:
        assert set(left) <= {".v.npy.unfinished", ".v.npy.progress"}
    elif kind in GOES_ON:
        stages = [path for path in left if TEMPORARY.search(path)]
        known = re.compile(
            r"(ranker/\.layer-\d|level-\d+/\.concat)\.unfinished|\.(teacher_logits|embeddings)"
        )
        assert all(known.search(path) for path in stages), stages
    else:
        folders = [path for path in left if (disk / path).is_dir()]
        complete = EARLIER.get(kind, ())
        assert set(left) <= {*folders, *complete}, left
        assert not any(TEMPORARY.search(path) for path in left), left


# no file may be larger than half of the largest that is needed

FAST = [imported_features, split_features, encoded, predicted, verified, imported_pecos]


@pytest.mark.parametrize("kind", FAST, ids=lambda kind: kind.__name__)
def test_a_file_that_does_not_fit(tmp_path, tool, capsys, file_limit, kind):
    disk = tmp_path / "disk"
    disk.mkdir()
    command, *arguments = kind(tmp_path, disk, tool)
    assert call(capsys, command, *arguments).code == 0
    whole = listing(disk)
    largest = max(path.stat().st_size for path in disk.rglob("*") if path.is_file())
    shutil.rmtree(disk)
    disk.mkdir()
    file_limit(largest // 2)
    outcome = call(capsys, command, *arguments)
    file_limit(None)
    assert "cannot write: the file would be too large" in machine_line(outcome)
    check_rest(kind, disk)
    assert call(capsys, command, *arguments).code == 0
    assert listing(disk) == whole


def test_folders_are_copied_or_say_why_not(tmp_path, file_limit):
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "a").write_bytes(b"1" * 5000)
    copy_folder(source, tmp_path / "target")
    assert (tmp_path / "target" / "deep" / "a").read_bytes() == b"1" * 5000
    file_limit(1000)
    with pytest.raises(MachineError, match="too large"), write_errors(tmp_path):
        copy_folder(source, tmp_path / "other")


def test_weights_that_do_not_fit_do_not_end_the_process(tmp_path, file_limit):
    """HDF5 itself crashes where it cannot write when it closes its file."""
    import keras

    model = keras.Sequential([keras.Input((30,)), keras.layers.Dense(40), keras.layers.Dense(5)])
    path = tmp_path / "m.weights.h5"
    write_weights(model, path)
    size, values = path.stat().st_size, [value.copy() for value in model.get_weights()]
    for limit in range(0, size, size // 30):
        file_limit(limit)
        with pytest.raises(OSError, match="too large"):
            write_weights(model, path)
    file_limit(None)
    write_weights(model, path)
    model.set_weights([0 * value for value in values])
    model.load_weights(path)
    for value, found in zip(values, model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, value)


# the sweep


@pytest.fixture(scope="module")
def mounted(tmp_path_factory):
    """A file system of 64 MB."""
    path = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a file system is not permitted here")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@contextlib.contextmanager
def filled(disk, free):
    """Leaves so many bytes free."""
    ballast = disk.parent / f"{disk.name}-ballast"
    status = os.statvfs(disk)
    size, step = 0, status.f_bavail * status.f_frsize - free
    with open(ballast, "wb", buffering=0) as stream:
        while step >= status.f_frsize and size + step > 0:
            try:
                os.posix_fallocate(stream.fileno(), size, step)
            except OSError:  # what is reported as free is not always to be had to the last page
                step //= 2
            else:
                size, now = size + step, os.statvfs(disk)
                step = min(step, now.f_bavail * now.f_frsize - free)
    try:
        yield
    finally:
        ballast.unlink()


def used(disk):
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_degree_of_fullness(mounted, tmp_path, tool, capsys, kind):
    disk = mounted / kind.__name__
    disk.mkdir()
    command, *arguments = kind(tmp_path, disk, tool)
    before = used(mounted)
    outcome = call(capsys, command, *arguments)
    assert outcome.code == 0, outcome.err
    needed, whole = used(mounted) - before, listing(disk)
    assert needed and not any(TEMPORARY.search(path) for path in whole), whole
    shutil.rmtree(disk)
    failed = 0
    for share in (0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 0.98):
        disk.mkdir(exist_ok=True)
        with filled(disk, int(share * needed)):
            outcome = call(capsys, command, *arguments)
        if outcome.code:
            failed += 1
            assert "the disk is full" in machine_line(outcome)
            check_rest(kind, disk)
            if kind not in GOES_ON:
                shutil.rmtree(disk)
                disk.mkdir()
        else:
            assert share, "nothing can be written to a disk without any space"
            shutil.rmtree(disk)
    assert failed >= 3
    disk.mkdir(exist_ok=True)
    with filled(disk, 4096):
        call(capsys, command, *arguments)
    outcome = call(capsys, command, *arguments)
    assert outcome.code == 0, outcome.err
    without_times = [path for path in listing(disk) if "tfevents" not in path]
    assert without_times == [path for path in whole if "tfevents" not in path]
    shutil.rmtree(disk)
