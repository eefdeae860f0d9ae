# cython: boundscheck=False, wraparound=False, cdivision=True
"""Native brute force of ``gather``: every class's score from its bucket scores.

The scores of up to 16 examples, as many as a register holds, are interleaved,
``table[repetition][bucket][example]``, so that one lookup serves all of them with one vector load. The scores of four classes at a time stay in
registers over the repetitions, and only a block of 64 classes is ever stored. Lookups are staged:
reading R far-apart rows a few bytes at a time would defeat the processor's prefetching.
"""

from cython.parallel cimport prange
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t, uint16_t
from libc.string cimport memset

from tfxc.ops.search._heap cimport offer

cdef extern from *:
    """
    #include <stddef.h>
    #include <stdint.h>

    /* The loader picks the widest registers the processor has. The function only adds, compares
       and halves, so every version gives the same bits. */
    #if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
    #define TFXC_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
    #else
    #define TFXC_CLONES
    #endif

    enum { TFXC_SUM, TFXC_MIN, TFXC_MEDIAN, TFXC_STEP = 4 };

    #define TFXC_PICK(V, M, MASK, A, B) ((V)(((M)(A) & (MASK)) | ((M)(B) & ~(MASK))))

    #define TFXC_SCORER(LANES, V, M) \\
    typedef float V __attribute__((vector_size(4 * LANES), aligned(4), may_alias)); \\
    typedef int32_t M __attribute__((vector_size(4 * LANES), aligned(4), may_alias)); \\
    static inline __attribute__((always_inline)) void V##_combine( \\
        const V *rows, const int32_t *lookups, ptrdiff_t stride, ptrdiff_t num_buckets, \\
        int repetitions, int minimum, V *scores) { \\
        V score[TFXC_STEP]; \\
        for (int c = 0; c < TFXC_STEP; c++) score[c] = rows[lookups[c]]; \\
        for (int r = 1; r < repetitions; r++) { \\
            lookups += stride; \\
            rows += num_buckets; \\
            for (int c = 0; c < TFXC_STEP; c++) { \\
                V value = rows[lookups[c]]; \\
                if (minimum) { \\
                    M less = value < score[c]; \\
                    score[c] = TFXC_PICK(V, M, less, value, score[c]); \\
                } else score[c] += value; \\
            } \\
        } \\
        for (int c = 0; c < TFXC_STEP; c++) scores[c] = score[c]; \\
    } \\
    static inline __attribute__((always_inline)) void V##_median( \\
        const V *rows, const int32_t *lookups, ptrdiff_t stride, ptrdiff_t num_buckets, \\
        int repetitions, V *value, V *score) { \\
        int half = repetitions / 2; \\
        for (int r = 0; r < repetitions; r++) \\
            value[r] = rows[r * num_buckets + lookups[r * stride]]; \\
        /* Bubbling minima down sorts the lower half and the middle. */ \\
        for (int low = 0; low <= half; low++) \\
            for (int i = repetitions - 1; i > low; i--) { \\
                V a = value[i - 1], b = value[i]; \\
                M less = b < a; \\
                value[i - 1] = TFXC_PICK(V, M, less, b, a); \\
                value[i] = TFXC_PICK(V, M, less, a, b); \\
            } \\
        if (repetitions % 2) *score = value[half]; \\
        else *score = (value[half - 1] + value[half]) * 0.5f; \\
    } \\
    /* Scores of `count` classes (rounded up to a multiple of 4), and their maxima. */ \\
    TFXC_CLONES \\
    static void tfxc_score_##LANES( \\
        const float *table, const int32_t *lookups, ptrdiff_t stride, ptrdiff_t num_buckets, \\
        int repetitions, int count, int aggregate, float *work, float *out, float *maxima) { \\
        const V *rows = (const V *)table; \\
        V *scores = (V *)out; \\
        for (int i = 0; i < count; i += TFXC_STEP) { \\
            if (aggregate == TFXC_SUM) \\
                V##_combine(rows, lookups + i, stride, num_buckets, repetitions, 0, scores + i); \\
            else if (aggregate == TFXC_MIN) \\
                V##_combine(rows, lookups + i, stride, num_buckets, repetitions, 1, scores + i); \\
            else for (int c = i; c < i + TFXC_STEP; c++) \\
                V##_median(rows, lookups + c, stride, num_buckets, repetitions, (V *)work, \\
                           scores + c); \\
        } \\
        V best = scores[0]; \\
        for (int i = 1; i < count; i++) { \\
            M more = scores[i] > best; \\
            best = TFXC_PICK(V, M, more, scores[i], best); \\
        } \\
        *(V *)maxima = best; \\
    }

    TFXC_SCORER(4, tfxc_floats_4, tfxc_masks_4)
    TFXC_SCORER(8, tfxc_floats_8, tfxc_masks_8)
    TFXC_SCORER(16, tfxc_floats_16, tfxc_masks_16)

    /* Scores of a block of classes for a single example, one repetition after the other: all of a
       repetition's scores stay near the processor, and lookups are read in one stream each. */
    #define TFXC_ROW_SCORER(NAME, T) \\
    TFXC_CLONES \\
    static void NAME( \\
        const float *scores, const T *lookups, ptrdiff_t num_labels, ptrdiff_t num_buckets, \\
        int repetitions, int count, int minimum, float *out) { \\
        for (int i = 0; i < count; i++) out[i] = scores[lookups[i]]; \\
        for (int r = 1; r < repetitions; r++) { \\
            scores += num_buckets; \\
            lookups += num_labels; \\
            if (minimum) for (int i = 0; i < count; i++) { \\
                float value = scores[lookups[i]]; \\
                out[i] = value < out[i] ? value : out[i]; \\
            } else for (int i = 0; i < count; i++) out[i] += scores[lookups[i]]; \\
        } \\
    }
    TFXC_ROW_SCORER(tfxc_score_row_2, uint16_t)
    TFXC_ROW_SCORER(tfxc_score_row_4, int32_t)

    /* The highest bucket; a negative one counts as a very high one. */
    #define TFXC_HIGHEST(NAME, T, U) \\
    TFXC_CLONES \\
    static int64_t NAME(const T *lookups, ptrdiff_t count) { \\
        U highest = 0; \\
        for (ptrdiff_t i = 0; i < count; i++) { \\
            U bucket = (U)lookups[i]; \\
            highest = bucket > highest ? bucket : highest; \\
        } \\
        return highest; \\
    }
    TFXC_HIGHEST(tfxc_highest_2, uint16_t, uint16_t)
    TFXC_HIGHEST(tfxc_highest_4, int32_t, uint32_t)

    TFXC_CLONES
    static int tfxc_any_above(const float *scores, int count, float least) {
        int any = 0;
        for (int i = 0; i < count; i++) any |= scores[i] > least;
        return any;
    }

    typedef void (*tfxc_scorer)(const float *, const int32_t *, ptrdiff_t, ptrdiff_t, int, int,
                                int, float *, float *, float *);
    static tfxc_scorer tfxc_pick_scorer(int width) {
        return width == 4 ? tfxc_score_4 : width == 8 ? tfxc_score_8 : tfxc_score_16;
    }

    /* Floats that a register holds: without AVX-512, GCC takes vectors of 16 apart. */
    static int tfxc_widest(void) {
    #if defined(__x86_64__) && defined(__GNUC__)
        return __builtin_cpu_supports("avx512f") ? 16 : 8;
    #else
        return 16;
    #endif
    }
    """
    ctypedef void (*tfxc_scorer)(
        const float *table, const int32_t *lookups, ptrdiff_t stride, ptrdiff_t num_buckets,
        int repetitions, int count, int aggregate, float *work, float *out, float *maxima
    ) noexcept nogil
    tfxc_scorer tfxc_pick_scorer(int width) noexcept nogil
    int tfxc_widest() noexcept nogil
    void tfxc_score_row_2(
        const float *scores, const uint16_t *lookups, ptrdiff_t num_labels, ptrdiff_t num_buckets,
        int repetitions, int count, int minimum, float *out
    ) noexcept nogil
    void tfxc_score_row_4(
        const float *scores, const int32_t *lookups, ptrdiff_t num_labels, ptrdiff_t num_buckets,
        int repetitions, int count, int minimum, float *out
    ) noexcept nogil
    int64_t tfxc_highest_2(const uint16_t *lookups, ptrdiff_t count) noexcept nogil
    int64_t tfxc_highest_4(const int32_t *lookups, ptrdiff_t count) noexcept nogil
    int tfxc_any_above(const float *scores, int count, float least) noexcept nogil

cdef enum:
    BLOCK = 64  # classes scored before the comparison with the k-th best
    STAGE = 2048  # classes whose lookups are staged together
    STRIDE = STAGE + 32  # not a power of two, which would crowd a few sets of the cache
    MAX_WIDTH = 16  # examples interleaved

# What one part of ``scan`` needs of scratch, per repetition: staged lookups, median values.
STAGED_LOOKUPS, MEDIAN_VALUES = STRIDE, MAX_WIDTH
# Examples that are best interleaved where there are as many.
WIDEST = tfxc_widest()


def interleave(const float[:, :, ::1] bucket_scores, float[::1] table, int width, int threads):
    """Writes (examples, R, B) scores to ``table`` as (R, B, width); unused lanes become zero."""
    cdef Py_ssize_t examples = bucket_scores.shape[0], buckets = bucket_scores.shape[2]
    cdef Py_ssize_t repetition, bucket, end, lane, i
    cdef float *rows
    memset(&table[0], 0, table.shape[0] * sizeof(float))
    for repetition in prange(
        bucket_scores.shape[1], num_threads=threads, schedule="static", nogil=True
    ):
        rows = &table[repetition * buckets * width]
        bucket = 0
        while bucket < buckets:  # a few cache lines of the table at a time
            end = min(bucket + BLOCK, buckets)
            for lane in range(examples):
                for i in range(bucket, end):
                    rows[i * width + lane] = bucket_scores[lane, repetition, i]
            bucket = end


cdef bint stage(
    const unsigned char *lookups, int bucket_bytes, Py_ssize_t num_labels, Py_ssize_t num_buckets,
    int repetitions, Py_ssize_t start, Py_ssize_t count, int32_t *staged
) noexcept nogil:
    # Whether all buckets are in range.
    cdef Py_ssize_t i, first
    cdef int r
    cdef int32_t *row
    for r in range(repetitions):
        first = r * num_labels + start
        row = staged + r * STRIDE
        if bucket_bytes == 2:
            for i in range(count):
                row[i] = (<const uint16_t *>lookups)[first + i]
        else:
            for i in range(count):
                row[i] = (<const int32_t *>lookups)[first + i]
        if tfxc_highest_4(row, count) >= num_buckets:
            return False
        # The scorer continues to a multiple of four; bucket 0 is as good as any there.
        memset(row + count, 0, 4 * sizeof(int32_t))
    return True


cdef void keep_best(
    const float *block, const float *maxima, int width, int examples, Py_ssize_t start, int count,
    Py_ssize_t k, Py_ssize_t *sizes, int *ids, float *scores
) noexcept nogil:
    cdef int lane, i
    for lane in range(examples):
        # Ids ascend, so a class that only equals the k-th best loses the tie.
        if sizes[lane] == k and not maxima[lane] > scores[lane * k]:
            continue
        for i in range(count):
            sizes[lane] = offer(
                scores + lane * k, ids + lane * k, sizes[lane], k,
                block[i * width + lane], <int>(start + i),
            )


cdef bint scan_row_part(
    const float *bucket_scores, const unsigned char *lookups, int bucket_bytes,
    Py_ssize_t num_labels, Py_ssize_t num_buckets, int repetitions, int minimum, Py_ssize_t first,
    Py_ssize_t last, Py_ssize_t k, int *ids, float *scores
) noexcept nogil:
    # Whether all buckets are in range.
    cdef float[STAGE] block
    cdef Py_ssize_t start = first, size = 0
    cdef int64_t highest
    cdef int i, offset, count, end
    while start < last:
        count = <int>min(<Py_ssize_t>STAGE, last - start)
        for i in range(repetitions):
            if bucket_bytes == 2:
                highest = tfxc_highest_2(
                    (<const uint16_t *>lookups) + i * num_labels + start, count
                )
            else:
                highest = tfxc_highest_4(
                    (<const int32_t *>lookups) + i * num_labels + start, count
                )
            if highest >= num_buckets:
                return False
        if bucket_bytes == 2:
            tfxc_score_row_2(
                bucket_scores, (<const uint16_t *>lookups) + start, num_labels, num_buckets,
                repetitions, count, minimum, block,
            )
        else:
            tfxc_score_row_4(
                bucket_scores, (<const int32_t *>lookups) + start, num_labels, num_buckets,
                repetitions, count, minimum, block,
            )
        offset = 0
        while offset < count:
            end = min(offset + <int>BLOCK, count)
            # Ids ascend, so a class that only equals the k-th best loses the tie.
            if size < k or tfxc_any_above(block + offset, end - offset, scores[0]):
                for i in range(offset, end):
                    size = offer(scores, ids, size, k, block[i], <int>(start + i))
            offset = end
        start += count
    return True


def scan_row(
    const float[:, ::1] bucket_scores, const unsigned char[:, ::1] lookups, int bucket_bytes,
    int minimum, int[:, ::1] ids, float[:, ::1] scores
) -> bool:
    """Fills ``ids``, ``scores`` (parts, k) with each part's best classes for one example, unsorted.

    ``bucket_scores`` are (R, B); sums of them count, or the least if ``minimum``. ``lookups`` are
    those of ``scan``. One thread runs for each part. False: a bucket is out of range.
    """
    cdef Py_ssize_t parts = ids.shape[0], part
    cdef int out_of_range = 0
    cdef Py_ssize_t num_labels = lookups.shape[1] // bucket_bytes
    for part in prange(parts, num_threads=<int>parts, schedule="static", nogil=True):
        out_of_range += not scan_row_part(
            &bucket_scores[0, 0], &lookups[0, 0], bucket_bytes, num_labels,
            bucket_scores.shape[1], <int>bucket_scores.shape[0], minimum,
            num_labels * part // parts, num_labels * (part + 1) // parts, ids.shape[1],
            &ids[part, 0], &scores[part, 0],
        )
    return out_of_range == 0


cdef bint scan_part(
    const float *table, const unsigned char *lookups, int bucket_bytes, Py_ssize_t num_labels,
    Py_ssize_t num_buckets, int repetitions, int width, int aggregate, Py_ssize_t first,
    Py_ssize_t last, int examples, Py_ssize_t k, int *ids, float *scores, int32_t *staged,
    float *work
) noexcept nogil:
    cdef tfxc_scorer scorer = tfxc_pick_scorer(width)
    cdef Py_ssize_t[MAX_WIDTH] sizes
    cdef float[MAX_WIDTH * BLOCK] block
    cdef float[MAX_WIDTH] maxima
    cdef Py_ssize_t start, offset, count
    cdef int size
    memset(sizes, 0, sizeof(sizes))
    start = first
    while start < last:
        count = min(<Py_ssize_t>STAGE, last - start)
        if not stage(
            lookups, bucket_bytes, num_labels, num_buckets, repetitions, start, count, staged
        ):
            return False
        offset = 0
        while offset < count:
            size = <int>min(<Py_ssize_t>BLOCK, count - offset)
            scorer(
                table, staged + offset, STRIDE, num_buckets, repetitions, size, aggregate, work,
                block, maxima,
            )
            keep_best(
                block, maxima, width, examples, start + offset, size, k, sizes, ids, scores
            )
            offset += size
        start += count
    return True


def scan(
    const float[::1] table, const unsigned char[:, ::1] lookups, int bucket_bytes,
    Py_ssize_t num_buckets, int width, int aggregate, int[:, :, ::1] ids,
    float[:, :, ::1] scores, int32_t[:, ::1] staged, float[:, ::1] work
) -> bool:
    """Fills ``ids``, ``scores`` (parts, examples, k) with each part's best classes, unsorted.

    False: a bucket is out of range. ``lookups`` are the bytes of the (R, N) array; ``table`` comes
    from ``interleave`` with the same ``width``, 4, 8 or 16; ``aggregate`` is 0 sum, 1 min, 2 median.
    ``staged`` and ``work`` have one row per part, and so many threads run.
    """
    cdef Py_ssize_t parts = ids.shape[0], part
    cdef int examples = <int>ids.shape[1], repetitions = <int>lookups.shape[0]
    cdef Py_ssize_t num_labels = lookups.shape[1] // bucket_bytes, k = ids.shape[2]
    cdef int out_of_range = 0
    for part in prange(parts, num_threads=<int>parts, schedule="static", nogil=True):
        out_of_range += not scan_part(
            &table[0], &lookups[0, 0], bucket_bytes, num_labels, num_buckets, repetitions, width,
            aggregate, num_labels * part // parts, num_labels * (part + 1) // parts, examples, k,
            &ids[part, 0, 0], &scores[part, 0, 0], &staged[part, 0], &work[part, 0],
        )
    return out_of_range == 0
