/* alloc.c - see alloc.h. */
#include "base/alloc.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static _Thread_local const char *frozen_phase;
static _Thread_local int64_t fail_countdown = -1;

static void check_frozen(size_t bytes) {
    if (frozen_phase == NULL) return;
    (void)fprintf(stderr, "alloc: %zu bytes requested during '%s'\n", bytes, frozen_phase);
    abort();
}

static bool must_fail(void) {
    if (fail_countdown < 0) return false;
    if (fail_countdown == 0) return true;
    fail_countdown--;
    return false;
}

static _Noreturn void exhausted(size_t bytes) {
    (void)fprintf(stderr, "alloc: out of memory (%zu bytes)\n", bytes);
    abort();
}

void *mem_try_alloc(size_t bytes) {
    check_frozen(bytes);
    return must_fail() ? NULL : malloc(bytes != 0 ? bytes : 1);
}

void *mem_try_calloc(size_t count, size_t bytes) {
    check_frozen(bytes);
    return must_fail() ? NULL : calloc(count != 0 ? count : 1, bytes != 0 ? bytes : 1);
}

void *mem_try_alloc_aligned(size_t align, size_t bytes) {
    check_frozen(bytes);
    size_t rounded = (bytes + align - 1) & ~(align - 1);
    return must_fail() || rounded < bytes ? NULL : aligned_alloc(align, rounded);
}

void *mem_try_realloc(void *p, size_t bytes) {
    check_frozen(bytes);
    return must_fail() ? NULL : realloc(p, bytes != 0 ? bytes : 1);
}

void *mem_alloc(size_t bytes) {
    check_frozen(bytes);
    void *p = malloc(bytes != 0 ? bytes : 1);
    if (p == NULL) exhausted(bytes);
    return p;
}

void *mem_calloc(size_t count, size_t bytes) {
    check_frozen(bytes);
    void *p = calloc(count != 0 ? count : 1, bytes != 0 ? bytes : 1);
    if (p == NULL) exhausted(bytes);
    return p;
}

void mem_free(void *p) { free(p); }

void mem_freeze(const char *phase) { frozen_phase = phase; }

void mem_thaw(void) { frozen_phase = NULL; }

void mem_fail_after(int64_t count) { fail_countdown = count; }
