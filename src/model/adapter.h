/* adapter.h - a low-rank adapter (LoRA, Hu et al. 2021) as its file has it.
 *
 * Two forms: a GGUF file ("general.type" adapter, "adapter.type" lora, tensors NAME.lora_a and
 * NAME.lora_b), and a PEFT directory (adapter_config.json, adapter_model.safetensors).  Both are
 * described in the tensor names of the model they are for; matrices stay in the mapped file, but
 * for rows that the model has in another order.  A file is hostile: names, shapes and types are
 * checked here against each other, and by the engine against its weights.
 * Immutable once open; any thread may read; views live as long as the adapter.
 * Sources: the GGUF adapter keys of ggml's converter; PEFT's checkpoint format page. */
#ifndef MODEL_ADAPTER_H
#define MODEL_ADAPTER_H

#include "base/error.h"
#include "model/model.h"

enum { ADAPTER_RANK_MAX = 4096, ADAPTER_PAIRS_MAX = 1 << 16 };

/* weight + scale * b . a */
typedef struct adapter_pair {
    str tensor;     /* name of the model's tensor */
    model_tensor a; /* [rank, cols] F32, F16 or BF16 */
    model_tensor b; /* [rows, rank] likewise */
    float scale;    /* alpha / rank, or alpha / sqrt(rank) where the adapter says so (rsLoRA) */
} adapter_pair;

typedef struct adapter adapter;

/* `m` is the model it is meant for; borrowed for the call.  ERR_FORMAT for another architecture, a
 * half pair, shapes that do not meet; ERR_UNSUPPORTED for what is no plain LoRA (DoRA, biases,
 * whole modules), by name. */
NODISCARD status adapter_open(adapter **out, const model *m, const char *path, error *err);
void adapter_close(adapter *a);

uint32_t adapter_count(const adapter *a);
const adapter_pair *adapter_get(const adapter *a, uint32_t idx); /* idx < count */
uint32_t adapter_rank(const adapter *a);                         /* the largest */
uint64_t adapter_bytes(const adapter *a);                        /* of all matrices */

#endif
