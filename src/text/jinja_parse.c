/* jinja_parse.c - statements, and what both halves of the parser need.
 *
 * A recursive descent whose depth JINJA_NESTING_MAX bounds.  The messages are those that people
 * know from Jinja where it has one.  Source: the Jinja 3.1 documentation, "Template Designer
 * Documentation"; where it is silent, what Jinja 3.1 does. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/alloc.h"
#include "text/jinja_parse_internal.h"
#include "text/jinja_unicode.h"

enum { TEMPLATE_BYTES_MAX = 256 << 20 }; /* a source of 1 MiB makes up to 200 times as much */

/* --- tokens --------------------------------------------------------------------------- */

status(jinja_parse_fail)(jinja_parser *p, uint32_t line, const char *fmt, ...) {
    char why[256];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    return error_set(p->err, ERR_FORMAT, "chat template: line %" PRIu32 ": %s", line, why);
}

status jinja_parse_advance(jinja_parser *p) {
    if (p->has_ahead) {
        p->now = p->ahead;
        p->has_ahead = false;
        return OK;
    }
    return jinja_lex_next(&p->lexer, &p->now, p->err);
}

status jinja_parse_peek(jinja_parser *p, const jinja_token **out) {
    if (!p->has_ahead) TRY(jinja_lex_next(&p->lexer, &p->ahead, p->err));
    p->has_ahead = true;
    *out = &p->ahead;
    return OK;
}

str jinja_parse_found(const jinja_parser *p) {
    bool spoken = p->now.kind == JINJA_TOKEN_NAME || p->now.kind == JINJA_TOKEN_STRING;
    return spoken ? p->now.text : str_of(jinja_token_words(p->now.kind));
}

status jinja_parse_expect(jinja_parser *p, jinja_token_kind kind) {
    if (p->now.kind == kind) return jinja_parse_advance(p);
    if (p->now.kind == JINJA_TOKEN_END)
        return jinja_parse_fail(p, p->now.line, "unexpected end of template, expected '%s'.",
                                jinja_token_words(kind));
    return jinja_parse_fail(p, p->now.line, "expected token '%s', got '%.*s'",
                            jinja_token_words(kind), STR(jinja_parse_found(p)));
}

bool jinja_parse_at_word(const jinja_parser *p, const char *word) {
    return p->now.kind == JINJA_TOKEN_NAME && str_eq_c(p->now.text, word);
}

status jinja_parse_skip(jinja_parser *p, jinja_token_kind kind, bool *yes) {
    *yes = p->now.kind == kind;
    return *yes ? jinja_parse_advance(p) : OK;
}

status jinja_parse_skip_word(jinja_parser *p, const char *word, bool *yes) {
    *yes = jinja_parse_at_word(p, word);
    return *yes ? jinja_parse_advance(p) : OK;
}

status jinja_parse_enter(jinja_parser *p) {
    if (p->depth == JINJA_NESTING_MAX)
        return error_set(p->err, ERR_LIMIT,
                         "chat template: line %" PRIu32 ": nested deeper than %d", p->now.line,
                         JINJA_NESTING_MAX);
    p->depth++;
    return OK;
}

void jinja_parse_leave(jinja_parser *p) { p->depth--; }

/* --- nodes ---------------------------------------------------------------------------- */

status jinja_parse_node(jinja_parser *p, jinja_node_kind kind, uint32_t line, jinja_node **out) {
    jinja_node *node = arena_take(p->mem, sizeof *node);
    if (node == NULL) return jinja_no_room(p->mem, sizeof *node, p->err);
    node->kind = (uint8_t)kind;
    node->line = line;
    *out = node;
    return OK;
}

void jinja_parse_append(jinja_nodes *list, jinja_node *node) {
    if (list->last != NULL) list->last->next = node;
    if (list->first == NULL) list->first = node;
    list->last = node;
    list->count++;
}

/* Adds a name to a list in the arena, which doubles when it is full. */
static status list_add(jinja_parser *p, str **list, uint32_t *count, uint32_t *cap, str name) {
    if (*count == *cap) {
        uint32_t more = *cap == 0 ? 16 : 2 * *cap;
        str *grown = arena_take(p->mem, more * sizeof *grown);
        if (grown == NULL) return jinja_no_room(p->mem, more * sizeof *grown, p->err);
        if (*count != 0) memcpy(grown, *list, *count * sizeof *grown);
        *list = grown;
        *cap = more;
    }
    (*list)[(*count)++] = name;
    return OK;
}

status jinja_parse_name(jinja_parser *p, str name, uint32_t *out) {
    if (map_get(&p->names, name, out)) return OK;
    *out = p->names_count;
    TRY(list_add(p, &p->name_list, &p->names_count, &p->names_cap, name));
    (void)map_add(&p->names, name, *out);
    return OK;
}

status jinja_parse_attribute(jinja_parser *p, str name) {
    if (map_get(&p->attributes, name, NULL)) return OK;
    TRY(list_add(p, &p->attribute_list, &p->attributes_count, &p->attributes_cap, name));
    (void)map_add(&p->attributes, name, 0);
    return OK;
}

/* --- bodies --------------------------------------------------------------------------- */

static status parse_statement(jinja_parser *p, jinja_nodes *body);

/* Is the current word one of `ends`, a list of words with spaces between? */
static bool is_end_word(const jinja_parser *p, const char *ends) {
    if (ends == NULL || p->now.kind != JINJA_TOKEN_NAME) return false;
    for (const char *w = ends; *w != '\0';) {
        size_t n = strcspn(w, " ");
        if (str_eq((str){w, n}, p->now.text)) return true;
        w += n + (w[n] == ' ');
    }
    return false;
}

static status parse_text(jinja_parser *p, jinja_nodes *body) {
    jinja_node *node = NULL;
    TRY(jinja_parse_node(p, JINJA_NODE_TEXT, p->now.line, &node));
    node->as.text = p->now.text;
    jinja_parse_append(body, node);
    return jinja_parse_advance(p);
}

static status parse_print_tag(jinja_parser *p, jinja_nodes *body) {
    jinja_node *node = NULL, *value = NULL;
    TRY(jinja_parse_node(p, JINJA_NODE_PRINT, p->now.line, &node));
    TRY(jinja_parse_advance(p));
    TRY(jinja_parse_tuple(p, true, NULL, &value));
    jinja_parse_append(&node->as.list, value);
    jinja_parse_append(body, node);
    return jinja_parse_expect(p, JINJA_TOKEN_PRINT_END);
}

/* Up to a tag that begins with one of `ends`, which is then the current token; NULL: to the end
 * of the template. */
static status parse_until(jinja_parser *p, const char *ends, jinja_nodes *body) {
    while (p->now.kind != JINJA_TOKEN_END) {
        if (p->now.kind == JINJA_TOKEN_TEXT) {
            TRY(parse_text(p, body));
        } else if (p->now.kind == JINJA_TOKEN_PRINT_BEGIN) {
            TRY(parse_print_tag(p, body));
        } else {
            TRY(jinja_parse_advance(p));
            if (is_end_word(p, ends)) return OK;
            TRY(parse_statement(p, body));
            TRY(jinja_parse_expect(p, JINJA_TOKEN_BLOCK_END));
        }
    }
    if (ends == NULL) return OK;
    return jinja_parse_fail(p, p->now.line,
                            "Unexpected end of template. Jinja was looking for the following tags: "
                            "'%s'. The innermost block that needs to be closed is '%.*s'.",
                            ends, STR(p->tag));
}

/* The end of the current tag and what follows, as above. */
static status parse_body(jinja_parser *p, const char *ends, jinja_nodes *body) {
    bool colon = false;
    str tag = p->tag;
    TRY(jinja_parse_skip(p, JINJA_TOKEN_COLON, &colon));
    TRY(jinja_parse_expect(p, JINJA_TOKEN_BLOCK_END));
    TRY(jinja_parse_enter(p));
    TRY(parse_until(p, ends, body));
    jinja_parse_leave(p);
    p->tag = tag;
    return OK;
}

/* A body with the one word that ends it, which is passed. */
static status parse_whole_body(jinja_parser *p, const char *end, jinja_nodes *body) {
    TRY(parse_body(p, end, body));
    return jinja_parse_advance(p);
}

/* A body that runs as a function: no loop around it can be left from inside. */
static status parse_closed_body(jinja_parser *p, const char *end, jinja_nodes *body) {
    uint32_t loops = p->loops;
    bool conditional = p->conditional;
    p->loops = 0;
    p->conditional = false;
    TRY(parse_whole_body(p, end, body));
    p->loops = loops;
    p->conditional = conditional;
    return OK;
}

/* --- statements ----------------------------------------------------------------------- */

static status parse_if(jinja_parser *p, jinja_node *node) {
    bool conditional = p->conditional, more = true;
    p->conditional = true;
    while (more) {
        jinja_node *branch = NULL;
        bool is_else = jinja_parse_at_word(p, "else");
        TRY(jinja_parse_node(p, JINJA_NODE_BRANCH, p->now.line, &branch));
        TRY(jinja_parse_advance(p));
        if (!is_else) TRY(jinja_parse_tuple(p, false, NULL, &branch->as.branch.test));
        TRY(parse_body(p, is_else ? "endif" : "elif else endif", &branch->as.branch.body));
        jinja_parse_append(&node->as.list, branch);
        more = !jinja_parse_at_word(p, "endif");
    }
    p->conditional = conditional;
    return jinja_parse_advance(p);
}

static status parse_for(jinja_parser *p, jinja_node *node) {
    bool yes = false, conditional = p->conditional;
    uint32_t macros = p->macros;
    TRY(jinja_parse_advance(p));
    TRY(jinja_parse_target(p, false, "in", &node->as.loop.target));
    if (!jinja_parse_at_word(p, "in"))
        return jinja_parse_fail(p, p->now.line, "expected token 'in', got '%.*s'",
                                STR(jinja_parse_found(p)));
    TRY(jinja_parse_advance(p));
    TRY(jinja_parse_tuple(p, false, "recursive", &node->as.loop.iterable));
    TRY(jinja_parse_skip_word(p, "if", &yes));
    if (yes) TRY(jinja_parse_expression(p, true, &node->as.loop.test));
    TRY(jinja_parse_skip_word(p, "recursive", &node->as.loop.recursive));
    p->loops++;
    p->conditional = false;
    TRY(parse_body(p, "endfor else", &node->as.loop.body));
    p->loops--;
    bool has_else = jinja_parse_at_word(p, "else");
    TRY(jinja_parse_advance(p));
    if (has_else) TRY(parse_whole_body(p, "endfor", &node->as.loop.otherwise));
    p->conditional = conditional;
    node->as.loop.has_closures = p->macros != macros;
    return OK;
}

static status parse_set(jinja_parser *p, jinja_node *node) {
    bool yes = false;
    TRY(jinja_parse_advance(p));
    TRY(jinja_parse_target(p, true, NULL, &node->as.set.target));
    TRY(jinja_parse_skip(p, JINJA_TOKEN_ASSIGN, &yes));
    if (yes) return jinja_parse_tuple(p, true, NULL, &node->as.set.value);
    TRY(jinja_parse_filters(p, false, &node->as.set.filter));
    return parse_whole_body(p, "endset", &node->as.set.body);
}

static status parse_filter_block(jinja_parser *p, jinja_node *node) {
    TRY(jinja_parse_advance(p));
    TRY(jinja_parse_filters(p, true, &node->as.set.filter));
    return parse_whole_body(p, "endfilter", &node->as.set.body);
}

static status parse_with(jinja_parser *p, jinja_node *node) {
    TRY(jinja_parse_advance(p));
    while (p->now.kind != JINJA_TOKEN_BLOCK_END) {
        jinja_node *target = NULL, *value = NULL;
        if (node->as.with.targets.count != 0) TRY(jinja_parse_expect(p, JINJA_TOKEN_COMMA));
        TRY(jinja_parse_target(p, false, NULL, &target));
        TRY(jinja_parse_expect(p, JINJA_TOKEN_ASSIGN));
        TRY(jinja_parse_expression(p, true, &value));
        jinja_parse_append(&node->as.with.targets, target);
        jinja_parse_append(&node->as.with.values, value);
    }
    return parse_whole_body(p, "endwith", &node->as.with.body);
}

/* One name that can be assigned to. */
static status parse_plain_name(jinja_parser *p, jinja_node **out) {
    static const char *const RESERVED[] = {"true", "false", "none", "True", "False", "None"};
    if (p->now.kind != JINJA_TOKEN_NAME) return jinja_parse_expect(p, JINJA_TOKEN_NAME);
    for (size_t i = 0; i < sizeof RESERVED / sizeof *RESERVED; i++)
        if (jinja_parse_at_word(p, RESERVED[i]))
            return jinja_parse_fail(p, p->now.line, "can't assign to '%s'", RESERVED[i]);
    TRY(jinja_parse_node(p, JINJA_NODE_NAME, p->now.line, out));
    TRY(jinja_parse_name(p, p->now.text, &(*out)->as.name));
    return jinja_parse_advance(p);
}

static status parse_signature(jinja_parser *p, jinja_node *node) {
    jinja_nodes *params = &node->as.macro.params, *defaults = &node->as.macro.defaults;
    TRY(jinja_parse_expect(p, JINJA_TOKEN_LPAREN));
    while (p->now.kind != JINJA_TOKEN_RPAREN) {
        jinja_node *param = NULL, *value = NULL;
        bool yes = false;
        if (params->count != 0) TRY(jinja_parse_expect(p, JINJA_TOKEN_COMMA));
        TRY(parse_plain_name(p, &param));
        for (const jinja_node *q = params->first; q != NULL; q = q->next)
            if (q->as.name == param->as.name)
                return jinja_parse_fail(p, param->line, "duplicate argument in the definition");
        if (params->count == UINT8_MAX)
            return jinja_parse_fail(p, param->line, "more than %d parameters", UINT8_MAX);
        TRY(jinja_parse_skip(p, JINJA_TOKEN_ASSIGN, &yes));
        if (yes) {
            TRY(jinja_parse_expression(p, true, &value));
            jinja_parse_append(defaults, value);
        } else if (defaults->count != 0) {
            return jinja_parse_fail(p, p->now.line,
                                    "non-default argument follows default argument");
        }
        jinja_parse_append(params, param);
    }
    return jinja_parse_expect(p, JINJA_TOKEN_RPAREN);
}

/* The body of a macro or call block; what it mentions of the hidden variables is noted. */
static status parse_macro_body(jinja_parser *p, const char *end, jinja_node *node) {
    uint8_t uses = p->uses;
    p->uses = 0;
    TRY(parse_closed_body(p, end, &node->as.macro.body));
    node->as.macro.uses = p->uses;
    p->uses |= uses;
    p->macros++;
    return OK;
}

static status parse_macro(jinja_parser *p, jinja_node *node) {
    jinja_node *name = NULL;
    TRY(jinja_parse_advance(p));
    TRY(parse_plain_name(p, &name));
    node->as.macro.name = name->as.name;
    TRY(parse_signature(p, node));
    return parse_macro_body(p, "endmacro", node);
}

static status parse_call_block(jinja_parser *p, jinja_node *node) {
    TRY(jinja_parse_advance(p));
    if (p->now.kind == JINJA_TOKEN_LPAREN) TRY(parse_signature(p, node));
    jinja_node *call = NULL;
    TRY(jinja_parse_expression(p, true, &call));
    if (call->kind != JINJA_NODE_POSTFIX || call->as.list.last->kind != JINJA_NODE_CALL)
        return jinja_parse_fail(p, node->line, "expected call");
    node->as.macro.name = JINJA_NAME_CALLER;
    node->as.macro.call = call;
    return parse_macro_body(p, "endcall", node);
}

static status parse_block(jinja_parser *p, jinja_node *node) {
    bool scoped = false, required = false, again = false;
    TRY(jinja_parse_advance(p));
    str name = p->now.text;
    uint32_t line = p->now.line;
    TRY(jinja_parse_expect(p, JINJA_TOKEN_NAME));
    TRY(jinja_parse_skip_word(p, "scoped", &scoped));
    TRY(jinja_parse_skip_word(p, "required", &required));
    if (required) return jinja_parse_fail(p, line, "a required block has no template to fill it");
    if (!map_add(&p->blocks, name, 0))
        return jinja_parse_fail(p, line, "block '%.*s' defined twice", STR(name));
    node->flag = scoped;
    TRY(parse_closed_body(p, "endblock", &node->as.branch.body));
    if (p->now.kind == JINJA_TOKEN_NAME && str_eq(p->now.text, name))
        TRY(jinja_parse_skip(p, JINJA_TOKEN_NAME, &again));
    p->macros++; /* its scope hangs off the top level */
    return OK;
}

static status parse_autoescape(jinja_parser *p, jinja_node *node) {
    TRY(jinja_parse_advance(p));
    TRY(jinja_parse_expression(p, true, &node->as.branch.test));
    return parse_whole_body(p, "endautoescape", &node->as.branch.body);
}

/* {% generation %}: marks what the assistant says; it renders as its body. */
static status parse_generation(jinja_parser *p, jinja_node *node) {
    TRY(jinja_parse_advance(p));
    return parse_closed_body(p, "endgeneration", &node->as.branch.body);
}

static status parse_print(jinja_parser *p, jinja_node *node) {
    TRY(jinja_parse_advance(p));
    while (p->now.kind != JINJA_TOKEN_BLOCK_END) {
        jinja_node *value = NULL;
        if (node->as.list.count != 0) TRY(jinja_parse_expect(p, JINJA_TOKEN_COMMA));
        TRY(jinja_parse_expression(p, true, &value));
        jinja_parse_append(&node->as.list, value);
    }
    return OK;
}

static status parse_jump(jinja_parser *p, jinja_node *node) {
    if (p->loops == 0)
        return jinja_parse_fail(p, node->line, "'%.*s' outside of a loop", STR(p->now.text));
    return jinja_parse_advance(p);
}

typedef struct statement_rule {
    const char *word;
    jinja_node_kind kind;
    status (*parse)(jinja_parser *p, jinja_node *node);
} statement_rule;

static const statement_rule RULES[] = {
    {"if", JINJA_NODE_IF, parse_if},
    {"for", JINJA_NODE_FOR, parse_for},
    {"set", JINJA_NODE_SET, parse_set},
    {"macro", JINJA_NODE_MACRO, parse_macro},
    {"call", JINJA_NODE_CALL_BLOCK, parse_call_block},
    {"filter", JINJA_NODE_FILTER_BLOCK, parse_filter_block},
    {"with", JINJA_NODE_WITH, parse_with},
    {"block", JINJA_NODE_BLOCK, parse_block},
    {"autoescape", JINJA_NODE_SCOPE, parse_autoescape},
    {"generation", JINJA_NODE_SCOPE, parse_generation},
    {"print", JINJA_NODE_PRINT, parse_print},
    {"break", JINJA_NODE_BREAK, parse_jump},
    {"continue", JINJA_NODE_CONTINUE, parse_jump},
};

static status parse_unknown(jinja_parser *p) {
    static const char *const REFUSED[] = {"include", "import", "from", "extends"};
    for (size_t i = 0; i < sizeof REFUSED / sizeof *REFUSED; i++)
        if (jinja_parse_at_word(p, REFUSED[i]))
            return jinja_parse_fail(p, p->now.line,
                                    "'%s' is refused: a chat template has no other templates",
                                    REFUSED[i]);
    if (p->tag.n == 0)
        return jinja_parse_fail(p, p->now.line, "Encountered unknown tag '%.*s'.",
                                STR(p->now.text));
    return jinja_parse_fail(p, p->now.line,
                            "Encountered unknown tag '%.*s'. The innermost block that needs to be "
                            "closed is '%.*s'.",
                            STR(p->now.text), STR(p->tag));
}

static status parse_statement(jinja_parser *p, jinja_nodes *body) {
    if (p->now.kind != JINJA_TOKEN_NAME)
        return jinja_parse_fail(p, p->now.line, "tag name expected");
    for (size_t i = 0; i < sizeof RULES / sizeof *RULES; i++) {
        if (!jinja_parse_at_word(p, RULES[i].word)) continue;
        jinja_node *node = NULL;
        str tag = p->tag;
        p->tag = p->now.text;
        TRY(jinja_parse_node(p, RULES[i].kind, p->now.line, &node));
        TRY(RULES[i].parse(p, node));
        p->tag = tag;
        jinja_parse_append(body, node);
        return OK;
    }
    return parse_unknown(p);
}

/* --- the whole ------------------------------------------------------------------------ */

/* A copy of the source with \n line ends, without the last one unless it is kept. */
static status copy_source(jinja_parser *p, str source, const jinja_options *o, str *out) {
    char *text = arena_take(p->mem, source.n + 1);
    if (text == NULL) return jinja_no_room(p->mem, source.n, p->err);
    size_t n = 0;
    for (size_t i = 0; i < source.n; i++) {
        bool is_return = source.p[i] == '\r';
        if (is_return && i + 1 < source.n && source.p[i + 1] == '\n') continue;
        text[n++] = (char)(is_return ? '\n' : source.p[i]);
    }
    if (!o->keep_trailing_newline && n != 0 && text[n - 1] == '\n') n--;
    *out = (str){text, n};
    return OK;
}

/* No more names than this can be in the source. */
static uint32_t words_max(str s) {
    uint32_t count = JINJA_NAME_KNOWN;
    bool inside = false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool word = c >= 0x80 || c == '_' || jinja_char_is_word(c);
        count += word && !inside;
        inside = word;
    }
    return count;
}

/* Strings count as attributes where they stand in [], and need not contain a word. */
static uint32_t quotes_max(str s) {
    uint32_t count = 0;
    for (size_t i = 0; i < s.n; i++) count += s.p[i] == '\'' || s.p[i] == '"';
    return count / 2;
}

static status open_names(jinja_parser *p, str source) {
    static const char *const KNOWN[] = {"loop", "caller", "kwargs", "varargs"};
    uint32_t words = words_max(source), unused = 0;
    TRY(map_init(&p->names, words, p->err));
    TRY(map_init(&p->attributes, words + quotes_max(source), p->err));
    TRY(map_init(&p->blocks, words, p->err));
    for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++)
        TRY(jinja_parse_name(p, str_of(KNOWN[i]), &unused));
    return OK;
}

static status parse_template(jinja_parser *p, jinja_template *t, str source,
                             const jinja_options *options) {
    str text = S("");
    TRY(copy_source(p, source, options, &text));
    TRY(open_names(p, text));
    jinja_lex_init(&p->lexer, text, options, p->mem);
    TRY(jinja_parse_advance(p));
    TRY(parse_until(p, NULL, &t->body));
    t->names = p->name_list;
    t->names_count = p->names_count;
    t->attributes = p->attribute_list;
    t->attributes_count = p->attributes_count;
    return OK;
}

status jinja_parse(jinja_template **out, str source, const jinja_options *options, error *err) {
    if (source.n > JINJA_SOURCE_BYTES_MAX)
        return error_set(err, ERR_LIMIT, "chat template: %zu bytes, at most %d allowed", source.n,
                         JINJA_SOURCE_BYTES_MAX);
    if (!str_is_utf8(source))
        return error_set(err, ERR_FORMAT, "chat template: line 1: the source is not UTF-8");
    jinja_template *t = mem_try_calloc(1, sizeof *t);
    if (t == NULL)
        return error_set(err, ERR_NOMEM, "chat template: no memory for %zu bytes", sizeof *t);
    arena_init(&t->mem, TEMPLATE_BYTES_MAX);
    jinja_parser p = {.err = err, .mem = &t->mem};
    status st = parse_template(&p, t, source, options);
    map_deinit(&p.names);
    map_deinit(&p.attributes);
    map_deinit(&p.blocks);
    if (st != OK) {
        jinja_destroy(t);
        return st;
    }
    *out = t;
    return OK;
}

void jinja_destroy(jinja_template *t) {
    if (t == NULL) return;
    arena_deinit(&t->mem);
    mem_free(t);
}

static bool is_in(const str *list, uint32_t count, str name) {
    for (uint32_t i = 0; i < count; i++)
        if (str_eq(list[i], name)) return true;
    return false;
}

bool jinja_mentions(const jinja_template *t, str name) {
    /* the first names are those that every template has */
    for (uint32_t i = JINJA_NAME_KNOWN; i < t->names_count; i++)
        if (str_eq(t->names[i], name)) return true;
    return is_in(t->attributes, t->attributes_count, name);
}
