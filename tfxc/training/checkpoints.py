"""Checkpoints for exact resume."""

import errno
import shutil
import tempfile
from pathlib import Path

import tensorflow as tf

from tfxc.errors import CheckpointError
from tfxc.files import write_errors

# TensorFlow's names of what the operating system says when a file cannot be written.
_REASONS = {
    tf.errors.ResourceExhaustedError: errno.ENOSPC,
    tf.errors.PermissionDeniedError: errno.EACCES,
}


class Checkpoints:
    """The last two checkpoints of a run.

    Every worker has to take part in saving; all but the chief write to a scratch folder that is
    removed again.

    Args:
        folder: ``RUN/checkpoints``.
        variables: list of ``tf.Variable``s, always in the same order.
        chief: whether this process keeps what it writes.
    """

    def __init__(self, folder, variables, chief=True):
        self.folder, self.chief = Path(folder), chief
        self._checkpoint = tf.train.Checkpoint(variables=list(variables))
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
                self._manager.save(checkpoint_number=step)
            except tuple(_REASONS) as error:
                self._remove_halves(step)
                raise OSError(_REASONS[type(error)], str(error)) from error

    def _remove_halves(self, step):
        """Removes what a failed ``save`` has left of the checkpoint of ``step``."""
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
        newest = tf.train.latest_checkpoint(str(self.folder))
        if newest is None:
            return False
        try:
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

    def close(self):
        """Removes a worker's scratch folder."""
        if not self.chief:
            shutil.rmtree(self._target, ignore_errors=True)
