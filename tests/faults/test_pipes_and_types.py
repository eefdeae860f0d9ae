"""Files of the wrong kind in the right place: pipes, on which reading waits, and other types."""

import contextlib
import hashlib
import io
import json
import os
import zipfile

import numpy as np
import pytest

from tests.encoders.hub_folders import write_folder
from tests.faults.test_damaged_files import outcome_of, run_arguments
from tests.small_runs import make_run
from tfxc.core.errors import DataError, UserError
from tfxc.core.storage import checksums
from tfxc.core.storage.ownership import MARKER, check_own
from tfxc.data.reading.parsing.row_file import read_progress, unfinished_files
from tfxc.data.store.manifest import Manifest
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.labels.propensity import checked_counts
from tfxc.pretrained.tokenizer_files import read_subwords
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


def test_a_config_without_a_network(run, changed, capsys):
    content = json.loads((run / "config.json").read_text())
    changed("config.json", json.dumps({**content, "encoder": None}))
    code, line = outcome_of(capsys, *run_arguments("predict", run))
    assert code == 2 and "config.json: it has no 'encoder'" in line


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
    with pytest.raises(UserError, match="contains other files"):
        check_own(tmp_path, "run")
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(DataError, match="is a named pipe"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("counts", [["x"], [np.nan], [[1]], np.zeros(2, [("a", "i4")])])
def test_counts_that_are_none(counts):
    with pytest.raises(UserError, match="label_counts: "):
        checked_counts(counts)


@pytest.mark.parametrize("member", ["kind", "sizes", "parents_0"])
def test_a_tree_whose_arrays_are_none_or_claim_gigabytes(tmp_path, monkeypatch, member):
    path = tmp_path / "tree.npz"
    ClusterTree([np.zeros(3, int), np.arange(9) // 3]).save(path)
    with zipfile.ZipFile(path) as archive:
        arrays = {name: archive.read(name) for name in archive.namelist()}
    claimed = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)}
    np.lib.format.write_array_header_1_0(claimed, header)
    for content in (b"", b"no array", claimed.getvalue()):
        with zipfile.ZipFile(path, "w") as archive:
            for name, array in arrays.items():
                archive.writestr(name, content if name == f"{member}.npy" else array)
        with pytest.raises(DataError, match=r"tree\.npz: "):
            ClusterTree.load(path)
    monkeypatch.setattr("tfxc.core.resources.available_bytes", lambda: 1000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{member}.npy", bytes(1 << 20))
    with pytest.raises(UserError, match=r"tree\.npz: "):
        ClusterTree.load(path)


VOCABULARIES = {
    "config.json": ['{"model_type": []}', '{"model_type": "bert", "pad_token_id": "x"}'],
    "vocab.txt": ["a\nb\na\n[UNK]\n"],
    "tokenizer_config.json": ["[]", '{"tokenizer_class": 3}', '{"do_lower_case": {}}'],
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_tokenisers_of_another_kind(tmp_path, name):
    write_folder(tmp_path)
    for content in VOCABULARIES[name]:
        (tmp_path / name).write_text(content)
        with contextlib.suppress(UserError):
            read_subwords(tmp_path)
    bpe = {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    for model in (bpe, {**bpe, "vocab": [1]}, {**bpe, "merges": 3}, {"type": "BPE"}, []):
        (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model}))
        with pytest.raises(UserError):
            read_subwords(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "xlm-roberta"}')
    unigram = {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 0}
    for model in ({**unigram, "vocab": 3}, {**unigram, "vocab": [3]}, {"type": "Unigram"}):
        (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model}))
        with pytest.raises(UserError):
            read_subwords(tmp_path)
