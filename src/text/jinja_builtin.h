/* jinja_builtin.h - what the language brings along: filters, tests, methods, functions.
 *
 * Each is a row of a table: its name, the names of its parameters, and a C function that finds
 * its arguments in that order.  Owner: none, tables only. */
#ifndef TEXT_JINJA_BUILTIN_H
#define TEXT_JINJA_BUILTIN_H

#include "text/jinja_value.h"

typedef struct jinja_run jinja_run;

enum { JINJA_PARAMS_MAX = 6 };

typedef struct jinja_keyword {
    str name;
    jinja_value value;
} jinja_keyword;

typedef struct jinja_args {
    const jinja_value *items; /* [count] */
    size_t count;
    const jinja_keyword *keywords; /* [keywords_count] */
    size_t keywords_count;
} jinja_args;

/* `self` is what the filter, test or method is applied to; a function has none. */
struct jinja_def {
    const char *name;
    const char *params; /* names with spaces between; a / in front: not to be given by name;
                           NULL: `raw` takes them as they are */
    uint8_t required;   /* so many of them must be given */
    bool mutates;       /* a method that transformers' sandbox forbids */
    /* args: [JINJA_PARAMS_MAX], JINJA_MISSING where not given */
    status (*bound)(jinja_run *r, const jinja_value *self, const jinja_value *args,
                    jinja_value *out);
    status (*raw)(jinja_run *r, const jinja_value *self, const jinja_args *args, jinja_value *out);
};

struct jinja_method {
    jinja_value self;
    const jinja_def *def;
};

/* NULL when there is none of this name. */
const jinja_def *jinja_filter_find(str name);
const jinja_def *jinja_test_find(str name);
const jinja_def *jinja_function_find(str name);
const jinja_def *jinja_method_find(jinja_kind kind, str name);

/* The row of a table of `count`; used by the four above. */
const jinja_def *jinja_def_find(const jinja_def *table, size_t count, str name);

#endif
