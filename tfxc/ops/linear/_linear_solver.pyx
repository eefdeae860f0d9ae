# cython: boundscheck=False, wraparound=False, cdivision=True
"""Native dual coordinate descent of ``tfxc.ops.linear.solver``: 16 labels of a block at once.

The labels under one parent share their training rows, so their weights of one feature lie side by
side in one cache line, and a vector instruction serves all of them. Every label has its own
shrinking and its own end (Hsieh et al., ICML 2008; Fan et al., JMLR 2008).
"""

from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint16_t, uint64_t
from libc.stdlib cimport free, malloc

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
    void one_pass_float(Pass *) noexcept nogil
    void one_pass_double(Pass *) noexcept nogil

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


def count_columns(const int32_t[::1] indices, int32_t[::1] counts):
    """Adds to ``counts`` how often each column occurs."""
    cdef int64_t entry
    with nogil:
        for entry in range(indices.shape[0]):
            counts[indices[entry]] += 1


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
