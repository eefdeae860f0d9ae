import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.token_encoder import VOCABULARY, TokenEncoderContract, token_ids
from tests.encoders.lstm_by_numpy import read_both_ways
from tfxc.encoders.textrnn import TextRNN


class TestTextRNN(TokenEncoderContract):
    cls = TextRNN
    small = {"embedding_dim": 5, "hidden_dim": 4}  # noqa: RUF012 (read only)
    variants = ({"num_layers": 2}, {"attention": False})

    def oracle(self, weights, words, num_layers=1, attention=True):
        assert len(weights) == 6 * num_layers + 2 * attention
        states = read_both_ways(words, weights[2 * attention :])
        if not attention:
            return states.sum(axis=0) / max(len(words), 1)
        scores = np.exp(np.tanh(states @ weights[0]) @ weights[1][:, 0])
        return (states * scores[:, None]).sum(axis=0) / max(scores.sum(), 1e-300)


def test_attention_adds_up_to_one():
    encoder, ids = TextRNN(VOCABULARY, embedding_dim=5, hidden_dim=4), token_ids()
    encoder(ids)
    states = tf.random.stateless_normal((*ids.shape, 8), (1, 2)) * 50
    weights = encoder.weights_of(states, ids != 0).numpy()
    assert not weights[ids == 0].any()
    np.testing.assert_allclose(weights.sum(axis=1), [1, 1, 1, 0, 1, 1], atol=1e-6)


def test_forget_gates_start_open():
    encoder = TextRNN(VOCABULARY, embedding_dim=5, hidden_dim=2)
    encoder(token_ids())
    bias = next(w for w in encoder.weights if w.name == "backward_bias")
    assert bias.numpy().tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("name", ["hidden_dim", "num_layers"])
def test_wrong_sizes(name):
    with pytest.raises(ValueError, match=f"{name}: must be .*integer of at least 1, not 0"):
        TextRNN(VOCABULARY, **{name: 0})
