"""A closed terminal and a killed parent stop a training as SIGTERM does: it saves, and ends."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests import tiny
from tests.commands.calls import default_signals
from tests.source_tree import ROOT

CHILD = """
import os, sys, time
from tfxc.core.interrupts import StopSignals, watch_parent
watch_parent()
with StopSignals() as signals:
    print("started", flush=True)
    for _ in range(600):
        if signals.received:
            break
        time.sleep(0.1)
    if sys.argv[2:] != ["quiet"]:
        print("the terminal may have gone", flush=True)
        print("it may", file=sys.stderr, flush=True)
open(sys.argv[1], "w").write(str(signals.received))
"""
PARENT = """
import os, subprocess, sys
from tfxc.core.interrupts import stop_with_parent
command = [sys.executable, "-c", sys.argv[1], sys.argv[2], "quiet"]
child = subprocess.Popen(command, stdout=subprocess.PIPE, **stop_with_parent(os.environ))
print(child.stdout.readline().decode(), child.pid, flush=True)
child.wait()
"""


def content_of(path, seconds=120):
    """What a file holds once it is there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.05)
    pytest.fail(f"{path.name} was not written")


def test_children_stop_when_their_parent_is_killed(tmp_path):
    command = [sys.executable, "-c", PARENT, CHILD, str(tmp_path / "received")]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout.readline() == b"started\n"
    parent.kill()
    parent.communicate()
    assert content_of(tmp_path / "received") == str(signal.SIGTERM.value)


def test_a_closed_terminal_is_a_stop(tmp_path):
    terminal, slave = os.openpty()
    # setsid --ctty makes the terminal the child's own, so that closing it hangs up.
    command = ["setsid", "--ctty", sys.executable, "-c", CHILD, str(tmp_path / "received")]
    child = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, preexec_fn=default_signals
    )
    os.close(slave)
    assert b"started" in os.read(terminal, 100)
    os.close(terminal)
    assert child.wait(120) == 0, "what is printed afterwards may not fail"
    assert content_of(tmp_path / "received") == str(signal.SIGHUP.value)


def test_nohup_keeps_going(tmp_path):
    command = ["nohup", sys.executable, "-c", CHILD, str(tmp_path / "received")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT)
    assert child.stdout.readline() == b"started\n"
    child.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert child.poll() is None
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=120)
    assert content_of(tmp_path / "received") == str(signal.SIGINT.value)


@pytest.mark.slow
def test_repetitions_end_with_a_killed_parent_and_go_on(tmp_path):
    config = tiny.write_config(
        tmp_path,
        head={"name": "mach", "num_buckets": 8, "num_repetitions": 2},
        recipe={"name": "repetitions"},
        training={"epochs": 4000, "checkpoint_every": 1000},
    )
    command = [sys.executable, "-m", "tfxc.train", "--config", str(config)]
    command += ["--prepared", str(tmp_path / "prepared"), "--set", "recipe.parallel=2"]
    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    logs = [tmp_path / "run" / f"repetition-{number:02d}.log" for number in range(2)]
    wait_for(lambda: all(log.exists() and "step" in log.read_text() for log in logs))
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert second.returncode == 2 and f"process {parent.pid} on" in second.stderr
    parent.kill()
    parent.communicate()
    wait_for(lambda: all("stopped by SIGTERM, saved" in log.read_text() for log in logs))
    wait_for(lambda: not running(tmp_path))


def wait_for(true, seconds=120):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.2)


def running(folder):
    """Processes whose command line names a folder."""
    found = subprocess.run(["pgrep", "-f", f"tfxc.train.*{folder}"], capture_output=True)
    return found.stdout.split()
