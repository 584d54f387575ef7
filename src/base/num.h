/* num.h - checked arithmetic on outside numbers, and small helpers.
 *
 * The checked forms answer "did it fit?" and leave *out untouched when it did not. */
#ifndef BASE_NUM_H
#define BASE_NUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool num_mul_u64(uint64_t *out, uint64_t a, uint64_t b) {
    uint64_t r = 0;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

static inline bool num_add_u64(uint64_t *out, uint64_t a, uint64_t b) {
    uint64_t r = 0;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

static inline bool num_mul_size(size_t *out, size_t a, size_t b) {
    size_t r = 0;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

static inline bool num_add_size(size_t *out, size_t a, size_t b) {
    size_t r = 0;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

static inline uint32_t num_min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }
static inline uint32_t num_max_u32(uint32_t a, uint32_t b) { return a > b ? a : b; }
static inline uint64_t num_min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t num_max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }
static inline size_t num_min_size(size_t a, size_t b) { return a < b ? a : b; }

/* ceil(a / b); b > 0. */
static inline uint32_t num_div_up_u32(uint32_t a, uint32_t b) { return a / b + (a % b != 0); }
static inline size_t num_div_up_size(size_t a, size_t b) { return a / b + (a % b != 0); }

/* Round up to a multiple of `align`, a power of two; the caller has checked that it fits. */
static inline size_t num_align_size(size_t a, size_t align) {
    return (a + align - 1) & ~(align - 1);
}

#endif
