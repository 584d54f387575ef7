/* jinja_run.c - limits, memory, text and lists of a render. */
#include "text/jinja_run.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/num.h"
#include "base/os.h"
#include "text/jinja_unicode.h"

enum { CLOCK_STEPS = 20000, STEP_BYTES = 16, LIST_CAP_MIN = 4 };

static const char *const KIND_NAMES[JINJA_KIND_COUNT] = {
#define KIND_NAME(name, type) type,
    JINJA_KINDS(KIND_NAME)
#undef KIND_NAME
};

const char *jinja_kind_name(jinja_kind kind) { return KIND_NAMES[kind]; }

/* --- limits and errors ---------------------------------------------------------------- */

static status check_clock(jinja_run *r) {
    r->steps_at_clock = r->steps + CLOCK_STEPS;
    uint64_t limit = r->env->limits.time_ns_max;
    if (limit == 0 || os_now_ns() < r->deadline_ns) return OK;
    return error_set(r->err, ERR_LIMIT,
                     "chat template: line %" PRIu32 ": takes more than %" PRIu64 " ms", r->line,
                     limit / 1000000);
}

status jinja_step(jinja_run *r, uint64_t n) {
    r->steps += n;
    if (r->steps > r->env->limits.steps_max)
        return error_set(r->err, ERR_LIMIT,
                         "chat template: line %" PRIu32 ": takes more than %" PRIu64 " steps",
                         r->line, r->env->limits.steps_max);
    return r->steps >= r->steps_at_clock ? check_clock(r) : OK;
}

status jinja_step_bytes(jinja_run *r, size_t n) { return jinja_step(r, 1 + n / STEP_BYTES); }

status(jinja_fail)(jinja_run *r, const char *fmt, ...) {
    char why[280];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    return error_set(r->err, ERR_INVALID, "chat template: line %" PRIu32 ": %s", r->line, why);
}

status jinja_deep(jinja_run *r) {
    return error_set(r->err, ERR_LIMIT, "chat template: line %" PRIu32 ": nested too deep",
                     r->line);
}

status jinja_fail_undefined(jinja_run *r, const jinja_value *v) {
    switch (v->undefined) {
    case JINJA_UNDEFINED_NAME:
        return jinja_fail(r, "'%.*s' is undefined", STR(v->as.s));
    case JINJA_UNDEFINED_ATTRIBUTE:
        if (v->of == JINJA_NONE)
            return jinja_fail(r, "'None' has no attribute '%.*s'", STR(v->as.s));
        return jinja_fail(r, "'%s object' has no attribute '%.*s'", jinja_kind_name(v->of),
                          STR(v->as.s));
    default:
        return jinja_fail(r, "%.*s", STR(v->as.s));
    }
}

status jinja_take(jinja_run *r, size_t count, size_t bytes, void **out) {
    size_t need = 0, limit = r->env->limits.memory_bytes_max;
    bool fits = num_mul_size(&need, count, bytes);
    *out = fits ? arena_take(&r->mem, need) : NULL;
    if (*out != NULL) return OK;
    if (!fits || need > limit - num_min_size(r->mem.bytes, limit))
        return error_set(r->err, ERR_LIMIT,
                         "chat template: line %" PRIu32
                         ": needs more than the %zu bytes it may have",
                         r->line, limit);
    return error_set(r->err, ERR_NOMEM, "chat template: line %" PRIu32 ": no memory for %zu bytes",
                     r->line, need);
}

/* --- text ----------------------------------------------------------------------------- */

void jinja_text_put(jinja_run *r, str s) {
    r->steps += s.n / STEP_BYTES;
    buf_put_str(&r->text, s);
}

void jinja_text_put_char(jinja_run *r, uint32_t code) {
    char bytes[JINJA_CHAR_BYTES];
    buf_put(&r->text, bytes, jinja_char_put(bytes, code));
}

void jinja_text_printf(jinja_run *r, const char *fmt, ...) {
    char text[64];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    jinja_text_put(r, (str){text, num_min_size((size_t)(n > 0 ? n : 0), sizeof text - 1)});
}

status jinja_text_copy(jinja_run *r, str s, jinja_value *out) {
    void *p = NULL;
    TRY(jinja_step_bytes(r, s.n));
    TRY(jinja_take(r, s.n + 1, 1, &p));
    if (s.n != 0) memcpy(p, s.p, s.n);
    *out = jinja_text((str){p, s.n});
    return OK;
}

status jinja_text_take(jinja_run *r, size_t begin, jinja_value *out) {
    TRY(buf_status(&r->text, "chat template", r->err));
    TRY(jinja_text_copy(r, str_skip(buf_view(&r->text), begin), out));
    r->text.n = begin;
    return OK;
}

/* --- lists ---------------------------------------------------------------------------- */

status jinja_list_new(jinja_run *r, jinja_kind kind, size_t cap, jinja_value *out) {
    void *list = NULL, *items = NULL;
    TRY(jinja_step(r, 1 + cap));
    TRY(jinja_take(r, 1, sizeof(jinja_list), &list));
    TRY(jinja_take(r, cap, sizeof(jinja_value), &items));
    *out = (jinja_value){.kind = (uint8_t)kind, .as.list = list};
    out->as.list->items = items;
    out->as.list->cap = cap;
    return OK;
}

/* Growing takes a new array: whoever walks over the old one goes on undisturbed. */
status jinja_list_add(jinja_run *r, jinja_list *list, const jinja_value *v) {
    TRY(jinja_step(r, 1));
    if (list->count == list->cap) {
        size_t cap = list->cap < LIST_CAP_MIN ? LIST_CAP_MIN : 2 * list->cap;
        void *items = NULL;
        TRY(jinja_take(r, cap, sizeof *list->items, &items));
        if (list->count != 0) memcpy(items, list->items, list->count * sizeof *list->items);
        list->items = items;
        list->cap = cap;
    }
    list->items[list->count++] = *v;
    return OK;
}

status jinja_pair(jinja_run *r, const jinja_value *a, const jinja_value *b, jinja_value *out) {
    TRY(jinja_list_new(r, JINJA_TUPLE, 2, out));
    out->as.list->items[0] = *a;
    out->as.list->items[1] = *b;
    out->as.list->count = 2;
    return OK;
}

jinja_value jinja_range_at(const jinja_range *range, int64_t i) {
    return jinja_integer((jinja_int)range->start + (jinja_int)i * range->step);
}

bool jinja_is_iterable(const jinja_value *v) {
    return v->kind == JINJA_UNDEFINED || (v->kind >= JINJA_STR && v->kind <= JINJA_GENERATOR) ||
           v->kind == JINJA_LOOP;
}

static status items_of_str(jinja_run *r, str s, jinja_list *list) {
    while (s.n != 0) {
        uint32_t code = 0;
        size_t n = jinja_char_get(s, &code);
        jinja_value v = jinja_text((str){s.p, n});
        TRY(jinja_list_add(r, list, &v));
        s = str_skip(s, n);
    }
    return OK;
}

static status items_of_range(jinja_run *r, const jinja_range *range, jinja_list *list) {
    for (int64_t i = 0; i < range->count; i++) {
        jinja_value v = jinja_range_at(range, i);
        TRY(jinja_list_add(r, list, &v));
    }
    return OK;
}

static status items_of_pairs(jinja_run *r, const jinja_dict *d, jinja_list *list) {
    for (size_t i = 0; i < d->count; i++) {
        jinja_value pair;
        TRY(jinja_pair(r, &d->keys[i], &d->values[i], &pair));
        TRY(jinja_list_add(r, list, &pair));
    }
    return OK;
}

/* A loop iterates over itself: each item with the loop. */
static status items_of_loop(jinja_run *r, jinja_loop *loop, jinja_list *list) {
    jinja_value self = {.kind = JINJA_LOOP, .as.loop = loop}, pair;
    int64_t length = 0;
    TRY(jinja_loop_length(r, loop, &length));
    while (true) {
        TRY(jinja_loop_peek(r, loop));
        if (!loop->has_after) return OK;
        TRY(jinja_pair(r, &loop->after, &self, &pair));
        TRY(jinja_list_add(r, list, &pair));
        loop->before = loop->now;
        loop->now = loop->after;
        loop->has_after = false;
        loop->index0++;
    }
}

status jinja_items(jinja_run *r, const jinja_value *v, const jinja_value **items, size_t *count) {
    jinja_list *list = v->as.list;
    jinja_value made;
    *count = 0;
    *items = NULL;
    switch (v->kind) {
    case JINJA_UNDEFINED:
        return OK;
    case JINJA_LIST:
    case JINJA_TUPLE:
        *items = list->items;
        *count = list->count;
        return OK;
    case JINJA_GENERATOR:
        *items = list->items + list->taken;
        *count = list->count - list->taken;
        list->taken = list->count;
        return OK;
    case JINJA_DICT:
    case JINJA_KEYS:
        *items = v->as.dict->keys;
        *count = v->as.dict->count;
        return OK;
    case JINJA_VALUES:
        *items = v->as.dict->values;
        *count = v->as.dict->count;
        return OK;
    case JINJA_STR:
    case JINJA_RANGE:
    case JINJA_ITEMS:
    case JINJA_LOOP:
        break;
    default:
        return jinja_fail(r, "'%s' object is not iterable", jinja_kind_name(v->kind));
    }
    TRY(jinja_list_new(r, JINJA_LIST, 0, &made));
    status st = v->kind == JINJA_STR     ? items_of_str(r, v->as.s, made.as.list)
                : v->kind == JINJA_RANGE ? items_of_range(r, v->as.range, made.as.list)
                : v->kind == JINJA_ITEMS ? items_of_pairs(r, v->as.dict, made.as.list)
                                         : items_of_loop(r, v->as.loop, made.as.list);
    *items = made.as.list->items;
    *count = made.as.list->count;
    return st;
}

status jinja_length(jinja_run *r, const jinja_value *v, size_t *out) {
    int64_t n = 0;
    switch (v->kind) {
    case JINJA_UNDEFINED:
        *out = 0;
        return OK;
    case JINJA_STR:
        TRY(jinja_step_bytes(r, v->as.s.n));
        *out = jinja_char_count(v->as.s);
        return OK;
    case JINJA_LIST:
    case JINJA_TUPLE:
        *out = v->as.list->count;
        return OK;
    case JINJA_DICT:
    case JINJA_KEYS:
    case JINJA_VALUES:
    case JINJA_ITEMS:
        *out = v->as.dict->count;
        return OK;
    case JINJA_RANGE:
        *out = (size_t)v->as.range->count;
        return OK;
    case JINJA_LOOP:
        TRY(jinja_loop_length(r, v->as.loop, &n));
        *out = (size_t)n;
        return OK;
    default:
        return jinja_fail(r, "object of type '%s' has no len()", jinja_kind_name(v->kind));
    }
}

/* --- arguments ------------------------------------------------------------------------ */

status jinja_int_arg(jinja_run *r, const jinja_value *v, int64_t *out) {
    if (v->kind == JINJA_UNDEFINED) return jinja_fail_undefined(r, v);
    if (!jinja_is_int(v))
        return jinja_fail(r, "'%s' object cannot be interpreted as an integer",
                          jinja_kind_name(v->kind));
    jinja_int i = jinja_int_of(v);
    if (i < INT64_MIN || i > INT64_MAX) return jinja_fail(r, "integer too large");
    *out = (int64_t)i;
    return OK;
}

status jinja_str_arg(jinja_run *r, const jinja_value *v, str *out) {
    if (v->kind == JINJA_UNDEFINED) return jinja_fail_undefined(r, v);
    if (v->kind != JINJA_STR) return jinja_fail(r, "want str, found %s", jinja_kind_name(v->kind));
    *out = v->as.s;
    return OK;
}
