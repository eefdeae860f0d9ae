"""Devices: which strategy, which GPU, how much of its memory."""

import contextlib
import functools
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfxc.core.errors import ConfigError, MachineError, UserError
from tfxc.core.messages import NOTES
from tfxc.training.tf_config import addresses, check_tf_config, is_chief, task_name

if TYPE_CHECKING:
    from tfxc.core.settings import Config, TrainingSettings


# What TensorFlow raises where a worker is gone.
_LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.UnavailableError,
)


def make_strategy(
    settings: "TrainingSettings", config: "Config | None" = None
) -> tf.distribute.Strategy:
    """Returns the distribution strategy of ``TrainingSettings``.

    ``mirrored`` uses ``settings.devices`` or all GPUs; on a machine without a GPU, devices
    ``["CPU:0", "CPU:1"]`` are logical CPUs made here. ``multi_worker`` reads ``TF_CONFIG``, or
    what Slurm says of its step, and waits for the other workers, at most ``TFXC_WAIT`` seconds.

    Args:
        config: the ``Config`` that all workers must have; None if it is not compared.

    Raises:
        ConfigError: no TF_CONFIG, or an invalid one; workers with different configs; devices
            that do not exist; or a batch that the replicas cannot share evenly.
        MachineError: another worker did not start in time.
    """
    if settings.devices is not None:
        _check_devices(settings.devices, settings.strategy)
    if settings.strategy == "none":
        strategy = tf.distribute.get_strategy()
    elif settings.strategy == "multi_worker":
        check_tf_config()
        if not _multi_worker.cache_info().currsize:
            from tfxc.training.rendezvous import Rendezvous, wait_limit

            Rendezvous(addresses(), task_name(), _shared_keys(config), wait_limit()).meet()
        strategy = _multi_worker()
    else:
        _make_logical_cpus(settings.devices or ())
        strategy = _mirrored(tuple(settings.devices or ()))
    check_batch_size(settings, strategy.num_replicas_in_sync)
    return strategy


def replicas_here(settings: "TrainingSettings") -> int:
    """Returns how many replicas of the model this machine will hold, without making the strategy.

    Example:
        >>> from tfxc.core.settings import TrainingSettings
        >>> replicas_here(TrainingSettings(strategy="mirrored", devices=["CPU:0", "CPU:1"]))
        2
    """
    if settings.strategy == "none":
        return 1
    return len(settings.devices or ()) or max(1, num_gpus())


def num_workers(settings: "TrainingSettings") -> int:
    """Returns how many processes train together; 1 where nothing says so yet.

    Raises:
        ConfigError: TF_CONFIG is malformed.
    """
    if settings.strategy != "multi_worker" or not os.environ.get("TF_CONFIG"):
        return 1
    check_tf_config()
    return len(addresses())


def _check_devices(devices: Sequence[str], strategy: str) -> None:
    """Refuses devices of another strategy, and devices that do not exist.

    TensorFlow would place what belongs to a missing GPU on the CPU.
    """
    where = "training.devices"
    if strategy != "mirrored":
        raise ConfigError(
            f"strategy {strategy!r} cannot be given devices",
            where=where,
            fix="remove training.devices, or set training.strategy=mirrored",
        )
    gpus = [f"GPU:{n}" for n in range(len(tf.config.list_physical_devices("GPU")))]
    shape = re.compile(r"(?:.*[/:])?(CPU|GPU):(\d+)", re.IGNORECASE)
    names = [f"{m[1].upper()}:{int(m[2])}" if m else None for m in map(shape.fullmatch, devices)]
    missing = [
        device
        for device, name in zip(devices, names, strict=True)
        if name is None or (name.startswith("GPU") and name not in gpus)
    ]
    if missing:
        problem = f"unknown device {missing[0]!r}"
    elif not devices:
        problem = "the list of devices is empty"
    elif len(set(names)) < len(names):
        problem = f"a device is named twice: {', '.join(map(repr, devices))}"
    else:
        return
    available = ", ".join(["CPU:0", *gpus])
    raise ConfigError(
        problem,
        where=where,
        fix=f"choose from the available devices ({available}), or leave it out",
    )


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """Makes one strategy per process: TensorFlow's collectives mistake those of a second one."""
    return tf.distribute.MirroredStrategy(list(devices) or None)


@functools.cache
def _multi_worker() -> tf.distribute.Strategy:
    """Makes the strategy of one process of several: its part in the cluster."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    # TensorFlow's own handler only records SIGTERM: outside training it has to end us.
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    return strategy


def _shared_keys(config: "Config | None") -> dict[str, Any]:
    """Returns ``{"a.b": value}`` of what may not differ between workers; paths may."""
    free = {"about", "run", "data.where", "data.rehearsal", "training.log_every"}
    free |= {"recipe.memory_gb", "recipe.threads"}
    flat: dict[str, Any] = {}
    tree = config.model_dump(mode="json") if config is not None else {}
    for section, value in tree.items():
        if isinstance(value, dict):
            flat |= {f"{section}.{key}": part for key, part in value.items()}
        else:
            flat[section] = value
    return {key: value for key, value in flat.items() if key not in free}


def has_workers(strategy: tf.distribute.Strategy | None) -> bool:
    """Tells whether a strategy's replicas belong to several processes."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def by_chief(strategy: tf.distribute.Strategy, work: Callable[[], Any]) -> None:
    """Lets one process do work for all, e.g. write files that the others read afterwards.

    Every worker calls it at the same place of the program and continues when the chief is done.
    Where there is one process only, that one works.

    Args:
        strategy: a ``tf.distribute.Strategy``.
        work: function without arguments, called by the chief.

    Raises:
        MachineError: in the other workers, if the chief's work has failed or was stopped; in all,
            if one has ended.

    Example:
        >>> by_chief(tf.distribute.get_strategy(), lambda: print("done"))
        done
    """
    if not has_workers(strategy):
        work()
        return
    try:
        if is_chief():
            work()
    except BaseException:
        with contextlib.suppress(UserError):
            from_all_workers(strategy, [1.0])
        raise
    if from_all_workers(strategy, [0.0]).any():
        raise MachineError(
            "the chief has failed or was stopped",
            where=task_name(),
            fix="read the chief's messages, then start all workers again",
        )


def from_all_workers(
    strategy: tf.distribute.Strategy | None, values: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Returns the values that each worker contributes; waits for all of them.

    Every worker calls it at the same place of the program.

    Args:
        strategy: a ``tf.distribute.Strategy``, or None for a single process.
        values: list of numbers, equally many in all workers.

    Returns:
        float64 (replicas, numbers): a row for each replica, or one row in a single process.

    Raises:
        MachineError: a worker has ended.

    Example:
        >>> from_all_workers(None, [1, 2]).tolist()
        [[1.0, 2.0]]
    """
    if strategy is None or not has_workers(strategy):
        return np.array([values], np.float64)

    with lost_workers(strategy):
        rows = _gathering(strategy)(tf.constant(np.array([values], np.float64)))
        return strategy.experimental_local_results(rows)[0].numpy()


@functools.cache
def _gathering(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns what gathers a row of each replica; traced once for a width, TensorFlow warns of
    more.
    """

    def gather(row: tf.Tensor) -> tf.Tensor:
        here = tf.identity(row)  # on a device: arguments have none
        return tf.distribute.get_replica_context().all_gather(here, axis=0)

    return tf.function(lambda row: strategy.run(gather, args=(row,)), autograph=False)


def check_same(strategy: tf.distribute.Strategy, values: Mapping[str, str], where: str) -> None:
    """Refuses workers that were given different things, e.g. different data.

    Args:
        strategy: a ``tf.distribute.Strategy``.
        values: dict of name -> text.
        where: what the message names.

    Raises:
        ConfigError: they differ; the names are given.
    """
    text = json.dumps(values, sort_keys=True).encode()
    longest = int(from_all_workers(strategy, [len(text)]).max())
    rows = from_all_workers(strategy, list(text.ljust(longest)))
    dicts = [json.loads(bytes(row.astype(np.uint8))) for row in rows]
    names = sorted({name for texts in dicts for name in texts})
    changed = [name for name in names if len({texts.get(name) for texts in dicts}) > 1]
    if changed:
        raise ConfigError(
            f"the workers have different data: {', '.join(changed)}",
            where=where,
            fix="give all workers the same files",
        )


@contextlib.contextmanager
def lost_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turns TensorFlow's errors over a worker that has ended into one line.

    Raises:
        MachineError: a worker has ended or cannot be reached.
    """
    try:
        yield
    except tf.errors.OpError as error:
        lost = isinstance(error, _LOST) or "Collective ops is aborted" in error.message
        if not has_workers(strategy) or not lost:
            raise
        named = re.findall(r"/job:(\w+)/replica:\d+/task:(\d+)", error.message)
        others = {" ".join(name) for name in named} - {task_name()}
        raise MachineError(
            f"{' and '.join(sorted(others)) or 'another worker'} has ended or cannot be reached",
            where=task_name(),
            fix="read the other workers' messages, then start all of them again: training "
            "resumes from its last checkpoint",
        ) from error


def num_gpus() -> int:
    """Returns how many GPUs TensorFlow finds; it uses none of them yet."""
    return len(tf.config.list_physical_devices("GPU"))


def share_gpus() -> None:
    """Takes no more of the GPUs' memory than is needed, as other processes use them as well."""
    for gpu in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):  # this process uses them already, as it was told to
            tf.config.experimental.set_memory_growth(gpu, True)


def choose_gpu(number: int | None, memory_share: float | None) -> None:
    """Shows TensorFlow one GPU only and limits its memory. Call before any other use of it.

    Where there is no GPU at all, the CPU is used, and a warning says so: a command that is written
    for a machine with GPUs then works on one without, as with the original code of MACH.

    Args:
        number: GPU number, or None for all.
        memory_share: share of the GPU's memory in (0, 1], or None for all of it.

    Raises:
        ConfigError: there are GPUs, but not this one, or TensorFlow does not know its memory.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if number is not None and not gpus:
        NOTES.warning(f"--gpu {number}: there is no GPU, the CPU is used")
    elif number is not None:
        if number >= len(gpus):
            raise ConfigError(
                f"there is no GPU {number}; TensorFlow knows {len(gpus)}, numbered from 0",
                where="--gpu",
                fix="choose a lower number",
            )
        gpus = [gpus[number]]
        tf.config.set_visible_devices(gpus, "GPU")
    if memory_share is None:
        return
    for gpu in gpus:
        try:
            total = _memory_mb(gpu, "memory.total")
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise ConfigError(
                f"nvidia-smi does not tell the memory of {gpu.name}",
                where="--gpu_usage",
                fix="leave --gpu_usage out",
            ) from error
        limit = tf.config.LogicalDeviceConfiguration(memory_limit=int(total * memory_share))
        tf.config.set_logical_device_configuration(gpu, [limit])


def gpu_bytes() -> list[int]:
    """Returns how much memory each GPU that this process may use has left for it, in bytes.

    Empty without a GPU, and where the driver does not say.
    """
    sizes = []
    for gpu in tf.config.get_visible_devices("GPU"):
        parts = tf.config.get_logical_device_configuration(gpu) or []
        limit = sum(part.memory_limit or 0 for part in parts)
        try:
            sizes.append((limit or _memory_mb(gpu, "memory.free")) * 2**20)
        except (OSError, ValueError, subprocess.CalledProcessError):
            return []
    return sizes


def _memory_mb(gpu: tf.config.PhysicalDevice, what: str) -> int:
    """Returns what nvidia-smi knows of a GPU's memory, ``memory.total`` or ``memory.free``, in
    MB.
    """
    number = gpu.name.rsplit(":", 1)[-1]
    query = ["nvidia-smi", f"--id={number}", f"--query-gpu={what}"]
    command = [*query, "--format=csv,nounits,noheader"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _make_logical_cpus(devices: Sequence[str]) -> None:
    wanted = [int(d.rsplit(":", 1)[-1]) + 1 for d in devices if "CPU" in d.upper()]
    if not wanted or max(wanted) < 2:
        return
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * max(wanted)
    try:
        tf.config.set_logical_device_configuration(cpu, parts)
    except RuntimeError:  # TensorFlow is already running
        if len(tf.config.list_logical_devices("CPU")) < max(wanted):
            raise ConfigError(
                "logical CPUs can be created only before TensorFlow is used",
                where="training.devices",
                fix="start training in a fresh process",
            ) from None


def check_batch_size(settings: "TrainingSettings", replicas: int) -> None:
    """Refuses a batch that cannot be divided evenly.

    Args:
        settings: ``TrainingSettings``.
        replicas: on this machine, or on all.

    Raises:
        ConfigError: ``batch_size`` is no multiple of micro-batches times replicas.
    """
    parts = replicas * settings.accumulate
    if settings.batch_size % parts:
        raise ConfigError(
            f"{settings.batch_size} is not a multiple of {parts}, the micro-batches times replicas",
            where="training.batch_size",
            fix=f"use {max(1, settings.batch_size // parts) * parts}",
        )
