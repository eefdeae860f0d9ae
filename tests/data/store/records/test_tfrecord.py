"""Records in both layouts against TensorFlow's own protobuf classes; damaged shards."""

import functools

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from tests.data.rows import read_shard
from tfxc.core.errors import DataError
from tfxc.data.examples.kinds import DENSE
from tfxc.data.examples.rows import Rows
from tfxc.data.store.records import record_writer
from tfxc.data.store.records.record_writer import encode_example

LAYOUTS = record_writer.LAYOUTS


@functools.cache
def sparse_rows(count=600, num_features=70_000, seed=0):
    """Random rows, every seventh without features and every fifth without labels."""
    rng = np.random.default_rng(seed)
    matrix = scipy.sparse.random(
        count, num_features, density=12 / num_features, format="lil", rng=rng, dtype=np.float32
    )
    matrix[::7] = 0
    labels = [
        sorted(rng.choice(3000, 0 if row % 5 == 0 else rng.integers(1, 6), replace=False).tolist())
        for row in range(count)
    ]
    return Rows.from_csr(matrix.tocsr(), labels)


def assert_equal(found, expected):
    for name in ("label_indptr", "label_ids", "indptr", "indices", "values", "matrix"):
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None) == (other is None), name
        if one is not None:
            assert one.dtype == other.dtype, name
            np.testing.assert_array_equal(one, other, err_msg=name)
    assert found.num_features == expected.num_features


def parsed(record):
    features = tf.train.Example.FromString(record).features.feature
    return {
        name: list(feature.int64_list.value) or list(feature.float_list.value)
        for name, feature in features.items()
    }


@pytest.mark.parametrize("largest", [0, 1, 127, 128, 16383, 16384, 2**31 - 1, 2**31, 2**40])
def test_encoded_integers_are_what_protobuf_reads(largest):
    rng = np.random.default_rng(largest)
    array = np.append(rng.integers(0, largest, 50, endpoint=True), [0, largest])
    assert parsed(encode_example({"numbers": array}))["numbers"] == array.tolist()


def test_encoded_bytes_equal_those_of_protobuf():
    arrays = {
        "b": np.array([0.5, -2.0], np.float32),
        "a": np.array([3, 300]),
        "c": np.zeros(0, int),
    }
    example = tf.train.Example()
    example.features.feature["a"].int64_list.value.extend([3, 300])
    example.features.feature["b"].float_list.value.extend([0.5, -2.0])
    example.features.feature["c"].int64_list.SetInParent()
    assert (
        tf.train.Example.FromString(encode_example(arrays)).features.feature["b"]
        == (example.features.feature["b"])
    )
    assert parsed(encode_example(arrays)) == parsed(example.SerializeToString())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 600])
def test_round_trip(tmp_path, layout, count):
    rows = sparse_rows(600).slice(0, count)
    record_writer.write_shard(tmp_path / "shard", rows, layout)
    found = read_shard(tmp_path / "shard", layout, num_features=70_000)
    assert_equal(found, rows)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dense_round_trip(tmp_path, layout):
    matrix = np.random.default_rng(0).normal(size=(300, 7)).astype(np.float32)
    rows = Rows.from_dense(matrix, [[row] if row % 3 else [] for row in range(300)])
    record_writer.write_shard(tmp_path / "shard", rows, layout)
    assert_equal(read_shard(tmp_path / "shard", layout, DENSE, 7), rows)


def test_two_layouts_give_equal_rows(tmp_path):
    rows = sparse_rows()
    for layout in LAYOUTS:
        record_writer.write_shard(tmp_path / layout, rows, layout)
    found = [read_shard(tmp_path / layout, layout) for layout in LAYOUTS]
    assert_equal(found[0], found[1])
    assert found[0].num_features == rows.indices.max() + 1


def test_records_of_the_original_code_read_unchanged(tmp_path):
    """Written by TensorFlow's own classes alone, one example per record."""
    examples = [([4, 9], [1, 5, 7], [0.5, 1.5, 2.5]), ([], [2], [1.0]), ([3], [], [])]
    with tf.io.TFRecordWriter(str(tmp_path / "mach.tfrecords")) as writer:
        for labels, ids, values in examples:
            feature = {
                "labels": tf.train.Feature(int64_list=tf.train.Int64List(value=labels)),
                "label_vals": tf.train.Feature(
                    float_list=tf.train.FloatList(value=[1.0] * len(labels))
                ),
                "input_idxs": tf.train.Feature(int64_list=tf.train.Int64List(value=ids)),
                "input_vals": tf.train.Feature(float_list=tf.train.FloatList(value=values)),
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())
    rows = read_shard(tmp_path / "mach.tfrecords", "examples", num_features=10)
    expected = scipy.sparse.csr_matrix(
        (np.float32([0.5, 1.5, 2.5, 1.0]), [1, 5, 7, 2], [0, 3, 4, 4]), (3, 10)
    )
    assert_equal(rows, Rows.from_csr(expected, [[4, 9], [], [3]]))


def test_examples_layout_has_the_original_names_and_nothing_else(tmp_path):
    rows = sparse_rows(5)
    record_writer.write_shard(tmp_path / "shard", rows, "examples")
    found = [parsed(record.numpy()) for record in tf.data.TFRecordDataset(str(tmp_path / "shard"))]
    assert len(found) == 5
    for number, example in enumerate(found):
        part = rows.slice(number, number + 1)
        assert example == {
            "labels": part.label_ids.tolist(),
            "label_vals": [1.0] * len(part.label_ids),
            "input_idxs": part.indices.tolist(),
            "input_vals": part.values.tolist(),
        }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_rows_give_the_same_bytes(tmp_path, layout):
    for name in ("one", "two"):
        record_writer.write_shard(tmp_path / name, sparse_rows(), layout)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("left", [5, 11, 13, 1000, -1])
def test_truncated_shard_is_named(tmp_path, layout, left):
    path = tmp_path / "train-00000-of-00001.tfrecord"
    record_writer.write_shard(path, sparse_rows(), layout)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(DataError, match=r"train-00000-of-00001\.tfrecord: .*Run prepare again"):
        read_shard(path, layout)


def test_flipped_byte_is_found(tmp_path):
    path = tmp_path / "shard"
    record_writer.write_shard(path, sparse_rows(), "blocks")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="truncated or damaged"):
        read_shard(path, "blocks")


def test_wrong_layout_missing_shard_and_impossible_ids_are_reported(tmp_path):
    rows, path = sparse_rows(), tmp_path / "shard"
    record_writer.write_shard(path, rows, "examples")
    with pytest.raises(DataError, match="the layout is another one"):
        read_shard(path, "blocks")
    with pytest.raises(DataError, match="feature ids go from 0 to 99, but here"):
        read_shard(path, "examples", num_features=100)
    with pytest.raises(DataError, match="does not hold dense vectors of 3 values"):
        read_shard(path, "examples", DENSE, 3)
    with pytest.raises(DataError, match=r"absent: this shard is missing"):
        read_shard(tmp_path / "absent", "blocks")


@pytest.mark.skipif(not tf.io.gfile.exists("/dev/full"), reason="needs the device /dev/full")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_full_disk_is_an_os_error(layout):
    with pytest.raises(OSError, match="No space left"):
        record_writer.write_shard("/dev/full", sparse_rows(), layout)


def test_shard_name():
    assert record_writer.shard_name("train", 0, 4) == "train-00000-of-00004.tfrecord"
