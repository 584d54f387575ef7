/* tok_vocab.h - what a tokenizer needs to know, as borrowed views.
 *
 * The one description that every tokenizer file is read into: model/vocab_gguf.c reads GGUF keys,
 * model/vocab_json.c a tokenizer.json, model/vocab_spm.c a SentencePiece tokenizer.model, tests
 * fill it by hand.  Everything pointed to must outlive the tokenizer built from it.
 *
 * Text becomes tokens in five steps; each is data here, so no family is a special case:
 *   cut        special and added tokens are cut out of the raw text (types, flags)
 *   normalize  the text between them passes the `norms` in order (text/tok_norm.h)
 *   split      the `splits` cut it into words that no token crosses (text/tok_split.h)
 *   model      each word becomes ids (kind, pieces, scores, merges)
 *   frame      the ids of `before` and `after` go around the whole
 * and tokens become text again by the spelling of their pieces (form).
 * Source of the token types and defaults: the GGUF specification, "tokenizer.ggml.*"; of the
 * steps: the documentation of Hugging Face tokenizers, "The tokenization pipeline". */
#ifndef TEXT_TOK_VOCAB_H
#define TEXT_TOK_VOCAB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

typedef enum tok_kind {
    TOK_KIND_NONE,    /* the file has no tokenizer */
    TOK_KIND_SPM,     /* BPE over characters, best score first: SentencePiece, GGUF "llama" */
    TOK_KIND_BPE,     /* BPE by merge rank: over bytes with TOK_FORM_BYTE_LEVEL, else characters */
    TOK_KIND_UNIGRAM, /* the most likely segmentation: GGUF "t5" */
    TOK_KIND_WORDPIECE, /* the longest pieces of a word from its start: GGUF "bert" */
    TOK_KIND_RWKV,      /* the longest piece at each byte of the text */
    TOK_KIND_WORDLEVEL, /* a word is a token or unknown */
} tok_kind;

/* How a piece spells text. */
typedef enum tok_form {
    TOK_FORM_METASPACE,  /* U+2581 is a space; <0xXX> a byte where the type says so */
    TOK_FORM_BYTE_LEVEL, /* each character is a byte, in the alphabet of GPT-2 */
    TOK_FORM_WORD_MARK,  /* U+2581 in front begins a word, without it a word goes on: GGUF "bert" */
    TOK_FORM_HASH_MARK, /* "##" (continuing_prefix) in front goes on with a word, else begins one */
    TOK_FORM_PLAIN,     /* the bytes as they are */
} tok_form;

typedef enum tok_type {
    TOK_TYPE_NORMAL = 1,
    TOK_TYPE_UNKNOWN = 2,
    TOK_TYPE_CONTROL = 3,
    TOK_TYPE_USER_DEFINED = 4,
    TOK_TYPE_UNUSED = 5,
    TOK_TYPE_BYTE = 6,
} tok_type;

/* Of control and user-defined tokens; bits. */
enum {
    TOK_FLAG_LSTRIP = 1,      /* blanks before it belong to it */
    TOK_FLAG_RSTRIP = 2,      /* blanks behind it belong to it */
    TOK_FLAG_SINGLE_WORD = 4, /* only where no word character touches it */
    TOK_FLAG_NORMALIZED = 8,  /* looked for in the normalized text, not in the raw one */
    TOK_FLAG_IN_PLACE = 16,   /* user-defined and not cut out: text that TOK_NORM_SENTENCEPIECE
                               * passes by unchanged and that the model never takes apart */
};

enum { TOK_ID_NONE = -1, TOK_AROUND_MAX = 8, TOK_ENDS_MAX = 16 };

/* Two pieces that become one; the first in the list goes first. */
typedef struct tok_merge {
    str left, right;
} tok_merge;

/* --- normalizing: text/tok_norm.h ------------------------------------------------ */
typedef enum tok_norm_kind {
    TOK_NORM_NFC,
    TOK_NORM_NFD,
    TOK_NORM_NFKC,
    TOK_NORM_NFKD,
    TOK_NORM_LOWERCASE,
    TOK_NORM_BASE_LETTERS,    /* each character becomes the first of its canonical decomposition */
    TOK_NORM_STRIP_ACCENTS,   /* drops nonspacing marks (Mn) */
    TOK_NORM_STRIP,           /* white space at the ends: left, right */
    TOK_NORM_REPLACE,         /* every `a` becomes `b` */
    TOK_NORM_REPLACE_REGEX,   /* every match of the regex `a` becomes `b` */
    TOK_NORM_PREPEND,         /* `a` in front of text that is not empty: first_only, unless_there */
    TOK_NORM_COLLAPSE_SPACES, /* SentencePiece: no spaces at the ends, one where there were many */
    TOK_NORM_CHARSMAP,        /* SentencePiece: longest matches of the compiled map `a` */
    TOK_NORM_SENTENCEPIECE,   /* all that SentencePiece does: map `a`, collapse, U+2581 for spaces
                               * and one more in front (left) or behind (right) */
    TOK_NORM_NMT,             /* Hugging Face "Nmt": control characters out, odd blanks to spaces */
    TOK_NORM_BERT_CLEAN,      /* control characters out, white space to spaces */
    TOK_NORM_BERT_CHINESE,    /* spaces around CJK ideographs */
} tok_norm_kind;

typedef struct tok_norm {
    tok_norm_kind kind;
    str a, b;
    bool left, right;
    bool collapse;     /* spaces at the ends go, and all but one of many */
    bool first_only;   /* only for the text before the first special token */
    bool unless_there; /* not where the text begins with `a` already */
} tok_norm;

/* --- splitting: text/tok_split.h --------------------------------------------------- */
typedef enum tok_split_kind {
    TOK_SPLIT_REGEX,       /* matches of the regex `pattern` */
    TOK_SPLIT_LITERAL,     /* places where `pattern` stands */
    TOK_SPLIT_WHITESPACE,  /* matches of \w+|[^\w\s]+; what is between them is dropped */
    TOK_SPLIT_SPACES,      /* runs of white space separate and are dropped */
    TOK_SPLIT_BERT,        /* the same, and each punctuation character is a word */
    TOK_SPLIT_PUNCTUATION, /* each punctuation character is a match */
    TOK_SPLIT_DIGITS,      /* runs of digits are matches; `each`: single digits */
    TOK_SPLIT_METASPACE,   /* U+2581 begins a word */
    TOK_SPLIT_SCRIPTS,     /* where the script changes: Hugging Face "UnicodeScripts" */
    TOK_SPLIT_LENGTH,      /* `length` characters each */
    TOK_SPLIT_BYTE_DIGITS, /* DIGITS that sees bytes spelled in the alphabet of GPT-2 */
} tok_split_kind;

/* What becomes of matches; the names are those of Hugging Face. */
typedef enum tok_split_behavior {
    TOK_SPLIT_ISOLATED, /* a word of their own */
    TOK_SPLIT_REMOVED,
    TOK_SPLIT_MERGED_WITH_PREVIOUS,
    TOK_SPLIT_MERGED_WITH_NEXT,
    TOK_SPLIT_CONTIGUOUS, /* like isolated, neighbours together */
} tok_split_behavior;

typedef struct tok_split {
    tok_split_kind kind;
    tok_split_behavior behavior;
    bool invert; /* matches and the rest change places */
    bool each;
    uint32_t length;
    str pattern;
} tok_split;

typedef struct tok_vocab {
    tok_kind kind;
    tok_form form;
    uint32_t count;          /* tokens */
    const str *pieces;       /* [count] as the file spells them */
    const float *scores;     /* [count], or NULL where kind has no use for them */
    const uint8_t *types;    /* [count] tok_type */
    const uint8_t *flags;    /* [count] TOK_FLAG_* bits, or NULL: none */
    const tok_merge *merges; /* [merges_count], TOK_KIND_BPE */
    uint32_t merges_count;
    const tok_norm *norms; /* [norms_count] */
    uint32_t norms_count;
    uint32_t norms_late;     /* so many of them at the end come behind the cut of tokens that are
                              * looked for in normalized text */
    const tok_split *splits; /* [splits_count] */
    uint32_t splits_count;

    int32_t bos_id; /* TOK_ID_NONE when absent, like all of these */
    int32_t eos_id;
    int32_t eot_id;
    int32_t unk_id;
    int32_t before[TOK_AROUND_MAX]; /* in front of the whole with add_special */
    uint32_t before_count;
    int32_t after[TOK_AROUND_MAX]; /* behind it */
    uint32_t after_count;
    int32_t ends[TOK_ENDS_MAX]; /* further tokens that end a generation, besides eos and eot */
    uint32_t ends_count;

    /* Decoding takes the first space of the text away, because encoding put it there: a norm of
     * kind PREPEND did, or TOK_KIND_SPM itself where there is no such norm. */
    bool add_space_prefix;
    bool cut_leftmost;  /* of tokens to cut out the first one in the text wins, then the longest;
                              * otherwise the longest one wins */
    bool ignore_merges; /* BPE: a word that is a token needs no merges */
    bool byte_fallback; /* what is no token becomes <0xXX> tokens, before the unknown one */
    bool fuse_unknown;  /* neighbouring unknowns become one; TOK_KIND_SPM: else one for each byte */
    bool float_sums;    /* UNIGRAM: scores are added up in floats, as SentencePiece does; of ways
                              * that are equally good the rounding chooses one */
    bool drop_unknown;  /* what is no token is left out, even with an unknown token */
    bool decode_cleanup;     /* decoding drops the space before . ? ! , and English contractions */
    bool cleanup_tokens;     /* the same token by token: Hugging Face "WordPiece" */
    bool unescape_all;       /* U+2581 is a space in control and user-defined tokens, too */
    uint32_t word_chars_max; /* WordPiece: longer words are unknown; 0 is no limit */
    str continuing_prefix;   /* "##"; empty where there is none */
    str end_of_word;         /* BPE: "</w>" behind the last character of a word; mostly empty */
} tok_vocab;

/* Does encoding with add_special begin with BOS? */
static inline bool tok_vocab_adds_bos(const tok_vocab *v) {
    return v->before_count > 0 && v->bos_id != TOK_ID_NONE && v->before[0] == v->bos_id;
}

#endif
