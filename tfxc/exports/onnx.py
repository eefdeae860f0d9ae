"""The format ONNX: converted by tf2onnx, run by ONNX Runtime."""

import contextlib
import functools
import importlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import ConfigError, missing_package
from tfxc.exports.graph import Graph, GraphFormat

if TYPE_CHECKING:
    import onnx
    import tf2onnx


_OPSET = 18  # the newest that tf2onnx 1.17 writes


class Onnx(GraphFormat):
    """Writes, opens and quantises ONNX files.

    Attributes:
        file: name of the model's file.
        bags: how sparse bags are summed up: in ONNX, sums over segments fail for empty ones.
        takes_empty_batches: whether models answer batches of no examples.
    """

    file = "model.onnx"
    bags = "products"
    takes_empty_batches = True

    def require(self) -> None:
        """Imports the packages.

        Raises:
            ConfigError: one is not installed.
        """
        with missing_package("onnx", where="--format"):
            for name in ("tf2onnx", "onnx", "onnxruntime"):
                importlib.import_module(name)

    def write(self, graph: Graph, path: Path) -> None:
        """Writes a model for any batch size.

        Args:
            graph: a ``Graph``.
            path: file to write.

        Returns:
            The only batch size the model reads: None, it takes any.

        Raises:
            ConfigError: operations have no equivalent in ONNX; they are named.
        """
        import onnx
        import tf2onnx

        _teach_erfc()
        with _quiet():
            model, _ = tf2onnx.convert.from_function(
                graph.function(), graph.signature(), opset=_OPSET
            )
        domains = {entry.domain for entry in model.opset_import}
        unknown = {
            node.op_type
            for node in _nodes(model.graph)
            if node.domain not in domains or not onnx.defs.has(node.op_type, node.domain)
        }
        if unknown:
            raise ConfigError(
                f"the model uses TensorFlow's {', '.join(sorted(unknown))}, for which ONNX has no "
                "operation",
                where="--format",
                fix="choose savedmodel",
            )
        axes = {tensor.name: tensor.axes for tensor in graph.tensors}
        for value in [*model.graph.input, *model.graph.output]:
            names = axes.get(value.name, ("batch",))
            for name, axis in zip(names, value.type.tensor_type.shape.dim, strict=False):
                if isinstance(name, str):
                    axis.dim_param = name
        path.write_bytes(model.SerializeToString())

    def open(self, path: str | Path) -> Callable[..., Any]:
        """Returns a function of a dict of arrays -> (ids, scores).

        Raises:
            ConfigError: ONNX Runtime cannot run the model.
        """
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as errors

        refused = (errors.Fail, errors.InvalidGraph, errors.NotImplemented)
        try:
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except refused as error:
            raise ConfigError(
                f"ONNX Runtime cannot run this model ({error})",
                where="--format",
                fix="choose savedmodel",
            ) from error
        return lambda inputs: tuple(session.run(["label_ids", "scores"], inputs))

    def quantise(self, graph: Graph, path: Path, batch: int | None) -> None:
        """Makes the constant tables and factors in ``path`` 8-bit integers."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        small = path.with_suffix(".int8")
        with _quiet():
            # Unsigned: the only ones ONNX Runtime has convolutions for.
            quantize_dynamic(path, small, weight_type=QuantType.QUInt8)
        small.replace(path)


@functools.cache
def _teach_erfc() -> None:
    """Gives tf2onnx the complementary error function, which exact GELU is made of."""
    from tf2onnx import utils
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")
    class _Erfc:
        @classmethod
        def version_9(
            cls, ctx: "tf2onnx.graph.Graph", node: "tf2onnx.graph.Node", **_: object
        ) -> None:
            """Writes 1 - erf(x)."""
            form = {"dtypes": node.output_dtypes, "shapes": node.output_shapes}
            error = ctx.make_node("Erf", node.input, **form)
            one = np.ones((), utils.map_onnx_to_numpy_type(node.output_dtypes[0]))
            one = ctx.make_const(utils.make_name("one"), one)
            ctx.remove_node(node.name)
            parts = [one.output[0], error.output[0]]
            ctx.make_node("Sub", parts, outputs=node.output, name=node.name, **form)


def _nodes(graph: "onnx.GraphProto") -> "Iterator[onnx.NodeProto]":
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides the notes of the converter and the quantiser, which are for their authors."""
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


FORMAT = Onnx()
