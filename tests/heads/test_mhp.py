import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.head import NUM_LABELS, HeadContract
from tests.heads.digits_by_numpy import digits_of, log_probabilities
from tfxc.heads.mhp import MHP
from tfxc.labels.label_order import random_order
from tfxc.objectives.sigmoid import Sigmoid
from tfxc.objectives.softmax import Softmax


class TestMHP(HeadContract):
    tiled = False

    def make(self, num_labels=NUM_LABELS, **arguments):
        return MHP(num_labels, **{"heads": [4, 3], **arguments})

    def label_scores(self, head, features):
        kernel, bias = (weight.astype(np.float64) for weight in head.get_weights()[:2])
        ends = np.cumsum(head.heads)[:-1]
        parts = np.split(features @ kernel + bias, ends, axis=1)
        digits = digits_of(np.arange(head.num_labels), head.heads)
        scores = (log_probabilities(part, head.link) for part in parts)
        return sum(score[:, digit] for score, digit in zip(scores, digits, strict=True))

    def positive_columns(self, head, labels):
        return [set(digit) for digit in digits_of(labels, head.heads).tolist()]

    @pytest.mark.parametrize("num_labels", [12, 97, 51, 26])
    @pytest.mark.parametrize("link", [None, "sigmoid", "hinge"])
    def test_equals_brute_force_over_all_labels(self, num_labels, link):
        sizes = [4, 3] if num_labels == 12 else [5, 2, 2, 5]
        head, features = self.built(num_labels=num_labels, heads=sizes, link=link), self.features()
        for k in (1, 2, 9, num_labels):
            k = min(k, num_labels)
            ids, scores = head.top_k(features, k)
            expected_ids, expected_scores = self.brute_force(head, features, k)
            np.testing.assert_array_equal(ids, expected_ids)
            np.testing.assert_allclose(scores, expected_scores, rtol=1e-4, atol=1e-5)


class TestJointGroupOfThreeDigitsWithSpareCodes(TestMHP):
    least_loss = np.log(3)

    def make(self, num_labels=NUM_LABELS, **arguments):
        joint = {"heads": [2, 4, 2], "grouping": "joint", "link": "sigmoid"}
        return super().make(num_labels, **{**joint, **arguments})

    def positive_columns(self, head, labels):
        parts = zip(digits_of(labels, head.heads).tolist(), (0, 2, 6), strict=True)
        return [{digit + offset for digits, offset in parts for digit in digits}]


@pytest.mark.parametrize(
    ("grouping", "objective", "expected"),
    [
        ("joint", Sigmoid(reduction="mean"), 0.6931),  # ln 2, the authors' CIFAR code
        ("joint", Softmax(reduction="sum"), 5.9915),  # 2 ln 20, their ImageNet code
        ("per_head", Softmax(), 4.6052),  # 2 ln 10, the paper
    ],
)
def test_losses_of_logits_zero(grouping, objective, expected):
    head = MHP(100, heads=[10, 10], grouping=grouping)
    head(tf.zeros((1, 3)))
    head.set_weights([np.zeros_like(weight) for weight in head.get_weights()])
    groups = head.training_groups(tf.ones((2, 3)), tf.constant([[67], [3]]))
    loss = tf.add_n([objective(group) for group in groups])
    np.testing.assert_allclose(loss, [expected] * 2, atol=1e-4)


def test_published_sizes():
    head = MHP(100, heads=[10, 10])
    head(tf.zeros((1, 512)))
    assert head.count_params() == 10_260
    head = MHP(1000, heads=[40, 25])
    head(tf.zeros((1, 2048)))
    assert head.count_params() == 133_185


def test_num_heads_takes_the_smallest_sizes():
    assert MHP(670_091, num_heads=2).heads == (844, 794)
    for wrong, found in (({}, "neither"), ({"heads": [4, 3], "num_heads": 2}, "both")):
        with pytest.raises(ValueError, match=f"heads, such as .* found {found}"):
            MHP(12, **wrong)


def test_random_order_gives_labels_their_codes():
    plain, other = MHP(50, heads=[8, 7]), MHP(50, heads=[8, 7], label_order="random", seed=3)
    features = tf.random.stateless_normal((5, 6), (0, 1))
    plain(features), other(features)
    for one, two in zip(plain.trainable_weights, other.trainable_weights, strict=True):
        one.assign(two)
    codes = random_order(50, 3)
    by_code = np.zeros((5, 50))
    ids, scores = (np.asarray(part) for part in plain.top_k(features, 50))
    np.put_along_axis(by_code, ids, scores, axis=1)
    ids, scores = other.top_k(features, 50)
    np.testing.assert_array_equal(ids, np.argsort(-by_code[:, codes], kind="stable", axis=1))
    found = other.training_groups(features, tf.constant([[7, 49, 50]] * 5))
    expected = plain.training_groups(features, tf.constant([[codes[7], codes[49], -1]] * 5))
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.positives, two.positives)


def test_weights_bring_the_codes_back():
    codes = np.random.default_rng(0).permutation(30).astype(np.int32)
    head = MHP(30, heads=[6, 5], label_order="clusters", label_codes=codes)
    features = tf.random.stateless_normal((4, 6), (0, 2))
    head(features)
    restored = MHP.from_config(head.get_config())
    restored(features)
    restored.set_weights(head.get_weights())
    np.testing.assert_array_equal(restored.top_k(features, 30)[0], head.top_k(features, 30)[0])
    np.testing.assert_array_equal(restored.codes_of(tf.range(30)), codes)


def test_no_matrix_over_all_labels():
    head = MHP(10**6, num_heads=2)
    graph = tf.function(lambda x: head.top_k(x, 100)).get_concrete_function(
        tf.TensorSpec((7, 4), tf.float32)
    )
    widths = [n for op in graph.graph.get_operations() for x in op.outputs for n in x.shape if n]
    assert 2000 <= max(widths) < 10_000
