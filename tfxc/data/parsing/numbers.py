"""Parses long byte strings of numbers with NumPy instead of token by token.

Every function returns None if the text is not in the plain form it knows: the caller then uses
a slower way that can report what is wrong.
"""

import warnings

import numpy as np

_COLON, _SPACE, _DOT = ord(":"), ord(" "), ord(".")
_LONGEST_EXACT = 16
_POWERS_OF_TEN = np.array([float(f"1e{exponent}") for exponent in range(_LONGEST_EXACT)])


def parse_integers(text: bytes, separator: str, count: int) -> np.ndarray | None:
    """``count`` integers as int64, or None.

    Example:
        >>> parse_integers(b"3,14,159", ",", 3).tolist()
        [3, 14, 159]
    """
    return _parse(text, separator, count, np.int64)


def parse_pairs(text: bytes, count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """``count`` times ``id:value`` with single spaces between: ``(int64 ids, float64 values)``.

    Example:
        >>> ids, values = parse_pairs(b"3:0.5 7:1", 2)
        >>> ids.tolist(), values.tolist()
        ([3, 7], [0.5, 1.0])
    """
    if count == 0:
        return None if text else (np.zeros(0, np.int64), np.zeros(0))
    buffer = np.frombuffer(text, np.uint8)
    separates = (buffer == _COLON) | (buffer == _SPACE)
    if not _alternates(buffer, np.flatnonzero(separates), count):
        return None
    in_value = np.logical_xor.accumulate(separates)
    ids = parse_integers(buffer[~in_value].tobytes(), " ", count)
    values = buffer[in_value]
    values[values == _COLON] = _SPACE
    values = _parse_values(values, count)
    return None if ids is None or values is None else (ids, values)


def _alternates(buffer, at, count):
    """Whether the separators ``at`` are colon, space, colon ... with a token around each.

    Together with the number of numbers parsed this proves the form: no token is empty, each gives
    at least one number, so the right total leaves exactly one for each.
    """
    return (
        at.size == 2 * count - 1
        and (buffer[at[::2]] == _COLON).all()
        and (buffer[at[1::2]] == _SPACE).all()
        and (np.diff(at, prepend=-1, append=buffer.size) > 1).all()
    )


def _parse_values(buffer, count):
    values = _parse_decimals(buffer, count)
    return _parse(buffer.tobytes(), " ", count, np.float64) if values is None else values


def _parse_decimals(buffer, count):
    """Numbers such as ``12`` and ``0.345``, each after a space, eight times as fast as floats.

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


def _parse(text, separator, count, dtype):
    if count == 0:
        return np.zeros(0, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            numbers = np.fromstring(text, dtype, sep=separator)
        except (DeprecationWarning, ValueError):
            return None
    return numbers if numbers.size == count else None
