/* fuzz_spm.c - bytes as a SentencePiece tokenizer.model: read or refused, and what is read makes
 * sense. */
#include <math.h>

#include "base/assert.h"
#include "fuzz.h"
#include "model/vocab_json.h"

static void check_vocab(const tok_vocab *v) {
    ASSERT(v->count > 0 && v->scores != NULL);
    ASSERT(v->kind == TOK_KIND_SPM || v->kind == TOK_KIND_UNIGRAM);
    for (uint32_t i = 0; i < v->count; i++) {
        ASSERT(v->pieces[i].n > 0 && str_is_utf8(v->pieces[i]));
        ASSERT(!isnan(v->scores[i]));
        ASSERT(v->types[i] != TOK_TYPE_BYTE || vocab_is_byte_piece(v->pieces[i]));
    }
    ASSERT(v->bos_id < (int32_t)v->count && v->eos_id < (int32_t)v->count);
    ASSERT(v->unk_id < (int32_t)v->count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    error err = {0};
    model m = {0};
    struct model_internal internal = {0};
    vocab_draft *d = NULL;
    str bytes = {(const char *)data, size};
    arena_init(&internal.arena, (size_t)1 << 28);
    m.internal = &internal;
    ASSERT(vocab_draft_create(&d, &m, "tokenizer.model", &err) == OK);
    status st = vocab_spm_read(d, bytes, &err);
    if (st == OK) st = vocab_draft_finish(d, &err);
    if (st == OK)
        check_vocab(&m.vocab);
    else
        ASSERT(err.msg[0] != '\0');
    vocab_draft_destroy(d);
    arena_deinit(&internal.arena);
    return 0;
}
