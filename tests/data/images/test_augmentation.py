"""Augmentation against NumPy and SciPy, and as a function of (seed, step, row)."""

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from tests.data.images.examples import crops, png, smooth_images
from tfxc.core.errors import ConfigError
from tfxc.core.settings import Method
from tfxc.data.images.augmentation import Affine, RandomResizedCrop, build_augmentation
from tfxc.data.images.decoding import decode_files

EVERYTHING = [
    {"name": "random_crop", "padding": 2},
    {"name": "horizontal_flip"},
    {"name": "random_resized_crop", "scale": [0.5, 1]},
    {"name": "affine", "rotation": 20, "scale": [0.8, 1.2], "shear": 10, "translate": 0.1},
    {"name": "color_jitter", "brightness": 0.3, "contrast": 0.3, "saturation": 0.3},
]


def augment(images, methods, step=0, first_row=0, seed=0):
    """NumPy images changed by config sections, in the graph."""
    augmentation = build_augmentation(
        [Method(**section) for section in methods], seed, images.shape[1:]
    )
    function = tf.function(
        lambda images, step, row: augmentation(images, step, row), autograph=False
    )
    return function(images, tf.constant(step, tf.int64), tf.constant(first_row, tf.int64)).numpy()


@pytest.mark.parametrize("fill", [0, 200])
def test_random_crop_is_a_part_of_the_bordered_image(fill):
    images = np.random.default_rng(0).integers(0, 256, (300, 6, 7, 3), np.uint8)
    found = augment(images, [{"name": "random_crop", "padding": 2, "fill": fill}])
    assert found.dtype == np.uint8
    places = set()
    for image, part in zip(images, found, strict=True):
        bordered = np.pad(image, [[2, 2], [2, 2], [0, 0]], constant_values=fill)
        places |= {p for p, crop in crops(bordered, 6, 7).items() if (crop == part).all()}
    assert places == {(top, left) for top in range(5) for left in range(5)}


def test_flip_mirrors_about_half():
    images = np.random.default_rng(0).integers(0, 256, (400, 3, 5, 1), np.uint8)
    found = augment(images, [{"name": "horizontal_flip"}])
    flipped = (found == images[:, :, ::-1]).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(found[~flipped], images[~flipped])
    assert 150 < flipped.sum() < 250
    for probability, step in ((0.0, 1), (1.0, -1)):
        always = augment(images, [{"name": "horizontal_flip", "probability": probability}])
        np.testing.assert_array_equal(always, images[:, :, ::step])


@pytest.mark.parametrize(
    ("rotation", "scale", "shear", "translate", "fill"),
    [(30, 1, 0, 0, 0), (0, 1.3, 0, 0, 50), (0, 1, 20, 0, 255), (-75, 0.7, -15, 0.2, 9)],
)
def test_affine_is_what_scipy_does(rotation, scale, shear, translate, fill):
    images = smooth_images(2, 11, 14)
    turn, slant = np.deg2rad(rotation), np.tan(np.deg2rad(shear))
    forward = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    forward = (forward @ [[1, slant], [0, 1]])[::-1, ::-1]  # to (y, x)
    inverse, middle = np.linalg.inv(forward), np.array([5.0, 6.5])
    offset = middle - inverse @ (middle + translate * np.array([11, 14]))
    expected = [
        [
            scipy.ndimage.affine_transform(
                image[..., channel].astype(float), inverse, offset, order=1,
                mode="grid-constant", cval=fill,
            )
            for channel in range(3)
        ]
        for image in images
    ]  # fmt: skip
    values = {"rotation": rotation, "scale": scale, "shear": shear, "translate": translate}
    section = {name: [value, value] for name, value in values.items()}
    found = augment(images, [{"name": "affine", "fill": fill, **section}])
    np.testing.assert_allclose(found, np.transpose(expected, [0, 2, 3, 1]), atol=0.05)


def test_positive_rotation_is_clockwise():
    (image,) = smooth_images(1, 9, 9, 1)
    found = augment(image[None], [{"name": "affine", "rotation": [90, 90]}])[0]
    np.testing.assert_allclose(found, np.rot90(image, -1), atol=0.05)


def test_affine_draws_each_image_and_the_whole_range():
    images = np.repeat(smooth_images(1, 8, 8, 1), 64, axis=0)
    found = augment(images, [{"name": "affine", "translate": 0.25}])
    assert len(np.unique(found.reshape(64, -1), axis=0)) == 64
    assert Affine(rotation=10, translate=0.1).rotation == (-10.0, 10.0)


def test_resized_crop_covers_whole_pixels():
    images = smooth_images(40, 8, 8, 1)
    section = {"name": "random_resized_crop", "scale": [0.25, 0.25], "ratio": [1, 1]}
    found = augment(images, [section])
    centres = (np.arange(8) + 0.5) / 2 - 0.5
    places = set()
    for image, part in zip(images, found, strict=True):
        for top in range(5):
            for left in range(5):
                points = np.meshgrid(centres + top, centres + left, indexing="ij")
                expected = scipy.ndimage.map_coordinates(
                    image[..., 0].astype(float), points, order=1, mode="nearest"
                )
                if np.abs(expected - part[..., 0]).max() < 0.05:
                    places.add((top, left))
    assert len(places) > 12 and {0, 4} <= {top for top, _ in places} | {x for _, x in places}


def test_windows_of_resized_crops():
    crop = RandomResizedCrop(scale=(0.2, 0.6), ratio=(0.5, 2.0))
    uniform = np.random.default_rng(0).random((500, 22), np.float32)
    top, left, height, width = crop._windows(tf.constant(uniform), [60, 90]).numpy().T
    assert (top >= 0).all() and (top + height <= 60).all()
    assert (left >= 0).all() and (left + width <= 90).all()
    share, ratio = height * width / 5400, width / height
    assert 0.18 < share.min() < 0.23 and 0.57 < share.max() < 0.62
    assert 0.45 < ratio.min() < 0.6 and 1.8 < ratio.max() < 2.1
    # Nothing fits into a strip: its largest central square.
    narrow = RandomResizedCrop(scale=(0.9, 1.0), ratio=(1.0, 1.0))
    assert narrow._windows(tf.constant(uniform[:1]), [4, 400]).numpy().tolist() == [[0, 198, 4, 4]]


def test_resized_crops_from_files():
    images = smooth_images(24, 16, 16)
    section = {"name": "random_resized_crop", "scale": [0.25, 0.25], "ratio": [1, 1]}
    augmentation = build_augmentation([Method(**section)], 0, (8, 8, 3))
    files = tf.constant([png(image) for image in images])
    for image, part in zip(images, augmentation(files, 0, 0).numpy(), strict=True):
        assert any((crop == part).all() for crop in crops(image, 8, 8).values())
    jpegs = [tf.io.encode_jpeg(image).numpy() for image in images]
    pngs = [png(image) for image in decode_files(jpegs, (16, 16, 3))]
    parts = [augmentation(tf.constant(files), 0, 0).numpy() for files in (jpegs, pngs)]
    assert np.abs(np.subtract(*parts, dtype=int)).mean() < 1  # the same windows, but for colours


def test_color_jitter_is_brightness_contrast_saturation():
    images = smooth_images(3, 5, 6)
    section = {"brightness": [1.5, 1.5], "contrast": [0.5, 0.5], "saturation": [2, 2]}
    found = augment(images, [{"name": "color_jitter", **section}])
    weights = np.array([0.299, 0.587, 0.114])
    expected = np.minimum(images * 1.5, 255)
    mean = (expected @ weights).mean(axis=(1, 2))[:, None, None, None]
    expected = np.clip(mean + 0.5 * (expected - mean), 0, 255)
    luma = (expected @ weights)[..., None]
    expected = np.clip(luma + 2 * (expected - luma), 0, 255)
    np.testing.assert_allclose(found, expected, atol=0.01)
    grey = smooth_images(3, 5, 6, 1)
    brighter = augment(grey, [{"name": "color_jitter", "contrast": [1, 1], "brightness": [2, 2]}])
    np.testing.assert_allclose(brighter, np.minimum(grey * 2.0, 255), atol=1e-3)


def test_what_happens_is_a_function_of_seed_step_and_row():
    images = smooth_images(12, 10, 10)
    methods = [Method(**section) for section in EVERYTHING]
    signature = [tf.TensorSpec([None, 10, 10, 3], tf.uint8)] + [tf.TensorSpec([], tf.int64)] * 2
    same, other = (
        tf.function(
            build_augmentation(methods, seed, (10, 10, 3)),
            input_signature=signature,
            autograph=False,
        )
        for seed in (0, 1)
    )
    whole = same(images, 7, 0).numpy()
    assert whole.shape == images.shape and whole.min() >= 0 and whole.max() <= 255
    parts = [same(images[i : i + 3], 7, i).numpy() for i in (0, 3, 6, 9)]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-3)
    for changed in (same(images, 8, 0), same(images, 7, 1), other(images, 7, 0)):
        assert np.abs(changed - whole).mean() > 5


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"name": "horizontal_flop"},
            r"augmentation\.1: unknown augmentation .*mean 'horizontal_flip'",
        ),
        ({"name": "affine", "rotations": 3}, r"\.1\.rotations: .*did you mean 'rotation'"),
        (
            {"name": "affine", "scale": [0, 1]},
            r"\.1\.scale: must be a list, each item a positive number, not \[0, 1\]",
        ),
        (
            {"name": "affine", "shear": 90},
            r"shear: must be .* at least 0 and below 90 or .* not 90",
        ),
        (
            {"name": "affine", "shear": [0, 90]},
            r"shear: .* above -90 and below 90, not \[0, 90\]",
        ),
        ({"name": "affine", "rotation": [3, 1]}, r"rotation: must be a range .*not \[3, 1\]"),
        ({"name": "affine", "rotation": "x"}, r"rotation: must be a number .* not 'x'"),
        ({"name": "affine", "rotation": float("inf")}, r"rotation: must be a number .* not inf"),
        ({"name": "affine", "scale": [1, 2, 3]}, r"scale: must be a range .* not \[1, 2, 3\]"),
        ({"name": "affine", "shear": [None, 1]}, r"shear: must be a number .* not \[None, 1\]"),
        ({"name": "color_jitter", "contrast": "x"}, r"contrast: must be a number .* not 'x'"),
        ({"name": "color_jitter", "contrast": [float("nan"), 1]}, r"contrast: .* not \[nan, 1\]"),
        ({"name": "horizontal_flip", "probability": "x"}, "probability: must be a number .* 'x'"),
        ({"name": "random_crop", "padding": 1.5}, "padding: must be an integer of at least 0"),
        ({"name": "random_crop", "fill": 300}, "fill: must be a number from 0 to 255, not 300"),
        (
            {"name": "horizontal_flip", "probability": 2},
            "probability: must be a number from 0 to 1",
        ),
        (
            {"name": "random_resized_crop", "scale": [0.5, 2]},
            r"scale: .* and at most 1, not",
        ),
        ({"name": "color_jitter", "contrast": 2}, "contrast: must be a number from 0 to 1 or"),
        ({"name": "color_jitter", "saturation": 0.5}, r"\.1\.saturation: the images are grey"),
    ],
)
def test_mistakes_are_named(section, message):
    methods = [Method(name="random_crop"), Method(**section)]
    with pytest.raises(ConfigError, match=message):
        build_augmentation(methods, 0, (8, 8, 1))


def test_only_images_are_augmented():
    assert build_augmentation([], 0, None) is None
    with pytest.raises(ConfigError, match=r"training\.augmentation: there are no images"):
        build_augmentation([Method(name="horizontal_flip")], 0, None)
