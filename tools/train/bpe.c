/* bpe.c - see bpe.h.
 *
 * Every word is a run of token ids in one long array.  For each pair of neighbours there is a row
 * with its count and the list of words it has ever stood in.  The best pair comes from a heap whose
 * entries carry the count they were made with: an entry that is out of date is dropped, since
 * every change of a count puts a fresh entry in.  A merge then visits only the words of its list.
 *
 *   heap -> pair -> words: count their pairs out, merge, count the new pairs in -> heap
 *
 * Two ways to the same bytes ("a" + "bc", "ab" + "c") are two merges to one token. */
#include "train/bpe.h"

#include "base/alloc.h"
#include "base/map.h"
#include "base/num.h"
#include "train/words.h"

#define MEMORY_MAX ((size_t)8 << 30)
#define NONE       UINT32_MAX

/* --- the state --------------------------------------------------------------------------- */

typedef struct pair_row {
    uint32_t left, right;
    int64_t count;
    uint32_t places; /* newest link of its list of words */
    uint32_t round;  /* the merge that changed its count last */
} pair_row;

typedef struct place {
    uint32_t word;
    uint32_t next;
} place;

typedef struct heap_entry {
    int64_t count;
    uint32_t pair;
} heap_entry;

typedef struct learner {
    bpe *out;
    map known;               /* bytes of each token to its id */
    uint32_t *symbols;       /* owned: the words one behind the other */
    uint32_t *begins, *ends; /* [words] owned */
    const word_count *words; /* borrowed */
    uint32_t words_count;
    buf pairs;            /* of pair_row */
    buf places;           /* of place */
    buf heap;             /* of heap_entry */
    buf changed;          /* uint32 pairs of this round */
    uint32_t *slots;      /* owned: hash of pairs, [slots_count] */
    uint32_t slots_count; /* a power of two */
    uint32_t round;
} learner;

static pair_row *row_of(const learner *l, uint32_t pair) {
    return (pair_row *)(void *)l->pairs.p + pair;
}
static uint32_t rows_count(const learner *l) { return (uint32_t)(l->pairs.n / sizeof(pair_row)); }

/* --- finding pairs ----------------------------------------------------------------------- */

static uint32_t hash_pair(uint32_t left, uint32_t right) {
    uint64_t h = ((uint64_t)left << 32 | right) * UINT64_C(0x9E3779B97F4A7C15);
    return (uint32_t)(h >> 32);
}

/* The slot of a pair, or the empty one where it belongs. */
static uint32_t *slot_of(const learner *l, uint32_t left, uint32_t right) {
    for (uint32_t i = hash_pair(left, right);; i++) {
        uint32_t *slot = &l->slots[i & (l->slots_count - 1)];
        if (*slot == NONE) return slot;
        const pair_row *r = row_of(l, *slot);
        if (r->left == left && r->right == right) return slot;
    }
}

static status grow_slots(learner *l, error *err) {
    const uint32_t count = l->slots_count == 0 ? 1 << 16 : l->slots_count * 2;
    mem_free(l->slots);
    l->slots = count > 0 ? mem_try_alloc((size_t)count * sizeof *l->slots) : NULL;
    if (l->slots == NULL) return error_set(err, ERR_NOMEM, "bpe: no memory for %u pairs", count);
    l->slots_count = count;
    for (uint32_t i = 0; i < count; i++) l->slots[i] = NONE;
    for (uint32_t i = 0; i < rows_count(l); i++)
        *slot_of(l, row_of(l, i)->left, row_of(l, i)->right) = i;
    return OK;
}

static status find_or_add(learner *l, uint32_t left, uint32_t right, uint32_t *out, error *err) {
    if (rows_count(l) >= l->slots_count / 2) TRY(grow_slots(l, err));
    uint32_t *slot = slot_of(l, left, right);
    if (*slot == NONE) {
        const pair_row fresh = {left, right, 0, NONE, NONE};
        *slot = rows_count(l);
        buf_put(&l->pairs, &fresh, sizeof fresh);
    }
    *out = *slot;
    return buf_status(&l->pairs, "pairs", err);
}

/* --- the heap: most frequent first, then by bytes ---------------------------------------- */

static int compare_bytes(str a, str b) {
    const int order = memcmp(a.p, b.p, num_min_size(a.n, b.n));
    return order != 0 ? order : (a.n > b.n) - (a.n < b.n);
}

static bool goes_first(const learner *l, heap_entry a, heap_entry b) {
    if (a.count != b.count) return a.count > b.count;
    const pair_row *x = row_of(l, a.pair), *y = row_of(l, b.pair);
    const str *tokens = l->out->tokens;
    const int left = compare_bytes(tokens[x->left], tokens[y->left]);
    return left != 0 ? left < 0 : compare_bytes(tokens[x->right], tokens[y->right]) < 0;
}

static void heap_put(learner *l, heap_entry e) {
    buf_put(&l->heap, &e, sizeof e);
    if (l->heap.failed) return;
    heap_entry *h = (heap_entry *)(void *)l->heap.p;
    size_t i = l->heap.n / sizeof e - 1;
    for (; i > 0 && goes_first(l, e, h[(i - 1) / 2]); i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
    h[i] = e;
}

static heap_entry heap_take(learner *l) {
    heap_entry *h = (heap_entry *)(void *)l->heap.p;
    const heap_entry first = h[0];
    l->heap.n -= sizeof first;
    const size_t count = l->heap.n / sizeof first;
    const heap_entry last = h[count];
    size_t i = 0;
    for (size_t child = 1; child < count; child = 2 * i + 1) {
        if (child + 1 < count && goes_first(l, h[child + 1], h[child])) child++;
        if (!goes_first(l, h[child], last)) break;
        h[i] = h[child];
        i = child;
    }
    if (count > 0) h[i] = last;
    return first;
}

/* The best pair with a count above 1; NONE when there is none left. */
static uint32_t best_pair(learner *l) {
    while (l->heap.n > 0) {
        const heap_entry e = heap_take(l);
        if (e.count == row_of(l, e.pair)->count && e.count > 1) return e.pair;
    }
    return NONE;
}

/* --- counting ---------------------------------------------------------------------------- */

/* Each pair goes on the list of changed ones once a round. */
static void note_change(learner *l, uint32_t pair) {
    pair_row *r = row_of(l, pair);
    if (r->round == l->round) return;
    r->round = l->round;
    buf_put(&l->changed, &pair, sizeof pair);
}

/* Adds sign * count of word `w` to each of its pairs; with sign 1 the word joins their lists. */
static status count_word(learner *l, uint32_t w, int sign, error *err) {
    const int64_t count = sign * (int64_t)l->words[w].count;
    for (uint32_t i = l->begins[w]; i + 1 < l->ends[w]; i++) {
        uint32_t pair = 0;
        TRY(find_or_add(l, l->symbols[i], l->symbols[i + 1], &pair, err));
        pair_row *r = row_of(l, pair);
        r->count += count;
        note_change(l, pair);
        if (sign < 0) continue;
        const place *newest = (const place *)(const void *)l->places.p + r->places;
        if (r->places != NONE && newest->word == w) continue;
        const place p = {w, r->places};
        r->places = (uint32_t)(l->places.n / sizeof p);
        buf_put(&l->places, &p, sizeof p);
    }
    return buf_status(&l->places, "places of pairs", err);
}

/* Fresh entries for the pairs whose counts the round has changed. */
static status end_round(learner *l, error *err) {
    const uint32_t *pairs = (const uint32_t *)(const void *)l->changed.p;
    TRY(buf_status(&l->changed, "pairs", err));
    for (size_t i = 0; i < l->changed.n / sizeof *pairs; i++)
        if (row_of(l, pairs[i])->count > 1)
            heap_put(l, (heap_entry){row_of(l, pairs[i])->count, pairs[i]});
    buf_clear(&l->changed);
    l->round++;
    return buf_status(&l->heap, "pairs", err);
}

/* --- merging ----------------------------------------------------------------------------- */

/* Is the pair still in the word?  Lists keep words it has gone from. */
static bool word_has(const learner *l, uint32_t w, const pair_row *r) {
    for (uint32_t i = l->begins[w]; i + 1 < l->ends[w]; i++)
        if (l->symbols[i] == r->left && l->symbols[i + 1] == r->right) return true;
    return false;
}

static void merge_word(learner *l, uint32_t w, const pair_row *r, uint32_t merged) {
    uint32_t to = l->begins[w];
    for (uint32_t i = l->begins[w]; i < l->ends[w]; i++) {
        const bool here =
            i + 1 < l->ends[w] && l->symbols[i] == r->left && l->symbols[i + 1] == r->right;
        l->symbols[to++] = here ? merged : l->symbols[i];
        if (here) i++;
    }
    l->ends[w] = to;
}

static status merge_everywhere(learner *l, uint32_t pair, uint32_t merged, error *err) {
    const pair_row r = *row_of(l, pair); /* rows move when there are more */
    for (uint32_t at = r.places; at != NONE;) {
        const place p = ((const place *)(const void *)l->places.p)[at];
        at = p.next;
        if (!word_has(l, p.word, &r)) continue;
        TRY(count_word(l, p.word, -1, err));
        merge_word(l, p.word, &r, merged);
        TRY(count_word(l, p.word, 1, err));
    }
    return end_round(l, err);
}

/* The token with the bytes of both, new or not. */
static status join(learner *l, const pair_row *r, uint32_t *out, error *err) {
    bpe *b = l->out;
    char text[2 * BPE_TOKEN_BYTES_MAX];
    const str left = b->tokens[r->left], right = b->tokens[r->right];
    memcpy(text, left.p, left.n);
    memcpy(text + left.n, right.p, right.n);
    const str joined = {text, left.n + right.n};
    if (map_get(&l->known, joined, out)) return OK;
    const str kept = arena_dup(&b->memory, joined);
    if (kept.p == NULL)
        return error_set(err, ERR_NOMEM, "bpe: no memory for %u tokens", b->tokens_count);
    *out = b->tokens_count++;
    b->tokens[*out] = kept;
    (void)map_add(&l->known, kept, *out);
    return OK;
}

static status learn(learner *l, uint32_t tokens_max, error *err) {
    bpe *b = l->out;
    while (b->tokens_count < tokens_max) {
        const uint32_t pair = best_pair(l);
        if (pair == NONE || b->merges_count == 2 * tokens_max) return OK;
        const pair_row r = *row_of(l, pair);
        if (b->tokens[r.left].n + b->tokens[r.right].n > BPE_TOKEN_BYTES_MAX) continue;
        uint32_t merged = 0;
        TRY(join(l, &r, &merged, err));
        b->merges[b->merges_count++] = (bpe_pair){r.left, r.right};
        TRY(merge_everywhere(l, pair, merged, err));
    }
    return OK;
}

/* --- beginning and end ------------------------------------------------------------------- */

static status add_bytes(learner *l, error *err) {
    bpe *b = l->out;
    for (uint32_t i = 0; i < BPE_BYTES; i++) {
        const char byte = (char)i;
        b->tokens[i] = arena_dup(&b->memory, (str){&byte, 1});
        if (b->tokens[i].p == NULL) return error_set(err, ERR_NOMEM, "bpe: no memory for bytes");
        (void)map_add(&l->known, b->tokens[i], i);
    }
    b->tokens_count = BPE_BYTES;
    return OK;
}

static status add_words(learner *l, const words *w, error *err) {
    size_t bytes = 0;
    l->words = words_list(w);
    l->words_count = words_count(w);
    for (uint32_t i = 0; i < l->words_count; i++) bytes += l->words[i].text.n;
    if (bytes > UINT32_MAX / 2)
        return error_set(err, ERR_LIMIT, "bpe: %zu bytes of different words, at most %u", bytes,
                         UINT32_MAX / 2);
    l->symbols = mem_try_alloc((bytes + 1) * sizeof *l->symbols);
    l->begins = mem_try_calloc((size_t)l->words_count + 1, sizeof *l->begins);
    l->ends = mem_try_calloc((size_t)l->words_count + 1, sizeof *l->ends);
    if (l->symbols == NULL || l->begins == NULL || l->ends == NULL)
        return error_set(err, ERR_NOMEM, "bpe: no memory for %u words", l->words_count);
    uint32_t at = 0;
    for (uint32_t i = 0; i < l->words_count; i++) {
        const str text = l->words[i].text;
        l->begins[i] = at;
        for (size_t k = 0; k < text.n; k++) l->symbols[at++] = (unsigned char)text.p[k];
        l->ends[i] = at;
        TRY(count_word(l, i, 1, err));
    }
    return end_round(l, err);
}

static status begin(learner *l, uint32_t tokens_max, error *err) {
    bpe *b = l->out;
    if (tokens_max < BPE_BYTES || tokens_max > BPE_TOKENS_MAX)
        return error_set(err, ERR_INVALID, "bpe: %u tokens, must be %d to %d", tokens_max,
                         BPE_BYTES, BPE_TOKENS_MAX);
    b->tokens = arena_take(&b->memory, tokens_max * sizeof *b->tokens);
    b->merges = arena_take(&b->memory, 2 * (size_t)tokens_max * sizeof *b->merges);
    if (b->tokens == NULL || b->merges == NULL)
        return error_set(err, ERR_NOMEM, "bpe: no memory for %u tokens", tokens_max);
    TRY(map_init(&l->known, tokens_max, err));
    return add_bytes(l, err);
}

status bpe_train(bpe *b, const words *w, uint32_t tokens_max, error *err) {
    learner l = {.out = b};
    buf *bufs[] = {&l.pairs, &l.places, &l.heap, &l.changed};
    *b = (bpe){0};
    arena_init(&b->memory, MEMORY_MAX);
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++) buf_init(bufs[i], MEMORY_MAX);
    status st = begin(&l, tokens_max, err);
    if (st == OK) st = add_words(&l, w, err);
    if (st == OK) st = learn(&l, tokens_max, err);
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++) buf_deinit(bufs[i]);
    map_deinit(&l.known);
    mem_free(l.slots);
    mem_free(l.symbols);
    mem_free(l.begins);
    mem_free(l.ends);
    return st;
}

void bpe_deinit(bpe *b) {
    arena_deinit(&b->memory);
    *b = (bpe){0};
}
