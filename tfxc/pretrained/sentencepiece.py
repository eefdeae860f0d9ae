"""SentencePiece models: their pieces, and a model made from the pieces of a tokenizer.json."""

import base64
import functools
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from tfxc.core.errors import ConfigError
from tfxc.core.protocol_buffers import bytes_field, integer_field

# Types of pieces.
_NORMAL = 1
_UNKNOWN = 2
_CONTROL = 3
_BYTE = 6
_BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")
# How the tokenizer.json of Llama prepares a text.
_LLAMA_STEPS = [
    {"type": "Prepend", "prepend": "\u2581"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
]
# The library builds its index of pieces by one call in another for each byte.
_LONGEST_PIECE = 1000


def read_pieces(model: bytes, where: str | Path) -> tuple[list[str], int]:
    """Pieces of a model by its ids, and the id of the unknown piece.

    What would end the process in the library's native code is refused.

    Raises:
        ConfigError: the bytes are not a model, or a damaged one.
    """
    try:
        content = _message_class().FromString(model)
        pieces = [piece.piece.decode("utf-8") for piece in content.pieces]
        kinds = [piece.type for piece in content.pieces]
    except (DecodeError, UnicodeDecodeError):
        kinds = []
    if _UNKNOWN not in kinds:
        raise ConfigError(
            "this is not a SentencePiece model, or it is damaged",
            where=where,
            fix="copy the file again; it may be a Git LFS pointer",
        )
    wrong = None
    if any(not piece or "\0" in piece or len(piece) > _LONGEST_PIECE for piece in pieces):
        wrong = f"a piece is empty, longer than {_LONGEST_PIECE:,} characters, or holds a NUL"
    elif not _rules_are_sound(content.normalizer.rules):
        wrong = "its rules of normalisation lead nowhere"
    if wrong is not None:
        raise ConfigError(
            f"the SentencePiece model is damaged: {wrong}", where=where, fix="copy it again"
        )
    return pieces, len(kinds) - 1 - kinds[::-1].index(_UNKNOWN)


@functools.cache
def _message_class() -> type[Message]:
    """Returns what is read of a model, as a class of protocol buffers.

    Source: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
    """
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="tfxc/pieces.proto", package="tfxc")
    fields: dict[str, list[tuple[str, int, Any, str | None]]] = {
        "Piece": [("piece", 1, field.TYPE_BYTES, None), ("type", 3, field.TYPE_INT32, None)],
        "Normalizer": [("rules", 2, field.TYPE_BYTES, None)],
        "Model": [
            ("pieces", 1, field.TYPE_MESSAGE, ".tfxc.Piece"),
            ("normalizer", 3, field.TYPE_MESSAGE, ".tfxc.Normalizer"),
        ],
    }
    for message_name, own_fields in fields.items():
        message = file.message_type.add(name=message_name)
        for name, number, kind, type_name in own_fields:
            label = field.LABEL_REPEATED if name == "pieces" else field.LABEL_OPTIONAL
            message.field.add(name=name, number=number, type=kind, label=label, type_name=type_name)
    file.message_type[0].field[1].default_value = str(_NORMAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tfxc.Model"))


def _rules_are_sound(table: bytes) -> bool:
    """Tells whether no text leads out of the rules' trie, or to a replacement that is not there.

    The library follows the trie unchecked. It is a double array: bytes of its size, its units, and
    behind them the replacements. A unit's children lie at its own place XOR its offset XOR the
    next byte; the first of them is the place of a replacement where bit 8 says so.

    Source: https://github.com/s-yata/darts-clone
    """
    size = int.from_bytes(table[:4], "little")
    if not table:
        return True
    if size % 1024 or not 0 < size < len(table) - 4:
        return False
    units = np.frombuffer(table, "<u4", size // 4, 4)
    has_children = units < 1 << 31
    has_children[0] = True
    parents = units[has_children]
    offsets = (parents >> 10) << ((parents & 1 << 9) >> 6)
    children = np.flatnonzero(has_children) ^ offsets.astype(np.int64)
    if (children >= len(units)).any():
        return False
    replacements = units[children[parents & 1 << 8 > 0]] & (1 << 31) - 1
    return bool((replacements < len(table) - 4 - size).all())


def model_of_pieces(content: Mapping[str, Any], where: str | Path) -> bytes:
    """Returns a SentencePiece model (bytes) of the pieces and scores of a tokenizer.json.

    Args:
        content: the file's object, with a model of type Unigram, or of type BPE whose pieces are
            in order of their merges, bytes among them, as Llama's are.
        where: for messages.

    Raises:
        ConfigError: it normalises texts by something else than a table of characters.
    """
    special = {token["content"] for token in content.get("added_tokens", ())}
    model = content["model"]
    normalizer = content.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer])
    if model.get("type") == "BPE":
        if content.get("pre_tokenizer") or steps != _LLAMA_STEPS:
            raise _other_normalizer("does more than to replace spaces", where)
        pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
        # Of two merges the one with the earlier piece comes first.
        scored = [(piece, -float(number)) for number, piece in enumerate(pieces)]
        unknown = model["vocab"][model["unk_token"]]
        # model_type bpe, byte_fallback
        kind_of_model = b"\x18\x02\x98\x02\x01"
        # add_dummy_prefix, escape_whitespaces, but not remove_extra_whitespaces
        rules = bytes_field(1, b"identity") + b"\x18\x01\x20\x00\x28\x01"
    else:
        scored = model["vocab"]
        unknown = model["unk_id"]
        tables = [s["precompiled_charsmap"] for s in steps if "precompiled_charsmap" in s]
        if not tables:
            raise _other_normalizer("has no precompiled_charsmap", where)
        kind_of_model = b"\x18\x01"
        # add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces
        rules = bytes_field(1, b"custom") + bytes_field(2, base64.b64decode(tables[0]))
        rules += b"\x18\x01\x20\x01\x28\x01"
    parts = []
    for number, (piece, score) in enumerate(scored):
        kind = _CONTROL if piece in special else _NORMAL
        kind = _BYTE if model.get("type") == "BPE" and _BYTE_PIECE.fullmatch(piece) else kind
        kind = _UNKNOWN if number == unknown else kind
        text = piece.encode("utf-8")
        message = bytes_field(1, text) + b"\x15" + struct.pack("<f", score) + integer_field(3, kind)
        parts.append(bytes_field(1, message))
    # trainer_spec: the names of the special pieces
    trainer = kind_of_model + bytes_field(45, scored[unknown][0].encode("utf-8"))
    trainer += integer_field(40, unknown)
    # Texts are cut without pieces for begin, end and padding: these have no ids.
    trainer += b"".join(integer_field(number, 2**64 - 1) for number in (41, 42, 43))
    return b"".join(parts) + bytes_field(2, trainer) + bytes_field(3, rules)


def _other_normalizer(problem: str, where: str | Path) -> ConfigError:
    return ConfigError(
        f"the normalizer of tokenizer.json {problem}",
        where=where,
        fix="copy the model's SentencePiece file, too",
    )
