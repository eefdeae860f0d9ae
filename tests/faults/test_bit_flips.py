"""One flipped bit in any file that is read: reported in one line that names it, or harmless.

Everything runs in this process, as the commands do; a flip is harmless where the result is the
same, bit for bit. ``pytest -m slow -s tests/faults/test_bit_flips.py`` prints the table.
"""

import collections
import contextlib
import hashlib
import io
import json
import shutil

import h5py
import numpy as np
import pytest

from tests import linear_runs, tiny
from tests.data.sources.examples import write_jsonl
from tests.data.store.feature_sets.examples import vectors, write_set
from tests.small_runs import config_tree
from tfxc.commands import evaluate, info, train
from tfxc.core import cli
from tfxc.core.storage import checksums
from tfxc.data.reading.inspection.completion import load_config
from tfxc.data.sources.shards import open_source
from tfxc.data.store.manifest import LABEL_COUNTS_FILE, LABELS_FILE, TEXT_FEATURES_FOLDER
from tfxc.data.store.preparation import ensure_prepared
from tfxc.data.text.registry import load_text_features
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.training.checkpoints import Checkpoints


class Stop(BaseException):
    """Stands for SIGKILL."""


class Part:
    """Some files, and a command that reads them.

    Args:
        folder: of the files.
        patterns: of their names in it.
        work: function of the folder; does what a user does and returns the result as bytes.
        changes: whether ``work`` changes the folder, so that it needs a copy.
    """

    def __init__(self, folder, patterns, work, changes=False):
        self.folder, self.work, self.changes = folder, work, changes
        found = {path for pattern in patterns for path in folder.glob(pattern)}
        self.files = sorted(path.relative_to(folder) for path in found if path.is_file())
        assert self.files, (folder, patterns)

    def outcome(self, flipped=None):
        """("done", result) or ("reported", line) of a folder as it is or with one flipped bit.

        Args:
            flipped: (file, byte, bit).
        """
        folder = self.folder
        if self.changes:
            folder = self.folder.with_name("flipped")
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(self.folder, folder)
        if flipped is None:
            return _called(lambda: self.work(folder))
        path, before = folder / flipped[0], (folder / flipped[0]).read_bytes()
        content = bytearray(before)
        content[flipped[1]] ^= 1 << flipped[2]
        path.write_bytes(content)
        try:
            return _called(lambda: self.work(folder))
        finally:
            if not self.changes:
                path.write_bytes(before)


def _called(work):
    """What a command has left; anything but a result or one line of a user error is raised."""
    result, shown = [], io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(shown):
        try:
            cli.run(lambda argv: result.append(work()))
        except SystemExit as end:
            code = end.code
    if code in (0, None):
        return "done", result[0]
    lines = [line for line in shown.getvalue().splitlines() if line.startswith("tfxc: ")]
    assert code == 2 and len(lines) == 1, (code, shown.getvalue())
    return "reported", lines[0]


def digest(*parts):
    """SHA-256 of files, folders, arrays and texts."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            total.update(f"{part.dtype} {part.shape}".encode() + part.tobytes())
        else:
            total.update(str(part).encode())
    return total.hexdigest()


def call(command, *arguments):
    """Calls a command; an exit code above 0 ends this one as well."""
    code = command.main([str(argument) for argument in arguments])
    if code:
        raise SystemExit(code)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Texts, and a run trained on them."""
    folder = tmp_path_factory.mktemp("flips")
    random = np.random.default_rng(0)
    for split, count in (("train", 60), ("dev", 20)):
        labels = [sorted(random.choice(9, 2, replace=False).tolist()) for _ in range(count)]
        texts = [" ".join(f"word{label} of{label}" for label in row) for row in labels]
        names = [[f"label {label}" for label in row] for row in labels]
        write_jsonl(folder / f"{split}.jsonl", zip(texts, names, strict=True))
    tree = config_tree(
        folder,
        {"name": "bag_mlp", "hidden": [8]},
        data={"text_features": {"name": "tfidf"}},
        objective={"name": "sigmoid"},
        training={"epochs": 2, "checkpoint_every": 2, "log_every": 2},
        evaluation={"k": [1, 3]},
    )
    (folder / "config.json").write_text(json.dumps(tree))
    call(train, *options(folder))
    return folder


def options(folder):
    return "--config", folder / "config.json", "--prepared", folder / "prepared"


def read_prepared(base):
    """All that a training takes from prepared data."""

    def work(root):
        folder = ensure_prepared(load_config(base / "config.json").data, root)
        parts = [LabelVocabulary.load(folder / LABELS_FILE).names]
        parts.append(np.load(folder / LABEL_COUNTS_FILE))
        if (folder / TEXT_FEATURES_FOLDER).is_dir():
            features = load_text_features(folder / TEXT_FEATURES_FOLDER)
            parts += [features.settings(), features.transform(["word1 word2", "of3 word8"]).data]
        for split in ("train", "dev"):
            for batch in open_source(folder, split).sequential(16):
                features = batch["features"]
                arrays = features.values() if isinstance(features, dict) else [features]
                parts += [*arrays, batch["labels"]]
        return digest(*parts)

    return work


def evaluated(base, run):
    """What ``evaluate`` finds."""
    output = run.with_name("output")
    call(
        evaluate,
        "--run",
        run,
        "--split",
        "dev",
        "--prepared",
        base / "prepared",
        "--output",
        output,
    )
    found = json.loads((output / "evaluation-dev.json").read_text())["metrics"]
    with np.load(output / "evaluation-dev.npz") as values:
        return digest(found, *(values[name] for name in sorted(values)))


def trained(base, run):
    """The weights that a training gives, gone on with in this folder."""
    call(train, *options(base), "--set", f"run={run}")
    parts = []
    with h5py.File(run / "model.weights.h5") as file:
        file.visititems(
            lambda name, item: parts.extend([name, item[()]]) if hasattr(item, "shape") else None
        )
    return digest(*parts)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The folder of a training that was killed after its second checkpoint."""
    base, save, steps = tmp_path_factory.mktemp("stopped"), Checkpoints.save, []
    tiny.write_config(base, training={"epochs": 1.5}, run=str(base / "stopped"))

    def dying(self, step, *progress):
        save(self, step, *progress)
        steps.append(step)
        if len(steps) == 2:
            raise Stop

    patch = pytest.MonkeyPatch()
    with patch.context() as context, pytest.raises(Stop):
        context.setattr(Checkpoints, "save", dying)
        call(train, *options(base))
    return base / "stopped"


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
    """A run of recipe ``xr_linear``."""
    folder = tmp_path_factory.mktemp("ranked")
    call(train, *linear_runs.command(folder))
    return folder


@pytest.fixture(scope="module")
def half_ranked(ranked):
    """The same, killed before its last layer was trained."""
    folder = ranked / "half"
    shutil.copytree(ranked / "run", folder)
    last = sorted((folder / "ranker").glob("layer-*"))[-1]
    shutil.rmtree(last)
    for name in ("summary.json", "ranker/param.json", "ranker/checksums.json"):
        (folder / name).unlink()
    checksums.record(folder, ["config.json", "tree.npz"])  # as behind the stage of the tree
    return folder


def ranked_again(ranked, run):
    """Tree and ranker of a training of layers, gone on with in this folder."""
    config = ("--config", ranked / "run.json", "--prepared", ranked / "prepared")
    call(train, *config, "--set", f"run={run}")
    found = linear_runs.ranker_files(run)
    return digest(*(item for name in sorted(found) for item in (name, found[name])))


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Feature sets as the data of a config, prepared."""
    folder = tmp_path_factory.mktemp("sets")
    names = {"label_names": list("abcdefg")}
    for split, count in (("train", 43), ("dev", 9)):
        write_set(folder / "sets" / split, vectors(count), **names)
    data = {"name": "sets", **{s: str(folder / "sets" / s) for s in ("train", "dev")}}
    tree = config_tree(folder, {"name": "precomputed"}, data=data)
    (folder / "config.json").write_text(json.dumps(tree))
    ensure_prepared(load_config(folder / "config.json").data, folder / "prepared")
    return folder


PARTS = {
    "prepared shards": 24,
    "prepared small files": 36,
    "text features": 20,
    "feature sets": 30,
    "run: config and assets": 40,
    "run: weights": 24,
    "run: summary and checksums": 12,
    "stopped run: checkpoints": 24,
    "stopped run: config and assets": 12,
    "rankers": 40,
    "tree and decision": 16,
    "stopped ranker": 20,
}


def part_of(name, request):
    """The ``Part`` of that name."""
    get = request.getfixturevalue
    if name == "feature sets":
        sets = get("sets")
        work = read_prepared(sets)
        return Part(sets / "sets", ["*/*"], lambda _: work(sets / "prepared"))
    if name.startswith("stopped run"):
        folder, checkpoints = get("stopped"), name.endswith("checkpoints")
        patterns = ["checkpoints/ckpt-*"] if checkpoints else ["config.json", "assets/**/*"]
        return Part(folder, patterns, lambda run: trained(folder.parent, run), True)
    base = get("ranked" if "ranke" in name or name.startswith("tree") else "base")
    if name.startswith(("prepared", "text")):
        files = {"shards": ["*/*.tfrecord"], "files": ["*/*.json", "*/*.txt", "*/*.npy"]}
        patterns = files.get(name.split()[-1], ["*/text_features/**/*"])
        return Part(base / "prepared", patterns, read_prepared(base))
    runs = {
        "run: config and assets": ["config.json", "assets/**/*"],
        "run: weights": ["model.weights.h5"],
        "run: summary and checksums": ["summary.json", "checksums.json"],
        "rankers": ["ranker/**/*"],
        "tree and decision": ["tree.npz", "decision.json"],
    }
    if name in runs:
        return Part(base / "run", runs[name], lambda run: evaluated(base, run))
    patterns = ["ranker/**/*", "tree.npz"]
    return Part(get("half_ranked"), patterns, lambda run: ranked_again(base, run), True)


def flips_of(part, count, seed):
    """(file, byte, bit), each file at least once where there are enough flips."""
    random, files = np.random.default_rng(seed), part.files
    order = [files[number] for number in random.permutation(len(files))]
    for number in range(count):
        file = order[number % len(order)]
        size = (part.folder / file).stat().st_size
        if size:
            yield file, int(random.integers(size)), int(random.integers(8))


def flip(name, part, count, seed):
    """Flips bits one after the other; returns how many were reported and how many were harmless."""
    kind, expected = part.outcome()
    assert kind == "done", expected
    found = collections.Counter()
    for flipped in flips_of(part, count, seed):
        kind, result = part.outcome(flipped)
        if kind == "done":
            assert result == expected, f"{name}: {flipped}: another result, without a word"
        else:
            names = {flipped[0].name, flipped[0].name.split(".")[0], flipped[0].parent.name}
            assert any(text in result for text in names if text), (flipped, result)
        found[kind] += 1
    return found


@pytest.mark.parametrize("name", PARTS)
def test_a_few_flips(name, request):
    flip(name, part_of(name, request), 2 if "stopped" in name else 4, seed=0)


@pytest.mark.slow
def test_many_flips(request):
    rows = [("files", "flips", "reported", "harmless")]
    for name, count in PARTS.items():
        found = flip(name, part_of(name, request), count, seed=1)
        rows.append((name, found.total(), found["reported"], found["done"]))
    totals = [sum(row[column] for row in rows[1:]) for column in (1, 2, 3)]
    for row in [*rows, ("all", *totals)]:
        print(f"{row[0]:32}" + "".join(f"{value:>10}" for value in row[1:]))
    assert totals[0] >= 200


def test_what_is_too_large_to_hash_is_verified_on_demand(ranked, tmp_path, monkeypatch):
    """Beyond the limit, opening compares sizes only; info --verify and export compare it all."""
    monkeypatch.setattr(checksums, "_HASHED_BYTES", 0)
    run = tmp_path / "run"
    shutil.copytree(ranked / "run", run)
    verify = lambda _: call(info, "--run", run, "--verify")  # noqa: E731
    assert _called(lambda: verify(None))[0] == "done"
    path = run / "ranker" / "layer-1" / "values.npy"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    evaluated(ranked, run)
    for command in ("info", "export"):
        module = (
            info if command == "info" else __import__("tfxc.commands.export", fromlist=["main"])
        )
        more = ("--verify",) if command == "info" else ("--output", tmp_path / "out")
        kind, line = _called(lambda module=module, more=more: call(module, "--run", run, *more))
        assert kind == "reported" and f"{path}: changed or damaged" in line
    assert not (tmp_path / "out").exists()
