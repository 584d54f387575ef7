/* tok_split_internal.h - how a pattern finds its matches; shared by splitting and normalizing.
 *
 * A pattern becomes one of two things.  A *program* is an ordered list of alternatives of a few
 * shapes that need no backtracking (a run of a character set with something before and behind it,
 * contractions, white space before a word ...): all patterns that model families have published are
 * of this kind, and finding all matches is linear in the text.  Everything else is a *regex* for
 * PCRE2, whose steps are counted.  Both mean the same: the first alternative that matches wins.
 *
 * Source of the semantics: the regex crate of Rust and Oniguruma, which Hugging Face tokenizers
 * uses, where they agree; Oniguruma where they differ ($ also matches before a line end). */
#ifndef TEXT_TOK_SPLIT_INTERNAL_H
#define TEXT_TOK_SPLIT_INTERNAL_H

#include "base/buf.h"
#include "base/error.h"
#include "text/tok_split.h"
#include "text/unicode.h"

/* --- tok_split_set.c: sets of characters -------------------------------------------------- */

typedef struct split_range {
    uint32_t first, last;
} split_range;

typedef struct split_set {
    uint64_t ascii[2];    /* the members below U+0080; everything else here is for the others */
    uint32_t categories;  /* bits of unicode_category */
    uint8_t flags;        /* UNICODE_FLAG_*: any of them */
    uint8_t script;       /* or UNICODE_SCRIPT_NONE */
    uint8_t minus_script; /* what is of this script is no member, or UNICODE_SCRIPT_NONE */
    bool negated;         /* of categories, flags, script and ranges */
    uint32_t ranges_at, ranges_count; /* in the ranges of the program, sorted, apart */
} split_set;

/* Reads one set at *pattern: a character, an escape or a [class], and moves behind it.  False
 * where it is not of the simple kind that split_set can be.  `ranges` takes split_range. */
bool split_set_parse(split_set *s, str *pattern, buf *ranges);

/* Does the character mean something else than itself outside of classes? */
bool split_is_special(char c);

bool split_set_has_long(const split_set *s, const split_range *ranges, uint32_t cp);

static inline bool split_ascii_has(const uint64_t ascii[2], uint32_t c) {
    return (ascii[c >> 6] >> (c & 63) & 1) != 0;
}

static inline bool split_set_has(const split_set *s, const split_range *ranges, uint32_t cp) {
    if (cp < 128) return split_ascii_has(s->ascii, cp);
    return split_set_has_long(s, ranges, cp);
}

bool split_set_equal(const split_set *a, const split_set *b, const split_range *ranges);

/* --- tok_split_parse.c: a pattern as a program --------------------------------------------- */

typedef enum split_shape {
    SPLIT_SHAPE_RUN,     /* lead, then a run of body, then some of tail */
    SPLIT_SHAPE_LITERAL, /* the text itself */
    SPLIT_SHAPE_SUFFIX,  /* 's 't 're 've 'm 'll 'd */
    SPLIT_SHAPE_CASED,   /* lead, upper case, lower case, suffix: two alternatives in one */
    SPLIT_SHAPE_PHRASE,  /* lead, then letters with marks, single spaces between letters */
    SPLIT_SHAPE_LINES,   /* \s*[\r\n]+ */
    SPLIT_SHAPE_SPACES,  /* \s{min,max}(?!\S) */
    SPLIT_SHAPE_END,     /* \s+$ */
    SPLIT_SHAPE_TRIPLE,  /* digits in threes, counted from the end of their run */
    SPLIT_SHAPE_CUT,     /* the empty places between such threes */
} split_shape;

typedef enum split_lead {
    SPLIT_LEAD_NONE,
    SPLIT_LEAD_OPTIONAL,
    SPLIT_LEAD_KEPT, /* possessive: once taken it is not given back */
    SPLIT_LEAD_NEEDED,
} split_lead;

/* Which spellings of the English suffixes match. */
typedef enum split_suffix {
    SPLIT_SUFFIX_NONE,
    SPLIT_SUFFIX_LOWER,
    SPLIT_SUFFIX_ASCII,  /* A-Z too */
    SPLIT_SUFFIX_FOLDED, /* and U+017F, which folds to s */
} split_suffix;

typedef struct split_branch {
    split_shape shape;
    split_lead lead_kind;
    split_suffix suffix; /* SUFFIX; CASED, where it may be missing from the text */
    split_set lead;
    split_set body;     /* CASED: upper case; TRIPLE, CUT: digits */
    split_set tail;     /* CASED: lower case */
    uint32_t min, max;  /* characters of body, RUN and SPACES; 1 <= min */
    uint32_t tail_max;  /* characters of tail, RUN */
    bool to_word_end;   /* TRIPLE: only where no word character follows the digits */
    uint64_t starts[2]; /* the ASCII characters a match can begin with */
    str literal;        /* borrowed from the pattern */
} split_branch;

enum {
    SPLIT_BRANCHES_MAX = 32,
    SPLIT_RUN_MIN_MAX = 16, /* a run that is too short is looked at again from each character */
    SPLIT_PATTERN_BYTES_MAX = 1 << 16,
};

typedef struct split_program {
    split_branch *branches; /* owned; [branches_count] */
    uint32_t branches_count;
    split_range *ranges; /* owned; of all sets */
    uint64_t starts[2];  /* of any branch */
} split_program;

/* OK with *linear = false where the pattern is none of ours.  `pattern` is borrowed. */
NODISCARD status split_program_parse(split_program *p, str pattern, bool *linear, error *err);
/* The program that finds a text. */
NODISCARD status split_program_literal(split_program *p, str text, error *err);
/* The program that takes `length` characters, or what is left. */
NODISCARD status split_program_length(split_program *p, uint32_t length, error *err);
void split_program_deinit(split_program *p);

/* --- tok_split_scan.c: running a program -------------------------------------------------- */

/* What is known of the run of white space or digits around the place last looked at. */
typedef struct split_run {
    size_t at, end;  /* bytes; from `at` to `end` all are members */
    size_t left;     /* characters between them */
    size_t line_end; /* behind the last \r or \n of the run, 0 is none */
    size_t feed_end; /* behind the last \n */
} split_run;

typedef struct split_cursor {
    split_run spaces, digits;
} split_cursor;

/* The first match at or behind `from`.  The cursor starts as zeros and serves one text, with
 * `from` not going back. */
bool split_program_find(const split_program *p, split_cursor *c, str text, size_t from,
                        size_t *begin, size_t *end);

/* --- tok_split_regex.c: any other pattern, in PCRE2 --------------------------------------- */

typedef struct split_regex split_regex;
typedef struct split_regex_run split_regex_run; /* what one thread needs to use a regex */

NODISCARD status split_regex_create(split_regex **out, str pattern, error *err);
void split_regex_destroy(split_regex *r);
/* `text_bytes` of the whole text bounds the work on all its parts together. */
NODISCARD status split_regex_start(split_regex_run **out, const split_regex *r, size_t text_bytes,
                                   error *err);
void split_regex_stop(split_regex_run *run);
/* The next part of the text to search; borrowed until the next. */
NODISCARD status split_regex_text(split_regex_run *run, str text, error *err);
NODISCARD status split_regex_find(split_regex_run *run, size_t from, bool *found, size_t *begin,
                                  size_t *end, error *err);

/* tok_split_translate.c: the pattern in the words of PCRE2.  ERR_UNSUPPORTED for what it has no
 * words for. */
NODISCARD status split_translate(str pattern, buf *out, error *err);

/* --- tok_split_match.c: either of them ----------------------------------------------------- */

typedef struct split_matcher {
    split_program program; /* has branches, or: */
    split_regex *regex;    /* owned */
} split_matcher;

NODISCARD status split_matcher_init(split_matcher *m, str pattern, error *err);
void split_matcher_deinit(split_matcher *m);

typedef struct split_search {
    const split_matcher *matcher; /* borrowed */
    split_regex_run *run;         /* owned; NULL for a program */
    split_cursor cursor;
    str text;
    size_t from;
    size_t last_end; /* of the match before */
    bool any;        /* there was one */
} split_search;

NODISCARD status split_search_init(split_search *s, const split_matcher *m, size_t text_bytes,
                                   error *err);
void split_search_deinit(split_search *s);
NODISCARD status split_search_text(split_search *s, str text, error *err);
/* The matches one after the other, not overlapping; no empty one right behind another. */
NODISCARD status split_search_next(split_search *s, bool *found, size_t *begin, size_t *end,
                                   error *err);

#endif
