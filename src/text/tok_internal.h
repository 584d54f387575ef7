/* tok_internal.h - what the files of the tokenizer share, and what their tests look into. */
#ifndef TEXT_TOK_INTERNAL_H
#define TEXT_TOK_INTERNAL_H

#include "text/merge_queue.h"
#include "text/pair_table.h"
#include "text/piece_table.h"
#include "text/tok_norm.h"
#include "text/tok_split.h"
#include "text/tok_trie.h"
#include "text/tokenizer.h"

/* --- where ids go ----------------------------------------------------------------------- */

typedef struct tok_sink {
    buf *ids;       /* borrowed; int32 each */
    uint64_t count; /* ids seen; those past tokens_max are counted, not stored */
    uint32_t tokens_max;
    bool unknown_last; /* the last id put was put as unknown, in this word */
} tok_sink;

void tok_sink_put(tok_sink *s, int32_t id);

static inline bool tok_sink_is_over(const tok_sink *s) { return s->count > s->tokens_max; }

/* The unknown token: not where the vocabulary has none or leaves it out, and with fuse_unknown
 * one for many in a row. */
void tok_sink_put_unknown(tok_sink *s, const tokenizer *t);

/* --- tok_special.c: where special tokens stand in a text --------------------------------- */

typedef struct special_node {
    uint32_t child;   /* first of a list; 0 is the root, so it ends a list */
    uint32_t sibling; /* next in the list */
    uint32_t fall;    /* the node of the longest proper suffix that is in the trie */
    uint32_t longest; /* the longest special that ends here, as rank + 1; 0 is none */
    uint8_t byte;     /* on the edge from the parent */
} special_node;

typedef struct special_token {
    str text; /* borrowed from the vocabulary, or from tok_special.texts */
    int32_t id;
    uint32_t shorter; /* the next shorter special that begins this one, rank + 1; 0 is none */
    uint8_t flags;    /* TOK_FLAG_* bits */
} special_token;

/* The automaton of Aho and Corasick 1975 over the reversed texts: run from the end of the text, it
 * knows at each byte the longest special that begins there, in linear time. */
typedef struct tok_special {
    special_token *tokens; /* owned; [count], by rank: longest first, then lowest id */
    uint32_t count;
    special_node *nodes; /* owned; [nodes_count], the root first */
    uint32_t nodes_count;
    bool leftmost;      /* the first in the text goes first, not the longest */
    char *texts;        /* owned; normalized texts, NULL where they are the vocabulary's */
    uint32_t root[256]; /* the root's children by byte, 0 is none */
} tok_special;

/* A special token in a text, with the blanks it takes along. */
typedef struct special_cut {
    uint32_t begin, end; /* bytes in the text */
    uint32_t rank;
} special_cut;

typedef struct special_cuts {
    special_cut *cuts; /* owned; [count], by place, not overlapping */
    size_t count;
} special_cuts;

/* Which special tokens an automaton looks for. */
typedef struct special_choice {
    bool control;         /* control and unknown tokens too, not only user-defined ones */
    bool raw, normalized; /* those without TOK_FLAG_NORMALIZED, those with it */
} special_choice;

/* The tokens of a choice.  The normalizer, which may be NULL for none, is for their texts where
 * they are looked for in normalized text. */
NODISCARD status special_init(tok_special *s, const tok_vocab *vocab,
                              const tok_normalizer *normalizer, special_choice choice, error *err);
void special_deinit(tok_special *s);

/* Bytes of a text that no special token reaches across, ascending. */
typedef struct special_breaks {
    const uint32_t *at; /* [count], borrowed */
    uint32_t count;
} special_breaks;

/* The first of the breaks behind byte `begin`; count when there is none. */
uint32_t special_break_behind(const special_breaks *b, size_t begin);

/* text.n <= TOK_TEXT_BYTES_MAX; free out->cuts with mem_free(). */
NODISCARD status special_find(const tok_special *s, str text, const special_breaks *breaks,
                              special_cuts *out, error *err);

/* --- units: what merging begins with ---------------------------------------------------- */

/* A byte where tokens are made of bytes, else a character.  The characters of a text are what
 * their first bytes announce: a broken sequence takes as many bytes along as a whole one would,
 * which is how the llama family counts. */
typedef struct tok_unit {
    uint32_t bytes; /* 1..4, 0 at the end of the text */
    unsigned char p[4];
} tok_unit;

/* The character at the start of `text`. */
tok_unit tok_unit_first(str text);

/* --- tok_merge.c: TOK_KIND_SPM and TOK_KIND_BPE ------------------------------------------- */

typedef struct merge_symbol {
    uint32_t start, bytes; /* in the word; bytes is 0 once merged into the left */
    uint32_t prev, next;   /* neighbours, MERGE_NONE at the ends */
    int32_t id;            /* the token, TOK_ID_NONE when it is none */
    int32_t pair;          /* the token of this and next together, or TOK_ID_NONE */
    uint32_t order;        /* of that pair: small ones merge first */
} merge_symbol;

/* One run: a stretch of a word in which merges may happen.  Grows to the longest run. */
typedef struct merge_scratch {
    merge_symbol *symbols; /* owned; [cap] */
    merge_queue queue;     /* only for long runs */
    uint32_t cap;
    uint32_t count; /* symbols of this run */
    uint64_t work; /* look-ups and levels of the queue so far: what the linear-time test measures */
} merge_scratch;

void merge_scratch_deinit(merge_scratch *s);

/* Encodes one word, in which spaces are escaped already. */
NODISCARD status merge_encode(const tokenizer *t, str word, merge_scratch *s, tok_sink *sink,
                              error *err);

/* --- tok_unigram.c ------------------------------------------------------------------------ */

/* The best way to a place in a word. */
typedef struct unigram_step {
    double score;  /* of the tokens up to here */
    uint32_t from; /* where the last of them begins */
    int32_t id;    /* it, TOK_ID_NONE for an unknown character */
} unigram_step;

typedef struct unigram_scratch {
    unigram_step *steps; /* owned; [cap] */
    size_t cap;
} unigram_scratch;

void unigram_scratch_deinit(unigram_scratch *s);
NODISCARD status unigram_encode(const tokenizer *t, str word, unigram_scratch *s, tok_sink *sink,
                                error *err);

/* What an unknown character scores below the worst piece. */
#define UNIGRAM_UNKNOWN_PENALTY 10.0
double unigram_unknown_score(const tok_vocab *v);
double unigram_best_score(const tok_vocab *v);

/* --- tok_longest.c: TOK_KIND_WORDPIECE, _RWKV, _WORDLEVEL --------------------------------- */

void wordpiece_encode(const tokenizer *t, str word, tok_sink *sink);
void rwkv_encode(const tokenizer *t, str word, tok_sink *sink);
void wordlevel_encode(const tokenizer *t, str word, tok_sink *sink);

/* --- tok_build.c: the parts of a tokenizer ------------------------------------------------ */

NODISCARD status tok_check_vocab(const tok_vocab *v, error *err);

/* Fills all of `t` but t->vocab; what a failure leaves is for tok_destroy(). */
NODISCARD status tok_build(tokenizer *t, error *err);

/* --- tokenizer.c -------------------------------------------------------------------------- */

enum { TOK_EOG_MAX = 64 };

struct tokenizer {
    tok_vocab vocab;  /* the arrays are borrowed */
    const str *texts; /* [count] the bytes that pieces stand for: vocab.pieces, or texts_owned */
    str *texts_owned; /* owned; NULL where text is spelled plainly */
    char *text_bytes; /* owned; behind texts_owned */
    tok_normalizer *normalizer; /* owned */
    tok_normalizer *late;       /* owned; what vocab.norms_late stands for */
    tok_splitter *splitter;     /* owned */
    piece_table pieces;         /* every token that text may become, by its text */
    int32_t bytes[256];         /* the id that stands for a byte which is in no token */
    bool units_are_bytes;
    bool spm_escapes;         /* TOK_KIND_SPM escapes spaces itself: no norm does */
    bool spm_space;           /* and puts one in front */
    uint32_t piece_bytes_max; /* of all pieces */
    uint32_t covers_max; /* no token stands for more bytes of a text; 0: there is no such bound */
    uint64_t *joins;     /* owned; bit table: may two units stand next to each other in a token? */
    uint32_t joins_log2; /* of the number of bits */
    pair_table pairs;    /* TOK_KIND_BPE: the merges */
    tok_trie trie;       /* UNIGRAM, WORDPIECE, RWKV */
    uint32_t begins_node, goes_on_node; /* WORDPIECE: where a word's pieces begin in the trie */
    bool has_begins, has_goes_on;       /* are there such pieces? */
    tok_trie in_place;                  /* tokens with TOK_FLAG_IN_PLACE */
    double unknown_score;               /* UNIGRAM */
    double best_score;                  /* UNIGRAM: of all normal pieces */
    tok_special specials[2][2];         /* [parse_special][normalized] */
    int32_t eog[TOK_EOG_MAX];
    uint32_t eog_count;
};

/* The bit of two neighbours.  Different pairs may share one: a wrong yes costs time only. */
static inline uint64_t tok_join_bit(const tokenizer *t, tok_unit a, tok_unit b) {
    uint32_t left = 0, right = 0;
    memcpy(&left, a.p, sizeof left);
    memcpy(&right, b.p, sizeof right);
    /* Fibonacci hashing, Knuth volume 3, section 6.4: 2^64 / golden ratio */
    return (((uint64_t)left << 32 | right) * UINT64_C(0x9E3779B97F4A7C15)) >> (64 - t->joins_log2);
}

/* May a token hold `a` followed by `b`?  A no is certain. */
static inline bool tok_may_join(const tokenizer *t, tok_unit a, tok_unit b) {
    if (t->joins == NULL) return true;
    uint64_t bit = tok_join_bit(t, a, b);
    return (t->joins[bit / 64] >> (bit % 64) & 1) != 0;
}

/* The unit at the start of `text`. */
static inline tok_unit tok_unit_of(const tokenizer *t, str text) {
    if (!t->units_are_bytes || text.n == 0) return tok_unit_first(text);
    return (tok_unit){.bytes = 1, .p = {(unsigned char)text.p[0]}};
}

/* May text become this token?  Control, unknown and byte tokens are excluded, so that no text of
 * a user can forge them. */
static inline bool tok_is_text(const tok_vocab *v, uint32_t id) {
    uint8_t type = v->types[id];
    return v->pieces[id].n > 0 && type != TOK_TYPE_CONTROL && type != TOK_TYPE_UNKNOWN &&
           type != TOK_TYPE_BYTE;
}

/* Is it text that SentencePiece keeps together, rather than a special token to cut out? */
static inline bool tok_is_in_place(const tok_vocab *v, uint32_t id) {
    return v->flags != NULL && (v->flags[id] & TOK_FLAG_IN_PLACE) != 0 &&
           v->types[id] == TOK_TYPE_USER_DEFINED;
}

#endif
