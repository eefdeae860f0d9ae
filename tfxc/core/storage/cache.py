"""The cache of what is made once per machine: compiled code, built-in data, presets."""

import os
from pathlib import Path


def cache_of(given: str | Path | None = None) -> Path:
    """Returns the folder of cached things, which need not exist yet.

    Args:
        given: a folder that a caller names; None = ``TFXC_CACHE`` of the environment, or
            ``~/.cache/tfxc``.

    Returns:
        ``Path``, ``~`` expanded.

    Example:
        >>> cache_of("/data/cache")
        PosixPath('/data/cache')
    """
    return Path(given or os.environ.get("TFXC_CACHE") or "~/.cache/tfxc").expanduser()
