# cython: boundscheck=False, wraparound=False, cdivision=True
"""Native kernel of ``tfxc.ops.clustering.aggregation``: the greatest entries of sums of sparse rows.

A sum is made in a dense row that is cleared where it was touched, in single precision and in the
order of its rows, as ``scipy.sparse`` multiplies matrices.
"""

from libc.math cimport fabsf
from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcpy, memset

from tfxc.ops.clustering._selection cimport TFXC_PREFETCH, Scored, select

cdef enum:
    BINS = 1 << 11  # of magnitudes: their exponents and the first three bits behind them
    SHIFT = 20
    LINE = 16  # numbers in a cache line
    LINES = 4  # of a row that are fetched ahead; the processor goes on by itself
    AHEAD = 2  # rows that are fetched while one is added


cdef struct Sum:  # side by side: one line of the cache is fetched for both
    float total
    int32_t touched


cdef struct Scratch:
    Sum *sums
    int32_t *used  # columns of the sums that are touched
    Scored *close
    int32_t *bins


cdef int ascending(const void *one, const void *other) noexcept nogil:
    cdef int32_t first = (<const int32_t *>one)[0], second = (<const int32_t *>other)[0]
    return (first > second) - (first < second)


cdef inline uint32_t bin_of(float total) noexcept nogil:
    cdef float magnitude = fabsf(total)
    cdef uint32_t bits
    memcpy(&bits, &magnitude, sizeof(bits))
    return bits >> SHIFT


cdef inline void fetch(
    const int32_t *columns, const float *values, int64_t begin, int64_t end
) noexcept nogil:
    cdef int64_t entry = begin
    while entry < end and entry < begin + LINES * LINE:
        TFXC_PREFETCH(columns + entry)
        TFXC_PREFETCH(values + entry)
        entry += LINE


cdef int64_t choose(Scratch *work, int64_t count, int64_t most) noexcept nogil:
    """Brings the columns of the ``most`` sums of the greatest magnitude to the front of ``used``.

    The magnitudes are counted by bins; only those of the bin in which the last place falls are
    compared. What is dropped is cleared.
    """
    cdef int64_t i, above = 0, kept = 0, close = 0
    cdef uint32_t last = BINS - 1, found
    cdef int32_t column
    memset(work.bins, 0, BINS * sizeof(int32_t))
    for i in range(count):
        work.bins[bin_of(work.sums[work.used[i]].total)] += 1
    while above + work.bins[last] < most:
        above += work.bins[last]
        last -= 1
    for i in range(count):
        column = work.used[i]
        found = bin_of(work.sums[column].total)
        if found > last:
            work.used[kept] = column
            kept += 1
        elif found == last:
            work.close[close].score = -fabsf(work.sums[column].total)  # the greatest first
            work.close[close].place = column
            close += 1
        else:
            work.sums[column].total = 0
            work.sums[column].touched = 0
    select(work.close, close, most - kept)
    for i in range(close):
        column = work.close[i].place
        if kept < most:
            work.used[kept] = column
            kept += 1
        else:
            work.sums[column].total = 0
            work.sums[column].touched = 0
    return kept


def greatest_of_sums(
    const int64_t[::1] starts,
    const int32_t[::1] members,
    const float[::1] factors,
    const int64_t[::1] row_starts,
    const int32_t[::1] row_columns,
    const float[::1] row_values,
    int64_t width,
    int64_t most,
    int64_t[::1] counts,
    int32_t[::1] columns,
    float[::1] values,
):
    """Sums ``factors * rows`` over the members of each group.

    Args:
        starts: int64 (groups + 1,), bounds of the groups in ``members`` and ``factors``.
        members, factors: row numbers and their factors.
        row_starts, row_columns, row_values: the rows, CSR.
        width: of a row.
        most: entries of the greatest magnitude that are kept of a sum.
        counts: int64 (groups,), written: how many are kept.
        columns, values: (groups * most,), written: those of a group from ``group * most`` on,
            columns ascending.

    Returns:
        False if there is no memory.
    """
    cdef Scratch work
    cdef int64_t group, place, entry, begin, count, i, rows = members.shape[0]
    cdef int32_t column, ahead
    cdef float factor
    cdef Sum *own
    work.sums = <Sum *>calloc(max(width, 1), sizeof(Sum))
    work.used = <int32_t *>malloc((width + 1) * sizeof(int32_t))
    work.close = <Scored *>malloc(max(width, 1) * sizeof(Scored))
    work.bins = <int32_t *>malloc(BINS * sizeof(int32_t))
    cdef bint is_there = (work.sums != NULL and work.used != NULL and work.close != NULL
                          and work.bins != NULL)
    with nogil:
        for group in range(starts.shape[0] - 1 if is_there else 0):
            count = 0
            for place in range(starts[group], starts[group + 1]):
                if place + AHEAD < rows:
                    ahead = members[place + AHEAD]
                    fetch(&row_columns[0], &row_values[0], row_starts[ahead],
                          row_starts[ahead + 1])
                factor = factors[place]
                for entry in range(row_starts[members[place]], row_starts[members[place] + 1]):
                    column = row_columns[entry]
                    own = work.sums + column
                    # Without a branch, which would be guessed wrongly too often.
                    work.used[count] = column
                    count += 1 - own.touched
                    own.touched = 1
                    own.total += factor * row_values[entry]
            if count > most:
                count = choose(&work, count, most)
            qsort(work.used, count, sizeof(int32_t), ascending)
            begin = group * most
            for i in range(count):
                column = work.used[i]
                columns[begin + i] = column
                values[begin + i] = work.sums[column].total
                work.sums[column].total = 0
                work.sums[column].touched = 0
            counts[group] = count
    free(work.sums)
    free(work.used)
    free(work.close)
    free(work.bins)
    return is_there
