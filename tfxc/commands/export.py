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
from collections.abc import Sequence
from pathlib import Path

from tfxc.core import cli
from tfxc.core.errors import ConfigError
from tfxc.exports import FORMATS, MIN_AGREEMENT
from tfxc.exports.export import (
    DEFAULT_K,
    QUANTIZED,
    check_quantize,
    default_k,
    default_name,
    export,
    report,
)


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
        type=cli.integer,
        help=f"number of labels per example (default: {DEFAULT_K}, or all if there are fewer)",
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
