"""Feature sets as the data of a config."""

import numpy as np
import pytest

from tests.data.store.feature_sets.examples import vectors, write_set
from tfxc.core.config import DataSettings
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage import checksums
from tfxc.core.storage.ownership import MARKER
from tfxc.data.sources.feature_sets import FeatureSource
from tfxc.data.sources.shards import open_source, verify
from tfxc.data.store.manifest import Manifest
from tfxc.data.store.preparation import ensure_prepared, prepare


def settings_of(folder, **changes):
    if not (folder / "train").exists():
        write_set(folder / "train")
        write_set(folder / "dev", vectors(9))
    paths = {split: str(folder / split) for split in ("train", "dev")}
    return DataSettings(name="set", **{**paths, **changes})


@pytest.mark.parametrize("reader", [None, "feature_set"])
def test_nothing_is_converted(tmp_path, reader):
    folder = ensure_prepared(settings_of(tmp_path, reader=reader), tmp_path / "prepared")
    assert sorted(path.name for path in folder.iterdir()) == [
        MARKER, "checksums.json",
        "label_counts.npy", "labels.txt", "manifest.json", "unseen_labels.txt",
    ]  # fmt: skip
    manifest = Manifest.load(folder)
    assert manifest.dimensions == {
        "num_features": 5, "num_labels": 7, "feature_kind": "dense", "image_shape": None,
        "num_examples": 43, "text_features": None, "vocabulary_size": None,
    }  # fmt: skip
    assert np.load(folder / "label_counts.npy").sum() == 43
    assert (folder / "labels.txt").read_text().split() == list("0123456")
    source = open_source(folder, "dev")
    assert isinstance(source, FeatureSource) and source.num_examples == 9
    np.testing.assert_array_equal(next(source.sequential(9))["features"], vectors(9))
    with pytest.raises(DataError, match="there is no prepared split 'test'"):
        open_source(folder, "test")


def test_names(tmp_path):
    names = {"label_names": ["käse", *"bcdefg"]}
    write_set(tmp_path / "train", **names)
    write_set(tmp_path / "dev", vectors(9), **names)
    folder = ensure_prepared(settings_of(tmp_path), tmp_path / "prepared")
    assert (folder / "labels.txt").read_text().split() == names["label_names"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("text_features", {"name": "tfidf"}),
        ("normalise", "l2"),
        ("images", {"height": 8, "width": 8}),
        ("reader_options", {"a": 1}),
        ("min_label_count", 2),
        ("layout", "examples"),
        ("label_names", "names.txt"),
    ],
)
def test_settings_without_effect_are_refused(tmp_path, key, value):
    with pytest.raises(ConfigError, match=rf"data\.{key}: {key} does not apply to feature sets"):
        prepare(settings_of(tmp_path, **{key: value}), tmp_path / "prepared")
    assert not (tmp_path / "prepared").exists()


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (vectors(9, 4), {}, r"data\.dev .*num_features is 4, but 5 in"),
        (vectors(9), {"num_labels": 9}, "num_labels is 9, but 7 in the training split"),
        (
            vectors(9),
            {"label_names": list("abcdefg")},
            "the label_names are not those of the training split",
        ),
    ],
)
def test_splits_that_do_not_fit_together(tmp_path, features, options, message):
    write_set(tmp_path / "train")
    write_set(tmp_path / "dev", features, **options)
    with pytest.raises(DataError, match=message):
        prepare(settings_of(tmp_path), tmp_path / "prepared")


def test_what_is_no_feature_set(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.npz").touch()
    for name, state in (("empty", "empty"), ("file.npz", "a file")):
        for split in ("train", "dev"):
            changes = {split: str(tmp_path / name), "reader": "feature_set"}
            with pytest.raises(
                DataError, match=f"{name}: this is not a feature set, .*: it is {state}"
            ):
                prepare(settings_of(tmp_path, **changes), tmp_path / "prepared")


def test_a_set_that_was_replaced(tmp_path):
    folder = ensure_prepared(settings_of(tmp_path), tmp_path / "prepared")
    for path in (tmp_path / "dev").iterdir():
        path.unlink()
    write_set(tmp_path / "dev", vectors(9), settings={"encoder_sha256": "another"})
    with pytest.raises(DataError, match=r"replaced by another one\. Delete .*prepared"):
        open_source(folder, "dev")


def test_verify_reads_every_value(tmp_path, monkeypatch):
    folder = ensure_prepared(settings_of(tmp_path), tmp_path / "prepared")
    assert verify(folder).layout == "feature_set"
    stored = np.load(tmp_path / "dev" / "features.npy", mmap_mode="r+")
    stored[8, 4] += 1
    stored.flush()
    monkeypatch.setattr(checksums, "_HASHED_BYTES", 0)  # as for a set that is too large
    assert open_source(folder, "dev").num_examples == 9
    with pytest.raises(DataError, match=r"dev/features\.npy: changed or damaged: its SHA-256"):
        verify(folder)
