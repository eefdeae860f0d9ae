"""What may be tried: the values of config keys, listed or in a range."""

import argparse
import hashlib
import itertools
import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tfxc.core.errors import ConfigError
from tfxc.core.escaping import json_text

if TYPE_CHECKING:
    from optuna.trial import Trial


class Values(NamedTuple):
    """What a key may be.

    Attributes:
        key: a config key, e.g. ``encoder.dropout``.
        choices: list of values, or None for a range.
        low, high: ends of the range.
        logarithmic: whether the logarithm is drawn evenly.
        integers: whether the values are integers.
    """

    key: str
    choices: list[Any] | None
    low: float = 0.0
    high: float = 0.0
    logarithmic: bool = False
    integers: bool = False

    def draw(self, generator: random.Random) -> Any:
        """Returns a value, from ``random.Random``."""
        if self.choices is not None:
            return generator.choice(self.choices)
        if self.logarithmic:
            value = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = generator.uniform(self.low, self.high)
        return round(value) if self.integers else float(f"{value:.4g}")

    def suggest(self, trial: "Trial") -> Any:
        """Returns the value that Optuna's trial has for the key."""
        if self.choices is not None:
            trial.suggest_categorical(self.key, list(dict.fromkeys(map(json_text, self.choices))))
        elif self.integers:
            trial.suggest_int(self.key, round(self.low), round(self.high), log=self.logarithmic)
        else:
            trial.suggest_float(self.key, self.low, self.high, log=self.logarithmic)
        return self.value_of(trial.params)

    def value_of(self, params: Mapping[str, Any]) -> Any:
        """Returns the value among those of a trial, where choices are JSON."""
        value = params[self.key]
        if self.choices is not None:
            return json.loads(value)
        return value if self.integers else float(f"{value:.4g}")

    def param_of(self, value: Any) -> Any:
        """Returns a value as a trial holds it, the opposite of ``value_of``."""
        return value if self.choices is None else json_text(value)


def settings(tried: Sequence[Values], count: int | None, seed: int) -> list[dict[str, Any]]:
    """Returns the changes of every training, ``[{key: value}]``; none twice.

    Args:
        tried: list of ``Values``.
        count: number to draw, or None for all combinations.
        seed: of the drawing.

    Raises:
        ConfigError: a range without a number to draw, or a key given twice.
    """
    keys = [values.key for values in tried]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(
                f"the key {key!r} is named twice", where="--try", fix="name each key once"
            )
    if count is None:
        for values in tried:
            if values.choices is None:
                raise ConfigError(
                    f"{values.key!r} has a range, of which not all values can be tried",
                    where="--try",
                    fix="add --random NUMBER, or list values",
                )
        combinations = itertools.product(*(values.choices or [] for values in tried))
        return _distinct(dict(zip(keys, each, strict=True)) for each in combinations)
    generator = random.Random(seed)
    drawn = ({v.key: v.draw(generator) for v in tried} for _ in range(20 * count))
    return _distinct(drawn)[:count]


def values_of(text: str) -> Values:
    """Returns ``Values`` of the text after ``--try``."""
    key, _, choices = text.partition("=")
    if not (key and choices):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUES")
    listed = _value(choices)
    if not isinstance(listed, list):
        if ".." in choices and "/" not in choices:  # which a path may have
            return _range(key, choices)
        listed = [_value(part) for part in choices.split(",")]
    if not listed:
        raise argparse.ArgumentTypeError(f"{key} has no values to try")
    return Values(key, listed)


def _range(key: str, text: str) -> Values:
    logarithmic = text.startswith("log:")
    low, _, high = text.removeprefix("log:").partition("..")
    try:
        ends = [json.loads(low), json.loads(high)]
        integers = all(isinstance(end, int) for end in ends)
        least, most = map(float, ends)
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(
            f"{key}: {text!r} is not of the form LOW..HIGH, two numbers"
        ) from None
    if not least < most < math.inf or least == -math.inf or (logarithmic and least <= 0):
        rule = "LOW must be above 0 and below HIGH" if logarithmic else "LOW must be below HIGH"
        raise argparse.ArgumentTypeError(f"{key}: {text!r} is not a range: {rule}")
    return Values(key, None, least, most, logarithmic, integers)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _distinct(trials: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({json_text(trial, sort_keys=True): trial for trial in trials}.values())


def name_of(tree: Mapping[str, Any]) -> str:
    """Returns a name for files that depends only on what a mapping holds.

    Example:
        >>> name_of({"seed": 1, "head.beam": 2}) == name_of({"head.beam": 2, "seed": 1})
        True
    """
    return hashlib.sha256(json_text(tree, sort_keys=True).encode()).hexdigest()[:10]
