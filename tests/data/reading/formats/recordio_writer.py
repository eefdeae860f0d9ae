"""Writes RecordIO files of images, as MXNet does."""

import struct

import numpy as np

MAGIC = struct.pack("<I", 0xCED7230A)


def image_record(labels, image, number=0):
    """The payload of an image; one plain label, or a list of them."""
    if isinstance(labels, list):
        head = struct.pack("<IfQQ", len(labels), 0.0, number, 0)
        return head + np.array(labels, "<f4").tobytes() + image
    return struct.pack("<IfQQ", 0, labels, number, 0) + image


def record(payload):
    """A record, cut into parts where the magic number stands at a multiple of 4 in the payload."""
    aligned = range(0, len(payload) - len(payload) % 4, 4)
    cuts = [at for at in aligned if payload[at : at + 4] == MAGIC]
    starts, ends = [0, *(at + 4 for at in cuts)], [*cuts, len(payload)]
    kinds = [0] if not cuts else [1, *[2] * (len(cuts) - 1), 3]
    parts = zip(kinds, starts, ends, strict=True)
    return b"".join(part(kind, payload[start:end]) for kind, start, end in parts)


def part(kind, content):
    """One part of a record."""
    head = MAGIC + struct.pack("<I", kind << 29 | len(content))
    return head + content + bytes(-len(content) % 4)


def write_records(path, payloads):
    """Writes a ``.rec`` file with its ``.idx``; returns the offsets of the records."""
    records = [record(payload) for payload in payloads]
    offsets = np.concatenate([[0], np.cumsum([len(content) for content in records])]).tolist()
    path.write_bytes(b"".join(records))
    lines = (f"{number}\t{offset}\n" for number, offset in enumerate(offsets[:-1]))
    path.with_suffix(".idx").write_text("".join(lines))
    return offsets
