/* jinja_filters.c - the table of filters, and those that work on single values. */
#include "text/jinja_filters.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/jinja_number.h"

/* --- numbers -------------------------------------------------------------------------- */

status jinja_filter_abs(jinja_run *r, const jinja_value *v, const jinja_value *a,
                        jinja_value *out) {
    (void)a;
    if (v->kind == JINJA_UNDEFINED || !jinja_is_number(v))
        return v->kind == JINJA_UNDEFINED
                   ? jinja_fail_undefined(r, v)
                   : jinja_fail(r, "bad operand type for abs(): '%s'", jinja_kind_name(v->kind));
    bool minus = v->kind == JINJA_FLOAT ? signbit(v->as.f) != 0 : jinja_int_of(v) < 0;
    return jinja_sign(r, minus, v, out);
}

static bool to_float(const jinja_value *v, double *out) {
    if (jinja_is_number(v)) {
        *out = jinja_float_of(v);
        return true;
    }
    return v->kind == JINJA_STR && jinja_parse_float(v->as.s, out);
}

status jinja_filter_float(jinja_run *r, const jinja_value *v, const jinja_value *a,
                          jinja_value *out) {
    double f = 0;
    if (v->kind == JINJA_UNDEFINED) return jinja_fail_undefined(r, v);
    if (v->kind == JINJA_STR) TRY(jinja_step_bytes(r, v->as.s.n));
    if (to_float(v, &f))
        *out = jinja_float(f);
    else
        *out = jinja_is_missing(&a[0]) ? jinja_float(0.0) : a[0];
    return OK;
}

/* int(), or else int(float()), or else the default; infinity is an error of its own. */
status jinja_filter_int(jinja_run *r, const jinja_value *v, const jinja_value *a,
                        jinja_value *out) {
    int64_t base = 10;
    jinja_int i = 0;
    double f = 0;
    if (v->kind == JINJA_UNDEFINED) return jinja_fail_undefined(r, v);
    if (!jinja_is_missing(&a[1])) TRY(jinja_int_arg(r, &a[1], &base));
    *out = jinja_is_missing(&a[0]) ? jinja_integer(0) : a[0];
    if (v->kind == JINJA_STR) TRY(jinja_step_bytes(r, v->as.s.n));
    bool base_fits = base == 0 || (base >= 2 && base <= 36);
    if (v->kind == JINJA_STR && base_fits && jinja_parse_int(v->as.s, (int)base, &i)) {
        *out = jinja_integer(i);
    } else if (jinja_is_int(v)) {
        *out = jinja_integer(jinja_int_of(v));
    } else if (to_float(v, &f) && !isnan(f)) {
        if (!jinja_float_to_int(f, &i))
            return jinja_fail(r, "cannot convert float to integer: too large");
        *out = jinja_integer(i);
    }
    return OK;
}

/* Half to even, by the decimal digits of the value as the C library rounds them. */
static double round_common(double v, int64_t precision) {
    char text[700];
    if (!isfinite(v) || precision > 300) return v;
    if (precision < 0) {
        if (precision < -308) return copysign(0.0, v);
        double power = pow(10.0, (double)-precision), scaled = v / power;
        return nearbyint(scaled) * power;
    }
    (void)snprintf(text, sizeof text, "%.*f", (int)precision, v);
    return strtod(text, NULL);
}

/* An integer stays one; a negative precision rounds it half to even. */
static status round_int(jinja_run *r, jinja_int v, int64_t precision, jinja_value *out) {
    jinja_int power = 1;
    *out = jinja_integer(v);
    if (precision >= 0) return OK;
    for (int64_t i = 0; i > precision; i--)
        if (__builtin_mul_overflow(power, (jinja_int)10, &power)) {
            *out = jinja_integer(0);
            return OK;
        }
    jinja_int size = v < 0 ? -v : v, rest = size % power, down = size - rest;
    bool up = rest > power - rest || (rest == power - rest && (down / power) % 2 != 0);
    if (up && __builtin_add_overflow(down, power, &down)) return jinja_fail(r, "integer too large");
    *out = jinja_integer(v < 0 ? -down : down);
    return OK;
}

status jinja_filter_round(jinja_run *r, const jinja_value *v, const jinja_value *a,
                          jinja_value *out) {
    int64_t precision = 0;
    str method = S("common");
    if (!jinja_is_missing(&a[0])) TRY(jinja_int_arg(r, &a[0], &precision));
    if (!jinja_is_missing(&a[1])) TRY(jinja_str_arg(r, &a[1], &method));
    bool ceiling = str_eq_c(method, "ceil"), down = str_eq_c(method, "floor");
    if (!ceiling && !down && !str_eq_c(method, "common"))
        return jinja_fail(r, "method must be common, ceil or floor");
    if (v->kind == JINJA_UNDEFINED) return jinja_fail_undefined(r, v);
    if (!jinja_is_number(v))
        return jinja_fail(r, "type %s doesn't define __round__ method", jinja_kind_name(v->kind));
    if (jinja_is_int(v) && !ceiling && !down) return round_int(r, jinja_int_of(v), precision, out);
    if (!ceiling && !down) {
        *out = jinja_float(round_common(v->as.f, precision));
        return OK;
    }
    double power = pow(10.0, (double)precision), scaled = jinja_float_of(v) * power;
    if (!isfinite(scaled) || power == 0) return jinja_fail(r, "a number out of range in round");
    *out = jinja_float((ceiling ? ceil(scaled) : floor(scaled)) / power);
    return OK;
}

/* --- any value ------------------------------------------------------------------------ */

status jinja_filter_default(jinja_run *r, const jinja_value *v, const jinja_value *a,
                            jinja_value *out) {
    (void)r;
    bool given = v->kind != JINJA_UNDEFINED && (!jinja_flag_arg(&a[1], false) || jinja_truth(v));
    *out = given ? *v : jinja_is_missing(&a[0]) ? jinja_text(S("")) : a[0];
    return OK;
}

status jinja_filter_length(jinja_run *r, const jinja_value *v, const jinja_value *a,
                           jinja_value *out) {
    size_t n = 0;
    (void)a;
    TRY(jinja_length(r, v, &n));
    *out = jinja_integer((jinja_int)n);
    return OK;
}

/* Only what is an attribute, never an item. */
status jinja_filter_attr(jinja_run *r, const jinja_value *v, const jinja_value *a,
                         jinja_value *out) {
    str name = S("");
    jinja_value found;
    TRY(jinja_str_arg(r, &a[0], &name));
    TRY(jinja_attribute(r, v, name, &found));
    bool item = v->kind == JINJA_DICT && jinja_method_find(JINJA_DICT, name) == NULL;
    *out = found;
    if (item)
        *out = (jinja_value){.kind = JINJA_UNDEFINED,
                             .undefined = JINJA_UNDEFINED_ATTRIBUTE,
                             .of = v->kind,
                             .as.s = name};
    return OK;
}

/* --- the table ------------------------------------------------------------------------ */

static status filter_format(jinja_run *r, const jinja_value *v, const jinja_args *args,
                            jinja_value *out) {
    str format = S("");
    jinja_value values;
    TRY(jinja_to_str(r, v, &format));
    if (args->count != 0 && args->keywords_count != 0)
        return jinja_fail(r, "can't handle positional and keyword arguments at the same time");
    if (args->keywords_count != 0) {
        TRY(jinja_dict_new(r, args->keywords_count, &values));
        for (size_t i = 0; i < args->keywords_count; i++) {
            jinja_value key = jinja_text(args->keywords[i].name);
            TRY(jinja_dict_set(r, values.as.dict, &key, &args->keywords[i].value));
        }
    } else {
        TRY(jinja_list_new(r, JINJA_TUPLE, args->count, &values));
        for (size_t i = 0; i < args->count; i++)
            TRY(jinja_list_add(r, values.as.list, &args->items[i]));
    }
    return jinja_percent(r, format, &values, out);
}

#define FILTER_ROW(id, parameters, needed) \
    {.name = #id, .params = parameters, .required = needed, .bound = jinja_filter_##id},

static const jinja_def FILTERS[] = {
    JINJA_TEXT_FILTERS(FILTER_ROW) JINJA_VALUE_FILTERS(FILTER_ROW) JINJA_LIST_FILTERS(FILTER_ROW)
    /* second names */
    {.name = "count", .params = "", .bound = jinja_filter_length},
    {.name = "d", .params = "default_value boolean", .bound = jinja_filter_default},
    {.name = "e", .params = "", .bound = jinja_filter_escape},
    /* arguments as they are */
    {.name = "format", .raw = filter_format},
    {.name = "map", .raw = jinja_filter_map},
    {.name = "reject", .raw = jinja_filter_reject},
    {.name = "rejectattr", .raw = jinja_filter_rejectattr},
    {.name = "select", .raw = jinja_filter_select},
    {.name = "selectattr", .raw = jinja_filter_selectattr},
};

const jinja_def *jinja_filter_find(str name) {
    return jinja_def_find(FILTERS, sizeof FILTERS / sizeof *FILTERS, name);
}
