import inspect
import pickle
from dataclasses import dataclass

import numpy as np
import pytest

from tfxc.core import registry
from tfxc.core.arguments import (
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    SHARE_BELOW_ONE,
    Integer,
    ListOf,
    Number,
    OneOf,
    checked,
    from_section,
)
from tfxc.core.errors import ConfigError, inside


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (COUNT, [1, 2**40, np.int64(3)], [0, -1, 1.0, True, None, "1", [1]]),
        (COUNT | None, [None, 1], [0, False]),
        (
            POSITIVE,
            [1e-300, 1, np.float32(2), float("inf")],
            [0, -1, float("nan"), True, "1", None],
        ),
        (NOT_NEGATIVE, [0, 0.0, 5], [-1e-300, float("nan")]),
        (SHARE, [0, 1, 0.5], [-0.1, 1.1]),
        (SHARE_BELOW_ONE, [0, 0.999], [1, -1, 1.0]),
        (Number(above=0, below=1), [0.5], [0, 1]),
        (Number(maximum=3), [3, -9], [3.1]),
        (Integer(1, 5), [1, 5], [0, 6, 2.5]),
        (OneOf("a", None, 3), ["a", None, 3], ["b", "", 0, [], {}]),
        (OneOf(1, 2), [1, 2], [True]),
        (OneOf(True, False), [True], [1, 0]),
        (ListOf(COUNT), [[1], (2, 3), np.array([4])], [[], [0], [1, None], 1, "12", {1: 2}, None]),
    ],
)
def test_what_is_accepted(check, good, bad):
    for value in good:
        assert check.check("x", value) is value
    for value in bad:
        with pytest.raises(ConfigError, match=r"^x: .* expected, found .*"):
            check.check("x", value)


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (COUNT, "an integer of at least 1"),
        (Integer(0, 7, what="the labels"), "an integer from 0 to 7 (the labels)"),
        (POSITIVE | None, "None or a positive number"),
        (Number(maximum=1, above=0), "a number in (0, 1]"),
        (Number(above=2), "a number above 2"),
        (Number(below=2), "a number below 2"),
        (Number(maximum=2), "a number of at most 2"),
        (Number(), "a number"),
    ],
)
def test_how_it_is_said(check, expected):
    assert check.expected == expected


@checked(beam=COUNT | None, order=OneOf("given", "random"))
def search(k, beam=10, *, order="given", **others):
    """A function with a table."""
    return k, beam, order, others


def test_the_message_says_what_where_found_and_fix():
    with pytest.raises(ConfigError) as caught:
        search(3, beam=0)
    assert str(caught.value) == (
        "beam: None or an integer of at least 1 expected, found 0. Give such a "
        "number, or leave it out for the default 10."
    )
    with pytest.raises(ConfigError, match=r"found 'randm', did you mean 'random'\?.*choose one of"):
        search(3, order="randm")


def test_a_checked_function_is_the_function():
    assert search(3, None, order="random", more=1) == (3, None, "random", {"more": 1})
    assert search.__doc__ == "A function with a table."
    assert list(inspect.signature(search).parameters) == ["k", "beam", "order", "others"]
    assert inspect.getfullargspec(search).args == ["k", "beam"]
    with pytest.raises(ConfigError, match=r"beam: .* found -1"):
        search(3, -1)
    with pytest.raises(TypeError, match="search"):
        search()


def test_a_table_fits_its_signature():
    with pytest.raises(KeyError):
        checked(absent=COUNT)(lambda beam: beam)
    with pytest.raises(AssertionError, match="beam"):
        checked(beam=COUNT)(lambda beam=0: beam)


@checked(cost=POSITIVE)
@dataclass(frozen=True)
class Settings:
    cost: float = 1.0


def test_dataclass():
    assert pickle.loads(pickle.dumps(Settings(2.0))) == Settings(cost=2.0)
    for arguments in ((0,), (float("nan"),)):
        with pytest.raises(ConfigError, match="cost: a positive number expected"):
            Settings(*arguments)


@pytest.mark.parametrize("kind", registry.KINDS)
def test_a_config_is_refused_before_anything_is_made(kind):
    """The tables of a method and of its bases are held against the section alone."""
    for name in registry.names(kind):
        method = registry.get(kind, name)
        tables = [getattr(vars(one).get("__init__"), "check_given", None) for one in method.__mro__]
        known = registry.arguments(method)
        required = {key: 1 for key, value in known.items() if value is inspect.Parameter.empty}
        for table in filter(None, tables):
            for argument in set(table.args[0]) & set(known):
                section = {"name": name, **required, argument: object()}
                with pytest.raises(ConfigError, match=rf"^{kind}\.\w+: .* expected, found"):
                    registry.check_section(kind, section, where=kind)


def test_sections():
    assert from_section(search, {"beam": 4}, "here", k=2)[:2] == (2, 4)
    for section, message in (
        ({"beams": 4}, r"here\.beams: unknown key 'beams', did you mean 'beam'"),
        ({"beam": "x"}, r"here\.beam: an integer expected, found 'x'"),
        ({"beam": 0}, r"here\.beam: None or an integer of at least 1 expected"),
        ({"k": 1}, r"here\.k: unknown key"),
    ):
        with pytest.raises(ConfigError, match=message):
            from_section(search, section, "here", k=2)


def test_errors_inside_of_a_section():
    for where, keys, expected in (
        ("scale", None, "head.scale: wrong"),
        ("scale", ["scale"], "head.scale: wrong"),
        ("rates['x']", ["rates"], "head.rates['x']: wrong"),
        ("data.train", ["scale"], "data.train: wrong"),
        (None, ["scale"], "head: wrong"),
    ):
        with pytest.raises(ConfigError) as caught, inside("head", keys):
            raise ConfigError("wrong", where=where)
        assert str(caught.value) == expected
