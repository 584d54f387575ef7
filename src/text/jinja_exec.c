/* jinja_exec.c - statements, scopes and loops.
 *
 * A scope belongs to each turn of a loop, to a macro call, to with, filter, set and call blocks;
 * if has none.  Setting a variable sets it in the innermost scope only, so what a loop sets is
 * gone with its turn; reading looks outwards, macros through the scope they were defined in.  The
 * top level is an array by name, the scopes inside are short lists. */
#include <inttypes.h>

#include "text/jinja_run.h"

/* --- scopes --------------------------------------------------------------------------- */

status jinja_scope_new(jinja_run *r, jinja_scope *up, jinja_scope **out) {
    void *p = NULL;
    TRY(jinja_take(r, 1, sizeof(jinja_scope), &p));
    *out = p;
    (*out)->up = up;
    return OK;
}

static jinja_var *scope_find(const jinja_scope *s, uint32_t name) {
    for (uint32_t i = 0; i < s->count; i++)
        if (s->vars[i].name == name) return &s->vars[i];
    return NULL;
}

status jinja_scope_set(jinja_run *r, uint32_t name, const jinja_value *v) {
    jinja_scope *s = r->scope;
    if (s == NULL) {
        r->top[name] = *v;
        return OK;
    }
    TRY(jinja_step(r, s->count / 8));
    jinja_var *var = scope_find(s, name);
    if (var == NULL) {
        if (s->count == s->cap) {
            uint32_t cap = s->cap == 0 ? 3 : 2 * s->cap;
            void *p = NULL;
            TRY(jinja_take(r, cap, sizeof *s->vars, &p));
            if (s->count != 0) memcpy(p, s->vars, s->count * sizeof *s->vars);
            s->vars = p;
            s->cap = cap;
        }
        var = &s->vars[s->count++];
        var->name = name;
    }
    var->value = *v;
    return OK;
}

status jinja_scope_get(jinja_run *r, uint32_t name, jinja_value *out) {
    for (const jinja_scope *s = r->scope; s != NULL; s = s->up) {
        TRY(jinja_step(r, s->count / 8));
        const jinja_var *var = scope_find(s, name);
        if (var == NULL) continue;
        *out = var->value;
        return OK;
    }
    *out = r->top[name];
    if (jinja_is_missing(out)) *out = r->context[name];
    if (jinja_is_missing(out)) *out = jinja_undefined_name(r->t->names[name]);
    return OK;
}

/* A body in a scope of its own. */
static status exec_scoped(jinja_run *r, const jinja_nodes *body) {
    jinja_scope *outer = r->scope;
    TRY(jinja_scope_new(r, outer, &r->scope));
    TRY(jinja_exec(r, body));
    r->scope = outer;
    return OK;
}

/* --- assignment ----------------------------------------------------------------------- */

static status assign_tuple(jinja_run *r, const jinja_node *target, const jinja_value *v) {
    const jinja_value *items = NULL;
    size_t count = 0, want = target->as.list.count;
    if (!jinja_is_iterable(v))
        return jinja_fail(r, "cannot unpack non-iterable %s object", jinja_kind_name(v->kind));
    TRY(jinja_items(r, v, &items, &count));
    if (count > want) return jinja_fail(r, "too many values to unpack (expected %zu)", want);
    if (count < want)
        return jinja_fail(r, "not enough values to unpack (expected %zu, got %zu)", want, count);
    for (const jinja_node *n = target->as.list.first; n != NULL; n = n->next)
        TRY(jinja_assign(r, n, items++));
    return OK;
}

static status assign_member(jinja_run *r, const jinja_node *target, const jinja_value *v) {
    jinja_value space, key = jinja_text(target->as.member.attribute);
    TRY(jinja_scope_get(r, target->as.member.name, &space));
    if (space.kind != JINJA_NAMESPACE)
        return jinja_fail(r, "cannot assign attribute on non-namespace object");
    return jinja_dict_set(r, space.as.dict, &key, v);
}

status jinja_assign(jinja_run *r, const jinja_node *target, const jinja_value *v) {
    TRY(jinja_step(r, 1));
    r->line = target->line;
    if (target->kind == JINJA_NODE_NAME) return jinja_scope_set(r, target->as.name, v);
    if (target->kind == JINJA_NODE_MEMBER) return assign_member(r, target, v);
    return assign_tuple(r, target, v);
}

/* The text of a body, through the filters; NULL: none. */
static status body_text(jinja_run *r, const jinja_nodes *body, const jinja_node *filter,
                        jinja_value *out) {
    size_t begin = jinja_text_begin(r);
    TRY(exec_scoped(r, body));
    TRY(jinja_text_take(r, begin, out));
    return filter != NULL ? jinja_eval_steps(r, filter->as.list.first, out) : OK;
}

static status exec_set(jinja_run *r, const jinja_node *node) {
    jinja_value v;
    if (node->as.set.value != NULL)
        TRY(jinja_eval(r, node->as.set.value, &v));
    else
        TRY(body_text(r, &node->as.set.body, node->as.set.filter, &v));
    return jinja_assign(r, node->as.set.target, &v);
}

static status exec_filter_block(jinja_run *r, const jinja_node *node) {
    jinja_value v;
    TRY(body_text(r, &node->as.set.body, node->as.set.filter, &v));
    return jinja_put_str(r, &v);
}

/* --- loops ---------------------------------------------------------------------------- */

/* Does an item pass the condition of its loop?  It is looked at in a scope of its own. */
static status loop_passes(jinja_run *r, const jinja_loop *l, const jinja_value *item, bool *out) {
    jinja_scope *inner = r->scope;
    jinja_value v;
    TRY(jinja_scope_new(r, l->scope, &r->scope));
    TRY(jinja_assign(r, l->node->as.loop.target, item));
    TRY(jinja_eval(r, l->node->as.loop.test, &v));
    r->scope = inner;
    *out = jinja_truth(&v);
    return OK;
}

status jinja_loop_peek(jinja_run *r, jinja_loop *l) {
    while (!l->has_after && l->at < l->count) {
        bool passes = true;
        TRY(jinja_step(r, 1));
        l->after = l->items[l->at++];
        if (l->filtered) TRY(loop_passes(r, l, &l->after, &passes));
        l->has_after = passes;
    }
    return OK;
}

/* Knowing how many pass means looking at all of them now. */
static status loop_filter_rest(jinja_run *r, jinja_loop *l) {
    jinja_value rest;
    TRY(jinja_list_new(r, JINJA_LIST, 0, &rest));
    while (l->at < l->count) {
        bool passes = false;
        const jinja_value *item = &l->items[l->at++];
        TRY(loop_passes(r, l, item, &passes));
        if (passes) TRY(jinja_list_add(r, rest.as.list, item));
    }
    l->items = rest.as.list->items;
    l->count = rest.as.list->count;
    l->at = 0;
    l->filtered = false;
    return OK;
}

status jinja_loop_length(jinja_run *r, jinja_loop *l, int64_t *out) {
    if (l->length < 0) {
        if (l->filtered) TRY(loop_filter_rest(r, l));
        l->length = l->index0 + 1 + (l->has_after ? 1 : 0) + (int64_t)(l->count - l->at);
    }
    *out = l->length;
    return OK;
}

/* A turn of the loop with l->now; its variables are fresh. */
static status loop_turn(jinja_run *r, jinja_loop *l, jinja_scope **scope) {
    jinja_value self = {.kind = JINJA_LOOP, .as.loop = l};
    bool keep = l->node->as.loop.has_closures || *scope == NULL;
    if (keep) TRY(jinja_scope_new(r, l->scope, scope));
    (*scope)->count = 0;
    r->scope = *scope;
    TRY(jinja_scope_set(r, JINJA_NAME_LOOP, &self));
    TRY(jinja_assign(r, l->node->as.loop.target, &l->now));
    TRY(jinja_exec(r, &l->node->as.loop.body));
    r->scope = l->scope;
    return OK;
}

static status loop_turns(jinja_run *r, jinja_loop *l) {
    jinja_scope *scope = NULL;
    while (true) {
        TRY(jinja_loop_peek(r, l));
        if (!l->has_after) return OK;
        l->before = l->now;
        l->now = l->after;
        l->has_after = false;
        l->index0++;
        TRY(loop_turn(r, l, &scope));
        jinja_jump jump = r->jump;
        r->jump = JINJA_JUMP_NONE;
        if (jump == JINJA_JUMP_NONE) l->finished = true;
        if (jump == JINJA_JUMP_BREAK) return OK;
    }
}

status jinja_loop_run(jinja_run *r, const jinja_node *node, const jinja_value *v, int64_t depth0) {
    void *p = NULL;
    if (++r->depth > JINJA_DEPTH_MAX) return jinja_deep(r);
    TRY(jinja_take(r, 1, sizeof(jinja_loop), &p));
    jinja_loop *l = p;
    *l = (jinja_loop){.node = node,
                      .scope = r->scope,
                      .filtered = node->as.loop.test != NULL,
                      .index0 = -1,
                      .depth0 = depth0,
                      .length = -1};
    r->line = node->line;
    TRY(jinja_items(r, v, &l->items, &l->count));
    TRY(loop_turns(r, l));
    /* also where every turn was left early: so does the original */
    if (!l->finished && node->as.loop.otherwise.first != NULL)
        TRY(exec_scoped(r, &node->as.loop.otherwise));
    r->depth--;
    return OK;
}

static status exec_for(jinja_run *r, const jinja_node *node) {
    jinja_value v;
    TRY(jinja_eval(r, node->as.loop.iterable, &v));
    return jinja_loop_run(r, node, &v, 0);
}

/* --- the other statements ------------------------------------------------------------- */

static status exec_print(jinja_run *r, const jinja_node *node) {
    for (const jinja_node *n = node->as.list.first; n != NULL; n = n->next) {
        jinja_value v;
        TRY(jinja_eval(r, n, &v));
        TRY(jinja_put_str(r, &v));
    }
    return buf_status(&r->text, "chat template", r->err);
}

static status exec_if(jinja_run *r, const jinja_node *node) {
    for (const jinja_node *n = node->as.list.first; n != NULL; n = n->next) {
        jinja_value v = jinja_bool(true);
        if (n->as.branch.test != NULL) TRY(jinja_eval(r, n->as.branch.test, &v));
        if (jinja_truth(&v)) return jinja_exec(r, &n->as.branch.body);
    }
    return OK;
}

/* The values are those of the scope around. */
static status exec_with(jinja_run *r, const jinja_node *node) {
    jinja_scope *outer = r->scope, *inner = NULL;
    const jinja_node *target = node->as.with.targets.first;
    TRY(jinja_scope_new(r, outer, &inner));
    for (const jinja_node *n = node->as.with.values.first; n != NULL; n = n->next) {
        jinja_value v;
        r->scope = outer;
        TRY(jinja_eval(r, n, &v));
        r->scope = inner;
        TRY(jinja_assign(r, target, &v));
        target = target->next;
    }
    r->scope = inner;
    TRY(jinja_exec(r, &node->as.with.body));
    r->scope = outer;
    return OK;
}

static status make_macro(jinja_run *r, const jinja_node *node, jinja_value *out) {
    void *p = NULL;
    TRY(jinja_take(r, 1, sizeof(jinja_macro), &p));
    *out = (jinja_value){.kind = JINJA_MACRO, .as.macro = p};
    *out->as.macro = (jinja_macro){.node = node, .scope = r->scope};
    return OK;
}

static status exec_macro(jinja_run *r, const jinja_node *node) {
    jinja_value macro;
    TRY(make_macro(r, node, &macro));
    return jinja_scope_set(r, node->as.macro.name, &macro);
}

/* The steps of the call up to the last, then the call itself with one argument more: caller. */
static status exec_call_block(jinja_run *r, const jinja_node *node) {
    const jinja_node *call = node->as.macro.call, *step = call->as.list.first->next;
    jinja_value callee, caller, text;
    jinja_args args;
    void *p = NULL;
    TRY(make_macro(r, node, &caller));
    TRY(jinja_eval(r, call->as.list.first, &callee));
    for (; step->next != NULL; step = step->next) {
        jinja_node alone = *step;
        alone.next = NULL;
        TRY(jinja_eval_steps(r, &alone, &callee));
    }
    TRY(jinja_eval_args(r, &step->as.call.args, &args));
    TRY(jinja_take(r, args.keywords_count + 1, sizeof(jinja_keyword), &p));
    jinja_keyword *keywords = p;
    if (args.keywords_count != 0)
        memcpy(keywords, args.keywords, args.keywords_count * sizeof *keywords);
    keywords[args.keywords_count] = (jinja_keyword){.name = S("caller"), .value = caller};
    args.keywords = keywords;
    args.keywords_count++;
    TRY(jinja_call(r, &callee, &args, &text));
    return jinja_put_str(r, &text);
}

/* A block sees the top level only, unless it is scoped. */
static status exec_block(jinja_run *r, const jinja_node *node) {
    jinja_scope *outer = r->scope;
    if (!node->flag) r->scope = NULL;
    TRY(exec_scoped(r, &node->as.branch.body));
    r->scope = outer;
    return OK;
}

static status exec_scope(jinja_run *r, const jinja_node *node) {
    jinja_value v = jinja_bool(false);
    if (node->as.branch.test != NULL) TRY(jinja_eval(r, node->as.branch.test, &v));
    if (jinja_truth(&v)) return jinja_fail(r, "autoescape is refused: a prompt is no HTML");
    return exec_scoped(r, &node->as.branch.body);
}

static status exec_node(jinja_run *r, const jinja_node *node) {
    switch (node->kind) {
    case JINJA_NODE_TEXT:
        jinja_text_put(r, node->as.text);
        return buf_status(&r->text, "chat template", r->err);
    case JINJA_NODE_PRINT:
        return exec_print(r, node);
    case JINJA_NODE_IF:
        return exec_if(r, node);
    case JINJA_NODE_FOR:
        return exec_for(r, node);
    case JINJA_NODE_SET:
        return exec_set(r, node);
    case JINJA_NODE_WITH:
        return exec_with(r, node);
    case JINJA_NODE_MACRO:
        return exec_macro(r, node);
    case JINJA_NODE_CALL_BLOCK:
        return exec_call_block(r, node);
    case JINJA_NODE_FILTER_BLOCK:
        return exec_filter_block(r, node);
    case JINJA_NODE_BLOCK:
        return exec_block(r, node);
    case JINJA_NODE_SCOPE:
        return exec_scope(r, node);
    default:
        r->jump = node->kind == JINJA_NODE_BREAK ? JINJA_JUMP_BREAK : JINJA_JUMP_CONTINUE;
        return OK;
    }
}

status jinja_exec(jinja_run *r, const jinja_nodes *body) {
    if (++r->depth > JINJA_DEPTH_MAX) return jinja_deep(r);
    for (const jinja_node *n = body->first; n != NULL && r->jump == JINJA_JUMP_NONE; n = n->next) {
        TRY(jinja_step(r, 1));
        r->line = n->line;
        TRY(exec_node(r, n));
    }
    r->depth--;
    return OK;
}
