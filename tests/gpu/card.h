/* card.h - a GPU opened for tests and measurements, through the layers that the program uses: found
 * by cuda_probe(), chosen by cuda_choose(), opened as a cuda_device.
 *
 * Beside the kernels of cuda/ it has those of card_kernels.cu, embedded in the same two forms.  One
 * thread. */
#ifndef TESTS_GPU_CARD_H
#define TESTS_GPU_CARD_H

#include "backend/cuda/cuda_device.h"
#include "backend/cuda/cuda_probe.h"
#include "json/write.h"

/* Which of the embedded forms of each kernel runs. */
typedef enum card_path {
    CARD_NATIVE, /* the one that the program takes on that card */
    CARD_PTX     /* the PTX of compute capability 7.5, whatever else there is */
} card_path;

typedef struct card {
    cuda_probe_report report; /* has the driver */
    cuda_device dev;
    const cuda_device_info *info; /* of report */
    double open_ms;               /* for the context and the kernels, compiled where they are PTX */
    cu_module own;                /* of card_kernels.cu */
} card;

/* device: as --device, NULL for the usable one with the most memory.  ERR_NOT_FOUND with the
 * probe's reason when there is nothing to run on. */
NODISCARD status card_open(card *out, const char *device, card_path path, error *err);
void card_close(card *c);

/* A kernel of cuda/kernels.def, else of card_kernels.cu; ERR_DEVICE where neither has it. */
typedef struct card_kernel {
    cu_function function; /* NULL: it is `id` */
    cuda_kernel_id id;
    const char *name;
} card_kernel;
NODISCARD status card_find(card *c, const char *name, card_kernel *out, error *err);

typedef struct card_grid {
    uint32_t x, y, threads, shared_bytes;
} card_grid;
/* Queues it; the failure is the device's (cuda_sync). */
void card_launch(card *c, const card_kernel *k, card_grid grid, const void *args,
                 size_t args_bytes);

/* Name, compute capability, code and bytes taken, into an open object. */
void card_describe(const card *c, json_writer *w);

/* Why there is nothing to run on, in one line on stdout, for a program that ends then. */
void card_say_none(const error *err);

/* "--device", "--path": the options that all programs here have; false for another word. */
typedef struct card_options {
    const char *device;
    card_path path;
} card_options;
bool card_option(card_options *o, const char *name, const char *value);

#endif
