# cython: boundscheck=False, wraparound=False, cdivision=True
"""Native kernel of ``tfxc.ops.clustering.two_means``: the nodes of a level, each in its own thread.

A node works on the columns its rows use, renumbered without gaps, and on a copy of the rows in
which they are next to each other: read where they are, far apart, they take three times as long.
Its sums follow the rows that changed sides. Sums are in double precision and are added in one
order, whatever the number of threads.
"""

import numpy as np

from cython.parallel cimport prange, threadid
from libc.math cimport fmax, sqrt
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from tfxc.ops.clustering._selection cimport TFXC_PREFETCH, Scored, select

cdef enum:
    LINE = 16  # numbers in a line of the cache
    LINES = 8  # of a row that are fetched ahead; the processor goes on by itself
    AHEAD = 4  # places


cdef struct Rows:
    float *values
    int64_t *starts
    int32_t *columns  # NULL for dense rows
    int64_t width


cdef struct Scratch:
    double *left
    double *right
    float *direction
    Scored *scored  # places in the node, whose rows are sorted by ascending number
    double *chances
    int32_t *places
    int32_t *members
    uint8_t *is_left


cdef inline void fetch(
    const Rows *rows, const int32_t *members, int64_t place, int64_t count
) noexcept nogil:
    """Asks for the row some places on: a node's rows are far from each other in memory."""
    cdef int64_t i, end
    if place + AHEAD >= count:
        return
    i, end = rows.starts[members[place + AHEAD]], rows.starts[members[place + AHEAD] + 1]
    end = min(end, i + LINES * LINE)
    while i < end:
        TFXC_PREFETCH(rows.columns + i)
        TFXC_PREFETCH(rows.values + i)
        i += LINE


cdef inline double dot(const Rows *rows, int32_t row, const float *direction) noexcept nogil:
    # Four sums, so that no addition waits for the one before.
    cdef int64_t i, begin, end
    cdef double total = 0, second = 0, third = 0, fourth = 0
    if rows.columns == NULL:
        begin = row * rows.width
        for i in range(rows.width):
            total += <double>rows.values[begin + i] * direction[i]
        return total
    i, end = rows.starts[row], rows.starts[row + 1]
    while i + 4 <= end:
        total += <double>rows.values[i] * direction[rows.columns[i]]
        second += <double>rows.values[i + 1] * direction[rows.columns[i + 1]]
        third += <double>rows.values[i + 2] * direction[rows.columns[i + 2]]
        fourth += <double>rows.values[i + 3] * direction[rows.columns[i + 3]]
        i += 4
    while i < end:
        total += <double>rows.values[i] * direction[rows.columns[i]]
        i += 1
    return (total + second) + (third + fourth)


cdef inline void add(const Rows *rows, int32_t row, double sign, double *sums) noexcept nogil:
    cdef int64_t i, begin
    if rows.columns == NULL:
        begin = row * rows.width
        for i in range(rows.width):
            sums[i] += sign * rows.values[begin + i]
        return
    for i in range(rows.starts[row], rows.starts[row + 1]):
        sums[rows.columns[i]] += sign * rows.values[i]


cdef inline double squared_norm(const Rows *rows, int32_t row) noexcept nogil:
    cdef double total = 0
    cdef int64_t i, begin = row * rows.width if rows.columns == NULL else rows.starts[row]
    cdef int64_t end = begin + rows.width if rows.columns == NULL else rows.starts[row + 1]
    for i in range(begin, end):
        total += <double>rows.values[i] * rows.values[i]
    return total


cdef void score(
    const Rows *rows, const int32_t *members, int64_t count, Scratch *work, int threads
) noexcept nogil:
    cdef int64_t i
    if threads > 1:
        for i in prange(count, num_threads=threads, schedule="static"):
            work.scored[i].score = dot(rows, members[i], work.direction)
            work.scored[i].place = <int32_t>i
    else:
        for i in range(count):
            work.scored[i].score = dot(rows, members[i], work.direction)
            work.scored[i].place = <int32_t>i


cdef int64_t compact(
    Rows *rows, const int32_t *order, int64_t count, int32_t *numbers, int32_t *used, Rows *copy
) noexcept nogil:
    """Renumbers the node's columns by first use; ``numbers`` holds -1 before and after.

    Where there is a ``copy``, the rows are also put next to each other there.
    """
    cdef int64_t place, i, width = 0, end = 0
    cdef int32_t column
    for place in range(count):
        fetch(rows, order, place, count)
        if copy != NULL:
            copy.starts[place] = end
        for i in range(rows.starts[order[place]], rows.starts[order[place] + 1]):
            column = rows.columns[i]
            if numbers[column] < 0:
                numbers[column] = <int32_t>width
                used[width] = column
                width += 1
            rows.columns[i] = numbers[column]
            if copy != NULL:
                copy.columns[end], copy.values[end] = numbers[column], rows.values[i]
                end += 1
    if copy != NULL:
        copy.starts[count] = end
    for i in range(width):
        numbers[used[i]] = -1
    return width


cdef void first_direction(const Rows *rows, const int32_t *members, int64_t count, double draw_one,
                          double draw_other, int64_t width, Scratch *work,
                          int threads) noexcept nogil:
    """From a random row to one that is drawn by its squared distance to it (k-means++)."""
    cdef int64_t i, other, one = min(<int64_t>(draw_one * count), count - 1)
    cdef double norm = squared_norm(rows, members[one]), total = 0
    add(rows, members[one], 1, work.left)
    for i in range(width):
        work.direction[i] = <float>work.left[i]
    score(rows, members, count, work, threads)
    for i in range(count):
        if i != one:
            total += fmax(0, norm + squared_norm(rows, members[i]) - 2 * work.scored[i].score)
        work.chances[i] = total
    other = 0 if total > 0 else (one + 1) % count
    if total > 0:
        while other < count - 1 and work.chances[other] <= draw_other * total:
            other += 1
    add(rows, members[other], 1, work.right)
    for i in range(width):
        work.direction[i] = <float>(work.right[i] - work.left[i])
    memset(work.left, 0, width * sizeof(double))
    memset(work.right, 0, width * sizeof(double))


cdef bint divide(const Rows *rows, const int32_t *members, int64_t count, int64_t left,
                 bint is_first, Scratch *work) noexcept nogil:
    """Puts the first ``left`` by score left; the sums follow. Returns whether a row moved."""
    cdef int64_t i
    cdef int32_t place
    cdef uint8_t side
    cdef bint moved = is_first
    select(work.scored, count, left)
    for i in range(count):
        place, side = work.scored[i].place, i < left
        if work.is_left[place] != side:
            moved = True
        # 2 says, until the rows are walked in their order below, that the row has moved.
        work.is_left[place] = side | (2 if is_first or work.is_left[place] != side else 0)
    for i in range(count):
        if work.is_left[i] & 2:
            side = work.is_left[i] & 1
            work.is_left[i] = side
            add(rows, members[i], 1, work.left if side else work.right)
            if not is_first:
                add(rows, members[i], -1, work.right if side else work.left)
    return moved


cdef void next_direction(int64_t width, int64_t left, int64_t right, bint spherical,
                         Scratch *work) noexcept nogil:
    cdef int64_t i
    cdef double of_left = 0, of_right = 0
    if spherical:
        for i in range(width):
            of_left += work.left[i] * work.left[i]
            of_right += work.right[i] * work.right[i]
        of_left = 1 / sqrt(of_left) if of_left > 0 else 0
        of_right = 1 / sqrt(of_right) if of_right > 0 else 0
    else:
        of_left, of_right = 1.0 / left, 1.0 / right
    for i in range(width):
        work.direction[i] = <float>(of_right * work.right[i] - of_left * work.left[i])


cdef int64_t sample(const int32_t *order, const int32_t *places, int64_t count, const float *luck,
                    float rate, int32_t *members) noexcept nogil:
    """Copies the places of rows with luck below ``rate``, or all where fewer than two have it."""
    cdef int64_t i, chosen = 0
    for i in range(count):
        if luck[order[i]] < rate:
            members[chosen] = places[i]
            chosen += 1
    if chosen < 2:
        memcpy(members, places, count * sizeof(int32_t))
        chosen = count
    return chosen


cdef void halve(const Rows *rows, int32_t *order, int64_t count, int64_t left, int64_t width,
                double draw_one, double draw_other, const float *luck, float rate, bint spherical,
                int rounds, int threads, Scratch *work) noexcept nogil:
    """Orders a node's rows, which are in ``rows`` at ``work.places``."""
    cdef int64_t chosen = sample(order, work.places, count, luck, rate, work.members)
    cdef int64_t chosen_left = max(1, min(chosen - 1, chosen * left // count))
    cdef int64_t i, to_left = 0, to_right = left
    cdef int round_
    first_direction(rows, work.members, chosen, draw_one, draw_other, width, work, threads)
    for round_ in range(rounds):
        if round_:
            next_direction(width, chosen_left, chosen - chosen_left, spherical, work)
        score(rows, work.members, chosen, work, threads)
        if not divide(rows, work.members, chosen, chosen_left, round_ == 0, work):
            break
    if chosen < count:
        score(rows, work.places, count, work, threads)
        select(work.scored, count, left)
        memset(work.is_left, 0, count)
        for i in range(left):
            work.is_left[work.scored[i].place] = 1
    memcpy(work.members, order, count * sizeof(int32_t))
    for i in range(count):
        if work.is_left[i]:
            order[to_left] = work.members[i]
            to_left += 1
        else:
            order[to_right] = work.members[i]
            to_right += 1


cdef bint allocate(Scratch *work, int64_t count, int64_t width) noexcept nogil:
    work.left = <double *>calloc(2 * width + count, sizeof(double))
    work.right, work.chances = work.left + width, work.left + 2 * width
    work.direction = <float *>malloc((width + 1) * sizeof(float))
    work.scored = <Scored *>malloc(count * sizeof(Scored))
    work.members = <int32_t *>malloc(count * sizeof(int32_t))
    work.places = <int32_t *>malloc(count * sizeof(int32_t))
    work.is_left = <uint8_t *>calloc(count, 1)
    return (work.left != NULL and work.direction != NULL and work.scored != NULL
            and work.members != NULL and work.places != NULL and work.is_left != NULL)


cdef void release(Scratch *work) noexcept nogil:
    free(work.left)
    free(work.direction)
    free(work.scored)
    free(work.members)
    free(work.places)
    free(work.is_left)


cdef bint allocate_copy(Rows *copy, const Rows *rows, const int32_t *order,
                        int64_t count) noexcept nogil:
    cdef int64_t i, entries = 0
    for i in range(count):
        entries += rows.starts[order[i] + 1] - rows.starts[order[i]]
    copy.width = rows.width
    copy.starts = <int64_t *>malloc((count + 1) * sizeof(int64_t))
    copy.columns = <int32_t *>malloc((entries + 1) * sizeof(int32_t))
    copy.values = <float *>malloc((entries + 1) * sizeof(float))
    return copy.starts != NULL and copy.columns != NULL and copy.values != NULL


cdef int64_t halve_node(Rows *rows, bint copied, int32_t *order, int64_t count, int64_t left,
                        double draw_one, double draw_other, const float *luck, float rate,
                        bint spherical, int rounds, int threads, int32_t *numbers,
                        int32_t *used) noexcept nogil:
    """The width of the node, or -1 where memory is short.

    If ``copied``, its rows are put next to each other before they are read once per round.
    """
    cdef Scratch work
    cdef Rows copy
    cdef int64_t i, width = rows.width
    cdef bint is_there = True
    copy.starts, copy.columns, copy.values = NULL, NULL, NULL
    if copied:
        is_there = allocate_copy(&copy, rows, order, count)
    if is_there and rows.columns != NULL:
        width = compact(rows, order, count, numbers, used, &copy if copied else NULL)
    if allocate(&work, count, width) and is_there:
        for i in range(count):
            work.places[i] = <int32_t>i if copied else order[i]
        halve(&copy if copied else rows, order, count, left, width, draw_one, draw_other, luck,
              rate, spherical, rounds, threads, &work)
    else:
        width = -1
    release(&work)
    free(copy.starts)
    free(copy.columns)
    free(copy.values)
    return width


def halve_nodes(const float[::1] values, const int64_t[::1] starts, int32_t[::1] columns,
                int64_t width, int32_t[::1] order, const int64_t[:, ::1] nodes,
                const double[:, ::1] draws, const float[::1] luck, float rate, bint spherical,
                int rounds, int threads):
    """Halves every node in place; returns the columns of the widest node."""
    cdef Rows rows
    cdef Py_ssize_t node
    cdef Py_ssize_t count = nodes.shape[0]
    # Threads inside threads are off in OpenMP: where nodes are few, each has all of them in turn.
    cdef int outer = threads if count >= threads else 1
    cdef int inner = 1 if outer > 1 else threads
    cdef bint sparse = columns is not None
    # Only the columns are written.
    rows.values, rows.width = <float *>&values[0], width
    rows.starts = <int64_t *>&starts[0] if sparse else NULL
    rows.columns = &columns[0] if sparse else NULL
    cdef int32_t[:, ::1] numbers = np.full((outer, width if sparse else 1), -1, np.int32)
    cdef int32_t[:, ::1] used = np.empty((outer, width if sparse else 1), np.int32)
    cdef int64_t[::1] widths = np.empty(count, np.int64)
    for node in prange(count, nogil=True, num_threads=outer, schedule="dynamic"):
        # The copies of the nodes that are cut at a time take no more than half of all rows.
        widths[node] = halve_node(
            &rows, sparse and 2 * outer * (nodes[node, 1] - nodes[node, 0]) <= order.shape[0],
            &order[nodes[node, 0]], nodes[node, 1] - nodes[node, 0], nodes[node, 2],
            draws[node, 0], draws[node, 1], &luck[0], rate, spherical, rounds, inner,
            &numbers[threadid(), 0], &used[threadid(), 0],
        )
    if np.min(widths) < 0:
        raise MemoryError("no memory is left to cut the clusters of labels")
    return int(np.max(widths))
