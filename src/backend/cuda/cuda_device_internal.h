/* cuda_device_internal.h - what the files of the device share among themselves. */
#ifndef BACKEND_CUDA_CUDA_DEVICE_INTERNAL_H
#define BACKEND_CUDA_CUDA_DEVICE_INTERNAL_H

#include "backend/cuda/cuda_device.h"

/* cu_check() with the GPU in the message: "cuda: CALL on GPU 0 'Tesla T4': ...".  Keeps nothing. */
status cuda_check(const cuda_device *dev, cu_result code, const char *call, error *err);

/* cuda_note() that also fills *err. */
status cuda_try(cuda_device *dev, cu_result code, const char *call, error *err);

/* What was noted so far: OK, or the first failure, also in *err. */
status cuda_noted(const cuda_device *dev, error *err);

/* The driver said no to a launch that may start early: from now on there are none. */
void cuda_overlap_refused(cuda_device *dev, cu_result code);

/* Modules and kernels of dev->image; falls back from machine code to PTX, and says so there. */
NODISCARD status cuda_modules_load(cuda_device *dev, const cuda_images *images, error *err);
void cuda_modules_unload(cuda_device *dev);

#endif
