"""What ``TF_CONFIG`` says: the processes of a multi-worker training, and which of them this is."""

import json
import os
import re
from typing import Any

from tfxc.core.errors import ConfigError


def check_tf_config() -> None:
    """Checks the environment variable TF_CONFIG against what a worker needs.

    In a step of Slurm that started several tasks it is set here, if it was not set.

    Raises:
        ConfigError: it is missing, is not JSON, or cluster and task are not what they must be.
    """
    from tfxc.training.slurm import use_slurm_step

    use_slurm_step()
    text = os.environ.get("TF_CONFIG")
    if not text:
        raise _tf_config_error("strategy 'multi_worker' needs a cluster, and none is set")
    try:
        content = json.loads(text)
        cluster = content["cluster"]
        kind = content["task"]["type"]
        index = content["task"]["index"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise _tf_config_error("it is not JSON with 'cluster' and 'task'") from None
    _check_cluster(cluster)
    if kind not in cluster:
        raise _tf_config_error(
            f"task.type is {kind!r}, but the cluster has {' and '.join(cluster)} only"
        )
    count = len(cluster[kind])
    if type(index) is not int or not 0 <= index < count:
        raise _tf_config_error(
            f"task.index is {index!r}, but the cluster has {count} "
            f"{kind}{'s' if count > 1 else ''}, numbered from 0"
        )


def _check_cluster(cluster: object) -> None:
    if not isinstance(cluster, dict):
        raise _tf_config_error(f"cluster is not an object, but {cluster!r}")
    for kind, hosts in cluster.items():
        if kind not in ("chief", "worker"):
            raise _tf_config_error(f"the cluster has {kind!r}, which is neither chief nor worker")
        texts = isinstance(hosts, list) and all(isinstance(host, str) for host in hosts)
        if not texts or not hosts:
            raise _tf_config_error(
                f"the cluster's {kind!r} is not a list of addresses, but {hosts!r}"
            )
        for host in hosts:
            if not re.fullmatch(r".+:\d{1,5}", host) or int(host.rpartition(":")[2]) > 65535:
                raise _tf_config_error(f"{host!r} in the cluster is not a host:port")
    if len(cluster.get("chief", "1")) > 1:
        raise _tf_config_error(f"the cluster has {len(cluster['chief'])} chiefs instead of one")
    addresses = [host for hosts in cluster.values() for host in hosts]
    twice = [host for host in addresses if addresses.count(host) > 1]
    if not addresses or twice:
        raise _tf_config_error(
            f"the cluster names {twice[0]!r} twice" if twice else "the cluster is empty"
        )


def _tf_config_error(problem: str) -> ConfigError:
    example = (
        'set e.g. TF_CONFIG=\'{"cluster": {"worker": ["host1:12345", "host2:12345"]}, '
        '"task": {"type": "worker", "index": 0}}\''
    )
    return ConfigError(problem, where="TF_CONFIG", fix=example)


def addresses() -> dict[str, str]:
    """Returns the address of each task of the cluster, the chief first."""
    cluster = json.loads(os.environ["TF_CONFIG"])["cluster"]
    return {
        f"{kind} {number}": address
        for kind in sorted(cluster)
        for number, address in enumerate(cluster[kind])
    }


def task_name() -> str:
    """Names this process, e.g. ``worker 0``."""
    return f"{_task().get('type', 'worker')} {_task().get('index', 0)}"


def is_chief() -> bool:
    """Whether this process writes the run folder (worker 0, or the only process)."""
    if not os.environ.get("TF_CONFIG"):
        return True
    task = _task()
    return task.get("type", "worker") == "chief" or (
        task.get("type", "worker") == "worker"
        and task.get("index", 0) == 0
        and "chief" not in json.loads(os.environ["TF_CONFIG"]).get("cluster", {})
    )


def _task() -> dict[str, Any]:
    return json.loads(os.environ["TF_CONFIG"]).get("task", {})
