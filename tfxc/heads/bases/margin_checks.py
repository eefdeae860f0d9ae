"""What the arguments of the margin head have to fulfil."""

import math

from tfxc.core.errors import ConfigError
from tfxc.labels.mixed_radix import check_sizes

_SAMPLINGS = (None, "batch_heads", "heads", "partial")
_NEEDS = {
    "heads": ("batch_heads", "heads"),
    "num_sampled_heads": ("heads",),
    "sample_rate": ("partial",),
}


def check_margin(scale, m1, m2, m3, sub_centers):
    """Raises a ``ValueError`` for a number out of range."""
    checks = (
        (scale > 0, "scale must be positive", scale),
        (m1 >= 1, "m1 must be at least 1", m1),
        (0 <= m2 < math.pi, "m2 must lie in [0, pi)", m2),
        (m3 >= 0, "m3 must not be negative", m3),
        (sub_centers >= 1, "sub_centers must be at least 1", sub_centers),
    )
    for good, message, found in checks:
        if not good:
            raise ValueError(f"{message}, found {found}")


def check_sampling(head):
    """Raises a ``ValueError`` for an argument of sampling that is missing, useless or wrong."""
    if head.sampling not in _SAMPLINGS:
        choices = ", ".join(map(str, _SAMPLINGS))
        raise ValueError(f"sampling must be one of {choices}, found {head.sampling!r}")
    for name, users in _NEEDS.items():
        given, used = getattr(head, name) is not None, head.sampling in users
        if given != used:
            verb = "needs" if used else "has no use for"
            raise ValueError(f"sampling {head.sampling!r} {verb} {name}")
    if head.heads is not None:
        _check_heads(head)
    if head.sharded and head.heads is not None:
        raise ValueError(f"sharded goes with sampling None or 'partial', found {head.sampling!r}")
    rate = head.sample_rate
    if rate is not None and (not isinstance(rate, int | float) or not 0 < rate <= 1):
        raise ValueError(f"sample_rate must lie in (0, 1], found {rate!r}")


def _check_heads(head):
    sizes = check_sizes(head.num_labels, head.heads)
    if len(sizes) != 2:
        raise ValueError(f"heads must be two sizes, found {head.heads}")
    sampled, number = head.num_sampled_heads, sizes[0]
    if sampled is None:
        return
    if not isinstance(sampled, int) or not 1 <= sampled <= number:
        raise ValueError(f"num_sampled_heads must lie in 1 .. {number} (heads), found {sampled!r}")


def labels_of_a_shard(num_labels, replicas):
    """Labels of each replica but the last, which may have fewer.

    Raises:
        ConfigError: so few labels that a replica would have none.
    """
    size = -(-num_labels // replicas)
    if size * (replicas - 1) >= num_labels:
        raise ConfigError(
            f"{num_labels} labels cannot be sharded over {replicas} replicas: one would have none",
            where="head.sharded",
            fix="leave it out",
        )
    return size
