/* One pass of dual coordinate descent over LANES problems at once (see _linear_solver.pyx).

   Included once per number type, with REAL, BITS (the signed integer of its width) and NAMED(name)
   defined. The problems share the features of their examples: a non-zero of a row is multiplied
   with LANES neighbouring weights, one cache line, by one vector instruction. */

#ifndef TFXC_LINEAR_LANES
#define TFXC_LINEAR_LANES
typedef struct {
    const int64_t *row_splits; /* (n + 1,) */
    const int32_t *columns;    /* (nnz,): rows of weights */
    const float *values;       /* (nnz,) */
    const float *own;          /* (n,): sum of squares of the columns that only this row has */
    const float *norms;        /* (n,): sum of squares of the whole row and the bias */
    const float *terms;        /* (n, LANES): see _linear_solver.pyx */
    uint16_t *active;          /* (n,): a bit per lane */
    const int32_t *order;      /* (visits,): the rows to visit */
    int64_t visits;
    int64_t bias_column;
    float bias;
    int squared;
    void *weights; /* REAL (columns, LANES), on a cache line's boundary */
    void *duals;   /* REAL (n, LANES), on a cache line's boundary */
    /* A dual of zero rests where its gradient is above high_before, a full one below low_before. */
    double high_before[LANES], low_before[LANES];
    double high[LANES], low[LANES]; /* greatest and least projected gradient of the pass */
    uint16_t rested;                /* lanes in which a row was put to rest */
} Pass;

typedef struct {
    const void *weights;     /* REAL (slots, LANES) */
    const int32_t *places;   /* (slots,): what a slot is called */
    int64_t slots;
    const void *duals;       /* REAL (n, LANES) */
    const float *terms;      /* (n, LANES): have the signs of the duals */
    const int32_t *rows;     /* (singles,): the only row that has a column */
    const int32_t *columns;  /* (singles,): what the column is called */
    const float *values;     /* (singles,): its value there */
    int64_t singles;
    double least;            /* magnitude of what is kept */
    int64_t ends[LANES];     /* entries of each lane; where its next one is put */
} Kept;
#endif

#define WORDS ((int)(STEP_BYTES / sizeof(REAL)))
typedef REAL NAMED(lanes) __attribute__((vector_size(LANES * sizeof(REAL))));
typedef REAL NAMED(part) __attribute__((vector_size(STEP_BYTES)));
typedef BITS NAMED(mask) __attribute__((vector_size(STEP_BYTES)));
typedef float NAMED(floats)
    __attribute__((vector_size(STEP_BYTES / sizeof(REAL) * 4), aligned(4)));

/* A mask's lane is all ones or all zeros. */
#define CHOOSE(which, yes, no) \
    ((NAMED(part))(((which) & (NAMED(mask))(yes)) | (~(which) & (NAMED(mask))(no))))

static inline __attribute__((always_inline)) int NAMED(any)(const NAMED(mask) *mask)
{
    uint64_t words[STEP_BYTES / 8], found = 0;
    memcpy(words, mask, STEP_BYTES);
    for (int i = 0; i < STEP_BYTES / 8; i++)
        found |= words[i];
    return found != 0;
}

/* Moves the duals of one row by the coordinate step, some lanes (the part `part`) at a time:
   `move` gets the change of dual times sign. Returns 0 where none moves. */
static inline __attribute__((always_inline)) int NAMED(step)(
    Pass *pass, int64_t row, int part, int squared, const NAMED(part) *score_at,
    NAMED(part) *move, NAMED(part) *high, NAMED(part) *low)
{
    const NAMED(part) zero = {0};
    const NAMED(mask) nothing = {0};
    const int first = part * WORDS;
    NAMED(part) *dual_at = (NAMED(part) *)((REAL *)pass->duals + row * LANES + first);
    const NAMED(part) dual = *dual_at, score = *score_at;
    const NAMED(part) term = __builtin_convertvector(
        *(const NAMED(floats) *)(pass->terms + row * LANES + first), NAMED(part));
    NAMED(part) high_before, low_before;
    NAMED(mask) lane_bits;
    for (int k = 0; k < WORDS; k++) {
        lane_bits[k] = 1 << (first + k);
        high_before[k] = (REAL)pass->high_before[first + k];
        low_before[k] = (REAL)pass->low_before[first + k];
    }
    const NAMED(mask) negative = term < zero;
    const NAMED(part) size = CHOOSE(negative, -term, term);
    const NAMED(part) diagonal = squared ? size : zero;
    const NAMED(part) gradient = CHOOSE(negative, -score, score) - (REAL)1
                                 + dual * (diagonal + (REAL)pass->own[row]);
    const NAMED(mask) active = (lane_bits & (BITS)pass->active[row]) != nothing;
    const NAMED(mask) at_low = dual <= zero;
    NAMED(mask) at_high = nothing;
    NAMED(part) target = dual - gradient / (diagonal + (REAL)pass->norms[row]);
    target = CHOOSE(target > zero, target, zero);
    if (!squared) {
        at_high = dual >= size;
        target = CHOOSE(target < size, target, size);
    }
    const NAMED(mask) rests = active & ((at_low & (gradient > high_before))
                                        | (at_high & (gradient < low_before)));
    const NAMED(mask) plays = active & ~rests;
    const NAMED(mask) stays = (at_low & (gradient > zero)) | (at_high & (gradient < zero));
    const NAMED(part) projected = CHOOSE(stays, zero, gradient);
    *high = CHOOSE(plays & (projected > *high), projected, *high);
    *low = CHOOSE(plays & (projected < *low), projected, *low);
    if (NAMED(any)(&rests)) {
        uint16_t bits = 0;
        for (int k = 0; k < WORDS; k++)
            bits |= (uint16_t)((rests[k] & 1) << (first + k));
        pass->active[row] &= (uint16_t)~bits;
        pass->rested |= bits;
    }
    const NAMED(mask) changes = plays & (target != dual);
    target = CHOOSE(changes, target, dual);
    *dual_at = target;
    target -= dual;
    *move = CHOOSE(negative, -target, target);
    return NAMED(any)(&changes);
}

TFXC_CLONES
static void NAMED(one_pass)(Pass *pass)
{
    NAMED(lanes) *weights = (NAMED(lanes) *)pass->weights;
    const int32_t *columns = pass->columns;
    const float *values = pass->values;
    const REAL bias = (REAL)pass->bias;
    union {
        NAMED(lanes) all;
        NAMED(part) parts[LANES / WORDS];
        REAL each[LANES];
    } score, move, high, low;
    for (int k = 0; k < LANES; k++) {
        high.each[k] = (REAL)-INFINITY;
        low.each[k] = (REAL)INFINITY;
    }
    for (int64_t visit = 0; visit < pass->visits; visit++) {
        const int64_t row = pass->order[visit];
        const int64_t begin = pass->row_splits[row], end = pass->row_splits[row + 1];
        if (visit + 2 < pass->visits) { /* the rows come in random order */
            const int64_t next = pass->order[visit + 2];
            const int64_t at = pass->row_splits[next];
            __builtin_prefetch(columns + at);
            __builtin_prefetch(values + at);
            __builtin_prefetch((REAL *)pass->duals + next * LANES);
            __builtin_prefetch(pass->terms + next * LANES);
        }
        NAMED(lanes) sum = weights[pass->bias_column] * bias;
        NAMED(lanes) second = {0}, third = {0}, fourth = {0};
        int64_t j = begin;
        for (; j + 4 <= end; j += 4) { /* four sums: no addition waits for the one before */
            sum += weights[columns[j]] * (REAL)values[j];
            second += weights[columns[j + 1]] * (REAL)values[j + 1];
            third += weights[columns[j + 2]] * (REAL)values[j + 2];
            fourth += weights[columns[j + 3]] * (REAL)values[j + 3];
        }
        for (; j < end; j++)
            sum += weights[columns[j]] * (REAL)values[j];
        score.all = (sum + second) + (third + fourth);
        int moves = 0;
        for (int part = 0; part < LANES / WORDS; part++)
            moves |= NAMED(step)(pass, row, part, pass->squared, &score.parts[part],
                                 &move.parts[part], &high.parts[part], &low.parts[part]);
        if (!moves)
            continue;
        sum = move.all;
        weights[pass->bias_column] += sum * bias;
        for (j = begin; j < end; j++)
            weights[columns[j]] += sum * (REAL)values[j];
    }
    for (int k = 0; k < LANES; k++) {
        pass->high[k] = (double)high.each[k];
        pass->low[k] = (double)low.each[k];
    }
}

/* The weights of a column that only one row has: its dual, with the row's sign, times the value. */
static inline __attribute__((always_inline)) NAMED(lanes) NAMED(single)(
    const Kept *kept, int64_t single)
{
    const int64_t row = kept->rows[single];
    const NAMED(lanes) dual = ((const NAMED(lanes) *)kept->duals)[row];
    const REAL value = (REAL)kept->values[single];
    NAMED(lanes) found;
    for (int k = 0; k < LANES; k++)
        found[k] = kept->terms[row * LANES + k] < 0 ? -dual[k] * value : dual[k] * value;
    return found;
}

/* Adds to the ends of the lanes how many weights each of them keeps. */
TFXC_CLONES
static void NAMED(count_kept)(Kept *kept)
{
    const NAMED(lanes) *weights = (const NAMED(lanes) *)kept->weights;
    const REAL least = (REAL)kept->least;
    BITS counts[LANES] = {0};
    for (int64_t i = 0; i < kept->slots + kept->singles; i++) {
        const NAMED(lanes) found
            = i < kept->slots ? weights[i] : NAMED(single)(kept, i - kept->slots);
        for (int k = 0; k < LANES; k++)
            counts[k] += (found[k] >= least) | (found[k] <= -least);
    }
    for (int k = 0; k < LANES; k++)
        kept->ends[k] += (int64_t)counts[k];
}

/* Puts the kept weights of each lane, and what their columns are called, to its end. */
TFXC_CLONES
static void NAMED(collect_kept)(Kept *kept, int32_t *places, float *values)
{
    const NAMED(lanes) *weights = (const NAMED(lanes) *)kept->weights;
    const REAL least = (REAL)kept->least;
    for (int64_t i = 0; i < kept->slots + kept->singles; i++) {
        const int is_single = i >= kept->slots;
        const NAMED(lanes) found
            = is_single ? NAMED(single)(kept, i - kept->slots) : weights[i];
        const int32_t place
            = is_single ? kept->columns[i - kept->slots] : kept->places[i];
        uint32_t which = 0;
        for (int k = 0; k < LANES; k++)
            which |= (uint32_t)((found[k] >= least) | (found[k] <= -least)) << k;
        for (; which; which &= which - 1) {
            const int k = __builtin_ctz(which);
            const int64_t end = kept->ends[k]++;
            places[end] = place;
            values[end] = (float)found[k];
        }
    }
}

#undef WORDS
#undef CHOOSE
