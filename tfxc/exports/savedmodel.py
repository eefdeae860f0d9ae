"""SavedModels of trained runs: raw input in, label names out, the search in the graph.

A served model needs core TensorFlow only, one on text features ``pretrained`` that
``tensorflow_text`` is imported before it is loaded::

    import tensorflow as tf
    model = tf.saved_model.load("RUN/savedmodel").signatures["serving_default"]
    print(model(text=tf.constant(["some text"]))["labels"])
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tfxc.core.storage import checksums
from tfxc.core.storage.files import folder_bytes
from tfxc.core.storage.ownership import atomic_folder
from tfxc.data.examples.kinds import ENCODED, IMAGE, INPUTS, TOKENS
from tfxc.data.images.decoding import decode_batch
from tfxc.exports.decided import predicted, top_k
from tfxc.exports.parity import Expected, outputs_of_savedmodel
from tfxc.exports.rule import exported_rule
from tfxc.exports.target import check_target
from tfxc.ops.file_errors import os_errors
from tfxc.ops.gradients import without_gradients

if TYPE_CHECKING:
    from tfxc.data.examples.kinds import FeatureKind, Input
    from tfxc.runs.loaded import LoadedRun


_KIND = "exported SavedModel"


class Exported(NamedTuple):
    """What ``export_savedmodel`` wrote.

    Attributes:
        folder: the SavedModel.
        input_kind: what ``serving_default`` takes, a name in ``tfxc.data.examples.kinds.INPUTS``.
        k: labels per example.
        size_bytes: of the whole folder.
        weight_bytes: of the variables alone.
        score_difference: largest difference of a score to the run's own model.
        probabilities: whether scores are probabilities.
    """

    folder: Path
    input_kind: str
    k: int
    size_bytes: int
    weight_bytes: int
    score_difference: float
    probabilities: bool


def export_savedmodel(
    loaded_run: "LoadedRun",
    folder: str | Path,
    k: int = 5,
    probabilities: bool = False,
    add: Callable[[Path], None] | None = None,
) -> "Exported":
    """Writes a SavedModel, loads it again and compares it with the run's model.

    The run's model is released in between, so that its weights are in memory once.

    Signatures, all with outputs ``labels`` string, ``ids`` int32 and ``scores`` float32, each
    (batch, k), best first:

    * ``serving_default`` takes ``text`` string (batch,) where the run was trained on texts, next to
      it ``ids``, ``weights`` and ``row_splits`` where the terms are given, else what ``features``
      takes;
    * ``features`` takes the run's own features: ``ids`` int32 (nnz,), ``weights`` float32 (nnz,)
      and ``row_splits`` int64 (batch + 1,), or for dense vectors ``features`` float32
      (batch, num_features), or for lists of tokens ``tokens`` int32 (batch, length) padded with
      0, or for joined features the first three and ``tokens``. A row's ids are distinct.

    For runs on images:

    * ``serving_default`` takes ``images`` uint8 (batch, height, width, channels);
    * ``encoded`` takes ``image_bytes`` string (batch,), JPEG, PNG, BMP or GIF files, which are
      decoded, resized and cut as in preparation.

    Args:
        loaded_run: a ``tfxc.runs.loaded.LoadedRun``.
        folder: the SavedModel's folder; an older SavedModel there is replaced.
        k: labels per example.
        probabilities: whether ``scores`` are those of ``tfxc predict --probabilities``.
        add: called with the finished folder before it is in its place, to add files to it.

    Returns:
        ``Exported``.

    Raises:
        ConfigError: k exceeds the number of labels, the model has no probabilities, the token
            pattern has no equivalent in the graph, or the folder holds something else than a
            SavedModel.
        UserError: the disk is full or the folder cannot be written to.
        CheckpointError: the run is not finished.

    Example:
        >>> from tfxc.runs.loaded import load_run
        >>> export_savedmodel(load_run("runs/quickstart"), "served").input_kind  # doctest: +SKIP
        'text'
    """
    folder = Path(folder)
    check_target(loaded_run, folder, k, _KIND)
    if probabilities:
        loaded_run.model.check_probabilities()
    expected = Expected(loaded_run, k, probabilities)
    with atomic_folder(folder, _KIND) as scratch:
        with without_gradients():
            model = ServedModel(loaded_run, k, probabilities)
        with os_errors(folder):
            # Gradients of tfxc's own ops hold on to tensors that cannot be saved; serving needs
            # none.
            plain = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
            tf.saved_model.save(model, str(scratch), signatures=model.functions, options=plain)
            forget_gradients(scratch / "saved_model.pb")
        input_kind = model.input_kind
        weights = size_of(model.weights)
        del model
        loaded_run.release()
        difference = expected.largest_difference(outputs_of_savedmodel(scratch))
        if add:
            add(scratch)
        checksums.record(scratch)
        size = folder_bytes(scratch)
    return Exported(folder, input_kind, k, size, weights, difference, probabilities)


class ServedModel(tf.Module):
    """The exported module: signatures over a trained model.

    The Keras layers are not attributes but closed over: as attributes they would be written next to
    the variables, with every weight twice.

    Args:
        loaded_run: a ``LoadedRun``.
        k: labels per example.
        probabilities: whether scores are probabilities.

    Attributes:
        input_kind: see ``Exported``.
        weights: list of the variables the signatures read.
        functions: dict of concrete functions by signature name: ``serving_default``, ``features``
            or ``encoded``, and of a head that reads texts of labels ``encode``, the vectors that
            it compares.
    """

    def __init__(self, loaded_run: "LoadedRun", k: int, probabilities: bool = False) -> None:
        super().__init__()
        self.names = names = _label_names(loaded_run)
        texts = loaded_run.text_features
        folder = loaded_run.folder / "assets" / "text_features"
        self.from_texts: Any = None if texts is None else texts.graph(folder)
        self.input_kind = loaded_run.input_kind
        kind = loaded_run.kind
        model = loaded_run.model
        rule = exported_rule(loaded_run, probabilities)

        def answer(features: Mapping[str, Any] | tf.Tensor) -> dict[str, tf.Tensor]:
            ids, scores = top_k(model, features, k, probabilities)
            labels = names.lookup(tf.cast(ids, tf.int64))
            outputs = {"labels": labels, "ids": ids, "scores": tf.cast(scores, tf.float32)}
            return (
                outputs if rule is None else {**outputs, "returned": predicted(rule, ids, scores)}
            )

        features = from_features(answer, kind, loaded_run.manifest).get_concrete_function()
        self.functions = {"serving_default": features}
        if kind is IMAGE:
            shape = loaded_run.manifest["image_shape"]
            self.functions["encoded"] = _from_raw(
                ENCODED, lambda files: answer(decode_batch(files, shape))
            )
        else:
            self.functions["features"] = features
        if self.from_texts is not None:
            raw_input = INPUTS[self.input_kind]
            self.functions["serving_default"] = _from_raw(
                raw_input, lambda *raw: answer(self.from_texts(*raw))
            )
            head = getattr(loaded_run.model, "head", None)
            if getattr(head, "reads_label_texts", False):
                self.functions["encode"] = _from_raw(
                    raw_input, lambda *raw: self._vectors(loaded_run, *raw)
                )
        variables = {v.ref(): v for f in self.functions.values() for v in f.graph.variables}
        self.weights = list(variables.values())

    def _vectors(self, loaded_run: "LoadedRun", *raw: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the vectors of labels' texts, which are cut as in training."""
        features = self.from_texts(*raw)
        length = loaded_run.model.head.label_length
        if length is not None:
            tokens = TOKENS.unpack(TOKENS.select_features(features))["tokens"][:, :length]
            features = {**features, "tokens": tokens} if isinstance(features, dict) else tokens
        return {"vectors": loaded_run.model.vectors(features)}


def forget_gradients(path: Path) -> None:
    """Removes the names of gradients that were not saved: every loading would warn about them."""
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in saved.meta_graphs:
        for function in graph.graph_def.library.function:
            for node in function.node_def:
                node.attr.pop("_gradient_op_type", None)
    path.write_bytes(saved.SerializeToString())


def _from_raw(raw_input: "Input", answer: Callable[..., Any]) -> Any:
    """Returns the concrete function of ``answer``, a function of the tensors of an ``Input``."""
    signature = [tensor.spec() for tensor in raw_input.tensors({})]
    function = tf.function(answer, input_signature=signature, autograph=False)
    return function.get_concrete_function()


def from_features(
    answer: Callable[..., Any],
    kind: "FeatureKind",
    manifest: Mapping[str, Any],
    batch: int | None = None,
) -> Any:
    """Returns ``tf.function`` over a run's own features, whose arguments are the tensors of the
    kind.

    Args:
        answer: function of the model's features -> dict of outputs.
        kind: the ``FeatureKind``.
        manifest: the run's manifest as a dict.
        batch: number of examples; None leaves it open.
    """
    scaled = manifest["row_normalise"] == "l2"

    def from_tensors(*values: tf.Tensor) -> Any:
        tensors = dict(zip(kind.inputs, values, strict=True))
        return answer(kind.pack(kind.unit_rows(tensors) if scaled else tensors))

    signature = feature_signature(kind, manifest, batch)
    return tf.function(from_tensors, input_signature=signature, autograph=False)


def feature_signature(
    kind: "FeatureKind", manifest: Mapping[str, Any], batch: int | None = None
) -> list[Any]:
    """Returns the ``tf.TensorSpec``s of the tensors of a batch of a run's features, a list.

    Args:
        kind, manifest, batch: see ``from_features``.
    """
    return [tensor.spec(batch) for tensor in kind.tensors(manifest)]


def _label_names(loaded_run: "LoadedRun") -> tf.lookup.StaticHashTable:
    """Returns table from label id to name; the empty text for ids that stand for no label."""
    loaded_run.vocabulary  # noqa: B018 (TensorFlow reads the file: it has to be whole)
    lines = tf.lookup.TextFileInitializer(
        str(loaded_run.folder / "assets" / "labels.txt"),
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
    )
    return tf.lookup.StaticHashTable(lines, default_value="")


def size_of(weights: Iterable[Any]) -> int:
    """Returns the bytes of variables."""
    return sum(v.shape.num_elements() * v.dtype.size for v in weights)
