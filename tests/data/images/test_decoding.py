"""Decoding and resizing against Pillow; images of chunks to arrays of one shape."""

import hashlib
import io
import itertools
import json

import numpy as np
import pytest

from tests.data.images.examples import file_of, png, smooth_images
from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.settings import DataSettings, ImageSettings
from tfxc.data.examples.chunk import Chunk
from tfxc.data.images.decoding import decode_files, decode_good, fit_arrays, own_shape
from tfxc.data.store.image_conversion import ImageConverter
from tfxc.data.store.manifest import fingerprint


def converted(images, names=None, **settings):
    """The converter and what it makes of one chunk."""
    chunk = Chunk([[0]] * len(images), images=images, names=names)
    converter = ImageConverter(ImageSettings(**settings))
    converter.count(chunk)
    return converter, converter.convert(chunk, "set", 0)


@pytest.mark.parametrize("size", [(24, 36), (50, 17), (9, 40), (16, 16), (8, 12), (5, 5)])
@pytest.mark.parametrize("target", [(16, 16), (12, 20)])
def test_covering_and_cutting_as_pillow_does(size, target):
    image_module = pytest.importorskip("PIL.Image")
    (image,) = smooth_images(1, *size)
    scale = max(target[0] / size[0], target[1] / size[1])
    height, width = (max(t, round(s * scale)) for s, t in zip(size, target, strict=True))
    whole = np.asarray(
        image_module.fromarray(image).resize((width, height), image_module.Resampling.BILINEAR)
    )
    top, left = (height - target[0]) // 2, (width - target[1]) // 2
    expected = whole[top : top + target[0], left : left + target[1]]
    found = fit_arrays(image[None], (*target, 3))[0]
    assert found.shape == (*target, 3) and found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 1
    if size == target:
        np.testing.assert_array_equal(found, image)


KINDS = [
    ("JPEG", None), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", None), ("PNG", "L"), ("PNG", "LA"),
    ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "1"), ("BMP", None), ("BMP", "L"), ("GIF", None),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_every_kind_of_file_as_rgb_and_grey(kind, mode):
    image_module = pytest.importorskip("PIL.Image")
    (image,) = smooth_images(1, 20, 14)
    file = file_of(image, kind, mode)
    picture = image_module.open(io.BytesIO(file))
    assert own_shape(file) == (20, 14, 1 if mode in ("L", "LA", "1") else 3)
    for channels, name in ((3, "RGB"), (1, "L")):
        # Pillow blends nothing either: it drops the alpha channel.
        expected = np.asarray(picture.convert(name)).reshape(20, 14, channels)
        found = decode_files([file], (20, 14, channels))[0]
        assert np.abs(found.astype(int) - expected).mean() < 2.5, (channels, name)


@pytest.mark.parametrize("mode", [None, "L"])
def test_jpegs_have_the_pixels_of_pillow(mode):
    """And of OpenCV, whose decoder the scripts of face recognition use."""
    image_module = pytest.importorskip("PIL.Image")
    (image,) = smooth_images(1, 45, 31)
    noise = np.random.default_rng(0).integers(0, 40, image.shape, np.uint8)
    file = file_of(image // 2 + noise, "JPEG", mode)
    expected = np.asarray(image_module.open(io.BytesIO(file))).reshape(45, 31, -1)
    found = decode_files([file], expected.shape)[0]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_damaged_files_are_found(channels):
    images = smooth_images(6, 12, 12, channels)
    files = [png(image) for image in images]
    files[1], files[4] = files[1][: len(files[1]) // 2], b"no image"
    files.append(b"")
    good, pixels, shapes = decode_good(files, (12, 12, channels))
    assert good == [0, 2, 3, 5] and shapes == [[12, 12, channels]] * 4
    np.testing.assert_array_equal(pixels, images[good])


def test_mixed_lists_keep_their_order():
    images = list(smooth_images(4, 10, 10)) + list(smooth_images(3, 14, 20, 1))
    files = [png(image) if number % 2 else image for number, image in enumerate(images)]
    _, (kept, arrays) = converted(files, height=10, width=10, channels=3)
    assert kept.tolist() == list(range(7))
    expected = [fit_arrays(image[None], (10, 10, 3))[0] for image in images]
    np.testing.assert_array_equal(arrays["images"], expected)
    np.testing.assert_array_equal(arrays["images"][:4], images[:4])


def test_pixels_of_the_right_shape_are_not_copied():
    images = smooth_images(3, 8, 8)
    converter, (kept, arrays) = converted(images)
    assert arrays["images"] is images and converter.shape == (8, 8, 3) and len(kept) == 3


def test_encoded_files_stay_as_they_are():
    files = [png(image) for image in smooth_images(3, 8, 12)]
    _, (_, arrays) = converted(files, height=4, width=4, store="encoded")
    bounds = itertools.pairwise(arrays["indptr"])
    parts = [arrays["content"][start:stop].tobytes() for start, stop in bounds]
    assert parts == files
    with pytest.raises(DataError, match=r"the images are pixels, .*\"pixels\""):
        converted(smooth_images(2, 4, 4), store="encoded")


@pytest.mark.parametrize(
    ("other", "settings", "message"),
    [
        ((8, 9, 3), {}, r"set: the width of b\.png is 9 instead of 8 as in the first image"),
        ((7, 8, 3), {}, r"height of b\.png is 7 instead of 8.*data\.images\.height and width"),
        ((8, 8, 1), {}, r"number of channels of b\.png is 1 instead of 3.*data\.images\.channels"),
        ((9, 9, 1), {"height": 4, "width": 4}, r"channels of b\.png is 1 instead of 3"),
        ((9, 8, 1), {"channels": 3}, r"height of b\.png is 9 instead of 8"),
    ],
)
@pytest.mark.parametrize("encoded", [False, True])
def test_images_that_differ_are_named(other, settings, message, encoded):
    images = [np.zeros(shape, np.uint8) for shape in ((8, 8, 3), other)]
    with pytest.raises(DataError, match=message):
        converted(list(map(png, images)) if encoded else images, ["a.png", "b.png"], **settings)


def test_an_alpha_channel_makes_no_difference():
    images = [np.zeros((8, 8, channels), np.uint8) for channels in (3, 4)]
    converter, (kept, _) = converted(list(map(png, images)))
    assert converter.shape == (8, 8, 3) and len(kept) == 2


def test_corrupt_images_are_left_out_up_to_a_limit(tmp_path, capsys):
    files = [png(image) for image in smooth_images(5, 6, 6)]
    files[0], files[3] = b"", files[3][:50]
    names = [f"n{number}.png" for number in range(5)]
    converter, (kept, arrays) = converted(files, names, max_corrupt=2)
    assert kept.tolist() == [1, 2, 4] and len(arrays["images"]) == 3
    converter.save_corrupt(tmp_path)
    assert "2 images that cannot be decoded are left out: n0.png, n3.png" in capsys.readouterr().err
    assert (tmp_path / "corrupt_images.txt").read_text() == "set: n0.png\nset: n3.png\n"
    with pytest.raises(
        DataError, match=r"set: 2 of the images cannot be decoded, at most 1 may .*: n0.png, n3.png"
    ):
        converted(files, names, max_corrupt=1)
    with pytest.raises(
        DataError, match=r"2 of the images cannot be decoded: example 1, example 4.*max_corrupt"
    ):
        converted(files)


def test_only_bad_images():
    converter = ImageConverter(ImageSettings())
    converter.count(Chunk([[0]], images=[b"x"]))
    with pytest.raises(DataError, match="1 of the images cannot be decoded"):
        converter.convert(Chunk([[0]], images=[b"x"]), "train", 0)
    converter = ImageConverter(ImageSettings(height=3, width=2, channels=1, max_corrupt=1))
    kept, arrays = converter.convert(Chunk([[0]], images=[b"x"]), "train", 0)
    assert len(kept) == 0 and arrays["images"].shape == (0, 3, 2, 1)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"images": {"height": 3}}, r"height and width go together, and width is missing"),
        (
            {"images": {"channels": 2}},
            r"config: data\.images\.channels: must be one of 1, 3, not 2",
        ),
        ({"images": {"hight": 3}}, r"unknown key 'data\.images\.hight', did you mean 'height'"),
        ({"images": {}, "normalise": "l2"}, "normalise: this key does not apply to images"),
    ],
)
def test_mistakes_in_the_settings(section, message):
    parts = {name: {"name": "x"} for name in ("encoder", "head", "objective")}
    with pytest.raises(ConfigError, match=message):
        parse_config({"run": "r", "data": {"name": "x", "train": "x", **section}, **parts})


def test_other_sets_keep_their_fingerprint():
    settings = DataSettings(name="x", train="train.txt")
    added = {"name", "where", "images", "dev_share", "num_labels", "max_line_bytes", "rehearsal"}
    added |= {
        "dev_part",
        "skip_unlabelled",
        "label_texts",
        "missing_texts",
        "self_part",
        "held_out_labels",
    }
    assert added <= set(settings.model_dump())
    values = settings.model_dump(mode="json", exclude=added)
    text = json.dumps({**values, "format_version": 2}, sort_keys=True)
    assert fingerprint(settings) == hashlib.sha256(text.encode()).hexdigest()[:8]
    with_images = settings.model_copy(update={"images": ImageSettings()})
    assert fingerprint(with_images) != fingerprint(settings)
