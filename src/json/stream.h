/* stream.h - JSON in, token by token: no tree, no recursion, no memory.
 *
 * For documents of many megabytes (tokenizer.json, the header of a SafeTensors file), which as a
 * tree would cost up to 85 times their text.  Strict RFC 8259: the tokens handed out form a
 * document as far as they go, and JSON_TOKEN_END comes only when all of it was one.  Strings
 * are valid UTF-8, escapes of lone surrogates are refused.  Duplicate keys are the caller's
 * business.  Time is linear; depth is limited.
 * Errors are ERR_FORMAT "NAME: byte N: what is wrong", ERR_LIMIT for the depth.
 * Owner: whoever holds the struct; text and name are borrowed, tokens are views into the text. */
#ifndef JSON_STREAM_H
#define JSON_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

enum { JSON_STREAM_DEPTH_MAX = 256 /* nested objects and arrays */ };

/* X(NAME, how a message calls it) */
#define JSON_TOKENS(X)             \
    X(END, "the end")              \
    X(OBJECT_BEGIN, "object")      \
    X(OBJECT_END, "end of object") \
    X(ARRAY_BEGIN, "array")        \
    X(ARRAY_END, "end of array")   \
    X(KEY, "key")                  \
    X(STRING, "string")            \
    X(NUMBER, "number")            \
    X(TRUE, "true")                \
    X(FALSE, "false")              \
    X(NULL, "null")

typedef enum json_token {
#define JSON_TOKEN_ENUM(name, text) JSON_TOKEN_##name,
    JSON_TOKENS(JSON_TOKEN_ENUM)
#undef JSON_TOKEN_ENUM
} json_token;

const char *json_token_name(json_token t);

typedef struct json_stream {
    str text;         /* borrowed */
    const char *name; /* borrowed; of the document, for messages */
    size_t at;        /* bytes read */
    str raw;          /* of the last token: between the quotes, the number's text */
    size_t raw_at;    /* where the last token begins */
    bool escaped;     /* raw has escapes: use json_stream_text() */
    int state;        /* what may come next: stream.c */
    uint32_t depth;
    uint64_t objects[JSON_STREAM_DEPTH_MAX / 64]; /* bit d: level d is an object */
} json_stream;

void json_stream_init(json_stream *s, str text, const char *name);

/* After an error the stream stays where it is. */
NODISCARD status json_stream_next(json_stream *s, json_token *out, error *err);

/* The next token, which has to be `want`: "want string, found number". */
NODISCARD status json_stream_want(json_stream *s, json_token want, error *err);

/* Passes over the next value, whatever it is; *raw is its text, checked.  Not where a key or
 * the end of an object or array is next. */
NODISCARD status json_stream_skip(json_stream *s, str *raw, error *err);

/* Of a KEY or STRING just read: its bytes without escapes, written to `out`, which has room for
 * s->raw.n; returns how many.  The text may contain NUL. */
size_t json_stream_text(const json_stream *s, char *out);

#endif
