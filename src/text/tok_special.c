/* tok_special.c - finds special tokens in text.
 *
 * The rule is the one of the llama family: take the special tokens from the longest to the
 * shortest; cut every occurrence of each, from the left, out of what the longer ones have left
 * over.  Doing just that costs tokens times text.  Here the automaton names the longest special
 * at each byte; a heap hands these candidates out by rank and place; one that runs into a cut
 * comes back as the next shorter special at its byte.  A cut is never shorter than a later
 * candidate, so to see whether a candidate is free it is enough to look at its first and last
 * byte. */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "text/heap.h"
#include "text/tok_internal.h"

/* --- the automaton ------------------------------------------------------------------------ */

static bool is_special(const tok_vocab *v, uint32_t id, bool user_defined_only) {
    uint8_t type = v->types[id];
    if (v->pieces[id].n == 0) return false;
    if (type == TOK_TYPE_USER_DEFINED) return true;
    return !user_defined_only && (type == TOK_TYPE_CONTROL || type == TOK_TYPE_UNKNOWN);
}

static int by_rank(const void *a, const void *b) {
    const special_token *x = a, *y = b;
    if (x->text.n != y->text.n) return x->text.n > y->text.n ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Fills s->tokens; *bytes is the length of all of them together. */
static status collect(tok_special *s, const tok_vocab *v, bool user_defined_only, size_t *bytes,
                      error *err) {
    uint32_t count = 0;
    for (uint32_t id = 0; id < v->count; id++) count += is_special(v, id, user_defined_only);
    if (count == 0) return OK;
    s->tokens = mem_try_calloc(count, sizeof *s->tokens);
    if (s->tokens == NULL)
        return error_set(err, ERR_NOMEM, "tokenizer: no memory for %u special tokens", count);
    for (uint32_t id = 0; id < v->count; id++) {
        if (!is_special(v, id, user_defined_only)) continue;
        s->tokens[s->count++] = (special_token){.text = v->pieces[id], .id = (int32_t)id};
        *bytes += v->pieces[id].n;
    }
    qsort(s->tokens, s->count, sizeof *s->tokens, by_rank);
    return OK;
}

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

status special_init(tok_special *s, const tok_vocab *vocab, bool user_defined_only, error *err) {
    size_t bytes = 0;
    *s = (tok_special){0};
    status st = collect(s, vocab, user_defined_only, &bytes, err);
    if (st == OK && s->count > 0) st = build(s, bytes, err);
    if (st != OK) special_deinit(s);
    return st;
}

void special_deinit(tok_special *s) {
    mem_free(s->tokens);
    mem_free(s->nodes);
    *s = (tok_special){0};
}

/* --- candidates and cuts ------------------------------------------------------------------ */

static uint64_t candidate(uint32_t rank, size_t at) { return (uint64_t)rank << 32 | at; }

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
        (void)heap_push(*heap, count, candidate(longest - 1, at));
    }
    return OK;
}

static int by_place(const void *a, const void *b) {
    const special_cut *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

/* Decides the candidates in the order of their rank; `taken` marks the bytes of cuts. */
static void decide(const tok_special *s, uint64_t *heap, size_t count, uint8_t *taken,
                   special_cuts *out) {
    while (count > 0) {
        uint64_t best = 0;
        (void)heap_pop(heap, &count, &best);
        uint32_t rank = (uint32_t)(best >> 32), at = (uint32_t)best;
        const special_token *token = &s->tokens[rank];
        if (taken[at]) continue;
        if (taken[at + token->text.n - 1]) {
            if (token->shorter != 0)
                (void)heap_push(heap, &count, candidate(token->shorter - 1, at));
            continue;
        }
        memset(taken + at, 1, token->text.n);
        out->cuts[out->count++] = (special_cut){.at = at, .rank = rank};
    }
    qsort(out->cuts, out->count, sizeof *out->cuts, by_place);
}

status special_find(const tok_special *s, str text, special_cuts *out, error *err) {
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
    decide(s, heap, count, taken, out);
out:
    mem_free(taken);
    mem_free(heap);
    return st;
}
