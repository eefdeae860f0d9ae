"""Checkpoints for exact resume."""

import shutil
import tempfile
from pathlib import Path

import tensorflow as tf

from tfxc.data.tensorflow_files import os_errors
from tfxc.errors import CheckpointError
from tfxc.files import write_errors


class Checkpoints:
    """The last two checkpoints of a run.

    Every worker has to take part in saving; all but the chief write to a scratch folder that is
    removed again. What is sharded over replicas has a file per shard beside the chief's, written
    by whoever holds it into the same folder; a checkpoint counts when all its files are there.

    Args:
        folder: ``RUN/checkpoints``.
        variables: list of ``tf.Variable``s, always in the same order.
        chief: whether this process keeps what it writes.
        shards: {replica number: list of variables} of the shards held by this process.
        count: number of shards over all processes.
    """

    def __init__(self, folder, variables, chief=True, shards=None, count=0):
        self.folder, self.chief = Path(folder), chief
        self._shards = ShardFiles(self.folder, shards or {}, count)
        self._variables = list(variables)
        self._checkpoint = tf.train.Checkpoint(variables=self._variables)
        target = self.folder if chief else Path(tempfile.mkdtemp(prefix="tfxc-worker-"))
        self._target = target
        self._manager = tf.train.CheckpointManager(self._checkpoint, str(target), max_to_keep=2)

    def save(self, step):
        """Writes a checkpoint named after ``step``.

        Raises:
            UserError: the disk is full or refuses to be written to; the previous checkpoint
                stays.
        """
        with write_errors(self._target):
            try:
                with os_errors(self._target):
                    self._shards.save(step)
                    self._manager.save(checkpoint_number=step)
            except OSError:
                self._remove_halves(step)
                raise

    def _remove_halves(self, step):
        """Removes what a failed ``save`` has left of the checkpoint of ``step``."""
        self._shards.remove(step)
        for path in self._target.glob(f"ckpt-{step}[._]*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def restore(self):
        """Restores the newest checkpoint of the chief.

        Returns:
            Whether there was one.

        Raises:
            CheckpointError: it does not hold the variables of this model.
        """
        newest = self._newest()
        if newest is None:
            return False
        try:
            self._shards.restore(_step(newest))
            status = self._checkpoint.restore(newest)
            status.assert_existing_objects_matched().assert_consumed()
        # IndexError is what TensorFlow makes of a file that ends early.
        except (ValueError, AssertionError, IndexError, tf.errors.OpError) as error:
            reason = str(error).strip().splitlines()[0]
            raise CheckpointError(
                f"does not hold this model's variables ({reason})",
                where=newest,
                fix="train into another run folder, or start over with --fresh",
            ) from error
        return True

    def saved_shape(self, variable):
        """Shape of one of the variables in the newest checkpoint, a list.

        None where there is no checkpoint, or none that can be read: ``restore`` says why.
        """
        newest = self._newest()
        place = next(p for p, own in enumerate(self._variables) if own is variable)
        try:
            shapes = tf.train.load_checkpoint(newest).get_variable_to_shape_map() if newest else {}
        except (ValueError, tf.errors.OpError):
            return None
        return shapes.get(f"variables/{place}/.ATTRIBUTES/VARIABLE_VALUE")

    def _newest(self):
        state = tf.train.get_checkpoint_state(str(self.folder))
        paths = list(state.all_model_checkpoint_paths) if state else []
        whole = [path for path in paths if self._shards.complete(_step(path))]
        if paths and not whole:
            raise CheckpointError(
                f"the files of {self._shards.count} shards expected, found {self._shards.found()}",
                where=self.folder,
                fix="go on with as many replicas as before, all workers on one shared folder, or "
                "start over with --fresh",
            )
        return whole[-1] if whole else None

    def close(self):
        """Removes a worker's scratch folder."""
        if not self.chief:
            shutil.rmtree(self._target, ignore_errors=True)


class ShardFiles:
    """Files of what each replica holds alone, ``shard-R-of-N-STEP``, for the last two steps.

    Args:
        folder, shards, count: as in ``Checkpoints``.
    """

    def __init__(self, folder, shards, count):
        self.folder, self.count = folder, count
        self._checkpoints = {
            number: tf.train.Checkpoint(variables=list(variables))
            for number, variables in shards.items()
        }

    def save(self, step):
        """Writes the shards of this process; all but the last two steps' files go."""
        for number, checkpoint in self._checkpoints.items():
            checkpoint.write(str(self._path(number, step)))
            for old in sorted(self._steps(number))[:-2]:
                self._remove(number, old)

    def restore(self, step):
        """Reads the shards of this process."""
        for number, checkpoint in self._checkpoints.items():
            status = checkpoint.read(str(self._path(number, step)))
            status.assert_existing_objects_matched().assert_consumed()

    def complete(self, step):
        """Whether all shards of all processes were written."""
        return all(step in self._steps(number) for number in range(self.count))

    def found(self):
        """The files there are, in words."""
        numbers = {path.name.split("-of-")[1].split("-")[0] for path in self.folder.glob("shard-*")}
        return f"those of {' and '.join(sorted(numbers))}" if numbers else "none"

    def remove(self, step):
        """Removes this process' files of a step."""
        for number in self._checkpoints:
            self._remove(number, step)

    def _path(self, number, step):
        return self.folder / f"shard-{number}-of-{self.count}-{step}"

    def _steps(self, number):
        # The index is written last.
        found = self.folder.glob(f"shard-{number}-of-{self.count}-*.index")
        return {_step(path.stem) for path in found}

    def _remove(self, number, step):
        for path in self.folder.glob(f"{self._path(number, step).name}.*"):
            path.unlink(missing_ok=True)


def _step(path):
    return int(str(path).rsplit("-", 1)[-1])
