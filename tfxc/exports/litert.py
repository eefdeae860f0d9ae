"""The format LiteRT (TensorFlow Lite): converted and checked by TensorFlow itself."""

import re
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert import ConverterError

from tfxc.core.errors import ConfigError
from tfxc.core.storage.files import captured_standard_error
from tfxc.exports.axes import expand_new_axes
from tfxc.exports.graph import Graph, GraphFormat
from tfxc.exports.savedmodel import forget_gradients
from tfxc.ops.file_errors import os_errors

_OPERATIONS = r"TF Select ops: (.+)|operation 'tf\.(\w+)'|'tf\.(\w+)' op is neither"


class LiteRT(GraphFormat):
    """Writes, opens and quantises LiteRT files.

    Only LiteRT's own operations are used, none of TensorFlow's: the interpreters in TensorFlow's
    and LiteRT's Python packages have no others, so that no such model could be checked.

    Attributes:
        file: name of the model's file.
        bags: how sparse bags are summed up: LiteRT computes wrong products of two matrices that
            are both made from the inputs.
        takes_empty_batches: LiteRT refuses tensors without elements, and adding an example to an
            open batch damages its memory.
    """

    file = "model.tflite"
    bags = "segments"
    takes_empty_batches = False

    def require(self) -> None:
        """Does nothing: TensorFlow has it all."""

    def write(self, graph: Graph, path: Path) -> int | None:
        """Writes a model for any batch size, or where that fails for single examples.

        Args:
            graph: a ``Graph``.
            path: file to write.

        Returns:
            The only batch size the model reads, 1, or None if it takes any.

        Raises:
            ConfigError: operations have no equivalent in LiteRT; they are named.
        """
        try:
            self._convert(graph, path, None)
        except _Refused:
            pass
        else:
            return None
        try:
            self._convert(graph, path, 1)
        except _Refused as refused:
            raise ConfigError(
                f"the model uses TensorFlow's {refused}, for which LiteRT has no operation",
                where="--format",
                fix="choose onnx or savedmodel",
            ) from refused
        return 1

    def open(self, path: str | Path) -> Callable[..., Any]:
        """Returns a function of a dict of arrays -> (ids, scores)."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated", UserWarning)
            interpreter = tf.lite.Interpreter(str(path))
        runner = interpreter.get_signature_runner("serving_default")

        def run(inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
            outputs = runner(**inputs)
            return outputs["label_ids"], outputs["scores"]

        return run

    def quantise(self, graph: Graph, path: Path, batch: int | None) -> None:
        """Writes the model again, large weights as 8-bit integers ("dynamic range")."""
        self._convert(graph, path, batch, [tf.lite.Optimize.DEFAULT])

    def _convert(
        self,
        graph: Graph,
        path: Path,
        batch: int | None,
        optimizations: Sequence[tf.lite.Optimize] = (),
    ) -> None:
        function = graph.function(batch).get_concrete_function()
        module = tf.Module()
        module.weights = list(function.graph.variables)
        saved = path.with_suffix(".saved")
        plain = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        with os_errors(path):
            signatures = {"serving_default": function}
            tf.saved_model.save(module, str(saved), signatures=signatures, options=plain)
        forget_gradients(saved / "saved_model.pb")
        expand_new_axes(saved / "saved_model.pb")
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved))
        converter.optimizations = list(optimizations)
        with captured_standard_error() as printed:
            try:
                path.write_bytes(converter.convert())
            except ConverterError as error:
                printed.seek(0)
                text = f"{error}\n{printed.read().decode('utf-8', 'replace')}"
                groups = [group for match in re.findall(_OPERATIONS, text) for group in match]
                names = {name for group in groups for name in group.split(", ") if name}
                raise _Refused(", ".join(sorted(names)) or str(error).splitlines()[0]) from error
        shutil.rmtree(saved)


class _Refused(ValueError):
    """Names of operations, or what else the converter said."""


FORMAT = LiteRT()
