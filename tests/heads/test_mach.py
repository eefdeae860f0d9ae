import typing

import numpy as np
import pytest
import tensorflow as tf
from sklearn.utils import murmurhash3_32

from tests.contracts.head import NUM_LABELS, HeadContract
from tests.contracts.layers import assert_close, assert_equal
from tests.contracts.technique import NUM_FEATURES, TinyTraining, eagerly, tiny_source
from tests.contracts.technique import NUM_LABELS as LABELS_OF_TINY_SOURCE
from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError
from tfxc.encoders.bases.repeated import Repeated
from tfxc.encoders.precomputed import Precomputed
from tfxc.heads.mach import MACH, Aggregate
from tfxc.model import build_model
from tfxc.objectives.sigmoid import Sigmoid
from tfxc.ops.randomness import step_scope
from tfxc.ops.search import gather_graph
from tfxc.recipes.repetitions.recipe import place_repetition

AGGREGATES = typing.get_args(Aggregate)


def buckets_of(head):
    """Lookups (R, N) straight from the hash function."""
    seeds = range(head.first_repetition, head.first_repetition + head.num_repetitions)
    labels = np.arange(head.num_labels, dtype=np.int32)
    return np.stack([np.mod(murmurhash3_32(labels, seed=s), head.num_buckets) for s in seeds])


def aggregated(bucket_logits, lookups, aggregate, link):
    """Scores of all labels from logits (batch, R, B), one label at a time."""
    if link == "softmax":
        shifted = np.exp(bucket_logits - bucket_logits.max(axis=2, keepdims=True))
        probabilities = shifted / shifted.sum(axis=2, keepdims=True)
    elif link == "hinge":
        probabilities = np.exp(-(np.maximum(0, 1 - bucket_logits) ** 3))
    else:
        probabilities = 1 / (1 + np.exp(-bucket_logits))
    values = {"logits": bucket_logits, "log_probabilities": np.log(probabilities)}
    values = values.get(aggregate, probabilities)
    join = {"probabilities": np.mean, "min": np.min, "median": np.median}.get(aggregate, np.sum)
    count, num_labels = lookups.shape
    scores = np.empty((len(bucket_logits), num_labels))
    for label in range(num_labels):
        of_label = [values[:, r, lookups[r, label]] for r in range(count)]
        scores[:, label] = join(of_label, axis=0)
    return scores


class TestMACH(HeadContract):
    labels_of_two_tiles = 2500

    def make(self, num_labels=NUM_LABELS, **arguments):
        return MACH(num_labels, **{"num_buckets": 6, "num_repetitions": 8, **arguments})

    def bucket_logits(self, head, features):
        kernel, bias = (weight.astype(np.float64) for weight in head.get_weights())
        return np.einsum("nd,rdb->nrb", features, kernel) + bias

    def label_scores(self, head, features):
        logits = self.bucket_logits(head, features)
        return aggregated(logits, buckets_of(head), head.aggregate, head.link)

    def positive_columns(self, head, labels):
        return [{int(lookup[label]) for label in labels} for lookup in buckets_of(head)]

    def similarities(self, head):
        kernel = head.get_weights()[0].astype(np.float64)
        kernel /= np.linalg.norm(kernel, axis=1, keepdims=True)
        of_labels = [kernel[r][:, lookup] for r, lookup in enumerate(buckets_of(head))]
        return np.mean([vectors.T @ vectors for vectors in of_labels], axis=0)

    def test_labels_of_one_bucket_make_one_positive(self):
        head = self.built()
        lookups = buckets_of(head)
        twins = next(
            [one, other]
            for one in range(NUM_LABELS)
            for other in range(one)
            if lookups[0, one] == lookups[0, other] and lookups[1, one] != lookups[1, other]
        )
        groups = self.groups(head, [[*twins, -1]])
        for group, lookup in zip(groups, lookups, strict=True):
            target = np.zeros(6)
            target[lookup[twins]] = 1
            found = np.zeros(6)
            np.add.at(found, [p for p in group.positives.numpy()[0] if p >= 0], 1)
            np.testing.assert_array_equal(found, target)
        assert (groups[0].positives.numpy() >= 0).sum() == 1
        assert (groups[1].positives.numpy() >= 0).sum() == 2


class TestMACHOfSeparateTrunks(TestMACH):
    """Each repetition sees its own vectors."""

    variant = True
    repetitions = 8

    def make(self, num_labels=NUM_LABELS, **arguments):
        self.repetitions = arguments.get("num_repetitions", 8)
        return super().make(num_labels, trunk="separate", **arguments)

    def encoder(self):
        return Repeated(
            [Precomputed(self.dim, unit_norm=r % 2 == 1) for r in range(self.repetitions)]
        )

    def bucket_logits(self, head, features):
        kernel, bias = (weight.astype(np.float64) for weight in head.get_weights())
        return np.einsum("nrd,rdb->nrb", features, kernel) + bias


class TestMACHOfMeanProbabilities(TestMACH):
    """The paper's estimator in all of the contract."""

    variant = True

    def make(self, num_labels=NUM_LABELS, **arguments):
        return super().make(num_labels, **{"aggregate": "probabilities", **arguments})


@pytest.mark.parametrize("repetitions", [1, 4, 5])
@pytest.mark.parametrize("link", ["sigmoid", "softmax", "hinge"])
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_aggregates(aggregate, link, repetitions):
    assert_scores_all_labels(
        TestMACH(), aggregate=aggregate, link=link, num_repetitions=repetitions
    )


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_aggregates_of_separate_trunks(aggregate):
    assert_scores_all_labels(TestMACHOfSeparateTrunks(), aggregate=aggregate, num_repetitions=5)


def assert_scores_all_labels(contract, **arguments):
    """The scores of all labels, in the graph and by the native search, are those by NumPy."""
    head = contract.built(**arguments)
    features = contract.features()
    ids, scores = (np.asarray(part) for part in head.top_k(features, NUM_LABELS))
    expected = contract.label_scores(head, np.asarray(features, np.float64))
    expected = np.take_along_axis(expected, ids.astype(int), axis=1)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)
    assert (np.diff(expected) <= 1e-6).all()
    found = head.search_top_k(head.search_scores(features).numpy(), NUM_LABELS)
    np.testing.assert_array_equal(found[0], ids)
    np.testing.assert_allclose(found[1], scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("aggregate", ["logits", "median"])
def test_tiles_give_the_same(monkeypatch, aggregate):
    head = TestMACH().built(num_labels=2500, num_buckets=50, aggregate=aggregate)
    features = TestMACH().features(3)
    whole = head.top_k(features, 9)
    monkeypatch.setattr(gather_graph, "_TILE_VALUES", 1)
    tiled = tf.function(lambda x: head.top_k(x, 9), autograph=False)(features)
    for one, other in zip(tiled, whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_ties_of_labels_that_share_all_buckets():
    head = TestMACH().built(num_buckets=2, num_repetitions=2)
    lookups = buckets_of(head)
    ids, scores = (np.asarray(part) for part in head.top_k(TestMACH().features(), NUM_LABELS))
    for row_ids, row_scores in zip(ids, scores, strict=True):
        for one, other, same in zip(row_ids, row_ids[1:], np.diff(row_scores) == 0, strict=False):
            alike = (lookups[:, one] == lookups[:, other]).all()
            assert same == alike
            assert not same or one < other


def test_repetitions_hash_and_start_as_numbered():
    whole = MACH(50, num_buckets=10, num_repetitions=5, seed=3)
    part = MACH(50, num_buckets=10, num_repetitions=2, first_repetition=3, seed=3)
    np.testing.assert_array_equal(part.lookups, whole.lookups[3:])
    whole(tf.ones((1, 4)))
    part(tf.ones((1, 4)))
    for one, other in zip(part.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other[3:])
    kernel = whole.get_weights()[0]
    assert len(np.unique(kernel)) == kernel.size  # no two repetitions start alike


def test_no_gradient_of_a_repetition_is_as_large_as_that_of_all():
    head = MACH(num_labels=50, num_buckets=6, num_repetitions=3)
    head.build((None, 4))

    @tf.function(autograph=False)
    def gradient(features):
        with tf.GradientTape() as tape:
            groups = head.training_groups(features, tf.constant([[7], [9]]))
            total = tf.add_n([tf.reduce_sum(group.logits**2) for group in groups])
        return tape.gradient(total, head.kernel.value)

    operations = gradient.get_concrete_function(tf.ones((2, 4))).graph.get_operations()
    slices = [one.type for one in operations].count("StridedSliceGrad")
    assert slices < head.num_repetitions, "the bias has one, too"


def test_published_loss():
    """Sigmoid cross-entropy with a multi-hot bucket target, mean over buckets."""
    head = MACH(NUM_LABELS, num_buckets=5, num_repetitions=3)
    features = tf.random.stateless_normal((4, 6), (1, 2))
    labels = np.array([[0, 1, 2], [7, -1, -1], [-1, -1, -1], [11, 3, -1]], np.int32)
    groups = head.training_groups(features, tf.constant(labels))
    logits = head(features).numpy().astype(np.float64)
    for r, (group, lookup) in enumerate(zip(groups, buckets_of(head), strict=True)):
        target = np.zeros((4, 5))
        for row, column in zip(*np.nonzero(labels >= 0), strict=True):
            target[row, lookup[labels[row, column]]] = 1
        chance = 1 / (1 + np.exp(-logits[:, r]))
        expected = -(target * np.log(chance) + (1 - target) * np.log(1 - chance)).mean(axis=1)
        np.testing.assert_allclose(Sigmoid(reduction="mean")(group), expected, rtol=1e-5)


def test_estimator_is_unbiased():
    """B/(B-1) (mean_r P_r[bucket_r(k)] - 1/B) has the expectation p_k over hash functions.

    Each repetition is given the exact bucket probabilities of a known distribution over classes,
    so what differs from p_k is the chance of the hash alone.
    """
    count, num_labels, num_buckets = 2000, 40, 5
    truth = np.random.default_rng(0).dirichlet(np.full(num_labels, 0.5))
    head = MACH(
        num_labels,
        num_buckets=num_buckets,
        num_repetitions=count,
        aggregate="probabilities",
        link="softmax",
    )
    head.build((None, 1))
    in_bucket = np.stack([np.bincount(row, truth, num_buckets) for row in buckets_of(head)])
    head.set_weights([np.zeros((count, 1, num_buckets)), np.log(in_bucket + 1e-30)])
    scores = head.search_scores(tf.ones((1, 1))).numpy()
    ids, means = head.search_top_k(scores, num_labels)
    mean = np.empty(num_labels)
    mean[ids[0]] = means[0]
    estimate = num_buckets / (num_buckets - 1) * (mean - 1 / num_buckets)
    # Var P_r[bucket(k)] = sum over the other classes of p^2 (1/B)(1 - 1/B).
    others = (truth**2).sum() - truth**2
    deviation = np.sqrt(others / (num_buckets - 1) / count)
    normed = (estimate - truth) / deviation
    assert np.abs(normed).max() < 5
    assert 0.4 < (normed**2).mean() < 2
    assert np.abs((mean - truth) / deviation).max() > 20  # the mean alone is far off


def repeated_config(**changes):
    """Three repetitions of their own, with everything that draws random numbers."""
    return parse_config(
        {
            "run": "unused",
            "seed": 4,
            "data": {"name": "unused", "train": "unused"},
            "encoder": {
                "name": "bag_mlp",
                "hidden": [6],
                "dropout": 0.3,
                "input_dropout": 0.2,
                "num_hashed_features": 8,
            },
            "head": {"name": "mach", "num_buckets": 3, "num_repetitions": 3, **changes},
            "objective": {"name": "sigmoid"},
        }
    )


def test_repetitions_in_one_model_equal_models_of_their_own():
    """Same start, same gradients, same weights after three updates (one model: "separate")."""
    sizes = {"num_features": NUM_FEATURES, "num_labels": LABELS_OF_TINY_SOURCE}
    joint = build_model(repeated_config(trunk="separate"), **sizes)
    assembled = build_model(repeated_config(trunk="separate"), **sizes)
    singles = [build_model(repeated_config(), **sizes, repetition=r) for r in range(3)]
    for number, one in enumerate(singles):
        start = [weight.numpy() for weight in assembled.weights]
        place_repetition(assembled, one, number)
        assert_equal([weight.numpy() for weight in assembled.weights], start)
    assert_close(*(gradients_by_repetition(joint, singles)), 1e-6)
    with eagerly():
        for one in (joint, *singles):
            TinyTraining(model=one).run(3)
    for number, one in enumerate(singles):
        place_repetition(assembled, one, number)
    assert_close([w.numpy() for w in assembled.weights], [w.numpy() for w in joint.weights], 1e-6)
    moved = np.abs(joint.head.get_weights()[0] - start[-2]).max()
    assert moved > 0.05


def gradients_by_repetition(joint, singles):
    """Kernel gradients of the first batch: of the joint model, and of the single ones, stacked."""
    batch = tiny_source().batch(seed=0, step=0, batch_size=8)

    def gradient(model):
        with step_scope(0, 0), tf.GradientTape() as tape:
            loss = tf.reduce_sum(model.losses_of(batch))
        return tape.gradient(loss, model.head.kernel.value)

    return gradient(joint), tf.concat([gradient(one) for one in singles], axis=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"num_buckets": 21},
            "num_buckets: 21 buckets are more than the 20 labels",
        ),
        ({"num_buckets": 0}, "num_buckets: must be an integer of at least 1, not 0"),
        ({"num_repetitions": 0}, "num_repetitions: must be an integer of at least 1, not 0"),
        ({"trunk": "none"}, "trunk: must be one of shared, separate, not 'none'"),
        ({"aggregate": "mean"}, "aggregate: must be one of logits, probabilities, .*not 'mean'"),
        ({"search_buckets": 0}, "search_buckets: .*integer of at least 1, not 0"),
        (
            {"search_min_count": -1},
            "search_min_count: .*integer of at least 1, not -1",
        ),
        ({"link": "probit"}, "link: must be one of sigmoid, softmax, hinge, not 'probit'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        MACH(20, **{"num_buckets": 4, **arguments})


@pytest.mark.parametrize("link", ["sigmoid", "softmax"])
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_approximate_search_scores_labels_as_the_exact_one(aggregate, link):
    """Logits are negative for most buckets: one that was not looked into is not 0."""
    head = MACH(400, num_buckets=60, num_repetitions=5, aggregate=aggregate, link=link)
    features = tf.constant(np.random.default_rng(0).normal(size=(20, 8)), tf.float32)
    head(features)
    head.set_weights([weight * 3 for weight in head.get_weights()])
    exact_ids, exact_scores = (np.asarray(part) for part in head.top_k(features, 400))
    scores = head.search_scores(features).numpy()
    for buckets, min_count in ((50, 2), (6, 2), (1, 5)):
        head.search_buckets, head.search_min_count = buckets, min_count
        ids, found = head.search_top_k(scores, 5, "approximate")
        for row in range(20):
            of_label = dict(zip(exact_ids[row], exact_scores[row], strict=True))
            expected = [of_label.get(label, -np.inf) for label in ids[row]]
            np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-6)
        if (buckets, min_count) == (50, 2):
            assert (ids[:, 0] == exact_ids[:, 0]).mean() > 0.9
    head.search_buckets = 60  # all there are
    ids, found = head.search_top_k(scores, 5, "approximate")
    np.testing.assert_array_equal(ids, exact_ids[:, :5])


def test_direct_is_a_logistic_regression_on_each_bucket():
    """Scores and gradients are those of softmax regression in NumPy."""
    labels, width, buckets, count = 30, 12, 6, 2
    tree = {
        "run": "unused",
        "data": {"name": "unused", "train": "unused"},
        "encoder": {"name": "bag_mlp", "hidden": [buckets], "activation": "linear"},
        "head": {
            "name": "mach", "num_buckets": buckets, "num_repetitions": count,
            "direct": True, "trunk": "separate",
        },
        "objective": {"name": "softmax"},
    }  # fmt: skip
    model = build_model(parse_config(tree), num_features=width, num_labels=labels, num_examples=4)
    assert not model.head.weights
    random = np.random.default_rng(0)
    dense = random.random((4, width), np.float32)
    truth = np.int32([[3], [29], [0], [11]])
    bag = {
        "ids": tf.constant(np.tile(np.arange(width, dtype=np.int32), 4)),
        "weights": tf.constant(dense.ravel()),
        "row_splits": tf.constant(np.arange(5) * width, tf.int64),
    }
    with tf.GradientTape() as tape:
        losses = model.losses_of({"features": bag, "labels": truth})
        loss = tf.reduce_sum(losses)
    tables = [encoder.kernels[0] for encoder in model.encoder.encoders]
    gradients = tape.gradient(loss, [table.value for table in tables])
    lookups, expected = buckets_of(model.head), 0.0
    for table, gradient, lookup in zip(tables, gradients, lookups, strict=True):
        logits = dense @ table.numpy()
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        of_truth = lookup[truth[:, 0]]
        expected = expected - np.log(p[np.arange(4), of_truth])
        wanted = dense.T @ (p - np.eye(buckets)[of_truth])
        np.testing.assert_allclose(tf.convert_to_tensor(gradient), wanted, atol=1e-5)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_repetitions": 2}, r"direct: with trunk 'shared'"),
        (
            {"num_repetitions": 1},
            r"head.direct: the encoder .* 8 numbers.* 6 buckets.*encoder.hidden=\[6\]",
        ),
        ({"num_repetitions": 1, "initial_std": 0.1}, r"initial_std: .* has no effect with direct"),
    ],
)
def test_direct_needs_an_encoder_of_its_own_with_a_number_per_bucket(arguments, message):
    with pytest.raises(ConfigError, match=message):
        MACH(30, num_buckets=6, direct=True, **arguments)(tf.ones((2, 8)))


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_some_repetitions_count(aggregate):
    """In the graph and outside it, against the aggregate of these repetitions alone."""
    head = MACH(40, num_buckets=6, num_repetitions=5, aggregate=aggregate, link="sigmoid")
    features = tf.constant(np.random.default_rng(0).normal(0, 1, (3, 8)), tf.float32)
    logits = head(features).numpy()
    head.count_only([0, 3, 4])
    expected = aggregated(logits[:, [0, 3, 4]], buckets_of(head)[[0, 3, 4]], aggregate, "sigmoid")
    for found in (
        [part.numpy() for part in head.top_k(features, 40)],
        head.search_top_k(head.search_scores(features).numpy(), 40),
    ):
        np.testing.assert_allclose(found[1], np.take_along_axis(expected, found[0], 1), rtol=1e-4)
        np.testing.assert_allclose(found[1], -np.sort(-expected, axis=1), rtol=1e-4)
    expected = aggregated(logits[:, [0, 3]], buckets_of(head)[[0, 3]], aggregate, "sigmoid")
    found = head.search_top_k(head.search_scores(features).numpy(), 40, most=2)
    np.testing.assert_allclose(found[1], -np.sort(-expected, axis=1), rtol=1e-4)
