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
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfxc.core.arguments import SHARE, Integer, Number, checked, from_section
from tfxc.core.errors import ConfigError
from tfxc.core.registry import nearest
from tfxc.data.images.decoding import ACCURATE, decode, decode_batch, resized, with_channels
from tfxc.ops.randomness import random_bits, step_scope

if TYPE_CHECKING:
    from tfxc.core.settings import Method


_WHERE = "training.augmentation"
_TRIES = 10
# Share of red, green and blue in the brightness of a colour (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)

_COLOUR = Number(0, 255)


class RandomCrop:
    """Cuts an image of the old size out of one with a border.

    Args:
        padding: width of the border in pixels.
        fill: value of the border.
    """

    @checked(padding=Integer(0), fill=_COLOUR)
    def __init__(self, padding: int = 4, fill: float = 0) -> None:
        self.padding, self.fill = padding, fill

    def __call__(self, images: tf.Tensor, draw: Callable[[int], tf.Tensor]) -> tf.Tensor:
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

    @checked(probability=SHARE)
    def __init__(self, probability: float = 0.5) -> None:
        self.probability = probability

    def __call__(self, images: tf.Tensor, draw: Callable[[int], tf.Tensor]) -> tf.Tensor:
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

    def __init__(
        self, scale: Sequence[float] = (0.08, 1.0), ratio: Sequence[float] = (3 / 4, 4 / 3)
    ) -> None:
        self.scale = _range("scale", scale, above=0)
        self.ratio = _range("ratio", ratio, above=0)
        if self.scale[1] > 1:
            raise ConfigError(
                f"a range up to 1 expected, found {self.scale[1]}", where="scale", fix="lower it"
            )

    def __call__(self, images: tf.Tensor, draw: Callable[[int], tf.Tensor]) -> tf.Tensor:
        _, height, width, _ = images.shape
        windows = self._windows(draw(2 * _TRIES + 2), [height, width])
        top, left, rows, columns = tf.unstack(tf.cast(windows, tf.float32), axis=1)
        down, right, zeros = rows / height, columns / width, tf.zeros_like(rows)
        # Whole pixels are covered: their centres lie half a pixel inside.
        return _resample(
            images,
            [right, zeros, left + right / 2 - 0.5, zeros, down, top + down / 2 - 0.5],
            fill_mode="NEAREST",
        )

    def from_files(
        self, files: tf.Tensor, draw: Callable[[int], tf.Tensor], shape: tuple[int, ...]
    ) -> tf.Tensor:
        """The same, straight from encoded files; uint8 (batch, *shape)."""

        def one(pair):
            file, uniform = pair
            part = tf.cond(
                tf.io.is_jpeg(file),
                lambda: self._part_of_jpeg(file, uniform),
                lambda: self._part_of_any(file, uniform),
            )
            return with_channels(resized(part, shape[:2]), shape[2])

        pairs = (files, draw(2 * _TRIES + 2))
        return tf.map_fn(one, pairs, fn_output_signature=tf.TensorSpec(shape, tf.uint8))

    def _part_of_jpeg(self, file, uniform):
        # Only the part is decoded in full.
        window = self._windows(uniform[None], tf.io.extract_jpeg_shape(file)[:2])[0]
        return tf.io.decode_and_crop_jpeg(file, window, dct_method=ACCURATE)

    def _part_of_any(self, file, uniform):
        image = decode(file)
        window = self._windows(uniform[None], tf.shape(image)[:2])[0]
        return tf.slice(image, [window[0], window[1], 0], [window[2], window[3], -1])

    def _windows(self, uniform, size):
        """Tops, lefts, heights and widths int32 (batch, 4) inside images of one size."""
        height, width = tf.unstack(tf.cast(size, tf.float32))
        area = _spread(uniform[:, :_TRIES], self.scale) * height * width
        logs = _spread(uniform[:, _TRIES:-2], [math.log(limit) for limit in self.ratio])
        ratio = tf.exp(logs)
        sides = tf.round(tf.stack([tf.sqrt(area / ratio), tf.sqrt(area * ratio)], axis=2))
        fits = tf.reduce_all((sides >= 1) & (sides <= [height, width]), axis=2)
        first = tf.argmax(tf.cast(fits, tf.int32), axis=1)
        central = tf.round(tf.stack([
            tf.minimum(height, width / self.ratio[0]), tf.minimum(width, height * self.ratio[1])
        ]))  # fmt: skip
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

    @checked(fill=_COLOUR)
    def __init__(
        self,
        rotation: float | Sequence[float] = 0.0,
        scale: Sequence[float] = (1.0, 1.0),
        shear: float | Sequence[float] = 0.0,
        translate: float | Sequence[float] = 0.0,
        fill: float = 0.0,
    ) -> None:
        self.rotation = _range("rotation", rotation)
        self.scale = _range("scale", scale, above=0)
        self.shear = _range("shear", shear)
        self.translate = _range("translate", translate)
        self.fill = fill
        if max(map(abs, self.shear)) >= 90:
            raise ConfigError(
                f"degrees between -90 and 90 expected, found {self.shear}",
                where="shear",
                fix="lower them",
            )

    def __call__(self, images: tf.Tensor, draw: Callable[[int], tf.Tensor]) -> tf.Tensor:
        _, height, width, _ = images.shape
        uniform = draw(5)
        angle = _spread(uniform[:, 0], self.rotation) * (math.pi / 180)
        slant = tf.tan(_spread(uniform[:, 1], self.shear) * (math.pi / 180))
        scale = _spread(uniform[:, 2], self.scale)
        right = _spread(uniform[:, 3], self.translate) * width
        down = _spread(uniform[:, 4], self.translate) * height
        sine, cosine = tf.sin(angle) / scale, tf.cos(angle) / scale
        # Each pixel of the result asks where it came from: the inverse of scale·turn·shear.
        matrix = [cosine + slant * sine, sine - slant * cosine, -sine, cosine]
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
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

    def __init__(
        self,
        brightness: float | Sequence[float] = 0.0,
        contrast: float | Sequence[float] = 0.0,
        saturation: float | Sequence[float] = 0.0,
    ) -> None:
        given = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        self.factors = {name: _factors(name, value) for name, value in given.items()}

    def __call__(self, images: tf.Tensor, draw: Callable[[int], tf.Tensor]) -> tf.Tensor:
        shape, uniform = tf.shape(images), draw(3)
        # Flat rows: broadcasting over four axes takes several times as long.
        flat = tf.reshape(tf.cast(images, tf.float32), [shape[0], -1])
        for number, (name, limits) in enumerate(self.factors.items()):
            if limits != (1.0, 1.0):
                factor = _spread(uniform[:, number : number + 1], limits)
                middle = self._middle(name, flat, images.shape[-1])
                flat = tf.clip_by_value(middle + factor * (flat - middle), 0, 255)
        return tf.reshape(flat, shape)

    def _middle(self, name, flat, channels):
        """What a factor leaves as it is: (batch, 1 or values of an image), or nothing."""
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


def _resample(images, inverse, fill_mode="CONSTANT", fill=0):
    """float32 images whose pixel (x, y) is taken, by linear interpolation, from ``inverse``'s.

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


def _spread(uniform, limits):
    return limits[0] + uniform * (limits[1] - limits[0])


def _range(name, value, above=-math.inf):
    """(low, high); one number d is (-d, d)."""
    low, high = _limits(name, value, lambda number: (-number, number))
    if not above < low <= high < math.inf:
        limit = "" if above == -math.inf else f" above {above}"
        raise ConfigError(f"a range [low, high]{limit} expected, found {value}", where=name)
    return float(low), float(high)


def _factors(name, value):
    low, high = _limits(name, value, lambda number: (1 - number, 1 + number))
    if low < 0:
        raise ConfigError(f"factors of at least 0 expected, found {value}", where=name)
    return _range(name, (low, high))


def _limits(name, value, of_number):
    """Both ends of a range, which one number may stand for."""
    if isinstance(value, int | float):
        return of_number(value)
    pair = isinstance(value, list | tuple) and len(value) == 2
    if not pair or not all(isinstance(end, int | float) for end in value):
        raise ConfigError(f"a number or a range [low, high] expected, found {value!r}", where=name)
    return value


class Augmentation:
    """Decodes the images of a batch where necessary, and changes them at random.

    Args:
        transforms: the changes in their order.
        seed: of all draws.
        shape: (height, width, channels) of the images.
    """

    def __init__(self, transforms: Sequence[Any], seed: int, shape: Sequence[int]) -> None:
        self.transforms, self.shape = transforms, tuple(shape)
        self._seeds = [(seed << 16) + 0x5EED00 + number for number in range(len(transforms))]

    def __call__(self, images: tf.Tensor, step: Any, first_row: Any) -> tf.Tensor:
        """Images of the rows ``first_row`` … of a step's global batch.

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
    """The augmentation of a config.

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
            raise ConfigError(
                "images expected, found other features", where=_WHERE, fix="remove it"
            )
        return None
    for number, transform in enumerate(transforms):
        jitters = isinstance(transform, ColorJitter)
        if jitters and image_shape[2] == 1 and transform.factors["saturation"] != (1.0, 1.0):
            raise ConfigError(
                "colour images expected, found grey ones",
                where=f"{_WHERE}.{number}.saturation",
                fix="remove it",
            )
    return Augmentation(transforms, seed, image_shape)


def check_augmentation(methods: "Sequence[Method]") -> list[Any]:
    """Makes the transforms of ``training.augmentation``; raises as ``build_augmentation``."""
    return [_made(method.section(), f"{_WHERE}.{i}") for i, method in enumerate(methods)]


def _made(section, where):
    name = section.pop("name")
    if name not in METHODS:
        raise ConfigError(
            f"unknown augmentation {name!r}{nearest(name, METHODS)}",
            where=where,
            fix=f"choose one of: {', '.join(METHODS)}",
        )
    return from_section(METHODS[name], section, where)


def _uniform(rows, seed, columns):
    """float32 (rows, columns) from [0, 1)."""
    bits = random_bits(tf.range(rows)[:, None], tf.range(columns)[None, :], seed)
    return tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.float32) / 2**24
