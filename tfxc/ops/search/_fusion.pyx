# cython: boundscheck=False, wraparound=False, cdivision=True
"""Native kernels of ``tfxc.ranker.fusion.fused_numpy``: the same numbers, without its arrays of entries."""

from cython.parallel cimport prange, threadid
from libc.math cimport sqrt
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t
from libc.string cimport memset

import numpy as np

from tfxc.ops.search._heap cimport offer
from tfxc.ops.search.beam_search._beam cimport sort_heap

ctypedef fused Row:
    uint16_t
    int32_t

cdef enum:
    TOGETHER = 8  # rows whose ways through a tree do not wait for each other; queries side by side
    BLOCK = 256  # rows whose dense numbers stay in a near cache

cdef float ROUNDING = 1.25e-7  # more than two roundings to float32 take off, relative to a number


cdef struct Rows:
    # All rows by row, and how long the part of each is that long lists hold.
    Py_ssize_t longest
    const float *lengths
    const int64_t *splits
    const int32_t *ids
    const float *values


cdef void add_lists(
    const int32_t *ids, const float *weights, Py_ssize_t count, const int64_t *splits,
    const Row *rows, const float *values, Py_ssize_t num_rows, Py_ssize_t longest, float *sums
) noexcept nogil:
    # Sums up what the features with lists of at most so many entries give each row.
    cdef Py_ssize_t entry, place
    cdef float weight
    memset(sums, 0, num_rows * sizeof(float))
    for entry in range(count):
        weight = weights[entry]
        if splits[ids[entry] + 1] - splits[ids[entry]] <= longest:
            for place in range(splits[ids[entry]], splits[ids[entry] + 1]):
                sums[rows[place]] += weight * values[place]


cdef Py_ssize_t keep_best_rows(
    const float *sums, Py_ssize_t num_rows, Py_ssize_t k, int32_t *best, float *scores
) noexcept nogil:
    # Makes a heap of the rows with the largest sums above 0; returns how many there are.
    cdef Py_ssize_t row, size = 0
    cdef float floor = 0
    for row in range(num_rows):  # of equal sums the first row comes first
        if sums[row] > floor:
            size = offer(scores, <int *>best, size, k, sums[row], <int>row)
            if size == k:
                floor = scores[0]
    return size


cdef struct Query:
    # The weight of each feature, behind a place that holds 0, and a bit for each, which says if the
    # query has it. Most features of a row it lacks, and the bits stay in a near cache.
    float *weights
    uint32_t *bits


cdef inline Query query_of(float[:, ::1] weights, uint32_t[:, ::1] bits, int row) noexcept nogil:
    cdef Query query
    query.weights = &weights[row, 0]
    query.bits = &bits[row, 0]
    return query


cdef inline void put(
    Query query, const int32_t *ids, const float *weights, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t entry
    for entry in range(count):
        query.weights[ids[entry] + 1] = weights[entry]
        query.bits[ids[entry] >> 5] |= <uint32_t>1 << (ids[entry] & 31)


cdef inline void clear(Query query, const int32_t *ids, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t entry
    for entry in range(count):
        query.bits[ids[entry] >> 5] = 0


cdef inline float weight_of(Query query, int32_t feature) noexcept nogil:
    return query.weights[
        (feature + 1) & -<int32_t>((query.bits[feature >> 5] >> (feature & 31)) & 1)
    ]


cdef inline float product(const Rows *by_row, Py_ssize_t row, Query query) noexcept nogil:
    cdef Py_ssize_t place
    cdef float total = 0
    for place in range(by_row.splits[row], by_row.splits[row + 1]):
        total += weight_of(query, by_row.ids[place]) * by_row.values[place]
    return total


cdef Py_ssize_t keep_best_without(
    const int32_t *ids, const float *weights, Py_ssize_t count, const int64_t *splits,
    const Row *rows, const float *values, Py_ssize_t num_rows, Py_ssize_t k, float *sums,
    int32_t *best, float *scores, const Rows *by_row, Query query
) noexcept nogil:
    # As ``keep_best_rows``, without reading long lists: of rows that these cannot lift among the
    # best no sum is made, and a sum of the others has the terms of ``add_lists`` in the same order,
    # and zeros, so that it is the same number. Returns -1 where that would be more work, and for a
    # query with weights below 0, or whose features are not in order.
    cdef Py_ssize_t entry, row, length, size, work = 0
    cdef double squares = 0
    cdef float most, slack, score
    for entry in range(count):
        if weights[entry] < 0 or (entry and ids[entry] <= ids[entry - 1]):
            return -1
        length = splits[ids[entry] + 1] - splits[ids[entry]]
        if length > by_row.longest:
            squares += weights[entry] * weights[entry]
            work += length
    if not work:
        return -1
    add_lists(ids, weights, count, splits, rows, values, num_rows, by_row.longest, sums)
    if keep_best_rows(sums, num_rows, k, best, scores) < k:
        return -1
    put(query, ids, weights, count)
    size = 0
    for entry in range(k):  # a first guess of the best
        row = best[entry]
        sums[row] = -2  # done
        size = offer(scores, <int *>best, size, k, product(by_row, row, query), <int>row)
    # Long lists give a row at most the product of both lengths (Cauchy-Schwarz); each term of a
    # sum was rounded once, and of the other one, too.
    most = <float>sqrt(squares)
    slack = ROUNDING * (count + 4)
    for row in range(num_rows):
        if sums[row] + most * by_row.lengths[row] + slack >= scores[0]:
            work -= by_row.splits[row + 1] - by_row.splits[row]
            if work < 0:
                size = -1
                break
            score = product(by_row, row, query)
            size = offer(scores, <int *>best, size, k, score, <int>row)
    clear(query, ids, count)
    return size


cdef void search_one(
    const int32_t *ids, const float *weights, Py_ssize_t count, const int64_t *splits,
    const Row *rows, const float *values, Py_ssize_t num_rows, Py_ssize_t k, float *sums,
    int32_t *best, float *scores, const Rows *by_row, Query query
) noexcept nogil:
    cdef Py_ssize_t size = -1
    if by_row.splits != NULL:
        size = keep_best_without(
            ids, weights, count, splits, rows, values, num_rows, k, sums, best, scores, by_row,
            query
        )
    if size < 0:
        add_lists(ids, weights, count, splits, rows, values, num_rows, num_rows, sums)
        size = keep_best_rows(sums, num_rows, k, best, scores)
    sort_heap(best, scores, size)


def nearest_rows(
    const int64_t[::1] bounds, const int32_t[::1] ids, const float[::1] weights,
    const int64_t[::1] splits, const Row[::1] rows, const float[::1] values, Py_ssize_t num_rows,
    Py_ssize_t k, int threads, by_row=None
):
    """Returns the rows with the largest inner products above 0: ids and scores, best first.

    Args:
        bounds, ids, weights: rows of the queries, of length 1.
        splits: where the entries of each feature begin.
        rows, values: row and number of each entry; not empty.
        num_rows: of the rows, of length 1.
        k: rows wanted of each query; id -1 and minus infinity where there are fewer.
        threads: at most this many.
        by_row: None, or what saves reading long lists: how many entries a short one has at most,
            float32 (num_rows,) the length of the part of each row that the long ones hold, and
            bounds, ids and numbers of the same rows, ids ascending, no number below 0. The result
            is the same, bit for bit.
    """
    cdef Py_ssize_t query, count = bounds.shape[0] - 1
    found = np.full((count, k), -1, np.int32)
    best = np.full((count, k), -np.inf, np.float32)
    if not len(ids) or not len(values):
        return found, best
    cdef int32_t[:, ::1] found_view = found
    cdef float[:, ::1] best_view = best
    cdef int workers = min(threads, count)
    cdef float[:, ::1] sums = np.empty((workers, num_rows), np.float32)
    cdef Py_ssize_t width = 1 if by_row is None else splits.shape[0]
    cdef float[:, ::1] scratch = np.empty((workers, width), np.float32)
    cdef uint32_t[:, ::1] bits = np.zeros((workers, width // 32 + 1), np.uint32)
    cdef const float[::1] lengths, numbers
    cdef const int64_t[::1] row_splits
    cdef const int32_t[::1] row_ids
    cdef Rows view
    view.splits = NULL
    scratch[:, 0] = 0
    if by_row is not None:
        view.longest, lengths, row_splits, row_ids, numbers = by_row
        view.lengths = &lengths[0]
        view.splits = &row_splits[0]
        view.ids = &row_ids[0]
        view.values = &numbers[0]
    for query in prange(count, nogil=True, num_threads=workers, schedule="dynamic", chunksize=8):
        search_one(
            &ids[0] + bounds[query], &weights[0] + bounds[query],
            bounds[query + 1] - bounds[query], &splits[0], &rows[0], &values[0], num_rows, k,
            &sums[threadid(), 0], &found_view[query, 0], &best_view[query, 0], &view,
            query_of(scratch, bits, threadid())
        )
    return found, best


cdef void search_dense(
    const int64_t *bounds, const int32_t *ids, const float *weights, Py_ssize_t count,
    const float *values, Py_ssize_t num_rows, Py_ssize_t k, int32_t *best, float *scores
) noexcept nogil:
    # Finds the best rows of up to TOGETHER queries, which read a block of rows after each other.
    cdef Py_ssize_t block, first, width, query, entry, row
    cdef Py_ssize_t sizes[TOGETHER]
    cdef float sums[BLOCK]
    cdef const float *numbers
    cdef float weight
    memset(sizes, 0, sizeof(sizes))
    for block in range((num_rows + BLOCK - 1) // BLOCK):
        first = block * BLOCK
        width = min(BLOCK, num_rows - first)
        for query in range(count):
            memset(sums, 0, sizeof(sums))
            for entry in range(bounds[query], bounds[query + 1]):
                weight = weights[entry]
                numbers = values + ids[entry] * num_rows + first
                for row in range(width):
                    sums[row] += weight * numbers[row]
            for row in range(width):
                if sums[row] > 0 and (sizes[query] < k or sums[row] > scores[query * k]):
                    sizes[query] = offer(
                        scores + query * k, <int *>best + query * k, sizes[query], k, sums[row],
                        <int>(first + row)
                    )
    for query in range(count):
        sort_heap(best + query * k, scores + query * k, sizes[query])


def nearest_dense(
    const int64_t[::1] bounds, const int32_t[::1] ids, const float[::1] weights,
    const float[:, ::1] values, Py_ssize_t k, int threads
):
    """Returns the same as ``nearest_rows``, of rows with numbers in most places.

    Args:
        bounds, ids, weights, k, threads: as of ``nearest_rows``.
        values: (features, rows).
    """
    cdef Py_ssize_t group, count = bounds.shape[0] - 1, num_rows = values.shape[1]
    found = np.full((count, k), -1, np.int32)
    best = np.full((count, k), -np.inf, np.float32)
    if not len(ids) or not num_rows:
        return found, best
    cdef int32_t[:, ::1] found_view = found
    cdef float[:, ::1] best_view = best
    cdef Py_ssize_t groups = (count + TOGETHER - 1) // TOGETHER
    for group in prange(groups, nogil=True, num_threads=min(threads, groups), schedule="dynamic"):
        search_dense(
            &bounds[group * TOGETHER], &ids[0], &weights[0], min(TOGETHER, count - group * TOGETHER),
            &values[0, 0], num_rows, k, &found_view[group * TOGETHER, 0],
            &best_view[group * TOGETHER, 0]
        )
    return found, best


def pair_sums(
    features, texts, const int64_t[::1] queries, const int64_t[::1] labels, Py_ssize_t width
):
    """See ``fused_numpy.pair_sums``."""
    cdef const int64_t[::1] bounds = features[0]
    cdef const int32_t[::1] ids = features[1]
    cdef const float[::1] weights = features[2]
    cdef const int64_t[::1] splits = texts[0]
    cdef const int32_t[::1] columns = texts[1]
    cdef const float[::1] values = texts[2]
    sums = np.zeros((3, len(queries)))
    cdef double[:, ::1] found = sums
    cdef float[:, ::1] scratch = np.empty((1, width + 1), np.float32)
    cdef uint32_t[:, ::1] bits = np.zeros((1, width // 32 + 1), np.uint32)
    cdef Query sought = query_of(scratch, bits, 0)
    scratch[0, 0] = 0
    cdef Py_ssize_t pair, entry, count = queries.shape[0]
    cdef int64_t query = -1, label
    cdef double mine, of_text, inner, of_query_squares, of_text_squares
    with nogil:
        for pair in range(count):
            if queries[pair] != query:
                if query >= 0:
                    clear(sought, &ids[0] + bounds[query], bounds[query + 1] - bounds[query])
                query = queries[pair]
                put(
                    sought, &ids[0] + bounds[query], &weights[0] + bounds[query],
                    bounds[query + 1] - bounds[query]
                )
            label = labels[pair]
            inner = 0
            of_query_squares = 0
            of_text_squares = 0
            for entry in range(splits[label], splits[label + 1]):
                mine = weight_of(sought, columns[entry])
                if mine != 0:
                    of_text = values[entry]
                    inner += mine * of_text
                    of_query_squares += mine * mine
                    of_text_squares += of_text * of_text
            found[0, pair] = inner
            found[1, pair] = of_query_squares
            found[2, pair] = of_text_squares
    return sums[0], sums[1], sums[2]


def tree_scores(
    const float[:, ::1] columns, const int32_t[::1] roots, const int32_t[::1] features,
    const double[::1] thresholds, const int32_t[:, ::1] children, const double[::1] values,
    const double[::1] baseline
):
    """See ``fused_numpy.tree_scores``."""
    scores = np.full(columns.shape[0], baseline[0])
    cdef double[::1] sums = scores
    cdef Py_ssize_t tree, block, i, row, count = columns.shape[0]
    cdef int32_t node, feature, child
    cdef int32_t nodes[TOGETHER]
    cdef bint is_inner, going
    with nogil:
        for tree in range(roots.shape[0]):
            for block in range((count + TOGETHER - 1) // TOGETHER):  # no row waits for another
                for i in range(TOGETHER):
                    nodes[i] = roots[tree]
                going = True
                while going:
                    going = False
                    for i in range(TOGETHER):
                        row = min(block * TOGETHER + i, count - 1)
                        node = nodes[i]
                        feature = features[node]
                        is_inner = feature >= 0
                        child = children[node, columns[row, max(feature, 0)] > thresholds[node]]
                        nodes[i] = child if is_inner else node
                        going |= is_inner
                for i in range(min(TOGETHER, count - block * TOGETHER)):
                    sums[block * TOGETHER + i] += values[nodes[i]]
    return scores
