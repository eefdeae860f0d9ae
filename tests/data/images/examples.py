"""Small images for the tests: smooth ones that survive a JPEG, and their files."""

import io

import keras
import numpy as np
import tensorflow as tf

from tfxc.encoders.base import Encoder
from tfxc.encoders.bases.image import ImageShape


def smooth_images(count, height, width, channels=3, seed=0):
    """uint8 (count, height, width, channels) of slow waves, all different."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = rng.uniform(1, 6, (count, 3, channels, 1, 1))
    values = np.sin(waves[:, 0] * x + waves[:, 1] * y + waves[:, 2])
    return np.uint8(127.5 + 120 * values.transpose(0, 2, 3, 1))


def png(image):
    """A PNG file of uint8 (height, width, 1 to 4)."""
    return tf.io.encode_png(image).numpy()


def file_of(image, kind, mode=None):
    """The bytes of an image file as Pillow writes it, in the given mode."""
    from PIL import Image

    picture, stream = Image.fromarray(image), io.BytesIO()
    (picture.convert(mode) if mode else picture).save(stream, kind)
    return stream.getvalue()


def crops(image, height, width):
    """All parts (height, width) of an image, {(top, left): part}."""
    tops, lefts = image.shape[0] - height + 1, image.shape[1] - width + 1
    return {
        (top, left): image[top : top + height, left : left + width]
        for top in range(tops)
        for left in range(lefts)
    }


@keras.saving.register_keras_serializable("tests")
class FlatImage(Encoder):
    """The pixels of an image as one vector: an encoder without weights."""

    input_kind = "image"

    def __init__(self, image_shape: ImageShape, **kwargs):
        super().__init__(**kwargs)
        self.image_shape = tuple(image_shape)

    def call(self, features, training=False):
        """float32 (batch, height · width · channels), from -1 to 1."""
        flat = tf.reshape(features, [-1, int(np.prod(self.image_shape))])
        return tf.cast(flat, tf.float32) / 127.5 - 1

    def compute_output_shape(self, input_shape):
        """Shape of what ``call`` gives."""
        return (None, int(np.prod(self.image_shape)))
