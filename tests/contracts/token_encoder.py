"""What every encoder of token ids must do, besides what all encoders must."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.contracts import general
from tests.contracts.encoder import EncoderContract
from tests.contracts.layers import assert_close, assert_equal, exported
from tfxc.ops.gradients import sum_repeated_rows
from tfxc.ops.randomness import step_scope
from tfxc.training.optimization.optimizers import Adam

VOCABULARY = 12
LENGTHS = (7, 3, 1, 0, 4, 2)


def token_ids():
    """int32 (6, 7): a full row, an empty one, short ones; words occur several times."""
    ids = np.random.default_rng(0).integers(1, VOCABULARY, (len(LENGTHS), max(LENGTHS)))
    for row, length in zip(ids, LENGTHS, strict=True):
        row[length:] = 0
    ids[1, 0] = ids[0, 0]
    return tf.constant(ids, tf.int32)


class TokenEncoderContract(EncoderContract):
    """Inherit, say ``cls``, and write ``oracle``.

    Attributes:
        cls: the encoder.
        small: constructor arguments that make it small.
        variants: further arguments, with each of which it has to equal the oracle, too.
    """

    cls = None
    small = {}  # noqa: RUF012 (read only)
    variants = ()
    dropping = {"dropout": 0.5, "word_dropout": 0.4}  # noqa: RUF012 (read only)
    any_length = tf.TensorSpec([None, None], tf.int32, name="tokens")

    def make(self, **arguments):
        return self.cls(VOCABULARY, **self.small | arguments)

    def features(self):
        return token_ids()

    def oracle(self, weights, words, **variant):
        """The vector of one text by NumPy.

        Args:
            variant: one of ``variants``.
            weights: the trainable weights behind the table, float64.
            words: float64 (length, embedding_dim), vectors of its words, without padding.

        Returns:
            float64 (dim,).
        """
        raise NotImplementedError

    def expected(self, weights, ids, **variant):
        """Vectors of a batch by NumPy; ``weights`` begins with the table."""
        texts = [weights[0][row[row > 0]] for row in ids.numpy()]
        return np.stack([self.oracle(weights[1:], words, **variant) for words in texts])

    def weights_of(self, encoder):
        """The trainable weights, float64, none of them as regular as at the start."""
        rng = np.random.default_rng(5)
        for weight in encoder.trainable_weights:
            noise = rng.normal(0, 0.3, weight.shape)
            weight.assign(weight.numpy() + noise)
        return [weight.numpy().astype(np.float64) for weight in encoder.trainable_weights]

    def test_takes_tokens(self):
        encoder = self.make()
        assert encoder.input_kind == "tokens"
        assert encoder.data_dependent_arguments == ("vocabulary_size",)

    def test_equals_numpy(self):
        for variant in ({}, *self.variants):
            encoder = self.built(**variant)
            expected = self.expected(self.weights_of(encoder), self.features(), **variant)
            found = encoder(self.features())
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=str(variant))

    def test_gradients_equal_differences_of_the_formula(self):
        for variant in ({}, *self.variants):
            self.check_gradients(variant)

    def check_gradients(self, variant):
        encoder, ids = self.built(**variant), self.features()
        weights, variables = self.weights_of(encoder), encoder.trainable_weights
        rng = np.random.default_rng(1)
        upstream = rng.normal(size=encoder(ids).shape)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(encoder(ids) * upstream)
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        for number, gradient in enumerate(gradients):
            found = tf.convert_to_tensor(gradient).numpy().astype(np.float64)
            way = rng.normal(size=found.shape)
            sides = []
            for step in (1e-6, -1e-6):
                moved = list(weights)
                moved[number] = weights[number] + step * way
                sides.append((self.expected(moved, ids, **variant) * upstream).sum())
            slope = (sides[0] - sides[1]) / 2e-6
            reach = max(1.0, np.linalg.norm(found))
            assert np.sum(found * way) / reach == pytest.approx(slope / reach, abs=2e-4)

    def test_padding_changes_nothing(self):
        encoder, ids = self.built(), self.features()
        self.weights_of(encoder)
        expected = encoder(ids)
        for more in (1, 2, 3, 8):
            assert_close(encoder(tf.pad(ids, [[0, 0], [0, more]])), expected, 1e-6)
        for row, length in enumerate(LENGTHS):
            alone = encoder(ids[row : row + 1, : max(1, length)])
            assert_close(alone, expected[row : row + 1], 1e-6)

    def test_padding_changes_nothing_in_training(self):
        encoder, ids = self.built(**self.dropping), self.features()
        found = []
        for more in (0, 5):
            with step_scope(3, 0):
                found.append(encoder(tf.pad(ids, [[0, 0], [0, more]]), training=True))
        assert_close(found[1], found[0], 1e-6)

    def test_row_of_the_padding(self):
        encoder, ids = self.built(), self.features()
        table, expected = encoder.embedding, encoder(ids)
        assert not table.numpy()[0].any()
        optimizer = Adam(0.1, weight_decay=0.1)
        optimizer.build([table.value])
        for step in (1, 2):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(encoder(ids, training=True) ** 2)
            gradient = sum_repeated_rows(tape.gradient(loss, table.value))
            slots = optimizer.slots[table.value.ref()]
            optimizer.update(table.value, gradient, slots, tf.constant(0.1), tf.constant(step))
        assert not table.numpy()[0].any()
        assert (encoder(ids).numpy() != expected.numpy()).any()
        expected = encoder(ids)
        table.assign(np.concatenate([np.full((1, table.shape[1]), 9e9), table.numpy()[1:]]))
        assert_equal(encoder(ids), expected)

    def test_only_rows_of_the_batch_get_a_gradient(self):
        encoder, ids = self.shared(), self.features()
        table = encoder.embedding
        assert table.shape[0] == VOCABULARY
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(encoder(ids))
        gradient = tape.gradient(loss, table.value)
        assert isinstance(gradient, tf.IndexedSlices)
        assert set(gradient.indices.numpy()) == set(ids.numpy().ravel())

    def test_what_is_read_may_be_changed(self):
        """As techniques do that perturb the words."""
        encoder, ids = self.shared(), self.features()
        embedded = encoder.embed(ids)
        assert embedded.dtype == tf.float32
        assert embedded.shape == (*ids.shape, encoder.embedding_dim)
        assert_equal(encoder.encode(embedded, ids != 0), encoder(ids))
        with tf.GradientTape() as tape:
            tape.watch(embedded)
            loss = tf.reduce_sum(encoder.encode(embedded, ids != 0, training=True) ** 2)
        gradient = tape.gradient(loss, embedded).numpy()
        assert gradient[ids != 0].any()
        assert not gradient[ids == 0].any()
        moved = embedded + 0.5
        expected = encoder.encode(moved, ids != 0)
        assert (expected.numpy() != encoder(ids).numpy()).any()
        at_padding = tf.where((ids == 0)[:, :, None], 1e9, moved)
        assert_equal(encoder.encode(at_padding, ids != 0), expected)

    @general
    def test_exported_equals_eager(self, tmp_path):
        """With one trace for all lengths."""
        encoder, ids = self.shared(), self.features()
        loaded = exported(lambda x: encoder(x), self.any_length, tmp_path / "saved")
        for length in (1, 2, 5, 7):
            assert_close(loaded.function(ids[:4, :length]), encoder(ids[:4, :length]))

    @general
    def test_built_without_an_example(self):
        """As the estimate of memory does it."""
        encoder = self.make()
        with keras.StatelessScope(initialize_variables=False):
            encoder.build(None)
        shapes = [weight.shape for weight in encoder.weights]
        assert shapes == [weight.shape for weight in self.built().weights]

    @general
    def test_weights_of_a_strategy(self):
        with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
            encoder = self.built(seed=2)
        assert_close(encoder(self.features()), self.built(seed=2)(self.features()))

    # The four starts themselves: tests/encoders/bases/test_starts.py.
    @pytest.mark.parametrize(
        "start",
        [
            "uniform",
            *(pytest.param(s, marks=pytest.mark.slow) for s in ("normal", "xavier", "kaiming")),
        ],
    )
    def test_starts(self, start):
        encoder = self.built(start=start, initial_std=0.02)
        assert 0.01 < np.std(encoder.embedding.numpy()[1:]) < 0.03
        assert np.isfinite(encoder(self.features())).all()

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"start": "best"}, "start: must be one of uniform, .*, not 'best'"),
            ({"initial_std": 0.0}, "initial_std: must be .*positive number, not 0.0"),
            ({"embedding_dim": 0}, "embedding_dim: must be .*integer of at least 1, not 0"),
        ],
    )
    def test_wrong_arguments(self, wrong, message):
        with pytest.raises(ValueError, match=message):
            self.make(**wrong)

    def test_sparse_bags_are_refused(self):
        bag = {"ids": tf.constant([1]), "weights": tf.ones(1), "row_splits": tf.constant([0, 1])}
        with pytest.raises(ValueError, match=r"must be token ids .*, not a sparse bag"):
            self.make().call(bag)
