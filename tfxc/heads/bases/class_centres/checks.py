"""Checks of the arguments of heads with class centres."""

import math
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Lt

from tfxc.core.errors import ConfigError
from tfxc.labels.mixed_radix import check_sizes

if TYPE_CHECKING:
    from tfxc.heads.base import Head


#: Which classes a training step looks at; None for all.
Sampling = Literal["batch_heads", "heads", "partial"] | None
#: A margin of angles.
Angle = Annotated[float, Ge(0), Lt(math.pi)]
_NEEDS = {
    "heads": ("batch_heads", "heads"),
    "num_sampled_heads": ("heads",),
    "sample_rate": ("partial",),
}


def check_sampling(head: "Head") -> None:
    """Raises a ``ValueError`` for an argument of sampling that is missing, useless or wrong."""
    for name, users in _NEEDS.items():
        given = getattr(head, name) is not None
        used = head.sampling in users
        if given != used:
            needs = "needs" if used else "does not use"
            raise ValueError(f"sampling {head.sampling!r} {needs} {name}")
    if head.heads is not None:
        sizes = check_sizes(head.num_labels, head.heads)
        if len(sizes) != 2:
            raise ValueError(f"heads: must be two sizes, not {head.heads}")
        if head.num_sampled_heads is not None and head.num_sampled_heads > sizes[0]:
            raise ConfigError(
                f"must be at most {sizes[0]}, as many as there are heads, not "
                f"{head.num_sampled_heads}",
                where="num_sampled_heads",
            )
    if head.sharded and head.heads is not None:
        raise ValueError(
            f"sampling {head.sampling!r} does not go with sharded: leave it out, or use 'partial'"
        )


def labels_of_a_shard(num_labels: int, replicas: int) -> int:
    """Returns the labels of each replica but the last, which may have fewer.

    Raises:
        ConfigError: so few labels that a replica would have none.
    """
    size = -(-num_labels // replicas)
    if size * (replicas - 1) >= num_labels:
        raise ConfigError(
            f"{num_labels} labels cannot be sharded over {replicas} replicas: one would get none",
            where="head.sharded",
            fix="leave it out",
        )
    return size
