/* jinja_eval.c - expressions.
 *
 * Recursion follows the nesting of the source, which the parser bounds, and goes through calls,
 * which are counted; JINJA_DEPTH_MAX bounds the product of both.  Lists of operands and steps are
 * loops. */
#include "text/jinja_run.h"

static const jinja_node *operand(const jinja_node *slot) {
    return slot->kind == JINJA_NODE_ARGUMENT ? slot->as.arg.value : slot;
}

/* --- literals ------------------------------------------------------------------------- */

static status eval_list(jinja_run *r, const jinja_node *node, jinja_value *out) {
    jinja_kind kind = node->kind == JINJA_NODE_LIST ? JINJA_LIST : JINJA_TUPLE;
    jinja_value made;
    TRY(jinja_list_new(r, kind, node->as.list.count, &made));
    for (const jinja_node *n = node->as.list.first; n != NULL; n = n->next)
        TRY(jinja_eval(r, n, &made.as.list->items[made.as.list->count++]));
    *out = made;
    return OK;
}

static status eval_dict(jinja_run *r, const jinja_node *node, jinja_value *out) {
    jinja_value made, key, value;
    TRY(jinja_dict_new(r, node->as.list.count / 2, &made));
    for (const jinja_node *n = node->as.list.first; n != NULL; n = n->next->next) {
        TRY(jinja_eval(r, n, &key));
        TRY(jinja_eval(r, n->next, &value));
        TRY(jinja_dict_set(r, made.as.dict, &key, &value));
    }
    *out = made;
    return OK;
}

/* --- operators ------------------------------------------------------------------------ */

/* The first operand that settles it, else the last. */
static status eval_logic(jinja_run *r, const jinja_node *node, jinja_value *out) {
    bool is_or = node->kind == JINJA_NODE_OR;
    for (const jinja_node *n = node->as.list.first; n != NULL; n = n->next) {
        TRY(jinja_eval(r, operand(n), out));
        if (jinja_truth(out) == is_or) return OK;
    }
    return OK;
}

static status eval_not(jinja_run *r, const jinja_node *node, jinja_value *out) {
    TRY(jinja_eval(r, node->as.list.first, out));
    *out = jinja_bool(jinja_truth(out) != node->flag);
    return OK;
}

/* a < b < c holds when each pair does; what is behind the first that does not is not looked at. */
static status eval_compare(jinja_run *r, const jinja_node *node, jinja_value *out) {
    jinja_value left, right;
    bool holds = true;
    TRY(jinja_eval(r, node->as.list.first, &left));
    for (const jinja_node *n = node->as.list.first->next; n != NULL && holds; n = n->next) {
        TRY(jinja_eval(r, operand(n), &right));
        TRY(jinja_compare(r, n->op, &left, &right, &holds));
        left = right;
    }
    *out = jinja_bool(holds);
    return OK;
}

static status eval_chain(jinja_run *r, const jinja_node *node, jinja_value *out) {
    jinja_value left, right, result;
    TRY(jinja_eval(r, node->as.list.first, &left));
    for (const jinja_node *n = node->as.list.first->next; n != NULL; n = n->next) {
        TRY(jinja_eval(r, operand(n), &right));
        r->line = node->line;
        TRY(jinja_binary(r, n->op, &left, &right, &result));
        left = result;
    }
    *out = left;
    return OK;
}

static status eval_concat(jinja_run *r, const jinja_node *node, jinja_value *out) {
    size_t begin = jinja_text_begin(r);
    for (const jinja_node *n = node->as.list.first; n != NULL; n = n->next) {
        jinja_value v;
        TRY(jinja_eval(r, operand(n), &v));
        TRY(jinja_put_str(r, &v));
    }
    return jinja_text_take(r, begin, out);
}

/* value, condition, value, condition ...: the value before the first condition that holds. */
static status eval_choice(jinja_run *r, const jinja_node *node, jinja_value *out) {
    const jinja_node *value = node->as.list.first;
    while (value != NULL && value->next != NULL) {
        jinja_value condition;
        TRY(jinja_eval(r, value->next, &condition));
        if (jinja_truth(&condition)) return jinja_eval(r, value, out);
        value = value->next->next;
    }
    if (value != NULL) return jinja_eval(r, value, out);
    *out = jinja_undefined_hint(
        S("the inline if-expression evaluated to false and no else section was defined."));
    return OK;
}

/* --- calls ---------------------------------------------------------------------------- */

typedef struct arg_lists {
    jinja_list items;
    jinja_keyword *keywords;
    size_t keywords_count;
    size_t keywords_cap;
} arg_lists;

static status add_keyword(jinja_run *r, arg_lists *a, str name, const jinja_value *v) {
    if (a->keywords_count == a->keywords_cap) {
        size_t cap = a->keywords_cap < 4 ? 4 : 2 * a->keywords_cap;
        void *p = NULL;
        TRY(jinja_take(r, cap, sizeof *a->keywords, &p));
        if (a->keywords_count != 0) memcpy(p, a->keywords, a->keywords_count * sizeof *a->keywords);
        a->keywords = p;
        a->keywords_cap = cap;
    }
    a->keywords[a->keywords_count++] = (jinja_keyword){.name = name, .value = *v};
    return jinja_step(r, 1);
}

static status add_dict(jinja_run *r, arg_lists *a, const jinja_value *v) {
    if (v->kind != JINJA_DICT)
        return jinja_fail(r, "argument after ** must be a mapping, not %s",
                          jinja_kind_name(v->kind));
    for (size_t i = 0; i < v->as.dict->count; i++) {
        const jinja_value *key = &v->as.dict->keys[i];
        if (key->kind != JINJA_STR) return jinja_fail(r, "keywords must be strings");
        TRY(add_keyword(r, a, key->as.s, &v->as.dict->values[i]));
    }
    return OK;
}

static status add_list(jinja_run *r, arg_lists *a, const jinja_value *v) {
    const jinja_value *items = NULL;
    size_t count = 0;
    TRY(jinja_items(r, v, &items, &count));
    for (size_t i = 0; i < count; i++) TRY(jinja_list_add(r, &a->items, &items[i]));
    return OK;
}

status jinja_eval_args(jinja_run *r, const jinja_nodes *nodes, jinja_args *out) {
    arg_lists a = {0};
    for (const jinja_node *n = nodes->first; n != NULL; n = n->next) {
        jinja_value v;
        TRY(jinja_eval(r, n->as.arg.value, &v));
        switch (n->op) {
        case JINJA_ARG_NAMED:
            TRY(add_keyword(r, &a, n->as.arg.name, &v));
            break;
        case JINJA_ARG_LIST:
            TRY(add_list(r, &a, &v));
            break;
        case JINJA_ARG_DICT:
            TRY(add_dict(r, &a, &v));
            break;
        default:
            TRY(jinja_list_add(r, &a.items, &v));
        }
    }
    *out = (jinja_args){a.items.items, a.items.count, a.keywords, a.keywords_count};
    return OK;
}

static status step_builtin(jinja_run *r, const jinja_node *step, jinja_value *v) {
    bool is_test = step->kind == JINJA_NODE_TEST;
    jinja_args args;
    jinja_value result;
    if (step->as.call.def == NULL)
        return jinja_fail(r, "No %s named '%.*s' found.", is_test ? "test" : "filter",
                          STR(step->as.call.name));
    TRY(jinja_eval_args(r, &step->as.call.args, &args));
    r->line = step->line;
    TRY(jinja_call_def(r, step->as.call.def, v, &args, &result));
    *v = is_test && step->flag ? jinja_bool(!jinja_truth(&result)) : result;
    return OK;
}

static status step_call(jinja_run *r, const jinja_node *step, jinja_value *v) {
    jinja_args args;
    jinja_value result;
    TRY(jinja_eval_args(r, &step->as.call.args, &args));
    r->line = step->line;
    TRY(jinja_call(r, v, &args, &result));
    *v = result;
    return OK;
}

static status step_item(jinja_run *r, const jinja_node *step, jinja_value *v) {
    jinja_value key, result;
    TRY(jinja_eval(r, step->as.list.first, &key));
    r->line = step->line;
    TRY(jinja_item(r, v, &key, &result));
    *v = result;
    return OK;
}

static status step_slice(jinja_run *r, const jinja_node *step, jinja_value *v) {
    const jinja_node *nodes[3] = {step->as.slice.start, step->as.slice.stop, step->as.slice.step};
    jinja_value bounds[3] = {
        {.kind = JINJA_MISSING}, {.kind = JINJA_MISSING}, {.kind = JINJA_MISSING}};
    jinja_value result;
    for (size_t i = 0; i < 3; i++)
        if (nodes[i] != NULL) TRY(jinja_eval(r, nodes[i], &bounds[i]));
    r->line = step->line;
    TRY(jinja_slice(r, v, bounds, &result));
    *v = result;
    return OK;
}

static status step_attribute(jinja_run *r, const jinja_node *step, jinja_value *v) {
    jinja_value result;
    r->line = step->line;
    TRY(jinja_attribute(r, v, step->as.text, &result));
    *v = result;
    return OK;
}

status jinja_eval_steps(jinja_run *r, const jinja_node *step, jinja_value *v) {
    for (; step != NULL; step = step->next) {
        TRY(jinja_step(r, 1));
        switch (step->kind) {
        case JINJA_NODE_ATTRIBUTE:
            TRY(step_attribute(r, step, v));
            break;
        case JINJA_NODE_ITEM:
            TRY(step_item(r, step, v));
            break;
        case JINJA_NODE_SLICE:
            TRY(step_slice(r, step, v));
            break;
        case JINJA_NODE_CALL:
            TRY(step_call(r, step, v));
            break;
        default:
            TRY(step_builtin(r, step, v));
        }
    }
    return OK;
}

/* --- all of them ---------------------------------------------------------------------- */

static status eval_postfix(jinja_run *r, const jinja_node *node, jinja_value *out) {
    TRY(jinja_eval(r, node->as.list.first, out));
    return jinja_eval_steps(r, node->as.list.first->next, out);
}

static status eval_sign(jinja_run *r, const jinja_node *node, jinja_value *out) {
    jinja_value v;
    TRY(jinja_eval(r, node->as.list.first, &v));
    r->line = node->line;
    return jinja_sign(r, node->flag, &v, out);
}

static status eval_inner(jinja_run *r, const jinja_node *node, jinja_value *out) {
    switch (node->kind) {
    case JINJA_NODE_LIST:
    case JINJA_NODE_TUPLE:
        return eval_list(r, node, out);
    case JINJA_NODE_DICT:
        return eval_dict(r, node, out);
    case JINJA_NODE_OR:
    case JINJA_NODE_AND:
        return eval_logic(r, node, out);
    case JINJA_NODE_NOT:
        return eval_not(r, node, out);
    case JINJA_NODE_COMPARE:
        return eval_compare(r, node, out);
    case JINJA_NODE_CHAIN:
        return eval_chain(r, node, out);
    case JINJA_NODE_CONCAT:
        return eval_concat(r, node, out);
    case JINJA_NODE_SIGN:
        return eval_sign(r, node, out);
    case JINJA_NODE_CHOICE:
        return eval_choice(r, node, out);
    default:
        return eval_postfix(r, node, out);
    }
}

status jinja_eval(jinja_run *r, const jinja_node *node, jinja_value *out) {
    TRY(jinja_step(r, 1));
    r->line = node->line;
    if (node->kind == JINJA_NODE_CONST) {
        *out = node->as.value;
        return OK;
    }
    if (node->kind == JINJA_NODE_NAME) return jinja_scope_get(r, node->as.name, out);
    if (++r->depth > JINJA_DEPTH_MAX) return jinja_deep(r);
    TRY(eval_inner(r, node, out));
    r->depth--;
    return OK;
}
