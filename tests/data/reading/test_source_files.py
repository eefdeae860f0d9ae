"""Sources that are patterns of shards."""

import pytest

from tfxc.core.config import DataSettings
from tfxc.core.errors import DataError
from tfxc.data.reading.source_files import describe_sources, find_sources, stamps_of

SHARDS = ("0.tar", "1.tar", "2.tar")


@pytest.fixture
def folder(tmp_path):
    for name in SHARDS:
        (tmp_path / name).write_text(name * 2)
    return tmp_path


@pytest.mark.parametrize("pattern", ["{0..2}.tar", "?.tar"])
def test_shards_are_one_source(folder, pattern):
    settings = DataSettings(name="toy", train=f"{folder}/{pattern}")
    before = describe_sources(settings, find_sources(settings), {}, stamps_of(settings))["train"]
    assert (before.path, before.bytes) == (f"{folder}/{pattern}", 30)
    (folder / "2.tar").write_text("other tars")
    after = describe_sources(settings, find_sources(settings), {}, stamps_of(settings))["train"]
    assert after.bytes == before.bytes
    assert after.sha256 != before.sha256


def test_a_missing_shard_is_named(folder):
    settings = DataSettings(name="toy", train=f"{folder}/{{0..3}}.tar", dev=f"{folder}/*.tar.gz")
    with pytest.raises(DataError, match=r"no file .*/3\.tar \(train\), .*/\*\.tar\.gz \(dev\)"):
        find_sources(settings)
