"""What the last bits of a training run depend on, apart from its config and data."""

import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfxc.core.resources import processor_name, thread_count
from tfxc.ops.compiled_operations import CompiledOperation
from tfxc.ops.training_step import adam


def numerics_changes(before: Mapping[str, Any] | None) -> str | None:
    """Returns what has changed since a checkpoint was written.

    Args:
        before: what ``arithmetic`` was then; None if it is not known.

    Returns:
        A sentence for the user, or None if nothing has changed, or nothing is known.
    """
    if not isinstance(before, dict):
        return None
    now = numerics(before.get("optimizer step") is not None)
    changed = [
        f"{name} {before.get(name)} -> {value}"
        for name, value in now.items()
        if before.get(name) != value
    ]
    if not changed:
        return None
    return (
        f"other arithmetic than before ({'; '.join(changed)}): the weights will differ in the last "
        "bits from those of an uninterrupted training run"
    )


def numerics(compiles: bool | None = None) -> dict[str, Any]:
    """Returns what this process computes with, as a dict of names and values.

    Args:
        compiles: whether weights are updated by operations that a compiler makes; by default
            whether they were so far.

    Returns:
        Dict; ``"optimizer step"`` is None if no weights are.
    """
    if compiles is None:
        compiles = any(operation.requested for operation in CompiledOperation.all)
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    step = None
    if compiles:
        requested = [operation for operation in CompiledOperation.all if operation.requested]
        made = [operation.get() for operation in requested or [adam]]
        step = "compiled" if None not in made else "TensorFlow's"
    return {
        "optimizer step": step,
        "processor": processor_name(),
        "TensorFlow": tf.version.VERSION,
        "threads": threads or thread_count(),
        "oneDNN": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1"),
    }
