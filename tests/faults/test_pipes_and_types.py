"""Files of the wrong kind in the right place: pipes, on which reading waits, and other types."""

import hashlib
import json
import os

import numpy as np
import pytest

from tests.faults.test_damaged_files import outcome_of, run_arguments
from tests.small_runs import make_run
from tfxc.core.errors import DataError, UserError
from tfxc.core.storage import checksums
from tfxc.core.storage.ownership import MARKER, check_own
from tfxc.data.manifest import Manifest
from tfxc.data.row_writer import read_progress, unfinished_files
from tfxc.labels.propensity import checked_counts
from tfxc.runs.folder import RunFolder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run; its texts lie next to it."""
    folder = tmp_path_factory.mktemp("pipes")
    path = make_run(folder / "run", text_features={"name": "tfidf", "min_df": 1})
    (folder / "texts.txt").write_text("soup\ntea\n")
    RunFolder(path).write_summary({"dev": {"P@1": 0.5}, "steps": 7, "seconds": 1.5})
    return path


@pytest.fixture
def changed(run):
    """Function (file, content) that replaces a file of the run for the length of a test."""
    before = {path: path.read_bytes() for path in run.rglob("*.json")}

    def change(name, content):
        path, record = run / name, run / "checksums.json"
        path.unlink()
        if content is None:
            os.mkfifo(path)
            return
        path.write_text(content)
        listing = json.loads(record.read_text())
        entry = {"bytes": len(content), "sha256": hashlib.sha256(content.encode()).hexdigest()}
        listing["files"][name] = entry
        text = json.dumps(listing["files"], sort_keys=True).encode()
        record.write_text(json.dumps({**listing, "sha256": hashlib.sha256(text).hexdigest()}))

    yield change
    for path, content in before.items():
        path.unlink(missing_ok=True)
        path.write_bytes(content)


@pytest.mark.parametrize(
    "name", ["checksums.json", "summary.json", "config.json", "assets/manifest.json"]
)
def test_a_pipe_in_place_of_a_file_of_a_run(run, changed, capsys, name):
    changed(name, None)
    code, line = outcome_of(capsys, *run_arguments("info", run))
    assert code == 2 and name.split("/")[-1] in line


MANIFEST = [
    ("feature_kind", None), ("feature_kind", []), ("num_features", "x"), ("num_features", -1),
    ("num_labels", 10**30), ("num_labels", 0.5), ("vocabulary_size", "x"), ("splits", {}),
    ("splits", []), ("text_features", 3), ("image_shape", [1]),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), MANIFEST)
def test_a_manifest_with_another_type(run, changed, capsys, key, value):
    content = json.loads((run / "assets/manifest.json").read_text())
    changed("assets/manifest.json", json.dumps({**content, key: value}))
    for command in ("predict", "info"):
        code, line = outcome_of(capsys, *run_arguments(command, run))
        assert code == 2 and "manifest.json: " in line


SUMMARY = [
    ("steps", "x"), ("steps", None), ("seconds", []), ("dev", []), ("dev", {"P@1": "x"}),
    ("dev", None), ("best_step", -1),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), SUMMARY)
def test_a_summary_with_another_type(run, changed, capsys, key, value):
    content = json.loads((run / "summary.json").read_text())
    changed("summary.json", json.dumps({**content, key: value}))
    code, line = outcome_of(capsys, *run_arguments("info", run))
    assert code == 2 and f"summary.json: damaged, or of another version: {key}" in line


@pytest.mark.parametrize(
    "files",
    [[], {"a": 3}, {"a": {}}, {"a": {"bytes": "x", "sha256": "y"}}, {"../a": {"bytes": 1,
     "sha256": "y"}}, {"/etc/passwd": {"bytes": 1, "sha256": "y"}}],
)  # fmt: skip
def test_a_checksum_file_with_another_content(tmp_path, files):
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    content = {"format": 1, "files": files, "sha256": digest}
    (tmp_path / "checksums.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"checksums.json: the checksum file is damaged"):
        checksums.check(tmp_path, "copy it again")


def test_pipes_elsewhere_do_not_wait(tmp_path):
    os.mkfifo(unfinished_files(tmp_path / "rows.npy")[1])
    assert read_progress(tmp_path / "rows.npy") == (None, None)
    os.mkfifo(tmp_path / MARKER)
    with pytest.raises(UserError, match="found other files"):
        check_own(tmp_path, "run")
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(DataError, match="found a named pipe"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("counts", [["x"], [np.nan], [[1]], np.zeros(2, [("a", "i4")])])
def test_counts_that_are_none(counts):
    with pytest.raises(UserError, match="label_counts: "):
        checked_counts(counts)
