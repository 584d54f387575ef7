/* gpu_json.h - a snapshot of the GPUs as JSON, for /health and `gantry gpus --json`. */
#ifndef GPU_GPU_JSON_H
#define GPU_GPU_JSON_H

#include "gpu/gpu_snapshot.h"
#include "json/write.h"

typedef enum gpu_json_detail {
    GPU_JSON_PUBLIC, /* for a page that anybody may read: no process ids */
    GPU_JSON_ALL
} gpu_json_detail;

/* The members of one GPU, inside an object that the caller began; what is not known is null. */
void gpu_json_members(json_writer *w, const gpu_snapshot *s, uint32_t gpu, gpu_json_detail detail);

/* Does NVML answer, why not, versions: members as well. */
void gpu_json_source_members(json_writer *w, const gpu_snapshot *s);

/* A text, or null when it is empty. */
void gpu_json_text(json_writer *w, const char *key, const char *text);

#endif
