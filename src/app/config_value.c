/* config_value.c - text to value, by the option's type, and into its field. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "app/config_internal.h"
#include "base/assert.h"

/* A value as parsed; lists get one element at a time. */
typedef union value {
    bool b;
    uint32_t u32; /* also choices and milliseconds */
    uint64_t u64;
    float f32;
    str text;
    config_numbers numbers;
} value;

/* --- numbers --------------------------------------------------------------------------- */

static bool within(const config_option *o, double v) { return v >= o->min && v <= o->max; }

/* "--port: 99999 is outside 0 to 65535"; `unit` is "", " bytes" or " ms". */
static status outside(const config_option *o, str text, const char *unit, const char *label,
                      error *err) {
    if (o->type == CONFIG_F32)
        return error_set(err, ERR_INVALID, "%s: %.*s is outside %g to %g", label, STR(text), o->min,
                         o->max);
    if (o->type == CONFIG_U64) /* its limit is no double */
        return error_set(err, ERR_INVALID, "%s: %.*s is outside 0 to %" PRIu64, label, STR(text),
                         UINT64_MAX);
    return error_set(err, ERR_INVALID, "%s: %.*s is outside %.0f to %.0f%s", label, STR(text),
                     o->min, o->max, unit);
}

static status not_a(const char *what, str text, const char *label, error *err) {
    text.n = text.n < 60 ? text.n : 60;
    return error_set(err, ERR_INVALID, "%s: want %s, found '%.*s'", label, what, STR(text));
}

static status parse_whole(const config_option *o, str text, uint64_t *out, const char *label,
                          error *err) {
    bool digits = text.n != 0;
    if (o->type == CONFIG_U32 && o->choices != NULL && str_eq(text, str_of(o->choices))) {
        *out = (uint64_t)o->max;
        return OK;
    }
    for (size_t i = 0; i < text.n; i++) digits = digits && text.p[i] >= '0' && text.p[i] <= '9';
    if (!digits) return not_a("a whole number", text, label, err);
    if (!str_to_u64(text, out) || !within(o, (double)*out)) return outside(o, text, "", label, err);
    return OK;
}

static status parse_f32(const config_option *o, str text, float *out, const char *label,
                        error *err) {
    double v = 0;
    if (!str_to_f64(text, &v) || !isfinite(v)) return not_a("a number", text, label, err);
    if (!within(o, v)) return outside(o, text, "", label, err);
    *out = (float)v;
    return OK;
}

typedef struct unit {
    const char *name; /* any case */
    double factor;
} unit;

static const unit byte_units[] = {
    {"", 1},         {"b", 1},       {"kib", 0x1p10}, {"mib", 0x1p20}, {"gib", 0x1p30},
    {"tib", 0x1p40}, {"ki", 0x1p10}, {"mi", 0x1p20},  {"gi", 0x1p30},  {"ti", 0x1p40},
    {"kb", 1e3},     {"mb", 1e6},    {"gb", 1e9},     {"tb", 1e12},    {NULL, 0}};
static const unit time_units[] = {{"", 1},        {"ms", 1},      {"s", 1000}, {"m", 60000},
                                  {"min", 60000}, {"h", 3600000}, {NULL, 0}};

/* "1.5GiB", "30 s": digits with a fraction, blanks, a unit.  False when it is not that. */
static bool parse_quantity(str text, const unit *units, double *out) {
    size_t n = 0;
    while (n < text.n && ((text.p[n] >= '0' && text.p[n] <= '9') || text.p[n] == '.')) n++;
    str number = {text.p, n}, name = str_skip(text, n);
    while (name.n != 0 && name.p[0] == ' ') name = str_skip(name, 1);
    if (!str_to_f64(number, out)) return false;
    for (; units->name != NULL; units++) {
        if (!str_eq_nocase(name, str_of(units->name))) continue;
        *out *= units->factor;
        return true;
    }
    return false;
}

static status parse_bytes(const config_option *o, str text, uint64_t *out, const char *label,
                          error *err) {
    double v = 0;
    if (o->choices != NULL && str_eq(text, str_of(o->choices))) {
        *out = CONFIG_BYTES_AUTO;
        return OK;
    }
    if (!parse_quantity(text, byte_units, &v))
        return not_a("a size such as 512MiB or 8GiB", text, label, err);
    if (!within(o, v)) return outside(o, text, " bytes", label, err);
    *out = (uint64_t)v;
    return OK;
}

static status parse_ms(const config_option *o, str text, uint32_t *out, const char *label,
                       error *err) {
    double v = 0;
    if (!parse_quantity(text, time_units, &v))
        return not_a("a time such as 250ms or 30s", text, label, err);
    if (!within(o, v)) return outside(o, text, " ms", label, err);
    *out = (uint32_t)v;
    return OK;
}

static status parse_numbers(const config_option *o, str text, config_numbers *out,
                            const char *label, error *err) {
    out->count = 0;
    for (;;) {
        const char *comma = text.n != 0 ? memchr(text.p, ',', text.n) : NULL;
        str item = {text.p, comma != NULL ? (size_t)(comma - text.p) : text.n};
        uint64_t v = 0;
        TRY(parse_whole(o, item, &v, label, err));
        if (out->count == CONFIG_LIST_MAX)
            return error_set(err, ERR_INVALID, "%s: more than %d numbers", label, CONFIG_LIST_MAX);
        out->items[out->count++] = (uint32_t)v;
        if (comma == NULL) return OK;
        text = str_skip(text, item.n + 1);
    }
}

/* --- words ----------------------------------------------------------------------------- */

static status parse_bool(str text, bool *out, const char *label, error *err) {
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!str_eq_nocase(text, str_of(words[i]))) continue;
        *out = i % 2 == 1;
        return OK;
    }
    return not_a("true or false", text, label, err);
}

/* Cuts the part before `separator` off *rest; false when nothing is left. */
static bool next_part(str *rest, char separator, str *part) {
    if (rest->p == NULL) return false;
    const char *end = rest->n != 0 ? memchr(rest->p, separator, rest->n) : NULL;
    *part = (str){rest->p, end != NULL ? (size_t)(end - rest->p) : rest->n};
    *rest = end != NULL ? str_skip(*rest, part->n + 1) : (str){NULL, 0};
    return true;
}

bool config_choice_name(const config_option *o, uint32_t i, str *out) {
    str rest = str_of(o->choices), names = {0};
    for (uint32_t at = 0; next_part(&rest, '|', &names); at++)
        if (at == i) return next_part(&names, '/', out);
    return false;
}

static status parse_choice(const config_option *o, str text, uint32_t *out, const char *label,
                           error *err) {
    str rest = str_of(o->choices), names = {0}, name = {0};
    for (uint32_t i = 0; next_part(&rest, '|', &names); i++) {
        while (next_part(&names, '/', &name)) {
            if (!str_eq(text, name)) continue;
            *out = i;
            return OK;
        }
    }
    char list[160] = "";
    size_t n = 0;
    for (uint32_t i = 0; config_choice_name(o, i, &name) && n < sizeof list; i++)
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%.*s", i != 0 ? ", " : "", STR(name));
    text.n = text.n < 60 ? text.n : 60;
    return error_set(err, ERR_INVALID, "%s: '%.*s' is not one of %s", label, STR(text), list);
}

/* Secrets pass here, so the message shows no text. */
static status parse_text(const config_option *o, str text, str *out, const char *label,
                         error *err) {
    if (text.n != 0 && memchr(text.p, '\0', text.n) != NULL)
        return error_set(err, ERR_INVALID, "%s: contains a NUL byte", label);
    if (text.n == 0 && o->min > 0) return error_set(err, ERR_INVALID, "%s: is empty", label);
    if (!within(o, (double)text.n))
        return error_set(err, ERR_INVALID, "%s: %zu bytes long, at most %.0f are allowed", label,
                         text.n, o->max);
    *out = text;
    return OK;
}

/* --- into the field -------------------------------------------------------------------- */

static status parse(const config_option *o, str text, value *v, const char *label, error *err) {
    switch (o->type) {
    case CONFIG_BOOL:
        return parse_bool(text, &v->b, label, err);
    case CONFIG_U32: {
        uint64_t wide = 0;
        TRY(parse_whole(o, text, &wide, label, err));
        v->u32 = (uint32_t)wide;
        return OK;
    }
    case CONFIG_U64:
        return parse_whole(o, text, &v->u64, label, err);
    case CONFIG_BYTES:
        return parse_bytes(o, text, &v->u64, label, err);
    case CONFIG_MS:
        return parse_ms(o, text, &v->u32, label, err);
    case CONFIG_F32:
        return parse_f32(o, text, &v->f32, label, err);
    case CONFIG_CHOICE:
        return parse_choice(o, text, &v->u32, label, err);
    case CONFIG_NUMBERS:
        return parse_numbers(o, text, &v->numbers, label, err);
    case CONFIG_STR:
    case CONFIG_LIST:
        return parse_text(o, text, &v->text, label, err);
    }
    return OK;
}

static status keep_text(config *c, str text, str *out, const char *label, error *err) {
    str copy = arena_dup(&c->memory, text);
    if (copy.p == NULL)
        return error_set(err, ERR_LIMIT, "%s: no memory for %zu bytes of options", label, text.n);
    *out = copy;
    return OK;
}

static status append(config *c, config_list *list, str text, bool first, const char *label,
                     error *err) {
    str copy = {0};
    if (!first && list->count == CONFIG_LIST_MAX)
        return error_set(err, ERR_INVALID, "%s: more than %d of them", label, CONFIG_LIST_MAX);
    TRY(keep_text(c, text, &copy, label, err));
    if (first) list->count = 0;
    list->items[list->count++] = copy;
    return OK;
}

/* `first`: nothing from this source stands in the field yet. */
static status store(config *c, const config_option *o, const value *v, bool first,
                    const char *label, error *err) {
    void *field = (char *)c + o->offset;
    switch (o->type) {
    case CONFIG_BOOL:
        memcpy(field, &v->b, sizeof v->b);
        return OK;
    case CONFIG_U32:
    case CONFIG_MS:
    case CONFIG_CHOICE:
        memcpy(field, &v->u32, sizeof v->u32);
        return OK;
    case CONFIG_U64:
    case CONFIG_BYTES:
        memcpy(field, &v->u64, sizeof v->u64);
        return OK;
    case CONFIG_F32:
        memcpy(field, &v->f32, sizeof v->f32);
        return OK;
    case CONFIG_NUMBERS:
        memcpy(field, &v->numbers, sizeof v->numbers);
        return OK;
    case CONFIG_STR:
        return keep_text(c, v->text, field, label, err);
    case CONFIG_LIST:
        return append(c, field, v->text, first, label, err);
    }
    return OK;
}

status config_value_default(config *c, const config_option *o, error *err) {
    str text = str_of(o->def);
    value v = {0};
    if (o->type == CONFIG_LIST) { /* no list has items to begin with */
        ASSERT(text.n == 0);
        return OK;
    }
    if (o->type == CONFIG_STR) /* an empty text is "not given" even where none may be given */
        return keep_text(c, text, (str *)(void *)((char *)c + o->offset), o->flag, err);
    TRY(parse(o, text, &v, o->flag, err));
    return store(c, o, &v, true, o->flag, err);
}

status config_value_set(config *c, const config_option *o, str text, config_source source,
                        const char *label, error *err) {
    uint8_t *have = &c->sources[config_option_index(o)];
    value v = {0};
    TRY(parse(o, text, &v, label, err));
    if (!config_option_is_for(o, c->cmd) || *have > (uint8_t)source) return OK;
    TRY(store(c, o, &v, *have < (uint8_t)source, label, err));
    *have = (uint8_t)source;
    return OK;
}
