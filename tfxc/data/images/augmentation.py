"""Random changes of training images: the methods of ``training.augmentation``, and their use.

Every method works on a whole batch inside the graph of the input pipeline. It is called with
images (batch, height, width, channels) of values from 0 to 255 and a function ``draw(columns)``
that returns float32 (batch, columns) from [0, 1).

What happens to an image is a function of (seed, step, row of the global batch) alone, see
``tfxc.ops.randomness``: resumed runs, replicas and micro-batches draw the same.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tensorflow as tf
from annotated_types import Ge, Gt, Le, Lt

from tfxc.core.declared import (
    Natural,
    NotNegative,
    Positive,
    Share,
    ShareAboveZero,
    checked,
    from_section,
)
from tfxc.core.errors import ConfigError, nearest
from tfxc.data.images.decoding import ACCURATE, decode, decode_batch, resized, with_channels
from tfxc.ops.randomness import random_bits, step_scope

if TYPE_CHECKING:
    from tfxc.core.settings import Method


_WHERE = "training.augmentation"
_TRIES = 10
# Share of red, green and blue in the brightness of a colour (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)

#: Value of one of the colours of a pixel.
Colour = Annotated[float, Ge(0), Le(255)]
#: Degrees by which vertical lines are slanted.
Slant = Annotated[float, Gt(-90), Lt(90)]
#: Draws float32 (batch, columns) from [0, 1).
Draw = Callable[[int], tf.Tensor]


class RandomCrop:
    """Cuts an image of the old size out of one with a border.

    Args:
        padding: width of the border in pixels.
        fill: value of the border.
    """

    @checked
    def __init__(self, padding: Natural = 4, fill: Colour = 0) -> None:
        self.padding = padding
        self.fill = fill

    def __call__(self, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        _, height, width, _ = images.shape
        offsets = tf.cast(draw(2) * (2 * self.padding + 1), tf.int32)
        border = [[0, 0], [self.padding] * 2, [self.padding] * 2, [0, 0]]
        padded = tf.pad(images, border, constant_values=tf.cast(self.fill, images.dtype))
        padded = tf.gather(padded, offsets[:, :1] + tf.range(height), axis=1, batch_dims=1)
        return tf.gather(padded, offsets[:, 1:] + tf.range(width), axis=2, batch_dims=1)


class HorizontalFlip:
    """Mirrors an image left to right.

    Args:
        probability: of doing so.
    """

    @checked
    def __init__(self, probability: Share = 0.5) -> None:
        self.probability = probability

    def __call__(self, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        flipped = tf.cast(draw(1)[:, 0] < self.probability, tf.int32)
        # Three times as fast as tf.where: whole images are copied instead of values compared.
        count = tf.shape(images)[0]
        both = tf.concat([images, tf.reverse(images, [2])], axis=0)
        return tf.gather(both, tf.range(count) + count * flipped)


class RandomResizedCrop:
    """Cuts a part of random size and aspect ratio out and scales it to the image's size.

    As the first method for images stored encoded, it cuts from the file in its full size. Of ten
    draws the first that fits into the image counts, else the largest central part of a ratio
    within the range (Szegedy et al., 2015, "Going Deeper with Convolutions", section 6).

    Args:
        scale: range of the part's share of the image's area.
        ratio: range of the part's width over its height.
    """

    @checked
    def __init__(
        self,
        scale: Sequence[ShareAboveZero] = (0.08, 1.0),
        ratio: Sequence[Positive] = (3 / 4, 4 / 3),
    ) -> None:
        self.scale = _range("scale", scale)
        self.ratio = _range("ratio", ratio)

    def __call__(self, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        _, height, width, _ = images.shape
        windows = self._windows(draw(2 * _TRIES + 2), [height, width])
        top, left, rows, columns = tf.unstack(tf.cast(windows, tf.float32), axis=1)
        down = rows / height
        right = columns / width
        zeros = tf.zeros_like(rows)
        # Whole pixels are covered: their centres lie half a pixel inside.
        return _resample(
            images,
            [right, zeros, left + right / 2 - 0.5, zeros, down, top + down / 2 - 0.5],
            fill_mode="NEAREST",
        )

    def from_files(self, files: tf.Tensor, draw: Draw, shape: tuple[int, ...]) -> tf.Tensor:
        """Returns the same, straight from encoded files; uint8 (batch, *shape)."""

        def decoded(pair: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            file, uniform = pair

            def part_of_jpeg() -> tf.Tensor:
                # Only the part is decoded in full.
                window = self._windows(uniform[None], tf.io.extract_jpeg_shape(file)[:2])[0]
                return tf.io.decode_and_crop_jpeg(file, window, dct_method=ACCURATE)

            def part_of_any() -> tf.Tensor:
                image = decode(file)
                window = self._windows(uniform[None], tf.shape(image)[:2])[0]
                return tf.slice(image, [window[0], window[1], 0], [window[2], window[3], -1])

            part = tf.cond(tf.io.is_jpeg(file), part_of_jpeg, part_of_any)
            return with_channels(resized(part, shape[:2]), shape[2])

        pairs = (files, draw(2 * _TRIES + 2))
        return tf.map_fn(decoded, pairs, fn_output_signature=tf.TensorSpec(shape, tf.uint8))

    def _windows(self, uniform: tf.Tensor, size: Sequence[int] | tf.Tensor) -> tf.Tensor:
        """Tops, lefts, heights and widths int32 (batch, 4) inside images of one size."""
        height, width = tf.unstack(tf.cast(size, tf.float32))
        area = _spread(uniform[:, :_TRIES], self.scale) * height * width
        logs = _spread(uniform[:, _TRIES:-2], [math.log(limit) for limit in self.ratio])
        ratio = tf.exp(logs)
        sides = tf.round(tf.stack([tf.sqrt(area / ratio), tf.sqrt(area * ratio)], axis=2))
        fits = tf.reduce_all((sides >= 1) & (sides <= [height, width]), axis=2)
        first = tf.argmax(tf.cast(fits, tf.int32), axis=1)
        tallest = tf.minimum(height, width / self.ratio[0])
        widest = tf.minimum(width, height * self.ratio[1])
        central = tf.round(tf.stack([tallest, widest]))
        some = tf.reduce_any(fits, axis=1)[:, None]
        sides = tf.where(some, tf.gather(sides, first, axis=1, batch_dims=1), central[None])
        free = tf.stack([height, width])[None] - sides
        corner = tf.where(some, tf.floor(uniform[:, -2:] * (free + 1)), tf.floor(free / 2))
        return tf.cast(tf.concat([corner, sides], axis=1), tf.int32)


class Affine:
    """Shears an image about its centre, then turns, scales and shifts it.

    A range may be given as one number d for (-d, d). Pixels are interpolated linearly.

    Args:
        rotation: range of the angle in degrees; positive turns clockwise.
        scale: range of the factor.
        shear: range of the angle in degrees by which vertical lines are slanted.
        translate: range of the shift, as a share of width and height, drawn for each.
        fill: value of what comes into view from outside.
    """

    @checked
    def __init__(
        self,
        rotation: NotNegative | Sequence[float] = 0.0,
        scale: Sequence[Positive] = (1.0, 1.0),
        shear: Annotated[float, Ge(0), Lt(90)] | Sequence[Slant] = 0.0,
        translate: NotNegative | Sequence[float] = 0.0,
        fill: Colour = 0.0,
    ) -> None:
        self.rotation = _range("rotation", rotation, centre=0)
        self.scale = _range("scale", scale)
        self.shear = _range("shear", shear, centre=0)
        self.translate = _range("translate", translate, centre=0)
        self.fill = fill

    def __call__(self, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        _, height, width, _ = images.shape
        uniform = draw(5)
        angle = _spread(uniform[:, 0], self.rotation) * (math.pi / 180)
        slant = tf.tan(_spread(uniform[:, 1], self.shear) * (math.pi / 180))
        scale = _spread(uniform[:, 2], self.scale)
        right = _spread(uniform[:, 3], self.translate) * width
        down = _spread(uniform[:, 4], self.translate) * height
        sine = tf.sin(angle) / scale
        cosine = tf.cos(angle) / scale
        # Each pixel of the result asks where it came from: the inverse of scale·turn·shear.
        matrix = [cosine + slant * sine, sine - slant * cosine, -sine, cosine]
        middle_x = (width - 1) / 2
        middle_y = (height - 1) / 2
        from_x = middle_x - matrix[0] * (middle_x + right) - matrix[1] * (middle_y + down)
        from_y = middle_y - matrix[2] * (middle_x + right) - matrix[3] * (middle_y + down)
        return _resample(images, [*matrix[:2], from_x, *matrix[2:], from_y], fill=self.fill)


class ColorJitter:
    """Changes brightness, then contrast, then saturation by random factors.

    Args:
        brightness, contrast, saturation: a share d for factors from 1 - d to 1 + d, or a range of
            factors. Brightness scales the values, contrast their distance from the image's mean
            brightness, saturation that from the pixel's brightness.
    """

    @checked
    def __init__(
        self,
        brightness: Share | Sequence[NotNegative] = 0.0,
        contrast: Share | Sequence[NotNegative] = 0.0,
        saturation: Share | Sequence[NotNegative] = 0.0,
    ) -> None:
        self.factors = {
            "brightness": _range("brightness", brightness, centre=1),
            "contrast": _range("contrast", contrast, centre=1),
            "saturation": _range("saturation", saturation, centre=1),
        }

    def __call__(self, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        shape = tf.shape(images)
        uniform = draw(3)
        # Flat rows: broadcasting over four axes takes several times as long.
        flat = tf.reshape(tf.cast(images, tf.float32), [shape[0], -1])
        for number, (name, limits) in enumerate(self.factors.items()):
            if limits != (1.0, 1.0):
                factor = _spread(uniform[:, number : number + 1], limits)
                middle = self._middle(name, flat, images.shape[-1])
                flat = tf.clip_by_value(middle + factor * (flat - middle), 0, 255)
        return tf.reshape(flat, shape)

    def _middle(self, name: str, flat: tf.Tensor, channels: int) -> tf.Tensor | float:
        """Returns what a factor leaves as it is: (batch, 1 or values of an image), or nothing."""
        if name == "brightness":
            return 0.0
        luma = flat
        if channels == 3:
            luma = tf.matmul(tf.reshape(flat, [-1, 3]), tf.constant(_LUMA)[:, None])
            luma = tf.reshape(luma, [tf.shape(flat)[0], -1])
        if name == "contrast":
            return tf.reduce_mean(luma, axis=1, keepdims=True)
        return tf.repeat(luma, channels, axis=1)


METHODS = {
    "random_crop": RandomCrop,
    "horizontal_flip": HorizontalFlip,
    "random_resized_crop": RandomResizedCrop,
    "affine": Affine,
    "color_jitter": ColorJitter,
}


def _resample(
    images: tf.Tensor, inverse: Sequence[tf.Tensor], fill_mode: str = "CONSTANT", fill: float = 0
) -> tf.Tensor:
    """Returns float32 images whose pixel (x, y) is taken, by linear interpolation, from
    ``inverse``'s.

    Args:
        inverse: six (batch,) tensors a, b, c, d, e, f: from (a·x + b·y + c, d·x + e·y + f).
    """
    zeros = tf.zeros_like(inverse[0])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=tf.stack([*inverse, zeros, zeros], axis=1),
        output_shape=images.shape[1:3],
        fill_value=float(fill),
        interpolation="BILINEAR",
        fill_mode=fill_mode,
    )


def _spread(uniform: tf.Tensor, limits: Sequence[float]) -> tf.Tensor:
    return limits[0] + uniform * (limits[1] - limits[0])


def _range(
    name: str, value: float | Sequence[float], centre: float | None = None
) -> tuple[float, float]:
    """Returns (low, high); one number d is (centre - d, centre + d)."""
    limits = np.asarray(value, np.float64).ravel().tolist()
    if centre is not None and np.ndim(value) == 0:
        return centre - limits[0], centre + limits[0]
    if len(limits) != 2 or limits[0] > limits[1]:
        raise ConfigError(
            f"must be a range [low, high], not {value!r}",
            where=name,
            fix="give two numbers, the lower first",
        )
    return limits[0], limits[1]


class Augmentation:
    """Decodes the images of a batch where necessary, and changes them at random.

    Args:
        transforms: the changes in their order.
        seed: of all draws.
        shape: (height, width, channels) of the images.
    """

    def __init__(self, transforms: Sequence[Any], seed: int, shape: Sequence[int]) -> None:
        self.transforms = transforms
        self.shape = tuple(shape)
        self._seeds = [(seed << 16) + 0x5EED00 + number for number in range(len(transforms))]

    def __call__(self, images: tf.Tensor, step: Any, first_row: Any) -> tf.Tensor:
        """Returns the images of the rows ``first_row`` … of a step's global batch.

        Args:
            images: uint8 (batch, height, width, channels), or string (batch,) of encoded files.
            step, first_row: integer scalars.

        Returns:
            uint8 or float32 (batch, height, width, channels) with values from 0 to 255.
        """
        cut_from_files = self.transforms and isinstance(self.transforms[0], RandomResizedCrop)
        if images.dtype == tf.string and not cut_from_files:
            images = decode_batch(images, self.shape)
        with step_scope(step, first_row):
            for transform, seed in zip(self.transforms, self._seeds, strict=True):
                draw = functools.partial(_uniform, tf.shape(images)[0], seed)
                if images.dtype == tf.string:
                    images = transform.from_files(images, draw, self.shape)
                else:
                    images = transform(images, draw)
        return images


def build_augmentation(
    methods: "Sequence[Method]", seed: int, image_shape: tuple[int, ...] | None
) -> "Augmentation | None":
    """Returns the augmentation of a config.

    Args:
        methods: list of ``tfxc.core.settings.Method``, ``training.augmentation``.
        seed: of all draws.
        image_shape: (height, width, channels), or None if the data holds no images.

    Returns:
        ``Augmentation``, or None if the data holds no images.

    Raises:
        ConfigError: an unknown method or argument, an impossible value, or no images.
    """
    transforms = check_augmentation(methods)
    if image_shape is None:
        if transforms:
            raise ConfigError("there are no images to change", where=_WHERE, fix="remove it")
        return None
    for number, transform in enumerate(transforms):
        jitters = isinstance(transform, ColorJitter)
        if jitters and image_shape[2] == 1 and transform.factors["saturation"] != (1.0, 1.0):
            raise ConfigError(
                "the images are grey, so there is no saturation to change",
                where=f"{_WHERE}.{number}.saturation",
                fix="remove it",
            )
    return Augmentation(transforms, seed, image_shape)


def check_augmentation(methods: "Sequence[Method]") -> list[Any]:
    """Makes the transforms of ``training.augmentation``; raises as ``build_augmentation``."""
    transforms = []
    for number, method in enumerate(methods):
        section = method.section()
        name = section.pop("name")
        where = f"{_WHERE}.{number}"
        if name not in METHODS:
            raise ConfigError(
                f"unknown augmentation {name!r}{nearest(name, METHODS)}",
                where=where,
                fix=f"choose one of: {', '.join(METHODS)}",
            )
        transforms.append(from_section(METHODS[name], section, where))
    return transforms


def _uniform(rows: tf.Tensor, seed: int, columns: int) -> tf.Tensor:
    """Returns float32 (rows, columns) from [0, 1)."""
    bits = random_bits(tf.range(rows)[:, None], tf.range(columns)[None, :], seed)
    return tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.float32) / 2**24
