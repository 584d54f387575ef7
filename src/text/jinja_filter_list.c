/* jinja_filter_list.c - filters over sequences.
 *
 * What Python makes a generator is made at once here, but keeps a generator's manners: it has no
 * length, no index, and can be walked once. */
#include "base/num.h"
#include "text/jinja_filters.h"
#include "text/jinja_text.h"

static status new_generator(jinja_run *r, jinja_value *out) {
    return jinja_list_new(r, JINJA_GENERATOR, 0, out);
}

/* Strings in lower case unless case matters: what sort, unique and the like compare. */
static status fold(jinja_run *r, bool case_sensitive, jinja_value *v) {
    if (case_sensitive || v->kind != JINJA_STR) return OK;
    return jinja_str_lower(r, v->as.s, v);
}

static status key_of(jinja_run *r, const jinja_value *item, const jinja_value *path,
                     const jinja_value *fallback, bool case_sensitive, jinja_value *out) {
    TRY(jinja_path(r, item, path, fallback, out));
    return fold(r, case_sensitive, out);
}

static const jinja_value NOTHING = {.kind = JINJA_MISSING};

/* --- taking from sequences ------------------------------------------------------------ */

status jinja_filter_first(jinja_run *r, const jinja_value *v, const jinja_value *a,
                          jinja_value *out) {
    const jinja_value *items = NULL;
    size_t count = 0;
    (void)a;
    if (v->kind == JINJA_GENERATOR) { /* the rest stays */
        jinja_list *list = v->as.list;
        bool some = list->taken < list->count;
        *out = some ? list->items[list->taken++]
                    : jinja_undefined_hint(S("No first item, sequence was empty."));
        return OK;
    }
    TRY(jinja_items(r, v, &items, &count));
    *out = count != 0 ? items[0] : jinja_undefined_hint(S("No first item, sequence was empty."));
    return OK;
}

status jinja_filter_last(jinja_run *r, const jinja_value *v, const jinja_value *a,
                         jinja_value *out) {
    const jinja_value *items = NULL;
    size_t count = 0;
    (void)a;
    if (v->kind == JINJA_GENERATOR || !jinja_is_iterable(v))
        return jinja_fail(r, "'%s' object is not reversible", jinja_kind_name(v->kind));
    TRY(jinja_items(r, v, &items, &count));
    *out = count != 0 ? items[count - 1]
                      : jinja_undefined_hint(S("No last item, sequence was empty."));
    return OK;
}

status jinja_filter_list(jinja_run *r, const jinja_value *v, const jinja_value *a,
                         jinja_value *out) {
    const jinja_value *items = NULL;
    size_t count = 0;
    (void)a;
    TRY(jinja_items(r, v, &items, &count));
    TRY(jinja_list_new(r, JINJA_LIST, count, out));
    if (count != 0) memcpy(out->as.list->items, items, count * sizeof *items);
    out->as.list->count = count;
    return OK;
}

status jinja_filter_items(jinja_run *r, const jinja_value *v, const jinja_value *a,
                          jinja_value *out) {
    (void)a;
    TRY(new_generator(r, out));
    if (v->kind == JINJA_UNDEFINED) return OK;
    if (v->kind != JINJA_DICT) return jinja_fail(r, "Can only get item pairs from a mapping.");
    for (size_t i = 0; i < v->as.dict->count; i++) {
        jinja_value pair;
        TRY(jinja_pair(r, &v->as.dict->keys[i], &v->as.dict->values[i], &pair));
        TRY(jinja_list_add(r, out->as.list, &pair));
    }
    return OK;
}

status jinja_filter_reverse(jinja_run *r, const jinja_value *v, const jinja_value *a,
                            jinja_value *out) {
    const jinja_value *items = NULL;
    size_t count = 0;
    (void)a;
    if (!jinja_is_iterable(v)) return jinja_fail(r, "argument must be iterable");
    TRY(jinja_items(r, v, &items, &count));
    if (v->kind == JINJA_STR) {
        size_t begin = jinja_text_begin(r);
        for (size_t i = count; i-- > 0;) jinja_text_put(r, items[i].as.s);
        return jinja_text_take(r, begin, out);
    }
    /* a generator is made a list, others an iterator */
    TRY(jinja_list_new(r, v->kind == JINJA_GENERATOR ? JINJA_LIST : JINJA_GENERATOR, count, out));
    for (size_t i = count; i-- > 0;) TRY(jinja_list_add(r, out->as.list, &items[i]));
    return OK;
}

/* --- grouping ------------------------------------------------------------------------- */

static status add_times(jinja_run *r, jinja_list *list, const jinja_value *v, int64_t times) {
    for (int64_t i = 0; i < times; i++) TRY(jinja_list_add(r, list, v));
    return OK;
}

status jinja_filter_batch(jinja_run *r, const jinja_value *v, const jinja_value *a,
                          jinja_value *out) {
    const jinja_value *items = NULL;
    size_t count = 0;
    int64_t width = 0;
    jinja_value row = {.kind = JINJA_MISSING};
    TRY(jinja_int_arg(r, &a[0], &width));
    TRY(jinja_items(r, v, &items, &count));
    TRY(new_generator(r, out));
    for (size_t i = 0; i < count; i++) {
        if (jinja_is_missing(&row) || (int64_t)row.as.list->count == width) {
            if (!jinja_is_missing(&row)) TRY(jinja_list_add(r, out->as.list, &row));
            TRY(jinja_list_new(r, JINJA_LIST, 0, &row));
        }
        TRY(jinja_list_add(r, row.as.list, &items[i]));
    }
    if (jinja_is_missing(&row)) return OK;
    bool fill = !jinja_is_missing(&a[1]) && a[1].kind != JINJA_NONE;
    if (fill) TRY(add_times(r, row.as.list, &a[1], width - (int64_t)row.as.list->count));
    return jinja_list_add(r, out->as.list, &row);
}

status jinja_filter_slice(jinja_run *r, const jinja_value *v, const jinja_value *a,
                          jinja_value *out) {
    const jinja_value *items = NULL;
    size_t count = 0;
    int64_t slices = 0;
    TRY(jinja_int_arg(r, &a[0], &slices));
    TRY(jinja_items(r, v, &items, &count));
    TRY(new_generator(r, out));
    if (slices == 0) return jinja_fail(r, "ZeroDivisionError: integer division or modulo by zero");
    bool fill = !jinja_is_missing(&a[1]) && a[1].kind != JINJA_NONE;
    for (int64_t i = 0; i < slices; i++) {
        int64_t extra = (int64_t)count % slices, n = (int64_t)count / slices + (i < extra ? 1 : 0);
        jinja_value row;
        TRY(jinja_list_new(r, JINJA_LIST, (size_t)n, &row));
        for (int64_t k = 0; k < n; k++) TRY(jinja_list_add(r, row.as.list, items++));
        if (fill && i >= extra) TRY(jinja_list_add(r, row.as.list, &a[1]));
        TRY(jinja_list_add(r, out->as.list, &row));
    }
    return OK;
}

/* Two copies of the items of v: one to be sorted by the keys that replace the other. */
static status sortable(jinja_run *r, const jinja_value *v, jinja_value *keys, jinja_value *items) {
    TRY(jinja_filter_list(r, v, NULL, items));
    return jinja_filter_list(r, items, NULL, keys);
}

status jinja_filter_groupby(jinja_run *r, const jinja_value *v, const jinja_value *a,
                            jinja_value *out) {
    bool case_sensitive = jinja_flag_arg(&a[2], false), same = false;
    jinja_value keys, items, group = {.kind = JINJA_MISSING}, label, pair;
    TRY(sortable(r, v, &keys, &items));
    jinja_list *k = keys.as.list;
    for (size_t i = 0; i < k->count; i++)
        TRY(key_of(r, &items.as.list->items[i], &a[0], &a[1], case_sensitive, &k->items[i]));
    TRY(jinja_sort(r, k->items, items.as.list->items, k->count, false));
    TRY(jinja_list_new(r, JINJA_LIST, 0, out));
    for (size_t i = 0; i < k->count; i++) {
        if (i != 0) TRY(jinja_equal(r, &k->items[i - 1], &k->items[i], &same));
        if (i == 0 || !same) {
            TRY(jinja_list_new(r, JINJA_LIST, 0, &group));
            TRY(jinja_path(r, &items.as.list->items[i], &a[0], &a[1], &label));
            TRY(jinja_pair(r, &label, &group, &pair));
            pair.marked = true;
            TRY(jinja_list_add(r, out->as.list, &pair));
        }
        TRY(jinja_list_add(r, group.as.list, &items.as.list->items[i]));
    }
    return OK;
}

/* --- sorting -------------------------------------------------------------------------- */

/* "a,b": a list of the values of both paths. */
static status multi_key(jinja_run *r, const jinja_value *item, const jinja_value *path,
                        bool case_sensitive, jinja_value *out) {
    str rest = path->kind == JINJA_STR ? path->as.s : S("");
    jinja_value key, part = *path;
    TRY(jinja_list_new(r, JINJA_LIST, 0, out));
    for (bool more = true; more;) {
        const char *comma = rest.n != 0 ? memchr(rest.p, ',', rest.n) : NULL;
        size_t n = comma != NULL ? (size_t)(comma - rest.p) : rest.n;
        if (path->kind == JINJA_STR) part = jinja_text((str){rest.p, n});
        TRY(key_of(r, item, &part, &NOTHING, case_sensitive, &key));
        TRY(jinja_list_add(r, out->as.list, &key));
        more = comma != NULL;
        rest = str_skip(rest, more ? n + 1 : n);
    }
    return OK;
}

status jinja_filter_sort(jinja_run *r, const jinja_value *v, const jinja_value *a,
                         jinja_value *out) {
    bool case_sensitive = jinja_flag_arg(&a[1], false);
    jinja_value keys;
    TRY(sortable(r, v, &keys, out));
    jinja_list *k = keys.as.list;
    for (size_t i = 0; i < k->count; i++)
        TRY(multi_key(r, &out->as.list->items[i], &a[2], case_sensitive, &k->items[i]));
    return jinja_sort(r, k->items, out->as.list->items, k->count, jinja_flag_arg(&a[0], false));
}

status jinja_filter_dictsort(jinja_run *r, const jinja_value *v, const jinja_value *a,
                             jinja_value *out) {
    bool case_sensitive = jinja_flag_arg(&a[0], false), by_value = false;
    jinja_value keys, pairs = {.kind = JINJA_ITEMS};
    if (!jinja_is_missing(&a[1])) {
        str by = S("");
        TRY(jinja_str_arg(r, &a[1], &by));
        by_value = str_eq_c(by, "value");
        if (!by_value && !str_eq_c(by, "key"))
            return jinja_fail(r, "You can only sort by either \"key\" or \"value\"");
    }
    if (v->kind == JINJA_UNDEFINED) return jinja_fail_undefined(r, v);
    if (v->kind != JINJA_DICT)
        return jinja_fail(r, "'%s' object has no attribute 'items'", jinja_kind_name(v->kind));
    pairs.as.dict = v->as.dict;
    TRY(sortable(r, &pairs, &keys, out));
    jinja_list *k = keys.as.list;
    for (size_t i = 0; i < k->count; i++) {
        k->items[i] = out->as.list->items[i].as.list->items[by_value ? 1 : 0];
        TRY(fold(r, case_sensitive, &k->items[i]));
    }
    return jinja_sort(r, k->items, out->as.list->items, k->count, jinja_flag_arg(&a[2], false));
}

static status extreme(jinja_run *r, const jinja_value *v, const jinja_value *a, bool max,
                      jinja_value *out) {
    bool case_sensitive = jinja_flag_arg(&a[0], false);
    const jinja_value *items = NULL;
    size_t count = 0;
    jinja_value best, key;
    TRY(jinja_items(r, v, &items, &count));
    *out = jinja_undefined_hint(S("No aggregated item, sequence was empty."));
    for (size_t i = 0; i < count; i++) {
        int order = 0;
        TRY(key_of(r, &items[i], &a[1], &NOTHING, case_sensitive, &key));
        if (i != 0) TRY(jinja_order(r, max ? ">" : "<", &key, &best, &order));
        if (i != 0 && order != (max ? 1 : -1)) continue;
        best = key;
        *out = items[i];
    }
    return OK;
}

status jinja_filter_max(jinja_run *r, const jinja_value *v, const jinja_value *a,
                        jinja_value *out) {
    return extreme(r, v, a, true, out);
}

status jinja_filter_min(jinja_run *r, const jinja_value *v, const jinja_value *a,
                        jinja_value *out) {
    return extreme(r, v, a, false, out);
}

status jinja_filter_unique(jinja_run *r, const jinja_value *v, const jinja_value *a,
                           jinja_value *out) {
    bool case_sensitive = jinja_flag_arg(&a[0], false);
    const jinja_value *items = NULL;
    size_t count = 0;
    jinja_value seen, key, *found = NULL;
    TRY(jinja_items(r, v, &items, &count));
    TRY(jinja_dict_new(r, 0, &seen));
    TRY(new_generator(r, out));
    for (size_t i = 0; i < count; i++) {
        TRY(key_of(r, &items[i], &a[1], &NOTHING, case_sensitive, &key));
        TRY(jinja_dict_get(r, seen.as.dict, &key, &found));
        if (found != NULL) continue;
        TRY(jinja_dict_set(r, seen.as.dict, &key, &key));
        TRY(jinja_list_add(r, out->as.list, &items[i]));
    }
    return OK;
}

/* --- folding -------------------------------------------------------------------------- */

status jinja_filter_sum(jinja_run *r, const jinja_value *v, const jinja_value *a,
                        jinja_value *out) {
    const jinja_value *items = NULL;
    size_t count = 0;
    jinja_value sum = jinja_is_missing(&a[1]) ? jinja_integer(0) : a[1], item;
    if (sum.kind == JINJA_STR)
        return jinja_fail(r, "sum() can't sum strings [use ''.join(seq) instead]");
    TRY(jinja_items(r, v, &items, &count));
    for (size_t i = 0; i < count; i++) {
        jinja_value next;
        TRY(jinja_path(r, &items[i], &a[0], &NOTHING, &item));
        TRY(jinja_binary(r, JINJA_TOKEN_ADD, &sum, &item, &next));
        sum = next;
    }
    *out = sum;
    return OK;
}

status jinja_filter_join(jinja_run *r, const jinja_value *v, const jinja_value *a,
                         jinja_value *out) {
    const jinja_value *items = NULL;
    size_t count = 0;
    str separator = S("");
    jinja_value parts = {.kind = JINJA_MISSING}, part;
    if (!jinja_is_missing(&a[0])) TRY(jinja_to_str(r, &a[0], &separator));
    TRY(jinja_items(r, v, &items, &count));
    if (jinja_is_missing(&a[1]) || a[1].kind == JINJA_NONE)
        return jinja_str_join(r, separator, items, count, false, out);
    TRY(jinja_list_new(r, JINJA_LIST, count, &parts));
    for (size_t i = 0; i < count; i++) {
        TRY(jinja_path(r, &items[i], &a[1], &NOTHING, &part));
        TRY(jinja_list_add(r, parts.as.list, &part));
    }
    return jinja_str_join(r, separator, parts.as.list->items, count, false, out);
}

/* --- mapping -------------------------------------------------------------------------- */

/* map(attribute='a.b', default=x) */
static status map_attribute(jinja_run *r, const jinja_value *items, size_t count,
                            const jinja_args *args, jinja_value *out) {
    jinja_value path = {.kind = JINJA_MISSING}, fallback = {.kind = JINJA_MISSING}, item;
    for (size_t i = 0; i < args->keywords_count; i++) {
        const jinja_keyword *k = &args->keywords[i];
        if (str_eq_c(k->name, "attribute"))
            path = k->value;
        else if (str_eq_c(k->name, "default"))
            fallback = k->value;
        else
            return jinja_fail(r, "Unexpected keyword argument '%.*s'", STR(k->name));
    }
    for (size_t i = 0; i < count; i++) {
        TRY(jinja_path(r, &items[i], &path, &fallback, &item));
        TRY(jinja_list_add(r, out->as.list, &item));
    }
    return OK;
}

static bool has_keyword(const jinja_args *args, const char *name) {
    for (size_t i = 0; i < args->keywords_count; i++)
        if (str_eq_c(args->keywords[i].name, name)) return true;
    return false;
}

/* args[at] names a filter or test; *rest are the arguments behind it. */
static status named_def(jinja_run *r, const jinja_args *args, size_t at, bool is_test,
                        const jinja_def **def, jinja_args *rest) {
    str name = S("");
    TRY(jinja_to_str(r, &args->items[at], &name));
    *def = is_test ? jinja_test_find(name) : jinja_filter_find(name);
    if (*def == NULL)
        return jinja_fail(r, "No %s named '%.*s'.", is_test ? "test" : "filter", STR(name));
    *rest = *args;
    rest->items += at + 1;
    rest->count -= at + 1;
    return OK;
}

/* A filter may call a filter that calls a filter: it costs depth like any other call. */
static status call_nested(jinja_run *r, const jinja_def *def, const jinja_value *item,
                          const jinja_args *args, jinja_value *out) {
    if (++r->depth > JINJA_DEPTH_MAX) return jinja_deep(r);
    TRY(jinja_call_def(r, def, item, args, out));
    r->depth--;
    return OK;
}

status jinja_filter_map(jinja_run *r, const jinja_value *v, const jinja_args *args,
                        jinja_value *out) {
    const jinja_value *items = NULL;
    size_t count = 0;
    const jinja_def *def = NULL;
    jinja_args rest;
    jinja_value item;
    TRY(new_generator(r, out));
    if (!jinja_truth(v)) return OK;
    TRY(jinja_items(r, v, &items, &count));
    if (args->count == 0 && has_keyword(args, "attribute"))
        return map_attribute(r, items, count, args, out);
    if (args->count == 0) return jinja_fail(r, "map requires a filter argument");
    TRY(named_def(r, args, 0, false, &def, &rest));
    for (size_t i = 0; i < count; i++) {
        TRY(call_nested(r, def, &items[i], &rest, &item));
        TRY(jinja_list_add(r, out->as.list, &item));
    }
    return OK;
}

/* Items, or an attribute of theirs, that pass a test (none: that are true). */
static status choose(jinja_run *r, const jinja_value *v, const jinja_args *args, bool by_attribute,
                     bool want, jinja_value *out) {
    const jinja_value *items = NULL;
    size_t count = 0, at = by_attribute ? 1 : 0;
    const jinja_def *def = NULL;
    jinja_args rest;
    TRY(new_generator(r, out));
    if (!jinja_truth(v)) return OK;
    if (args->count < at) return jinja_fail(r, "Missing parameter for attribute name");
    if (args->count > at) TRY(named_def(r, args, at, true, &def, &rest));
    TRY(jinja_items(r, v, &items, &count));
    for (size_t i = 0; i < count; i++) {
        jinja_value subject = items[i], result;
        if (by_attribute) TRY(jinja_path(r, &items[i], &args->items[0], &NOTHING, &subject));
        result = subject;
        if (def != NULL) TRY(call_nested(r, def, &subject, &rest, &result));
        if (jinja_truth(&result) == want) TRY(jinja_list_add(r, out->as.list, &items[i]));
    }
    return OK;
}

status jinja_filter_select(jinja_run *r, const jinja_value *v, const jinja_args *args,
                           jinja_value *out) {
    return choose(r, v, args, false, true, out);
}

status jinja_filter_reject(jinja_run *r, const jinja_value *v, const jinja_args *args,
                           jinja_value *out) {
    return choose(r, v, args, false, false, out);
}

status jinja_filter_selectattr(jinja_run *r, const jinja_value *v, const jinja_args *args,
                               jinja_value *out) {
    return choose(r, v, args, true, true, out);
}

status jinja_filter_rejectattr(jinja_run *r, const jinja_value *v, const jinja_args *args,
                               jinja_value *out) {
    return choose(r, v, args, true, false, out);
}
