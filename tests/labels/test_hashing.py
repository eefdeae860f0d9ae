import os
import re
from pathlib import Path

import numpy as np
import pytest

from tfxc.core.errors import ConfigError
from tfxc.labels.hashing import bucket_lookup, bucket_lookups, check_buckets

GOLDEN = Path(os.environ.get("TFXC_GOLDEN", Path(__file__).parents[3] / "shared" / "golden"))
LOOKUPS = GOLDEN / "mach_lookups.npz"


def murmurhash3(number, seed):
    """MurmurHash3 x86 32-bit of the four bytes of one int32, as a signed number."""
    keep = 0xFFFFFFFF
    block = (number * 0xCC9E2D51) & keep
    block = (((block << 15) | (block >> 17)) & keep) * 0x1B873593 & keep
    value = seed ^ block
    value = ((value << 13) | (value >> 19)) & keep
    value = (value * 5 + 0xE6546B64) & keep
    value ^= 4
    value = ((value ^ (value >> 16)) * 0x85EBCA6B) & keep
    value = ((value ^ (value >> 13)) * 0xC2B2AE35) & keep
    value ^= value >> 16
    return value - (1 << 32) if value >> 31 else value


@pytest.mark.parametrize(("num_items", "num_buckets"), [(10, 7), (300, 5), (300, 70_000)])
@pytest.mark.parametrize("seed", [0, 1, 15, 2**32 - 1])
def test_equals_the_hash_written_out(num_items, num_buckets, seed):
    # Python's % is the mathematical remainder.
    expected = [murmurhash3(item, seed) % num_buckets for item in range(num_items)]
    found = bucket_lookup(num_items, num_buckets, seed)
    assert found.tolist() == expected
    assert found.dtype == (np.uint16 if num_buckets <= 65_536 else np.int32)


def test_type_changes_after_65536_buckets():
    assert bucket_lookup(9, 65_536, 0).dtype == np.uint16
    assert bucket_lookup(9, 65_537, 0).dtype == np.int32


def test_golden_lookups():
    if not LOOKUPS.is_file():
        pytest.skip(f"no golden file {LOOKUPS}")
    with np.load(LOOKUPS) as golden:
        names = [name for name in golden.files if name.endswith("_head")]
        assert names
        for name in names:
            sizes = re.fullmatch(r"n(\d+)_b(\d+)_r(\d+)_head", name)
            lookup = bucket_lookup(*map(int, sizes.groups())).astype(np.int64)
            head, total = golden[name], golden[name.replace("_head", "_sum")]
            np.testing.assert_array_equal(lookup[: len(head)], head)
            mixed = (lookup * np.arange(len(lookup)) % 1_000_003).sum()
            assert [lookup.sum(), mixed] == total.tolist()


def test_repetitions_have_their_own_seeds():
    lookups = bucket_lookups(500, 40, seeds=[3, 0, 7])
    assert lookups.shape == (3, 500)
    for row, seed in enumerate((3, 0, 7)):
        np.testing.assert_array_equal(lookups[row], bucket_lookup(500, 40, seed))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((100, 0, 4), "num_buckets: must be an integer of at least 1, not 0"),
        ((100, 101, 4), "dense head or fewer buckets"),
        ((100, 10, 0), "num_repetitions: must be an integer of at least 1, not 0"),
    ],
)
def test_check_buckets_refuses(sizes, message):
    with pytest.raises(ConfigError, match=message):
        check_buckets(*sizes)


def test_check_buckets_allows_as_many_buckets_as_labels():
    check_buckets(num_items=100, num_buckets=100, num_repetitions=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 5, 0), "num_items"), ((5, 0, 0), "num_buckets"), ((5, 5, -1), "seed")],
)
def test_lookup_refuses(arguments, message):
    with pytest.raises(ConfigError, match=message):
        bucket_lookup(*arguments)


def test_other_refusals():
    with pytest.raises(ConfigError, match="seeds"):
        bucket_lookups(10, 5, seeds=[])
