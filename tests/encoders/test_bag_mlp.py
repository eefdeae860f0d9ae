import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from tests.contracts.encoder import EncoderContract
from tfxc.core.declared import FromData
from tfxc.encoders.bag_mlp import BagMLP
from tfxc.encoders.bases.repeated import Repeated
from tfxc.encoders.precomputed import Precomputed
from tfxc.labels.hashing import bucket_lookup
from tfxc.ops.randomness import step_scope

NUM_FEATURES = 30


def random_bags(rows=5, seed=0):
    """Bags with a repeated feature, and one empty bag; a dict of tensors."""
    rng = np.random.default_rng(seed)
    lengths = [*rng.integers(2, 9, rows - 1), 0]
    ids = rng.integers(0, NUM_FEATURES, sum(lengths))
    ids[1] = ids[0]
    return {
        "ids": tf.constant(ids, tf.int32),
        "weights": tf.constant(rng.normal(size=len(ids)), tf.float32),
        "row_splits": tf.constant([0, *np.cumsum(lengths)], tf.int64),
    }


def as_matrix(bags, columns=NUM_FEATURES, lookup=None):
    """The bags as a scipy CSR matrix; repeated and colliding features add up."""
    ids = bags["ids"].numpy()
    ids = ids if lookup is None else lookup[ids].astype(np.int32)
    splits = bags["row_splits"].numpy()
    weights = bags["weights"].numpy().astype(np.float64)
    return scipy.sparse.csr_matrix((weights, ids, splits), (len(splits) - 1, columns))


class TestBagMLP(EncoderContract):
    dropping = {"dropout": 0.5, "input_dropout": 0.4}  # noqa: RUF012 (read only)

    def make(self, **arguments):
        return BagMLP(NUM_FEATURES, hidden=[8, 6], **arguments)

    def features(self):
        return random_bags()

    def test_equals_numpy(self):
        encoder = self.built()
        table, bias_0, kernel, bias_1 = encoder.get_weights()
        hidden = np.maximum(as_matrix(self.features()) @ table + bias_0, 0)
        expected = np.maximum(hidden @ kernel + bias_1, 0)
        np.testing.assert_allclose(encoder(self.features()), expected, rtol=1e-4, atol=1e-5)

    def test_only_rows_of_the_batch_get_a_gradient(self):
        encoder, features = self.built(), self.features()
        table = encoder.kernels[0].value
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(encoder(features))
        gradient = tape.gradient(loss, table)
        assert isinstance(gradient, tf.IndexedSlices)
        assert sorted(gradient.indices.numpy()) == sorted(set(features["ids"].numpy()))


class TestHashedBagMLP(TestBagMLP):
    variant = True
    lookup = bucket_lookup(NUM_FEATURES, 7, seed=4)

    def make(self, **arguments):
        return BagMLP(NUM_FEATURES, hidden=[8, 6], num_hashed_features=7, hash_seed=4, **arguments)

    def test_equals_numpy(self):
        encoder = self.built()
        table, bias_0, kernel, bias_1 = encoder.get_weights()
        assert table.shape == (7, 8)
        inputs = as_matrix(self.features(), 7, self.lookup)
        expected = np.maximum(np.maximum(inputs @ table + bias_0, 0) @ kernel + bias_1, 0)
        np.testing.assert_allclose(encoder(self.features()), expected, rtol=1e-4, atol=1e-5)

    def test_only_rows_of_the_batch_get_a_gradient(self):
        encoder, features = self.built(), self.features()
        table = encoder.kernels[0].value
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(encoder(features))
        rows = tape.gradient(loss, table).indices.numpy()
        assert sorted(rows) == sorted(set(self.lookup[features["ids"].numpy()]))


class TestRepeated(EncoderContract):
    dropping = {"dropout": 0.5}  # noqa: RUF012 (read only)

    def make(self, seed=0, **arguments):
        return Repeated(
            [BagMLP(NUM_FEATURES, hidden=[6], seed=seed + 10 * r, **arguments) for r in range(2)]
        )

    def features(self):
        return random_bags()

    def test_is_the_encoders_side_by_side(self):
        encoder = self.built()
        vectors = encoder(self.features())
        assert vectors.shape == (5, 2, 6)
        for number, part in enumerate(encoder.encoders):
            np.testing.assert_array_equal(vectors[:, number], part(self.features()))


def test_scale_of_the_start():
    # A row of unit length gives hidden units of about the table's start, layer after layer.
    encoder = BagMLP(2000, hidden=[300, 300])
    rng = np.random.default_rng(0)
    ids = rng.permutation(2000)[:400]
    bag = {
        "ids": tf.constant(ids, tf.int32),
        "weights": tf.fill([400], 1 / 20),
        "row_splits": tf.constant([0, 400], tf.int64),
    }
    assert 0.03 < float(tf.math.reduce_std(encoder(bag))) < 0.15
    small = BagMLP(2000, hidden=[300], initial_std=0.05)
    small(bag)
    assert np.std(small.get_weights()[0]) == pytest.approx(0.88 * 0.05, rel=0.02)


def test_activation():
    encoder = BagMLP(NUM_FEATURES, hidden=[4], activation="tanh", initial_std=1.0)
    vectors = encoder(random_bags()).numpy()
    assert (vectors < 0).any() and np.abs(vectors).max() <= 1


def test_input_dropout_drops_features_of_a_bag():
    """With one weight per feature the sum shows which features stayed."""
    encoder = BagMLP(20, hidden=[20], activation="linear", input_dropout=0.25)
    bags = {
        "ids": tf.tile(tf.range(20), [200]),
        "weights": tf.ones(4000),
        "row_splits": tf.range(0, 4001, 20, tf.int64),
    }
    encoder(bags)
    encoder.set_weights([np.eye(20), np.zeros(20)])
    with step_scope(3, 0):
        kept = encoder(bags, training=True).numpy()
    np.testing.assert_allclose(np.unique(kept), [0, 1 / 0.75], rtol=1e-6)
    # 4,000 draws: five standard deviations are 0.034
    assert (kept == 0).mean() == pytest.approx(0.25, abs=0.034)
    assert len(np.unique(kept, axis=0)) > 150  # every bag its own mask


def test_half_batches_drop_what_the_whole_batch_drops():
    encoder = BagMLP(NUM_FEATURES, hidden=[6, 6], dropout=0.5, input_dropout=0.3, seed=2)
    bags = random_bags(8)
    with step_scope(5, 0):
        whole = encoder(bags, training=True)
    halves = []
    for first in (0, 4):
        splits = bags["row_splits"][first : first + 5]
        part = {
            "ids": bags["ids"][splits[0] : splits[-1]],
            "weights": bags["weights"][splits[0] : splits[-1]],
            "row_splits": splits - splits[0],
        }
        with step_scope(5, first):
            halves.append(encoder(part, training=True))
    np.testing.assert_allclose(tf.concat(halves, 0), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"hidden": []},
            "hidden: must be a list of at least one item, each item an integer of at least 1",
        ),
        (
            {"hidden": [8, 0]},
            "hidden: must be a list of at least one item, each item an integer of at least 1",
        ),
        (
            {"num_hashed_features": 0},
            "num_hashed_features: must be .*integer of at least 1, not 0",
        ),
        ({"activation": "no_such"}, "no_such"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        BagMLP(NUM_FEATURES, **arguments)


def test_the_same_weights_with_another_hash():
    """One network stands for each repetition: as one that was made with that seed."""
    bags, sizes = random_bags(), {"hidden": [4], "num_hashed_features": 5}
    one, other = (BagMLP(NUM_FEATURES, hash_seed=seed, **sizes) for seed in (3, 8))
    before, expected = one(bags).numpy(), other(bags).numpy()
    assert np.abs(expected - before).max() > 0
    one.hash_with([8])
    np.testing.assert_array_equal(one(bags), expected)
    assert one.get_config()["hash_seed"] == 8
    one.hash_with([3])
    np.testing.assert_array_equal(one(bags), before)
    with pytest.raises(TypeError, match="must define hash_with"):
        Precomputed(3).hash_with([1])


def test_a_class_derived_from_an_encoder_keeps_all_arguments():
    class Narrow(BagMLP):
        def __init__(self, num_features: FromData[int], *, hidden=(3,), **kwargs):
            super().__init__(num_features, hidden=hidden, **kwargs)

    encoder = Narrow(NUM_FEATURES, seed=4, dropout=0.1)
    config = encoder.get_config()
    assert (config["hidden"], config["seed"], config["dropout"]) == ([3], 4, 0.1)
    assert Narrow.from_config(config).seed == 4
    assert Narrow.data_dependent_arguments == ("num_features",)
