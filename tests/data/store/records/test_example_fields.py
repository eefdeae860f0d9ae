"""Fields of records against TensorFlow's own parser."""

import numpy as np
import pytest
import tensorflow as tf

from tfxc.core.errors import DataError
from tfxc.data.reading.parsing.example_fields import read_fields

TYPES = {"ids": "int64", "weights": "float32", "files": "string"}
LARGEST = [1, 127, 128, 300, 2**21, 2**31, 2**62]


def example(fields):
    """``tf.train.Example`` as protobuf writes it."""
    message = tf.train.Example()
    for name, values in fields.items():
        feature = message.features.feature[name]
        if name == "files":
            feature.bytes_list.value.extend(values)
        elif name == "weights":
            feature.float_list.value.extend(values)
        else:
            feature.int64_list.value.extend(values)
    return message.SerializeToString()


def random_records(seed):
    """Records of which some lack a field, have an empty one, or fields that nobody asks for."""
    rng = np.random.default_rng(seed)
    records = []
    for number in range(40):
        fields = {
            "ids": rng.integers(-3, LARGEST[number % len(LARGEST)], rng.integers(5)).tolist(),
            "weights": rng.normal(size=rng.integers(200)).astype(np.float32).tolist(),
            "files": [rng.bytes(rng.integers(300)) for _ in range(rng.integers(3))],
            "others": [number] * 9,
        }
        for name in rng.permutation(list(fields))[: number % 5]:
            del fields[name]
        records.append(example(fields))
    return records


@pytest.mark.parametrize("seed", range(5))
def test_fields_are_what_tensorflow_reads(seed):
    records = random_records(seed)
    assert min(map(len, records)) == 0, "one has nothing at all"
    wanted = {
        name: tf.io.RaggedFeature(tf.as_dtype(dtype), row_splits_dtype=tf.int64)
        for name, dtype in TYPES.items()
    }
    for name, expected in tf.io.parse_example(records, wanted).items():
        field = read_fields(records, TYPES)[name]
        np.testing.assert_array_equal(field.values, expected.flat_values.numpy())
        np.testing.assert_array_equal(field.counts, expected.row_lengths().numpy())
        assert field.values.dtype == expected.flat_values.numpy().dtype


def test_of_two_fields_of_a_name_the_last_counts():
    twice = example({"ids": [1, 2]})[2:] + example({"ids": [3]})[2:]
    twice = b"\x0a" + bytes([len(twice)]) + twice
    assert tf.train.Example.FromString(twice).features.feature["ids"].int64_list.value == [3]
    assert read_fields([twice], TYPES)["ids"].values.tolist() == [3]


def test_nothing_is_read_of_no_record():
    field = read_fields([], TYPES)["ids"]
    assert field.values.size == field.counts.size == 0


@pytest.mark.parametrize("seed", range(3))
def test_what_is_cut_or_changed_is_refused_or_read_within_its_bounds(seed):
    """Whatever stands in a record, nothing but ``DataError`` is raised."""
    rng = np.random.default_rng(seed)
    refused = 0
    for record in filter(None, random_records(seed)):
        for _ in range(20):
            changed = bytearray(record[: rng.integers(len(record) + 1)])
            for _ in range(min(2, len(changed))):
                changed[rng.integers(len(changed))] = rng.integers(256)
            try:
                fields = read_fields([record, bytes(changed), record], TYPES)
            except DataError:
                refused += 1
                continue
            whole = read_fields([record], TYPES)
            for name, field in fields.items():
                first = int(field.counts[0])
                np.testing.assert_array_equal(field.values[:first], whole[name].values)
                assert len(field.values) == field.counts.sum()
    assert refused > 100


def test_an_integer_that_does_not_end():
    record = example({"ids": [2**62]})
    with pytest.raises(DataError, match=r"not a tf\.train\.Example"):
        read_fields([record[:-1] + b"\xff"], TYPES)
