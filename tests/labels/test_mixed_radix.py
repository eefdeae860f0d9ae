import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from tfxc.labels.mixed_radix import check_sizes, decode, encode, strides, suggest_digit_sizes


@pytest.mark.parametrize("seed", range(20))
def test_round_trip(seed):
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 9, random.integers(1, 5)).tolist()
    num_labels = int(random.integers(1, math.prod(sizes) + 1))
    ids = np.arange(num_labels)
    digits = encode(ids, sizes)
    assert len(digits) == len(sizes)
    # Counting upwards, the last digit runs fastest.
    counted = itertools.islice(itertools.product(*map(range, sizes)), num_labels)
    np.testing.assert_array_equal(np.stack(digits, axis=1), list(counted))
    np.testing.assert_array_equal(decode(digits, sizes, num_labels), ids)
    everything = np.arange(math.prod(sizes))
    expected = np.where(everything < num_labels, everything, -1)
    np.testing.assert_array_equal(decode(encode(everything, sizes), sizes, num_labels), expected)
    np.testing.assert_array_equal(decode(encode(everything, sizes), sizes), everything)


def test_tensors_and_padding():
    ids = np.array([[67, -1], [99, 0]], np.int32)
    sizes = (4, 5, 5)
    compiled = tf.function(
        lambda x: (encode(x, sizes), decode(encode(x, sizes), sizes, 99)), autograph=False
    )
    digits, back = compiled(tf.constant(ids))
    np.testing.assert_array_equal(np.stack(digits), np.stack(encode(ids, sizes)))
    assert np.stack(digits)[:, 0].tolist() == [[2, -1], [3, -1], [2, -1]]
    assert back.dtype == tf.int32 and back.numpy().tolist() == [[67, -1], [-1, 0]]
    assert strides(sizes) == (25, 5, 1)


def brute_force(num_labels, num_heads):
    """Smallest (sum, product) of sizes from 2 up that suffice."""
    # One digit alone needs num_labels values, the others at least 2: no size is larger.
    most = max(2, -(-num_labels // 2 ** (num_heads - 1)))
    found = (
        (sum(sizes), math.prod(sizes))
        for sizes in itertools.combinations_with_replacement(range(2, most + 1), num_heads)
        if math.prod(sizes) >= num_labels
    )
    return min(found)


@pytest.mark.parametrize(("num_heads", "most"), [(2, 260), (3, 130), (4, 90)])
def test_suggested_heads_are_the_smallest(num_heads, most):
    for num_labels in range(1, most):
        sizes = suggest_digit_sizes(num_labels, num_heads)
        assert list(sizes) == sorted(sizes, reverse=True) and sizes[-1] >= 2
        assert (sum(sizes), math.prod(sizes)) == brute_force(num_labels, num_heads)


@pytest.mark.parametrize("num_heads", [1, 2, 3, 4])
def test_suggested_heads_of_large_sets(num_heads):
    for num_labels in (10**7, 9_999_991, 2_812_281, 501_070):
        sizes = suggest_digit_sizes(num_labels, num_heads)
        assert len(sizes) == num_heads and math.prod(sizes) >= num_labels
        # One column less does not suffice, however it is taken.
        size, larger = divmod(sum(sizes) - 1, num_heads)
        assert (size + 1) ** larger * size ** (num_heads - larger) < num_labels


@pytest.mark.parametrize(
    ("num_labels", "sizes", "message"),
    [
        (670_091, [8377, 79], r"661783 codes for 670091 labels.*\[8377, 80\], the smallest \[844"),
        (12, [3, 3], r"9 codes for 12 labels; the nearest that suffice are \[3, 4\]"),
        (12, [11], r"nearest that suffice are \[12\]"),
        (12, [], "the list is empty"),
        (12, [4, 0], "not a list of positive integers"),
        (12, [4, 3.5], "not a list of positive integers"),
        (12, [True, 12], "not a list of positive integers"),
        (12, 12, "12 is not a list of positive integers"),
        (12, "4,3", "'4,3' is not a list of positive integers"),
        (12, [2**16, 2**16], "must be fewer than 2147483648"),
    ],
)
def test_sizes_that_do_not_do(num_labels, sizes, message):
    with pytest.raises(ValueError, match=message):
        check_sizes(num_labels, sizes)


def test_sizes_that_do():
    assert check_sizes(99, [4, 5, 5]) == (4, 5, 5)
    assert check_sizes(np.int64(4), np.array([2, 2])) == (2, 2)
    with pytest.raises(ValueError, match="not at least one of each"):
        suggest_digit_sizes(0, 2)
