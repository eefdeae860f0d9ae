"""What tfxc needs of TensorFlow and Keras and neither has made public; nothing else is private.

A new version of one of them may move these names: then this is the file to change.

* ``in_stateless_scope`` says whether Keras only traces a layer's weights; ``keras.StatelessScope``
  is public, the question whether one is open is not.
* ``UninitializedVariable`` has a shape and no memory, so that the memory of a model can be counted
  without having it. ``tf.Variable`` always holds its values.
* ``placed_operations`` counts the operations that ran on each device, after TensorFlow has placed
  and optimised them; what is public prints each placement, before that.
* ``execute_operation`` runs one operation of a graph by its name and attributes; ``tf.raw_ops``
  wants each operation's own parameter names.
"""

import collections
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf
from keras.src.backend.common.stateless_scope import in_stateless_scope
from tensorflow.python.eager import context, execute
from tensorflow.python.ops.resource_variable_ops import UninitializedVariable

__all__ = [
    "UninitializedVariable",
    "execute_operation",
    "in_stateless_scope",
    "placed_operations",
]


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


@contextlib.contextmanager
def placed_operations() -> Iterator[collections.Counter[tuple[str, str]]]:
    """Context manager: counts the operations of compiled functions that first run inside it.

    The ``collections.Counter`` it yields is filled at its end: ``{(operation, device): number}``,
    the device as ``"CPU:0"``.

    Example:
        >>> with placed_operations() as placed:
        ...     _ = tf.function(lambda x: tf.sin(x), autograph=False)(tf.constant(2.0))
        >>> [name for name, _ in placed if name == "Sin"]
        ['Sin']
    """
    placed: collections.Counter[tuple[str, str]] = collections.Counter()
    state = context.context()
    state.enable_graph_collection()
    try:
        yield placed
    finally:
        for graph in state.export_run_metadata().partition_graphs:
            placed.update((node.op, node.device.rpartition("device:")[2]) for node in graph.node)
        state.disable_graph_collection()
