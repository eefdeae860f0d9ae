"""Devices: which strategy, which GPU, how much of its memory."""

import contextlib
import functools
import json
import os

import tensorflow as tf

from tfxc.errors import ConfigError, UserError


def make_strategy(settings):
    """The distribution strategy of ``TrainingSettings``.

    ``mirrored`` uses ``settings.devices`` or all GPUs; on a machine without a GPU, devices
    ``["CPU:0", "CPU:1"]`` are logical CPUs made here. ``multi_worker`` reads ``TF_CONFIG``.

    Raises:
        ConfigError: no TF_CONFIG, or a batch that the replicas cannot share evenly.
    """
    if settings.strategy == "none":
        return _checked(tf.distribute.get_strategy(), settings)
    if settings.strategy == "multi_worker":
        check_tf_config()
        return _checked(_multi_worker(), settings)
    _make_logical_cpus(settings.devices)
    return _checked(_mirrored(tuple(settings.devices or ())), settings)


@functools.cache
def _mirrored(devices):
    """One strategy per process: TensorFlow's collectives mistake those of a second one for it."""
    return tf.distribute.MirroredStrategy(list(devices) or None)


@functools.cache
def _multi_worker():
    """One per process: it is this process' part in the cluster."""
    return tf.distribute.MultiWorkerMirroredStrategy()


def check_tf_config():
    """Holds the environment variable TF_CONFIG against what a worker needs.

    Raises:
        ConfigError: it is missing, is no JSON, or has no cluster or task.
    """
    example = (
        'e.g. TF_CONFIG=\'{"cluster": {"worker": ["host1:12345", "host2:12345"]}, '
        '"task": {"type": "worker", "index": 0}}\''
    )
    text = os.environ.get("TF_CONFIG")
    if not text:
        raise ConfigError("strategy 'multi_worker' needs TF_CONFIG", where="TF_CONFIG", fix=example)
    try:
        found = json.loads(text)
        found["cluster"], found["task"]["type"], found["task"]["index"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise ConfigError(
            "JSON with 'cluster' and 'task' is expected", where="TF_CONFIG", fix=example
        ) from None


def is_chief():
    """Whether this process writes the run folder (worker 0, or the only process)."""
    if not os.environ.get("TF_CONFIG"):
        return True
    task = _task()
    return task.get("type", "worker") == "chief" or (
        task.get("type", "worker") == "worker"
        and task.get("index", 0) == 0
        and "chief" not in json.loads(os.environ["TF_CONFIG"]).get("cluster", {})
    )


def _task():
    return json.loads(os.environ["TF_CONFIG"]).get("task", {})


def by_chief(strategy, work):
    """Work that one process does for all, e.g. writes files that the others read afterwards.

    Every worker calls it at the same place of the program and goes on when the chief is done.
    Where there is one process only, that one works.

    Args:
        strategy: a ``tf.distribute.Strategy``.
        work: function without arguments, called by the chief.

    Raises:
        UserError: in the other workers, if the chief's work has failed or was stopped; in all, if
            one has ended.

    Example:
        >>> by_chief(tf.distribute.get_strategy(), lambda: print("done"))
        done
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        work()
        return
    try:
        if is_chief():
            work()
    except BaseException:
        with contextlib.suppress(UserError):
            _sum_over_workers(strategy, 1.0)
        raise
    if _sum_over_workers(strategy, 0.0):
        raise UserError(
            "the chief has failed or was stopped",
            where=f"worker {_task()['index']}",
            fix="see what the chief says, then start all workers again",
        )


def _sum_over_workers(strategy, value):
    """Waits for all workers, and gives the sum of their values."""

    def add():
        return tf.distribute.get_replica_context().all_reduce("SUM", tf.constant(value))

    try:
        total = tf.function(lambda: strategy.run(add), autograph=False)()
        return float(strategy.experimental_local_results(total)[0])
    except tf.errors.OpError as error:
        raise UserError(
            f"a worker has ended or cannot be reached ({error.message.splitlines()[0]})",
            where=f"worker {_task()['index']}",
            fix="see what the others say, then start all workers again",
        ) from error


def choose_gpu(number, memory_share):
    """Shows TensorFlow one GPU only and limits its memory. Call before any other use of it.

    Args:
        number: GPU number, or None for all.
        memory_share: share of the GPU's memory in (0, 1], or None for all of it.

    Raises:
        ConfigError: there is no such GPU, or TensorFlow cannot tell its memory.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if number is not None:
        if number >= len(gpus):
            raise ConfigError(
                f"GPU {number} is asked for, TensorFlow sees {len(gpus)}",
                where="--gpu",
                fix="leave --gpu out to train on the CPU" if not gpus else "choose a lower number",
            )
        gpus = [gpus[number]]
        tf.config.set_visible_devices(gpus, "GPU")
    if memory_share is None:
        return
    if not 0 < memory_share <= 1:
        raise ConfigError(
            f"a share in (0, 1] is expected, found {memory_share}", where="--gpu_usage"
        )
    for gpu in gpus:
        tf.config.set_logical_device_configuration(gpu, [_limit(gpu, memory_share)])


def _limit(gpu, share):
    import subprocess

    number = gpu.name.rsplit(":", 1)[-1]
    query = [
        "nvidia-smi",
        f"--id={number}",
        "--query-gpu=memory.total",
        "--format=csv,nounits,noheader",
    ]
    try:
        total = int(subprocess.run(query, capture_output=True, text=True, check=True).stdout)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise ConfigError(
            f"the memory of {gpu.name} cannot be read by nvidia-smi",
            where="--gpu_usage",
            fix="leave --gpu_usage out",
        ) from error
    return tf.config.LogicalDeviceConfiguration(memory_limit=int(total * share))


def _make_logical_cpus(devices):
    wanted = [int(d.rsplit(":", 1)[-1]) + 1 for d in devices or [] if "CPU" in d.upper()]
    if not wanted or max(wanted) < 2:
        return
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * max(wanted)
    try:
        tf.config.set_logical_device_configuration(cpu, parts)
    except RuntimeError:  # TensorFlow is already running
        if len(tf.config.list_logical_devices("CPU")) < max(wanted):
            raise ConfigError(
                "logical CPUs must be made before TensorFlow is used",
                where="training.devices",
                fix="start the training in a fresh process",
            ) from None


def _checked(strategy, settings):
    parts = strategy.num_replicas_in_sync * settings.accumulate
    if settings.batch_size % parts:
        raise ConfigError(
            f"a multiple of {parts} (micro-batches times replicas) expected, found "
            f"{settings.batch_size}",
            where="training.batch_size",
            fix=f"use {max(1, settings.batch_size // parts) * parts}",
        )
    return strategy
