"""What TensorFlow writes when it starts, and what is kept of standard error."""

import os
import subprocess
import sys
import threading

import pytest

from tests.source_tree import ROOT
from tfxc.core.storage.files import captured_standard_error

PACKAGE = """
import os
os.write(2, b"I0000 00:00:1795391368.8 1 port.cc:153] oneDNN custom operations are on.\\n")
os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called ...\\n")
os.write(2, b"another library has something to say\\n")
"""
CODE = """
import importlib.util, sys
from tfxc.core import cli
class Watcher:
    def find_spec(self, name, path, target=None):
        assert name != "tensorflow" or len(sys.meta_path) == count  # other threads read it, too
def main(argv):
    global count
    sys.meta_path.insert(1, Watcher())
    count = len(sys.meta_path)
    importlib.util.find_spec("tensorflow")  # as whoever only asks whether it is there
    import tensorflow
    assert type(tensorflow.__loader__).__module__ != "tfxc.core.quiet"
cli.run(main, [])
"""
IN_PYTHON = """
import tfxc
tfxc.Run  # one of the names that may need it
import tensorflow
"""


@pytest.mark.parametrize(
    ("code", "verbose", "broken"),
    [(CODE, False, False), (CODE, False, True), (CODE, True, False), (CODE, True, True),
     (IN_PYTHON, False, False), (IN_PYTHON, True, False)],
)  # fmt: skip
def test_start_lines(tmp_path, code, verbose, broken):
    """A stand-in for the package writes what the real one writes."""
    (tmp_path / "tensorflow.py").write_text(PACKAGE + ("raise ValueError('broken')" * broken))
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "TFXC_VERBOSE": "1"}
    if not verbose:
        del env["TFXC_VERBOSE"]
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert "another library has something to say\n" in done.stderr
    assert ("oneDNN" in done.stderr) == ("InitializeLog" in done.stderr) == verbose
    assert ("ValueError: broken" in done.stderr) == broken == bool(done.returncode)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["configs"]])
def test_a_pipe_that_closes_early(arguments):
    """``| head -1``: no traceback, neither from us nor from the end of the interpreter."""
    command = [sys.executable, "-m", "tfxc", *arguments]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_threads_that_overlap_leave_standard_error_as_it_is():
    before = os.fstat(2)
    first_holds, second_holds = threading.Event(), threading.Event()

    def second():
        first_holds.wait(10)
        with captured_standard_error():
            second_holds.set()

    thread = threading.Thread(target=second)
    thread.start()
    with captured_standard_error():
        first_holds.set()
        assert not second_holds.wait(0.2)
    thread.join()
    assert second_holds.is_set() and os.path.samestat(os.fstat(2), before)
