"""A matrix of labels says the same to all that read one."""

import zipfile

import numpy as np
import pytest
import scipy.sparse

from tests.commands.calls import call
from tfxc.commands import evaluate
from tfxc.commands import tree as tree_command
from tfxc.core.errors import DataError
from tfxc.data.reading.formats import open_reader
from tfxc.estimator.targets import read_targets
from tfxc.imports.pecos import read_label_counts
from tfxc.labels.label_matrix import label_matrix
from tfxc.reports.predictions import measure_predictions

ROWS, LABELS = 9, 4
LISTS = [[row % LABELS] if row % 3 else [row % LABELS, (row + 1) % LABELS] for row in range(ROWS)]
LISTS = [sorted(labels) for labels in LISTS]


def matrix_of(more=(), dtype=np.float32):
    """The labels of ``LISTS``, and more entries (row, column, value), unsorted."""
    entries = [(row, label, 1) for row, labels in enumerate(LISTS) for label in labels]
    entries = sorted([*entries, *more], key=lambda entry: (entry[0], -entry[1]))
    rows, columns, values = (list(part) for part in zip(*entries, strict=True))
    bounds = np.searchsorted(rows, np.arange(ROWS + 1))
    parts = (np.array(values, dtype), np.array(columns), bounds)
    return scipy.sparse.csr_matrix(parts, (ROWS, LABELS))


ABSENT = (4, 2)
SAME = {
    "a label twice": [(1, 1, 1), (4, 0, 1)],
    "a stored zero": [(*ABSENT, 0)],
    "below zero": [(*ABSENT, -0.25)],
    "two that cancel out": [(*ABSENT, 2), (*ABSENT, -2)],
    "another number": [(1, 1, 0.5)],
}
WRONG = {
    "nan": (np.nan, "an entry is NaN or infinite"),
    "infinity": (np.inf, "an entry is NaN or infinite"),
    "minus": (-1, "-1 is not a label"),
}


def pecos_folder(path, matrix):
    path.mkdir()
    scipy.sparse.save_npz(path / "X.trn.npz", scipy.sparse.eye(ROWS, format="csr"))
    scipy.sparse.save_npz(path / "Y.trn.npz", matrix)
    return path


def of_pecos(folder, matrix):
    chunks = open_reader(pecos_folder(folder / "set", matrix)).chunks(2)
    return [list(row) for chunk in chunks for row in chunk.labels]


def of_pecos_ranges(folder, matrix):
    rows = open_reader(pecos_folder(folder / "set", matrix)).ranges(folder)
    return [row for start in range(0, ROWS, 2) for row in rows(start, min(start + 2, ROWS)).labels]


def of_pecos_arrays(folder, matrix):
    path = pecos_folder(folder / "set", matrix)
    with zipfile.ZipFile(path / "Y.trn.npz") as archive:
        archive.extractall(path / "Y.trn")
    (path / "Y.trn.npz").unlink()
    return [list(row) for chunk in open_reader(path).chunks(2) for row in chunk.labels]


def of_truth(folder, matrix):
    """Found by predicting one label after the other."""
    scipy.sparse.save_npz(folder / "Y.npz", matrix)
    found = [[] for _ in range(ROWS)]
    for label in range(LABELS):
        predicted = scipy.sparse.csr_matrix(([1.0] * ROWS, (range(ROWS), [label] * ROWS)),
                                            (ROWS, LABELS))  # fmt: skip
        scipy.sparse.save_npz(folder / "P.npz", predicted)
        _, values = measure_predictions(folder / "P.npz", folder / "Y.npz", ks=(1,))
        for row in np.flatnonzero(values["P@1"] == 1):
            found[row].append(label)
    return found


def of_estimator(folder, matrix):
    return read_targets(matrix)[1]


READERS = (of_pecos, of_pecos_ranges, of_pecos_arrays, of_truth, of_estimator)


def counts_of_import(folder, matrix):
    scipy.sparse.save_npz(folder / "Y.npz", matrix)
    counts, lengths = read_label_counts(folder / "Y.npz", LABELS)
    return counts.tolist(), list(lengths)


@pytest.mark.parametrize("more", SAME.values(), ids=SAME)
@pytest.mark.parametrize("read", READERS)
def test_an_entry_above_zero_is_a_label_once(tmp_path, read, more):
    assert read(tmp_path, matrix_of(more)) == LISTS


@pytest.mark.parametrize(("value", "message"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("read", [*READERS, counts_of_import])
def test_what_is_neither_is_refused(tmp_path, read, value, message):
    with pytest.raises(DataError) as caught:
        read(tmp_path, matrix_of([(*ABSENT, value)]))
    if read is not counts_of_import or value == -1:  # load_matrix refuses other numbers
        assert message in str(caught.value) and "row 5, column 3" in str(caught.value)


@pytest.mark.parametrize("more", SAME.values(), ids=SAME)
def test_frequencies_are_of_examples(tmp_path, more):
    counts = np.bincount(np.concatenate(LISTS), minlength=LABELS).tolist()
    assert counts_of_import(tmp_path, matrix_of(more)) == (counts, list(map(len, LISTS)))
    files = [tmp_path / name for name in ("P.npz", "Y.npz", "train.npz")]
    for path, matrix in zip(files, (matrix_of(), matrix_of(), matrix_of(more)), strict=True):
        scipy.sparse.save_npz(path, matrix)
    suite, _ = measure_predictions(*files[:2], ks=(1, 2), train_labels=files[2])
    expected, _ = measure_predictions(*files[:2], ks=(1, 2), train_labels=files[0])
    assert suite.result() == expected.result()


@pytest.mark.parametrize("more", SAME.values(), ids=SAME)
def test_vectors_of_labels(tmp_path, more):
    np.save(tmp_path / "X.npy", np.random.default_rng(0).random((ROWS, 3)))
    found = []
    for name, matrix in (("plain", matrix_of()), ("other", matrix_of(more))):
        path = tmp_path / f"{name}.npz"
        scipy.sparse.save_npz(path, matrix)
        data = tree_command.DataOptions(features=str(tmp_path / "X.npy"), labels=str(path))
        found.append(tree_command.label_vectors(data, threads=1))
    np.testing.assert_array_equal(*found)


def test_a_matrix_of_two_signs_is_refused_with_what_to_write(tmp_path, capsys):
    labels = matrix_of().toarray()
    scipy.sparse.save_npz(tmp_path / "P.npz", matrix_of())
    scipy.sparse.save_npz(tmp_path / "Y.npz", scipy.sparse.csr_matrix(2 * labels - 1))
    files = ("--predictions", tmp_path / "P.npz", "--truth", tmp_path / "Y.npz")
    problem = call(capsys, evaluate, *files).problem()
    assert problem.startswith(f"{tmp_path / 'Y.npz'}: -1 is not a label (row 1, column 3): ")
    assert "csr_matrix(Y > 0)" in problem
    with pytest.raises(DataError, match="-1 is not a label"):
        read_targets((2 * labels - 1).astype(int))


def test_the_given_matrix_stays_as_it_is():
    given = matrix_of([*SAME["a label twice"], (*ABSENT, 0)])
    before = given.copy()
    read_targets(given)
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(given, name), getattr(before, name))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.float64])
def test_numbers_of_any_type(dtype):
    """100 + 100 is below 0 in 8 bits."""
    given = matrix_of([(1, 1, 100), (1, 1, 100)], dtype)
    np.testing.assert_array_equal(label_matrix(given, "Y").toarray(), matrix_of().toarray() > 0)
    with pytest.raises(DataError, match="must be real numbers, not complex128"):
        label_matrix(given.astype(complex), "Y")


def test_columns_of_classes_are_no_matrix_of_labels():
    for wrong in ([[1, 2], [2, 1]], [[0, 2], [2, 0]]):
        with pytest.raises(DataError, match="numbers other than 0 and 1"):
            read_targets(np.array(wrong))
