"""Asks exported models for batches of several sizes.

It is done in a process of its own: what an empty batch may do is end the process. A line is
printed and flushed per answer, so that the last line tells which one it was.
"""

import contextlib
from pathlib import Path

import numpy as np

from tests.processes import Started


def answers(folder, *sizes):
    """(model, signature, size) -> shapes, as a process of its own reports them."""
    process = Started(main, str(folder), *sizes)
    out, err = process.communicate(timeout=280)
    last = out.splitlines()[-1:]
    assert process.returncode == 0, f"{process.returncode} after {last}: {err[-2000:]}"
    lines = (line.split(maxsplit=3) for line in out.splitlines())
    return {(model, signature, int(size)): shapes for model, signature, size, shapes in lines}


def main(folder, *sizes):
    """Prints ``MODEL SIGNATURE SIZE SHAPE`` for all models in ``folder`` and all sizes."""
    for path in sorted(Path(folder).iterdir()):
        for name, inputs, ask in _signatures(path):
            for size in map(int, sizes):
                arrays = dict(_arrays(inputs, size))
                print(path.name, name, size, end=" ", flush=True)
                try:
                    print(*{tuple(np.shape(part)) for part in ask(arrays)}, flush=True)
                except (RuntimeError, ValueError):
                    if name != "litert":  # which has no empty tensors
                        raise
                    print("refused", flush=True)


def _signatures(path):
    """Name, inputs (name -> shape and type) and function of every signature of an export."""
    if (path / "saved_model.pb").exists():
        import tensorflow as tf

        with contextlib.suppress(ImportError):
            import tensorflow_text  # noqa: F401 (the operations of pretrained tokenizers)
        model = tf.saved_model.load(str(path))
        for name, function in model.signatures.items():
            given = function.structured_input_signature[1].items()
            inputs = {key: (spec.shape.as_list(), spec.dtype.name) for key, spec in given}
            yield name, inputs, _served(function)
    elif (path / "model.onnx").exists():
        import onnxruntime

        session = onnxruntime.InferenceSession(path / "model.onnx")
        types = {"tensor(float)": "float32", "tensor(int32)": "int32"}
        types |= {"tensor(int64)": "int64", "tensor(uint8)": "uint8"}
        inputs = {
            part.name: ([n if isinstance(n, int) else None for n in part.shape], types[part.type])
            for part in session.get_inputs()
        }
        yield "onnx", inputs, lambda arrays: session.run(["label_ids", "scores"], arrays)
    else:
        import tensorflow as tf

        runner = tf.lite.Interpreter(str(path / "model.tflite")).get_signature_runner()
        details = runner.get_input_details().items()
        inputs = {
            key: ([n if n >= 0 else None for n in part["shape_signature"].tolist()],
                  np.dtype(part["dtype"]).name)
            for key, part in details
        }  # fmt: skip
        yield "litert", inputs, lambda arrays: runner(**arrays).values()


def _served(function):
    import tensorflow as tf

    return lambda arrays: function(**{k: tf.constant(v) for k, v in arrays.items()}).values()


def _arrays(inputs, size):
    """Arguments of a batch: bags of two ids, lists of eight tokens, texts of two words."""
    for name, (shape, kind) in inputs.items():
        if name == "row_splits":
            yield name, np.arange(size + 1, dtype=np.int64) * 2
        elif name in ("ids", "weights"):
            yield name, np.tile(np.array([0, 1], kind), size)
        elif name == "text":
            yield name, np.full([size], "the butter", object)
        elif name == "image_bytes":
            yield name, np.full([size], _PNG, object)
        else:
            yield name, np.ones([size, *(n or 8 for n in shape[1:])], kind)


# A grey picture of 1 x 1 pixels.
_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c636800000082008177cd72b60000000049454e44ae426082"
)
