/* vocab_json_draft.c - collecting what tokenizer files say: see vocab_json.h. */
#include <inttypes.h>

#include "base/alloc.h"
#include "model/vocab_json.h"
#include "text/tokenizer.h"

status vocab_draft_create(vocab_draft **out, model *m, const char *file, error *err) {
    vocab_draft *d = mem_try_calloc(1, sizeof *d);
    if (d == NULL) return error_set(err, ERR_NOMEM, "%s: no memory for %zu bytes", file, sizeof *d);
    d->m = m;
    d->file = file;
    d->v = (tok_vocab){.bos_id = TOK_ID_NONE,
                       .eos_id = TOK_ID_NONE,
                       .eot_id = TOK_ID_NONE,
                       .unk_id = TOK_ID_NONE,
                       .continuing_prefix = S(""),
                       .end_of_word = S("")};
    d->config = (vocab_config){.add_bos = -1,
                               .add_eos = -1,
                               .legacy = -1,
                               .lower_case = -1,
                               .strip_accents = -1,
                               .chinese_chars = -1,
                               .bos_id = TOK_ID_NONE,
                               .unk_id = TOK_ID_NONE};
    buf_init(&d->entries, sizeof(vocab_entry) * (size_t)MODEL_VOCAB_MAX);
    buf_init(&d->added, sizeof(vocab_added) * (size_t)MODEL_VOCAB_MAX);
    buf_init(&d->merges, sizeof(tok_merge) * (size_t)MODEL_VOCAB_MAX);
    *out = d;
    return OK;
}

void vocab_draft_destroy(vocab_draft *d) {
    if (d == NULL) return;
    buf_deinit(&d->entries);
    buf_deinit(&d->added);
    buf_deinit(&d->merges);
    map_deinit(&d->ids);
    mem_free(d);
}

/* --- tokens ---------------------------------------------------------------- */
/* What every token of a file has to keep to. */
static status check_token(const vocab_draft *d, str text, uint32_t id, error *err) {
    if (id >= MODEL_VOCAB_MAX)
        return error_set(err, ERR_LIMIT, "%s: token '%.*s' has id %u, at most %d", d->file,
                         STR(text), id, MODEL_VOCAB_MAX - 1);
    if (text.n > TOK_PIECE_BYTES_MAX)
        return error_set(err, ERR_LIMIT, "%s: token %u has %zu bytes, at most %d", d->file, id,
                         text.n, TOK_PIECE_BYTES_MAX);
    return OK;
}

static status put(vocab_draft *d, buf *list, const void *item, size_t bytes, const char *what,
                  error *err) {
    buf_put(list, item, bytes);
    if (!list->failed) return OK;
    if (list->no_memory)
        return error_set(err, ERR_NOMEM, "%s: no memory for %zu bytes of %s", d->file,
                         list->n + bytes, what);
    return error_set(err, ERR_LIMIT, "%s: more than %zu %s", d->file, list->bytes_max / bytes,
                     what);
}

status vocab_draft_entry(vocab_draft *d, const vocab_entry *e, error *err) {
    TRY(check_token(d, e->piece, e->id, err));
    return put(d, &d->entries, e, sizeof *e, "tokens", err);
}

status vocab_draft_added(vocab_draft *d, const vocab_added *a, error *err) {
    TRY(check_token(d, a->content, a->id, err));
    return put(d, &d->added, a, sizeof *a, "added tokens", err);
}

status vocab_draft_name(vocab_draft *d, str name, error *err) {
    vocab_config *c = &d->config;
    if (name.n == 0) return OK;
    if (c->names_count == VOCAB_NAMES_MAX)
        return error_set(err, ERR_LIMIT, "more than %d special tokens", VOCAB_NAMES_MAX);
    TRY(vocab_draft_keep(d, name, &c->names[c->names_count], err));
    c->names_count++;
    return OK;
}

/* --- merges ---------------------------------------------------------------- */
status vocab_draft_merge(vocab_draft *d, tok_merge merge, error *err) {
    return put(d, &d->merges, &merge, sizeof merge, "merges", err);
}

status vocab_draft_merge_line(vocab_draft *d, str line, error *err) {
    const char *space = line.n > 0 ? memchr(line.p, ' ', line.n) : NULL;
    size_t left = space != NULL ? (size_t)(space - line.p) : line.n;
    size_t right = space != NULL ? line.n - left - 1 : 0;
    if (left == 0 || right == 0 || memchr(space + 1, ' ', right) != NULL)
        return error_set(err, ERR_FORMAT, "%s: merge %zu is '%.*s', not two pieces", d->file,
                         d->merges.n / sizeof(tok_merge), STR(line));
    return vocab_draft_merge(d, (tok_merge){{line.p, left}, {space + 1, right}}, err);
}

/* --- steps ----------------------------------------------------------------- */
status vocab_draft_norm(vocab_draft *d, tok_norm step, error *err) {
    if (d->v.norms_count == VOCAB_STEPS_MAX)
        return error_set(err, ERR_LIMIT, "more than %d normalizing steps", VOCAB_STEPS_MAX);
    d->norms[d->v.norms_count++] = step;
    return OK;
}

status vocab_draft_split(vocab_draft *d, tok_split step, error *err) {
    if (d->v.splits_count == VOCAB_STEPS_MAX)
        return error_set(err, ERR_LIMIT, "more than %d splitting steps", VOCAB_STEPS_MAX);
    d->splits[d->v.splits_count++] = step;
    return OK;
}

/* --- strings --------------------------------------------------------------- */
status vocab_draft_keep(vocab_draft *d, str s, str *out, error *err) {
    str copy = arena_dup(&d->m->internal->arena, s);
    if (copy.p == NULL)
        return error_set(err, ERR_NOMEM, "%s: no memory for %zu bytes of text", d->file, s.n);
    *out = copy;
    return OK;
}

static int base64_value(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Source: RFC 4648, section 4; padding is optional here. */
status vocab_unbase64(vocab_draft *d, str text, str *out, error *err) {
    while (text.n > 0 && text.p[text.n - 1] == '=') text.n--;
    void *taken = NULL;
    TRY(model_take(d->m, text.n / 4 * 3 + 3, 1, "the map of characters", &taken, err));
    char *bytes = taken;
    size_t n = 0;
    uint32_t bits = 0;
    for (size_t i = 0; i < text.n; i++) {
        int value = base64_value(text.p[i]);
        if (value < 0)
            return error_set(err, ERR_INVALID, "byte %zu of %zu is not base64", i, text.n);
        bits = bits << 6 | (uint32_t)value;
        if (i % 4 != 0) bytes[n++] = (char)(bits >> (6 - 2 * (i % 4)));
    }
    if (text.n % 4 == 1)
        return error_set(err, ERR_INVALID, "%zu characters of base64 are cut off", text.n);
    *out = (str){bytes, n};
    return OK;
}
