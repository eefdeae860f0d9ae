"""What the last bits of a training depend on besides its config and data."""

import json
import os

import tensorflow as tf

from tfxc.files import atomic_file
from tfxc.ops.compiled import processor, row_adam, row_adam_was_asked
from tfxc.ops.threads import thread_count

_FILE = "arithmetic.json"


def record_arithmetic(folder):
    """Writes into ``RUN/checkpoints`` what this process computes with, once steps were made."""
    with atomic_file(folder / _FILE) as stream:
        json.dump(_arithmetic(row_adam_was_asked()), stream, indent=2)


def changes_of_arithmetic(folder):
    """What has changed since the last checkpoint was written.

    Args:
        folder: ``RUN/checkpoints``.

    Returns:
        A sentence for the user, or None where nothing has, or nothing is known.
    """
    try:
        before = dict(json.loads((folder / _FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # a note for the user is no reason to stop
        return None
    now = _arithmetic(before.get("optimizer step") is not None)
    changed = [f"{name} {before.get(name)} -> {now[name]}" for name in now
               if before.get(name) != now[name]]  # fmt: skip
    if not changed:
        return None
    return (
        f"other arithmetic than before ({'; '.join(changed)}): the weights will differ in the last "
        "bits from those of an uninterrupted training"
    )


def _arithmetic(steps_rows):
    """By name; the optimizer step is None where no rows are updated (``steps_rows`` is False)."""
    names = (line.partition(":")[2].strip() for line in processor().splitlines()
             if line.lower().startswith(("model name", "cpu part", "cpu\t")))  # fmt: skip
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    step = None
    if steps_rows:
        step = "compiled" if row_adam() is not None else "TensorFlow's"
    return {
        "optimizer step": step,
        "processor": ", ".join(names) or processor().splitlines()[0],
        "TensorFlow": tf.version.VERSION,
        "threads": threads or thread_count(),
        "oneDNN": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1"),
    }
