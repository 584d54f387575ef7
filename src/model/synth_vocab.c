/* synth_vocab.c - a made-up SentencePiece vocabulary that encodes any text.
 *
 * Order, and with it preference (score = -id): three specials, the 256 bytes, the space
 * mark and the printable ASCII characters, then syllables of growing length, each length
 * first without and then with a leading space mark.  Syllables alternate consonant and
 * vowel, so every piece is a shorter piece plus one character: merges reach them all. */
#include <stdio.h>

#include "base/arena.h"
#include "base/assert.h"
#include "model/synth_internal.h"
#include "text/tok_vocab.h"

#define SPACE_MARK "\xe2\x96\x81" /* U+2581 */

static const char consonants[] = "bcdfghjklmnpqrstvwxz";
static const char vowels[] = "aeiou";
enum { CONSONANTS = sizeof consonants - 1, VOWELS = sizeof vowels - 1, SYLLABLE_MAX = 5 };

typedef struct word_list {
    arena memory;
    uint32_t count, count_max;
    str *pieces;    /* [count_max], all in the arena */
    float *scores;  /* [count_max] */
    int32_t *types; /* [count_max] tok_type */
} word_list;

static status list_init(word_list *l, uint32_t count_max, error *err) {
    *l = (word_list){.count_max = count_max};
    arena_init(&l->memory, (size_t)64 << 20);
    l->pieces = arena_take(&l->memory, count_max * sizeof *l->pieces);
    l->scores = arena_take(&l->memory, count_max * sizeof *l->scores);
    l->types = arena_take(&l->memory, count_max * sizeof *l->types);
    if (l->pieces != NULL && l->scores != NULL && l->types != NULL) return OK;
    arena_deinit(&l->memory);
    return error_set(err, ERR_NOMEM, "synth: no memory for %u tokens", count_max);
}

/* A piece that gets no memory ends the list early, which list_check() reports. */
static void add(word_list *l, const char *text, tok_type type) {
    if (l->count == l->count_max) return;
    str piece = arena_dup(&l->memory, str_of(text));
    if (piece.p == NULL) return;
    l->pieces[l->count] = piece;
    l->scores[l->count] = type == TOK_TYPE_NORMAL ? -(float)l->count : 0.0f;
    l->types[l->count] = (int32_t)type;
    l->count++;
}

static void add_bytes(word_list *l) {
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[8];
        (void)snprintf(text, sizeof text, "<0x%02X>", byte);
        add(l, text, TOK_TYPE_BYTE);
    }
}

static void add_characters(word_list *l) {
    add(l, SPACE_MARK, TOK_TYPE_NORMAL);
    for (int c = '!'; c <= '~'; c++) add(l, (char[]){(char)c, '\0'}, TOK_TYPE_NORMAL);
}

/* All syllables of `length` characters behind `prefix`, as digits of a mixed radix. */
static void add_syllables(word_list *l, const char *prefix, uint32_t length) {
    uint32_t total = 1;
    for (uint32_t i = 0; i < length; i++) total *= i % 2 == 0 ? CONSONANTS : VOWELS;
    for (uint32_t n = 0; n < total && l->count < l->count_max; n++) {
        char syllable[SYLLABLE_MAX + 1] = {0}, text[16];
        uint32_t rest = n;
        for (uint32_t i = 0; i < length; i++) {
            uint32_t radix = i % 2 == 0 ? CONSONANTS : VOWELS;
            syllable[i] = (i % 2 == 0 ? consonants : vowels)[rest % radix];
            rest /= radix;
        }
        (void)snprintf(text, sizeof text, "%s%s", prefix, syllable);
        add(l, text, TOK_TYPE_NORMAL);
    }
}

static status list_fill(word_list *l, error *err) {
    add(l, "<unk>", TOK_TYPE_UNKNOWN);
    add(l, "<s>", TOK_TYPE_CONTROL);
    add(l, "</s>", TOK_TYPE_CONTROL);
    add_bytes(l);
    add_characters(l);
    for (uint32_t length = 2; length <= SYLLABLE_MAX; length++) {
        add_syllables(l, "", length);
        add_syllables(l, SPACE_MARK, length);
    }
    if (l->count == l->count_max) return OK;
    return error_set(err, ERR_NOMEM, "synth: memory for %u of %u tokens", l->count, l->count_max);
}

static void list_write(const word_list *l, gguf_writer *w) {
    gguf_write_str(w, "tokenizer.ggml.model", S("llama"));
    gguf_write_str(w, "tokenizer.ggml.pre", S("default"));
    gguf_write_strs(w, "tokenizer.ggml.tokens", l->pieces, l->count);
    gguf_write_f32s(w, "tokenizer.ggml.scores", l->scores, l->count);
    gguf_write_i32s(w, "tokenizer.ggml.token_type", l->types, l->count);
    gguf_write_u32(w, "tokenizer.ggml.unknown_token_id", 0);
    gguf_write_u32(w, "tokenizer.ggml.bos_token_id", 1);
    gguf_write_u32(w, "tokenizer.ggml.eos_token_id", 2);
    gguf_write_bool(w, "tokenizer.ggml.add_bos_token", true);
    gguf_write_bool(w, "tokenizer.ggml.add_eos_token", false);
    gguf_write_bool(w, "tokenizer.ggml.add_space_prefix", true);
}

status synth_write_vocab(gguf_writer *w, uint32_t count, error *err) {
    ASSERT(count >= SYNTH_VOCAB_MIN && count <= SYNTH_VOCAB_MAX);
    word_list l;
    TRY(list_init(&l, count, err));
    status st = list_fill(&l, err);
    if (st == OK) list_write(&l, w);
    arena_deinit(&l.memory);
    return st;
}
