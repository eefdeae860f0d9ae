"""Batches from feature sets: whole, in blocks, in order, in bounded memory."""

import os
import tracemalloc

import numpy as np
import pytest

from tests.data.store.feature_sets.examples import vectors, write_set
from tfxc.core.errors import DataError
from tfxc.core.storage import checksums
from tfxc.data.examples.rows import Rows
from tfxc.data.reading.parsing.feature_set import FeatureSet
from tfxc.data.reading.parsing.row_file import array_header
from tfxc.data.sources.base import ArraySource
from tfxc.data.sources.feature_sets import FeatureSource

COUNT = 43
ROW_BYTES = 4 * 5 + 24


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return FeatureSet(write_set(tmp_path_factory.mktemp("set") / "features"))


def sources(features):
    return {
        "whole": FeatureSource(features, 1 << 20),
        "windows": FeatureSource(features, 3 * 12 * ROW_BYTES, block_rows=4),
        "rows": FeatureSource(features, 3 * 12 * ROW_BYTES),
        "one block a window": FeatureSource(features, 1, block_rows=5),
    }


@pytest.mark.parametrize("kind", ["whole", "windows", "rows", "one block a window"])
class TestSequence:
    def test_epochs_are_permutations_and_content_belongs_to_the_index(self, features, kind):
        source = sources(features)[kind]
        batches = [source.batch(5, step, 16) for step in range(3 * COUNT // 16 + 1)]
        for batch in batches:
            index = batch["example_index"]
            np.testing.assert_array_equal(batch["features"], vectors(COUNT)[index])
            np.testing.assert_array_equal(batch["labels"][:, 0], index % 7)
        indices = np.concatenate([batch["example_index"] for batch in batches])
        epochs = [indices[i * COUNT : (i + 1) * COUNT].tolist() for i in range(3)]
        assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
        assert epochs[0] != epochs[1] != epochs[2] != list(range(COUNT))

    def test_seeking_and_parts(self, features, kind):
        runner, seeker = sources(features)[kind], sources(features)[kind]
        ran = [runner.batch(3, step, 24)["example_index"] for step in range(14)]
        for step in (13, 0, 7):
            parts = [seeker.batch(3, step, 24, part, 4)["example_index"] for part in range(4)]
            np.testing.assert_array_equal(np.concatenate(parts), ran[step])

    def test_in_order(self, features, kind):
        batches = list(sources(features)[kind].sequential(10))
        assert [len(batch["labels"]) for batch in batches] == [10, 10, 10, 10, 3]
        for name, expected in (
            ("features", vectors(COUNT)),
            ("labels", np.arange(COUNT)[:, None] % 7),
            ("example_index", np.arange(COUNT)),
        ):
            found = np.concatenate([batch[name] for batch in batches])
            np.testing.assert_array_equal(found, expected)


def test_a_whole_set_comes_in_the_order_of_rows_in_memory(features):
    rows = Rows.from_dense(vectors(COUNT), [[i % 7] for i in range(COUNT)])
    one, other = FeatureSource(features, 1 << 20), ArraySource(rows, 7)
    assert one.in_memory
    for step in (0, 4):
        np.testing.assert_array_equal(
            one.batch(1, step, 16)["example_index"], other.batch(1, step, 16)["example_index"]
        )
    assert one.label_counts().tolist() == other.label_counts().tolist()


def test_blocks_are_mixed_within_windows(tmp_path):
    features = FeatureSet(write_set(tmp_path / "set", vectors(2000)))
    source = FeatureSource(features, 3 * 500 * ROW_BYTES, block_rows=10)
    order = source.batch(0, 0, 2000)["example_index"]
    blocks = order // 10
    for window in range(4):  # 50 blocks each, and none of them elsewhere
        assert len(set(blocks[window * 500 : (window + 1) * 500].tolist())) == 50
    assert len(set(blocks[:64].tolist())) > 25
    assert np.mean(np.abs(np.diff(order)) == 1) < 0.02


def test_the_default_block_is_small_enough_for_the_window(features):
    budgets = [FeatureSource(features, size).block_rows for size in (1, 10**5, 10**12)]
    assert budgets == [1, 10**5 // 3 // ROW_BYTES // 64, (2 << 20) // ROW_BYTES]


def test_memory_stays_within_the_budget(tmp_path):
    """40 MB of features, 6 MB of budget; most of the file is a hole and takes no disk."""
    count, dim, budget = 80_000, 128, 6 << 20
    folder = write_set(tmp_path / "set", vectors(10, dim))
    header = array_header((count, dim), np.dtype(np.float32))
    (folder / "features.npy").write_bytes(header)
    os.truncate(folder / "features.npy", len(header) + 4 * count * dim)
    np.save(folder / "labels.npy", np.zeros(count, np.int32))
    settings = (folder / "features.json").read_text()
    (folder / "features.json").write_text(settings.replace(": 10,", f": {count},"))
    checksums.record(folder)
    tracemalloc.start()
    try:
        source = FeatureSource(FeatureSet(folder), budget)
        assert not source.in_memory
        seen = np.zeros(count, bool)
        for step in range(count // 500):
            seen[source.batch(0, step, 500)["example_index"]] = True
        source._reader.shutdown(wait=True)
        assert sum(len(batch["labels"]) for batch in source.sequential(256)) == count
        assert seen.all()
        assert tracemalloc.get_traced_memory()[1] < 1.7 * budget
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("memory", [1 << 20, 3 * 12 * ROW_BYTES])
def test_damage_found_on_the_way_names_the_row(tmp_path, memory):
    folder = write_set(tmp_path / "set")
    stored = np.load(folder / "features.npy", mmap_mode="r+")
    stored[17, 2] = np.nan
    stored.flush()
    checksums.record(folder)  # as if it had been written so
    source = FeatureSource(FeatureSet(folder), memory)
    with pytest.raises(DataError, match=r"row 17 .* is NaN or infinite"):
        source.batch(0, 0, COUNT)
    with pytest.raises(DataError, match=r"row 17 .* is NaN or infinite"):
        list(source.sequential(8))
