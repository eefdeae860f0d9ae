"""Ranks by tiles against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from tfxc.ops.search.ranks import tiled_ranks


def expected_ranks(scores, labels, excluded):
    found = np.full(labels.shape, np.nan)
    for row, own in enumerate(labels):
        for place, label in enumerate(own):
            if label >= scores.shape[1]:
                found[row, place] = np.inf
            elif label >= 0:
                gone = {*own.tolist(), *excluded[row].tolist()} - {label}
                rivals = [s for c, s in enumerate(scores[row]) if c not in gone and c != label]
                above = sum(s > scores[row, label] for s in rivals)
                found[row, place] = 1 + above + sum(s == scores[row, label] for s in rivals) / 2
    return found


@pytest.mark.parametrize("unrolled", [False, True])
@pytest.mark.parametrize("tile", [1, 7, 40, 64])
def test_ranks_are_those_of_numpy(tile, unrolled):
    random = np.random.default_rng(tile)
    scores = random.integers(0, 6, (9, 40)).astype(np.float32)  # many ties
    chosen = np.array([random.permutation(40)[:9] for _ in range(9)], np.int32)
    labels, excluded = chosen[:, :4].copy(), chosen[:, 4:].copy()
    labels[2], labels[3, 1:], excluded[4] = -1, -1, -1
    labels[5, 0] = 40  # not known
    table = tf.constant(scores)
    found = tf.function(
        lambda labels, excluded: tiled_ranks(
            lambda begin, end: table[:, begin:end], 40, labels, excluded, tile, unrolled
        )
    )(labels, excluded)
    np.testing.assert_array_equal(found, expected_ranks(scores, labels, excluded))
