"""SentencePiece models: their pieces, and a model made from the pieces of a tokenizer.json."""

import base64
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfxc.core.errors import ConfigError

_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3


def read_pieces(model: bytes, where: str | Path) -> tuple[list[str], int]:
    """Pieces of a model by its ids, and the id of the unknown piece.

    Raises:
        ConfigError: the bytes are not a model.
    """
    try:
        fields = list(_fields(model))
        pieces: list[str] = []
        unknown = None
        for number, value in fields:
            if number == 1:
                piece = dict(_fields(value))
                if piece.get(3, _NORMAL) == _UNKNOWN:
                    unknown = len(pieces)
                pieces.append(piece[1].decode("utf-8"))
    except (IndexError, KeyError, ValueError, TypeError, struct.error):
        pieces, unknown = [], None
    if unknown is None:
        raise ConfigError(
            "a SentencePiece model expected, found something else",
            where=where,
            fix="copy the file again; it may be a Git LFS pointer",
        )
    return pieces, unknown


def model_of_pieces(content: Mapping[str, Any], where: str | Path) -> bytes:
    """A SentencePiece model (bytes) of the pieces and scores of a tokenizer.json.

    Args:
        content: the file's object, with a model of type Unigram.
        where: for messages.

    Raises:
        ConfigError: it normalises texts by something else than a table of characters.
    """
    special = {token["content"] for token in content.get("added_tokens", ())}
    unknown = content["model"]["unk_id"]
    parts = []
    for number, (piece, score) in enumerate(content["model"]["vocab"]):
        kind = _CONTROL if piece in special else _NORMAL
        kind = _UNKNOWN if number == unknown else kind
        text = piece.encode("utf-8")
        message = _bytes(1, text) + b"\x15" + struct.pack("<f", score) + b"\x18" + _varint(kind)
        parts.append(_bytes(1, message))
    normalizer = content.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer])
    table = next((s["precompiled_charsmap"] for s in steps if "precompiled_charsmap" in s), None)
    if table is None:
        raise ConfigError(
            "a normalizer with precompiled_charsmap expected, found none", where=where
        )
    rules = _bytes(1, b"custom") + _bytes(2, base64.b64decode(table))
    # add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces
    rules += b"\x18\x01\x20\x01\x28\x01"
    # trainer_spec: model_type unigram, the names of the special pieces
    trainer = b"\x18\x01" + _bytes(45, content["model"]["vocab"][unknown][0].encode("utf-8"))
    trainer += (
        b"\xc0\x02"
        + _varint(unknown)
        + b"".join(_varint(number << 3) + _varint(2**64 - 1) for number in (41, 42, 43))
    )  # no ids of begin, end and padding: texts are cut without them
    return b"".join(parts) + _bytes(2, trainer) + _bytes(3, rules)


def _fields(message):
    """Yields (number, value) of a protocol buffer's fields."""
    place = 0
    while place < len(message):
        key, place = _read_varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, place = _read_varint(message, place)
        elif kind == 2:
            size, place = _read_varint(message, place)
            if place + size > len(message):
                raise ValueError("truncated")
            value, place = message[place : place + size], place + size
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, place = message[place : place + size], place + size
        else:
            raise ValueError("not a protocol buffer")
        yield number, value


def _read_varint(message, place):
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


def _varint(value):
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _bytes(number, content):
    return _varint(number << 3 | 2) + _varint(len(content)) + content
