"""RecordIO files of MXNet and the image records in them."""

import struct
from pathlib import Path
from typing import IO

import numpy as np

from tfxc.core.errors import DataError

_MAGIC = 0xCED7230A
_HEAD = struct.Struct("<II")
_LENGTH_BITS = 29
# flag, label, id, second id
_IMAGE_HEAD = struct.Struct("<IfQQ")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)


def read_record(stream: IO[bytes], path: str | Path, offset: int) -> bytes | None:
    """Returns the payload of the record at the position of ``stream``.

    A record is the magic number, a word of 3 bits for the kind of part and 29 for the length, and
    the payload, padded to 4 bytes. A payload with the magic number in it is cut there into parts.

    Args:
        stream: binary stream at ``offset``.
        path: the file, for messages.
        offset: position of the record, for messages.

    Returns:
        bytes, or None at the end of the file.

    Raises:
        DataError: the record is cut or damaged; the message names file and byte.

    Source: https://github.com/dmlc/dmlc-core, include/dmlc/recordio.h.
    """
    parts: list[bytes] = []
    position = offset
    while True:
        head = stream.read(_HEAD.size)
        if not head and not parts:
            return None
        if len(head) < _HEAD.size:
            raise record_error(path, position, "the file ends within the header of a record")
        magic, word = _HEAD.unpack(head)
        if magic != _MAGIC:
            raise record_error(
                path,
                position,
                f"a record starts with 0x{magic:08x} instead of 0x{_MAGIC:08x}",
            )
        kind = word >> _LENGTH_BITS
        length = word & ((1 << _LENGTH_BITS) - 1)
        if kind not in ((_MIDDLE, _LAST) if parts else (_WHOLE, _FIRST)):
            raise record_error(path, position, f"a part of kind {kind} is out of order")
        content = stream.read(length + -length % 4)
        if len(content) < length + -length % 4:
            raise record_error(path, position, f"the file ends within a record of {length:,} bytes")
        parts.append(content[:length])
        position += _HEAD.size + len(content)
        if kind in (_WHOLE, _LAST):
            return _HEAD.pack(_MAGIC, 0)[:4].join(parts)


def unpack_image(payload: bytes, path: str | Path, offset: int) -> tuple[int, np.ndarray, bytes]:
    """Returns the flag, the labels and the image of a record.

    Returns:
        tuple: flag; float32 labels, ``flag`` of them or 1 where the flag is 0; bytes of the image.

    Raises:
        DataError: the record is too short.
    """
    if len(payload) < _IMAGE_HEAD.size:
        problem = f"the record has {len(payload)} bytes, its header alone {_IMAGE_HEAD.size}"
        raise record_error(path, offset, problem)
    flag, label, _, _ = _IMAGE_HEAD.unpack_from(payload)
    if not flag:
        return flag, np.array([label], np.float32), payload[_IMAGE_HEAD.size :]
    end = _IMAGE_HEAD.size + 4 * flag
    if len(payload) < end:
        raise record_error(path, offset, f"the record has fewer than {flag} labels")
    return flag, np.frombuffer(payload[_IMAGE_HEAD.size : end], "<f4"), payload[end:]


def record_error(path: str | Path, offset: int, problem: str) -> DataError:
    """Returns the DataError of a damaged record."""
    return DataError(
        f"truncated or damaged: {problem}",
        where=f"{path}: byte {offset}",
        fix="copy or download it again",
    )
