"""Download a public data set that configs use.

    tfxc fetch
    tfxc fetch clinc150

Writes the files that the set's configs read, below the folder that TFXC_DATA names (default: data).
Downloads are verified, and resumed after a stop. Without a name, the command lists the sets with
their licences. The configs of other sets say under data.where how to get them.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Annotated

from tfxc.core.bounds import Option
from tfxc.core.command_options import parse
from tfxc.core.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options of ``tfxc fetch``.

    Attributes:
        name: data set to download; None means list all.
        output: folder of all data sets; None means TFXC_DATA, else data.
    """

    name: Annotated[str | None, Option("NAME", positional=True)] = None
    output: Annotated[str | None, Option("FOLDER", mirror="writes")] = None


def main(argv: Sequence[str] | None = None) -> int:
    """Downloads one set, or lists all."""
    options = parse(Options, argv, "fetch", __doc__)
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
