"""A search of so many minutes among presets and settings near them, by what is held out."""

import dataclasses
import itertools
import math
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfxc.core.config import Config, changed, parse_config
from tfxc.core.errors import CheckpointError, MachineError, missing_package
from tfxc.core.escaping import json_text
from tfxc.core.interrupts import StoppedBetween, StopSignals
from tfxc.core.messages import OUTPUT
from tfxc.core.progress import duration
from tfxc.core.storage import checksums
from tfxc.core.storage.files import write_json
from tfxc.core.storage.locks import scratch_folder
from tfxc.core.storage.ownership import check_own, clear_owned
from tfxc.core.storage.reading import read_json, read_json_lines
from tfxc.data.reading.inspection.completion import Completed
from tfxc.data.reading.inspection.preset_space import tunables
from tfxc.data.store.preparation import ensure_prepared
from tfxc.runs.folder import RESTORE, RunFolder
from tfxc.runs.lock import locked
from tfxc.runs.refit import held_out_configs
from tfxc.runs.writer import CONFIG, KIND, TRIED
from tfxc.tuning import trainings
from tfxc.tuning.results import PRUNED, result_of

with missing_package("search", where="--minutes"):
    import optuna

    from tfxc.tuning.study import DevCurve, Study

# Seconds that a training which is ended has to leave; what it has saved is removed anyway.
_PATIENCE = 5.0
# How often a setting that is new is asked for: few combinations may all have been tried.
_ASKED = 20
_FAILED = "failed"
_LATE = "not in time"
_STOPPED = "stopped"
_TIMED = 5.0  # seconds after which the pace of a training says when it ends


@dataclasses.dataclass
class Try:
    """A training without the examples that are held out.

    Attributes:
        preset: its name.
        changes: what it changes of the preset, ``{key: value}``.
        result: dev metric; None where it did not finish.
        ended: why not, in words; None where it did.
        seconds: how long it took.
    """

    preset: str
    changes: dict[str, Any]
    result: float | None = None
    ended: str | None = None
    seconds: float = 0.0

    def __str__(self) -> str:
        changes = (f"{key}={json_text(value)}" for key, value in self.changes.items())
        return ", ".join([self.preset, *changes])

    def of(self, presets: Sequence[Completed]) -> Completed:
        """Returns the config of the try."""
        (preset,) = (each for each in presets if each.preset == self.preset)
        changes = [f"{key}={json_text(value)}" for key, value in self.changes.items()]
        return dataclasses.replace(preset, tree=changed(preset.tree, changes))


def winner_of(run: str | Path, presets: Sequence[Completed]) -> Completed | None:
    """Returns the config that a search has chosen for a run; None where there was no search.

    Args:
        run: run folder.
        presets: as in the search.

    Raises:
        CheckpointError: the run was trained without a search, or it chose another preset.
    """
    folder = RunFolder(run)
    if not (folder / TRIED).is_file():
        if folder.has_progress():
            raise CheckpointError(
                "this run was trained without --minutes",
                where=folder.path,
                fix="choose another folder with --run, or start over with --fresh",
            )
        return None
    best = read_json(folder / TRIED, fix=RESTORE, error=CheckpointError)["tried"][0]
    if best["preset"] not in (preset.preset for preset in presets):
        raise CheckpointError(
            f"this run was trained by the preset {best['preset']!r}",
            where=folder.path,
            fix="leave --preset out, or start over with --fresh",
        )
    OUTPUT.info(f"{folder / TRIED}: the best was found before; use --fresh to search again")
    return Try(**best).of(presets)


def choose(
    presets: Sequence[Completed],
    seconds: float,
    *,
    given: Mapping[str, Any],
    command: Sequence[str] = (),
) -> Completed:
    """Returns the config whose model is the best on the examples that are held out.

    First every preset is trained as it is. Then Optuna changes the best setting so far, one key
    after the other, as long as such a training is expected to end in time. The first training may
    take longer; each other preset as it is gets half of the time that is left.

    Trainings run in processes of their own, in a scratch folder beside the run. What is kept is the
    winner's: as the run's training without the examples that are held out, so that the run goes on
    with the training on all. The same seeds try the same settings, apart from what the clock ends.

    Args:
        presets: configs with the same run folder, see ``presets_of``.
        seconds: time for the trainings.
        given: what the user has chosen of the config, which stays as it is.
        command: options of every training, e.g. ``["--gpu", "0"]``.

    Raises:
        MachineError: no training has finished.
        Stopped: by SIGTERM or SIGHUP, or before a training has finished. After a later Ctrl-C the
            best so far is returned.
        UserError: the run folder holds something else.
    """
    end = time.monotonic() + seconds
    run = RunFolder(presets[0].tree["run"])
    check_own(run.path, KIND)
    with locked(run), scratch_folder(f"{run.path.name}-tried", run.path.parent) as scratch:
        command = [*command, "--prepared", str(scratch / "prepared")]
        # Missing or damaged data end the search before any training.
        told = presets[0].names_told
        data = next(iter(_parts(presets[0]).values())).data
        ensure_prepared(data, scratch / "prepared", told=told)
        OUTPUT.info(
            f"trying settings for {duration(seconds)}; Ctrl-C ends that with the best so far"
        )
        with StopSignals() as signals:
            search = _Search(presets, given, command, scratch, signals)
            search.go(end)
        stop = signals.received
        if stop is not None and (stop != signal.SIGINT or search.best is None):
            raise StoppedBetween("nothing is", stop)
        if search.best is None:
            raise MachineError(
                "no training has finished",
                where="--minutes",
                fix="see above why, or train one preset without this option",
            )
        OUTPUT.info(search.table())
        clear_owned(run.path, KIND)
        run.mark()
        search.write(run / TRIED)
        for entry in search.folder_of(search.best).iterdir():
            shutil.move(entry, run / entry.name)
    return search.best.of(presets)


class _Preset:
    """A preset, and the study of what is near it."""

    def __init__(self, completed: Completed, given: Mapping[str, Any]) -> None:
        config = parse_config(completed.tree)
        keys = tunables(completed.tree, given)
        self.name = str(completed.preset)
        self.metric = f"P@{config.evaluation.k[0]}"
        self.usual = {key.values.key: key.usual for key in keys}
        self.study = Study(None, config, [key.values for key in keys], self.metric)
        self.study.resume(config.seed, 1)
        self.study.enqueue(self.usual)
        self._keys = itertools.cycle(self.usual)
        self.best = -math.inf
        self.seconds: list[float] = []  # of the finished trainings
        self.exhausted = not keys

    def next_setting(self, tried: Sequence[Try]) -> tuple[optuna.Trial, dict[str, Any]] | None:
        """Returns a trial and what it changes of the preset; None if all was tried."""
        for _ in range(_ASKED):
            # Few settings can be tried: most that differ in all keys would be worse.
            trial, values = self.study.ask(next(self._keys) if self.seconds else None)
            changes = {key: value for key, value in values.items() if value != self.usual[key]}
            same = [each for each in tried if (each.preset, each.changes) == (self.name, changes)]
            if not same:
                return trial, changes
            self.study.report(trial, same[0].result)
        self.exhausted = True
        return None


class _Search:
    """What was tried so far, and what is tried next."""

    def __init__(
        self,
        presets: Sequence[Completed],
        given: Mapping[str, Any],
        command: Sequence[str],
        scratch: Path,
        signals: StopSignals,
    ) -> None:
        self._completed = presets
        self._presets = [_Preset(completed, given) for completed in presets]
        self._command = command
        self._scratch = scratch
        self._signals = signals
        self._tried: list[Try] = []
        self.best: Try | None = None

    def go(self, end: float) -> None:
        """Trains until the time is over, nothing is left to try, or a signal arrives."""
        untried = list(self._presets)
        while self._signals.received is None:
            left = end - time.monotonic()
            if self._tried and left <= 0:
                break
            if untried:
                preset = untried.pop(0)
                limit = end - left / 2 if self._tried else math.inf
            else:
                within = [
                    preset
                    for preset in self._presets
                    if preset.seconds
                    and not preset.exhausted
                    and sum(preset.seconds) / len(preset.seconds) <= left
                ]
                if not within:
                    break
                preset = max(within, key=lambda preset: preset.best)
                limit = end
            if (setting := preset.next_setting(self._tried)) is not None:
                attempt = Try(preset.name, setting[1])
                self._tried.append(attempt)
                OUTPUT.info(f"{duration(max(0, left))} left: {attempt}")
                self._train(preset, setting[0], attempt, limit)
                if attempt.ended == _LATE:
                    untried.clear()  # which are no quicker

    def _train(self, preset: _Preset, trial: optuna.Trial, attempt: Try, limit: float) -> None:
        """Trains a setting, and keeps its runs if it is the best so far."""
        folder = self.folder_of(attempt)
        parts = _parts(attempt.of(self._completed))
        runs = {name: RunFolder(folder / name) for name in parts}
        name = min(parts)
        curve = DevCurve(trial, runs[name].path, preset.metric)
        pace = _Pace(runs[name].path, parts[name].training.epochs)

        def is_over() -> bool:
            alone = len(parts) == 1  # the first of several folds says little of the others
            now = time.monotonic()
            if self._signals.received is not None:
                attempt.ended = _STOPPED
            elif now >= limit or (alone and pace.end(now) > limit):
                attempt.ended = _LATE
            elif alone and curve.is_hopeless():
                attempt.ended = PRUNED
            return attempt.ended is not None

        began = time.monotonic()
        log = self._scratch / "log.txt"
        for name, part in parts.items():
            code = self._code(part, runs[name].path, log, is_over)
            if code:
                attempt.ended = attempt.ended or _FAILED
                break
        else:
            found = [result_of(run.path, preset.metric) for run in runs.values()]
            results = [result for result in found if result is not None]
            attempt.ended = None if len(results) == len(runs) else _FAILED
            attempt.result = None if attempt.ended else math.fsum(results) / len(results)
        attempt.seconds = time.monotonic() - began
        if attempt.ended == PRUNED:
            preset.study.prune(trial)
        else:
            preset.study.report(trial, attempt.result)
        removed: Try | None = attempt
        if attempt.result is not None:
            is_better = attempt.result > max(each.best for each in self._presets)
            preset.seconds.append(attempt.seconds)
            preset.best = max(preset.best, attempt.result)
            if is_better:
                removed = self.best
                self.best = attempt
                for name, part in parts.items():  # their folder is to be another one
                    with checksums.replaced(runs[name].path, CONFIG):
                        runs[name].write_config(part)
        notes = [", the best so far"] if attempt is self.best else []
        if attempt.ended == _FAILED:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            notes = [f": {lines[-1]}"] if lines else []
        OUTPUT.info(f"  {preset.metric} {''.join([_shown(attempt), *notes])}")
        if removed is not None:
            shutil.rmtree(self.folder_of(removed), ignore_errors=True)

    def _code(self, config: Config, run: Path, log: Path, is_over: Callable[[], bool]) -> int:
        """Trains a config into a folder; the exit code."""
        path = self._scratch / "config.json"
        path.write_text(config.model_copy(update={"run": str(run)}).to_json(), encoding="utf-8")
        command = ["--config", str(path), *self._command]
        with open(log, "w", encoding="utf-8") as output:
            return trainings.train(
                command, run, lambda: self._signals.received, is_over, output, _PATIENCE
            )

    def folder_of(self, attempt: Try) -> Path:
        """Returns where the trainings of a try are."""
        return self._scratch / f"{self._tried.index(attempt):03}"

    def table(self) -> str:
        """Returns all that was tried as text, the best first."""
        seconds = sum(attempt.seconds for attempt in self._tried)
        lines = [f"tried {len(self._tried)} settings in {duration(seconds)}:"]
        header = (f"dev {self._presets[0].metric}", "s", "setting")
        rows = [(_shown(each), f"{each.seconds:.1f}", str(each)) for each in self._ranked()]
        lines += [
            f"  {shown:>11}  {took:>7}  {setting}" for shown, took, setting in (header, *rows)
        ]
        lines.append("these examples chose the best: on others it is a little worse than here")
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """Writes all that was tried as JSON, the best first."""
        tried = [dataclasses.asdict(attempt) for attempt in self._ranked()]
        write_json(path, {"metric": self._presets[0].metric, "tried": tried}, indent=1)

    def _ranked(self) -> list[Try]:
        return sorted(self._tried, key=lambda t: math.inf if t.result is None else -t.result)


class _Pace:
    """Tells when a training will be at its end, by its last evaluations.

    Args:
        run: run folder.
        epochs: of the training.
    """

    def __init__(self, run: Path, epochs: float) -> None:
        self._path = run / "metrics.jsonl"
        self._epochs = epochs
        self._first: tuple[float, float] | None = None  # time and epoch, without the start

    def end(self, now: float) -> float:
        """Returns the time of the end; ``now``, until that can be told."""
        if not self._path.is_file():
            return now
        epochs = [line["epoch"] for line in read_json_lines(self._path) if "epoch" in line]
        if not epochs:
            return now
        self._first = self._first or (now, epochs[-1])
        seconds = now - self._first[0]
        passed = epochs[-1] - self._first[1]
        if seconds < _TIMED or passed <= 0:
            return now
        return now + (self._epochs - epochs[-1]) / passed * seconds


def _shown(attempt: Try) -> str:
    return str(attempt.ended) if attempt.result is None else f"{100 * attempt.result:.2f}"


def _parts(completed: Completed) -> dict[str, Config]:
    """Returns the trainings without the examples that are held out, by their folder in the run."""
    config = parse_config(completed.tree)
    if config.refit is not None:
        return held_out_configs(config)
    return {"": config.model_copy(update={"decision": None})}
