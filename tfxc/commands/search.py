r"""Train a config with many settings and list their dev metrics.

    tfxc search --config textcnn_clinc150 --runs runs/search \
        --try encoder.dropout=0.2,0.5 --try training.optimizer.learning_rate=0.001,0.003
    tfxc search --config textcnn_clinc150 --runs runs/search --random 20 \
        --try encoder.dropout=0.1..0.6 --try training.optimizer.learning_rate=log:1e-4..1e-2
    tfxc search --config textcnn_clinc150 --runs runs/search --trials 40 \
        --try encoder.dropout=0.1..0.6 --try training.optimizer.learning_rate=log:1e-4..1e-2

Values are separated by commas. Write values that contain commas as one JSON list: --try
'head.heads=[[41,40],[6,271]]'.

Without --random and --trials, every combination is trained. With --random N, N random ones are
trained, also from ranges. With --trials N, Optuna (extra search) chooses N settings by the results
so far, and stops those whose dev curve stays below the median of the others; it keeps what it knows
in FOLDER/search.db. A table says how much each key matters; so do importance.svg and the reports of
the runs.

Each setting is an ordinary run, in its own folder below --runs. After a stop, the same command
resumes and trains nothing twice. With "refit" in the config, every setting is trained once, without
the examples that are held out. A setting that fails is reported and skipped. With --cluster, each
worker of a Dask scheduler trains a setting at a time; what a training prints is then in
FOLDER/SETTING.log.
"""

import concurrent.futures
import contextlib
import dataclasses
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tfxc.core.bounds import Count, Natural, Option
from tfxc.core.command_options import parse
from tfxc.core.errors import UserError
from tfxc.core.interrupts import StopSignals
from tfxc.core.shared_options import ConfigOptions
from tfxc.core.storage.locks import locked
from tfxc.parallel import cluster, workers
from tfxc.tuning import trainings
from tfxc.tuning.results import PRUNED, Results, is_finished, result_of, value_text
from tfxc.tuning.space import Values, name_of, settings, values_of
from tfxc.tuning.trainings import STOPPED, Received

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.tuning.study import Study


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ConfigOptions):
    """Options of ``tfxc search``.

    Attributes:
        tried: config key, and the values or the range to try; repeat it for several keys.
        random: try N random settings; None means every combination.
        trials: try N settings that Optuna chooses (needs the extra 'search').
        jobs: number of trainings at a time; None means 1, or with --cluster one for each thread of
            a worker.
        cluster: let each worker of this Dask scheduler, e.g. tcp://host:8786, train a setting at a
            time; None means this machine trains all.
        no_pruning: with --trials, train every setting to its end.
        seed: seed for drawing the settings.
        metric: dev metric to sort by.
        smaller: treat smaller values of the metric as better.
        runs: folder of the runs.
    """

    tried: Annotated[
        Sequence[Values], Option("KEY=VALUES", name="--try", repeated=True, read=values_of)
    ]
    random: Annotated[Count | None, Option(excludes="count")] = None
    trials: Annotated[Count | None, Option(excludes="count")] = None
    jobs: Count | None = None
    cluster: Annotated[str | None, Option("ADDRESS", remote=True)] = None
    no_pruning: bool = False
    seed: Natural = 0
    metric: Annotated[str, Option("NAME")] = "P@1"
    smaller: bool = False
    runs: Annotated[str, Option("FOLDER", mirror="trains")] = "runs/search"


def main(argv: Sequence[str] | None = None) -> int:
    """Trains all settings and prints the table."""
    options = parse(Options, argv, "search", __doc__)
    from tfxc.data.reading.inspection.completion import load_config

    # A wrong config is refused before the first training.
    config = load_config(options.config, options.set)
    if (refit := config.refit) is not None:  # settings are compared by what is held out
        share = refit.share or 1 / (refit.folds or 1)
        once = ["refit=null", f"data.dev_share={share}"]
        options = dataclasses.replace(options, set=[*options.set, *once])
        config = load_config(options.config, options.set)
    with cluster(options.cluster) as shared:
        if options.jobs is None:
            options = dataclasses.replace(options, jobs=1 if shared is None else shared.tasks)
        if options.trials is None:
            return _try_all(options, config)
        return search(options, config, options.trials)


def _try_all(options: Options, config: "Config") -> int:
    """Trains all combinations, or random ones; the exit code."""
    trials = settings(options.tried, options.random, options.seed)
    for changes in trials:
        _check(options, changes)
    _prepare(options, config)
    print(f"{len(trials)} settings of {options.config}", file=sys.stderr)
    results = Results(options.runs, options.metric, options.smaller)

    def attempt(number: int, received: Received) -> int:
        changes = trials[number]
        _announce(number, len(trials), changes)
        run = run_of(options, config, changes)
        code = 0 if is_finished(run) else train(options, changes, run, received)
        if code <= STOPPED:
            results.add(run, changes, result_of(run, options.metric))
        return code

    return _finish(results, in_parallel(attempt, len(trials), options.jobs or 1))


def run_of(options: Options, config: "Config", changes: Mapping[str, Any]) -> Path:
    """Returns the run folder of a setting."""
    return Path(options.runs) / f"{config.data.name}-{name_of(changes)}"


def _announce(number: int, count: int, changes: Mapping[str, Any]) -> None:
    shown = ", ".join(_texts(changes))
    print(f"[{number + 1} of {count}] {shown}", file=sys.stderr, flush=True)


def _finish(results: Results, code: int) -> int:
    """Prints the table; the exit code of the command, after one of a stop or 0."""
    if code:
        print("stopped; run the same command again to resume")
    print(results.table())
    return code or (0 if results.any_finished else 1)


def in_parallel(attempt: Callable[[int, Received], int], count: int, jobs: int) -> int:
    """Calls ``attempt(number, received)`` for 0 to count - 1, in several threads.

    After an exit code that says that a signal stopped training, no other is started. Trainings on a
    cluster receive no signals of this process: ``received()`` is the one that they have to be sent.

    Returns:
        0, or the code of a stop.
    """
    stops: list[int] = []
    signals = StopSignals()

    def received() -> int | None:
        return signals.received

    def guarded(number: int) -> None:
        if not (stops or received()) and (code := attempt(number, received)) > STOPPED:
            stops.append(code)

    with (
        contextlib.nullcontext() if workers() is None else signals,
        concurrent.futures.ThreadPoolExecutor(jobs) as pool,
    ):
        waiting = [pool.submit(guarded, number) for number in range(count)]
        for future in waiting:
            while True:
                try:
                    future.result()
                    break
                except KeyboardInterrupt:  # training has received it too, and saves
                    stops.append(STOPPED + signal.SIGINT)
                except BaseException:
                    stops.append(STOPPED)  # the others end, no further one begins
                    raise
    return stops[0] if stops else 0


def search(options: Options, config: "Config", count: int) -> int:
    """Trains settings that Optuna chooses, ``count`` in all; the exit code."""
    from tfxc.tuning.study import DevCurve, Study

    # Of each key, the first and the last value are checked before any training.
    keys = [values.key for values in options.tried]
    settings([Values(key, [None]) for key in keys], None, 0)  # none twice
    for values in options.tried:
        ends = [values.low, values.high]
        ends = [round(end) for end in ends] if values.integers else ends
        for value in values.choices or ends:
            _check(options, {values.key: value})
    _prepare(options, config)
    folder = Path(options.runs)
    jobs = options.jobs or 1
    results = Results(folder, options.metric, options.smaller)
    folder.mkdir(parents=True, exist_ok=True)

    def refuse(holder: str) -> None:
        raise UserError(
            f"{holder} is searching in this folder",
            where=folder,
            fix="wait for it, or name another folder with --runs",
        )

    with locked(folder / ".search.lock", refuse):
        study = Study(folder, config, options.tried, options.metric, options.smaller)
        done = study.resume(options.seed, jobs)
        for changes, result, pruned in done:
            results.add(run_of(options, config, changes), changes, PRUNED if pruned else result)
        first = min(len(done), count)
        print(f"{count} trials of {options.config}, {first} done", file=sys.stderr)

        def attempt(number: int, received: Received) -> int:
            trial, changes = study.ask()
            _announce(first + number, count, changes)
            run = run_of(options, config, changes)
            curve = DevCurve(trial, run, options.metric)
            is_hopeless = None if options.no_pruning else curve.is_hopeless
            code = 0 if is_finished(run) else train(options, changes, run, received, is_hopeless)
            if curve.pruned and code:
                print(f"pruned: {', '.join(_texts(changes))}", file=sys.stderr, flush=True)
                study.prune(trial)
                results.add(run, changes, PRUNED)
                return 0
            if code > STOPPED:
                return code  # the trial stays unfinished, and is the first of the next start
            result = result_of(run, options.metric)
            study.report(trial, result, code)
            results.add(run, changes, result)
            return 0

        code = in_parallel(attempt, count - first, jobs)
        code = _finish(results, code)
        _report_importance(study, results, folder)
    return code


def _report_importance(study: "Study", results: Results, folder: Path) -> None:
    """Prints how much of the differences each key explains, keeps it and draws it."""
    from tfxc.reports.plots import shares_of_keys

    count, shares = study.importance()
    if shares is None:
        print("importance of the keys: at least two trials with different results are needed")
        return
    print(f"importance of the keys ({count} trials):")
    for key, share in shares.items():
        print(f"  {share:6.1%}  {key}")
    results.set_importance(shares)
    shares_of_keys(shares, folder / "importance.svg")


def _prepare(options: Options, config: "Config") -> None:
    """Prepares the data once for all trainings: missing or damaged data end the command."""
    from tfxc.data.store.preparation import ensure_prepared

    ensure_prepared(config.data, options.prepared)


def _check(options: Options, changes: Mapping[str, Any]) -> None:
    from tfxc.commands.train import check_config
    from tfxc.data.reading.inspection.completion import load_config

    changed = [*options.set, *_texts(changes)]
    check_config(load_config(options.config, changed))


def train(
    options: Options,
    changes: Mapping[str, Any],
    run: Path,
    received: Received,
    is_hopeless: Callable[[], bool] | None = None,
) -> int:
    """Trains one setting by the ordinary command; its exit code.

    Args:
        options: of the command.
        changes: the setting.
        run: run folder.
        received: see ``in_parallel``.
        is_hopeless: function that is called from time to time; once it returns true, training is
            stopped, and saves.
    """
    arguments = ["--config", options.config, "--prepared", options.prepared]
    for change in [*options.set, *_texts(changes), f"run={run}"]:
        arguments += ["--set", change]
    return trainings.train(arguments, run, received, is_hopeless)


def _texts(changes: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value_text(value)}" for key, value in changes.items()]
