"""Arguments are declared once, and refuse what they are not declared for."""

import inspect
import json
import math
import pickle
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from annotated_types import Ge, Gt, Le, Len, Lt, MinLen

from tfxc.core import declared, registry
from tfxc.core.declared import (
    Count,
    Declared,
    FromData,
    Natural,
    NotNegative,
    Positive,
    Share,
    ShareAboveZero,
    ShareBelowOne,
    arguments_of,
    checked,
    describe,
    from_section,
)
from tfxc.core.errors import ConfigError, inside
from tfxc.core.settings import DataSettings

INFINITE = (math.inf, -math.inf, math.nan)


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (Count, [1, 2**40, np.int64(3)], [0, -1, 1.0, True, None, "1", [1]]),
        (Count | None, [None, 1], [0, False]),
        (Positive, [1e-300, 1, np.float32(2)], [0, -1, True, "1", None, *INFINITE]),
        (NotNegative, [0, 0.0, 5], [-1e-300, math.nan]),
        (Share, [0, 1, 0.5], [-0.1, 1.1]),
        (ShareBelowOne, [0, 0.999], [1, -1, 1.0]),
        (Annotated[float, Gt(0), Lt(1)], [0.5], [0, 1]),
        (Annotated[float, Le(3)], [3, -9], [3.1, -math.inf]),
        (Annotated[int, Ge(1), Le(5)], [1, 5], [0, 6, 2.5]),
        (Literal["a", 3] | None, ["a", None, 3], ["b", "", 0, [], {}]),
        (Literal[1, 2], [1, 2], [True]),
        (bool, [True], [1, 0, None]),
        (
            Annotated[Sequence[Count], MinLen(1)],
            [[1], (2, 3), np.array([4])],
            [[], [0], [1, None], 1, "12", {1: 2}, None],
        ),
        (Mapping[str, Positive], [{}, {"a": 1}], [{"a": 0}, {1: 1}, [], "a"]),
        (str | Sequence[str], ["ab", ["a"]], [["a", 1], 1, None]),
        (Annotated[Sequence[Count], Len(2, 2)], [[1, 2], (3, 4)], [[1], [1, 2, 3], [0, 1], 12]),
        (Annotated[str, MinLen(1)] | None, ["a", None], ["", 1, ["a"]]),
        (Any, [None, 1, "a"], []),
    ],
)
def test_what_is_accepted(annotation, good, bad):
    for value in good:
        found = declared.check(annotation, "x", value)
        if hasattr(value, "tolist"):
            assert found == value.tolist() and type(found) is type(value.tolist())
        else:
            assert found is value
    for value in bad:
        with pytest.raises(ConfigError, match=r"^x: must be .*, not "):
            declared.check(annotation, "x", value)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Count, "an integer of at least 1"),
        (Annotated[int, Ge(0), Le(7)], "an integer from 0 to 7"),
        (Positive | None, "a positive number"),
        (ShareAboveZero, "a number above 0 and at most 1"),
        (Annotated[float, Gt(2)], "a number above 2"),
        (Annotated[float, Lt(2)], "a number below 2"),
        (Annotated[float, Le(2)], "a number of at most 2"),
        (float, "a number"),
        (bool | Literal["a"], "true or false or 'a'"),
        (FromData[Count | None], "an integer of at least 1"),
        (
            Annotated[Sequence[float], MinLen(1)],
            "a list of at least one item, each item a number",
        ),
        (
            Annotated[Sequence[Count], Len(2, 2)],
            "a list of 2 items, each item an integer of at least 1",
        ),
        (Annotated[str, MinLen(1)] | None, "a text that is not empty"),
        (str | Path, "a text or a path"),
        (
            Annotated[Sequence[str], MinLen(1)] | str,
            "a text or a list of at least one item, each item a text",
        ),
        (Mapping[str, float] | Literal["balanced"], "'balanced' or a section, each value a number"),
        (dict[str, Any], "a section"),
        (np.ndarray | None, "an array"),
        (Declared, "a Declared"),
        (list[DataSettings], "a list, each item a section"),
        (Any, "anything"),
    ],
)
def test_how_it_is_said(annotation, words):
    assert describe(annotation) == words


@checked
def search(k: int, beam: Count | None = 10, *, order: Literal["given", "random"] = "given", **more):
    """A function whose arguments are declared."""
    return k, beam, order, more


def test_the_message_says_where_what_and_what_to_do():
    with pytest.raises(ConfigError) as caught:
        search(3, beam=0)
    assert str(caught.value) == (
        "beam: must be an integer of at least 1, not 0. Change it, or leave it out for the "
        "default 10."
    )
    with pytest.raises(ConfigError, match=r"not 'randm', did you mean 'random'\? Change it"):
        search(3, order="randm")
    with pytest.raises(ConfigError, match=r"not 'a{199}\.\.\. Change it"):
        search(3, beam="a" * 1000)


def test_a_checked_function_is_the_function():
    assert search(3, None, order="random", more=1) == (3, None, "random", {"more": 1})
    assert search.__doc__ == "A function whose arguments are declared."
    assert list(inspect.signature(search).parameters) == ["k", "beam", "order", "more"]
    assert inspect.getfullargspec(search).args == ["k", "beam"]
    with pytest.raises(ConfigError, match=r"beam: .* not -1"):
        search(3, -1)
    with pytest.raises(TypeError, match="search"):
        search()


@checked
@dataclass(frozen=True)
class Settings:
    cost: Positive = 1.0


def test_dataclass():
    assert pickle.loads(pickle.dumps(Settings(2.0))) == Settings(cost=2.0)
    for arguments in ((0,), (math.nan,)):
        with pytest.raises(ConfigError, match="cost: must be a positive number"):
            Settings(*arguments)


class Parent(Declared):
    def __init__(self, size: FromData[int], *, sizes: Sequence[int] = (), **more: Any) -> None:
        self.size = size
        self.sizes = sizes


class Child(Parent):
    def __init__(
        self, *, counts: FromData[np.ndarray | None] = None, rate: Share = 0.5, **more: Any
    ) -> None:
        super().__init__(**more)


def test_a_class_knows_its_arguments():
    assert Parent.data_dependent_arguments == ("size",)
    assert Child.data_dependent_arguments == ("counts", "size")
    child = Child(size=np.int64(3), sizes=(1, 2), counts=np.ones(2))
    assert child.get_config() == {"size": 3, "sizes": [1, 2], "rate": 0.5}
    assert type(child.get_config()["size"]) is int
    for wrong in ({"rate": 2}, {"size": "3"}, {"size": 3, "sizes": 4}):
        with pytest.raises(ConfigError, match=f"{list(wrong)[-1]}: must be"):
            Child(**{"size": 1, **wrong})


def test_numbers_and_arrays_of_numpy_become_those_of_python():
    parent = Parent(np.int64(3), sizes=np.array([1, 2]))
    assert type(parent.size) is int
    assert parent.sizes == [1, 2]
    assert json.loads(json.dumps(parent.get_config())) == {"size": 3, "sizes": [1, 2]}


def test_sections():
    assert from_section(search, {"beam": 4}, "here", k=2)[:2] == (2, 4)
    for section, message in (
        ({"beams": 4}, r"here\.beams: here has no argument 'beams', did you mean 'beam'\? Use one"),
        ({"beam": "x"}, r"here\.beam: must be an integer of at least 1, not 'x'"),
        ({"k": 1}, r"here\.k: 'k' cannot be set here"),
    ):
        with pytest.raises(ConfigError, match=message):
            from_section(search, section, "here", k=2)


def test_errors_inside_of_a_section():
    for where, keys, expected in (
        ("scale", None, "head.scale: wrong"),
        ("scale", ["scale"], "head.scale: wrong"),
        ("scale[1]", ["scale"], "head.scale[1]: wrong"),
        ("data.train", ["scale"], "data.train: wrong"),
        (None, None, "head: wrong"),
    ):
        with pytest.raises(ConfigError) as caught, inside("head", keys):
            raise ConfigError("wrong", where=where)
        assert str(caught.value) == expected


def constructors():
    """Everything that a config's section names, by its place."""
    from tfxc.data.images.augmentation import METHODS
    from tfxc.data.text.registry import TEXT_FEATURES
    from tfxc.training.optimization.optimizers import OPTIMIZERS
    from tfxc.training.optimization.schedules import Schedule

    found = {f"{kind} {name}": registry.get(kind, name) for kind in registry.KINDS
             for name in registry.names(kind)}  # fmt: skip
    found |= {f"reader {name}": registry.get("reader", name) for name in registry.names("reader")}
    for what, classes in (
        ("augmentation", METHODS),
        ("text features", TEXT_FEATURES),
        ("optimizer", OPTIMIZERS),
        ("schedule", {"schedule": Schedule}),
    ):
        found |= {f"{what} {name}": method for name, method in classes.items()}
    return found


def takes(annotation, kind):
    """Whether an annotation names a type."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, Annotated):
        return any(takes(part, kind) for part in typing.get_args(annotation))
    return annotation in (kind, Any, object)


def test_no_argument_takes_a_wrong_type_or_infinity():
    """As a section, and as an argument of the constructor."""
    accepted = []
    for name, method in constructors().items():
        for argument, said in arguments_of(method).items():
            values = [*INFINITE, object()]
            values += [] if takes(said.annotation, bool) else [True]
            values += (
                []
                if takes(said.annotation, str) or takes(said.annotation, Path)
                else ["no such value"]
            )
            values += [] if takes(said.annotation, int) or takes(said.annotation, float) else [-7.5]
            for value in values:
                if value is said.default:
                    continue
                try:
                    said.check(argument, value)
                except ConfigError:
                    continue
                accepted.append((name, argument, value))
    assert not accepted


@pytest.mark.parametrize("kind", registry.KINDS)
def test_a_section_is_refused_before_anything_is_made(kind):
    for name in registry.names(kind):
        method = registry.get(kind, name)
        known = registry.arguments(method)
        required = [key for key, default in known.items() if default is inspect.Parameter.empty]
        for argument in known:
            section = {"name": name, argument: object()}
            with pytest.raises(ConfigError, match=rf"^{kind}\.{argument}: must be "):
                registry.check_section(kind, section, where=kind)
        if required:
            with pytest.raises(ConfigError, match=f"^{kind}: {kind} '{name}' needs {required[0]}"):
                registry.check_section(kind, {"name": name}, where=kind)


def test_natural_numbers_begin_at_zero():
    assert declared.check(Natural, "x", 0) == 0
