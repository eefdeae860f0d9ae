# The best children of the nodes a query keeps: how a margin and the parent's score make a score,
# and a heap of the best of them.

from libc.math cimport expf, log1pf
from libc.stdint cimport int32_t

from tfxc.ops.search.beam_search._chunks cimport Layer
from tfxc.ops.search._heap cimport offer, sift_down

cdef enum:
    SIGMOID = 1, LOG_SIGMOID = 2, HINGE = 3, LOG_HINGE = 4  # 0: the margin itself


cdef struct Step:
    const Layer *layer
    int transform, power
    bint combines  # False where no layer stands before
    Py_ssize_t kept  # most children kept per query


cdef inline float combined(const Step *step, float margin, float parent) noexcept nogil:
    cdef float value = margin
    cdef double hinge, distance  # a power is rounded once
    cdef int i
    if step.transform == 0:
        return margin
    if step.transform == SIGMOID:
        value = expf(margin) if margin < 0 else expf(-margin)
        value = (value if margin < 0 else <float>1) / (1 + value)
    elif step.transform == LOG_SIGMOID:
        value = margin - log1pf(expf(margin)) if margin < 0 else -log1pf(expf(-margin))
    else:
        hinge = <float>1 - margin if margin < 1 else 0
        distance = hinge
        for i in range(1, step.power):
            distance *= hinge
        value = -<float>distance
        if step.transform == HINGE:
            value = expf(value)
    if not step.combines:
        return value
    return value * parent if step.transform in (SIGMOID, HINGE) else value + parent


cdef inline Py_ssize_t keep_best(
    const Step *step, Py_ssize_t chunk, const float *margins, float parent, Py_ssize_t size,
    int32_t *ids, float *scores
) noexcept nogil:
    # Offers a chunk's children to the heap; its new size.
    cdef const int32_t *children = step.layer.children + step.layer.child_splits[chunk]
    cdef Py_ssize_t width = step.layer.child_splits[chunk + 1] - step.layer.child_splits[chunk], i
    cdef float score, hopeless = 0
    cdef bint bounded = False
    # A score never falls where the margin rises, unless it is a share of a negative one (of a layer
    # above with another rule).
    cdef bint rises = parent >= 0 or not step.combines or step.transform not in (SIGMOID, HINGE)
    for i in range(width):
        # Below a margin that was too low for the heap, all are. That spares most exponentials.
        if bounded and margins[i] <= hopeless:
            continue
        if not step.layer.trained[children[i]]:
            continue
        score = combined(step, margins[i], parent)
        if size == step.kept and score < scores[0]:
            hopeless, bounded = margins[i], rises
        else:
            size = offer(scores, <int *>ids, size, step.kept, score, children[i])
    return size


cdef inline void sort_heap(int32_t *ids, float *scores, Py_ssize_t size) noexcept nogil:
    # Best first: the root, the worst of what is left, goes to the end.
    cdef float score
    cdef int32_t label
    while size > 1:
        size -= 1
        score, label = scores[0], ids[0]
        scores[0], ids[0] = scores[size], ids[size]
        scores[size], ids[size] = score, label
        sift_down(scores, <int *>ids, size)
