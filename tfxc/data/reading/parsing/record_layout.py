"""How TFRecord shards hold rows; ``tfrecord`` says what the layouts are.

Without TensorFlow, so that processes that write shards start sooner and are smaller.
"""

import google_crc32c

BLOCK_ROWS = 256
#: How records hold rows, see ``tfxc.data.reading.parsing.tfrecord``.
LAYOUTS = ("blocks", "examples")
#: Bytes of a record of anything but images, and of those that are parsed at once, which takes ten
#: times as much.
PARSED_BYTES = 1 << 20
#: What to do about a shard that is missing or damaged.
AGAIN = "run prepare again with --force"


def record_checksum(content: bytes) -> bytes:
    """Returns the checksum of a part of a TFRecord file: CRC-32C, rotated and shifted, 4 bytes.

    Source: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details

    Example:
        >>> record_checksum(b"").hex()
        'd8ea82a2'
    """
    crc = google_crc32c.value(content)
    rotated = (crc >> 15 | crc << 17) + 0xA282EAD8
    return (rotated & 0xFFFFFFFF).to_bytes(4, "little")
