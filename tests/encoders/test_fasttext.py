import numpy as np
import pytest

from tests.contracts.token_encoder import VOCABULARY, TokenEncoderContract
from tfxc.encoders.fasttext import FastText


class TestFastText(TokenEncoderContract):
    cls = FastText
    small = {"embedding_dim": 5, "hidden_dim": 8}  # noqa: RUF012 (read only)

    def oracle(self, weights, words):
        kernel, bias = weights
        mean = words.mean(axis=0) if len(words) else np.zeros(words.shape[1])
        return np.maximum(mean @ kernel + bias, 0)


def test_wrong_width():
    with pytest.raises(ValueError, match="hidden_dim: must be an integer of at least 1, not 0"):
        FastText(VOCABULARY, hidden_dim=0)
