/* small_vocab.h - hand-made vocabularies for the tokenizer tests, and helpers to look at ids. */
#ifndef SMALL_VOCAB_H
#define SMALL_VOCAB_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "test.h"
#include "text/tokenizer.h"

#define SMALL_UNUSED __attribute__((unused))

enum { SMALL_TOKENS_MAX = 512 };

/* Ids 0..2 are <unk>, <s>, </s>; 3..258 the byte tokens; what a test adds begins at 259. */
enum { SMALL_UNK = 0, SMALL_BOS = 1, SMALL_EOS = 2, SMALL_BYTE_0 = 3, SMALL_FIRST = 259 };

typedef struct small_vocab {
    str pieces[SMALL_TOKENS_MAX];
    float scores[SMALL_TOKENS_MAX];
    uint8_t types[SMALL_TOKENS_MAX];
    char byte_text[256][8];
    tok_vocab vocab;
} small_vocab;

/* Returns the id. */
SMALL_UNUSED static int32_t small_add(small_vocab *v, str piece, float score, tok_type type) {
    uint32_t id = v->vocab.count++;
    v->pieces[id] = piece;
    v->scores[id] = score;
    v->types[id] = (uint8_t)type;
    return (int32_t)id;
}

/* A normal token. */
SMALL_UNUSED static int32_t small_add_piece(small_vocab *v, const char *piece, float score) {
    return small_add(v, str_of(piece), score, TOK_TYPE_NORMAL);
}

SMALL_UNUSED static void small_init(small_vocab *v) {
    memset(v, 0, sizeof *v);
    v->vocab = (tok_vocab){.kind = TOK_KIND_SPM,
                           .pieces = v->pieces,
                           .scores = v->scores,
                           .types = v->types,
                           .bos_id = SMALL_BOS,
                           .eos_id = SMALL_EOS,
                           .eot_id = TOK_ID_NONE,
                           .unk_id = SMALL_UNK,
                           .before = {SMALL_BOS},
                           .before_count = 1,
                           .add_space_prefix = true};
    (void)small_add(v, S("<unk>"), 0, TOK_TYPE_UNKNOWN);
    (void)small_add(v, S("<s>"), 0, TOK_TYPE_CONTROL);
    (void)small_add(v, S("</s>"), 0, TOK_TYPE_CONTROL);
    for (int b = 0; b < 256; b++) {
        (void)snprintf(v->byte_text[b], sizeof v->byte_text[b], "<0x%02X>", (unsigned)b & 0xFF);
        (void)small_add(v, str_of(v->byte_text[b]), 0, TOK_TYPE_BYTE);
    }
}

SMALL_UNUSED static tokenizer *small_create(const small_vocab *v) {
    tokenizer *t = NULL;
    error err = {0};
    CHECK_EQ(tok_create(&t, &v->vocab, &err), OK);
    CHECK_STR(err.msg, "");
    return t;
}

static const tok_options SMALL_PLAIN = {.tokens_max = UINT32_MAX};
static const tok_options SMALL_SPECIAL = {.parse_special = true, .tokens_max = UINT32_MAX};

/* The pieces of the ids of `text`, joined by '|', in one of two static buffers. */
SMALL_UNUSED static const char *small_pieces(const tokenizer *t, str text, tok_options options) {
    static char shown[2][4096];
    static unsigned turn;
    char *out = shown[turn++ % 2];
    error err = {0};
    buf ids;
    buf_init(&ids, 1 << 20);
    (void)SMALL_PLAIN;
    (void)SMALL_SPECIAL;
    CHECK_EQ(tok_encode(t, text, &options, &ids, &err), OK);
    size_t n = 0;
    out[0] = '\0';
    const int32_t *id = (const int32_t *)(const void *)ids.p;
    for (size_t i = 0; i < ids.n / sizeof *id; i++) {
        str piece = tok_piece_view(t, id[i]);
        n += (size_t)snprintf(out + n, sizeof shown[0] - n, "%s%.*s", i > 0 ? "|" : "", STR(piece));
    }
    buf_deinit(&ids);
    return out;
}

/* Random numbers that are the same everywhere.  Source: Vigna, splitmix64. */
SMALL_UNUSED static uint32_t small_random(uint64_t *state, uint32_t below) {
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (uint32_t)((z ^ z >> 31) % below);
}

/* Fills `out` with n letters of an alphabet. */
SMALL_UNUSED static str small_random_text(uint64_t *state, char *out, size_t n,
                                          const char *letters) {
    for (size_t i = 0; i < n; i++) out[i] = letters[small_random(state, (uint32_t)strlen(letters))];
    return (str){out, n};
}

#endif
