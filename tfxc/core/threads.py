"""How many threads work."""

import os

from tfxc.core.errors import ConfigError


def thread_count(threads: int | None = None) -> int:
    """``threads``, or for None the cores this process may use.

    Raises:
        ConfigError: fewer than 1.
    """
    if threads is None:
        affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    if threads < 1:
        raise ConfigError(f"an integer of at least 1 expected, found {threads}", where="threads")
    return int(threads)
