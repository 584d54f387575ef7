/* tok_encode.c - the steps of encoding a text: special tokens, fragments, limits. */
#include <inttypes.h>

#include "base/alloc.h"
#include "base/num.h"
#include "text/tok_internal.h"

void tok_sink_put(tok_sink *s, int32_t id) {
    s->count++;
    if (!tok_sink_is_over(s)) buf_put(s->ids, &id, sizeof id);
}

static status check_limit(const tok_sink *s, uint64_t at_least, error *err) {
    if (at_least <= s->tokens_max) return OK;
    return error_set(err, ERR_LIMIT, "prompt: at least %" PRIu64 " tokens, at most %u", at_least,
                     s->tokens_max);
}

/* The fragments between the cuts, and the cuts.  A fragment behind a special token begins a text
 * of its own, with its space. */
static status encode_fragments(const tokenizer *t, const tok_special *special, str text,
                               const special_cuts *cuts, tok_sink *sink, error *err) {
    merge_scratch scratch = {0};
    status st = OK;
    bool space = t->vocab.add_space_prefix;
    size_t at = 0;
    for (size_t i = 0; st == OK && i <= cuts->count; i++) {
        size_t end = i < cuts->count ? cuts->cuts[i].at : text.n;
        if (end > at)
            st = merge_encode(t, (str){text.p + at, end - at}, space, &scratch, sink, err);
        if (i == cuts->count) break;
        const special_token *token = &special->tokens[cuts->cuts[i].rank];
        tok_sink_put(sink, token->id);
        at = end + token->text.n;
        if (st == OK) st = check_limit(sink, sink->count, err);
    }
    merge_scratch_deinit(&scratch);
    return st;
}

static status encode_text(const tokenizer *t, str text, bool parse_special, tok_sink *sink,
                          error *err) {
    const tok_special *special = parse_special ? &t->specials : &t->user_defined;
    special_cuts cuts = {0};
    if (text.n == 0) return OK;
    TRY(special_find(special, text, &cuts, err));
    status st = encode_fragments(t, special, text, &cuts, sink, err);
    mem_free(cuts.cuts);
    return st;
}

static status encode(const tokenizer *t, str text, const tok_options *options, tok_sink *sink,
                     error *err) {
    /* No token covers more bytes than the longest piece has: enough to refuse huge texts early. */
    TRY(check_limit(sink, num_div_up_size(text.n, t->piece_bytes_max), err));
    if (options->add_special && t->vocab.add_bos) tok_sink_put(sink, t->vocab.bos_id);
    TRY(encode_text(t, text, options->parse_special, sink, err));
    if (options->add_special && t->vocab.add_eos) tok_sink_put(sink, t->vocab.eos_id);
    TRY(check_limit(sink, sink->count, err));
    return buf_status(sink->ids, "prompt ids", err);
}

status tok_encode(const tokenizer *t, str text, const tok_options *options, buf *ids, error *err) {
    tok_sink sink = {.ids = ids, .tokens_max = options->tokens_max};
    size_t before = ids->n;
    if (text.n > TOK_TEXT_BYTES_MAX)
        return error_set(err, ERR_LIMIT, "prompt: %zu bytes, at most %d", text.n,
                         TOK_TEXT_BYTES_MAX);
    status st = encode(t, text, options, &sink, err);
    if (st != OK) ids->n = before;
    return st;
}
