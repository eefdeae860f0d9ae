"""Evaluate a run on a split of its data or on a file.

    tfxc evaluate --run RUN --split test
    tfxc evaluate --run RUN --data test.jsonl --compare RUN2
    tfxc evaluate --predictions P.npz --truth Y.tst.npz
    tfxc evaluate --run RUN --split dev --step 1200
    tfxc evaluate --run RUN --repetitions 0-7 --curve FOLDER

Prints a table of metrics and writes evaluation-NAME.json and evaluation-NAME.npz (per-example
values) into the run folder. With --compare, both runs are evaluated on the same examples and
compared by a paired bootstrap. With --json, the metrics are printed as JSON instead, all else on
standard error. With --tables, precision, recall and F1 are printed, and labels.csv
(all labels), confusions.csv (confused labels) and wrong.csv (wrong examples) are written.

With --predictions, a file of predictions is measured: a sparse matrix of scores that any program
has written (scipy.sparse.save_npz; a row per example, a column per label), whose entries are ranked
by value, or what predict --output writes (.npz, .jsonl, .csv, .parquet).
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core import cli
from tfxc.core.errors import ConfigError, number_spans
from tfxc.core.escaping import json_text

if TYPE_CHECKING:
    from tfxc.inference.searcher import Examples
    from tfxc.metrics.suite import MetricSuite
    from tfxc.reports.measurement import Measurement
    from tfxc.runs.loaded import LoadedRun

_OPTIONS_OF_PREDICTIONS = {
    "predictions",
    "truth",
    "train_labels",
    "propensity",
    "label_names",
    "reader",
    "reader_option",
    "k",
    "output",
    "json",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measures one run, or compares two; or measures a file of predictions."""
    parser = _parser()
    options = parser.parse_args(argv)
    _check_options(options, parser)
    with contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext():
        records = [_measure_predictions(options)] if options.predictions else _measure_runs(options)
    if options.json:
        print(json_text(records[0] if len(records) == 1 else records, indent=2))
    return 0


def _measure_runs(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures a run, or two; returns the records that are written."""
    from tfxc.inference.protocol import RankerModel
    from tfxc.metrics.bootstrap import paired_bootstrap
    from tfxc.reports.seen_penalty import check_run

    first = _load(options.run, options, options.step)
    second = _load(options.compare, options) if options.compare else None
    if options.calibrate or options.seen_penalty is not None:
        for run in [run for run in (first, second) if run]:
            if not (options.calibrate and isinstance(run.model, RankerModel)):
                check_run(run, "--calibrate" if options.calibrate else "--seen-penalty")
                continue
            for name in ("beam", "post_processor", "compare", "step"):
                if getattr(options, name) is not None:
                    raise ConfigError(
                        "a linear ranker is calibrated as it is used, by itself",
                        where=cli.option_of(name),
                        fix="leave it out, or leave --calibrate out",
                    )
    result = _measure(first, options)
    if second is None:
        return [result["record"]]
    first.release()
    options.tables = None  # tables and curve are those of the first run
    options.curve = None
    # In a common output folder the second run's files must not replace the first one's.
    compared = _measure(second, options, "-compared" if options.output else "")
    print(f"{first.folder.path} minus {second.folder.path}, 95 % interval of a paired bootstrap:")
    for name in _comparable(result, compared):
        test = paired_bootstrap(result["values"][name], compared["values"][name], seed=options.seed)
        factor, digits = (1, 4) if name.endswith("loss") else (100, 2)
        low, high = (f"{factor * test[end]:+.{digits}f}" for end in ("low", "high"))
        difference = f"{factor * test['difference']:+.{digits}f}"
        print(f"  {name:18} {difference:>6}  [{low}, {high}]  p = {test['p_value']:.4f}")
    return [result["record"], compared["record"]]


def _load(path: str, options: argparse.Namespace, step: int | None = None) -> "LoadedRun":
    """Returns a run of which the repetitions that count are known; before anything is measured."""
    from tfxc.runs.loaded import load_run

    loaded = load_run(path, options.trust, step)
    loaded.streamed = True
    if options.repetitions or (options.curve and path == options.run):
        print(f"{path}: {loaded.count_repetitions(options.repetitions)}")
    return loaded


def _check_options(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuses options that a run, or a file of predictions, has no use for."""
    if not options.predictions:
        for name in ("truth", "train_labels", "propensity", "label_names"):
            if getattr(options, name) is not None:
                raise ConfigError(
                    "this option is for --predictions, not for --run",
                    where=cli.option_of(name),
                    fix="leave it out",
                )
        return
    if options.truth is None:
        raise ConfigError(
            "--predictions are measured against true labels, and no file of them is given",
            where="--truth",
            fix="name it",
        )
    for name, value in vars(options).items():
        if name not in _OPTIONS_OF_PREDICTIONS and value != parser.get_default(name):
            raise ConfigError(
                "this option is for --run, not for --predictions",
                where=cli.option_of(name),
                fix="leave it out",
            )
    if options.propensity is not None and options.train_labels is None:
        raise ConfigError(
            "propensities are made of the training labels, and no file of them is given",
            where="--train-labels",
            fix="name it, or leave --propensity out",
        )


def _measure_predictions(options: argparse.Namespace) -> dict[str, Any]:
    """Measures a file of predictions, and prints and writes the results."""
    from tfxc.data.source_files import staged
    from tfxc.reports.predictions import KS, measure_predictions

    name = str(options.predictions)
    paths = {key: getattr(options, key) for key in ("predictions", "truth", "train_labels")}
    metrics, values = measure_predictions(
        **{key: path and staged(path, cli.option_of(key)) for key, path in paths.items()},
        ks=tuple(options.k or KS),
        propensity=options.propensity or "default",
        label_names=options.label_names,
        reader=options.reader,
        reader_options=dict(options.reader_option),
    )
    print(f"{name} against {options.truth}: {metrics.num_examples:,} examples")
    print(metrics.table())
    measured = {"run": None, "data": name}
    if options.output:
        return _write(Path(options.output), _file_name(name), measured, metrics, values)
    return _record(measured, metrics)


def _measure(loaded: "LoadedRun", options: argparse.Namespace, suffix: str = "") -> dict[str, Any]:
    """Measures a run, or a checkpoint of it; returns its per-example values."""
    from tfxc.inference.searcher import Agreement
    from tfxc.reports.measurement import Measurement, of_unknown_labels
    from tfxc.reports.repetition_curve import RepetitionCurve

    path = loaded.folder.path
    step = loaded.folder.step
    measurement = Measurement.of_options(options)
    measurement.set_search(loaded)
    if options.tables:
        loaded.require_counts("--tables")
    name, rows = measurement.examples(loaded)
    penalty = _set_penalty(loaded, options, measurement, rows)
    metrics = measurement.metrics(loaded)
    began = time.monotonic()
    decisions = measurement.decisions(loaded) if options.tables else None
    curve = RepetitionCurve(loaded, measurement) if options.curve else None
    compared = Agreement() if measurement.search == "approximate" else None
    values, unknown = measurement.update(loaded, rows, metrics, decisions, curve, compared)
    seconds = time.monotonic() - began
    of_them = f", {of_unknown_labels(unknown, loaded)}" if unknown else ""
    at = "" if step is None else f" at step {step:,}"
    print(f"{path}{at} on {name}: {metrics.num_examples:,} examples{of_them}")
    print(metrics.table())
    if compared:
        print(f"approximate search: {compared}")
    print(f"{seconds:,.1f} s, {metrics.num_examples / max(seconds, 1e-3):,.0f} examples per second")
    folder = Path(options.output or path)
    # Of some repetitions only, it is another evaluation.
    all_count = loaded.counted is None or len(loaded.counted) == loaded.model.head.num_repetitions
    counted = None if all_count else loaded.counted
    record: dict[str, Any] = {"run": str(path), "data": name, "step": step, "repetitions": counted}
    record |= compared.record() if compared else {}
    record |= {} if penalty is None else {"seen_penalty": penalty}
    file_name = _file_name(name, step, counted, penalty) + suffix
    record = _write(folder, file_name, record, metrics, values)
    if decisions:
        wanted = {row for row, *_ in decisions.per_label.wrong}
        texts = measurement.texts(loaded, name, wanted)
        print(decisions.write(options.tables, loaded, texts))
    if curve:
        print(curve.write(Path(options.curve)))
    return {"values": values, "support": metrics.support(), "record": record}


def _set_penalty(
    loaded: "LoadedRun", options: argparse.Namespace, measurement: "Measurement", rows: "Examples"
) -> float | None:
    """Gives the loaded model the penalty of the options; returns it, or None for the run's.

    A linear ranker has none; it gets a calibration, which the run keeps.
    """
    from tfxc.inference.protocol import RankerModel
    from tfxc.reports.seen_penalty import calibrate_penalty
    from tfxc.runs.calibrated import calibrate_ranker

    if not options.calibrate:
        if options.seen_penalty is not None:
            loaded.model.head.penalty.assign(options.seen_penalty)
        return options.seen_penalty
    excluded = measurement.excluded(loaded, rows)
    if isinstance(loaded.model, RankerModel):
        print(calibrate_ranker(loaded, rows, measurement.batch_size_for(loaded), excluded))
        return None
    chosen = calibrate_penalty(loaded, rows, measurement.batch_size_for(loaded), excluded)
    print(chosen)
    return chosen.penalty


def _write(
    folder: Path,
    name: str,
    measured: dict[str, Any],
    metrics: "MetricSuite",
    values: Mapping[str, Any],
) -> dict[str, Any]:
    import numpy as np

    from tfxc.core.storage.files import atomic_files, write_json

    record = _record(measured, metrics)
    with atomic_files(folder) as scratch:
        write_json(scratch / f"{name}.json", record)
        np.savez_compressed(scratch / f"{name}.npz", **values)
    print(f"written: {folder / name}.json and .npz (per example)")
    return record


def _record(measured: dict[str, Any], metrics: "MetricSuite") -> dict[str, Any]:
    """Returns what was measured and the results, as a file or a program reads them."""
    return {**measured, "examples": metrics.num_examples, "metrics": metrics.known_values()}


def _file_name(
    name: str,
    step: int | None = None,
    counted: list[int] | None = None,
    penalty: float | None = None,
) -> str:
    plain = "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(name).name)
    at = "" if step is None else f"-step-{step}"
    # 0-2 are three repetitions, 0_2 are two.
    some = "" if counted is None else f"-repetitions-{number_spans(counted).replace(', ', '_')}"
    with_penalty = "" if penalty is None else f"-seen-penalty-{penalty:g}"
    return f"evaluation-{plain}{at}{some}{with_penalty}"


def _comparable(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Names both runs have values of: cut-offs may differ, a slice of labels may be empty.

    Slices use each run's own training set; where they are not the same they do not compare.
    """
    import numpy as np

    names = []
    for name in [name for name in first["values"] if name in second["values"]]:
        here, there = (np.isnan(run["values"][name]) for run in (first, second))
        slices_differ = "/" in name and here.shape == there.shape and (here != there).any()
        if not slices_differ and (first["support"][name] or second["support"][name]):
            names.append(name)
    return names


def _parser() -> argparse.ArgumentParser:
    from tfxc.labels.propensity_constants import DATASET_CONSTANTS

    options: Any = cli.parser("evaluate", __doc__)
    options.remote = (*options.remote, "predictions", "truth", "train_labels")
    cli.add_trust_option(options)
    subject = options.add_mutually_exclusive_group(required=True)
    subject.add_argument("--run", metavar="RUN", help="run folder")
    subject.add_argument(
        "--predictions",
        metavar="FILE",
        help="measure this file of predictions (.npz, .jsonl, .csv, .parquet) instead of a run",
    )
    options.add_argument(
        "--truth",
        metavar="FILE",
        help="true labels of the examples of --predictions: a matrix (.npz) or a data file",
    )
    options.add_argument(
        "--train-labels",
        metavar="FILE",
        help="labels of the training examples, in a file as --truth, from which propensity-scored "
        "metrics, slices and coverage of --predictions are computed (default: without these)",
    )
    options.add_argument(
        "--label-names",
        metavar="FILE",
        help="names of the columns of matrices with --predictions, one per line, e.g. "
        "RUN/assets/labels.txt (default: numbers from 0)",
    )
    options.add_argument(
        "--propensity",
        choices=sorted(DATASET_CONSTANTS),
        help="constants of the propensity model with --train-labels (default: default)",
    )
    cli.add_step_option(options)
    cli.add_measurement_options(options)
    options.add_argument(
        "--repetitions",
        type=cli.spans,
        metavar="NUMBERS",
        help="score labels by these repetitions of a hashed head, e.g. 0-7 (default: by all)",
    )
    options.add_argument(
        "--curve",
        metavar="FOLDER",
        help="print P@k over the number of repetitions of a hashed head, and write it to "
        "repetitions.csv and repetitions.svg in this folder",
    )
    penalty = options.add_mutually_exclusive_group()
    penalty.add_argument(
        "--calibrate",
        action="store_true",
        help="learn the probabilities of a linear ranker from these examples, and keep them in "
        "the run; with head label_text, choose the head.seen_penalty that is best on these "
        "examples and measure with it: the run stays as it is, and the files have the penalty in "
        "their names",
    )
    penalty.add_argument(
        "--seen-penalty",
        type=_penalty,
        metavar="PENALTY",
        help="with head label_text, measure with this head.seen_penalty, from -2 to 2, instead of "
        "the run's (with --compare, of both runs'); the run stays as it is",
    )
    options.add_argument(
        "--compare", metavar="RUN2", help="second run, to evaluate on the same examples and compare"
    )
    options.add_argument(
        "--output",
        metavar="FOLDER",
        help="folder to write to (default: RUN; with --predictions, nothing is written)",
    )
    options.add_argument(
        "--seed", type=cli.seed, default=0, help="seed of the bootstrap of --compare (default: 0)"
    )
    options.add_argument(
        "--tables",
        metavar="FOLDER",
        help="write labels.csv, confusions.csv and wrong.csv into this folder, and print "
        "precision, recall and F1",
    )
    cli.add_table_options(options)
    options.add_argument("--json", action="store_true", help="print the metrics as JSON")
    return options


def _penalty(text: str) -> float:
    penalty = cli.number(text)
    if not -2 <= penalty <= 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not between -2 and 2")
    return penalty
