"""Whether there is a GPU."""

import tensorflow as tf


def has_gpu() -> bool:
    """Says whether TensorFlow uses a GPU, on which it then places the variables of a model."""
    return bool(tf.config.list_logical_devices("GPU"))
