import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.head import NUM_LABELS, HeadContract
from tests.contracts.technique import NUM_FEATURES, TinyTraining
from tfxc.data.examples.kinds import SPARSE
from tfxc.encoders.bag_mlp import BagMLP
from tfxc.heads.mhs import MHS
from tfxc.model import XCModel, example_features
from tfxc.objectives.softmax import Softmax
from tfxc.ops.losses import softmax_cross_entropy
from tfxc.ops.randomness import step_scope

SAMPLINGS = ("per_example", "per_batch")


def codes_of_columns(head, group, features):
    """The code each column of each row stands for, found by its logit."""
    logits = np.asarray(head(features), np.float64)
    gaps = np.abs(np.asarray(group.logits, np.float64)[:, :, None] - logits[:, None, :])
    assert (gaps.min(axis=2)[np.asarray(group.valid)] < 1e-5).all()
    return gaps.argmin(axis=2)


def blocks_of_rows(head, group, features):
    """Blocks of the columns that count, in order, for each row."""
    codes = codes_of_columns(head, group, features)
    rows = []
    for row, valid in zip(codes, group.valid.numpy(), strict=True):
        rows.append(list(dict.fromkeys((row[valid] // head.block_size).tolist())))
    return rows


class TestMHS(HeadContract):
    def make(self, num_labels=NUM_LABELS, **arguments):
        return MHS(num_labels, **{"heads": [4, 3], "num_sampled_heads": 2, **arguments})

    def label_scores(self, head, features):
        table, *bias = (weight.astype(np.float64) for weight in head.get_weights())
        scores = features @ table.reshape(-1, self.dim).T
        scores = scores + bias[0].ravel() if bias else scores
        return scores[:, : head.num_labels]

    def test_positives_are_those_of_the_labels(self):
        """Columns are a draw: the positive ones have the logits of the labels."""
        head, features = self.built(), self.features(4)
        rows = [[1, 3, 7], [4, -1, -1], [-1, -1, -1], [11, 0, -1]]
        (group,) = self.groups(head, rows)
        codes = codes_of_columns(head, group, features)
        for number, row in enumerate(rows):
            columns = [c for c in group.positives.numpy()[number] if c >= 0]
            assert group.valid.numpy()[number][columns].all()
            assert sorted(codes[number][columns]) == sorted(label for label in row if label >= 0)

    @pytest.mark.parametrize("tile", [1, 7])
    def test_tiles_give_the_same(self, monkeypatch, tile):
        head, features = self.built(num_labels=11), self.features()
        expected = self.brute_force(head, features, 7)
        monkeypatch.setattr("tfxc.heads.base.TILE", tile)
        monkeypatch.setattr("tfxc.heads.base._TILE_EXAMPLES", 1)
        ids, scores = tf.function(lambda x: head.top_k(x, 7), autograph=False)(features)
        np.testing.assert_array_equal(ids, expected[0])
        np.testing.assert_allclose(scores, expected[1], rtol=1e-4, atol=1e-5)


class TestPerBatchOfThreeDigitsWithBias(TestMHS):
    variant = True

    def make(self, num_labels=NUM_LABELS, **arguments):
        shared = {"heads": [2, 2, 4], "sampling": "per_batch", "bias": True}
        return super().make(num_labels, **{**shared, **arguments})


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("num_labels", [20, 18])
def test_all_blocks_are_the_full_softmax(num_labels, sampling, bias):
    head = MHS(num_labels, heads=[5, 4], num_sampled_heads=5, sampling=sampling, bias=bias)
    features = tf.random.stateless_normal((6, 8), (0, 1))
    labels = tf.constant([[3, -1], [17, 0], [9, 10], [-1, -1], [1, 2], [16, -1]])
    head(features)
    weights = [weight.value for weight in head.trainable_weights]
    with tf.GradientTape(persistent=True) as tape:
        (group,) = head.training_groups(features, labels)
        found = Softmax()(group)
        expected = softmax_cross_entropy(head(features), labels)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for one, other in zip(
        tape.gradient(found, weights), tape.gradient(expected, weights), strict=True
    ):
        one, other = tf.convert_to_tensor(one), tf.convert_to_tensor(other)
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_similarities_of_labels_in_another_order():
    head = MHS(10, heads=[4, 3], num_sampled_heads=2, label_order="random", seed=3)
    head(tf.zeros((1, 5)))
    codes = head.codes_of(tf.range(10)).numpy()
    assert codes.tolist() != list(range(10))
    rows = head.table.numpy().reshape(-1, 5)[codes].astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(head.label_similarities(4), rows @ rows[4], atol=1e-6)


def test_per_example_draws_distinct_blocks_the_true_one_first():
    head = MHS(28, heads=[7, 4], num_sampled_heads=3)
    features = tf.random.stateless_normal((2000, 8), (0, 2))
    head(features[:1])
    labels = np.random.default_rng(1).integers(0, 28, 2000)
    with step_scope(5, 0):
        (group,) = head.training_groups(features, tf.constant(labels[:, None], tf.int32))
    assert group.logits.shape == (2000, 12)
    drawn = np.array(blocks_of_rows(head, group, features))
    np.testing.assert_array_equal(drawn[:, 0], labels // 4)
    assert all(len(set(row)) == 3 for row in drawn.tolist())
    np.testing.assert_array_equal(group.positives[:, 0], labels % 4)
    others = np.array([(b - row[0]) % 7 for row in drawn for b in row[1:]])
    counts = np.bincount(others, minlength=7)
    assert counts[0] == 0
    np.testing.assert_allclose(counts[1:] / 4000, 1 / 6, atol=0.025)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_parts_of_a_batch_draw_what_the_whole_batch_draws(sampling):
    head = MHS(28, heads=[7, 4], num_sampled_heads=2, sampling=sampling)
    features = tf.random.stateless_normal((6, 8), (0, 3))
    labels = tf.constant([[0, 27], [5, -1], [9, 1], [-1, -1], [8, 9], [27, -1]])
    head(features)

    def losses(step, begin, end):
        with step_scope(step, begin):
            (group,) = head.training_groups(features[begin:end], labels[begin:end])
            return Softmax()(group).numpy()

    whole = losses(4, 0, 6)
    np.testing.assert_allclose(np.concatenate([losses(4, 0, 2), losses(4, 2, 6)]), whole, rtol=1e-6)
    assert not all(np.allclose(losses(step, 0, 6), whole) for step in (5, 6, 7))


def test_per_batch_shares_the_drawn_blocks():
    head = MHS(28, heads=[7, 4], num_sampled_heads=3, sampling="per_batch")
    features = tf.random.stateless_normal((40, 8), (0, 4))
    head(features)
    labels = np.random.default_rng(2).integers(0, 28, 40)
    (group,) = head.training_groups(features, tf.constant(labels[:, None], tf.int32))
    assert group.logits.shape == (40, 16)
    rows = blocks_of_rows(head, group, features)
    shared = set.union(*[set(row[1:]) for row in rows])
    assert len(shared) == 3
    for row, label in zip(rows, labels, strict=True):
        assert row[0] == label // 4
        assert set(row) == shared | {label // 4} and len(row) == len(set(row))


def test_more_true_blocks_than_drawn_ones():
    head = MHS(28, heads=[7, 4], num_sampled_heads=2)
    features = tf.random.stateless_normal((2, 8), (0, 5))
    head(features)
    (group,) = head.training_groups(features, tf.constant([[0, 5, 9, 27], [3, -1, -1, -1]]))
    rows = blocks_of_rows(head, group, features)
    assert set(rows[0]) == {0, 1, 2, 6} and rows[1][0] == 0 and len(rows[1]) == 2
    assert (group.positives.numpy()[0] >= 0).all()


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_only_the_blocks_of_a_batch_move(sampling):
    head = MHS(200, heads=[100, 2], num_sampled_heads=2, sampling=sampling)
    model = XCModel(BagMLP(NUM_FEATURES, hidden=[6]), head, Softmax())
    model(example_features(SPARSE, {"num_features": NUM_FEATURES}))
    training = TinyTraining(model=model)
    before = head.table.numpy()
    training.run(1)
    moved = (head.table.numpy() != before).any(axis=(1, 2))
    assert moved[:3].any(), "true blocks"
    drawn = 2 if sampling == "per_batch" else 8
    assert moved[3:].sum() <= drawn
    slots = training.step_function.optimizer.variables_to_save
    of_table = [slot for slot in slots if slot.shape == head.table.shape]
    assert len(of_table) == 2
    for slot in of_table:
        np.testing.assert_array_equal((slot.numpy() != 0).any(axis=(1, 2)), moved)


def test_published_sizes():
    head = MHS(100, heads=[10, 10], num_sampled_heads=4)
    head(tf.zeros((1, 512)))
    assert head.count_params() == 51_200
    head.set_weights([np.zeros_like(weight) for weight in head.get_weights()])
    (group,) = head.training_groups(tf.ones((1, 512)), tf.constant([[67]]))
    assert float(Softmax()(group)[0]) == pytest.approx(np.log(4 * 10))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_sampled_heads": 5}, r"must be at most 4, as many as there are blocks"),
        ({"sampling": "never"}, "sampling: must be one of per_example, per_batch"),
        ({"heads": [2, 3]}, "6 codes for 12 labels"),
    ],
)
def test_wrong_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        MHS(12, **{"heads": [4, 3], "num_sampled_heads": 2, **wrong})
