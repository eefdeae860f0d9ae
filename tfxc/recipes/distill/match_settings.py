"""The ``matches`` of a config, checked; and what a teacher must be for them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core import registry
from tfxc.core.declared import check_choice
from tfxc.core.errors import ConfigError
from tfxc.core.registry import nearest
from tfxc.encoders.bases.layered import LayeredEncoder
from tfxc.model import own_precision
from tfxc.recipes.distill.distances import OF_ATTENTION, OF_PAIRS, OF_STATES
from tfxc.recipes.distill.layer_matching import ACTIVATIONS, Match
from tfxc.runs.loaded import load_run

if TYPE_CHECKING:
    from tfxc.encoders.base import Encoder


_NEEDED = ("layer_teacher", "layer_student", "loss")
_KEYS = (*_NEEDED, "feature", "weight", "projection")


def read_matches(given: Sequence[Mapping[str, Any]]) -> list[Match]:
    """List of ``Match`` from the config's list of dicts.

    Raises:
        ConfigError: a key or value that cannot be; it is named.

    Example:
        >>> read_matches([{"layer_teacher": 6, "layer_student": 3, "loss": "cos"}])[0].weight
        (1.0, 1.0)
    """
    if not isinstance(given, list | tuple):
        raise ConfigError(f"a list of matches expected, found {given!r}", where="recipe.matches")
    return [_match(section, f"recipe.matches.{number}") for number, section in enumerate(given)]


def _match(section, where):
    if not isinstance(section, dict):
        raise ConfigError(
            f"a section with {', '.join(_KEYS)} expected, found {section!r}", where=where
        )
    for key in section:
        if key not in _KEYS:
            message = f"unknown key {key!r}{nearest(key, _KEYS)}"
            raise ConfigError(message, where=where, fix=f"use one of: {', '.join(_KEYS)}")
    missing = [key for key in _NEEDED if key not in section]
    if missing:
        raise ConfigError(f"the key {missing[0]!r} expected, found none", where=where)
    loss = check_choice(f"{where}.loss", section["loss"], (*OF_STATES, *OF_ATTENTION))
    feature = "attention" if loss in OF_ATTENTION else "hidden"
    if section.get("feature", feature) != feature:
        raise ConfigError(
            f"{feature!r} expected by {loss!r}, found {section['feature']!r}",
            where=f"{where}.feature",
        )
    projection = section.get("projection")
    if projection is not None:
        check_choice(f"{where}.projection", projection, ACTIVATIONS)
        if feature == "attention":
            raise ConfigError(
                "a match of hidden states expected with a projection, found one of attention",
                where=f"{where}.projection",
                fix="remove it",
            )
    layers = [_layers(section, key, loss, where) for key in _NEEDED[:2]]
    weight = number_or_pair(section.get("weight", 1.0), 0, 1e6, f"{where}.weight")
    return Match(*layers, loss, weight, projection, where)


def _layers(section, key, loss, where):
    """One layer, or the two of a distance of pairs (one stands for a pair with itself)."""
    count = 2 if loss in OF_PAIRS else 1
    value = section[key]
    layers = [value] * count if isinstance(value, int) else value
    if (
        not isinstance(layers, list | tuple)
        or len(layers) != count
        or not all(type(layer) is int and layer >= 0 for layer in layers)
    ):
        expected = "the number of a layer" + (", or two," if count == 2 else "")
        raise ConfigError(f"{expected} expected, found {value!r}", where=f"{where}.{key}")
    return tuple(layers)


def number_or_pair(
    value: float | Sequence[float], least: float, most: float, where: str
) -> tuple[float, float]:
    """(first, last) of a number or a pair of numbers.

    Raises:
        ConfigError: it is none, or not within the limits.
    """
    values: list[Any] = list(value) if isinstance(value, list | tuple) else [value, value]
    if len(values) != 2 or not all(
        isinstance(v, int | float) and not isinstance(v, bool) and least <= v <= most
        for v in values
    ):
        raise ConfigError(
            f"a number from {least:g} to {most:g}, or two, expected, found {value!r}", where=where
        )
    first, last = values
    return float(first), float(last)


def check_layered(name: str, where: str) -> None:
    """Refuses an encoder without layers of self-attention."""
    if not issubclass(registry.get("encoder", name), LayeredEncoder):
        raise ConfigError(
            "an encoder with layers of self-attention, 'pretrained' or 'transformer', expected by "
            f"matches and start_layers, found {name!r}",
            where=where,
            fix="choose one, or remove matches and start_layers",
        )


def check_same_features(data_folder: str | Path, teacher: str) -> None:
    """Refuses a teacher that reads a text in another way than the student.

    Raises:
        ConfigError: their text features differ; it says in what.
    """
    folders = [Path(data_folder) / "text_features", Path(teacher) / "assets" / "text_features"]
    files = [
        {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
        for folder in folders
    ]
    for name in sorted(set(files[0]) | set(files[1])):
        contents = [found[name].read_bytes() if name in found else None for found in files]
        if contents[0] != contents[1]:
            raise ConfigError(
                "a teacher that reads the same features as the student expected, as both run on "
                f"the same batch; found a different {name} in {folders[0]} and {folders[1]}",
                where="data.text_features",
                fix="give both the same data.text_features and training file, or remove matches "
                "and start_layers",
            )


def teacher_encoder(folder: str | Path) -> "Encoder":
    """The encoder of a finished run; the precision of what is built later stays as it is."""
    with own_precision():
        return load_run(folder).model.encoder
