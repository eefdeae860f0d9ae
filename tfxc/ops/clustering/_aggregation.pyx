# cython: boundscheck=False, wraparound=False, cdivision=True
"""Native kernel of ``tfxc.ops.clustering.aggregation``: the greatest entries of sums of sparse rows.

A sum is made in a dense row that is cleared where it was touched, in single precision and in the
order of its rows, as ``scipy.sparse`` multiplies matrices.
"""

from libc.math cimport fabsf
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc, qsort

from tfxc.ops.clustering._selection cimport Scored, select


cdef int by_place(const void *one, const void *other) noexcept nogil:
    cdef int32_t first = (<const Scored *>one).place, second = (<const Scored *>other).place
    return (first > second) - (first < second)


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
    cdef float *sums = <float *>calloc(max(width, 1), sizeof(float))
    cdef uint8_t *touched = <uint8_t *>calloc(max(width, 1), 1)
    cdef Scored *found = <Scored *>malloc(max(width, 1) * sizeof(Scored))
    cdef int64_t group, place, entry, count, kept, i
    cdef int32_t column
    cdef float factor
    if sums == NULL or touched == NULL or found == NULL:
        free(sums)
        free(touched)
        free(found)
        return False
    with nogil:
        for group in range(starts.shape[0] - 1):
            count = 0
            for place in range(starts[group], starts[group + 1]):
                factor = factors[place]
                for entry in range(row_starts[members[place]], row_starts[members[place] + 1]):
                    column = row_columns[entry]
                    if not touched[column]:
                        touched[column] = 1
                        found[count].place = column
                        count += 1
                    sums[column] += factor * row_values[entry]
            for i in range(count):
                found[i].score = -fabsf(sums[found[i].place])  # the greatest first
            kept = count
            if count > most:
                select(found, count, most)
                kept = most
            for i in range(kept, count):
                column = found[i].place
                sums[column] = 0
                touched[column] = 0
            qsort(found, kept, sizeof(Scored), by_place)
            for i in range(kept):
                column = found[i].place
                columns[group * most + i] = column
                values[group * most + i] = sums[column]
                sums[column] = 0
                touched[column] = 0
            counts[group] = kept
    free(sums)
    free(touched)
    free(found)
    return True
