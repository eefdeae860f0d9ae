"""Functions of batches in TensorFlow's graph, called with arrays."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf


class BatchFunction:
    """A function of tensors, compiled once for batches of any size.

    Args:
        function: takes the tensors of a batch, and settings by name, which are compiled in.

    Example:
        >>> import numpy as np
        >>> scaled = BatchFunction(lambda features, factor: factor * features)
        >>> scaled(np.ones((2, 1), np.float32), factor=3).tolist()
        [[3.0], [3.0]]
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._compiled: dict[tuple, Callable[..., Any]] = {}

    def __call__(self, *batch: Mapping[str, Any] | np.ndarray | tf.Tensor, **settings: Any) -> Any:
        """What the function returns, as arrays.

        Args:
            batch: arrays, or nested dicts and lists of them; their first dimension may change.
            settings: hashable.
        """
        signature = tf.nest.map_structure(open_spec, list(batch))
        key = (*tf.nest.flatten(signature), *settings.items())
        if key not in self._compiled:
            self._compiled[key] = tf.function(
                lambda *tensors: self._function(*tensors, **settings),
                input_signature=signature,
                autograph=False,
            )
        found = self._compiled[key](*tf.nest.map_structure(tf.constant, list(batch)))
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), found)


def open_spec(array: np.ndarray | tf.Tensor) -> tf.TensorSpec:
    """A signature that fits every batch: the first dimension is open.

    So is the second of texts, int32 (batch, length), which are as long as the longest of a batch.
    """
    texts = tf.as_dtype(array.dtype) == tf.int32 and len(array.shape) == 2
    return tf.TensorSpec([None, None] if texts else [None, *array.shape[1:]], array.dtype)
