"""Parses long byte strings of numbers with NumPy instead of token by token.

Every function returns None if the text is not in the plain form it knows: the caller then uses
a slower way that can report what is wrong.
"""

import warnings

import numpy as np

_COLON = ord(":")
_SPACE = ord(" ")
_DOT = ord(".")
_LONGEST_EXACT = 16
_POWERS_OF_TEN = np.array([float(f"1e{exponent}") for exponent in range(_LONGEST_EXACT)])


def parse_integers(text: bytes, separator: str, count: int) -> np.ndarray | None:
    """Returns ``count`` integers as int64, or None.

    Example:
        >>> parse_integers(b"3,14,159", ",", 3).tolist()
        [3, 14, 159]
    """
    return _parse(text, separator, count, np.int64)


def parse_pairs(text: bytes, count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns ``count`` times ``id:value`` with single spaces between:
    ``(int64 ids, float64 values)``.

    Example:
        >>> ids, values = parse_pairs(b"3:0.5 7:1", 2)
        >>> ids.tolist(), values.tolist()
        ([3, 7], [0.5, 1.0])
    """
    if count == 0:
        return None if text else (np.zeros(0, np.int64), np.zeros(0))
    buffer = np.frombuffer(text, np.uint8)
    separates = (buffer == _COLON) | (buffer == _SPACE)
    # Colon, space, colon ... with a token around each: together with the number of numbers parsed
    # this proves the form, as each token gives at least one number.
    at = np.flatnonzero(separates)
    if (
        at.size != 2 * count - 1
        or (buffer[at[::2]] != _COLON).any()
        or (buffer[at[1::2]] != _SPACE).any()
        or (np.diff(at, prepend=-1, append=buffer.size) <= 1).any()
    ):
        return None
    in_value = np.logical_xor.accumulate(separates)
    ids = parse_integers(buffer[~in_value].tobytes(), " ", count)
    after_spaces = buffer[in_value]
    after_spaces[after_spaces == _COLON] = _SPACE
    values = _parse_decimals(after_spaces, count)
    if values is None:
        values = _parse(after_spaces.tobytes(), " ", count, np.float64)
    return None if ids is None or values is None else (ids, values)


def _parse_decimals(buffer: np.ndarray, count: int) -> np.ndarray | None:
    """Returns numbers such as ``12`` and ``0.345``, each after a space, eight times as fast as
    floats.

    A mantissa below 2^53 divided by a power of ten up to 10^22 is the correctly rounded result.
    """
    dots = np.flatnonzero(buffer == _DOT)
    spaces = np.flatnonzero(buffer == _SPACE)
    digits = buffer - np.uint8(ord("0")) <= 9
    if digits.sum() + dots.size + spaces.size < buffer.size:
        return None
    ends = np.append(spaces[1:], buffer.size)
    lengths = ends - spaces - 1
    token = np.searchsorted(spaces, dots) - 1
    if lengths.max() > _LONGEST_EXACT or (np.diff(token) == 0).any() or (lengths[token] < 2).any():
        return None
    mantissas = parse_integers(buffer[buffer != _DOT].tobytes(), " ", count)
    if mantissas is None:
        return None
    decimals = np.zeros(count, np.int64)
    decimals[token] = ends[token] - dots - 1
    return mantissas / _POWERS_OF_TEN[decimals]


def _parse(text: bytes, separator: str, count: int, dtype: type[np.generic]) -> np.ndarray | None:
    if count == 0:
        return np.zeros(0, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            numbers = np.fromstring(text, dtype, sep=separator)
        except (DeprecationWarning, ValueError):
            return None
    return numbers if numbers.size == count else None
