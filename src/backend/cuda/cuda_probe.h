/* cuda_probe.h - which GPUs there are, which of them we can use, and what would make the others
 * usable.
 *
 * Each "no" comes with one line that says why and one that says what to do.  Nothing here fails: a
 * machine without a GPU is an answer, too.  No context is made on any card unless the free memory
 * is asked for.  Caller's thread. */
#ifndef BACKEND_CUDA_CUDA_PROBE_H
#define BACKEND_CUDA_CUDA_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/cuda/cu_driver.h"
#include "backend/cuda/cuda_image.h"
#include "base/error.h"

enum { CUDA_DEVICES_MAX = 16 };

typedef struct cuda_probe_options {
    const char *library;     /* NULL: libcuda.so.1 of the system */
    const cu_driver *driver; /* NULL: load `library`; else this table is asked */
    const char *root;        /* NULL: the machine's; else a folder that has proc, dev and sys */
    const char *visible;     /* CUDA_VISIBLE_DEVICES, NULL when it is not set */
    cuda_images images;      /* our kernels */
    bool measure_free;       /* makes a context on each usable card, for as long as it takes */
} cuda_probe_options;

typedef struct cuda_device_info {
    int ordinal; /* as the driver numbers them, after CUDA_VISIBLE_DEVICES */
    char name[96];
    char uuid[48]; /* "GPU-6fd1ab1c-..." */
    char pci[24];  /* "0000:01:00.0" */
    int cc;        /* 75: compute capability 7.5 */
    uint32_t sm_count;
    uint64_t memory_bytes;
    uint64_t free_bytes; /* where free_known */
    bool free_known;
    bool usable;
    char why[256], fix[256]; /* "" when usable */
    int code_path;           /* 750, 800 or 900; 0 when there is no code for it */
    char image[24];          /* "sm_75 cubin", "PTX", "" */
} cuda_device_info;

typedef struct cuda_probe_report {
    cu_driver driver; /* initialised where driver_usable; lives as long as the report */
    bool driver_found;
    bool driver_usable;
    char driver_path[256];
    int driver_version;      /* 12040: CUDA 12.4; 0 unknown */
    uint32_t usable_count;   /* of devices */
    char why[256], fix[256]; /* why no GPU is used: "" when usable_count > 0 */
    uint32_t devices_count;
    uint32_t devices_left_out; /* beyond CUDA_DEVICES_MAX */
    cuda_device_info devices[CUDA_DEVICES_MAX];
} cuda_probe_report;

void cuda_probe(const cuda_probe_options *opt, cuda_probe_report *out);

/* What is free on a GPU beside a context of ours, which is there for as long as it takes. */
cu_result cuda_free_bytes(const cu_driver *d, int ordinal, size_t *free_bytes);

/* The device that `selector` names: its number, its UUID or a beginning of it that no other one has
 * (with or without "GPU-"), or its PCI id with or without domain.  NULL, "" or "auto": the usable
 * one with the most memory.  ERR_NOT_FOUND lists what there is, ERR_INVALID names the two that
 * match, ERR_UNSUPPORTED says why it cannot be used. */
NODISCARD status cuda_choose(const cuda_probe_report *report, const char *selector,
                             const cuda_device_info **out, error *err);

/* The devices that a list of such selectors names, "0,1", in its order; "all": every usable one,
 * the one with the most memory first, as with what cuda_choose() takes for NULL.  No more than
 * `most`, which ERR_LIMIT names.  The same device twice is ERR_INVALID. */
NODISCARD status cuda_choose_list(const cuda_probe_report *report, const char *selectors,
                                  uint32_t most, const cuda_device_info **out, uint32_t *count,
                                  error *err);

/* Every usable device, the one with the most memory first; returns how many there are, of which
 * the first `most` are in `out`. */
uint32_t cuda_usable(const cuda_probe_report *report, uint32_t most, const cuda_device_info **out);

#endif
