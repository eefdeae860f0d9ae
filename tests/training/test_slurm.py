"""The cluster of a Slurm step."""

import json
import subprocess

import pytest

from tests.source_tree import ROOT
from tfxc.core.errors import ConfigError, MachineError
from tfxc.training import slurm
from tfxc.training.tf_config import check_tf_config, is_chief

STEP = {
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_ID": "3",
    "SLURM_STEP_NUM_TASKS": "7",
    "SLURM_STEP_NODELIST": "n[2,9-10]",
    "SLURM_STEP_TASKS_PER_NODE": "3(x2),1",
    "SLURM_NODEID": "1",
    "SLURM_LOCALID": "2",
    "SLURM_PROCID": "5",
}
HOSTS = ["n2", "n9", "n10"]


def test_the_address_of_each_rank():
    ranks = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]
    for rank, (node, place) in enumerate(ranks):
        own = {"SLURM_NODEID": str(node), "SLURM_LOCALID": str(place), "SLURM_PROCID": str(rank)}
        found = slurm.tf_config_of_step({**STEP, **own}, HOSTS)
        assert found["task"] == {"type": "worker", "index": rank}
        host, port = found["cluster"]["worker"][rank].split(":")
        assert host == HOSTS[node] and int(port) == 15_000 + 12 * 16 + 3 + place


def test_it_takes_the_place_of_tf_config(monkeypatch):
    for name, value in STEP.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TF_CONFIG", "")  # and back afterwards
    answer = subprocess.CompletedProcess([], 0, stdout="\n".join(HOSTS))
    monkeypatch.setattr(slurm.subprocess, "run", lambda *command, **options: answer)
    check_tf_config()
    assert not is_chief()
    other = json.dumps(
        {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    )
    monkeypatch.setenv("TF_CONFIG", other)
    check_tf_config()
    assert is_chief()


def test_one_task_is_no_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    with pytest.raises(ConfigError, match="needs a cluster"):
        check_tf_config()


def test_what_cannot_be_read(monkeypatch):
    with pytest.raises(ConfigError, match=r"task 4, which would be task 5 .*--distribution=block"):
        slurm.tf_config_of_step({**STEP, "SLURM_PROCID": "4"}, HOSTS)
    with pytest.raises(MachineError, match="SLURM_LOCALID"):
        slurm.tf_config_of_step({k: v for k, v in STEP.items() if k != "SLURM_LOCALID"}, HOSTS)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MachineError, match="scontrol show hostnames"):
        slurm.tf_config_of_step(STEP)


@pytest.mark.parametrize("path", sorted((ROOT / "examples/cluster").glob("*.sbatch")), ids=str)
def test_job_files_are_scripts(path):
    subprocess.run(["bash", "-n", path], check=True)
