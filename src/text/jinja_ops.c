/* jinja_ops.c - arithmetic, as Python does it: / is of floats, // and % round down, + joins and
 * * repeats strings, lists and tuples, % formats a string. */
#include <inttypes.h>
#include <math.h>

#include "base/num.h"
#include "text/jinja_filters.h"
#include "text/jinja_number.h"
#include "text/jinja_run.h"

static status too_large(jinja_run *r) {
    return jinja_fail(r, "integer too large: more than 127 bits");
}

static status wrong_types(jinja_run *r, uint8_t op, const jinja_value *a, const jinja_value *b) {
    return jinja_fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", jinja_token_words(op),
                      jinja_kind_name(a->kind), jinja_kind_name(b->kind));
}

/* --- integers ------------------------------------------------------------------------- */

static status floor_int(jinja_run *r, bool modulo, jinja_int a, jinja_int b, jinja_value *out) {
    if (b == 0) return jinja_fail(r, "ZeroDivisionError: integer division or modulo by zero");
    if (b == -1) { /* the one quotient that may not fit */
        jinja_int q = 0;
        if (!modulo && __builtin_sub_overflow((jinja_int)0, a, &q)) return too_large(r);
        *out = jinja_integer(q);
        return OK;
    }
    jinja_int quotient = a / b, rest = a % b;
    if (rest != 0 && (rest < 0) != (b < 0)) {
        quotient--;
        rest += b;
    }
    *out = jinja_integer(modulo ? rest : quotient);
    return OK;
}

static status power_int(jinja_run *r, jinja_int base, jinja_int exponent, jinja_value *out) {
    jinja_int v = 1;
    if (exponent < 0) {
        if (base == 0)
            return jinja_fail(r, "ZeroDivisionError: 0.0 cannot be raised to a negative power");
        *out = jinja_float(pow((double)base, (double)exponent));
        return OK;
    }
    if (base == 0 || base == 1 || base == -1) { /* the only ones with long exponents */
        bool odd = exponent % 2 != 0;
        *out = jinja_integer(exponent == 0 ? 1 : base == -1 && !odd ? 1 : base);
        return OK;
    }
    for (; exponent > 0; exponent--)
        if (__builtin_mul_overflow(v, base, &v)) return too_large(r);
    *out = jinja_integer(v);
    return OK;
}

static status binary_int(jinja_run *r, uint8_t op, jinja_int a, jinja_int b, jinja_value *out) {
    jinja_int v = 0;
    bool over = false;
    switch (op) {
    case JINJA_TOKEN_ADD:
        over = __builtin_add_overflow(a, b, &v);
        break;
    case JINJA_TOKEN_SUB:
        over = __builtin_sub_overflow(a, b, &v);
        break;
    case JINJA_TOKEN_MUL:
        over = __builtin_mul_overflow(a, b, &v);
        break;
    case JINJA_TOKEN_FLOORDIV:
    case JINJA_TOKEN_MOD:
        return floor_int(r, op == JINJA_TOKEN_MOD, a, b, out);
    default:
        return power_int(r, a, b, out);
    }
    if (over) return too_large(r);
    *out = jinja_integer(v);
    return OK;
}

/* --- floats --------------------------------------------------------------------------- */

static double modulo_float(double a, double b) {
    double m = fmod(a, b);
    if (m == 0) return copysign(0.0, b);
    return (m < 0) != (b < 0) ? m + b : m;
}

static double floor_float(double a, double b) {
    double q = (a - modulo_float(a, b)) / b;
    if (q == 0) return copysign(0.0, a / b);
    double down = floor(q);
    return q - down > 0.5 ? down + 1.0 : down;
}

static status power_float(jinja_run *r, double a, double b, jinja_value *out) {
    if (a == 0 && b < 0)
        return jinja_fail(r, "ZeroDivisionError: 0.0 cannot be raised to a negative power");
    if (a < 0 && isfinite(a) && isfinite(b) && b != floor(b))
        return jinja_fail(r, "a negative number to a fractional power is complex");
    double v = pow(a, b);
    if (isinf(v) && isfinite(a) && isfinite(b))
        return jinja_fail(r, "OverflowError: result too large");
    *out = jinja_float(v);
    return OK;
}

static status binary_float(jinja_run *r, uint8_t op, double a, double b, jinja_value *out) {
    bool divides = op == JINJA_TOKEN_DIV || op == JINJA_TOKEN_FLOORDIV || op == JINJA_TOKEN_MOD;
    if (divides && b == 0) return jinja_fail(r, "ZeroDivisionError: float division by zero");
    switch (op) {
    case JINJA_TOKEN_ADD:
        *out = jinja_float(a + b);
        return OK;
    case JINJA_TOKEN_SUB:
        *out = jinja_float(a - b);
        return OK;
    case JINJA_TOKEN_MUL:
        *out = jinja_float(a * b);
        return OK;
    case JINJA_TOKEN_DIV:
        *out = jinja_float(a / b);
        return OK;
    case JINJA_TOKEN_FLOORDIV:
        *out = jinja_float(floor_float(a, b));
        return OK;
    case JINJA_TOKEN_MOD:
        *out = jinja_float(modulo_float(a, b));
        return OK;
    default:
        return power_float(r, a, b, out);
    }
}

/* --- sequences ------------------------------------------------------------------------ */

static bool is_list(const jinja_value *v) {
    return v->kind == JINJA_LIST || v->kind == JINJA_TUPLE;
}

static status join(jinja_run *r, const jinja_value *a, const jinja_value *b, jinja_value *out) {
    if (a->kind == JINJA_STR) {
        jinja_value left = *a, right = *b;
        if (a->marked) TRY(jinja_filter_escape(r, b, NULL, &right));
        if (b->marked) TRY(jinja_filter_escape(r, a, NULL, &left));
        size_t begin = jinja_text_begin(r);
        jinja_text_put(r, left.as.s);
        jinja_text_put(r, right.as.s);
        TRY(jinja_text_take(r, begin, out));
        out->marked = a->marked || b->marked;
        return OK;
    }
    const jinja_list *x = a->as.list, *y = b->as.list;
    TRY(jinja_list_new(r, a->kind, x->count + y->count, out));
    if (x->count != 0) memcpy(out->as.list->items, x->items, x->count * sizeof *x->items);
    if (y->count != 0)
        memcpy(out->as.list->items + x->count, y->items, y->count * sizeof *y->items);
    out->as.list->count = x->count + y->count;
    return OK;
}

/* How often, no more than could ever fit. */
static status times_of(jinja_run *r, const jinja_value *times, size_t bytes, size_t *out) {
    jinja_int n = jinja_int_of(times);
    size_t limit = r->env->limits.memory_bytes_max;
    if (n <= 0 || bytes == 0) n = 0;
    if (n > 0 && (n > (jinja_int)limit || (size_t)n > limit / bytes))
        return error_set(r->err, ERR_LIMIT,
                         "chat template: line %" PRIu32
                         ": a repetition needs more than the %zu bytes "
                         "it may have",
                         r->line, limit);
    *out = (size_t)n;
    return OK;
}

static status repeat(jinja_run *r, const jinja_value *v, const jinja_value *times,
                     jinja_value *out) {
    size_t n = 0;
    if (v->kind == JINJA_STR) {
        void *p = NULL;
        TRY(times_of(r, times, v->as.s.n, &n));
        TRY(jinja_step_bytes(r, n * v->as.s.n));
        TRY(jinja_take(r, n * v->as.s.n + 1, 1, &p));
        for (size_t i = 0; i < n; i++) memcpy((char *)p + i * v->as.s.n, v->as.s.p, v->as.s.n);
        *out = jinja_text((str){p, n * v->as.s.n});
        return OK;
    }
    const jinja_list *list = v->as.list;
    TRY(times_of(r, times, list->count * sizeof *list->items, &n));
    TRY(jinja_list_new(r, v->kind, n * list->count, out));
    for (size_t i = 0; i < n; i++)
        memcpy(out->as.list->items + i * list->count, list->items,
               list->count * sizeof *list->items);
    out->as.list->count = n * list->count;
    return OK;
}

/* --- the doors ------------------------------------------------------------------------ */

/* What + and * do with sequences; *done is false when these are none. */
static status binary_sequence(jinja_run *r, uint8_t op, const jinja_value *a, const jinja_value *b,
                              bool *done, jinja_value *out) {
    bool a_is = a->kind == JINJA_STR || is_list(a), b_is = b->kind == JINJA_STR || is_list(b);
    *done = true;
    if (op == JINJA_TOKEN_ADD && a_is && a->kind == b->kind) return join(r, a, b, out);
    if (op == JINJA_TOKEN_ADD && a_is)
        return jinja_fail(r, "can only concatenate %s (not \"%s\") to %s", jinja_kind_name(a->kind),
                          jinja_kind_name(b->kind), jinja_kind_name(a->kind));
    if (op == JINJA_TOKEN_MUL && a_is && jinja_is_int(b)) return repeat(r, a, b, out);
    if (op == JINJA_TOKEN_MUL && b_is && jinja_is_int(a)) return repeat(r, b, a, out);
    if (op == JINJA_TOKEN_MOD && a->kind == JINJA_STR) return jinja_percent(r, a->as.s, b, out);
    *done = false;
    return OK;
}

status jinja_binary(jinja_run *r, uint8_t op, const jinja_value *a, const jinja_value *b,
                    jinja_value *out) {
    bool done = false;
    TRY(jinja_step(r, 1));
    if (op == JINJA_TOKEN_MOD && a->kind == JINJA_STR) return jinja_percent(r, a->as.s, b, out);
    if (a->kind == JINJA_UNDEFINED) return jinja_fail_undefined(r, a);
    if (b->kind == JINJA_UNDEFINED) return jinja_fail_undefined(r, b);
    if (jinja_is_int(a) && jinja_is_int(b) && op != JINJA_TOKEN_DIV)
        return binary_int(r, op, jinja_int_of(a), jinja_int_of(b), out);
    if (jinja_is_number(a) && jinja_is_number(b))
        return binary_float(r, op, jinja_float_of(a), jinja_float_of(b), out);
    TRY(binary_sequence(r, op, a, b, &done, out));
    return done ? OK : wrong_types(r, op, a, b);
}

status jinja_sign(jinja_run *r, bool minus, const jinja_value *v, jinja_value *out) {
    if (v->kind == JINJA_UNDEFINED) return jinja_fail_undefined(r, v);
    if (!jinja_is_number(v))
        return jinja_fail(r, "bad operand type for unary %s: '%s'", minus ? "-" : "+",
                          jinja_kind_name(v->kind));
    if (v->kind == JINJA_FLOAT) {
        *out = jinja_float(minus ? -v->as.f : v->as.f);
        return OK;
    }
    jinja_int i = jinja_int_of(v);
    if (minus && __builtin_sub_overflow((jinja_int)0, i, &i)) return too_large(r);
    *out = jinja_integer(i);
    return OK;
}
