/* gpu_table.h - NVML as a table of functions with two GPUs, which tests change as they like. */
#ifndef TEST_GPU_TABLE_H
#define TEST_GPU_TABLE_H

#include <stdatomic.h>

#include "gpu/nvml.h"

enum { GPU_TABLE_GPUS = 2 };

typedef struct gpu_table_state {
    atomic_uint count;
    atomic_int result[GPU_TABLE_GPUS]; /* of every question about that GPU */
    atomic_int init_result, count_result;
    atomic_uint started, stopped;   /* calls of init and shutdown */
    atomic_uint looks;              /* calls of device_count */
    atomic_uint links_asked;        /* calls of common_ancestor */
    atomic_ullong used_bytes;       /* of each GPU */
    atomic_bool used_with_reserved; /* version 2 counts the reserve twice */
    unsigned processes;             /* of each GPU: pids from 100, 1 MiB more each */
    unsigned long long throttle_reasons;
} gpu_table_state;

extern gpu_table_state gpu_table;

/* Everything as at the start; the table to ask. */
nvml gpu_table_new(void);

#endif
