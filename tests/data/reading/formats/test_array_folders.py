"""Sparse matrices in folders of their arrays, of which any rows are read without the rest."""

import shutil
import zipfile

import numpy as np
import pytest
import scipy.sparse

from tests.commands.calls import call
from tests.contracts.formats import concatenated
from tests.data.sources.examples import files_of
from tests.small_runs import make_run
from tfxc.commands import predict
from tfxc.core.config import DataSettings
from tfxc.core.errors import DataError
from tfxc.data.reading.formats import detect_format, open_reader, open_unlabelled
from tfxc.data.reading.formats import pecos as pecos_format
from tfxc.data.reading.parsing import feature_file
from tfxc.data.reading.parsing.sparse_file import ArrayFolder
from tfxc.data.store.preparation import prepare


def matrices(rows=150):
    """Features (rows, 20) and labels (rows, 12), CSR."""
    random = np.random.default_rng(0)
    features = scipy.sparse.random(rows, 20, 0.2, "csr", np.float32, random)
    labels = scipy.sparse.random(rows, 12, 0.1, "csr", np.float32, random)
    labels.data[::7] = 0  # no label
    return features, labels


@pytest.fixture
def folder(tmp_path):
    """A PECOS folder with ``.npz`` files in ``packed``, and one of folders in ``unpacked``."""
    for split, rows in (("trn", 150), ("tst", 40)):
        for name, matrix in zip("XY", matrices(rows), strict=True):
            path = tmp_path / "packed" / f"{name}.{split}.npz"
            path.parent.mkdir(exist_ok=True)
            scipy.sparse.save_npz(path, matrix, compressed=name == "X")
            with zipfile.ZipFile(path) as archive:
                archive.extractall(tmp_path / "unpacked" / f"{name}.{split}")
    return tmp_path


@pytest.fixture
def never_whole(monkeypatch):
    def refuse(path):
        raise AssertionError(f"{path} is read as a whole")

    monkeypatch.setattr(feature_file, "load_sparse", refuse)
    monkeypatch.setattr(pecos_format, "load_sparse", refuse)


@pytest.mark.parametrize("with_shape", [True, False])
def test_rows_of_a_folder(folder, with_shape):
    features, _ = matrices()
    path = folder / "unpacked" / "X.trn"
    if not with_shape:  # nor the form
        (path / "shape.npy").unlink()
        (path / "format.npy").unlink()
    found = ArrayFolder(path)
    assert found.shape == features.shape
    for start, stop in ((0, 150), (7, 8), (140, 200), (3, 3)):
        rows, expected = found.rows(start, stop), features[start:stop]
        assert rows.shape == expected.shape and (rows != expected).nnz == 0


def test_a_set_of_folders_is_the_set(folder, never_whole):
    reader = open_reader(folder / "unpacked")
    chunk, (features, labels) = concatenated(reader.chunks(40)), matrices()
    assert (reader.num_examples, reader.num_features, reader.num_labels) == (150, 20, 12)
    assert (chunk.features != features).nnz == 0
    labels.eliminate_zeros()
    expected = np.split(labels.indices, labels.indptr[1:-1])
    assert [sorted(row) for row in chunk.labels] == [row.tolist() for row in expected]
    assert detect_format(folder / "unpacked") == "pecos"
    assert pecos_format.PecosFolder.splits_of(folder / "unpacked") == ["trn", "tst"]


def test_preparation_is_the_same_and_maps(folder, never_whole):
    written = []
    for name in ("packed", "unpacked"):
        path = str(folder / name)
        splits = {"test": {"split": "tst"}}
        settings = DataSettings(name="x", train=path, test=path, split_options=splits)
        prepare(settings, folder / f"prepared-{name}", jobs=1)
        found = files_of(folder / f"prepared-{name}")
        skipped = ("manifest.json", "checksums.json", "sources.json")
        written.append({key: value for key, value in found.items() if key not in skipped})
    assert written[0] == written[1] and any("train" in name for name in written[0])


def test_predictions_of_features_in_a_folder(folder, capsys):
    run, answers = make_run(folder / "run"), []
    for name in ("packed/X.tst.npz", "unpacked/X.tst"):
        assert detect_format(folder / name, "sparse") == "matrix_file"
        outcome = call(capsys, predict, "--run", run, folder / name, "--k", 2)
        assert outcome.code == 0, outcome.err
        answers.append(outcome.out)
    assert answers[0] == answers[1] and len(answers[0].splitlines()) == 40


def without(name):
    return lambda path: (path / name).unlink()


def with_array(name, change):
    def apply(path):
        np.save(path / name, change(np.load(path / name)))

    return apply


@pytest.mark.parametrize(
    ("damage", "where", "problem"),
    [
        (without("indptr.npy"), "X.trn/indptr.npy", "no such file"),
        (with_array("indptr.npy", lambda a: a[:-1]), "X.trn", "150 bounds of rows instead of 151"),
        (with_array("indptr.npy", lambda a: a[:0]), "X.trn", "no bounds"),
        (
            with_array("indptr.npy", lambda a: a[::-1]),
            "X.trn",
            "bounds of rows 1 to 150 do not ascend",
        ),
        (with_array("indices.npy", lambda a: a + 20), "X.trn", "the column 39 is not below 20"),
        (with_array("indices.npy", lambda a: a[1:]), "X.trn", "599 indices, but 600 values"),
        (with_array("shape.npy", lambda a: a[:1]), "X.trn", "instead of two sizes"),
        (with_array("format.npy", lambda a: np.array(b"csc")), "X.trn", "instead of CSR"),
        (with_array("data.npy", lambda a: a.reshape(-1, 1)), "data.npy", "instead of numbers"),
        (lambda path: (path / "data.npy").write_bytes(b"none"), "data.npy", "not a .npy file"),
        (
            lambda path: (path / "data.npy").write_bytes((path / "data.npy").read_bytes()[:-4]),
            "data.npy",
            "bytes instead of",
        ),
    ],
)
def test_a_damaged_folder(folder, damage, where, problem):
    path = folder / "unpacked" / "X.trn"
    damage(path)
    with pytest.raises(DataError, match=problem) as caught:
        list(open_reader(folder / "unpacked").chunks())
    assert str(caught.value.where).endswith(where)


def test_a_folder_of_something_else(folder):
    shutil.rmtree(folder / "unpacked" / "Y.trn")
    with pytest.raises(DataError, match=r"no Y\.trn\.npz or Y\.trn, only"):
        open_reader(folder / "unpacked")
    reader = open_unlabelled(folder / "unpacked", "sparse")
    assert sum(map(len, reader.chunks())) == 150
