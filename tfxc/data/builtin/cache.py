"""Where built-in sets keep what they have made."""

import os
from pathlib import Path


def cache_of(folder=None):
    """The folder given, else ``TFXC_CACHE``, else ``~/.cache/tfxc``."""
    folder = folder or os.environ.get("TFXC_CACHE") or Path.home() / ".cache" / "tfxc"
    return Path(folder).expanduser()
