/* jinja_filter_text.c - filters that make text. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/num.h"
#include "text/jinja_filters.h"
#include "text/jinja_number.h"
#include "text/jinja_text.h"
#include "text/jinja_unicode.h"

/* --- case, ends, width: of str(v) ----------------------------------------------------- */

#define FILTER(name)                                                                     \
    status jinja_filter_##name(jinja_run *r, const jinja_value *v, const jinja_value *a, \
                               jinja_value *out)

FILTER(string) {
    str s = S("");
    (void)a;
    TRY(jinja_to_str(r, v, &s));
    *out = jinja_text(s);
    return OK;
}

FILTER(safe) {
    TRY(jinja_filter_string(r, v, a, out));
    out->marked = true;
    return OK;
}

FILTER(upper) {
    TRY(jinja_filter_string(r, v, a, out));
    return jinja_str_upper(r, out->as.s, out);
}

FILTER(lower) {
    TRY(jinja_filter_string(r, v, a, out));
    return jinja_str_lower(r, out->as.s, out);
}

FILTER(capitalize) {
    TRY(jinja_filter_string(r, v, a, out));
    return jinja_str_capitalize(r, out->as.s, out);
}

FILTER(trim) {
    str s = S("");
    TRY(jinja_to_str(r, v, &s));
    TRY(jinja_str_strip(r, s, &a[0], true, true, &s));
    *out = jinja_text(s);
    return OK;
}

FILTER(center) {
    int64_t width = 80;
    str s = S("");
    if (!jinja_is_missing(&a[0])) TRY(jinja_int_arg(r, &a[0], &width));
    TRY(jinja_to_str(r, v, &s));
    return jinja_str_pad(r, s, width, ' ', 'c', out);
}

/* Words begin behind white space, a hyphen or an opening bracket. */
static bool is_word_break(uint32_t c) {
    return jinja_char_is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
}

FILTER(title) {
    str s = S("");
    (void)a;
    TRY(jinja_to_str(r, v, &s));
    size_t begin = jinja_text_begin(r);
    while (s.n != 0) {
        uint32_t c = 0;
        size_t n = jinja_char_get(s, &c);
        bool breaks = is_word_break(c);
        for (size_t more = 0; n < s.n; n += more) {
            more = jinja_char_get(str_skip(s, n), &c);
            if (is_word_break(c) != breaks) break;
        }
        if (breaks)
            jinja_text_put(r, (str){s.p, n});
        else
            jinja_put_capitalized(r, (str){s.p, n}, true);
        s = str_skip(s, n);
    }
    return jinja_text_take(r, begin, out);
}

FILTER(wordcount) {
    str s = S("");
    int64_t count = 0;
    bool inside = false;
    (void)a;
    TRY(jinja_to_str(r, v, &s));
    TRY(jinja_step_bytes(r, s.n));
    while (s.n != 0) {
        uint32_t c = 0;
        s = str_skip(s, jinja_char_get(s, &c));
        bool word = jinja_char_is_word(c);
        count += word && !inside;
        inside = word;
    }
    *out = jinja_integer(count);
    return OK;
}

FILTER(replace) {
    str s = S(""), old = S(""), with = S("");
    int64_t count = -1;
    TRY(jinja_to_str(r, v, &s));
    TRY(jinja_to_str(r, &a[0], &old));
    TRY(jinja_to_str(r, &a[1], &with));
    if (!jinja_is_missing(&a[2]) && a[2].kind != JINJA_NONE) TRY(jinja_int_arg(r, &a[2], &count));
    return jinja_str_replace(r, s, old, with, count, out);
}

/* --- lines ---------------------------------------------------------------------------- */

/* The lines of s and one line end more, so that a last empty line counts. */
static status lines_of(jinja_run *r, const jinja_value *v, jinja_value *out) {
    jinja_value end = jinja_text(S("\n")), text;
    TRY(jinja_binary(r, JINJA_TOKEN_ADD, v, &end, &text));
    if (text.kind != JINJA_STR)
        return jinja_fail(r, "indent wants str, found %s", jinja_kind_name(v->kind));
    return jinja_str_splitlines(r, text.as.s, false, out);
}

FILTER(indent) {
    bool first = jinja_flag_arg(&a[1], false), blank = jinja_flag_arg(&a[2], false);
    jinja_value lines, four = jinja_integer(4), space = jinja_text(S(" ")), indention;
    const jinja_value *width = jinja_is_missing(&a[0]) ? &four : &a[0];
    if (width->kind == JINJA_STR)
        indention = *width;
    else
        TRY(jinja_binary(r, JINJA_TOKEN_MUL, &space, width, &indention));
    TRY(lines_of(r, v, &lines));
    size_t begin = jinja_text_begin(r);
    for (size_t i = 0; i < lines.as.list->count; i++) {
        str line = lines.as.list->items[i].as.s;
        if (i != 0) jinja_text_put(r, S("\n"));
        if (i == 0 ? first : blank || line.n != 0) jinja_text_put(r, indention.as.s);
        jinja_text_put(r, line);
    }
    return jinja_text_take(r, begin, out);
}

FILTER(truncate) {
    int64_t length = 255, leeway = 5;
    size_t count = 0;
    str s = S(""), end = S("...");
    if (!jinja_is_missing(&a[0])) TRY(jinja_int_arg(r, &a[0], &length));
    if (!jinja_is_missing(&a[2])) TRY(jinja_str_arg(r, &a[2], &end));
    if (!jinja_is_missing(&a[3]) && a[3].kind != JINJA_NONE) TRY(jinja_int_arg(r, &a[3], &leeway));
    int64_t end_chars = (int64_t)jinja_char_count(end);
    if (length < end_chars || leeway < 0)
        return jinja_fail(r, "expected length >= %" PRId64 ", got %" PRId64, end_chars, length);
    TRY(jinja_length(r, v, &count));
    *out = *v;
    if ((int64_t)count - leeway <= length) return OK;
    TRY(jinja_str_arg(r, v, &s));
    s.n = jinja_char_offset(s, (size_t)(length - end_chars));
    const char *space = s.n != 0 ? memrchr(s.p, ' ', s.n) : NULL;
    if (!jinja_flag_arg(&a[1], false) && space != NULL) s.n = (size_t)(space - s.p);
    size_t begin = jinja_text_begin(r);
    jinja_text_put(r, s);
    jinja_text_put(r, end);
    return jinja_text_take(r, begin, out);
}

/* --- markup --------------------------------------------------------------------------- */

static void put_escaped(jinja_run *r, str s) {
    for (size_t i = 0; i < s.n; i++) {
        switch (s.p[i]) {
        case '&':
            jinja_text_put(r, S("&amp;"));
            break;
        case '<':
            jinja_text_put(r, S("&lt;"));
            break;
        case '>':
            jinja_text_put(r, S("&gt;"));
            break;
        case '\'':
            jinja_text_put(r, S("&#39;"));
            break;
        case '"':
            jinja_text_put(r, S("&#34;"));
            break;
        default:
            buf_put_char(&r->text, s.p[i]);
        }
    }
}

FILTER(forceescape) {
    str s = S("");
    (void)a;
    TRY(jinja_to_str(r, v, &s));
    TRY(jinja_step_bytes(r, s.n));
    size_t begin = jinja_text_begin(r);
    put_escaped(r, s);
    TRY(jinja_text_take(r, begin, out));
    out->marked = true;
    return OK;
}

/* What is escaped already stays as it is. */
FILTER(escape) {
    if (v->kind != JINJA_STR || !v->marked) return jinja_filter_forceescape(r, v, a, out);
    *out = *v;
    return OK;
}

FILTER(xmlattr) {
    size_t begin = jinja_text_begin(r);
    bool space = jinja_flag_arg(&a[0], true);
    if (v->kind == JINJA_UNDEFINED) return jinja_fail_undefined(r, v);
    if (v->kind != JINJA_DICT)
        return jinja_fail(r, "'%s' object has no attribute 'items'", jinja_kind_name(v->kind));
    for (size_t i = 0; i < v->as.dict->count; i++) {
        const jinja_value *value = &v->as.dict->values[i];
        str key = S(""), text = S("");
        if (value->kind == JINJA_NONE || value->kind == JINJA_UNDEFINED) continue;
        TRY(jinja_str_arg(r, &v->as.dict->keys[i], &key));
        for (size_t k = 0; k < key.n; k++)
            if (strchr(" \t\n\v\f\r/>=", key.p[k]) != NULL)
                return jinja_fail(r, "Invalid character in attribute name: '%.*s'", STR(key));
        TRY(jinja_to_str(r, value, &text));
        TRY(jinja_step_bytes(r, key.n + text.n));
        if (space) jinja_text_put(r, S(" "));
        space = true;
        put_escaped(r, key);
        jinja_text_put(r, S("=\""));
        put_escaped(r, text);
        jinja_text_put(r, S("\""));
    }
    return jinja_text_take(r, begin, out);
}

/* The character that an entity at the start of s stands for and its bytes; 0 when it is none. */
static size_t entity_bytes(str s, uint32_t *code) {
    static const struct {
        const char *name;
        uint32_t code;
    } NAMED[] = {{"&amp;", '&'},  {"&lt;", '<'},    {"&gt;", '>'},
                 {"&quot;", '"'}, {"&apos;", '\''}, {"&nbsp;", 0xA0}};
    for (size_t i = 0; i < sizeof NAMED / sizeof *NAMED; i++) {
        *code = NAMED[i].code;
        if (str_starts(s, str_of(NAMED[i].name))) return strlen(NAMED[i].name);
    }
    const char *end = s.n > 3 && s.p[1] == '#' ? memchr(s.p, ';', num_min_size(s.n, 12)) : NULL;
    if (end == NULL) return 0;
    bool hex = (s.p[2] | 0x20) == 'x';
    str digits = {s.p + 2 + hex, (size_t)(end - s.p) - 2 - hex};
    jinja_int value = 0;
    if (!jinja_parse_int(digits, hex ? 16 : 10, &value) || value <= 0 || value > 0x10FFFF ||
        (value >= 0xD800 && value <= 0xDFFF))
        return 0;
    *code = (uint32_t)value;
    return (size_t)(end - s.p) + 1;
}

static void put_unescaped(jinja_run *r, str s) {
    while (s.n != 0) {
        const char *amp = memchr(s.p, '&', s.n);
        size_t n = amp != NULL ? (size_t)(amp - s.p) : s.n;
        uint32_t code = 0;
        jinja_text_put(r, (str){s.p, n});
        s = str_skip(s, n);
        if (s.n == 0) return;
        n = entity_bytes(s, &code);
        jinja_text_put_char(r, n != 0 ? code : '&');
        s = str_skip(s, n != 0 ? n : 1);
    }
}

/* Up to the end of what begins with <: a comment or a tag; 1 when it has no end. */
static size_t tag_bytes(str s) {
    bool comment = str_starts(s, S("<!--"));
    str end = comment ? S("-->") : S(">");
    const char *at = memmem(s.p, s.n, end.p, end.n);
    return at != NULL ? (size_t)(at - s.p) + end.n : 1;
}

FILTER(striptags) {
    str s = S("");
    jinja_value text, words;
    jinja_value spaces = {.kind = JINJA_MISSING};
    (void)a;
    TRY(jinja_to_str(r, v, &s));
    size_t begin = jinja_text_begin(r);
    while (s.n != 0) {
        const char *open = memchr(s.p, '<', s.n);
        size_t n = open != NULL ? (size_t)(open - s.p) : s.n;
        jinja_text_put(r, (str){s.p, n});
        s = str_skip(s, n);
        if (s.n == 0) break;
        TRY(jinja_step_bytes(r, s.n));
        n = tag_bytes(s);
        if (n == 1) jinja_text_put(r, S("<"));
        s = str_skip(s, n);
    }
    TRY(jinja_text_take(r, begin, &text));
    TRY(jinja_str_split(r, text.as.s, &spaces, -1, false, &words));
    TRY(jinja_str_join(r, S(" "), words.as.list->items, words.as.list->count, true, &text));
    put_unescaped(r, text.as.s);
    return jinja_text_take(r, begin, out);
}

/* --- URLs, sizes, JSON ---------------------------------------------------------------- */

static status put_quoted(jinja_run *r, const jinja_value *v, bool query) {
    static const char HEX[] = "0123456789ABCDEF";
    str s = S("");
    TRY(jinja_to_str(r, v, &s));
    TRY(jinja_step_bytes(r, 3 * s.n));
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '_' || c == '.' || c == '-' || c == '~' || (c == '/' && !query);
        if (query && c == ' ') c = '+';
        if (plain || c == '+') {
            if (c == '+' && s.p[i] == '+')
                jinja_text_put(r, S("%2B"));
            else
                buf_put_char(&r->text, (char)c);
            continue;
        }
        char quoted[3] = {'%', HEX[c >> 4], HEX[c & 15]};
        jinja_text_put(r, (str){quoted, 3});
    }
    return OK;
}

FILTER(urlencode) {
    jinja_value pairs = *v;
    const jinja_value *items = NULL, *pair = NULL;
    size_t count = 0, parts = 0, begin = jinja_text_begin(r);
    (void)a;
    if (v->kind == JINJA_STR || !jinja_is_iterable(v)) {
        TRY(put_quoted(r, v, false));
        return jinja_text_take(r, begin, out);
    }
    if (v->kind == JINJA_DICT) pairs.kind = JINJA_ITEMS;
    TRY(jinja_items(r, &pairs, &items, &count));
    for (size_t i = 0; i < count; i++) {
        TRY(jinja_items(r, &items[i], &pair, &parts));
        if (parts != 2) return jinja_fail(r, "urlencode wants pairs, found %zu values", parts);
        if (i != 0) jinja_text_put(r, S("&"));
        TRY(put_quoted(r, &pair[0], true));
        jinja_text_put(r, S("="));
        TRY(put_quoted(r, &pair[1], true));
    }
    return jinja_text_take(r, begin, out);
}

FILTER(filesizeformat) {
    static const char LETTERS[] = "kMGTPEZY";
    bool binary = jinja_flag_arg(&a[0], false);
    double base = binary ? 1024 : 1000, bytes = 0, unit = 0;
    char text[64];
    jinja_value number, none[JINJA_PARAMS_MAX] = {{.kind = JINJA_NONE}};
    TRY(jinja_filter_float(r, v, none, &number));
    if (number.kind == JINJA_NONE) return jinja_fail(r, "could not convert to float");
    bytes = number.as.f;
    if (!isfinite(bytes)) return jinja_fail(r, "a size that is not finite");
    if (bytes == 1) return jinja_text_copy(r, S("1 Byte"), out);
    if (bytes < base) {
        (void)snprintf(text, sizeof text, "%.0f Bytes", trunc(bytes));
        return jinja_text_copy(r, str_of(text), out);
    }
    size_t i = 0;
    for (unit = base * base; bytes >= unit && LETTERS[i + 1] != '\0'; unit *= base) i++;
    double shown = base * bytes / unit;
    if (shown > 1e40) return jinja_fail(r, "a size out of range");
    (void)snprintf(text, sizeof text, "%.1f %c%sB", shown, binary && i == 0 ? 'K' : LETTERS[i],
                   binary ? "i" : "");
    return jinja_text_copy(r, str_of(text), out);
}

/* As transformers define it, not as Jinja does: non-ASCII stays, nothing is escaped for HTML. */
FILTER(tojson) {
    bool indented = !jinja_is_missing(&a[1]) && a[1].kind != JINJA_NONE;
    str item_end = indented ? S(",") : S(", "), key_end = S(": ");
    if (!jinja_is_missing(&a[2]) && a[2].kind != JINJA_NONE) {
        const jinja_value *items = NULL;
        size_t count = 0;
        TRY(jinja_items(r, &a[2], &items, &count));
        if (count != 2) return jinja_fail(r, "separators are two, found %zu", count);
        TRY(jinja_str_arg(r, &items[0], &item_end));
        TRY(jinja_str_arg(r, &items[1], &key_end));
    }
    if (v->kind == JINJA_UNDEFINED)
        return jinja_fail(r, "Object of type Undefined is not JSON serializable");
    size_t begin = jinja_text_begin(r);
    TRY(jinja_put_json(r, v, &a[1], item_end, key_end, jinja_flag_arg(&a[0], false),
                       jinja_flag_arg(&a[3], false)));
    return jinja_text_take(r, begin, out);
}
