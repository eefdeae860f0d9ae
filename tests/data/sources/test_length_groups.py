"""Batches of texts of similar length."""

import numpy as np
import pytest
import tensorflow as tf

from tfxc.core.errors import ConfigError
from tfxc.data.examples.kinds import TOKENS
from tfxc.data.examples.rows import Rows
from tfxc.data.sources.base import ArraySource, length_groups
from tfxc.data.sources.dataset import Share, training_dataset
from tfxc.data.sources.folds import Fold

COUNT, BATCH = 531, 8  # no multiple of each other


def texts(count=COUNT):
    lengths = np.random.default_rng(0).integers(1, 60, count)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.repeat(np.arange(1, count + 1), lengths)
    labels = {"label_indptr": np.arange(count + 1), "label_ids": np.zeros(count, np.int32)}
    return Rows(TOKENS, {"indptr": indptr, "tokens": ids}, num_features=count + 1, **labels)


def batches(source, steps, batch_size=BATCH):
    return [source.batch(7, step, batch_size) for step in range(steps)]


def padding(found):
    return np.mean([np.mean(batch["features"] == 0) for batch in found])


def test_less_padding_and_every_text_once_an_epoch():
    plain, grouped = ArraySource(texts()), ArraySource(texts())
    grouped.group_by_length(BATCH)
    steps = 3 * COUNT // BATCH
    before, after = batches(plain, steps), batches(grouped, steps)
    assert padding(after) < 0.45 * padding(before)
    index = np.concatenate([batch["example_index"] for batch in after])
    for epoch in range(3):
        part = index[epoch * COUNT : (epoch + 1) * COUNT]
        assert len(np.unique(part)) == len(part)
    # Later epochs, whose batches begin elsewhere, are no worse. A width is a multiple of 8.
    assert padding(after[-60:]) < 0.45 * padding(before)


def test_order_is_a_function_of_seed_and_step_and_parts_share_a_batch():
    one, other = ArraySource(texts()), ArraySource(texts())
    for source in (one, other):
        source.group_by_length(BATCH)
    late = one.batch(7, 100, BATCH)["example_index"]
    batches(other, 5)
    np.testing.assert_array_equal(other.batch(7, 100, BATCH)["example_index"], late)
    parts = [one.batch(7, 100, BATCH, part, 2)["example_index"] for part in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts), late)
    assert set(one.batch(8, 100, BATCH)["example_index"]) != set(late)


@pytest.mark.parametrize("fold", [None, Fold(1, 3)], ids=["whole", "fold"])
def test_a_resumed_training_gets_the_same_micro_batches(fold):
    def steps(start):
        source = ArraySource(texts(), num_labels=1)
        if fold is not None:
            source, _ = fold.sources(source)
        source.group_by_length(BATCH)
        return training_dataset(
            source, batch_size=BATCH, seed=3, start_step=start, num_steps=120 - start,
            micro_batches=2, share=Share(2, count=2),
        )  # fmt: skip

    def arrays(start):
        return [[part.numpy() for part in tf.nest.flatten(batch)] for batch in steps(start)]

    whole, rest = arrays(0), arrays(97)  # in the second epoch, or in the third
    assert len(whole) == 4 * 120 and len(rest) == 4 * 23
    for one, other in zip(whole[-len(rest) :], rest, strict=True):
        for expected, found in zip(one, other, strict=True):
            np.testing.assert_array_equal(expected, found)


@pytest.mark.parametrize("count", [0, 1, 5, 8, 300])
@pytest.mark.parametrize("rest", [0, 3, 7])
def test_groups_are_a_permutation(count, rest):
    lengths = np.random.default_rng(1).integers(1, 9, count)
    found = length_groups(lengths, 8, rest, np.random.default_rng(2))
    assert sorted(found.tolist()) == list(range(count))
    assert found[: min(rest, count)].tolist() == list(range(min(rest, count)))


def test_only_texts_have_a_length():
    source = ArraySource(Rows.from_dense(np.eye(3), [[0], [1], [2]]))
    with pytest.raises(ConfigError, match="only token lists that fit into memory"):
        source.group_by_length(2)
