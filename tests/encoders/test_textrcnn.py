import numpy as np
import pytest

from tests.contracts.token_encoder import VOCABULARY, TokenEncoderContract
from tests.encoders.lstm_by_numpy import read_both_ways
from tfxc.encoders.textrcnn import TextRCNN


class TestTextRCNN(TokenEncoderContract):
    cls = TextRCNN
    small = {"embedding_dim": 5, "hidden_dim": 4}  # noqa: RUF012 (read only)
    variants = ({"num_layers": 2},)

    def oracle(self, weights, words, num_layers=1):
        assert len(weights) == 6 * num_layers
        if not len(words):
            return np.zeros(13)
        return np.concatenate([words, read_both_ways(words, weights)], axis=1).max(axis=0)


@pytest.mark.parametrize("name", ["hidden_dim", "num_layers"])
def test_wrong_sizes(name):
    with pytest.raises(ValueError, match=f"{name}: must be .*integer of at least 1, not 0"):
        TextRCNN(VOCABULARY, **{name: 0})
