"""Bounds of lists that lie one after the other."""

import numpy as np
import pytest

from tfxc.ops.csr import bounds_of


@pytest.mark.parametrize("kind", [list, np.int32, np.int64, np.uint16])
def test_bounds(kind):
    counts = [2, 0, 3] if kind is list else np.array([2, 0, 3], kind)
    bounds = bounds_of(counts)
    assert bounds.dtype == np.int64 and bounds.tolist() == [0, 2, 2, 5]
    assert bounds_of(counts[:0]).tolist() == [0]


def test_bounds_of_small_numbers_do_not_overflow():
    assert bounds_of(np.full(3, 200, np.uint8)).tolist() == [0, 200, 400, 600]
