"""What a training tells: progress line, log.txt, metrics.jsonl, TensorBoard."""

import json
import sys

import tensorflow as tf

from tfxc.files import atomic_file, write_errors
from tfxc.progress import Progress


class Reporter:
    """Writes one run's figures.

    Args:
        run: ``RunFolder``.
        start_step: step the run resumes at; later lines of an interrupted run are dropped.
        total_steps: steps of the whole training.
        batch_size: examples a step.
    """

    def __init__(self, run, start_step, total_steps, batch_size):
        self.run, self.batch_size = run, batch_size
        self._progress = Progress(
            "training", total_steps * batch_size, "examples", start_step * batch_size
        )
        self._board = None
        if run.chief:
            _drop_later_lines(run / "metrics.jsonl", start_step)
            self._board = tf.summary.create_file_writer(str(run / "tensorboard"))

    def advance(self, step, loss):
        """Moves the progress line by one step."""
        if self.run.chief:
            self._progress.advance(self.batch_size, f"step {step:,}, loss {loss:.4f}")

    def figures(self, step, values):
        """Appends a line to metrics.jsonl and scalars to TensorBoard."""
        if not self.run.chief:
            return
        self._append("metrics.jsonl", json.dumps({"step": step, **values}))
        with self._board.as_default():
            for name, value in values.items():
                # tf.summary.scalar needs the package tensorboard, the op behind it does not.
                tf.raw_ops.WriteScalarSummary(
                    writer=self._board._resource, step=step, tag=name, value=float(value)
                )

    def say(self, text):
        """Prints a line above the progress line and appends it to log.txt."""
        if not self.run.chief:
            return
        self._progress.clear()
        print(text, file=sys.stdout, flush=True)
        self._append("log.txt", text)

    def _append(self, name, line):
        path = self.run / name
        with write_errors(path), open(path, "a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def close(self, failed=False):
        """Ends the progress line and flushes TensorBoard's file."""
        if self.run.chief:
            self._progress.close(failed)
            self._board.close()


def _drop_later_lines(path, step):
    """A killed run may have reported beyond its last checkpoint."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if _step_of(line) <= step]
    with atomic_file(path) as stream:
        stream.writelines(line + "\n" for line in kept)


def _step_of(line):
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):  # the line a kill cut short
        return float("inf")
