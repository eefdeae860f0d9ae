"""Export a run as a model for a server.

    tfxc export --run RUN
    tfxc export --run RUN --format onnx --quantize int8 --k 5
    tfxc export --run RUN --serving models/NAME

A SavedModel maps raw input to label names and scores. It needs only TensorFlow (and tensorflow-text
if the text features are "pretrained").

ONNX and LiteRT models map features to label ids and scores. Their folder contains predict.py, which
reads texts, images or features and prints label names with scores. It needs only ONNX Runtime or
LiteRT, neither tfxc nor TensorFlow. For a linear ranker, a run of memory or fuse, or encoder
bag_mlp or fasttext with head dense, the format runtime writes such a folder that needs NumPy alone.

--serving writes a SavedModel as the next version of a model of TensorFlow Serving, with requests to
warm it up.

Before the command reports success, it loads the exported model and compares it with the run's.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from tfxc.core.bounds import Count, Natural, Option, Share
from tfxc.core.command_options import parse
from tfxc.core.errors import ConfigError, as_option
from tfxc.core.shared_options import RunOption
from tfxc.exports import FORMATS, MIN_AGREEMENT
from tfxc.exports.export import (
    QUANTIZED,
    check_quantize,
    default_k,
    default_name,
    export,
    formats_of,
    report,
)
from tfxc.inference.search_options import RankerOptions, SearchOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(RunOption):
    """Options of ``tfxc export``.

    Attributes:
        format: format to write; onnx needs the extra 'onnx'; None means savedmodel, or runtime for
            a run of memory or fuse.
        quantize: store weights in 8 bits (not savedmodel).
        min_agreement: smallest share of dev examples for which a quantised model must keep the best
            label; None means 0.95.
        output: folder to write; None means RUN/FORMAT.
        serving: write DIR/VERSION for TensorFlow Serving, with warm-up requests (savedmodel).
        version: version to write with --serving; None means the next one.
        k: number of labels per example; None means 5, or all if there are fewer.
        probabilities: output probabilities instead of scores, like tfxc predict --probabilities.
        step: use the weights of the checkpoint of step N; None means those at the end of training.
        search: how labels are searched
    """

    format: Literal[("savedmodel", *FORMATS)] | None = None  # type: ignore[valid-type]
    quantize: Literal[QUANTIZED] | None = None  # type: ignore[valid-type]
    min_agreement: Annotated[Share | None, Option("SHARE")] = None
    output: Annotated[str | None, Option("FOLDER", mirror="writes")] = None
    serving: Annotated[str | None, Option("DIR")] = None
    version: Count | None = None
    k: int | None = None
    probabilities: bool = False
    step: Natural | None = None
    search: RankerOptions = RankerOptions()


def main(argv: Sequence[str] | None = None) -> int:
    """Exports one run."""
    options = parse(Options, argv, "export", __doc__)
    _check(options)
    from tfxc.runs.loaded import load_run

    search = SearchOptions(step=options.step, **dataclasses.asdict(options.search))
    loaded = load_run(options.run, options.trust, search)
    loaded.require_labels()
    form = options.format or formats_of(loaded)[0]
    check_quantize(options.quantize, form)
    folder = Path(options.output or loaded.folder.place(default_name(form, options.quantize)))
    k = default_k(loaded, options.probabilities) if options.k is None else options.k
    if options.serving:
        from tfxc.exports.serving_folder import export_for_serving

        target = (options.serving, options.version, k, options.probabilities)
        with as_option("k"):
            print(report(export_for_serving(loaded, *target), loaded.manifest))
        return 0
    least = MIN_AGREEMENT if options.min_agreement is None else options.min_agreement
    int8 = options.quantize is not None
    with as_option("k"):
        print(export(loaded, folder, form, k, options.probabilities, int8, least))
    return 0


def _check(options: Options) -> None:
    """Refuses what does not go together."""
    form = options.format or "savedmodel"
    if options.format or options.serving:
        check_quantize(options.quantize, form)
    if options.serving and (form != "savedmodel" or options.output):
        option = "--output" if options.output else f"--format {form}"
        raise ConfigError(
            f"it writes a SavedModel into a new folder, so {option} does not apply",
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
