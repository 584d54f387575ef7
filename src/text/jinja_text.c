/* jinja_text.c - see jinja_text.h. */
#include "text/jinja_text.h"

#include <inttypes.h>

#include "base/num.h"
#include "text/jinja_unicode.h"

/* --- case ----------------------------------------------------------------------------- */

typedef size_t (*case_map)(uint32_t c, uint32_t out[JINJA_CASE_CHARS]);

static void put_case(jinja_run *r, uint32_t c, case_map map) {
    uint32_t chars[JINJA_CASE_CHARS];
    size_t n = map(c, chars);
    for (size_t i = 0; i < n; i++) jinja_text_put_char(r, chars[i]);
}

enum { SIGMA = 0x3A3, SIGMA_SMALL = 0x3C3, SIGMA_FINAL = 0x3C2 };

/* Points and the like between letters do not end a word for the final sigma. */
static bool is_ignored(uint32_t c) {
    return c == '\'' || c == '.' || c == ':' || c == '^' || c == '`' || c == 0xA8 || c == 0xAD ||
           c == 0xB7 || c == 0x2019 || (c >= 0x300 && c <= 0x36F);
}

static bool is_cased(uint32_t c) {
    return jinja_char_is_upper(c) || jinja_char_is_lower(c) || jinja_char_is_title(c);
}

static bool cased_before(str s) {
    uint32_t c = 0;
    while (s.n != 0) {
        s.n -= jinja_char_get_last(s, &c);
        if (!is_ignored(c)) return is_cased(c);
    }
    return false;
}

static bool cased_after(str s) {
    uint32_t c = 0;
    while (s.n != 0) {
        s = str_skip(s, jinja_char_get(s, &c));
        if (!is_ignored(c)) return is_cased(c);
    }
    return false;
}

/* The character at `at` of s in lower case: a capital sigma at the end of a word is the final. */
static void put_lower_at(jinja_run *r, str s, size_t at, size_t n, uint32_t c) {
    if (c != SIGMA) {
        put_case(r, c, jinja_char_lower);
        return;
    }
    bool final = cased_before((str){s.p, at}) && !cased_after(str_skip(s, at + n));
    jinja_text_put_char(r, final ? SIGMA_FINAL : SIGMA_SMALL);
}

void jinja_put_lower(jinja_run *r, str s) {
    uint32_t c = 0;
    for (size_t at = 0; at < s.n;) {
        size_t n = jinja_char_get(str_skip(s, at), &c);
        put_lower_at(r, s, at, n, c);
        at += n;
    }
}

void jinja_put_capitalized(jinja_run *r, str s, bool upper) {
    uint32_t c = 0;
    for (size_t at = 0; at < s.n;) {
        size_t n = jinja_char_get(str_skip(s, at), &c);
        if (at == 0)
            put_case(r, c, upper ? jinja_char_upper : jinja_char_title);
        else
            put_lower_at(r, s, at, n, c);
        at += n;
    }
}

status jinja_str_lower(jinja_run *r, str s, jinja_value *out) {
    size_t begin = jinja_text_begin(r);
    jinja_put_lower(r, s);
    return jinja_text_take(r, begin, out);
}

status jinja_str_capitalize(jinja_run *r, str s, jinja_value *out) {
    size_t begin = jinja_text_begin(r);
    jinja_put_capitalized(r, s, false);
    return jinja_text_take(r, begin, out);
}

status jinja_str_upper(jinja_run *r, str s, jinja_value *out) {
    size_t begin = jinja_text_begin(r);
    uint32_t c = 0;
    for (; s.n != 0; put_case(r, c, jinja_char_upper)) s = str_skip(s, jinja_char_get(s, &c));
    return jinja_text_take(r, begin, out);
}

status jinja_str_swapcase(jinja_run *r, str s, jinja_value *out) {
    size_t begin = jinja_text_begin(r);
    uint32_t c = 0;
    for (size_t at = 0; at < s.n;) {
        size_t n = jinja_char_get(str_skip(s, at), &c);
        if (jinja_char_is_upper(c))
            put_lower_at(r, s, at, n, c);
        else if (jinja_char_is_lower(c))
            put_case(r, c, jinja_char_upper);
        else
            jinja_text_put_char(r, c);
        at += n;
    }
    return jinja_text_take(r, begin, out);
}

status jinja_str_title(jinja_run *r, str s, jinja_value *out) {
    size_t begin = jinja_text_begin(r);
    bool inside = false;
    uint32_t c = 0;
    for (size_t at = 0; at < s.n;) {
        size_t n = jinja_char_get(str_skip(s, at), &c);
        if (inside)
            put_lower_at(r, s, at, n, c);
        else
            put_case(r, c, jinja_char_title);
        inside = is_cased(c);
        at += n;
    }
    return jinja_text_take(r, begin, out);
}

/* --- ends ----------------------------------------------------------------------------- */

static bool is_in_set(str set, uint32_t c) {
    uint32_t member = 0;
    while (set.n != 0) {
        set = str_skip(set, jinja_char_get(set, &member));
        if (member == c) return true;
    }
    return false;
}

status jinja_str_strip(jinja_run *r, str s, const jinja_value *chars, bool left, bool right,
                       str *out) {
    bool spaces = jinja_is_missing(chars) || chars->kind == JINJA_NONE;
    str set = S("");
    uint32_t c = 0;
    TRY(jinja_step_bytes(r, s.n));
    if (!spaces) TRY(jinja_str_arg(r, chars, &set));
    while (left && s.n != 0) {
        size_t n = jinja_char_get(s, &c);
        if (!(spaces ? jinja_char_is_space(c) : is_in_set(set, c))) break;
        TRY(jinja_step_bytes(r, set.n));
        s = str_skip(s, n);
    }
    while (right && s.n != 0) {
        size_t n = jinja_char_get_last(s, &c);
        if (!(spaces ? jinja_char_is_space(c) : is_in_set(set, c))) break;
        TRY(jinja_step_bytes(r, set.n));
        s.n -= n;
    }
    *out = s;
    return OK;
}

/* --- pieces --------------------------------------------------------------------------- */

static str find(str s, str what) {
    const char *p = s.n != 0 ? memmem(s.p, s.n, what.p, what.n) : NULL;
    return p != NULL ? (str){p, what.n} : (str){NULL, 0};
}

/* An empty `old` stands before every character and at the end. */
static void replace_between(jinja_run *r, str s, str with, int64_t count) {
    for (; count != 0; count--) {
        uint32_t c = 0;
        jinja_text_put(r, with);
        if (s.n == 0) return;
        size_t n = jinja_char_get(s, &c);
        jinja_text_put(r, (str){s.p, n});
        s = str_skip(s, n);
        if (r->text.failed) return;
    }
    jinja_text_put(r, s);
}

status jinja_str_replace(jinja_run *r, str s, str old, str with, int64_t count, jinja_value *out) {
    size_t begin = jinja_text_begin(r);
    TRY(jinja_step_bytes(r, s.n));
    if (count < 0) count = INT64_MAX;
    if (old.n == 0) {
        replace_between(r, s, with, count);
        return jinja_text_take(r, begin, out);
    }
    for (; count > 0; count--) {
        str at = find(s, old);
        if (at.p == NULL) break;
        size_t before = (size_t)(at.p - s.p);
        TRY(jinja_step(r, 1));
        jinja_text_put(r, (str){s.p, before});
        jinja_text_put(r, with);
        s = str_skip(s, before + old.n);
    }
    jinja_text_put(r, s);
    return jinja_text_take(r, begin, out);
}

static status add_piece(jinja_run *r, jinja_value *list, const char *from, const char *to) {
    jinja_value piece = jinja_text((str){from, (size_t)(to - from)});
    return jinja_list_add(r, list->as.list, &piece);
}

static status split_spaces(jinja_run *r, str s, int64_t most, jinja_value *out) {
    for (s = jinja_strip_left(s); s.n != 0; s = jinja_strip_left(s), most--) {
        if (most == 0) return add_piece(r, out, s.p, s.p + s.n);
        const char *from = s.p;
        uint32_t c = 0;
        while (s.n != 0) {
            size_t n = jinja_char_get(s, &c);
            if (jinja_char_is_space(c)) break;
            s = str_skip(s, n);
        }
        TRY(add_piece(r, out, from, s.p));
    }
    return OK;
}

static status split_by(jinja_run *r, str s, str by, int64_t most, jinja_value *out) {
    for (; most != 0; most--) {
        str at = find(s, by);
        if (at.p == NULL) break;
        TRY(add_piece(r, out, s.p, at.p));
        s = str_skip(s, (size_t)(at.p - s.p) + by.n);
    }
    return add_piece(r, out, s.p, s.p + s.n);
}

/* From the right the pieces come in reverse, and are turned round in the end. */
static status split_spaces_right(jinja_run *r, str s, int64_t most, jinja_value *out) {
    for (s = jinja_strip_right(s); s.n != 0; s = jinja_strip_right(s), most--) {
        if (most == 0) return add_piece(r, out, s.p, s.p + s.n);
        const char *to = s.p + s.n;
        uint32_t c = 0;
        while (s.n != 0) {
            size_t n = jinja_char_get_last(s, &c);
            if (jinja_char_is_space(c)) break;
            s.n -= n;
        }
        TRY(add_piece(r, out, s.p + s.n, to));
    }
    return OK;
}

static status split_by_right(jinja_run *r, str s, str by, int64_t most, jinja_value *out) {
    size_t at = s.n;
    while (most != 0 && at >= by.n) {
        at--;
        if (at + by.n > s.n || memcmp(s.p + at, by.p, by.n) != 0) {
            if (at == 0) break;
            continue;
        }
        TRY(add_piece(r, out, s.p + at + by.n, s.p + s.n));
        s.n = at;
        most--;
        if (at == 0) break;
    }
    return add_piece(r, out, s.p, s.p + s.n);
}

static void reverse(jinja_list *list) {
    for (size_t i = 0; i < list->count / 2; i++) {
        jinja_value swap = list->items[i];
        list->items[i] = list->items[list->count - 1 - i];
        list->items[list->count - 1 - i] = swap;
    }
}

status jinja_str_split(jinja_run *r, str s, const jinja_value *separator, int64_t most,
                       bool from_right, jinja_value *out) {
    bool spaces = jinja_is_missing(separator) || separator->kind == JINJA_NONE;
    str by = S("");
    if (!spaces) TRY(jinja_str_arg(r, separator, &by));
    if (!spaces && by.n == 0) return jinja_fail(r, "empty separator");
    TRY(jinja_step_bytes(r, s.n));
    TRY(jinja_list_new(r, JINJA_LIST, 0, out));
    if (!from_right) return spaces ? split_spaces(r, s, most, out) : split_by(r, s, by, most, out);
    TRY(spaces ? split_spaces_right(r, s, most, out) : split_by_right(r, s, by, most, out));
    reverse(out->as.list);
    return OK;
}

status jinja_str_splitlines(jinja_run *r, str s, bool keep_ends, jinja_value *out) {
    TRY(jinja_step_bytes(r, s.n));
    TRY(jinja_list_new(r, JINJA_LIST, 0, out));
    while (s.n != 0) {
        const char *from = s.p, *end = s.p;
        uint32_t c = 0;
        bool ended = false;
        while (s.n != 0 && !ended) {
            size_t n = jinja_char_get(s, &c);
            ended = jinja_char_is_line_end(c);
            if (c == '\r' && s.n > 1 && s.p[1] == '\n') n = 2;
            s = str_skip(s, n);
            if (!ended || keep_ends) end = s.p;
        }
        TRY(add_piece(r, out, from, end));
    }
    return OK;
}

status jinja_str_join(jinja_run *r, str separator, const jinja_value *items, size_t count,
                      bool only_strings, jinja_value *out) {
    size_t begin = jinja_text_begin(r);
    for (size_t i = 0; i < count; i++) {
        if (only_strings && items[i].kind != JINJA_STR)
            return jinja_fail(r, "sequence item %zu: expected str instance, %s found", i,
                              jinja_kind_name(items[i].kind));
        if (i != 0) jinja_text_put(r, separator);
        TRY(jinja_put_str(r, &items[i]));
    }
    return jinja_text_take(r, begin, out);
}

status jinja_str_pad(jinja_run *r, str s, int64_t width, uint32_t fill, char align,
                     jinja_value *out) {
    TRY(jinja_step_bytes(r, s.n));
    int64_t count = (int64_t)jinja_char_count(s), pad = width > count ? width - count : 0;
    if ((uint64_t)pad > r->env->limits.memory_bytes_max)
        return error_set(r->err, ERR_LIMIT, "chat template: line %" PRIu32 ": a width of %" PRId64,
                         r->line, width);
    int64_t left = align == 'l' ? 0 : align == 'r' ? pad : pad / 2 + (pad & width & 1);
    size_t begin = jinja_text_begin(r);
    TRY(jinja_step_bytes(r, (size_t)pad));
    for (int64_t i = 0; i < left; i++) jinja_text_put_char(r, fill);
    jinja_text_put(r, s);
    for (int64_t i = left; i < pad; i++) jinja_text_put_char(r, fill);
    return jinja_text_take(r, begin, out);
}
