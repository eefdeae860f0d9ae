"""The texts of single examples, read once more from where they came from."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tfxc.core.errors import UserError

if TYPE_CHECKING:
    from tfxc.data.reading.formats.base import Reader


def texts_of(open_reader: "Callable[[], Reader]", wanted: set[int]) -> dict[int, str]:
    """Returns {example: text} of the wanted examples; empty without texts, or without the file.

    Args:
        open_reader: function that returns a ``Reader`` of all examples in order.
        wanted: set of example numbers.
    """
    first = 0
    texts: dict[int, str] = {}
    try:
        size = min(4096, max(wanted, default=0) + 1)
        for chunk in open_reader().chunks(size) if wanted else ():
            if chunk.texts is None:
                return {}
            if first > max(wanted):
                break
            texts |= {first + n: t for n, t in enumerate(chunk.texts) if first + n in wanted}
            first += len(chunk)
    except UserError:
        return {}
    return texts
