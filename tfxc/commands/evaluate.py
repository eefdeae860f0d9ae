"""Evaluate a run on a split of its data or on a file.

    tfxc evaluate --run RUN --split test
    tfxc evaluate --run RUN --data test.jsonl --compare RUN2
    tfxc evaluate --predictions P.npz --truth Y.tst.npz
    tfxc evaluate --run RUN --split dev --step 1200
    tfxc evaluate --run RUN --repetitions 0-7 --curve FOLDER

Prints a table of metrics and writes evaluation-NAME.json and evaluation-NAME.npz (per-example
values) into the run folder. With --json, the metrics are printed as JSON instead, and everything
else on standard error.

A run that was trained on all examples, after some were held out, has no dev split any more: the
figures of its training are printed, or name examples with --data.

With --compare, both runs are evaluated on the same examples and compared by a paired bootstrap.
With --tables, precision, recall and F1 are printed, and labels.csv (all labels), confusions.csv
(confused labels) and wrong.csv (wrong examples) are written.

With --predictions, the command measures a file of predictions instead. It is either what predict
--output writes (.npz, .jsonl, .csv, .parquet), or a sparse matrix of scores from any program
(scipy.sparse.save_npz; a row per example, a column per label), whose entries are ranked by value.
"""

import contextlib
import dataclasses
import functools
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tfxc.core.bounds import Natural, Option
from tfxc.core.command_options import given, parse, refuse
from tfxc.core.errors import ConfigError, number_spans, option_of
from tfxc.core.escaping import json_text
from tfxc.core.shared_options import TrustOption
from tfxc.inference.search_options import SearchOptions
from tfxc.labels.propensity_constants import DATASET_CONSTANTS
from tfxc.reports.measurement import Measurement

if TYPE_CHECKING:
    from tfxc.metrics.suite import MetricSuite
    from tfxc.runs.loaded import LoadedRun


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictionsOptions:
    """A file of predictions that is measured instead of a run.

    Attributes:
        truth: true labels of the examples of --predictions: a matrix (.npz) or a data file.
        train_labels: labels of the training examples, in a file like that of --truth, for
            propensity-scored metrics, slices and coverage of --predictions; None means without
            these.
        label_names: file with the names of the matrices' columns, one per line, e.g.
            RUN/assets/labels.txt; None means numbers from 0.
        propensity: constants of the propensity model with --train-labels; None means default.
    """

    truth: Annotated[str | None, Option("FILE", remote=True)] = None
    train_labels: Annotated[str | None, Option("FILE", remote=True)] = None
    label_names: Annotated[str | None, Option("FILE")] = None
    propensity: Literal[tuple(sorted(DATASET_CONSTANTS))] | None = None  # type: ignore[valid-type]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(TrustOption):
    """Options of ``tfxc evaluate``.

    Attributes:
        run: run folder.
        predictions: measure this file of predictions (.npz, .jsonl, .csv, .parquet) instead of a
            run.
        compare: second run to evaluate on the same examples and compare.
        seed: seed of the bootstrap of --compare.
        output: folder to write to; None means RUN; with --predictions, write nothing.
        json: print the metrics as JSON.
        tables: write labels.csv, confusions.csv and wrong.csv into this folder, and print
            precision, recall and F1.
        curve: print P@k for each number of repetitions of a hashed head, and write it to
            repetitions.csv and repetitions.svg in this folder.
        calibrate: with head label_text, measure with the head.seen_penalty that is best on these
            examples, which becomes part of the files' names while the run stays as it is.
        measurement: what is measured, and on what
        search: how labels are searched
        of_predictions: with --predictions
    """

    run: Annotated[
        str | None,
        Option("RUN", name="--run", positional=True, excludes="subject!", mirror="reads"),
    ] = None
    predictions: Annotated[str | None, Option("FILE", excludes="subject!", remote=True)] = None
    compare: Annotated[str | None, Option("RUN2")] = None
    seed: Natural = 0
    output: Annotated[str | None, Option("FOLDER", mirror="writes")] = None
    json: bool = False
    tables: Annotated[str | None, Option("FOLDER")] = None
    curve: Annotated[str | None, Option("FOLDER")] = None
    calibrate: bool = False
    measurement: Measurement = Measurement()
    search: SearchOptions = SearchOptions()
    of_predictions: PredictionsOptions = PredictionsOptions()


# Options of the search with which an evaluation is another one, with files of its own.
_OTHER_SEARCH = ("beam", "post_processor", "search_buckets", "search_min_count")
_FOR_PREDICTIONS = {
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
    options = parse(Options, argv, "evaluate", __doc__)
    _check_options(options)
    with contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext():
        records = [_measure_predictions(options)] if options.predictions else _measure_runs(options)
    if options.json:
        print(json_text(records[0] if len(records) == 1 else records, indent=2))
    return 0


def _measure_runs(options: Options) -> list[dict[str, Any]]:
    """Measures a run, or two; returns the records that are written."""
    from tfxc.metrics.bootstrap import paired_bootstrap
    from tfxc.reports.seen_penalty import check_run
    from tfxc.runs.loaded import load_run

    assert options.run is not None, "a run or predictions are given"
    search = dataclasses.replace(options.search, streamed=True)
    for_curve = search
    if options.curve and search.repetitions is None:
        for_curve = dataclasses.replace(search, repetitions=())  # those that are trained
    first = load_run(options.run, options.trust, for_curve)
    second = None
    if options.compare:
        # A step is one of the first run.
        second = load_run(options.compare, options.trust, dataclasses.replace(search, step=None))
    if (figures := _held_out_figures(first, options)) is not None:
        return [figures]
    runs = [first] if second is None else [first, second]
    for run in runs:  # before anything is measured
        if run.counted is not None:
            print(f"{run.folder.path}: {run.count_of_repetitions()}")
    if options.calibrate:
        if search.seen_penalty is not None:
            raise ConfigError(
                "--calibrate chooses the penalty",
                where="--seen-penalty",
                fix="leave one of the two out",
            )
        for run in runs:
            check_run(run, "--calibrate")
    result = _measure(first, options)
    if second is None:
        return [result["record"]]
    first.release()
    # Tables and curve are those of the first run, and so are the rows of a file.
    same_rows = options.measurement.same_rows_as(first)
    options = dataclasses.replace(options, tables=None, curve=None, measurement=same_rows)
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


def _held_out_figures(loaded: "LoadedRun", options: Options) -> dict[str, Any] | None:
    """Prints and returns what a run's training measured on examples that were held out.

    None where other examples, or more than these figures, are asked for.
    """
    summary = loaded.folder.summary() or {}
    if "refit" not in summary or {*given(options)} - {"run", "split", "json", "trust", "prepared"}:
        return None
    splits = loaded.manifest["splits"]
    if options.measurement.split not in (None, "dev") or "test" in splits:
        return None
    metrics = summary["dev"]
    count = summary["dev_examples"]
    path = loaded.folder.path
    print(f"{path} on dev: {count:,} examples that were held out, measured before it was trained")
    width = max(map(len, metrics), default=0)
    for name, value in metrics.items():
        shown = f"{value:.4f}" if name.endswith("loss") else f"{100 * value:6.2f}"
        low, high = summary.get("dev_interval", {}).get(name, (None, None))
        interval = "" if low is None else f" ({100 * low:.1f} to {100 * high:.1f})"
        print(f"{name:{width}} {shown}{interval}")
    return {"run": str(path), "data": "dev", "examples": count, "metrics": metrics}


def _check_options(options: Options) -> None:
    """Refuses options that a run, or a file of predictions, has no use for."""
    of_predictions = options.of_predictions
    if not options.predictions:
        names = ("truth", "train_labels", "propensity", "label_names")
        refuse(options, names, "this option is for --predictions, not for --run")
        return
    if of_predictions.truth is None:
        raise ConfigError(
            "--predictions needs a file of true labels",
            where="--truth",
            fix="name that file with --truth",
        )
    for name in given(options):
        if name not in _FOR_PREDICTIONS and name != "run":
            raise ConfigError(
                "this option is for --run, not for --predictions",
                where=option_of(name),
                fix="leave it out",
            )
    if of_predictions.propensity is not None and of_predictions.train_labels is None:
        raise ConfigError(
            "--propensity needs a file of the training labels",
            where="--train-labels",
            fix="name that file with --train-labels, or leave --propensity out",
        )


def _measure_predictions(options: Options) -> dict[str, Any]:
    """Measures a file of predictions, and prints and writes the results."""
    from tfxc.data.reading.source_files import staged
    from tfxc.reports.predictions import KS, measure_predictions

    name = str(options.predictions)
    labels = options.of_predictions
    assert labels.truth is not None, "``_check_options`` has asked for it"
    train_labels = labels.train_labels
    metrics, values = measure_predictions(
        predictions=staged(name, "--predictions"),
        truth=staged(labels.truth, "--truth"),
        train_labels=train_labels and staged(train_labels, "--train-labels"),
        ks=tuple(options.measurement.k or KS),
        propensity=labels.propensity or "default",
        label_names=labels.label_names,
        reader=options.measurement.reader,
        reader_options=options.measurement.reader_options,
    )
    print(f"{name} against {labels.truth}: {metrics.num_examples:,} examples")
    print(metrics.table())
    measured = {"run": None, "data": name}
    if options.output:
        return _write(Path(options.output), _file_name(name), measured, metrics, values)
    return _record(measured, metrics)


def _measure(loaded: "LoadedRun", options: Options, suffix: str = "") -> dict[str, Any]:
    """Measures a run, or a checkpoint of it; returns its per-example values."""
    from tfxc.inference.searcher import Agreement
    from tfxc.reports.measurement import of_unknown_labels
    from tfxc.reports.repetition_curve import RepetitionCurve
    from tfxc.reports.seen_penalty import calibrate_penalty

    path = loaded.folder.path
    step = loaded.options.step
    measurement = options.measurement
    if options.tables:
        loaded.require_counts("--tables")
    name, rows = measurement.examples(loaded)
    if options.calibrate:
        excluded = measurement.excluded(loaded, rows)
        chosen = calibrate_penalty(loaded, rows, measurement.batch_size_for(loaded), excluded)
        print(chosen)
        loaded.release()
        loaded = loaded.with_options(seen_penalty=chosen.penalty)
    penalty = loaded.options.seen_penalty
    metrics = measurement.metrics(loaded)
    began = time.monotonic()
    decisions = measurement.decisions(loaded) if options.tables else None
    curve = None
    if options.curve:
        curve = RepetitionCurve(loaded, functools.partial(measurement.metrics, loaded))
    compared = Agreement() if loaded.options.search == "approximate" else None
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
    # So it is with labels that are searched otherwise than the run says.
    search = {name: getattr(loaded.options, name) for name in _OTHER_SEARCH}
    search = {name: value for name, value in search.items() if value is not None}
    record |= search
    parts = ["-approximate"] if compared else []
    parts += [f"-{name.replace('_', '-')}-{value}" for name, value in search.items()]
    file_name = _file_name(name, step, counted, penalty) + "".join(parts) + suffix
    record = _write(folder, file_name, record, metrics, values)
    if decisions:
        assert options.tables is not None
        wanted = {row for row, *_ in decisions.per_label.wrong}
        texts = measurement.texts(loaded, name, wanted)
        print(decisions.write(options.tables, loaded, texts))
    if curve:
        assert options.curve is not None
        print(curve.write(Path(options.curve)))
    return {"values": values, "support": metrics.support(), "record": record}


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
