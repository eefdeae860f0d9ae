"""The run folder: what a training run writes and everything else reads."""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tfxc.core.config import Config, parse_config
from tfxc.core.environment import Environment
from tfxc.core.errors import CheckpointError, ConfigError, UserError, nearest
from tfxc.core.messages import OUTPUT
from tfxc.core.storage import checksums
from tfxc.core.storage.files import SCRATCH, check_local, is_inside, make_folder, write_errors
from tfxc.core.storage.locks import holder, is_held, locked, sweep
from tfxc.core.storage.ownership import (
    LOCKS,
    MARKER,
    check_kind,
    check_own,
    clear_owned,
    is_kind,
    lock_of,
)
from tfxc.core.storage.reading import (
    existing_file,
    read_errors,
    read_json,
    read_record,
    valid_record,
)
from tfxc.data.store.manifest import MANIFEST_FILE, Manifest
from tfxc.runs.checkpoint_files import CheckpointFiles, problem_of_shards, shard_prefixes
from tfxc.runs.writer import (
    ARCHITECTURE,
    CONFIG,
    ENVIRONMENT,
    KIND,
    PROGRESS,
    RUNS_INSIDE,
    SUMMARY,
    TEACHER,
    WEIGHTS,
    RunWriter,
    Summary,
)

if TYPE_CHECKING:
    from tfxc.model import XCModel


_UNFIT = "restore the run's own config.json or train again"
_RESTORE = "restore it from a copy, or train again with --fresh"
# A resumed run may change these; anything else would make it another run.
_FREE_KEYS = {
    "": {"about", "run", "evaluation"},
    "training": {
        "log_every",
        "evaluate_every",
        "checkpoint_every",
        "devices",
        "keep_checkpoints",
        "trackers",
    },
    "data": {"where", "rehearsal", "max_line_bytes"},
    "recipe": {"memory_gb", "threads"},
}


class RunFolder(RunWriter):
    """Paths and small files of one run.

    It is written by ``RunWriter``, during training or at once.

    Layout: ``config.json``, ``assets/`` (manifest.json, labels.txt, text_features/),
    ``checkpoints/``, ``model.weights.h5``, ``metrics.jsonl``, ``log.txt``, ``tensorboard/``,
    ``summary.json``, ``environment.json``, ``checksums.json``.

    Args:
        path: the folder; made when first written to.
        chief: only the chief writes.
        step: the checkpoint that ``load_weights`` reads, in this run or those inside it; None for
            the weights of the end.
    """

    def __init__(self, path: str | Path, chief: bool = True, step: int | None = None) -> None:
        super().__init__(path, chief)
        self.step = step

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from writing into this run; the kernel frees it on death.

        A process may lock a run that it has locked already. What processes that were killed have
        left half-written is removed.

        Raises:
            CheckpointError: another process is writing into it; it is named.
        """
        lock = lock_of(self.path)
        if not self.chief or is_held(lock):
            yield
            return
        check_local(self.path, "run")
        made = [path for path in lock.parents if not path.exists()]
        with contextlib.ExitStack() as stack:
            stack.callback(_remove_empty, made)
            with write_errors(self.path):
                make_folder(lock.parent)
                stack.enter_context(locked(lock, self._busy))
                sweep(self.path, SCRATCH.format(MARKER), alone=True)
                if is_kind(self.path, KIND):
                    self._remove_scratch()
            yield

    def _busy(self, process: str) -> NoReturn:
        raise CheckpointError(
            f"{process} is writing into this run",
            where=self.path,
            fix="wait until it has ended, stop it, or choose another folder with --set run=...",
        )

    def _remove_scratch(self) -> None:
        """Removes what an earlier process left when it was killed, locks of runs in it as well."""
        sweep(self.path, LOCKS, alone=True)
        # None but who holds the lock writes these.
        for name in (CONFIG, SUMMARY, ENVIRONMENT, checksums.FILE):
            sweep(self.path, SCRATCH.format(name), alone=True)
        assets = self / "assets"
        folders = [assets, *(path for path in assets.rglob("*") if path.is_dir())]
        for folder in [*folders, self / "checkpoints"]:
            sweep(folder, SCRATCH.format("*"), alone=True)
        leftovers = [*self.path.glob(f".new-{WEIGHTS}"), *self.path.glob(".removed-*")]
        for path in [*leftovers, *self.path.glob("checkpoints/*_temp")]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def finished(
        self, config: Config, data_folder: str | Path, fresh: bool = False
    ) -> dict[str, Any] | None:
        """Returns the summary if the run is finished, and says so; None if there is work to do.

        Args:
            config: ``Config``.
            data_folder: prepared records.
            fresh: whether an earlier run will be removed.

        Raises:
            CheckpointError, DataError, UserError: as ``start``.
        """
        self.check(config, fresh)
        self.check_data(data_folder, fresh=fresh)
        summary = None if fresh or self.extended_from(config) else self.summary()
        if summary:
            if self.chief and not config.training.keep_checkpoints:
                # It may have been killed before it could remove them.
                shutil.rmtree(self / "checkpoints", ignore_errors=True)
            at = f" at step {summary['steps']:,}" if "steps" in summary else ""
            OUTPUT.info(f"{self.path}: already finished{at}; use --fresh to start over")
        return summary

    def start(self, config: Config, data_folder: str | Path, fresh: bool = False) -> None:
        """Writes config and assets, or checks that an earlier start had the same config.

        A run that is extended is from then on an unfinished one, of the new config.

        Args:
            config: ``Config``.
            data_folder: prepared records.
            fresh: remove an earlier run, whatever its config.

        Raises:
            CheckpointError: the folder holds a run with another config, or of other data; what
                differs is named.
            DataError: a file of the run is damaged.
            UserError: the folder holds something else than a run.
        """
        if not self.chief:
            return
        self.check(config, fresh)
        self.check_data(data_folder, fresh=fresh)
        extended = not fresh and self.extended_from(config)
        replaced = fresh or (self._changed(config) and not extended)
        if self.path.exists() and (replaced or self._changed_data(data_folder)):
            with self.locked():
                # A part of the run may be in training by another process.
                for part in self._inner_runs():
                    process = holder(lock_of(part.path))
                    if process is not None:
                        part._busy(process)
                clear_owned(self.path, KIND, keep=() if fresh else (TEACHER,))
        self.mark()
        if extended:
            self.reopen()
        with self._recorded():
            self.write_config(config)
            self.copy_assets(data_folder)

    def reopen(self) -> None:
        """Makes a finished run an unfinished one."""
        if self.chief and (self / SUMMARY).exists():
            (self / SUMMARY).unlink()  # first: with a summary a run would be finished
            with self._recorded():
                pass

    def check(self, config: Config, fresh: bool = False) -> None:
        """Refuses a folder that holds something else, or a run of another config.

        An empty folder is fine, and so is a run of another config that has nothing to lose: whose
        first step was never done. More epochs extend a run.

        Args:
            config: ``Config``.
            fresh: whether an earlier run will be removed: its config does not matter then.

        Raises:
            CheckpointError, DataError, UserError: as ``start``.
        """
        if not self.chief:  # the chief may be writing it at this moment, and says what is wrong
            return
        check_kind(self.path, KIND)
        if not fresh:
            self.check_files(required=False)
        changed = self._changed(config)
        if fresh or changed:
            check_own(self.path, KIND)
        if not fresh and changed and self.has_progress() and not self.extended_from(config):
            old = _tree(self.config())
            new = _tree(config)
            shown = ", ".join(f"{k} ({old.get(k)!r} -> {new.get(k)!r})" for k in changed[:4])
            alone = " and without --repetition" if self._inner_runs() else ""
            raise CheckpointError(
                f"this run was trained with other settings: {shown}",
                where=self.path,
                fix=f"choose another folder with --set run=..., or start over with --fresh{alone}",
            )

    def extended_from(self, config: Config) -> float | None:
        """Returns the epochs of the run where a config has more of them, and nothing else new."""
        if not is_kind(self.path, KIND) or self._changed(config) != ["training.epochs"]:
            return None
        epochs = self.config().training.epochs
        return epochs if config.training.epochs > epochs else None

    def check_extendable(self) -> None:
        """Refuses to extend a run that has not kept what a training goes on from.

        Raises:
            CheckpointError: it, or a run inside it, is finished and has no checkpoint.
        """
        parts = self._inner_runs()
        for part in parts:
            part.check_extendable()
        if not parts and self.summary() and not self.has_checkpoint():
            raise CheckpointError(
                "this finished run has no checkpoint from which training could continue",
                where=self.path,
                fix="begin another run from its weights with recipe.start, or train it again with "
                "--fresh and training.keep_checkpoints=1",
            )

    def has_checkpoint(self) -> bool:
        """Tells whether a checkpoint was written and kept, intact or not."""
        return bool(self._checkpoints().finished_steps())

    def _checkpoints(self) -> CheckpointFiles:
        return CheckpointFiles(self / "checkpoints", "ckpt")

    def has_step(self, step: int | None) -> bool:
        """Tells whether there is a checkpoint of a step; of None, whether the run is finished."""
        if step is None:
            return self.summary() is not None
        return step in self._checkpoints().finished_steps()

    def check_step(self, step: int, where: str) -> None:
        """Refuses a step of which this run, or one inside it, has no checkpoint.

        Args:
            step: number of updates made.
            where: for the message.

        Raises:
            CheckpointError: those there are are named.
        """
        parts = self._inner_runs()
        for part in parts:
            part.check_step(step, where)
        steps = [] if parts else self._checkpoints().finished_steps()
        if not parts and step not in steps:
            known = f"those of {', '.join(map(str, steps))}" if steps else "none"
            raise CheckpointError(
                f"{where}: there is no checkpoint of step {step}; the run has {known}",
                where=self.path,
                fix="choose one of these"
                if steps
                else "train with training.keep_checkpoints=N, which keeps the last N",
            )

    def check_go_back(self, step: int, may_drop: bool) -> bool:
        """Refuses to resume from a checkpoint that cannot be read, or at the cost of later ones.

        Args:
            step: of the checkpoint.
            may_drop: whether later checkpoints, or the end of the training, may be removed.

        Returns:
            Whether there is something later, which ``drop_later`` removes.

        Raises:
            CheckpointError: there is no such checkpoint, or it or a shard of it is damaged.
            ConfigError: there is something later, which may not be removed.
        """
        self.check_step(step, "--from-step")
        problem = self._checkpoints().problem(step) or problem_of_shards(self / "checkpoints", step)
        if problem:
            raise CheckpointError(problem, where=self.path, fix="choose another step")
        steps = self._checkpoints().finished_steps()
        later = [number for number in steps if number > step]
        end = (self.summary() or {}).get("steps", steps[-1]) > step
        if (later or end) and not may_drop:
            lost = ["the weights of the end"] if end and self.summary() else []
            lost = [*(f"the checkpoint of step {number}" for number in later), *lost]
            raise ConfigError(
                f"going back to step {step} removes {', '.join(lost)}",
                where="--from-step",
                fix="add --drop-later, or copy the run first",
            )
        return bool(later or end)

    def drop_later(self, step: int) -> None:
        """Removes what came after a checkpoint, so that the training resumes from it.

        Weights of a later step go as well; those of an earlier one, the best so far, stay.

        Args:
            step: of the checkpoint, see ``check_go_back``.
        """
        if not self.chief:
            return
        steps = self._checkpoints().finished_steps()
        content = self._checkpoints().content(steps[-1]) or {}
        progress = content.get("progress") or self.summary() or {}
        best = progress.get("best_step", 0)  # 0 where no weights were the best, or it is not known
        # A finished run must have weights: killed anywhere here, it is an unfinished one.
        self.reopen()
        if self.config().training.keep == "last" or not 0 < best <= step:
            (self / WEIGHTS).unlink(missing_ok=True)
        for later in sorted((number for number in steps if number > step), reverse=True):
            for name in ("ckpt", *shard_prefixes(self / "checkpoints")):
                CheckpointFiles(self / "checkpoints", name).remove(later)

    def check_data(
        self, data_folder: str | Path, needed: set[str] | None = None, fresh: bool = False
    ) -> None:
        """Refuses prepared data that are not those the run was started with.

        Without a run all are fine, and so are they where it has nothing to lose.

        Args:
            data_folder: prepared records.
            needed: names of ``Manifest.fingerprints`` that matter; None for all.
            fresh: whether an earlier run will be removed.

        Raises:
            CheckpointError: what differs is named.
        """
        changed = [] if fresh else self._changed_data(data_folder, needed)
        if changed and self.has_progress():
            raise CheckpointError(
                f"contains a run of other data than {data_folder}, which was prepared again from "
                f"changed files; changed: {', '.join(changed)}",
                where=self.path,
                fix="restore the run's own files and run prepare --force, or train on the new "
                "ones: in another folder, or with --fresh",
            )

    def _changed_data(self, data_folder: str | Path, needed: set[str] | None = None) -> list[str]:
        """Returns names of the fingerprints in which data differ from those of the run, if any."""
        path = self / "assets" / MANIFEST_FILE
        if not path.is_file():
            return []
        of_run = read_record(path, Manifest, fix=_RESTORE, error=CheckpointError).fingerprints
        of_data = Manifest.load(data_folder).fingerprints
        keys = sorted({*of_run, *of_data} if needed is None else needed)
        return [key for key in keys if of_run and of_run.get(key) != of_data.get(key)]

    def check_files(self, required: bool = True) -> None:
        """Compares the run's files with their checksums: all sizes, the content of the smaller.

        Weights are compared when they are loaded.

        Args:
            required: whether a finished run has to have checksums.

        Raises:
            DataError: names the file that is missing, changed or damaged.
        """
        finished = (self / SUMMARY).exists()
        try:
            entries = checksums.entries_of(self.path, _RESTORE)
            if required or finished or SUMMARY not in entries:  # else killed while it was finishing
                checksums.check(self.path, _RESTORE, elsewhere={WEIGHTS})
        except checksums.Unrecorded:  # perhaps removed meanwhile by a fold that begins as well
            if required and finished:
                raise

    def check_links(self) -> None:
        """Refuses a run whose assets are links to files outside of it that its makers did not know.

        Commands and servers show and copy assets, the names of labels for example. A link to a file
        with the recorded checksum is one to what was there when the run was made, as in the cache
        of the Hugging Face Hub.

        Raises:
            CheckpointError: names the first such link.
        """
        known: Collection[str] = ()
        with contextlib.suppress(checksums.Unrecorded):
            known = checksums.entries_of(self.path, _RESTORE)
        for assets in [self / "assets", *sorted(self.path.glob("*/assets"))]:
            for path in [assets, *sorted(assets.rglob("*"))]:
                if path.relative_to(self.path).as_posix() not in known:
                    self._check_inside(path, "put a copy there, or allow it with --trust")

    def place(self, name: str) -> Path:
        """Returns where a command writes a folder of the run, unless the user names another one.

        Raises:
            CheckpointError: a link leads out of the run.
        """
        self._check_inside(self / name, "name another folder with --output")
        return self / name

    def _check_inside(self, path: Path, fix: str) -> None:
        if not is_inside(path, self.path):
            problem = f"a link leads out of the run, to {os.path.realpath(path)}"
            raise CheckpointError(problem, where=path, fix=fix)

    def verify(self) -> None:
        """Compares every file that the run is read from, folds and rankers too, with its checksum.

        Raises:
            DataError: names the first file that is missing, changed or damaged.
        """
        self.check_files()
        for path in sorted(self.path.rglob(checksums.FILE)):
            checksums.check(path.parent, _RESTORE, all_files=True)

    @contextlib.contextmanager
    def _recorded(self) -> Iterator[None]:
        """Writes checksums of config and assets when they are written; meanwhile there are none.

        Those of finished stages stay.
        """
        trees = {}
        with contextlib.suppress(checksums.Unrecorded):
            entries = checksums.entries_of(self.path, _RESTORE)
            trees = {name: entries[name] for name in entries if Path(name).match("tree*.npz")}
            (self / checksums.FILE).unlink(missing_ok=True)
        yield
        known = {name: (entry["bytes"], entry["sha256"]) for name, entry in trees.items()}
        self._record(["config.json"], known)

    def _changed(self, config: Config) -> list[str]:
        """Returns keys in which the folder's config differs; none where it holds no run."""
        if not (self / "config.json").exists():
            return []
        try:
            old = _tree(self.config())
            new = _tree(config)
        except UserError as error:
            raise CheckpointError(
                error.problem,
                where=error.where,
                fix="restore it from a copy, or move the folder away: a run is resumed or removed "
                "only if its config can be read",
            ) from error
        return [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]

    def has_progress(self) -> bool:
        """Tells whether something would be lost with this run."""
        if any(next(self.path.glob(name), None) for name in PROGRESS):
            return True
        return any(part.has_progress() for part in self._inner_runs())

    @property
    def has_runs_inside(self) -> bool:
        """Whether it consists of folds or repetitions with run folders of their own."""
        return bool(self._inner_runs())

    def _inner_runs(self) -> "list[RunFolder]":
        """Returns runs inside this one: its folds, levels or repetitions."""
        parts = (part for name in RUNS_INSIDE for part in self.path.glob(name) if part.is_dir())
        return [RunFolder(part) for part in parts]

    def config(self) -> Config:
        """Returns the run's ``Config``.

        Raises:
            CheckpointError: this is not a run folder, or its config is damaged.
            MachineError: it cannot be read.
        """
        path = self / "config.json"
        if not path.is_file() and not path.is_symlink():  # reading a link says where it leads
            others = (run.parent.name for run in self.path.parent.glob("*/config.json"))
            raise CheckpointError(
                "this is not a run folder: it has no config.json"
                if self.path.exists()
                else f"there is no such run folder{nearest(self.path.name, others)}",
                where=self.path,
                fix="give a folder of tfxc train",
            )
        tree = read_run_json(path)
        try:
            return parse_config(tree, where=str(path))
        except ConfigError as error:
            problem = f"is not the config of a run of this version ({error.problem})"
            raise CheckpointError(problem, where=error.where or path, fix=_RESTORE) from error

    def architecture(self) -> dict[str, Any] | None:
        """Returns the shape of the encoder's network where its config does not say it, else None.

        With it the run's model is built without the folder of the pretrained one.
        """
        paths = sorted([*self.path.glob(ARCHITECTURE), *self.path.glob(f"*/{ARCHITECTURE}")])
        if not paths:
            return None
        checksums.check_file(paths[0].parents[1], ARCHITECTURE, _RESTORE)
        return read_run_json(paths[0])

    def check_weights(self) -> None:
        """Refuses a run without weights of the end, or with damaged ones.

        Raises:
            CheckpointError: no weights yet.
            DataError: they are not what was written.
        """
        path = self / WEIGHTS
        if not path.exists():
            raise CheckpointError(
                "this run has no trained weights yet", where=self.path, fix="finish training first"
            )
        existing_file(path, fix=_UNFIT, error=CheckpointError)
        checksums.check_file(self.path, WEIGHTS, _RESTORE)

    def load_weights(self, model: "XCModel", check: bool = True) -> None:
        """Reads the model's weights: those of the end, or of the checkpoint of ``step``.

        Args:
            model: a built ``XCModel``.
            check: whether to call ``check_weights``; not where they were checked before.

        Raises:
            CheckpointError: no weights yet, or weights of another model.
        """
        if self.step is not None:
            self._checkpoints().load_weights(self.step, model)
            return
        path = self / WEIGHTS
        fix = _UNFIT
        if check:
            self.check_weights()
        try:
            model.load_weights(path)
        except OSError as error:
            if error.errno is None:
                raise _unfit_weights(path, error, fix) from error
            with read_errors(path, fix=fix, error=CheckpointError):
                raise
        except (ValueError, KeyError, RuntimeError, TypeError, IndexError) as error:
            raise _unfit_weights(path, error, fix) from error

    def summary(self) -> dict[str, Any] | None:
        """Returns the summary of a finished training run, or None."""
        path = self / SUMMARY
        if not os.path.lexists(path):
            return None
        checksums.check_file(self.path, SUMMARY, _RESTORE)
        values = read_run_json(path)
        valid_record(values, Summary, path, fix=_RESTORE, error=CheckpointError)
        return values

    def environment(self) -> Environment | None:
        """Returns when, by which versions and on what machine it was finished; None if it does not
        say.

        Raises:
            CheckpointError: ``environment.json`` is damaged.
        """
        path = self / ENVIRONMENT
        if not os.path.lexists(path):
            return None
        return read_record(path, Environment, fix=_RESTORE, error=CheckpointError)


def _remove_empty(folders: Iterable[Path]) -> None:
    with contextlib.suppress(OSError):  # the others are not empty either
        for folder in folders:
            folder.rmdir()


def read_run_json(path: str | Path) -> dict[str, Any]:
    """Returns the object in a JSON file of a run.

    Raises:
        CheckpointError: it is missing or damaged.
        MachineError: it cannot be read.
    """
    return read_json(path, fix=_RESTORE, error=CheckpointError)


def _unfit_weights(path: Path, error: Exception, fix: str) -> CheckpointError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    problem = f"does not fit the model of config.json ({reason})"
    return CheckpointError(problem, where=path, fix=fix)


def _tree(config: Config) -> dict[str, Any]:
    """Returns what defines the run, flattened to ``{"a.b": value}``."""
    flat: dict[str, Any] = {}
    for key, value in config.model_dump(mode="json").items():
        if key in _FREE_KEYS[""]:
            continue
        if key in _FREE_KEYS:
            free = _FREE_KEYS[key]
            flat |= {f"{key}.{k}": v for k, v in value.items() if k not in free}
        else:
            flat[key] = value
    return flat
