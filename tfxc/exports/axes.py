"""New axes in a SavedModel's graph in a form that LiteRT converts."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import node_def_pb2
from tensorflow.core.protobuf import saved_model_pb2


def expand_new_axes(path: Path) -> None:
    """Rewrites ``x[:, None]`` from a ``StridedSlice`` to ``ExpandDims``, wherever it is no more.

    LiteRT has new axes in slices only where the shape is known, so for no open length of texts.

    Args:
        path: ``saved_model.pb``, rewritten in place.
    """
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in saved.meta_graphs:
        for function in graph.graph_def.library.function:
            nodes = list(function.node_def)
            constants = {
                f"{node.name}:output:0": tf.make_ndarray(node.attr["value"].tensor)
                for node in nodes
                if node.op == "Const"
            }
            rewritten: list[node_def_pb2.NodeDef] = []
            for node in nodes:
                axes = _new_axes(node, constants)
                rewritten += [node] if axes is None else _expanding(node, axes)
            del function.node_def[:]
            function.node_def.extend(rewritten)
    path.write_bytes(saved.SerializeToString())


def _new_axes(node: node_def_pb2.NodeDef, constants: Mapping[str, np.ndarray]) -> list[int] | None:
    """Returns the places of the new axes of a slice that does nothing else; None for any other
    node.
    """
    if node.op != "StridedSlice" or node.input[3] not in constants:
        return None
    strides = constants[node.input[3]]
    count = len(strides)
    new = _places(node, "new_axis", count)
    steps = {place for place, stride in enumerate(strides) if stride == 1}
    untouched = _places(node, "begin", count) & _places(node, "end", count) & steps
    whole = new | untouched == set(range(count))
    special = _places(node, "ellipsis", 32) | _places(node, "shrink_axis", 32)
    return sorted(new) if new and whole and not special else None


def _places(node: node_def_pb2.NodeDef, name: str, count: int) -> set[int]:
    """Bits of a mask. An attribute is not looked up where it is missing: that would make it."""
    mask = node.attr[f"{name}_mask"].i if f"{name}_mask" in node.attr else 0
    return {place for place in range(count) if mask >> place & 1}


def _expanding(node: node_def_pb2.NodeDef, axes: list[int]) -> list[node_def_pb2.NodeDef]:
    """Returns nodes with the same result under the same name."""
    nodes = []
    source = node.input[0]
    for number, axis in enumerate(axes):
        last = number == len(axes) - 1
        name = node.name if last else f"{node.name}/axis_{axis}"
        place = node_def_pb2.NodeDef(name=f"{node.name}/place_{axis}", op="Const")
        place.attr["dtype"].type = tf.int32.as_datatype_enum
        place.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.int32(axis)))
        new = node_def_pb2.NodeDef(name=name, op="ExpandDims", device=node.device)
        new.input.extend([source, f"{place.name}:output:0"])
        new.attr["T"].CopyFrom(node.attr["T"])
        new.attr["Tdim"].type = tf.int32.as_datatype_enum
        nodes += [place, new]
        source = f"{name}:output:0"
    return nodes
