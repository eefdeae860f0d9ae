"""Latency of a run's SavedModel for one text at a time, and what it consists of.

    python benchmarks/served_latency.py RUN --data FILE [--texts 300] [--k 5] [--threads 1]

Prints the median and the 99th percentile in milliseconds of the whole call, from a text to label
names, and of its parts, each a separate graph: from text to features, from features to encodings
(where the run has an encoder), from features to label names. The time of head or ranker is what the
last one takes above the encodings. The graphs take turns on every text.
"""

import argparse
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main():
    """Exports the run, measures the parts and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--data", required=True, metavar="FILE")
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    import numpy as np
    import tensorflow as tf

    import tfxc  # noqa: F401  (chooses TensorFlow's kernels)

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    texts = read_texts(options.data, options.texts)
    with tempfile.TemporaryDirectory() as folder:
        parts, size = parts_of(options.run, Path(folder) / "served", options.k)
        times = measured(parts, texts)
    print(f"{options.run}: {len(texts)} texts one by one, {size / 1e6:.1f} MB on disk")
    print(f"{'':28}{'p50 ms':>10}{'p99 ms':>10}")
    for name, seconds in times.items():
        median, most = 1e3 * np.percentile(seconds, [50, 99])
        print(f"{name:28}{median:10.3f}{most:10.3f}")
    return 0


def read_texts(path, count):
    """The first texts of a file, each as a tensor of one."""
    import tensorflow as tf

    from tfxc.data.reading.formats import open_reader

    chunks = (chunk.texts for chunk in open_reader(path).chunks(count))
    texts = list(itertools.islice(itertools.chain.from_iterable(chunks), count))
    if not texts:
        sys.exit(f"{path}: there are no texts")
    return [tf.constant([text]) for text in texts]


def parts_of(run, folder, k):
    """``{name: function of (text, features)}`` and the bytes of the SavedModel."""
    import tensorflow as tf

    from tfxc.exports.savedmodel import export_savedmodel
    from tfxc.runs.loaded import load_run

    loaded = load_run(run)
    served = export_savedmodel(loaded, folder, k)
    kept = tf.saved_model.load(str(served.folder))
    whole = kept.signatures["serving_default"]
    from_features = kept.signatures["features"]
    to_features = tf.function(loaded.text_features.graph(Path(run) / "assets/text_features"))
    parts = {
        "text to label names": lambda text, _: whole(text=text)["labels"],
        "text to features": lambda text, _: to_features(text),
    }
    if getattr(loaded.model, "encoder", None) is not None:
        encode = tf.function(lambda x: loaded.model.encoder(x, training=False), reduce_retracing=1)
        parts["features to encodings"] = lambda _, features: encode(features)

    def labels(_, features, kept=kept):
        if not isinstance(features, dict):
            (name,) = from_features.structured_input_signature[1]
            features = {name: features}
        return from_features(**features)["labels"]

    parts["features to label names"] = labels
    return {"features": to_features, **parts}, served.size_bytes


def measured(parts, texts):
    """Seconds of each part for every text; the first texts are not counted."""
    parts = dict(parts)
    make = parts.pop("features")
    times = {name: [] for name in parts}
    warm = texts[:20]
    for number, text in enumerate(warm + texts):
        features = make(text)
        for name, call in parts.items():
            begin = time.perf_counter()
            call(text, features)
            if number >= len(warm):
                times[name].append(time.perf_counter() - begin)
    return times


if __name__ == "__main__":
    sys.exit(main())
