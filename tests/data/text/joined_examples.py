"""Rows of texts that are bags and lists of tokens at once, for the tests."""

import numpy as np
import scipy.sparse

from tfxc.data.examples.kinds import JOINED, TOKENS
from tfxc.data.examples.rows import Rows

NUM_FEATURES, VOCABULARY_SIZE = 30, 90


def parts(count=97, seed=0):
    """The same examples as bags and as lists of tokens; some of each are empty."""
    rng = np.random.default_rng(seed)
    bags = scipy.sparse.random(count, NUM_FEATURES, 0.2, "csr", np.float32, rng=rng)
    lengths = rng.integers(0, 20, count)
    token_indptr = np.concatenate([[0], np.cumsum(lengths)])
    tokens = rng.integers(1, VOCABULARY_SIZE, token_indptr[-1])
    labels = [sorted(rng.choice(12, row % 4, replace=False).tolist()) for row in range(count)]
    sparse = Rows.from_csr(bags, labels)
    of_labels = {"label_indptr": sparse.label_indptr, "label_ids": sparse.label_ids}
    arrays = {"indptr": token_indptr, "tokens": tokens}
    lists = Rows(TOKENS, arrays, num_features=VOCABULARY_SIZE, **of_labels)
    return sparse, lists


def joined(sparse, lists):
    """``Rows`` of both parts."""
    arrays = {**sparse.arrays, "token_indptr": lists.indptr, "tokens": lists.tokens}
    return Rows(JOINED, arrays, num_features=sparse.num_features, **sparse.labels)


def assert_batch(found, of_bags, of_tokens):
    """Whether a batch of joined rows is that of the parts."""
    features = dict(found["features"])
    np.testing.assert_array_equal(features.pop("tokens"), of_tokens["features"])
    assert features.keys() == of_bags["features"].keys()
    for name, values in of_bags["features"].items():
        np.testing.assert_array_equal(features[name], values)
        assert features[name].dtype == values.dtype
    for name in of_bags.keys() - {"features"}:
        np.testing.assert_array_equal(found[name], of_bags[name])
