"""A tiny run of every encoder and every head, to see which formats it converts to."""

import tempfile
from pathlib import Path

from tests.encoders.hub_folders import write_folder
from tests.small_runs import make_run
from tfxc.core import registry
from tfxc.core.errors import ConfigError
from tfxc.exports.convert import export_model
from tfxc.runs.loaded import load_run

# What networks are converted to.
FORMATS = ("onnx", "litert")
SOFTMAX = {"objective": {"name": "softmax"}}
DENSE = {"kind": "dense", "num_features": 7, "encoder": {"name": "precomputed"}}
TOKENS = {"kind": "tokens", "text_features": {"name": "words", "max_length": 16}, **SOFTMAX}
_ARGUMENTS = {
    "fasttext": {"embedding_dim": 8},
    "textcnn": {"embedding_dim": 8, "num_filters": 4},
    "textrnn": {"embedding_dim": 8, "hidden_dim": 4},
    "textrcnn": {"embedding_dim": 8, "hidden_dim": 4},
    "transformer": {"embedding_dim": 8, "num_heads": 2, "num_layers": 1},
    "resnet": {"depth": 18, "width": 8},
    "keras_application": {"model": "MobileNetV2"},
    "mach": {"num_buckets": 4, "num_repetitions": 3},
    "mhp": {"heads": [4, 3]},
    "mhc": {"heads": [4, 3], "beam": 2},
    "mhs": {"heads": [4, 3], "num_sampled_heads": 2},
    "tree": {"nr_splits": 2, "min_codes": 2, "max_leaf_size": 3, "beam": 2},
}


def head_of(name):
    """Config section of a small head."""
    return {"name": name, **_ARGUMENTS.get(name, {})}


def parts_of(kind, name, folder):
    """Arguments of ``make_run`` for a method; ``folder`` is for what it needs."""
    section = {"name": name, **_ARGUMENTS.get(name, {})}
    if kind == "head":
        return {**DENSE, **SOFTMAX, "head": head_of(name)}
    if name == "pretrained":
        write_folder(folder / "model")
        there = {"name": name, "folder": str(folder / "model")}
        return {**TOKENS, "text_features": {**there, "max_length": 12}, "encoder": there}
    input_kind = registry.get("encoder", name).input_kind
    if input_kind == "image":
        return {"kind": "image", "image_shape": [32, 32, 3], **SOFTMAX, "encoder": section}
    common = {"dense": {**DENSE, **SOFTMAX}, "tokens": TOKENS, "sparse": SOFTMAX}[input_kind]
    return {**common, "encoder": section}


def measured(kind, name, form, folder):
    """The cell of docs/export.md for a method and a format."""
    run = load_run(make_run(folder / "run", **parts_of(kind, name, folder)))
    try:
        done = export_model(run, folder / form, form, 3)
    except ConfigError as error:
        return "no: " + error.problem.split("TensorFlow's ")[-1].split(", which")[0]
    return "any batch" if done.batch is None else f"batch {done.batch}"


def main():
    """Prints the table of docs/export.md."""
    for kind in ("encoder", "head"):
        for name in registry.names(kind):
            cells = []
            for form in FORMATS:
                with tempfile.TemporaryDirectory() as folder:
                    cells.append(measured(kind, name, form, Path(folder)))
            print("|", " | ".join([kind, f"`{name}`", *cells]), "|", flush=True)


if __name__ == "__main__":
    main()
