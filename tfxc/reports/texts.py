"""The texts of single examples, read once more from where they came from."""

from collections.abc import Callable
from typing import Any

from tfxc.core.errors import ConfigError


def texts_of(open_reader: Callable[..., Any], wanted: set[int]) -> dict[int, str]:
    """{example: text} of the wanted examples; empty where they are no texts, or the file is gone.

    Args:
        open_reader: function that gives a ``Reader`` of all examples in order.
        wanted: set of example numbers.
    """
    first, found = 0, {}
    try:
        for chunk in open_reader().chunks() if wanted else ():
            if chunk.texts is None:
                return {}
            found |= {first + n: t for n, t in enumerate(chunk.texts) if first + n in wanted}
            first += len(chunk)
    except ConfigError:
        return {}
    return found
