/* synth_random.c - random weights, made from (tensor, row, position) alone.
 *
 * Integers only until the last multiplication, so the bytes are the same on every
 * machine.  A value is the sum of four random bytes less its mean, which is close
 * enough to a normal distribution (Irwin-Hall of order 4).  Block types are filled
 * directly: a quantizer would make a 70B model take an hour.
 * Source of the mixer: Steele, Lea and Flood 2014 (SplitMix64). */
#include "base/assert.h"
#include "model/synth_internal.h"
#include "tensor/convert.h"
#include "tensor/quant.h"

/* Standard deviations of what the integer generators give:
 * sum of 4 bytes: sqrt(4 * (256^2 - 1) / 12); that divided by 4, toward zero;
 * and of the 16 nibble levels below, sqrt(218 / 16). */
#define SUM_SIGMA     147.80166f
#define QUARTER_SIGMA 36.57f
#define NIBBLE_SIGMA  3.691206f

enum { BLOCK = 32 };

static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t synth_next(synth_stream *s) {
    s->state += 0x9e3779b97f4a7c15u;
    return mix(s->state);
}

static synth_stream stream_of(uint32_t tensor, uint64_t row) {
    return (synth_stream){mix(mix((uint64_t)tensor + 1) + row)};
}

/* Two sums of four bytes each, less their mean: -510 .. 510. */
static void next_sums(synth_stream *s, int32_t out[2]) {
    const uint64_t even_bytes = 0x00ff00ff00ff00ffu;
    uint64_t x = synth_next(s);
    uint64_t pairs = (x & even_bytes) + ((x >> 8) & even_bytes); /* four 16-bit sums of two */
    uint64_t quads = pairs + (pairs >> 16);                      /* in bits 0.. and 32.. */
    out[0] = (int32_t)(quads & 0xffffu) - 510;
    out[1] = (int32_t)(quads >> 32 & 0xffffu) - 510;
}

/* --- one number per element -------------------------------------------------- */
static void fill_f32(synth_stream *s, float scale, uint32_t cols, float *out) {
    int32_t sums[2];
    for (uint32_t i = 0; i < cols; i += 2) {
        next_sums(s, sums);
        out[i] = (float)sums[0] * scale;
        if (i + 1 < cols) out[i + 1] = (float)sums[1] * scale;
    }
}

static void fill_floats(dtype t, synth_stream *s, float sigma, uint32_t cols, uint8_t *row) {
    enum { PART = 256 };
    float part[PART];
    const uint32_t bytes = dtype_get((uint32_t)t)->block_bytes;
    for (uint32_t i = 0; i < cols; i += PART) {
        uint32_t n = cols - i < PART ? cols - i : PART;
        fill_f32(s, sigma / SUM_SIGMA, n, part);
        quant_row(t, part, NULL, row + (size_t)i * bytes, n);
    }
}

static void fill_f64(synth_stream *s, float sigma, uint32_t cols, uint8_t *row) {
    float pair[2];
    for (uint32_t i = 0; i < cols; i++) {
        if (i % 2 == 0) fill_f32(s, sigma / SUM_SIGMA, 2, pair);
        double v = (double)pair[i % 2];
        memcpy(row + (size_t)i * sizeof v, &v, sizeof v);
    }
}

/* --- block types ----------------------------------------------------------- */
static uint8_t *put_scale(uint8_t *block, float scale) {
    uint16_t h = convert_f32_to_f16(scale);
    memcpy(block, &h, sizeof h);
    return block + sizeof h;
}

static void fill_q8_0(synth_stream *s, float sigma, uint32_t cols, uint8_t *row) {
    int32_t sums[2];
    for (uint32_t i = 0; i < cols; i += BLOCK) {
        row = put_scale(row, sigma / QUARTER_SIGMA);
        for (uint32_t k = 0; k < BLOCK; k += 2) {
            next_sums(s, sums);
            *row++ = (uint8_t)(int8_t)(sums[0] / 4);
            *row++ = (uint8_t)(int8_t)(sums[1] / 4);
        }
    }
}

/* 16 equally likely levels, symmetric around the 8 that stands for zero and denser
 * there, so that a block looks like a quantized normal distribution. */
static const uint8_t levels[16] = {1, 3, 4, 5, 6, 6, 7, 7, 9, 9, 10, 10, 11, 12, 13, 15};

static void fill_q4_0(synth_stream *s, float sigma, uint32_t cols, uint8_t *row) {
    for (uint32_t i = 0; i < cols; i += BLOCK) {
        row = put_scale(row, sigma / NIBBLE_SIGMA);
        uint64_t x[2] = {synth_next(s), synth_next(s)};
        for (uint32_t k = 0; k < BLOCK / 2; k++, row++) {
            uint32_t byte = (uint32_t)(x[k / 8] >> (k % 8 * 8)) & 0xffu;
            *row = (uint8_t)(levels[byte & 15] | levels[byte >> 4] << 4);
        }
    }
}

void synth_fill_row(dtype t, uint32_t tensor, uint64_t row, float sigma, uint32_t cols,
                    void *bytes) {
    synth_stream s = stream_of(tensor, row);
    if (t == DTYPE_Q4_0)
        fill_q4_0(&s, sigma, cols, bytes);
    else if (t == DTYPE_Q8_0)
        fill_q8_0(&s, sigma, cols, bytes);
    else if (synth_has_blocks(t))
        synth_fill_blocks(t, &s, sigma, cols, bytes);
    else if (t == DTYPE_F64)
        fill_f64(&s, sigma, cols, bytes);
    else
        fill_floats(t, &s, sigma, cols, bytes);
}
