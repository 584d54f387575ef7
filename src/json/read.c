/* read.c - text to tree: jansson, with the gaps closed that read.h names.
 *
 * Integers beyond int64_t are the one thing jansson cannot hold.  When it stops at one, the
 * text is copied with ".0" behind each such integer, which makes it a real, and parsed again.
 * A walk over the new tree, in document order, then finds the nodes of those integers again by
 * counting numbers, and notes the exact value of those that fit in uint64_t. */
#include "json/read.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/buf.h"
#include "base/num.h"
#include "base/os.h"
#include "json/read_internal.h"

/* An integer that was made a real in the copy of the text. */
typedef struct widened {
    size_t number_idx; /* it is that many-th number of the document */
    size_t at;         /* where its ".0" starts in the copy */
    uint64_t value;
    bool exact; /* does value hold it? */
} widened;

/* --- what jansson lets pass ------------------------------------------------------ */

/* Bytes of the string literal that starts at p, quotes included; all when it does not end. */
static size_t string_bytes(const char *p, size_t n) {
    size_t i = 1;
    while (i < n && p[i] != '"') i += p[i] == '\\' ? 2 : 1;
    return i + 1 < n ? i + 1 : n;
}

/* What jansson 2.13 and 2.14 take per piece of text at most, in bytes, with malloc's overhead. */
enum {
    OBJECT_BYTES = 256,
    ARRAY_BYTES = 160,
    STRING_BYTES = 80, /* and its text */
    MEMBER_BYTES = 112,
    ELEMENT_BYTES = 64
};

/* Checks the depth; *memory_bytes is what the document will take at most. */
static status measure(str text, size_t *memory_bytes, error *err) {
    size_t depth = 0;
    size_t memory = 4 * text.n + 4096; /* each string once; the longest token, doubled to fit */
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c == '"') {
            i += string_bytes(text.p + i, text.n - i) - 1;
            memory += STRING_BYTES;
        }
        if (c == ',') memory += ELEMENT_BYTES;
        if (c == ':') memory += MEMBER_BYTES;
        if (c == '{' || c == '[') {
            memory += c == '{' ? OBJECT_BYTES : ARRAY_BYTES;
            if (++depth > JSON_DEPTH_MAX)
                return error_set(err, ERR_INVALID, "json: byte %zu: nested deeper than %d", i,
                                 JSON_DEPTH_MAX);
        }
        if ((c == '}' || c == ']') && depth != 0) depth--;
    }
    *memory_bytes = memory;
    return OK;
}

static status check_nul(str text, error *err) {
    const char *nul = text.n != 0 ? memchr(text.p, '\0', text.n) : NULL;
    if (nul == NULL) return OK;
    return error_set(err, ERR_INVALID, "json: byte %zu is NUL", (size_t)(nul - text.p));
}

/* jansson must not see a failed allocation: its scanner does not look whether the buffer of
 * the current token could grow, and stops the process over the byte it lost.  So the memory is
 * asked for beforehand, in one piece, and given back at once. */
static status check_memory(size_t bytes, error *err) {
    if (bytes > JSON_MEMORY_MAX)
        return error_set(err, ERR_LIMIT, "json: the document needs up to %zu bytes, %zu allowed",
                         bytes, (size_t)JSON_MEMORY_MAX);
    void *probe = mem_try_alloc(bytes);
    if (probe == NULL) return error_set(err, ERR_NOMEM, "json: no memory for %zu bytes", bytes);
    mem_free(probe);
    return OK;
}

/* --- integers beyond int64_t ------------------------------------------------------- */

static bool is_number_char(char c) {
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

/* Is it an integer, but none of int64_t? */
static bool is_too_big(str number, widened *w) {
    bool negative = number.p[0] == '-';
    str digits = str_skip(number, negative ? 1 : 0);
    for (size_t i = 0; i < digits.n; i++)
        if (digits.p[i] < '0' || digits.p[i] > '9') return false;
    bool fits_u64 = str_to_u64(digits, &w->value);
    uint64_t magnitude_max = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
    w->exact = fits_u64 && !negative;
    return digits.n != 0 && (!fits_u64 || w->value > magnitude_max);
}

/* Copies text, ".0" added where needed; list gets a `widened` for each. */
static void widen(str text, buf *copy, buf *list) {
    size_t numbers = 0;
    for (size_t i = 0; i < text.n;) {
        size_t n = 1;
        if (text.p[i] == '"') {
            n = string_bytes(text.p + i, text.n - i);
        } else if (is_number_char(text.p[i]) && text.p[i] != 'e' && text.p[i] != 'E') {
            while (i + n < text.n && is_number_char(text.p[i + n])) n++;
        }
        str token = {text.p + i, n};
        buf_put_str(copy, token);
        i += n;
        if (token.p[0] != '-' && (token.p[0] < '0' || token.p[0] > '9')) continue;
        widened w = {.number_idx = numbers++, .at = copy->n};
        if (!is_too_big(token, &w)) continue;
        buf_put_str(copy, S(".0"));
        buf_put(list, &w, sizeof w);
    }
}

typedef struct collector {
    const widened *list; /* [count] in document order */
    size_t count;
    size_t next;    /* first of list not yet met */
    size_t numbers; /* met so far in the tree */
    json_big *bigs; /* [count] */
    uint32_t bigs_count;
} collector;

/* In document order: jansson iterates objects in the order of insertion. */
static void collect(collector *c, json_t *value) {
    if (json_is_object(value)) {
        for (void *at = json_object_iter(value); at != NULL; at = json_object_iter_next(value, at))
            collect(c, json_object_iter_value(at));
    } else if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++) collect(c, json_array_get(value, i));
    } else if (json_is_number(value)) {
        size_t number_idx = c->numbers++;
        if (c->next == c->count || c->list[c->next].number_idx != number_idx) return;
        const widened *w = &c->list[c->next++];
        ASSERT(json_is_real(value));
        if (w->exact) c->bigs[c->bigs_count++] = (json_big){value, w->value};
    }
}

static int compare_bigs(const void *a, const void *b) {
    const json_t *x = ((const json_big *)a)->node;
    const json_t *y = ((const json_big *)b)->node;
    return x < y ? -1 : x > y;
}

bool json_doc_big(const json_doc *doc, const json_t *node, uint64_t *out) {
    if (doc->bigs_count == 0) return false;
    json_big key = {.node = node};
    const json_big *found =
        bsearch(&key, doc->bigs, doc->bigs_count, sizeof *doc->bigs, compare_bigs);
    if (found == NULL) return false;
    *out = found->value;
    return true;
}

/* --- parsing --------------------------------------------------------------------- */

static void set_up(void) {
    size_t seed = 0;
    os_random(&seed, sizeof seed);
    json_object_seed(seed); /* object keys come from clients: they must not choose collisions */
    json_set_alloc_funcs(mem_alloc, mem_free);
}

static json_t *load(str text, json_error_t *e) {
    enum { FLAGS = JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL };
    return json_loadb(text.n != 0 ? text.p : "", text.n, FLAGS, e);
}

/* The column in the text as it was sent, from the one in the copy. */
static int column_before_widening(const json_error_t *e, str copy, const buf *list) {
    int column = e->column;
    const widened *w = (const widened *)(const void *)list->p;
    size_t end = e->position > 0 ? num_min_size((size_t)e->position, copy.n) : 0;
    for (size_t i = 0; i < list->n / sizeof *w; i++)
        if (w[i].at < end && memchr(copy.p + w[i].at, '\n', end - w[i].at) == NULL) column -= 2;
    return column;
}

static status refuse(const json_error_t *e, int column, error *err) {
    str reason = str_of(e->text); /* may quote the text: line breaks do not belong in a message */
    char clean[JSON_ERROR_TEXT_LENGTH];
    str_copy_c(clean, sizeof clean, reason);
    for (char *c = clean; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20) *c = ' ';
    return error_set(err, ERR_INVALID, "json: line %d column %d: %s", e->line, column, clean);
}

static status parse_widened(str text, json_doc *out, error *err) {
    buf copy, list;
    buf_init(&copy, SIZE_MAX);
    buf_init(&list, SIZE_MAX);
    json_doc doc = {0};
    widen(text, &copy, &list);
    size_t count = list.n / sizeof(widened);
    status st = OK;
    if (copy.failed || list.failed || count > UINT32_MAX) {
        st = error_set(err, ERR_NOMEM, "json: no memory for %zu bytes of text", text.n);
        goto out;
    }
    json_error_t e = {0};
    doc.root = load(buf_view(&copy), &e);
    if (doc.root == NULL) {
        st = refuse(&e, column_before_widening(&e, buf_view(&copy), &list), err);
        goto out;
    }
    doc.bigs = mem_try_calloc(count, sizeof *doc.bigs);
    if (doc.bigs == NULL) {
        st = error_set(err, ERR_NOMEM, "json: no memory for %zu large integers", count);
        goto out;
    }
    collector c = {.list = (const widened *)(const void *)list.p, .count = count, .bigs = doc.bigs};
    collect(&c, doc.root);
    ASSERT(c.next == count);
    doc.bigs_count = c.bigs_count;
    qsort(doc.bigs, doc.bigs_count, sizeof *doc.bigs, compare_bigs);
out:
    buf_deinit(&copy);
    buf_deinit(&list);
    if (st == OK)
        *out = doc;
    else
        json_doc_deinit(&doc);
    return st;
}

status json_parse(str text, json_doc *out, error *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, set_up);
    size_t memory_bytes = 0;
    TRY(check_nul(text, err));
    TRY(measure(text, &memory_bytes, err));
    TRY(check_memory(memory_bytes, err));
    json_error_t e = {0};
    json_t *root = load(text, &e);
    if (root != NULL) {
        *out = (json_doc){.root = root};
        return OK;
    }
    if (json_error_code(&e) == json_error_numeric_overflow) return parse_widened(text, out, err);
    return refuse(&e, e.column, err);
}

void json_doc_deinit(json_doc *doc) {
    json_decref(doc->root);
    mem_free(doc->bigs);
    *doc = (json_doc){0};
}
