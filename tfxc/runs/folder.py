"""The run folder: what a training run writes and everything else reads."""

import contextlib
import difflib
import itertools
import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core.config import Config, parse_config
from tfxc.core.errors import CheckpointError, ConfigError
from tfxc.core.storage import checksums
from tfxc.core.storage.files import is_inside
from tfxc.core.storage.reading import (
    existing_file,
    read_errors,
    read_json,
    read_record,
    valid_record,
)
from tfxc.data.store.manifest import MANIFEST_FILE, Manifest
from tfxc.runs.checkpoint_files import CheckpointFiles
from tfxc.runs.writer import (
    ARCHITECTURE,
    ENVIRONMENT,
    HELD_OUT,
    PROGRESS,
    RUNS_INSIDE,
    SUMMARY,
    WEIGHTS,
    RunWriter,
    Summary,
)

if TYPE_CHECKING:
    from tfxc.core.environment import Environment
    from tfxc.model import XCModel


# How alike two names of runs are.
_ALIKE = 0.6
_UNFIT = "restore the run's own config.json or train again"
RESTORE = "restore it from a copy, or train again with --fresh"


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

    def has_checkpoint(self) -> bool:
        """Tells whether a checkpoint was written and kept, intact or not."""
        return bool(self.checkpoints.finished_steps())

    @property
    def checkpoints(self) -> CheckpointFiles:
        return CheckpointFiles(self / "checkpoints", "ckpt")

    def has_step(self, step: int | None) -> bool:
        """Tells whether there is a checkpoint of a step; of None, whether the run is finished."""
        if step is None:
            return self.summary() is not None
        return step in self.checkpoints.finished_steps()

    def check_step(self, step: int, where: str) -> None:
        """Refuses a step of which this run, or one inside it, has no checkpoint.

        Args:
            step: number of updates made.
            where: for the message.

        Raises:
            CheckpointError: those there are are named.
        """
        parts = self.inner_runs()
        for part in parts:
            part.check_step(step, where)
        steps = [] if parts else self.checkpoints.finished_steps()
        if not parts and step not in steps:
            known = f"those of {', '.join(map(str, steps))}" if steps else "none"
            raise CheckpointError(
                f"{where}: there is no checkpoint of step {step}; the run has {known}",
                where=self.path,
                fix="choose one of these"
                if steps
                else "train with training.keep_checkpoints=N, which keeps the last N",
            )

    def check_data(self, data_folder: str | Path, needed: set[str] | None = None) -> None:
        """Refuses prepared data that are not those the run was started with.

        Without a run all are fine, and so are they where it has nothing to lose.

        Args:
            data_folder: prepared records.
            needed: names of ``Manifest.fingerprints`` that matter; None for all.

        Raises:
            CheckpointError: what differs is named.
        """
        changed = self.changed_data(data_folder, needed)
        if changed and self.has_progress():
            raise CheckpointError(
                f"contains a run of other data than {data_folder}, which was prepared again from "
                f"changed files; changed: {', '.join(changed)}",
                where=self.path,
                fix="restore the run's own files and run prepare --force, or train on the new "
                "ones: in another folder, or with --fresh",
            )

    def changed_data(self, data_folder: str | Path, needed: set[str] | None = None) -> list[str]:
        """Returns names of the fingerprints in which data differ from those of the run, if any."""
        path = self / "assets" / MANIFEST_FILE
        if not path.is_file():
            return []
        of_run = read_record(path, Manifest, fix=RESTORE, error=CheckpointError).fingerprints
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
            entries = checksums.entries_of(self.path, RESTORE)
            if required or finished or SUMMARY not in entries:  # else killed while it was finishing
                checksums.check(self.path, RESTORE, elsewhere={WEIGHTS})
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
            known = checksums.entries_of(self.path, RESTORE)
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
            checksums.check(path.parent, RESTORE, all_files=True)

    def has_progress(self) -> bool:
        """Tells whether something would be lost with this run."""
        if any(next(self.path.glob(name), None) for name in PROGRESS):
            return True
        return any(part.has_progress() for part in (*self.inner_runs(), *self.held_out_runs()))

    @property
    def has_runs_inside(self) -> bool:
        """Whether it consists of folds or repetitions with run folders of their own."""
        return bool(self.inner_runs())

    def inner_runs(self) -> "list[RunFolder]":
        """Returns runs inside this one: its folds, levels or repetitions."""
        parts = (part for name in RUNS_INSIDE for part in self.path.glob(name) if part.is_dir())
        return [RunFolder(part) for part in parts]

    def held_out_runs(self) -> "list[RunFolder]":
        """Returns the runs inside this one that were trained without a part of its examples."""
        return [RunFolder(path) for path in sorted(self.path.glob(f"{HELD_OUT}*")) if path.is_dir()]

    def config(self) -> Config:
        """Returns the run's ``Config``.

        Raises:
            CheckpointError: this is not a run folder, or its config is damaged.
            MachineError: it cannot be read.
        """
        path = self / "config.json"
        if not path.is_file() and not path.is_symlink():  # reading a link says where it leads
            fix = "give a folder of tfxc train"
            if self.path.is_file():
                problem = "this is a file, not a run folder"
                fix = f"{fix} (predict, serve, decide and ensemble take a file of several)"
            elif self.path.exists():
                problem = "this is not a run folder: it has no config.json"
            else:
                problem = f"there is no such run folder{_similar(self.path)}"
            raise CheckpointError(problem, where=self.path, fix=fix)
        tree = read_run_json(path)
        try:
            return parse_config(tree, where=str(path))
        except ConfigError as error:
            problem = f"is not the config of a run of this version ({error.problem})"
            raise CheckpointError(problem, where=error.where or path, fix=RESTORE) from error

    def architecture(self) -> dict[str, Any] | None:
        """Returns the shape of the encoder's network where its config does not say it, else None.

        With it the run's model is built without the folder of the pretrained one.
        """
        paths = sorted([*self.path.glob(ARCHITECTURE), *self.path.glob(f"*/{ARCHITECTURE}")])
        if not paths:
            return None
        checksums.check_file(paths[0].parents[1], ARCHITECTURE, RESTORE)
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
        checksums.check_file(self.path, WEIGHTS, RESTORE)

    def load_weights(self, model: "XCModel", check: bool = True) -> None:
        """Reads the model's weights: those of the end, or of the checkpoint of ``step``.

        Args:
            model: a built ``XCModel``.
            check: whether to call ``check_weights``; not where they were checked before.

        Raises:
            CheckpointError: no weights yet, or weights of another model.
        """
        if self.step is not None:
            self.checkpoints.load_weights(self.step, model)
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
        checksums.check_file(self.path, SUMMARY, RESTORE)
        values = read_run_json(path)
        valid_record(values, Summary, path, fix=RESTORE, error=CheckpointError)
        return values

    def environment(self) -> "Environment | None":
        """When, by which versions and on what machine it was finished; None if it does not say.

        Raises:
            CheckpointError: ``environment.json`` is damaged.
        """
        path = self / ENVIRONMENT
        if not os.path.lexists(path):
            return None
        from tfxc.core.environment import Environment

        return read_record(path, Environment, fix=RESTORE, error=CheckpointError)


def read_run_json(path: str | Path) -> dict[str, Any]:
    """Returns the object in a JSON file of a run.

    Raises:
        CheckpointError: it is missing or damaged.
        MachineError: it cannot be read.
    """
    return read_json(path, fix=RESTORE, error=CheckpointError)


def _unfit_weights(path: Path, error: Exception, fix: str) -> CheckpointError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    problem = f"does not fit the model of config.json ({reason})"
    return CheckpointError(problem, where=path, fix=fix)


def _similar(path: Path) -> str:
    """Returns ``", did you mean 'runs/my'?"`` for a run, beside a missing one or in ``runs``, whose
    name is like it or begins with it.
    """
    configs = itertools.chain(path.parent.glob("*/config.json"), Path("runs").glob("*/config.json"))
    runs = {config.parent.name: config.parent for config in configs}
    longer = sorted(name for name in runs if name.startswith(path.name))
    close = longer or difflib.get_close_matches(path.name, runs, n=1, cutoff=_ALIKE)
    return f", did you mean {str(runs[close[0]])!r}?" if close else ""
