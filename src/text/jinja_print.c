/* jinja_print.c - values as text: str(), repr() and JSON. */
#include <inttypes.h>
#include <math.h>

#include "text/jinja_number.h"
#include "text/jinja_run.h"
#include "text/jinja_unicode.h"

/* --- repr ----------------------------------------------------------------------------- */

static void put_number(jinja_run *r, const jinja_value *v) {
    char text[JINJA_NUMBER_BYTES];
    size_t n =
        v->kind == JINJA_FLOAT ? jinja_write_float(text, v->as.f) : jinja_write_int(text, v->as.i);
    jinja_text_put(r, (str){text, n});
}

static void put_escaped(jinja_run *r, uint32_t c) {
    if (c == '\n')
        jinja_text_put(r, S("\\n"));
    else if (c == '\r')
        jinja_text_put(r, S("\\r"));
    else if (c == '\t')
        jinja_text_put(r, S("\\t"));
    else if (c <= 0xFF)
        jinja_text_printf(r, "\\x%02" PRIx32, c);
    else if (c <= 0xFFFF)
        jinja_text_printf(r, "\\u%04" PRIx32, c);
    else
        jinja_text_printf(r, "\\U%08" PRIx32, c);
}

/* In single quotes, or in double ones where only these need no escape. */
static void put_repr_str(jinja_run *r, str s) {
    bool has_single = s.n != 0 && memchr(s.p, '\'', s.n) != NULL;
    bool has_double = s.n != 0 && memchr(s.p, '"', s.n) != NULL;
    uint32_t quote = has_single && !has_double ? '"' : '\'';
    jinja_text_put_char(r, quote);
    while (s.n != 0) {
        uint32_t c = 0;
        size_t n = jinja_char_get(s, &c);
        if (c == quote || c == '\\') jinja_text_put_char(r, '\\');
        if (jinja_char_is_printable(c))
            jinja_text_put(r, (str){s.p, n});
        else
            put_escaped(r, c);
        s = str_skip(s, n);
    }
    jinja_text_put_char(r, quote);
}

static status put_items(jinja_run *r, const jinja_value *items, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (i != 0) jinja_text_put(r, S(", "));
        TRY(jinja_put_repr(r, &items[i]));
    }
    return OK;
}

static status put_entries(jinja_run *r, const jinja_dict *d) {
    jinja_text_put(r, S("{"));
    for (size_t i = 0; i < d->count; i++) {
        if (i != 0) jinja_text_put(r, S(", "));
        TRY(jinja_put_repr(r, &d->keys[i]));
        jinja_text_put(r, S(": "));
        TRY(jinja_put_repr(r, &d->values[i]));
    }
    jinja_text_put(r, S("}"));
    return OK;
}

static status put_pairs(jinja_run *r, const jinja_dict *d) {
    for (size_t i = 0; i < d->count; i++) {
        jinja_text_put(r, i != 0 ? S(", (") : S("("));
        TRY(jinja_put_repr(r, &d->keys[i]));
        jinja_text_put(r, S(", "));
        TRY(jinja_put_repr(r, &d->values[i]));
        jinja_text_put(r, S(")"));
    }
    return OK;
}

static void put_range(jinja_run *r, const jinja_range *g) {
    jinja_text_printf(r, "range(%" PRId64 ", %" PRId64, g->start, g->stop);
    if (g->step != 1) jinja_text_printf(r, ", %" PRId64, g->step);
    jinja_text_put(r, S(")"));
}

static status put_view(jinja_run *r, const jinja_value *v) {
    const jinja_dict *d = v->as.dict;
    jinja_text_printf(r, "%s([", jinja_kind_name(v->kind));
    if (v->kind == JINJA_ITEMS)
        TRY(put_pairs(r, d));
    else
        TRY(put_items(r, v->kind == JINJA_KEYS ? d->keys : d->values, d->count));
    jinja_text_put(r, S("])"));
    return OK;
}

static void put_macro(jinja_run *r, const jinja_macro *macro) {
    const jinja_node *node = macro->node;
    if (node->kind == JINJA_NODE_CALL_BLOCK) {
        jinja_text_put(r, S("<Macro anonymous>"));
        return;
    }
    jinja_text_put(r, S("<Macro "));
    put_repr_str(r, r->t->names[node->as.macro.name]);
    jinja_text_put(r, S(">"));
}

static status put_loop(jinja_run *r, jinja_loop *loop) {
    int64_t length = 0;
    TRY(jinja_loop_length(r, loop, &length));
    jinja_text_printf(r, "<LoopContext %" PRId64 "/%" PRId64 ">", loop->index0 + 1, length);
    return OK;
}

/* What has no text of its own in Python but an address: we show none. */
static void put_object(jinja_run *r, const jinja_value *v) {
    jinja_text_printf(r, "<%s object>", jinja_kind_name(v->kind));
}

static status put_repr_box(jinja_run *r, const jinja_value *v) {
    switch (v->kind) {
    case JINJA_LIST:
        jinja_text_put(r, S("["));
        TRY(put_items(r, v->as.list->items, v->as.list->count));
        jinja_text_put(r, S("]"));
        return OK;
    case JINJA_TUPLE:
        jinja_text_put(r, S("("));
        TRY(put_items(r, v->as.list->items, v->as.list->count));
        jinja_text_put(r, v->as.list->count == 1 ? S(",)") : S(")"));
        return OK;
    case JINJA_DICT:
        return put_entries(r, v->as.dict);
    case JINJA_KEYS:
    case JINJA_VALUES:
    case JINJA_ITEMS:
        return put_view(r, v);
    case JINJA_NAMESPACE:
        jinja_text_put(r, S("<Namespace "));
        TRY(put_entries(r, v->as.dict));
        jinja_text_put(r, S(">"));
        return OK;
    case JINJA_LOOP:
        return put_loop(r, v->as.loop);
    default:
        put_object(r, v);
        return OK;
    }
}

status jinja_put_repr(jinja_run *r, const jinja_value *v) {
    TRY(jinja_step(r, 1));
    if (r->text.failed) return buf_status(&r->text, "chat template", r->err);
    switch (v->kind) {
    case JINJA_UNDEFINED:
        jinja_text_put(r, S("Undefined"));
        return OK;
    case JINJA_NONE:
        jinja_text_put(r, S("None"));
        return OK;
    case JINJA_BOOL:
        jinja_text_put(r, v->as.b ? S("True") : S("False"));
        return OK;
    case JINJA_INT:
    case JINJA_FLOAT:
        put_number(r, v);
        return OK;
    case JINJA_STR:
        if (v->marked) jinja_text_put(r, S("Markup("));
        put_repr_str(r, v->as.s);
        if (v->marked) jinja_text_put(r, S(")"));
        return OK;
    case JINJA_RANGE:
        put_range(r, v->as.range);
        return OK;
    case JINJA_MACRO:
        put_macro(r, v->as.macro);
        return OK;
    default:
        break;
    }
    if (++r->value_depth > JINJA_VALUE_DEPTH_MAX) return jinja_deep(r);
    TRY(put_repr_box(r, v));
    r->value_depth--;
    return OK;
}

status jinja_put_str(jinja_run *r, const jinja_value *v) {
    if (v->kind == JINJA_UNDEFINED) return OK;
    if (v->kind != JINJA_STR) return jinja_put_repr(r, v);
    jinja_text_put(r, v->as.s);
    return jinja_step(r, 1);
}

status jinja_to_str(jinja_run *r, const jinja_value *v, str *out) {
    jinja_value made = *v;
    if (v->kind != JINJA_STR) {
        size_t begin = jinja_text_begin(r);
        TRY(jinja_put_str(r, v));
        TRY(jinja_text_take(r, begin, &made));
    }
    *out = made.as.s;
    return OK;
}

/* --- JSON ----------------------------------------------------------------------------- */

typedef struct json_style {
    str indent; /* of one level; p == NULL: all on one line */
    str item_end;
    str key_end;
    bool ascii;
    bool sort_keys;
    uint32_t level;
} json_style;

static status put_json(jinja_run *r, const jinja_value *v, json_style *s);

static void put_json_escape(jinja_run *r, uint32_t c) {
    if (c < 0x10000) {
        jinja_text_printf(r, "\\u%04" PRIx32, c);
        return;
    }
    jinja_text_printf(r, "\\u%04" PRIx32 "\\u%04" PRIx32, 0xD7C0 + (c >> 10), 0xDC00 + (c & 0x3FF));
}

static void put_json_str(jinja_run *r, str s, bool ascii) {
    static const char FROM[] = "\"\\\n\r\t\b\f", TO[] = "\"\\nrtbf";
    jinja_text_put_char(r, '"');
    while (s.n != 0) {
        uint32_t c = 0;
        size_t n = jinja_char_get(s, &c);
        const char *short_form = c != 0 && c < 0x80 ? strchr(FROM, (int)c) : NULL;
        if (short_form != NULL) {
            jinja_text_put_char(r, '\\');
            jinja_text_put_char(r, (unsigned char)TO[short_form - FROM]);
        } else if (c < 0x20 || (ascii && c > 0x7E)) {
            put_json_escape(r, c);
        } else {
            jinja_text_put(r, (str){s.p, n});
        }
        s = str_skip(s, n);
    }
    jinja_text_put_char(r, '"');
}

static void put_json_line(jinja_run *r, const json_style *s) {
    if (s->indent.p == NULL) return;
    jinja_text_put_char(r, '\n');
    for (uint32_t i = 0; i < s->level; i++) jinja_text_put(r, s->indent);
}

static status put_json_list(jinja_run *r, const jinja_list *list, json_style *s) {
    if (list->count == 0) {
        jinja_text_put(r, S("[]"));
        return OK;
    }
    jinja_text_put_char(r, '[');
    s->level++;
    for (size_t i = 0; i < list->count; i++) {
        if (i != 0) jinja_text_put(r, s->item_end);
        put_json_line(r, s);
        TRY(put_json(r, &list->items[i], s));
    }
    s->level--;
    put_json_line(r, s);
    jinja_text_put_char(r, ']');
    return OK;
}

/* Keys become strings, as json.dumps makes them. */
static status put_json_key(jinja_run *r, const jinja_value *key, json_style *s) {
    if (key->kind == JINJA_STR) return put_json(r, key, s);
    if (key->kind != JINJA_NONE && !jinja_is_number(key))
        return jinja_fail(r, "keys must be str, int, float, bool or None, not %s",
                          jinja_kind_name(key->kind));
    jinja_text_put_char(r, '"');
    TRY(put_json(r, key, s));
    jinja_text_put_char(r, '"');
    return OK;
}

/* A copy with the keys in order. */
static status sort_dict(jinja_run *r, const jinja_dict **d) {
    jinja_value copy;
    TRY(jinja_dict_new(r, (*d)->count, &copy));
    jinja_dict *sorted = copy.as.dict;
    sorted->count = (*d)->count;
    if (sorted->count == 0) return OK;
    memcpy(sorted->keys, (*d)->keys, sorted->count * sizeof *sorted->keys);
    memcpy(sorted->values, (*d)->values, sorted->count * sizeof *sorted->values);
    TRY(jinja_sort(r, sorted->keys, sorted->values, sorted->count, false));
    *d = sorted;
    return OK;
}

static status put_json_dict(jinja_run *r, const jinja_dict *d, json_style *s) {
    if (d->count == 0) {
        jinja_text_put(r, S("{}"));
        return OK;
    }
    if (s->sort_keys) TRY(sort_dict(r, &d));
    jinja_text_put_char(r, '{');
    s->level++;
    for (size_t i = 0; i < d->count; i++) {
        if (i != 0) jinja_text_put(r, s->item_end);
        put_json_line(r, s);
        TRY(put_json_key(r, &d->keys[i], s));
        jinja_text_put(r, s->key_end);
        TRY(put_json(r, &d->values[i], s));
    }
    s->level--;
    put_json_line(r, s);
    jinja_text_put_char(r, '}');
    return OK;
}

static void put_json_float(jinja_run *r, const jinja_value *v) {
    if (isfinite(v->as.f))
        put_number(r, v);
    else
        jinja_text_put(r, isnan(v->as.f) ? S("NaN") : v->as.f > 0 ? S("Infinity") : S("-Infinity"));
}

static status put_json_box(jinja_run *r, const jinja_value *v, json_style *s) {
    if (++r->value_depth > JINJA_VALUE_DEPTH_MAX) return jinja_deep(r);
    if (v->kind == JINJA_DICT)
        TRY(put_json_dict(r, v->as.dict, s));
    else
        TRY(put_json_list(r, v->as.list, s));
    r->value_depth--;
    return OK;
}

static status put_json(jinja_run *r, const jinja_value *v, json_style *s) {
    TRY(jinja_step(r, 1));
    if (r->text.failed) return buf_status(&r->text, "chat template", r->err);
    switch (v->kind) {
    case JINJA_NONE:
        jinja_text_put(r, S("null"));
        return OK;
    case JINJA_BOOL:
        jinja_text_put(r, v->as.b ? S("true") : S("false"));
        return OK;
    case JINJA_INT:
        put_number(r, v);
        return OK;
    case JINJA_FLOAT:
        put_json_float(r, v);
        return OK;
    case JINJA_STR:
        put_json_str(r, v->as.s, s->ascii);
        return OK;
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_DICT:
        return put_json_box(r, v, s);
    default:
        return jinja_fail(r, "Object of type %s is not JSON serializable",
                          jinja_kind_name(v->kind));
    }
}

status jinja_put_json(jinja_run *r, const jinja_value *v, const jinja_value *indent, str item_end,
                      str key_end, bool ascii, bool sort_keys) {
    static const char SPACES[] = "                                                                ";
    json_style s = {
        .item_end = item_end, .key_end = key_end, .ascii = ascii, .sort_keys = sort_keys};
    int64_t width = 0;
    if (indent->kind == JINJA_STR) {
        s.indent = indent->as.s;
    } else if (indent->kind != JINJA_NONE && !jinja_is_missing(indent)) {
        TRY(jinja_int_arg(r, indent, &width));
        if (width > (int64_t)sizeof SPACES - 1)
            return jinja_fail(r, "indent of %" PRId64 ", at most %zu", width, sizeof SPACES - 1);
        s.indent = (str){SPACES, (size_t)(width > 0 ? width : 0)};
    }
    return put_json(r, v, &s);
}
