import math

import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.token_encoder import VOCABULARY, TokenEncoderContract, token_ids
from tfxc.encoders.transformer import Transformer, sinusoids

WIDTH, HEADS = 6, 2


def norm(x, gamma, beta):
    """Normalises one vector."""
    return (x - x.mean()) / math.sqrt(x.var() + 1e-5) * gamma + beta


def attend(x, kernel, bias, heads):
    """Self-attention of one text, word by word and head by head."""
    query, key, value = np.split(x @ kernel + bias, 3, axis=1)
    size = query.shape[1] // heads
    mixed = np.zeros(query.shape)
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        for word in range(len(x)):
            scores = [math.exp(query[word, own] @ k / math.sqrt(size)) for k in key[:, own]]
            mixed[word, own] = np.array(scores) @ value[:, own] / sum(scores)
    return mixed


class TestTransformer(TokenEncoderContract):
    cls = Transformer
    small = {"embedding_dim": WIDTH, "num_heads": HEADS}  # noqa: RUF012 (read only)
    variants = ({"num_layers": 1, "head_dim": 2, "feed_forward_dim": 7},)
    half_precision_error = 0.06

    def test_takes_tokens(self):
        assert self.make().input_kind == "tokens"
        assert self.make().data_dependent_arguments == ("vocabulary_size", "architecture")

    def oracle(self, weights, words, num_layers=2, head_dim=3, feed_forward_dim=4 * WIDTH):
        assert weights[0].shape == (WIDTH, 3 * HEADS * head_dim)
        assert weights[4].shape == (WIDTH, feed_forward_dim)
        assert len(weights) == 12 * num_layers
        if not len(words):
            return np.zeros(WIDTH)
        x = words * math.sqrt(WIDTH)
        for word, column in np.ndindex(x.shape):
            angle = word / 10_000 ** (column // 2 * 2 / WIDTH)
            x[word, column] += math.cos(angle) if column % 2 else math.sin(angle)
        for first in range(0, len(weights), 12):
            own = weights[first : first + 12]
            mixed = attend(x, own[0], own[1], HEADS)
            x = np.stack([norm(v, own[8], own[9]) for v in x + mixed @ own[2] + own[3]])
            added = np.maximum(x @ own[4] + own[5], 0) @ own[6] + own[7]
            x = np.stack([norm(v, own[10], own[11]) for v in x + added])
        return x.mean(axis=0)


def test_hidden_states():
    encoder, ids = Transformer(VOCABULARY, embedding_dim=8, num_layers=3), token_ids()
    vectors = encoder(ids)
    states = encoder.hidden_states(encoder.embed(ids), ids != 0)
    assert [tuple(state.shape) for state in states] == [(*ids.shape, 8)] * 4
    np.testing.assert_allclose(tf.reduce_mean(states[-1][:1], axis=1), vectors[:1], atol=1e-6)


def test_watched():
    """The same vectors as a call gives, and the scores that the first layer attends by."""
    encoder, ids = Transformer(VOCABULARY, embedding_dim=8, num_heads=2), token_ids()
    vectors = encoder(ids)
    seen = encoder.watched(ids, attention=True)
    np.testing.assert_array_equal(seen.vectors, vectors)
    np.testing.assert_array_equal(seen.mask, ids != 0)
    assert len(seen.states) == 3 and not encoder.watched(ids).scores
    kernel, bias = (
        encoder.layers[0][f"attention_in_{name}"].numpy() for name in ("kernel", "bias")
    )
    for row, words in enumerate(np.count_nonzero(ids, axis=1)):
        parts = np.split(seen.states[0][row, :words].numpy() @ kernel + bias, 3, axis=1)
        for head in range(2):
            query, key = (part[:, 4 * head : 4 * head + 4] for part in parts[:2])
            found = seen.scores[0][row, head, :words].numpy()
            np.testing.assert_allclose(found[:, :words], query @ key.T / 2, atol=1e-5)
            assert (found[:, words:] < -1e30).all()


def test_order_of_words_matters():
    encoder = Transformer(VOCABULARY, embedding_dim=8)
    one, other = encoder(tf.constant([[1, 2, 3], [3, 2, 1]])).numpy()
    assert np.abs(one - other).max() > 1e-3


def test_sinusoids():
    table = sinusoids(50, 10).numpy()
    assert table[7, 0] == pytest.approx(math.sin(7), abs=1e-6)
    assert table[7, 5] == pytest.approx(math.cos(7 / 10_000**0.4), abs=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"embedding_dim": 7}, "embedding_dim: must be even, not 7"),
        ({"num_heads": 3}, "num_heads: must divide embedding_dim, which is 8, .* not 3"),
        ({"num_heads": 0}, "num_heads: must be .*integer of at least 1, not 0"),
        ({"head_dim": 0}, "head_dim: must be .*integer of at least 1, not 0"),
        ({"num_layers": 0}, "num_layers: must be .*integer of at least 1, not 0"),
        (
            {"feed_forward_dim": 0},
            "feed_forward_dim: must be .*integer of at least 1, not 0",
        ),
    ],
)
def test_wrong_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        Transformer(VOCABULARY, **{"embedding_dim": 8} | wrong)
