/* tok_split.c - the steps that cut a text into words.
 *
 * Every kind of step but one is a pattern with a behavior, whatever its name; see spell_step().  A
 * step reads the words of the one before and writes its own into a second list. */
#include "text/tok_split.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "text/tok_split_internal.h"
#include "text/tokenizer.h"

typedef struct split_step {
    tok_split_kind kind;
    tok_split_behavior behavior;
    bool invert;
    bool each;             /* TOK_SPLIT_BYTE_DIGITS */
    split_matcher matcher; /* unless TOK_SPLIT_SCRIPTS or TOK_SPLIT_BYTE_DIGITS */
} split_step;

struct tok_splitter {
    uint32_t count;
    split_step steps[]; /* [count] */
};

/* --- creating ------------------------------------------------------------------------------ */

/* ASCII punctuation and symbols, and Unicode's punctuation, as members of a class. */
#define PUNCTUATION "!-/:-@\\[-`{-~\\p{P}"

/* The pattern and behavior that a kind stands for. */
static tok_split spell_step(const tok_split *in) {
    tok_split s = *in;
    switch (in->kind) {
    case TOK_SPLIT_WHITESPACE:
        s = (tok_split){.pattern = S("\\w+|[^\\w\\s]+"), .behavior = TOK_SPLIT_REMOVED};
        s.invert = true;
        break;
    case TOK_SPLIT_SPACES:
        s = (tok_split){.pattern = S("\\s+"), .behavior = TOK_SPLIT_REMOVED};
        break;
    case TOK_SPLIT_BERT:
        s = (tok_split){.pattern = S("[" PUNCTUATION "]|[^\\s" PUNCTUATION "]+")};
        s.behavior = TOK_SPLIT_REMOVED;
        s.invert = true;
        break;
    case TOK_SPLIT_PUNCTUATION:
        s.pattern = S("[" PUNCTUATION "]");
        break;
    case TOK_SPLIT_DIGITS:
        s = (tok_split){.pattern = in->each ? S("\\p{N}") : S("\\p{N}+")};
        break;
    case TOK_SPLIT_METASPACE:
        s = (tok_split){.pattern = S("\xE2\x96\x81"), .behavior = TOK_SPLIT_MERGED_WITH_NEXT};
        break;
    case TOK_SPLIT_LENGTH:
        s = (tok_split){.length = in->length};
        break;
    case TOK_SPLIT_REGEX:
    case TOK_SPLIT_LITERAL:
    case TOK_SPLIT_SCRIPTS:
    case TOK_SPLIT_BYTE_DIGITS:
        break;
    }
    s.kind = in->kind;
    return s;
}

static status init_step(split_step *out, const tok_split *in, error *err) {
    tok_split s = spell_step(in);
    *out = (split_step){.kind = s.kind, .behavior = s.behavior, .invert = s.invert, .each = s.each};
    switch (s.kind) {
    case TOK_SPLIT_SCRIPTS:
    case TOK_SPLIT_BYTE_DIGITS:
        return OK;
    case TOK_SPLIT_LITERAL:
        return split_program_literal(&out->matcher.program, s.pattern, err);
    case TOK_SPLIT_LENGTH:
        if (s.length == 0) return error_set(err, ERR_FORMAT, "tokenizer: words of length 0");
        return split_program_length(&out->matcher.program, s.length, err);
    default:
        return split_matcher_init(&out->matcher, s.pattern, err);
    }
}

status tok_splitter_create(tok_splitter **out, const tok_split *steps, uint32_t count, error *err) {
    size_t bytes = 0;
    bool fits = num_mul_size(&bytes, count, sizeof(split_step)) &&
                num_add_size(&bytes, bytes, sizeof(tok_splitter));
    tok_splitter *s = fits ? mem_try_calloc(1, bytes) : NULL;
    if (s == NULL)
        return error_set(err, ERR_NOMEM, "tokenizer: no memory for %u splitting steps", count);
    for (; s->count < count; s->count++) {
        status st = init_step(&s->steps[s->count], &steps[s->count], err);
        if (st == OK) continue;
        tok_splitter_destroy(s);
        return st;
    }
    *out = s;
    return OK;
}

void tok_splitter_destroy(tok_splitter *s) {
    if (s == NULL) return;
    for (uint32_t i = 0; i < s->count; i++) split_matcher_deinit(&s->steps[i].matcher);
    mem_free(s);
}

/* --- what becomes of matches --------------------------------------------------------------- */

/* Matches and what lies between them arrive in order, words leave.  Behaviors that join keep the
 * last word back until the next piece shows whether it goes on. */
typedef struct joiner {
    const split_step *step; /* borrowed */
    buf *words;             /* borrowed; tok_word */
    uint32_t origin;        /* of the text in the whole */
    bool held, held_match;
    size_t begin, end; /* the word kept back */
} joiner;

static void emit(joiner *j, size_t begin, size_t end) {
    tok_word w = {j->origin + (uint32_t)begin, j->origin + (uint32_t)end};
    if (begin < end) buf_put(j->words, &w, sizeof w);
}

static void release(joiner *j) {
    if (j->held) emit(j, j->begin, j->end);
    j->held = false;
}

/* Does this piece lengthen the word that is kept back? */
static bool joins(const joiner *j, bool match) {
    if (!j->held) return false;
    switch (j->step->behavior) {
    case TOK_SPLIT_CONTIGUOUS:
        return j->held_match == match;
    case TOK_SPLIT_MERGED_WITH_PREVIOUS:
        return match && !j->held_match;
    case TOK_SPLIT_MERGED_WITH_NEXT:
        return !match && j->held_match;
    case TOK_SPLIT_ISOLATED:
    case TOK_SPLIT_REMOVED:
        return false;
    }
    return false;
}

static void put_piece(joiner *j, size_t begin, size_t end, bool is_match) {
    bool match = is_match != j->step->invert;
    if (j->step->behavior == TOK_SPLIT_ISOLATED) {
        emit(j, begin, end);
    } else if (j->step->behavior == TOK_SPLIT_REMOVED) {
        if (!match) emit(j, begin, end);
    } else if (joins(j, match)) {
        j->end = end;
        j->held_match = match;
    } else {
        release(j);
        j->held = true;
        j->held_match = match;
        j->begin = begin;
        j->end = end;
    }
}

static status split_word(joiner *j, split_search *search, str text, error *err) {
    size_t covered = 0, begin = 0, end = 0;
    bool found = false;
    TRY(split_search_text(search, text, err));
    for (;;) {
        TRY(split_search_next(search, &found, &begin, &end, err));
        if (!found) break;
        if (covered < begin) put_piece(j, covered, begin, false);
        put_piece(j, begin, end, true);
        covered = end;
    }
    if (covered < text.n) put_piece(j, covered, text.n, false);
    release(j);
    return OK;
}

/* --- scripts ------------------------------------------------------------------------------- */

/* Japanese mixes its scripts within a word, and the long-vowel mark goes with any of them. */
static uint32_t script_of(uint32_t cp) {
    if (cp == 0x30FC) return UNICODE_SCRIPT_HAN;
    if (cp == ' ') return UNICODE_SCRIPT_NONE;
    uint32_t script = unicode_get(cp)->script;
    bool kana = script == UNICODE_SCRIPT_HIRAGANA || script == UNICODE_SCRIPT_KATAKANA;
    return kana ? (uint32_t)UNICODE_SCRIPT_HAN : script;
}

/* Source: Hugging Face "UnicodeScripts".  Spaces and unassigned characters belong to the word
 * before them; where the text begins with such, nothing comes before, and they are dropped. */
static void split_scripts(joiner *j, str text) {
    uint32_t last = UNICODE_SCRIPT_NONE;
    for (size_t at = 0; at < text.n;) {
        uint32_t cp;
        size_t next = at + unicode_decode(text.p + at, text.n - at, &cp);
        uint32_t script = script_of(cp);
        if (script != UNICODE_SCRIPT_NONE && script != last) {
            release(j);
            j->held = true;
            j->begin = at;
            last = script;
        }
        j->end = next;
        at = next;
    }
    release(j);
}

/* --- digits among bytes ---------------------------------------------------------------------- */

/* In the alphabet of GPT-2 the bytes of Latin-1 stand for themselves, six of which are superscripts
 * and fractions, so numbers; characters of more than one byte are letters there, whatever they
 * are. */
static bool is_digit_byte(char c) {
    return (c >= '0' && c <= '9') || (c != '\0' && strchr("\xB2\xB3\xB9\xBC\xBD\xBE", c) != NULL);
}

static void split_byte_digits(joiner *j, str text) {
    for (size_t at = 0; at < text.n;) {
        size_t begin = at;
        bool digit = is_digit_byte(text.p[at++]);
        bool alone = digit && j->step->each;
        while (!alone && at < text.n && is_digit_byte(text.p[at]) == digit) at++;
        emit(j, begin, at);
    }
}

/* --- splitting ----------------------------------------------------------------------------- */

static status run_step(const split_step *step, str text, str words, buf *out, error *err) {
    split_search search = {0};
    joiner j = {.step = step, .words = out};
    status st = split_search_init(&search, &step->matcher, text.n, err);
    for (; st == OK && words.n > 0; words = str_skip(words, sizeof(tok_word))) {
        tok_word w;
        memcpy(&w, words.p, sizeof w);
        str word = {text.p + w.begin, w.end - w.begin};
        j.origin = w.begin;
        if (step->kind == TOK_SPLIT_SCRIPTS) {
            split_scripts(&j, word);
        } else if (step->kind == TOK_SPLIT_BYTE_DIGITS) {
            split_byte_digits(&j, word);
        } else {
            st = split_word(&j, &search, word, err);
        }
    }
    split_search_deinit(&search);
    return st == OK ? buf_status(out, "tokenizer: words", err) : st;
}

status tok_split_text(const tok_splitter *s, str text, buf *words, buf *spare, error *err) {
    tok_word whole = {0, (uint32_t)text.n};
    ASSERT(text.n <= TOK_TEXT_BYTES_MAX);
    buf_clear(words);
    if (text.n == 0) return OK;
    if (s->count == 0) {
        buf_put(words, &whole, sizeof whole);
        return buf_status(words, "tokenizer: words", err);
    }
    /* The lists change places at each step, so that the last one writes to `words`. */
    buf *to = s->count % 2 == 1 ? words : spare, *from = to == words ? spare : words;
    str before = {(const char *)&whole, sizeof whole};
    for (uint32_t i = 0; i < s->count; i++) {
        buf_clear(to);
        TRY(run_step(&s->steps[i], text, before, to, err));
        before = buf_view(to);
        buf *next = from;
        from = to;
        to = next;
    }
    return OK;
}
