"""Size and latency of a run as Keras model, SavedModel, ONNX and LiteRT, float32 and 8-bit.

    python benchmarks/export_formats.py RUN [--rounds 200] [--k 5]

From features to label ids on one thread, texts already cut: single examples and batches of 64 of
the run's dev data. The models take turns; median and 99th percentile are printed in milliseconds.
Needs the extra ``onnx``.
"""

import argparse
import itertools
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

BATCH = 64


def main():
    """Exports a run in every way, measures all of them and prints a table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("run")
    options.add_argument("--rounds", type=int, default=200)
    options.add_argument("--k", type=int, default=5)
    options = options.parse_args()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from tfxc.exports.parity import examples_of
    from tfxc.runs.loaded import load_run

    loaded = load_run(options.run)
    rows, source = examples_of(loaded)
    with tempfile.TemporaryDirectory() as folder:
        models = models_of(loaded, Path(folder), min(options.k, loaded.manifest["num_labels"]))
        print(f"{options.run}: examples: {source}")
        print(
            "| model | MB | same best label | batch | p50 ms | p99 ms |\n|---|---|---|---|---|---|"
        )
        for size in (1, BATCH):
            batches = list(itertools.islice(rows(size), options.rounds))
            fitting = {name: m for name, m in models.items() if m["batch"] in (None, size)}
            times = measured(fitting, batches, max(20, options.rounds // (1 if size == 1 else 4)))
            for name, seconds in times.items():
                model = models[name]
                p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
                cells = (f"{model['bytes'] / 1e6:.2f}", model["told"], size, f"{p50:.3f}")
                print("|", " | ".join(map(str, (name, *cells, f"{p99:.3f}"))), "|")


def models_of(loaded, folder, k):
    """``{name: {call, bytes, batch, told}}``; ``call`` takes (arguments, features)."""
    import tensorflow as tf

    from tfxc.core.errors import ConfigError
    from tfxc.exports import FORMATS
    from tfxc.exports.convert import export_model
    from tfxc.exports.savedmodel import export_savedmodel
    from tfxc.inference.searcher import Searcher

    search = Searcher(loaded.model, k)
    weights = (loaded.folder / "model.weights.h5").stat().st_size
    served = export_savedmodel(loaded, folder / "saved", k)
    kept = tf.saved_model.load(str(served.folder))
    signatures = kept.signatures
    signature = signatures["features" if "features" in signatures else "serving_default"]

    def by_keras(_, features):
        return search({"features": tf.nest.map_structure(tf.constant, features)})

    def by_savedmodel(arguments, _, kept=kept):
        outputs = signature(**{name: tf.constant(values) for name, values in arguments.items()})
        return outputs["ids"].numpy()

    models = {
        "Keras": {"call": by_keras, "bytes": weights, "batch": None, "told": ""},
        "SavedModel": {
            "call": by_savedmodel, "bytes": served.size_bytes, "batch": None, "told": ""
        },
    }  # fmt: skip
    for name, int8 in itertools.product(FORMATS, (False, True)):
        shown = f"{name} int8" if int8 else name
        try:
            done = export_model(loaded, folder / shown, name, k, int8=int8, min_agreement=0)
        except ConfigError as error:
            print(f"{shown}: {error}", file=sys.stderr)
            continue
        call = OPENERS[name](done.folder / done.file)
        told = f"{done.agreement.share:.1%}" if done.agreement else ""
        models[shown] = {"call": call, "bytes": done.size_bytes, "batch": done.batch, "told": told}
    return models


def open_onnx(path):
    """An ONNX model on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda arguments, _: session.run(["label_ids", "scores"], arguments)


def open_litert(path):
    """A LiteRT model on one thread."""
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        interpreter = tf.lite.Interpreter(str(path), num_threads=1)
    runner = interpreter.get_signature_runner("serving_default")
    return lambda arguments, _: runner(**arguments)["label_ids"]


OPENERS = {"onnx": open_onnx, "litert": open_litert}


def measured(models, batches, rounds):
    """Seconds of each call, ``{name: list}``; the models take turns on the same batches."""
    times = {name: [] for name in models}
    for number in range(-3, rounds):
        arguments, features = batches[number % len(batches)]
        for name, model in models.items():
            begin = time.perf_counter()
            model["call"](arguments, features)
            if number >= 0:
                times[name].append(time.perf_counter() - begin)
    return times


if __name__ == "__main__":
    main()
