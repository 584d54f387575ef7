/* packed.c - see packed.h.
 *
 * Rows are read in panels of up to eight, cut where row numbers are multiples of eight: there
 * one word of AWQ holds one input of all eight, eight neighbouring words of GPTQ hold eight
 * inputs each, and one word of zero points holds those of all eight.
 *
 *   input i --->   0 ... 7 | 8 ... 15 | ...        GPTQ: word (i / 8, row)
 *   row r          eight floats per word           INT4: word (row, i / 8)
 *   row r + 1      ...                             AWQ:  word (i, row / 8)
 *
 * Scales and zero points of a group are decoded once per panel and kept in a small cache, since
 * act-order files visit their groups in any order. */
#include "tensor/packed.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/num.h"
#include "tensor/convert.h"

enum {
    PANEL_ROWS = 8,
    WORD_QUANTA = 8, /* 4-bit numbers in 32 bits */
    SYMMETRIC_ZERO = 8,
    BLOCK_OCTETS = 8,
    BLOCK_INPUTS = BLOCK_OCTETS * WORD_QUANTA,
    CACHE_GROUPS = 128, /* 8192 inputs in groups of 64 */
};

const char *packed_name(const packed_matrix *m) {
    static const char *const names[] = {
        [PACKED_GPTQ] = "GPTQ int4", [PACKED_AWQ] = "AWQ int4", [PACKED_INT4] = "int4",
        [PACKED_INT8] = "int8",      [PACKED_FP8] = "FP8",
    };
    return (uint32_t)m->kind <= PACKED_FP8 ? names[m->kind] : "?";
}

/* --- shape ----------------------------------------------------------------------- */
static bool is_nibbles(const packed_matrix *m) {
    return m->kind == PACKED_GPTQ || m->kind == PACKED_AWQ || m->kind == PACKED_INT4;
}

/* Stored as [inputs, outputs], scales and zero points too. */
static bool is_transposed(const packed_matrix *m) {
    return m->kind == PACKED_GPTQ || m->kind == PACKED_AWQ;
}

static uint32_t groups_of(const packed_matrix *m) { return num_div_up_u32(m->cols, m->group); }

/* Words that hold `count` 4-bit numbers. */
static size_t words_of(uint32_t count) { return num_div_up_u32(count, WORD_QUANTA); }

static uint64_t data_bytes(const packed_matrix *m) {
    switch (m->kind) {
    case PACKED_GPTQ:
        return words_of(m->cols) * m->rows * sizeof(uint32_t);
    case PACKED_AWQ:
        return words_of(m->rows) * m->cols * sizeof(uint32_t);
    case PACKED_INT4:
        return words_of(m->cols) * m->rows * sizeof(uint32_t);
    case PACKED_INT8:
    case PACKED_FP8:
        break;
    }
    return (uint64_t)m->rows * m->cols;
}

packed_sizes packed_sizes_of(const packed_matrix *m) {
    const uint64_t groups = groups_of(m);
    const uint64_t scale_bytes = m->scale_type == DTYPE_F32 ? 4 : 2;
    return (packed_sizes){
        .data = data_bytes(m),
        .scales = num_div_up_u32(m->rows, m->row_group) * groups * scale_bytes,
        .zeros = m->zeros != NULL ? words_of(m->rows) * groups * sizeof(uint32_t) : 0,
        .g_idx = m->g_idx != NULL ? (uint64_t)m->cols * sizeof(int32_t) : 0,
    };
}

uint64_t packed_bytes(const packed_matrix *m) {
    const packed_sizes n = packed_sizes_of(m);
    return n.data + n.scales + n.zeros + n.g_idx;
}

/* --- check ----------------------------------------------------------------------- */
static status check_shape(const packed_matrix *m, str name, error *err) {
    if (m->rows == 0 || m->cols == 0 || m->rows > INT32_MAX || m->cols > INT32_MAX)
        return error_set(err, ERR_FORMAT, "'%.*s': %s of %u rows and %u columns", STR(name),
                         packed_name(m), m->rows, m->cols);
    if (m->group == 0 || m->row_group == 0)
        return error_set(err, ERR_FORMAT, "'%.*s': %s with a scale for every %u columns of %u rows",
                         STR(name), packed_name(m), m->group, m->row_group);
    if (m->scale_type != DTYPE_F32 && m->scale_type != DTYPE_F16 && m->scale_type != DTYPE_BF16)
        return error_set(err, ERR_UNSUPPORTED,
                         "'%.*s': scales of %s are %s, must be F32, F16 or BF16", STR(name),
                         packed_name(m), dtype_name(m->scale_type));
    if (is_nibbles(m) && m->row_group != 1)
        return error_set(err, ERR_UNSUPPORTED, "'%.*s': %s with one scale for %u rows, must be 1",
                         STR(name), packed_name(m), m->row_group);
    if (!is_nibbles(m) && (m->zeros != NULL || m->g_idx != NULL))
        return error_set(err, ERR_UNSUPPORTED, "'%.*s': %s with %s", STR(name), packed_name(m),
                         m->zeros != NULL ? "zero points" : "an order of groups");
    return OK;
}

static status check_bytes(const packed_matrix *m, str name, const char *what, uint64_t have,
                          uint64_t want, error *err) {
    if (have == want) return OK;
    return error_set(err, ERR_FORMAT,
                     "'%.*s': %s of %s [%u, %u] have %" PRIu64 " bytes, must have %" PRIu64,
                     STR(name), what, packed_name(m), m->rows, m->cols, have, want);
}

static uint32_t load_u32(const void *words, size_t idx) {
    uint32_t v;
    memcpy(&v, (const char *)words + idx * sizeof v, sizeof v);
    return v;
}

static status check_groups(const packed_matrix *m, str name, error *err) {
    const uint32_t groups = groups_of(m);
    for (uint32_t i = 0; m->g_idx != NULL && i < m->cols; i++) {
        const uint32_t g = load_u32(m->g_idx, i);
        if (g >= groups)
            return error_set(err, ERR_FORMAT, "'%.*s': column %u is in group %d, there are %u",
                             STR(name), i, (int32_t)g, groups);
    }
    return OK;
}

status packed_check(const packed_matrix *m, str name, const packed_sizes *have, error *err) {
    TRY(check_shape(m, name, err));
    const packed_sizes want = packed_sizes_of(m);
    TRY(check_bytes(m, name, "the weights", have->data, want.data, err));
    TRY(check_bytes(m, name, "the scales", have->scales, want.scales, err));
    TRY(check_bytes(m, name, "the zero points", have->zeros, want.zeros, err));
    TRY(check_bytes(m, name, "the group numbers", have->g_idx, want.g_idx, err));
    return check_groups(m, name, err);
}

/* --- scales and zero points --------------------------------------------------------- */
static float load_scale(const packed_matrix *m, size_t idx) {
    uint16_t half;
    if (m->scale_type == DTYPE_F32) return convert_bits_f32(load_u32(m->scales, idx));
    memcpy(&half, (const char *)m->scales + idx * sizeof half, sizeof half);
    return m->scale_type == DTYPE_F16 ? convert_f16_to_f32(half) : convert_bf16_to_f32(half);
}

/* Where output 0 to 7 lies in a word, in bits. */
static const uint8_t plain_shifts[WORD_QUANTA] = {0, 4, 8, 12, 16, 20, 24, 28};
static const uint8_t awq_shifts[WORD_QUANTA] = {0, 16, 4, 20, 8, 24, 12, 28};

typedef struct panel_group {
    uint32_t group_plus_1;   /* 0: nothing here yet */
    float scale[PANEL_ROWS]; /* 0 beyond the panel's rows */
    float zero[PANEL_ROWS];
} panel_group;

typedef struct panel {
    const packed_matrix *m;
    uint32_t row0; /* row0 / 8 == (row0 + rows - 1) / 8 */
    uint32_t rows; /* 1 .. PANEL_ROWS */
    float *out;    /* [rows, cols] */
    panel_group cache[CACHE_GROUPS];
} panel;

static float decode_zero(const packed_matrix *m, uint32_t word, uint32_t row) {
    const uint8_t *shifts = m->kind == PACKED_AWQ ? awq_shifts : plain_shifts;
    const uint32_t stored = word >> shifts[row % WORD_QUANTA] & 15u;
    /* AutoGPTQ adds in a number that wraps: a stored 15 of a v1 file means 0. */
    return (float)(m->kind == PACKED_GPTQ ? (stored + m->zero_offset) & 15u : stored);
}

static void decode_group(const panel *p, uint32_t group, panel_group *out) {
    const packed_matrix *m = p->m;
    const size_t groups = groups_of(m), octet = p->row0 / WORD_QUANTA;
    const bool transposed = is_transposed(m);
    uint32_t word = 0;
    if (m->zeros != NULL)
        word = load_u32(m->zeros,
                        transposed ? group * words_of(m->rows) + octet : octet * groups + group);
    *out = (panel_group){.group_plus_1 = group + 1};
    for (uint32_t r = 0; r < p->rows; r++) {
        const uint32_t row = p->row0 + r;
        out->scale[r] = load_scale(m, transposed ? (size_t)group * m->rows + row
                                                 : (size_t)row * groups + group);
        out->zero[r] = m->zeros != NULL ? decode_zero(m, word, row) : SYMMETRIC_ZERO;
    }
}

/* Of input i; valid until the next call. */
static const panel_group *group_at(panel *p, uint32_t i) {
    const packed_matrix *m = p->m;
    const uint32_t group = m->g_idx != NULL ? load_u32(m->g_idx, i) : i / m->group;
    panel_group *g = &p->cache[group % CACHE_GROUPS];
    if (g->group_plus_1 != group + 1) decode_group(p, group, g);
    return g;
}

/* --- 4 bit --------------------------------------------------------------------------- */
/* Differences of small whole numbers are exact, so that a weight is rounded once, in its product
 * with the scale, whichever of these functions makes it. */
typedef float four_floats __attribute__((vector_size(16)));
typedef uint32_t four_words __attribute__((vector_size(16)));
typedef int32_t four_ints __attribute__((vector_size(16)));

/* Of 64 inputs of a panel; 0 beyond the panel's rows. */
typedef struct block_words {
    uint32_t of[BLOCK_OCTETS][PANEL_ROWS];
} block_words;

static inline four_floats four_of(four_words quanta, four_floats zero, four_floats scale) {
    /* by way of int: converting unsigned numbers takes several instructions */
    return scale * (__builtin_convertvector((four_ints)quanta, four_floats) - zero);
}

static inline four_floats four_times(float f) { return (four_floats){f, f, f, f}; }

/* The four quanta of 16 bits, masked in place and scaled down, which is exact: that needs no shift
 * by different amounts. */
static inline void put_four(float *out, uint32_t half, float zero, float scale) {
    const four_words mask = {0xf, 0xf0, 0xf00, 0xf000};
    const four_floats unit = {0x1p0f, 0x1p-4f, 0x1p-8f, 0x1p-12f};
    const four_ints masked = (four_ints)((four_words){half, half, half, half} & mask);
    const four_floats quanta = __builtin_convertvector(masked, four_floats) * unit;
    const four_floats weights = four_times(scale) * (quanta - four_times(zero));
    memcpy(out, &weights, sizeof weights);
}

/* Inputs i .. i + 8 * octets - 1, each octet in one group.  Row after row: eight rows written in
 * turn would push each other out of the cache where their length is a power of two. */
static void put_octets(panel *p, uint32_t i, uint32_t octets, const block_words *words) {
    const panel_group *groups[BLOCK_OCTETS]; /* neighbours have places of their own */
    for (uint32_t w = 0; w < octets; w++) groups[w] = group_at(p, i + w * WORD_QUANTA);
    for (uint32_t r = 0; r < p->rows; r++) {
        float *out = p->out + (size_t)r * p->m->cols + i;
        for (uint32_t w = 0; w < octets; w++, out += WORD_QUANTA) {
            const float zero = groups[w]->zero[r], scale = groups[w]->scale[r];
            put_four(out, words->of[w][r] & 0xffff, zero, scale);
            put_four(out + 4, words->of[w][r] >> 16, zero, scale);
        }
    }
}

/* Inputs i .. i + count - 1, each in a group of its own: rows side by side, then turned. */
static void put_singly(panel *p, uint32_t i, uint32_t count, const block_words *words) {
    float turned[BLOCK_INPUTS][PANEL_ROWS];
    for (uint32_t j = 0; j < count; j++) {
        const panel_group *g = group_at(p, i + j);
        const uint32_t shift = j % WORD_QUANTA * 4;
        four_floats zero[2], scale[2];
        four_words quanta[2];
        memcpy(zero, g->zero, sizeof zero);
        memcpy(scale, g->scale, sizeof scale);
        memcpy(quanta, words->of[j / WORD_QUANTA], sizeof quanta);
        const four_floats weights[2] = {four_of(quanta[0] >> shift & 15u, zero[0], scale[0]),
                                        four_of(quanta[1] >> shift & 15u, zero[1], scale[1])};
        memcpy(turned[j], weights, sizeof weights);
    }
    for (uint32_t r = 0; r < p->rows; r++) {
        float *out = p->out + (size_t)r * p->m->cols + i;
        for (uint32_t j = 0; j < count; j++) out[j] = turned[j][r];
    }
}

/* GPTQ and INT4: a word holds consecutive inputs of one row. */
static void panel_by_inputs(panel *p) {
    const packed_matrix *m = p->m;
    const bool octets_whole = m->g_idx == NULL && m->group % WORD_QUANTA == 0;
    const bool transposed = is_transposed(m);
    const size_t row_words = words_of(m->cols);
    block_words words = {0};
    for (uint32_t i = 0; i < m->cols; i += BLOCK_INPUTS) {
        const uint32_t count = num_min_u32(BLOCK_INPUTS, m->cols - i);
        for (size_t w = 0; w < words_of(count); w++)
            for (uint32_t r = 0; r < p->rows; r++) {
                const size_t word = i / WORD_QUANTA + w, row = p->row0 + r;
                words.of[w][r] =
                    load_u32(m->data, transposed ? word * m->rows + row : row * row_words + word);
            }
        if (octets_whole && count % WORD_QUANTA == 0)
            put_octets(p, i, count / WORD_QUANTA, &words);
        else
            put_singly(p, i, count, &words);
    }
}

/* Inputs i .. i + count - 1, one word per input, each four in one group; row after row. */
static void put_fours(panel *p, uint32_t i, uint32_t count, const uint32_t *words) {
    const uint8_t *shifts = awq_shifts + p->row0 % WORD_QUANTA;
    const panel_group *groups[BLOCK_INPUTS / 4];
    for (uint32_t j = 0; j < count; j += 4) groups[j / 4] = group_at(p, i + j);
    for (uint32_t r = 0; r < p->rows; r++)
        for (uint32_t j = 0; j < count; j += 4) {
            const panel_group *g = groups[j / 4];
            four_words quanta;
            memcpy(&quanta, words + j, sizeof quanta);
            const four_floats weights = four_of(quanta >> (uint32_t)shifts[r] & 15u,
                                                four_times(g->zero[r]), four_times(g->scale[r]));
            memcpy(p->out + (size_t)r * p->m->cols + i + j, &weights, sizeof weights);
        }
}

/* Likewise, each input in a group of its own. */
static void put_ones(panel *p, uint32_t i, uint32_t count, const uint32_t *words) {
    const uint8_t *shifts = awq_shifts + p->row0 % WORD_QUANTA;
    for (uint32_t j = 0; j < count; j++) {
        const panel_group *g = group_at(p, i + j);
        for (uint32_t r = 0; r < p->rows; r++)
            p->out[(size_t)r * p->m->cols + i + j] =
                g->scale[r] * ((float)(words[j] >> shifts[r] & 15u) - g->zero[r]);
    }
}

/* AWQ: a word holds one input of eight rows. */
static void panel_by_outputs(panel *p) {
    const packed_matrix *m = p->m;
    const size_t row_words = words_of(m->rows), octet = p->row0 / WORD_QUANTA;
    const bool fours_whole = m->g_idx == NULL && m->group % 4 == 0;
    uint32_t words[BLOCK_INPUTS];
    for (uint32_t i = 0; i < m->cols; i += BLOCK_INPUTS) {
        const uint32_t count = num_min_u32(BLOCK_INPUTS, m->cols - i);
        for (uint32_t j = 0; j < count; j++)
            words[j] = load_u32(m->data, (i + j) * row_words + octet);
        if (fours_whole && count % 4 == 0)
            put_fours(p, i, count, words);
        else
            put_ones(p, i, count, words);
    }
}

static void nibble_rows(const packed_matrix *m, uint32_t row0, uint32_t count, float *out) {
    panel p;
    p.m = m;
    while (count > 0) {
        p.row0 = row0;
        p.rows = num_min_u32(count, PANEL_ROWS - row0 % PANEL_ROWS);
        p.out = out;
        for (uint32_t g = 0; g < CACHE_GROUPS; g++) p.cache[g].group_plus_1 = 0;
        if (m->kind == PACKED_AWQ)
            panel_by_outputs(&p);
        else
            panel_by_inputs(&p);
        row0 += p.rows;
        count -= p.rows;
        out += (size_t)p.rows * m->cols;
    }
}

/* --- 8 bit ---------------------------------------------------------------------------- */
/* Of one sign, exponents 0 and 1 to 15 with eight mantissas each: (8 + mantissa) * 2^(exponent -
 * 10), subnormal mantissa * 2^-9.  No infinity; the last one is no number.
 * Source: OCP 8-bit Floating Point Specification, E4M3. */
#define E4M3_SEVEN(sign, first, unit)                                                            \
    (sign) * (first) * (unit), (sign) * ((first) + 1) * (unit), (sign) * ((first) + 2) * (unit), \
        (sign) * ((first) + 3) * (unit), (sign) * ((first) + 4) * (unit),                        \
        (sign) * ((first) + 5) * (unit), (sign) * ((first) + 6) * (unit)
#define E4M3_EIGHT(sign, first, unit) E4M3_SEVEN(sign, first, unit), (sign) * ((first) + 7) * (unit)
#define E4M3_FOUR_EXPONENTS(sign, unit)                               \
    E4M3_EIGHT(sign, 8.0f, unit), E4M3_EIGHT(sign, 8.0f, 2 * (unit)), \
        E4M3_EIGHT(sign, 8.0f, 4 * (unit)), E4M3_EIGHT(sign, 8.0f, 8 * (unit))
#define E4M3_HALF(sign)                                                         \
    E4M3_EIGHT(sign, 0.0f, 0x1p-9f), E4M3_EIGHT(sign, 8.0f, 0x1p-9f),           \
        E4M3_EIGHT(sign, 8.0f, 0x1p-8f), E4M3_EIGHT(sign, 8.0f, 0x1p-7f),       \
        E4M3_FOUR_EXPONENTS(sign, 0x1p-6f), E4M3_FOUR_EXPONENTS(sign, 0x1p-2f), \
        E4M3_EIGHT(sign, 8.0f, 0x1p2f), E4M3_EIGHT(sign, 8.0f, 0x1p3f),         \
        E4M3_EIGHT(sign, 8.0f, 0x1p4f), E4M3_SEVEN(sign, 8.0f, 0x1p5f), NAN

static const float e4m3[256] = {E4M3_HALF(1.0f), E4M3_HALF(-1.0f)};

static void fp8_run(const uint8_t *codes, uint32_t count, float scale, float *out) {
    for (uint32_t i = 0; i < count; i++) out[i] = scale * e4m3[codes[i]];
}

static void int8_run(const uint8_t *codes, uint32_t count, float scale, float *out) {
    for (uint32_t i = 0; i < count; i++) out[i] = scale * (float)(int8_t)codes[i];
}

static void byte_row(const packed_matrix *m, uint32_t row, float *out) {
    const uint8_t *codes = (const uint8_t *)m->data + (size_t)row * m->cols;
    const size_t first_scale = (size_t)(row / m->row_group) * groups_of(m);
    for (uint32_t i = 0; i < m->cols; i += num_min_u32(m->group, m->cols - i)) {
        const uint32_t count = num_min_u32(m->group, m->cols - i);
        const float scale = load_scale(m, first_scale + i / m->group);
        if (m->kind == PACKED_FP8)
            fp8_run(codes + i, count, scale, out + i);
        else
            int8_run(codes + i, count, scale, out + i);
    }
}

void packed_rows(const packed_matrix *m, uint32_t row0, uint32_t count, float *out) {
    ASSERT(row0 <= m->rows && count <= m->rows - row0);
    if (is_nibbles(m)) {
        nibble_rows(m, row0, count, out);
        return;
    }
    for (uint32_t r = 0; r < count; r++) byte_row(m, row0 + r, out + (size_t)r * m->cols);
}
