/* cuda_profile.h - the time of each launch of a step, by a pair of events around it, and what the
 * card could do.
 *
 * An event costs the stream a microsecond or so: kernels follow each other less closely while they
 * are measured.  Owner: the backend; its thread. */
#ifndef BACKEND_CUDA_PROFILE_H
#define BACKEND_CUDA_PROFILE_H

#include "backend/backend.h"
#include "backend/cuda/cuda_device.h"

typedef struct cuda_lowered cuda_lowered;

typedef struct cuda_profile {
    backend_task *tasks; /* owned; [count] the launches, then the copy of op INPUT; NULL: nothing is
                            measured */
    cu_event *events;    /* owned; [count, 2] before and after */
    uint32_t count;
    uint64_t began_ns; /* the step */
    uint64_t ns;       /* of the last step */
    backend_limit bytes;
    backend_limit ops[ROOF_ARITH_COUNT];
} cuda_profile;

/* The device is current on this thread. */
NODISCARD status cuda_profile_init(cuda_profile *f, cuda_device *dev, const program *p,
                                   const cuda_lowered *l, error *err);
void cuda_profile_deinit(cuda_profile *f, const cuda_device *dev); /* harmless when zeroed */

void cuda_profile_begin(cuda_profile *f); /* a step */
/* Around what is queued for task `idx`, under that name. */
void cuda_profile_before(cuda_profile *f, cuda_device *dev, uint32_t idx, const char *name);
void cuda_profile_after(const cuda_profile *f, cuda_device *dev, uint32_t idx);
/* All that was queued is done. */
void cuda_profile_end(cuda_profile *f, const cuda_device *dev, const program *p, const batch *in);

/* Of its memory: twice the clock (two transfers in each) times the width of the bus. */
backend_limit cuda_limit_bytes(const cuda_device *dev);
/* Of its arithmetic at the highest clock; not known for cards that the table lacks. */
backend_limit cuda_limit_ops(const cuda_device *dev, roof_arith arith);

#endif
