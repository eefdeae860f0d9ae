# Brings those of the lowest scores to the front.
# Of equal scores the one of the lower place comes first.

from libc.stdint cimport int32_t, int64_t

cdef extern from *:
    """
    #if defined(__GNUC__)
    #define TFXC_PREFETCH(address) __builtin_prefetch(address)
    #else
    #define TFXC_PREFETCH(address)
    #endif
    """
    void TFXC_PREFETCH(const void *) noexcept nogil


cdef struct Scored:
    double score
    int32_t place


cdef inline bint before(Scored one, Scored other) noexcept nogil:
    return one.score < other.score or (one.score == other.score and one.place < other.place)


cdef inline void select(Scored *scored, int64_t count, int64_t first) noexcept nogil:
    # Leaves the ``first`` first in front, in no order: Hoare's selection, medians of three.
    cdef int64_t low = 0, high = count - 1, i, j
    cdef Scored pivot, one, two
    while low < high:
        pivot, one, two = scored[(low + high) // 2], scored[low], scored[high]
        if before(one, pivot) == before(two, one):
            pivot = one
        elif before(two, pivot) == before(one, two):
            pivot = two
        i, j = low, high
        while i <= j:
            while before(scored[i], pivot):
                i += 1
            while before(pivot, scored[j]):
                j -= 1
            if i <= j:
                scored[i], scored[j] = scored[j], scored[i]
                i += 1
                j -= 1
        if first - 1 <= j:
            high = j
        elif first - 1 >= i:
            low = i
        else:
            return
