/* jinja_parse_expr.c - expressions.
 *
 * From loosest to tightest: choice (a if b else c), or, and, not, comparisons, + and -, ~,
 * * / // %, **, signs, then what is behind a primary: .name, [item], (call), |filter, is test.
 * All binary operators group to the left, ** too. */
#include <stdarg.h>

#include "text/jinja_builtin.h"
#include "text/jinja_parse_internal.h"

static status parse_level(jinja_parser *p, uint32_t level, jinja_node **out);

/* --- arguments ------------------------------------------------------------------------ */

static status parse_argument(jinja_parser *p, jinja_nodes *args, jinja_arg_op *most) {
    jinja_node *arg = NULL;
    jinja_arg_op op = p->now.kind == JINJA_TOKEN_MUL   ? JINJA_ARG_LIST
                      : p->now.kind == JINJA_TOKEN_POW ? JINJA_ARG_DICT
                                                       : JINJA_ARG_PLAIN;
    TRY(jinja_parse_node(p, JINJA_NODE_ARGUMENT, p->now.line, &arg));
    if (p->now.kind == JINJA_TOKEN_NAME) {
        const jinja_token *ahead = NULL;
        TRY(jinja_parse_peek(p, &ahead));
        if (ahead->kind == JINJA_TOKEN_ASSIGN) op = JINJA_ARG_NAMED;
    }
    /* plain ones first, then named ones and one *list in any order, one **dict at the end */
    bool in_order = op == JINJA_ARG_PLAIN   ? *most == JINJA_ARG_PLAIN
                    : op == JINJA_ARG_NAMED ? *most != JINJA_ARG_DICT
                    : op == JINJA_ARG_LIST  ? *most < JINJA_ARG_LIST
                                            : *most != JINJA_ARG_DICT;
    if (!in_order)
        return jinja_parse_fail(p, arg->line, "invalid syntax for function call expression");
    if (op > *most) *most = op;
    arg->op = (uint8_t)op;
    if (op == JINJA_ARG_NAMED) {
        arg->as.arg.name = p->now.text;
        TRY(jinja_parse_advance(p));
    }
    if (op != JINJA_ARG_PLAIN) TRY(jinja_parse_advance(p));
    TRY(jinja_parse_expression(p, true, &arg->as.arg.value));
    jinja_parse_append(args, arg);
    return OK;
}

/* From ( to ). */
static status parse_arguments(jinja_parser *p, jinja_nodes *args) {
    jinja_arg_op most = JINJA_ARG_PLAIN;
    TRY(jinja_parse_expect(p, JINJA_TOKEN_LPAREN));
    while (p->now.kind != JINJA_TOKEN_RPAREN) {
        if (args->count != 0) {
            TRY(jinja_parse_expect(p, JINJA_TOKEN_COMMA));
            if (p->now.kind == JINJA_TOKEN_RPAREN) break;
        }
        TRY(parse_argument(p, args, &most));
    }
    return jinja_parse_expect(p, JINJA_TOKEN_RPAREN);
}

/* --- primaries ------------------------------------------------------------------------ */

static status parse_string(jinja_parser *p, jinja_node *node) {
    str text = p->now.text;
    TRY(jinja_parse_advance(p));
    size_t cap = 0;
    while (p->now.kind == JINJA_TOKEN_STRING) { /* neighbours are one string */
        if (text.n + p->now.text.n > cap) {
            cap = 2 * (text.n + p->now.text.n);
            char *grown = arena_take(p->mem, cap + 1);
            if (grown == NULL) return jinja_no_room(p->mem, cap, p->err);
            memcpy(grown, text.p, text.n);
            text.p = grown;
        }
        memcpy((char *)text.p + text.n, p->now.text.p, p->now.text.n);
        text.n += p->now.text.n;
        TRY(jinja_parse_advance(p));
    }
    node->as.value = jinja_text(text);
    return OK;
}

static status parse_word(jinja_parser *p, jinja_node *node) {
    bool is_true = jinja_parse_at_word(p, "true") || jinja_parse_at_word(p, "True");
    bool is_false = jinja_parse_at_word(p, "false") || jinja_parse_at_word(p, "False");
    node->as.value = jinja_bool(is_true);
    if (jinja_parse_at_word(p, "none") || jinja_parse_at_word(p, "None")) {
        node->as.value = jinja_none();
    } else if (!is_true && !is_false) {
        node->kind = JINJA_NODE_NAME;
        TRY(jinja_parse_name(p, p->now.text, &node->as.name));
        if (node->as.name == JINJA_NAME_CALLER) p->uses |= JINJA_USES_CALLER;
        if (node->as.name == JINJA_NAME_KWARGS) p->uses |= JINJA_USES_KWARGS;
        if (node->as.name == JINJA_NAME_VARARGS) p->uses |= JINJA_USES_VARARGS;
    }
    return jinja_parse_advance(p);
}

static status parse_list(jinja_parser *p, jinja_node *node) {
    TRY(jinja_parse_expect(p, JINJA_TOKEN_LBRACKET));
    while (p->now.kind != JINJA_TOKEN_RBRACKET) {
        jinja_node *item = NULL;
        if (node->as.list.count != 0) {
            TRY(jinja_parse_expect(p, JINJA_TOKEN_COMMA));
            if (p->now.kind == JINJA_TOKEN_RBRACKET) break;
        }
        TRY(jinja_parse_expression(p, true, &item));
        jinja_parse_append(&node->as.list, item);
    }
    return jinja_parse_expect(p, JINJA_TOKEN_RBRACKET);
}

static status parse_dict(jinja_parser *p, jinja_node *node) {
    TRY(jinja_parse_expect(p, JINJA_TOKEN_LBRACE));
    while (p->now.kind != JINJA_TOKEN_RBRACE) {
        jinja_node *key = NULL, *value = NULL;
        if (node->as.list.count != 0) {
            TRY(jinja_parse_expect(p, JINJA_TOKEN_COMMA));
            if (p->now.kind == JINJA_TOKEN_RBRACE) break;
        }
        TRY(jinja_parse_expression(p, true, &key));
        TRY(jinja_parse_expect(p, JINJA_TOKEN_COLON));
        TRY(jinja_parse_expression(p, true, &value));
        jinja_parse_append(&node->as.list, key);
        jinja_parse_append(&node->as.list, value);
    }
    return jinja_parse_expect(p, JINJA_TOKEN_RBRACE);
}

/* Is the current token one where a tuple without parentheses ends? */
static bool is_tuple_end(const jinja_parser *p, const char *end) {
    jinja_token_kind k = p->now.kind;
    return k == JINJA_TOKEN_PRINT_END || k == JINJA_TOKEN_BLOCK_END || k == JINJA_TOKEN_RPAREN ||
           (end != NULL && jinja_parse_at_word(p, end));
}

/* Items with commas between: the only item, or a TUPLE; *out is NULL when there is nothing. */
static status parse_items(jinja_parser *p, bool with_choice, const char *end, jinja_node **out) {
    jinja_node *tuple = NULL;
    TRY(jinja_parse_node(p, JINJA_NODE_TUPLE, p->now.line, &tuple));
    bool comma = false;
    while (!is_tuple_end(p, end)) {
        jinja_node *item = NULL;
        TRY(jinja_parse_expression(p, with_choice, &item));
        jinja_parse_append(&tuple->as.list, item);
        comma = comma || p->now.kind == JINJA_TOKEN_COMMA;
        if (p->now.kind != JINJA_TOKEN_COMMA) break;
        TRY(jinja_parse_advance(p));
    }
    *out = comma ? tuple : tuple->as.list.first;
    return OK;
}

static status parse_parentheses(jinja_parser *p, jinja_node **out) {
    uint32_t line = p->now.line;
    TRY(jinja_parse_expect(p, JINJA_TOKEN_LPAREN));
    TRY(parse_items(p, true, NULL, out));
    if (*out == NULL) TRY(jinja_parse_node(p, JINJA_NODE_TUPLE, line, out));
    return jinja_parse_expect(p, JINJA_TOKEN_RPAREN);
}

static status parse_number(jinja_parser *p, jinja_node *node) {
    node->as.value = p->now.kind == JINJA_TOKEN_INTEGER ? jinja_integer(p->now.integer)
                                                        : jinja_float(p->now.real);
    return jinja_parse_advance(p);
}

static status parse_primary_inside(jinja_parser *p, jinja_node **out) {
    jinja_token_kind k = p->now.kind;
    if (k == JINJA_TOKEN_LPAREN) return parse_parentheses(p, out);
    jinja_node_kind kind = k == JINJA_TOKEN_LBRACKET ? JINJA_NODE_LIST
                           : k == JINJA_TOKEN_LBRACE ? JINJA_NODE_DICT
                                                     : JINJA_NODE_CONST;
    TRY(jinja_parse_node(p, kind, p->now.line, out));
    switch (k) {
    case JINJA_TOKEN_NAME:
        return parse_word(p, *out);
    case JINJA_TOKEN_STRING:
        return parse_string(p, *out);
    case JINJA_TOKEN_INTEGER:
    case JINJA_TOKEN_FLOAT:
        return parse_number(p, *out);
    case JINJA_TOKEN_LBRACKET:
        return parse_list(p, *out);
    case JINJA_TOKEN_LBRACE:
        return parse_dict(p, *out);
    case JINJA_TOKEN_END:
        return jinja_parse_fail(p, p->now.line,
                                "unexpected end of template, expected an expression.");
    default:
        return jinja_parse_fail(p, p->now.line, "unexpected '%.*s'", STR(jinja_parse_found(p)));
    }
}

static status parse_primary(jinja_parser *p, jinja_node **out) {
    TRY(jinja_parse_enter(p));
    TRY(parse_primary_inside(p, out));
    jinja_parse_leave(p);
    return OK;
}

/* --- steps behind a primary ----------------------------------------------------------- */

/* Adds a step to *expr, which becomes a POSTFIX if it is none. */
static status add_step(jinja_parser *p, jinja_node **expr, jinja_node_kind kind,
                       jinja_node **step) {
    jinja_node *postfix = *expr;
    TRY(jinja_parse_node(p, kind, p->now.line, step));
    if (postfix->kind != JINJA_NODE_POSTFIX) {
        TRY(jinja_parse_node(p, JINJA_NODE_POSTFIX, p->now.line, &postfix));
        jinja_parse_append(&postfix->as.list, *expr);
        *expr = postfix;
    }
    jinja_parse_append(&postfix->as.list, *step);
    return OK;
}

static status parse_attribute(jinja_parser *p, jinja_node **expr) {
    jinja_node *step = NULL;
    TRY(jinja_parse_advance(p));
    if (p->now.kind == JINJA_TOKEN_NAME) {
        TRY(add_step(p, expr, JINJA_NODE_ATTRIBUTE, &step));
        step->as.text = p->now.text;
        TRY(jinja_parse_attribute(p, p->now.text));
        return jinja_parse_advance(p);
    }
    if (p->now.kind != JINJA_TOKEN_INTEGER)
        return jinja_parse_fail(p, p->now.line, "expected name or number");
    jinja_node *index = NULL;
    TRY(add_step(p, expr, JINJA_NODE_ITEM, &step));
    TRY(jinja_parse_node(p, JINJA_NODE_CONST, p->now.line, &index));
    index->as.value = jinja_integer(p->now.integer);
    jinja_parse_append(&step->as.list, index);
    return jinja_parse_advance(p);
}

static bool is_bound_end(const jinja_parser *p) {
    return p->now.kind == JINJA_TOKEN_RBRACKET || p->now.kind == JINJA_TOKEN_COMMA ||
           p->now.kind == JINJA_TOKEN_COLON;
}

/* What is left of a slice behind its first bound: `:b`, `:b:c`, each may be missing. */
static status parse_slice(jinja_parser *p, jinja_node *step) {
    bool colon = false;
    TRY(jinja_parse_expect(p, JINJA_TOKEN_COLON));
    if (!is_bound_end(p)) TRY(jinja_parse_expression(p, true, &step->as.slice.stop));
    TRY(jinja_parse_skip(p, JINJA_TOKEN_COLON, &colon));
    if (colon && !is_bound_end(p)) TRY(jinja_parse_expression(p, true, &step->as.slice.step));
    return OK;
}

/* From [ to ]: a slice, or an item; several items with commas are one tuple. */
static status parse_subscript(jinja_parser *p, jinja_node **expr) {
    jinja_node *step = NULL, *item = NULL, *tuple = NULL;
    TRY(jinja_parse_advance(p));
    TRY(add_step(p, expr, JINJA_NODE_ITEM, &step));
    if (p->now.kind == JINJA_TOKEN_RBRACKET) { /* a[] is a[()] */
        TRY(jinja_parse_node(p, JINJA_NODE_TUPLE, p->now.line, &item));
        jinja_parse_append(&step->as.list, item);
        return jinja_parse_advance(p);
    }
    if (p->now.kind != JINJA_TOKEN_COLON) TRY(jinja_parse_expression(p, true, &item));
    if (p->now.kind == JINJA_TOKEN_COLON) {
        step->kind = JINJA_NODE_SLICE;
        step->as.slice.start = item;
        TRY(parse_slice(p, step));
        return jinja_parse_expect(p, JINJA_TOKEN_RBRACKET);
    }
    if (p->now.kind == JINJA_TOKEN_COMMA) {
        TRY(jinja_parse_node(p, JINJA_NODE_TUPLE, p->now.line, &tuple));
        jinja_parse_append(&tuple->as.list, item);
        item = tuple;
    }
    while (p->now.kind == JINJA_TOKEN_COMMA) {
        jinja_node *more = NULL;
        TRY(jinja_parse_advance(p));
        TRY(jinja_parse_expression(p, true, &more));
        jinja_parse_append(&tuple->as.list, more);
    }
    jinja_parse_append(&step->as.list, item);
    if (item->kind == JINJA_NODE_CONST && item->as.value.kind == JINJA_STR)
        TRY(jinja_parse_attribute(p, item->as.value.as.s));
    return jinja_parse_expect(p, JINJA_TOKEN_RBRACKET);
}

static status parse_call(jinja_parser *p, jinja_node **expr) {
    jinja_node *step = NULL;
    TRY(add_step(p, expr, JINJA_NODE_CALL, &step));
    return parse_arguments(p, &step->as.call.args);
}

/* .name [item] (call), as many as there are. */
static status parse_steps(jinja_parser *p, jinja_node **expr) {
    while (true) {
        if (p->now.kind == JINJA_TOKEN_DOT) {
            TRY(parse_attribute(p, expr));
        } else if (p->now.kind == JINJA_TOKEN_LBRACKET) {
            TRY(parse_subscript(p, expr));
        } else if (p->now.kind == JINJA_TOKEN_LPAREN) {
            TRY(parse_call(p, expr));
        } else {
            return OK;
        }
    }
}

/* name or name.name of a filter or test, which is looked up at once. */
static status parse_builtin_name(jinja_parser *p, bool is_test, jinja_node *step) {
    str name = p->now.text;
    TRY(jinja_parse_expect(p, JINJA_TOKEN_NAME));
    while (p->now.kind == JINJA_TOKEN_DOT) {
        TRY(jinja_parse_advance(p));
        name.n = (size_t)(p->now.text.p + p->now.text.n - name.p);
        TRY(jinja_parse_expect(p, JINJA_TOKEN_NAME));
    }
    step->as.call.name = name;
    step->as.call.def = is_test ? jinja_test_find(name) : jinja_filter_find(name);
    if (step->as.call.def == NULL && !p->conditional)
        return jinja_parse_fail(p, step->line, "No %s named '%.*s'.", is_test ? "test" : "filter",
                                STR(name));
    return OK;
}

static status parse_filter_step(jinja_parser *p, jinja_node **expr) {
    jinja_node *step = NULL;
    TRY(add_step(p, expr, JINJA_NODE_FILTER, &step));
    TRY(parse_builtin_name(p, false, step));
    if (p->now.kind == JINJA_TOKEN_LPAREN) TRY(parse_arguments(p, &step->as.call.args));
    return OK;
}

/* May the current token begin the argument of a test that has no parentheses? */
static bool is_test_argument(const jinja_parser *p) {
    switch (p->now.kind) {
    case JINJA_TOKEN_NAME:
        return !jinja_parse_at_word(p, "else") && !jinja_parse_at_word(p, "or") &&
               !jinja_parse_at_word(p, "and");
    case JINJA_TOKEN_STRING:
    case JINJA_TOKEN_INTEGER:
    case JINJA_TOKEN_FLOAT:
    case JINJA_TOKEN_LBRACKET:
    case JINJA_TOKEN_LBRACE:
        return true;
    default:
        return false;
    }
}

static status parse_test_step(jinja_parser *p, jinja_node **expr) {
    jinja_node *step = NULL;
    bool negated = false;
    TRY(jinja_parse_advance(p));
    TRY(jinja_parse_skip_word(p, "not", &negated));
    TRY(add_step(p, expr, JINJA_NODE_TEST, &step));
    step->flag = negated;
    TRY(parse_builtin_name(p, true, step));
    if (p->now.kind == JINJA_TOKEN_LPAREN) return parse_arguments(p, &step->as.call.args);
    if (!is_test_argument(p)) return OK;
    if (jinja_parse_at_word(p, "is"))
        return jinja_parse_fail(p, p->now.line, "You cannot chain multiple tests with is");
    jinja_node *arg = NULL;
    TRY(jinja_parse_node(p, JINJA_NODE_ARGUMENT, p->now.line, &arg));
    TRY(parse_primary(p, &arg->as.arg.value));
    TRY(parse_steps(p, &arg->as.arg.value));
    jinja_parse_append(&step->as.call.args, arg);
    return OK;
}

static status parse_filter_steps(jinja_parser *p, jinja_node **expr) {
    while (true) {
        if (p->now.kind == JINJA_TOKEN_PIPE) {
            TRY(jinja_parse_advance(p));
            TRY(parse_filter_step(p, expr));
        } else if (jinja_parse_at_word(p, "is")) {
            TRY(parse_test_step(p, expr));
        } else if (p->now.kind == JINJA_TOKEN_LPAREN) {
            TRY(parse_call(p, expr));
        } else {
            return OK;
        }
    }
}

status jinja_parse_filters(jinja_parser *p, bool inline_first, jinja_node **out) {
    *out = NULL;
    if (!inline_first && p->now.kind != JINJA_TOKEN_PIPE) return OK;
    TRY(jinja_parse_node(p, JINJA_NODE_POSTFIX, p->now.line, out));
    while (inline_first || p->now.kind == JINJA_TOKEN_PIPE) {
        if (!inline_first) TRY(jinja_parse_advance(p));
        TRY(parse_filter_step(p, out));
        inline_first = false;
    }
    return OK;
}

/* --- operators ------------------------------------------------------------------------ */

/* Signs and a primary with all its steps; the signs bind tighter than filters do. */
static status parse_unary(jinja_parser *p, jinja_node **out) {
    uint32_t line = p->now.line, signs = 0, minus = 0;
    while (p->now.kind == JINJA_TOKEN_SUB || p->now.kind == JINJA_TOKEN_ADD) {
        minus += p->now.kind == JINJA_TOKEN_SUB;
        signs++;
        TRY(jinja_parse_advance(p));
    }
    TRY(parse_primary(p, out));
    TRY(parse_steps(p, out));
    if (signs != 0) {
        jinja_node *sign = NULL;
        TRY(jinja_parse_node(p, JINJA_NODE_SIGN, line, &sign));
        sign->flag = minus % 2 != 0;
        jinja_parse_append(&sign->as.list, *out);
        *out = sign;
    }
    return parse_filter_steps(p, out);
}

enum {
    LEVEL_OR,
    LEVEL_AND,
    LEVEL_NOT,
    LEVEL_COMPARE,
    LEVEL_ADD,
    LEVEL_CONCAT,
    LEVEL_MUL,
    LEVEL_POW,
    LEVEL_UNARY
};

/* Is the current token a comparison?  `not in` takes two tokens: the first is passed here. */
static status compare_op(jinja_parser *p, bool *yes, uint8_t *op) {
    static const jinja_token_kind KINDS[] = {JINJA_TOKEN_EQ, JINJA_TOKEN_NE, JINJA_TOKEN_LT,
                                             JINJA_TOKEN_LE, JINJA_TOKEN_GT, JINJA_TOKEN_GE};
    *yes = true;
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
        *op = (uint8_t)i;
        if (p->now.kind == KINDS[i]) return OK;
    }
    *op = JINJA_OP_IN;
    if (jinja_parse_at_word(p, "in")) return OK;
    *op = JINJA_OP_NOT_IN;
    if (jinja_parse_at_word(p, "not")) {
        const jinja_token *ahead = NULL;
        TRY(jinja_parse_peek(p, &ahead));
        if (ahead->kind == JINJA_TOKEN_NAME && str_eq_c(ahead->text, "in"))
            return jinja_parse_advance(p);
    }
    *yes = false;
    return OK;
}

/* Is the current token an operator of this level, and which? */
static status level_op(jinja_parser *p, uint32_t level, bool *yes, uint8_t *op) {
    jinja_token_kind k = p->now.kind;
    *op = (uint8_t)k;
    switch (level) {
    case LEVEL_OR:
        *yes = jinja_parse_at_word(p, "or");
        return OK;
    case LEVEL_AND:
        *yes = jinja_parse_at_word(p, "and");
        return OK;
    case LEVEL_COMPARE:
        return compare_op(p, yes, op);
    case LEVEL_ADD:
        *yes = k == JINJA_TOKEN_ADD || k == JINJA_TOKEN_SUB;
        return OK;
    case LEVEL_CONCAT:
        *yes = k == JINJA_TOKEN_TILDE;
        return OK;
    case LEVEL_MUL:
        *yes = k == JINJA_TOKEN_MUL || k == JINJA_TOKEN_DIV || k == JINJA_TOKEN_FLOORDIV ||
               k == JINJA_TOKEN_MOD;
        return OK;
    default:
        *yes = k == JINJA_TOKEN_POW;
        return OK;
    }
}

static jinja_node_kind level_kind(uint32_t level) {
    switch (level) {
    case LEVEL_OR:
        return JINJA_NODE_OR;
    case LEVEL_AND:
        return JINJA_NODE_AND;
    case LEVEL_COMPARE:
        return JINJA_NODE_COMPARE;
    case LEVEL_CONCAT:
        return JINJA_NODE_CONCAT;
    default:
        return JINJA_NODE_CHAIN;
    }
}

static status parse_not(jinja_parser *p, jinja_node **out) {
    uint32_t line = p->now.line, count = 0;
    bool yes = true;
    while (yes) {
        TRY(jinja_parse_skip_word(p, "not", &yes));
        count += yes;
    }
    TRY(parse_level(p, LEVEL_COMPARE, out));
    if (count == 0) return OK;
    jinja_node *node = NULL;
    TRY(jinja_parse_node(p, JINJA_NODE_NOT, line, &node));
    node->flag = count % 2 != 0;
    jinja_parse_append(&node->as.list, *out);
    *out = node;
    return OK;
}

static status parse_level(jinja_parser *p, uint32_t level, jinja_node **out) {
    if (level == LEVEL_UNARY) return parse_unary(p, out);
    if (level == LEVEL_NOT) return parse_not(p, out);
    uint32_t line = p->now.line;
    jinja_node *node = NULL, *operand = NULL;
    uint8_t op = 0;
    bool yes = false;
    TRY(parse_level(p, level + 1, out));
    TRY(level_op(p, level, &yes, &op));
    if (!yes) return OK;
    TRY(jinja_parse_node(p, level_kind(level), line, &node));
    jinja_parse_append(&node->as.list, *out);
    *out = node;
    while (yes) {
        TRY(jinja_parse_advance(p));
        TRY(parse_level(p, level + 1, &operand));
        /* a node of its own: an operand in parentheses may carry an op already */
        jinja_node *slot = NULL;
        TRY(jinja_parse_node(p, JINJA_NODE_ARGUMENT, operand->line, &slot));
        slot->op = op;
        slot->as.arg.value = operand;
        jinja_parse_append(&node->as.list, slot);
        TRY(level_op(p, level, &yes, &op));
    }
    return OK;
}

/* value if condition else ...: all links of the chain in one node. */
static status parse_choice(jinja_parser *p, jinja_node *first, jinja_node **out) {
    jinja_node *node = NULL, *part = first;
    bool yes = true, conditional = p->conditional;
    p->conditional = true;
    TRY(jinja_parse_node(p, JINJA_NODE_CHOICE, first->line, &node));
    jinja_parse_append(&node->as.list, first);
    while (yes) {
        TRY(parse_level(p, LEVEL_OR, &part));
        jinja_parse_append(&node->as.list, part);
        TRY(jinja_parse_skip_word(p, "else", &yes));
        if (!yes) break;
        TRY(parse_level(p, LEVEL_OR, &part));
        jinja_parse_append(&node->as.list, part);
        TRY(jinja_parse_skip_word(p, "if", &yes));
    }
    p->conditional = conditional;
    *out = node;
    return OK;
}

status jinja_parse_expression(jinja_parser *p, bool with_choice, jinja_node **out) {
    bool yes = false;
    TRY(parse_level(p, LEVEL_OR, out));
    if (!with_choice) return OK;
    TRY(jinja_parse_skip_word(p, "if", &yes));
    while (yes) { /* again: a if b if c */
        TRY(parse_choice(p, *out, out));
        TRY(jinja_parse_skip_word(p, "if", &yes));
    }
    return OK;
}

status jinja_parse_tuple(jinja_parser *p, bool with_choice, const char *end, jinja_node **out) {
    TRY(parse_items(p, with_choice, end, out));
    if (*out != NULL) return OK;
    return jinja_parse_fail(p, p->now.line, "Expected an expression, got '%.*s'",
                            STR(jinja_parse_found(p)));
}

/* --- targets -------------------------------------------------------------------------- */

static status parse_target_item(jinja_parser *p, const char *end, jinja_node **out);

/* Names with commas between, up to the word `end` (NULL: none) or what is neither. */
static status parse_target_items(jinja_parser *p, const char *end, jinja_node **out) {
    jinja_node *tuple = NULL;
    bool comma = false;
    TRY(jinja_parse_node(p, JINJA_NODE_TUPLE, p->now.line, &tuple));
    while (p->now.kind == JINJA_TOKEN_LPAREN ||
           (p->now.kind == JINJA_TOKEN_NAME && (end == NULL || !jinja_parse_at_word(p, end)))) {
        jinja_node *item = NULL;
        TRY(parse_target_item(p, end, &item));
        jinja_parse_append(&tuple->as.list, item);
        if (p->now.kind != JINJA_TOKEN_COMMA) break;
        comma = true;
        TRY(jinja_parse_advance(p));
    }
    if (tuple->as.list.count == 0)
        return jinja_parse_fail(p, p->now.line, "can't assign to '%.*s'",
                                STR(jinja_parse_found(p)));
    *out = comma ? tuple : tuple->as.list.first;
    return OK;
}

static status parse_target_item(jinja_parser *p, const char *end, jinja_node **out) {
    if (p->now.kind == JINJA_TOKEN_LPAREN) {
        TRY(jinja_parse_enter(p));
        TRY(jinja_parse_advance(p));
        TRY(parse_target_items(p, end, out));
        jinja_parse_leave(p);
        return jinja_parse_expect(p, JINJA_TOKEN_RPAREN);
    }
    jinja_node *node = NULL;
    TRY(jinja_parse_node(p, JINJA_NODE_CONST, p->now.line, &node));
    uint8_t uses = p->uses; /* a name that is assigned is not mentioned */
    str word = p->now.text;
    TRY(parse_word(p, node));
    p->uses = uses;
    if (node->kind != JINJA_NODE_NAME)
        return jinja_parse_fail(p, node->line, "can't assign to '%.*s'", STR(word));
    *out = node;
    return OK;
}

status jinja_parse_target(jinja_parser *p, bool member, const char *end, jinja_node **out) {
    const jinja_token *ahead = NULL;
    TRY(jinja_parse_peek(p, &ahead));
    if (!member || ahead->kind != JINJA_TOKEN_DOT) return parse_target_items(p, end, out);
    TRY(jinja_parse_node(p, JINJA_NODE_MEMBER, p->now.line, out));
    str name = p->now.text;
    TRY(jinja_parse_expect(p, JINJA_TOKEN_NAME));
    TRY(jinja_parse_name(p, name, &(*out)->as.member.name));
    TRY(jinja_parse_advance(p));
    (*out)->as.member.attribute = p->now.text;
    return jinja_parse_expect(p, JINJA_TOKEN_NAME);
}
