"""Pictures of wrong examples."""

import base64

import numpy as np
import tensorflow as tf

from tfxc.reports.pictures import data_uri, pictures_of


class Images:
    """Examples that are images, and how many of them were read."""

    def __init__(self, images):
        self.images, self.num_examples, self.read = images, len(images), 0

    def sequential(self, batch_size):
        for start in range(0, len(self.images), batch_size):
            batch = self.images[start : start + batch_size]
            self.read += len(batch)
            yield {"features": batch}


def image_of(uri):
    kind, data = uri.split(",")
    assert kind == "data:image/png;base64"
    return tf.io.decode_png(base64.b64decode(data)).numpy()


def test_pictures_are_those_of_the_examples():
    images = np.random.default_rng(0).integers(0, 256, (600, 5, 4, 3), np.uint8)
    examples = Images(images)
    found = pictures_of(lambda: examples, {3, 256, 300})
    assert sorted(found) == [3, 256, 300]
    for number, uri in found.items():
        np.testing.assert_array_equal(image_of(uri), images[number])
    assert examples.read == 512, "no more than needed"
    assert not pictures_of(lambda: examples, set())


def test_large_images_are_made_smaller():
    image = np.zeros((200, 400, 1), np.uint8)
    image[:, 200:] = 240
    small = image_of(data_uri(image))
    assert small.shape == (48, 96, 1)
    assert small[:, :47].max() == 0 and small[:, 49:].min() == 240
