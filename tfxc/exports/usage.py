"""What an export wrote and how to call it, as text."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tfxc.data.examples.kinds import INPUTS
from tfxc.exports.bundle import PROGRAM

if TYPE_CHECKING:
    from tfxc.data.examples.kinds import Tensor
    from tfxc.exports.convert import Converted
    from tfxc.runs.loaded import LoadedRun


_INPUTS_BY_TFXC = """\
from tfxc.data.text.registry import load_text_features
texts = load_text_features("{folder}/text_features")
inputs = texts.kind.tensors_of(texts.kind.arrays_of(texts.transform(["some text"])))"""
_INPUTS_BY_PROGRAM = """\
import sys; sys.path.insert(0, "{folder}")
from text_features.tokenize import load
inputs = load("{folder}/text_features")(["some text"])"""
_CALLS = {
    "onnx": """\
import onnxruntime
model = onnxruntime.InferenceSession("{folder}/{file}")
ids, scores = model.run(["label_ids", "scores"], inputs)""",
    "runtime": """\
from predict import open_arrays
ids, scores = open_arrays("{folder}/{file}")(inputs)""",
    "litert": """\
import tensorflow as tf  # or: from ai_edge_litert.interpreter import Interpreter
model = tf.lite.Interpreter("{folder}/{file}").get_signature_runner("serving_default")
ids = model(**inputs)["label_ids"]""",
}


def inputs_of(input_kind: str, manifest: Mapping[str, Any]) -> str:
    """Returns the inputs of an exported model in words.

    Args:
        input_kind: name of what it reads, see ``tfxc.data.examples.kinds.INPUTS``.
        manifest: the run's manifest as a dict.
    """
    return ", ".join(map(str, INPUTS[input_kind].tensors(manifest)))


def served_call(input_kind: str, manifest: Mapping[str, Any]) -> str:
    """Returns the Python that calls a signature ``model`` of a SavedModel; arguments see
    ``inputs_of``.
    """
    arguments = [
        f"{tensor.name}={_example(tensor, 'tf.constant', 'tf.zeros', f'tf.{tensor.dtype}')}"
        for tensor in INPUTS[input_kind].tensors(manifest)
    ]
    return f"model({', '.join(arguments)})"


def numpy_inputs(input_kind: str, manifest: Mapping[str, Any]) -> str:
    """Returns the Python that makes ``inputs`` of NumPy arrays; arguments see ``inputs_of``."""
    arrays = [
        f'"{tensor.name}": {_example(tensor, "np.array", "np.zeros", repr(tensor.dtype))}'
        for tensor in INPUTS[input_kind].tensors(manifest)
    ]
    return f"inputs = {{{', '.join(arrays)}}}"


def _example(tensor: "Tensor", constant: str, zeros: str, dtype: str) -> str:
    """Returns the Python that makes an example of an input by two functions of a library."""
    if tensor.values is None:
        return f"{zeros}({tensor.shape(1)}, {dtype})"
    return f"{constant}({tensor.values}, {dtype})"


def report_of_model(done: "Converted", loaded_run: "LoadedRun") -> str:
    """Returns what was written, its inputs and outputs, and code that calls it.

    Args:
        done: ``tfxc.exports.convert.Converted``.
        loaded_run: the ``LoadedRun`` it was made from.
    """
    manifest = loaded_run.manifest
    inputs = inputs_of(done.input_kind, manifest)
    program = f"  predict  python {done.folder / PROGRAM} FILE (without tfxc and TensorFlow)"
    if done.missing is not None:
        program = f"  no {PROGRAM}: it does not know {done.missing.rstrip(',')}"
    quantised = []
    if done.agreement is not None:
        share, examples, source, difference = done.agreement
        quantised = [
            f"  with 8-bit weights the same best label for {share:.1%} of {examples} examples "
            f"({source}); scores differ by at most {difference:.1e}"
        ]
    if loaded_run.text_features is None:
        code = ["import numpy as np", numpy_inputs(done.input_kind, manifest)]
    else:
        cut = _INPUTS_BY_TFXC if done.missing else _INPUTS_BY_PROGRAM
        code = [cut.format(folder=done.folder)]
    return "\n".join(
        [
            f"{done.folder}: {done.folder_bytes / 1e6:,.1f} MB, of which {done.file} "
            f"{done.size_bytes / 1e6:,.1f} MB (weights of the run in float32: "
            f"{done.weight_bytes / 1e6:,.1f} MB); {manifest['num_labels']:,} labels",
            f"  inputs   {inputs}" + (f"; batch {done.batch} only" if done.batch else ""),
            f"  outputs  label_ids: int32 (line numbers in labels.txt, from 0), scores: float32; "
            f"(batch, {done.k}), best first",
            *(["           scores are probabilities"] * done.probabilities),
            *(
                ["           tfxc predict prints probabilities; for these add --probabilities"]
                * (loaded_run.model.has_probabilities and not done.probabilities)
            ),
            "  checked against the run's model: scores differ by at most "
            f"{done.score_difference:.1e}" + (", before quantising" if done.agreement else ""),
            *quantised,
            program,
            "",
            *code,
            _CALLS[done.format].format(folder=done.folder, file=done.file),
            f'names = open("{done.folder}/labels.txt", encoding="utf-8").read().split("\\n")',
            "print([[names[i] for i in row] for row in ids])",
        ]
    )
