/* jinja_methods.c - methods of strings, lists, dictionaries and the few objects of the language.
 *
 * Those marked `mutates` are refused unless jinja_env.permissive says otherwise. */
#include "base/num.h"
#include "text/jinja_text.h"
#include "text/jinja_unicode.h"

/* --- strings: case and classes -------------------------------------------------------- */

#define STR_METHOD(name)                                                               \
    static status str_##name(jinja_run *r, const jinja_value *v, const jinja_value *a, \
                             jinja_value *out)

#define STR_CASE(name)                            \
    STR_METHOD(name) {                            \
        (void)a;                                  \
        return jinja_str_##name(r, v->as.s, out); \
    }

STR_CASE(upper)
STR_CASE(lower)
STR_CASE(swapcase)
STR_CASE(capitalize)
STR_CASE(title)

/* Is s not empty and every character of it such a one? */
static status all_are(jinja_run *r, str s, bool (*is)(uint32_t), jinja_value *out) {
    bool all = s.n != 0;
    uint32_t c = 0;
    TRY(jinja_step_bytes(r, s.n));
    while (s.n != 0 && all) {
        s = str_skip(s, jinja_char_get(s, &c));
        all = is(c);
    }
    *out = jinja_bool(all);
    return OK;
}

static bool is_alnum(uint32_t c) { return jinja_char_is_alpha(c) || jinja_char_is_numeric(c); }
static bool is_ascii(uint32_t c) { return c < 0x80; }
static bool is_decimal(uint32_t c) {
    return jinja_char_is_digit(c) && c != 0xB2 && c != 0xB3 && c != 0xB9 &&
           !(c >= 0x2070 && c <= 0x2089);
}
static bool is_part_of_name(uint32_t c) { return jinja_char_is_word(c); }

#define STR_ALL(name, is)                    \
    STR_METHOD(name) {                       \
        (void)a;                             \
        return all_are(r, v->as.s, is, out); \
    }

STR_ALL(isalnum, is_alnum)
STR_ALL(isalpha, jinja_char_is_alpha)
STR_ALL(isdecimal, is_decimal)
STR_ALL(isdigit, jinja_char_is_digit)
STR_ALL(isnumeric, jinja_char_is_numeric)
STR_ALL(isspace, jinja_char_is_space)

STR_METHOD(isascii) {
    (void)a;
    TRY(all_are(r, v->as.s, is_ascii, out));
    if (v->as.s.n == 0) *out = jinja_bool(true);
    return OK;
}

STR_METHOD(isprintable) {
    (void)a;
    TRY(all_are(r, v->as.s, jinja_char_is_printable, out));
    if (v->as.s.n == 0) *out = jinja_bool(true);
    return OK;
}

STR_METHOD(isidentifier) {
    (void)a;
    TRY(all_are(r, v->as.s, is_part_of_name, out));
    uint32_t c = '0';
    if (v->as.s.n != 0) (void)jinja_char_get(v->as.s, &c);
    if (jinja_char_is_numeric(c)) *out = jinja_bool(false);
    return OK;
}

static status call_test(jinja_run *r, const char *name, const jinja_value *v, jinja_value *out) {
    jinja_args none = {0};
    return jinja_call_def(r, jinja_test_find(str_of(name)), v, &none, out);
}

STR_METHOD(isupper) {
    (void)a;
    return call_test(r, "upper", v, out);
}

STR_METHOD(islower) {
    (void)a;
    return call_test(r, "lower", v, out);
}

/* Capitals begin words, small letters go on with them, and there is at least one. */
STR_METHOD(istitle) {
    str s = v->as.s;
    bool inside = false, some = false, fits = true;
    uint32_t c = 0;
    (void)a;
    TRY(jinja_step_bytes(r, s.n));
    while (s.n != 0 && fits) {
        s = str_skip(s, jinja_char_get(s, &c));
        bool upper = jinja_char_is_upper(c) || jinja_char_is_title(c),
             lower = jinja_char_is_lower(c);
        fits = !(upper && inside) && !(lower && !inside);
        inside = upper || lower;
        some = some || inside;
    }
    *out = jinja_bool(fits && some);
    return OK;
}

/* --- strings: ends, parts, places ----------------------------------------------------- */

static status strip(jinja_run *r, const jinja_value *v, const jinja_value *a, bool left, bool right,
                    jinja_value *out) {
    str s = S("");
    TRY(jinja_str_strip(r, v->as.s, &a[0], left, right, &s));
    *out = jinja_text(s);
    return OK;
}

STR_METHOD(strip) { return strip(r, v, a, true, true, out); }
STR_METHOD(lstrip) { return strip(r, v, a, true, false, out); }
STR_METHOD(rstrip) { return strip(r, v, a, false, true, out); }

STR_METHOD(removeprefix) {
    str s = S("");
    TRY(jinja_str_arg(r, &a[0], &s));
    *out = str_starts(v->as.s, s) ? jinja_text(str_skip(v->as.s, s.n)) : *v;
    return OK;
}

STR_METHOD(removesuffix) {
    str s = S("");
    TRY(jinja_str_arg(r, &a[0], &s));
    *out = str_ends(v->as.s, s) ? jinja_text((str){v->as.s.p, v->as.s.n - s.n}) : *v;
    return OK;
}

/* The part of s that start and end of find(), count() and the like leave; *offset: characters
 * before it.  p == NULL: start is behind the end. */
static status window(jinja_run *r, str s, const jinja_value *start, const jinja_value *end,
                     str *out, int64_t *offset) {
    TRY(jinja_step_bytes(r, s.n));
    int64_t count = (int64_t)jinja_char_count(s), from = 0, to = count;
    if (!jinja_is_missing(start) && start->kind != JINJA_NONE) TRY(jinja_int_arg(r, start, &from));
    if (!jinja_is_missing(end) && end->kind != JINJA_NONE) TRY(jinja_int_arg(r, end, &to));
    if (from < 0) from = from + count < 0 ? 0 : from + count;
    if (to < 0) to = to + count < 0 ? 0 : to + count;
    if (to > count) to = count;
    *offset = from;
    *out = (str){NULL, 0};
    if (from > to) return OK;
    size_t first = jinja_char_offset(s, (size_t)from);
    str rest = str_skip(s, first);
    *out = (str){rest.p, jinja_char_offset(rest, (size_t)(to - from))};
    return OK;
}

static const char *find_last(str s, str what) {
    for (size_t i = s.n - what.n + 1; s.n >= what.n && i-- > 0;)
        if (memcmp(s.p + i, what.p, what.n) == 0) return s.p + i;
    return NULL;
}

/* The place of a[0] in characters, -1: nowhere. */
static status find(jinja_run *r, const jinja_value *v, const jinja_value *a, bool last,
                   jinja_value *out) {
    str what = S(""), s = S("");
    int64_t offset = 0;
    TRY(jinja_str_arg(r, &a[0], &what));
    TRY(window(r, v->as.s, &a[1], &a[2], &s, &offset));
    *out = jinja_integer(-1);
    if (s.p == NULL) return OK;
    TRY(jinja_step_bytes(r, last ? num_min_size(what.n, 64) * s.n : s.n));
    const char *at = what.n == 0 ? s.p + (last ? s.n : 0)
                     : last      ? find_last(s, what)
                     : s.n != 0  ? memmem(s.p, s.n, what.p, what.n)
                                 : NULL;
    if (at == NULL) return OK;
    *out = jinja_integer(offset + (int64_t)jinja_char_count((str){s.p, (size_t)(at - s.p)}));
    return OK;
}

STR_METHOD(find) { return find(r, v, a, false, out); }
STR_METHOD(rfind) { return find(r, v, a, true, out); }

static status index_of(jinja_run *r, const jinja_value *v, const jinja_value *a, bool last,
                       jinja_value *out) {
    TRY(find(r, v, a, last, out));
    return out->as.i < 0 ? jinja_fail(r, "ValueError: substring not found") : OK;
}

STR_METHOD(index) { return index_of(r, v, a, false, out); }
STR_METHOD(rindex) { return index_of(r, v, a, true, out); }

STR_METHOD(count) {
    str what = S(""), s = S("");
    int64_t offset = 0, count = 0;
    TRY(jinja_str_arg(r, &a[0], &what));
    TRY(window(r, v->as.s, &a[1], &a[2], &s, &offset));
    if (s.p != NULL && what.n == 0) count = (int64_t)jinja_char_count(s) + 1;
    while (what.n != 0 && s.p != NULL && s.n >= what.n) {
        const char *at = memmem(s.p, s.n, what.p, what.n);
        if (at == NULL) break;
        count++;
        s = str_skip(s, (size_t)(at - s.p) + what.n);
    }
    *out = jinja_integer(count);
    return OK;
}

/* a[0] is one string or a tuple of them. */
static status has_end(jinja_run *r, const jinja_value *v, const jinja_value *a,
                      bool (*test)(str, str), jinja_value *out) {
    const jinja_value *ends = &a[0];
    size_t count = 1;
    str s = S(""), end = S("");
    int64_t offset = 0;
    bool yes = false;
    if (ends->kind == JINJA_TUPLE) {
        count = ends->as.list->count;
        ends = ends->as.list->items;
    }
    TRY(window(r, v->as.s, &a[1], &a[2], &s, &offset));
    for (size_t i = 0; i < count && !yes; i++) {
        TRY(jinja_str_arg(r, &ends[i], &end));
        yes = s.p != NULL && test(s, end);
    }
    *out = jinja_bool(yes);
    return OK;
}

STR_METHOD(startswith) { return has_end(r, v, a, str_starts, out); }
STR_METHOD(endswith) { return has_end(r, v, a, str_ends, out); }

/* --- strings: splitting and joining --------------------------------------------------- */

static status split(jinja_run *r, const jinja_value *v, const jinja_value *a, bool right,
                    jinja_value *out) {
    int64_t most = -1;
    if (!jinja_is_missing(&a[1])) TRY(jinja_int_arg(r, &a[1], &most));
    return jinja_str_split(r, v->as.s, &a[0], most, right, out);
}

STR_METHOD(split) { return split(r, v, a, false, out); }
STR_METHOD(rsplit) { return split(r, v, a, true, out); }

STR_METHOD(splitlines) {
    return jinja_str_splitlines(r, v->as.s, jinja_flag_arg(&a[0], false), out);
}

static status partition(jinja_run *r, const jinja_value *v, const jinja_value *a, bool last,
                        jinja_value *out) {
    str by = S(""), s = v->as.s;
    TRY(jinja_str_arg(r, &a[0], &by));
    if (by.n == 0) return jinja_fail(r, "empty separator");
    TRY(jinja_step_bytes(r, last ? num_min_size(by.n, 64) * s.n : s.n));
    const char *at = last ? find_last(s, by) : s.n != 0 ? memmem(s.p, s.n, by.p, by.n) : NULL;
    jinja_value parts[3] = {last ? jinja_text(S("")) : *v, jinja_text(S("")),
                            last ? *v : jinja_text(S(""))};
    if (at != NULL) {
        size_t n = (size_t)(at - s.p);
        parts[0] = jinja_text((str){s.p, n});
        parts[1] = jinja_text(by);
        parts[2] = jinja_text(str_skip(s, n + by.n));
    }
    TRY(jinja_list_new(r, JINJA_TUPLE, 3, out));
    for (size_t i = 0; i < 3; i++) TRY(jinja_list_add(r, out->as.list, &parts[i]));
    return OK;
}

STR_METHOD(partition) { return partition(r, v, a, false, out); }
STR_METHOD(rpartition) { return partition(r, v, a, true, out); }

STR_METHOD(join) {
    const jinja_value *items = NULL;
    size_t count = 0;
    if (!jinja_is_iterable(&a[0])) return jinja_fail(r, "can only join an iterable");
    TRY(jinja_items(r, &a[0], &items, &count));
    return jinja_str_join(r, v->as.s, items, count, true, out);
}

STR_METHOD(replace) {
    str old = S(""), with = S("");
    int64_t count = -1;
    TRY(jinja_str_arg(r, &a[0], &old));
    TRY(jinja_str_arg(r, &a[1], &with));
    if (!jinja_is_missing(&a[2])) TRY(jinja_int_arg(r, &a[2], &count));
    return jinja_str_replace(r, v->as.s, old, with, count, out);
}

static status pad(jinja_run *r, const jinja_value *v, const jinja_value *a, char align,
                  jinja_value *out) {
    int64_t width = 0;
    uint32_t fill = ' ';
    TRY(jinja_int_arg(r, &a[0], &width));
    if (!jinja_is_missing(&a[1])) {
        str s = S("");
        TRY(jinja_str_arg(r, &a[1], &s));
        if (jinja_char_count(s) != 1)
            return jinja_fail(r, "The fill character must be exactly one character long");
        (void)jinja_char_get(s, &fill);
    }
    return jinja_str_pad(r, v->as.s, width, fill, align, out);
}

STR_METHOD(center) { return pad(r, v, a, 'c', out); }
STR_METHOD(ljust) { return pad(r, v, a, 'l', out); }
STR_METHOD(rjust) { return pad(r, v, a, 'r', out); }

STR_METHOD(zfill) {
    str s = v->as.s;
    bool sign = s.n != 0 && (s.p[0] == '-' || s.p[0] == '+');
    int64_t width = 0;
    jinja_value digits;
    TRY(jinja_int_arg(r, &a[0], &width));
    if (!sign) return jinja_str_pad(r, s, width, '0', 'r', out);
    TRY(jinja_str_pad(r, str_skip(s, 1), width > 0 ? width - 1 : 0, '0', 'r', &digits));
    size_t begin = jinja_text_begin(r);
    jinja_text_put(r, (str){s.p, 1});
    jinja_text_put(r, digits.as.s);
    return jinja_text_take(r, begin, out);
}

STR_METHOD(expandtabs) {
    int64_t size = 8, column = 0;
    str s = v->as.s;
    size_t begin = jinja_text_begin(r);
    if (!jinja_is_missing(&a[0])) TRY(jinja_int_arg(r, &a[0], &size));
    if (size > 1024) return jinja_fail(r, "tabs wider than 1024");
    while (s.n != 0) {
        uint32_t c = 0;
        size_t n = jinja_char_get(s, &c);
        int64_t spaces = c != '\t' || size <= 0 ? 0 : size - column % size;
        TRY(jinja_step_bytes(r, (size_t)spaces));
        for (int64_t i = 0; i < spaces; i++) jinja_text_put_char(r, ' ');
        if (c != '\t') jinja_text_put(r, (str){s.p, n});
        column = c == '\n' || c == '\r' ? 0 : c == '\t' ? column + spaces : column + 1;
        s = str_skip(s, n);
    }
    return jinja_text_take(r, begin, out);
}

static status str_format_map(jinja_run *r, const jinja_value *v, const jinja_value *a,
                             jinja_value *out) {
    void *p = NULL;
    if (a[0].kind != JINJA_DICT) return jinja_fail(r, "format_map() wants a mapping");
    const jinja_dict *d = a[0].as.dict;
    TRY(jinja_take(r, d->count, sizeof(jinja_keyword), &p));
    jinja_args args = {.keywords = p};
    for (size_t i = 0; i < d->count; i++)
        if (d->keys[i].kind == JINJA_STR)
            ((jinja_keyword *)p)[args.keywords_count++] =
                (jinja_keyword){.name = d->keys[i].as.s, .value = d->values[i]};
    return jinja_format(r, v, &args, out);
}

static const jinja_def STR_METHODS[] = {
    {.name = "capitalize", .params = "/", .bound = str_capitalize},
    {.name = "casefold", .params = "/", .bound = str_lower},
    {.name = "center", .params = "/width fillchar", .required = 1, .bound = str_center},
    {.name = "count", .params = "/sub start end", .required = 1, .bound = str_count},
    {.name = "endswith", .params = "/suffix start end", .required = 1, .bound = str_endswith},
    {.name = "expandtabs", .params = "tabsize", .bound = str_expandtabs},
    {.name = "find", .params = "/sub start end", .required = 1, .bound = str_find},
    {.name = "format", .raw = jinja_format},
    {.name = "format_map", .params = "/mapping", .required = 1, .bound = str_format_map},
    {.name = "index", .params = "/sub start end", .required = 1, .bound = str_index},
    {.name = "isalnum", .params = "/", .bound = str_isalnum},
    {.name = "isalpha", .params = "/", .bound = str_isalpha},
    {.name = "isascii", .params = "/", .bound = str_isascii},
    {.name = "isdecimal", .params = "/", .bound = str_isdecimal},
    {.name = "isdigit", .params = "/", .bound = str_isdigit},
    {.name = "isidentifier", .params = "/", .bound = str_isidentifier},
    {.name = "islower", .params = "/", .bound = str_islower},
    {.name = "isnumeric", .params = "/", .bound = str_isnumeric},
    {.name = "isprintable", .params = "/", .bound = str_isprintable},
    {.name = "isspace", .params = "/", .bound = str_isspace},
    {.name = "istitle", .params = "/", .bound = str_istitle},
    {.name = "isupper", .params = "/", .bound = str_isupper},
    {.name = "join", .params = "/iterable", .required = 1, .bound = str_join},
    {.name = "ljust", .params = "/width fillchar", .required = 1, .bound = str_ljust},
    {.name = "lower", .params = "/", .bound = str_lower},
    {.name = "lstrip", .params = "/chars", .bound = str_lstrip},
    {.name = "partition", .params = "/sep", .required = 1, .bound = str_partition},
    {.name = "removeprefix", .params = "/prefix", .required = 1, .bound = str_removeprefix},
    {.name = "removesuffix", .params = "/suffix", .required = 1, .bound = str_removesuffix},
    {.name = "replace", .params = "/old new count", .required = 2, .bound = str_replace},
    {.name = "rfind", .params = "/sub start end", .required = 1, .bound = str_rfind},
    {.name = "rindex", .params = "/sub start end", .required = 1, .bound = str_rindex},
    {.name = "rjust", .params = "/width fillchar", .required = 1, .bound = str_rjust},
    {.name = "rpartition", .params = "/sep", .required = 1, .bound = str_rpartition},
    {.name = "rsplit", .params = "sep maxsplit", .bound = str_rsplit},
    {.name = "rstrip", .params = "/chars", .bound = str_rstrip},
    {.name = "split", .params = "sep maxsplit", .bound = str_split},
    {.name = "splitlines", .params = "keepends", .bound = str_splitlines},
    {.name = "startswith", .params = "/prefix start end", .required = 1, .bound = str_startswith},
    {.name = "strip", .params = "/chars", .bound = str_strip},
    {.name = "swapcase", .params = "/", .bound = str_swapcase},
    {.name = "title", .params = "/", .bound = str_title},
    {.name = "upper", .params = "/", .bound = str_upper},
    {.name = "zfill", .params = "/width", .required = 1, .bound = str_zfill},
};

/* --- lists ---------------------------------------------------------------------------- */

#define BOX_METHOD(name) \
    static status name(jinja_run *r, const jinja_value *v, const jinja_value *a, jinja_value *out)

BOX_METHOD(list_count) {
    int64_t count = 0;
    bool same = false;
    for (size_t i = 0; i < v->as.list->count; i++) {
        TRY(jinja_equal(r, &v->as.list->items[i], &a[0], &same));
        count += same;
    }
    *out = jinja_integer(count);
    return OK;
}

BOX_METHOD(list_index) {
    int64_t from = 0, to = INT64_MAX, count = (int64_t)v->as.list->count;
    bool same = false;
    if (!jinja_is_missing(&a[1])) TRY(jinja_int_arg(r, &a[1], &from));
    if (!jinja_is_missing(&a[2])) TRY(jinja_int_arg(r, &a[2], &to));
    if (from < 0) from = from + count < 0 ? 0 : from + count;
    if (to < 0) to += count;
    for (int64_t i = from; i < to && i < count; i++) {
        TRY(jinja_equal(r, &v->as.list->items[i], &a[0], &same));
        if (!same) continue;
        *out = jinja_integer(i);
        return OK;
    }
    return jinja_fail(r, "ValueError: the value is not in the %s", jinja_kind_name(v->kind));
}

BOX_METHOD(list_copy) {
    (void)a;
    TRY(jinja_list_new(r, JINJA_LIST, v->as.list->count, out));
    for (size_t i = 0; i < v->as.list->count; i++)
        TRY(jinja_list_add(r, out->as.list, &v->as.list->items[i]));
    return OK;
}

BOX_METHOD(list_append) {
    *out = jinja_none();
    return jinja_list_add(r, v->as.list, &a[0]);
}

BOX_METHOD(list_extend) {
    const jinja_value *items = NULL;
    size_t count = 0;
    *out = jinja_none();
    TRY(jinja_items(r, &a[0], &items, &count));
    for (size_t i = 0; i < count; i++) TRY(jinja_list_add(r, v->as.list, &items[i]));
    return OK;
}

/* Makes room at i, or closes it, in a new array: whoever walks over the old one goes on. */
static status list_shift(jinja_run *r, jinja_list *list, size_t i, bool open) {
    void *p = NULL;
    size_t behind = list->count - i - (open ? 0 : 1);
    TRY(jinja_step(r, list->count));
    TRY(jinja_take(r, list->count + 1, sizeof *list->items, &p));
    jinja_value *items = p;
    if (i != 0) memcpy(items, list->items, i * sizeof *items);
    if (behind != 0)
        memcpy(items + i + (open ? 1 : 0), list->items + i + (open ? 0 : 1),
               behind * sizeof *items);
    list->cap = list->count + 1;
    list->items = items;
    list->count = open ? list->count + 1 : list->count - 1;
    return OK;
}

BOX_METHOD(list_insert) {
    int64_t i = 0, count = (int64_t)v->as.list->count;
    *out = jinja_none();
    TRY(jinja_int_arg(r, &a[0], &i));
    if (i < 0) i = i + count < 0 ? 0 : i + count;
    if (i > count) i = count;
    TRY(list_shift(r, v->as.list, (size_t)i, true));
    v->as.list->items[i] = a[1];
    return OK;
}

BOX_METHOD(list_pop) {
    int64_t i = -1, count = (int64_t)v->as.list->count;
    if (!jinja_is_missing(&a[0])) TRY(jinja_int_arg(r, &a[0], &i));
    if (i < 0) i += count;
    if (count == 0) return jinja_fail(r, "IndexError: pop from empty list");
    if (i < 0 || i >= count) return jinja_fail(r, "IndexError: pop index out of range");
    *out = v->as.list->items[i];
    return list_shift(r, v->as.list, (size_t)i, false);
}

BOX_METHOD(list_remove) {
    jinja_value at = jinja_none();
    *out = jinja_none();
    jinja_value args[JINJA_PARAMS_MAX] = {a[0]};
    TRY(list_index(r, v, args, &at));
    return list_shift(r, v->as.list, (size_t)at.as.i, false);
}

BOX_METHOD(list_clear) {
    (void)r;
    (void)a;
    v->as.list->count = v->as.list->cap = 0;
    *out = jinja_none();
    return OK;
}

BOX_METHOD(list_reverse) {
    jinja_value copy;
    TRY(list_copy(r, v, a, &copy));
    for (size_t i = 0; i < copy.as.list->count; i++)
        copy.as.list->items[i] = v->as.list->items[copy.as.list->count - 1 - i];
    v->as.list->items = copy.as.list->items;
    v->as.list->cap = copy.as.list->cap;
    *out = jinja_none();
    return OK;
}

BOX_METHOD(list_sort) {
    jinja_value copy, keys;
    TRY(list_copy(r, v, a, &copy));
    TRY(list_copy(r, v, a, &keys));
    TRY(jinja_sort(r, keys.as.list->items, copy.as.list->items, copy.as.list->count,
                   jinja_flag_arg(&a[0], false)));
    v->as.list->items = copy.as.list->items;
    v->as.list->cap = copy.as.list->cap;
    *out = jinja_none();
    return OK;
}

static const jinja_def LIST_METHODS[] = {
    {.name = "append", .params = "/object", .required = 1, .mutates = true, .bound = list_append},
    {.name = "clear", .params = "/", .mutates = true, .bound = list_clear},
    {.name = "copy", .params = "/", .bound = list_copy},
    {.name = "count", .params = "/value", .required = 1, .bound = list_count},
    {.name = "extend", .params = "/iterable", .required = 1, .mutates = true, .bound = list_extend},
    {.name = "index", .params = "/value start stop", .required = 1, .bound = list_index},
    {.name = "insert",
     .params = "/index object",
     .required = 2,
     .mutates = true,
     .bound = list_insert},
    {.name = "pop", .params = "/index", .mutates = true, .bound = list_pop},
    {.name = "remove", .params = "/value", .required = 1, .mutates = true, .bound = list_remove},
    {.name = "reverse", .params = "/", .mutates = true, .bound = list_reverse},
    {.name = "sort", .params = "reverse", .mutates = true, .bound = list_sort},
};

static const jinja_def TUPLE_METHODS[] = {
    {.name = "count", .params = "/value", .required = 1, .bound = list_count},
    {.name = "index", .params = "/value start stop", .required = 1, .bound = list_index},
};

/* --- dictionaries --------------------------------------------------------------------- */

static jinja_value view(const jinja_value *v, jinja_kind kind) {
    return (jinja_value){.kind = (uint8_t)kind, .as.dict = v->as.dict};
}

#define DICT_VIEW(name, kind) \
    BOX_METHOD(name) {        \
        (void)r;              \
        (void)a;              \
        *out = view(v, kind); \
        return OK;            \
    }

DICT_VIEW(dict_keys, JINJA_KEYS)
DICT_VIEW(dict_values, JINJA_VALUES)
DICT_VIEW(dict_items, JINJA_ITEMS)

BOX_METHOD(dict_get) {
    jinja_value *found = NULL;
    TRY(jinja_dict_get(r, v->as.dict, &a[0], &found));
    *out = found != NULL ? *found : jinja_is_missing(&a[1]) ? jinja_none() : a[1];
    return OK;
}

BOX_METHOD(dict_copy) {
    (void)a;
    TRY(jinja_dict_new(r, v->as.dict->count, out));
    for (size_t i = 0; i < v->as.dict->count; i++)
        TRY(jinja_dict_set(r, out->as.dict, &v->as.dict->keys[i], &v->as.dict->values[i]));
    return OK;
}

BOX_METHOD(dict_clear) {
    (void)r;
    (void)a;
    *v->as.dict = (jinja_dict){0};
    *out = jinja_none();
    return OK;
}

BOX_METHOD(dict_pop) {
    jinja_value *found = NULL;
    TRY(jinja_dict_get(r, v->as.dict, &a[0], &found));
    if (found == NULL && jinja_is_missing(&a[1])) {
        str name = S("");
        TRY(jinja_to_str(r, &a[0], &name));
        return jinja_fail(r, "KeyError: '%.*s'", STR(name));
    }
    *out = found != NULL ? *found : a[1];
    return jinja_dict_remove(r, v->as.dict, &a[0]);
}

BOX_METHOD(dict_popitem) {
    jinja_dict *d = v->as.dict;
    (void)a;
    if (d->count == 0) return jinja_fail(r, "KeyError: 'popitem(): dictionary is empty'");
    jinja_value key = d->keys[d->count - 1];
    TRY(jinja_pair(r, &key, &d->values[d->count - 1], out));
    return jinja_dict_remove(r, d, &key);
}

BOX_METHOD(dict_setdefault) {
    jinja_value *found = NULL;
    TRY(jinja_dict_get(r, v->as.dict, &a[0], &found));
    *out = found != NULL ? *found : jinja_is_missing(&a[1]) ? jinja_none() : a[1];
    return found != NULL ? OK : jinja_dict_set(r, v->as.dict, &a[0], out);
}

static status dict_update(jinja_run *r, const jinja_value *v, const jinja_args *args,
                          jinja_value *out) {
    jinja_value more;
    jinja_value none = jinja_none();
    TRY(jinja_call_def(r, jinja_function_find(S("dict")), &none, args, &more));
    for (size_t i = 0; i < more.as.dict->count; i++)
        TRY(jinja_dict_set(r, v->as.dict, &more.as.dict->keys[i], &more.as.dict->values[i]));
    *out = none;
    return OK;
}

static const jinja_def DICT_METHODS[] = {
    {.name = "clear", .params = "/", .mutates = true, .bound = dict_clear},
    {.name = "copy", .params = "/", .bound = dict_copy},
    {.name = "get", .params = "/key default", .required = 1, .bound = dict_get},
    {.name = "items", .params = "/", .bound = dict_items},
    {.name = "keys", .params = "/", .bound = dict_keys},
    {.name = "pop", .params = "/key default", .required = 1, .mutates = true, .bound = dict_pop},
    {.name = "popitem", .params = "/", .mutates = true, .bound = dict_popitem},
    {.name = "setdefault",
     .params = "/key default",
     .required = 1,
     .mutates = true,
     .bound = dict_setdefault},
    {.name = "update", .mutates = true, .raw = dict_update},
    {.name = "values", .params = "/", .bound = dict_values},
};

/* --- numbers, loops, cyclers ---------------------------------------------------------- */

BOX_METHOD(float_is_integer) {
    (void)r;
    (void)a;
    *out = jinja_bool(v->as.f - v->as.f == 0 && v->as.f == __builtin_floor(v->as.f));
    return OK;
}

static const jinja_def FLOAT_METHODS[] = {
    {.name = "is_integer", .params = "/", .bound = float_is_integer},
};

BOX_METHOD(int_bit_length) {
    jinja_int i = jinja_int_of(v);
    jinja_uint u = i < 0 ? -(jinja_uint)i : (jinja_uint)i;
    int64_t bits = 0;
    (void)r;
    (void)a;
    for (; u != 0; u >>= 1) bits++;
    *out = jinja_integer(bits);
    return OK;
}

static const jinja_def INT_METHODS[] = {
    {.name = "bit_length", .params = "/", .bound = int_bit_length},
};

static status loop_cycle(jinja_run *r, const jinja_value *v, const jinja_args *args,
                         jinja_value *out) {
    if (args->count == 0) return jinja_fail(r, "no items for cycling given");
    *out = args->items[(size_t)v->as.loop->index0 % args->count];
    return OK;
}

static status loop_changed(jinja_run *r, const jinja_value *v, const jinja_args *args,
                           jinja_value *out) {
    jinja_loop *loop = v->as.loop;
    jinja_value now;
    bool same = false;
    TRY(jinja_list_new(r, JINJA_TUPLE, args->count, &now));
    for (size_t i = 0; i < args->count; i++) TRY(jinja_list_add(r, now.as.list, &args->items[i]));
    if (!jinja_is_missing(&loop->changed)) TRY(jinja_equal(r, &loop->changed, &now, &same));
    if (!same) loop->changed = now;
    *out = jinja_bool(!same);
    return OK;
}

static const jinja_def LOOP_METHODS[] = {
    {.name = "changed", .raw = loop_changed},
    {.name = "cycle", .raw = loop_cycle},
};

BOX_METHOD(cycler_next) {
    jinja_cycler *c = v->as.cycler;
    (void)r;
    (void)a;
    *out = c->items[c->at];
    c->at = (c->at + 1) % c->count;
    return OK;
}

BOX_METHOD(cycler_reset) {
    (void)r;
    (void)a;
    v->as.cycler->at = 0;
    *out = jinja_none();
    return OK;
}

static const jinja_def CYCLER_METHODS[] = {
    {.name = "next", .params = "/", .bound = cycler_next},
    {.name = "reset", .params = "/", .bound = cycler_reset},
};

/* --- by kind -------------------------------------------------------------------------- */

typedef struct method_table {
    const jinja_def *rows;
    size_t count;
} method_table;

#define TABLE(rows) \
    { rows, sizeof(rows) / sizeof *(rows) }

static const method_table TABLES[JINJA_KIND_COUNT] = {
    [JINJA_STR] = TABLE(STR_METHODS),       [JINJA_LIST] = TABLE(LIST_METHODS),
    [JINJA_TUPLE] = TABLE(TUPLE_METHODS),   [JINJA_DICT] = TABLE(DICT_METHODS),
    [JINJA_FLOAT] = TABLE(FLOAT_METHODS),   [JINJA_INT] = TABLE(INT_METHODS),
    [JINJA_BOOL] = TABLE(INT_METHODS),      [JINJA_LOOP] = TABLE(LOOP_METHODS),
    [JINJA_CYCLER] = TABLE(CYCLER_METHODS),
};

const jinja_def *jinja_method_find(jinja_kind kind, str name) {
    return jinja_def_find(TABLES[kind].rows, TABLES[kind].count, name);
}
