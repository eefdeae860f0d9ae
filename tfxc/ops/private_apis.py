"""What tfxc needs of TensorFlow and Keras and neither has made public; nothing else is private.

A new version of one of them may move these names: then this is the file to change.

* ``in_stateless_scope`` says whether Keras only traces a layer's weights; ``keras.StatelessScope``
  is public, the question whether one is open is not.
* ``UninitializedVariable`` has a shape and no memory, so that the memory of a model can be counted
  without having it. ``tf.Variable`` always holds its values.
* ``execute_operation`` runs one operation of a graph by its name and attributes; ``tf.raw_ops``
  wants each operation's own parameter names.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from keras.src.backend.common.stateless_scope import in_stateless_scope
from tensorflow.python.eager import context, execute
from tensorflow.python.ops.resource_variable_ops import UninitializedVariable

__all__ = ["UninitializedVariable", "execute_operation", "in_stateless_scope"]


def execute_operation(
    name: str, num_outputs: int, inputs: Sequence[tf.Tensor], attributes: Sequence[Any]
) -> list[tf.Tensor]:
    """Returns the outputs of an operation.

    Args:
        name: of the operation, e.g. ``"Unique"``.
        num_outputs: how many it has.
        inputs: its tensors, in order.
        attributes: names and values by turns, e.g. ``["T", tf.int32.as_datatype_enum]``.

    Example:
        >>> int(execute_operation("Neg", 1, [tf.constant(2)], ["T", 3])[0])
        -2
    """
    return execute.execute(name, num_outputs, list(inputs), tuple(attributes), context.context())
