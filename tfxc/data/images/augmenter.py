"""Applies ``training.augmentation`` to batches, repeatably.

What happens to an image is a function of (seed, step, row of the global batch) alone, see
``tfxc.ops.randomness``: resumed runs, replicas and micro-batches draw the same.
"""

import functools

import tensorflow as tf

from tfxc.core import registry
from tfxc.core.errors import ConfigError
from tfxc.data.images.augmentation import METHODS, ColorJitter, RandomResizedCrop
from tfxc.data.images.decoding import decode_batch
from tfxc.ops.randomness import random_bits, step_scope

_WHERE = "training.augmentation"


class Augmentation:
    """Decodes the images of a batch where need be, and changes them at random.

    Args:
        transforms: the changes in their order.
        seed: of all draws.
        shape: (height, width, channels) of the images.
    """

    def __init__(self, transforms, seed, shape):
        self.transforms, self.shape = transforms, tuple(shape)
        self._seeds = [(seed << 16) + 0x5EED00 + number for number in range(len(transforms))]

    def __call__(self, images, step, first_row):
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


def build_augmentation(methods, seed, image_shape):
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
            raise ConfigError("only images can be augmented", where=_WHERE, fix="remove it")
        return None
    for number, transform in enumerate(transforms):
        jitters = isinstance(transform, ColorJitter)
        if jitters and image_shape[2] == 1 and transform.factors["saturation"] != (1.0, 1.0):
            raise ConfigError(
                "grey images have no saturation",
                where=f"{_WHERE}.{number}.saturation",
                fix="remove it",
            )
    return Augmentation(transforms, seed, image_shape)


def check_augmentation(methods):
    """Makes the transforms of ``training.augmentation``; raises as ``build_augmentation``."""
    return [_made(method.section(), f"{_WHERE}.{i}") for i, method in enumerate(methods)]


def _made(section, where):
    name = section.pop("name")
    if name not in METHODS:
        raise ConfigError(
            f"there is no augmentation {name!r}{registry.nearest(name, METHODS)}",
            where=where,
            fix=f"choose one of: {', '.join(METHODS)}",
        )
    known = registry.arguments(METHODS[name])
    for key in section:
        if key not in known:
            raise ConfigError(
                f"augmentation {name!r} has no argument {key!r}{registry.nearest(key, known)}",
                where=f"{where}.{key}",
                fix=f"its arguments are: {', '.join(sorted(known))}",
            )
    try:
        return METHODS[name](**section)
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error), where=where, fix="change that argument") from error


def _uniform(rows, seed, columns):
    """float32 (rows, columns) from [0, 1)."""
    bits = random_bits(tf.range(rows)[:, None], tf.range(columns)[None, :], seed)
    return tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.float32) / 2**24
