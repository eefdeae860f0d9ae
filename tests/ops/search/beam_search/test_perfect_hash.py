"""A slot of its own for every number."""

import numpy as np
import pytest

from tfxc.ops.search.beam_search.perfect_hash import perfect_hash


def drawn(count, space):
    """Different numbers above 0 in any order."""
    return np.random.default_rng(count).permutation(space)[:count] + 1


@pytest.mark.parametrize(
    "numbers",
    [
        np.arange(1, 50_000),
        np.arange(3, 60_000, 7)[::-1],
        drawn(20_000, 25_000) * 100_003,
        (drawn(3_000, 4_000)[:, None] * 3_000_000 + drawn(10, 900_000)).ravel(),
        np.random.default_rng(0).integers(0, 1 << 62, 5_000),
    ],
    ids=["all", "every seventh", "multiples", "grid", "far apart"],
)
def test_no_two_numbers_share_a_slot(numbers):
    found = perfect_hash(numbers)
    slots = found.slots_of(numbers)
    assert len(np.unique(slots)) == len(numbers)
    assert slots.min() >= 0 and slots.max() < found.num_slots
    assert found.num_slots <= 1.1 * len(numbers)
    assert len(found.multipliers) <= 0.7 * len(numbers)


@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_few_numbers(count):
    numbers = drawn(count, 1000)
    found = perfect_hash(numbers)
    assert len(np.unique(found.slots_of(numbers))) == count
    assert found.num_slots <= 2 * count + 2


def test_numbers_that_are_not_there_have_slots_in_the_table():
    found = perfect_hash(np.arange(1, 1000))
    others = np.random.default_rng(0).integers(-(1 << 63), (1 << 63) - 1, 100_000)
    slots = found.slots_of(others)
    assert slots.min() >= 0 and slots.max() < found.num_slots


def test_the_order_does_not_matter():
    numbers = drawn(1000, 5000)
    one, other = perfect_hash(numbers), perfect_hash(np.sort(numbers))
    np.testing.assert_array_equal(one.multipliers, other.multipliers)
    assert one[1:] == other[1:]
