/* lora.h - low-rank adapters, bound to the weights of one engine.
 *
 * An adapter is read from its file (model/adapter.h), checked against every matrix it changes, and
 * used in place, or copied to the device that computes.  Requests name adapters by number; each use
 * holds the adapter until it is given back, so unloading one never takes weights away from a
 * sequence that runs.
 * Owner: the engine worker; engine thread only. */
#ifndef ENGINE_LORA_H
#define ENGINE_LORA_H

#include "backend/batch.h"
#include "engine/engine.h"

typedef struct lora_table lora_table;

typedef struct lora_report {
    uint32_t rank;    /* the largest of its matrices */
    uint32_t weights; /* matrices it changes */
    uint64_t bytes;   /* of them */
} lora_report;

/* `e` is borrowed and must outlive the table. */
NODISCARD status lora_table_create(lora_table **out, engine *e, uint32_t adapters_max, error *err);
void lora_table_destroy(lora_table *t);

/* A GGUF adapter file or a PEFT directory (adapter_config.json, adapter_model.safetensors).
 * ERR_INVALID when the number is in use, ERR_LIMIT when the table is full or a rank is larger than
 * the engine planned for, ERR_FORMAT naming the tensor and both numbers when a shape does not
 * match the model's, ERR_UNSUPPORTED when it changes something that cannot be adapted, ERR_NOMEM
 * when the device has no room for it. */
NODISCARD status lora_table_load(lora_table *t, uint32_t number, const char *path, lora_report *out,
                                 error *err);
/* What that adapter will take of the memory of the device of these options, to the byte where one
 * device has all layers, at most that where it has some; 0 on CPUs.  Errors as above. */
NODISCARD status lora_device_bytes(const model *m, const engine_options *opt, const char *path,
                                   uint64_t *bytes, error *err);
/* Not found any more from here on; its memory goes with its last use. */
NODISCARD status lora_table_unload(lora_table *t, uint32_t number, error *err);

/* Is there an adapter of that number, and what does it change? */
bool lora_table_get(const lora_table *t, uint32_t number, lora_report *out);

/* Add `scale` times the adapter to *mix and hold it; false when it is not loaded or the mix is
 * full. */
bool lora_table_use(lora_table *t, uint32_t number, float scale, lora_mix *mix);
/* Give back every use of *mix, which is empty then. */
void lora_table_give(lora_table *t, lora_mix *mix);

uint32_t lora_table_count(const lora_table *t); /* loaded ones */

#endif
