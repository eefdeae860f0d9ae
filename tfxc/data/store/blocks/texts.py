"""Texts and names as arrays."""

import itertools
from collections.abc import Sequence

import numpy as np

from tfxc.data.examples.lists import joined_files

_ENCODING = ("utf-8", "surrogatepass")


def text_arrays(prefix: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Strings as two arrays, whose names begin with ``prefix``.

    Example:
        >>> texts_of(text_arrays("names.", ["owl", "hen"]), "names.")
        ['owl', 'hen']
    """
    files = joined_files([text.encode(*_ENCODING) for text in texts])
    return {prefix + name: array for name, array in files.items()}


def texts_of(arrays: dict[str, np.ndarray], prefix: str) -> list[str]:
    """Returns the strings of ``text_arrays``."""
    content = arrays[prefix + "content"].tobytes()
    bounds = arrays[prefix + "indptr"].tolist()
    return [content[start:end].decode(*_ENCODING) for start, end in itertools.pairwise(bounds)]
