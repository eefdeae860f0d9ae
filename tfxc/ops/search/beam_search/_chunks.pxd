# Layers of chunks and queries, and the margins of one chunk's children for one query.
# A chunk holds the weights of one parent's children by feature. An index finds a query's features
# among its rows: blocks of 32 bits with the rank of their first row or, where rows are few, places
# of the first row of every bucket of ids.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memset

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
    AHEAD = 4  # rows fetched before their turn
    SHORT_BUCKET = 8  # rows up to which a bucket is searched from its start


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


cdef inline Py_ssize_t place_of(
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


cdef inline int64_t sparse_matches(
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


cdef inline void score_sparse(
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


cdef inline void score_dense(
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
