"""TFRecords of the original MACH code, written here by TensorFlow's own protobuf classes."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.commands.calls import call
from tests.contracts.formats import ReaderContract, concatenated
from tfxc.commands import evaluate, train
from tfxc.core.errors import DataError
from tfxc.core.storage.reading import read_json
from tfxc.data.reading.formats import detect_format, open_reader

EXAMPLES = [
    ([3, 0], {4: 0.25, 0: 1.0}),
    ([], {1: -2.5}),
    ([2], {}),
    *[([n % 4], {n % 5: 1.0, 6: 0.5}) for n in range(7)],
]


def write_records(path, examples):
    """As ``tf.train.Example`` writes them; an empty list is a feature without values."""

    def serialised(labels, features):
        fields = {
            "labels": tf.train.Feature(int64_list=tf.train.Int64List(value=labels)),
            "label_vals": tf.train.Feature(
                float_list=tf.train.FloatList(value=[1.0] * len(labels))
            ),
            "input_idxs": tf.train.Feature(int64_list=tf.train.Int64List(value=[*features])),
            "input_vals": tf.train.Feature(float_list=tf.train.FloatList(value=features.values())),
        }
        return tf.train.Example(features=tf.train.Features(feature=fields)).SerializeToString()

    with tf.io.TFRecordWriter(str(path)) as writer:
        for labels, features in examples:
            writer.write(serialised(labels, dict(features)))
    return path


class TestMACHRecords(ReaderContract):
    format = "mach_records"
    label_type = int

    def write_sample(self, folder):
        return write_records(folder / "sample_train.tfrecords", EXAMPLES)

    def write_compressed(self, folder):
        return ()

    def test_examples(self, tmp_path):
        path = self.write_sample(tmp_path)
        assert detect_format(path) == "mach_records"
        reader = open_reader(path)
        assert (reader.num_examples, reader.num_features, reader.num_labels) == (10, 7, None)
        chunk = concatenated(reader.chunks(3))
        expected = np.zeros((10, 7), np.float32)
        for row, (_, features) in enumerate(EXAMPLES):
            expected[row, [*features]] = [*features.values()]
        np.testing.assert_array_equal(chunk.features.toarray(), expected)
        assert chunk.features.has_sorted_indices
        assert chunk.labels == [labels for labels, _ in EXAMPLES]
        assert open_reader(path, num_features=100).num_features == 100

    @pytest.mark.parametrize(
        ("example", "message"),
        [
            (
                ([1], [(2, 1.0), (0, np.nan)]),
                r"example 11: the value nan of feature 0 is not finite",
            ),
            (([-1], []), "ids"),
            (([1], [(9, 1.0)]), "9"),
        ],
    )
    def test_bad_examples(self, tmp_path, example, message):
        path = write_records(tmp_path / "bad.tfrecords", [*EXAMPLES, example])
        with pytest.raises(DataError, match=message) as caught:
            concatenated(open_reader(path, num_features=7).chunks())
        assert str(caught.value).startswith(f"{path}: ") and "shard" not in str(caught.value)

    def test_a_feature_twice(self, tmp_path):
        twice = tf.train.Feature(int64_list=tf.train.Int64List(value=[5, 2, 5]))
        path = self.write_sample(tmp_path)
        (record,) = tf.data.TFRecordDataset(str(path)).take(1)
        example = tf.train.Example.FromString(record.numpy())
        example.features.feature["input_idxs"].CopyFrom(twice)
        example.features.feature["input_vals"].float_list.value.append(3)
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(example.SerializeToString())
        message = "example 1: feature 5 is given twice"
        with pytest.raises(DataError, match=message):
            concatenated(open_reader(path).chunks())

    @pytest.mark.parametrize("cut", [3, 17])
    def test_truncated(self, tmp_path, cut):
        path = self.write_sample(tmp_path)
        path.write_bytes(path.read_bytes()[:-cut])
        with pytest.raises(DataError, match=r"the file is truncated.*copy it again"):
            concatenated(open_reader(path, num_features=7).chunks())


def vw_lines(count, num_labels, seed):
    """Lines of one label from 1, which feature ``label`` and the one behind it show."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        label = int(random.integers(num_labels))
        noise = random.choice(np.arange(num_labels + 1, num_labels + 20), 3, replace=False)
        features = " ".join(f"{n}:{random.random():.3f}" for n in sorted(noise))
        yield f"{label + 1} |f {label}:1 {label + 1} {features}\n"


@pytest.mark.parametrize(
    ("name", "num_labels", "published", "repetitions"),
    [
        ("odp", 40, 25, 3),
        pytest.param("odp", 40, 25, 25, marks=pytest.mark.slow),
        pytest.param("imagenet22k", 600, 20, 20, marks=pytest.mark.slow),
    ],
)
def test_published_configs_train_on_files_of_that_form(
    tmp_path, capsys, name, num_labels, published, repetitions
):
    path = f"configs/mach_{name}.json"
    assert read_json(path)["head"]["num_repetitions"] == published
    for split, count in (("train", 12 * num_labels), ("test", 3 * num_labels)):
        (tmp_path / f"{split}.vw").write_text("".join(vw_lines(count, num_labels, len(split))))
    changes = {
        "data.train": str(tmp_path / "train.vw"),
        "data.test": str(tmp_path / "test.vw"),
        "data.reader_options.num_features": num_labels + 20,
        "run": str(tmp_path / "run"),
        "recipe.together": True,
        "head.num_repetitions": repetitions,
        "training.epochs": 6,
        "training.batch_size": 64,
        "training.optimizer.learning_rate": 0.1,
    }
    options = [part for key, v in changes.items() for part in ("--set", f"{key}={json.dumps(v)}")]
    prepared = ("--prepared", tmp_path / "prepared")
    outcome = call(capsys, train, "--config", path, *prepared, *options)
    assert outcome.code == 0, outcome.err
    outcome = call(capsys, evaluate, "--run", tmp_path / "run", *prepared)
    assert outcome.code == 0, outcome.err
    found = read_json(tmp_path / "run/evaluation-test.json")["metrics"]
    assert found["P@1"] > (0.9 if repetitions > 3 else 0.8) and found["accuracy"] == pytest.approx(
        found["P@1"]
    )
