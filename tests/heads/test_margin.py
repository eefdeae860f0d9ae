import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.head import NUM_LABELS, HeadContract
from tests.heads.class_centres import cosines, losses
from tfxc.heads.bases.class_centres.sampling import partial, sampled_blocks, true_blocks
from tfxc.heads.margin import Margin
from tfxc.heads.sampled.head import Sampled
from tfxc.objectives.softmax import Softmax
from tfxc.ops.margins import unit_rows
from tfxc.ops.randomness import step_scope

HEADS = [3, 5]  # three codes more than labels
DIM = 8


class TestMargin(HeadContract):
    def make(self, num_labels=NUM_LABELS, **arguments):
        return Margin(num_labels, **{"scale": 16.0, "m2": 0.3, **arguments})

    def label_scores(self, head, features):
        return head.scale * cosines(features, head.get_weights()[0], head.sub_centers)

    def positive_columns(self, head, labels):
        return [set(labels)]

    @pytest.mark.parametrize("tile", [1, 5, 11])
    def test_tiles_give_the_same(self, monkeypatch, tile):
        head, features = self.built(sub_centers=3), self.features()
        expected = self.brute_force(head, features, 7)
        monkeypatch.setattr("tfxc.heads.base.TILE", tile)
        monkeypatch.setattr("tfxc.heads.base._TILE_EXAMPLES", 1)
        ids, scores = tf.function(lambda x: head.top_k(x, 7), autograph=False)(features)
        np.testing.assert_array_equal(ids, expected[0])
        np.testing.assert_allclose(scores, expected[1], rtol=1e-4, atol=1e-5)


def head_and_features(batch=6, seed=1, **arguments):
    head = Margin(NUM_LABELS, **{"seed": seed, "scale": 64.0, **arguments})
    features = tf.random.stateless_normal((batch, DIM), (seed, 2))
    head(features)
    return head, features


def assert_same(found, expected, tolerance=1e-5):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("sub_centers", [1, 3])
@pytest.mark.parametrize("settings", [{"m2": 0.5}, {"m2": 0.0, "m3": 0.4}])
def test_the_loss_is_the_papers(settings, sub_centers):
    head, features = head_and_features(sub_centers=sub_centers, **settings)
    true = np.array([4, 0, 11, 4, 7, 2])
    plain = cosines(features, head.get_weights()[0], sub_centers)
    rows = np.arange(6)
    moved = plain.copy()
    if settings["m2"]:
        moved[rows, true] = np.cos(np.arccos(plain[rows, true]) + 0.5)
    else:
        moved[rows, true] -= 0.4
    moved *= 64
    expected = np.log(np.exp(moved).sum(axis=1)) - moved[rows, true]
    np.testing.assert_allclose(losses(head, features, true[:, None])[0], expected, rtol=1e-4)


def test_start():
    head = Margin(300, sub_centers=2, seed=4)
    head(tf.zeros((1, 40)))
    (centres,) = head.get_weights()
    assert centres.shape == (600, 40)
    assert np.std(centres) == pytest.approx(0.01, rel=0.03)


@pytest.mark.parametrize("sign", [1, -1])
def test_finite_where_feature_and_centre_agree(sign):
    head, _ = head_and_features()
    features = tf.constant(sign * head.get_weights()[0][[3, 5]])
    for result in losses(head, features, [[3], [5]]):
        assert np.isfinite(result).all()
    for result in losses(head, tf.zeros((2, DIM)), [[3], [5]]):
        assert np.isfinite(result).all()


# Unsorted, several labels, none, and every head of HEADS hit.
LABELS = [[11, -1], [0, -1], [7, 3], [-1, -1], [7, -1], [2, 10]]


@pytest.mark.parametrize("sub_centers", [1, 2])
@pytest.mark.parametrize(
    "sampling",
    [
        {"sampling": "batch_heads", "heads": HEADS},
        {"sampling": "heads", "heads": HEADS, "num_sampled_heads": 3},
        {"sampling": "partial", "sample_rate": 1.0},
    ],
    ids=lambda sampling: sampling["sampling"],
)
def test_a_sample_of_all_classes_is_the_full_softmax(sampling, sub_centers):
    full, features = head_and_features(sub_centers=sub_centers)
    head, _ = head_and_features(sub_centers=sub_centers, **sampling)
    assert_same(losses(head, features, LABELS), losses(full, features, LABELS), 1e-4)


def test_batch_heads_leaves_the_other_heads_out():
    full, features = head_and_features()
    head, _ = head_and_features(sampling="batch_heads", heads=HEADS)
    labels = [[11], [2], [10], [-1], [0], [1]]  # heads 2 and 0; classes 5 .. 9 are of head 1
    plain = 64 * cosines(features, full.get_weights()[0])
    (group,) = head.training_groups(features, tf.constant(labels))
    assert group.logits.shape == (6, 10)
    np.testing.assert_array_equal(group.positives[:, 0], [6, 2, 5, -1, 0, 1])
    np.testing.assert_array_equal(group.valid, [[True] * 7 + [False] * 3] * 6)
    columns = [0, 1, 2, 3, 4, 10, 11]
    negative = np.ones((6, 7), bool)
    negative[np.arange(6), [6, 2, 5, 0, 0, 1]] = False
    found = group.logits.numpy()[:, :7]
    np.testing.assert_allclose(found[negative], plain[:, columns][negative], rtol=1e-4, atol=1e-4)
    _, _, gradient = losses(head, features, labels)
    assert not gradient[5:10].any() and gradient[columns].any(axis=1).all()


@pytest.mark.parametrize("labels", [[[8]] * 6, [[-1]] * 6], ids=["one class", "no label"])
@pytest.mark.parametrize(
    "sampling",
    [
        {"sampling": "batch_heads", "heads": HEADS},
        {"sampling": "heads", "heads": HEADS, "num_sampled_heads": 1},
        {"sampling": "partial", "sample_rate": 0.01},
    ],
    ids=lambda sampling: sampling["sampling"],
)
def test_a_batch_of_one_class_and_one_without_labels(sampling, labels):
    head, features = head_and_features(**sampling)
    loss, *gradients = losses(head, features, labels)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert (loss == 0).all() if labels[0] == [-1] else (loss >= 0).all()


def test_gradients_touch_the_sampled_rows_only():
    head, features = head_and_features(sampling="partial", sample_rate=0.5, sub_centers=2)
    with tf.GradientTape() as tape:
        (group,) = head.training_groups(features, tf.constant([[1], [2]] * 3))
        loss = tf.reduce_sum(Softmax()(group))
    gradient = tape.gradient(loss, head.centres.value)
    assert isinstance(gradient, tf.IndexedSlices)
    rows = gradient.indices.numpy()
    assert len(rows) == len(set(rows)) == 12
    assert {2, 3, 4, 5} <= set(rows)
    assert (rows[::2] + 1 == rows[1::2]).all()


def partial_ids(labels, count, step, num_classes=40, seed=5):
    labels = tf.constant(labels)
    with step_scope(step, 0):
        columns = partial(labels, num_classes, count, seed, tf.reshape(labels, [-1]))
    return columns.ids.numpy(), columns.positives.numpy()


def test_partial_keeps_the_batch_and_fills_up_evenly():
    labels = [[31, -1], [4, 17], [-1, -1]]
    drawn = np.zeros(40)

    @tf.function(autograph=False)
    def draws(step):
        with step_scope(step, 0):
            columns = partial(tf.constant(labels), 40, 10, 5, tf.reshape(labels, [-1]))
        return columns.ids, columns.positives

    for step in range(400):
        ids, positives = (part.numpy() for part in draws(tf.constant(step)))
        assert len(ids) == 10 and (np.diff(ids) > 0).all()
        known = np.array(labels) >= 0
        np.testing.assert_array_equal(ids[positives[known]], np.array(labels)[known])
        assert (positives[~known] == -1).all()
        drawn[ids] += 1
    assert (drawn[[31, 4, 17]] == 400).all()
    others = np.delete(drawn, [31, 4, 17])
    # 7 of 37 classes per step; five standard deviations
    np.testing.assert_allclose(others, 400 * 7 / 37, atol=5 * np.sqrt(400 * 7 / 37 * 30 / 37))


def test_partial_with_more_classes_than_asked_for_draws_none():
    ids, positives = partial_ids([[9], [3], [9], [6]], 2, step=1)
    np.testing.assert_array_equal(ids, [3, 6, 9])
    np.testing.assert_array_equal(positives[:, 0], [2, 0, 2, 1])


def test_partial_draws_the_same_in_every_part_of_a_batch():
    labels = tf.constant([[1], [2]])
    drawn = []
    for first_row in (0, 64):
        with step_scope(7, first_row):
            drawn.append(partial(labels, 40, 10, 5, tf.reshape(labels, [-1])).ids.numpy())
    np.testing.assert_array_equal(*drawn)


def test_sampled_heads_are_distinct_and_the_true_one_is_first():
    labels = np.random.default_rng(0).integers(0, 48, (500, 1)).astype(np.int32)
    with step_scope(2, 0):
        columns = sampled_blocks(tf.constant(labels), (12, 4), 3, seed=1)
    heads = columns.ids.numpy()[:, ::4] // 4
    assert heads.shape == (500, 3)
    np.testing.assert_array_equal(heads[:, 0], labels[:, 0] // 4)
    np.testing.assert_array_equal(columns.positives, labels % 4)
    assert all(len(set(row)) == 3 for row in heads)
    counts = np.bincount(heads[:, 1:].ravel(), minlength=12)
    np.testing.assert_allclose(counts, 1000 / 12, atol=5 * np.sqrt(1000 / 12))
    np.testing.assert_array_equal(
        columns.ids.numpy().reshape(500, 3, 4) % 4, [[range(4)] * 3] * 500
    )


def test_several_true_heads_come_first_and_what_does_not_fit_is_left_out():
    columns = sampled_blocks(tf.constant([[9, 1, 5], [2, -1, 3]]), (4, 3), 2, seed=1)
    np.testing.assert_array_equal(columns.ids[0], [0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(columns.positives[0], [-1, 1, 5])
    np.testing.assert_array_equal(np.sort(columns.ids[1])[:6], np.sort([0, 1, 2, 3, 4, 5]))
    np.testing.assert_array_equal(np.sort(columns.positives[1]), [-1, 2, 3])


def test_true_heads_are_ranked_in_order():
    labels = tf.constant([[14], [3], [-1], [13]], tf.int64)
    columns = true_blocks(labels, (4, 4), tf.reshape(labels, [-1]))
    np.testing.assert_array_equal(columns.ids, [0, 1, 2, 3, 12, 13, 14, 15])
    np.testing.assert_array_equal(columns.positives[:, 0], [6, 3, -1, 5])


@pytest.mark.parametrize("num_labels", [2, 12, 964, 10**6])
def test_the_scale_that_is_left_out_reaches_the_probability(num_labels):
    """The true class at cosine 1, the others at 0: softmax by hand."""
    head = Margin(num_labels)
    true = 1 / (1 + (num_labels - 1) * np.exp(-head.scale))
    assert true == pytest.approx(0.9999, rel=1e-9)
    assert Margin.resolved({"name": "margin"}, num_labels) == {"scale": head.scale}
    assert Margin.resolved({"name": "margin", "scale": None}, num_labels) == {"scale": head.scale}
    assert Margin.resolved({"name": "margin", "scale": 30.0}, num_labels) == {}
    assert head.get_config()["scale"] == head.scale


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 0.0}, "scale: .*positive number, not 0"),
        ({"m1": 0.5}, "m1: .*number of at least 1, not 0.5"),
        ({"m2": 3.2}, r"m2: .*a number of at least 0 and below 3.14159, not 3.2"),
        ({"m3": -0.1}, "m3: .*number of at least 0"),
        ({"sub_centers": 0}, "sub_centers: .*integer of at least 1"),
        ({"sampling": "some"}, "sampling: must be one of batch_heads, heads, partial"),
        ({"sampling": "heads"}, "sampling 'heads' needs heads"),
        ({"sampling": "partial"}, "sampling 'partial' needs sample_rate"),
        ({"sample_rate": 0.1}, "sampling None does not use sample_rate"),
        (
            {"sampling": "partial", "sample_rate": 1.1},
            r"sample_rate: .*a number above 0 and at most 1",
        ),
        ({"sampling": "partial", "sample_rate": "0.5"}, "at most 1, not '0.5'"),
        ({"sampling": "batch_heads", "heads": 12}, "heads: must be a list, .* not 12"),
        (
            {"sampling": "heads", "heads": HEADS, "num_sampled_heads": 1.5},
            "num_sampled_heads: must be an integer .*, not 1.5",
        ),
        (
            {"sampling": "batch_heads", "heads": [3, 3]},
            r"heads \[3, 3\] have 9 codes for 12 labels",
        ),
        ({"sampling": "batch_heads", "heads": [12]}, r"heads: must be two sizes, not \[12\]"),
        (
            {"sampling": "heads", "heads": HEADS, "num_sampled_heads": 4},
            "num_sampled_heads: must be at most 3, as many as there are heads, not 4",
        ),
    ],
)
def test_arguments_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Margin(NUM_LABELS, **arguments)


def test_calling_scores_tiles_where_there_are_many_labels(monkeypatch):
    """The table is not normalised as a whole; neither is that of a sampled head of cosines."""
    features = np.random.default_rng(0).normal(size=(3, DIM)).astype(np.float32)
    heads = Margin(NUM_LABELS, sub_centers=2), Sampled(NUM_LABELS, score="cosine", scale=9.0)
    whole, read = [head(features).numpy() for head in heads], []

    def noted(rows):
        read.append(len(rows))
        return unit_rows(rows)

    for module in ("base", "sampled.head", "bases.class_centres.head"):
        monkeypatch.setattr(f"tfxc.heads.{module}.TILE", 4)
    for module in ("sampled.head", "bases.class_centres.head"):
        monkeypatch.setattr(f"tfxc.heads.{module}.unit_rows", noted)
    for head, expected in zip(heads, whole, strict=True):
        np.testing.assert_allclose(head(features), expected, rtol=1e-5)
    assert max(read) == 8
