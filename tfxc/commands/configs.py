"""List the configs that come with tfxc.

    tfxc configs
    tfxc configs banking77
    tfxc configs mach --json

Each line is a name, as --config accepts it, and the beginning of its `about`: the score to expect,
or the paper. WORD shows only configs that contain it anywhere in their name or `about`.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Annotated

from tfxc.core.bounds import Option
from tfxc.core.command_options import parse
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import json_text, one_line
from tfxc.core.shipped import shipped_configs

_WIDTH = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options of ``tfxc configs``.

    Attributes:
        word: show only configs whose name or `about` contains it.
        json: print names and `about` as JSON.
    """

    word: Annotated[str | None, Option("WORD", positional=True)] = None
    json: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Prints names and descriptions."""
    options = parse(Options, argv, "configs", __doc__)
    # A config does not inherit the section `about`.
    abouts = {
        name: json.loads(path.read_bytes()).get("about", {})
        for name, path in shipped_configs().items()
    }
    word = (options.word or "").lower()
    chosen = {
        name: about
        for name, about in abouts.items()
        if word in name.lower() or any(word in text.lower() for text in about.values())
    }
    if not chosen:
        raise ConfigError(
            f"none of the {len(abouts)} configs contains {options.word!r}",
            where="WORD",
            fix="leave it out to see all of them",
        )
    if options.json:
        print(json_text(chosen, indent=2))
        return 0
    width = max(map(len, chosen))
    for name, about in chosen.items():
        first = one_line(next((text for text in about.values() if text), ""))
        shown = first if len(first) <= _WIDTH else f"{first[: _WIDTH - 3]}..."
        print(f"{name:{width}}  {shown}".rstrip())
    return 0
