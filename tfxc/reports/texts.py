"""The texts of single examples, read once more from where they came from."""

from tfxc.core.errors import ConfigError


def texts_of(open_reader, wanted):
    """{example: text} of the wanted examples; empty if they are not texts, or the file is gone.

    Args:
        open_reader: function that returns a ``Reader`` of all examples in order.
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
