import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.head import NUM_LABELS, HeadContract
from tests.heads.digits_by_numpy import digits_of, log_probabilities
from tfxc.encoders.precomputed import Precomputed
from tfxc.heads.mhp import MHP
from tfxc.labels.label_order import random_order
from tfxc.model import XCModel
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

    def codes(self, head):
        return [np.arange(head.num_labels)]

    def similarities(self, head):
        kernel, begin, found = head.get_weights()[0].astype(np.float64), 0, []
        kernel /= np.linalg.norm(kernel, axis=0)
        for codes in self.codes(head):
            for digit, size in zip(digits_of(codes, head.heads), head.heads, strict=True):
                vectors = kernel[:, begin : begin + size][:, digit]
                found.append(vectors.T @ vectors)
                begin += size
        return np.mean(found, axis=0)

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


class TestMHPOfSeveralCodes(TestMHP):
    """Three codes of two digits with a spare value, by brute force over all labels."""

    variant = True
    tiled = True
    labels_of_two_tiles = 2500
    heads = (5, 3)

    def make(self, num_labels=NUM_LABELS, **arguments):
        sizes = {"heads": self.heads} if num_labels <= 15 else {"num_heads": 2}
        sizes = {} if "heads" in arguments else sizes
        return MHP(num_labels, **{**sizes, "repeats": 3, **arguments})

    def codes(self, head):
        """Codes (R, N): the labels' ids, then the permutations that the seeds yield."""
        others = [random_order(head.num_labels, (head.seed, r)) for r in (1, 2)]
        return [np.arange(head.num_labels), *others]

    def label_scores(self, head, features):
        kernel, bias = (weight.astype(np.float64) for weight in head.get_weights()[:2])
        logits = features @ kernel + bias
        total, begin = 0, 0
        for codes in self.codes(head):
            for digit, size in zip(digits_of(codes, head.heads), head.heads, strict=True):
                part = log_probabilities(logits[:, begin : begin + size], head.link)
                total, begin = total + part[:, digit], begin + size
        return total

    def positive_columns(self, head, labels):
        digits = (digits_of(codes[labels], head.heads) for codes in self.codes(head))
        return [set(digit) for of_code in digits for digit in of_code.tolist()]


class TestJointGroupOfThreeDigitsWithSpareCodes(TestMHP):
    variant = True
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
        with pytest.raises(ValueError, match=f"heads, such as .* but not {found}"):
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
    graph = tf.function(lambda x: head.top_k(x, 100), autograph=False).get_concrete_function(
        tf.TensorSpec((7, 4), tf.float32)
    )
    widths = [n for op in graph.graph.get_operations() for x in op.outputs for n in x.shape if n]
    assert 2000 <= max(widths) < 10_000


@pytest.mark.parametrize("order", ["given", "random", "clusters"])
def test_the_first_of_several_codes_is_in_the_label_order(order):
    given = np.random.default_rng(1).permutation(30).astype(np.int32)
    codes = {"given": np.arange(30), "random": random_order(30, 4), "clusters": given}[order]
    head = MHP(30, heads=[6, 5], repeats=2, label_order=order, label_codes=given, seed=4)
    features, labels = tf.ones((1, 3)), tf.constant([[7, 29, 30]])
    head(features)
    other = random_order(30, (4, 1))
    expected = [*digits_of(codes[[7, 29]], (6, 5)), *digits_of(other[[7, 29]], (6, 5))]
    found = [group.positives.numpy()[0] for group in head.training_groups(features, labels)]
    for positives, digits in zip(found, expected, strict=True):
        assert set(positives) - {-1} == set(digits)


def test_loss_of_several_codes_is_that_of_as_many_heads():
    """Each code of a wide head has the loss of a head of its own, with its columns."""
    wide = MHP(30, heads=[6, 5], repeats=3, seed=2)
    features, labels = tf.random.stateless_normal((4, 6), (0, 2)), tf.constant([[3], [9], [0], [4]])
    wide(features)
    loss = tf.add_n([Softmax()(group) for group in wide.training_groups(features, labels)])
    kernel, bias = wide.get_weights()[:2]
    codes = [np.arange(30, dtype=np.int32), *(random_order(30, (2, r)) for r in (1, 2))]
    expected = 0
    for number, of_label in enumerate(codes):
        one = MHP(30, heads=[6, 5], label_order="clusters", label_codes=of_label)
        one(features)
        columns = slice(11 * number, 11 * number + 11)
        one.kernel.assign(kernel[:, columns]), one.bias.assign(bias[columns])
        groups = one.training_groups(features, labels)
        expected = expected + tf.add_n([Softmax()(group) for group in groups])
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_joint_grouping_has_a_group_for_each_code():
    heads = [MHP(30, heads=[6, 5], repeats=3, seed=2, grouping=g) for g in ("per_head", "joint")]
    features, labels = tf.ones((1, 6)), tf.constant([[3, 17, 30, -1]])
    for head in heads:
        head(features)
    digits, joint = (head.training_groups(features, labels) for head in heads)
    assert [head.num_groups for head in heads] == [len(digits), len(joint)] == [6, 3]
    for group, leading, last in zip(joint, digits[::2], digits[1::2], strict=True):
        np.testing.assert_array_equal(group.logits, tf.concat([leading.logits, last.logits], 1))
        columns = [c for c in leading.positives.numpy()[0] if c >= 0]
        columns += [6 + c for c in last.positives.numpy()[0] if c >= 0]
        assert {c for c in group.positives.numpy()[0] if c >= 0} == set(columns)


def test_weights_bring_several_codes_back():
    """Also into a head whose search has built the tables of other codes."""
    head, restored = (MHP(40, heads=[8, 5], repeats=2, seed=seed) for seed in (3, 4))
    features = tf.random.stateless_normal((4, 6), (0, 2))
    for one in (head, restored):
        one(features)
        one.search_top_k(one.search_scores(features).numpy(), 5)
    restored.set_weights(head.get_weights())
    for one, other in zip(head.top_k(features, 9), restored.top_k(features, 9), strict=True):
        np.testing.assert_array_equal(one, other)
    found = restored.search_top_k(restored.search_scores(features).numpy(), 9)
    np.testing.assert_array_equal(found[0], head.top_k(features, 9)[0])


def test_search_reads_the_codes_once_until_a_file_brings_others(tmp_path, monkeypatch):
    models = [
        XCModel(Precomputed(6), MHP(40, heads=[8, 5], repeats=2, seed=seed), Softmax())
        for seed in (3, 4)
    ]
    features = tf.random.stateless_normal((4, 6), (0, 2))
    for model in models:
        model(features)
        model.find_top_k(features, 9)
    models[0].save_weights(tmp_path / "x.weights.h5")
    models[1].load_weights(tmp_path / "x.weights.h5")
    expected = models[0].top_k(features, 9)[0]
    np.testing.assert_array_equal(models[1].find_top_k(features, 9)[0], expected)
    monkeypatch.setattr(models[1].head, "_codes", None)
    np.testing.assert_array_equal(models[1].find_top_k(features, 9)[0], expected)


def test_published_columns_of_several_codes():
    head = MHP(1623, heads=[41, 40], repeats=4)
    assert (head.training_columns, head.num_groups) == (324, 8)
