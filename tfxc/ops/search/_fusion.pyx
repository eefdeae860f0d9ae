# cython: boundscheck=False, wraparound=False, cdivision=True
"""Native kernels of ``tfxc.ranker.fusion.fused_numpy``: the same numbers, without its arrays of entries."""

from cython.parallel cimport prange, threadid
from libc.stdint cimport int32_t, int64_t, uint16_t
from libc.string cimport memset

import numpy as np

from tfxc.ops.search._heap cimport offer
from tfxc.ops.search.beam_search._beam cimport sort_heap

ctypedef fused Row:
    uint16_t
    int32_t


cdef void search_one(
    const int32_t *ids, const float *weights, Py_ssize_t count, const int64_t *splits,
    const Row *rows, const float *values, Py_ssize_t num_rows, Py_ssize_t k, float *sums,
    int32_t *best, float *scores
) noexcept nogil:
    cdef Py_ssize_t entry, place, size = 0
    cdef float weight, floor = 0
    memset(sums, 0, num_rows * sizeof(float))
    for entry in range(count):
        weight = weights[entry]
        for place in range(splits[ids[entry]], splits[ids[entry] + 1]):
            sums[rows[place]] += weight * values[place]
    for place in range(num_rows):  # of equal sums the first row comes first
        if sums[place] > floor:
            size = offer(scores, <int *>best, size, k, sums[place], <int>place)
            if size == k:
                floor = scores[0]
    sort_heap(best, scores, size)


def nearest_rows(
    const int64_t[::1] bounds, const int32_t[::1] ids, const float[::1] weights,
    const int64_t[::1] splits, const Row[::1] rows, const float[::1] values, Py_ssize_t num_rows,
    Py_ssize_t k, int threads
):
    """Returns the rows with the largest inner products above 0: ids and scores, best first.

    Args:
        bounds, ids, weights: rows of the queries.
        splits: where the entries of each feature begin.
        rows, values: row and number of each entry; not empty.
        num_rows: of the rows.
        k: rows wanted of each query; id -1 and minus infinity where there are fewer.
        threads: at most this many.
    """
    cdef Py_ssize_t query, count = bounds.shape[0] - 1
    found = np.full((count, k), -1, np.int32)
    best = np.full((count, k), -np.inf, np.float32)
    if not len(ids) or not len(values):
        return found, best
    cdef int32_t[:, ::1] found_view = found
    cdef float[:, ::1] best_view = best
    cdef float[:, ::1] sums = np.empty((threads, num_rows), np.float32)
    for query in prange(count, nogil=True, num_threads=threads, schedule="dynamic", chunksize=8):
        search_one(
            &ids[0] + bounds[query], &weights[0] + bounds[query],
            bounds[query + 1] - bounds[query], &splits[0], &rows[0], &values[0], num_rows, k,
            &sums[threadid(), 0], &found_view[query, 0], &best_view[query, 0]
        )
    return found, best


def pair_sums(features, texts, const int64_t[::1] queries, const int64_t[::1] labels):
    """See ``fused_numpy.pair_sums``."""
    cdef const int64_t[::1] bounds = features[0]
    cdef const int32_t[::1] ids = features[1]
    cdef const float[::1] weights = features[2]
    cdef const int64_t[::1] splits = texts[0]
    cdef const int32_t[::1] columns = texts[1]
    cdef const float[::1] values = texts[2]
    width = 1 + max(int(features[1].max(initial=0)), int(texts[1].max(initial=0)))
    sums = np.zeros((3, len(queries)))
    cdef double[:, ::1] found = sums
    cdef float[::1] scratch = np.zeros(width, np.float32)
    cdef Py_ssize_t pair, entry, count = queries.shape[0]
    cdef int64_t query = -1, label
    cdef double mine, of_text, product, of_query_squares, of_text_squares
    with nogil:
        for pair in range(count):
            if queries[pair] != query:
                if query >= 0:
                    for entry in range(bounds[query], bounds[query + 1]):
                        scratch[ids[entry]] = 0
                query = queries[pair]
                for entry in range(bounds[query], bounds[query + 1]):
                    scratch[ids[entry]] = weights[entry]
            label = labels[pair]
            product = 0
            of_query_squares = 0
            of_text_squares = 0
            for entry in range(splits[label], splits[label + 1]):
                mine = scratch[columns[entry]]
                if mine != 0:
                    of_text = values[entry]
                    product += mine * of_text
                    of_query_squares += mine * mine
                    of_text_squares += of_text * of_text
            found[0, pair] = product
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
    cdef Py_ssize_t row, tree
    cdef int32_t node
    with nogil:
        for tree in range(roots.shape[0]):
            for row in range(columns.shape[0]):
                node = roots[tree]
                while features[node] >= 0:
                    node = children[node, columns[row, features[node]] > thresholds[node]]
                sums[row] += values[node]
    return scores
