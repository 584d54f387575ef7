/* jinja_wrap.c - the filter wordwrap.
 *
 * A line is cut into chunks: white space, words, and parts of words behind hyphens; lines are
 * filled with them up to the width.  Source: the Python library reference, "textwrap". */
#include <inttypes.h>

#include "base/num.h"
#include "text/jinja_filters.h"
#include "text/jinja_text.h"
#include "text/jinja_unicode.h"

typedef struct wrap {
    const uint32_t *chars; /* [count] of one line */
    size_t count;
    size_t width;
    bool break_long, break_hyphens;
    str end;        /* between lines */
    bool any;       /* a line was written */
    size_t cut_end; /* of the chunk that was cut last: its rest is one chunk */
} wrap;

static bool is_space(uint32_t c) { return c == ' ' || (c >= 9 && c <= 13); }
static bool is_letter(uint32_t c) { return jinja_char_is_word(c) && !jinja_char_is_digit(c); }
static bool is_punctuation(uint32_t c) {
    return jinja_char_is_word(c) || (c < 0x80 && c != 0 && strchr("!\"'&.,?", (int)c) != NULL);
}

static uint32_t at(const wrap *w, size_t i) { return i < w->count ? w->chars[i] : ' '; }

/* A dash of two or more hyphens between words begins at i. */
static bool is_dash(const wrap *w, size_t i) {
    size_t n = i;
    while (n < w->count && w->chars[n] == '-') n++;
    return i > 0 && n >= i + 2 && n < w->count && is_punctuation(w->chars[i - 1]) &&
           jinja_char_is_word(w->chars[n]);
}

/* A hyphen at i between letters, two of them on either side or one that is hyphenated itself. */
static bool is_hyphen(const wrap *w, size_t i, size_t from) {
    if (at(w, i) != '-' || i < from + 1) return false;
    bool before = (i >= 2 && is_letter(w->chars[i - 1]) && is_letter(w->chars[i - 2])) ||
                  (i >= 3 && is_letter(w->chars[i - 1]) && w->chars[i - 2] == '-' &&
                   is_letter(w->chars[i - 3]));
    bool after = is_letter(at(w, i + 1)) &&
                 (is_letter(at(w, i + 2)) || (at(w, i + 2) == '-' && is_letter(at(w, i + 3))));
    return before && after;
}

static size_t space_end(const wrap *w, size_t i) {
    while (i < w->count && is_space(w->chars[i])) i++;
    return i;
}

/* Where the chunk that begins at i ends. */
static size_t chunk_end(const wrap *w, size_t i) {
    size_t n = i + 1;
    if (i < w->cut_end) return w->cut_end;
    if (is_space(w->chars[i])) return space_end(w, i);
    if (w->break_hyphens && is_dash(w, i)) {
        while (w->chars[n] == '-') n++;
        return n;
    }
    for (; n < w->count && !is_space(w->chars[n]); n++) {
        if (!w->break_hyphens || w->chars[n] != '-') continue;
        if (is_hyphen(w, n, i)) return n + 1;
        if (is_dash(w, n)) return n;
    }
    return n;
}

/* Where a chunk too long for any line is cut: behind a hyphen if one fits. */
static size_t cut_long(const wrap *w, size_t from, size_t end, size_t room) {
    size_t cut = num_min_size(from + room, end);
    if (!w->break_hyphens || end - from <= room) return cut;
    bool other = false;
    size_t best = cut;
    for (size_t i = from; i < cut; i++) {
        if (w->chars[i] == '-' && i > from && other) best = i + 1;
        other = other || w->chars[i] != '-';
    }
    return best;
}

static void put_line(jinja_run *r, wrap *w, size_t from, size_t to) {
    if (w->any) jinja_text_put(r, w->end);
    w->any = true;
    for (size_t i = from; i < to; i++) jinja_text_put_char(r, w->chars[i]);
}

/* White space at the beginning of a line but the first, and at the end of any, is dropped. */
static status wrap_line(jinja_run *r, wrap *w) {
    bool first = true;
    for (size_t from = 0; from < w->count; first = false) {
        if (!first && is_space(w->chars[from])) from = chunk_end(w, from);
        if (from == w->count) break;
        size_t to = from, last = from;
        while (to < w->count) {
            size_t end = chunk_end(w, to);
            if (end - from > w->width) break;
            last = to;
            to = end;
        }
        size_t next = to < w->count ? chunk_end(w, to) : to;
        if (next - to > w->width && w->break_long) {
            last = to;
            to = cut_long(w, to, next, w->width - (to - from));
            w->cut_end = next;
        } else if (to == from) {
            to = next;
        }
        TRY(jinja_step_bytes(r, 16 * (to - from) + 16));
        size_t end = to > last && last > from && is_space(w->chars[last]) ? last : to;
        bool blank = space_end(w, from) >= end;
        if (!blank && end > from) put_line(r, w, from, end);
        from = to;
    }
    return OK;
}

static status wrap_paragraph(jinja_run *r, wrap *w, str line) {
    void *p = NULL;
    size_t count = jinja_char_count(line);
    TRY(jinja_step_bytes(r, 4 * line.n));
    TRY(jinja_take(r, count, sizeof(uint32_t), &p));
    uint32_t *chars = p;
    for (size_t i = 0; i < count; i++) line = str_skip(line, jinja_char_get(line, &chars[i]));
    w->chars = chars;
    w->count = count;
    w->any = false;
    w->cut_end = 0;
    return wrap_line(r, w);
}

status jinja_filter_wordwrap(jinja_run *r, const jinja_value *v, const jinja_value *a,
                             jinja_value *out) {
    int64_t width = 79;
    str s = S("");
    jinja_value lines;
    wrap w = {.break_long = jinja_flag_arg(&a[1], true),
              .break_hyphens = jinja_flag_arg(&a[3], true),
              .end = S("\n")};
    if (!jinja_is_missing(&a[0])) TRY(jinja_int_arg(r, &a[0], &width));
    if (!jinja_is_missing(&a[2]) && a[2].kind != JINJA_NONE) TRY(jinja_str_arg(r, &a[2], &w.end));
    if (width <= 0) return jinja_fail(r, "invalid width %" PRId64 " (must be > 0)", width);
    w.width = (size_t)width;
    TRY(jinja_str_arg(r, v, &s));
    TRY(jinja_str_splitlines(r, s, false, &lines));
    size_t begin = jinja_text_begin(r);
    for (size_t i = 0; i < lines.as.list->count; i++) {
        if (i != 0) jinja_text_put(r, w.end);
        TRY(wrap_paragraph(r, &w, lines.as.list->items[i].as.s));
    }
    return jinja_text_take(r, begin, out);
}
