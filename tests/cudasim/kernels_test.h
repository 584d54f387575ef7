/* kernels_test.h - the argument of kernels_test.cu, for the executor's own tests. */
#ifndef CUDASIM_KERNELS_TEST_H
#define CUDASIM_KERNELS_TEST_H
#include <stdint.h>

typedef struct k_test_args {
    uint64_t in, out;
    uint32_t n, mode;
} k_test_args;

#endif
