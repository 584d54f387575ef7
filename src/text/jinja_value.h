/* jinja_value.h - what a template computes with.
 *
 * A value is two words and a kind.  Strings, lists and the like live in the arena of their render
 * (or of the template, or of the context) and are never freed before it; text is immutable, lists
 * and dictionaries change only by the methods that jinja_env.permissive allows.  Integers have
 * 128 bits where Python has no end: what does not fit is an error.  A missing argument and a
 * variable nobody set are JINJA_MISSING, which no template ever sees.
 * Owner: the thread that renders. */
#ifndef TEXT_JINJA_VALUE_H
#define TEXT_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

__extension__ typedef __int128 jinja_int;
__extension__ typedef unsigned __int128 jinja_uint;

/* X(name, Python's name of the type) */
#define JINJA_KINDS(X)                      \
    X(MISSING, "missing")                   \
    X(UNDEFINED, "Undefined")               \
    X(NONE, "NoneType")                     \
    X(BOOL, "bool")                         \
    X(INT, "int")                           \
    X(FLOAT, "float")                       \
    X(STR, "str")                           \
    X(LIST, "list")                         \
    X(TUPLE, "tuple")                       \
    X(DICT, "dict")                         \
    X(RANGE, "range")                       \
    X(KEYS, "dict_keys")                    \
    X(VALUES, "dict_values")                \
    X(ITEMS, "dict_items")                  \
    X(GENERATOR, "generator")               \
    X(NAMESPACE, "jinja2.utils.Namespace")  \
    X(MACRO, "jinja2.runtime.Macro")        \
    X(FUNCTION, "function")                 \
    X(METHOD, "builtin_function_or_method") \
    X(LOOP, "jinja2.runtime.LoopContext")   \
    X(CYCLER, "jinja2.utils.Cycler")        \
    X(JOINER, "jinja2.utils.Joiner")

typedef enum jinja_kind {
#define JINJA_KIND_ENUM(name, type) JINJA_##name,
    JINJA_KINDS(JINJA_KIND_ENUM)
#undef JINJA_KIND_ENUM
        JINJA_KIND_COUNT
} jinja_kind;

/* Why something is undefined, which is the message when it is used. */
typedef enum jinja_undefined {
    JINJA_UNDEFINED_NAME,      /* text is the name */
    JINJA_UNDEFINED_ATTRIBUTE, /* of a value of kind `of`; text is the name */
    JINJA_UNDEFINED_HINT,      /* text is the message */
} jinja_undefined;

typedef struct jinja_value jinja_value;
typedef struct jinja_list jinja_list;
typedef struct jinja_dict jinja_dict;
typedef struct jinja_range jinja_range;
typedef struct jinja_macro jinja_macro;
typedef struct jinja_method jinja_method;
typedef struct jinja_loop jinja_loop;
typedef struct jinja_cycler jinja_cycler;
typedef struct jinja_def jinja_def;

struct jinja_value {
    uint8_t kind;      /* jinja_kind */
    uint8_t undefined; /* jinja_undefined */
    uint8_t of;        /* jinja_kind */
    bool marked;       /* STR: escaped already; TUPLE: its items have names, grouper and list */
    union {
        bool b;
        double f;
        jinja_int i;
        str s;                /* STR, UNDEFINED */
        jinja_list *list;     /* LIST, TUPLE, GENERATOR */
        jinja_dict *dict;     /* DICT, KEYS, VALUES, ITEMS, NAMESPACE */
        jinja_range *range;   /* RANGE */
        jinja_macro *macro;   /* MACRO */
        const jinja_def *def; /* FUNCTION */
        jinja_method *method; /* METHOD */
        jinja_loop *loop;     /* LOOP */
        jinja_cycler *cycler; /* CYCLER, JOINER */
    } as;
};

struct jinja_list {
    jinja_value *items; /* [count] */
    size_t count;
    size_t cap;
    size_t taken; /* GENERATOR: items already handed out, for good */
};

struct jinja_dict {
    jinja_value *keys;   /* [count] in order of insertion */
    jinja_value *values; /* [count] */
    size_t count;
    size_t cap;
    uint32_t *index;  /* [index_cap] place + 1 by hash, 0: empty; NULL while small */
    size_t index_cap; /* a power of two */
};

struct jinja_range {
    int64_t start;
    int64_t step;
    int64_t count;
    int64_t stop; /* as written, for repr */
};

/* Items of a cycler; of a joiner the first is the separator, and `at` tells whether it was used. */
struct jinja_cycler {
    const jinja_value *items; /* [count] */
    size_t count;
    size_t at;
};

const char *jinja_kind_name(jinja_kind kind);

static inline jinja_value jinja_none(void) { return (jinja_value){.kind = JINJA_NONE}; }
static inline jinja_value jinja_bool(bool b) {
    return (jinja_value){.kind = JINJA_BOOL, .as.b = b};
}
static inline jinja_value jinja_integer(jinja_int i) {
    return (jinja_value){.kind = JINJA_INT, .as.i = i};
}
static inline jinja_value jinja_float(double f) {
    return (jinja_value){.kind = JINJA_FLOAT, .as.f = f};
}
static inline jinja_value jinja_text(str s) { return (jinja_value){.kind = JINJA_STR, .as.s = s}; }
static inline jinja_value jinja_undefined_name(str name) {
    return (jinja_value){.kind = JINJA_UNDEFINED, .undefined = JINJA_UNDEFINED_NAME, .as.s = name};
}
static inline jinja_value jinja_undefined_hint(str why) {
    return (jinja_value){.kind = JINJA_UNDEFINED, .undefined = JINJA_UNDEFINED_HINT, .as.s = why};
}

static inline bool jinja_is_missing(const jinja_value *v) { return v->kind == JINJA_MISSING; }
/* int or bool, which Python counts as one */
static inline bool jinja_is_int(const jinja_value *v) {
    return v->kind == JINJA_INT || v->kind == JINJA_BOOL;
}
static inline bool jinja_is_number(const jinja_value *v) {
    return jinja_is_int(v) || v->kind == JINJA_FLOAT;
}
/* Of an int or bool. */
static inline jinja_int jinja_int_of(const jinja_value *v) {
    return v->kind == JINJA_BOOL ? (jinja_int)v->as.b : v->as.i;
}
/* Of a number. */
static inline double jinja_float_of(const jinja_value *v) {
    return v->kind == JINJA_FLOAT ? v->as.f : (double)jinja_int_of(v);
}

#endif
