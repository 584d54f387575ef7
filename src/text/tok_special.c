/* tok_special.c - finds special tokens in text.
 *
 * The rule is the one of the llama family: take the special tokens from the longest to the
 * shortest; cut every occurrence of each, from the left, out of what the longer ones have left
 * over.  Doing just that costs tokens times text.  Here the automaton names the longest special
 * at each byte; a heap hands these candidates out by rank and place; one that runs into a cut
 * comes back as the next shorter special at its byte.  A cut is never shorter than a later
 * candidate, so to see whether a candidate is free it is enough to look at its first and last
 * byte.  With flags a token takes the blanks beside it along, which only makes its cut longer. */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "text/heap.h"
#include "text/tok_internal.h"
#include "text/unicode.h"

/* --- the tokens ---------------------------------------------------------------------------- */

static uint8_t flags_of(const tok_vocab *v, uint32_t id) {
    return v->flags != NULL ? v->flags[id] : 0;
}

static bool is_chosen(const tok_vocab *v, uint32_t id, special_choice choice) {
    uint8_t type = v->types[id];
    if (tok_is_in_place(v, id)) return false;
    bool normalized = (flags_of(v, id) & TOK_FLAG_NORMALIZED) != 0;
    if (v->pieces[id].n == 0 || !(normalized ? choice.normalized : choice.raw)) return false;
    if (type == TOK_TYPE_USER_DEFINED) return true;
    return choice.control && (type == TOK_TYPE_CONTROL || type == TOK_TYPE_UNKNOWN);
}

static int by_rank(const void *a, const void *b) {
    const special_token *x = a, *y = b;
    if (x->text.n != y->text.n) return x->text.n > y->text.n ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Normalizes the texts of all tokens, one behind the other; a token may lose all of its text. */
static status normalize_texts(tok_special *s, const tok_normalizer *n, buf *all, error *err) {
    buf one, spare;
    size_t at = 0;
    status st = OK;
    buf_init(&one, TOK_TEXT_BYTES_MAX);
    buf_init(&spare, TOK_TEXT_BYTES_MAX);
    for (uint32_t i = 0; st == OK && i < s->count; i++) {
        st = tok_normalize(n, s->tokens[i].text, true, &one, &spare, err);
        if (st == OK) buf_put_str(all, buf_view(&one));
        s->tokens[i].text.n = one.n;
    }
    buf_deinit(&one);
    buf_deinit(&spare);
    if (st == OK) st = buf_status(all, "special tokens", err);
    if (st != OK) return st;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        s->tokens[i].text.p = all->p + at;
        at += s->tokens[i].text.n;
        if (s->tokens[i].text.n > 0) s->tokens[kept++] = s->tokens[i];
    }
    s->count = kept;
    return OK;
}

/* Fills s->tokens; *bytes is the length of all of them together. */
static status collect(tok_special *s, const tok_vocab *v, const tok_normalizer *normalizer,
                      special_choice choice, size_t *bytes, error *err) {
    uint32_t count = 0;
    for (uint32_t id = 0; id < v->count; id++) count += is_chosen(v, id, choice);
    if (count == 0) return OK;
    s->tokens = mem_try_calloc(count, sizeof *s->tokens);
    if (s->tokens == NULL)
        return error_set(err, ERR_NOMEM, "tokenizer: no memory for %u special tokens", count);
    for (uint32_t id = 0; id < v->count; id++) {
        if (!is_chosen(v, id, choice)) continue;
        s->tokens[s->count++] =
            (special_token){.text = v->pieces[id], .id = (int32_t)id, .flags = flags_of(v, id)};
    }
    if (normalizer != NULL) {
        buf all;
        buf_init(&all, TOK_TEXT_BYTES_MAX);
        status st = normalize_texts(s, normalizer, &all, err);
        s->texts = all.p; /* freed by special_deinit(): a buf's memory is the heap's */
        if (st != OK) return st;
    }
    for (uint32_t i = 0; i < s->count; i++) *bytes += s->tokens[i].text.n;
    qsort(s->tokens, s->count, sizeof *s->tokens, by_rank);
    return OK;
}

/* --- the automaton ------------------------------------------------------------------------ */

/* The child of `node` for `byte`; 0 when there is none. */
static uint32_t child(const tok_special *s, uint32_t node, uint8_t byte) {
    if (node == 0) return s->root[byte];
    uint32_t at = s->nodes[node].child;
    while (at != 0 && s->nodes[at].byte != byte) at = s->nodes[at].sibling;
    return at;
}

static uint32_t child_or_new(tok_special *s, uint32_t node, uint8_t byte) {
    uint32_t at = child(s, node, byte);
    if (at != 0) return at;
    at = s->nodes_count++;
    s->nodes[at] = (special_node){.sibling = s->nodes[node].child, .byte = byte};
    s->nodes[node].child = at;
    if (node == 0) s->root[byte] = at;
    return at;
}

/* Adds the text of a special, last byte first.  Of two with the same text the first stays. */
static void trie_add(tok_special *s, uint32_t rank) {
    str text = s->tokens[rank].text;
    uint32_t node = 0;
    for (size_t i = text.n; i > 0; i--) node = child_or_new(s, node, (uint8_t)text.p[i - 1]);
    if (s->nodes[node].longest == 0) s->nodes[node].longest = rank + 1;
}

/* Where the automaton goes from `node` with `byte`.  Amortised O(1): each fall takes back a
 * step down. */
static uint32_t step(const tok_special *s, uint32_t node, uint8_t byte) {
    for (;;) {
        uint32_t next = child(s, node, byte);
        if (next != 0 || node == 0) return next;
        node = s->nodes[node].fall;
    }
}

/* A node's suffix is shorter than the node, so breadth first every suffix is ready in time. */
static void link_node(tok_special *s, uint32_t parent, uint32_t node) {
    special_node *n = &s->nodes[node];
    n->fall = parent == 0 ? 0 : step(s, s->nodes[parent].fall, n->byte);
    uint32_t inherited = s->nodes[n->fall].longest;
    if (n->longest == 0)
        n->longest = inherited;
    else
        s->tokens[n->longest - 1].shorter = inherited;
}

static status link_nodes(tok_special *s, error *err) {
    uint32_t *queue = mem_try_alloc(s->nodes_count * sizeof *queue);
    if (queue == NULL)
        return error_set(err, ERR_NOMEM, "tokenizer: no memory for %u trie nodes", s->nodes_count);
    uint32_t queued = 1;
    queue[0] = 0;
    for (uint32_t i = 0; i < queued; i++) {
        uint32_t at = s->nodes[queue[i]].child;
        for (; at != 0; at = s->nodes[at].sibling) {
            link_node(s, queue[i], at);
            queue[queued++] = at;
        }
    }
    ASSERT(queued == s->nodes_count);
    mem_free(queue);
    return OK;
}

static status build(tok_special *s, size_t bytes, error *err) {
    if (bytes >= UINT32_MAX / sizeof(special_node))
        return error_set(err, ERR_LIMIT, "tokenizer: special tokens of %zu bytes, at most %zu",
                         bytes, UINT32_MAX / sizeof(special_node));
    s->nodes = mem_try_calloc(bytes + 1, sizeof *s->nodes);
    if (s->nodes == NULL)
        return error_set(err, ERR_NOMEM, "tokenizer: no memory for special tokens of %zu bytes",
                         bytes);
    s->nodes_count = 1;
    for (uint32_t rank = 0; rank < s->count; rank++) trie_add(s, rank);
    return link_nodes(s, err);
}

status special_init(tok_special *s, const tok_vocab *vocab, const tok_normalizer *normalizer,
                    special_choice choice, error *err) {
    size_t bytes = 0;
    *s = (tok_special){.leftmost = vocab->cut_leftmost};
    status st = collect(s, vocab, normalizer, choice, &bytes, err);
    if (st == OK && s->count > 0) st = build(s, bytes, err);
    if (st != OK) special_deinit(s);
    return st;
}

void special_deinit(tok_special *s) {
    mem_free(s->tokens);
    mem_free(s->nodes);
    mem_free(s->texts);
    *s = (tok_special){0};
}

/* --- what stands beside a token ------------------------------------------------------------- */

/* The character that ends at `end` > 0: how many bytes it has.  A broken sequence is one byte. */
static uint32_t decode_before(str text, size_t end, uint32_t *cp) {
    size_t begin = end - 1;
    while (begin > 0 && end - begin < UNICODE_BYTES_MAX && (text.p[begin] & 0xC0) == 0x80) begin--;
    if (unicode_decode(text.p + begin, end - begin, cp) == end - begin)
        return (uint32_t)(end - begin);
    *cp = UNICODE_REPLACEMENT;
    return 1;
}

static bool is_word_character(uint32_t cp) {
    return (unicode_get(cp)->flags & UNICODE_FLAG_WORD) != 0;
}

/* Does no word character touch it? */
static bool stands_alone(str text, size_t begin, size_t end) {
    uint32_t cp = 0;
    if (begin > 0) {
        (void)decode_before(text, begin, &cp);
        if (is_word_character(cp)) return false;
    }
    if (end == text.n) return true;
    (void)unicode_decode(text.p + end, text.n - end, &cp);
    return !is_word_character(cp);
}

/* Where the blanks that end at `begin` begin, as far as nobody has taken them. */
static size_t blanks_before(str text, const uint8_t *taken, size_t begin) {
    uint32_t cp = 0;
    while (begin > 0 && !taken[begin - 1]) {
        uint32_t bytes = decode_before(text, begin, &cp);
        if (!unicode_is_space(cp)) break;
        begin -= bytes;
    }
    return begin;
}

static size_t blanks_behind(str text, const uint8_t *taken, size_t end) {
    uint32_t cp = 0;
    while (end < text.n && !taken[end]) {
        uint32_t bytes = unicode_decode(text.p + end, text.n - end, &cp);
        if (!unicode_is_space(cp)) break;
        end += bytes;
    }
    return end;
}

/* --- candidates and cuts ------------------------------------------------------------------ */

/* What is decided first is the smallest: by rank, or by place. */
static uint64_t candidate(const tok_special *s, uint32_t rank, size_t at) {
    return s->leftmost ? (uint64_t)at << 32 | rank : (uint64_t)rank << 32 | at;
}

/* One candidate for each byte where a special begins, unordered; *heap is the caller's. */
static status find_candidates(const tok_special *s, str text, uint64_t **heap, size_t *count,
                              error *err) {
    size_t cap = 0;
    uint32_t node = 0;
    for (size_t at = text.n; at-- > 0;) {
        node = step(s, node, (uint8_t)text.p[at]);
        uint32_t longest = s->nodes[node].longest;
        if (longest == 0) continue;
        if (*count == cap) {
            cap = cap == 0 ? 64 : 2 * cap;
            uint64_t *more = mem_try_realloc(*heap, cap * sizeof *more);
            if (more == NULL)
                return error_set(err, ERR_NOMEM, "prompt: no memory for %zu special tokens", cap);
            *heap = more;
        }
        (void)heap_push(*heap, count, candidate(s, longest - 1, at));
    }
    return OK;
}

static int by_place(const void *a, const void *b) {
    const special_cut *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

uint32_t special_break_behind(const special_breaks *b, size_t begin) {
    uint32_t lo = 0, hi = b->count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (b->at[mid] <= begin)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool is_broken(const special_breaks *b, size_t begin, size_t end) {
    uint32_t i = special_break_behind(b, begin);
    return i < b->count && b->at[i] < end;
}

/* May the token be cut out at `begin`?  Its first byte is free. */
static bool is_free(const special_token *token, str text, const special_breaks *breaks,
                    const uint8_t *taken, size_t begin) {
    size_t end = begin + token->text.n;
    if (taken[end - 1] || is_broken(breaks, begin, end)) return false;
    return (token->flags & TOK_FLAG_SINGLE_WORD) == 0 || stands_alone(text, begin, end);
}

/* Decides the candidates in their order; `taken` marks the bytes of cuts. */
static void decide(const tok_special *s, str text, const special_breaks *breaks, uint64_t *heap,
                   size_t count, uint8_t *taken, special_cuts *out) {
    while (count > 0) {
        uint64_t best = 0;
        (void)heap_pop(heap, &count, &best);
        uint32_t high = (uint32_t)(best >> 32), low = (uint32_t)best;
        uint32_t rank = s->leftmost ? low : high, at = s->leftmost ? high : low;
        const special_token *token = &s->tokens[rank];
        size_t begin = at, end = at + token->text.n;
        if (taken[at]) continue;
        if (!is_free(token, text, breaks, taken, begin)) {
            if (token->shorter != 0 && !s->leftmost)
                (void)heap_push(heap, &count, candidate(s, token->shorter - 1, at));
            /* a match that is given up keeps its text from others: Hugging Face looks on behind */
            if (s->leftmost) memset(taken + begin, 1, end - begin);
            continue;
        }
        if ((token->flags & TOK_FLAG_LSTRIP) != 0) begin = blanks_before(text, taken, begin);
        if ((token->flags & TOK_FLAG_RSTRIP) != 0) end = blanks_behind(text, taken, end);
        memset(taken + begin, 1, end - begin);
        out->cuts[out->count++] =
            (special_cut){.begin = (uint32_t)begin, .end = (uint32_t)end, .rank = rank};
    }
    qsort(out->cuts, out->count, sizeof *out->cuts, by_place);
}

status special_find(const tok_special *s, str text, const special_breaks *breaks, special_cuts *out,
                    error *err) {
    uint64_t *heap = NULL;
    uint8_t *taken = NULL;
    size_t count = 0;
    *out = (special_cuts){0};
    if (s->count == 0) return OK;
    ASSERT(text.n <= TOK_TEXT_BYTES_MAX);

    status st = find_candidates(s, text, &heap, &count, err);
    if (st != OK || count == 0) goto out;
    taken = mem_try_calloc(text.n, 1);
    out->cuts = mem_try_calloc(count, sizeof *out->cuts);
    if (taken == NULL || out->cuts == NULL) {
        st = error_set(err, ERR_NOMEM, "prompt: no memory for %zu special tokens", count);
        mem_free(out->cuts);
        *out = (special_cuts){0};
        goto out;
    }
    decide(s, text, breaks, heap, count, taken, out);
out:
    mem_free(taken);
    mem_free(heap);
    return st;
}
