"""What the tensors of a traced function hold at most."""

import numpy as np
import pytest
import tensorflow as tf

from tfxc.training.memory.graph_walk import peak_of
from tfxc.training.memory.unallocated import in_a_graph, unallocated

KB = 1024


def peak(function, *arguments):
    specs = [tf.TensorSpec(a.shape, a.dtype) for a in arguments]
    traced = tf.function(function, autograph=False).get_concrete_function(*specs)
    return peak_of(traced, arguments)


def square(side=16):
    """One kilobyte."""
    return np.ones((side, side), np.float32)


def test_a_tensor_is_held_until_its_last_reader_is_done():
    assert peak(lambda x: tf.matmul(x, x), square()) == 2 * KB
    assert peak(lambda x: tf.matmul(tf.matmul(x, x), x), square()) == 3 * KB
    chain = lambda x: tf.matmul(tf.matmul(tf.matmul(tf.matmul(x, x), x), x), x)  # noqa: E731
    assert peak(chain, square()) == 3 * KB, "the first product is gone when the third is made"


def test_work_in_place_and_other_names_take_nothing():
    def function(x):
        product = tf.matmul(x, x)
        return tf.reshape(tf.nn.relu(product + 1.0), [-1])

    assert peak(function, square()) == 2 * KB
    assert peak(lambda x: (x + 1.0, x + 2.0), square()) == 3 * KB, "an input is not written over"


def test_what_nothing_needs_is_not_computed():
    def function(x):
        tf.matmul(x, tf.ones((16, 10_000)))
        return tf.matmul(x, x)

    assert peak(function, square()) == 2 * KB


def test_lengths_that_values_decide():
    ids = np.repeat(np.arange(4, dtype=np.int32), 64)

    def function(ids):
        distinct, _ = tf.unique(ids)
        return tf.gather(tf.ones((8, 256)), distinct)

    found = peak(function, ids)
    assert found < 20 * KB, "four rows of 1 KB, not 256 of them"
    unknown = peak(lambda x: tf.gather(tf.ones((8, 256)), tf.unique(tf.cast(x, tf.int32))[0]),
                   np.zeros(256, np.float32))  # fmt: skip
    assert unknown < 20 * KB, "numbers of other types are followed as well"


def test_numbers_that_are_looked_up_are_as_many_as_their_ids():
    """Hashed features: the rows of the different ones, not one for each entry of the batch."""
    lookup = tf.Variable(np.int32([5, 3, 7, 1, 0]))
    ids = np.repeat(np.arange(4, dtype=np.int32), 64)
    found = peak(
        lambda ids: tf.gather(tf.ones((8, 256)), tf.unique(tf.gather(lookup, ids))[0]), ids
    )
    assert 4 * KB <= found < 20 * KB, "four rows of 1 KB, not 256 of them"
    ids[:] = 4  # no place of two numbers: what is looked up is not taken for it
    assert peak(lambda ids: tf.gather(tf.ones(2), tf.gather(lookup, ids)), ids) < 20 * KB


def test_length_of_what_depends_on_variables_is_the_longest():
    table = tf.Variable(tf.zeros(256))
    found = peak(lambda x: tf.where(table > x)[:, 0], np.float32(0))
    assert 2 * KB <= found <= 6 * KB, "256 places of 8 bytes"


def test_loops_count_once_and_branches_the_larger():
    def loop(x):
        return tf.while_loop(lambda i, _: i < 100, lambda i, y: (i + 1, tf.matmul(y, x)), (0, x))[1]

    assert peak(loop, square()) < 5 * KB

    def branch(x):
        wide = lambda: tf.reduce_sum(tf.matmul(x, tf.ones((16, 256))))  # noqa: E731
        return tf.cond(tf.reduce_sum(table) > 0, wide, lambda: 0.0)

    table = tf.Variable(1.0)
    assert 16 * KB < peak(branch, square()) < 40 * KB


def test_a_variable_used_by_rows_is_copied_when_it_is_read():
    table = tf.Variable(tf.zeros((256, 256)))
    rows = np.array([1], np.int64)
    whole = lambda rows: tf.reduce_sum(tf.matmul(table, tf.zeros((256, 1))))  # noqa: E731
    both = lambda rows: whole(rows) + tf.reduce_sum(tf.gather(table, rows))  # noqa: E731
    assert peak(whole, rows) < 10 * KB
    assert peak(both, rows) > 256 * KB


def test_variables_without_memory():
    with unallocated(), in_a_graph():
        table = tf.Variable(lambda: tf.zeros((10**8, 10**4)))
        count = tf.Variable(3)
    assert table.shape == (10**8, 10**4) and int(count.numpy()) == 3
    assert table.numpy().shape == table.shape, "as zeros"
    found = peak(lambda ids: tf.gather(table, ids), np.arange(8, dtype=np.int32))
    assert 8 * 40_000 <= found < 9 * 40_000
    assert tf.Variable(tf.ones(2000)).numpy().sum() == 2000


@pytest.mark.parametrize("size", [1, 7])
def test_sparse_matrices(size):
    from tfxc.ops.sparse import bag_matmul

    table = tf.Variable(tf.zeros((50, 64)))
    ids = np.arange(10, dtype=np.int32) % size
    found = peak(
        lambda ids, weights, splits: bag_matmul(ids, weights, splits, table),
        ids, np.ones(10, np.float32), np.array([0, 4, 10], np.int64),
    )  # fmt: skip
    assert (2 + size) * 256 <= found < (2 + size) * 256 + 2 * KB
