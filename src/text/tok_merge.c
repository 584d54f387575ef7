/* tok_merge.c - byte pair merging by score, for text without special tokens.
 *
 * The text is read in units (characters) and cut into runs wherever no token holds the two units
 * on both sides of the cut: merges cannot cross it, so runs are independent and in
 * ordinary text about as long as words.  In a run every unit is a symbol in a linked list, and
 * a heap hands out neighbouring pairs whose concatenation is a token: best score first, then
 * leftmost.
 *
 *   symbols   [lo][w][est]        symbol.pair: the token of it and its right neighbour
 *   heap      (score of "west", 1) (score of "low", 0)
 *
 * A merge changes the pairs of two symbols and pushes them anew; their old entries stay in the
 * heap and are told by comparing them with what the symbol's pair is now.  With n units there are
 * at most n - 1 first entries, and each merge takes one and adds two, so 2n is room
 * enough. */
#include <math.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "text/heap.h"
#include "text/tok_internal.h"

#define MERGE_NONE UINT32_MAX

/* --- units: text with its spaces escaped, one character at a time ---------------------------- */

/* U+2581 LOWER ONE EIGHTH BLOCK stands for a space in pieces. */
static const unsigned char SPACE_MARK[3] = {0xE2, 0x96, 0x81};

typedef struct unit_reader {
    str rest;
    uint32_t mark_left; /* bytes of an escaped space still to come */
} unit_reader;

static bool next_byte(unit_reader *r, unsigned char *out) {
    if (r->mark_left == 0) {
        if (r->rest.n == 0) return false;
        char c = r->rest.p[0];
        r->rest = str_skip(r->rest, 1);
        if (c != ' ') {
            *out = (unsigned char)c;
            return true;
        }
        r->mark_left = sizeof SPACE_MARK;
    }
    *out = SPACE_MARK[sizeof SPACE_MARK - r->mark_left--];
    return true;
}

/* Bytes that the first byte of a UTF-8 sequence announces; 1 for one that begins none. */
static uint32_t announced_bytes(unsigned char first) {
    if (first < 0xC0) return 1;
    return first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

static tok_unit next_unit(unit_reader *r) {
    tok_unit u = {0};
    if (!next_byte(r, &u.p[0])) return u;
    uint32_t want = announced_bytes(u.p[0]);
    for (u.bytes = 1; u.bytes < want && next_byte(r, &u.p[u.bytes]);) u.bytes++;
    return u;
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
    mem_free(s->text);
    mem_free(s->symbols);
    mem_free(s->heap);
    *s = (merge_scratch){0};
}

static bool grow(void **array, size_t count, size_t each) {
    size_t bytes = 0;
    void *more = num_mul_size(&bytes, count, each) ? mem_try_realloc(*array, bytes) : NULL;
    if (more != NULL) *array = more;
    return more != NULL;
}

static status scratch_grow(merge_scratch *s, error *err) {
    uint32_t cap = s->cap == 0 ? 256 : 2 * s->cap;
    void *text = s->text, *symbols = s->symbols, *heap = s->heap;
    bool ok = s->cap <= UINT32_MAX / 4 && grow(&text, cap, 4) &&
              grow(&symbols, cap, sizeof *s->symbols) && grow(&heap, cap, 2 * sizeof *s->heap);
    s->text = text;
    s->symbols = symbols;
    s->heap = heap;
    if (!ok)
        return error_set(err, ERR_NOMEM, "prompt: no memory for a run of %u characters", s->cap);
    s->cap = cap;
    return OK;
}

static status add_symbol(merge_scratch *s, tok_unit u, error *err) {
    if (s->count == s->cap) TRY(scratch_grow(s, err));
    uint32_t i = s->count++;
    s->symbols[i] = (merge_symbol){.start = s->text_bytes,
                                   .bytes = u.bytes,
                                   .prev = i - 1,
                                   .next = i + 1,
                                   .pair = TOK_ID_NONE};
    memcpy(s->text + s->text_bytes, u.p, u.bytes);
    s->text_bytes += u.bytes;
    return OK;
}

/* --- merging ---------------------------------------------------------------------------------- */

static int32_t find_token(const tokenizer *t, merge_scratch *s, uint32_t start, uint32_t bytes) {
    if (bytes > t->piece_bytes_max) return TOK_ID_NONE;
    s->work++;
    return piece_table_find(&t->pieces, (str){s->text + start, bytes});
}

/* Small for good scores: the bits of an IEEE 754 float sort like the number once the negative ones
 * are turned round.  A score that is not a number is the worst. */
static uint32_t score_order(float score) {
    uint32_t bits = 0;
    if (isnan(score)) return UINT32_MAX;
    if (score == 0) score = 0; /* no negative zero */
    memcpy(&bits, &score, sizeof bits);
    return (bits & 0x80000000u) != 0 ? bits : ~(bits | 0x80000000u);
}

static uint64_t pair_order(const tokenizer *t, const merge_scratch *s, uint32_t left) {
    return (uint64_t)score_order(t->vocab.scores[s->symbols[left].pair]) << 32 | left;
}

/* Looks `left` and its right neighbour up as one token, and queues them when they are. */
static void queue_pair(const tokenizer *t, merge_scratch *s, uint32_t left, size_t *heap_count) {
    merge_symbol *a = &s->symbols[left];
    a->pair = TOK_ID_NONE;
    if (a->next == MERGE_NONE) return;
    a->pair = find_token(t, s, a->start, a->bytes + s->symbols[a->next].bytes);
    if (a->pair == TOK_ID_NONE) return;
    ASSERT(*heap_count < 2 * (size_t)s->count);
    s->work += heap_push(s->heap, heap_count, pair_order(t, s, left));
}

static void merge_pair(merge_scratch *s, uint32_t left) {
    merge_symbol *a = &s->symbols[left], *b = &s->symbols[a->next];
    a->id = a->pair;
    a->bytes += b->bytes;
    a->next = b->next;
    if (b->next != MERGE_NONE) s->symbols[b->next].prev = left;
    *b = (merge_symbol){.pair = TOK_ID_NONE};
}

/* Merges the symbols of a run until no two neighbours make a token. */
static void merge_run(const tokenizer *t, merge_scratch *s) {
    size_t heap_count = 0;
    s->symbols[s->count - 1].next = MERGE_NONE; /* symbol 0 has prev MERGE_NONE: 0 - 1 */
    for (uint32_t i = 0; i < s->count; i++) queue_pair(t, s, i, &heap_count);
    while (heap_count > 0) {
        uint64_t best = 0;
        s->work += heap_pop(s->heap, &heap_count, &best);
        uint32_t left = (uint32_t)best;
        if (s->symbols[left].pair == TOK_ID_NONE || pair_order(t, s, left) != best) continue;
        merge_pair(s, left);
        queue_pair(t, s, left, &heap_count);
        if (s->symbols[left].prev != MERGE_NONE)
            queue_pair(t, s, s->symbols[left].prev, &heap_count);
    }
}

/* The ids of the symbols; a character that is no token goes out byte by byte. */
static void emit_run(const tokenizer *t, merge_scratch *s, tok_sink *sink) {
    for (uint32_t i = 0; i != MERGE_NONE; i = s->symbols[i].next) {
        const merge_symbol *sym = &s->symbols[i];
        if (sym->id != TOK_ID_NONE) {
            tok_sink_put(sink, sym->id);
            continue;
        }
        for (uint32_t k = 0; k < sym->bytes; k++)
            tok_sink_put(sink, t->bytes[(unsigned char)s->text[sym->start + k]]);
    }
}

status merge_encode(const tokenizer *t, str text, bool space_first, merge_scratch *s,
                    tok_sink *sink, error *err) {
    unit_reader reader = {.rest = text, .mark_left = space_first ? sizeof SPACE_MARK : 0};
    tok_unit unit = next_unit(&reader);
    while (unit.bytes != 0 && !tok_sink_is_over(sink)) {
        s->count = 0;
        s->text_bytes = 0;
        for (;;) {
            TRY(add_symbol(s, unit, err));
            merge_symbol *sym = &s->symbols[s->count - 1];
            sym->id = find_token(t, s, sym->start, sym->bytes);
            tok_unit before = unit;
            unit = next_unit(&reader);
            if (unit.bytes == 0 || !tok_may_join(t, before, unit)) break;
        }
        merge_run(t, s);
        emit_run(t, s, sink);
    }
    return OK;
}
