/* tok_norm_form.c - the four normalization forms.
 *
 * utf8proc knows what characters decompose to and compose from; the order of combining marks is
 * put right here, since its own sort takes quadratic time when a text has a long run of them.  The
 * text goes through in chunks, cut before characters that nothing before them can combine with.
 * Source: Unicode Standard Annex 15; section 3.11 of the standard, "Canonical
 * Ordering Algorithm". */
#include <utf8proc.h>

#include "base/alloc.h"
#include "text/tok_norm_internal.h"
#include "text/unicode.h"

enum {
    CHUNK_POINTS = 1024,     /* a chunk ends at the next possible place */
    POINTS_A_CHARACTER = 32, /* no character decomposes to more than 18 */
    SHORT_RUN = 24,          /* marks that are sorted by insertion */
    CLASSES = 256,
};

typedef struct form_run {
    utf8proc_option_t options;
    bool compose;
    buf points; /* int32: the chunk, decomposed */
    buf sorted; /* int32: scratch for a long run of marks */
    buf *out;   /* borrowed */
} form_run;

static bool composes(tok_norm_kind kind) { return kind == TOK_NORM_NFC || kind == TOK_NORM_NFKC; }

static bool is_compatible(tok_norm_kind kind) {
    return kind == TOK_NORM_NFKC || kind == TOK_NORM_NFKD;
}

/* ASCII is in all forms, and NFC changes nothing below the combining marks at U+0300. */
bool norm_form_is_plain(tok_norm_kind kind, str text) {
    uint32_t limit = kind == TOK_NORM_NFC ? 0x300 : 0x80;
    while (text.n > 0) {
        uint32_t cp;
        uint32_t bytes = unicode_decode(text.p, text.n, &cp);
        if (cp >= limit) return false;
        text = str_skip(text, bytes);
    }
    return true;
}

uint32_t norm_base_letter(uint32_t cp) {
    utf8proc_int32_t points[POINTS_A_CHARACTER];
    int boundary = 0; /* of graphemes, which are not asked for */
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)cp, points, POINTS_A_CHARACTER,
                                                 UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &boundary);
    return n > 0 && n <= POINTS_A_CHARACTER ? (uint32_t)points[0] : cp;
}

/* Does no character before this one combine with it or change places with it?  Not all such
 * characters: those that text has enough of. */
static bool may_begin_chunk(uint32_t cp) {
    return cp < 0x300 || (cp >= 0x3400 && cp <= 0x9FFF) || (cp >= 0xAC00 && cp <= 0xD7A3);
}

/* --- the order of marks -------------------------------------------------------------------- */

static uint32_t class_of(int32_t cp) {
    return (uint32_t)utf8proc_get_property(cp)->combining_class;
}

static void sort_short(int32_t *points, size_t count) {
    for (size_t i = 1; i < count; i++) {
        int32_t point = points[i];
        uint32_t class = class_of(point);
        size_t k = i;
        for (; k > 0 && class_of(points[k - 1]) > class; k--) points[k] = points[k - 1];
        points[k] = point;
    }
}

/* By counting, which keeps the order of equals. */
static bool sort_long(form_run *f, int32_t *points, size_t count) {
    size_t places[CLASSES + 1] = {0};
    buf_clear(&f->sorted);
    int32_t *sorted = buf_reserve(&f->sorted, count * sizeof *points);
    if (sorted == NULL) return false;
    for (size_t i = 0; i < count; i++) places[class_of(points[i]) % CLASSES + 1]++;
    for (size_t i = 1; i <= CLASSES; i++) places[i] += places[i - 1];
    for (size_t i = 0; i < count; i++) sorted[places[class_of(points[i]) % CLASSES]++] = points[i];
    memcpy(points, sorted, count * sizeof *points);
    return true;
}

/* Each run of characters with a class goes into the order of their classes. */
static bool order_marks(form_run *f, int32_t *points, size_t count) {
    for (size_t i = 0; i < count;) {
        size_t begin = i;
        while (i < count && class_of(points[i]) != 0) i++;
        size_t marks = i - begin;
        if (marks > SHORT_RUN) {
            if (!sort_long(f, points + begin, marks)) return false;
        } else if (marks > 1) {
            sort_short(points + begin, marks);
        }
        if (i == begin) i++;
    }
    return true;
}

/* --- chunks -------------------------------------------------------------------------------- */

static bool flush(form_run *f) {
    int32_t *points = (int32_t *)(void *)f->points.p;
    size_t count = f->points.n / sizeof *points;
    if (count == 0) return true;
    if (!order_marks(f, points, count)) return false;
    if (f->compose)
        count = (size_t)utf8proc_normalize_utf32(points, (utf8proc_ssize_t)count,
                                                 UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    for (size_t i = 0; i < count; i++) {
        char bytes[UNICODE_BYTES_MAX];
        buf_put(f->out, bytes, unicode_encode((uint32_t)points[i], bytes));
    }
    buf_clear(&f->points);
    return true;
}

static bool add_character(form_run *f, uint32_t cp) {
    int boundary = 0; /* of graphemes, which are not asked for */
    if (f->points.n >= CHUNK_POINTS * sizeof(int32_t) && may_begin_chunk(cp) && !flush(f))
        return false;
    int32_t *to = buf_reserve(&f->points, POINTS_A_CHARACTER * sizeof *to);
    if (to == NULL) return false;
    utf8proc_ssize_t count =
        utf8proc_decompose_char((int32_t)cp, to, POINTS_A_CHARACTER, f->options, &boundary);
    if (count < 0 || count > POINTS_A_CHARACTER) {
        to[0] = (int32_t)cp; /* nothing is known of it */
        count = 1;
    }
    f->points.n += (size_t)count * sizeof *to;
    return true;
}

/* ASCII up to, but not with, its last character, which may have marks behind it. */
static size_t ascii_before_last(str text) {
    size_t n = 0;
    while (n < text.n && (unsigned char)text.p[n] < 0x80) n++;
    return n > 0 && n < text.n ? n - 1 : n;
}

static bool run_form(form_run *f, str text) {
    while (text.n > 0 && !f->out->failed) {
        size_t plain = ascii_before_last(text);
        if (plain > 0) {
            if (!flush(f)) return false;
            buf_put(f->out, text.p, plain);
            text = str_skip(text, plain);
            continue;
        }
        uint32_t cp;
        uint32_t bytes = unicode_decode(text.p, text.n, &cp);
        if (!add_character(f, cp)) return false;
        text = str_skip(text, bytes);
    }
    return flush(f);
}

status norm_form(tok_norm_kind kind, str text, buf *out, error *err) {
    int options = UTF8PROC_DECOMPOSE | UTF8PROC_STABLE;
    if (is_compatible(kind)) options |= UTF8PROC_COMPAT;
    form_run f = {.options = (utf8proc_option_t)options, .compose = composes(kind), .out = out};
    buf_init(&f.points, SIZE_MAX / 2);
    buf_init(&f.sorted, SIZE_MAX / 2);
    bool done = run_form(&f, text);
    buf_deinit(&f.points);
    buf_deinit(&f.sorted);
    return done ? OK : error_set(err, ERR_NOMEM, "tokenizer: no memory to normalize text");
}
