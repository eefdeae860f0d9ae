"""Fixtures of the data tests."""

import pytest

from tests.data.sources.examples import sparse_set, write_xc
from tfxc.core.config import DataSettings


@pytest.fixture
def sparse_settings(tmp_path):
    matrix, labels = sparse_set()
    train = write_xc(tmp_path / "train.txt", matrix, labels, 12)
    return DataSettings(name="toy", train=train, test=train, shard_examples=10)
