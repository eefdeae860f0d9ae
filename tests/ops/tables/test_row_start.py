"""Random starts that are drawn in blocks of rows."""

import keras
import numpy as np
import pytest

from tfxc.ops.tables import row_start
from tfxc.ops.tables.row_start import RowStart

KERAS = {
    "normal": lambda seed: keras.initializers.RandomNormal(0.0, 0.3, seed),
    "truncated_normal": lambda seed: keras.initializers.TruncatedNormal(0.0, 0.3, seed),
    "uniform": lambda seed: keras.initializers.RandomUniform(-0.3, 0.3, seed),
}


@pytest.mark.parametrize("kind", KERAS)
@pytest.mark.parametrize("seed", [0, 7, 2**40])
def test_small_tables_are_those_of_keras(kind, seed):
    expected = KERAS[kind](seed)((20, 3, 2))
    np.testing.assert_array_equal(RowStart(kind, 0.3, seed)((20, 3, 2)), expected)


def test_any_rows_are_those_of_the_whole(monkeypatch):
    monkeypatch.setattr(row_start, "_BLOCK", 4 * 6)  # four rows
    start = RowStart("normal", 1.0, seed=5)
    whole = start((30, 3, 2)).numpy()
    assert len(np.unique(whole)) == whole.size, "no block repeats another"
    for begin, end in [(0, 30), (0, 4), (3, 5), (8, 8), (27, 30)]:
        np.testing.assert_array_equal(start.rows((30, 3, 2), begin, end), whole[begin:end])
    rows = start.of_shape((30, 3, 2))
    np.testing.assert_array_equal(rows[4:9], whole[4:9])
    np.testing.assert_array_equal(rows[()], whole)
    assert abs(whole.mean()) < 0.3 and abs(whole.std() - 1) < 0.2


def test_another_seed_is_another_start():
    one, other = (RowStart("normal", 1.0, seed)((4, 2)).numpy() for seed in (1, 2))
    assert not (one == other).any()
    again = RowStart(**RowStart("normal", 1.0, 1).get_config())
    np.testing.assert_array_equal(again((4, 2)), one)
