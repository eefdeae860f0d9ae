import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.token_encoder import VOCABULARY, TokenEncoderContract, token_ids
from tfxc.encoders.textcnn import TextCNN


class TestTextCNN(TokenEncoderContract):
    cls = TextCNN
    small = {"embedding_dim": 5, "num_filters": 6}  # noqa: RUF012 (read only)
    variants = ({"widths": [1]}, {"widths": [3, 9]})

    def oracle(self, weights, words, widths=(2, 3, 4)):
        *kernels, bias = weights
        best = []
        for kernel, width in zip(kernels, widths, strict=True):
            missing = max(0, width - len(words))
            padded = np.concatenate([words, np.zeros((missing, words.shape[1]))])
            responses = [
                [np.sum(padded[first : first + width] * kernel[:, :, f]) for f in range(6)]
                for first in range(len(padded) - width + 1)
            ]
            best.extend(np.max(responses, axis=0))
        return np.maximum(np.array(best) + bias, 0)


def test_windows_on_padding_never_win():
    # All responses to words are negative; zeros would give more.
    encoder = TextCNN(VOCABULARY, embedding_dim=2, num_filters=1, widths=[2])
    ids = token_ids()
    encoder(ids)
    encoder.embedding.assign(np.concatenate([np.zeros((1, 2)), np.ones((VOCABULARY - 1, 2))]))
    encoder.kernels[0].assign(-tf.ones((2, 2, 1)))
    encoder.bias.assign([5.0])
    # Texts of 7, 3, 1, 0, 4 and 2 words.
    assert encoder(ids).numpy()[:, 0].tolist() == [1, 1, 3, 5, 1, 1]


def test_gradient_goes_to_the_first_of_equal_windows():
    encoder = TextCNN(VOCABULARY, embedding_dim=2, num_filters=1, widths=[1])
    ids = tf.constant([[3, 4, 3, 0]])
    encoder(ids)
    encoder.embedding.assign(np.ones((VOCABULARY, 2)))
    encoder.kernels[0].assign(tf.ones((1, 2, 1)))
    embedded = encoder.embed(ids)
    with tf.GradientTape() as tape:
        tape.watch(embedded)
        loss = tf.reduce_sum(encoder.encode(embedded, ids != 0))
    assert tape.gradient(loss, embedded).numpy().tolist() == [[[1, 1], [0, 0], [0, 0], [0, 0]]]


@pytest.mark.parametrize("widths", [[], [2, 0]])
def test_wrong_widths(widths):
    with pytest.raises(
        ValueError,
        match="widths: must be a list of at least one item, each item an integer of at least 1",
    ):
        TextCNN(VOCABULARY, widths=widths)
