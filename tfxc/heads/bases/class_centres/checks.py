"""What the arguments of heads with class centres have to fulfil."""

import math
from typing import TYPE_CHECKING

from tfxc.core.arguments import NOT_NEGATIVE, Integer, Number
from tfxc.core.errors import ConfigError
from tfxc.labels.mixed_radix import check_sizes

if TYPE_CHECKING:
    from tfxc.heads.base import Head


SAMPLINGS = (None, "batch_heads", "heads", "partial")
# A margin of angles and one of cosines.
MARGINS = {"m2": Number(0, below=math.pi), "m3": NOT_NEGATIVE}
_NEEDS = {
    "heads": ("batch_heads", "heads"),
    "num_sampled_heads": ("heads",),
    "sample_rate": ("partial",),
}


def check_sampling(head: "Head") -> None:
    """Raises a ``ValueError`` for an argument of sampling that is missing, useless or wrong."""
    for name, users in _NEEDS.items():
        given, used = getattr(head, name) is not None, head.sampling in users
        if given != used:
            needs = "needs" if used else "does not use"
            raise ValueError(f"sampling {head.sampling!r} {needs} {name}")
    if head.heads is not None:
        _check_heads(head)
    if head.sharded and head.heads is not None:
        raise ValueError(
            f"sampling: None or 'partial' expected with sharded, found {head.sampling!r}"
        )


def _check_heads(head):
    sizes = check_sizes(head.num_labels, head.heads)
    if len(sizes) != 2:
        raise ValueError(f"heads: two sizes expected, found {head.heads}")
    sampled, number = head.num_sampled_heads, sizes[0]
    (Integer(1, number, what="the heads") | None).check("num_sampled_heads", sampled)


def labels_of_a_shard(num_labels: int, replicas: int) -> int:
    """Labels of each replica but the last, which may have fewer.

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
