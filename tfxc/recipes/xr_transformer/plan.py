"""How the levels of an XR-Transformer are trained, checked against the tree's sizes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from tfxc.core.errors import ConfigError
from tfxc.ranker.settings import RankerSettings
from tfxc.recipes.xr_linear.settings import TreeSettings

#: Which clusters are negatives of a level.
Negatives = Literal["tfn", "man", "tfn+man"]
#: What the head of a level begins with.
Initial = Literal["linear", "weighted-linear", "inherit", "none"]
#: By which scores the clusters of the next level are chosen.
Ensemble = Literal["concat-only", "transformer-only", "average", "rank_average", "round_robin"]


@dataclass(frozen=True)
class Plan:
    """What happens on each fine-tuned level; lists have one value per level from the top.

    Attributes:
        count: number of fine-tuned levels.
        negatives, initial: names, see ``recipes.xr_transformer.recipe.XRTransformer``.
        epochs, steps, warmup_steps: of the training; None for the config's.
        only_topk: nodes kept of each training text for the negatives of the next level.
        ensemble: by which scores they are chosen.
        threshold, cost_sensitive: of the linear layer after them.
        threads: of linear layers and their search, at most; None for all cores.
    """

    count: int
    negatives: list[Negatives]
    initial: list[Initial]
    epochs: list[float]
    steps: list[int | None]
    warmup_steps: list[int | None]
    only_topk: int
    ensemble: Ensemble
    threshold: float
    cost_sensitive: bool
    threads: int | None


class Planned(NamedTuple):
    """What a config amounts to on its data.

    Attributes:
        first, second: ``TreeSettings`` of the trees of the levels and of the ranker.
        plan: ``Plan`` of the fine-tuned levels, None if nothing is fine-tuned.
        ranker: ``RankerSettings``.
        levels, layers: nodes of each level of the first and of the second tree.
    """

    first: TreeSettings
    second: TreeSettings
    plan: Plan | None
    ranker: RankerSettings
    levels: list[int]
    layers: list[int]


def fine_tuned_levels(sizes: Sequence[int], most: int) -> int:
    """Counts the levels, from the top, that have at most this many nodes.

    Raises:
        ConfigError: not even the first.
    """
    count = sum(size <= most for size in sizes)
    if not count:
        raise ConfigError(
            f"must be at least {sizes[0]:,}, the nodes of the tree's first level, not {most:,}",
            where="recipe.max_match_clusters",
            fix="raise it, or begin the first tree with fewer nodes: head.min_codes",
        )
    return count


def per_level(value: object, sizes: Sequence[int], name: str) -> list[Any]:
    """Returns one value for each fine-tuned level.

    Args:
        value: one for all, or a list.
        sizes: nodes of the fine-tuned levels.
        name: of the recipe's argument.

    Raises:
        ConfigError: a list of another length; the message gives the sizes.

    Example:
        >>> per_level([5, 10], [16, 60], "steps")
        [5, 10]
    """
    values = list(value) if isinstance(value, (list, tuple)) else [value] * len(sizes)
    if len(values) != len(sizes):
        raise ConfigError(
            f"there are {len(values)} values for {len(sizes)} fine-tuned levels (of "
            f"{', '.join(f'{size:,}' for size in sizes)} nodes)",
            where=f"recipe.{name}",
            fix="give one for each, or one for all",
        )
    return values
