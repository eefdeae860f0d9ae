import numpy as np
import pytest
import tensorflow as tf

from tfxc.ops.perturbations import RowPerturbation, perturbations, read_rows

TABLE = np.arange(20, dtype=np.float32).reshape(10, 2)


def test_only_the_rows_named_move():
    table, other = tf.Variable(TABLE), tf.Variable(TABLE)
    perturbation = RowPerturbation(tf.constant([2, 7]), tf.constant([[0.5, 1.0], [-3.0, 0.0]]))
    moved = TABLE.copy()
    moved[2] += [0.5, 1.0]
    moved[7] += [-3.0, 0.0]
    ids = np.array([[7, 2, 0], [9, 2, 8]])
    with perturbations([(table, perturbation)]):
        np.testing.assert_array_equal(read_rows(table, ids), moved[ids])
        np.testing.assert_array_equal(read_rows(other, ids), TABLE[ids])
    np.testing.assert_array_equal(read_rows(table, ids), TABLE[ids])
    np.testing.assert_array_equal(table, TABLE)


def test_offsets_end_with_an_error():
    table = tf.Variable(TABLE)
    with pytest.raises(KeyError), perturbations([(table, RowPerturbation(None, tf.ones((10, 2))))]):
        assert read_rows(table, [0]).numpy().tolist() == [[1, 2]]
        raise KeyError
    assert read_rows(table, [0]).numpy().tolist() == [[0, 1]]


def test_no_ids():
    table = tf.Variable(TABLE)
    empty = RowPerturbation(tf.zeros((0,), tf.int32), tf.zeros((0, 2)))
    with perturbations([(table, empty)]):
        assert read_rows(table, tf.zeros((0,), tf.int32)).shape == (0, 2)


def test_gradient_of_the_table_and_its_rows():
    table, ids = tf.Variable(TABLE), np.array([[7, 2, 0], [9, 2, 8]])
    factors = tf.constant(np.arange(12.0).reshape(2, 3, 2), tf.float32)
    with (
        tf.GradientTape() as tape,
        perturbations([(table, RowPerturbation(None, tf.ones((10, 2))))]),
    ):
        loss = tf.reduce_sum(read_rows(table, ids) ** 2 * factors)
    gradient = tape.gradient(loss, table)
    dense = np.zeros_like(TABLE)
    np.add.at(dense, ids, 2 * (TABLE + 1)[ids] * factors.numpy())
    found = RowPerturbation.from_gradient(gradient)
    assert found.rows.numpy().tolist() == [0, 2, 7, 8, 9]
    np.testing.assert_allclose(found.values, dense[found.rows])
    more = RowPerturbation.from_gradient(gradient, tf.constant([0, 1, 2, 7, 8, 9]))
    np.testing.assert_allclose(more.values, dense[more.rows])
    assert RowPerturbation.from_gradient(tf.constant(dense)).rows is None
