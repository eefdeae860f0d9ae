"""Any SavedModel as an encoder."""

import numpy as np
import pytest
import tensorflow as tf

from tests.data.images.examples import png, smooth_images
from tests.data.store.feature_sets.examples import vectors
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.examples.chunk import Chunk
from tfxc.data.store.feature_sets.encoder import SavedModelEncoder


def save(folder, shape, dtype=tf.float32, function=None, outputs=1):
    """Writes a SavedModel whose vectors are the means over height and width, or sums."""
    module = tf.Module()

    def vectors_of(images):
        values = tf.cast(images, tf.float32)
        values = tf.reduce_mean(values, [1, 2]) if len(shape) == 4 else 2 * values
        return {f"output_{i}": values + i for i in range(outputs)}

    signature = tf.function(
        function or vectors_of, [tf.TensorSpec(shape, dtype, "images")], autograph=False
    )
    tf.saved_model.save(module, str(folder), signature)
    return folder


class OneChunk:
    """A reader of one chunk."""

    path = "given"

    def __init__(self, chunk):
        self.chunk = chunk

    def chunks(self, size):
        yield self.chunk


class TestSavedModel:
    def vectors(self, encoder, chunk):
        return encoder(next(encoder.rows(OneChunk(chunk), 4)))

    @pytest.mark.parametrize(
        ("dtype", "options"),
        [(tf.float32, {"mean": [0.5], "std": [0.25]}), (tf.uint8, {}),
         (tf.float32, {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]})],
    )  # fmt: skip
    def test_images(self, tmp_path, dtype, options):
        path = save(tmp_path / "model", [None, None, None, 3], dtype)
        encoder = SavedModelEncoder(path, image_size=[8, 6], **options)
        images = smooth_images(3, 8, 6)
        chunk = Chunk(labels=[[0]] * 3, images=[png(image) for image in images])
        expected = images.astype(np.float64)
        if options:
            expected = (expected / 255 - options["mean"]) / options["std"]
        np.testing.assert_allclose(
            self.vectors(encoder, chunk), expected.mean(axis=(1, 2)), rtol=1e-4, atol=1e-5
        )
        assert encoder.num_features == 3 and encoder.settings["image_shape"] == (8, 6, 3)

    def test_vectors_and_one_of_several_outputs(self, tmp_path):
        encoder = SavedModelEncoder(save(tmp_path / "a", [None, 5], outputs=2), output="output_1")
        chunk = Chunk(labels=[[0]] * 4, features=vectors(4))
        np.testing.assert_allclose(self.vectors(encoder, chunk), 2 * vectors(4) + 1)
        with pytest.raises(DataError, match=r"the features are dense \(4, 3\), but .* of length 5"):
            self.vectors(encoder, Chunk(labels=[[0]] * 4, features=vectors(4, 3)))
        with pytest.raises(DataError, match="the examples have no features, but texts"):
            self.vectors(encoder, Chunk(labels=[[0]], texts=["a"]))

    @pytest.mark.parametrize(
        ("shape", "dtype", "options", "message"),
        [
            ([None, 4, 4, 3], tf.float32, {}, "mean: must be one number"),
            (
                [None, 4, 4, 3],
                tf.float32,
                {"mean": [0.5], "std": [0.0]},
                "std: must be positive, not",
            ),
            ([None, 4, 4, 3], tf.uint8, {"mean": [0.5]}, "mean, std: .* not scaled"),
            ([None, 4, 4, 3], tf.uint8, {"image_size": [5, 4]}, "image_size: images of"),
            ([None, 3, 8, 8], tf.uint8, {}, "3 channels last"),
            ([None, None, None, 3], tf.uint8, {}, "image_size: images of"),
            ([None, 5], tf.float32, {"image_size": [5, 4]}, "the model reads vectors"),
            ([None, 5], tf.float32, {"output": "b"}, "it has no output 'b', only output_0"),
            (
                [None, 5],
                tf.float32,
                {"signature": "b"},
                "it has no signature 'b', only serving_default",
            ),
        ],
    )
    def test_refused(self, tmp_path, shape, dtype, options, message):
        path = save(tmp_path / "model", shape, dtype)
        with pytest.raises(ConfigError, match=message):
            SavedModelEncoder(path, **options)

    def test_texts_and_no_model(self, tmp_path):
        path = save(
            tmp_path / "m", [None], tf.string, lambda texts: {"a": tf.strings.length(texts)}
        )
        with pytest.raises(ConfigError, match="the input is string"):
            SavedModelEncoder(path)
        with pytest.raises(ConfigError, match="this folder has no saved_model"):
            SavedModelEncoder(tmp_path)
