"""What an export wrote and how to call it, as text."""

_FEATURES = {
    "sparse": '"ids": np.array([0, 7], "int32"), "weights": np.array([1.0, 0.5], "float32"),\n'
    '          "row_splits": np.array([0, 2])',
    "dense": '"features": np.zeros([1, {num_features}], "float32")',
    "tokens": '"tokens": np.array([[1, 1, 0]], "int32")',
    "image": '"images": np.zeros([1, {image}], "uint8")',
}
_OF_TEXTS = {
    "sparse": """\
rows = load_text_features("{folder}/text_features").transform(["some text"])
inputs = {{"ids": rows.indices.astype("int32"), "weights": rows.data.astype("float32"),
          "row_splits": rows.indptr.astype("int64")}}""",
    "tokens": """\
rows = load_text_features("{folder}/text_features").transform(["some text"])
inputs = {{"tokens": pad_tokens(rows.indptr, rows.tokens)}}""",
}
_CALLS = {
    "onnx": """\
import onnxruntime
model = onnxruntime.InferenceSession("{folder}/{file}")
ids, scores = model.run(["label_ids", "scores"], inputs)""",
    "litert": """\
import tensorflow as tf  # or: from ai_edge_litert.interpreter import Interpreter
model = tf.lite.Interpreter("{folder}/{file}").get_signature_runner("serving_default")
ids = model(**inputs)["label_ids"]""",
}


def report_of_model(done, loaded_run, inputs):
    """What was written, what it gives and takes, and code that calls it.

    Args:
        done: ``tfxc.exports.convert.Converted``.
        loaded_run: the ``LoadedRun`` it was made from.
        inputs: the inputs in words.
    """
    manifest = loaded_run.manifest
    return "\n".join(
        [
            f"{done.folder}: {done.folder_bytes / 1e6:,.1f} MB, of which {done.file} "
            f"{done.size_bytes / 1e6:,.1f} MB (weights of the run in float32: "
            f"{done.weight_bytes / 1e6:,.1f} MB); {manifest['num_labels']:,} labels",
            f"  takes  {inputs}" + (f"; batch {done.batch} only" if done.batch else ""),
            f"  gives  label_ids: int32 (numbers of lines of labels.txt, from 0), scores: float32, "
            f"each (batch, {done.k}), best first",
            "  checked against the run's model: scores differ by at most "
            f"{done.score_difference:.1e}" + (", before quantising" if done.agreement else ""),
            *_agreement(done.agreement),
            "",
            *_code(done, loaded_run),
        ]
    )


def _agreement(found):
    if found is None:
        return []
    return [
        f"  with 8-bit weights the same best label for {found.share:.1%} of {found.examples} "
        f"examples ({found.source}); scores differ by at most {found.score_difference:.1e}"
    ]


def _code(done, loaded_run):
    """Lines of Python."""
    image = ", ".join(map(str, loaded_run.manifest.get("image_shape") or ()))
    if loaded_run.text_features is not None:
        lines = ["from tfxc.data.text.registry import load_text_features"]
        lines += ["from tfxc.data.lists import pad_tokens"] * (done.takes == "tokens")
        lines += [_OF_TEXTS[done.takes].format(folder=done.folder)]
    else:
        sizes = {"num_features": loaded_run.manifest["num_features"], "image": image}
        features = _FEATURES[done.takes].format(**sizes)
        lines = ["import numpy as np", f"inputs = {{{features}}}"]
    return [
        *lines,
        _CALLS[done.format].format(folder=done.folder, file=done.file),
        f'names = open("{done.folder}/labels.txt", encoding="utf-8").read().split("\\n")',
        "print([[names[i] for i in row] for row in ids])",
    ]
