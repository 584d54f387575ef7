/* jinja_call.c - calls: arguments find their parameters, macros run. */
#include <inttypes.h>

#include "text/jinja_run.h"

/* --- functions of ours ---------------------------------------------------------------- */

/* The n-th parameter of a row; an empty name when there are fewer. */
static str param_name(const jinja_def *def, size_t n) {
    const char *p = def->params;
    if (*p == '/') p++;
    for (; *p != '\0' && n > 0; n--) {
        p += strcspn(p, " ");
        p += *p == ' ';
    }
    return (str){p, strcspn(p, " ")};
}

static size_t params_count(const jinja_def *def) {
    size_t n = 0;
    while (n < JINJA_PARAMS_MAX && param_name(def, n).n != 0) n++;
    return n;
}

static status bind_keyword(jinja_run *r, const jinja_def *def, const jinja_keyword *k,
                           jinja_value *slots) {
    if (def->params[0] == '/') return jinja_fail(r, "%s() takes no keyword arguments", def->name);
    for (size_t i = 0; i < params_count(def); i++) {
        if (!str_eq(param_name(def, i), k->name)) continue;
        if (!jinja_is_missing(&slots[i]))
            return jinja_fail(r, "%s() got multiple values for argument '%.*s'", def->name,
                              STR(k->name));
        slots[i] = k->value;
        return OK;
    }
    return jinja_fail(r, "%s() got an unexpected keyword argument '%.*s'", def->name, STR(k->name));
}

static status bind(jinja_run *r, const jinja_def *def, const jinja_args *args, jinja_value *slots) {
    size_t count = params_count(def);
    if (args->count > count)
        return jinja_fail(r, "%s() takes at most %zu arguments (%zu given)", def->name, count,
                          args->count);
    for (size_t i = 0; i < JINJA_PARAMS_MAX; i++)
        slots[i] = i < args->count ? args->items[i] : (jinja_value){.kind = JINJA_MISSING};
    for (size_t i = 0; i < args->keywords_count; i++)
        TRY(bind_keyword(r, def, &args->keywords[i], slots));
    for (size_t i = 0; i < def->required; i++)
        if (jinja_is_missing(&slots[i]))
            return jinja_fail(r, "%s() missing required argument '%.*s'", def->name,
                              STR(param_name(def, i)));
    return OK;
}

status jinja_call_def(jinja_run *r, const jinja_def *def, const jinja_value *self,
                      const jinja_args *args, jinja_value *out) {
    jinja_value slots[JINJA_PARAMS_MAX], result = {.kind = JINJA_MISSING};
    TRY(jinja_step(r, 1));
    if (def->raw != NULL) {
        TRY(def->raw(r, self, args, &result));
    } else {
        TRY(bind(r, def, args, slots));
        TRY(def->bound(r, self, slots, &result));
    }
    *out = result;
    return OK;
}

/* --- macros --------------------------------------------------------------------------- */

/* Which of the keywords have been used; macros take no more than this many. */
enum { KEYWORDS_MAX = 64 };

/* The keyword of this name that nobody has used; it is used then. */
static const jinja_value *take_keyword(const jinja_args *args, uint64_t *used, str name) {
    for (size_t i = 0; i < args->keywords_count; i++) {
        if ((*used >> i & 1) != 0 || !str_eq(args->keywords[i].name, name)) continue;
        *used |= (uint64_t)1 << i;
        return &args->keywords[i].value;
    }
    return NULL;
}

static status undefined_param(jinja_run *r, str name, jinja_value *out) {
    size_t begin = jinja_text_begin(r);
    jinja_text_put(r, S("parameter '"));
    jinja_text_put(r, name);
    jinja_text_put(r, S("' was not provided"));
    TRY(jinja_text_take(r, begin, out));
    *out = jinja_undefined_hint(out->as.s);
    return OK;
}

/* Positional, named, default, undefined: in this order a parameter gets its value. */
static status bind_params(jinja_run *r, const jinja_node *node, const jinja_args *args,
                          uint64_t *used) {
    const jinja_nodes *params = &node->as.macro.params;
    const jinja_node *fallback = node->as.macro.defaults.first;
    uint32_t without = params->count - node->as.macro.defaults.count, i = 0;
    for (const jinja_node *p = params->first; p != NULL; p = p->next, i++) {
        const jinja_value *given =
            i < args->count ? &args->items[i] : take_keyword(args, used, r->t->names[p->as.name]);
        jinja_value v;
        if (given != NULL)
            v = *given;
        else if (i >= without)
            TRY(jinja_eval(r, fallback, &v));
        else
            TRY(undefined_param(r, r->t->names[p->as.name], &v));
        TRY(jinja_scope_set(r, p->as.name, &v));
        if (i >= without) fallback = fallback->next;
    }
    return OK;
}

static bool has_param(const jinja_node *node, uint32_t name) {
    for (const jinja_node *p = node->as.macro.params.first; p != NULL; p = p->next)
        if (p->as.name == name) return true;
    return false;
}

static status bind_caller(jinja_run *r, const jinja_node *node, const jinja_args *args,
                          uint64_t *used) {
    bool wanted = (node->as.macro.uses & JINJA_USES_CALLER) != 0;
    if (!wanted || has_param(node, JINJA_NAME_CALLER)) return OK;
    const jinja_value *given = take_keyword(args, used, S("caller"));
    jinja_value v = given != NULL ? *given : jinja_undefined_hint(S("No caller defined"));
    return jinja_scope_set(r, JINJA_NAME_CALLER, &v);
}

static status bind_kwargs(jinja_run *r, const jinja_node *node, const jinja_args *args,
                          uint64_t used) {
    jinja_value kwargs, name;
    bool wanted = (node->as.macro.uses & JINJA_USES_KWARGS) != 0;
    if (wanted) TRY(jinja_dict_new(r, args->keywords_count, &kwargs));
    for (size_t i = 0; i < args->keywords_count; i++) {
        if ((used >> i & 1) != 0) continue;
        name = jinja_text(args->keywords[i].name);
        if (!wanted)
            return jinja_fail(r, "macro '%.*s' takes no keyword argument '%.*s'",
                              STR(r->t->names[node->as.macro.name]), STR(name.as.s));
        TRY(jinja_dict_set(r, kwargs.as.dict, &name, &args->keywords[i].value));
    }
    return wanted ? jinja_scope_set(r, JINJA_NAME_KWARGS, &kwargs) : OK;
}

static status bind_varargs(jinja_run *r, const jinja_node *node, const jinja_args *args) {
    uint32_t count = node->as.macro.params.count;
    jinja_value varargs;
    if ((node->as.macro.uses & JINJA_USES_VARARGS) == 0) {
        if (args->count <= count) return OK;
        return jinja_fail(r, "macro '%.*s' takes not more than %" PRIu32 " argument(s)",
                          STR(r->t->names[node->as.macro.name]), count);
    }
    TRY(jinja_list_new(r, JINJA_TUPLE, 0, &varargs));
    for (size_t i = count; i < args->count; i++)
        TRY(jinja_list_add(r, varargs.as.list, &args->items[i]));
    return jinja_scope_set(r, JINJA_NAME_VARARGS, &varargs);
}

static status run_macro(jinja_run *r, const jinja_node *node, const jinja_args *args,
                        jinja_value *out) {
    uint64_t used = 0;
    if (args->keywords_count > KEYWORDS_MAX)
        return jinja_fail(r, "more than %d keyword arguments", KEYWORDS_MAX);
    TRY(bind_params(r, node, args, &used));
    TRY(bind_caller(r, node, args, &used));
    TRY(bind_kwargs(r, node, args, used));
    TRY(bind_varargs(r, node, args));
    size_t begin = jinja_text_begin(r);
    TRY(jinja_exec(r, &node->as.macro.body));
    return jinja_text_take(r, begin, out);
}

status jinja_call_macro(jinja_run *r, const jinja_macro *macro, const jinja_args *args,
                        jinja_value *out) {
    jinja_scope *outer = r->scope;
    TRY(jinja_scope_new(r, macro->scope, &r->scope));
    TRY(run_macro(r, macro->node, args, out));
    r->scope = outer;
    return OK;
}

/* --- anything that can be called ------------------------------------------------------ */

static status call_loop(jinja_run *r, const jinja_loop *loop, const jinja_args *args,
                        jinja_value *out) {
    if (!loop->node->as.loop.recursive)
        return jinja_fail(r, "The loop must have the 'recursive' marker to be called recursively.");
    if (args->count != 1 || args->keywords_count != 0)
        return jinja_fail(r, "loop() takes one argument (%zu given)", args->count);
    jinja_scope *outer = r->scope;
    size_t begin = jinja_text_begin(r);
    r->scope = loop->scope;
    TRY(jinja_loop_run(r, loop->node, &args->items[0], loop->depth0 + 1));
    r->scope = outer;
    return jinja_text_take(r, begin, out);
}

static status call_joiner(jinja_run *r, jinja_cycler *joiner, const jinja_args *args,
                          jinja_value *out) {
    if (args->count + args->keywords_count != 0)
        return jinja_fail(r, "a joiner takes no arguments");
    *out = joiner->at == 0 ? jinja_text(S("")) : joiner->items[0];
    joiner->at = 1;
    return OK;
}

static status call_inside(jinja_run *r, const jinja_value *callee, const jinja_args *args,
                          jinja_value *out) {
    jinja_value none = jinja_none();
    switch (callee->kind) {
    case JINJA_UNDEFINED:
        return jinja_fail_undefined(r, callee);
    case JINJA_MACRO:
        return jinja_call_macro(r, callee->as.macro, args, out);
    case JINJA_FUNCTION:
        return jinja_call_def(r, callee->as.def, &none, args, out);
    case JINJA_METHOD:
        return jinja_call_def(r, callee->as.method->def, &callee->as.method->self, args, out);
    case JINJA_LOOP:
        return call_loop(r, callee->as.loop, args, out);
    case JINJA_JOINER:
        return call_joiner(r, callee->as.cycler, args, out);
    default:
        return jinja_fail(r, "'%s' object is not callable", jinja_kind_name(callee->kind));
    }
}

status jinja_call(jinja_run *r, const jinja_value *callee, const jinja_args *args,
                  jinja_value *out) {
    uint32_t line = r->line;
    if (++r->calls > JINJA_NESTING_MAX)
        return error_set(r->err, ERR_LIMIT,
                         "chat template: line %" PRIu32 ": calls nested deeper than %d", r->line,
                         JINJA_NESTING_MAX);
    TRY(call_inside(r, callee, args, out));
    r->calls--;
    r->line = line;
    return OK;
}
