"""Where a step runs: some of TensorFlow's operations have no kernel for a GPU, or wait for one."""

from typing import TYPE_CHECKING

import tensorflow as tf

if TYPE_CHECKING:
    import keras

GPU = "/GPU:0"  # where TensorFlow places what nobody places elsewhere


def on_gpu(variable: "tf.Variable | keras.Variable") -> bool:
    """Says whether a variable is in a GPU's memory.

    Example:
        >>> on_gpu(tf.Variable(1.0)) == bool(tf.config.list_logical_devices("GPU"))
        True
    """
    return "GPU" in variable.device
