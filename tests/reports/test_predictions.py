"""Metrics of foreign prediction matrices, against libpecos 1.2.8 and sets of labels."""

import re

import numpy as np
import pytest
import scipy.sparse

from tests.commands.calls import call
from tfxc.commands import evaluate
from tfxc.core.errors import DataError
from tfxc.reports.predictions import measure_predictions, ranked

# What `python -m pecos.xmc.xlinear.evaluate` of libpecos 1.2.8 prints for ``matrices()``.
PECOS = {
    "P": "51.50 41.25 35.00 29.00 25.70 22.42 20.64 18.50 16.67 15.15",
    "R of all": "11.79 18.51 23.35 25.26 27.97 29.11 31.08 31.90 32.19 32.44",
}


def matrices():
    """Predictions sorted by score with ties, zeros, negative scores, short and empty rows; Y."""
    draw, shape = np.random.default_rng(5), (200, 30)
    scores = np.round(draw.normal(size=shape), 1).astype(np.float32)
    kept = draw.random(shape) < 0.4
    kept[:3] = False
    truth = (scores + draw.normal(size=shape) > 1.5) & (draw.random((200, 1)) < 0.9)
    columns = [np.flatnonzero(row) for row in kept]
    for row, found in enumerate(columns):
        columns[row] = found[np.argsort(-scores[row, found], kind="stable")]
    values = np.concatenate([scores[row, found] for row, found in enumerate(columns)])
    bounds = np.concatenate([[0], kept.sum(axis=1).cumsum()])
    predictions = scipy.sparse.csr_matrix((values, np.concatenate(columns), bounds), shape)
    return predictions, scipy.sparse.csr_matrix(truth, dtype=np.float32)


@pytest.fixture
def files(tmp_path):
    """Paths of the two matrices."""
    paths = tmp_path / "P.npz", tmp_path / "Y.npz"
    for path, matrix in zip(paths, matrices(), strict=True):
        scipy.sparse.save_npz(path, matrix)
    return paths


def test_the_digits_are_those_of_pecos(files):
    results = measure_predictions(*files)[0].result()
    for name, digits in PECOS.items():
        assert " ".join(f"{100 * results[f'{name}@{k}']:4.2f}" for k in range(1, 11)) == digits


def test_the_matrices_are_hard():
    predictions, truth = matrices()
    sizes = np.diff(predictions.indptr)
    assert not predictions.has_sorted_indices
    assert (predictions.data == 0).any() and (predictions.data < 0).any()
    assert (sizes == 0).any() and ((sizes > 0) & (sizes < 10)).any()
    assert (np.diff(truth.indptr) == 0).any()


@pytest.mark.parametrize("layout", ["csr", "csc", "coo", "bsr"])
def test_the_order_of_the_entries_does_not_matter(files, layout):
    before = measure_predictions(*files)[0].result()
    scipy.sparse.save_npz(files[0], matrices()[0].asformat(layout))
    assert measure_predictions(*files)[0].result() == before


def test_rows_are_ranked_by_score_then_id():
    predictions = matrices()[0]
    ids, scores = ranked(predictions, 4)
    dense = predictions.copy()
    for row in range(dense.shape[0]):
        part = slice(dense.indptr[row], dense.indptr[row + 1])
        pairs = sorted(zip(-dense.data[part], dense.indices[part], strict=True))[:4]
        pairs += [(np.inf, -1)] * (4 - len(pairs))
        assert [(-score, label) for score, label in pairs] == list(
            zip(scores[row], ids[row], strict=True)
        )


def test_training_labels_add_propensities_and_slices(files):
    plain = measure_predictions(*files)[0]
    suite, values = measure_predictions(*files, ks=(1, 3), train_labels=files[1])
    assert {"PSP@3", "PSnDCG@1", "R@3/few-shot", "predicted coverage@1"} <= set(suite.names)
    assert "PSP@1" not in plain.names
    assert values["P@3"].shape == (200,)


def test_entries_of_value_zero_are_no_labels(files):
    truth = matrices()[1]
    before = measure_predictions(*files)[0].result()
    row, column = np.argwhere(truth.toarray() == 0)[0]
    truth = truth.tocoo()
    rows, columns = np.append(truth.row, row), np.append(truth.col, column)
    stored = scipy.sparse.csr_matrix((np.append(truth.data, 0), (rows, columns)), truth.shape)
    assert stored.nnz == truth.nnz + 1
    scipy.sparse.save_npz(files[1], stored)
    assert measure_predictions(*files)[0].result() == before


def test_matrices_that_do_not_fit_are_refused(files, tmp_path):
    predictions, truth = matrices()
    for wrong, message in (
        (predictions[:-1], r"matrix of 199 x 30, and .*Y\.npz one of 200 x 30"),
        (predictions[:, :-1], r"matrix of 200 x 29, and .*Y\.npz one of 200 x 30"),
    ):
        scipy.sparse.save_npz(tmp_path / "wrong.npz", wrong)
        with pytest.raises(DataError, match=message):
            measure_predictions(tmp_path / "wrong.npz", files[1])
    scipy.sparse.save_npz(tmp_path / "wrong.npz", truth[:, :-1])
    with pytest.raises(DataError, match="a matrix of 200 x 29"):
        measure_predictions(*files, train_labels=tmp_path / "wrong.npz")
    predictions.data[predictions.indptr[7]] = np.nan
    scipy.sparse.save_npz(tmp_path / "wrong.npz", predictions)
    with pytest.raises(DataError, match=r"an entry is NaN or infinite \(row 8, column"):
        measure_predictions(tmp_path / "wrong.npz", files[1])
    scipy.sparse.save_npz(tmp_path / "wrong.npz", truth[:0])
    with pytest.raises(DataError, match="the file has no rows"):
        measure_predictions(tmp_path / "wrong.npz", tmp_path / "wrong.npz")


def test_the_command_prints_and_writes_them(files, tmp_path, capsys):
    arguments = ["--predictions", files[0], "--truth", files[1]]
    outcome = call(capsys, evaluate, *arguments)
    assert outcome.code == 0 and "200 examples" in outcome.out
    assert re.search(r"^P +51\.50 +41\.25 +35\.00 +29\.00", outcome.out, re.MULTILINE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["P.npz", "Y.npz"]
    call(capsys, evaluate, *arguments, "--k", "1,3", "--output", tmp_path / "out")
    with np.load(tmp_path / "out" / "evaluation-P-npz.npz") as values:
        assert values["P@3"].mean() == pytest.approx(0.35)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--predictions", "P.npz"], "--truth: --predictions needs a file of true labels"),
        (["--run", "r", "--truth", "Y.npz"], "--truth: this option is for --predictions"),
        (["--predictions", "P", "--truth", "Y", "--beam", "3"], "--beam: this option is for --run"),
        (
            ["--predictions", "P", "--truth", "Y", "--propensity", "amazon"],
            "--train-labels: --propensity needs a file",
        ),
    ],
)
def test_options_without_use_are_refused(arguments, message, capsys):
    assert call(capsys, evaluate, *arguments).problem().startswith(message)


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int16, np.float64])
def test_scores_of_any_real_type(files, tmp_path, dtype):
    """Ranked as their values say; booleans are all alike, so by label."""
    draw = np.random.default_rng(3)
    dense = draw.permuted(np.tile(np.arange(30), (200, 1)), axis=1).astype(dtype)
    scipy.sparse.save_npz(tmp_path / "typed.npz", scipy.sparse.csr_matrix(dense))
    ids, _ = ranked(scipy.sparse.csr_matrix(dense), 5)
    expected = np.argsort(-dense.astype(float), axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(ids, expected)
    truth = scipy.sparse.load_npz(files[1]).toarray() > 0
    found = measure_predictions(tmp_path / "typed.npz", files[1], ks=(5,))[0].result()
    precision = np.take_along_axis(truth, expected, 1).mean()
    assert found["P@5"] == pytest.approx(precision)


def test_small_integers_given_twice_do_not_overflow(files, tmp_path):
    """Entries of the same place are summed: 200 + 100 is more than 250."""
    data, columns = np.array([200, 100, 250], np.uint8), np.array([4, 4, 7])
    bounds = np.minimum(np.arange(201), 1) * 3
    twice = scipy.sparse.csr_matrix((data, columns, bounds), (200, 30))
    scipy.sparse.save_npz(tmp_path / "twice.npz", twice)
    truth = scipy.sparse.csr_matrix(([1.0], ([0], [4])), (200, 30))
    scipy.sparse.save_npz(tmp_path / "truth.npz", truth)
    _, values = measure_predictions(tmp_path / "twice.npz", tmp_path / "truth.npz", ks=(1,))
    assert values["P@1"][0] == 1
