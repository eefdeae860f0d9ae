import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.objective import COLUMNS, ObjectiveContract, group_of, random_logits
from tests.objectives.true_columns import mean_over_true, probabilities, repeated_columns
from tfxc.objectives.focal import Focal
from tfxc.objectives.softmax import Softmax
from tfxc.ops.logit_group import LogitGroup


class TestFocal(ObjectiveContract):
    gamma, alpha = 2.0, None

    def make(self):
        return Focal(gamma=self.gamma, alpha=self.alpha)

    def reference(self, logits, target, valid):
        p = probabilities(logits, valid)
        alpha = np.ones(COLUMNS) if self.alpha is None else np.array(self.alpha)
        with np.errstate(divide="ignore", invalid="ignore"):
            losses = -alpha * (1 - p) ** self.gamma * np.log(p)
        return mean_over_true(losses, target)


class TestFocalOfSmallGamma(TestFocal):
    gamma = 0.5


class TestWeightedFocal(TestFocal):
    alpha = (0.5, 1.0, 2.0, 0.0, 1.5, 1.0, 3.0, 0.25, 0.1)


def test_without_gamma_it_is_the_softmax():
    group = group_of(random_logits())
    np.testing.assert_allclose(Focal(gamma=0.0)(group), Softmax()(group), rtol=1e-5, atol=1e-6)


def test_alpha_stays_what_it_was():
    objective = Focal(alpha=[1.0] * COLUMNS)
    one, other = objective(group_of(random_logits())), objective(group_of(random_logits()))
    np.testing.assert_array_equal(one, other)


def test_columns_that_stand_for_several():
    weighted, copied = repeated_columns()
    np.testing.assert_allclose(Focal()(weighted), Focal()(copied), rtol=1e-5)


@pytest.mark.parametrize(
    "group",
    [
        LogitGroup(tf.zeros((1, 4)), tf.constant([[2]])),
        LogitGroup(tf.zeros((1, 3)), tf.constant([[2]]), log_weights=tf.zeros(3)),
    ],
)
def test_alpha_needs_all_labels(group):
    with pytest.raises(ValueError, match="need a head whose columns are the labels"):
        Focal(alpha=[1.0, 2.0, 3.0])(group)


def test_alpha_needs_all_labels_in_a_graph():
    objective = Focal(alpha=[1.0, 2.0])
    spec = [tf.TensorSpec([None, None]), tf.TensorSpec([None, None], tf.int32)]
    compiled = tf.function(
        lambda *parts: objective(LogitGroup(*parts)), input_signature=spec, autograph=False
    )
    with pytest.raises(ValueError, match="a head whose columns are the"):
        compiled(tf.zeros((1, 2)), tf.constant([[1]]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"gamma": -1.0}, "gamma: .*number of at least 0, not -1.0"),
        (
            {"alpha": [1.0, -2.0]},
            r"at least one item, each item a number of at least 0, not \[1\.0, -2\.0\]",
        ),
        ({"alpha": [1.0, 2.0], "num_labels": 3}, "alpha: there are 2 weights for 3 labels"),
        ({"alpha": [1.0, 2.0], "num_groups": 4}, "alpha: .* not one with 4 groups"),
    ],
)
def test_wrong_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        Focal(**wrong)


def test_link():
    assert Focal.link == "softmax"
