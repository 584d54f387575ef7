/* cuda_image.h - the form of our kernels that a card gets: machine code, or PTX that its driver
 * compiles.
 *
 * Machine code runs on cards of its major compute capability, from its minor one on, and loads with
 * drivers as new as the toolkit that made it; the PTX of blob.h is for all other cards and drivers.
 * Pure functions of bytes, for any thread. */
#ifndef BACKEND_CUDA_CUDA_IMAGE_H
#define BACKEND_CUDA_CUDA_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/cuda/blob.h"

enum {
    CUDA_DRIVER_MIN = 11040,        /* R470 */
    CUDA_DRIVER_FATBIN_MIN = 13000, /* R580: machine code of nvcc 13 */
    CUDA_CC_MIN = 75                /* Turing */
};

typedef struct cuda_images {
    const cuda_blob *blobs; /* borrowed, live as long as the process */
    size_t count;
} cuda_images;

/* Those in the binary. */
#define CUDA_IMAGES_EMBEDDED ((cuda_images){cuda_blobs, cuda_blobs_count})

typedef enum cuda_image_kind { CUDA_IMAGE_NONE, CUDA_IMAGE_FATBIN, CUDA_IMAGE_PTX } cuda_image_kind;

typedef struct cuda_image {
    cuda_image_kind kind;
    int code_path; /* CK_ARCH of what will run: 750, 800 or 900 */
    char name[24]; /* "sm_75 cubin", "PTX" */
} cuda_image;

/* For a card of compute capability `cc` (75: 7.5) with a driver of that version.  All blobs are
 * built alike, so the first one that has the part decides. */
cuda_image cuda_image_pick(const cuda_images *images, int cc, int driver_version);

/* The PTX of blob.h, for when a driver does not take what was picked. */
cuda_image cuda_image_ptx(const cuda_images *images, int cc);

#endif
