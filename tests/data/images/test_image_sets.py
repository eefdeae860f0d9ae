"""Images through records, sources and batches; whole sets prepared from files."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.data.images.examples import png, smooth_images
from tests.data.rows import read_shard, rows_of_images
from tests.data.sources.examples import files_of
from tfxc.core.config import DataSettings
from tfxc.core.errors import DataError
from tfxc.core.settings import Method
from tfxc.data.examples.kinds import ENCODED, IMAGE
from tfxc.data.examples.rows import Rows
from tfxc.data.images.augmentation import build_augmentation
from tfxc.data.images.decoding import decode_files, fit_arrays
from tfxc.data.sources.dataset import Share, training_dataset
from tfxc.data.sources.shards import ArraySource, ShardSource
from tfxc.data.store import preparation
from tfxc.data.store.manifest import Manifest
from tfxc.data.store.preparation import prepare
from tfxc.data.store.records import record_writer

KIND_OF = {"pixels": IMAGE, "encoded": ENCODED}
STORES = list(KIND_OF)
# That all methods go by seed, step and row: test_augmentation.py.
METHODS = [Method(name="random_crop", padding=2), Method(name="horizontal_flip")]


def image_rows(store, count=37):
    """Rows of 6 x 5 images, image r with the labels r mod 3 … r mod 3 + r mod 2."""
    images = smooth_images(count, 6, 5)
    labels = [list(range(row % 3, row % 3 + row % 2 + 1)) for row in range(count)]
    return rows_of_images(images if store == "pixels" else list(map(png, images)), labels)


def source_of(store):
    return ArraySource(image_rows(store), image_shape=(6, 5, 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Class folders cat/, dog/ and owl/ of 30 smooth PNG files; three of another size."""
    root = tmp_path_factory.mktemp("images")
    images = [*smooth_images(27, 8, 8), *smooth_images(3, 11, 9)]
    for number, image in enumerate(images):
        place = root / ("cat", "dog", "owl")[number % 3]
        place.mkdir(exist_ok=True)
        (place / f"{number:02}.png").write_bytes(png(image))
    return root


def settings_of(folder, **images):
    images = {"height": 8, "width": 8, **images}
    return DataSettings(name="animals", train=str(folder), test=str(folder), images=images)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("layout", record_writer.LAYOUTS)
@pytest.mark.parametrize("count", [0, 1, 300])
def test_records_of_images_come_back(tmp_path, store, layout, count):
    rows = image_rows(store, 300).slice(0, count)
    record_writer.write_shard(tmp_path / "shard", rows, layout)
    found = read_shard(tmp_path / "shard", layout, KIND_OF[store], 90, (6, 5, 3))
    assert found.kind is KIND_OF[store] and found.num_features == 90
    for name in ("label_indptr", "label_ids", *rows.arrays):
        np.testing.assert_array_equal(getattr(found, name), getattr(rows, name))


def test_what_a_record_of_images_holds(tmp_path):
    for store in STORES:
        rows = image_rows(store, 3)
        record_writer.write_shard(tmp_path / store, rows)
        (record,) = tf.data.TFRecordDataset(str(tmp_path / store)).as_numpy_iterator()
        features = tf.train.Example.FromString(record).features.feature
        assert list(features["label_counts"].int64_list.value) == [1, 2, 1]
        if store == "pixels":
            assert list(features["image/raw"].bytes_list.value) == [rows.images.tobytes()]
        else:
            files = rows.batch()["features"].tolist()
            assert list(features["image/encoded"].bytes_list.value) == files


def test_large_images_make_records_of_few(tmp_path, monkeypatch):
    monkeypatch.setattr(record_writer, "_RECORD_BYTES", 1000)
    record_writer.write_shard(tmp_path / "shard", image_rows("pixels"))
    sizes = [len(r) for r in tf.data.TFRecordDataset(str(tmp_path / "shard")).as_numpy_iterator()]
    assert len(sizes) == 4 and max(sizes) < 1300


def test_damaged_records_of_images_are_refused(tmp_path):
    record_writer.write_shard(tmp_path / "shard", image_rows("pixels"))
    for store, shape in (("encoded", (6, 5, 3)), ("pixels", (6, 4, 3))):
        with pytest.raises(DataError, match=r"shard: .*(expected|damaged)"):
            read_shard(tmp_path / "shard", "blocks", KIND_OF[store], 90, shape)


def test_rows_of_files_select_and_join():
    rows, files = image_rows("encoded"), image_rows("encoded").batch()["features"]
    order = [5, 0, 36, 5]
    assert rows.select(order).batch()["features"].tolist() == [files[i] for i in order]
    joined = Rows.concatenate([rows.slice(0, 4), rows.slice(4, 4), rows.slice(4, 37)])
    assert joined.batch()["features"].tolist() == files.tolist()
    assert joined.nbytes == rows.nbytes


# Files are decoded before anything is augmented.
@pytest.mark.parametrize(
    ("methods", "store"),
    [
        pytest.param([], "pixels", id="plain-pixels"),
        pytest.param([], "encoded", id="plain-encoded"),
        pytest.param(METHODS, "encoded", id="augmented-encoded"),
        pytest.param(METHODS, "pixels", id="augmented-pixels", marks=pytest.mark.slow),
    ],
)
class TestBatches:
    def batches(self, store, methods, **arguments):
        source = source_of(store)
        augmentation = build_augmentation(methods, 4, source.image_shape) if methods else None
        arguments = {"batch_size": 12, "seed": 4, "num_steps": 4, **arguments}
        data = training_dataset(source, augmentation=augmentation, **arguments)
        assert data.element_spec["features"].shape[1:] == (6, 5, 3)
        return [tf.nest.map_structure(np.array, batch) for batch in data.as_numpy_iterator()]

    def test_images_belong_to_their_index(self, store, methods):
        images = smooth_images(37, 6, 5)
        for step, batch in enumerate(self.batches(store, methods)):
            expected = images[batch["example_index"]]
            if methods:
                augmentation = build_augmentation(methods, 4, (6, 5, 3))
                expected = augmentation(tf.constant(expected), step, 0).numpy()
            np.testing.assert_allclose(batch["features"], expected, atol=1e-3)

    def test_parts_of_micro_batches_join_to_the_batch(self, store, methods):
        whole = self.batches(store, methods)
        parts = [self.batches(store, methods, micro_batches=2, share=Share(3, first, here))
                 for first, here in ((0, 1), (1, 2))]  # fmt: skip
        for step in range(4):
            found = [
                part
                for micro in range(2)
                for part in (
                    parts[0][step * 2 + micro],
                    *parts[1][step * 4 + 2 * micro : step * 4 + 2 * micro + 2],
                )
            ]
            joined = np.concatenate([part["features"] for part in found])
            np.testing.assert_allclose(joined, whole[step]["features"], atol=1e-3)

    def test_a_resumed_run_sees_the_same(self, store, methods):
        whole = self.batches(store, methods, num_steps=9)
        rest = self.batches(store, methods, start_step=6, num_steps=3)
        for one, other in zip(whole[6:], rest, strict=True):
            np.testing.assert_array_equal(one["features"], other["features"])


@pytest.mark.parametrize("store", STORES)
def test_evaluation_sees_decoded_images_in_order(store):
    batches = list(source_of(store).sequential(10))
    found = np.concatenate([batch["features"] for batch in batches])
    np.testing.assert_array_equal(found, smooth_images(37, 6, 5))
    assert found.dtype == np.uint8 and len(batches[-1]["labels"]) == 7


def test_both_stores_prepare_to_the_same_images(folder, tmp_path):
    found = {}
    for store in STORES:
        manifest = prepare(settings_of(folder, store=store), tmp_path / store)
        assert manifest.feature_kind == "image" and manifest.image_shape == (8, 8, 3)
        assert manifest.image_store == store and manifest.num_features == 192
        test = ShardSource(tmp_path / store, "test")
        (batch,) = test.sequential(100)
        found[store] = batch["features"]
        assert batch["labels"][:, 0].tolist() == [0] * 10 + [1] * 10 + [2] * 10
    np.testing.assert_array_equal(*found.values())
    files = sorted(folder.rglob("*.png"))
    expected = decode_files([file.read_bytes() for file in files], (8, 8, 3))
    np.testing.assert_array_equal(found["pixels"], expected)
    last = fit_arrays(smooth_images(3, 11, 9), (8, 8, 3))  # the last of each class
    np.testing.assert_array_equal(found["pixels"][[9, 19, 29]], last)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("layout", record_writer.LAYOUTS)
def test_preparing_is_repeatable_and_windows_hold_every_image(
    folder, tmp_path, monkeypatch, store, layout
):
    settings = settings_of(folder, store=store).model_copy(
        update={"layout": layout, "shard_examples": 7}
    )
    monkeypatch.setattr(preparation, "CHUNK_IMAGES", 4)
    for name in ("one", "two"):
        prepare(settings, tmp_path / name)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    (whole,) = ShardSource(tmp_path / "one", "train").sequential(100)
    source = ShardSource(tmp_path / "one", "train", memory_bytes=1)
    assert not source.in_memory
    batches = list(training_dataset(source, batch_size=10, seed=1, num_steps=3))
    indices = np.concatenate([batch["example_index"] for batch in batches])
    assert sorted(indices) == list(range(30))
    for batch in batches:
        np.testing.assert_array_equal(batch["features"], whole["features"][batch["example_index"]])


def test_memory_of_images_is_counted(folder, tmp_path):
    for store in STORES:
        prepare(settings_of(folder, store=store), tmp_path / store)
        shards = Manifest.load(tmp_path / store).split("train").shards
        estimate = sum(shard.memory_bytes(ENCODED) for shard in shards)
        (batch,) = ShardSource(tmp_path / store, "train")._in_order()
        assert batch.nbytes - 16 <= estimate < 1.3 * batch.nbytes + 500


def test_shards_of_large_images_hold_few(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "IMAGE_SHARD_BYTES", 8 * (192 + 16))
    manifest = prepare(settings_of(folder), tmp_path / "set")
    assert [shard.examples for shard in manifest.split("test").shards] == [8, 8, 8, 6]


def test_damaged_files_are_left_out_everywhere(folder, tmp_path, capsys):
    for file in sorted(folder.rglob("*.png")):
        copy = tmp_path / "set" / file.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes()[: -1 if copy.stem in ("00", "04") else None])
    for name in ("cat/00.png", "dog/04.png"):
        (tmp_path / "set" / name).write_bytes(b"\xff\xd8\xff cut")
    message = r"set: 2 of the images cannot be decoded.*: cat/00\.png, dog/04\.png"
    with pytest.raises(DataError, match=message):
        prepare(settings_of(tmp_path / "set"), tmp_path / "none")
    assert not (tmp_path / "none").exists()
    manifest = prepare(settings_of(tmp_path / "set", max_corrupt=4), tmp_path / "some")
    assert "4 images that cannot be decoded are left out: cat/00.png" in capsys.readouterr().err
    assert [split.corrupt_images for split in manifest.splits.values()] == [2, 2]
    assert [split.examples for split in manifest.splits.values()] == [28, 28]
    assert np.load(tmp_path / "some" / "label_counts.npy").tolist() == [9, 9, 10]
    (batch,) = ShardSource(tmp_path / "some", "test").sequential(100)
    kept = sorted(set(folder.rglob("*.png")) - {folder / "cat/00.png", folder / "dog/04.png"})
    expected = decode_files([file.read_bytes() for file in kept], (8, 8, 3))
    np.testing.assert_array_equal(batch["features"], expected)


def test_sets_of_arrays_need_no_settings(tmp_path):
    images = smooth_images(20, 5, 4, 1)
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(20) % 4)
    settings = DataSettings(name="arrays", train=str(tmp_path / "set.npz"))
    manifest = prepare(settings, tmp_path / "prepared")
    assert manifest.image_shape == (5, 4, 1) and manifest.num_labels == 4
    (batch,) = ShardSource(tmp_path / "prepared", "train").sequential(20)
    order = [int(np.flatnonzero((images == image).all(axis=(1, 2, 3)))[0])
             for image in batch["features"]]  # fmt: skip
    assert sorted(order) == list(range(20))
    assert batch["labels"][:, 0].tolist() == [row % 4 for row in order]


def test_kinds_that_do_not_fit_are_reported(folder, tmp_path):
    texts = tmp_path / "texts.jsonl"
    texts.write_text(json.dumps({"text": "x", "labels": ["y"]}) + "\n")
    settings = DataSettings(name="x", train=str(texts), images={})
    with pytest.raises(DataError, match=r"have no images, but texts\. Remove data\.images"):
        prepare(settings, tmp_path / "prepared")
    settings = DataSettings(name="x", train=str(folder), text_features={"name": "tfidf"})
    with pytest.raises(DataError, match=r"have no texts, but images\. Remove text_features"):
        prepare(settings, tmp_path / "prepared")
    settings = DataSettings(name="x", train=str(folder), normalise="l2")
    with pytest.raises(DataError, match=r"have no features, but images.*no data\.normalise"):
        prepare(settings, tmp_path / "prepared")
