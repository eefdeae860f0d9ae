# cython: boundscheck=False, wraparound=False, cdivision=True
"""Native dual coordinate descent of ``tfxc.ops.linear.solver``: 16 labels of a block at once.

The labels under one parent share their training rows, so their weights of one feature lie side by
side in one cache line, and a vector instruction serves all of them. Every label has its own
shrinking and its own end (Hsieh et al., ICML 2008; Fan et al., JMLR 2008).
"""

import numpy as np

from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint16_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

cdef extern from *:
    """
    #include <stdint.h>
    #include <math.h>
    #include <string.h>
    #define LANES 16
    #if defined(__x86_64__) && defined(__linux__) && !defined(__clang__) && __GNUC__ >= 12
    /* Compiled three times; the processor decides at run time. */
    #define TFXC_CLONES __attribute__((target_clones("arch=x86-64-v4,arch=x86-64-v3,default")))
    #define STEP_BYTES 32
    #else
    #define TFXC_CLONES
    #define STEP_BYTES 16
    #endif
    #define REAL float
    #define BITS int32_t
    #define NAMED(name) name##_float
    #include "_linear_lanes.h"
    #undef REAL
    #undef BITS
    #undef NAMED
    #define REAL double
    #define BITS int64_t
    #define NAMED(name) name##_double
    #include "_linear_lanes.h"
    """
    enum: LANES
    int __builtin_popcountll(uint64_t) noexcept nogil
    int __builtin_ctzll(uint64_t) noexcept nogil
    ctypedef struct Pass:
        const int64_t *row_splits
        const int32_t *columns
        const float *values
        const float *own
        const float *norms
        const float *terms
        uint16_t *active
        const int32_t *order
        int64_t visits, bias_column
        float bias
        int squared
        void *weights
        void *duals
        double high_before[16]
        double low_before[16]
        double high[16]
        double low[16]
        uint16_t rested
    ctypedef struct Kept:
        const void *weights
        const int32_t *places
        int64_t slots
        const void *duals
        const float *terms
        const int32_t *rows
        const int32_t *columns
        const float *values
        int64_t singles
        double least
        int64_t ends[16]
    void one_pass_float(Pass *) noexcept nogil
    void one_pass_double(Pass *) noexcept nogil
    void count_kept_float(Kept *) noexcept nogil
    void count_kept_double(Kept *) noexcept nogil
    void collect_kept_float(Kept *, int32_t *, float *) noexcept nogil
    void collect_kept_double(Kept *, int32_t *, float *) noexcept nogil

ctypedef fused real:
    float
    double

WIDTH = LANES


cdef inline uint64_t next_random(uint64_t *state) noexcept nogil:
    # xorshift64*
    state[0] ^= state[0] >> 12
    state[0] ^= state[0] << 25
    state[0] ^= state[0] >> 27
    return state[0] * <uint64_t>2685821657736338717


cdef int64_t shuffled_active(
    const uint16_t *active, int64_t num_rows, int32_t *order, uint64_t *random
) noexcept nogil:
    cdef int64_t row, count = 0, other
    cdef int32_t kept
    for row in range(num_rows):
        order[count] = <int32_t>row
        count += active[row] != 0
    for row in range(count - 1, 0, -1):
        # The upper half of the product: no division, and no bias that would matter.
        other = <int64_t>(((next_random(random) >> 32) * <uint64_t>(row + 1)) >> 32)
        kept = order[row]
        order[row] = order[other]
        order[other] = kept
    return count


cdef void judge_lane(
    Pass *work, int lane, double epsilon, uint16_t resting, uint16_t *live, uint16_t *awake
) noexcept nogil:
    cdef uint16_t bit = <uint16_t>(1 << lane)
    if work.high[lane] - work.low[lane] > epsilon:
        work.high_before[lane] = work.high[lane] if work.high[lane] > 0 else INFINITY
        work.low_before[lane] = work.low[lane] if work.low[lane] < 0 else -INFINITY
    elif resting & bit:  # the end counts only where all rows took part
        awake[0] |= bit
        work.high_before[lane] = INFINITY
        work.low_before[lane] = -INFINITY
    else:
        live[0] &= ~bit


cdef uint16_t descend(
    Pass *work, bint single, const uint16_t[::1] members, uint16_t live, double epsilon,
    int max_passes, uint64_t random, int32_t *order,
) noexcept nogil:
    # Returns the labels that did not get to the end.
    cdef uint16_t resting = 0, awake = live
    cdef int64_t row
    cdef int lane, done
    for lane in range(LANES):
        work.high_before[lane] = INFINITY
        work.low_before[lane] = -INFINITY
    for row in range(members.shape[0]):
        work.active[row] = 0
    for done in range(max_passes):
        for row in range(members.shape[0]):
            work.active[row] = (work.active[row] | (members[row] & awake)) & live
        work.rested = 0
        work.visits = shuffled_active(work.active, members.shape[0], order, &random)
        if single:
            one_pass_float(work)
        else:
            one_pass_double(work)
        resting |= work.rested
        awake = 0
        for lane in range(LANES):
            if live >> lane & 1:
                judge_lane(work, lane, epsilon, resting, &live, &awake)
        resting &= ~awake
        if not live:
            break
    return live


def solve(
    const int64_t[::1] row_splits,
    const int32_t[::1] columns,
    const float[::1] values,
    const float[::1] own,
    const float[::1] norms,
    const float[:, ::1] terms,
    const uint16_t[::1] members,
    uint16_t lanes,
    float bias,
    bint squared,
    double epsilon,
    int max_passes,
    uint64_t seed,
    real[:, ::1] weights,
    real[:, ::1] duals,
):
    """Solves up to 16 labels; ``weights`` (columns + 1, 16) and ``duals`` (n, 16) begin as zeros.

    The last row of ``weights`` is the bias. ``terms`` (n, 16) have the sign of the example and hold
    1 / (2 cost) for the squared hinge, the cost for the hinge; ``members`` (n,) a bit per label.
    ``weights`` and ``duals`` begin on a cache line's boundary. Returns the bits of the labels that
    ``max_passes`` were too few for.
    """
    cdef Pass work
    cdef uint16_t unfinished
    cdef uint16_t *active = <uint16_t *>malloc(members.shape[0] * sizeof(uint16_t))
    cdef int32_t *order = <int32_t *>malloc((members.shape[0] + 1) * sizeof(int32_t))
    if active == NULL or order == NULL:
        free(active)
        free(order)
        raise MemoryError
    work.row_splits, work.columns, work.values = &row_splits[0], &columns[0], &values[0]
    work.own, work.norms, work.terms = &own[0], &norms[0], &terms[0, 0]
    work.active, work.order = active, order
    work.bias, work.bias_column, work.squared = bias, weights.shape[0] - 1, squared
    work.weights, work.duals = &weights[0, 0], &duals[0, 0]
    with nogil:
        unfinished = descend(
            &work, real is float, members, lanes, epsilon, max_passes, seed, order
        )
    free(active)
    free(order)
    return unfinished


def keep(
    real[:, ::1] weights,
    real[:, ::1] duals,
    const float[:, ::1] terms,
    const int32_t[::1] places,
    const int32_t[::1] single_rows,
    const int32_t[::1] single_columns,
    const float[::1] single_values,
    double least,
):
    """The weights of at least the magnitude ``least``, which is above 0, lane by lane.

    ``weights``, ``duals`` and ``terms`` are what ``solve`` was given (the first two on a cache
    line's boundary), ``places`` has a number for each row of ``weights``. The weights of a column
    that only one row has are that row's signed duals times the column's value; the three arrays of
    singles say which row, number and value.

    Returns:
        Bounds of the lanes int64 (17,), numbers int32 and weights float32: those of ``weights`` in
        their order, then the singles.
    """
    cdef Kept kept
    cdef int lane
    cdef int64_t[::1] bounds = np.zeros(LANES + 1, np.int64)
    kept.weights, kept.duals, kept.terms = &weights[0, 0], &duals[0, 0], &terms[0, 0]
    kept.places, kept.slots, kept.singles = &places[0], places.shape[0], single_rows.shape[0]
    if kept.singles:
        kept.rows, kept.columns = &single_rows[0], &single_columns[0]
        kept.values = &single_values[0]
    kept.least = least
    for lane in range(LANES):
        kept.ends[lane] = 0
    with nogil:
        if real is float:
            count_kept_float(&kept)
        else:
            count_kept_double(&kept)
    for lane in range(LANES):
        bounds[lane + 1] = bounds[lane] + kept.ends[lane]
        kept.ends[lane] = bounds[lane]
    # One more, so that there is an address even where nothing is kept.
    cdef int32_t[::1] found = np.empty(bounds[LANES] + 1, np.int32)
    cdef float[::1] values = np.empty(bounds[LANES] + 1, np.float32)
    with nogil:
        if real is float:
            collect_kept_float(&kept, &found[0], &values[0])
        else:
            collect_kept_double(&kept, &found[0], &values[0])
    return np.asarray(bounds), np.asarray(found), np.asarray(values)


def number_columns(const int32_t[::1] columns, int32_t[::1] slots):
    """Numbers the columns that occur, and apart from them those that occur more than once.

    Args:
        columns: of the entries of a matrix, without repetitions in a row.
        slots: int32 (D,), written for the columns that occur: see ``separate``.

    Returns:
        The columns that occur, ascending, and D, int32; and which of these occur more than once,
        and the last, int32.
    """
    # Sets of bits, a thirty-second of an array of counts, stay in the cache and are walked faster.
    cdef int64_t words = (slots.shape[0] + 63) // 64, entry, word, total = 0, shared = 0
    cdef uint64_t *once = <uint64_t *>calloc(2 * words + 1, sizeof(uint64_t))
    cdef uint64_t *again = once + words
    cdef uint64_t bit, bits
    cdef int32_t column
    if once == NULL:
        raise MemoryError
    with nogil:
        for entry in range(columns.shape[0]):
            column = columns[entry]
            bit = <uint64_t>1 << (column & 63)
            again[column >> 6] |= once[column >> 6] & bit
            once[column >> 6] |= bit
        for word in range(words):
            total += __builtin_popcountll(once[word])
            shared += __builtin_popcountll(again[word])
    cdef int32_t[::1] ids = np.empty(total + 1, np.int32), places = np.empty(shared + 1, np.int32)
    total = shared = 0
    with nogil:
        for word in range(words):
            bits = once[word]
            while bits:
                column = <int32_t>(word * 64 + __builtin_ctzll(bits))
                if again[word] & bits & (0 - bits):
                    slots[column] = <int32_t>shared
                    places[shared] = <int32_t>total
                    shared += 1
                else:
                    slots[column] = <int32_t>(-1 - total)
                ids[total] = column
                total += 1
                bits &= bits - 1
        ids[total], places[shared] = <int32_t>slots.shape[0], <int32_t>total
    free(once)
    return np.asarray(ids), np.asarray(places)


def separate(
    const int64_t[::1] row_splits,
    int32_t[::1] columns,
    float[::1] values,
    const int32_t[::1] slots,
    int64_t[::1] new_splits,
    int32_t[::1] single_rows,
    int32_t[::1] single_columns,
    float[::1] single_values,
    double[::1] own,
    double[::1] norms,
):
    """Numbers the columns of a CSR matrix anew, in place, and takes those of one row out.

    ``slots`` has a column's new number, or, for a column that only one row has, minus one minus
    its number among all columns. ``own`` and ``norms`` (n,) begin as zeros.
    """
    cdef int64_t row, entry, kept = 0, taken = 0
    cdef int32_t slot
    cdef double square
    with nogil:
        new_splits[0] = 0
        for row in range(row_splits.shape[0] - 1):
            for entry in range(row_splits[row], row_splits[row + 1]):
                slot = slots[columns[entry]]
                square = <double>values[entry] * values[entry]
                norms[row] += square
                if slot >= 0:
                    columns[kept] = slot
                    values[kept] = values[entry]
                    kept += 1
                else:
                    single_rows[taken] = <int32_t>row
                    single_columns[taken] = -1 - slot
                    single_values[taken] = values[entry]
                    own[row] += square
                    taken += 1
            new_splits[row + 1] = kept


def by_place(
    const int64_t[::1] splits,
    const int32_t[::1] places,
    const float[::1] values,
    int64_t num_places,
):
    """Puts rows of entries into the order of their places, and of the rows for the same place.

    Args:
        splits: int64 (rows + 1,), bounds of the rows.
        places, values: of the entries; a row has a place once.
        num_places: above all places.

    Returns:
        Entries of each place int32, and of the entries in order the rows int32 and the values.
    """
    cdef int64_t row, entry, total = 0
    cdef int32_t place
    cdef int32_t[::1] counts = np.zeros(num_places + 1, np.int32)
    cdef int64_t[::1] ends = np.empty(num_places + 1, np.int64)
    cdef int32_t[::1] rows = np.empty(places.shape[0], np.int32)
    cdef float[::1] ordered = np.empty(places.shape[0], np.float32)
    with nogil:
        for entry in range(places.shape[0]):
            counts[places[entry]] += 1
        for place in range(num_places):
            ends[place] = total
            total += counts[place]
        for row in range(splits.shape[0] - 1):
            for entry in range(splits[row], splits[row + 1]):
                place = places[entry]
                rows[ends[place]] = <int32_t>row
                ordered[ends[place]] = values[entry]
                ends[place] += 1
    return np.asarray(counts)[:num_places], np.asarray(rows), np.asarray(ordered)
