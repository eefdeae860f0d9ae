import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.head import NUM_LABELS, HeadContract
from tests.contracts.layers import assert_equal
from tfxc.core import registry
from tfxc.heads.sampled.head import Sampled
from tfxc.heads.sampled.sampling import drawn_classes
from tfxc.objectives.sigmoid import Sigmoid
from tfxc.objectives.softmax import Softmax
from tfxc.ops.randomness import step_scope

COUNTS = np.arange(1, NUM_LABELS + 1)
DIM = 8


class TestSampled(HeadContract):
    def make(self, num_labels=NUM_LABELS, **arguments):
        return Sampled(num_labels, **arguments)

    def label_scores(self, head, features):
        kernel, *bias = (weight.numpy().astype(np.float64) for weight in head.trainable_weights)
        return features @ kernel.T + (bias[0] if bias else 0)

    def test_positives_are_those_of_the_labels(self):
        """Columns are a sample: the positive ones have the scores of the labels."""
        head, features = self.built(), self.features(4)
        rows = [[1, 3, 7], [4, -1, -1], [-1, -1, -1], [11, 0, -1]]
        (group,) = self.groups(head, rows)
        scores = self.label_scores(head, np.asarray(features, np.float64))
        for number, row in enumerate(rows):
            columns = [column for column in group.positives.numpy()[number] if column >= 0]
            found = np.sort(group.logits.numpy()[number][columns])
            labels = [label for label in row if label >= 0]
            np.testing.assert_allclose(found, np.sort(scores[number][labels]), rtol=1e-4)

    @pytest.mark.parametrize("tile", [1, 5, 11])
    def test_tiles_give_the_same(self, monkeypatch, tile):
        head, features = self.built(), self.features()
        expected = self.brute_force(head, features, 7)
        monkeypatch.setattr("tfxc.heads.base.TILE", tile)
        monkeypatch.setattr("tfxc.heads.base._TILE_EXAMPLES", 1)
        ids, scores = tf.function(lambda x: head.top_k(x, 7), autograph=False)(features)
        np.testing.assert_array_equal(ids, expected[0])
        np.testing.assert_allclose(scores, expected[1], rtol=1e-4, atol=1e-5)


class TestSampledOfAllWithBias(TestSampled):
    variant = True

    def make(self, num_labels=NUM_LABELS, **arguments):
        return super().make(num_labels, classes="all", bias=True, **arguments)


class TestSampledWithExtras(TestSampled):
    variant = True

    def make(self, num_labels=NUM_LABELS, **arguments):
        return super().make(num_labels, num_extra=5, extra="uniform", bias=True, **arguments)


class TestSampledByFrequency(TestSampled):
    variant = True

    def make(self, num_labels=NUM_LABELS, **arguments):
        extras = {"num_extra": 3, "extra": "frequency", "label_counts": COUNTS}
        return super().make(num_labels, **extras, **arguments)


class TestSampledCosines(TestSampled):
    variant = True

    def make(self, num_labels=NUM_LABELS, **arguments):
        return super().make(num_labels, score="cosine", scale=16.0, **arguments)

    def label_scores(self, head, features):
        (kernel,) = (weight.numpy().astype(np.float64) for weight in head.trainable_weights)
        norms = np.linalg.norm(kernel, axis=1, keepdims=True)
        kernel = kernel / np.where(norms > 0, norms, 1)
        return head.scale * features @ kernel.T / np.linalg.norm(features, axis=1, keepdims=True)


def made(**arguments):
    head = Sampled(NUM_LABELS, initial_std=0.5, seed=1, **arguments)
    features = tf.random.stateless_normal((6, DIM), (1, 2))
    head(features)
    return head, features


def losses(head, features, labels, objective, step=3):
    """Per-example losses and the gradient of their sum with respect to the table, dense."""
    kernel = head.kernel.value
    with tf.GradientTape() as tape, step_scope(step, 0):
        (group,) = head.training_groups(features, tf.constant(labels, tf.int32))
        loss = objective(group)
        total = tf.reduce_sum(loss)
    return loss.numpy(), tf.convert_to_tensor(tape.gradient(total, kernel)).numpy()


LABELS = [[11, -1], [0, -1], [7, 3], [-1, -1], [7, -1], [2, 10]]


def test_columns_are_the_labels_of_the_batch():
    head, features = made()
    with tf.GradientTape() as tape:
        (group,) = head.training_groups(features, tf.constant(LABELS))
        loss = tf.reduce_sum(Softmax()(group))
    ids = [0, 2, 3, 7, 10, 11]
    expected = features.numpy() @ head.kernel.numpy()[ids].T
    np.testing.assert_allclose(group.logits, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        group.positives, [[5, -1], [0, -1], [3, 2], [-1, -1], [3, -1], [1, 4]]
    )
    gradient = tape.gradient(loss, head.kernel.value)
    assert isinstance(gradient, tf.IndexedSlices)
    np.testing.assert_array_equal(gradient.indices, ids)
    assert group.valid is None and group.log_weights is None


@pytest.mark.parametrize("labels", [[[8]] * 6, [[-1]] * 6], ids=["one class", "no label"])
@pytest.mark.parametrize("extras", [{}, {"num_extra": 2, "extra": "uniform"}], ids=str)
def test_a_batch_of_one_class_and_one_without_labels(labels, extras):
    head, features = made(**extras)
    loss, gradient = losses(head, features, labels, Softmax())
    assert np.isfinite(loss).all() and np.isfinite(gradient).all()
    assert (loss == 0).all() or labels[0] == [8]


@pytest.mark.parametrize("name", registry.names("objective"))
@pytest.mark.parametrize("extra", ["uniform", "frequency"])
def test_all_classes_drawn_are_all_classes(name, extra):
    """More are asked for than are left: each stands for itself."""
    objective = registry.create("objective", {"name": name}, num_examples=6, num_groups=1)
    whole, features = made(classes="all")
    drawn, _ = made(num_extra=NUM_LABELS - 1, extra=extra, label_counts=COUNTS)
    one = losses(whole, features, LABELS, objective)
    for found, expected in zip(losses(drawn, features, LABELS, objective), one, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weights_of_columns_in_softmax_and_sigmoid(smoothing):
    """A column of weight w counts as w columns with its logit."""
    head, features = made(num_extra=3, extra="uniform")
    with step_scope(1, 0):
        (group,) = head.training_groups(features, tf.constant([[1], [3]] * 3))
    weights = np.exp(group.log_weights.numpy())
    np.testing.assert_allclose(weights, [1, 1, *[10 / 3] * 3], rtol=1e-6)
    logits = group.logits.numpy().astype(np.float64)
    true = logits[np.arange(6), [0, 1] * 3]
    mean = (1 - smoothing) * true + smoothing * logits @ weights / weights.sum()
    expected = np.log(np.exp(logits) @ weights) - mean
    np.testing.assert_allclose(Softmax(label_smoothing=smoothing)(group), expected, rtol=1e-5)
    expected = np.log1p(np.exp(logits)) @ weights - true
    np.testing.assert_allclose(Sigmoid()(group), expected, rtol=1e-5)
    mean = Sigmoid(reduction="mean")(group)
    np.testing.assert_allclose(mean, expected / NUM_LABELS, rtol=1e-5)


@pytest.mark.parametrize("frequencies", [None, np.float32(COUNTS) ** 2], ids=["even", "by count"])
def test_weighted_sums_over_the_drawn_have_the_sum_over_all_as_mean(frequencies):
    own, values = tf.constant([9, 2, 5]), np.random.default_rng(0).exponential(size=NUM_LABELS)
    left = [label for label in range(NUM_LABELS) if label not in (9, 2, 5)]
    bits = np.random.default_rng(1).integers(0, 2**32, (4000, NUM_LABELS), np.uint32)
    kinds = (tf.int32, tf.float32, tf.bool)

    @tf.function(autograph=False)
    def draws(bits):
        def draw(row):
            return drawn_classes(own, row, 4, frequencies)

        return tf.map_fn(draw, bits, fn_output_signature=kinds)

    sums, drawn = [], np.zeros(NUM_LABELS)
    parts = (part.numpy() for part in draws(tf.constant(bits)))
    for ids, log_weights, valid in zip(*parts, strict=True):
        assert valid.all() and len(set(ids)) == 4 and set(ids) <= set(left)
        sums.append(values[ids] @ np.exp(log_weights))
        drawn[ids] += 1
    error = np.std(sums) / np.sqrt(len(sums))
    assert abs(np.mean(sums) - values[left].sum()) < 5 * error
    if frequencies is None:
        # 4 of 9 classes a draw; five standard deviations
        expected, spread = 4000 * 4 / 9, np.sqrt(4000 * 4 / 9 * 5 / 9)
        np.testing.assert_allclose(drawn[left], expected, atol=5 * spread)
    else:
        assert (np.diff(drawn[left]) > 0).all()


def test_extras_are_those_of_the_step_in_every_part_of_a_batch():
    head, features = made(num_extra=4, extra="uniform")
    labels, logits = tf.constant([[1]] * 6), []
    for step, first_row in ((7, 0), (7, 64), (8, 0)):
        with step_scope(step, first_row):
            logits.append(head.training_groups(features, labels)[0].logits.numpy())
    assert_equal(logits[0], logits[1])
    assert (logits[0] != logits[2]).any()


def test_frequencies_are_saved_with_the_weights():
    head, features = made(num_extra=4, extra="frequency", label_counts=np.r_[0, COUNTS[1:]])
    np.testing.assert_array_equal(head.frequencies.numpy(), np.r_[1, COUNTS[1:]])
    loaded, _ = made(num_extra=4, extra="frequency")
    loaded.set_weights(head.get_weights())
    one, other = (losses(h, features, LABELS, Softmax()) for h in (head, loaded))
    assert_equal(one, other)


def test_margin_on_the_true_class():
    plain, features = made(score="cosine", scale=16.0)
    head, _ = made(score="cosine", scale=16.0, m2=0.3, m3=0.1)
    labels = tf.constant([[4], [0], [7], [-1], [7], [2]])
    (one,), (other,) = (h.training_groups(features, labels) for h in (plain, head))
    expected = one.logits.numpy() / 16
    for row, column in enumerate([2, 0, 3, None, 3, 1]):
        if column is not None:
            angle = np.arccos(expected[row, column])
            expected[row, column] = np.cos(angle + 0.3) - 0.1
    np.testing.assert_allclose(other.logits, 16 * expected, rtol=1e-4, atol=1e-4)


def test_start():
    head = Sampled(500, seed=4)
    head(tf.zeros((1, 40)))
    (kernel,) = head.get_weights()
    assert kernel.shape == (500, 40)
    assert np.std(kernel) == pytest.approx(0.01, rel=0.03)
    assert head.training_columns == 500
    assert Sampled(5000, num_extra=100, extra="uniform").training_columns == 1124


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": "some"}, "classes: must be one of batch, all, not 'some'"),
        ({"num_extra": 3}, "num_extra and extra go together: .* not 3 and None"),
        ({"extra": "uniform"}, "num_extra and extra go together: .* not 0 and 'uniform'"),
        ({"num_extra": 3, "extra": "odd"}, "extra: must be one of uniform, frequency"),
        (
            {"num_extra": 12, "extra": "uniform"},
            r"num_extra: must be below 12, the number of labels, not 12",
        ),
        ({"num_extra": 1, "extra": "uniform", "classes": "all"}, "'all' does not use num_extra"),
        ({"score": "dot"}, "score: must be one of linear, cosine, not 'dot'"),
        ({"score": "cosine"}, r"score 'cosine' needs a scale, e\.g\. 64"),
        ({"scale": 2.0}, "score 'linear' does not use scale"),
        ({"m2": 0.3}, "score 'linear' does not use m2"),
        ({"score": "cosine", "scale": 2.0, "bias": True}, "score 'cosine' does not use bias"),
        ({"score": "cosine", "scale": 2.0, "m3": -1.0}, "m3: .*number of at least 0"),
        ({"initial_std": 0.0}, "initial_std: .*positive number, not 0"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Sampled(NUM_LABELS, **arguments)
