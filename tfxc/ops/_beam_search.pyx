# cython: boundscheck=False, wraparound=False, cdivision=True
"""Native beam search of ``tfxc.ops.beam_search``: scores the children of the nodes kept, only.

A chunk holds the weights of one parent's children by feature. An index finds a query's features
among the rows of a chunk: blocks of 32 bits with the rank of their first row or, where rows are
few, places of the first row of every bucket of ids. One query goes from layer to layer on its
own; of many, the (query, chunk) pairs of a layer are scored chunk by chunk, so that a chunk is
read into the processor's cache once.
"""

from cython.parallel cimport prange, threadid
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.math cimport expf, log1pf
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memset

import numpy as np

from tfxc.ops._heap cimport offer, sift_down

cdef extern from *:
    """
    #include <stdint.h>

    #if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
    #define TFXC_COUNTING __attribute__((target_clones("popcnt", "default")))
    #else
    #define TFXC_COUNTING
    #endif
    #if defined(__GNUC__)
    #define TFXC_ONES(BITS) __builtin_popcount(BITS)
    #define TFXC_FETCH(ADDRESS) __builtin_prefetch(ADDRESS)
    #else
    static inline int TFXC_ONES(uint32_t bits) {
        bits -= (bits >> 1) & 0x55555555u;
        bits = (bits & 0x33333333u) + ((bits >> 2) & 0x33333333u);
        return (((bits + (bits >> 4)) & 0x0f0f0f0fu) * 0x01010101u) >> 24;
    }
    #define TFXC_FETCH(ADDRESS) ((void)0)
    #endif

    /* Rows of a chunk that hold a query's features: their places and the features' weights.
       Without branches, as a miss is as likely as a hit. */
    TFXC_COUNTING
    static int64_t tfxc_matches(const int32_t *ids, const float *weights, int64_t count,
                                const uint32_t *blocks, const int64_t *entries,
                                int32_t *places, float *found) {
        int64_t matches = 0;
        for (int64_t i = 0; i < count; i++) {
            const uint32_t *block = blocks + 2 * (ids[i] >> 5);
            uint32_t bits = block[0], bit = ids[i] & 31;
            int32_t place = block[1] + TFXC_ONES(bits & ((1u << bit) - 1));
            TFXC_FETCH(entries + place);
            places[matches] = place;
            found[matches] = weights[i];
            matches += (bits >> bit) & 1;
        }
        return matches;
    }
    """
    int64_t tfxc_matches(
        const int32_t *ids, const float *weights, int64_t count, const uint32_t *blocks,
        const int64_t *entries, int32_t *places, float *found
    ) noexcept nogil
    void TFXC_FETCH(const void *address) noexcept nogil

cdef enum:
    BLOCKS = -1  # in place of a shift: the chunk's index is blocks of 32 bits
    BLOCK_BITS = 5
    ALL_COLUMNS = 1 << 16  # of uint16
    PAIRS = 64  # scored by a thread before it asks for more
    AHEAD = 4  # rows fetched before their turn
    SHORT_BUCKET = 8  # rows up to which a bucket is searched from its start
    SIGMOID = 1, LOG_SIGMOID = 2, HINGE = 3, LOG_HINGE = 4  # 0: the margin itself


cdef struct Layer:
    const int32_t *children
    const int64_t *child_splits
    const int32_t *rows
    const int64_t *row_splits
    const int64_t *entry_splits
    const void *columns
    int column_bytes
    const float *values
    const uint8_t *trained
    const uint32_t *index
    const int64_t *index_splits
    const signed char *shifts
    Py_ssize_t num_chunks


cdef struct Queries:
    const int64_t *splits  # CSR; NULL where the features are dense
    const int32_t *ids
    const float *weights
    Py_ssize_t num_features, most  # features of a CSR row
    float bias  # 0: none


cdef struct Step:
    const Layer *layer
    int transform, power
    bint combines  # False where no layer stands before
    Py_ssize_t kept  # most children kept per query


cdef Py_ssize_t place_of(
    const int32_t *rows, const uint32_t *starts, int shift, int32_t feature
) noexcept nogil:
    cdef Py_ssize_t begin = starts[feature >> shift], end = starts[(feature >> shift) + 1], middle
    while end - begin > SHORT_BUCKET:
        middle = (begin + end) >> 1
        if rows[middle] <= feature:
            begin = middle
        else:
            end = middle
    while begin < end and rows[begin] < feature:
        begin += 1
    return begin if begin < end and rows[begin] == feature else -1


cdef int64_t sparse_matches(
    const Layer *layer, Py_ssize_t chunk, const int32_t *ids, const float *weights, int64_t count,
    int32_t *places, float *found
) noexcept nogil:
    cdef const uint32_t *index = layer.index + layer.index_splits[chunk]
    cdef const int32_t *rows = layer.rows + layer.row_splits[chunk]
    cdef const int64_t *entries = layer.entry_splits + layer.row_splits[chunk]
    cdef int shift = layer.shifts[chunk]
    cdef Py_ssize_t i, place
    cdef int64_t matches = 0
    if shift == BLOCKS:
        return tfxc_matches(ids, weights, count, index, entries, places, found)
    for i in range(count):
        place = place_of(rows, index, shift, ids[i])
        if place >= 0:
            TFXC_FETCH(entries + place)
            places[matches] = <int32_t>place
            found[matches] = weights[i]
            matches += 1
    return matches


cdef inline void fetch_row(const Layer *layer, const int64_t *entries, int32_t place) noexcept nogil:
    TFXC_FETCH(layer.values + entries[place])
    TFXC_FETCH(<const char *>layer.columns + entries[place] * layer.column_bytes)


cdef inline void add_row(
    const Layer *layer, int64_t begin, int64_t end, Py_ssize_t width, float weight, float *scores
) noexcept nogil:
    cdef const float *values = layer.values + begin
    cdef const uint16_t *short_columns = <const uint16_t *>layer.columns + begin
    cdef const int32_t *long_columns = <const int32_t *>layer.columns + begin
    cdef Py_ssize_t i, count = end - begin
    if count == width:  # every child has it
        for i in range(width):
            scores[i] += weight * values[i]
    elif layer.column_bytes == 2:
        for i in range(count):
            scores[short_columns[i]] += weight * values[i]
    else:
        for i in range(count):
            scores[long_columns[i]] += weight * values[i]


cdef void score_sparse(
    const Layer *layer, Py_ssize_t chunk, const Queries *queries, Py_ssize_t query, float *scores,
    int32_t *places, float *found
) noexcept nogil:
    # Margins of a chunk's children; features in the query's order, then the bias.
    cdef Py_ssize_t width = layer.child_splits[chunk + 1] - layer.child_splits[chunk]
    cdef const int64_t *entries = layer.entry_splits + layer.row_splits[chunk]
    cdef int64_t begin = queries.splits[query], count = queries.splits[query + 1] - begin, matches
    cdef int32_t bias_feature = <int32_t>queries.num_features
    cdef Py_ssize_t i
    memset(scores, 0, width * sizeof(float))
    if layer.row_splits[chunk] == layer.row_splits[chunk + 1]:
        return
    matches = sparse_matches(
        layer, chunk, queries.ids + begin, queries.weights + begin, count, places, found
    )
    if queries.bias:
        matches += sparse_matches(
            layer, chunk, &bias_feature, &queries.bias, 1, places + matches, found + matches
        )
    for i in range(min(matches, AHEAD)):
        fetch_row(layer, entries, places[i])
    for i in range(matches):
        if i + AHEAD < matches:
            fetch_row(layer, entries, places[i + AHEAD])
        add_row(layer, entries[places[i]], entries[places[i] + 1], width, found[i], scores)


cdef void score_dense(
    const Layer *layer, Py_ssize_t chunk, const Queries *queries, Py_ssize_t query, float *scores
) noexcept nogil:
    cdef Py_ssize_t width = layer.child_splits[chunk + 1] - layer.child_splits[chunk], row
    cdef const float *features = queries.weights + query * queries.num_features
    cdef float weight
    memset(scores, 0, width * sizeof(float))
    for row in range(layer.row_splits[chunk], layer.row_splits[chunk + 1]):
        if layer.rows[row] == queries.num_features:
            weight = queries.bias
        else:
            weight = features[layer.rows[row]]
        if weight != 0:
            add_row(
                layer, layer.entry_splits[row], layer.entry_splits[row + 1], width, weight, scores
            )


cdef inline void score_chunk(
    const Layer *layer, Py_ssize_t chunk, const Queries *queries, Py_ssize_t query, float *scores,
    int32_t *places, float *found
) noexcept nogil:
    if queries.splits == NULL:
        score_dense(layer, chunk, queries, query, scores)
    else:
        score_sparse(layer, chunk, queries, query, scores, places, found)


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


cdef Py_ssize_t keep_best(
    const Step *step, Py_ssize_t chunk, const float *margins, float parent, Py_ssize_t size,
    int32_t *ids, float *scores
) noexcept nogil:
    # Offers a chunk's children to the heap; its new size.
    cdef const int32_t *children = step.layer.children + step.layer.child_splits[chunk]
    cdef Py_ssize_t width = step.layer.child_splits[chunk + 1] - step.layer.child_splits[chunk], i
    cdef float score, hopeless = 0
    cdef bint bounded = False
    for i in range(width):
        # A score never falls where the margin rises: below a margin that was too low for the
        # heap, all are. That spares most exponentials.
        if bounded and margins[i] <= hopeless:
            continue
        if not step.layer.trained[children[i]]:
            continue
        score = combined(step, margins[i], parent)
        if size == step.kept and score < scores[0]:
            hopeless, bounded = margins[i], True
        else:
            size = offer(scores, <int *>ids, size, step.kept, score, children[i])
    return size


cdef void sort_heap(int32_t *ids, float *scores, Py_ssize_t size) noexcept nogil:
    # Best first: the root, the worst of what is left, goes to the end.
    cdef float score
    cdef int32_t label
    while size > 1:
        size -= 1
        score, label = scores[0], ids[0]
        scores[0], ids[0] = scores[size], ids[size]
        scores[size], ids[size] = score, label
        sift_down(scores, <int *>ids, size)


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


cdef struct Pairs:  # (query, chunk) pairs of a layer, a query's together
    int32_t *query
    int32_t *chunk
    float *parent_score
    int64_t *place  # of the pair's margins
    int64_t *order  # the pairs by chunk


cdef int64_t list_pairs(
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


cdef Py_ssize_t keep_best_of(
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
    """Layers whose weights stand in arrays, with their indexes.

    ``layers`` are objects with the arrays of ``tfxc.ops.beam_search``; ``indexes`` what
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


cdef void fill_index(
    const int32_t *rows, Py_ssize_t count, int shift, uint32_t *index, Py_ssize_t size
) noexcept nogil:
    cdef Py_ssize_t i
    cdef uint32_t before = 0, row
    memset(index, 0, size * sizeof(uint32_t))
    if shift == BLOCKS:
        for i in range(count - 1, -1, -1):
            index[2 * (rows[i] >> BLOCK_BITS)] |= <uint32_t>1 << (rows[i] & 31)
            index[2 * (rows[i] >> BLOCK_BITS) + 1] = <uint32_t>i
        return
    for i in range(count):
        index[(rows[i] >> shift) + 1] += 1
    for i in range(size):
        before += index[i]
        index[i] = before


def index_chunks(
    const int32_t[::1] rows, const int64_t[::1] row_splits, const signed char[::1] shifts,
    const int64_t[::1] index_splits
):
    """Index of every chunk: uint32 words, chunk c's from ``index_splits[c]`` on.

    Where ``shifts[c]`` is -1 the words are pairs: which of 32 features are rows, and the place of
    the first of them. Elsewhere they are the places at which the rows of the features
    ``i << shift`` and above begin.
    """
    cdef uint32_t[::1] index = np.empty(index_splits[index_splits.shape[0] - 1] + 1, np.uint32)
    cdef Py_ssize_t chunk
    for chunk in range(shifts.shape[0]):
        fill_index(
            &rows[row_splits[chunk]], row_splits[chunk + 1] - row_splits[chunk], shifts[chunk],
            &index[index_splits[chunk]], index_splits[chunk + 1] - index_splits[chunk],
        )
    return np.asarray(index)
