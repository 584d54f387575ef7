/* tok_split_scan.c - finds the matches of a program, in one pass over the text.
 *
 * Each function try_*() answers for one place: where does the match end that begins here?  NO_MATCH
 * when there is none.  What looks further than its match ends (white space that may hold a line
 * end, digits counted from their end) remembers the run in the cursor instead of looking again. */
#include "text/tok_split_internal.h"

#define NO_MATCH SIZE_MAX

typedef struct scan {
    const split_range *ranges;
    split_cursor *cursor;
    str text;
} scan;

/* The character at `at`, which is inside the text; returns where the next one begins. */
static size_t next_char(const scan *s, size_t at, uint32_t *cp) {
    return at + unicode_decode(s->text.p + at, s->text.n - at, cp);
}

/* Behind the character at `at` when it is a member, else NO_MATCH. */
static size_t member_end(const scan *s, const split_set *set, size_t at) {
    uint32_t cp;
    if (at >= s->text.n) return NO_MATCH;
    size_t next = next_char(s, at, &cp);
    return split_set_has(set, s->ranges, cp) ? next : NO_MATCH;
}

/* --- runs ---------------------------------------------------------------------------------- */

/* Behind at least `min` and at most `max` members. */
static size_t run_end(const scan *s, const split_set *set, size_t at, uint32_t min, uint32_t max) {
    uint32_t count = 0;
    while (count < max) {
        size_t next = member_end(s, set, at);
        if (next == NO_MATCH) break;
        at = next;
        count++;
    }
    return count >= min ? at : NO_MATCH;
}

static size_t try_run(const scan *s, const split_branch *b, size_t at) {
    size_t lead = b->lead_kind != SPLIT_LEAD_NONE ? member_end(s, &b->lead, at) : NO_MATCH;
    size_t end = lead != NO_MATCH ? run_end(s, &b->body, lead, b->min, b->max) : NO_MATCH;
    bool may_go_without = b->lead_kind == SPLIT_LEAD_NONE || b->lead_kind == SPLIT_LEAD_OPTIONAL ||
                          (b->lead_kind == SPLIT_LEAD_KEPT && lead == NO_MATCH);
    if (end == NO_MATCH && may_go_without) end = run_end(s, &b->body, at, b->min, b->max);
    if (end == NO_MATCH || b->tail_max == 0) return end;
    return run_end(s, &b->tail, end, 0, b->tail_max);
}

static size_t try_literal(const scan *s, const split_branch *b, size_t at) {
    return str_starts(str_skip(s->text, at), b->literal) ? at + b->literal.n : NO_MATCH;
}

/* --- words --------------------------------------------------------------------------------- */

static size_t try_suffix(const scan *s, split_suffix kind, size_t at) {
    str rest = str_skip(s->text, at);
    if (rest.n < 2 || rest.p[0] != '\'') return NO_MATCH;
    if (kind == SPLIT_SUFFIX_FOLDED && str_starts(rest, S("'\xC5\xBF"))) return at + 3;
    unsigned fold = kind == SPLIT_SUFFIX_LOWER ? 0 : 0x20;
    unsigned first = (unsigned char)rest.p[1] | fold;
    unsigned second = rest.n > 2 ? (unsigned char)rest.p[2] | fold : 0;
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
    if ((first == 'r' || first == 'v') && second == 'e') return at + 3;
    return first == 'l' && second == 'l' ? at + 3 : NO_MATCH;
}

/* Upper* Lower+ from `at`, else Upper+ Lower*.  Upper takes all it can; where no lower case
 * follows, it gives back down to the last character that is of both sets, and that one is all of
 * Lower+ then, since what comes behind it is not. */
static size_t cased_end(const scan *s, const split_branch *b, size_t at, bool *lower) {
    size_t both_end = NO_MATCH, end = at;
    for (;;) {
        uint32_t cp;
        if (end >= s->text.n) break;
        size_t next = next_char(s, end, &cp);
        if (!split_set_has(&b->body, s->ranges, cp)) break;
        if (split_set_has(&b->tail, s->ranges, cp)) both_end = next;
        end = next;
    }
    size_t lower_end = run_end(s, &b->tail, end, 1, UINT32_MAX);
    *lower = true;
    if (lower_end != NO_MATCH) return lower_end;
    if (both_end != NO_MATCH) return both_end;
    *lower = false;
    return end > at ? end : NO_MATCH;
}

static size_t try_cased(const scan *s, const split_branch *b, size_t at) {
    bool lower = false, plain_lower = false;
    size_t end = NO_MATCH;
    size_t lead = b->lead_kind != SPLIT_LEAD_NONE ? member_end(s, &b->lead, at) : NO_MATCH;
    if (lead != NO_MATCH) end = cased_end(s, b, lead, &lower);
    /* The first alternative goes before the second, also where it has to do without the lead. */
    if (end == NO_MATCH || !lower) {
        size_t plain = cased_end(s, b, at, &plain_lower);
        if (end == NO_MATCH || (plain != NO_MATCH && plain_lower)) end = plain;
    }
    if (end == NO_MATCH || b->suffix == SPLIT_SUFFIX_NONE) return end;
    size_t suffix = try_suffix(s, b->suffix, end);
    return suffix != NO_MATCH ? suffix : end;
}

/* A letter and its marks. */
static size_t marked_letter_end(const scan *s, const split_set *letters, size_t at) {
    enum { MARKS = 1 << UNICODE_MN | 1 << UNICODE_MC | 1 << UNICODE_ME };
    size_t end = member_end(s, letters, at);
    while (end != NO_MATCH && end < s->text.n) {
        uint32_t cp;
        size_t next = next_char(s, end, &cp);
        if ((unicode_category_bit(cp) & MARKS) == 0) break;
        end = next;
    }
    return end;
}

static size_t phrase_end(const scan *s, const split_set *letters, size_t at) {
    size_t end = NO_MATCH;
    for (;;) {
        size_t next = marked_letter_end(s, letters, at);
        if (next == NO_MATCH) return end;
        end = next;
        at = end < s->text.n && s->text.p[end] == ' ' ? end + 1 : end;
    }
}

static size_t try_phrase(const scan *s, const split_branch *b, size_t at) {
    size_t lead = member_end(s, &b->lead, at);
    size_t end = lead != NO_MATCH ? phrase_end(s, &b->body, lead) : NO_MATCH;
    return end != NO_MATCH ? end : phrase_end(s, &b->body, at);
}

/* --- white space --------------------------------------------------------------------------- */

static bool space_at(const scan *s, size_t at, size_t *next) {
    uint32_t cp;
    if (at >= s->text.n) return false;
    *next = next_char(s, at, &cp);
    return unicode_is_space(cp);
}

static void measure_spaces(const scan *s, split_run *r, size_t at) {
    size_t next = at;
    *r = (split_run){.at = at, .end = at};
    while (space_at(s, r->end, &next)) {
        char c = s->text.p[r->end];
        if (c == '\r' || c == '\n') r->line_end = next;
        if (c == '\n') r->feed_end = next;
        r->end = next;
        r->left++;
    }
}

/* The run of white space that goes on from `at`; NULL when there is none. */
static const split_run *spaces_from(const scan *s, size_t at) {
    split_run *r = &s->cursor->spaces;
    size_t next;
    if (!space_at(s, at, &next)) return NULL;
    if (at < r->at || at >= r->end) measure_spaces(s, r, at);
    for (; r->at < at; r->left--) (void)space_at(s, r->at, &r->at);
    return r;
}

/* White space is well-formed UTF-8, so its last character can be found from behind. */
static size_t last_char(const scan *s, size_t end) {
    do end--;
    while (((unsigned char)s->text.p[end] & 0xC0) == 0x80);
    return end;
}

static size_t try_lines(const scan *s, size_t at) {
    const split_run *r = spaces_from(s, at);
    return r != NULL && r->line_end > at ? r->line_end : NO_MATCH;
}

/* Before a word the last space is given back: (?!\S) must hold behind the match. */
static size_t try_spaces(const scan *s, const split_branch *b, size_t at) {
    const split_run *r = spaces_from(s, at);
    if (r == NULL) return NO_MATCH;
    bool before_word = r->end < s->text.n;
    size_t usable = before_word ? r->left - 1 : r->left;
    if (usable < b->min) return NO_MATCH;
    if (usable <= b->max) return before_word ? last_char(s, r->end) : r->end;
    for (uint32_t i = 0; i < b->max; i++) (void)space_at(s, at, &at);
    return at;
}

/* The end of the text, or before the last line feed of the run. */
static size_t try_end_spaces(const scan *s, size_t at) {
    const split_run *r = spaces_from(s, at);
    if (r == NULL) return NO_MATCH;
    if (r->end == s->text.n) return r->end;
    return r->feed_end > at + 1 ? r->feed_end - 1 : NO_MATCH;
}

/* --- digits in threes ---------------------------------------------------------------------- */

static void measure_digits(const scan *s, const split_set *digits, split_run *r, size_t at) {
    *r = (split_run){.at = at, .end = at};
    for (;;) {
        size_t next = member_end(s, digits, r->end);
        if (next == NO_MATCH) return;
        r->end = next;
        r->left++;
    }
}

static const split_run *digits_from(const scan *s, const split_set *digits, size_t at) {
    split_run *r = &s->cursor->digits;
    uint32_t cp;
    if (member_end(s, digits, at) == NO_MATCH) return NULL;
    if (at < r->at || at >= r->end) measure_digits(s, digits, r, at);
    for (; r->at < at; r->left--) r->at = next_char(s, r->at, &cp);
    return r;
}

static bool word_at(const scan *s, size_t at) {
    uint32_t cp;
    if (at >= s->text.n) return false;
    (void)next_char(s, at, &cp);
    return (unicode_get(cp)->flags & UNICODE_FLAG_WORD) != 0;
}

/* One to three digits, so that whole threes follow to the end of the run. */
static size_t try_triple(const scan *s, const split_branch *b, size_t at) {
    const split_run *r = digits_from(s, &b->body, at);
    if (r == NULL || (b->to_word_end && word_at(s, r->end))) return NO_MATCH;
    uint32_t count = r->left % 3 != 0 ? (uint32_t)(r->left % 3) : 3;
    return run_end(s, &b->body, at, count, count);
}

/* The empty place before whole threes. */
static size_t try_cut(const scan *s, const split_branch *b, size_t at) {
    const split_run *r = digits_from(s, &b->body, at);
    return r != NULL && r->left % 3 == 0 ? at : NO_MATCH;
}

/* --- all of them --------------------------------------------------------------------------- */

static size_t try_branch(const scan *s, const split_branch *b, size_t at) {
    switch (b->shape) {
    case SPLIT_SHAPE_RUN:
        return try_run(s, b, at);
    case SPLIT_SHAPE_LITERAL:
        return try_literal(s, b, at);
    case SPLIT_SHAPE_SUFFIX:
        return try_suffix(s, b->suffix, at);
    case SPLIT_SHAPE_CASED:
        return try_cased(s, b, at);
    case SPLIT_SHAPE_PHRASE:
        return try_phrase(s, b, at);
    case SPLIT_SHAPE_LINES:
        return try_lines(s, at);
    case SPLIT_SHAPE_SPACES:
        return try_spaces(s, b, at);
    case SPLIT_SHAPE_END:
        return try_end_spaces(s, at);
    case SPLIT_SHAPE_TRIPLE:
        return try_triple(s, b, at);
    case SPLIT_SHAPE_CUT:
        return try_cut(s, b, at);
    }
    return NO_MATCH;
}

/* A program of one literal looks for it as fast as the C library can. */
static bool find_literal(str literal, str text, size_t from, size_t *begin, size_t *end) {
    if (literal.n == 0 || literal.n > text.n - from) return false;
    const char *p = memmem(text.p + from, text.n - from, literal.p, literal.n);
    if (p == NULL) return false;
    *begin = (size_t)(p - text.p);
    *end = *begin + literal.n;
    return true;
}

/* The end of the first branch that matches at `at`. */
static size_t match_at(const scan *s, const split_program *p, size_t at) {
    unsigned char byte = (unsigned char)s->text.p[at];
    if (byte < 128 && !split_ascii_has(p->starts, byte)) return NO_MATCH;
    for (uint32_t i = 0; i < p->branches_count; i++) {
        const split_branch *b = &p->branches[i];
        if (byte < 128 && !split_ascii_has(b->starts, byte)) continue;
        size_t end = try_branch(s, b, at);
        if (end != NO_MATCH) return end;
    }
    return NO_MATCH;
}

bool split_program_find(const split_program *p, split_cursor *c, str text, size_t from,
                        size_t *begin, size_t *end) {
    scan s = {p->ranges, c, text};
    uint32_t cp;
    if (p->branches_count == 1 && p->branches[0].shape == SPLIT_SHAPE_LITERAL)
        return find_literal(p->branches[0].literal, text, from, begin, end);
    for (size_t at = from; at < text.n; at = next_char(&s, at, &cp)) {
        size_t match_end = match_at(&s, p, at);
        if (match_end == NO_MATCH) continue;
        *begin = at;
        *end = match_end;
        return true;
    }
    return false;
}
