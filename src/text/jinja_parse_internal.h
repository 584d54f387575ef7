/* jinja_parse_internal.h - what the two halves of the parser share. */
#ifndef TEXT_JINJA_PARSE_INTERNAL_H
#define TEXT_JINJA_PARSE_INTERNAL_H

#include "base/map.h"
#include "text/jinja_ast.h"

typedef struct jinja_parser {
    jinja_lexer lexer;
    jinja_token now;
    jinja_token ahead;
    bool has_ahead;
    error *err;
    arena *mem;     /* borrowed: the template's */
    map names;      /* name -> index */
    str *name_list; /* [names_cap] in mem */
    uint32_t names_count;
    uint32_t names_cap;
    map attributes;
    str *attribute_list; /* [attributes_cap] in mem */
    uint32_t attributes_count;
    uint32_t attributes_cap;
    map blocks; /* names of {% block %} so far */
    uint32_t depth;
    uint32_t loops;   /* for bodies around, within the current macro */
    uint32_t macros;  /* macros and call blocks seen so far */
    uint8_t uses;     /* JINJA_USES_* mentioned so far in the current macro */
    bool conditional; /* unknown filters are an error only when they run */
    str tag;          /* of the statement being parsed */
} jinja_parser;

/* --- tokens: jinja_parse.c ------------------------------------------------------------ */
NODISCARD status jinja_parse_fail(jinja_parser *p, uint32_t line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
#ifdef __clang_analyzer__ /* does not know that it returns its code */
#define jinja_parse_fail(p, line, ...) (jinja_parse_fail((p), (line), __VA_ARGS__), ERR_FORMAT)
#endif
NODISCARD status jinja_parse_advance(jinja_parser *p);
/* The token after the current one. */
NODISCARD status jinja_parse_peek(jinja_parser *p, const jinja_token **out);
NODISCARD status jinja_parse_expect(jinja_parser *p, jinja_token_kind kind);
bool jinja_parse_at_word(const jinja_parser *p, const char *word);
/* Passes the current token if it is of this kind, this word; *yes says whether. */
NODISCARD status jinja_parse_skip(jinja_parser *p, jinja_token_kind kind, bool *yes);
NODISCARD status jinja_parse_skip_word(jinja_parser *p, const char *word, bool *yes);
/* "got 'else'": how a message calls the current token. */
str jinja_parse_found(const jinja_parser *p);
/* Around everything that nests. */
NODISCARD status jinja_parse_enter(jinja_parser *p);
void jinja_parse_leave(jinja_parser *p);

/* --- nodes: jinja_parse.c ------------------------------------------------------------- */
NODISCARD status jinja_parse_node(jinja_parser *p, jinja_node_kind kind, uint32_t line,
                                  jinja_node **out);
void jinja_parse_append(jinja_nodes *list, jinja_node *node);
NODISCARD status jinja_parse_name(jinja_parser *p, str name, uint32_t *out);
NODISCARD status jinja_parse_attribute(jinja_parser *p, str name);

/* --- expressions: jinja_parse_expr.c -------------------------------------------------- */
/* One expression; without `with_choice`, `a if b else c` is left standing at its if. */
NODISCARD status jinja_parse_expression(jinja_parser *p, bool with_choice, jinja_node **out);
/* One or, with commas, a tuple; it ends at a tag's end, a ), or the word `end` (NULL: none). */
NODISCARD status jinja_parse_tuple(jinja_parser *p, bool with_choice, const char *end,
                                   jinja_node **out);
/* What can be assigned to: a name, names, with `member` also ns.name; it ends at the word `end`
 * (NULL: none). */
NODISCARD status jinja_parse_target(jinja_parser *p, bool member, const char *end,
                                    jinja_node **out);
/* | name(...) | ...; with `inline_first`, the first | is left out.  A POSTFIX without base;
 * NULL when there is no filter. */
NODISCARD status jinja_parse_filters(jinja_parser *p, bool inline_first, jinja_node **out);

#endif
