import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.technique import TechniqueContract
from tests.techniques.one_step import NUM_LABELS, applied, dense_gradients, text_model, texts
from tests.techniques.text_contract import TextTechniqueContract, TextTraining
from tfxc.core.errors import ConfigError
from tfxc.heads.dense import Dense
from tfxc.heads.mhc import MHC
from tfxc.heads.sampled.head import Sampled
from tfxc.objectives.sigmoid import Sigmoid
from tfxc.objectives.softmax import Softmax
from tfxc.objectives.zlpr import ZLPR
from tfxc.ops.randomness import step_scope
from tfxc.techniques.rdrop import RDrop


class TestRDrop(TechniqueContract):
    name = "rdrop"
    arguments = {"alpha": 0.3}  # noqa: RUF012 (read only)


class TestRDropWithCandidates(TextTechniqueContract):
    """The head chooses the candidates of an example by its own scores."""

    variant = True
    name = "rdrop"
    arguments = {"alpha": 0.3}  # noqa: RUF012 (read only)

    def training(self):
        head = MHC(NUM_LABELS, heads=[3, 3], projection_dim=4, num_candidate_groups=2)
        model = text_model(head, Sigmoid(), dropout=0.3)
        return TextTraining(self.make(), model=model)


def kl(p, q):
    """Sum of p log(p / q) over the columns."""
    return np.sum(p * np.log(p / q), axis=1)


def divergence(one, other, link):
    """Both directions, straight from the definition."""
    if link == "softmax":
        p, q = (np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) for z in (one, other))
        return kl(p, q) + kl(q, p)
    p, q = (1 / (1 + np.exp(-z)) for z in (one, other))
    return kl(p, q) + kl(q, p) + kl(1 - p, 1 - q) + kl(1 - q, 1 - p)


@pytest.mark.parametrize("objective", [Softmax, Sigmoid, ZLPR])
def test_equals_the_definition(objective):
    model, batch = text_model(None, objective(), dropout=0.4), texts()
    with step_scope(0, 0):
        losses = [model.losses_of(batch).numpy() for _ in range(2)]
    with step_scope(0, 0):
        logits = [model.encoder(batch["features"], training=True) for _ in range(2)]
    one, other = (model.head(vectors).numpy().astype(np.float64) for vectors in logits)
    assert np.abs(one - other).max() > 0.01
    for alpha in (0, 4.0):
        apart = 0.5 * alpha * divergence(one, other, objective.link)
        expected = np.mean(0.5 * sum(losses) + apart)
        fresh = text_model(None, objective(), dropout=0.4)
        loss, _ = applied(fresh, [RDrop(alpha=alpha)], [batch])
        assert loss == pytest.approx(expected, rel=1e-4)


def test_without_dropout_nothing_is_added():
    expected, gradients = dense_gradients(text_model(), texts())
    loss, found = applied(text_model(), [RDrop()], [texts()])
    assert loss == pytest.approx(expected, rel=1e-5)
    for one, other in zip(found, gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


def test_both_passes_see_the_candidates_of_the_first():
    head = MHC(60, heads=[6, 5, 2], projection_dim=4, num_candidate_groups=3)
    passes = [tf.random.stateless_normal((7, 8), (1, n)) for n in (1, 2)]
    labels = tf.constant([[3, 59]] * 7)
    one, other = head.groups_of_passes(passes, labels)
    alone = head.training_groups(passes[1], labels)
    for group, same in zip(one, other, strict=True):
        np.testing.assert_array_equal(group.positives, same.positives)
        if group.valid is not None:
            np.testing.assert_array_equal(group.valid, same.valid)
    # Left to itself the second pass chooses others.
    np.testing.assert_array_equal(other[0].logits, alone[0].logits)
    assert np.abs(other[2].logits.numpy() - alone[2].logits.numpy()).max() > 1e-3


def test_with_drawn_classes():
    """The same classes are drawn for both passes."""
    head = Sampled(NUM_LABELS, num_extra=2, extra="uniform")
    model = text_model(head, Softmax(), dropout=0.4)
    with step_scope(4, 0):
        vectors = [model.encoder(IDS, training=True) for IDS in [texts()["features"]] * 2]
        labels = tf.constant(texts([0, 2])["labels"])
        pair = head.groups_of_passes([v[:2] for v in vectors], labels)
    with step_scope(4, 0):
        (again,) = head.training_groups(vectors[1][:2], labels)
    np.testing.assert_array_equal(pair[1][0].logits, again.logits)
    np.testing.assert_array_equal(pair[0][0].log_weights, pair[1][0].log_weights)


def test_evaluation_is_one_pass():
    model = text_model(Dense(NUM_LABELS), dropout=0.4)
    expected = model.losses_of(texts(), training=False)
    applied(model, [RDrop()], [texts()], learning_rate=1e-30)
    np.testing.assert_array_equal(model.losses_of(texts(), training=False), expected)


def test_bad_alpha():
    with pytest.raises(ConfigError, match="alpha: must be a number of at least 0, not -1"):
        RDrop(alpha=-1)
