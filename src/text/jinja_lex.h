/* jinja_lex.h - the source of a template as tokens.
 *
 * Text between tags is one token; white space control (-, +, trim_blocks, lstrip_blocks), raw
 * blocks and comments are done here, so the parser never sees them.  Strings come decoded.
 * Owner: the parser that holds the struct; everything it hands out lives in `mem`. */
#ifndef TEXT_JINJA_LEX_H
#define TEXT_JINJA_LEX_H

#include "base/arena.h"
#include "base/error.h"
#include "text/jinja.h"
#include "text/jinja_value.h"

/* X(name, how a message calls it) */
#define JINJA_TOKENS(X)                        \
    X(END, "end of template")                  \
    X(TEXT, "template data / text")            \
    X(BLOCK_BEGIN, "begin of statement block") \
    X(BLOCK_END, "end of statement block")     \
    X(PRINT_BEGIN, "begin of print statement") \
    X(PRINT_END, "end of print statement")     \
    X(NAME, "name")                            \
    X(STRING, "string")                        \
    X(INTEGER, "integer")                      \
    X(FLOAT, "float")                          \
    X(ADD, "+")                                \
    X(SUB, "-")                                \
    X(DIV, "/")                                \
    X(FLOORDIV, "//")                          \
    X(MUL, "*")                                \
    X(MOD, "%")                                \
    X(POW, "**")                               \
    X(TILDE, "~")                              \
    X(LBRACKET, "[")                           \
    X(RBRACKET, "]")                           \
    X(LPAREN, "(")                             \
    X(RPAREN, ")")                             \
    X(LBRACE, "{")                             \
    X(RBRACE, "}")                             \
    X(EQ, "==")                                \
    X(NE, "!=")                                \
    X(GT, ">")                                 \
    X(GE, ">=")                                \
    X(LT, "<")                                 \
    X(LE, "<=")                                \
    X(ASSIGN, "=")                             \
    X(DOT, ".")                                \
    X(COLON, ":")                              \
    X(PIPE, "|")                               \
    X(COMMA, ",")                              \
    X(SEMICOLON, ";")

typedef enum jinja_token_kind {
#define JINJA_TOKEN_ENUM(name, words) JINJA_TOKEN_##name,
    JINJA_TOKENS(JINJA_TOKEN_ENUM)
#undef JINJA_TOKEN_ENUM
} jinja_token_kind;

typedef struct jinja_token {
    jinja_token_kind kind;
    uint32_t line;
    str text;          /* of TEXT, NAME, STRING (decoded); else as it is written */
    jinja_int integer; /* of INTEGER */
    double real;       /* of FLOAT */
} jinja_token;

typedef enum jinja_lex_mode { JINJA_LEX_TEXT, JINJA_LEX_BLOCK, JINJA_LEX_PRINT } jinja_lex_mode;

typedef struct jinja_lexer {
    str source; /* borrowed; line ends are \n */
    size_t at;
    uint32_t line;
    jinja_options options;
    arena *mem; /* borrowed */
    jinja_lex_mode mode;
    bool line_starting;           /* nothing but a line end came before */
    bool tag_waits;               /* the text before a tag was handed out, the tag is next */
    char open[JINJA_NESTING_MAX]; /* closing brackets that are awaited */
    uint32_t open_count;
} jinja_lexer;

void jinja_lex_init(jinja_lexer *l, str source, const jinja_options *options, arena *mem);
/* ERR_FORMAT "chat template: line 12: REASON", ERR_LIMIT, ERR_NOMEM.  After the end, END again. */
NODISCARD status jinja_lex_next(jinja_lexer *l, jinja_token *out, error *err);
const char *jinja_token_words(jinja_token_kind kind);
/* The error of an arena that gave no `bytes`: ERR_LIMIT at its own limit, else ERR_NOMEM. */
NODISCARD status jinja_no_room(const arena *mem, size_t bytes, error *err);
/* The static analyzer does not know that it returns its code. */
#ifdef __clang_analyzer__
#define jinja_no_room(mem, bytes, err) ((void)jinja_no_room((mem), (bytes), (err)), ERR_NOMEM)
#endif

#endif
