"""Batches of whole groups of examples."""

import numpy as np
import pytest

from tfxc.data.examples.rows import Rows
from tfxc.data.sources.base import ArraySource, near_groups
from tfxc.data.sources.dataset import Share, training_dataset
from tfxc.data.sources.folds import Fold

COUNT, BATCH, GROUP = 531, 16, 8  # an epoch ends within a batch


def source_of(count=COUNT):
    return ArraySource(Rows.from_dense(np.zeros((count, 1)), [[0]] * count), num_labels=1)


def groups_of(draw):
    return np.random.default_rng(draw).permutation(np.arange(COUNT) // GROUP)


def indices(source, steps):
    return np.concatenate([source.batch(7, step, BATCH)["example_index"] for step in steps])


def test_groups_stay_together_in_another_order_each_epoch():
    source, groups = source_of(), groups_of(1)
    source.group_near(BATCH, groups)
    index = indices(source, range(3 * COUNT // BATCH))
    orders = []
    for epoch in range(3):
        part = index[epoch * COUNT : (epoch + 1) * COUNT]
        assert len(np.unique(part)) == len(part)
        changes = np.count_nonzero(np.diff(groups[part]))
        assert changes <= groups.max() + BATCH, "but for the batch across two epochs"
        orders.append(part[BATCH : 20 * BATCH].tolist())
    assert orders[0] != orders[1] != orders[2]


def test_one_group_is_the_usual_order():
    plain, grouped = source_of(), source_of()
    grouped.group_near(BATCH, np.zeros(COUNT, int))
    np.testing.assert_array_equal(indices(grouped, range(80)), indices(plain, range(80)))


def test_an_epoch_whose_groups_change_with_its_first_batch_has_each_example_once():
    source, index, epoch = source_of(), [], 0
    for step in range(4 * COUNT // BATCH):
        if step * BATCH // COUNT != epoch:
            epoch = step * BATCH // COUNT
            source.batch(7, step + 1, BATCH)  # read ahead
            source.group_near(BATCH, groups_of(epoch))
        index.append(indices(source, [step]))
    index = np.concatenate(index)
    for epoch in range(3):
        assert len(set(index[epoch * COUNT : (epoch + 1) * COUNT].tolist())) == COUNT


@pytest.mark.parametrize("fold", [None, Fold(1, 3)], ids=["whole", "fold"])
def test_replicas_share_a_batch(fold):
    source = source_of() if fold is None else fold.sources(source_of())[0]
    source.group_near(BATCH, np.arange(source.num_examples) // GROUP)
    whole = indices(source, [40])
    parts = training_dataset(
        source, batch_size=BATCH, seed=7, start_step=40, num_steps=1, share=Share(2, 0, 2)
    )
    found = np.concatenate([batch["example_index"].numpy() for batch in parts])
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize(("count", "rest"), [(0, 0), (3, 5), (40, 0), (40, 7)])
def test_a_permutation(count, rest):
    groups = np.random.default_rng(count).integers(0, 5, count)
    order = near_groups(groups, rest, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(order), np.arange(count))
    np.testing.assert_array_equal(order[:rest], np.arange(min(rest, count)))
    assert np.count_nonzero(np.diff(groups[order[rest:]])) <= 4
