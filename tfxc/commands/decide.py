"""Learn how a run's scores become probabilities and labels, without training it again.

    tfxc decide RUN
    tfxc decide RUN --data held-out.csv --labels f_measure
    tfxc decide RUN --probabilities rows --labels '{"name": "threshold", "value": 0.7}'
    tfxc decide RUN --labels conformal --abstain '{"risk": 0.05}'
    tfxc decide RUN --labels coverage_at_k --unlabelled catalogue.csv

The examples must not be those that the run was trained on: the dev split, or a file of your own.
What is learned is written into the run, or into the file of several (tfxc ensemble --output), in
place of what it had; predict, evaluate, report, serve and export apply it from then on.
With --unlabelled, the labels macro_f1_at_k and coverage_at_k are chosen for the examples of a file
as a whole, by their probabilities. docs/decisions.md says which labels to return when.
"""

import argparse
import contextlib
import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

from tfxc.core.bounds import Count, Option
from tfxc.core.command_options import given, parse, refuse
from tfxc.core.errors import ConfigError
from tfxc.core.messages import NOTES
from tfxc.core.shared_options import ReaderOptions, RunOption

if TYPE_CHECKING:
    from tfxc.core.settings import DecisionSettings
    from tfxc.data.sources.base import RowStream
    from tfxc.reports.measurement import ExamplesOptions
    from tfxc.runs.loaded import LoadedRun


def _section(text: str) -> Any:
    """Reads a method: its name, or a section as JSON."""
    try:
        return json.loads(text) if text.startswith("{") else text
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not JSON ({error})") from None


def _confidence(text: str) -> Any:
    """Reads a number, or a section as JSON."""
    with contextlib.suppress(ValueError):
        return float(text)
    try:
        return json.loads(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is neither a number nor JSON") from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(RunOption, ReaderOptions):
    """Options of ``tfxc decide``.

    Attributes:
        run: run folder, or a file of tfxc ensemble --output.
        data: file of labelled examples; None means the run's dev split.
        unlabelled: file whose examples shall have the labels that are best for all of them
            together, with labels macro_f1_at_k or coverage_at_k; their own labels are not read, and
            probabilities stay.
        features: features of the file's examples, .npz (SciPy) or .npy, for runs whose terms are
            "given"; None means those in the file.
        probabilities: how probabilities are learned: rows, isotonic or logistic, or a section as
            JSON; None means as the run's config says, else rows where the model has none.
        labels: which labels are returned: f_measure, threshold, thresholds, top_k, macro_f1_at_k,
            coverage_at_k or conformal, or a section as JSON; None means as the run's config says,
            else f_measure where examples have several labels.
        k: best labels of an example that are considered; None means as the run's config says.
        abstain: probability of the best label below which an example gets no label, or a section as
            JSON that says which share of the answers may be wrong, '{"risk": 0.05}'; None means as
            the run's config says.
        prepared: folder of prepared records.
    """

    data: Annotated[str | None, Option("FILE", remote=True, excludes="data")] = None
    unlabelled: Annotated[str | None, Option("FILE", remote=True, excludes="data")] = None
    features: Annotated[str | None, Option("MATRIX")] = None
    probabilities: Annotated[Any, Option("METHOD", read=_section)] = None
    labels: Annotated[Any, Option("METHOD", read=_section)] = None
    k: Count | None = None
    abstain: Annotated[Any, Option("LEAST", read=_confidence)] = None
    prepared: Annotated[str, Option("FOLDER")] = "prepared"


def main(argv: Sequence[str] | None = None) -> int:
    """Learns the decision of one run, or of several together."""
    options = parse(Options, argv, "decide", __doc__)
    from tfxc.inference.ensemble_file import EnsembleFile
    from tfxc.training.deciding import decision_line

    if options.unlabelled:
        line = _of_unlabelled(options, options.unlabelled)
        print(f"{options.run}, fitted to {options.unlabelled}: {line}")
        return 0
    several = EnsembleFile.is_at(options.run)
    measured = _of_several(options) if several else _of_one(options)
    print(f"{options.run}, learned of {options.data or 'dev'}: {decision_line(measured)}")
    return 0


def _of_one(options: Options) -> dict[str, float]:
    """Learns the decision of a run; returns how good it is."""
    from tfxc.inference.deciding import Examined
    from tfxc.reports.measurement import of_unknown_labels
    from tfxc.runs.loaded import load_run
    from tfxc.runs.lock import locked
    from tfxc.training.deciding import decide

    loaded = load_run(options.run, options.trust)
    loaded.require_labels()
    natively = loaded.model.has_probabilities and loaded.model.decision.calibration is None
    settings = _settings(options, loaded, natively)
    # One that was trained on all examples at last learns of those before, without a part of them.
    before = [] if options.data else loaded.folder.held_out_runs()
    parts = [load_run(run.path, options.trust) for run in before] or [loaded]
    if options.data:
        advice = "leave it out to use the examples that were held out, or name another file"
        _check_unseen(loaded, options.data, advice)
    elif any("dev" not in part.manifest["splits"] for part in parts):
        raise ConfigError(
            "the run's data have no dev split", where=options.run, fix="name a file with --data"
        )
    examples = _examples(options)

    unknown: Sequence[str] = ()

    def examined() -> Iterator[Examined]:
        nonlocal unknown
        for part in parts:
            _, rows = examples.examples(part)
            unknown = cast("RowStream", rows).unknown if options.data else ()
            excluded = examples.excluded(part, rows)
            yield Examined(part.model, rows, part.vocabulary.names, excluded)

    try:
        with locked(loaded.folder):
            return decide(loaded, examined(), settings)
    finally:
        if unknown:
            NOTES.warning(f"{options.data}: {of_unknown_labels(Counter(unknown), loaded)}")


def _settings(options: Options, loaded: "LoadedRun", natively: bool) -> "DecisionSettings":
    """Returns how the decision is learned: as the options say, else the run's config."""
    from tfxc.core import registry
    from tfxc.core.config import parse_config

    section: dict[str, Any] = {}
    if loaded.config.decision is not None:
        section = loaded.config.decision.model_dump()
    else:
        section["probabilities"] = None if natively else "rows"
        section["labels"] = None if loaded.single_label else "f_measure"
    section |= {
        name: getattr(options, name)
        for name in ("probabilities", "labels", "k", "abstain")
        if name in given(options)
    }
    tree = {**loaded.config.model_dump(), "decision": section}
    settings = parse_config(tree, "decide").decision
    assert settings is not None, "it has a section"
    for kind in ("probabilities", "labels"):
        method = getattr(settings, kind)
        if method is not None:
            registry.check_section(kind, method.section(), f"--{kind}")
    return settings


def _examples(options: Options) -> "ExamplesOptions":
    """Returns what is learned of."""
    from tfxc.reports.measurement import ExamplesOptions

    return ExamplesOptions(
        split=None if options.data else "dev",
        data=options.data,
        features=options.features,
        reader=options.reader,
        reader_options=options.reader_options,
        prepared=options.prepared,
    )


def _of_several(options: Options) -> dict[str, float]:
    """Learns the decision of several runs together, of the lists that they are combined to."""
    from tfxc.commands import ensemble
    from tfxc.inference.deciding import learned_of_lists
    from tfxc.inference.ensemble_file import EnsembleFile
    from tfxc.metrics.base import hits
    from tfxc.ranker.ensemble import combine
    from tfxc.ranker.fusion.trees import ListTrees
    from tfxc.runs.loaded import load_run
    from tfxc.training.deciding import label_counts

    file = EnsembleFile.load(options.run)
    runs = [load_run(run, options.trust) for run in file.runs]
    first = runs[0]
    file.check_labels(first.vocabulary.names, options.run)
    settings = _settings(options, first, natively=False)
    if isinstance(file.method, ListTrees) and not options.data:
        raise ConfigError(
            "its trees were fitted on a split of the runs, of which they are surer than of new "
            "examples",
            where=options.run,
            fix="name a file of other examples with --data",
        )
    if settings.k > file.top and options.k is not None:
        raise ConfigError(
            f"{options.k} is more than the {file.top} labels of each run that are combined",
            where="--k",
            fix="leave it out, or write the file again with tfxc ensemble --top",
        )
    for run in runs:
        if options.data:
            _check_unseen(run, options.data, "name another file")
        elif run.folder.held_out_runs():
            raise ConfigError(
                f"{run.folder.path} was trained on all of its examples at last",
                where=options.run,
                fix="name a file of other examples with --data",
            )
    chosen = ensemble.Options(
        runs=file.runs,
        top=file.top,
        examples=_examples(options).same_rows_as(first),
        trust=options.trust,
    )
    lists, labels = ensemble.lists_of(chosen, first)
    ids, scores = combine(lists, file.method, min(settings.k, file.top), file.weights)
    right = hits(ids, labels)
    learned = learned_of_lists(ids, scores, right, labels, settings, label_counts(first))
    dataclasses.replace(file, decision=learned.fitted).save(options.run)
    return learned.measured


def _of_unlabelled(options: Options, unlabelled: str) -> str:
    """Fits the rule to the examples of a file as a whole; returns what it does."""
    import numpy as np

    from tfxc.commands import predict
    from tfxc.core import registry
    from tfxc.decision.held_out import RankedLists
    from tfxc.decision.labels.base import WeightedLabels
    from tfxc.inference.ensemble_file import EnsembleFile
    from tfxc.runs.loaded import load_run
    from tfxc.runs.lock import locked
    from tfxc.training.deciding import keep, label_counts

    problem = "it is learned of labelled examples, which --unlabelled has not"
    refuse(options, ("probabilities", "abstain"), problem, fix="run tfxc decide without it first")
    file = EnsembleFile.load(options.run) if EnsembleFile.is_at(options.run) else None
    first = load_run(file.runs[0] if file else options.run, options.trust)
    _check_unseen(first, unlabelled, "name another file", "--unlabelled")
    settings = _settings(options, first, natively=False)
    method = None
    if settings.labels is not None:
        method = registry.create("labels", settings.labels.section())
    if not isinstance(method, WeightedLabels):
        raise ConfigError(
            "only macro_f1_at_k and coverage_at_k are learned without true labels",
            where="--labels",
            fix="name one of them",
        )
    old = file.decision if file else first.model.decision
    if old.calibration is None and (file or not first.model.has_probabilities):
        raise ConfigError(
            "no probabilities have been learned of it",
            where=options.run,
            fix="run tfxc decide without --unlabelled first",
        )
    k = min(settings.k, file.top if file else first.manifest["num_labels"])
    ids, scores = predict.best_labels(
        predict.Options(
            run=[options.run],
            file=unlabelled,
            features=options.features,
            reader=options.reader,
            reader_options=options.reader_options,
            trust=options.trust,
            k=k,
            probabilities=True,
        )
    )
    lists = RankedLists(ids, scores, label_counts(first))
    rule = method.fit_to(lists)
    if old.rule is not None:
        rule = dataclasses.replace(rule, abstain=old.rule.abstain)
    fitted = dataclasses.replace(old, rule=rule)
    if file:
        dataclasses.replace(file, decision=fitted).save(options.run)
    else:
        with locked(first.folder):
            keep(first, fitted)
    best = len(np.unique(ids[:, : rule.count]))
    returned = len(np.unique(ids[rule.predicted(ids, scores)]))
    return (
        f"{rule.count} labels for each of {len(ids):,} examples, {returned:,} different ones "
        f"(of the {rule.count} likeliest of each: {best:,})"
    )


def _check_unseen(loaded: "LoadedRun", file: str, advice: str, where: str = "--data") -> None:
    """Refuses the training file: a model is far surer of what it has seen than of anything else."""
    from tfxc.reports.measurement import is_training_file

    if is_training_file(loaded, file):
        raise ConfigError(
            f"the run was trained on {file}, of whose labels it is far surer than of new ones",
            where=where,
            fix=advice,
        )
