"""Writes a model for a server: ``tfxc export --run RUN [--format onnx] [--k 5]``.

savedmodel: takes raw input, answers with label names and scores and needs nothing but TensorFlow
(after text features ``pretrained`` tensorflow-text, too).
onnx, litert: take features, answer with numbers of labels and scores, and need ONNX Runtime or
LiteRT only. For a run on texts the folder holds ``text_features/``, which makes the features:
``tfxc.data.text.registry.load_text_features(folder).transform(texts)``.

Before the command reports success, it loads what it wrote and compares it with the run's own model.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core import cli
from tfxc.core.errors import ConfigError
from tfxc.exports import FORMATS, LEAST_AGREEMENT

if TYPE_CHECKING:
    from tfxc.exports.savedmodel import Exported


_DEFAULT_K = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Exports one run."""
    options = _parser().parse_args(argv)
    _check(options)
    from tfxc.inference.protocol import RankerModel
    from tfxc.runs.loaded import load_run

    loaded = load_run(options.run, options.trust)
    loaded.search_with(options.beam, options.post_processor)
    kind = options.format + ("" if options.quantize is None else f"-{options.quantize}")
    folder = Path(options.output or loaded.folder / kind)
    k = min(_DEFAULT_K, loaded.manifest["num_labels"]) if options.k is None else options.k
    if options.format == "savedmodel":
        from tfxc.exports.savedmodel import export_savedmodel

        written = export_savedmodel(loaded, folder, k, options.probabilities)
        print(report(written, loaded.manifest))
        return 0
    if isinstance(loaded.model, RankerModel):
        raise ConfigError(
            f"the search of a linear ranker has no equal in the format {options.format!r}",
            where="--format",
            fix="choose savedmodel",
        )
    from tfxc.exports.convert import export_model
    from tfxc.exports.usage import report_of_model

    least = LEAST_AGREEMENT if options.least_agreement is None else options.least_agreement
    int8 = options.quantize is not None
    done = export_model(loaded, folder, options.format, k, int8=int8, least_agreement=least)
    print(report_of_model(done, loaded))
    return 0


def _check(options):
    """Refuses what does not go together."""
    if options.quantize and options.format == "savedmodel":
        raise ConfigError(
            f"the format savedmodel has no {options.quantize}",
            where="--quantize",
            fix="choose --format onnx or --format litert",
        )
    if options.probabilities and options.format != "savedmodel":
        raise ConfigError(
            f"the format {options.format} gives scores, no probabilities",
            where="--probabilities",
            fix="choose --format savedmodel, or leave it out",
        )
    if options.least_agreement is not None and not options.quantize:
        raise ConfigError(
            "agreement is measured for quantised models only",
            where="--least-agreement",
            fix="add --quantize int8, or leave it out",
        )


def report(done: "Exported", manifest: Mapping[str, Any]) -> str:
    """What was written and how to call it, as text.

    Args:
        done: ``tfxc.exports.savedmodel.Exported``.
        manifest: the run's manifest as a dict.
    """
    from tfxc.data.kinds import ENCODED, IMAGE
    from tfxc.exports.usage import inputs_of, served_call

    takes = inputs_of(done.takes, manifest)
    if done.takes == IMAGE.name:
        (files,) = ENCODED.tensors(manifest)
        takes += f"; signature 'encoded' takes {files}"
    call = served_call(done.takes, manifest)
    texts = manifest.get("text_features") or {}
    subwords = "pretrained" in (texts.get("name"), texts.get("tokens", {}).get("name"))
    return "\n".join([
        f"{done.folder}: {done.size_bytes / 1e6:,.1f} MB, of which weights "
        f"{done.weight_bytes / 1e6:,.1f} MB; {manifest['num_labels']:,} labels",
        f"  takes  {takes}",
        f"  gives  labels: string, ids: int32, scores: float32, each (batch, {done.k}), best first",
        *(["         scores are probabilities"] * done.probabilities),
        f"  checked against the run's model: scores differ by at most {done.score_difference:.1e}",
        "",
        "import tensorflow as tf",
        *(["import tensorflow_text  # a server needs its ops, which cut the texts"] * subwords),
        f'model = tf.saved_model.load("{done.folder}").signatures["serving_default"]',
        f'print({call}["labels"])',
    ])  # fmt: skip


def _parser():
    options = cli.parser("export", __doc__)
    cli.add_trust_option(options)
    options.add_argument("--run", required=True, metavar="RUN", help="run folder")
    options.add_argument(
        "--format",
        choices=("savedmodel", *FORMATS),
        default="savedmodel",
        help="savedmodel, onnx (needs the extra 'onnx') or litert (default: %(default)s)",
    )
    options.add_argument(
        "--quantize", choices=("int8",), help="store weights in 8 bits: onnx and litert"
    )
    options.add_argument(
        "--least-agreement",
        type=_share,
        metavar="SHARE",
        help="fail if a quantised model keeps the best label of fewer examples of the dev data "
        f"(default: {LEAST_AGREEMENT})",
    )
    options.add_argument("--output", metavar="FOLDER", help="folder to write (default: RUN/FORMAT)")
    options.add_argument(
        "--k", type=int, help=f"labels per example (default: {_DEFAULT_K}, or all if fewer)"
    )
    options.add_argument(
        "--probabilities",
        action="store_true",
        help="scores of the SavedModel are probabilities, as predict --probabilities gives them",
    )
    cli.add_beam_options(options)
    return options


def _share(text):
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"a share from 0 to 1 expected, found {text!r}")
    return share
