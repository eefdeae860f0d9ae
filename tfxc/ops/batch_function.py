"""Functions of batches in TensorFlow's graph, called with arrays."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfxc.ops.gradients import without_gradients


class BatchFunction:
    """A function of tensors, compiled once for batches of any size.

    An axis after the first whose length changes, such as that of padded lists, is open from the
    second length on: it costs one more compilation. The function is not differentiated.

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
        self._compiled: dict[tuple, tuple[list[Any], Callable[..., Any]]] = {}

    def __call__(
        self, *batch: Mapping[str, Any] | np.ndarray | tf.Tensor, **settings: Hashable
    ) -> Any:
        """Calls the function with arrays, and returns arrays.

        Args:
            batch: arrays, or nested dicts and lists of them; their first dimension may change.
            settings: see ``function``.
        """
        function = self._function_for(tf.nest.map_structure(open_spec, list(batch)), settings)
        tensors = function(*tf.nest.map_structure(tf.constant, list(batch)))
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), tensors)

    def _function_for(
        self, signature: list[Any], settings: Mapping[str, Hashable]
    ) -> Callable[..., Any]:
        """Returns the compiled function that accepts a signature."""
        specs = tf.nest.flatten(signature)
        key = (*((spec.dtype, spec.shape.rank) for spec in specs), *settings.items())
        if key in self._compiled:
            known, function = self._compiled[key]
            pairs = list(zip(tf.nest.flatten(known), specs, strict=True))
            if all(old.shape.is_compatible_with(new.shape) for old, new in pairs):
                return function
            specs = [old.most_specific_common_supertype([new]) for old, new in pairs]
            signature = tf.nest.pack_sequence_as(signature, specs)

        def traced(*tensors: object) -> Any:
            with without_gradients():
                return self._function(*tensors, **settings)

        # The compiled one itself: TensorFlow would warn of many functions of one line.
        function = tf.function(traced, input_signature=signature, autograph=False)
        function = function.get_concrete_function()
        self._compiled[key] = signature, function
        return function


def open_spec(array: np.ndarray | tf.Tensor) -> tf.TensorSpec:
    """Returns a signature that fits every batch: the first dimension is open.

    So is the second of tokens and labels, int32 (batch, length), which hardly ever stays the same.
    """
    lists = tf.as_dtype(array.dtype) == tf.int32 and len(array.shape) == 2
    return tf.TensorSpec([None, None] if lists else [None, *array.shape[1:]], array.dtype)
