"""Feature sets from other data, by any encoder."""

import numpy as np
import pytest

from tests.data.store.feature_sets.examples import files, vectors
from tfxc.core.errors import ConfigError, DataError, UserError
from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.rows import Rows
from tfxc.data.reading.formats.base import Reader
from tfxc.data.reading.parsing.feature_set import FeatureSet
from tfxc.data.store.feature_sets.extraction import (
    ExtractionSettings,
    Labels,
    extract_features,
    read_labels,
)


class Given(Reader):
    """Vectors and labels as a reader."""

    def __init__(self, features, labels, names=None, num_labels=None):
        self.path, self.features, self.labels = "given", features, labels
        self.label_names, self.num_labels = names, num_labels
        self.stop_at = None

    def _read(self, size):
        for start in range(0, len(self.labels), size):
            if self.stop_at is not None and start >= self.stop_at:
                raise KeyboardInterrupt
            part = slice(start, start + size)
            yield Chunk(labels=self.labels[part], features=self.features[part])


class Squares:
    """Squares of vectors; remembers how many rows came at a time."""

    num_features = 5

    def __init__(self, settings=None):
        self.settings, self.sizes = settings or {"encoder_sha256": "a"}, []

    def rows(self, reader, size):
        for chunk in reader.chunks(size):
            yield Rows.from_dense(chunk.features, [[] for _ in chunk.labels])

    def __call__(self, rows):
        self.sizes.append(len(rows))
        return rows.matrix**2


def numbered(count=43):
    return Given(vectors(count), [[i % 7] for i in range(count)])


def extract(folder, reader=None, encoder=None, **options):
    reader = reader or numbered()
    labels = Labels(np.arange(43, dtype=np.int32) % 7, 7, None)
    settings = ExtractionSettings(batch_size=8, **options)
    return extract_features(reader, encoder or Squares(), folder, labels, settings)


def test_features_are_what_the_encoder_says(tmp_path):
    assert extract(tmp_path / "set") == 43
    found = FeatureSet(tmp_path / "set")
    np.testing.assert_array_equal(found.features, vectors(43) ** 2)
    assert found.settings["batch_size"] == 8 and found.settings["encoder_sha256"] == "a"


def test_unit_norm(tmp_path):
    reader = Given(vectors(44)[1:], [[0]] * 43)
    extract(tmp_path / "set", reader, unit_norm=True, dtype="float16")
    expected = vectors(44)[1:] ** 2
    expected = (expected / np.linalg.norm(expected, axis=1, keepdims=True)).astype(np.float16)
    np.testing.assert_array_equal(FeatureSet(tmp_path / "set").features, expected)
    reader.features[9] = 0
    with pytest.raises(DataError, match=r"the vector of row 9 .* has length 0"):
        extract(tmp_path / "zero", reader, unit_norm=True)


@pytest.mark.parametrize("stop_at", [0, 8, 16, 40])
def test_interrupted_and_resumed(tmp_path, stop_at):
    extract(tmp_path / "whole")
    reader, encoder = numbered(), Squares()
    reader.stop_at = stop_at
    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path / "set", reader, encoder)
    done = sum(encoder.sizes)
    assert extract(tmp_path / "set") == 43 - done
    assert files(tmp_path / "set") == files(tmp_path / "whole")
    again = Squares()
    assert extract(tmp_path / "set", None, again) == 0 and not again.sizes


@pytest.mark.parametrize(
    ("encoder", "options", "key"),
    [
        ({"encoder_sha256": "b"}, {}, "encoder_sha256"),
        (None, {"unit_norm": True}, "unit_norm"),
        (None, {"others": {"reader_options": {"invert": True}}}, "reader_options"),
    ],
)
def test_going_on_with_something_else_is_refused(tmp_path, encoder, options, key):
    extract(tmp_path / "set")
    with pytest.raises(UserError, match=rf"changed: .*{key}"):
        extract(tmp_path / "set", None, Squares(encoder), **options)


@pytest.mark.parametrize(("count", "found"), [(40, "40"), (50, "48 or more")])
def test_data_that_changed_while_it_was_read(tmp_path, count, found):
    with pytest.raises(DataError, match=f"there are {found} examples, but 43 labels"):
        extract(tmp_path / "set", numbered(count))


def test_a_vector_that_is_not_finite(tmp_path):
    reader = numbered()
    reader.features[20, 1] = np.inf
    with pytest.raises(DataError, match=r"row 20 .* is NaN or infinite"):
        extract(tmp_path / "set", reader)


class TestLabels:
    def read(self, labels, *arguments, **options):
        return read_labels(Given(None, labels, **options), *arguments)

    @pytest.fixture(autouse=True)
    def labels_alone(self, monkeypatch):
        monkeypatch.setattr(Given, "label_lists", lambda reader: iter([reader.labels]))

    def test_numbers_stay(self):
        found = self.read([[3], [0]])
        assert (found.ids.tolist(), found.count, found.names) == ([3, 0], 4, None)
        assert self.read([[3], [0]], num_labels=9).count == 9
        assert self.read([[3], [0]], 5, num_labels=9).count == 5

    def test_names_in_alphabetical_order_or_as_given(self):
        found = self.read([["dog"], ["cat"], ["dog"]])
        assert (found.ids.tolist(), found.count, found.names) == ([1, 0, 1], 2, ["cat", "dog"])
        names = ["dog", "eel", "cat"]
        assert self.read([["dog"], ["cat"]], None, names).ids.tolist() == [0, 2]
        assert self.read([["dog"], ["cat"]], names=names).count == 3

    @pytest.mark.parametrize(
        ("labels", "arguments", "message"),
        [
            ([], (), "there are no examples"),
            ([[1], []], (), r"example 1 \(counted from 0\) has 0 labels"),
            ([[1], [1, 2]], (), "example 1 .* has 2 labels"),
            ([["dog"], ["cow"]], (None, ["cat", "dog"]), "'cow' is not among the 2 known names"),
        ],
    )
    def test_refused(self, labels, arguments, message):
        with pytest.raises(DataError, match=message):
            self.read(labels, *arguments)

    def test_names_and_number_that_differ(self):
        with pytest.raises(ConfigError, match="is 3, but there are 2 label names"):
            self.read([["dog"]], 3, ["cat", "dog"])
