/* test_words.c - the words of ck.h that compute: halves, dp4a, 2^x, log2, 1/sqrt, 1/x, bits,
 * bytes.
 *
 * Of the floats that are no halves the executor gives what is nearest; a card is within two units
 * in the last place of it (PTX ISA, "ex2", "lg2", "rsqrt", "rcp"). */
#include <math.h>

#include "cudasim/kernels_test.h"
#include "cudasim/rig.h"
#include "test.h"

enum { THREADS = 256, BLOCKS = 256, HALVES = THREADS * BLOCKS, WORDS = 12 };

static float *run_words(const float *in) {
    float *out = rig_buffer((size_t)HALVES * WORDS * sizeof *out);
    k_test_args a = {.in = rig_at(in), .out = rig_at(out)};
    (void)rig_run(750, "k_test_words", &a, BLOCKS, 1, THREADS, 0);
    return out;
}

static float *positive_numbers(void) {
    float *in = rig_buffer(HALVES * sizeof *in);
    for (uint32_t i = 0; i < HALVES; i++)
        in[i] = ldexpf(1.0f + (float)rig_random(1 << 23) * 0x1p-23f, (int)rig_random(60) - 32);
    return in;
}

static uint32_t word_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* By the definition of binary16, IEEE 754-2008 3.4. */
static double half_value(uint32_t h) {
    int exponent = (int)(h >> 10 & 31), fraction = (int)(h & 1023);
    double v = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
    return h & 0x8000 ? -v : v;
}

TEST(sim_words_every_half_becomes_its_float_and_back) {
    const float *out = run_words(positive_numbers());
    uint32_t wrong = 0;
    for (uint32_t h = 0; h < HALVES; h++) {
        double got = (double)out[WORDS * h];
        uint32_t back = word_bits(out[WORDS * h + 1]);
        bool special = (h & 0x7c00) == 0x7c00, nan = special && (h & 1023) != 0;
        if (nan)
            wrong += !isnan(got) || back != 0x7fff;
        else
            wrong += (special ? !isinf(got) : got != half_value(h)) || back != h ||
                     signbit(got) != (h >> 15 != 0);
    }
    CHECK_EQ(wrong, 0);
    rig_done();
}

/* The half nearest to x > 0, by searching: halves are ordered like their bits. */
static uint32_t nearest_half(double x) {
    if (x >= 65520) return 0x7c00;
    uint32_t low = 0, high = 0x7bff;
    while (low < high) {
        uint32_t middle = (low + high + 1) / 2;
        if (half_value(middle) <= x)
            low = middle;
        else
            high = middle - 1;
    }
    double below = x - half_value(low), above = half_value(low + 1) - x;
    if (low == 0x7bff) above = 65536 - x;
    return above < below || (above == below && low % 2 == 1) ? low + 1 : low;
}

TEST(sim_words_float_becomes_the_nearest_half) {
    float *in = positive_numbers();
    for (uint32_t h = 0; h < 0x7c00; h++) /* halves, and what lies in the middle of two */
        in[2 * h] = (float)half_value(h),
               in[2 * h + 1] = (float)((half_value(h) + half_value(h + 1)) / 2);
    in[0x7bff * 2 + 1] = 65520;
    const float *out = run_words(in);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < HALVES; i++)
        wrong += word_bits(out[WORDS * i + 2]) != nearest_half((double)in[i]);
    CHECK_EQ(wrong, 0);
    rig_done();
}

/* With its sign; what is no number is 0x7fff. */
static uint32_t nearest_signed_half(double x) {
    if (isnan(x)) return 0x7fff;
    return nearest_half(fabs(x)) | (signbit(x) ? 0x8000u : 0);
}

static double half_number(uint32_t h) {
    if ((h & 0x7c00) != 0x7c00) return half_value(h & 0xffff);
    if ((h & 1023) != 0) return (double)NAN;
    return (h & 0x8000) != 0 ? -(double)INFINITY : (double)INFINITY;
}

TEST(sim_words_pairs_of_halves_are_rounded_once) {
    const float *out = run_words(positive_numbers());
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < HALVES; i++) {
        const uint32_t a = i * 0x9E3779B9u, b = i * 0x85EBCA6Bu;
        const uint32_t less = word_bits(out[WORDS * i + 9]), times = word_bits(out[WORDS * i + 10]);
        for (uint32_t at = 0; at < 32; at += 16) { /* either is exact in double */
            const double x = half_number(a >> at & 0xffff), y = half_number(b >> at & 0xffff);
            wrong += (less >> at & 0xffff) != nearest_signed_half(x - y);
            wrong += (times >> at & 0xffff) != nearest_signed_half(x * y);
        }
    }
    CHECK_EQ(wrong, 0);
    rig_done();
}

TEST(sim_words_bytes_are_those_that_digits_name) {
    const float *out = run_words(positive_numbers());
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < HALVES; i++) {
        const uint64_t both = (uint64_t)(i * 0x85EBCA6Bu) << 32 | i * 0x9E3779B9u;
        const uint32_t got = word_bits(out[WORDS * i + 11]);
        for (uint32_t b = 0; b < 4; b++)
            wrong += (got >> 8 * b & 255) != (both >> 8 * (i >> 4 * b & 7) & 255);
    }
    CHECK_EQ(wrong, 0);
    rig_done();
}

static uint32_t ones(uint32_t v) {
    uint32_t n = 0;
    for (; v != 0; v >>= 1) n += v & 1u;
    return n;
}

static uint32_t dot4(uint32_t a, uint32_t b, uint32_t c) {
    for (int i = 0; i < 32; i += 8) c += (uint32_t)((int8_t)(a >> i) * (int8_t)(b >> i));
    return c;
}

TEST(sim_words_numbers_are_the_hosts) {
    const double near = rig_is_card() ? 0x1p-21 : 0x1p-23;
    const float *in = positive_numbers(), *out = run_words(in);
    uint32_t wrong_dots = 0, wrong_ones = 0, rounded_reciprocals = 0;
    double worst = 0;
    for (uint32_t i = 0; i < HALVES; i++) {
        const float *o = out + (size_t)WORDS * i;
        double x = (double)in[i];
        wrong_dots += word_bits(o[3]) != dot4(i * 0x9E3779B9u, i * 0x85EBCA6Bu, i);
        wrong_ones += o[8] != (float)ones(i * 0x9E3779B9u);
        if (x < 100) worst = fmax(worst, fabs((double)o[4] / exp2(x) - 1));
        worst = fmax(worst, fabs((double)o[5] - log2(x)) / fmax(1, fabs(log2(x))));
        worst = fmax(worst, fabs((double)o[6] * sqrt(x) - 1));
        uint32_t top = word_bits(in[i]) & 0xffff0000u;
        float as_bf16;
        memcpy(&as_bf16, &top, sizeof as_bf16);
        rounded_reciprocals += o[7] != 1.0f / as_bf16;
        worst = fmax(worst, fabs((double)o[7] * (double)as_bf16 - 1));
    }
    CHECK_EQ(wrong_dots, 0);
    CHECK_EQ(wrong_ones, 0);
    if (!rig_is_card()) CHECK_EQ(rounded_reciprocals, 0);
    CHECK(worst < near);
    rig_done();
}
