"""train.sh: its shell logic with a stand-in for Python, and one real training."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import tiny
from tfxc.core.storage.ownership import mark
from tfxc.runs.writer import KIND, NAMES

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = str(ROOT / "train.sh")

# Answers for tools/plan_repetitions.py; as tfxc train it notes its start, its options and signals,
# then does what the file behaviour-R says.
STAND_IN = """#!/usr/bin/env bash
cd "$FOLDER" || exit 9
case "$*" in *plan_repetitions*)
    [ -f plan-fails ] && { echo "tfxc: the plan is bad" >&2; exit 2; }
    mkdir -p "$FOLDER/my run"; echo "a line before"; echo "4 2 $FOLDER/my run"; exit 0 ;;
esac
for word; do r=$word; [ "$word" = --gpu ] && break; done
r=$(sed 's/.*--repetition \\([0-9]*\\).*/\\1/' <<<"$*")
trap 'echo INT >>signals-$r; exit 130' INT
trap 'echo TERM >>signals-$r; sleep 0.5; echo saved >>signals-$r; exit 143' TERM
echo "$*" >arguments-$r; echo "$OMP_NUM_THREADS $MARK" >environment-$r
echo start >>times; echo "output of $r"
[ -f behaviour-$r ] && . ./behaviour-$r
sleep 0.4; echo stop >>times; echo "$r" >>ended
"""


@pytest.fixture(params=["tmux", "background"])
def shell(request, path_without_tmux, tmp_path):
    """A function (arguments, **environment) -> ``Popen`` of train.sh, with and without tmux."""
    if request.param == "tmux" and not shutil.which("tmux"):
        pytest.skip("needs tmux")
    path = os.environ["PATH"] if request.param == "tmux" else path_without_tmux
    stand_in = tmp_path / "python stand-in"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)

    def start(*arguments, **environment):
        variables = {"PATH": path, "PYTHON": str(stand_in), "FOLDER": str(tmp_path), "MARK": "m"}
        return open_shell(arguments, {**variables, **environment}, tmp_path)

    return start


# What is the same with and without tmux; what differs is tried with both.
NO_TMUX = pytest.mark.parametrize(
    "shell", [pytest.param("tmux", marks=pytest.mark.slow), "background"], indirect=True
)


@pytest.fixture(scope="module")
def path_without_tmux(tmp_path_factory):
    """A PATH with every command of the real one but tmux."""
    commands = tmp_path_factory.mktemp("commands")
    for place in map(Path, os.environ["PATH"].split(os.pathsep)):
        for command in place.iterdir() if place.is_dir() else ():
            target = commands / command.name
            if command.name != "tmux" and not target.is_symlink():
                target.symlink_to(command)
    return str(commands)


def open_shell(arguments, variables, folder):
    """Starts train.sh as the leader of a process group, as a terminal does."""
    return subprocess.Popen(
        [SCRIPT, *arguments],
        cwd=folder,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Whoever runs the tests in the background ignores SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process, timeout=60):
    """(exit code, standard output, standard error)."""
    try:
        output, errors = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, output, errors


def most_at_a_time(path):
    running, most = 0, 0
    for line in path.read_text().split():
        running += 1 if line == "start" else -1
        most = max(most, running)
    return most


def wait_for(*paths, seconds=60):
    deadline = time.monotonic() + seconds
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline, f"{paths} did not appear"
        time.sleep(0.05)


def test_syntax_and_help():
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    code, output, errors = finish(open_shell(["--help"], {}, ROOT))
    assert (code, errors) == (0, "")
    assert output.startswith("Trains the R repetitions") and "JOBS" in output and "#" not in output
    code, output, errors = finish(open_shell([], {}, ROOT))
    assert (code, output) == (2, "") and "./train.sh CONFIG [R] [GPUS]" in errors


@NO_TMUX
@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (["c", "0"], {}, "R must be a number from 1 on, found '0'"),
        (["c", "two"], {}, "R must be a number from 1 on, found 'two'"),
        (["c", "5"], {}, "R must be a number from 1 to 4 (the config's repetitions), found '5'"),
        (["c", "1", "0;1"], {}, "GPUS must be numbers like 0,1, found '0;1'"),
        (["c", "1", "0", "x"], {}, "at most CONFIG, R and GPUS expected, found 'x' after them"),
        (["c"], {"JOBS": "0"}, "JOBS must be a number from 1 on, found '0'"),
    ],
)
def test_bad_arguments(shell, tmp_path, arguments, variables, message):
    code, output, errors = finish(shell(*arguments, **variables))
    assert (code, output, errors) == (2, "", f"train.sh: {message}\n")
    assert not list(tmp_path.glob("arguments-*"))


@NO_TMUX
def test_a_bad_plan_ends_it(shell, tmp_path):
    (tmp_path / "plan-fails").touch()
    assert finish(shell("c")) == (2, "", "tfxc: the plan is bad\n")


def test_all_finish_as_many_at_a_time_as_planned(shell, tmp_path):
    code, output, errors = finish(shell("my config.json", OPTIONS="--set a.b=1 --fresh"))
    assert (code, errors) == (0, "")
    assert "training 4 repetitions" in output and "2 at a time" in output
    assert f"all 4 repetitions finished; next: {tmp_path}/python stand-in -m tfxc" in output
    assert most_at_a_time(tmp_path / "times") <= 2
    threads = -(-os.cpu_count() // 2)
    for r in range(4):
        found = (tmp_path / f"arguments-{r}").read_text()
        expected = f"-m tfxc.train --config my config.json --set a.b=1 --fresh --repetition {r}\n"
        assert found == expected
        assert (tmp_path / f"environment-{r}").read_text() == f"{threads} m\n"
        assert (tmp_path / f"my run/repetition-{r:02d}.log").read_text() == f"output of {r}\n"
    assert not list((tmp_path / "my run").glob(".*")), "no exit codes or process ids are left"


@NO_TMUX
def test_one_at_a_time_and_fewer_than_the_config_has(shell, tmp_path):
    code, output, _ = finish(shell("c", "2", JOBS="1"))
    assert code == 0 and most_at_a_time(tmp_path / "times") == 1
    assert (tmp_path / "ended").read_text().split() == ["0", "1"]
    assert "2 of the config's 4 repetitions finished; the others: " in output


@NO_TMUX
def test_two_on_each_gpu(shell, tmp_path):
    code, output, _ = finish(shell("c", "", "3,5"))
    assert code == 0 and "4 at a time" in output
    for r, gpu in enumerate([3, 5, 3, 5]):
        assert f"--gpu {gpu} --gpu_usage 0.45" in (tmp_path / f"arguments-{r}").read_text()


def test_failures_are_named_and_the_others_finish(shell, tmp_path):
    (tmp_path / "behaviour-1").write_text("echo it broke; exit 7")
    # Together with the shell around it, as when a window is closed: no exit code is written.
    (tmp_path / "behaviour-2").write_text('kill -9 "$PPID" $$')
    code, output, _ = finish(shell("c"))
    assert code == 1
    assert "repetition 1 FAILED (exit code 7)" in output
    assert "repetition 2 FAILED (exit code killed)" in output
    assert "2 of 4 repetitions failed: 1 2\n" in output
    assert f"  log: {tmp_path}/my run/repetition-01.log\n" in output
    assert "run the same command again: finished ones are skipped" in output
    assert "it broke" in (tmp_path / "my run/repetition-01.log").read_text()
    assert sorted((tmp_path / "ended").read_text().split()) == ["0", "3"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_lets_each_repetition_save_once(shell, tmp_path, number):
    for r in range(4):
        # bash runs a trap once its foreground command has ended.
        (tmp_path / f"behaviour-{r}").write_text("for i in {1..600}; do sleep 0.1; done")
    process = shell("c")
    wait_for(tmp_path / "environment-0", tmp_path / "environment-1")
    time.sleep(0.3)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # what Ctrl-C does
    else:
        process.send_signal(number)
    code, output, _ = finish(process)
    assert code == 128 + number
    assert "stopping; each repetition saves first" in output
    for r in range(2):
        assert (tmp_path / f"signals-{r}").read_text().split() == ["TERM", "saved"]
        assert f"repetition {r} stopped" in output
    assert not (tmp_path / "environment-2").exists()


@pytest.fixture
def real(tmp_path, path_without_tmux):
    """A config of two repetitions, and the variables that have it trained by this Python."""
    config = tiny.write_config(
        tmp_path,
        head={"name": "mach", "num_buckets": 8, "num_repetitions": 2},
        recipe={"name": "repetitions"},
        training={"epochs": 0.5},
    )
    variables = {
        "PYTHON": sys.executable,
        "PATH": path_without_tmux,
        "OPTIONS": f"--prepared {tmp_path / 'prepared'}",
    }
    return str(config), variables


@pytest.mark.slow  # its children are real in recipes/test_repetitions.py
def test_a_real_training(tmp_path, real):
    config, variables = real
    code, output, errors = finish(open_shell([config, "1"], variables, tmp_path), timeout=200)
    assert code == 0, output + errors
    assert "1 of the config's 2 repetitions finished; the others: " in output
    run = tmp_path / "run"
    assert (run / "repetition-00/summary.json").exists() and (run / "config.json").exists()
    assert "finished at step 7" in (run / "repetition-00.log").read_text()
    assert not (run / "repetition-01").exists()


@pytest.mark.slow
def test_a_real_training_with_one_failure(tmp_path, real):
    config, variables = real
    run = tmp_path / "run"
    run.mkdir()
    mark(run, KIND, NAMES)
    (run / "repetition-01").write_text("a file in the folder's place")
    code, output, errors = finish(open_shell([config], variables, tmp_path), timeout=200)
    assert code == 1, output + errors
    assert "repetition 0 finished" in output and "1 of 2 repetitions failed: 1\n" in output
    log = (run / "repetition-01.log").read_text()
    assert "tfxc: " in log and "there is a file where a folder is to be written" in log
    assert "Traceback" not in log
    assert (run / "repetition-00/summary.json").exists() and (run / "config.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_real_training_is_stopped_and_goes_on(tmp_path, number):
    config = tiny.write_config(
        tmp_path,
        head={"name": "mach", "num_buckets": 8, "num_repetitions": 2},
        recipe={"name": "repetitions"},
        training={"epochs": 1500, "checkpoint_every": 100_000, "evaluate_every": 100_000},
    )
    options = f"--prepared {tmp_path / 'prepared'} --set training.log_every=10"
    variables = {"PYTHON": sys.executable, "OPTIONS": options}
    process = open_shell([str(config)], variables, tmp_path)
    wait_for(*(tmp_path / f"run/repetition-{r:02d}/metrics.jsonl" for r in range(2)), seconds=120)
    os.killpg(process.pid, number)
    code, output, errors = finish(process, timeout=200)
    assert code == 128 + number, output + errors
    for r in range(2):
        assert f"repetition {r} stopped" in output
        log = (tmp_path / f"run/repetition-{r:02d}.log").read_text()
        assert "stopped by SIGTERM, saved at step" in log
        assert list((tmp_path / f"run/repetition-{r:02d}/checkpoints").glob("ckpt-*.index"))
    command = [
        sys.executable,
        "-m",
        "tfxc.train",
        "--config",
        str(config),
        *options.split(),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command += ["--repetition", "0"]
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert again.returncode == 0, again.stderr
    assert "resumed at step" in again.stdout
