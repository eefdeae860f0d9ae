"""Keys of texts: equal texts have equal keys, different ones do not, but for one in 10^9."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np


def text_keys(texts: Iterable[str]) -> np.ndarray:
    """Returns uint64 (texts,), the same on every machine.

    Example:
        >>> text_keys(["owl", "hen", "owl"])[[0, 2]].tolist() == text_keys(["owl"] * 2).tolist()
        True
    """
    digests = (
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for text in texts
    )
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def own_part(text: str, separator: str | None) -> str:
    """Returns the part of an example's text that may be a label's text.

    Args:
        text: of the example.
        separator: it is what stands behind the first one; None for the whole text.

    Example:
        >>> own_part("hypernym : reform, a change", " : ")
        'reform, a change'
    """
    if not separator or separator not in text:
        return text
    return text.partition(separator)[2]


def keys_of_examples(texts: Sequence[str], separator: str | None) -> np.ndarray:
    """Returns the keys of examples' texts, and of the parts that may be a label's text, see
    ``own_part``.

    Returns:
        uint64 (examples, 2).

    Example:
        >>> keys = keys_of_examples(["lost card", "at : lost card"], " : ")
        >>> keys[0, 1] == keys[1, 1], keys[0, 0] == keys[1, 0]
        (np.True_, np.False_)
    """
    whole = text_keys(texts)
    if separator is None:
        return np.stack([whole, whole], axis=1)
    return np.stack([whole, text_keys(own_part(text, separator) for text in texts)], axis=1)


def places_of(keys: np.ndarray, listed: np.ndarray) -> np.ndarray:
    """Returns where keys first occur in a list.

    Args:
        keys: uint64 (n,).
        listed: uint64 (m,).

    Returns:
        int32 (n,), -1 for keys that are not in the list.

    Example:
        >>> places_of(np.uint64([7, 5]), np.uint64([5, 9, 5])).tolist()
        [-1, 0]
    """
    if not len(listed):
        return np.full(len(keys), -1, np.int32)
    distinct, first = np.unique(listed, return_index=True)
    place = np.minimum(np.searchsorted(distinct, keys), len(distinct) - 1)
    return np.where(distinct[place] == keys, first[place], -1).astype(np.int32)


def labels_of_texts(keys: np.ndarray, label_keys: np.ndarray) -> np.ndarray:
    """Returns the label whose text is that of an example.

    Args:
        keys: uint64 (n,), of the parts of examples that may be a label's text.
        label_keys: uint64 (num_labels,), of the texts of the labels, "" for none.

    Returns:
        int32 (n,), -1 for none.
    """
    labels = places_of(keys, label_keys)
    labels[keys == text_keys([""])[0]] = -1
    return labels
