/* fuzz_tok_split.c - a pattern and a text: splitting, replacing, normalizing.
 *
 * Byte 0 holds flags, byte 1 the kind of step, byte 2 the length of the pattern; then come the
 * pattern, which is also a charsmap, and the text.  Properties: words are in order, inside the text
 * and not empty; isolated ones cover it; on ASCII text a pattern that is scanned finds what PCRE2
 * finds; the normal forms are valid UTF-8 and normalizing them again changes nothing. */
#include "base/alloc.h"
#include "base/assert.h"
#include "fuzz.h"
#include "text/tok_norm.h"
#include "text/tok_split_internal.h"

enum { FLAG_INVERT = 1, FLAG_EACH = 2, FLAG_FAIL_ALLOC = 4, OUT_BYTES_MAX = 1 << 24 };

typedef struct fuzz_input {
    uint8_t flags, kind;
    str pattern, text;
} fuzz_input;

static fuzz_input read_input(const uint8_t *data, size_t size) {
    fuzz_input in = {data[0], data[1], {(const char *)data + 3, data[2]}, {0}};
    if (in.pattern.n > size - 3) in.pattern.n = size - 3;
    in.text = (str){in.pattern.p + in.pattern.n, size - 3 - in.pattern.n};
    return in;
}

/* --- splitting ----------------------------------------------------------------------------- */

static void check_words(const tok_split *step, str text, const buf *words) {
    const tok_word *w = (const tok_word *)(const void *)words->p;
    uint32_t end = 0;
    uint64_t covered = 0;
    for (size_t i = 0; i < words->n / sizeof *w; i++) {
        ASSERT(w[i].begin >= end && w[i].begin < w[i].end && w[i].end <= text.n);
        end = w[i].end;
        covered += w[i].end - w[i].begin;
    }
    bool whole = step->kind == TOK_SPLIT_REGEX && step->behavior != TOK_SPLIT_REMOVED;
    if (whole) ASSERT(covered == text.n);
}

static void check_split(const fuzz_input *in) {
    tok_split step = {.kind = (tok_split_kind)(in->kind % (TOK_SPLIT_LENGTH + 1)),
                      .behavior = (tok_split_behavior)(in->kind / 16 % (TOK_SPLIT_CONTIGUOUS + 1)),
                      .invert = (in->flags & FLAG_INVERT) != 0,
                      .each = (in->flags & FLAG_EACH) != 0,
                      .length = in->flags,
                      .pattern = in->pattern};
    tok_splitter *s = NULL;
    buf words, spare;
    buf_init(&words, OUT_BYTES_MAX);
    buf_init(&spare, OUT_BYTES_MAX);
    if ((in->flags & FLAG_FAIL_ALLOC) != 0) mem_fail_after(in->flags / 8);
    status st = tok_splitter_create(&s, &step, 1, NULL);
    if (st == OK) st = tok_split_text(s, in->text, &words, &spare, NULL);
    mem_fail_after(-1);
    if (st == OK) check_words(&step, in->text, &words);
    tok_splitter_destroy(s);
    buf_deinit(&spare);
    buf_deinit(&words);
}

/* --- scanners against PCRE2 ---------------------------------------------------------------- */

static bool is_ascii(str text) {
    for (size_t i = 0; i < text.n; i++)
        if ((unsigned char)text.p[i] >= 0x80) return false;
    return true;
}

static void compare(const split_matcher *scanner, const split_matcher *regex, str text) {
    split_search a = {0}, b = {0};
    bool found[2] = {true, true};
    size_t begin[2] = {0}, end[2] = {0};
    ASSERT(split_search_init(&a, scanner, text.n, NULL) == OK);
    ASSERT(split_search_init(&b, regex, text.n, NULL) == OK);
    ASSERT(split_search_text(&a, text, NULL) == OK && split_search_text(&b, text, NULL) == OK);
    while (found[0]) {
        ASSERT(split_search_next(&a, &found[0], &begin[0], &end[0], NULL) == OK);
        if (split_search_next(&b, &found[1], &begin[1], &end[1], NULL) != OK) break; /* limits */
        ASSERT(found[0] == found[1]);
        ASSERT(!found[0] || (begin[0] == begin[1] && end[0] == end[1]));
    }
    split_search_deinit(&a);
    split_search_deinit(&b);
}

static void check_scanner(const fuzz_input *in) {
    split_matcher scanner = {0}, regex = {0};
    bool linear = false;
    ASSERT(split_program_parse(&scanner.program, in->pattern, &linear, NULL) == OK);
    if (linear && is_ascii(in->text) && split_regex_create(&regex.regex, in->pattern, NULL) == OK)
        compare(&scanner, &regex, in->text);
    split_matcher_deinit(&scanner);
    split_matcher_deinit(&regex);
}

/* --- normalizing --------------------------------------------------------------------------- */

static bool is_form(tok_norm_kind kind) { return kind <= TOK_NORM_NFKD; }

static void check_norm(const fuzz_input *in) {
    tok_norm step = {.kind = (tok_norm_kind)(in->kind % (TOK_NORM_BERT_CHINESE + 1)),
                     .a = in->pattern,
                     .b = in->text,
                     .left = true,
                     .right = true};
    tok_normalizer *n = NULL;
    buf out, spare, again;
    buf_init(&out, OUT_BYTES_MAX);
    buf_init(&spare, OUT_BYTES_MAX);
    buf_init(&again, OUT_BYTES_MAX);
    if ((in->flags & FLAG_FAIL_ALLOC) != 0) mem_fail_after(in->flags / 8);
    status st = tok_normalizer_create(&n, &step, 1, NULL);
    if (st == OK) st = tok_normalize(n, in->text, true, &out, &spare, NULL);
    mem_fail_after(-1);
    if (st == OK && is_form(step.kind)) {
        ASSERT(str_is_utf8(buf_view(&out)));
        ASSERT(tok_normalize(n, buf_view(&out), true, &again, &spare, NULL) == OK);
        ASSERT(str_eq(buf_view(&out), buf_view(&again)));
    }
    tok_normalizer_destroy(n);
    buf_deinit(&again);
    buf_deinit(&spare);
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 3) return 0;
    fuzz_input in = read_input(data, size);
    check_split(&in);
    check_scanner(&in);
    check_norm(&in);
    return 0;
}
