# cython: boundscheck=False, wraparound=False, cdivision=True
"""Native kernel of ``tfxc.data.records.record_writer``: the checksum of the records of TensorFlow.

CRC-32C (Castagnoli), eight bytes at a time by eight tables ("slicing by 8", Kounavis and Berry 2005).
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef uint32_t POLYNOMIAL = 0x82F63B78  # reflected
cdef uint32_t[8][256] TABLES


cdef void fill_tables() noexcept:
    cdef int byte, table, bit
    cdef uint32_t rest
    for byte in range(256):
        rest = byte
        for bit in range(8):
            rest = (rest >> 1) ^ (POLYNOMIAL if rest & 1 else 0)
        TABLES[0][byte] = rest
    for byte in range(256):
        rest = TABLES[0][byte]
        for table in range(1, 8):
            rest = TABLES[0][rest & 255] ^ (rest >> 8)
            TABLES[table][byte] = rest


fill_tables()


def masked_crc32c(const uint8_t[::1] content):
    """The checksum of bytes as TFRecord files have it, rotated and shifted.

    Args:
        content: at least one byte.

    Returns:
        int, of 32 bits.
    """
    cdef uint64_t eight, count = content.shape[0]
    cdef const uint8_t *place = &content[0]
    cdef uint32_t rest = 0xFFFFFFFF
    with nogil:
        while count >= 8:  # little-endian, as the files are
            memcpy(&eight, place, 8)
            eight ^= rest
            rest = (
                TABLES[7][eight & 255] ^ TABLES[6][(eight >> 8) & 255]
                ^ TABLES[5][(eight >> 16) & 255] ^ TABLES[4][(eight >> 24) & 255]
                ^ TABLES[3][(eight >> 32) & 255] ^ TABLES[2][(eight >> 40) & 255]
                ^ TABLES[1][(eight >> 48) & 255] ^ TABLES[0][eight >> 56]
            )
            place += 8
            count -= 8
        while count:
            rest = (rest >> 8) ^ TABLES[0][(rest ^ place[0]) & 255]
            place += 1
            count -= 1
        rest = ~rest
        rest = ((rest >> 15) | (rest << 17)) + <uint32_t>0xA282EAD8
    return rest
