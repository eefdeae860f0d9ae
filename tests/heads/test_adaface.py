import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.head import NUM_LABELS, HeadContract
from tests.heads.class_centres import cosines, loss_by_numpy, losses
from tfxc.heads.adaface import AdaFace
from tfxc.ops.randomness import step_scope

LABELS = [[4], [0], [11], [4], [7], [2]]


class TestAdaFace(HeadContract):
    def make(self, num_labels=NUM_LABELS, **arguments):
        """With statistics that do not move, so that a batch has the same groups twice."""
        settings = {"scale": 16.0, "margin": 0.3, "momentum": 1.0, "concentration": 300.0}
        return AdaFace(num_labels, **{**settings, **arguments})

    def label_scores(self, head, features):
        return head.scale * cosines(features, head.get_weights()[0], head.sub_centers)

    def positive_columns(self, head, labels):
        return [set(labels)]


def head_and_features(dtype="float32", **arguments):
    head = AdaFace(NUM_LABELS, seed=1, dtype=dtype, **arguments)
    lengths = np.array([0.5, 8, 20, 26, 60, 130], "f4")[:, None]
    features = tf.random.stateless_normal((6, 8), (1, 2))
    features = lengths * features / tf.norm(features, axis=1, keepdims=True)
    head(features)
    return head, features


def statistics(head):
    return [float(head.length_mean.value), float(head.length_std.value)]


def by_numpy(head, features, mean, std, true, margin=0.4, concentration=0.333):
    """The loss of the paper, equations 12 to 14."""
    lengths = np.clip(np.linalg.norm(np.asarray(features, "f8"), axis=1), 1e-3, 100)
    z = np.clip((lengths - mean) / (std + 1e-3) * concentration, -1, 1)
    plain = cosines(features, head.get_weights()[0], head.sub_centers)
    rows = np.arange(len(true))
    angles = np.clip(np.arccos(plain[rows, true]) - margin * z, 0, np.pi)
    plain[rows, true] = np.cos(angles) - (margin * z + margin)
    return loss_by_numpy(64 * plain, true), z


@pytest.mark.parametrize("sub_centers", [1, 3])
def test_the_loss_is_the_papers(sub_centers):
    """The first training batch moves the statistics by a hundredth, then uses them."""
    head, features = head_and_features(sub_centers=sub_centers)
    lengths = np.array([0.5, 8, 20, 26, 60, 100])
    for _ in range(3):
        mean, std = statistics(head)
        mean, std = 0.99 * mean + 0.01 * lengths.mean(), 0.99 * std + 0.01 * lengths.std(ddof=1)
        expected, z = by_numpy(head, features, mean, std, np.ravel(LABELS))
        assert len(set(z)) == 6
        np.testing.assert_allclose(losses(head, features, LABELS)[0], expected, rtol=1e-4)
        np.testing.assert_allclose(statistics(head), [mean, std], rtol=1e-6)


def test_both_ends_of_the_margin():
    """z of -1 and 1: ArcFace, and a negative angular margin."""
    head, features = head_and_features(concentration=1000.0, margin=0.3)
    expected, z = by_numpy(head, features, 20.0, 100.0, np.ravel(LABELS), 0.3, 1000.0)
    assert set(z) >= {-1, 1}
    (group,) = head.training_groups(features, tf.constant(LABELS))
    found = loss_by_numpy(group.logits.numpy().astype("f8"), np.ravel(LABELS))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_statistics_move_in_training_steps_only():
    head, features = head_and_features()
    head.training_groups(features, tf.constant(LABELS))
    assert statistics(head) == [20, 100]
    with step_scope(1, 0):
        head.training_groups(features[:1], tf.constant(LABELS[:1]))
    np.testing.assert_allclose(statistics(head), [0.99 * 20 + 0.01 * 0.5, 99], rtol=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("concentration", [1e-3, 1e3])
def test_finite_where_feature_and_centre_agree(sign, concentration):
    head, _ = head_and_features(concentration=concentration)
    features = sign * 50 * tf.constant(head.get_weights()[0][[3, 5]])
    for result in losses(head, features, [[3], [5]]):
        assert np.isfinite(result).all()
    for result in losses(head, tf.zeros((2, 8)), [[3], [5]]):
        assert np.isfinite(result).all()


def test_no_gradient_flows_through_the_length():
    """The loss of a vector depends on its direction only, as far as gradients see."""
    head, features = head_and_features()
    _, gradient, _ = losses(head, features, LABELS)
    unit = features / tf.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose((gradient * unit.numpy()).sum(axis=1), np.zeros(6), atol=1e-4)


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


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_changes_no_margin(policy):
    """Vectors of half precision are measured in float32: 300 squared is no float16."""
    head, features = head_and_features(dtype=policy)
    half = tf.cast(features, head.compute_dtype) * 4
    expected, _ = by_numpy(head, tf.cast(half, tf.float64), 20.0, 100.0, np.ravel(LABELS))
    (group,) = head.training_groups(half, tf.constant(LABELS))
    assert group.logits.dtype == tf.float32
    found = loss_by_numpy(group.logits.numpy().astype("f8"), np.ravel(LABELS))
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"margin": -0.1}, r"margin: .*a number of at least 0 and below 3.14159, not -0.1"),
        ({"margin": 3.5}, r"margin: .*a number of at least 0 and below 3.14159, not 3.5"),
        ({"concentration": 0}, "concentration: .*positive number, not 0"),
        ({"momentum": 1.5}, r"momentum: .*a number from 0 to 1, not 1.5"),
        ({"sampling": "heads"}, "sampling 'heads' needs heads"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdaFace(NUM_LABELS, **arguments)
