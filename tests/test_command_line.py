"""The options of every verb are a promise to scripts: a change has to be made on purpose.

If it is: say so in CHANGELOG.md, then ``python -m tests.test_command_line`` writes
tests/command_line.json anew. Removing or renaming an option breaks its users; adding one does not.
"""

import argparse
import importlib
import json
from pathlib import Path

import pytest

from tfxc.__main__ import VERBS, main

FROZEN = Path(__file__).with_suffix("").with_name("command_line.json")
PACKAGE = Path(__file__).resolve().parents[1] / "tfxc"


class _Found(BaseException):
    """Carries a verb's parser out of its ``main``."""


def existing_verbs():
    """The verbs that have a module."""
    return [verb for verb in VERBS if (PACKAGE / f"{verb}.py").exists()]


def options_of(verb):
    """Sorted option strings, and names of positional arguments, of a verb."""

    def give_up(parser, *_, **__):
        raise _Found(parser)

    module = importlib.import_module(f"tfxc.{verb}")
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(argparse.ArgumentParser, "parse_known_args", give_up)
        with pytest.raises(_Found) as caught:
            module.main([])
    actions = caught.value.args[0]._actions
    return sorted(text for a in actions for text in a.option_strings or [a.dest])


def command_line():
    """Options of all verbs."""
    return {verb: options_of(verb) for verb in existing_verbs()}


@pytest.mark.parametrize("verb", existing_verbs())
def test_options_are_frozen(verb):
    frozen = json.loads(FROZEN.read_text(encoding="utf-8")).get(verb)
    assert options_of(verb) == frozen, __doc__


def test_no_verb_disappears():
    assert set(json.loads(FROZEN.read_text(encoding="utf-8"))) == set(existing_verbs()), __doc__


@pytest.mark.parametrize("verb", existing_verbs())
def test_help_explains_every_option(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: python -m tfxc.{verb}")
    assert all(option in text for option in options_of(verb) if option.startswith("-"))


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["--help"], 0), (["trian"], 2)])
def test_without_a_verb_all_are_listed(arguments, code, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == code
    text = capsys.readouterr().out
    assert all(verb in text for verb in VERBS)


def test_unknown_option_ends_with_2(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "--confg", "x.json"])
    assert caught.value.code == 2
    assert "--confg" in capsys.readouterr().err


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(command_line(), indent=2) + "\n", encoding="utf-8")
