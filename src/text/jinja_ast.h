/* jinja_ast.h - a parsed template.
 *
 * One node type; its `kind` says which member of the union holds.  Lists of nodes are chained by
 * `next`, so that nothing recurses over the length of a template: 1+1+1+... is one SUM with many
 * operands, x|a|b|c... one POSTFIX with many steps, a if/elif chain one IF with many branches.
 * Immutable once parsed; everything lives in the arena of the template. */
#ifndef TEXT_JINJA_AST_H
#define TEXT_JINJA_AST_H

#include "base/arena.h"
#include "text/jinja.h"
#include "text/jinja_lex.h"
#include "text/jinja_value.h"

typedef enum jinja_node_kind {
    /* expressions */
    JINJA_NODE_CONST,   /* value */
    JINJA_NODE_NAME,    /* name */
    JINJA_NODE_LIST,    /* list */
    JINJA_NODE_TUPLE,   /* list */
    JINJA_NODE_DICT,    /* list: key, value, key, value ... */
    JINJA_NODE_OR,      /* list */
    JINJA_NODE_AND,     /* list */
    JINJA_NODE_NOT,     /* list: one; flag: an odd number of nots */
    JINJA_NODE_COMPARE, /* list; op of each but the first says how it compares to the one before */
    JINJA_NODE_CHAIN,  /* list; op of each but the first says what is done with it, from the left */
    JINJA_NODE_CONCAT, /* list */
    JINJA_NODE_SIGN,   /* list: one; flag: an odd number of minus signs */
    JINJA_NODE_CHOICE, /* list: value, condition, value, condition ... value; the last may be
                           missing */
    JINJA_NODE_POSTFIX,  /* list: the base and the steps taken from it */
    JINJA_NODE_ARGUMENT, /* arg; op: jinja_arg_op */
    /* steps of POSTFIX */
    JINJA_NODE_ATTRIBUTE, /* text */
    JINJA_NODE_ITEM,      /* list: one */
    JINJA_NODE_SLICE,     /* slice */
    JINJA_NODE_CALL,      /* call.args */
    JINJA_NODE_FILTER,    /* call */
    JINJA_NODE_TEST,      /* call; flag: negated */
    /* statements */
    JINJA_NODE_TEXT,         /* text */
    JINJA_NODE_PRINT,        /* list */
    JINJA_NODE_IF,           /* list of BRANCH */
    JINJA_NODE_BRANCH,       /* branch */
    JINJA_NODE_FOR,          /* loop */
    JINJA_NODE_SET,          /* set: value, or body and filter */
    JINJA_NODE_WITH,         /* with */
    JINJA_NODE_MACRO,        /* macro */
    JINJA_NODE_CALL_BLOCK,   /* macro, without a name: the caller; call */
    JINJA_NODE_FILTER_BLOCK, /* set: body and filter */
    JINJA_NODE_BLOCK,        /* branch.body, in a scope of the top level */
    JINJA_NODE_SCOPE,        /* branch.body in a scope of its own; branch.test: autoescape */
    JINJA_NODE_BREAK,
    JINJA_NODE_CONTINUE,
    /* targets: NAME, TUPLE of targets, and */
    JINJA_NODE_MEMBER, /* member: an attribute of a namespace */
} jinja_node_kind;

/* How an operand of COMPARE compares; those of CHAIN are JINJA_TOKEN_ADD and so on. */
typedef enum jinja_compare_op {
    JINJA_OP_EQ,
    JINJA_OP_NE,
    JINJA_OP_LT,
    JINJA_OP_LE,
    JINJA_OP_GT,
    JINJA_OP_GE,
    JINJA_OP_IN,
    JINJA_OP_NOT_IN,
} jinja_compare_op;

/* How an argument is passed: the op of its node. */
typedef enum jinja_arg_op {
    JINJA_ARG_PLAIN,
    JINJA_ARG_NAMED, /* arg.name=value */
    JINJA_ARG_LIST,  /* *value */
    JINJA_ARG_DICT,  /* **value */
} jinja_arg_op;

typedef struct jinja_node jinja_node;

typedef struct jinja_nodes {
    jinja_node *first;
    jinja_node *last;
    uint32_t count;
} jinja_nodes;

/* The hidden variables that a macro takes if it mentions them. */
enum { JINJA_USES_CALLER = 1, JINJA_USES_KWARGS = 2, JINJA_USES_VARARGS = 4 };

struct jinja_node {
    uint8_t kind; /* jinja_node_kind */
    uint8_t op;
    bool flag;
    uint32_t line;
    jinja_node *next; /* in its list */
    union {
        jinja_value value;
        uint32_t name; /* index into jinja_template.names */
        str text;
        jinja_nodes list;
        struct {
            jinja_node *start, *stop, *step; /* NULL: not given */
        } slice;
        struct {
            const jinja_def *def; /* FILTER, TEST; NULL: unknown, an error when it is used */
            str name;
            jinja_nodes args; /* ARGUMENT nodes */
        } call;
        struct {
            str name; /* NAMED */
            jinja_node *value;
        } arg;
        struct {
            jinja_node *test; /* NULL: else */
            jinja_nodes body;
        } branch;
        struct {
            jinja_node *target;
            jinja_node *iterable;
            jinja_node *test; /* NULL: every item */
            jinja_nodes body;
            jinja_nodes otherwise;
            bool recursive;
            bool has_closures; /* macros in the body may keep its scope */
        } loop;
        struct {
            jinja_node *target; /* NULL: the text is printed */
            jinja_node *value;  /* NULL: the body's text */
            jinja_node *filter; /* POSTFIX whose base is NULL; NULL: none */
            jinja_nodes body;
        } set;
        struct {
            jinja_nodes targets;
            jinja_nodes values;
            jinja_nodes body;
        } with;
        struct {
            uint32_t name;
            uint8_t uses;         /* JINJA_USES_* */
            jinja_nodes params;   /* NAME */
            jinja_nodes defaults; /* of the last params */
            jinja_nodes body;
            jinja_node *call; /* CALL_BLOCK: POSTFIX that ends in CALL */
        } macro;
        struct {
            uint32_t name;
            str attribute;
        } member;
    } as;
};

/* Names that the evaluator itself looks for. */
enum {
    JINJA_NAME_LOOP,
    JINJA_NAME_CALLER,
    JINJA_NAME_KWARGS,
    JINJA_NAME_VARARGS,
    JINJA_NAME_KNOWN
};

struct jinja_template {
    arena mem;
    jinja_nodes body;
    str *names; /* [names_count] every name that is used as a variable, parameter or keyword */
    uint32_t names_count;
    str *attributes; /* [attributes_count] what stands behind a dot or in ['...'] */
    uint32_t attributes_count;
};

#endif
