# The running k best of one example: a binary heap whose root is the worst of them.
# "Worse" is a lower score or, at equal scores, a higher class id.


cdef inline bint worse(float score, int label, float other_score, int other_label) noexcept nogil:
    return score < other_score or (score == other_score and label > other_label)


cdef inline void sift_up(float *scores, int *ids, Py_ssize_t slot) noexcept nogil:
    cdef Py_ssize_t parent
    cdef float score = scores[slot]
    cdef int label = ids[slot]
    while slot > 0:
        parent = (slot - 1) // 2
        if not worse(score, label, scores[parent], ids[parent]):
            break
        scores[slot] = scores[parent]
        ids[slot] = ids[parent]
        slot = parent
    scores[slot] = score
    ids[slot] = label


cdef inline void sift_down(float *scores, int *ids, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t slot = 0, child
    cdef float score = scores[0]
    cdef int label = ids[0]
    while True:
        child = 2 * slot + 1
        if child >= size:
            break
        if child + 1 < size and worse(scores[child + 1], ids[child + 1], scores[child], ids[child]):
            child += 1
        if not worse(scores[child], ids[child], score, label):
            break
        scores[slot] = scores[child]
        ids[slot] = ids[child]
        slot = child
    scores[slot] = score
    ids[slot] = label


cdef inline Py_ssize_t offer(
    float *scores, int *ids, Py_ssize_t size, Py_ssize_t k, float score, int label
) noexcept nogil:
    # Takes the class if it is among the k best so far; returns the new size.
    if size < k:
        scores[size] = score
        ids[size] = label
        sift_up(scores, ids, size)
        return size + 1
    if worse(scores[0], ids[0], score, label):
        scores[0] = score
        ids[0] = label
        sift_down(scores, ids, size)
    return size
