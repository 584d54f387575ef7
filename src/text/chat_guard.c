/* chat_guard.c - see chat_guard.h. */
#include "text/chat_guard.h"

#include <stdlib.h>

#include "base/alloc.h"

/* --- the lists ------------------------------------------------------------------------------ */

static int by_text(const void *a, const void *b) {
    const str *x = a, *y = b;
    size_t n = x->n < y->n ? x->n : y->n;
    int order = memcmp(x->p, y->p, n);
    if (order != 0) return order;
    return x->n < y->n ? -1 : x->n > y->n;
}

/* Bytes of the character that `lead` begins, in text that is UTF-8. */
static size_t char_bytes(char lead) {
    unsigned char byte = (unsigned char)lead;
    return byte < 0xC0 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/* One character cannot be torn apart, and no control token is one. */
static bool is_guarded(const tokenizer *tok, int32_t id) {
    str text = tok_piece_view(tok, id);
    return tok_is_control(tok, id) && text.n > 0 && text.n > char_bytes(text.p[0]);
}

static status count_tokens(const tokenizer *tok, uint32_t *tokens, uint64_t *suffixes, error *err) {
    for (uint32_t i = 0; i < tok_vocab_count(tok); i++) {
        if (!is_guarded(tok, (int32_t)i)) continue;
        ++*tokens;
        *suffixes += tok_piece_view(tok, (int32_t)i).n - 2;
    }
    if (*tokens <= CHAT_GUARD_TOKENS_MAX && *suffixes <= CHAT_GUARD_SUFFIXES_MAX) return OK;
    return error_set(err, ERR_LIMIT, "chat: the vocabulary has %u control tokens, at most %d",
                     *tokens, CHAT_GUARD_TOKENS_MAX);
}

static void fill(chat_guard *g, const tokenizer *tok) {
    for (uint32_t i = 0; i < tok_vocab_count(tok); i++) {
        if (!is_guarded(tok, (int32_t)i)) continue;
        str text = tok_piece_view(tok, (int32_t)i);
        g->tokens[g->tokens_count++] = text;
        g->begins[(unsigned char)text.p[0]] = true;
        for (size_t k = 1; k + 2 <= text.n; k++) g->ends[g->ends_count++] = str_skip(text, k);
    }
    qsort(g->tokens, g->tokens_count, sizeof *g->tokens, by_text);
    qsort(g->ends, g->ends_count, sizeof *g->ends, by_text);
}

status chat_guard_init(chat_guard *g, const tokenizer *tok, error *err) {
    uint32_t tokens = 0;
    uint64_t suffixes = 0;
    *g = (chat_guard){0};
    if (tok == NULL) return OK;
    TRY(count_tokens(tok, &tokens, &suffixes, err));
    g->tokens = mem_try_calloc(tokens + 1, sizeof *g->tokens);
    g->ends = mem_try_calloc((size_t)suffixes + 1, sizeof *g->ends);
    if (g->tokens == NULL || g->ends == NULL) {
        chat_guard_deinit(g);
        return error_set(err, ERR_NOMEM, "chat: no memory for %u control tokens", tokens);
    }
    fill(g, tok);
    return OK;
}

void chat_guard_deinit(chat_guard *g) {
    mem_free(g->tokens);
    mem_free(g->ends);
    *g = (chat_guard){0};
}

/* --- finding -------------------------------------------------------------------------------- */

/* The first of list[lo..hi), all equal up to `depth`, whose byte there is at least `byte`. */
static uint32_t lower(const str *list, uint32_t lo, uint32_t hi, size_t depth, int byte) {
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int have = list[mid].n > depth ? (unsigned char)list[mid].p[depth] : -1;
        if (have < byte)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

typedef enum found { FOUND_NOTHING, FOUND_WHOLE, FOUND_BEGINNING } found;

/* Does an entry of the sorted list stand at the start of `text` (*which), or does the text end
 * within one? */
static found look(const str *list, uint32_t count, str text, str *which) {
    uint32_t lo = 0, hi = count;
    for (size_t depth = 0; lo < hi; depth++) {
        if (depth > 0 && list[lo].n == depth) {
            *which = list[lo];
            return FOUND_WHOLE;
        }
        if (depth == text.n) return depth > 0 ? FOUND_BEGINNING : FOUND_NOTHING;
        int byte = (unsigned char)text.p[depth];
        lo = lower(list, lo, hi, depth, byte);
        hi = lower(list, lo, hi, depth, byte + 1);
    }
    return FOUND_NOTHING;
}

static bool is_reasoning(str token) {
    for (size_t i = 0; i + 5 <= token.n; i++)
        if (str_eq_nocase((str){token.p + i, 5}, S("think"))) return true;
    return false;
}

/* --- marks ---------------------------------------------------------------------------------- */

static bool is_mark(str text) {
    return str_starts(text, CHAT_MARK_BREAK) || str_starts(text, CHAT_MARK_FINAL);
}

void chat_guard_put(const chat_guard *g, str text, bool assistant, buf *out) {
    bool open_end = false;
    str which = S("");
    if (look(g->ends, g->ends_count, text, &which) == FOUND_WHOLE)
        buf_put_str(out, CHAT_MARK_BREAK);
    for (size_t i = 0; i < text.n;) {
        str rest = str_skip(text, i);
        if (is_mark(rest)) {
            buf_put_str(out, S("\xEF\xBF\xBD"));
            i += 3;
            continue;
        }
        found f = FOUND_NOTHING;
        if (g->begins[(unsigned char)rest.p[0]]) f = look(g->tokens, g->tokens_count, rest, &which);
        if (f == FOUND_BEGINNING) open_end = true;
        size_t n = f == FOUND_WHOLE ? char_bytes(rest.p[0]) : 1;
        buf_put(out, rest.p, n);
        if (f == FOUND_WHOLE && !(assistant && is_reasoning(which)))
            buf_put_str(out, CHAT_MARK_BREAK);
        i += n;
    }
    if (open_end) buf_put_str(out, CHAT_MARK_BREAK);
}

void chat_guard_unmark(buf *text, size_t from, buf *breaks) {
    size_t to = from;
    for (size_t i = from; i < text->n;) {
        if (str_starts((str){text->p + i, text->n - i}, CHAT_MARK_BREAK)) {
            uint32_t at = (uint32_t)(to - from);
            buf_put(breaks, &at, sizeof at);
            i += CHAT_MARK_BREAK.n;
        } else {
            text->p[to++] = text->p[i++];
        }
    }
    text->n = to;
}
