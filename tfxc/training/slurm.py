"""The cluster of a Slurm job step, for strategy ``multi_worker``.

``srun`` starts the same command once per task. TensorFlow's own ``SlurmClusterResolver`` sorts the
hosts by name, so that ``n10`` comes before ``n2`` and ranks meet the wrong addresses; it also needs
GPUs. So what Slurm says is read here.
"""

import os
import subprocess
from collections.abc import Mapping

from tfxc.core.errors import ConfigError, MachineError
from tfxc.core.escaping import json_text

_FIRST_PORT = 15_000
_PORTS = 15_000  # below those that systems give to outgoing connections
_WANTED = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE", "SLURM_NODEID",
           "SLURM_LOCALID", "SLURM_PROCID", "SLURM_STEP_ID")  # fmt: skip


def use_slurm_step() -> None:
    """Sets ``TF_CONFIG`` in a Slurm step of several tasks, unless it is set.

    Raises:
        ConfigError, MachineError: see ``tf_config_of_step``.
    """
    if not os.environ.get("TF_CONFIG") and int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        os.environ["TF_CONFIG"] = json_text(tf_config_of_step(os.environ))


def tf_config_of_step(variables: Mapping[str, str], hosts: list[str] | None = None) -> dict:
    """Returns the content of ``TF_CONFIG`` of a task.

    Args:
        variables: those that Slurm sets in the task.
        hosts: of the step; None asks ``scontrol``.

    Raises:
        ConfigError: tasks are not distributed in blocks, so that nobody knows which is where.
        MachineError: ``scontrol`` does not answer, or a variable is missing.

    Example:
        >>> step = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "n[2,10]",
        ...         "SLURM_STEP_TASKS_PER_NODE": "2,1", "SLURM_NODEID": "1", "SLURM_LOCALID": "0",
        ...         "SLURM_PROCID": "2"}
        >>> content = tf_config_of_step(step, ["n2", "n10"])
        >>> content["cluster"]["worker"]
        ['n2:15112', 'n2:15113', 'n10:15112']
        >>> content["task"]
        {'type': 'worker', 'index': 2}
    """
    missing = [name for name in _WANTED if name not in variables]
    if missing:
        raise MachineError(
            f"the variable {missing[0]} of a Slurm step is not set",
            where="multi_worker",
            fix="start the command with srun, or set TF_CONFIG",
        )
    if hosts is None:
        command = ["scontrol", "show", "hostnames", variables["SLURM_STEP_NODELIST"]]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise MachineError(
                f"`{' '.join(command)}` failed: {error}",
                where="multi_worker",
                fix="set TF_CONFIG yourself, or put scontrol into the PATH",
            ) from error
        hosts = done.stdout.split()
    counts = []  # [3, 3, 2] of "3(x2),2"
    for part in variables["SLURM_STEP_TASKS_PER_NODE"].split(","):
        count, _, times = part.partition("(x")
        counts += [int(count)] * int(times.rstrip(")") or 1)
    node, place, rank = (int(variables[name]) for name in _WANTED[3:6])
    if sum(counts[:node]) + place != rank:
        raise ConfigError(
            f"this is task {rank}, which would be task {sum(counts[:node]) + place} if the tasks "
            "were distributed in blocks",
            where="SLURM_PROCID",
            fix="start them with srun --distribution=block",
        )
    # Another step of another job on the same machine has other ports, most likely.
    step = int(variables["SLURM_JOB_ID"]) * 16 + int(variables["SLURM_STEP_ID"])
    first = _FIRST_PORT + step % _PORTS
    workers = [
        f"{host}:{first + number}"
        for host, count in zip(hosts, counts, strict=True)
        for number in range(count)
    ]
    return {"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}}
