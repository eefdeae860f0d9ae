"""tf.data batches equal the source's own, in the promised order and with static shapes."""

import numpy as np
import pytest
import tensorflow as tf

from tests.data.prepared import dense_rows, numbered_rows, prepared
from tfxc.core.errors import ConfigError
from tfxc.data.sources.dataset import Share, training_dataset
from tfxc.data.sources.shards import ArraySource, ShardSource


def assert_same(tensors, arrays):
    tf.nest.assert_same_structure(tensors, arrays)
    for tensor, array in zip(tf.nest.flatten(tensors), tf.nest.flatten(arrays), strict=True):
        assert tensor.dtype.as_numpy_dtype == array.dtype
        np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.mark.parametrize("rows", [numbered_rows(37), dense_rows(37)], ids=["sparse", "dense"])
def test_elements_are_the_sources_batches(rows):
    source = ArraySource(rows)
    batches = list(training_dataset(source, batch_size=8, seed=3, num_steps=12))
    assert len(batches) == 12
    for step, batch in enumerate(batches):
        assert_same(batch, source.batch(3, step, 8))


def test_order_is_step_then_micro_batch_then_local_part():
    source = ArraySource(numbered_rows(37))
    found = training_dataset(
        source, batch_size=24, seed=1, start_step=5, num_steps=2, micro_batches=2,
        share=Share(4, 1, 2),
    )  # fmt: skip
    expected = []
    for step in (5, 6):
        whole = source.batch(1, step, 24)["example_index"].reshape(2, 4, 3)
        expected += [whole[micro, part] for micro in range(2) for part in (1, 2)]
    found = [batch["example_index"].numpy() for batch in found]
    np.testing.assert_array_equal(found, expected)


def test_workers_together_have_each_example_of_the_step_once():
    source = ArraySource(numbered_rows(40))
    seen = []
    for first in (0, 2):
        data = training_dataset(
            source, batch_size=40, seed=0, num_steps=1, share=Share(4, first, 2)
        )
        seen += [index for batch in data for index in batch["example_index"].numpy().tolist()]
    assert sorted(seen) == list(range(40))


def test_resumed_run_sees_what_the_uninterrupted_one_saw():
    source = ArraySource(numbered_rows(29))
    whole = list(training_dataset(source, batch_size=4, seed=9, num_steps=20))
    rest = list(training_dataset(source, batch_size=4, seed=9, start_step=13, num_steps=7))
    for one, other in zip(whole[13:], rest, strict=True):
        assert_same(one, tf.nest.map_structure(lambda tensor: tensor.numpy(), other))


def test_static_shapes_and_cardinality():
    sparse = training_dataset(
        ArraySource(numbered_rows(9)), batch_size=6, seed=0, num_steps=5, micro_batches=3
    )
    assert len(sparse) == 15
    spec = sparse.element_spec
    assert spec["features"]["row_splits"].shape == (3,)
    assert spec["features"]["ids"].shape.as_list() == [None]
    assert spec["labels"].shape.as_list() == [2, None]
    assert spec["example_index"].shape == (2,)
    dense = ArraySource(dense_rows(9))
    assert training_dataset(dense, batch_size=4, seed=0, num_steps=1).element_spec[
        "features"
    ].shape == (4, 5)


def test_nothing_is_tuned():
    """Iterators would wait for the thread that does, see ``training_dataset``."""
    dataset = training_dataset(ArraySource(dense_rows(9)), batch_size=4, seed=0, num_steps=1)
    assert dataset.options().autotune.enabled is False


def test_windows_are_read_below_tf_data_without_deadlock(tmp_path):
    """The reader of a window uses TensorFlow while TensorFlow's threads wait for the window."""
    folder = prepared(tmp_path / "set", numbered_rows(40), 10)
    source = ShardSource(folder, "train", memory_bytes=1)
    data = [training_dataset(source, batch_size=5, seed=seed, num_steps=9) for seed in range(4)]
    for batches in zip(*data, strict=True):
        assert all(len(batch["labels"]) == 5 for batch in batches)


def test_impossible_requests_are_refused():
    source = ArraySource(numbered_rows(9))
    with pytest.raises(ConfigError, match="batch_size: must be a positive multiple of 4"):
        training_dataset(
            source, batch_size=10, seed=0, num_steps=1, micro_batches=2, share=Share(2)
        )
    with pytest.raises(ConfigError, match="the parts go from 0 to 1, so that 2 from 1 on"):
        training_dataset(source, batch_size=4, seed=0, num_steps=1, share=Share(2, 1, 2))
    with pytest.raises(ConfigError, match="there are no examples"):
        training_dataset(ArraySource(numbered_rows(0)), batch_size=4, seed=0, num_steps=1)
