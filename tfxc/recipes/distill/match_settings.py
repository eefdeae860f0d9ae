"""The ``matches`` of a config, checked; and what a teacher must be for them."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tfxc.core import registry
from tfxc.core.declared import Natural, check_choice, check_section
from tfxc.core.errors import ConfigError
from tfxc.encoders.bases.layered import LayeredEncoder
from tfxc.model import own_precision
from tfxc.recipes.distill.distances import ATTENTION_DISTANCES, PAIR_DISTANCES, STATE_DISTANCES
from tfxc.recipes.distill.layer_matching import Match
from tfxc.runs.loaded import load_run

if TYPE_CHECKING:
    from tfxc.encoders.base import Encoder


@dataclasses.dataclass
class MatchSection:
    """The keys of a match in a config, see ``recipes.distill.layer_matching.Match``."""

    layer_teacher: Natural | Sequence[Natural]
    layer_student: Natural | Sequence[Natural]
    loss: str
    feature: Literal["hidden", "attention"] | None = None
    weight: float | Sequence[float] = 1.0
    projection: Literal["linear", "relu", "tanh"] | None = None


def read_matches(sections: Sequence[Mapping[str, Any]]) -> list[Match]:
    """Reads the ``Match``es of a config's list of sections.

    Raises:
        ConfigError: a key or value that cannot be; it is named.

    Example:
        >>> read_matches([{"layer_teacher": 6, "layer_student": 3, "loss": "cos"}])[0].weight
        (1.0, 1.0)
    """
    return [_match(section, f"recipe.matches.{number}") for number, section in enumerate(sections)]


def _match(section: Mapping[str, Any], where: str) -> Match:
    """Reads the ``Match`` of one section of the config."""
    check_section(MatchSection, section, where, "a match")
    loss = check_choice(f"{where}.loss", section["loss"], (*STATE_DISTANCES, *ATTENTION_DISTANCES))
    feature = "attention" if loss in ATTENTION_DISTANCES else "hidden"
    if section.get("feature", feature) != feature:
        raise ConfigError(
            f"{loss!r} compares {feature!r}, not {section['feature']!r}",
            where=f"{where}.feature",
            fix="leave it out",
        )
    projection = section.get("projection")
    if projection is not None and feature == "attention":
        raise ConfigError(
            "only hidden states can be projected, and this match compares attention",
            where=f"{where}.projection",
            fix="remove it",
        )

    def layers(key: str) -> tuple[int, ...]:
        value = section[key]
        count = 2 if loss in PAIR_DISTANCES else 1
        # Of a distance of pairs one number stands for a pair of the layer with itself.
        numbers = (value,) * count if isinstance(value, int) else tuple(value)
        if len(numbers) != count:
            raise ConfigError(
                f"{loss!r} compares {'pairs of layers' if count == 2 else 'single layers'}, and "
                f"{value!r} does not name them",
                where=f"{where}.{key}",
                fix="give two numbers" if count == 2 else "give one number",
            )
        return numbers

    weight = number_or_pair(section.get("weight", 1.0), 0, 1e6, f"{where}.weight")
    return Match(layers("layer_teacher"), layers("layer_student"), loss, weight, projection, where)


def number_or_pair(
    value: float | Sequence[float], least: float, most: float, where: str
) -> tuple[float, float]:
    """Returns (first, last) of a number or a pair of numbers.

    Raises:
        ConfigError: it is none, or not within the limits.
    """
    values: list[Any] = list(value) if isinstance(value, list | tuple) else [value, value]
    if len(values) != 2 or not all(
        isinstance(v, int | float) and not isinstance(v, bool) and least <= v <= most
        for v in values
    ):
        raise ConfigError(
            f"must be a number from {least:g} to {most:g}, or two, not {value!r}",
            where=where,
            fix="change it",
        )
    first, last = values
    return float(first), float(last)


def check_layered(name: str, where: str) -> None:
    """Refuses an encoder without layers of self-attention."""
    if not issubclass(registry.get("encoder", name), LayeredEncoder):
        raise ConfigError(
            "matches and start_layers need an encoder with layers of self-attention, and "
            f"{name!r} has none",
            where=where,
            fix="use 'pretrained' or 'transformer', or remove matches and start_layers",
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
        contents = [paths[name].read_bytes() if name in paths else None for paths in files]
        if contents[0] != contents[1]:
            raise ConfigError(
                "student and teacher read different features, but have to run on the same batch: "
                f"{name} differs between {folders[0]} and {folders[1]}",
                where="data.text_features",
                fix="give both the same data.text_features and training file, or remove matches "
                "and start_layers",
            )


def teacher_encoder(folder: str | Path, trust: bool = False) -> "Encoder":
    """Opens the encoder of a finished run; the precision of what is built later stays."""
    with own_precision():
        return load_run(folder, trust).model.encoder
