"""Commands whose standard streams are closed or full, and commands that are stopped early."""

import os
import signal
import subprocess
import sys

import pytest

from tests.commands.calls import default_signals
from tfxc.core import cli

COMMAND = [sys.executable, "-m", "tfxc"]


def called(arguments, close=None, **streams):
    def prepare():
        default_signals()
        if close is not None:
            os.close(close)

    return subprocess.run(
        [*COMMAND, *arguments], preexec_fn=prepare, text=True, timeout=300, check=False, **streams
    )


def test_closed_standard_output_is_one_line():
    done = called(["--version"], close=1, stderr=subprocess.PIPE)
    expected = "standard output is closed. Send it somewhere, as with > /dev/null.\n"
    assert (done.returncode, done.stderr) == (2, f"tfxc: {expected}")


@pytest.mark.parametrize("close", [0, 2])
def test_without_the_other_streams_a_command_works(close):
    done = called(["--version"], close=close, stdout=subprocess.PIPE)
    assert done.returncode == 0 and done.stdout.startswith("tfxc ")


def test_errors_without_standard_error_keep_their_exit_code():
    assert called(["no-such-command"], close=2, stdout=subprocess.PIPE).returncode == 2


def test_closed_streams_take_no_file(tmp_path):
    """What is opened first would get the number of a closed stream, and what is printed."""
    code = (
        "import os, sys; os.close(0); os.close(2); sys.stdin = sys.stderr = None\n"
        "from tfxc.core import cli\n"
        "def main(argv):\n"
        f"    with open({str(tmp_path / 'file')!r}, 'w') as stream:\n"
        "        os.write(2, b'lost'); print('lost', file=sys.stderr)\n"
        "        return stream.fileno()\n"
        "cli.run(main, [])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode > 2
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_full_standard_output_is_one_line():
    with open("/dev/full", "w") as full:
        done = called(["--version"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("tfxc: the disk is full")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_that_a_library_turns_into_its_own_error(capsys, number):
    """As NumPy does while it is imported."""

    def main(argv):
        try:
            signal.raise_signal(number)
        except (KeyboardInterrupt, cli.Terminated):
            raise ImportError("initialization of multiarray raised unreported exception") from None

    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as caught:
            cli.run(main, [])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert caught.value.code == 128 + number
    assert capsys.readouterr().err == f"tfxc: stopped by {signal.Signals(number).name}\n"


def test_ctrl_c_while_a_command_is_imported():
    code = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == sys.argv[1]: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from tfxc.__main__ import main\n"
        "main(['configs'])"
    )
    for module, expected in (("tfxc.core.cli", -signal.SIGINT), ("tfxc.commands.configs", 130)):
        done = subprocess.run(
            [sys.executable, "-c", code, module],
            preexec_fn=default_signals,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == expected, done.stderr
        assert done.stderr in ("", "tfxc: stopped by SIGINT\n")
