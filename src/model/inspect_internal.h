/* inspect_internal.h - what inspect found out, for its two renderers. */
#ifndef MODEL_INSPECT_INTERNAL_H
#define MODEL_INSPECT_INTERNAL_H

#include "base/buf.h"
#include "model/inspect.h"
#include "model/model.h"
#include "text/chat.h"

enum {
    INSPECT_HPARAMS_MAX = 32,
    INSPECT_ARRAY_MAX = 8, /* longer arrays are only counted */
    INSPECT_IDS_MAX = 5,
    INSPECT_ENDS_MAX = 16,
    INSPECT_ABOUT_MAX = 12,
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
    str text; /* its piece; empty when that is not known */
} inspect_id;

typedef struct inspect_about {
    const char *label;
    str text;
} inspect_about;

typedef struct inspect_report {
    const char *path;
    const model *model; /* borrowed */
    const gguf *file;   /* the model's; NULL: no GGUF, a tokenizer only */
    const inspect_options *options;
    str arch; /* empty when the file does not say */
    uint64_t params;
    uint64_t weight_bytes;
    struct {
        uint32_t tensors;
        uint64_t bytes;
    } types[DTYPE_ID_END];
    uint32_t hparams_count;
    inspect_hparam hparams[INSPECT_HPARAMS_MAX];
    uint32_t about_count;
    inspect_about about[INSPECT_ABOUT_MAX]; /* who made it, and what may be done with it */
    uint64_t kv_bytes_per_1k; /* f16, of 1024 tokens; 0 when the file does not say enough */
    uint64_t kv_bytes_full;   /* of the whole context */
    uint32_t ctx_train;
    str tokenizer;   /* empty when the file has none */
    str pre;         /* family of the pre-tokenizer, empty when not said */
    uint64_t tokens; /* 0 when the file has none */
    uint32_t ids_count;
    inspect_id ids[INSPECT_IDS_MAX];
    uint32_t ends_count;
    inspect_id ends[INSPECT_ENDS_MAX]; /* tokens that end a generation */
    bool add_bos;
    str chat_template;       /* empty when the file has none */
    str chat_template_tools; /* a second one, for requests with tools */
    tokenizer *tok;          /* owned; NULL when it cannot be built */
    chat_template *chat;     /* owned; NULL when there is none */
    error tok_error;         /* why there is no tok */
    error verdict;           /* code OK: this version can run it */
} inspect_report;

void inspect_put_text(const inspect_report *r, buf *out);
void inspect_put_json(const inspect_report *r, buf *out);

#endif
