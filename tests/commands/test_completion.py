"""The command completion."""

import argparse
import sys

import pytest

from tests.commands.calls import call
from tfxc.__main__ import COMMANDS
from tfxc.commands import completion


def test_the_whole_parser_knows_all_commands_and_options():
    parser = completion.whole_parser()
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    assert list(commands.choices) == list(COMMANDS)
    assert "--preset" in commands.choices["train"].format_help()
    assert "pecos" in commands.choices["import"].format_help()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(capsys, shell):
    pytest.importorskip("shtab")
    outcome = call(capsys, completion, shell)
    assert outcome.code == 0
    assert all(word in outcome.out for word in ("doctor", "preset", "balanced"))


def test_a_missing_package(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert "pip install 'tfxc[completion]'" in call(capsys, completion, "bash").problem()
