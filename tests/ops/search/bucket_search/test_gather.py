import numpy as np
import pytest

from tfxc.core.errors import ConfigError
from tfxc.ops.search.bucket_search.gather import (
    ApproximateSettings,
    approximate_top_k,
    has_native,
    top_k,
)
from tfxc.ops.search.bucket_search.inverse_lookups import InverseLookups, invert_lookups

needs_native = pytest.mark.skipif(not has_native(), reason="compiled gather kernels not built")
PATHS = [
    pytest.param(native, method, marks=needs_native if native else ())
    for native in (True, False)
    for method in ("brute", "threshold", "auto")
]
BACKENDS = [pytest.param(True, marks=needs_native), False]


def class_scores(bucket_scores, lookups, aggregate):
    """Oracle: the full (batch, N) matrix, from an (R, batch, N) stack."""
    gathered = np.stack([bucket_scores[:, r][:, lookups[r]] for r in range(len(lookups))])
    if aggregate == "sum":
        total = gathered[0].copy()
        for values in gathered[1:]:
            total += values
        return total
    return gathered.min(axis=0) if aggregate == "min" else np.median(gathered, axis=0)


def expected_top_k(bucket_scores, lookups, k, aggregate="sum"):
    scores = class_scores(bucket_scores, lookups, aggregate)
    ids = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    order = np.lexsort((ids, -scores), axis=1)[:, :k]
    return order, np.take_along_axis(scores, order, axis=1)


def draw(seed, batch, repetitions, num_labels, num_buckets, dtype=np.uint16, levels=None):
    random = np.random.default_rng(seed)
    lookups = random.integers(0, num_buckets, (repetitions, num_labels)).astype(dtype)
    scores = random.normal(size=(batch, repetitions, num_buckets)).astype(np.float32)
    if levels:
        scores = random.integers(0, levels, scores.shape).astype(np.float32)
    return scores, lookups


def assert_equal(found, expected):
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    assert found[0].dtype == np.int32 and found[1].dtype == np.float32


@pytest.mark.parametrize(("native", "method"), PATHS)
@pytest.mark.parametrize("aggregate", ["sum", "min", "median"])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
@pytest.mark.parametrize("batch", [1, 5, 19])
def test_equals_full_matrix(native, method, aggregate, dtype, batch):
    for repetitions, levels in ((5, None), (4, None), (4, 3)):
        scores, lookups = draw(batch, batch, repetitions, 700, 40, dtype, levels)
        inverse = invert_lookups(lookups, 40)
        found = top_k(
            scores, lookups, 6, aggregate=aggregate, method=method, inverse=inverse, native=native
        )
        assert_equal(found, expected_top_k(scores, lookups, 6, aggregate))


@pytest.mark.parametrize(("native", "method"), PATHS)
@pytest.mark.parametrize(
    ("repetitions", "num_labels", "num_buckets", "k"),
    [(1, 50, 10, 5), (3, 50, 1, 5), (3, 50, 10, 1), (3, 50, 10, 50), (2, 1, 1, 1), (3, 64, 64, 64)],
)
def test_small_sizes(native, method, repetitions, num_labels, num_buckets, k):
    scores, lookups = draw(7, 18, repetitions, num_labels, num_buckets, levels=4)
    inverse = invert_lookups(lookups, num_buckets)
    for aggregate in ("sum", "min", "median"):
        found = top_k(
            scores, lookups, k, aggregate=aggregate, method=method, inverse=inverse, native=native
        )
        assert_equal(found, expected_top_k(scores, lookups, k, aggregate))


@pytest.mark.parametrize(("native", "method"), PATHS)
def test_minus_infinity_and_more_tiles_than_one(native, method):
    scores, lookups = draw(3, 3, 4, 40_000, 30)
    scores[0, 1] = -np.inf  # every class ends at minus infinity: only ids decide
    scores[1, 2, 5:] = -np.inf
    expected = expected_top_k(scores, lookups, 9)
    inverse = invert_lookups(lookups, 30)
    found = top_k(scores, lookups, 9, method=method, inverse=inverse, native=native)
    assert_equal(found, expected)
    assert found[0][0].tolist() == list(range(9))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
@pytest.mark.parametrize("num_labels", [4_097, 12_345])
@pytest.mark.parametrize("native", BACKENDS)
def test_one_example_is_scored_as_many_are(native, num_labels, dtype):
    scores, lookups = draw(4, 3, 5, num_labels, 60, dtype, 6)
    scores[2, 1:3, ::2] = -np.inf
    for aggregate in ("sum", "min", "median"):
        for k in (1, 70):
            ids, best = top_k(scores, lookups, k, aggregate=aggregate, native=native)
            for place in range(3):
                single = scores[place : place + 1]
                found = top_k(single, lookups, k, aggregate=aggregate, native=native, threads=2)
                np.testing.assert_array_equal(found[0][0], ids[place])
                np.testing.assert_array_equal(found[1][0], best[place])


def adversarial(random, batch, repetitions, num_buckets):
    """Random, flat, nearly flat, tied, peaked and huge-range scores in turn."""
    shape = (batch, repetitions, num_buckets)
    scores = random.normal(size=shape).astype(np.float32)
    scores[1::7] = np.float32(random.normal())
    scores[2::7] = np.float32(0.1) + random.choice([0, 2**-27], scores[2::7].shape)
    scores[3::7] = random.integers(0, 2, scores[3::7].shape)
    scores[4::7, :, :2] += 9
    scores[5::7] *= np.float32(10.0) ** random.integers(-6, 6, scores[5::7].shape)
    scores[6::7, 0] = 0
    return scores


@pytest.mark.parametrize("native", BACKENDS)
@pytest.mark.parametrize("aggregate", ["sum", "min", "median"])
def test_walk_equals_brute_force_on_1000_draws(native, aggregate):
    random = np.random.default_rng(0)
    for seed in range(20):
        num_buckets, repetitions = int(random.integers(2, 60)), int(random.integers(1, 9))
        num_labels, k = int(random.integers(60, 400)), int(random.integers(1, 12))
        _, lookups = draw(seed, 1, repetitions, num_labels, num_buckets)
        scores = adversarial(random, 50, repetitions, num_buckets)
        inverse = invert_lookups(lookups, num_buckets)
        found = top_k(
            scores,
            lookups,
            k,
            aggregate=aggregate,
            method="threshold",
            inverse=inverse,
            native=native,
        )
        assert_equal(found, expected_top_k(scores, lookups, k, aggregate))


@pytest.mark.parametrize("native", BACKENDS)
@pytest.mark.parametrize("method", ["threshold", "auto"])
def test_budget_runs_out_for_some_examples(native, method):
    scores, lookups = draw(5, 40, 6, 20_000, 200)
    scores[::2, :, :3] += 20  # these end early, the flat ones go to brute force
    scores[1::4] = 0
    inverse = invert_lookups(lookups, 200)
    found = top_k(scores, lookups, 5, method=method, inverse=inverse, native=native)
    assert_equal(found, expected_top_k(scores, lookups, 5))


@pytest.mark.parametrize("native", BACKENDS)
def test_walk_visits_few_classes_of_peaked_scores(native):
    from tfxc.ops.search.bucket_search import gather_native, gather_numpy

    scores, lookups = draw(6, 4, 8, 20_000, 2_000)
    for r, lookup in enumerate(lookups):
        scores[:, r, lookup[:10]] += 20
    kernels = gather_native.Kernels(2) if native else gather_numpy
    inverse = invert_lookups(lookups, 2_000)
    *found, done = kernels.walk(scores, lookups, inverse, 5, "sum", 16_000)
    assert done.all()
    assert_equal(found, expected_top_k(scores, lookups, 5))


@needs_native
@pytest.mark.parametrize("method", ["brute", "threshold"])
def test_threads_do_not_matter(method):
    scores, lookups = draw(8, 33, 5, 30_000, 500)
    inverse = invert_lookups(lookups, 500)
    one, two, five = (
        top_k(scores, lookups, 7, method=method, inverse=inverse, threads=threads, native=True)
        for threads in (1, 2, 5)
    )
    assert_equal(two, one)
    assert_equal(five, one)


@pytest.mark.parametrize(("native", "method"), PATHS)
def test_more_examples_than_stamps(native, method):
    scores, lookups = draw(9, 600, 3, 90, 20)
    inverse = invert_lookups(lookups, 20)
    found = top_k(scores, lookups, 4, method=method, inverse=inverse, threads=1, native=native)
    assert_equal(found, expected_top_k(scores, lookups, 4))


@pytest.mark.parametrize(("native", "method"), PATHS)
def test_empty_batch_and_missing_inverse(native, method):
    scores, lookups = draw(1, 2, 3, 90, 20)
    ids, best = top_k(scores[:0], lookups, 4, method=method, native=native)
    assert ids.shape == best.shape == (0, 4)
    found = top_k(scores, lookups, 4, method=method, native=native)
    assert_equal(found, expected_top_k(scores, lookups, 4))


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_refuses_scores_without_an_order(value):
    scores, lookups = draw(1, 2, 3, 90, 20)
    scores[1, 2, 3] = value
    with pytest.raises(ConfigError, match="bucket_scores"):
        top_k(scores, lookups, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 91}, "k: .* 1 to 90"),
        ({"k": 0}, "k: .* 1 to 90"),
        ({"aggregate": "mean"}, "sum, min, median"),
        ({"method": "fast"}, "auto, brute, threshold"),
        ({"threads": 0}, "threads: 0 threads are too few"),
        ({"lookups": np.zeros((3, 90))}, "float64"),
        ({"lookups": np.full((3, 90), 20, np.uint16)}, "only 0 to 19"),
        ({"lookups": np.full((3, 90), -1, np.int32)}, "only 0 to 19"),
        ({"lookups": np.zeros((2, 90), np.uint16)}, "3 repetitions, but lookups of 2"),
        ({"inverse": invert_lookups(np.zeros((3, 90), np.uint16), 7)}, "inverse: class_order"),
    ],
)
def test_refuses(change, message):
    scores, lookups = draw(1, 2, 3, 90, 20)
    with pytest.raises(ConfigError, match=message):
        top_k(scores, **({"lookups": lookups, "k": 4} | change))


@pytest.mark.parametrize("native", BACKENDS)
@pytest.mark.parametrize("spoilt", ["lookups", "class_order"])
def test_walk_refuses_numbers_out_of_range(native, spoilt):
    scores, lookups = draw(1, 2, 3, 90, 20)
    inverse = invert_lookups(lookups, 20)
    (lookups if spoilt == "lookups" else inverse.class_order)[:] = 12_345
    with pytest.raises(ConfigError, match=r"out of range|12345"):
        top_k(scores, lookups, 4, method="threshold", inverse=inverse, native=native)


def test_native_without_extension(monkeypatch):
    scores, lookups = draw(1, 2, 3, 90, 20)
    monkeypatch.setattr("tfxc.ops.search.bucket_search.gather_native._gather", None)
    assert not has_native()
    with pytest.raises(ConfigError, match="build_ext"):
        top_k(scores, lookups, 4, native=True)
    assert_equal(top_k(scores, lookups, 4), expected_top_k(scores, lookups, 4))


def test_inverse_is_a_permutation_with_offsets():
    _, lookups = draw(2, 1, 3, 500, 33, np.int32)
    class_order, offsets = invert_lookups(lookups, 33)
    for r in range(3):
        assert sorted(class_order[r]) == list(range(500))
        for bucket in range(33):
            members = class_order[r, offsets[r, bucket] : offsets[r, bucket + 1]]
            np.testing.assert_array_equal(members, np.flatnonzero(lookups[r] == bucket))


def approximate_by_hand(example, lookups, k, aggregate, taken, min_count):
    """One example by plain loops: who is a candidate, and the scores of all classes."""
    counts = dict.fromkeys(range(lookups.shape[1]), 0)
    for r, lookup in enumerate(lookups):
        best = set(np.argsort(-example[r], kind="stable")[:taken].tolist())
        for label, bucket in enumerate(lookup.tolist()):
            counts[label] += bucket in best
    while min_count > 1 and sum(count >= min_count for count in counts.values()) < k:
        min_count -= 1
    scores = class_scores(example[None], lookups, aggregate)[0]
    kept = sorted((-scores[label], label) for label in counts if counts[label] >= min_count)[:k]
    return [label for _, label in kept], [-score for score, _ in kept]


@pytest.mark.parametrize("native", BACKENDS)
@pytest.mark.parametrize("aggregate", ["sum", "min", "median"])
@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize(
    ("taken", "min_count", "k"), [(4, 2, 5), (4, 6, 5), (4, 99, 5), (99, 1, 5), (1, 6, 60)]
)
def test_approximate_equals_plain_loops(native, aggregate, levels, taken, min_count, k):
    scores, lookups = draw(4, 12, 6, 300, 50, levels=levels)
    scores[1, 2, 7:] = -np.inf
    inverse, sizes = invert_lookups(lookups, 50), (taken, min_count)
    ids, best = approximate_top_k(
        scores,
        lookups,
        inverse,
        k,
        aggregate=aggregate,
        candidates=ApproximateSettings(taken, min_count),
        native=native,
    )
    assert (ids.dtype, best.dtype) == (np.int32, np.float32)
    for row, example in enumerate(scores):
        labels, values = approximate_by_hand(example, lookups, k, aggregate, *sizes)
        missing = k - len(labels)
        assert ids[row].tolist() == labels + [-1] * missing
        np.testing.assert_array_equal(best[row], [*values, *[-np.inf] * missing])


@pytest.mark.parametrize("native", BACKENDS)
def test_approximate_pads_where_too_few_classes_are_found(native):
    lookups = np.array([[0, 1, 2, 3]], np.uint16)
    scores = np.array([[[1, 4, 2, 3]]], np.float32)
    inverse = invert_lookups(lookups, 4)
    found = approximate_top_k(
        scores, lookups, inverse, 3, candidates=ApproximateSettings(2), native=native
    )
    assert found[0].tolist() == [[1, 3, -1]]
    assert found[1].tolist() == [[4, 3, -np.inf]]
    empty = InverseLookups(np.array([[0, 1, 2, 3]], np.int32), np.array([[0, 4, 4, 4, 4]]))
    empty_lookups = np.zeros((1, 4), np.uint16)
    options = {"candidates": ApproximateSettings(1), "native": native}
    found = approximate_top_k(scores, empty_lookups, empty, 2, **options)
    assert found[0].tolist() == [[-1, -1]]


@pytest.mark.parametrize("native", BACKENDS)
@pytest.mark.parametrize("aggregate", ["sum", "min", "median"])
def test_approximate_with_all_buckets_is_exact(native, aggregate):
    scores, lookups = draw(4, 6, 6, 300, 50, np.int32)
    inverse = invert_lookups(lookups, 50)
    sizes = {"candidates": ApproximateSettings(50, 6), "aggregate": aggregate, "native": native}
    found = approximate_top_k(scores, lookups, inverse, 5, **sizes)
    assert_equal(found, top_k(scores, lookups, 5, aggregate=aggregate))
    empty = approximate_top_k(scores[:0], lookups, inverse, 5, native=native)
    assert empty[0].shape == empty[1].shape == (0, 5)


@needs_native
def test_approximate_with_any_number_of_threads():
    scores, lookups = draw(8, 33, 5, 3_000, 500)
    inverse = invert_lookups(lookups, 500)
    one, two, five = (
        approximate_top_k(scores, lookups, inverse, 7, threads=threads) for threads in (1, 2, 5)
    )
    assert_equal(two, one)
    assert_equal(five, one)


@pytest.mark.parametrize("native", BACKENDS)
def test_approximate_refuses(native):
    scores, lookups = draw(1, 2, 3, 90, 20)
    inverse = invert_lookups(lookups, 20)
    for change, message in (
        (
            {"candidates": ApproximateSettings(0)},
            "num_buckets: 0 is less than 1",
        ),
        (
            {"candidates": ApproximateSettings(min_count=0)},
            "min_count: 0 is less than 1",
        ),
        ({"aggregate": "mean"}, "sum, min, median"),
        ({"k": 91}, "k: .* 1 to 90"),
    ):
        with pytest.raises(ConfigError, match=message):
            approximate_top_k(scores, lookups, inverse, **{"k": 4, "native": native, **change})
    inverse.class_order[:] = 12_345
    with pytest.raises(ConfigError, match=r"out of range|12345"):
        approximate_top_k(scores, lookups, inverse, 4, native=native)
    if native:  # a class twice in a repetition
        inverse.class_order[:] = 3
        with pytest.raises(ConfigError, match="out of range"):
            approximate_top_k(scores, lookups, inverse, 4, native=native)
