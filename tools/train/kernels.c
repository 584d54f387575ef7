/* kernels.c - which inner loops this machine runs. */
#include "train/kernels.h"

#include <stdbool.h>
#include <string.h>

static bool has_avx512(void) {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512f") != 0;
#else
    return false;
#endif
}

static bool has_avx2(void) {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
#else
    return false;
#endif
}

const kernels *kernels_find(const char *name) {
    const kernels *all[] = {has_avx512() ? kernels_avx512() : NULL,
                            has_avx2() ? kernels_avx2() : NULL, kernels_plain()};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i] != NULL && (name == NULL || strcmp(all[i]->name, name) == 0)) return all[i];
    return NULL;
}

const kernels *kernels_best(void) { return kernels_find(NULL); }
