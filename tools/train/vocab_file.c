/* vocab_file.c - see vocab_file.h. */
#include "train/vocab_file.h"

#include "base/alloc.h"
#include "base/outfile.h"
#include "model/gguf_write.h"
#include "text/tok_bytes.h"
#include "text/tok_vocab.h"

/* --- special tokens ---------------------------------------------------------------------- */

static bool find_special(const vocab_plan *plan, str name, uint32_t *out) {
    for (uint32_t i = 0; i < plan->specials_count; i++) {
        if (!str_eq(plan->specials[i], name)) continue;
        *out = i;
        return true;
    }
    return false;
}

status vocab_plan_specials(vocab_plan *plan, str list, int32_t type, error *err) {
    while (list.n > 0) {
        const char *comma = memchr(list.p, ',', list.n);
        const str one = {list.p, comma != NULL ? (size_t)(comma - list.p) : list.n};
        uint32_t at = 0;
        list = str_skip(list, one.n + (comma != NULL));
        if (one.n == 0 || find_special(plan, one, &at))
            return error_set(err, ERR_INVALID, "bpe: special token %u '%.*s' is empty or twice",
                             plan->specials_count, STR(one));
        if (plan->specials_count == VOCAB_SPECIALS_MAX)
            return error_set(err, ERR_INVALID, "bpe: more than %d special tokens",
                             VOCAB_SPECIALS_MAX);
        plan->types[plan->specials_count] = type;
        plan->specials[plan->specials_count++] = one;
    }
    return OK;
}

/* --- pieces: bytes in the alphabet of GPT-2 ---------------------------------------------- */

typedef struct spelling {
    arena memory;
    uint32_t count;
    str *pieces, *merges;
    int32_t *types;
} spelling;

/* `bytes` in the alphabet, at most twice as long, to `out`. */
static size_t spell(str bytes, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < bytes.n; i++) n += tok_alphabet_spell((uint8_t)bytes.p[i], out + n);
    return n;
}

static str spell_token(spelling *s, str token) {
    char text[2 * BPE_TOKEN_BYTES_MAX];
    return arena_dup(&s->memory, (str){text, spell(token, text)});
}

static str spell_merge(spelling *s, str left, str right) {
    char text[4 * BPE_TOKEN_BYTES_MAX + 1];
    size_t n = spell(left, text);
    text[n++] = ' ';
    n += spell(right, text + n);
    return arena_dup(&s->memory, (str){text, n});
}

static bool spell_all(spelling *s, const vocab_plan *plan, const bpe *b) {
    s->count = b->tokens_count + plan->specials_count;
    s->pieces = arena_take(&s->memory, s->count * sizeof *s->pieces);
    s->types = arena_take(&s->memory, s->count * sizeof *s->types);
    s->merges = arena_take(&s->memory, (b->merges_count + 1) * sizeof *s->merges);
    if (s->pieces == NULL || s->types == NULL || s->merges == NULL) return false;
    for (uint32_t i = 0; i < s->count; i++) {
        const bool special = i >= b->tokens_count;
        const uint32_t at = special ? i - b->tokens_count : 0;
        s->pieces[i] = special ? plan->specials[at] : spell_token(s, b->tokens[i]);
        s->types[i] = special ? plan->types[at] : TOK_TYPE_NORMAL;
        if (s->pieces[i].p == NULL) return false;
    }
    for (uint32_t i = 0; i < b->merges_count; i++) {
        s->merges[i] = spell_merge(s, b->tokens[b->merges[i].left], b->tokens[b->merges[i].right]);
        if (s->merges[i].p == NULL) return false;
    }
    return true;
}

/* --- the file ---------------------------------------------------------------------------- */

static status write_id(gguf_writer *w, const char *key, const vocab_plan *plan, const bpe *b,
                       str name, error *err) {
    uint32_t at = 0;
    if (name.n == 0) return OK;
    if (!find_special(plan, name, &at))
        return error_set(err, ERR_INVALID, "bpe: '%.*s' is none of the %u special tokens",
                         STR(name), plan->specials_count);
    gguf_write_u32(w, key, b->tokens_count + at);
    return OK;
}

static status write_keys(gguf_writer *w, const vocab_plan *plan, const bpe *b, const spelling *s,
                         error *err) {
    gguf_write_str(w, "general.architecture", S("llama"));
    gguf_write_str(w, "tokenizer.ggml.model", S("gpt2"));
    gguf_write_str(w, "tokenizer.ggml.pre", plan->pre);
    gguf_write_strs(w, "tokenizer.ggml.tokens", s->pieces, s->count);
    gguf_write_i32s(w, "tokenizer.ggml.token_type", s->types, s->count);
    gguf_write_strs(w, "tokenizer.ggml.merges", s->merges, b->merges_count);
    TRY(write_id(w, "tokenizer.ggml.bos_token_id", plan, b, plan->bos, err));
    TRY(write_id(w, "tokenizer.ggml.eos_token_id", plan, b, plan->eos, err));
    TRY(write_id(w, "tokenizer.ggml.eot_token_id", plan, b, plan->eot, err));
    /* templates write what a prompt begins with, so that it can be seen there */
    gguf_write_bool(w, "tokenizer.ggml.add_bos_token", false);
    gguf_write_bool(w, "tokenizer.ggml.add_eos_token", false);
    if (plan->chat_template.n > 0)
        gguf_write_str(w, "tokenizer.chat_template", plan->chat_template);
    return OK;
}

static status no_tensors(void *ctx, uint32_t idx, gguf_sink *s, error *err) {
    (void)ctx, (void)s;
    return error_set(err, ERR_INTERNAL, "bpe: tensor %u of none", idx);
}

status vocab_file_write(const char *path, const vocab_plan *plan, const bpe *b, error *err) {
    gguf_writer *w = NULL;
    spelling s = {0};
    outfile f;
    arena_init(&s.memory, (size_t)256 << 20);
    status st = outfile_open(&f, path, err);
    if (st == OK) st = gguf_writer_create(&w, err);
    if (st == OK && !spell_all(&s, plan, b))
        st = error_set(err, ERR_NOMEM, "bpe: no memory for %u pieces", s.count);
    if (st == OK) st = write_keys(w, plan, b, &s, err);
    if (st == OK) st = gguf_write_finish(w, f.fd, no_tensors, NULL, err);
    if (st == OK) st = outfile_commit(&f, err);
    outfile_abort(&f);
    gguf_writer_destroy(w);
    arena_deinit(&s.memory);
    return st;
}
