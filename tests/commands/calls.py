"""Verbs called in this process, as the command line calls them."""

import signal
from typing import NamedTuple

import pytest

from tfxc.core import cli


class Outcome(NamedTuple):
    """What a command has left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    def problem(self, code=2):
        """The one line of an error; anything else on the way to it fails the test.

        Args:
            code: 2 where the input is wrong, 1 where the machine is at fault.
        """
        lines = [line for line in self.err.splitlines() if line.startswith("tfxc: ")]
        assert self.code == code, (self.code, self.err)
        assert len(lines) == 1 and self.err.splitlines()[-1] == lines[0], self.err
        assert "Traceback" not in self.out + self.err
        return lines[0].removeprefix("tfxc: ")


def default_signals():
    """``preexec_fn`` of a child: nohup has SIGHUP ignored, a shell's ``&`` SIGINT."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def call(capsys, command, *arguments):
    """Calls ``command.main`` with the arguments as text; returns its ``Outcome``."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        cli.run(command.main, [str(argument) for argument in arguments])
    return Outcome(caught.value.code, *capsys.readouterr())


def listing(folder):
    """Every path below a folder with its size, hidden ones included."""
    return {
        str(path.relative_to(folder)): path.stat().st_size if path.is_file() else None
        for path in folder.rglob("*")
    }
