"""Fields of protocol buffers, written without the classes of their messages.

Source: https://protobuf.dev/programming-guides/encoding
"""

import struct

# How the content of a field is written.
_EIGHT_BYTES = 1
_LENGTH_DELIMITED = 2


def bytes_field(number: int, content: bytes) -> bytes:
    """Returns a field that has a length: a text, bytes or another message.

    Args:
        number: of the field.
        content: what it holds.

    Example:
        >>> bytes_field(2, b"testing").hex()
        '120774657374696e67'
    """
    return varint(number << 3 | _LENGTH_DELIMITED) + varint(len(content)) + content


def integer_field(number: int, value: int) -> bytes:
    """Returns a field that holds an integer of at least 0, or a truth value."""
    return varint(number << 3) + varint(value)


def double_field(number: int, value: float) -> bytes:
    """Returns a field that holds a float64."""
    return varint(number << 3 | _EIGHT_BYTES) + struct.pack("<d", value)


def varint(value: int) -> bytes:
    """Returns Base-128 digits, lowest first; the high bit says that another one follows.

    Example:
        >>> varint(300).hex()
        'ac02'
    """
    digits = []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])
