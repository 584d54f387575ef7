/* inspect_internal.h - what inspect found out, for its two renderers. */
#ifndef MODEL_INSPECT_INTERNAL_H
#define MODEL_INSPECT_INTERNAL_H

#include "base/buf.h"
#include "model/model.h"

enum {
    INSPECT_HPARAMS_MAX = 16,
    INSPECT_ARRAY_MAX = 8, /* longer arrays are only counted */
    INSPECT_IDS_MAX = 5,
};

typedef struct inspect_hparam {
    const char *label;
    bool is_float;
    uint32_t count;
    float number;
} inspect_hparam;

typedef struct inspect_id {
    const char *label;
    uint32_t id;
} inspect_id;

typedef struct inspect_report {
    const char *path;
    const model *model; /* borrowed */
    const gguf *file;   /* the model's */
    str arch;           /* empty when the file does not say */
    uint64_t params;
    uint64_t weight_bytes;
    struct {
        uint32_t tensors;
        uint64_t bytes;
    } types[DTYPE_ID_END];
    uint32_t hparams_count;
    inspect_hparam hparams[INSPECT_HPARAMS_MAX];
    str tokenizer;   /* empty when the file has none */
    uint64_t tokens; /* 0 when the file has none */
    uint32_t ids_count;
    inspect_id ids[INSPECT_IDS_MAX];
    bool add_bos;
    str chat_template; /* empty when the file has none */
    error verdict;     /* code OK: this version can run it */
} inspect_report;

void inspect_put_text(const inspect_report *r, buf *out);
void inspect_put_json(const inspect_report *r, buf *out);

#endif
