"""Ensembles against dictionaries of labels, and against what libpecos 1.2.8 found."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from tfxc.core.cli import ENSEMBLES
from tfxc.core.errors import ConfigError, DataError
from tfxc.ranker.ensemble import combine

DATA = Path(__file__).parent / "data"


def random_lists(seed, examples=20, models=3, k=6, labels=9):
    """Lists of 0 to k labels; scores are multiples of 1/4, so that many are equal."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(models):
        ids = np.full((examples, k), -1)
        scores = np.full((examples, k), -np.inf)
        for row in range(examples):
            count = random.integers(0, k + 1)
            ids[row, :count] = random.choice(labels, count, replace=False)
            scores[row, :count] = np.sort(random.integers(-8, 9, count) / 4)[::-1]
        found.append((ids, scores))
    return found


def plain(predictions, method, row, weights=None):
    """{label: (score, models that list it)} of one example."""
    models, longest = [], max((ids >= 0).sum(axis=1).max() for ids, _ in predictions)
    for ids, scores in predictions:
        models.append({i: s for i, s in zip(ids[row], scores[row], strict=True) if i >= 0})
    values = []
    for number, model in enumerate(models):
        ranked = sorted(model, key=lambda label: -model[label])  # stable
        total = sum(np.exp(score) for score in model.values())
        share = (len(models) - number) / (len(models) + 1)
        values.append(
            {
                "average": dict(model),
                "rank_average": {i: longest - rank for rank, i in enumerate(ranked)},
                "sigmoid_average": {i: 1 / (1 + np.exp(-s)) for i, s in model.items()},
                "softmax_average": {i: np.exp(s) / total for i, s in model.items()},
                "round_robin": {
                    i: (longest - rank + share) / len(models) for rank, i in enumerate(ranked)
                },
            }[method]
        )
    found = {}
    for label in set().union(*models):
        own = []
        for value in values:
            low = min(value.values(), default=0) if method == "average" else 0
            own.append(value.get(label, low))
        score = max(own) if method == "round_robin" else np.average(own, weights=weights)
        found[label] = score, sum(label in model for model in models)
    return found


@pytest.mark.parametrize("method", ENSEMBLES)
@pytest.mark.parametrize(("seed", "weights"), [(0, None), (1, None), (2, [2, 0, 0.5])])
def test_like_dictionaries(method, seed, weights):
    if weights and method == "round_robin":
        pytest.skip("it takes no mean")
    predictions = random_lists(seed)
    ids, scores = combine(predictions, method, weights=weights)
    assert ids.dtype == np.int32 and scores.dtype == np.float32
    for row in range(len(ids)):
        expected = plain(predictions, method, row, weights)
        found = {i: s for i, s in zip(ids[row], scores[row], strict=True) if i >= 0}
        assert set(found) == set(expected)
        for label, score in found.items():
            assert score == pytest.approx(expected[label][0], rel=1e-6, abs=1e-7)
        keys = [(-round(expected[i][0], 9), -expected[i][1], i) for i in ids[row] if i >= 0]
        assert keys == sorted(keys)
        assert (ids[row][len(found) :] == -1).all() and np.isneginf(scores[row, len(found) :]).all()
    first, best = combine(predictions, method, 3, weights)
    np.testing.assert_array_equal(first, ids[:, :3])
    np.testing.assert_array_equal(best, scores[:, :3])


@pytest.mark.parametrize("method", ENSEMBLES)
def test_like_pecos_where_no_label_is_missing(method):
    with np.load(DATA / "pecos_ensembles.npz") as file:
        models = [scipy.sparse.csr_matrix(file[f"in{number}"]) for number in range(3)]
        expected = file[method]
    ids, scores = combine(models, method)
    np.testing.assert_allclose(scores, np.take_along_axis(expected, ids, 1), rtol=1e-5)
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1), rtol=1e-5)


@pytest.mark.parametrize("method", ENSEMBLES)
def test_a_missing_label_never_beats_a_present_one(method):
    # Both models agree on label 0; label 1 is unknown to the second, where 0 is negative.
    one = np.array([[0, 1]]), np.array([[-1.0, -1.0]])
    other = np.array([[0, 2]]), np.array([[-3.0, -3.0]])
    ids, _ = combine([one, other], method)
    assert ids[0, 0] == 0


def test_inputs_are_not_changed():
    predictions = [*random_lists(2), scipy.sparse.random(20, 9, 0.4, format="csr", rng=3)]
    before = [[part.copy() for part in found] for found in predictions[:3]]
    matrix = predictions[3].copy()
    for method in ENSEMBLES:
        combine(predictions, method)
    for old, found in zip(before, predictions[:3], strict=True):
        for left, right in zip(old, found, strict=True):
            np.testing.assert_array_equal(left, right)
    assert (matrix != predictions[3]).nnz == 0


def test_lists_in_any_order_and_as_csr():
    (ids, scores), *_ = random_lists(4, models=1)
    real = ids >= 0
    rows = np.repeat(np.arange(20), real.sum(axis=1))
    matrix = scipy.sparse.csr_matrix((scores[real], (rows, ids[real])), (20, 9))
    for method in ("average", "softmax_average"):
        found, same = combine([matrix], method), combine([(ids, scores)], method)
        np.testing.assert_array_equal(found[0], same[0])
        np.testing.assert_array_equal(found[1], same[1])
    nothing = combine([(np.full((2, 3), -1), np.zeros((2, 3)))])
    assert nothing[0].shape == nothing[1].shape == (2, 0)


@pytest.mark.parametrize(
    ("predictions", "options", "error", "message"),
    [
        ([], {}, ConfigError, "no model to combine"),
        (random_lists(5), {"method": "median"}, ConfigError, "one of average, rank_average"),
        (random_lists(5), {"k": 0}, ConfigError, "k: 0 is less than 1"),
        ([([[1]], [[1.0]]), ([[1], [2]], [[1.0], [1.0]])], {}, DataError, "model 1: .* 2 examples"),
        ([([[1]], [[np.nan]])], {}, DataError, "model 0: a score is NaN"),
        (random_lists(5), {"weights": [1, 1]}, ConfigError, "weights: .*1.0, 1.0.* of 3 models"),
        (random_lists(5), {"weights": [1, -1, 1]}, ConfigError, "weights: .*number of at least 0"),
        (random_lists(5), {"weights": [0, 0, 0]}, ConfigError, "weights: all are 0"),
        (
            random_lists(5),
            {"weights": [1, 1, 1], "method": "round_robin"},
            ConfigError,
            "weights: the method round_robin does not average",
        ),
        ([([[1, 2]], [[1.0]])], {}, DataError, "shapes of ids and scores"),
        ([([[1, 4, 1]], [[3.0, 2.0, 1.0]])], {}, DataError, "label 1 occurs twice in .* example 0"),
    ],
)
def test_what_is_refused(predictions, options, error, message):
    with pytest.raises(error, match=message):
        combine(predictions, **options)
