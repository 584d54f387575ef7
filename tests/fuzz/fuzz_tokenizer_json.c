/* fuzz_tokenizer_json.c - bytes as a tokenizer.json and, behind a line "\n---\n", as the
 * tokenizer_config.json beside it: read or refused, and what is read makes sense. */
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "fuzz.h"
#include "model/vocab_json.h"

static void check_id(const tok_vocab *v, int32_t id) {
    ASSERT(id >= TOK_ID_NONE && id < (int32_t)v->count);
}

static void check_vocab(const tok_vocab *v) {
    ASSERT(v->count > 0 && v->count <= MODEL_VOCAB_MAX);
    for (uint32_t i = 0; i < v->count; i++) {
        ASSERT(v->types[i] >= TOK_TYPE_NORMAL && v->types[i] <= TOK_TYPE_BYTE);
        ASSERT(v->pieces[i].p != NULL && str_is_utf8(v->pieces[i]));
    }
    check_id(v, v->bos_id);
    check_id(v, v->eos_id);
    check_id(v, v->unk_id);
    for (uint32_t i = 0; i < v->before_count; i++) check_id(v, v->before[i]);
    for (uint32_t i = 0; i < v->after_count; i++) check_id(v, v->after[i]);
    for (uint32_t i = 0; i < v->ends_count; i++) check_id(v, v->ends[i]);
    for (uint32_t i = 0; i < v->merges_count; i++)
        ASSERT(v->merges[i].left.n > 0 || v->merges[i].right.n > 0 || v->count > 0);
}

static status read_all(vocab_draft *d, str text, str config, error *err) {
    if (config.n > 0) TRY(vocab_config_tokenizer(d, config, err));
    if (config.n > 0) TRY(vocab_config_ids(d, config, "config.json", err));
    TRY(vocab_json_read(d, text, err));
    return vocab_draft_finish(d, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const str cut = S("\n---\n");
    str text = {(const char *)data, size}, config = {0};
    const char *at = size > 0 ? memmem(data, size, cut.p, cut.n) : NULL;
    if (at != NULL) {
        text.n = (size_t)(at - text.p);
        config = (str){at + cut.n, size - text.n - cut.n};
    }
    error err = {0};
    model m = {0};
    struct model_internal internal = {0};
    vocab_draft *d = NULL;
    arena_init(&internal.arena, (size_t)1 << 28);
    m.internal = &internal;
    ASSERT(vocab_draft_create(&d, &m, "tokenizer.json", &err) == OK);
    if (read_all(d, text, config, &err) == OK)
        check_vocab(&m.vocab);
    else
        ASSERT(err.msg[0] != '\0');
    vocab_draft_destroy(d);
    arena_deinit(&internal.arena);
    return 0;
}
