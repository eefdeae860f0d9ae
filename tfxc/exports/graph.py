"""The part of a run's model that ONNX and LiteRT models are converted from."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfxc.data.examples.kinds import KINDS, Tensor
from tfxc.exports.decided import top_k
from tfxc.exports.savedmodel import feature_signature, from_features, size_of
from tfxc.ops.empty_batch import handle_empty_batches
from tfxc.ops.sparse import bags_as

if TYPE_CHECKING:
    from tfxc.runs.loaded import LoadedRun

# A protocol buffer and a flat buffer are limited to less than 2 GiB.
_MOST_BYTES = 2**31 - 2**24

# A protocol buffer and a flat buffer are limited to less than 2 GiB.
_MOST_BYTES = 2**31 - 2**24


class Graph:
    """The computation a format converts: features in, ``label_ids`` and ``scores`` out.

    Args:
        loaded_run: a ``LoadedRun``.
        k: labels per example.
        probabilities: whether ``scores`` are probabilities.
        bags: how sparse bags are summed up, see ``ops.sparse.bags_as``.
        takes_empty_batches: whether the format's models answer batches of no examples.

    Attributes:
        input_kind: name of the kind of the features that it takes.
    """

    def __init__(
        self,
        loaded_run: "LoadedRun",
        k: int,
        probabilities: bool = False,
        *,
        bags: str,
        takes_empty_batches: bool,
    ) -> None:
        self._model = _in_float32(loaded_run).model
        self._manifest = loaded_run.manifest
        self.input_kind = self._model.encoder.input_kind
        self._kind = KINDS[self.input_kind]  # of joined features, it takes a part
        self._k = k
        self._bags = bags
        self._takes_empty_batches = takes_empty_batches
        self._probabilities = probabilities

    def function(self, batch: int | None = None) -> Any:
        """Returns the ``tf.function``, whose only concrete function is that of ``signature``.

        Args:
            batch: number of examples; None leaves it open.
        """

        def answer(features: Mapping[str, Any] | tf.Tensor) -> dict[str, tf.Tensor]:
            ids, scores = top_k(self._model, features, self._k, self._probabilities)
            # Not "ids": a sparse bag's input is called that, and ONNX requires distinct names.
            return {"label_ids": tf.cast(ids, tf.int32), "scores": tf.cast(scores, tf.float32)}

        with bags_as(self._bags), handle_empty_batches(self._takes_empty_batches):
            function = from_features(answer, self._kind, self._manifest, batch)
            function.get_concrete_function()
        return function

    @functools.cached_property
    def weight_bytes(self) -> int:
        """Bytes of the variables that it reads."""
        return size_of(self.function().get_concrete_function().graph.variables)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The ``tfxc.data.examples.kinds.Tensor``s it takes."""
        return self._kind.tensors(self._manifest)

    def signature(self, batch: int | None = None) -> list[Any]:
        """Returns the ``tf.TensorSpec``s of ``function``."""
        return feature_signature(self._kind, self._manifest, batch)


def _in_float32(loaded_run: "LoadedRun") -> "LoadedRun":
    """The run with a model that computes in float32, which every runtime has kernels for."""
    training = loaded_run.config.training
    if training.precision == "float32":
        return loaded_run
    wide = type(loaded_run)(loaded_run.folder.path, loaded_run.trust)
    training = training.model_copy(update={"precision": "float32"})
    wide.config = wide.config.model_copy(update={"training": training})
    return wide


class GraphFormat:
    """What formats share whose models are converted from a ``Graph``.

    Attributes:
        bags: how sparse bags are summed up, see ``ops.sparse.bags_as``.
        takes_empty_batches: whether models answer batches of no examples.
        most_bytes: the weights may not take more.
    """

    bags: str
    takes_empty_batches: bool
    most_bytes = _MOST_BYTES

    def source(self, loaded_run: "LoadedRun", k: int, probabilities: bool) -> Graph:
        """Returns what is converted."""
        return Graph(
            loaded_run,
            k,
            probabilities,
            bags=self.bags,
            takes_empty_batches=self.takes_empty_batches,
        )
