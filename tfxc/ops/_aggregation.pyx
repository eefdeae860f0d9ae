# cython: boundscheck=False, wraparound=False, cdivision=True
"""Native kernel of ``tfxc.ops.aggregation``: sums of sparse rows, of which the greatest are kept.

A sum is made in a dense row that is cleared where it was touched, in single precision and in the
order of its rows, as ``scipy.sparse`` multiplies matrices.
"""

from libc.math cimport fabsf
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc, qsort

cdef struct Entry:
    float size
    int32_t column


cdef int by_column(const void *one, const void *other) noexcept nogil:
    cdef int32_t first = (<const Entry *>one).column, second = (<const Entry *>other).column
    return (first > second) - (first < second)


cdef inline bint before(Entry one, Entry other) noexcept nogil:
    """Of greater size, or of the same and with the smaller column."""
    return one.size > other.size or (one.size == other.size and one.column < other.column)


cdef void select(Entry *entries, int64_t count, int64_t first) noexcept nogil:
    """Brings the ``first`` first to the front, in no order (Hoare's selection)."""
    cdef int64_t low = 0, high = count - 1, i, j
    cdef Entry pivot, held
    while low < high:
        pivot = entries[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while before(entries[i], pivot):
                i += 1
            while before(pivot, entries[j]):
                j -= 1
            if i <= j:
                held = entries[i]
                entries[i] = entries[j]
                entries[j] = held
                i += 1
                j -= 1
        if first - 1 <= j:
            high = j
        elif first - 1 >= i:
            low = i
        else:
            return


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
    cdef Entry *found = <Entry *>malloc(max(width, 1) * sizeof(Entry))
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
                        found[count].column = column
                        count += 1
                    sums[column] += factor * row_values[entry]
            for i in range(count):
                found[i].size = fabsf(sums[found[i].column])
            kept = count
            if count > most:
                select(found, count, most)
                kept = most
            for i in range(kept, count):
                column = found[i].column
                sums[column] = 0
                touched[column] = 0
            qsort(found, kept, sizeof(Entry), by_column)
            for i in range(kept):
                column = found[i].column
                columns[group * most + i] = column
                values[group * most + i] = sums[column]
                sums[column] = 0
                touched[column] = 0
            counts[group] = kept
    free(sums)
    free(touched)
    free(found)
    return True
