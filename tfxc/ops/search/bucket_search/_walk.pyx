# cython: boundscheck=False, wraparound=False, cdivision=True
"""Native walks of ``tfxc.ops.search.bucket_search.gather`` through the best buckets.

``walk`` stops early: every repetition's buckets are walked in descending score, all repetitions in
turn. A class in no walked bucket scores at most the aggregate of the scores reached, which ends
the walk. ``approximate`` walks a fixed number of buckets and scores what it found there often.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY, NAN, fabs
from libc.stdint cimport int64_t, uint8_t, uint16_t
from libc.string cimport memcpy, memset

from tfxc.ops.search._heap cimport offer

cdef extern from *:
    """
    #if defined(__GNUC__)
    #define TFXC_PREFETCH(ADDRESS) __builtin_prefetch(ADDRESS)
    #else
    #define TFXC_PREFETCH(ADDRESS) ((void)0)
    #endif
    """
    void TFXC_PREFETCH(const void *address) noexcept nogil

cdef enum:
    AHEAD = 8  # classes fetched before their turn
    PROBED = 2  # buckets of each repetition after which a walk asks whether it will end in time
    FETCHED = 4  # of so many repetitions: most classes are given up by then
    SUM = 0, MIN = 1, MEDIAN = 2
    UNFINISHED = 0, DONE = 1, BROKEN = 2

EXACT, BROKEN_INVERSE = DONE, BROKEN


cdef struct Walk:
    const float *scores  # (R, B)
    const unsigned char *lookups  # (R, N) of bucket_bytes each
    const int *class_order  # (R, N)
    const int64_t *offsets  # (R, B + 1)
    Py_ssize_t num_labels, num_buckets, num_groups, k, budget, looked_up
    int repetitions, bucket_bytes, aggregate
    float *remaining  # (R, B): the scores, NaN where already taken
    float *maxima  # (R, num_groups): greatest remaining score of the buckets g, g + groups, ...
    float *reached  # (R,): score of the bucket being walked
    float *values  # (R,): scratch of the median
    float *future  # (R + num_groups,): scratch of ``is_hopeless``
    double *rest  # (R + 1,): the most that repetitions r.. can add to an unseen class
    uint8_t *marks  # (N,): equal to stamp where the class was seen
    uint8_t stamp


cdef inline Py_ssize_t bucket_of(Walk *walk, int repetition, Py_ssize_t label) noexcept nogil:
    cdef Py_ssize_t position = repetition * walk.num_labels + label
    if walk.bucket_bytes == 2:
        return (<const uint16_t *>walk.lookups)[position]
    return (<const int *>walk.lookups)[position]


cdef float median(float *values, int count) noexcept nogil:
    cdef int i, slot
    cdef float value
    for i in range(1, count):
        value = values[i]
        slot = i
        while slot > 0 and values[slot - 1] > value:
            values[slot] = values[slot - 1]
            slot -= 1
        values[slot] = value
    if count % 2:
        return values[count // 2]
    return (values[count // 2 - 1] + values[count // 2]) * <float>0.5


cdef void begin(Walk *walk) noexcept nogil:
    cdef Py_ssize_t first, i, count, groups = walk.num_groups
    cdef float *maxima
    cdef float *scores
    cdef int r
    memcpy(walk.remaining, walk.scores, walk.repetitions * walk.num_buckets * sizeof(float))
    for r in range(walk.repetitions):
        maxima = walk.maxima + r * groups
        memcpy(maxima, walk.scores + r * walk.num_buckets, groups * sizeof(float))
        first = groups
        while first < walk.num_buckets:
            # Element by element over neighbours, which the compiler turns into vector code.
            scores = walk.remaining + r * walk.num_buckets + first
            count = min(groups, walk.num_buckets - first)
            for i in range(count):
                maxima[i] = scores[i] if scores[i] > maxima[i] else maxima[i]
            first += groups
        walk.reached[r] = maxima[greatest(maxima, groups)]


cdef inline Py_ssize_t greatest(const float *values, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t best = 0, i
    for i in range(1, count):
        if values[i] > values[best]:
            best = i
    return best


cdef Py_ssize_t take_best_bucket(Walk *walk, int repetition) noexcept nogil:
    # The best bucket not yet taken, or -1 where only minus infinity is left.
    cdef float *scores = walk.remaining + repetition * walk.num_buckets
    cdef float *maxima = walk.maxima + repetition * walk.num_groups
    cdef Py_ssize_t group = greatest(maxima, walk.num_groups), bucket = group, taken = -1
    cdef float best = maxima[group], next_best = -INFINITY
    if best == -INFINITY:
        return -1
    while bucket < walk.num_buckets:
        if taken < 0 and scores[bucket] == best:
            taken = bucket
            scores[bucket] = NAN
        elif scores[bucket] > next_best:
            next_best = scores[bucket]
        bucket += walk.num_groups
    maxima[group] = next_best
    return taken


cdef float bound(Walk *walk) noexcept nogil:
    # An unseen class has at most the reached score in every repetition, and float32 addition,
    # min and median in a fixed order never decrease when an operand grows (rounding is
    # monotone): this is a bound on the rounded score itself, not only on the exact one.
    cdef float result = walk.reached[0]
    cdef int r
    if walk.aggregate == MEDIAN:
        memcpy(walk.values, walk.reached, walk.repetitions * sizeof(float))
        return median(walk.values, walk.repetitions)
    for r in range(1, walk.repetitions):
        if walk.aggregate == SUM:
            result = result + walk.reached[r]
        elif walk.reached[r] < result:
            result = walk.reached[r]
    return result


cdef void update_rest(Walk *walk) noexcept nogil:
    # n float32 additions are off by at most n * 2^-23 of the sum of magnitudes.
    cdef double error = walk.repetitions * 1.1920929e-07
    cdef int r
    walk.rest[walk.repetitions] = 0
    for r in range(walk.repetitions - 1, -1, -1):
        walk.rest[r] = walk.rest[r + 1] + walk.reached[r] + error * fabs(walk.reached[r])


cdef int score_class(
    Walk *walk, int label, float worst, bint full, float *result
) noexcept nogil:
    # 1: scored; 0: given up, as it must end below `worst`; -1: a lookup is out of range.
    cdef double error = walk.repetitions * 1.1920929e-07
    cdef Py_ssize_t bucket
    cdef float score = 0, value
    cdef int r
    for r in range(walk.repetitions):
        walk.looked_up += 1
        bucket = bucket_of(walk, r, label)
        if bucket < 0 or bucket >= walk.num_buckets:
            return -1
        value = walk.scores[r * walk.num_buckets + bucket]
        if walk.aggregate == MEDIAN:
            walk.values[r] = value
        elif walk.aggregate == SUM:
            score = score + value if r else value
            if full and score + error * fabs(score) + walk.rest[r + 1] < worst:
                return 0
        else:
            score = value if r == 0 or value < score else score
            if full and score < worst:
                return 0
    result[0] = median(walk.values, walk.repetitions) if walk.aggregate == MEDIAN else score
    return 1


cdef inline void prefetch(Walk *walk, Py_ssize_t label) noexcept nogil:
    # Classes are scattered; without this the walk would wait for memory at each of them.
    cdef const unsigned char *lookup = walk.lookups + label * walk.bucket_bytes
    cdef int r
    TFXC_PREFETCH(walk.marks + label)
    for r in range(min(walk.repetitions, <int>FETCHED)):
        TFXC_PREFETCH(lookup + r * walk.num_labels * walk.bucket_bytes)


cdef Py_ssize_t walk_bucket(
    Walk *walk, int repetition, Py_ssize_t bucket, int *ids, float *scores, Py_ssize_t size
) noexcept nogil:
    # Offers the classes of one bucket not seen before; the new size of the heap, or -1.
    cdef const int64_t *offsets = walk.offsets + repetition * (walk.num_buckets + 1)
    cdef const int *classes = walk.class_order + repetition * walk.num_labels
    cdef int64_t i
    cdef int label, state
    cdef float score = 0
    if offsets[bucket] < 0 or offsets[bucket + 1] > walk.num_labels:
        return -1
    walk.looked_up += offsets[bucket + 1] - offsets[bucket]
    for i in range(offsets[bucket], offsets[bucket + 1]):
        label = classes[i]
        if i + AHEAD < offsets[bucket + 1]:
            prefetch(walk, classes[i + AHEAD])
        if label < 0 or label >= walk.num_labels:
            return -1
        if walk.marks[label] == walk.stamp:
            continue
        walk.marks[label] = walk.stamp
        state = score_class(walk, label, scores[0], size == walk.k, &score)
        if state < 0:
            return -1
        if state:
            size = offer(scores, ids, size, walk.k, score, label)
    return size


cdef bint is_hopeless(Walk *walk, float worst) noexcept nogil:
    # Whether a class that is not seen within the budget could still be among the best. A walk of
    # so many buckets ends at a score no higher than that of as many groups' best buckets.
    cdef Py_ssize_t depth = 2 * PROBED * walk.budget // walk.looked_up - PROBED, i, best = 0
    cdef float *reached = walk.reached
    cdef float *maxima = walk.future + walk.repetitions
    cdef float least
    cdef int r
    if depth < 0:  # the budget is spent
        return True
    if depth >= walk.num_groups:
        return False
    for r in range(walk.repetitions):
        memcpy(maxima, walk.maxima + r * walk.num_groups, walk.num_groups * sizeof(float))
        for i in range(depth + 1):
            best = greatest(maxima, walk.num_groups)
            walk.future[r] = maxima[best]
            maxima[best] = -INFINITY
    walk.reached = walk.future
    least = bound(walk)
    walk.reached = reached
    return worst < least


cdef int walk_example(Walk *walk, int *ids, float *scores) noexcept nogil:
    cdef Py_ssize_t size = 0, bucket
    cdef int r, rounds = 0
    begin(walk)
    while walk.looked_up <= walk.budget:
        for r in range(walk.repetitions):
            bucket = take_best_bucket(walk, r)
            if bucket < 0:
                return UNFINISHED
            walk.reached[r] = walk.scores[r * walk.num_buckets + bucket]
            # At equality an unseen class could still win the tie by its lower id.
            if size == walk.k and scores[0] > bound(walk):
                return DONE
            update_rest(walk)
            size = walk_bucket(walk, r, bucket, ids, scores, size)
            if size < 0:
                return BROKEN
        rounds += 1
        if rounds == PROBED and size == walk.k and is_hopeless(walk, scores[0]):
            return UNFINISHED
    return UNFINISHED


cdef inline uint8_t next_stamp(uint8_t *marks, Py_ssize_t num_labels) noexcept nogil:
    # A new stamp forgets all marks at once; the counter comes after the marks. They are
    # cleared only once in 255 examples.
    if marks[num_labels] == 255:
        memset(marks, 0, num_labels + 1)
    marks[num_labels] += 1
    return marks[num_labels]


cdef int walk_on_thread(
    const Walk *common, const float *bucket_scores, float *work, double *rest, uint8_t *marks,
    int *ids, float *scores
) noexcept nogil:
    cdef Walk own = common[0]
    own.scores = bucket_scores
    own.remaining = work
    own.maxima = own.remaining + own.repetitions * own.num_buckets
    own.reached = own.maxima + own.repetitions * own.num_groups
    own.values = own.reached + own.repetitions
    own.future = own.values + own.repetitions
    own.rest = rest
    own.marks = marks
    own.looked_up = 0
    own.stamp = next_stamp(marks, own.num_labels)
    return walk_example(&own, ids, scores)


def walk(
    const float[:, :, ::1] bucket_scores, const unsigned char[:, ::1] lookups, int bucket_bytes,
    const int[:, ::1] class_order, const int64_t[:, ::1] offsets, int aggregate,
    Py_ssize_t budget, int[:, ::1] ids, float[:, ::1] scores, uint8_t[::1] state,
    float[:, ::1] work, double[:, ::1] rest, uint8_t[:, ::1] marks, Py_ssize_t num_groups
):
    """Top k of every example into ``ids``, ``scores`` (examples, k), unsorted.

    ``state`` becomes 0 where the budget (bucket scores looked up) ran out or will not do, 1 where
    the result is exact, 2 where the inverse and the lookups do not belong together. ``work``,
    ``rest`` and ``marks`` (all zero) have one row per thread.
    """
    cdef Walk common
    cdef Py_ssize_t example
    cdef int threads = <int>work.shape[0], thread
    common.lookups, common.bucket_bytes = &lookups[0, 0], bucket_bytes
    common.class_order, common.offsets = &class_order[0, 0], &offsets[0, 0]
    common.repetitions = <int>bucket_scores.shape[1]
    common.num_buckets = bucket_scores.shape[2]
    common.num_labels, common.num_groups = class_order.shape[1], num_groups
    common.k, common.budget, common.aggregate = ids.shape[1], budget, aggregate
    for example in prange(
        bucket_scores.shape[0], num_threads=threads, schedule="dynamic", nogil=True
    ):
        thread = threadid()
        state[example] = walk_on_thread(
            &common, &bucket_scores[example, 0, 0], &work[thread, 0], &rest[thread, 0],
            &marks[thread, 0], &ids[example, 0], &scores[example, 0],
        )


cdef struct Taken:
    Py_ssize_t num_buckets  # taken of each repetition
    int min_count
    float *scores  # (num_buckets,): the best buckets of a repetition, a heap
    int *buckets  # (num_buckets,)
    uint16_t *counts  # (N,): in how many of them a class was found; all zero between examples
    int *found  # (N,): the classes with a count
    Py_ssize_t *having  # (R + 1,): how many classes have a count


cdef Py_ssize_t find_classes(Walk *walk, Taken *taken) noexcept nogil:
    # Counts the classes of the best buckets; returns how many there are, or -1.
    cdef Py_ssize_t num_found = 0, size, bucket, place
    cdef const int64_t *offsets
    cdef int64_t i
    cdef int r, label
    cdef bint broken = False
    for r in range(walk.repetitions):
        size, offsets = 0, walk.offsets + r * (walk.num_buckets + 1)
        for bucket in range(walk.num_buckets):
            size = offer(
                taken.scores, taken.buckets, size, taken.num_buckets,
                walk.scores[r * walk.num_buckets + bucket], <int>bucket,
            )
        for place in range(size):
            bucket = taken.buckets[place]
            if offsets[bucket] < 0 or offsets[bucket + 1] > walk.num_labels:
                broken = True
                continue
            for i in range(offsets[bucket], offsets[bucket + 1]):
                label = walk.class_order[r * walk.num_labels + i]
                # A class is in one bucket of a repetition.
                if label < 0 or label >= walk.num_labels or taken.counts[label] > r:
                    broken = True
                    continue
                if taken.counts[label] == 0:
                    taken.found[num_found] = label
                    num_found += 1
                taken.counts[label] += 1
    return -1 if broken else num_found


cdef int lowest_count(Walk *walk, Taken *taken, Py_ssize_t num_found) noexcept nogil:
    # ``min_count``, lowered until k classes have it.
    cdef Py_ssize_t i, enough = 0
    cdef int count
    memset(taken.having, 0, (walk.repetitions + 1) * sizeof(Py_ssize_t))
    for i in range(num_found):
        taken.having[taken.counts[taken.found[i]]] += 1
    count = walk.repetitions
    while True:
        enough += taken.having[count]
        if count == 1 or (count <= taken.min_count and enough >= walk.k):
            return count
        count -= 1


cdef int approximate_example(Walk *walk, Taken *taken, int *ids, float *scores) noexcept nogil:
    cdef Py_ssize_t num_found = find_classes(walk, taken), size = 0, i
    cdef float score = 0
    cdef int r, count, label, state = 1
    if num_found < 0:
        return BROKEN
    for r in range(walk.repetitions):
        walk.reached[r] = walk.scores[r * walk.num_buckets + greatest(
            walk.scores + r * walk.num_buckets, walk.num_buckets)]
    update_rest(walk)
    count = lowest_count(walk, taken, num_found)
    for i in range(num_found):
        label = taken.found[i]
        if taken.counts[label] >= count and state >= 0:
            state = score_class(walk, label, scores[0], size == walk.k, &score)
            if state > 0:
                size = offer(scores, ids, size, walk.k, score, label)
        taken.counts[label] = 0
    return DONE if state >= 0 else BROKEN


cdef int approximate_on_thread(
    const Walk *common, const Taken *common_taken, const float *bucket_scores, float *work,
    double *rest, int *numbers, uint16_t *counts, Py_ssize_t *having, int *ids, float *scores
) noexcept nogil:
    cdef Walk own = common[0]
    cdef Taken taken = common_taken[0]
    own.scores = bucket_scores
    own.reached = work
    own.values = own.reached + own.repetitions
    own.rest = rest
    own.looked_up = 0
    taken.scores = own.values + own.repetitions
    taken.buckets = numbers
    taken.found = numbers + taken.num_buckets
    taken.counts = counts
    taken.having = having
    return approximate_example(&own, &taken, ids, scores)


def approximate(
    const float[:, :, ::1] bucket_scores, const unsigned char[:, ::1] lookups, int bucket_bytes,
    const int[:, ::1] class_order, const int64_t[:, ::1] offsets, int aggregate,
    Py_ssize_t num_buckets_taken, int min_count, int[:, ::1] ids, float[:, ::1] scores,
    uint8_t[::1] state, float[:, ::1] work, double[:, ::1] rest, int[:, ::1] numbers,
    uint16_t[:, ::1] counts, Py_ssize_t[:, ::1] having
):
    """Top k among the classes of the best buckets into ``ids``, ``scores``, unsorted.

    ``state`` becomes 1, or 2 where the inverse and the lookups do not belong together. ``work``,
    ``rest``, ``numbers``, ``counts`` (all zero) and ``having`` have one row per thread.
    """
    cdef Walk common
    cdef Taken taken
    cdef Py_ssize_t example
    cdef int threads = <int>work.shape[0], thread
    common.lookups, common.bucket_bytes = &lookups[0, 0], bucket_bytes
    common.class_order, common.offsets = &class_order[0, 0], &offsets[0, 0]
    common.repetitions = <int>bucket_scores.shape[1]
    common.num_buckets = bucket_scores.shape[2]
    common.num_labels = class_order.shape[1]
    common.k, common.aggregate = ids.shape[1], aggregate
    taken.num_buckets, taken.min_count = num_buckets_taken, min_count
    for example in prange(
        bucket_scores.shape[0], num_threads=threads, schedule="dynamic", nogil=True
    ):
        thread = threadid()
        state[example] = approximate_on_thread(
            &common, &taken, &bucket_scores[example, 0, 0], &work[thread, 0], &rest[thread, 0],
            &numbers[thread, 0], &counts[thread, 0], &having[thread, 0], &ids[example, 0],
            &scores[example, 0],
        )
