/* read.h - JSON in: strict RFC 8259 to a tree, and typed getters that name what is wrong.
 *
 * The parser is jansson.  On top of it we refuse what it lets pass (a NUL byte ends its
 * input early), refuse depths beyond JSON_DEPTH_MAX, and accept integers of any size:
 * those from 2^63 to 2^64-1 stay exact for json_*_u64 (seeds are drawn from all of u64), larger
 * ones become doubles.  Duplicate keys are refused; \u0000 is accepted in strings (they carry
 * a length) but not in keys.
 *
 * A json_node is a place in a document that knows its way up, so that an error can say
 * "messages[2].content: want string, found array".  A json_fields is an object whose
 * members are asked for by name; in the end it tells which ones nobody asked for.
 *
 * Getters: *inout is untouched when the value is absent or null, so callers preset the
 * default.  Integers may be written 1.0 or 1e3.  Errors of this header are ERR_INVALID
 * (the sender's fault), but for ERR_LIMIT and ERR_NOMEM of json_parse.
 * Owner: json_doc belongs to its holder; nodes and strings borrow from it.  Nodes point at
 * their parents, which must stay where they are while their children are in use. */
#ifndef JSON_READ_H
#define JSON_READ_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"
#include "json/write.h"

enum {
    JSON_DEPTH_MAX = 256,        /* nested objects and arrays */
    JSON_MEMORY_MAX = 512 << 20, /* bytes of a tree; small values cost up to 85 times their text */
    JSON_FIELDS_MAX = 128,       /* different members asked of one object */
    JSON_PATH_BYTES = 160        /* longest path in an error; longer ones lose their beginning */
};

/* An integer above INT64_MAX; its node holds the nearest double. */
typedef struct json_big {
    const json_t *node;
    uint64_t value;
} json_big;

typedef struct json_doc {
    json_t *root;   /* owned */
    json_big *bigs; /* owned; sorted by node address */
    uint32_t bigs_count;
} json_doc;

typedef struct json_node {
    const json_doc *doc;        /* borrowed */
    const json_t *value;        /* borrowed; NULL: absent */
    const struct json_node *up; /* borrowed; the object or array it is in; NULL: the root */
    str key;                    /* its name in an object; p == NULL in an array */
    size_t index;               /* its place in an array */
} json_node;

typedef struct json_fields {
    json_node node;                     /* the object */
    const void *asked[JSON_FIELDS_MAX]; /* jansson's handles of the members found */
    uint32_t asked_count;
} json_fields;

/* --- documents ----------------------------------------------------------------- */
/* Any JSON value.  The message has line, column and reason. */
NODISCARD status json_parse(str text, json_doc *out, error *err);
void json_doc_deinit(json_doc *doc);

/* --- nodes --------------------------------------------------------------------- */
json_node json_root(const json_doc *doc);
/* "object", "array", "string", "number", "true", "false", "null" or "nothing" (absent). */
const char *json_node_type(const json_node *n);
/* Is there a value other than null? */
bool json_node_is_set(const json_node *n);
/* "messages[2].content"; the root is "the document". */
void json_node_path(const json_node *n, char out[JSON_PATH_BYTES]);
/* ERR_INVALID "PATH: want WANT, found TYPE", for choices the getters below do not know. */
status json_node_wrong_type(const json_node *n, const char *want, error *err);
/* Elements of an array, 0 for anything else. */
size_t json_node_count(const json_node *array);
/* index < json_node_count(array). */
json_node json_node_element(const json_node *array, size_t index);

NODISCARD status json_node_bool(const json_node *n, bool *inout, error *err);
NODISCARD status json_node_u32(const json_node *n, uint32_t min, uint32_t max, uint32_t *inout,
                               error *err);
NODISCARD status json_node_i32(const json_node *n, int32_t min, int32_t max, int32_t *inout,
                               error *err);
NODISCARD status json_node_u64(const json_node *n, uint64_t min, uint64_t max, uint64_t *inout,
                               error *err);
NODISCARD status json_node_i64(const json_node *n, int64_t min, int64_t max, int64_t *inout,
                               error *err);
NODISCARD status json_node_f32(const json_node *n, float min, float max, float *inout, error *err);
NODISCARD status json_node_f64(const json_node *n, double min, double max, double *inout,
                               error *err);
/* A view into the document; it may contain NUL. */
NODISCARD status json_node_str(const json_node *n, size_t bytes_max, str *inout, error *err);
/* One of `count` names; *inout is its index. */
NODISCARD status json_node_choice(const json_node *n, const char *const *names, uint32_t count,
                                  uint32_t *inout, error *err);
/* The value as JSON text again. */
void json_node_write(const json_node *n, json_writer *w);

/* --- fields of an object ---------------------------------------------------------- */
/* ERR_INVALID when n is not an object. */
NODISCARD status json_fields_open(json_fields *f, const json_node *n, error *err);
/* The member called `key`, its value NULL when absent; it counts as asked for. */
json_node json_field(json_fields *f, const char *key);
/* The same, but ERR_INVALID "PATH: is required" when absent or null. */
NODISCARD status json_field_need(json_fields *f, const char *key, json_node *out, error *err);

NODISCARD status json_get_bool(json_fields *f, const char *key, bool *inout, error *err);
NODISCARD status json_get_u32(json_fields *f, const char *key, uint32_t min, uint32_t max,
                              uint32_t *inout, error *err);
NODISCARD status json_get_i32(json_fields *f, const char *key, int32_t min, int32_t max,
                              int32_t *inout, error *err);
NODISCARD status json_get_u64(json_fields *f, const char *key, uint64_t min, uint64_t max,
                              uint64_t *inout, error *err);
NODISCARD status json_get_i64(json_fields *f, const char *key, int64_t min, int64_t max,
                              int64_t *inout, error *err);
NODISCARD status json_get_f32(json_fields *f, const char *key, float min, float max, float *inout,
                              error *err);
NODISCARD status json_get_f64(json_fields *f, const char *key, double min, double max,
                              double *inout, error *err);
NODISCARD status json_get_str(json_fields *f, const char *key, size_t bytes_max, str *inout,
                              error *err);
NODISCARD status json_get_choice(json_fields *f, const char *key, const char *const *names,
                                 uint32_t count, uint32_t *inout, error *err);
/* out->value is NULL when absent or null; an array has at most count_max elements. */
NODISCARD status json_get_array(json_fields *f, const char *key, size_t count_max, json_node *out,
                                error *err);
NODISCARD status json_get_object(json_fields *f, const char *key, json_node *out, error *err);

/* Members of any object, in document order, whether asked for or not. */
void json_node_each(const json_node *object, void (*fn)(void *arg, const json_node *member),
                    void *arg);
/* Calls fn for each member nobody asked for, in document order; fn may be NULL.
 * Returns how many there are. */
size_t json_fields_unused(const json_fields *f, void (*fn)(void *arg, str key), void *arg);

#endif
