"""Batches as a function of (seed, step), from memory and window by window."""

import concurrent.futures

import numpy as np
import pytest
import scipy.sparse

from tests.data.prepared import dense_rows, numbered_rows, prepared
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.examples.rows import Rows
from tfxc.data.reading.parsing import tfrecord
from tfxc.data.sources.shards import ArraySource, ShardSource, verify
from tfxc.data.store.manifest import Manifest
from tfxc.data.store.records import record_writer

COUNT = 43


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("set") / "prepared", numbered_rows(COUNT), 5)


@pytest.fixture(scope="module", autouse=True)
def shards_read_once():
    """Reading a shard is tested elsewhere; here the same few are asked for again and again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfrecord, "read_chunks", _cached_read_chunks)
        yield


def _cached_read_chunks(path, *arguments):
    key = (path.read_bytes(), *arguments) if path.is_file() else None
    if key is None or key not in _READ:
        _READ[key] = list(_read_chunks(path, *arguments))
    return _READ[key]


_READ, _read_chunks = {}, tfrecord.read_chunks


def sources(folder):
    rows = numbered_rows(COUNT)
    window_bytes = 3 * rows.slice(0, 12).nbytes
    return {
        "array": ArraySource(rows),
        "whole": ShardSource(folder, "train"),
        "windows": ShardSource(folder, "train", memory_bytes=window_bytes),
        "one shard a window": ShardSource(folder, "train", memory_bytes=1),
    }


def rows_of(batch):
    """What ``numbered_rows`` says about each row, from the batch's content alone."""
    splits = batch["features"]["row_splits"]
    return [
        (
            batch["features"]["ids"][start:stop].tolist(),
            batch["features"]["weights"][start:stop].tolist(),
            [label for label in labels.tolist() if label >= 0],
        )
        for start, stop, labels in zip(splits[:-1], splits[1:], batch["labels"], strict=True)
    ]


def expected_rows(indices):
    rows = numbered_rows(COUNT)
    return [
        (
            rows.indices[rows.indptr[i] : rows.indptr[i + 1]].tolist(),
            rows.values[rows.indptr[i] : rows.indptr[i + 1]].tolist(),
            rows.label_ids[rows.label_indptr[i] : rows.label_indptr[i + 1]].tolist(),
        )
        for i in indices
    ]


def test_take_equals_scipy_row_indexing():
    rng = np.random.default_rng(0)
    matrix = scipy.sparse.random(50, 40, density=0.1, format="csr", rng=rng, dtype=np.float32)
    targets = scipy.sparse.random(50, 30, density=0.05, format="csr", rng=rng)
    targets.sort_indices()
    order = rng.integers(0, 50, 200)
    batch = Rows.from_csr(matrix, targets).take(order)
    picked = matrix[order]
    assert [batch["features"][name].dtype for name in ("ids", "weights", "row_splits")] == [
        np.int32,
        np.float32,
        np.int64,
    ]
    np.testing.assert_array_equal(batch["features"]["row_splits"], picked.indptr)
    np.testing.assert_array_equal(batch["features"]["ids"], picked.indices)
    np.testing.assert_array_equal(batch["features"]["weights"], picked.data)
    found = np.zeros((200, 31))
    np.put_along_axis(found, batch["labels"].astype(int), 1, axis=1)  # −1 lands in the last column
    np.testing.assert_array_equal(found[:, :30], targets[order].toarray() > 0)
    assert batch["labels"].shape[1] == np.diff(targets[order].indptr).max()


def test_rows_without_labels_are_one_column_of_padding():
    batch = Rows.from_dense(np.ones((2, 3)), [[], []]).take([1, 0, 1])
    assert batch["labels"].tolist() == [[-1], [-1], [-1]] and batch["features"].shape == (3, 3)


def test_slice_and_concatenate_are_inverse():
    for rows in (numbered_rows(20), dense_rows(20)):
        parts = [rows.slice(0, 7), rows.slice(7, 7), rows.slice(7, 20)]
        joined = Rows.concatenate(parts)
        assert [len(part) for part in parts] == [7, 0, 13]
        for name in ("indptr", "indices", "values", "matrix", "label_indptr", "label_ids"):
            np.testing.assert_array_equal(getattr(joined, name), getattr(rows, name))
        assert joined.nbytes == rows.nbytes


@pytest.mark.parametrize("kind", ["array", "whole", "windows", "one shard a window"])
class TestSequence:
    def test_each_epoch_is_a_permutation_across_batch_borders(self, folder, kind):
        source = sources(folder)[kind]
        indices = np.concatenate(
            [source.batch(5, step, 16)["example_index"] for step in range(3 * COUNT // 16 + 1)]
        )
        epochs = [indices[i * COUNT : (i + 1) * COUNT].tolist() for i in range(3)]
        for epoch in epochs:
            assert sorted(epoch) == list(range(COUNT))
        assert epochs[0] != epochs[1] != epochs[2] != list(range(COUNT))

    def test_content_belongs_to_the_index(self, folder, kind):
        source = sources(folder)[kind]
        for step in (0, 3, 11):
            batch = source.batch(1, step, 16)
            assert batch["example_index"].dtype == np.int64
            assert rows_of(batch) == expected_rows(batch["example_index"])

    def test_batch_size_only_cuts_the_sequence(self, folder, kind):
        source = sources(folder)[kind]
        small = [source.batch(2, step, 5)["example_index"] for step in range(24)]
        for size in (COUNT, 3 * COUNT - 9):  # also across several epochs in one batch
            large = source.batch(2, 0, size)
            np.testing.assert_array_equal(large["example_index"], np.concatenate(small)[:size])
            assert rows_of(large) == expected_rows(large["example_index"])

    def test_seeking_equals_running_there(self, folder, kind):
        runner, seeker = sources(folder)[kind], sources(folder)[kind]
        ran = [runner.batch(3, step, 8)["example_index"] for step in range(14)]
        for step in (13, 0, 7):
            np.testing.assert_array_equal(seeker.batch(3, step, 8)["example_index"], ran[step])

    def test_parts_join_to_the_global_batch(self, folder, kind):
        source = sources(folder)[kind]
        for step in (0, 9):
            whole = source.batch(4, step, 24)
            parts = [source.batch(4, step, 24, part, 6) for part in range(6)]
            joined = np.concatenate([part["example_index"] for part in parts])
            np.testing.assert_array_equal(joined, whole["example_index"])
            assert [row for part in parts for row in rows_of(part)] == rows_of(whole)

    def test_seeds_differ(self, folder, kind):
        source = sources(folder)[kind]
        one, other = (source.batch(seed, 0, 50)["example_index"].tolist() for seed in (0, 1))
        assert one != other

    def test_sequential_is_in_order_and_complete(self, folder, kind):
        source = sources(folder)[kind]
        for size in (1, 10, 16, 500):
            batches = list(source.sequential(size))
            indices = np.concatenate([batch["example_index"] for batch in batches])
            np.testing.assert_array_equal(indices, np.arange(COUNT))
            assert {len(batch["labels"]) for batch in batches[:-1]} <= {size}
            rows = [row for batch in batches for row in rows_of(batch)]
            assert rows == expected_rows(range(COUNT))

    def test_threads_get_what_one_thread_gets(self, folder, kind):
        source = sources(folder)[kind]
        expected = [source.batch(6, step, 16)["example_index"].tolist() for step in range(9)]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            found = pool.map(lambda step: source.batch(6, step, 16)["example_index"], range(9))
        assert [indices.tolist() for indices in found] == expected


def test_windows_hold_few_shards_and_mix_their_rows(folder):
    source = sources(folder)["windows"]
    assert not source.in_memory and sources(folder)["whole"].in_memory
    shards = source.batch(0, 0, COUNT)["example_index"] // 5  # stored in order, five per shard
    runs = 1 + np.count_nonzero(np.diff(shards))
    # A window holds two or three shards: the rows of a shard lie at most that far apart.
    last = {shard: position for position, shard in enumerate(shards.tolist())}
    first = {shard: position for position, shard in reversed(list(enumerate(shards.tolist())))}
    assert max(last[shard] - first[shard] for shard in last) < 15
    assert runs > 9


def test_seeking_reads_only_the_windows_it_needs(folder, monkeypatch):
    source = sources(folder)["one shard a window"]
    read, load = [], source._load
    monkeypatch.setattr(source, "_load", lambda shards: read.append(list(shards)) or load(shards))
    source.batch(0, 1000, 1)
    source._reader.shutdown(wait=True)
    assert len(read) == 2  # the window of the step and the one read ahead


def test_part_must_divide_the_batch(folder):
    with pytest.raises(ConfigError, match=r"must be a positive multiple of 3 .*not 16\. Use 15"):
        sources(folder)["array"].batch(0, 0, 16, part=0, parts=3)


def test_empty_source_is_refused():
    with pytest.raises(ConfigError, match="there are no examples"):
        ArraySource(numbered_rows(0)).batch(0, 0, 4)


def test_missing_and_shortened_shards_are_named_at_opening(tmp_path):
    folder = prepared(tmp_path / "set", numbered_rows(30), 10)
    assert verify(folder).split("train").examples == 30
    shard = folder / "train-00001-of-00003.tfrecord"
    content = shard.read_bytes()
    shard.write_bytes(content[:-4])
    with pytest.raises(DataError, match=r"train-00001-of-00003\.tfrecord: .*bytes instead of"):
        ShardSource(folder, "train")
    shard.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    with pytest.raises(DataError, match=r"train-00001-of-00003\.tfrecord: changed or damaged"):
        verify(folder)
    with pytest.raises(DataError, match=r"train-00001-of-00003\.tfrecord: .*damaged"):
        ShardSource(folder, "train")
    shard.unlink()
    for check in (verify, lambda folder: ShardSource(folder, "train")):
        with pytest.raises(
            DataError, match=r"train-00001-of-00003\.tfrecord: (no such file|this shard is missing)"
        ):
            check(folder)


def test_shard_of_other_rows_than_the_manifest_says_is_found(tmp_path):
    folder = prepared(tmp_path / "set", numbered_rows(30), 10)
    manifest = Manifest.load(folder)
    record_writer.write_shard(folder / manifest.split("train").shards[1].file, numbered_rows(9))
    size = (folder / manifest.split("train").shards[1].file).stat().st_size
    manifest.split("train").shards[1].bytes = size
    manifest.save(folder)
    with pytest.raises(DataError, match=r"train-00001-of-00003.*has \(9, .* says \(10, "):
        ShardSource(folder, "train")


def test_unknown_split_is_reported(folder):
    with pytest.raises(DataError, match="there is no prepared split 'test', only train"):
        ShardSource(folder, "test")
