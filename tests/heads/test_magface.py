import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.head import NUM_LABELS, HeadContract
from tests.heads.class_centres import cosines, loss_by_numpy, losses
from tfxc.heads.magface import MagFace
from tfxc.objectives.scent import SCENT
from tfxc.objectives.softmax import Softmax

LENGTHS = np.array([0.5, 12, 20, 36, 80, 130], "f8")[:, None]
LABELS = [[4], [0], [11], [4], [7], [2]]


class TestMagFace(HeadContract):
    def make(self, num_labels=NUM_LABELS, **arguments):
        settings = {"scale": 16.0, "least_length": 1.0, "largest_length": 5.0}
        return MagFace(num_labels, **{**settings, **arguments})

    def label_scores(self, head, features):
        return head.scale * cosines(features, head.get_weights()[0], head.sub_centers)

    def positive_columns(self, head, labels):
        return [set(labels)]


def head_and_features(dtype="float32", **arguments):
    head = MagFace(NUM_LABELS, seed=1, dtype=dtype, **arguments)
    features = np.random.default_rng(1).normal(size=(6, 8))
    features = LENGTHS * features / np.linalg.norm(features, axis=1, keepdims=True)
    features = tf.constant(features.astype("f4"))
    head(features)
    return head, features


def by_numpy(features, centres, true, sub_centers=1, scale=64):
    """The loss of the paper, equations 4 and 5, each example's."""
    lengths = np.clip(np.linalg.norm(features, axis=1), 10, 110)
    margins = (0.8 - 0.45) / (110 - 10) * (lengths - 10) + 0.45
    plain = cosines(features, centres, sub_centers)
    rows = np.arange(len(true))
    angles = np.arccos(plain[rows, true])
    assert (angles + margins < np.pi).all()
    plain[rows, true] = np.cos(angles + margins)
    return loss_by_numpy(scale * plain, true) + 35 * (1 / lengths + lengths / 110**2)


@pytest.mark.parametrize("sub_centers", [1, 3])
def test_the_loss_is_the_papers(sub_centers):
    head, features = head_and_features(sub_centers=sub_centers)
    centres = head.get_weights()[0]
    expected = by_numpy(features.numpy().astype("f8"), centres, np.ravel(LABELS), sub_centers)
    np.testing.assert_allclose(losses(head, features, LABELS)[0], expected, rtol=1e-4)


def test_gradients_by_differences():
    """Through the angle, the margin and the loss of the length; none beyond the limits of it."""
    head, features = head_and_features(scale=4.0)
    centres, values = head.get_weights()[0].astype("f8"), features.numpy().astype("f8")
    _, found, _ = losses(head, features, LABELS)
    expected = np.zeros_like(values)
    for row, column in np.ndindex(values.shape):
        ends = []
        for step in (1e-4, -1e-4):
            moved = values.copy()
            moved[row, column] += step
            ends.append(by_numpy(moved, centres, np.ravel(LABELS), scale=4).sum())
        expected[row, column] = (ends[0] - ends[1]) / 2e-4
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4)
    along = (found * values).sum(axis=1)
    np.testing.assert_allclose(along[[0, 5]], 0, atol=1e-4)
    assert (np.abs(along[1:5]) > 1e-2).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_finite_where_feature_and_centre_agree(sign):
    head, _ = head_and_features()
    features = sign * 500 * tf.constant(head.get_weights()[0][[3, 5]])
    for result in losses(head, features, [[3], [5]]):
        assert np.isfinite(result).all()
    for result in losses(head, tf.zeros((2, 8)), [[3], [5]]):
        assert np.isfinite(result).all()


@pytest.mark.parametrize(
    "sampling",
    [
        {"sampling": "batch_heads", "heads": [3, 5]},
        {"sampling": "heads", "heads": [3, 5], "num_sampled_heads": 3},
        {"sampling": "partial", "sample_rate": 1.0},
    ],
    ids=lambda sampling: sampling["sampling"],
)
def test_a_sample_of_all_classes_is_the_full_softmax(sampling):
    full, features = head_and_features(sub_centers=2)
    head, _ = head_and_features(sub_centers=2, **sampling)
    for one, other in zip(
        losses(head, features, LABELS), losses(full, features, LABELS), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_an_example_without_a_label_has_no_loss():
    head, features = head_and_features()
    loss, gradient, _ = losses(head, features, [[-1], *LABELS[1:]])
    assert loss[0] == 0 and not gradient[0].any() and (loss[1:] > 0).all()


def test_the_loss_of_lengths_is_added_by_every_objective():
    features = tf.constant(head_and_features()[1])
    for objective in (Softmax(), SCENT(num_examples=6, num_groups=1)):
        found = []
        for weight in (0.0, 35.0):
            head, _ = head_and_features(length_weight=weight)
            groups = head.training_groups(features, tf.constant(LABELS))
            found.append(objective.of_groups(groups, tf.range(6, dtype=tf.int64), False).numpy())
        lengths = np.clip(LENGTHS[:, 0], 10, 110)
        expected = 35 * (1 / lengths + lengths / 110**2)
        np.testing.assert_allclose(found[1] - found[0], expected, rtol=1e-3)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_changes_no_margin(policy):
    """Vectors of half precision are measured in float32: 300 squared is no float16."""
    head, features = head_and_features(dtype=policy)
    half = tf.cast(features, head.compute_dtype) * 4
    values = tf.cast(half, tf.float64).numpy()
    expected = by_numpy(values, head.get_weights()[0], np.ravel(LABELS))
    np.testing.assert_allclose(losses(head, half, LABELS)[0], expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"least_length": 0}, "least_length: .*positive number, not 0"),
        (
            {"largest_length": 5},
            "largest_length: must be above least_length, 10.0",
        ),
        ({"largest_margin": 0.2}, "largest_margin: must be at least least_margin, 0.45"),
        ({"least_margin": 3.2}, "least_margin: .*, not 3.2"),
        ({"length_weight": -1}, "length_weight: must be a number of at least 0, not -1"),
        ({"sampling": "heads"}, "sampling 'heads' needs heads"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        MagFace(NUM_LABELS, **arguments)
