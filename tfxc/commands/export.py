"""Export a run as a model for a server.

    tfxc export --run RUN
    tfxc export --run RUN --format onnx --quantize int8 --k 5
    tfxc export --run RUN --serving models/NAME

A SavedModel maps raw input to label names and scores. It needs only TensorFlow (and
tensorflow-text if the text features are "pretrained"). ONNX and LiteRT models map features to label
ids and scores. Their folder contains predict.py, which reads texts, images or features and prints
label names with scores; it needs only ONNX Runtime or LiteRT, neither tfxc nor TensorFlow.

--serving writes a SavedModel as the next version of a model of TensorFlow Serving, with requests to
warm it up.

Before the command reports success, it loads the exported model and compares it with the run's.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core import cli
from tfxc.core.declared import check_choice
from tfxc.core.errors import ConfigError
from tfxc.exports import FORMATS, MIN_AGREEMENT

if TYPE_CHECKING:
    from tfxc.exports.savedmodel import Exported
    from tfxc.runs.loaded import LoadedRun


_DEFAULT_K = 5
QUANTIZED = ("int8",)


def main(argv: Sequence[str] | None = None) -> int:
    """Exports one run."""
    options = _parser().parse_args(argv)
    _check(options)
    from tfxc.runs.loaded import load_run

    loaded = load_run(options.run, options.trust)
    loaded.search_with(options.beam, options.post_processor)
    folder = Path(
        options.output or loaded.folder.place(default_name(options.format, options.quantize))
    )
    k = default_k(loaded) if options.k is None else options.k
    if options.serving:
        from tfxc.exports.serving_folder import export_for_serving

        target = (options.serving, options.version, k, options.probabilities)
        print(report(export_for_serving(loaded, *target), loaded.manifest))
        return 0
    least = MIN_AGREEMENT if options.min_agreement is None else options.min_agreement
    int8 = options.quantize is not None
    print(export(loaded, folder, options.format, k, options.probabilities, int8, least))
    return 0


def default_k(loaded: "LoadedRun") -> int:
    """Returns labels per example, where nothing is said about it."""
    return min(_DEFAULT_K, loaded.manifest["num_labels"])


def default_name(format: str, quantize: str | None) -> str:
    """Returns the folder inside a run, where no other is named."""
    return format if quantize is None else f"{format}-{quantize}"


def check_quantize(quantize: str | None, format: str) -> None:
    """Refuses what cannot be quantised, or not so.

    Raises:
        ConfigError: another way than those of ``QUANTIZED``, or a SavedModel.
    """
    if quantize is None:
        return
    check_choice("quantize", quantize, QUANTIZED)
    if format == "savedmodel":
        raise ConfigError(
            f"a SavedModel cannot be quantised to {quantize}",
            where="--quantize",
            fix="choose --format onnx or litert",
        )


def export(
    loaded: "LoadedRun",
    folder: Path,
    format: str,
    k: int,
    probabilities: bool = False,
    int8: bool = False,
    min_agreement: float = MIN_AGREEMENT,
) -> str:
    """Writes a run in one of the formats; returns a report of what was written.

    Args:
        loaded, folder, k, probabilities: see ``tfxc.exports.savedmodel.export_savedmodel``.
        format: ``"savedmodel"`` or one of ``tfxc.exports.FORMATS``.
        int8, min_agreement: see ``tfxc.exports.convert.export_model``.

    Raises:
        ConfigError: the format is unknown, or the model or the choice does not suit it.
    """
    from tfxc.inference.protocol import RankerModel

    check_choice("format", format, ("savedmodel", *FORMATS))
    if format == "savedmodel":
        from tfxc.exports.savedmodel import export_savedmodel

        return report(export_savedmodel(loaded, folder, k, probabilities), loaded.manifest)
    if isinstance(loaded.model, RankerModel):
        raise ConfigError(
            f"a linear ranker cannot be exported as {format}",
            where="--format",
            fix="choose savedmodel",
        )
    from tfxc.exports.convert import export_model
    from tfxc.exports.usage import report_of_model

    done = export_model(
        loaded,
        folder,
        format,
        k,
        int8=int8,
        min_agreement=min_agreement,
        probabilities=probabilities,
    )
    return report_of_model(done, loaded)


def _check(options: argparse.Namespace) -> None:
    """Refuses what does not go together."""
    check_quantize(options.quantize, options.format)
    if options.serving and (options.format != "savedmodel" or options.output):
        option = "--output" if options.output else f"--format {options.format}"
        raise ConfigError(
            f"it writes a SavedModel into a folder of its own, which excludes {option}",
            where="--serving",
            fix="leave one of them out",
        )
    if options.version is not None and not options.serving:
        raise ConfigError("this option needs --serving", where="--version", fix="add --serving")
    if options.min_agreement is not None and not options.quantize:
        raise ConfigError(
            "this option is for a quantised model",
            where="--min-agreement",
            fix="add --quantize int8, or leave it out",
        )


def report(done: "Exported", manifest: Mapping[str, Any]) -> str:
    """Returns what was written and how to call it, as text.

    Args:
        done: ``tfxc.exports.savedmodel.Exported``.
        manifest: the run's manifest as a dict.
    """
    from tfxc.data.kinds import ENCODED, IMAGE
    from tfxc.exports.usage import inputs_of, served_call

    inputs = inputs_of(done.input_kind, manifest)
    if done.input_kind == IMAGE.name:
        (files,) = ENCODED.tensors(manifest)
        inputs += f"; of signature 'encoded': {files}"
    call = served_call(done.input_kind, manifest)
    texts = manifest.get("text_features") or {}
    subwords = "pretrained" in (texts.get("name"), texts.get("tokens", {}).get("name"))
    return "\n".join(
        [
            f"{done.folder}: {done.size_bytes / 1e6:,.1f} MB, of which weights "
            f"{done.weight_bytes / 1e6:,.1f} MB; {manifest['num_labels']:,} labels",
            f"  inputs   {inputs}",
            "  outputs  labels: string, ids: int32, scores: float32; "
            f"(batch, {done.k}), best first",
            *(["           scores are probabilities"] * done.probabilities),
            "  checked against the run's model: "
            f"scores differ by at most {done.score_difference:.1e}",
            "",
            "import tensorflow as tf",
            *(["import tensorflow_text  # a server needs its ops, which cut the texts"] * subwords),
            f'model = tf.saved_model.load("{done.folder}").signatures["serving_default"]',
            f'print({call}["labels"])',
        ]
    )


def _parser() -> argparse.ArgumentParser:
    options = cli.parser("export", __doc__)
    cli.add_trust_option(options)
    options.add_argument("--run", required=True, metavar="RUN", help="run folder")
    options.add_argument(
        "--format",
        choices=("savedmodel", *FORMATS),
        default="savedmodel",
        help="format to write; onnx needs the extra 'onnx' (default: %(default)s)",
    )
    options.add_argument(
        "--quantize", choices=QUANTIZED, help="store weights in 8 bits (onnx and litert)"
    )
    options.add_argument(
        "--min-agreement",
        type=_share,
        metavar="SHARE",
        help="smallest share of dev examples whose best label a quantised model must keep "
        f"(default: {MIN_AGREEMENT})",
    )
    options.add_argument("--output", metavar="FOLDER", help="folder to write (default: RUN/FORMAT)")
    options.add_argument(
        "--serving",
        metavar="DIR",
        help="write DIR/VERSION for TensorFlow Serving, with warm-up requests (savedmodel)",
    )
    options.add_argument(
        "--version",
        type=cli.positive,
        metavar="N",
        help="version to write with --serving (default: the next one)",
    )
    options.add_argument(
        "--k",
        type=int,
        help=f"number of labels per example (default: {_DEFAULT_K}, or all if there are fewer)",
    )
    options.add_argument(
        "--probabilities",
        action="store_true",
        help="output probabilities instead of scores, as tfxc predict --probabilities",
    )
    cli.add_beam_options(options)
    return options


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return share
