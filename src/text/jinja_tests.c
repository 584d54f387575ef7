/* jinja_tests.c - what may stand behind `is`. */
#include "text/jinja_run.h"
#include "text/jinja_unicode.h"

static status remainder_is(jinja_run *r, const jinja_value *v, jinja_int by, jinja_int want,
                           jinja_value *out) {
    jinja_value divisor = jinja_integer(by), rest, wanted = jinja_integer(want);
    bool same = false;
    TRY(jinja_binary(r, JINJA_TOKEN_MOD, v, &divisor, &rest));
    TRY(jinja_equal(r, &rest, &wanted, &same));
    *out = jinja_bool(same);
    return OK;
}

static status test_odd(jinja_run *r, const jinja_value *v, const jinja_value *a, jinja_value *out) {
    (void)a;
    return remainder_is(r, v, 2, 1, out);
}

static status test_even(jinja_run *r, const jinja_value *v, const jinja_value *a,
                        jinja_value *out) {
    (void)a;
    return remainder_is(r, v, 2, 0, out);
}

static status test_divisibleby(jinja_run *r, const jinja_value *v, const jinja_value *a,
                               jinja_value *out) {
    jinja_value rest, zero = jinja_integer(0);
    bool same = false;
    TRY(jinja_binary(r, JINJA_TOKEN_MOD, v, &a[0], &rest));
    TRY(jinja_equal(r, &rest, &zero, &same));
    *out = jinja_bool(same);
    return OK;
}

#define TEST_OF(name, condition)                                                        \
    static status test_##name(jinja_run *r, const jinja_value *v, const jinja_value *a, \
                              jinja_value *out) {                                       \
        (void)r;                                                                        \
        (void)a;                                                                        \
        *out = jinja_bool(condition);                                                   \
        return OK;                                                                      \
    }

TEST_OF(defined, v->kind != JINJA_UNDEFINED)
TEST_OF(undefined, v->kind == JINJA_UNDEFINED)
TEST_OF(none, v->kind == JINJA_NONE)
TEST_OF(boolean, v->kind == JINJA_BOOL)
TEST_OF(false, v->kind == JINJA_BOOL && !v->as.b)
TEST_OF(true, v->kind == JINJA_BOOL && v->as.b)
TEST_OF(integer, v->kind == JINJA_INT)
TEST_OF(float, v->kind == JINJA_FLOAT)
TEST_OF(number, jinja_is_number(v))
TEST_OF(string, v->kind == JINJA_STR)
TEST_OF(mapping, v->kind == JINJA_DICT)
TEST_OF(iterable, jinja_is_iterable(v))
TEST_OF(sameas, jinja_is_same(v, &a[0]))
TEST_OF(filter, v->kind == JINJA_STR && jinja_filter_find(v->as.s) != NULL)
TEST_OF(test, v->kind == JINJA_STR && jinja_test_find(v->as.s) != NULL)
TEST_OF(escaped, v->kind == JINJA_STR && v->marked)
/* What has a length and can be indexed; an undefined value has both and the length 0. */
TEST_OF(sequence, v->kind == JINJA_UNDEFINED || (v->kind >= JINJA_STR && v->kind <= JINJA_RANGE))
TEST_OF(callable, v->kind == JINJA_UNDEFINED || v->kind == JINJA_MACRO ||
                      v->kind == JINJA_FUNCTION || v->kind == JINJA_METHOD ||
                      v->kind == JINJA_LOOP || v->kind == JINJA_JOINER)

/* Are there cased characters, and all of this case? */
static status test_case_of(jinja_run *r, const jinja_value *v, bool upper, jinja_value *out) {
    str s = S("");
    bool some = false;
    TRY(jinja_to_str(r, v, &s));
    TRY(jinja_step_bytes(r, s.n));
    *out = jinja_bool(false);
    while (s.n != 0) {
        uint32_t c = 0;
        s = str_skip(s, jinja_char_get(s, &c));
        bool is_upper = jinja_char_is_upper(c), is_lower = jinja_char_is_lower(c);
        if (jinja_char_is_title(c) || (upper ? is_lower : is_upper)) return OK;
        some = some || is_upper || is_lower;
    }
    *out = jinja_bool(some);
    return OK;
}

static status test_lower(jinja_run *r, const jinja_value *v, const jinja_value *a,
                         jinja_value *out) {
    (void)a;
    return test_case_of(r, v, false, out);
}

static status test_upper(jinja_run *r, const jinja_value *v, const jinja_value *a,
                         jinja_value *out) {
    (void)a;
    return test_case_of(r, v, true, out);
}

static status compare(jinja_run *r, jinja_compare_op op, const jinja_value *v, const jinja_value *a,
                      jinja_value *out) {
    bool holds = false;
    TRY(jinja_compare(r, op, v, &a[0], &holds));
    *out = jinja_bool(holds);
    return OK;
}

#define TEST_COMPARE(name, op)                                                          \
    static status test_##name(jinja_run *r, const jinja_value *v, const jinja_value *a, \
                              jinja_value *out) {                                       \
        return compare(r, op, v, a, out);                                               \
    }

TEST_COMPARE(eq, JINJA_OP_EQ)
TEST_COMPARE(ne, JINJA_OP_NE)
TEST_COMPARE(lt, JINJA_OP_LT)
TEST_COMPARE(le, JINJA_OP_LE)
TEST_COMPARE(gt, JINJA_OP_GT)
TEST_COMPARE(ge, JINJA_OP_GE)
TEST_COMPARE(in, JINJA_OP_IN)

static const jinja_def TESTS[] = {
    {.name = "!=", .params = "other", .required = 1, .bound = test_ne},
    {.name = "<", .params = "other", .required = 1, .bound = test_lt},
    {.name = "<=", .params = "other", .required = 1, .bound = test_le},
    {.name = "==", .params = "other", .required = 1, .bound = test_eq},
    {.name = ">", .params = "other", .required = 1, .bound = test_gt},
    {.name = ">=", .params = "other", .required = 1, .bound = test_ge},
    {.name = "boolean", .params = "", .bound = test_boolean},
    {.name = "callable", .params = "", .bound = test_callable},
    {.name = "defined", .params = "", .bound = test_defined},
    {.name = "divisibleby", .params = "num", .required = 1, .bound = test_divisibleby},
    {.name = "eq", .params = "other", .required = 1, .bound = test_eq},
    {.name = "equalto", .params = "other", .required = 1, .bound = test_eq},
    {.name = "escaped", .params = "", .bound = test_escaped},
    {.name = "even", .params = "", .bound = test_even},
    {.name = "false", .params = "", .bound = test_false},
    {.name = "filter", .params = "", .bound = test_filter},
    {.name = "float", .params = "", .bound = test_float},
    {.name = "ge", .params = "other", .required = 1, .bound = test_ge},
    {.name = "greaterthan", .params = "other", .required = 1, .bound = test_gt},
    {.name = "gt", .params = "other", .required = 1, .bound = test_gt},
    {.name = "in", .params = "seq", .required = 1, .bound = test_in},
    {.name = "integer", .params = "", .bound = test_integer},
    {.name = "iterable", .params = "", .bound = test_iterable},
    {.name = "le", .params = "other", .required = 1, .bound = test_le},
    {.name = "lessthan", .params = "other", .required = 1, .bound = test_lt},
    {.name = "lower", .params = "", .bound = test_lower},
    {.name = "lt", .params = "other", .required = 1, .bound = test_lt},
    {.name = "mapping", .params = "", .bound = test_mapping},
    {.name = "ne", .params = "other", .required = 1, .bound = test_ne},
    {.name = "none", .params = "", .bound = test_none},
    {.name = "number", .params = "", .bound = test_number},
    {.name = "odd", .params = "", .bound = test_odd},
    {.name = "sameas", .params = "other", .required = 1, .bound = test_sameas},
    {.name = "sequence", .params = "", .bound = test_sequence},
    {.name = "string", .params = "", .bound = test_string},
    {.name = "test", .params = "", .bound = test_test},
    {.name = "true", .params = "", .bound = test_true},
    {.name = "undefined", .params = "", .bound = test_undefined},
    {.name = "upper", .params = "", .bound = test_upper},
};

const jinja_def *jinja_test_find(str name) {
    return jinja_def_find(TESTS, sizeof TESTS / sizeof *TESTS, name);
}

const jinja_def *jinja_def_find(const jinja_def *table, size_t count, str name) {
    for (size_t i = 0; i < count; i++)
        if (str_eq_c(name, table[i].name)) return &table[i];
    return NULL;
}
