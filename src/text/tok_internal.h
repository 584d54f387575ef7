/* tok_internal.h - what the files of the tokenizer share, and what their tests look into. */
#ifndef TEXT_TOK_INTERNAL_H
#define TEXT_TOK_INTERNAL_H

#include "text/piece_table.h"
#include "text/tokenizer.h"

/* --- where ids go ----------------------------------------------------------------------- */

typedef struct tok_sink {
    buf *ids;       /* borrowed; int32 each */
    uint64_t count; /* ids seen; those past tokens_max are counted, not stored */
    uint32_t tokens_max;
} tok_sink;

void tok_sink_put(tok_sink *s, int32_t id);

static inline bool tok_sink_is_over(const tok_sink *s) { return s->count > s->tokens_max; }

/* --- tok_special.c: where special tokens stand in a text --------------------------------- */

typedef struct special_node {
    uint32_t child;   /* first of a list; 0 is the root, so it ends a list */
    uint32_t sibling; /* next in the list */
    uint32_t fall;    /* the node of the longest proper suffix that is in the trie */
    uint32_t longest; /* the longest special that ends here, as rank + 1; 0 is none */
    uint8_t byte;     /* on the edge from the parent */
} special_node;

typedef struct special_token {
    str text; /* borrowed from the vocabulary */
    int32_t id;
    uint32_t shorter; /* the next shorter special that begins this one, rank + 1; 0 is none */
} special_token;

/* The automaton of Aho and Corasick 1975 over the reversed texts: run from the end of the text, it
 * knows at each byte the longest special that begins there, in linear time. */
typedef struct tok_special {
    special_token *tokens; /* owned; [count], by rank: longest first, then lowest id */
    uint32_t count;
    special_node *nodes; /* owned; [nodes_count], the root first */
    uint32_t nodes_count;
    uint32_t root[256]; /* the root's children by byte, 0 is none */
} tok_special;

typedef struct special_cut {
    uint32_t at; /* byte in the text */
    uint32_t rank;
} special_cut;

typedef struct special_cuts {
    special_cut *cuts; /* owned; [count], by place, not overlapping */
    size_t count;
} special_cuts;

/* The control, unknown and user-defined tokens of a vocabulary, or only the latter. */
NODISCARD status special_init(tok_special *s, const tok_vocab *vocab, bool user_defined_only,
                              error *err);
void special_deinit(tok_special *s);

/* text.n <= TOK_TEXT_BYTES_MAX; free out->cuts with mem_free(). */
NODISCARD status special_find(const tok_special *s, str text, special_cuts *out, error *err);

/* --- tok_merge.c: text without special tokens to ids -------------------------------------- */

/* The characters of a text are what their first bytes announce: a broken sequence takes as many
 * bytes along as a whole one would, which is how the llama family counts. */
typedef struct tok_unit {
    uint32_t bytes; /* 1..4, 0 at the end of the text */
    unsigned char p[4];
} tok_unit;

typedef struct merge_symbol {
    uint32_t start, bytes; /* in the run's text; bytes is 0 once merged into the left */
    uint32_t prev, next;   /* neighbours, MERGE_NONE at the ends */
    int32_t id;            /* the token, TOK_ID_NONE when it is none */
    int32_t pair;          /* the token of this and next together, or TOK_ID_NONE */
} merge_symbol;

/* One run: a stretch of text in which merges may happen.  Grows to the longest run. */
typedef struct merge_scratch {
    char *text;            /* owned; [4 * cap] spaces already escaped */
    merge_symbol *symbols; /* owned; [cap] */
    uint64_t *heap;        /* owned; [2 * cap] (order of the score, left symbol) */
    uint32_t cap;
    uint32_t text_bytes;
    uint32_t count; /* symbols of this run */
    uint64_t work;  /* look-ups and heap levels so far: what the linear-time test measures */
} merge_scratch;

void merge_scratch_deinit(merge_scratch *s);

/* Encodes `text` (any bytes) as one fragment, with a space in front when asked. */
NODISCARD status merge_encode(const tokenizer *t, str text, bool space_first, merge_scratch *s,
                              tok_sink *sink, error *err);

/* The unit at the start of `text`. */
tok_unit tok_unit_first(str text);

/* --- tokenizer.c ---------------------------------------------------------------------------- */

enum { TOK_EOG_MAX = 16 };

struct tokenizer {
    tok_vocab vocab;    /* the arrays are borrowed */
    piece_table pieces; /* every token that a merge may produce */
    int32_t bytes[256]; /* the id that stands for a byte which is in no token */
    uint32_t piece_bytes_max;
    uint64_t
        *joins; /* owned; bit table: may these two units stand next to each other in a token? */
    uint32_t joins_log2;      /* of the number of bits */
    tok_special specials;     /* with parse_special */
    tok_special user_defined; /* without */
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
    uint64_t bit = tok_join_bit(t, a, b);
    return (t->joins[bit / 64] >> (bit % 64) & 1) != 0;
}

#endif
