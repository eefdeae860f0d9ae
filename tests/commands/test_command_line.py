"""The options of every command are a promise to scripts: a change has to be made on purpose.

If it is: say so in CHANGELOG.md, then ``python -m tests.commands.test_command_line`` writes
tests/commands/command_line.json anew. Removing or renaming an option breaks its users; adding one
does not.
"""

import contextlib
import json
import shlex
from pathlib import Path

import pytest

import tfxc
from docs.hooks import reference
from tfxc.__main__ import COMMANDS, main, module_of
from tfxc.commands import completion

FROZEN = Path(__file__).with_suffix("").with_name("command_line.json")
PACKAGE = Path(__file__).resolve().parents[2] / "tfxc" / "commands"


def existing_commands():
    """The commands that have a module."""
    files = {command: f"{command.replace('-', '_')}.py" for command in COMMANDS}
    return [command for command, file in files.items() if (PACKAGE / file).exists()]


def options_of(command):
    """Sorted option strings, and names of positional arguments, of a command."""
    top, found = completion.command_parser(command), set()
    for parser, action in reference.actions_of(top):
        kind = parser.prog.removeprefix(top.prog).strip()
        found |= {f"{kind} {text}".strip() for text in action.option_strings or [action.dest]}
    return sorted(found)


def command_line():
    """Options of all commands."""
    return {command: options_of(command) for command in existing_commands()}


@pytest.mark.parametrize("command", existing_commands())
def test_options_are_frozen(command):
    frozen = json.loads(FROZEN.read_text(encoding="utf-8")).get(command)
    assert options_of(command) == frozen, __doc__


@pytest.mark.parametrize("command", existing_commands())
def test_negative_numbers_are_values(command, capsys):
    for parser, action in reference.actions_of(completion.command_parser(command)):
        if action.option_strings and action.nargs is None:
            for text in ("-1", "-1.5", "-1e9", "-2.E-3", "-.5e+3", "-1_000", "-inf"):
                with contextlib.suppress(SystemExit):  # the option may refuse it
                    parser.parse_known_args([action.option_strings[-1], text])
                assert "expected one argument" not in capsys.readouterr().err, (action, text)


@pytest.mark.parametrize("command", existing_commands())
def test_an_option_of_one_value_is_given_once(command, capsys):
    for parser, action in reference.actions_of(completion.command_parser(command)):
        takes_one = action.nargs is None and type(action).__name__ != "_AppendAction"
        if not action.option_strings or not takes_one:
            continue
        name = action.option_strings[-1]
        for text in action.choices or ("2", "0.5", "{}", "a.csv", "a.json", "a.jsonl", "a.npy"):
            with contextlib.suppress(SystemExit):
                parser.parse_known_args([name, text, name, text])
            if "is given twice (" in (error := capsys.readouterr().err):
                break
        assert f"error: {name}: is given twice (" in error, "with a value that it takes"


def test_options_of_several_values_are_given_several_times():
    parser = completion.command_parser("train")
    words = ["a.csv", "--set", "seed=1", "--set", "run=b", "--text-column", "x"]
    assert parser.parse_args(words).set == ["seed=1", "run=b"]
    parser = completion.command_parser("predict")
    assert parser.parse_args(["--run", "a", "--run", "b"]).run == ["a", "b"]


def test_the_least_score_may_be_negative():
    parser = completion.command_parser("predict")
    assert parser.parse_args(["--run", "r", "--min-score", "-1e9"]).min_score == -1e9
    for text in ("-e9", "-1x", "-k"):  # still options, and unknown ones
        with pytest.raises(SystemExit):
            parser.parse_args(["--run", "r", "--min-score", text])


@pytest.mark.parametrize("command", existing_commands())
def test_help_begins_with_an_example(command):
    assert f"\n\n    tfxc {command}" in module_of(command).__doc__


@pytest.mark.parametrize("command", existing_commands())
def test_examples_of_the_help_are_accepted(command, capsys):
    for line in module_of(command).__doc__.replace("\\\n", "").splitlines():
        program, *words = shlex.split(line) if line.startswith("    tfxc ") else [""]
        if program == "tfxc":
            parser, until = completion.command_parser(words[0]), ("|", ">")
            end = next((place for place, word in enumerate(words) if word in until), None)
            assert parser.parse_args(words[1:end]), line


@pytest.mark.parametrize("command", ["predict", "encode"])
def test_a_run_may_stand_first(command):
    parser = completion.command_parser(command)
    more = ["in.txt", "--batch-size", "3", "--output", "o.npy"]
    if command == "predict":
        more[-1] = "o.txt"
    assert parser.parse_args(["r", *more]) == parser.parse_args(["--run", "r", *more])
    assert not hasattr(parser.parse_args(["r", *more[1:]]), "file"), "standard input"


def test_help_fits_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    text = capsys.readouterr().out
    prose = text[text.index("FILE is any") : text.index("positional arguments")]
    assert max(map(len, prose.splitlines())) <= 60
    example = "    tfxc predict --run RUN --run RUN2 test.jsonl --k 3 --output labels.jsonl\n"
    assert example in text, "lines of examples stay"


def test_no_command_disappears():
    assert set(json.loads(FROZEN.read_text(encoding="utf-8"))) == set(existing_commands()), __doc__


@pytest.mark.parametrize("command", existing_commands())
def test_help_explains_every_option(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: tfxc {command}")
    assert all(option in text for option in options_of(command) if option.startswith("-"))


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_without_a_command_all_are_listed(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian", "my.csv"], "tfxc: error: unknown command 'trian', did you mean 'train'?"),
        (["train", "my.csv", "--presett", "fast"], "--presett fast, did you mean '--preset'?"),
        (["train", "my.csv", "--preset", "fats"], "not 'fats', did you mean 'fast'?"),
        (["features", "split", "a", "--output", "b", "--sed", "1"], "did you mean '--seed'?"),
        (
            ["train", "--config", "c", "--set", "a=1", "b=2", "c=3"],
            "c=3. Each KEY=VALUE needs a --set",
        ),
        (["predict", "--run", "a", "b.csv", "--threshold", "1"], "arguments: --threshold 1"),
        (
            ["predict", "--run", "a", "b.csv", "--k", "x"],
            "--k: must be an integer, not 'x'",
        ),
        (
            ["prune", "--run", "a", "--num-heads", "two"],
            "an integer of at least 1, not 'two'",
        ),
        (["predict"], "tfxc predict: error: one of the arguments --run --model is required"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_nearest(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    problem, hint = capsys.readouterr().err.splitlines()
    assert ("did you mean" in problem) == ("did you mean" in message)
    assert message in problem and hint.startswith("See `tfxc") and hint.endswith("--help`.")


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"tfxc {tfxc.__version__}\n"


def test_unknown_option_ends_with_2(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "--confg", "x.json"])
    assert caught.value.code == 2
    assert "--confg" in capsys.readouterr().err


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(command_line(), indent=2) + "\n", encoding="utf-8")
