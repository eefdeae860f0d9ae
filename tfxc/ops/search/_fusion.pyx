# cython: boundscheck=False, wraparound=False, cdivision=True
"""Native kernels of ``tfxc.ranker.fusion.fused_numpy``: the same numbers, without its arrays of entries."""

from libc.stdint cimport int32_t, int64_t

import numpy as np


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
