"""Checkpoints for exact resume, checked when they are read."""

import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfxc.core.errors import CheckpointError
from tfxc.core.storage.files import write_errors
from tfxc.core.storage.locks import scratch_folder
from tfxc.ops.file_errors import os_errors
from tfxc.runs.checkpoint_files import CheckpointFiles
from tfxc.training.strategies import from_all_workers

_KEPT = 2
_FRESH = "start over with --fresh"
_COPY = "put the files back from a copy"
_SHARDS = "continue with as many replicas as before, all workers on one shared folder"


class Checkpoints:
    """The last checkpoints of a run: two, or more if requested, while it is being trained.

    A checkpoint is TensorFlow's ``ckpt-STEP.index`` and ``ckpt-STEP.data-*``, and
    ``ckpt-STEP.json``, which is written last and holds their sizes and SHA-256. What is sharded
    over replicas has such files per shard, ``shard-R-of-N-STEP.*``, written by whoever holds it
    into the same folder.

    Every worker has to take part in saving and restoring; all but the chief write what all have
    to a scratch folder that is removed again.

    Args:
        folder: ``RUN/checkpoints``.
        variables: list of ``tf.Variable``s, always in the same order.
        chief: whether this process keeps what it writes.
        shards: {replica number: list of variables} of the shards held by this process.
        count: number of shards over all processes.
        identity: dict of name -> text of what a checkpoint belongs to, e.g. hashes of the data;
            one with another identity is refused. None for no such check.
        strategy: the ``tf.distribute.Strategy`` whose workers share the folder; None for one
            process.
        keep: how many ``finish`` keeps.

    Attributes:
        progress: what ``save`` was given with the restored checkpoint, a dict.
    """

    def __init__(
        self,
        folder: str | Path,
        variables: Sequence[tf.Variable],
        chief: bool = True,
        shards: Mapping[int, Sequence[tf.Variable]] | None = None,
        count: int = 0,
        identity: Mapping[str, str] | None = None,
        strategy: tf.distribute.Strategy | None = None,
        keep: int = 0,
    ) -> None:
        self.folder = Path(folder)
        self.chief = chief
        self.count = count
        self.identity = identity
        self._strategy = strategy
        self.progress: dict[str, Any] = {}
        self._variables = list(variables)
        self._files = CheckpointFiles(self.folder, "ckpt", self._variables)
        self._shards = [
            CheckpointFiles(self.folder, f"shard-{number}-of-{count}", held)
            for number, held in (shards or {}).items()
        ]
        self.keep = keep
        self._open = contextlib.ExitStack()
        self._scratch = None if chief else self._open.enter_context(scratch_folder("worker"))

    def save(self, step: int, progress: Mapping[str, Any] | None = None) -> None:
        """Writes a checkpoint named after ``step``; older ones go.

        Args:
            step: number of updates made.
            progress: dict of JSON values that ``restore`` returns.

        Raises:
            MachineError: the disk is full or refuses to be written to; the previous checkpoint
                stays.
        """
        written = [*self._shards, self._files] if self.chief else self._shards
        with write_errors(self.folder):
            try:
                with os_errors(self.folder):
                    for files in self._shards:
                        files.save(step)
                    if self.count:  # so that the chief's last file shows that all are complete
                        from_all_workers(self._strategy, [step])
                    if self.chief:
                        self._files.save(step, identity=self.identity, progress=progress)
                    else:
                        assert self._scratch is not None
                        self._files.checkpoint.write(str(self._scratch / "ckpt"))
            except OSError:
                for files in written:
                    files.remove(step)
                raise
        for files in written:
            files.remove_all_but(step, max(_KEPT, self.keep))

    def restore(self, report: Callable[[str], Any] = print, only: int | None = None) -> bool:
        """Restores the newest intact checkpoint, or a certain one.

        Args:
            report: called with a line of text for each newer one that is not.
            only: the step of the only one that will do; None for the newest.

        Returns:
            Whether there was one.

        Raises:
            CheckpointError: checkpoints were written, but none is intact; or the newest does
                not hold the variables of this model, or has another identity.
        """
        damaged = None
        for step in self._steps() if only is None else [only]:
            problem = self._problem(step)
            if not from_all_workers(self._strategy, [problem is not None]).any():
                self._restore(step)
                return True
            if self._files.finished(step):
                damaged = damaged or problem or "another worker found it damaged"
            where = self.folder / f"ckpt-{step}"
            report(f"{where}: skipped: {problem or 'another worker found it damaged'}")
        if damaged:
            raise CheckpointError(
                f"no checkpoint is intact: {damaged}",
                where=self.folder,
                fix=f"{_SHARDS if self.count else _COPY}, or {_FRESH}",
            )
        return False

    def _steps(self) -> list[int]:
        """Returns the steps of which there are files, newest first; the same list in all
        workers.
        """
        seen = sorted(self._files.steps(), reverse=True)[: 2 * _KEPT]
        seen += [-1] * (2 * _KEPT - len(seen))
        return [int(step) for step in from_all_workers(self._strategy, seen).max(0) if step >= 0]

    def _problem(self, step: int) -> str | None:
        """Returns why a checkpoint cannot be used, or None."""
        if not self._files.finished(step):
            return "it was not finished when the process ended"
        files = [self._files, *self._shards]
        for number in range(self.count):
            shard = CheckpointFiles(self.folder, f"shard-{number}-of-{self.count}")
            if not shard.finished(step):
                counts = {
                    path.name.split("-of-")[1].split("-")[0] for path in self.folder.glob("shard-*")
                }
                present = f"those of {' and '.join(sorted(counts))}" if counts else "none"
                return f"it needs the files of {self.count} shards, and there are {present}"
            if all(shard.prefix != held.prefix for held in self._shards):
                files.append(shard)
        here = (self._files, *self._shards)
        problems = (each.problem(step, hashes=each in here) for each in files)
        return next((problem for problem in problems if problem), None)

    def _restore(self, step: int) -> None:
        content = self._files.content(step)
        assert content is not None, "it was looked for before"
        where = self.folder / f"ckpt-{step}"
        if self.identity is not None:
            written = content.get("identity") or {}
            names = {**written, **self.identity}
            changed = [name for name in names if written.get(name) != self.identity.get(name)]
            if changed:
                raise CheckpointError(
                    f"was written by a different training; changed: {', '.join(changed)}",
                    where=where,
                    fix=f"use what the run was started with, or {_FRESH}",
                )
        try:
            for files in (*self._shards, self._files):
                files.restore(step)
        except (ValueError, AssertionError, IndexError, tf.errors.OpError) as error:
            reason = str(error).strip().splitlines()[0]
            raise CheckpointError(
                f"does not contain this model's variables ({reason})",
                where=where,
                fix=f"train into another run folder, or {_FRESH}",
            ) from error
        self.progress = content.get("progress") or {}

    def saved_shape(self, variable: tf.Variable) -> list[int] | None:
        """Returns the shape of one of the variables in the newest checkpoint, a list.

        None if there is no checkpoint, or none that can be read: ``restore`` says why.
        """
        steps = self._files.finished_steps()
        if not steps:
            return None
        place = next(p for p, own in enumerate(self._variables) if own is variable)
        try:
            return self._files.shapes(max(steps)).get(place)
        except (ValueError, tf.errors.OpError):
            return None

    def finish(self, step: int) -> None:
        """Removes what nothing resumes from after the last step, except ``keep`` checkpoints."""
        for files in [*self._shards, self._files] if self.chief else self._shards:
            files.remove_all_but(step, self.keep)
        if self.chief and not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Removes a worker's scratch folder."""
        self._open.close()
