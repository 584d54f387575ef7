/* jinja_access.c - what stands behind a value: .name, [key], [from:to:by].
 *
 * A dot means a method first and an item then, brackets the other way round.  What is not there is
 * undefined, which is an error only when it is used.  Names with two underscores in front belong
 * to Python; the sandbox gives nothing of theirs away. */
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "text/jinja_run.h"
#include "text/jinja_unicode.h"

/* --- attributes ----------------------------------------------------------------------- */

static status unsafe(jinja_run *r, const jinja_value *v, str name, jinja_value *out) {
    jinja_value why;
    size_t begin = jinja_text_begin(r);
    jinja_text_put(r, S("access to attribute '"));
    jinja_text_put(r, (str){name.p, num_min_size(name.n, 100)});
    jinja_text_put(r, S("' of '"));
    jinja_text_put(r, str_of(jinja_kind_name(v->kind)));
    jinja_text_put(r, S("' object is unsafe."));
    TRY(jinja_text_take(r, begin, &why));
    *out = jinja_undefined_hint(why.as.s);
    return OK;
}

static jinja_value no_attribute(const jinja_value *v, str name) {
    return (jinja_value){.kind = JINJA_UNDEFINED,
                         .undefined = JINJA_UNDEFINED_ATTRIBUTE,
                         .of = v->kind,
                         .as.s = name};
}

static status no_element(jinja_run *r, const jinja_value *v, const jinja_value *key,
                         jinja_value *out) {
    jinja_value why;
    if (key->kind == JINJA_STR) {
        *out = no_attribute(v, key->as.s);
        return OK;
    }
    size_t begin = jinja_text_begin(r);
    jinja_text_put(r, v->kind == JINJA_NONE ? S("None") : str_of(jinja_kind_name(v->kind)));
    jinja_text_put(r, v->kind == JINJA_NONE ? S(" has no element ") : S(" object has no element "));
    TRY(jinja_put_repr(r, key));
    TRY(jinja_text_take(r, begin, &why));
    *out = jinja_undefined_hint(why.as.s);
    return OK;
}

static status loop_attribute(jinja_run *r, jinja_loop *l, str name, jinja_value *out) {
    int64_t length = 0;
    if (str_eq_c(name, "index"))
        *out = jinja_integer(l->index0 + 1);
    else if (str_eq_c(name, "index0"))
        *out = jinja_integer(l->index0);
    else if (str_eq_c(name, "first"))
        *out = jinja_bool(l->index0 == 0);
    else if (str_eq_c(name, "depth"))
        *out = jinja_integer(l->depth0 + 1);
    else if (str_eq_c(name, "depth0"))
        *out = jinja_integer(l->depth0);
    else if (str_eq_c(name, "previtem"))
        *out = l->index0 == 0 ? jinja_undefined_hint(S("there is no previous item")) : l->before;
    if (!jinja_is_missing(out)) return OK;
    if (str_eq_c(name, "last") || str_eq_c(name, "nextitem")) {
        TRY(jinja_loop_peek(r, l));
        *out = l->has_after ? l->after : jinja_undefined_hint(S("there is no next item"));
        if (name.n == 4) *out = jinja_bool(!l->has_after);
        return OK;
    }
    bool revindex = str_eq_c(name, "revindex"), revindex0 = str_eq_c(name, "revindex0");
    if (!revindex && !revindex0 && !str_eq_c(name, "length")) return OK;
    TRY(jinja_loop_length(r, l, &length));
    if (revindex) length -= l->index0;
    if (revindex0) length -= l->index0 + 1;
    *out = jinja_integer(length);
    return OK;
}

/* An attribute that is a value at once, not a method; *out stays MISSING when there is none. */
static status own_attribute(jinja_run *r, const jinja_value *v, str name, jinja_value *out) {
    switch (v->kind) {
    case JINJA_LOOP:
        return loop_attribute(r, v->as.loop, name, out);
    case JINJA_CYCLER:
        if (str_eq_c(name, "current")) *out = v->as.cycler->items[v->as.cycler->at];
        return OK;
    case JINJA_MACRO:
        if (str_eq_c(name, "name") && v->as.macro->node->kind == JINJA_NODE_MACRO)
            *out = jinja_text(r->t->names[v->as.macro->node->as.macro.name]);
        return OK;
    case JINJA_TUPLE: /* of groupby: named */
        if (!v->marked) return OK;
        if (str_eq_c(name, "grouper")) *out = v->as.list->items[0];
        if (str_eq_c(name, "list")) *out = v->as.list->items[1];
        return OK;
    case JINJA_RANGE:
        if (str_eq_c(name, "start")) *out = jinja_integer(v->as.range->start);
        if (str_eq_c(name, "stop")) *out = jinja_integer(v->as.range->stop);
        if (str_eq_c(name, "step")) *out = jinja_integer(v->as.range->step);
        return OK;
    default:
        return OK;
    }
}

static status method_value(jinja_run *r, const jinja_value *v, const jinja_def *def,
                           jinja_value *out) {
    void *p = NULL;
    if (def->mutates && !r->env->permissive) return unsafe(r, v, str_of(def->name), out);
    TRY(jinja_take(r, 1, sizeof(jinja_method), &p));
    *out = (jinja_value){.kind = JINJA_METHOD, .as.method = p};
    *out->as.method = (jinja_method){.self = *v, .def = def};
    return OK;
}

/* What getattr() finds; *out stays MISSING when there is none. */
static status real_attribute(jinja_run *r, const jinja_value *v, str name, jinja_value *out) {
    bool dunder = name.n > 4 && str_starts(name, S("__")) && str_ends(name, S("__"));
    if (dunder && v->kind != JINJA_NAMESPACE) return unsafe(r, v, name, out);
    TRY(own_attribute(r, v, name, out));
    if (!jinja_is_missing(out)) return OK;
    const jinja_def *def = jinja_method_find(v->kind, name);
    return def != NULL ? method_value(r, v, def, out) : OK;
}

/* An undefined value has no attributes but those that Python's class has, which the sandbox
 * refuses: another undefined value, whose use is an error. */
static status undefined_attribute(jinja_run *r, const jinja_value *v, str name, jinja_value *out) {
    static const char NAMES[] =
        " add aiter bool call class complex delattr dir div doc eq float floordiv format ge "
        "getattr "
        "getattribute getitem getstate gt hash init init_subclass int iter le len lt mod module "
        "mul ne neg new pos pow radd rdiv reduce reduce_ex repr rfloordiv rmod rmul rpow rsub "
        "rtruediv setattr sizeof str sub subclasshook truediv ";
    char word[32];
    bool dunder = name.n > 4 && str_starts(name, S("__")) && str_ends(name, S("__"));
    int n = dunder ? snprintf(word, sizeof word, " %.*s ", (int)name.n - 4, name.p + 2) : 0;
    if (!dunder || n >= (int)sizeof word || strstr(NAMES, word) == NULL)
        return jinja_fail_undefined(r, v);
    return unsafe(r, v, name, out);
}

/* --- items ---------------------------------------------------------------------------- */

static bool is_index(const jinja_value *key, int64_t *i) {
    if (!jinja_is_int(key)) return false;
    jinja_int v = jinja_int_of(key);
    if (v < INT64_MIN || v > INT64_MAX) return false;
    *i = (int64_t)v;
    return true;
}

static status str_at(jinja_run *r, str s, int64_t i, jinja_value *out) {
    TRY(jinja_step_bytes(r, s.n));
    int64_t count = (int64_t)jinja_char_count(s);
    if (i < 0) i += count;
    if (i < 0 || i >= count) return OK;
    size_t at = count == (int64_t)s.n ? (size_t)i : jinja_char_offset(s, (size_t)i);
    uint32_t code = 0;
    *out = jinja_text((str){s.p + at, jinja_char_get(str_skip(s, at), &code)});
    return OK;
}

/* v[key]; *out stays MISSING when there is none. */
static status real_item(jinja_run *r, const jinja_value *v, const jinja_value *key,
                        jinja_value *out) {
    int64_t i = 0;
    jinja_value *found = NULL;
    switch (v->kind) {
    case JINJA_DICT:
        if (key->kind == JINJA_LIST || key->kind == JINJA_DICT) return OK; /* no key at all */
        TRY(jinja_dict_get(r, v->as.dict, key, &found));
        if (found != NULL) *out = *found;
        return OK;
    case JINJA_STR:
        return is_index(key, &i) ? str_at(r, v->as.s, i, out) : OK;
    case JINJA_LIST:
    case JINJA_TUPLE:
        if (!is_index(key, &i)) return OK;
        if (i < 0) i += (int64_t)v->as.list->count;
        if (i >= 0 && (size_t)i < v->as.list->count) *out = v->as.list->items[i];
        return OK;
    case JINJA_RANGE:
        if (!is_index(key, &i)) return OK;
        if (i < 0) i += v->as.range->count;
        if (i >= 0 && i < v->as.range->count) *out = jinja_range_at(v->as.range, i);
        return OK;
    default:
        return OK;
    }
}

/* A namespace has its members as attributes and nothing else. */
static status member(jinja_run *r, const jinja_value *v, str name, jinja_value *out) {
    jinja_value key = jinja_text(name), *found = NULL;
    TRY(jinja_dict_get(r, v->as.dict, &key, &found));
    *out = found != NULL ? *found : no_attribute(v, name);
    return OK;
}

status jinja_attribute(jinja_run *r, const jinja_value *v, str name, jinja_value *out) {
    jinja_value found = {.kind = JINJA_MISSING}, key = jinja_text(name);
    if (v->kind == JINJA_UNDEFINED) return undefined_attribute(r, v, name, out);
    if (v->kind == JINJA_NAMESPACE) return member(r, v, name, out);
    TRY(real_attribute(r, v, name, &found));
    if (jinja_is_missing(&found)) TRY(real_item(r, v, &key, &found));
    *out = jinja_is_missing(&found) ? no_attribute(v, name) : found;
    return OK;
}

status jinja_item(jinja_run *r, const jinja_value *v, const jinja_value *key, jinja_value *out) {
    jinja_value found = {.kind = JINJA_MISSING};
    if (v->kind == JINJA_UNDEFINED) return jinja_fail_undefined(r, v);
    if (v->kind == JINJA_NAMESPACE && key->kind == JINJA_STR) return member(r, v, key->as.s, out);
    TRY(real_item(r, v, key, &found));
    if (jinja_is_missing(&found) && key->kind == JINJA_STR)
        TRY(real_attribute(r, v, key->as.s, &found));
    if (jinja_is_missing(&found)) return no_element(r, v, key, out);
    *out = found;
    return OK;
}

/* --- paths ---------------------------------------------------------------------------- */

static bool is_number_text(str s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9') return false;
    return s.n != 0 && s.n < 18;
}

static status path_step(jinja_run *r, jinja_value *v, str part, const jinja_value *fallback) {
    jinja_value key = jinja_text(part), next = {.kind = JINJA_MISSING};
    uint64_t index = 0;
    if (is_number_text(part) && str_to_u64(part, &index)) key = jinja_integer((jinja_int)index);
    TRY(jinja_item(r, v, &key, &next));
    *v = next.kind == JINJA_UNDEFINED && fallback->kind != JINJA_NONE && !jinja_is_missing(fallback)
             ? *fallback
             : next;
    return OK;
}

status jinja_path(jinja_run *r, const jinja_value *v, const jinja_value *path,
                  const jinja_value *fallback, jinja_value *out) {
    jinja_value at = *v;
    if (jinja_is_missing(path) || path->kind == JINJA_NONE) {
        *out = at;
        return OK;
    }
    if (path->kind != JINJA_STR) {
        TRY(jinja_item(r, v, path, &at));
        if (at.kind == JINJA_UNDEFINED && fallback->kind != JINJA_NONE &&
            !jinja_is_missing(fallback))
            at = *fallback;
        *out = at;
        return OK;
    }
    str rest = path->as.s;
    for (bool more = true; more;) {
        const char *dot = rest.n != 0 ? memchr(rest.p, '.', rest.n) : NULL;
        size_t n = dot != NULL ? (size_t)(dot - rest.p) : rest.n;
        TRY(path_step(r, &at, (str){rest.p, n}, fallback));
        more = dot != NULL;
        rest = str_skip(rest, more ? n + 1 : n);
    }
    *out = at;
    return OK;
}

/* --- slices --------------------------------------------------------------------------- */

/* A bound of a slice, cut to what makes no difference. */
static status bound(jinja_run *r, const jinja_value *v, int64_t otherwise, int64_t *out) {
    *out = otherwise;
    if (jinja_is_missing(v) || v->kind == JINJA_NONE) return OK;
    if (v->kind == JINJA_UNDEFINED || !jinja_is_int(v))
        return jinja_fail(r, "slice indices must be integers or None or have an __index__ method");
    jinja_int i = jinja_int_of(v), far = (jinja_int)1 << 48;
    *out = (int64_t)(i > far ? far : i < -far ? -far : i);
    return OK;
}

static int64_t clamp(int64_t i, int64_t count, bool backwards) {
    int64_t low = backwards ? -1 : 0, high = backwards ? count - 1 : count;
    if (i < 0) i += count;
    return i < low ? low : i > high ? high : i;
}

/* Where a slice of `count` items starts, how far apart and how many they are. */
static status resolve(jinja_run *r, const jinja_value bounds[3], int64_t count, jinja_range *out) {
    int64_t step = 1, start = 0, stop = 0;
    TRY(bound(r, &bounds[2], 1, &step));
    if (step == 0) return jinja_fail(r, "slice step cannot be zero");
    bool back = step < 0;
    TRY(bound(r, &bounds[0], back ? INT64_MAX / 2 : 0, &start));
    TRY(bound(r, &bounds[1], back ? INT64_MIN / 2 : INT64_MAX / 2, &stop));
    start = clamp(start, count, back);
    stop = clamp(stop, count, back);
    int64_t span = back ? start - stop : stop - start, stride = back ? -step : step;
    *out = (jinja_range){.start = start,
                         .step = step,
                         .count = span > 0 ? (span + stride - 1) / stride : 0,
                         .stop = stop};
    return OK;
}

static status slice_str(jinja_run *r, str s, const jinja_range *g, jinja_value *out) {
    TRY(jinja_step_bytes(r, s.n));
    if (g->count == 0 || g->step == 1) {
        size_t from = jinja_char_offset(s, (size_t)g->start);
        str rest = str_skip(s, from);
        *out = jinja_text((str){rest.p, jinja_char_offset(rest, (size_t)g->count)});
        return OK;
    }
    const jinja_value *chars = NULL;
    size_t count = 0, begin = jinja_text_begin(r);
    jinja_value text = jinja_text(s);
    TRY(jinja_items(r, &text, &chars, &count));
    for (int64_t i = 0; i < g->count; i++) jinja_text_put(r, chars[g->start + i * g->step].as.s);
    return jinja_text_take(r, begin, out);
}

static status slice_list(jinja_run *r, const jinja_value *v, const jinja_range *g,
                         jinja_value *out) {
    TRY(jinja_list_new(r, v->kind, (size_t)g->count, out));
    for (int64_t i = 0; i < g->count; i++)
        out->as.list->items[i] = v->as.list->items[g->start + i * g->step];
    out->as.list->count = (size_t)g->count;
    return OK;
}

static status slice_range(jinja_run *r, const jinja_range *from, const jinja_range *g,
                          jinja_value *out) {
    void *p = NULL;
    int64_t step = 0;
    if (__builtin_mul_overflow(from->step, g->step, &step))
        return jinja_fail(r, "integer too large");
    TRY(jinja_take(r, 1, sizeof(jinja_range), &p));
    *out = (jinja_value){.kind = JINJA_RANGE, .as.range = p};
    *out->as.range = (jinja_range){.start = from->start + g->start * from->step,
                                   .step = step,
                                   .count = g->count,
                                   .stop = from->start + g->stop * from->step};
    return OK;
}

status jinja_slice(jinja_run *r, const jinja_value *v, const jinja_value bounds[3],
                   jinja_value *out) {
    jinja_range g = {0};
    size_t count = 0;
    bool sliceable = v->kind == JINJA_STR || v->kind == JINJA_LIST || v->kind == JINJA_TUPLE ||
                     v->kind == JINJA_RANGE;
    if (v->kind == JINJA_UNDEFINED) return jinja_fail_undefined(r, v);
    if (v->kind == JINJA_DICT) return jinja_fail(r, "unhashable type: 'slice'");
    if (!sliceable)
        return jinja_fail(r, "'%s' object is not subscriptable", jinja_kind_name(v->kind));
    TRY(jinja_length(r, v, &count));
    TRY(resolve(r, bounds, (int64_t)count, &g));
    if (v->kind == JINJA_STR) return slice_str(r, v->as.s, &g, out);
    if (v->kind == JINJA_RANGE) return slice_range(r, v->as.range, &g, out);
    return slice_list(r, v, &g, out);
}
