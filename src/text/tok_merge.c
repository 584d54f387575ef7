/* tok_merge.c - byte pair merging, by score (TOK_KIND_SPM) or by rank (TOK_KIND_BPE).
 *
 * The word is read in units (characters or bytes) and cut into runs wherever no token holds the
 * two units on both sides of the cut: merges cannot cross it, so runs are independent and in
 * ordinary text short.  In a run every unit is a symbol in a linked list, and neighbours that
 * make a token are merged: smallest order first, then leftmost.
 *
 *   symbols   [lo][w][est]        symbol.pair: the token of it and its right neighbour
 *   queue     (order of "west", 1) (order of "low", 0)
 *
 * Short runs look through the list for the best pair; long ones keep the pairs in a queue.  A
 * merge changes the pairs of two symbols and pushes them anew; their old entries stay in the
 * queue and are told by comparing them with what the symbol's pair is now.  With n units there are
 * at most n - 1 first entries and n - 1 merges, each of which takes one and adds two: at most
 * 3n pushes, of which 2n are in the queue at once. */
#include <math.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "text/tok_internal.h"

#define MERGE_NONE UINT32_MAX

enum { SHORT_RUN = 24 }; /* symbols; up to here a look through the list is quicker than a queue */

/* --- units -------------------------------------------------------------------------------- */

/* Bytes that the first byte of a UTF-8 sequence announces; 1 for one that begins none. */
static uint32_t announced_bytes(unsigned char first) {
    if (first < 0xC0) return 1;
    return first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

tok_unit tok_unit_first(str text) {
    tok_unit u = {0};
    if (text.n == 0) return u;
    u.bytes = (uint32_t)num_min_size(announced_bytes((unsigned char)text.p[0]), text.n);
    memcpy(u.p, text.p, u.bytes);
    return u;
}

/* --- scratch ---------------------------------------------------------------------------------- */

void merge_scratch_deinit(merge_scratch *s) {
    mem_free(s->symbols);
    merge_queue_deinit(&s->queue);
    *s = (merge_scratch){0};
}

static bool grow(void **array, size_t count, size_t each) {
    size_t bytes = 0;
    void *more = num_mul_size(&bytes, count, each) ? mem_try_realloc(*array, bytes) : NULL;
    if (more != NULL) *array = more;
    return more != NULL;
}

static status no_memory(uint32_t symbols, error *err) {
    return error_set(err, ERR_NOMEM, "prompt: no memory for a run of %u characters", symbols);
}

static status symbols_grow(merge_scratch *s, error *err) {
    uint32_t cap = s->cap == 0 ? 256 : 2 * s->cap;
    void *symbols = s->symbols;
    if (s->cap > UINT32_MAX / 4 || !grow(&symbols, cap, sizeof *s->symbols))
        return no_memory(s->cap, err);
    s->symbols = symbols;
    s->cap = cap;
    return OK;
}

static status add_symbol(merge_scratch *s, merge_symbol symbol, error *err) {
    if (s->count == s->cap) TRY(symbols_grow(s, err));
    uint32_t i = s->count++;
    symbol.prev = i - 1; /* of symbol 0 it is MERGE_NONE */
    symbol.next = i + 1;
    symbol.pair = TOK_ID_NONE;
    s->symbols[i] = symbol;
    return OK;
}

/* --- pairs -------------------------------------------------------------------------------- */

/* Small for good scores: the bits of an IEEE 754 float sort like the number once the negative ones
 * are turned round.  A score that is not a number is the worst. */
static uint32_t score_order(float score) {
    uint32_t bits = 0;
    if (isnan(score)) return UINT32_MAX;
    if (score == 0) score = 0; /* no negative zero */
    memcpy(&bits, &score, sizeof bits);
    return (bits & 0x80000000u) != 0 ? bits : ~(bits | 0x80000000u);
}

/* SPM: the token with the text of both. */
static void find_by_text(const tokenizer *t, str word, merge_symbol *a, const merge_symbol *b) {
    uint32_t bytes = a->bytes + b->bytes;
    if (bytes > t->piece_bytes_max) return;
    a->pair = piece_table_find(&t->pieces, (str){word.p + a->start, bytes});
    if (a->pair != TOK_ID_NONE) a->order = score_order(t->vocab.scores[a->pair]);
}

/* BPE: the merge of both ids. */
static void find_by_ids(const tokenizer *t, merge_symbol *a, const merge_symbol *b) {
    if (a->id == TOK_ID_NONE || b->id == TOK_ID_NONE) return;
    const pair_slot *merge = pair_table_find(&t->pairs, a->id, b->id);
    if (merge == NULL) return;
    a->pair = merge->merged;
    a->order = merge->rank;
}

/* Looks `left` and its right neighbour up as one token. */
static void find_pair(const tokenizer *t, str word, merge_scratch *s, uint32_t left) {
    merge_symbol *a = &s->symbols[left];
    a->pair = TOK_ID_NONE;
    if (a->next == MERGE_NONE) return;
    s->work++;
    if (t->vocab.kind == TOK_KIND_SPM)
        find_by_text(t, word, a, &s->symbols[a->next]);
    else
        find_by_ids(t, a, &s->symbols[a->next]);
}

static void merge_pair(merge_scratch *s, uint32_t left) {
    merge_symbol *a = &s->symbols[left], *b = &s->symbols[a->next];
    a->id = a->pair;
    a->bytes += b->bytes;
    a->next = b->next;
    if (b->next != MERGE_NONE) s->symbols[b->next].prev = left;
    *b = (merge_symbol){.pair = TOK_ID_NONE};
}

/* --- runs --------------------------------------------------------------------------------- */

static void merge_short_run(const tokenizer *t, str word, merge_scratch *s) {
    for (;;) {
        uint32_t best = MERGE_NONE;
        for (uint32_t i = 0; i != MERGE_NONE; i = s->symbols[i].next) {
            if (s->symbols[i].pair == TOK_ID_NONE) continue;
            if (best == MERGE_NONE || s->symbols[i].order < s->symbols[best].order) best = i;
        }
        if (best == MERGE_NONE) return;
        merge_pair(s, best);
        find_pair(t, word, s, best);
        if (s->symbols[best].prev != MERGE_NONE) find_pair(t, word, s, s->symbols[best].prev);
    }
}

static void queue_pair(merge_scratch *s, uint32_t left) {
    const merge_symbol *a = &s->symbols[left];
    if (a->pair != TOK_ID_NONE) s->work += merge_queue_push(&s->queue, a->order, left);
}

static void merge_long_run(const tokenizer *t, str word, merge_scratch *s) {
    for (uint32_t i = 0; i < s->count; i++) queue_pair(s, i);
    while (s->queue.heap_count > 0) {
        uint32_t order = 0, left = 0;
        s->work += merge_queue_pop(&s->queue, &order, &left);
        const merge_symbol *a = &s->symbols[left];
        if (a->pair == TOK_ID_NONE || a->order != order) continue;
        merge_pair(s, left);
        find_pair(t, word, s, left);
        queue_pair(s, left);
        uint32_t prev = a->prev;
        if (prev == MERGE_NONE) continue;
        find_pair(t, word, s, prev);
        queue_pair(s, prev);
    }
}

/* Merges the symbols of a run until no two neighbours make a token. */
static status merge_run(const tokenizer *t, str word, merge_scratch *s, error *err) {
    s->symbols[s->count - 1].next = MERGE_NONE;
    for (uint32_t i = 0; i < s->count; i++) find_pair(t, word, s, i);
    if (s->count <= SHORT_RUN) {
        merge_short_run(t, word, s);
        return OK;
    }
    TRY(merge_queue_begin(&s->queue, s->count, err));
    merge_long_run(t, word, s);
    return OK;
}

/* --- ids ---------------------------------------------------------------------------------- */

/* Is there a token for each byte of the character? */
static bool has_bytes(const tokenizer *t, str text) {
    for (size_t i = 0; i < text.n; i++)
        if (t->bytes[(unsigned char)text.p[i]] == TOK_ID_NONE) return false;
    return true;
}

/* A unit that is no token goes out byte by byte, or else as unknown. */
static void emit_unit(const tokenizer *t, str text, tok_sink *sink) {
    if (!has_bytes(t, text)) {
        tok_sink_put_unknown(sink, t);
        return;
    }
    for (size_t k = 0; k < text.n; k++) tok_sink_put(sink, t->bytes[(unsigned char)text.p[k]]);
}

static void emit_run(const tokenizer *t, str word, const merge_scratch *s, tok_sink *sink) {
    for (uint32_t i = 0; i != MERGE_NONE; i = s->symbols[i].next) {
        const merge_symbol *sym = &s->symbols[i];
        if (sym->id != TOK_ID_NONE)
            tok_sink_put(sink, sym->id);
        else
            emit_unit(t, (str){word.p + sym->start, sym->bytes}, sink);
    }
}

/* --- words -------------------------------------------------------------------------------- */

/* A unit as it is spelled at the start, in the middle or at the end of a word. */
static int32_t find_dressed(const tokenizer *t, str unit, bool is_first, bool is_last) {
    char text[2 * TOK_PIECE_BYTES_MAX + 4];
    str before = is_first ? S("") : t->vocab.continuing_prefix;
    str after = is_last ? t->vocab.end_of_word : S("");
    size_t n = 0;
    memcpy(text, before.p, before.n);
    n += before.n;
    memcpy(text + n, unit.p, unit.n);
    n += unit.n;
    memcpy(text + n, after.p, after.n);
    return piece_table_find(&t->pieces, (str){text, n + after.n});
}

static int32_t find_unit(const tokenizer *t, str word, size_t at, uint32_t bytes) {
    str unit = {word.p + at, bytes};
    if (t->units_are_bytes && t->vocab.end_of_word.n == 0) return t->bytes[(uint8_t)word.p[at]];
    if (t->vocab.end_of_word.n == 0 && t->vocab.continuing_prefix.n == 0)
        return piece_table_find(&t->pieces, unit);
    return find_dressed(t, unit, at == 0, at + bytes == word.n);
}

/* The units of the run that begins at `at`; returns where it ends. */
static status read_run(const tokenizer *t, str word, size_t *at, merge_scratch *s, error *err) {
    tok_unit unit = tok_unit_of(t, str_skip(word, *at));
    s->count = 0;
    for (bool joins = true; joins;) {
        merge_symbol symbol = {.start = (uint32_t)*at, .bytes = unit.bytes};
        symbol.id = find_unit(t, word, *at, unit.bytes);
        s->work++;
        TRY(add_symbol(s, symbol, err));
        *at += unit.bytes;
        tok_unit before = unit;
        unit = tok_unit_of(t, str_skip(word, *at));
        joins = unit.bytes > 0 && tok_may_join(t, before, unit);
    }
    return OK;
}

/* ignore_merges: a word that is a token as a whole. */
static int32_t find_word(const tokenizer *t, str word) {
    if (!t->vocab.ignore_merges || word.n > TOK_PIECE_BYTES_MAX) return TOK_ID_NONE;
    return piece_table_find(&t->pieces, word);
}

status merge_encode(const tokenizer *t, str word, merge_scratch *s, tok_sink *sink, error *err) {
    int32_t whole = find_word(t, word);
    if (whole != TOK_ID_NONE) {
        tok_sink_put(sink, whole);
        return OK;
    }
    for (size_t at = 0; at < word.n && !tok_sink_is_over(sink);) {
        TRY(read_run(t, word, &at, s, err));
        TRY(merge_run(t, word, s, err));
        emit_run(t, word, s, sink);
    }
    return OK;
}
