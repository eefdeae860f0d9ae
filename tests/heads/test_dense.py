import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.head import NUM_LABELS, HeadContract
from tfxc.core.errors import ConfigError
from tfxc.heads.bases import label_chunks
from tfxc.heads.dense import Dense


class TestDense(HeadContract):
    def make(self, num_labels=NUM_LABELS, **arguments):
        return Dense(num_labels, **arguments)

    def label_scores(self, head, features):
        kernel, bias = (weight.astype(np.float64) for weight in head.get_weights())
        return features @ kernel + bias

    def positive_columns(self, head, labels):
        return [set(labels)]

    @pytest.mark.parametrize("tile", [1, 5, 11])
    def test_tiles_give_the_same(self, monkeypatch, tile):
        head, features = self.built(), self.features()
        expected = self.brute_force(head, features, 7)
        monkeypatch.setattr("tfxc.heads.base.TILE", tile)
        monkeypatch.setattr("tfxc.heads.base._TILE_EXAMPLES", 1)
        ids, scores = tf.function(lambda x: head.top_k(x, 7), autograph=False)(features)
        np.testing.assert_array_equal(ids, expected[0])
        np.testing.assert_allclose(scores, expected[1], rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(("rows", "widest"), [(1, 8), (2, 4), (3, 4)])
    def test_a_small_batch_has_wider_tiles(self, monkeypatch, rows, widest):
        """The scores that are held at a time are at most as many as of two examples of a tile."""
        head, features = self.built(), self.features()[:rows]
        expected = self.brute_force(head, features, 3)
        monkeypatch.setattr("tfxc.heads.base.TILE", 4)
        monkeypatch.setattr("tfxc.heads.base._TILE_EXAMPLES", 2)
        score_of, widths = head.tile_scores, []

        def watched(features):
            score = score_of(features)

            def of_tile(begin, end):
                widths.append(int(end - begin))
                return score(begin, end)

            return of_tile

        monkeypatch.setattr(head, "tile_scores", watched)
        ids, _ = head.top_k(features, 3)
        assert max(widths) == widest and sum(widths) == head.num_labels
        np.testing.assert_array_equal(ids, expected[0])

    def test_top_k_before_call(self):
        ids, _ = self.make().top_k(self.features(), 2)
        assert ids.shape == (6, 2)


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of five labels."""
    monkeypatch.setattr(label_chunks, "CHUNK", 5)


@pytest.mark.usefixtures("small_chunks")
class TestFusedDense(HeadContract):
    variant = True
    tiled = False  # a part of the graph for each chunk
    dtype = "float32"

    def make(self, num_labels=NUM_LABELS, **arguments):
        return Dense(num_labels, update="fused", weights=self.dtype, **arguments)

    def label_scores(self, head, features):
        *kernels, bias = (np.asarray(weight, np.float64) for weight in head.get_weights())
        return features @ np.concatenate(kernels).T + bias

    def positive_columns(self, head, labels):
        return [set(labels)]

    def test_chunks(self):
        head = self.built()
        shapes = [(weight.name, tuple(weight.shape), weight.dtype) for weight in head.weights]
        kernels = [(f"kernel_{n}", (rows, 16), self.dtype) for n, rows in enumerate((5, 5, 2))]
        assert shapes == [*kernels, ("bias", (12,), "float32")]
        assert [id(v) for v in head.fused_variables] == [id(v) for v in head.weights]


class TestFusedDenseOfBfloat16(TestFusedDense):
    dtype = "bfloat16"
    # Keras expects all weights of a layer in the dtype of its policy; the biases are float32 here.
    test_passes_the_test_of_keras = None

    def test_logits_are_float32_under_mixed_precision(self):
        head = self.make(dtype="mixed_bfloat16")
        assert head(self.features()).dtype == tf.float32


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_start_of_chunks(dtype):
    label_chunks.CHUNK = 100
    head = Dense(250, seed=1, update="fused", weights=dtype)
    head(tf.zeros((1, 400)))
    *kernels, bias = head.get_weights()
    kernels = [kernel.astype(np.float32) for kernel in kernels]
    assert np.std(np.concatenate(kernels)) == pytest.approx(0.88 / 20, rel=0.03)
    assert not np.allclose(kernels[0], kernels[1])
    np.testing.assert_allclose(bias, -np.log(249), rtol=1e-6)


@pytest.mark.parametrize("argument", [{"weights": "bfloat16"}, {"learning_rate": 0.5}])
def test_arguments_of_the_fused_update_need_it(argument):
    (name,) = argument
    with pytest.raises(ConfigError, match=f"^{name}: .* has no effect with update 'gradient'"):
        Dense(5, **argument)


@pytest.mark.parametrize(
    ("labels", "size"), [(3, 3), (8192, 8192), (8193, 8192), (2**20, 8192), (10**7, 78_125)]
)
def test_at_most_128_chunks(labels, size):
    assert label_chunks.chunk_size(labels) == size
    assert -(-labels // size) <= 128


def test_start():
    head = Dense(200, seed=1)
    head(tf.zeros((1, 400)))
    kernel, bias = head.get_weights()
    # A truncated normal of standard deviation s has 0.88 s left after the cut at 2 s.
    assert np.std(kernel) == pytest.approx(0.88 / 20, rel=0.03)
    np.testing.assert_allclose(bias, -np.log(199), rtol=1e-6)
    # every column is true for about one example in 200
    assert 1 / (1 + np.exp(-bias[0])) == pytest.approx(1 / 200)
    wide = Dense(200, initial_std=0.5)
    wide(tf.zeros((1, 400)))
    assert np.abs(wide.get_weights()[0]).max() > 0.9


def test_one_label():
    head = Dense(1)
    ids, _ = head.top_k(tf.ones((2, 3)), 1)
    assert ids.numpy().tolist() == [[0], [0]]
    assert head.get_weights()[1].tolist() == [0.0]
