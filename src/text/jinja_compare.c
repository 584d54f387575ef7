/* jinja_compare.c - truth, equality, order, membership, hashes and sorting.
 *
 * Numbers of all kinds compare by value, a bool being 0 or 1; strings by code point, which is the
 * order of their bytes; lists and tuples item by item; other kinds only for equality.  The hash is
 * SipHash with a key drawn per process, so no context can choose keys that collide. */
#include <math.h>
#include <pthread.h>
#include <sodium.h>

#include "base/num.h"
#include "text/jinja_number.h"
#include "text/jinja_run.h"

bool jinja_truth(const jinja_value *v) {
    switch (v->kind) {
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return false;
    case JINJA_BOOL:
        return v->as.b;
    case JINJA_INT:
        return v->as.i != 0;
    case JINJA_FLOAT:
        return v->as.f != 0;
    case JINJA_STR:
        return v->as.s.n != 0;
    case JINJA_LIST:
    case JINJA_TUPLE:
        return v->as.list->count != 0;
    case JINJA_DICT:
    case JINJA_KEYS:
    case JINJA_VALUES:
    case JINJA_ITEMS:
        return v->as.dict->count != 0;
    case JINJA_RANGE:
        return v->as.range->count != 0;
    default:
        return true;
    }
}

/* --- numbers and text ----------------------------------------------------------------- */

/* An integer against a float: exact, also where the float has fewer digits. */
static int order_int_float(jinja_int i, double f) {
    jinja_int whole = 0;
    if (isnan(f)) return 2;
    if (!jinja_float_to_int(f, &whole)) return f > 0 ? -1 : 1;
    if (i != whole) return i < whole ? -1 : 1;
    double part = f - trunc(f);
    return part > 0 ? -1 : part < 0 ? 1 : 0;
}

static int order_numbers(const jinja_value *a, const jinja_value *b) {
    if (jinja_is_int(a) && jinja_is_int(b)) {
        jinja_int x = jinja_int_of(a), y = jinja_int_of(b);
        return (x > y) - (x < y);
    }
    if (jinja_is_int(a)) return order_int_float(jinja_int_of(a), b->as.f);
    if (jinja_is_int(b)) {
        int reversed = order_int_float(jinja_int_of(b), a->as.f);
        return reversed == 2 ? 2 : -reversed;
    }
    if (isnan(a->as.f) || isnan(b->as.f)) return 2;
    return (a->as.f > b->as.f) - (a->as.f < b->as.f);
}

static int order_strings(str a, str b) {
    size_t n = num_min_size(a.n, b.n);
    int c = n != 0 ? memcmp(a.p, b.p, n) : 0;
    return c != 0 ? (c > 0 ? 1 : -1) : (a.n > b.n) - (a.n < b.n);
}

/* --- equality ------------------------------------------------------------------------- */

static status equal_lists(jinja_run *r, const jinja_list *a, const jinja_list *b, bool *out) {
    *out = a->count == b->count;
    for (size_t i = 0; *out && i < a->count && i < b->count; i++)
        TRY(jinja_equal(r, &a->items[i], &b->items[i], out));
    return OK;
}

static status equal_dicts(jinja_run *r, const jinja_dict *a, const jinja_dict *b, bool *out) {
    *out = a->count == b->count;
    for (size_t i = 0; *out && i < a->count; i++) {
        jinja_value *other = NULL;
        TRY(jinja_dict_get(r, b, &a->keys[i], &other));
        *out = other != NULL;
        if (other != NULL) TRY(jinja_equal(r, &a->values[i], other, out));
    }
    return OK;
}

static bool equal_ranges(const jinja_range *a, const jinja_range *b) {
    return a->count == b->count && (a->count == 0 || a->start == b->start) &&
           (a->count < 2 || a->step == b->step);
}

bool jinja_is_same(const jinja_value *a, const jinja_value *b) {
    if (a->kind != b->kind) return false;
    switch (a->kind) {
    case JINJA_NONE:
        return true;
    case JINJA_BOOL:
        return a->as.b == b->as.b;
    case JINJA_INT: /* Python keeps one object for each of the small ones */
        return a->as.i == b->as.i && a->as.i >= -5 && a->as.i <= 256;
    case JINJA_STR:
        return a->as.s.p == b->as.s.p && a->as.s.n == b->as.s.n;
    case JINJA_FLOAT:
    case JINJA_UNDEFINED:
    case JINJA_METHOD:
        return false;
    default: /* all others point at what they are */
        return a->as.list == b->as.list;
    }
}

static status equal_boxes(jinja_run *r, const jinja_value *a, const jinja_value *b, bool *out) {
    switch (a->kind) {
    case JINJA_LIST:
    case JINJA_TUPLE:
        return equal_lists(r, a->as.list, b->as.list, out);
    case JINJA_DICT:
    case JINJA_KEYS:
        return equal_dicts(r, a->as.dict, b->as.dict, out);
    case JINJA_RANGE:
        *out = equal_ranges(a->as.range, b->as.range);
        return OK;
    default:
        *out = jinja_is_same(a, b);
        return OK;
    }
}

status jinja_equal(jinja_run *r, const jinja_value *a, const jinja_value *b, bool *out) {
    TRY(jinja_step(r, 1));
    if (jinja_is_number(a) && jinja_is_number(b)) {
        *out = order_numbers(a, b) == 0;
        return OK;
    }
    *out = false;
    if (a->kind != b->kind) return OK;
    if (a->kind == JINJA_STR) {
        TRY(jinja_step_bytes(r, num_min_size(a->as.s.n, b->as.s.n)));
        *out = str_eq(a->as.s, b->as.s);
        return OK;
    }
    if (a->kind == JINJA_UNDEFINED || jinja_is_same(a, b)) {
        *out = true;
        return OK;
    }
    if (++r->value_depth > JINJA_VALUE_DEPTH_MAX) return jinja_deep(r);
    TRY(equal_boxes(r, a, b, out));
    r->value_depth--;
    return OK;
}

/* --- order ---------------------------------------------------------------------------- */

static status order_lists(jinja_run *r, const char *op, const jinja_list *a, const jinja_list *b,
                          int *out) {
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        bool same = jinja_is_same(&a->items[i], &b->items[i]);
        if (!same) TRY(jinja_equal(r, &a->items[i], &b->items[i], &same));
        if (!same) return jinja_order(r, op, &a->items[i], &b->items[i], out);
    }
    *out = (a->count > b->count) - (a->count < b->count);
    return OK;
}

status jinja_order(jinja_run *r, const char *op, const jinja_value *a, const jinja_value *b,
                   int *out) {
    TRY(jinja_step(r, 1));
    if (a->kind == JINJA_UNDEFINED) return jinja_fail_undefined(r, a);
    if (b->kind == JINJA_UNDEFINED) return jinja_fail_undefined(r, b);
    if (jinja_is_number(a) && jinja_is_number(b)) {
        *out = order_numbers(a, b);
        return OK;
    }
    if (a->kind == JINJA_STR && b->kind == JINJA_STR) {
        TRY(jinja_step_bytes(r, num_min_size(a->as.s.n, b->as.s.n)));
        *out = order_strings(a->as.s, b->as.s);
        return OK;
    }
    bool lists = a->kind == b->kind && (a->kind == JINJA_LIST || a->kind == JINJA_TUPLE);
    if (!lists)
        return jinja_fail(r, "'%s' not supported between instances of '%s' and '%s'", op,
                          jinja_kind_name(a->kind), jinja_kind_name(b->kind));
    if (++r->value_depth > JINJA_VALUE_DEPTH_MAX) return jinja_deep(r);
    TRY(order_lists(r, op, a->as.list, b->as.list, out));
    r->value_depth--;
    return OK;
}

/* --- membership ----------------------------------------------------------------------- */

static status contains_str(jinja_run *r, const jinja_value *v, str in, bool *out) {
    if (v->kind != JINJA_STR)
        return jinja_fail(r, "'in <string>' requires string as left operand, not %s",
                          jinja_kind_name(v->kind));
    TRY(jinja_step_bytes(r, in.n + v->as.s.n));
    *out = v->as.s.n == 0 || (in.n != 0 && memmem(in.p, in.n, v->as.s.p, v->as.s.n) != NULL);
    return OK;
}

status jinja_contains(jinja_run *r, const jinja_value *v, const jinja_value *in, bool *out) {
    const jinja_value *items = NULL;
    jinja_value *found = NULL;
    size_t count = 0;
    *out = false;
    if (in->kind == JINJA_STR) return contains_str(r, v, in->as.s, out);
    if (in->kind == JINJA_DICT || in->kind == JINJA_KEYS) {
        TRY(jinja_dict_get(r, in->as.dict, v, &found));
        *out = found != NULL;
        return OK;
    }
    if (!jinja_is_iterable(in))
        return jinja_fail(r, "argument of type '%s' is not iterable", jinja_kind_name(in->kind));
    TRY(jinja_items(r, in, &items, &count));
    for (size_t i = 0; i < count && !*out; i++) TRY(jinja_equal(r, &items[i], v, out));
    return OK;
}

status jinja_compare(jinja_run *r, jinja_compare_op op, const jinja_value *a, const jinja_value *b,
                     bool *out) {
    static const char *const WORDS[] = {"==", "!=", "<", "<=", ">", ">="};
    int order = 0;
    switch (op) {
    case JINJA_OP_EQ:
    case JINJA_OP_NE:
        TRY(jinja_equal(r, a, b, out));
        break;
    case JINJA_OP_IN:
    case JINJA_OP_NOT_IN:
        TRY(jinja_contains(r, a, b, out));
        break;
    default:
        TRY(jinja_order(r, WORDS[op], a, b, &order));
        *out = order != 2 && (op == JINJA_OP_LT   ? order < 0
                              : op == JINJA_OP_LE ? order <= 0
                              : op == JINJA_OP_GT ? order > 0
                                                  : order >= 0);
    }
    if (op == JINJA_OP_NE || op == JINJA_OP_NOT_IN) *out = !*out;
    return OK;
}

/* --- hashes --------------------------------------------------------------------------- */

static unsigned char hash_key[crypto_shorthash_KEYBYTES];
static pthread_once_t hash_key_once = PTHREAD_ONCE_INIT;

static void draw_hash_key(void) { crypto_shorthash_keygen(hash_key); }

static uint64_t hash_bytes(const void *p, size_t n) {
    unsigned char out[crypto_shorthash_BYTES];
    uint64_t hash = 0;
    (void)pthread_once(&hash_key_once, draw_hash_key);
    (void)crypto_shorthash(out, p, n, hash_key);
    memcpy(&hash, out, sizeof hash);
    return hash;
}

static status hash_tuple(jinja_run *r, const jinja_list *list, uint64_t *out) {
    if (++r->value_depth > JINJA_VALUE_DEPTH_MAX) return jinja_deep(r);
    uint64_t both[2] = {list->count, 0};
    for (size_t i = 0; i < list->count; i++) {
        TRY(jinja_hash(r, &list->items[i], &both[1]));
        both[0] = hash_bytes(both, sizeof both);
    }
    r->value_depth--;
    *out = both[0];
    return OK;
}

/* Equal values have equal hashes: a float that is an integer hashes as one. */
status jinja_hash(jinja_run *r, const jinja_value *v, uint64_t *out) {
    jinja_int i = 0;
    TRY(jinja_step(r, 1));
    switch (v->kind) {
    case JINJA_STR:
        TRY(jinja_step_bytes(r, v->as.s.n));
        *out = hash_bytes(v->as.s.p, v->as.s.n);
        return OK;
    case JINJA_FLOAT:
        if (!jinja_float_to_int(v->as.f, &i) || (double)i != v->as.f) {
            *out = hash_bytes(&v->as.f, sizeof v->as.f);
            return OK;
        }
        *out = hash_bytes(&i, sizeof i);
        return OK;
    case JINJA_BOOL:
    case JINJA_INT:
        i = jinja_int_of(v);
        *out = hash_bytes(&i, sizeof i);
        return OK;
    case JINJA_TUPLE:
        return hash_tuple(r, v->as.list, out);
    case JINJA_LIST:
    case JINJA_DICT:
    case JINJA_KEYS:
    case JINJA_ITEMS:
        return jinja_fail(r, "unhashable type: '%s'", jinja_kind_name(v->kind));
    default:
        *out = v->kind; /* few of them are ever keys */
        return OK;
    }
}

/* --- sorting -------------------------------------------------------------------------- */

/* Merges [from, middle) and [middle, to) of `in` into `out`, where in and out are two columns:
 * keys and items.  Equal keys keep their order. */
typedef struct columns {
    jinja_value *keys, *items;
} columns;

static status merge(jinja_run *r, columns in, columns out, const size_t at[3], bool reverse) {
    size_t a = at[0], b = at[1];
    for (size_t i = at[0]; i < at[2]; i++) {
        bool take_b = a == at[1];
        if (a < at[1] && b < at[2]) {
            int order = 0;
            TRY(reverse ? jinja_order(r, "<", &in.keys[a], &in.keys[b], &order)
                        : jinja_order(r, "<", &in.keys[b], &in.keys[a], &order));
            take_b = order == -1;
        }
        size_t from = take_b ? b++ : a++;
        out.keys[i] = in.keys[from];
        out.items[i] = in.items[from];
    }
    return OK;
}

status jinja_sort(jinja_run *r, jinja_value *keys, jinja_value *items, size_t count, bool reverse) {
    void *p = NULL, *q = NULL;
    TRY(jinja_take(r, count, sizeof *keys, &p));
    TRY(jinja_take(r, count, sizeof *items, &q));
    columns in = {keys, items}, out = {p, q};
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t i = 0; i < count; i += 2 * width) {
            size_t at[3] = {i, num_min_size(i + width, count), num_min_size(i + 2 * width, count)};
            TRY(merge(r, in, out, at, reverse));
        }
        columns swap = in;
        in = out;
        out = swap;
    }
    if (in.keys != keys && count != 0) {
        memcpy(keys, in.keys, count * sizeof *keys);
        memcpy(items, in.items, count * sizeof *items);
    }
    return OK;
}
