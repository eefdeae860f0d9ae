"""Every file that a command reads, damaged in every way: one clear line, never a traceback.

A file is removed, emptied, cut in half, overwritten, replaced by a folder, by a link to itself and
by a file that cannot be read (reading /proc/self/mem fails as a broken disk does, for root too).
"""

import contextlib
import json
import os
import shutil

import numpy as np
import pytest
import scipy.sparse

from tests import linear_runs, small_runs, tiny
from tests.commands.calls import call
from tests.data.reading.formats.recordio_writer import image_record, write_records
from tfxc.commands import evaluate, export, info, predict, prepare, report, train, verify
from tfxc.core import cli
from tfxc.data.store.feature_sets.writer import FeatureWriter
from tfxc.runs.folder import RunFolder

GARBAGE = bytes(range(256)) * 4


def remove(path):
    pass


def make_empty(path):
    path.touch()


def overwrite(path):
    path.write_bytes(GARBAGE)


def replace_by_folder(path):
    path.mkdir()


def replace_by_loop(path):
    path.symlink_to(path.name)


def make_unreadable(path):
    path.symlink_to("/proc/self/mem")


DAMAGES = {
    "missing": remove,
    "empty": make_empty,
    "truncated": None,
    "garbage": overwrite,
    "a folder": replace_by_folder,
    "a loop": replace_by_loop,
    "unreadable": make_unreadable,
}


# What opening a file finds, whoever reads it: the files of a run and a config are enough.
RARE = ("empty", "a loop", "unreadable")
SOME = [pytest.param(name, marks=pytest.mark.slow if name in RARE else ()) for name in DAMAGES]


@contextlib.contextmanager
def damaged(path, name):
    """Damages a file, and puts it back afterwards."""
    kept = path.with_name(f"{path.name}.kept")
    path.rename(kept)
    try:
        if name == "truncated":
            content = kept.read_bytes()
            path.write_bytes(content[: len(content) // 2])
        else:
            DAMAGES[name](path)
        yield
    finally:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        kept.rename(path)


def outcome_of(capsys, command, arguments):
    """Exit code and the one line of the problem; None where the command succeeds."""
    found = call(capsys, command, *arguments)
    lines = [line for line in found.err.splitlines() if line.startswith("tfxc: ")]
    assert "Traceback" not in found.err
    if found.code == 0:
        return None
    assert found.code in (1, 2), (found.code, found.err)
    assert len(lines) == 1 and found.err.splitlines()[-1] == lines[0], found.err
    assert len(lines[0]) < 1100
    return found.code, lines[0]


def check(capsys, path, name, command, arguments, spared=()):
    """Damages a file; the command has to name it, or succeed where the damage is spared."""
    with damaged(path, name):
        found = outcome_of(capsys, command, arguments)
    if name in spared:
        return
    assert found is not None, f"{path.name}, {name}: nobody noticed"
    code, line = found
    # Of a folder that is read as a whole (a run, a SavedModel) the message may name the folder.
    assert any(str(place) in line for place in (path.name, path.parent, path.parent.parent)), line
    if name in ("missing", "garbage", "a folder", "a loop"):
        assert code == 2, line


# ---------------------------------------------------------------------------------------------
# A run of a network


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on texts, and a file to predict and one to evaluate."""
    folder = tmp_path_factory.mktemp("network")
    path = small_runs.make_run(folder / "run", text_features={"name": "tfidf", "min_df": 1})
    lines = [json.dumps({"step": step, "epoch": step, "loss": 1.0}) for step in range(9)]
    (path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "texts.txt").write_text("soup\ntea\n")
    rows = [{"text": text, "labels": ["soup", "tea"]} for text in small_runs.TEXTS]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# File, command and the damages that leave it usable.
ANY = tuple(DAMAGES)
NETWORK = {
    "config.json": ("predict", ()),
    "assets/manifest.json": ("predict", ()),
    "assets/labels.txt": ("predict", ()),
    "assets/text_features/features.json": ("predict", ()),
    "assets/text_features/vocabulary.txt": ("predict", ()),
    "assets/text_features/idf.npy": ("predict", ()),
    "model.weights.h5": ("predict", ()),
    "assets/label_counts.npy": ("evaluate", ("missing",)),
    "metrics.jsonl": ("report", ("missing", "empty", "truncated")),
}


def run_arguments(command, run):
    folder = run.parent
    return {
        "predict": (predict, ["--run", run, folder / "texts.txt", "--k", 1]),
        "evaluate": (evaluate, ["--run", run, "--data", folder / "rows.jsonl"]),
        "report": (report, ["--run", run, "--data", folder / "rows.jsonl"]),
        "info": (info, ["--run", run]),
    }[command]


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("file", NETWORK)
def test_files_of_a_run(run, capsys, file, name):
    command, spared = NETWORK[file]
    check(capsys, run / file, name, *run_arguments(command, run), spared)


@pytest.fixture(scope="module")
def finished_run(run):
    """The same with a summary and checksums, as a training leaves it."""
    folder = run.parent / "finished"
    shutil.copytree(run.parent, folder)
    summary = {"dev": {"P@1": 0.5}, "steps": 7, "seconds": 1.5}
    RunFolder(folder / "run").write_summary(summary)
    return folder / "run"


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("file", [*NETWORK, "summary.json", "checksums.json"])
def test_files_of_a_finished_run(finished_run, capsys, file, name):
    command, _ = NETWORK.get(file, ("info", ()))
    # A log belongs to no checksum, and without a summary the run is not finished.
    spared = {"metrics.jsonl": ("missing", "empty", "truncated"), "summary.json": ("missing",)}
    check(
        capsys,
        finished_run / file,
        name,
        *run_arguments(command, finished_run),
        spared.get(file, ()),
    )


@pytest.mark.parametrize("command", ["predict", "evaluate", "report", "info"])
def test_the_undamaged_run_works(run, capsys, command):
    assert outcome_of(capsys, *run_arguments(command, run)) is None


@pytest.mark.parametrize("file", ["assets/manifest.json", "config.json"])
def test_files_of_a_run_with_other_json(run, capsys, file):
    path = run / file
    before = path.read_bytes()
    try:
        for content in ("[]", "3", "{}", '{"num_labels": "x"}', "[" * 100_000, "\ufeff{}"):
            path.write_text(content)
            code, line = outcome_of(capsys, *run_arguments("predict", run))
            assert code == 2 and path.name in line
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("file", ["assets/labels.txt", "assets/label_counts.npy"])
def test_files_of_another_run(run, capsys, file):
    path = run / file
    before = path.read_bytes()
    try:
        if path.suffix == ".npy":
            np.save(path, np.ones(3, np.int64))
        else:
            path.write_text("a\nb\nc\n")
        code, line = outcome_of(capsys, *run_arguments("evaluate", run))
        assert code == 2 and str(path) in line and "has 12 labels" in line
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("file", ["texts.txt", "rows.jsonl"])
def test_files_to_answer(run, capsys, file, name):
    spared = ("empty", "truncated") if file == "texts.txt" else ()
    command = "predict" if file == "texts.txt" else "evaluate"
    check(capsys, run.parent / file, name, *run_arguments(command, run), spared)


# ---------------------------------------------------------------------------------------------
# A run of a linear ranker


@pytest.fixture(scope="module")
def linear_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("linear")
    arguments = [str(part) for part in linear_runs.command(folder)]
    with pytest.raises(SystemExit) as ended:
        cli.run(train.main, arguments)
    assert not ended.value.code
    (folder / "texts.txt").write_text("w1a w1b\nw2a\n")
    return folder / "run"


LINEAR = ["ranker/param.json", "tree.npz", "decision.json"]
LINEAR += [
    f"ranker/layer-1/{name}.npy"
    for name in ("rows", "row_splits", "entry_splits", "columns", "values", "children")
]


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("file", LINEAR)
def test_files_of_a_linear_run(linear_run, capsys, file, name):
    path = linear_run / file
    command = ["--run", linear_run, linear_run.parent / "texts.txt", "--k", 1]
    command += ["--probabilities"] if file.startswith("decision") else []
    spared = ANY if file == "tree.npz" else ()  # the layers hold the tree's shape
    spared += ("missing",) if file.startswith("decision") else ()
    check(capsys, path, name, predict, command, spared)


# ---------------------------------------------------------------------------------------------
# Prepared folders and feature sets


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The command of a tiny training, its records prepared."""
    folder = tmp_path_factory.mktemp("prepared")
    arguments = ["--config", str(tiny.write_config(folder)), "--prepared", str(folder / "p")]
    with pytest.raises(SystemExit) as ended:
        cli.run(prepare.main, arguments)
    assert not ended.value.code
    (found,) = (folder / "p").iterdir()
    return found, arguments


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("file", ["manifest.json", "train*", "labels.txt", "label_counts.npy"])
def test_files_of_a_prepared_folder(prepared, capsys, file, name):
    folder, arguments = prepared
    (path,) = folder.glob(file)
    check(capsys, path, name, train, arguments)
    assert not (folder.parent.parent / "run").exists()


@pytest.fixture(scope="module")
def feature_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    names = [f"class {number}" for number in range(5)]
    labels = np.arange(40) % 5
    with FeatureWriter(
        folder / "set", labels=labels, num_features=3, num_labels=5, label_names=names
    ) as writer:
        writer.write(0, np.ones((40, 3), np.float32))
    return folder / "set"


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("file", ["features.npy", "labels.npy", "features.json", "labels.txt"])
def test_files_of_a_feature_set(feature_set, tmp_path, capsys, file, name):
    data = {"name": "set", "train": str(feature_set), "dev": None, "normalise": None}
    # Without names the labels are numbers; a shorter list of names is another one.
    spared = ("missing",) if file == "labels.txt" else ()
    check(capsys, feature_set / file, name, prepare, prepare_of(tmp_path, data), spared)


def prepare_of(folder, data):
    path = folder / "prepare.json"
    tree = tiny.tiny_tree(folder)
    path.write_text(json.dumps({**tree, "data": data}))
    return ["--config", path, "--prepared", folder / "prepared"]


# ---------------------------------------------------------------------------------------------
# Data files of every format


def write_jpeg(path):
    from PIL import Image

    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(path)


def xc_file(folder):
    tiny.write_split(folder / "train.txt", 40, 0)
    return folder / "train.txt", [folder / "train.txt"], {}


def compressed_file(folder):
    import lzma

    tiny.write_split(folder / "plain.txt", 40, 0)
    path = folder / "train.txt.xz"
    path.write_bytes(lzma.compress((folder / "plain.txt").read_bytes()))
    return path, [path], {}


def svmlight_file(folder):
    path = folder / "train.svm"
    path.write_text("1,2 1:0.5 3:1\n0 2:1\n" * 20)
    return path, [path], {}


TEXTS = {"text_features": {"name": "tfidf", "min_df": 1}}


def json_file(folder):
    path = folder / "train.jsonl"
    path.write_text('{"text": "one two", "labels": ["a"]}\n' * 21)
    return path, [path], TEXTS


def csv_file(folder):
    path = folder / "train.csv"
    path.write_text("text,labels\n" + "one two,a\n" * 20 + '"one, two",b\n')
    return path, [path], TEXTS


def dense_file(folder):
    path = folder / "train.npz"
    np.savez(path, features=np.ones((40, 3)), labels=np.arange(40) % 4)
    return path, [path], {}


def pecos_folder(folder):
    path = folder / "pecos"
    path.mkdir()
    matrix = scipy.sparse.random(40, 9, 0.4, "csr", np.float32, rng=0)
    scipy.sparse.save_npz(path / "X.trn.npz", matrix)
    scipy.sparse.save_npz(path / "Y.trn.npz", scipy.sparse.eye(40, 6, format="csr"))
    (path / "Y.txt").write_text("".join(f"label {number}\n" for number in range(6)))
    return path, [path / "X.trn.npz", path / "Y.trn.npz", path / "Y.txt"], {}


def pecos_texts(folder):
    path, (_, labels, names), _ = pecos_folder(folder)
    (path / "X.trn.npz").unlink()
    (path / "X.trn.txt").write_text("one two\n" * 40)
    return path, [path / "X.trn.txt", labels, names], TEXTS


def image_folder(folder):
    path = folder / "images"
    for name in ("a", "b"):
        (path / name).mkdir(parents=True)
        for number in range(2):
            write_jpeg(path / name / f"{number}.jpg")
    return path, [path / "a/0.jpg"], {}


def image_arrays(folder):
    path = folder / "images.npz"
    np.savez(path, images=np.zeros((9, 4, 4, 3), np.uint8), labels=np.arange(9) % 2)
    return path, [path], {}


def record_file(folder):
    write_jpeg(folder / "a.jpg")
    path = folder / "train.rec"
    image = (folder / "a.jpg").read_bytes()
    write_records(path, [image_record(float(number % 2), image) for number in range(4)])
    return path, [path, path.with_suffix(".idx")], {}


def tar_file(folder):
    import io
    import tarfile

    write_jpeg(folder / "a.jpg")
    path = folder / "train.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(3):
            for suffix, content in (("jpg", (folder / "a.jpg").read_bytes()), ("cls", b"1")):
                member = tarfile.TarInfo(f"{number}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path, [path], {}


def label_names(folder):
    path, _, _ = svmlight_file(folder)
    (folder / "names.txt").write_text("a\nb\nc\n")
    return path, [folder / "names.txt"], {"label_names": str(folder / "names.txt")}


FORMATS = {
    xc_file: (), compressed_file: (), svmlight_file: ("truncated",), json_file: ("truncated",),
    csv_file: ("truncated",), dense_file: (), pecos_folder: (), pecos_texts: (),
    image_folder: ("missing", "a folder"), image_arrays: (), record_file: (),
    tar_file: ("truncated",),
    label_names: (),
}  # fmt: skip
# A file that is cut at the end of a line, or whose index is gone, is a whole file.
CASES = [
    pytest.param(write, name, marks=pytest.mark.slow if name in RARE else ())
    for write in FORMATS
    for name in DAMAGES
]


@pytest.mark.parametrize(("write", "name"), CASES)
def test_data_files(tmp_path, capsys, write, name):
    train_path, files, more = write(tmp_path)
    data = {"name": "set", "train": str(train_path), **more}
    arguments = prepare_of(tmp_path, data)
    for path in files:
        spared = (*FORMATS[write], *(("missing",) if path.suffix in (".idx", "") else ()))
        spared += ("missing",) if path.name == "Y.txt" else ()
        check(capsys, path, name, prepare, arguments, spared)
        shutil.rmtree(tmp_path / "prepared", ignore_errors=True)
    assert outcome_of(capsys, prepare, arguments) is None


@pytest.mark.parametrize("name", DAMAGES)
def test_a_config(tmp_path, capsys, name):
    path = tiny.write_config(tmp_path)
    check(capsys, path, name, train, ["--config", path, "--print-config"])
    extending = tmp_path / "extending.json"
    extending.write_text('{"extends": "config.json"}')
    check(capsys, path, name, train, ["--config", extending, "--print-config"])


# ---------------------------------------------------------------------------------------------
# Exports and verification


@pytest.fixture(scope="module")
def exported(run):
    folder = run.parent / "exported"
    with pytest.raises(SystemExit) as ended:
        cli.run(export.main, ["--run", str(run), "--output", str(folder), "--k", "2"])
    assert not ended.value.code
    return folder


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("file", ["saved_model.pb", "variables/variables.index"])
def test_files_of_an_export(run, exported, capsys, file, name):
    arguments = ["--model", exported, run.parent / "texts.txt"]
    check(capsys, exported / file, name, predict, arguments)


def test_a_changed_bit_in_an_export(run, exported, capsys):
    files = [path for path in exported.rglob("*") if path.is_file() and path.name[0] != "."]
    for path in files:
        before = path.read_bytes()
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        arguments = ["--model", exported, run.parent / "texts.txt"]
        assert outcome_of(capsys, predict, arguments)[0] == 2, path
        path.write_bytes(before)


@pytest.mark.parametrize("make", ["missing", "file", "folder", "SavedModel of something else"])
def test_a_model_that_is_none(run, tmp_path, capsys, make):
    import tensorflow as tf

    path = tmp_path / "model"
    if make == "file":
        path.write_bytes(GARBAGE)
    elif make == "folder":
        path.mkdir()
    elif make != "missing":
        tf.saved_model.save(tf.Module(), str(path))
    code, line = outcome_of(capsys, predict, ["--model", path, run.parent / "texts.txt"])
    assert code == 2 and str(path) in line


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("file", ["vectors.npy", "vectors.npz", "pairs.txt"])
def test_files_of_verification(tmp_path, capsys, file, name):
    vectors = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    names = np.array([f"n{number}" for number in range(8)])
    np.save(tmp_path / "vectors.npy", vectors)
    np.savez(tmp_path / "vectors.npz", embeddings=vectors, names=names)
    lines = [f"n{a} n{b} {int(a % 2 == b % 2)}" for a in range(8) for b in range(a)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "numbers.txt").write_text("\n".join(lines).replace("n", "") + "\n")
    npy = file.endswith(".npy")
    embeddings = tmp_path / ("vectors.npy" if npy else "vectors.npz")
    pairs = tmp_path / ("numbers.txt" if npy else "pairs.txt")
    arguments = ["--embeddings", embeddings, "--pairs", pairs]
    spared = ("truncated",) if file == "pairs.txt" else ()
    check(capsys, tmp_path / file, name, verify, arguments, spared)


# ---------------------------------------------------------------------------------------------
# What is no file at all


def test_a_pipe_among_images_does_not_hang(tmp_path, capsys):
    path, _, _ = image_folder(tmp_path)
    os.mkfifo(path / "a/2.jpg")
    arguments = prepare_of(tmp_path, {"name": "set", "train": str(path)})
    code, line = outcome_of(capsys, prepare, arguments)
    assert code == 2 and str(path / "a/2.jpg") in line and "named pipe" in line


@pytest.mark.parametrize("suffix", [".jsonl", ".svm", ".npz", ".tar", ".rec"])
def test_a_pipe_as_data_does_not_hang(tmp_path, capsys, suffix):
    path = tmp_path / f"train{suffix}"
    os.mkfifo(path)
    arguments = prepare_of(tmp_path, {"name": "set", "train": str(path)})
    code, line = outcome_of(capsys, prepare, arguments)
    assert code == 2 and str(path) in line


def test_a_folder_of_images_that_leads_to_itself(tmp_path, capsys):
    path, _, _ = image_folder(tmp_path)
    (path / "a/deeper").symlink_to(path / "a")
    arguments = prepare_of(tmp_path, {"name": "set", "train": str(path)})
    code, line = outcome_of(capsys, prepare, arguments)
    assert code == 2 and str(path / "a") in line and "points back" in line


def test_a_file_name_that_is_no_text(tmp_path, capsys):
    path, _, _ = image_folder(tmp_path)
    source = path / "a/0.jpg"
    os.rename(os.fsencode(source), os.fsencode(path / "a") + b"/\xff\xfe.jpg")
    arguments = prepare_of(tmp_path, {"name": "set", "train": str(path)})
    assert outcome_of(capsys, prepare, arguments) is None
    with open(os.fsencode(path / "b") + b"/\xff.jpg", "wb") as stream:
        stream.write(GARBAGE)
    shutil.rmtree(tmp_path / "prepared")
    code, line = outcome_of(capsys, prepare, arguments)
    assert code == 2 and "\\udcff.jpg" in line


def test_a_class_name_that_is_no_text(tmp_path, capsys):
    path, _, _ = image_folder(tmp_path)
    os.rename(os.fsencode(path / "a"), os.fsencode(path) + b"/\xff")
    arguments = prepare_of(tmp_path, {"name": "set", "train": str(path)})
    code, line = outcome_of(capsys, prepare, arguments)
    assert code == 2 and "label name" in line


def test_row_bounds_that_fall(tmp_path, capsys):
    path, (features, labels, _), _ = pecos_folder(tmp_path)
    arguments = prepare_of(tmp_path, {"name": "set", "train": str(path)})
    for file in (features, labels):
        before = file.read_bytes()
        with np.load(file) as content:
            arrays = dict(content)
        arrays["indptr"] = arrays["indptr"].copy()
        arrays["indptr"][4] = arrays["indptr"][3] - 1
        np.savez(file, **arrays)
        code, line = outcome_of(capsys, prepare, arguments)
        assert code == 2 and str(file) in line
        file.write_bytes(before)
