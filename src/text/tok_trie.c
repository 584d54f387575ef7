/* tok_trie.c - see tok_trie.h.
 *
 * The texts are sorted; a node is then a stretch of them that have its bytes in common, and its
 * children are that stretch cut by the next byte.  Going breadth first through the stretches
 * needs no recursion and numbers the nodes as the layout wants them. */
#include "text/tok_trie.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/num.h"

enum { SHORT_LIST = 8 }; /* children looked through one by one: one cache line */

typedef struct trie_text {
    str text;
    int32_t id;
} trie_text;

/* The texts [begin, end) begin with the node's bytes, `depth` of them. */
typedef struct trie_stretch {
    uint32_t begin, end, depth;
} trie_stretch;

static int by_text(const void *a, const void *b) {
    const trie_text *x = a, *y = b;
    int order = memcmp(x->text.p, y->text.p, num_min_size(x->text.n, y->text.n));
    if (order != 0) return order;
    if (x->text.n != y->text.n) return x->text.n < y->text.n ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* The used texts, sorted; *bytes is the length of all of them together. */
static uint32_t collect(trie_text *sorted, const str *texts, const bool *use, uint32_t count,
                        uint64_t *bytes) {
    uint32_t n = 0;
    for (uint32_t id = 0; id < count; id++) {
        if (!use[id] || texts[id].n == 0) continue;
        sorted[n++] = (trie_text){texts[id], (int32_t)id};
        *bytes += texts[id].n;
    }
    qsort(sorted, n, sizeof *sorted, by_text);
    return n;
}

/* Cuts the stretch of `node` into those of its children. */
static void add_children(tok_trie *t, trie_stretch *stretches, const trie_text *sorted,
                         uint32_t node) {
    trie_stretch at = stretches[node];
    t->ids[node] = TOK_ID_NONE;
    t->first[node] = t->count;
    /* equal texts lie side by side, the lowest id first */
    for (; at.begin < at.end && sorted[at.begin].text.n == at.depth; at.begin++)
        if (t->ids[node] == TOK_ID_NONE) t->ids[node] = sorted[at.begin].id;
    for (uint32_t i = at.begin; i < at.end; i++) {
        uint8_t byte = (uint8_t)sorted[i].text.p[at.depth];
        bool is_new = i == at.begin || t->bytes[t->count - 1] != byte;
        if (is_new) {
            t->bytes[t->count] = byte;
            stretches[t->count++] = (trie_stretch){.begin = i, .depth = at.depth + 1};
        }
        stretches[t->count - 1].end = i + 1;
    }
}

static void build(tok_trie *t, trie_stretch *stretches, const trie_text *sorted, uint32_t n) {
    stretches[0] = (trie_stretch){.end = n};
    t->count = 1;
    for (uint32_t node = 0; node < t->count; node++) add_children(t, stretches, sorted, node);
    t->first[t->count] = t->count;
    for (uint32_t i = t->first[0]; t->count > 1 && i < t->first[1]; i++) t->root[t->bytes[i]] = i;
}

status tok_trie_init(tok_trie *t, const str *texts, const bool *use, uint32_t count, error *err) {
    uint64_t bytes = 0;
    status st = OK;
    trie_stretch *stretches = NULL;
    trie_text *sorted = mem_try_calloc(count, sizeof *sorted);
    *t = (tok_trie){0};
    uint32_t n = sorted != NULL ? collect(sorted, texts, use, count, &bytes) : 0;
    if (bytes >= UINT32_MAX / sizeof(trie_stretch)) {
        st = error_set(err, ERR_LIMIT, "tokenizer: pieces of %llu bytes, at most %zu",
                       (unsigned long long)bytes, UINT32_MAX / sizeof(trie_stretch));
        goto out;
    }
    stretches = mem_try_calloc(bytes + 1, sizeof *stretches);
    t->first = mem_try_calloc(bytes + 2, sizeof *t->first);
    t->bytes = mem_try_calloc(bytes + 1, sizeof *t->bytes);
    t->ids = mem_try_calloc(bytes + 1, sizeof *t->ids);
    if (sorted == NULL || stretches == NULL || t->first == NULL || t->bytes == NULL ||
        t->ids == NULL) {
        st = error_set(err, ERR_NOMEM, "tokenizer: no memory for %u pieces", count);
        goto out;
    }
    build(t, stretches, sorted, n);
out:
    mem_free(sorted);
    mem_free(stretches);
    if (st != OK) tok_trie_deinit(t);
    return st;
}

void tok_trie_deinit(tok_trie *t) {
    mem_free(t->first);
    mem_free(t->bytes);
    mem_free(t->ids);
    *t = (tok_trie){0};
}

uint32_t tok_trie_child_of_many(const tok_trie *t, uint32_t node, uint8_t byte) {
    uint32_t begin = t->first[node], end = t->first[node + 1];
    while (end - begin > SHORT_LIST) {
        uint32_t middle = begin + (end - begin) / 2;
        if (t->bytes[middle] <= byte)
            begin = middle;
        else
            end = middle;
    }
    for (; begin < end; begin++)
        if (t->bytes[begin] == byte) return begin;
    return 0;
}

int32_t tok_trie_longest(const tok_trie *t, uint32_t node, str text, size_t *bytes) {
    int32_t best = TOK_ID_NONE;
    *bytes = 0;
    for (size_t i = 0; i < text.n; i++) {
        node = tok_trie_child(t, node, (uint8_t)text.p[i]);
        if (node == 0) break;
        if (t->ids[node] == TOK_ID_NONE) continue;
        best = t->ids[node];
        *bytes = i + 1;
    }
    return best;
}

bool tok_trie_walk(const tok_trie *t, str text, uint32_t *node) {
    *node = TOK_TRIE_ROOT;
    for (size_t i = 0; i < text.n; i++) {
        *node = tok_trie_child(t, *node, (uint8_t)text.p[i]);
        if (*node == 0) return false;
    }
    return true;
}
