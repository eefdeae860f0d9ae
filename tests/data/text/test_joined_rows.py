"""Joined rows against the rows of their two parts: in memory, in records, in batches."""

import numpy as np
import pytest

from tests.data.prepared import prepared
from tests.data.rows import read_shard
from tests.data.text.joined_examples import NUM_FEATURES, assert_batch, joined, parts
from tfxc.core.errors import DataError
from tfxc.data.examples.kinds import JOINED
from tfxc.data.examples.rows import Rows
from tfxc.data.reading.parsing.record_layout import LAYOUTS
from tfxc.data.sources.base import ArraySource
from tfxc.data.sources.dataset import training_dataset
from tfxc.data.sources.matrices import matrices
from tfxc.data.sources.shards import ShardSource
from tfxc.data.store.manifest import Manifest
from tfxc.data.store.records.record_writer import write_shard
from tfxc.labels.label_embeddings import pifa_of_source


def assert_same(found, expected):
    assert found.kind == expected.kind and found.num_features == expected.num_features
    for name in ("label_indptr", "label_ids", *expected.arrays):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype, name
        np.testing.assert_array_equal(one, other, err_msg=name)


def test_operations_are_those_of_the_parts():
    sparse, lists = parts()
    rows, numbers = joined(sparse, lists), [5, 96, 5, 0, 31]
    assert rows.kind is JOINED and len(rows) == 97
    assert rows.nonzeros == sparse.nonzeros and rows.num_tokens == lists.nonzeros
    assert sparse.num_tokens == lists.num_tokens == 0 and sparse.lengths is None
    np.testing.assert_array_equal(rows.lengths, np.diff(lists.indptr))
    assert (np.diff(rows.lengths[rows.by_length()]) >= 0).all()
    assert sorted(rows.by_length()) == sparse.by_length().tolist() == list(range(len(rows)))
    assert_same(rows.select(numbers), joined(sparse.select(numbers), lists.select(numbers)))
    for bounds in ((3, 50), (0, 0), (90, 200)):
        assert_same(rows.slice(*bounds), joined(sparse.slice(*bounds), lists.slice(*bounds)))
    pieces = [rows.slice(0, 40), rows.slice(40, 41), rows.slice(41, 97)]
    assert_same(Rows.concatenate(pieces), rows)
    assert_batch(rows.take(numbers), sparse.take(numbers), lists.take(numbers))
    shared = sparse.label_indptr.nbytes + sparse.label_ids.nbytes
    assert rows.nbytes == sparse.nbytes + lists.nbytes - shared


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count", [0, 1, 257, 600])
def test_records_in_both_layouts(tmp_path, layout, count):
    rows = joined(*parts(600)).slice(0, count)
    write_shard(tmp_path / "shard", rows, layout)
    assert_same(read_shard(tmp_path / "shard", layout, JOINED, NUM_FEATURES), rows)


def test_records_without_tokens_are_refused(tmp_path):
    sparse, _ = parts(9)
    write_shard(tmp_path / "shard", sparse, "blocks")
    with pytest.raises(DataError, match="not as many tokens as their counts say"):
        read_shard(tmp_path / "shard", "blocks", JOINED, NUM_FEATURES)


def shards(folder, rows, layout="blocks"):
    """A prepared folder of joined rows in shards of 20."""
    return prepared(folder, rows, 20, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("memory_bytes", [1 << 20, 3000])
def test_shards_in_and_beyond_memory_are_resumed(tmp_path, layout, memory_bytes):
    sparse, lists = parts()
    folder = shards(tmp_path / "set", joined(sparse, lists), layout)
    source = ShardSource(folder, "train", memory_bytes)
    assert source.kind is JOINED and source.in_memory == (memory_bytes > 3000)
    walked = [source.batch(3, step, 16) for step in range(14)]
    for batch in walked:
        index = batch["example_index"]
        of_bags = {**sparse.take(index), "example_index": index}
        assert_batch(batch, of_bags, lists.take(index))
    seen = np.concatenate([batch["example_index"] for batch in walked])
    assert sorted(seen[:97].tolist()) == list(range(97))
    later = ShardSource(folder, "train", memory_bytes).batch(3, 13, 16)
    np.testing.assert_array_equal(later["example_index"], walked[13]["example_index"])
    halves = [source.batch(3, 13, 16, part, 2) for part in range(2)]
    assert_batch(walked[13], *(part.take(later["example_index"]) for part in (sparse, lists)))
    index = np.concatenate([half["example_index"] for half in halves])
    np.testing.assert_array_equal(index, later["example_index"])
    assert_same(source.rows(), joined(sparse, lists))


def test_memory_is_counted(tmp_path):
    rows = joined(*parts())
    manifest = Manifest.load(shards(tmp_path / "set", rows))
    found = [shard.memory_bytes(JOINED) for shard in manifest.splits["train"].shards]
    ends = 3 * 8  # the first bound of each of three lists
    expected = [rows.slice(start, start + 20).nbytes - ends for start in range(0, 97, 20)]
    assert found == expected


def test_damaged_manifest_is_reported(tmp_path):
    folder = shards(tmp_path / "set", joined(*parts()))
    manifest = Manifest.load(folder)
    manifest.splits["train"].shards[2].tokens += 1
    manifest.save(folder)
    with pytest.raises(DataError, match="labels, feature values and tokens next to them, but"):
        ShardSource(folder, "train")


def test_batches_of_similar_length_go_by_the_tokens():
    sparse, lists = parts(400)
    one, other = ArraySource(joined(sparse, lists)), ArraySource(lists)
    for source in (one, other):
        source.group_by_length(8)
    for step in (0, 3, 60):
        index = one.batch(1, step, 8)["example_index"]
        np.testing.assert_array_equal(index, other.batch(1, step, 8)["example_index"])
    widths = {one.batch(1, step, 8)["features"]["tokens"].shape[1] for step in range(30)}
    assert widths == {8, 16, 24}


def test_batches_in_the_graph():
    sparse, lists = parts()
    source = ArraySource(joined(sparse, lists))
    batches = training_dataset(source, batch_size=8, seed=0, num_steps=4, start_step=10)
    for step, batch in enumerate(batches.as_numpy_iterator(), 10):
        index = source.batch(0, step, 8)["example_index"]
        of_bags = {**sparse.take(index), "example_index": index}
        assert_batch(batch, of_bags, lists.take(index))


def test_matrices_and_label_vectors_are_those_of_the_bags():
    sparse, lists = parts()
    one, other = (ArraySource(rows, num_labels=12) for rows in (joined(sparse, lists), sparse))
    pairs = [*zip(matrices(one, 20), matrices(other, 20), strict=True)]
    pairs.append([pifa_of_source(source, 12, 20) for source in (one, other)])
    for found, expected in pairs:
        assert found.shape == expected.shape and (found != expected).nnz == 0
