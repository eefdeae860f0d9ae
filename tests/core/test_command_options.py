"""Command lines that are declared as dataclasses."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import pytest
from annotated_types import MinLen

from tfxc.commands import completion
from tfxc.core import command_options
from tfxc.core.bounds import Count, Option, Share
from tfxc.core.command_options import given, parse, parser_of, restored
from tfxc.core.declared import check
from tfxc.core.errors import ConfigError
from tfxc.inference.search_options import SearchOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    """A group.

    Attributes:
        share: of something; None means a half.
        names: names, as words.
    """

    share: Share | None = None
    names: Annotated[Sequence[str] | None, Option("NAME", words=True)] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options of an example.

    Attributes:
        run: run folder.
        k: cut-offs, e.g. 1,3.
        spans: numbers.
        method: how it goes, in
            two lines.
        flag: whether.
        pairs: of a reader.
        tag: tags.
        size: height and width.
        means: at least one.
        part: of what.
        one: excludes the other one.
        other: excludes the first one.
        inner: what is grouped
    """

    run: Annotated[str, Option("RUN", name="--run", positional=True)]
    k: Annotated[Sequence[Count], Option("K,K")] = (1, 3)
    spans: Annotated[Sequence[int] | None, Option(spans=True)] = None
    method: Literal["fast", "best"] = "fast"
    flag: bool = False
    pairs: Annotated[Mapping[str, Any], Option("KEY=VALUE", name="--pair")] = dataclasses.field(
        default_factory=dict
    )
    tag: Annotated[Sequence[str], Option("TAG", repeated=True)] = ()
    size: Annotated[tuple[Count, Count] | None, Option("H W", words=True)] = None
    means: Annotated[Sequence[float] | None, MinLen(1), Option("MEAN", words=True)] = None
    part: Annotated[Share | None, Option("SHARE", alone=1.0)] = None
    one: Annotated[float | None, Option(excludes="both")] = None
    other: Annotated[bool, Option(excludes="both")] = False
    inner: Inner = Inner()


def read(*words):
    return parse(Options, words, "example", "An example.")


def test_defaults_and_both_places_of_a_run():
    assert read("r") == read("--run", "r") == Options(run="r")


def test_values_have_the_types_of_their_annotations():
    options = read(
        *("--k", "2,5", "--spans", "0-2,7", "--method", "best", "--flag", "--pair", "a=1"),
        *("--pair", "b=x", "--tag", "t", "--tag", "u", "--one", "2", "--share", "0.25"),
        *("--names", "n", "m", "--run", "r", "--size", "3", "4", "--means", "0.5", "--part"),
    )
    assert options == Options(
        run="r",
        k=[2, 5],
        spans=[0, 1, 2, 7],
        method="best",
        flag=True,
        pairs={"a": 1, "b": "x"},
        tag=["t", "u"],
        size=[3, 4],
        means=[0.5],
        part=1.0,
        one=2.0,
        inner=Inner(share=0.25, names=["n", "m"]),
    )
    assert isinstance(options.one, float)
    assert given(options)["pair"] == {"a": 1, "b": "x"} and given(options)["share"] == 0.25
    assert restored(Options, dataclasses.asdict(options)) == options


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "one of the arguments RUN --run is required"),
        (("a", "--run", "b"), "--run: not allowed with argument RUN"),
        (("r", "--one", "1", "--other"), "--other: not allowed with argument --one"),
        (("r", "--k", "1,0"), "--k: must be an integer of at least 1, not 0. Change it"),
        (("r", "--k", "1,x"), "--k: must be an integer of at least 1, not 'x'. Change it"),
        (("r", "--share", "inf"), "--share: must be a number from 0 to 1, not inf. Change it"),
        (("r", "--one", "nan"), "--one: must be a number, not nan. Change it"),
        (
            ("r", "--method", "bets"),
            "--method: must be one of fast, best, not 'bets', did you mean 'best'? Change it, or "
            "leave it out for the default 'fast'",
        ),
        (("r", "--size", "3"), "--size: expected 2 arguments"),
        (("r", "--means"), "--means: expected at least one argument"),
        (("r", "--pair", "x"), "--pair: 'x' is not KEY=VALUE"),
        (("r", "--spans", "2-1"), "--spans: must be numbers such as 0-7 or 0-3,5, not '2-1'"),
    ],
)
def test_what_is_refused(words, problem, capsys):
    with pytest.raises(SystemExit) as end:
        read(*words)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"tfxc example: error: {problem}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Places:
    """Show what is at an address.

    Attributes:
        run: run folder.
        copied: which its reader copies.
        local: file of this machine.
    """

    run: Annotated[Sequence[str], Option("RUN", positional=True, mirror="reads")]
    copied: Annotated[str | None, Option(remote=True)] = None
    local: str | None = None


def test_addresses_are_mirrored_or_refused_only_where_options_are_made(monkeypatch):
    asked = []
    monkeypatch.setattr(command_options, "mirrored", lambda *a, **b: asked.append(a) or "copy")
    words = ("memory://a", "mine=memory://b", "runs/c", "--copied", "memory://d")
    parser_of(Places, "example", "").parse_args([*words, "--local", "memory://e"])
    assert not asked, "parsing asks no storage"
    options = parse(Places, words, "example", "")
    assert options == Places(run=["copy", "mine=copy", "runs/c"], copied="memory://d")
    assert asked == [("memory://a", "--run"), ("memory://b", "--run")]
    with pytest.raises(ConfigError, match="--local: 'memory://e' is the address of a remote"):
        parse(Places, ["r", "--local", "memory://e"], "example", "")


def test_kinds_have_options_of_their_own(capsys):
    kinds = {"first": Options, "second": Places}
    assert parse(kinds, ["second", "r"], "example", "") == Places(run=["r"])
    assert parse(kinds, ["first", "r"], "example", "") == Options(run="r")
    assert "second    show what is at an address" in (
        parser_of(kinds, "example", "An example.").format_help()
    )
    for words, problem in (((), "KIND"), (("seconds",), "did you mean 'second'?")):
        with pytest.raises(SystemExit):
            parse(kinds, words, "example", "")
        assert problem in capsys.readouterr().err


def test_the_sentence_is_that_of_a_config(capsys):
    with pytest.raises(ConfigError) as caught:
        check(Count, "--labels", 0, default=100)
    with pytest.raises(SystemExit):
        completion.command_parser("evaluate").parse_args(["r", "--labels", "0"])
    assert capsys.readouterr().err.startswith(f"tfxc evaluate: error: {str(caught.value)[:-1]}")


def test_the_help_is_made_of_the_sentences(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = parser_of(Options, "example", "An example.").format_help()
    for line in ("--k K,K               cut-offs, e.g. 1,3 (default: (1, 3))",
                 "how it goes, in two lines (default: fast)",
                 "\nWhat is grouped:\n  --share NUMBER        of something (default: a half)\n",
                 "\n  --pair KEY=VALUE      of a reader\n"):  # fmt: skip
        assert line in text


@pytest.mark.parametrize("command", ["evaluate", "predict", "report", "card", "serve"])
def test_an_option_of_the_search_is_one_of_every_command_that_searches(command):
    parser = completion.command_parser(command)
    options = {action.dest for action in parser._actions}
    assert {field.name for field in dataclasses.fields(SearchOptions)} - {"streamed"} <= options
