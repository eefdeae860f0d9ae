"""Download a public data set that configs name.

    tfxc fetch
    tfxc fetch clinc150

Writes the files that the configs of the set read, below the folder that TFXC_DATA names (default:
data). Downloads are resumed after a stop and verified. Without a name, the sets are listed with
their licences; configs of other sets say under data.where how to get them.
"""

import argparse
import os
from collections.abc import Sequence

from tfxc.core import cli
from tfxc.core.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """Downloads one set, or lists all."""
    options = _parser().parse_args(argv)
    from tfxc.core.registry import nearest
    from tfxc.data.reading.downloads.sets import SETS, fetch

    if options.name is None:
        for name, public in SETS.items():
            print(f"{name:10} {public.title}; licence: {public.licence}")
        return 0
    if options.name not in SETS:
        raise ConfigError(
            f"there is no set {options.name!r} to download{nearest(options.name, SETS)}",
            where="NAME",
            fix=f"choose one of: {', '.join(SETS)}; configs of other sets say under data.where "
            "how to get them",
        )
    public = SETS[options.name]
    print(f"{public.title}; licence: {public.licence}")
    folder = options.output or os.environ.get("TFXC_DATA") or "data"
    for path in fetch(options.name, folder):
        print(f"written: {path}")
    return 0


def _parser() -> argparse.ArgumentParser:
    options = cli.parser("fetch", __doc__)
    options.add_argument(
        "name", nargs="?", metavar="NAME", help="set to download (default: list all)"
    )
    options.add_argument(
        "--output", metavar="FOLDER", help="folder of all sets (default: TFXC_DATA, else data)"
    )
    return options
