"""Checks of arguments, declared in one table next to the signature they belong to.

Checks that relate several arguments stay code. All messages are made here, in one form: the
argument, what is expected of it, what was found, how to fix it.
"""

import functools
import inspect
import math
import numbers
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tfxc.core.errors import ConfigError, inside, nearest

_Target = TypeVar("_Target", bound=Callable[..., Any])


class Check:
    """What is expected of one argument. ``check | None`` also accepts None.

    Attributes:
        expected: what is accepted, for messages, e.g. ``"a positive number"``.
        fix: how to correct any other value.
    """

    expected = ""
    fix = "change it"

    def accepts(self, value: Any) -> bool:
        """Whether the value is as expected."""
        raise TypeError(f"{type(self).__name__} must define accepts(value)")

    def hint(self, value: Any) -> str:
        """What might have been meant, for the end of the message, or an empty text."""
        return ""

    def check(self, name: str | Path, value: Any, *, default: Any = inspect.Parameter.empty) -> Any:
        """Refuses a value that is not as expected.

        Args:
            name: of the argument.
            value: of the argument.
            default: what it is where it is left out.

        Returns:
            The value.

        Raises:
            ConfigError: it is not as expected.

        Example:
            >>> Integer(1).check("beam", 10)
            10
        """
        if self.accepts(value):
            return value
        known = default is not inspect.Parameter.empty
        raise ConfigError(
            f"{self.expected} expected, found {value!r}{self.hint(value)}",
            where=name,
            fix=self.fix + (f", or leave it out for the default {default!r}" if known else ""),
        )

    def __or__(self, other):
        assert other is None, "a check or None"
        return _OrNone(self)


class _OrNone(Check):
    """A check that also accepts None."""

    def __init__(self, check):
        self._check = check
        self.expected, self.fix, self.hint = f"None or {check.expected}", check.fix, check.hint

    def accepts(self, value):
        return value is None or self._check.accepts(value)


class OneOf(Check):
    """One of some values.

    Example:
        >>> OneOf("given", "random").check("label_order", "randm")
        Traceback (most recent call last):
            ...
        tfxc.core.errors.ConfigError: label_order: one of given, random expected, found 'randm', \
did you mean 'random'? Choose one of these.
    """

    fix = "choose one of these"

    def __init__(self, *values: object) -> None:
        self.values = values
        self.expected = f"one of {', '.join(map(str, values))}"

    def accepts(self, value: Any) -> bool:
        """Whether it is one of them; 1 is not true."""
        return any(
            isinstance(value, bool) == isinstance(known, bool) and value == known
            for known in self.values
        )

    def hint(self, value: Any) -> str:
        """The nearest one."""
        return nearest(value, self.values) if isinstance(value, str) else ""


class Number(Check):
    """A number (not true or false), of any size or in an interval.

    Args:
        least, most: inclusive ends of the interval.
        above, below: exclusive ends.
        what: what the upper end is, for messages, e.g. ``"the labels"``.

    Example:
        >>> Number(0, below=1).expected, Number(above=0).expected, Number(0).expected
        ('a number in [0, 1)', 'a positive number', 'a number of at least 0')
    """

    kind: type[Any] = numbers.Real
    noun, fix = "a number", "give such a number"

    def __init__(
        self,
        minimum: float | None = None,
        maximum: float | None = None,
        *,
        above: float | None = None,
        below: float | None = None,
        what: str | None = None,
    ) -> None:
        assert None in (minimum, above) and None in (maximum, below), "one lower and one upper end"
        self._ends = minimum, maximum, above, below
        self.expected = self._text(*self._ends) + (f" ({what})" if what else "")

    def accepts(self, value: Any) -> bool:
        """Whether it is a number of this kind within the interval."""
        if isinstance(value, bool) or not isinstance(value, self.kind) or math.isnan(value):
            return False
        minimum, maximum, above, below = self._ends
        high_enough = (minimum is None or value >= minimum) and (above is None or value > above)
        return (
            high_enough
            and (maximum is None or value <= maximum)
            and (below is None or value < below)
        )

    def _text(self, minimum, maximum, above, below):
        low, high = (above if minimum is None else minimum), (below if maximum is None else maximum)
        if low is None and high is None:
            return self.noun
        if high is None:
            if above == 0:
                return f"a positive {self.noun.partition(' ')[2]}"
            return f"{self.noun} " + (f"of at least {minimum}" if above is None else f"above {low}")
        if low is None:
            return f"{self.noun} " + (f"of at most {maximum}" if below is None else f"below {high}")
        first, last = "(" if minimum is None else "[", ")" if maximum is None else "]"
        return f"{self.noun} in {first}{low:g}, {high:g}{last}"


class Integer(Number):
    """An integer, of any size or from ``minimum`` to ``maximum``.

    Example:
        >>> Integer(1, 40, what="the blocks").expected
        'an integer from 1 to 40 (the blocks)'
    """

    kind, noun = numbers.Integral, "an integer"

    def _text(self, minimum, maximum, above, below):
        if minimum is not None and maximum is not None:
            return f"an integer from {minimum} to {maximum}"
        return super()._text(minimum, maximum, above, below)


class ListOf(Check):
    """A list, tuple or array that is not empty, each item as another check expects it.

    Example:
        >>> ListOf(Integer(1)).check("hidden", [512, 256])
        [512, 256]
    """

    fix = "give such a list"

    def __init__(self, item: Check) -> None:
        self._item = item
        self.expected = f"a list of at least one item, each {item.expected},"

    def accepts(self, value: Any) -> bool:
        """Whether it is such a list."""
        if not isinstance(value, Collection) or isinstance(value, str | Mapping) or not len(value):
            return False
        return all(map(self._item.accepts, value))


COUNT = Integer(1)
POSITIVE = Number(above=0)
NOT_NEGATIVE = Number(0)
SHARE = Number(0, 1)
SHARE_BELOW_ONE = Number(0, below=1)


def check_values(
    table: Mapping[str, Check], given: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> None:
    """Refuses the first value that is not as expected.

    Args:
        table: ``Check``s by the names of arguments.
        given: values by the names of arguments; what is missing is not checked.
        defaults: of the arguments, for messages.

    Raises:
        ConfigError: a value is not as expected.

    Example:
        >>> check_values({"norm": OneOf("l1", "l2", None)}, {"norm": "l2", "binary": True})
    """
    for name, check in table.items():
        if name in given:
            default = (defaults or {}).get(name, inspect.Parameter.empty)
            check.check(name, given[name], default=default)


def checked(**table: Check) -> Callable[[_Target], _Target]:
    """Decorator of a constructor, another function or a dataclass: checks the given arguments.

    Args:
        table: ``Check``s by the names of the arguments. Defaults are not checked when the function
            is called, but here, once.

    Raises:
        ConfigError: at each call, for the first argument that is not as expected.

    Example:
        >>> @checked(beam=COUNT, link=OneOf("sigmoid", "softmax"))
        ... def search(k, *, beam=10, link="sigmoid"):
        ...     return k
        >>> search(5, beam=0)
        Traceback (most recent call last):
            ...
        tfxc.core.errors.ConfigError: beam: an integer of at least 1 expected, found 0. \
Give such a number, or leave it out for the default 10.
    """

    def decorate(target):
        if inspect.isclass(target):
            target.__init__ = decorate(target.__init__)
            return target
        signature = inspect.signature(target)
        defaults = {name: signature.parameters[name].default for name in table}
        for name, default in defaults.items():
            assert default is inspect.Parameter.empty or table[name].accepts(default), name
        names = list(signature.parameters)

        check_given = functools.partial(check_values, table, defaults=defaults)

        @functools.wraps(target)
        def call(*args, **kwargs):
            check_given(dict(zip(names, args, strict=False)) | kwargs)
            return target(*args, **kwargs)

        call.check_given = check_given  # for the registry: before there is any data
        call.__signature__ = signature  # Keras reads signatures without following wrappers
        return call

    return decorate


def from_section(
    factory: Callable[..., Any],
    arguments: Mapping[str, Any],
    where: str,
    more: Iterable[str] = (),
    **known: Any,
) -> Any:
    """Calls a class or function with the arguments of a config section.

    Args:
        factory: what is called.
        arguments: ``{argument: value}`` of the section.
        where: config key of the section, for messages.
        more: keys of the section that the caller has already taken out.
        known: arguments that do not come from the config.

    Raises:
        ConfigError: an unknown argument, one of another kind than its default, or one that
            ``factory`` refuses.

    Example:
        >>> from_section(Integer, {"minimum": 1}, "limits", maximum=5).expected
        'an integer from 1 to 5'
    """
    parameters = inspect.signature(factory).parameters
    names = [*(name for name in parameters if name not in known), *more]
    for key in arguments:
        if key not in names:
            raise ConfigError(
                f"unknown key {key!r}{nearest(key, names)}",
                where=f"{where}.{key}",
                fix=f"use one of: {', '.join(names)}",
            )
    check_kinds(arguments, {name: p.default for name, p in parameters.items()}, where)
    with inside(where, parameters):
        return factory(**known, **arguments)


def check_k(k: int, most: int) -> None:
    """Raises a ``ValueError`` unless k labels can be found among ``most``."""
    if not 1 <= k <= most:
        raise ValueError(f"k: 1 to {most} (the labels) expected, found {k}")


def check_kinds(given: Mapping[str, Any], defaults: Mapping[str, Any], where: str) -> None:
    """Checks the values of arguments against the kinds of their defaults.

    Where the default is true or false, an integer, a number or a text, the value must be
    one. If the default is None, any value is accepted; if it is a number or a text, None is, too.

    Args:
        given: ``{argument: value}``.
        defaults: ``{argument: default}``.
        where: config key of the section, for messages.

    Raises:
        ConfigError: a value of another kind.

    Example:
        >>> check_kinds({"beam": 2}, {"beam": 10}, where="head")
    """
    for key, value in given.items():
        for kind, (kind_name, good) in _KINDS_OF_VALUES.items():
            if type(defaults.get(key)) is kind and not good(value):
                raise ConfigError(
                    f"{kind_name} expected, found {value!r}",
                    where=f"{where}.{key}",
                    fix="give a value of that type",
                )


# By the type of the default; where it is a number, a list may give several.
_KINDS_OF_VALUES = {
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("an integer", lambda value: value is None or _is_whole(value)),
    float: ("a number", lambda value: not isinstance(value, str | bool | dict)),
    str: ("a text", lambda value: value is None or isinstance(value, str)),
}


def _is_whole(value):
    return isinstance(value, int) and not isinstance(value, bool)
