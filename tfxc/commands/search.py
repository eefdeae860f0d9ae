"""Train a config with many settings and list their dev metrics.

    tfxc search --config textcnn_clinc150 --runs runs/search \
        --try encoder.dropout=0.2,0.5 --try training.optimizer.learning_rate=0.001,0.003
    tfxc search --config textcnn_clinc150 --runs runs/search --random 20 \
        --try encoder.dropout=0.1..0.6 --try training.optimizer.learning_rate=log:1e-4..1e-2
    tfxc search --config textcnn_clinc150 --runs runs/search --trials 40 \
        --try encoder.dropout=0.1..0.6 --try training.optimizer.learning_rate=log:1e-4..1e-2

Values are separated by commas; values that contain commas are given as one JSON list:
--try 'head.heads=[[41,40],[6,271]]'. Without --random every combination is trained; with it, that
many random ones, also from ranges. With --trials, Optuna (extra search) chooses that many settings
by the results so far and stops those whose dev curve stays below the median of the others; what it
knows is in FOLDER/search.db. A table says how much each key matters (and importance.png, if
matplotlib is there). Each setting is an ordinary run, in its own folder below --runs. The same
command resumes after a stop and trains nothing twice; a setting that fails is reported and skipped.
"""

import argparse
import concurrent.futures
import functools
import hashlib
import itertools
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tfxc.core import cli
from tfxc.core.errors import ConfigError, UserError, missing_package
from tfxc.core.escaping import json_text
from tfxc.core.storage.files import write_json
from tfxc.core.storage.locks import locked
from tfxc.core.storage.reading import read_json

if TYPE_CHECKING:
    from tfxc.core.settings import Config


_STOPPED = 128  # exit codes from here on say that a signal stopped training
_POLL = 1.0  # seconds between looks at a dev curve
_PRUNED = "pruned"
_STARTED = 5  # trials that are trained to their end before others are compared with them


class Values(NamedTuple):
    """What a key may be.

    Attributes:
        key: a config key, e.g. ``encoder.dropout``.
        choices: list of values, or None for a range.
        low, high: ends of the range.
        logarithmic: whether the logarithm is drawn evenly.
        integers: whether the values are integers.
    """

    key: str
    choices: list[Any] | None
    low: float = 0.0
    high: float = 0.0
    logarithmic: bool = False
    integers: bool = False

    def draw(self, generator: random.Random) -> Any:
        """A value, from ``random.Random``."""
        if self.choices is not None:
            return generator.choice(self.choices)
        if self.logarithmic:
            value = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = generator.uniform(self.low, self.high)
        return round(value) if self.integers else float(f"{value:.4g}")

    def suggest(self, trial: Any) -> Any:
        """The value that Optuna's trial has for the key."""
        if self.choices is not None:
            trial.suggest_categorical(self.key, list(dict.fromkeys(map(json_text, self.choices))))
        elif self.integers:
            trial.suggest_int(self.key, round(self.low), round(self.high), log=self.logarithmic)
        else:
            trial.suggest_float(self.key, self.low, self.high, log=self.logarithmic)
        return self.value_of(trial.params)

    def value_of(self, params: Mapping[str, Any]) -> Any:
        """The value among those of a trial, where choices are JSON."""
        value = params[self.key]
        if self.choices is not None:
            return json.loads(value)
        return value if self.integers else float(f"{value:.4g}")


def main(argv: Sequence[str] | None = None) -> int:
    """Trains all settings and prints the table."""
    options = _parser().parse_args(argv)
    from tfxc.data.inspection.completion import load_config

    # A wrong config is refused before the first training.
    config = load_config(options.config, options.set)
    if options.trials is not None:
        return search(options, config)
    trials = settings(options.tried, options.random, options.seed)
    for changes in trials:
        _check(options, changes)
    print(f"{len(trials)} settings of {options.config}", file=sys.stderr)
    board = Board(options, config)

    def attempt(number):
        changes = trials[number]
        print(
            f"[{number + 1} of {len(trials)}] {', '.join(_texts(changes))}",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        code = board.trained(changes, functools.partial(train, options, changes))
        if code <= _STOPPED:
            board.add(changes, _result(board.run_of(changes), options.metric))
        return code

    return board.finish(in_parallel(attempt, len(trials), options.jobs))


class Board:
    """The settings that were trained, the best first; safe to use from several threads.

    Args:
        options: of the command.
        config: ``Config``.
    """

    def __init__(self, options: argparse.Namespace, config: "Config") -> None:
        self.options, self._name = options, config.data.name
        self.rows: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def run_of(self, changes: Mapping[str, Any]) -> Path:
        """Run folder of a setting."""
        return Path(self.options.runs) / f"{self._name}-{_name(changes)}"

    def trained(self, changes: Mapping[str, Any], train_it: Callable[[Path], int]) -> int:
        """Exit code of the training of a setting: 0 if it was finished before."""
        run = self.run_of(changes)
        return 0 if _finished(run) else train_it(run)

    def add(self, changes: Mapping[str, Any], result: float | str | None) -> None:
        """Adds a setting with its value, None if it failed, or ``"pruned"``."""
        with self._lock:
            self.rows = [row for row in self.rows if row["changes"] != changes]
            run = str(self.run_of(changes))
            self.rows.append({"run": run, "changes": changes, "result": result})
            self.rows.sort(key=lambda row: _rank(row, self.options.smaller))
            write_json(Path(self.options.runs) / "search.json", self.rows, indent=1)

    def finish(self, code: int) -> int:
        """Prints the table; the exit code of the command.

        Args:
            code: of a signal that has stopped the search, or 0.
        """
        if code:
            print(
                f"stopped; run the same command again to resume\n{table(self.rows, self.options)}"
            )
            return code
        print(table(self.rows, self.options))
        return 0 if any(_is_value(row["result"]) for row in self.rows) else 1


def in_parallel(attempt: Callable[[int], int], count: int, jobs: int) -> int:
    """Calls ``attempt(number)`` for 0 to count - 1, in several threads; 0, or the code of a stop.

    After an exit code that says that a signal stopped training, no other is started.
    """
    stops: list[int] = []

    def one(number):
        if not stops and (code := attempt(number)) > _STOPPED:
            stops.append(code)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(one, number) for number in range(count)]
        for future in waiting:
            while True:
                try:
                    future.result()
                    break
                except KeyboardInterrupt:  # training has received it too, and saves
                    stops.append(_STOPPED + signal.SIGINT)
                except BaseException:
                    stops.append(_STOPPED)  # the others end, no further one begins
                    raise
    return stops[0] if stops else 0


def search(options: argparse.Namespace, config: "Config") -> int:
    """Trains settings that Optuna chooses; the exit code."""
    with missing_package("search", where="--trials"):
        import optuna
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    _check_ends(options)
    folder, board = Path(options.runs), Board(options, config)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".search.lock", functools.partial(_refuse_second, folder)):
        study = _study(options, config, folder)
        done = _continued(study, board)
        print(f"{options.trials} trials of {options.config}, {done} done", file=sys.stderr)
        attempt = functools.partial(_attempt, study, board, done)
        code = in_parallel(attempt, options.trials - done, options.jobs)
        result = board.finish(code)
        _report_importance(study, folder)
    return result


def _attempt(study, board, done, number):
    """Trains the setting of one trial; the exit code of its training."""
    import optuna

    options = board.options
    trial = study.ask()
    changes = {values.key: values.suggest(trial) for values in options.tried}
    shown = ", ".join(_texts(changes))
    print(f"[{done + number + 1} of {options.trials}] {shown}", file=sys.stderr, flush=True)
    curve = DevCurve(trial, board.run_of(changes), options)
    code = board.trained(changes, lambda run: train(options, changes, run, curve.is_hopeless))
    if curve.pruned and code:
        print(f"pruned: {shown}", file=sys.stderr, flush=True)
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        board.add(changes, _PRUNED)
        return 0
    if code > _STOPPED:
        return code  # the trial stays unfinished, and is the first of the next start
    result = _result(board.run_of(changes), options.metric)
    if result is None:
        trial.set_user_attr("failed", code)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    else:
        study.tell(trial, result)
    board.add(changes, result)
    return 0


class DevCurve:
    """Passes the dev values of a run on to a trial, while it is trained.

    Args:
        trial: of Optuna.
        run: run folder.
        options: of the command.

    Attributes:
        pruned: whether training is to end early.
    """

    def __init__(self, trial: Any, run: Path, options: argparse.Namespace) -> None:
        self._trial, self._path, self._count = trial, run / "metrics.jsonl", 0
        self._name, self._prunes, self.pruned = f"dev {options.metric}", options.prune, False

    def is_hopeless(self) -> bool:
        """Reports new values; whether the trial is worse than the others were at that time."""
        if not self._prunes or self.pruned or not self._path.is_file():
            return False
        values = []
        for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                values.append(json.loads(line).get(self._name))
            except json.JSONDecodeError:  # is being written
                break
        values = [value for value in values if value is not None]
        for value in values[self._count :]:
            self._trial.report(value, self._count)  # evaluations, as batches differ in size
            self._count += 1
            self.pruned = self.pruned or self._trial.should_prune()
        return self.pruned


def _study(options, config, folder):
    """The study of this search space: a file in the folder keeps it."""
    import optuna

    space = [values._asdict() for values in options.tried]
    tree = config.model_dump(mode="json", exclude={"about", "run"})
    name = _name({"config": tree, "space": space, "metric": options.metric, "of": options.smaller})
    storage = f"sqlite:///{(folder / 'search.db').resolve()}"
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction="minimize" if options.smaller else "maximize",
        load_if_exists=True,
    )
    # A continued search does not draw the same numbers again.
    seed = options.seed + len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=options.jobs > 1)
    study.pruner = optuna.pruners.MedianPruner(_STARTED, n_warmup_steps=1)
    return study


def _continued(study, board):
    """Number of trials that are done; those that were interrupted are the next ones."""
    import optuna

    states, done = optuna.trial.TrialState, 0
    for trial in study.get_trials(deepcopy=False):
        if trial.state == states.RUNNING:
            study.tell(trial.number, state=states.FAIL)
            study.enqueue_trial(trial.params)
        elif trial.state in (states.COMPLETE, states.PRUNED) or "failed" in trial.user_attrs:
            result = _PRUNED if trial.state == states.PRUNED else trial.value
            board.add({v.key: v.value_of(trial.params) for v in board.options.tried}, result)
            done += 1
    return min(done, board.options.trials)


def _report_importance(study, folder):
    """Prints how much of the differences each key explains, and draws it."""
    import optuna

    complete = [trial for trial in study.get_trials() if trial.value is not None]
    if len({trial.value for trial in complete}) < 2:
        print("importance of the keys: at least two trials with different results are needed")
        return
    found = optuna.importance.get_param_importances(study)
    print(f"importance of the keys ({len(complete)} trials):")
    for key, share in found.items():
        print(f"  {share:6.1%}  {key}")
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 1 + 0.4 * len(found)), layout="constrained")
    axes.barh(list(found)[::-1], list(found.values())[::-1])
    axes.set_xlabel("share of the differences in the result")
    figure.savefig(folder / "importance.png", dpi=120)
    pyplot.close(figure)


def _check_ends(options):
    """Refuses a wrong key or value before any training: of each key, its first and last one."""
    keys = [values.key for values in options.tried]
    settings([Values(key, [None]) for key in keys], None, 0)  # none twice
    for values in options.tried:
        ends = [values.low, values.high]
        ends = [round(end) for end in ends] if values.integers else ends
        for value in values.choices or ends:
            _check(options, {values.key: value})


def _check(options, changes):
    from tfxc.commands.train import check_config
    from tfxc.data.inspection.completion import load_config

    changed = [*options.set, *_texts(changes)]
    check_config(load_config(options.config, changed))


def _refuse_second(folder, holder):
    raise UserError(
        f"one search at a time expected, found {holder}",
        where=folder,
        fix="wait for it, or name another folder with --runs",
    )


def settings(tried: Sequence[Values], count: int | None, seed: int) -> list[dict[str, Any]]:
    """The changes of every training, ``[{key: value}]``; none twice.

    Args:
        tried: list of ``Values``.
        count: number to draw, or None for all combinations.
        seed: of the drawing.

    Raises:
        ConfigError: a range without a number to draw, or a key given twice.
    """
    keys = [values.key for values in tried]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(
                f"distinct keys expected, found {key!r} twice",
                where="--try",
                fix="name each key once",
            )
    if count is None:
        for values in tried:
            if values.choices is None:
                raise ConfigError(
                    f"a list of values expected, found a range for {values.key!r}",
                    where="--try",
                    fix="add --random NUMBER, or list values",
                )
        combinations = itertools.product(*(values.choices or [] for values in tried))
        return _distinct(dict(zip(keys, each, strict=True)) for each in combinations)
    generator = random.Random(seed)
    drawn = ({v.key: v.draw(generator) for v in tried} for _ in range(20 * count))
    return _distinct(drawn)[:count]


def train(
    options: argparse.Namespace,
    changes: Mapping[str, Any],
    run: Path,
    is_hopeless: Callable[[], bool] | None = None,
) -> int:
    """Trains one setting by the ordinary command; its exit code.

    Args:
        options: of the command.
        changes: the setting.
        run: run folder.
        is_hopeless: function that is called from time to time; once it returns true, training is
            stopped, and saves.
    """
    from tfxc.training.interrupts import stop_with_parent

    command = [sys.executable, "-m", "tfxc.train", "--config", options.config]
    command += ["--prepared", options.prepared]
    for change in [*options.set, *_texts(changes), f"run={run}"]:
        command += ["--set", change]
    # The table alone goes to standard output.
    process = subprocess.Popen(command, stdout=2, **stop_with_parent(os.environ))
    while True:
        try:
            code = process.wait(_POLL if is_hopeless else None)
            break
        except KeyboardInterrupt:  # training has received it too, and saves
            continue
        except subprocess.TimeoutExpired:
            if is_hopeless is not None and is_hopeless():
                process.terminate()
                is_hopeless = None
    return 128 - code if code < 0 else code


def table(rows: Sequence[Mapping[str, Any]], options: argparse.Namespace) -> str:
    """The settings as text, the best first."""
    if not rows:
        return "nothing is trained yet"
    keys = list(rows[0]["changes"])
    head = [options.metric, *keys]
    body = [[_shown(row["result"]), *(_text(row["changes"][k]) for k in keys)] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in [head, *body]
    ]
    best = rows[0]
    if _is_value(best["result"]):
        lines.append(f"best: {best['run']}")
    return "\n".join(lines)


def values_of(text: str) -> Values:
    """``Values`` of the text after ``--try``."""
    key, sign, given = text.partition("=")
    if not (key and sign and given):
        raise argparse.ArgumentTypeError(f"KEY=VALUES expected, found {text!r}")
    if ".." in given:
        return _range(key, given)
    try:
        listed = json.loads(given)
    except json.JSONDecodeError:
        listed = None
    if not isinstance(listed, list):
        listed = [_value(part) for part in given.split(",")]
    if not listed:
        raise argparse.ArgumentTypeError(f"{key}: values expected, found none")
    return Values(key, listed)


def _range(key, given):
    logarithmic = given.startswith("log:")
    low, _, high = given.removeprefix("log:").partition("..")
    try:
        ends = [json.loads(low), json.loads(high)]
        integers = all(isinstance(end, int) for end in ends)
        low, high = map(float, ends)
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(f"{key}: LOW..HIGH expected, found {given!r}") from None
    if not low < high or (logarithmic and low <= 0):
        least = "0 < LOW" if logarithmic else "LOW"
        raise argparse.ArgumentTypeError(f"{key}: {least} < HIGH expected, found {given!r}")
    return Values(key, None, low, high, logarithmic, integers)


def _value(text):
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _distinct(trials):
    return list({json_text(trial, sort_keys=True): trial for trial in trials}.values())


def _name(changes):
    """A folder name that only depends on the changes."""
    return hashlib.sha256(json_text(changes, sort_keys=True).encode()).hexdigest()[:10]


def _texts(changes):
    return [f"{key}={_text(value)}" for key, value in changes.items()]


def _text(value):
    return value if isinstance(value, str) else json_text(value)


def _finished(run):
    return (run / "summary.json").is_file()


def _result(run, metric):
    """Dev value of a run at its best step, None for one that failed.

    Raises:
        ConfigError: the run has no such metric.
    """
    if not _finished(run):
        return None
    summary = read_json(run / "summary.json")
    if summary.get("best_metric") == metric:
        return summary["best"]
    if metric not in summary.get("dev", {}):
        known = ", ".join(summary.get("dev", {}))
        fix = f"choose one of: {known}" if known else "add a dev split to the config"
        raise ConfigError(f"no metric {metric!r} on dev", where="--metric", fix=fix)
    return summary["dev"][metric]


def _rank(row, smaller):
    if not _is_value(row["result"]):
        return math.inf
    return row["result"] if smaller else -row["result"]


def _is_value(result):
    return result is not None and result != _PRUNED


def _shown(result):
    if result == _PRUNED:
        return result
    return "failed" if result is None else f"{result:.4f}"


def _add_counts(options):
    """How many settings are tried, and how many at a time."""
    count = options.add_mutually_exclusive_group()
    count.add_argument(
        "--random",
        type=cli.positive,
        metavar="N",
        help="try N random settings (default: every combination)",
    )
    count.add_argument(
        "--trials",
        type=cli.positive,
        metavar="N",
        help="try N settings that Optuna chooses (needs the extra 'search')",
    )
    options.add_argument(
        "--jobs", type=cli.positive, default=1, help="trainings at a time (default: %(default)s)"
    )
    options.add_argument(
        "--no-pruning",
        dest="prune",
        action="store_false",
        help="with --trials: train every setting to its end",
    )


def _parser():
    options = cli.parser("search", __doc__)
    cli.add_config_options(options)
    options.add_argument(
        "--try",
        dest="tried",
        action="append",
        required=True,
        type=values_of,
        metavar="KEY=VALUES",
        help="config key and its values or range (may be given several times)",
    )
    _add_counts(options)
    options.add_argument(
        "--seed", type=cli.seed, default=0, help="seed of the settings drawn (default: 0)"
    )
    options.add_argument(
        "--metric", default="P@1", help="dev metric to sort by (default: %(default)s)"
    )
    options.add_argument(
        "--smaller", action="store_true", help="treat smaller values of the metric as better"
    )
    options.add_argument(
        "--runs", default="runs/search", help="folder of the runs (default: %(default)s)"
    )
    return options
