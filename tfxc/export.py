"""Writes a SavedModel that takes raw input: ``python -m tfxc.export --run RUN [--k 5]``.

The model answers with label names and scores and needs nothing but TensorFlow (after text features
``pretrained`` tensorflow-text, too). Before the verb
reports success, it loads what it wrote and compares it with the run's own model.
"""

from pathlib import Path

from tfxc import cli

_DEFAULT_K = 5
_CALLS = {
    "text": 'model(text=tf.constant(["some text"]))',
    "sparse": "model(ids=tf.constant([0, 7]), weights=tf.constant([1.0, 0.5]), "
    "row_splits=tf.constant([0, 2], tf.int64))",
    "dense": "model(features=tf.zeros([1, {num_features}]))",
    "image": "model(images=tf.zeros([1, {image}], tf.uint8))",
}


def main(argv=None):
    """Exports one run."""
    options = _parser().parse_args(argv)
    from tfxc.recipes.runs import load_run
    from tfxc.serving import export_savedmodel

    loaded = load_run(options.run)
    folder = Path(options.output or loaded.folder / "savedmodel")
    k = min(_DEFAULT_K, loaded.manifest["num_labels"]) if options.k is None else options.k
    done = export_savedmodel(loaded, folder, k)
    print(report(done, loaded.manifest))
    return 0


def report(done, manifest):
    """What was written and how to call it, as text.

    Args:
        done: ``tfxc.serving.Exported``.
        manifest: the run's manifest as a dict.
    """
    image = ", ".join(map(str, manifest.get("image_shape") or ()))
    takes = {
        "text": "text: string (batch,)",
        "sparse": "ids: int32 (nnz,), weights: float32 (nnz,), row_splits: int64 (batch + 1,)",
        "dense": f"features: float32 (batch, {manifest['num_features']})",
        "tokens": "tokens: int32 (batch, length), padded with 0",
        "image": f"images: uint8 (batch, {image}); signature 'encoded' takes image_bytes: string "
        "(batch,)",
    }
    call = _CALLS[done.takes].format(**manifest, image=image)
    subwords = (manifest.get("text_features") or {}).get("name") == "pretrained"
    return "\n".join([
        f"{done.folder}: {done.size_bytes / 1e6:,.1f} MB, of which weights "
        f"{done.weight_bytes / 1e6:,.1f} MB; {manifest['num_labels']:,} labels",
        f"  takes  {takes[done.takes]}",
        f"  gives  labels: string, ids: int32, scores: float32, each (batch, {done.k}), best first",
        f"  checked against the run's model: scores differ by at most {done.score_difference:.1e}",
        "",
        "import tensorflow as tf",
        *(["import tensorflow_text  # a server needs its ops, which cut the texts"] * subwords),
        f'model = tf.saved_model.load("{done.folder}").signatures["serving_default"]',
        f'print({call}["labels"])',
    ])  # fmt: skip


def _parser():
    options = cli.parser("export", __doc__)
    options.add_argument("--run", required=True, metavar="RUN", help="run folder")
    options.add_argument(
        "--output", metavar="FOLDER", help="SavedModel to write (default: RUN/savedmodel)"
    )
    options.add_argument(
        "--k", type=int, help=f"labels per example (default: {_DEFAULT_K}, or all if fewer)"
    )
    return options


if __name__ == "__main__":
    cli.run(main)
