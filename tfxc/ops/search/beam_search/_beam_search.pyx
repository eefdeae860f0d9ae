# cython: boundscheck=False, wraparound=False, cdivision=True
"""Native beam search of ``tfxc.ops.search.beam_search.beam_search``: scores the children of the nodes kept, only.

One query is searched layer by layer on its own; of many, the (query, chunk) pairs of a layer are
scored chunk by chunk, so that a chunk is read into the processor's cache once.
"""

from cython.parallel cimport prange, threadid
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

import numpy as np

from tfxc.ops.search.beam_search._beam cimport Step, keep_best, sort_heap
from tfxc.ops.search.beam_search._chunks cimport Layer, Queries, score_chunk
from tfxc.ops.search.beam_search._pairs cimport Pairs, keep_best_of, list_pairs

cdef enum:
    ALL_COLUMNS = 1 << 16  # of uint16
    PAIRS = 64  # scored by a thread before it asks for more


cdef void search_one(
    const Step *steps, Py_ssize_t depth, Py_ssize_t stride, const Queries *queries,
    Py_ssize_t query, const int32_t *parents, const float *parent_scores, Py_ssize_t count,
    int32_t *ids, float *scores, int32_t *found_count, int32_t *whole, float *real
) noexcept nogil:
    # All layers for one query. ``whole`` and ``real`` are scratch: two beams of ``stride`` that
    # take turns, the matches and their weights, then the margins.
    cdef int32_t *out_ids
    cdef float *out_scores
    cdef float *found = real + 2 * stride
    cdef float *margins = found + queries.most + 1
    cdef Py_ssize_t layer, i, size
    for layer in range(depth):
        out_ids = ids if layer == depth - 1 else whole + (layer % 2) * stride
        out_scores = scores if layer == depth - 1 else real + (layer % 2) * stride
        size = 0
        for i in range(count):
            score_chunk(
                steps[layer].layer, parents[i], queries, query, margins, whole + 2 * stride, found
            )
            size = keep_best(
                &steps[layer], parents[i], margins, parent_scores[i], size, out_ids, out_scores
            )
        sort_heap(out_ids, out_scores, size)
        parents, parent_scores, count = out_ids, out_scores, size
    found_count[0] = <int32_t>count


cdef Queries queries_of(features, float bias):
    # ``features``: (splits, ids, weights, num_features) of CSR rows, or a dense matrix.
    cdef const int64_t[::1] splits
    cdef const int32_t[::1] ids
    cdef const float[::1] weights
    cdef const float[:, ::1] dense
    cdef Queries queries
    cdef Py_ssize_t i
    queries.bias, queries.splits, queries.ids, queries.most = bias, NULL, NULL, 0
    if isinstance(features, tuple):
        splits, ids, weights, queries.num_features = features
        queries.splits, queries.ids, queries.weights = &splits[0], &ids[0], &weights[0]
        for i in range(splits.shape[0] - 1):
            queries.most = max(queries.most, splits[i + 1] - splits[i])
    else:
        dense = features
        queries.weights, queries.num_features = &dense[0, 0], dense.shape[1]
    return queries


cdef class LayerKernels:
    """Layers whose weights are in arrays, with their indexes.

    ``layers`` are objects with the arrays of ``tfxc.ops.search.beam_search.beam_search``; ``indexes`` what
    ``index_chunks`` made of them. Nothing is checked here.
    """

    cdef Layer *layers
    cdef Py_ssize_t depth, widest
    cdef list arrays  # keeps what the layers point to

    def __cinit__(self, layers, indexes):
        self.depth, self.widest, self.arrays = len(layers), ALL_COLUMNS, []
        self.layers = <Layer *>PyMem_Calloc(self.depth, sizeof(Layer))
        if self.layers == NULL:
            raise MemoryError
        for number in range(self.depth):
            self._set(&self.layers[number], layers[number], indexes[number])
            self.widest = max(self.widest, np.diff(layers[number].child_splits).max(initial=1))

    def __dealloc__(self):
        PyMem_Free(self.layers)

    cdef _set(self, Layer *to, layer, index):
        cdef const int32_t[::1] children = layer.children, rows = layer.rows
        cdef const int64_t[::1] child_splits = layer.child_splits, row_splits = layer.row_splits
        cdef const int64_t[::1] entry_splits = layer.entry_splits, starts = index[1]
        cdef const float[::1] values = layer.values
        cdef const unsigned char[::1] columns = layer.columns.view(np.uint8)
        cdef const uint8_t[::1] trained = layer.trained.view(np.uint8)
        cdef const uint32_t[::1] words = index[0]
        cdef const signed char[::1] kinds = index[2]
        self.arrays += [children, rows, child_splits, row_splits, entry_splits, values, columns]
        self.arrays += [trained, words, starts, kinds]
        to.children, to.rows, to.trained = &children[0], &rows[0], &trained[0]
        to.child_splits, to.row_splits = &child_splits[0], &row_splits[0]
        to.entry_splits, to.values, to.columns = &entry_splits[0], &values[0], &columns[0]
        to.index, to.index_splits, to.shifts = &words[0], &starts[0], &kinds[0]
        to.column_bytes = layer.columns.itemsize
        to.num_chunks = child_splits.shape[0] - 1

    cdef Step *_steps(self, settings, bint combines) except NULL:
        cdef Step *steps = <Step *>PyMem_Calloc(self.depth, sizeof(Step))
        if steps == NULL:
            raise MemoryError
        for number, (post_processor, kept) in enumerate(settings):
            steps[number].layer = &self.layers[number]
            steps[number].transform = post_processor.code
            steps[number].power = post_processor.power
            steps[number].kept, steps[number].combines = kept, combines or number > 0
        return steps

    def search_each(
        self, features, float bias, settings, bint combines, const int64_t[::1] begins,
        const int32_t[::1] counts, const int32_t[::1] parents, const float[::1] parent_scores,
        int threads
    ):
        """Every query on its own from layer to layer; ``threads`` of them at a time.

        ``features`` are (splits, ids, weights, num_features) of CSR rows or a dense matrix,
        ``settings`` the (post-processor, kept) of every layer. Query i begins with ``counts[i]``
        parents from ``begins[i]`` on, whose scores count if ``combines``.

        Returns ids, scores (queries, kept) and counts (queries,): the first places of a row are
        taken, best first. There is room for any column of uint16, a damaged file's too.
        """
        cdef Py_ssize_t number = counts.shape[0], query, stride = 1
        cdef int thread
        cdef Queries queries = queries_of(features, bias)
        for _, kept in settings:
            stride = max(stride, kept)
        cdef int32_t[:, ::1] ids = np.empty((number, kept), np.int32)
        cdef float[:, ::1] scores = np.empty((number, kept), np.float32)
        cdef int32_t[::1] found_counts = np.empty(number, np.int32)
        cdef int32_t[:, ::1] whole = np.empty((threads, 2 * stride + queries.most + 1), np.int32)
        cdef float[:, ::1] real = np.empty(
            (threads, 2 * stride + queries.most + 1 + self.widest), np.float32
        )
        cdef Step *steps = self._steps(settings, combines)
        for query in prange(number, num_threads=threads, schedule="dynamic", nogil=True):
            thread = threadid()
            search_one(
                steps, self.depth, stride, &queries, query, &parents[begins[query]],
                &parent_scores[begins[query]], counts[query], &ids[query, 0], &scores[query, 0],
                &found_counts[query], &whole[thread, 0], &real[thread, 0],
            )
        PyMem_Free(steps)
        return np.asarray(ids), np.asarray(scores), np.asarray(found_counts)

    def search_together(
        self, features, float bias, settings, bint combines, const int64_t[::1] begins,
        const int32_t[::1] counts, const int32_t[::1] parents, const float[::1] parent_scores,
        int threads
    ):
        """As ``search_each``, layer by layer and chunk by chunk for all queries."""
        cdef Queries queries = queries_of(features, bias)
        cdef Step *steps = self._steps(settings, combines)
        cdef Py_ssize_t layer
        try:
            for layer in range(self.depth):
                ids, scores, found = self._layer_together(
                    &steps[layer], &queries, begins, counts, parents, parent_scores, threads
                )
                begins = np.arange(len(found), dtype=np.int64) * ids.shape[1]
                counts, parents, parent_scores = found, ids.ravel(), scores.ravel()
        finally:
            PyMem_Free(steps)
        return ids, scores, found

    cdef _layer_together(
        self, const Step *step, const Queries *queries, const int64_t[::1] begins,
        const int32_t[::1] counts, const int32_t[::1] parents, const float[::1] parent_scores,
        int threads
    ):
        cdef Py_ssize_t number = counts.shape[0], count = np.sum(counts), i
        cdef int thread
        cdef int64_t pair
        cdef int32_t[:, ::1] numbers = np.empty((2, count + 1), np.int32)
        cdef float[::1] pair_scores = np.empty(count + 1, np.float32)
        cdef int64_t[:, ::1] places = np.empty((2, count + 1), np.int64)
        cdef int64_t[::1] starts = np.empty(step.layer.num_chunks + 1, np.int64)
        cdef int64_t[::1] firsts = np.cumsum(counts, dtype=np.int64)
        cdef Pairs pairs
        pairs.query, pairs.chunk = &numbers[0, 0], &numbers[1, 0]
        pairs.parent_score = &pair_scores[0]
        pairs.place, pairs.order = &places[0, 0], &places[1, 0]
        cdef float[::1] margins = np.empty(
            ALL_COLUMNS + list_pairs(
                step.layer, number, &begins[0], &counts[0], &parents[0], &parent_scores[0],
                &starts[0], &pairs,
            ),
            np.float32,
        )
        cdef int32_t[:, ::1] rows = np.empty((threads, queries.most + 1), np.int32)
        cdef float[:, ::1] found = np.empty((threads, queries.most + 1), np.float32)
        cdef int32_t[:, ::1] ids = np.empty((number, step.kept), np.int32)
        cdef float[:, ::1] scores = np.empty((number, step.kept), np.float32)
        cdef int32_t[::1] found_counts = np.empty(number, np.int32)
        for i in prange(
            count, num_threads=threads, schedule="dynamic", chunksize=PAIRS, nogil=True
        ):
            thread = threadid()
            pair = pairs.order[i]
            score_chunk(
                step.layer, pairs.chunk[pair], queries, pairs.query[pair],
                &margins[pairs.place[pair]], &rows[thread, 0], &found[thread, 0],
            )
        for i in prange(number, num_threads=threads, schedule="static", nogil=True):
            found_counts[i] = <int32_t>keep_best_of(
                step, &pairs, firsts[i] - counts[i], counts[i], &margins[0], &ids[i, 0],
                &scores[i, 0],
            )
        return np.asarray(ids), np.asarray(scores), np.asarray(found_counts)
