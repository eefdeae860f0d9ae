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

With --predictions, a sparse matrix of scores is measured that any program has written
(scipy.sparse.save_npz; a row per example, a column per label): its entries are ranked by value.
"""

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core import cli
from tfxc.core.errors import ConfigError, DataError, number_spans
from tfxc.core.escaping import json_text
from tfxc.core.progress import Progress
from tfxc.core.settings import MAX_LINE_BYTES

_OF_PREDICTIONS = {"predictions", "truth", "train_labels", "propensity", "k", "output", "json"}

if TYPE_CHECKING:
    import argparse

    import numpy as np

    from tfxc.data.formats.base import Reader
    from tfxc.inference.searcher import Examples
    from tfxc.metrics.classification import Decision
    from tfxc.metrics.suite import MetricSuite
    from tfxc.reports.decisions import Decisions
    from tfxc.runs.loaded import LoadedRun


def main(argv: Sequence[str] | None = None) -> int:
    """Measures one run, or compares two; or measures a matrix of predictions."""
    parser = _parser()
    options = parser.parse_args(argv)
    _check_options(options, parser)
    with contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext():
        records = _measured(options)
    if options.json:
        print(json_text(records[0] if len(records) == 1 else records, indent=2))
    return 0


def _measured(options):
    """Measures what the options name; returns the records that are written."""
    if options.predictions:
        return [_measure_predictions(options)]
    if options.curve:
        from tfxc.reports.plots import pyplot

        pyplot("leave --curve out")  # before anything is measured
    loaded = _load(options.run, options, options.step)
    other = _load(options.compare, options) if options.compare else None
    result = measure(loaded, options)
    if other:
        # In a common output folder the second run's files must not replace the first one's.
        options.tables = options.curve = None  # they are of the first run
        compared = measure(other, options, "-compared" if options.output else "")
        print(_comparison(result, compared, options))
        return [result["record"], compared["record"]]
    return [result["record"]]


def _load(path, options, step=None):
    """A run of which the repetitions that count are known; before anything is measured."""
    from tfxc.runs.loaded import load_run

    loaded = load_run(path, options.trust, step)
    if options.repetitions or (options.curve and path == options.run):
        print(f"{path}: {loaded.count_repetitions(options.repetitions)}")
    return loaded


def _check_options(options, parser):
    """Refuses options that a run, or a matrix of predictions, has no use for."""
    if not options.predictions:
        for name in ("truth", "train_labels", "propensity"):
            if getattr(options, name) is not None:
                raise ConfigError(
                    "--predictions expected with this option, found --run",
                    where=cli.option_of(name),
                    fix="leave it out",
                )
        return
    if options.truth is None:
        raise ConfigError(
            "the file of the true labels expected with --predictions, found none",
            where="--truth",
            fix="name it",
        )
    for name, value in vars(options).items():
        if name not in _OF_PREDICTIONS and value != parser.get_default(name):
            raise ConfigError(
                "a run expected with this option, found --predictions",
                where=cli.option_of(name),
                fix="leave it out",
            )
    if options.propensity is not None and options.train_labels is None:
        raise ConfigError(
            "the file of the training labels expected with --propensity, found none",
            where="--train-labels",
            fix="name it, or leave --propensity out",
        )


def _measure_predictions(options):
    """Measures a matrix of predictions, and prints and writes what was found."""
    from tfxc.reports.predictions import KS, measure_predictions

    name = str(options.predictions)
    metrics, values = measure_predictions(
        options.predictions,
        options.truth,
        ks=tuple(options.k or KS),
        train_labels=options.train_labels,
        propensity=options.propensity or "default",
    )
    print(f"{name} against {options.truth}: {metrics.num_examples:,} examples")
    print(metrics.table())
    measured = {"run": None, "data": name}
    if options.output:
        return _write(Path(options.output), _file_name(name), measured, metrics, values)
    return _record(measured, metrics)


def measure(loaded: "LoadedRun", options: "argparse.Namespace", suffix: str = "") -> dict[str, Any]:
    """Measures a run, or a checkpoint of it; returns its per-example values."""
    path, step = loaded.folder.path, loaded.folder.step
    loaded.search_with(options.beam, options.post_processor)
    loaded.approximate_with(options.search, options.search_buckets, options.search_min_count)
    if options.tables:
        loaded.require_counts("--tables")
    name, rows = examples(loaded, options)
    metrics, began = build_metrics(loaded, options), time.monotonic()
    decisions = decisions_of(loaded, options) if options.tables else None
    values, unseen = search(loaded, rows, metrics, options, decisions)
    seconds = time.monotonic() - began
    unknown = f", {unseen:,} of their labels are unknown to the run" if unseen else ""
    at = "" if step is None else f" at step {step:,}"
    print(f"{path}{at} on {name}: {metrics.num_examples:,} examples{unknown}")
    print(metrics.table())
    print(f"{seconds:,.1f} s, {metrics.num_examples / max(seconds, 1e-3):,.0f} examples per second")
    folder = Path(options.output or path)
    counted = loaded.counted if _counts_some(loaded) else None
    record = {"run": str(path), "data": name, "step": step, "repetitions": counted}
    record = _write(folder, _file_name(name, step, counted) + suffix, record, metrics, values)
    if decisions:
        wanted = {row for row, *_ in decisions.found.wrong}
        texts = texts_of_examples(loaded, options, name, wanted)
        print(decisions.write(options.tables, loaded, texts))
    if options.curve:
        _write_curve(loaded, options)
    return {"path": path, "values": values, "support": metrics.support(), "record": record}


def _counts_some(loaded):
    """Whether labels are scored by some repetitions only, so that it is another evaluation."""
    return loaded.counted is not None and len(loaded.counted) < loaded.model.head.num_repetitions


def build_metrics(loaded: "LoadedRun", options: "argparse.Namespace") -> "MetricSuite":
    """The metric suite a run is measured by."""
    from tfxc.metrics import suite
    from tfxc.training.evaluation import classification_of

    settings, splits = loaded.config.evaluation, loaded.manifest["splits"]
    num_labels = loaded.manifest["num_labels"]
    # As in training, a config's cut-offs that a small label set has not are left out.
    ks = options.k or [k for k in settings.k if k <= num_labels]
    too_large = [k for k in ks if k > num_labels]
    if too_large:
        raise ConfigError(
            f"at most {num_labels} (the run's labels) expected, found {too_large[0]}",
            where="--k",
            fix=f"choose k up to {num_labels}",
        )
    counts = loaded.label_counts
    return suite.build_metrics(
        ks=tuple(ks),
        label_counts=counts,
        num_train_examples=None if counts is None else splits["train"]["examples"],
        propensity=settings.propensity,
        full_loss=_full_loss(loaded, options),
        classification=classification_of(
            decision(loaded, options),
            loaded.single_label,
            num_labels,
            loaded.vocabulary.names if num_labels == 2 else (),
        ),
    )


def decision(loaded: "LoadedRun", options: "argparse.Namespace") -> "Decision":
    """The rule by which a run's labels count as predicted."""
    from tfxc.training.evaluation import decision_of

    given = loaded.config.evaluation.threshold
    given = given if options.threshold is None else options.threshold
    return decision_of(loaded.model, loaded.single_label, given)


def _full_loss(loaded, options):
    """Whether the loss over all labels is measured."""
    from tfxc.training.evaluation import measures_full_loss

    return options.full_loss or measures_full_loss(loaded.config.evaluation, loaded.model)


def decisions_of(loaded: "LoadedRun", options: "argparse.Namespace") -> "Decisions":
    """``Decisions`` of a run, to be updated by ``search``."""
    from tfxc.reports.decisions import Decisions

    return Decisions(decision(loaded, options), loaded.vocabulary.names, options.max_wrong)


def examples(loaded: "LoadedRun", options: "argparse.Namespace") -> "tuple[str, Examples]":
    """What ``add_source_options`` chose: a name, and the examples to search."""
    if options.data:
        return str(options.data), _rows_of_file(loaded, options.data, options)
    if options.features:
        raise ConfigError(
            "a file of examples expected with this option, found a split",
            where="--features",
            fix="name the file with --data; a split has its own features",
        )
    from tfxc.data.manifest import Manifest
    from tfxc.data.preparation import ensure_prepared
    from tfxc.data.sources.shards import open_source

    folder = ensure_prepared(loaded.config.data, options.prepared)
    splits = loaded.manifest["splits"]
    split = options.split or next(s for s in ("test", "dev", "train") if s in splits)
    if split not in splits:
        raise ConfigError(
            f"a split of the data expected, found {split!r}",
            where="--split",
            fix=f"choose one of: {', '.join(splits)}",
        )
    if Manifest.load(folder).num_labels != loaded.manifest["num_labels"]:
        raise ConfigError(
            "a run without added labels expected, found one to which labels were added",
            where="--split",
            fix="name a file with --data",
        )
    loaded.folder.check_data(folder, {"labels", "text features", f"records of {split}"})
    return split, open_source(folder, split)


def _rows_of_file(loaded, path, options):
    from tfxc.data.sources.base import RowStream

    return RowStream(loaded.rows(reader_of_file(loaded, path, options)))


def reader_of_file(
    loaded: "LoadedRun", path: str | Path, options: "argparse.Namespace"
) -> "Reader":
    """The reader of a file, as the options and the run's own data say."""
    from tfxc.data.formats import open_reader
    from tfxc.data.given_features import with_features

    data, name, arguments = loaded.config.data, options.reader, {}
    # What was said about the training file says nothing about a file of another format.
    longest = MAX_LINE_BYTES
    if name is None and _ending(path) == _ending(data.train):
        name, arguments, longest = data.reader, data.reader_options, data.max_line_bytes
    arguments = {**arguments, **dict(options.reader_option)}
    reader = open_reader(path, name=name, longest_line=longest, **arguments)
    return with_features(reader, options.features, loaded.input_kind)


def texts_of_examples(
    loaded: "LoadedRun", options: "argparse.Namespace", split: str, wanted: set[int]
) -> dict[int, str]:
    """{example: text} of examples of what ``examples`` chose, where they are texts."""
    from tfxc.data.held_out import open_split
    from tfxc.reports.texts import texts_of

    if loaded.text_features is None or (split == "train" and not options.data):
        return {}  # the training split is shuffled
    if options.data:
        return texts_of(lambda: reader_of_file(loaded, options.data, options), wanted)
    return texts_of(lambda: open_split(loaded.config.data, split), wanted)


def _ending(path):
    plain = Path(path)
    return Path(plain.stem).suffix if plain.suffix in (".gz", ".xz") else plain.suffix


def search(
    loaded: "LoadedRun",
    rows: "Examples",
    metrics: "MetricSuite",
    options: "argparse.Namespace",
    decisions: "Decisions | None" = None,
) -> "tuple[dict[str, np.ndarray], int]":
    """Finds the labels of examples; updates ``metrics`` and ``decisions``.

    Args:
        loaded: ``LoadedRun``.
        rows: of the examples, see ``examples``.
        metrics: ``MetricSuite``.
        options: of ``add_source_options`` and ``add_table_options``.
        decisions: ``Decisions``, or None.

    Returns:
        {name: per-example values}, and the number of unseen labels.

    Raises:
        DataError: there is no example.
    """
    import numpy as np

    from tfxc.inference.searcher import Searcher

    full_loss = "full_loss" in metrics.names
    num_labels = loaded.manifest["num_labels"]
    rule = decisions.decision if decisions else metrics.decision
    count = rule.depth(metrics.min_predictions, num_labels, options.labels)
    probabilities = decisions is not None and rule.probabilities
    searcher = Searcher(loaded.model, count, options.search, full_loss, probabilities)
    batch_size = options.batch_size or loaded.config.evaluation.batch_size
    parts, unseen = [], 0
    for found in searcher.over(rows, batch_size, "evaluating"):
        metrics.update(*found)
        parts.append(metrics.per_example(*found))
        if decisions:
            decisions.update(found)
        unseen += int(np.count_nonzero(found.labels >= num_labels))
    if not parts:
        raise DataError(
            "at least one example to evaluate expected, found none",
            where=options.data or options.split,
            fix="check the file and the reader's options",
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, unseen


def _write(folder, name, measured, metrics, values):
    import numpy as np

    from tfxc.core.storage.files import atomic_files, write_json

    record = _record(measured, metrics)
    with atomic_files(folder) as scratch:
        write_json(scratch / f"{name}.json", record)
        np.savez_compressed(scratch / f"{name}.npz", **values)
    print(f"written: {folder / name}.json and .npz (per example)")
    return record


def _record(measured, metrics):
    """What was measured and the results, as a file or a program reads them."""
    return {
        **measured,
        "examples": metrics.num_examples,
        "metrics": metrics.known_values(),
    }


def _write_curve(loaded, options):
    """Prints P@k over the number of repetitions, and writes table and picture."""
    from tfxc.core.storage.files import atomic_files
    from tfxc.reports.plots import curve_of_repetitions
    from tfxc.reports.tables import write_csv

    _, rows = examples(loaded, options)
    head = loaded.model.head
    suites = [build_metrics(loaded, options) for _ in head.counted]
    batch_size = options.batch_size or loaded.config.evaluation.batch_size
    with Progress("repetitions one by one", rows.num_examples, "examples") as progress:
        for batch in rows.sequential(batch_size):
            scores = loaded.model.search_scores(batch["features"])
            for count, suite in enumerate(suites, start=1):
                method = options.search or head.search_methods[0]
                found = head.search_top_k(scores, suite.min_predictions, method, most=count)
                suite.update(*found, batch["labels"])
            progress.advance(len(batch["labels"]))
    names = [name for name in suites[0].names if name.startswith("P@") and "/" not in name]
    results = [suite.result() for suite in suites]
    table = [(r, *(found[name] for name in names)) for r, found in enumerate(results, start=1)]
    columns = ("repetitions", *names)
    with atomic_files(Path(options.curve)) as scratch:
        write_csv(scratch / "repetitions.csv", columns, table)
        curve_of_repetitions(columns, table, scratch / "repetitions.png")
    print("  ".join(f"{name:>7}" for name in columns))
    for count, *values in table:
        print("  ".join([f"{count:11}", *(f"{100 * value:7.2f}" for value in values)]))
    print(f"written: {Path(options.curve) / 'repetitions'}.csv and .png")


def _file_name(name, step=None, counted=None):
    plain = "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(name).name)
    at = "" if step is None else f"-step-{step}"
    # 0-2 are three repetitions, 0_2 are two.
    some = "" if counted is None else f"-repetitions-{number_spans(counted).replace(', ', '_')}"
    return f"evaluation-{plain}{at}{some}"


def _comparison(one, other, options):
    from tfxc.metrics.bootstrap import paired_bootstrap

    lines = [f"{one['path']} minus {other['path']}, 95 % interval of a paired bootstrap:"]
    for name in _comparable(one, other):
        found = paired_bootstrap(one["values"][name], other["values"][name], seed=options.seed)
        factor, digits = (1, 4) if name.endswith("loss") else (100, 2)
        low, high = (f"{factor * found[end]:+.{digits}f}" for end in ("low", "high"))
        difference = f"{factor * found['difference']:+.{digits}f}"
        lines.append(f"  {name:18} {difference:>6}  [{low}, {high}]  p = {found['p_value']:.4f}")
    return "\n".join(lines)


def _comparable(one, other):
    """Names both runs have values of: cut-offs may differ, a slice of labels may be empty.

    Slices use each run's own training set; where they are not the same they do not compare.
    """
    import numpy as np

    names = []
    for name in [name for name in one["values"] if name in other["values"]]:
        here, there = (np.isnan(run["values"][name]) for run in (one, other))
        other_slice = "/" in name and here.shape == there.shape and (here != there).any()
        if not other_slice and (one["support"][name] or other["support"][name]):
            names.append(name)
    return names


def _parser():
    options = cli.parser("evaluate", __doc__)
    cli.add_trust_option(options)
    measured = options.add_mutually_exclusive_group(required=True)
    measured.add_argument("--run", metavar="RUN", help="run folder")
    measured.add_argument(
        "--predictions", metavar="MATRIX", help="scores of predicted labels (.npz) instead of a run"
    )
    _add_prediction_options(options)
    cli.add_step_option(options)
    add_source_options(options)
    options.add_argument(
        "--repetitions",
        type=cli.spans,
        metavar="NUMBERS",
        help="repetitions of a hashed head to score labels by, e.g. 0-7 (default: all)",
    )
    options.add_argument(
        "--curve",
        metavar="FOLDER",
        help="folder for repetitions.csv and repetitions.png: P@k over the number of repetitions, "
        "which is also printed",
    )
    options.add_argument("--compare", metavar="RUN2", help="run to compare with")
    options.add_argument(
        "--output",
        metavar="FOLDER",
        help="folder to write to (default: RUN; nothing is written of --predictions)",
    )
    options.add_argument(
        "--seed", type=cli.seed, default=0, help="seed of the bootstrap (default: 0)"
    )
    options.add_argument(
        "--tables",
        metavar="FOLDER",
        help="folder for labels.csv, confusions.csv and wrong.csv; also print precision, recall "
        "and F1",
    )
    add_table_options(options)
    options.add_argument("--json", action="store_true", help="print the metrics as JSON")
    return options


def _add_prediction_options(options):
    """Options of a matrix of predictions."""
    from tfxc.labels.propensity import DATASET_CONSTANTS

    options.add_argument(
        "--truth", metavar="MATRIX", help="true labels (.npz) of the examples of --predictions"
    )
    options.add_argument(
        "--train-labels",
        metavar="MATRIX",
        help="training labels (.npz), for propensity-scored metrics, slices and coverage of "
        "--predictions (default: none of these)",
    )
    options.add_argument(
        "--propensity",
        choices=sorted(DATASET_CONSTANTS),
        help="constants of the propensity model with --train-labels (default: default)",
    )


def add_table_options(options: "argparse.ArgumentParser") -> None:
    """Options of the tables of labels and wrong examples."""
    options.add_argument(
        "--labels",
        type=cli.positive,
        default=100,
        help="labels searched per example if there is a threshold (default: %(default)s)",
    )
    options.add_argument(
        "--max-wrong",
        type=cli.positive,
        default=10_000,
        help="largest number of wrong examples in the tables, highest scores first "
        "(default: %(default)s)",
    )


def source_options(**given: Any) -> "argparse.Namespace":
    """The options of ``add_source_options`` and ``add_table_options``, as without any arguments.

    Args:
        given: the values of some of them, by name.
    """
    options = cli.parser("evaluate", "")
    add_source_options(options)
    add_table_options(options)
    found = options.parse_args([])
    vars(found).update(given)
    return found


def add_source_options(options: "argparse.ArgumentParser") -> None:
    """Options that say which examples are measured, and by what."""
    source = options.add_mutually_exclusive_group()
    source.add_argument("--split", help="split of the run's data (default: test, else dev)")
    source.add_argument("--data", metavar="FILE", help="readable data file instead of a split")
    cli.add_reader_options(options, "format of FILE (default: by its name)", "label_separator=,")
    cli.add_features_option(options)
    options.add_argument("--k", type=_ks, help="cut-offs, e.g. 1,3,5 (default: the config's)")
    options.add_argument(
        "--threshold",
        type=cli.number,
        help="lowest score of a predicted label, for F1 (default: the config's)",
    )
    options.add_argument(
        "--full-loss",
        action="store_true",
        help="also measure the cross-entropy over all labels (default: as in the config)",
    )
    cli.add_batch_option(options)
    options.add_argument(
        "--search",
        metavar="METHOD",
        help="how head mach searches: auto, brute, threshold (all exact) or approximate "
        "(default: auto)",
    )
    options.add_argument(
        "--search-buckets",
        type=cli.positive,
        metavar="M",
        help="number of best buckets per repetition that the approximate search considers "
        "(default: the run's)",
    )
    options.add_argument(
        "--search-min-count",
        type=cli.positive,
        metavar="N",
        help="number of these buckets that must contain a label for it to be considered "
        "(default: the run's)",
    )
    cli.add_beam_options(options)
    cli.add_prepared_option(options)


def _ks(text):
    return [cli.positive(part) for part in text.split(",")]
