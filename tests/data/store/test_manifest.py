"""The manifest's round trip, its errors, and the fingerprint of the settings."""

import json

import pydantic
import pytest

from tests.data.prepared import numbered_rows, prepared
from tfxc.core.config import DataSettings
from tfxc.core.errors import DataError
from tfxc.data.examples.kinds import DENSE, SPARSE
from tfxc.data.sources.shards import ShardSource
from tfxc.data.store.manifest import Manifest, ShardInfo, fingerprint, prepared_folder


@pytest.fixture
def folder(tmp_path):
    return prepared(tmp_path / "set", numbered_rows(25), 10)


def test_save_and_load(folder):
    manifest = Manifest.load(folder)
    train = manifest.split("train")
    assert (train.examples, train.min_labels, train.max_labels, train.without_labels) == (
        25, 0, 2, 9,
    )  # fmt: skip
    assert train.mean_labels == pytest.approx(24 / 25)
    assert [shard.examples for shard in train.shards] == [10, 10, 5]
    assert train.nonzeros == sum(shard.nonzeros for shard in train.shards) == 36
    manifest.save(folder)
    assert Manifest.load(folder) == manifest


def test_memory_estimate_is_what_the_rows_take(folder):
    source = ShardSource(folder, "train")
    estimate = sum(shard.memory_bytes(SPARSE) for shard in source.manifest.split("train").shards)
    rows = next(source._in_order())
    assert rows.nbytes - 16 == estimate  # the two leading zeros of the row bounds
    dense = ShardInfo(file="", examples=3, nonzeros=12, labels=2, bytes=0, sha256="")
    assert dense.memory_bytes(DENSE) == 3 * 8 + 12 * 4 + 2 * 4


def test_not_a_prepared_folder(tmp_path):
    with pytest.raises(DataError, match=r"no such folder\. Run prepare first"):
        Manifest.load(tmp_path / "absent")
    with pytest.raises(DataError, match=r"no manifest\.json. Run prepare first"):
        Manifest.load(tmp_path)


def test_other_version_and_damage(folder):
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "format_version": 99, "unknown": 1}))
    with pytest.raises(
        DataError, match=r"prepared in format 99, but .* format 2. Run prepare again"
    ):
        Manifest.load(folder)
    for text in ('{"format_version": 2', "[]", json.dumps({**values, "layout": "rows"})):
        path.write_text(text)
        with pytest.raises(DataError, match=r"manifest\.json: .*(damaged|in format None)"):
            Manifest.load(folder)


SETTINGS = DataSettings(name="toy", train="train.txt", text_features={"name": "tfidf", "min_df": 2})


def test_fingerprint_follows_what_changes_the_records():
    base = fingerprint(SETTINGS)
    assert len(base) == 8 and int(base, 16) >= 0
    same = SETTINGS.model_copy(update={"name": "other", "where": "from somewhere"})
    assert fingerprint(same) == base
    changes = [
        {"train": "other.txt"}, {"dev": "dev.txt"}, {"seed": 1}, {"layout": "examples"},
        {"shard_examples": 10}, {"min_label_count": 2}, {"label_names": "names.txt"},
        {"reader": "jsonl"}, {"reader_options": {"text_field": "t"}},
        {"split_options": {"train": {"split": "trn"}}}, {"normalise": "l2"},
        {"text_features": {"name": "tfidf", "min_df": 3}},
    ]  # fmt: skip
    prints = {fingerprint(SETTINGS.model_copy(update=change)) for change in changes}
    assert len(prints | {base}) == len(changes) + 1


def test_prepared_folder_is_name_and_fingerprint(tmp_path):
    assert prepared_folder(SETTINGS, tmp_path) == tmp_path / f"toy-{fingerprint(SETTINGS)}"


@pytest.mark.parametrize(
    "change",
    [
        {"trian": "x"}, {"name": "a/b"}, {"name": ""}, {"layout": "rows"}, {"shard_examples": 0},
        {"split_options": {"tst": {}}}, {"normalise": "l2"}, {"seed": -1},
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(change):
    values = {"name": "toy", "train": "train.txt", "text_features": {"name": "tfidf"}}
    with pytest.raises(pydantic.ValidationError, match=next(iter(change))):
        DataSettings(**{**values, **change})
