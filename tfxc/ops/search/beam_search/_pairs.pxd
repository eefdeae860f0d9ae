# The (query, chunk) pairs of a layer, by query and by chunk.

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from tfxc.ops.search.beam_search._beam cimport Step, keep_best, sort_heap
from tfxc.ops.search.beam_search._chunks cimport Layer


cdef struct Pairs:  # (query, chunk) pairs of a layer, a query's together
    int32_t *query
    int32_t *chunk
    float *parent_score
    int64_t *place  # of the pair's margins
    int64_t *order  # the pairs by chunk


cdef inline int64_t list_pairs(
    const Layer *layer, Py_ssize_t number, const int64_t *begins, const int32_t *counts,
    const int32_t *parents, const float *parent_scores, int64_t *starts, Pairs *pairs
) noexcept nogil:
    # Fills the pairs of so many queries and sorts them by chunk (a counting sort); returns how
    # many margins they have.
    cdef Py_ssize_t query, i, chunk, pair = 0
    cdef int64_t margins = 0, begin = 0, size
    memset(starts, 0, (layer.num_chunks + 1) * sizeof(int64_t))
    for query in range(number):
        for i in range(begins[query], begins[query] + counts[query]):
            chunk = parents[i]
            pairs.query[pair], pairs.chunk[pair] = <int32_t>query, <int32_t>chunk
            pairs.parent_score[pair], pairs.place[pair] = parent_scores[i], margins
            margins += layer.child_splits[chunk + 1] - layer.child_splits[chunk]
            starts[chunk] += 1
            pair += 1
    for chunk in range(layer.num_chunks):
        size = starts[chunk]
        starts[chunk] = begin
        begin += size
    for i in range(pair):
        chunk = pairs.chunk[i]
        pairs.order[starts[chunk]] = i
        starts[chunk] += 1
    return margins


cdef inline Py_ssize_t keep_best_of(
    const Step *step, const Pairs *pairs, Py_ssize_t first, Py_ssize_t count, const float *margins,
    int32_t *ids, float *scores
) noexcept nogil:
    # The best children over all pairs of a query, best first; how many.
    cdef Py_ssize_t pair, size = 0
    for pair in range(first, first + count):
        size = keep_best(
            step, pairs.chunk[pair], margins + pairs.place[pair], pairs.parent_score[pair], size,
            ids, scores,
        )
    sort_heap(ids, scores, size)
    return size
