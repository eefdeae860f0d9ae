"""How the benchmarks measure other programs."""

import sys
import time
from types import SimpleNamespace

import pytest

from tests.source_tree import ROOT


@pytest.fixture
def whole_task(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return __import__("whole_task")


def python(text):
    return [sys.executable, "-S", "-c", text]


def test_the_memory_is_that_of_the_command_alone(whole_task, tmp_path):
    """However much the process holds that measures it."""
    own = bytearray(b"x" * (256 << 20))
    options = SimpleNamespace(minutes=1)
    small = whole_task.measured([python("pass")], tmp_path, options)
    large = whole_task.measured(
        [python("pass"), python("b'x' * (96 << 20)"), python("sum(range(3_000_000))")],
        tmp_path,
        options,
    )
    assert small["mb"] < 64 and 96 <= large["mb"] < 160 < len(own) >> 20
    assert 0 < small["cpu_seconds"] < large["cpu_seconds"] and small["seconds"] > 0


def test_what_is_late_is_ended(whole_task, tmp_path):
    text = "import time; open('began', 'w'); time.sleep(3); open('ended', 'w')"
    assert whole_task.measured([python(text)], tmp_path, SimpleNamespace(minutes=0.02)) is None
    time.sleep(3)
    assert (tmp_path / "began").exists() and not (tmp_path / "ended").exists()
    with pytest.raises(SystemExit, match="ValueError: wrong"):
        command = python("raise ValueError('wrong')")
        whole_task.measured([command], tmp_path, SimpleNamespace(minutes=1))
