import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import unicodedata

import pytest

from tests.source_tree import ROOT
from tfxc.core import progress
from tfxc.core.progress import Progress, duration


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until told otherwise: ``clock.now``."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.6, "1 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (75, "1 min 15 s"),
        (3599.7, "1 h 00 min"),
        (3660, "1 h 01 min"),
        (90000, "25 h 00 min"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_line(clock):
    line = Progress("reading", total=2000, unit="rows", stream=io.StringIO())
    clock.now += 10
    line.advance(500, "loss 1.5")
    assert line.line() == "reading:  25 % of 2,000, 30 s left, 50 rows/s, loss 1.5"
    line.advance(500)
    assert line.line() == "reading:  50 % of 2,000, 10 s left, 100 rows/s, loss 1.5"
    open_end = Progress("reading", unit="rows", stream=io.StringIO())
    clock.now += 2
    open_end.advance(3000)
    assert open_end.line() == "reading: 3,000, 1,500 rows/s"


def test_a_resumed_step_counts_its_own_rate(clock):
    line = Progress("training", total=100, start=80, stream=io.StringIO())
    clock.now += 5
    line.advance(10)
    assert line.line() == "training:  90 % of 100, 5 s left, 2 steps/s"


def test_before_the_first_unit(clock):
    line = Progress("reading", total=10, stream=io.StringIO())
    assert line.line() == "reading:   0 % of 10, 0 s left, 0 steps/s"


def test_a_log_gets_few_lines(clock):
    stream = io.StringIO()
    with Progress("reading", total=100, stream=stream, log_seconds=20) as line:
        for _ in range(100):
            clock.now += 1
            line.advance(1)
    lines = stream.getvalue().splitlines()
    assert lines[:2] == [
        "reading:  20 % of 100, 1 min 20 s left, 1 steps/s",
        "reading:  40 % of 100, 1 min 00 s left, 1 steps/s",
    ]
    assert lines[-1] == "reading: 100 steps, done in 1 min 40 s"
    assert len(lines) == 6 and "\x1b" not in stream.getvalue()


def test_a_terminal_gets_one_line_redrawn(clock):
    stream = Terminal()
    line = Progress("reading", total=4, stream=stream)
    for _ in range(8):
        clock.now += 0.25
        line.advance(1)
    line.clear()
    assert stream.getvalue().count("\r\x1b[2K") == 3, "once a second, and cleared"
    assert "\n" not in stream.getvalue()


def rows_of(written, columns):
    """What a terminal of this width shows of what was written to it, row by row."""
    rows, place = [[]], 0
    for piece in re.findall(r"\x1b\[2K|\r|\n|.", written):
        if piece == "\x1b[2K":
            rows[-1] = []
        elif piece in "\r\n":
            place = 0
            if piece == "\n":
                rows.append([])
        else:
            size = 2 if unicodedata.east_asian_width(piece) in "WF" else 1
            if place + size > columns:
                rows.append([])
                place = 0
            rows[-1][place:] = [piece]
            place += 1 if size == 1 else 2
            rows[-1] += [""] * (place - len(rows[-1]))
    return ["".join(row) for row in rows]


@pytest.mark.parametrize(
    ("columns", "title", "end"),
    [
        (40, "reading train.jsonl", ":  31 % of 2,000,00…".encode()),
        (80, "reading train.jsonl", ", step 1…".encode()),
        (200, "reading train.jsonl", b", step 1,234, loss 0.1234"),
        *((columns, "読み込み中" * 20, "…".encode()) for columns in (40, 80, 200)),
        *((columns, "reading " + "x" * 250, "…".encode()) for columns in (40, 80, 200)),
    ],
)
def test_no_line_is_broken_on_a_terminal(clock, monkeypatch, columns, title, end):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    line = Progress(title, total=2_000_000, unit="examples", stream=stream)
    for _ in range(5):
        clock.now += 1
        line.advance(123_456, "step 1,234, loss 0.1234")
    written = stream.getvalue()
    assert written.count("\x1b[2K") == written.count("\x1b") == 5
    shown = rows_of(written, columns)
    assert len(shown) == 1 and shown[0].startswith(title[:10]), shown
    assert shown[0].encode().endswith(end), shown


def test_the_width_is_that_of_the_terminal():
    """Standard error is a pseudo-terminal; its other end shows one row, redrawn."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    code = (
        "from tfxc.core import progress; progress._REDRAWN = 0; from tfxc.core.messages import *\n"
        "with printed():\n"
        "    line = progress.Progress('reading ' + 'x' * 99)\n"
        "    line.advance(1), line.advance(1)\n"
    )
    env = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    env["TERM"] = "xterm"
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    command = [sys.executable, "-c", code]
    subprocess.run(command, check=True, cwd=ROOT, env=env, stderr=slave, **quiet)
    os.close(slave)
    with os.fdopen(master, "rb", buffering=0) as other:
        written = other.read(1 << 16).decode()
    assert rows_of(written, 40) == ["reading " + "x" * 30 + "…"], written


def test_short_steps_stay_silent(clock):
    stream = io.StringIO()
    with Progress("reading", total=4, stream=stream) as line:
        clock.now += 0.5
        line.advance(4)
    assert stream.getvalue() == ""


def test_a_failed_step_says_so(clock):
    stream = io.StringIO()
    with pytest.raises(KeyError), Progress("reading", stream=stream) as line:
        clock.now += 3
        line.advance(7)
        raise KeyError
    assert stream.getvalue() == "reading: 7 steps, stopped after 3 s\n"


def test_goes_to_standard_error(capsys, clock):
    with Progress("reading") as line:
        clock.now += 2
        line.advance(1)
    found = capsys.readouterr()
    assert found.err and not found.out
