/* tok_split_regex.c - patterns that are no program, in PCRE2 and under limits.
 *
 * A pattern and a text may both be hostile.  PCRE2's own match limit counts anew from each place of
 * the text, so it does not bound the whole; here a callout before each item of the pattern counts
 * items and the bytes that were moved over, and stops the match when the text's share is used
 * up.  The answer depends on pattern and text alone, not on the clock.
 *
 * Text with broken UTF-8 is searched in a copy where each such byte is U+FFFD; places are carried
 * back by walking both together. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/alloc.h"
#include "base/num.h"
#include "text/tok_split_internal.h"

enum {
    WORK_PER_BYTE = 256, /* ordinary patterns need 10 to 50 */
    WORK_FREE = 1 << 20,
    MATCH_LIMIT = 10000000,
    DEPTH_LIMIT = 10000,
    HEAP_LIMIT_KIB = 65536,
    NESTING_LIMIT = 100,
};

struct split_regex {
    pcre2_general_context *memory; /* owned, all of these */
    pcre2_compile_context *compile;
    pcre2_code *code;
};

struct split_regex_run {
    const split_regex *regex; /* borrowed */
    pcre2_match_context *context;
    pcre2_match_data *data;
    uint64_t work, work_max; /* items looked at and bytes moved over */
    size_t last_place;
    str text;                  /* as it was given; borrowed */
    buf fixed;                 /* a well-formed copy of it, or empty */
    bool is_fixed;             /* the copy is what is searched */
    size_t plain_at, fixed_at; /* the same place in both */
};

static void *take_memory(size_t bytes, void *user) {
    (void)user;
    return mem_try_alloc(bytes);
}

static void give_memory(void *p, void *user) {
    (void)user;
    mem_free(p);
}

/* --- compiling ----------------------------------------------------------------------------- */

static status compile_error(str pattern, int code, size_t place, error *err) {
    unsigned char reason[160] = "";
    (void)pcre2_get_error_message(code, reason, sizeof reason);
    if (code == PCRE2_ERROR_HEAP_FAILED)
        return error_set(err, ERR_NOMEM, "tokenizer: no memory for a pattern");
    return error_set(err, ERR_FORMAT, "tokenizer: pattern '%.*s': %s at byte %zu of %zu",
                     STR(pattern), (const char *)reason, place, pattern.n);
}

static status compile(split_regex *r, str pattern, error *err) {
    static const uint32_t options =
        PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_AUTO_CALLOUT | PCRE2_NEVER_BACKSLASH_C;
    int code = 0;
    size_t place = 0;
    r->memory = pcre2_general_context_create(take_memory, give_memory, NULL);
    if (r->memory != NULL) r->compile = pcre2_compile_context_create(r->memory);
    if (r->compile == NULL) return error_set(err, ERR_NOMEM, "tokenizer: no memory for a pattern");
    (void)pcre2_set_newline(r->compile, PCRE2_NEWLINE_LF);
    (void)pcre2_set_parens_nest_limit(r->compile, NESTING_LIMIT);
    r->code = pcre2_compile((PCRE2_SPTR)pattern.p, pattern.n, options, &code, &place, r->compile);
    return r->code != NULL ? OK : compile_error(pattern, code, place, err);
}

status split_regex_create(split_regex **out, str pattern, error *err) {
    buf translated;
    if (pattern.n > SPLIT_PATTERN_BYTES_MAX)
        return error_set(err, ERR_LIMIT, "tokenizer: pattern of %zu bytes, at most %d", pattern.n,
                         SPLIT_PATTERN_BYTES_MAX);
    split_regex *r = mem_try_calloc(1, sizeof *r);
    if (r == NULL) return error_set(err, ERR_NOMEM, "tokenizer: no memory for a pattern");
    buf_init(&translated, 16 * (size_t)SPLIT_PATTERN_BYTES_MAX);
    status st = split_translate(pattern, &translated, err);
    if (st == OK) st = compile(r, buf_view(&translated), err);
    buf_deinit(&translated);
    if (st == OK) {
        *out = r;
    } else {
        split_regex_destroy(r);
    }
    return st;
}

void split_regex_destroy(split_regex *r) {
    if (r == NULL) return;
    pcre2_code_free(r->code);
    pcre2_compile_context_free(r->compile);
    pcre2_general_context_free(r->memory);
    mem_free(r);
}

/* --- searching ----------------------------------------------------------------------------- */

/* Called by PCRE2 before each item of the pattern.  Any number but 0 ends the match. */
static int count_work(pcre2_callout_block *block, void *user) {
    split_regex_run *run = user;
    size_t place = block->current_position, last = run->last_place;
    run->work += 1 + (place > last ? place - last : last - place);
    run->last_place = place;
    return run->work > run->work_max ? PCRE2_ERROR_CALLOUT : 0;
}

status split_regex_start(split_regex_run **out, const split_regex *r, size_t text_bytes,
                         error *err) {
    split_regex_run *run = mem_try_calloc(1, sizeof *run);
    if (run == NULL) return error_set(err, ERR_NOMEM, "tokenizer: no memory to split text");
    run->regex = r;
    run->work_max = WORK_FREE + (uint64_t)text_bytes * WORK_PER_BYTE;
    buf_init(&run->fixed, SIZE_MAX / 2);
    run->context = pcre2_match_context_create(r->memory);
    run->data = pcre2_match_data_create(1, r->memory);
    if (run->context == NULL || run->data == NULL) {
        split_regex_stop(run);
        return error_set(err, ERR_NOMEM, "tokenizer: no memory to split text");
    }
    (void)pcre2_set_match_limit(run->context, MATCH_LIMIT);
    (void)pcre2_set_depth_limit(run->context, DEPTH_LIMIT);
    (void)pcre2_set_heap_limit(run->context, HEAP_LIMIT_KIB);
    (void)pcre2_set_callout(run->context, count_work, run);
    *out = run;
    return OK;
}

void split_regex_stop(split_regex_run *run) {
    if (run == NULL) return;
    pcre2_match_data_free(run->data);
    pcre2_match_context_free(run->context);
    buf_deinit(&run->fixed);
    mem_free(run);
}

/* The text with U+FFFD for each broken byte. */
static void fix(str text, buf *out) {
    buf_clear(out);
    for (size_t at = 0; at < text.n;) {
        uint32_t cp;
        char bytes[UNICODE_BYTES_MAX];
        at += unicode_decode(text.p + at, text.n - at, &cp);
        buf_put(out, bytes, unicode_encode(cp, bytes));
    }
}

status split_regex_text(split_regex_run *run, str text, error *err) {
    run->text = text;
    run->is_fixed = !str_is_utf8(text);
    run->plain_at = run->fixed_at = run->last_place = 0;
    if (!run->is_fixed) return OK;
    fix(text, &run->fixed);
    return buf_status(&run->fixed, "tokenizer: text to split", err);
}

static void step(split_regex_run *run) {
    uint32_t cp;
    char bytes[UNICODE_BYTES_MAX];
    run->plain_at += unicode_decode(run->text.p + run->plain_at, run->text.n - run->plain_at, &cp);
    run->fixed_at += unicode_encode(cp, bytes);
}

/* Places only go up within a text, so walking is linear in all. */
static size_t to_fixed(split_regex_run *run, size_t at) {
    if (!run->is_fixed) return at;
    while (run->plain_at < at) step(run);
    return run->fixed_at;
}

static size_t from_fixed(split_regex_run *run, size_t at) {
    if (!run->is_fixed) return at;
    while (run->fixed_at < at) step(run);
    return run->plain_at;
}

static status match_error(const split_regex_run *run, int code, error *err) {
    if (code == PCRE2_ERROR_NOMEMORY)
        return error_set(err, ERR_NOMEM, "tokenizer: no memory to split text");
    if (run->work > run->work_max)
        return error_set(err, ERR_LIMIT,
                         "tokenizer: splitting a text of %zu bytes takes more than %" PRIu64
                         " steps",
                         run->text.n, run->work_max);
    return error_set(err, ERR_LIMIT, "tokenizer: splitting a text of %zu bytes passes limit %d",
                     run->text.n, code);
}

status split_regex_find(split_regex_run *run, size_t from, bool *found, size_t *begin, size_t *end,
                        error *err) {
    str subject = run->is_fixed ? buf_view(&run->fixed) : run->text;
    size_t start = to_fixed(run, from);
    run->last_place = start;
    int code = pcre2_match(run->regex->code, (PCRE2_SPTR)subject.p, subject.n, start,
                           PCRE2_NO_UTF_CHECK, run->data, run->context);
    *found = code >= 0;
    if (code == PCRE2_ERROR_NOMATCH) return OK;
    if (code < 0) return match_error(run, code, err);
    const size_t *places = pcre2_get_ovector_pointer(run->data);
    /* \K and lookbehind can place the begin anywhere: no match begins before the search does. */
    *begin = from_fixed(run, places[0] > start ? places[0] : start);
    *end = from_fixed(run, places[1] > places[0] ? places[1] : places[0]);
    return OK;
}
