import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.technique import TechniqueContract
from tests.techniques.one_step import (
    NUM_LABELS,
    applied,
    assert_gradients,
    dense_gradients,
    text_model,
    texts,
)
from tfxc.core.errors import ConfigError
from tfxc.heads.magface import MagFace
from tfxc.heads.mhs import MHS
from tfxc.ops.logit_group import LogitGroup
from tfxc.ops.randomness import dropout, step_scope
from tfxc.techniques.multi_sample_dropout import MultiSampleDropout
from tfxc.techniques.rdrop import RDrop


class TestMultiSampleDropout(TechniqueContract):
    name = "multi_sample_dropout"
    arguments = {"rate": 0.2}  # noqa: RUF012 (read only)


def test_equals_the_mean_of_the_logits():
    """The dense head is linear: its mean logits are the logits of the mean vector."""
    model = text_model()

    def losses_of(batch):
        vectors = model.encoder(batch["features"])
        with step_scope(0, 0):
            mean = sum(dropout(vectors, 0.4, seed=7960) for _ in range(3)) / 3
        (group,) = model.head.training_groups(mean, batch["labels"])
        return model.objective(group)

    loss, gradients = dense_gradients(model, texts(), losses_of=losses_of)
    technique = MultiSampleDropout(rounds=3, rate=0.4, seed=7)
    found_loss, found = applied(text_model(), [technique], [texts()])
    assert found_loss == pytest.approx(loss, rel=1e-5)
    assert_gradients(found, gradients)
    assert abs(loss - dense_gradients(model, texts())[0]) > 1e-3


def test_masks_differ_and_samples_stay_with_their_pass():
    """A head that shows the vectors, two passes."""

    def head(passes, _labels):
        return [(LogitGroup(vectors, None),) for vectors in passes]

    passes = [tf.ones((40, 30)), tf.fill((40, 30), 5.0)]
    with step_scope(2, 0):
        one, other = MultiSampleDropout(rounds=4).groups(head, passes, None)
    # Of four fair masks k keep a unit with the probability binomial(4, k) / 16, with twice its
    # value; one mask would give 0 and 2 only.
    values, counts = np.unique(one[0].logits, return_counts=True)
    assert values.tolist() == [0, 0.5, 1, 1.5, 2]
    np.testing.assert_allclose(counts / 1200, np.array([1, 4, 6, 4, 1]) / 16, atol=0.06)
    assert set(np.unique(other[0].logits)) == {0, 2.5, 5, 7.5, 10}


def test_samples_of_a_sampling_head_have_the_same_columns():
    head = MHS(60, heads=[10, 6], num_sampled_heads=2)
    vectors, labels = tf.random.stateless_normal((5, 8), (1, 2)), tf.constant([[3]] * 5)
    with step_scope(0, 0):
        one, other = head.groups_of_passes([vectors, vectors], labels)
        (later,) = head.groups_of_passes([vectors], labels)
    np.testing.assert_array_equal(one[0].logits, other[0].logits)
    assert (one[0].logits.numpy() != later[0].logits.numpy()).any()


def test_penalties_are_averaged():
    head = MagFace(4, largest_length=9.0, least_length=0.1)
    head.build((None, 8))
    vectors, labels = tf.random.stateless_normal((5, 8), (1, 2)), tf.constant([[3]] * 5)
    with step_scope(0, 0):
        copies = [dropout(vectors, 0.5, seed=960) for _ in range(3)]
    with step_scope(0, 0):
        ((group,),) = MultiSampleDropout(rounds=3).groups(head.groups_of_passes, [vectors], labels)
    single = [head.training_groups(copy, labels)[0].penalties.numpy() for copy in copies]
    assert np.abs(single[0] - single[1]).max() > 1e-3
    np.testing.assert_allclose(group.penalties, np.mean(single, axis=0), rtol=1e-5)


def test_with_rdrop():
    """Without drops inside the encoder R-Drop compares two means."""
    model = text_model()

    def losses_of(batch):
        vectors = model.encoder(batch["features"])
        with step_scope(0, 0):
            means = [sum(dropout(vectors, 0.4, seed=960) for _ in range(3)) / 3 for _ in range(2)]
        parts = [model.head.training_groups(mean, batch["labels"])[0] for mean in means]
        return 0.5 * tf.add_n([model.objective(group) for group in parts])

    techniques = [RDrop(alpha=0), MultiSampleDropout(rounds=3, rate=0.4)]
    for stack in (techniques, techniques[::-1]):
        loss, found = applied(text_model(), stack, [texts()])
        expected, gradients = dense_gradients(model, texts(), losses_of=losses_of)
        assert loss == pytest.approx(expected, rel=1e-5)
        assert_gradients(found, gradients)


def test_evaluation_sees_no_mask():
    model = text_model()
    expected = model(texts()["features"])
    applied(model, [MultiSampleDropout()], [texts()], learning_rate=1e-30)
    np.testing.assert_array_equal(model(texts()["features"]), expected)
    assert expected.shape == (4, NUM_LABELS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rounds": 0}, "rounds: must be .*integer of at least 1, not 0"),
        ({"rate": 0.0}, r"rate: must be .*a number above 0 and below 1, not 0.0"),
        ({"rate": 1.0}, r"rate: must be .*a number above 0 and below 1, not 1.0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        MultiSampleDropout(**arguments)
