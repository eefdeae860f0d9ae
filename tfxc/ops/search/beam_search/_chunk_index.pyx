# cython: boundscheck=False, wraparound=False, cdivision=True
"""The index by which ``_beam_search`` finds features among the rows of a chunk."""

from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.string cimport memset

import numpy as np

from tfxc.ops.search.beam_search._chunks cimport BLOCKS

cdef enum:
    BLOCK_BITS = 5


cdef void fill_index(
    const int32_t *rows, Py_ssize_t count, int shift, uint32_t *index, Py_ssize_t size
) noexcept nogil:
    cdef Py_ssize_t i
    cdef uint32_t before = 0, row
    memset(index, 0, size * sizeof(uint32_t))
    if shift == BLOCKS:
        for i in range(count - 1, -1, -1):
            index[2 * (rows[i] >> BLOCK_BITS)] |= <uint32_t>1 << (rows[i] & 31)
            index[2 * (rows[i] >> BLOCK_BITS) + 1] = <uint32_t>i
        return
    for i in range(count):
        index[(rows[i] >> shift) + 1] += 1
    for i in range(size):
        before += index[i]
        index[i] = before


def index_chunks(
    const int32_t[::1] rows, const int64_t[::1] row_splits, const signed char[::1] shifts,
    const int64_t[::1] index_splits
):
    """Index of every chunk: uint32 words, chunk c's from ``index_splits[c]`` on.

    Where ``shifts[c]`` is -1 the words are pairs: which of 32 features are rows, and the place of
    the first of them. Elsewhere they are the places at which the rows of the features
    ``i << shift`` and above begin.
    """
    cdef uint32_t[::1] index = np.empty(index_splits[index_splits.shape[0] - 1] + 1, np.uint32)
    cdef Py_ssize_t chunk
    for chunk in range(shifts.shape[0]):
        fill_index(
            &rows[row_splits[chunk]], row_splits[chunk + 1] - row_splits[chunk], shifts[chunk],
            &index[index_splits[chunk]], index_splits[chunk + 1] - index_splits[chunk],
        )
    return np.asarray(index)
