"""Feature sets cut into splits and taken over from arrays."""

import numpy as np
import pytest

from tests.data.store.feature_sets.examples import files, vectors, write_set
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.reading.parsing.feature_set import FeatureSet
from tfxc.data.store.feature_sets.split import import_arrays, split_features


class TestSplit:
    def rows_of(self, folder):
        return {path.name: FeatureSet(path).features[:, 0].astype(int) for path in folder.iterdir()}

    def test_every_row_once_with_its_label(self, tmp_path):
        features = FeatureSet(write_set(tmp_path / "set", label_names=list("abcdefg")))
        assert split_features(features, tmp_path / "out", 0.25, 5) == {
            "train": 27, "val": 11, "test": 5,
        }  # fmt: skip
        rows = self.rows_of(tmp_path / "out")
        assert sorted(np.concatenate(list(rows.values())).tolist()) == list(range(43))
        for name, found in rows.items():
            split = FeatureSet(tmp_path / "out" / name)
            assert (np.diff(found) > 0).all() and split.label_names == list("abcdefg")
            np.testing.assert_array_equal(split.labels, found % 7)
            np.testing.assert_array_equal(split.features, vectors(43)[found])
        split_features(features, tmp_path / "same", 11, 5)
        split_features(features, tmp_path / "other", 11, 5, seed=1)
        same, other = self.rows_of(tmp_path / "same"), self.rows_of(tmp_path / "other")
        assert same["test"].tolist() == rows["test"].tolist() != other["test"].tolist()

    def test_stopped_and_resumed(self, tmp_path, monkeypatch):
        features = FeatureSet(write_set(tmp_path / "set", dtype="float16"))
        monkeypatch.setattr(FeatureSet, "block_rows", 4)
        split_features(features, tmp_path / "whole", 11, 0)
        read, starts, last = FeatureSet.read, [], [20]

        def counted(features, start, out):
            if start in last:
                raise KeyboardInterrupt
            starts.append(start)
            read(features, start, out)

        monkeypatch.setattr(FeatureSet, "read", counted)
        with pytest.raises(KeyboardInterrupt):
            split_features(features, tmp_path / "out", 11, 0)
        last.clear()
        split_features(features, tmp_path / "out", 11, 0)
        assert starts == list(range(0, 43, 4)), "each block is read once"
        for name in ("train", "val"):
            assert files(tmp_path / "out" / name) == files(tmp_path / "whole" / name)
        assert not (tmp_path / "out" / "test").exists()

    @pytest.mark.parametrize(
        ("val", "test", "message"),
        [
            (40, 3, "40 rows for val and 3 for test leave none of 43"),
            (0.001, 1, "val: a share of 0.001 is less than 1 of 43 rows"),
            (-1, 1, "val: -1 is neither a number of rows nor"),
            (1, 2.5, "test: 2.5 is neither a number of rows nor"),
        ],
    )
    def test_refused(self, tmp_path, val, test, message):
        features = FeatureSet(write_set(tmp_path / "set"))
        with pytest.raises(ConfigError, match=message):
            split_features(features, tmp_path / "out", val, test)


class TestImport:
    @pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
    def test_arrays(self, tmp_path, kind):
        labels = np.arange(43) % 7
        assert import_arrays(vectors(43).astype(kind), labels, tmp_path / "set") == 43
        found = FeatureSet(tmp_path / "set")
        assert found.dtype == (kind if kind == np.float16 else np.float32) and found.num_labels == 7
        np.testing.assert_array_equal(found.features, vectors(43).astype(found.dtype))

    @pytest.mark.parametrize(
        ("features", "labels", "options", "message"),
        [
            (vectors(4), [0, 1, 2], {}, "labels: there are 3 labels for 4 features"),
            (vectors(2), [0.0, 1.0], {}, r"labels: they are float64 \(2,\), not integers"),
            (vectors(4), [0, 1, -2, 3], {}, "labels: row 2 .* has label -2, .* from 0 to 3"),
            (vectors(4), [0, 1, 2, 3], {"num_labels": 3}, "row 3 .* has label 3"),
            (vectors(4)[0], [0], {}, r"they are float32 \(5,\)"),
            (np.zeros((4, 5), int), [0, 1, 2, 3], {}, "they are int64"),
            (np.full((4, 5), np.nan), [0, 1, 2, 3], {}, "row 0 .* is NaN or infinite"),
        ],
    )
    def test_refused(self, tmp_path, features, labels, options, message):
        with pytest.raises(DataError, match=message):
            import_arrays(features, np.array(labels), tmp_path / "set", **options)
