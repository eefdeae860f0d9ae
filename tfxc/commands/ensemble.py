"""Combine the labels that several runs predict for the same examples, and evaluate the result.

    tfxc ensemble runs/one runs/two --method softmax_average --split dev
    tfxc ensemble runs/one runs/two --data test.jsonl --reader jsonl
    tfxc ensemble runs/one runs/two --choose dev --split test
    tfxc ensemble runs/one runs/two --output both.json
    tfxc ensemble runs/one runs/two --method trees --choose dev --split test
    tfxc ensemble both.json --data test.jsonl

The runs may be of any kind, but their labels must have the same names. Each run reads the examples
with its own features. predict and serve take the file of --output in place of a run, decide learns
of it which labels to return, and this command measures it. docs/xr_linear.md, "Ensembles",
describes the methods.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np

from tfxc.core.bounds import Count, Option
from tfxc.core.cli import ENSEMBLES, ending
from tfxc.core.command_options import parse
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.progress import Progress
from tfxc.core.shared_options import TrustOption
from tfxc.inference.ensemble_file import TREES, EnsembleFile, digest_of
from tfxc.inference.search_options import SearchOptions
from tfxc.reports.measurement import ExamplesOptions

if TYPE_CHECKING:
    from tfxc.metrics.suite import MetricSuite
    from tfxc.runs.loaded import LoadedRun

# Ids and scores of a run's best labels, a row per example.
Lists = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(TrustOption):
    """Options of ``tfxc ensemble``.

    Attributes:
        runs: run folders, or a file of --output.
        method: method of combination; trees score each label by what all runs say of it, fitted on
            the split of --choose.
        weights: weight of each run, e.g. 2,1; None means all alike.
        choose: choose the weights, in tenths, with the best mean of P@k, or fit the trees on this
            split, which should be neither trained on nor measured.
        top: number of labels to combine from each run.
        output: file that stands for the ensemble; None writes none.
        examples: what is measured
    """

    runs: Annotated[Sequence[str], Option("RUN", positional=True, mirror="reads")]
    method: Literal[(*ENSEMBLES, TREES)] = "softmax_average"  # type: ignore[valid-type]
    weights: Annotated[Sequence[float] | None, Option("W,W", excludes="weights")] = None
    choose: Annotated[str | None, Option("SPLIT", excludes="weights")] = None
    top: Count = 20
    output: Annotated[str | None, Option("FILE", read=ending(".json"))] = None
    examples: ExamplesOptions = ExamplesOptions()


def main(argv: Sequence[str] | None = None) -> int:
    """Prints each run's scores and those of the ensemble."""
    given = parse(Options, argv, "ensemble", __doc__)
    chosen_there = ("method", "weights", "choose", "top", "output")
    file = EnsembleFile.in_place_of(given.runs, given, chosen_there)
    options = given
    if file is not None:
        options = dataclasses.replace(given, runs=file.runs, weights=file.weights, top=file.top)
    _check(options)
    from tfxc.ranker.ensemble import combine
    from tfxc.ranker.fusion.trees import ListTrees
    from tfxc.runs.loaded import load_run
    from tfxc.training.deciding import label_counts

    first = load_run(options.runs[0], options.trust)
    most = first.manifest["num_labels"]
    if file is not None:
        file.check_labels(first.vocabulary.names, given.runs[0])
        most = min(file.top, most)
        if too_many := [k for k in options.examples.k or () if k > most]:
            raise ConfigError(
                f"{too_many[0]} is more than the {most} labels that {given.runs[0]} lists",
                where="--k",
                fix="lower it, or write the file again with --top",
            )
    ks = options.examples.k or [k for k in first.config.evaluation.k if k <= most] or [most]
    top = min(max(options.top, *ks), most)
    options = dataclasses.replace(options, top=top, examples=options.examples.same_rows_as(first))
    weights = options.weights
    method = options.method if file is None else file.method
    if options.choose:
        examples = dataclasses.replace(options.examples, split=options.choose, data=None)
        chosen = dataclasses.replace(options, examples=examples)
        held_out = lists_of(chosen, first)
        if options.method == TREES:
            method = ListTrees.fit(*held_out, label_counts(first))
        else:
            weights = best_weights(*held_out, ks, options.method)
            print(f"weights chosen on {options.choose}: {','.join(map(str, weights))}")
    lists, truth = lists_of(options, first)
    for path, (ids, scores) in zip(options.runs, lists, strict=True):
        print(f"{path}: {_line_of(_measured(ids, scores, truth, ks))}")
    ids, scores = combine(lists, method, max(ks), weights)
    metrics = _measured(*_at_least_wide(ids, scores, max(ks)), truth, ks)
    print(f"{method} of {len(lists)} runs: {_line_of(metrics)}")
    print(metrics.table())
    if options.output:
        names = first.vocabulary.names
        EnsembleFile(
            runs=options.runs,
            method=method,
            weights=weights,
            top=options.top,
            num_labels=len(names),
            labels=digest_of(names),
        ).save(options.output)
        print(
            f"{options.output}: tfxc predict, serve, decide and ensemble take it in place of a run"
        )
    return 0


def lists_of(options: Options, first: "LoadedRun") -> tuple[list[Lists], np.ndarray]:
    """Returns each run's labels and scores of the chosen examples, and the true labels.

    Args:
        options: the command line.
        first: ``LoadedRun`` whose label ids count.

    Returns:
        list of (ids, scores), and labels, see ``predictions``.

    Raises:
        DataError: the runs read other examples.
    """
    lists: list[Lists] = []
    truth: np.ndarray | None = None
    for path in options.runs:
        ids, scores, labels = predictions(path, first, options)
        if truth is not None and not _same_labels(truth, labels, first.manifest["num_labels"]):
            raise DataError(
                "this run does not read the same examples in the same order as the first run",
                where=path,
                fix="name a file with --data, which all runs then read",
            )
        truth = labels if truth is None else truth
        lists.append((ids, scores))
    assert truth is not None, "of at least one run"
    return lists, truth


def best_weights(
    lists: Sequence[Lists], truth: np.ndarray, ks: Sequence[int], method: str
) -> list[float]:
    """Returns the weights, in tenths that add up to 1, with the best mean of P@k.

    Among equals those that differ least are taken.

    Args:
        lists, truth: see ``lists_of``.
        ks: cut-offs.
        method: see ``tfxc.ranker.ensemble.combine``.

    Returns:
        A weight per run.
    """
    from tfxc.ranker.ensemble import combine

    tenths: list[tuple[int, ...]]
    tenths = [w for w in itertools.product(range(11), repeat=len(lists)) if sum(w) == 10]
    tenths.sort(key=lambda parts: sum(part * part for part in parts))
    best = tenths[0]
    most = -1.0
    with Progress("choosing weights", total=len(tenths), unit="combinations") as progress:
        for weights in tenths:
            ids, scores = combine(lists, method, max(ks), weights)
            results = _measured(*_at_least_wide(ids, scores, max(ks)), truth, ks).result()
            mean = sum(results[f"P@{k}"] for k in ks) / len(ks)
            if mean > most + 1e-9:
                best = weights
                most = mean
            progress.advance(1)
    return [part / 10 for part in best]


def predictions(
    path: str, first: "LoadedRun", options: Options
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns a run's labels, scores and true labels of the examples, by the first run's label ids.

    Args:
        path: run folder.
        first: ``LoadedRun`` whose ids count.
        options: the command line.

    Returns:
        ids int32 and scores float32 (n, options.top), labels int32 (n, most) padded with -1.

    Raises:
        ConfigError: the run has other labels.
    """
    from tfxc.inference.searcher import Searcher
    from tfxc.ranker.ensemble import label_map
    from tfxc.runs.loaded import load_run

    loaded = load_run(path, options.trust, SearchOptions(streamed=True))
    to_first = label_map(loaded.vocabulary.names, first.vocabulary.names, path)
    _, rows = options.examples.examples(loaded)
    excluded = options.examples.excluded(loaded, rows)
    batch_size = options.examples.batch_size_for(loaded)
    # No name refers to the model, which is released below.
    parts = list(
        Searcher(loaded.model, options.top, excluded=excluded).over(rows, batch_size, str(path))
    )
    loaded.release()  # before the next run is loaded
    ids = np.concatenate([part.ids for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    width = max(part.labels.shape[1] for part in parts)
    padded = [((0, 0), (0, width - part.labels.shape[1])) for part in parts]
    labels = np.concatenate(
        [
            np.pad(part.labels, pad, constant_values=-1)
            for part, pad in zip(parts, padded, strict=True)
        ]
    )
    known = labels < len(to_first)
    mapped = np.where(labels >= 0, to_first[np.where(known, labels, 0)], -1)
    # What no run knows stays an unknown label; every run may number these in its own way.
    labels = np.where(known, mapped, len(to_first) + labels)
    return np.where(ids >= 0, to_first[ids], -1).astype(np.int32), scores, labels.astype(np.int32)


def _check(options: Options) -> None:
    """Refuses choices that mean nothing."""
    from tfxc.ranker.ensemble import check_weights

    if options.method == TREES and not options.choose:
        raise ConfigError(
            "trees are fitted on examples that no run was trained on",
            where="--method",
            fix="name their split, e.g. --choose dev --split test",
        )
    if options.method == TREES and options.choose == "train":
        raise ConfigError(
            "the runs were trained on it, and are far surer of it than of new examples",
            where="--choose",
            fix="name another split, e.g. dev",
        )
    check_weights(options.weights, options.method, len(options.runs))
    if len({Path(run).resolve() for run in options.runs}) < len(options.runs):
        raise ConfigError("the same run is named twice", where="RUN", fix="name it once")
    if options.output and len(options.runs) < 2:
        raise ConfigError("one run is no ensemble", where="--output", fix="name several runs")
    if options.output and Path(options.output).exists():
        EnsembleFile.load(options.output)  # another file, such as a config, is not replaced
    if options.choose and options.choose == options.examples.split:
        raise ConfigError(
            f"{options.choose!r} is the split that is measured (--split)",
            where="--choose",
            fix="choose the weights on a split that is not measured",
        )
    if options.choose and options.method != TREES and not 2 <= len(options.runs) <= 5:
        raise ConfigError(
            f"weights can be chosen for 2 to 5 runs, not for {len(options.runs)}",
            where="--choose",
            fix="name 2 to 5 runs, or give --weights",
        )


def _same_labels(first: np.ndarray, second: np.ndarray, num_labels: int) -> bool:
    """Tells whether two padded label arrays hold the same known labels, row by row."""
    if len(first) != len(second):
        return False
    width = max(first.shape[1], second.shape[1])
    rows = [
        np.sort(np.pad(labels, ((0, 0), (0, width - labels.shape[1])), constant_values=-1), 1)
        for labels in (np.where(known < num_labels, known, -1) for known in (first, second))
    ]
    return bool((rows[0] == rows[1]).all())


def _at_least_wide(ids: np.ndarray, scores: np.ndarray, width: int) -> Lists:
    """Returns lists padded to a width."""
    missing = ((0, 0), (0, max(0, width - ids.shape[1])))
    return (
        np.pad(ids, missing, constant_values=-1),
        np.pad(scores, missing, constant_values=-np.inf),
    )


def _measured(
    ids: np.ndarray, scores: np.ndarray, labels: np.ndarray, ks: Sequence[int]
) -> "MetricSuite":
    """Returns metrics of lists."""
    from tfxc.metrics.suite import build_metrics

    metrics = build_metrics(ks=tuple(ks))
    metrics.update(ids, scores, labels)
    return metrics


def _line_of(metrics: "MetricSuite") -> str:
    """Returns precision as one line."""
    results = metrics.result()
    return "  ".join(f"{n} {100 * v:.2f}" for n, v in results.items() if n.startswith("P@"))
