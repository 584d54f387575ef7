/* jinja_run.h - one render: its limits, memory and text, and what all parts of it call.
 *
 * Every function that can fail returns a status and has filled the render's error, line
 * included.  Everything costs steps: a node, a turn of a loop, an element, sixteen bytes.
 * Text under construction is the tail of one buffer: begin notes where it starts, take makes a
 * string of it and cuts it off, so that captures nest like calls do and one limit holds for all.
 * Owner: the thread that called jinja_render. */
#ifndef TEXT_JINJA_RUN_H
#define TEXT_JINJA_RUN_H

#include "base/arena.h"
#include "base/buf.h"
#include "text/jinja_ast.h"
#include "text/jinja_builtin.h"

enum {
    JINJA_DEPTH_MAX = 500,       /* evaluations inside one another: 200 KiB of stack */
    JINJA_VALUE_DEPTH_MAX = 300, /* lists in lists when they are printed or compared */
    JINJA_RANGE_MAX = 100000,    /* items; the sandbox's MAX_RANGE */
};

typedef struct jinja_var {
    uint32_t name;
    jinja_value value;
} jinja_var;

typedef struct jinja_scope jinja_scope;
struct jinja_scope {
    jinja_scope *up; /* NULL: the top level */
    jinja_var *vars; /* [count] */
    uint32_t count;
    uint32_t cap;
};

struct jinja_macro {
    const jinja_node *node; /* MACRO or CALL_BLOCK */
    jinja_scope *scope;     /* where it was defined */
};

struct jinja_loop {
    const jinja_node *node;
    jinja_scope *scope;       /* around the loop */
    const jinja_value *items; /* [count] still to come from `at` on */
    size_t count;
    size_t at;
    bool filtered; /* items have yet to pass the loop's condition */
    jinja_value before, now, after;
    bool has_after; /* looked ahead */
    int64_t index0;
    int64_t depth0;
    int64_t length;      /* -1: not known yet */
    bool finished;       /* a turn ran to its end, without break or continue */
    jinja_value changed; /* MISSING or the last arguments of changed() */
};

typedef enum jinja_jump { JINJA_JUMP_NONE, JINJA_JUMP_BREAK, JINJA_JUMP_CONTINUE } jinja_jump;

struct jinja_run {
    const jinja_template *t;
    const jinja_env *env;
    error *err;
    arena mem;
    buf text;
    uint64_t steps;
    uint64_t steps_at_clock; /* when the clock is looked at next */
    uint64_t deadline_ns;
    uint32_t line; /* of what is being evaluated */
    uint32_t depth;
    uint32_t calls;
    uint32_t value_depth;
    jinja_jump jump;
    jinja_scope *scope;   /* innermost; NULL: the top level */
    jinja_value *context; /* [names_count] what the caller gave and the functions, by name */
    jinja_value *top;     /* [names_count] what was set on the top level, by name */
};

/* --- limits and errors: jinja_run.c --------------------------------------------------- */
NODISCARD status jinja_step(jinja_run *r, uint64_t n);
NODISCARD status jinja_step_bytes(jinja_run *r, size_t n);
/* ERR_INVALID "chat template: line 12: REASON". */
NODISCARD status jinja_fail(jinja_run *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* The static analyzer does not know that it returns its code. */
#ifdef __clang_analyzer__
#define jinja_fail(r, ...) (jinja_fail((r), __VA_ARGS__), ERR_INVALID)
#endif
NODISCARD status jinja_deep(jinja_run *r);
/* The error of using an undefined value. */
NODISCARD status jinja_fail_undefined(jinja_run *r, const jinja_value *v);
/* Zeroed; n is checked against overflow. */
NODISCARD status jinja_take(jinja_run *r, size_t count, size_t bytes, void **out);

/* --- text under construction: jinja_run.c --------------------------------------------- */
static inline size_t jinja_text_begin(const jinja_run *r) { return r->text.n; }
NODISCARD status jinja_text_take(jinja_run *r, size_t begin, jinja_value *out);
void jinja_text_put(jinja_run *r, str s);
void jinja_text_put_char(jinja_run *r, uint32_t code);
__attribute__((format(printf, 2, 3))) void jinja_text_printf(jinja_run *r, const char *fmt, ...);
NODISCARD status jinja_text_copy(jinja_run *r, str s, jinja_value *out);

/* --- lists: jinja_run.c --------------------------------------------------------------- */
/* Empty, with room for cap. */
NODISCARD status jinja_list_new(jinja_run *r, jinja_kind kind, size_t cap, jinja_value *out);
NODISCARD status jinja_list_add(jinja_run *r, jinja_list *list, const jinja_value *v);
NODISCARD status jinja_pair(jinja_run *r, const jinja_value *a, const jinja_value *b,
                            jinja_value *out);
/* Every item of an iterable, in an array that nobody changes; a generator is used up. */
NODISCARD status jinja_items(jinja_run *r, const jinja_value *v, const jinja_value **items,
                             size_t *count);
bool jinja_is_iterable(const jinja_value *v);
/* len(): an error for what has none. */
NODISCARD status jinja_length(jinja_run *r, const jinja_value *v, size_t *out);
jinja_value jinja_range_at(const jinja_range *range, int64_t i);
/* A number of arguments that must be an integer that fits. */
NODISCARD status jinja_int_arg(jinja_run *r, const jinja_value *v, int64_t *out);
NODISCARD status jinja_str_arg(jinja_run *r, const jinja_value *v, str *out);

/* --- dictionaries: jinja_dict.c ------------------------------------------------------- */
NODISCARD status jinja_dict_new(jinja_run *r, size_t cap, jinja_value *out);
/* Replaces or appends.  The key must be hashable. */
NODISCARD status jinja_dict_set(jinja_run *r, jinja_dict *d, const jinja_value *key,
                                const jinja_value *value);
/* NULL when there is no such key; an error when it cannot be one. */
NODISCARD status jinja_dict_get(jinja_run *r, const jinja_dict *d, const jinja_value *key,
                                jinja_value **out);
NODISCARD status jinja_dict_remove(jinja_run *r, jinja_dict *d, const jinja_value *key);

/* --- comparing: jinja_compare.c ------------------------------------------------------- */
bool jinja_truth(const jinja_value *v);
NODISCARD status jinja_equal(jinja_run *r, const jinja_value *a, const jinja_value *b, bool *out);
/* -1, 0, 1, or 2 where a NaN has no order; `op` is for the message. */
NODISCARD status jinja_order(jinja_run *r, const char *op, const jinja_value *a,
                             const jinja_value *b, int *out);
NODISCARD status jinja_contains(jinja_run *r, const jinja_value *v, const jinja_value *in,
                                bool *out);
NODISCARD status jinja_compare(jinja_run *r, jinja_compare_op op, const jinja_value *a,
                               const jinja_value *b, bool *out);
bool jinja_is_same(const jinja_value *a, const jinja_value *b);
NODISCARD status jinja_hash(jinja_run *r, const jinja_value *v, uint64_t *out);
/* Stable; keys[i] belongs to items[i] and both are put in order. */
NODISCARD status jinja_sort(jinja_run *r, jinja_value *keys, jinja_value *items, size_t count,
                            bool reverse);

/* --- printing: jinja_print.c ---------------------------------------------------------- */
/* str(v), repr(v) at the end of the text. */
NODISCARD status jinja_put_str(jinja_run *r, const jinja_value *v);
NODISCARD status jinja_put_repr(jinja_run *r, const jinja_value *v);
/* str(v) as a string. */
NODISCARD status jinja_to_str(jinja_run *r, const jinja_value *v, str *out);
NODISCARD status jinja_put_json(jinja_run *r, const jinja_value *v, const jinja_value *indent,
                                str item_end, str key_end, bool ascii, bool sort_keys);

/* --- operators: jinja_ops.c ----------------------------------------------------------- */
/* op is a JINJA_TOKEN_* of arithmetic. */
NODISCARD status jinja_binary(jinja_run *r, uint8_t op, const jinja_value *a, const jinja_value *b,
                              jinja_value *out);
NODISCARD status jinja_sign(jinja_run *r, bool minus, const jinja_value *v, jinja_value *out);
/* "..." % values */
NODISCARD status jinja_percent(jinja_run *r, str format, const jinja_value *values,
                               jinja_value *out);
/* "...".format(...) */
NODISCARD status jinja_format(jinja_run *r, const jinja_value *self, const jinja_args *args,
                              jinja_value *out);

/* --- attributes and items: jinja_access.c --------------------------------------------- */
NODISCARD status jinja_attribute(jinja_run *r, const jinja_value *v, str name, jinja_value *out);
NODISCARD status jinja_item(jinja_run *r, const jinja_value *v, const jinja_value *key,
                            jinja_value *out);
/* MISSING bounds are those not given. */
NODISCARD status jinja_slice(jinja_run *r, const jinja_value *v, const jinja_value bounds[3],
                             jinja_value *out);
/* "a.b.0": item by item; MISSING: v itself.  fallback (MISSING: none) for what is undefined. */
NODISCARD status jinja_path(jinja_run *r, const jinja_value *v, const jinja_value *path,
                            const jinja_value *fallback, jinja_value *out);

/* --- calls: jinja_call.c -------------------------------------------------------------- */
NODISCARD status jinja_call_def(jinja_run *r, const jinja_def *def, const jinja_value *self,
                                const jinja_args *args, jinja_value *out);
NODISCARD status jinja_call(jinja_run *r, const jinja_value *callee, const jinja_args *args,
                            jinja_value *out);
NODISCARD status jinja_call_macro(jinja_run *r, const jinja_macro *macro, const jinja_args *args,
                                  jinja_value *out);
/* value if given, else the default */
static inline bool jinja_flag_arg(const jinja_value *v, bool otherwise) {
    return jinja_is_missing(v) ? otherwise : jinja_truth(v);
}

/* --- evaluating: jinja_eval.c, jinja_exec.c ------------------------------------------- */
NODISCARD status jinja_eval(jinja_run *r, const jinja_node *node, jinja_value *out);
NODISCARD status jinja_eval_args(jinja_run *r, const jinja_nodes *nodes, jinja_args *out);
/* Runs the steps of a POSTFIX without base over v. */
NODISCARD status jinja_eval_steps(jinja_run *r, const jinja_node *step, jinja_value *v);
NODISCARD status jinja_exec(jinja_run *r, const jinja_nodes *body);
NODISCARD status jinja_assign(jinja_run *r, const jinja_node *target, const jinja_value *v);
NODISCARD status jinja_scope_new(jinja_run *r, jinja_scope *up, jinja_scope **out);
NODISCARD status jinja_scope_set(jinja_run *r, uint32_t name, const jinja_value *v);
NODISCARD status jinja_scope_get(jinja_run *r, uint32_t name, jinja_value *out);
/* {% for %} over v, `depth0` levels inside itself; its text goes to the end of the text. */
NODISCARD status jinja_loop_run(jinja_run *r, const jinja_node *node, const jinja_value *v,
                                int64_t depth0);
NODISCARD status jinja_loop_peek(jinja_run *r, jinja_loop *loop);
NODISCARD status jinja_loop_length(jinja_run *r, jinja_loop *loop, int64_t *out);

#endif
