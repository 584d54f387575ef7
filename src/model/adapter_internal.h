/* adapter_internal.h - how an adapter is put together, for adapter*.c only. */
#ifndef MODEL_ADAPTER_INTERNAL_H
#define MODEL_ADAPTER_INTERNAL_H

#include "base/arena.h"
#include "base/map.h"
#include "model/adapter.h"
#include "store/safetensors.h"

struct adapter {
    const model *m;       /* borrowed while it is opened, else NULL */
    blob *file;           /* owned; GGUF */
    gguf *gguf;           /* owned; GGUF */
    safetensors *tensors; /* owned; PEFT */
    arena arena;          /* names, reordered rows */
    adapter_pair *pairs;  /* owned; [count] */
    uint32_t count, cap;
    map index; /* tensor name -> pair */
};

typedef enum adapter_half { ADAPTER_A, ADAPTER_B } adapter_half;

/* Half of the pair of that tensor, which begins with it.  The name is copied. */
NODISCARD status adapter_add(adapter *a, str tensor, adapter_half half, const model_tensor *t,
                             error *err);

/* adapter_gguf.c: read the halves of a->file, which stays open; adapter.c checks them. */
NODISCARD status adapter_read_gguf(adapter *a, float *alpha, error *err);
/* adapter_peft.c: the halves of a->tensors by the text of adapter_config.json. */
NODISCARD status adapter_read_peft(adapter *a, str config, error *err);

/* adapter_open() for bytes in memory, which outlive the adapter. */
NODISCARD status adapter_open_gguf_bytes(adapter **out, const model *m, str file, error *err);
NODISCARD status adapter_open_peft_bytes(adapter **out, const model *m, str config, str tensors,
                                         error *err);

#endif
