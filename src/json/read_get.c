/* read_get.c - nodes, typed getters and the fields of an object. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "json/read.h"
#include "json/read_internal.h"

/* Holds every int64_t, every uint64_t and what lies outside of both. */
typedef __int128 whole;

/* --- places ---------------------------------------------------------------------- */

json_node json_root(const json_doc *doc) { return (json_node){.doc = doc, .value = doc->root}; }

const char *json_node_type(const json_node *n) {
    if (n->value == NULL) return "nothing";
    switch (json_typeof(n->value)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "number";
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        return "null";
    }
    return "nothing";
}

bool json_node_is_set(const json_node *n) { return n->value != NULL && !json_is_null(n->value); }

/* Filled from the end, since a node knows only its way up. */
void json_node_path(const json_node *n, char out[JSON_PATH_BYTES]) {
    char text[JSON_PATH_BYTES];
    size_t at = sizeof text;
    if (n->up == NULL) {
        str_copy_c(out, JSON_PATH_BYTES, S("the document"));
        return;
    }
    for (; n->up != NULL; n = n->up) {
        char step[80];
        const char *dot = n->up->up != NULL ? "." : "";
        str key = n->key.p != NULL && n->key.n == 0 ? S("\"\"") : n->key; /* an empty name */
        int wrote = key.p != NULL ? snprintf(step, sizeof step, "%s%.*s", dot, STR(key))
                                  : snprintf(step, sizeof step, "[%zu]", n->index);
        size_t bytes = wrote < (int)sizeof step ? (size_t)wrote : sizeof step - 1;
        if (bytes + 4 > at) { /* room for the dots and the terminator */
            at -= 3;
            memset(text + at, '.', 3);
            break;
        }
        at -= bytes;
        memcpy(text + at, step, bytes);
    }
    str_copy_c(out, JSON_PATH_BYTES, (str){text + at, sizeof text - at});
}

status json_node_wrong_type(const json_node *n, const char *want, error *err) {
    char path[JSON_PATH_BYTES];
    json_node_path(n, path);
    return error_set(err, ERR_INVALID, "%s: want %s, found %s", path, want, json_node_type(n));
}

size_t json_node_count(const json_node *array) { return json_array_size(array->value); }

json_node json_node_element(const json_node *array, size_t index) {
    ASSERT(index < json_array_size(array->value));
    return (json_node){.doc = array->doc,
                       .value = json_array_get(array->value, index),
                       .up = array,
                       .index = index};
}

void json_node_each(const json_node *object, void (*fn)(void *arg, const json_node *member),
                    void *arg) {
    json_t *value = (json_t *)object->value; /* jansson's iterators are not const */
    for (void *at = json_object_iter(value); at != NULL; at = json_object_iter_next(value, at)) {
        json_node member = {.doc = object->doc,
                            .value = json_object_iter_value(at),
                            .up = object,
                            .key = str_of(json_object_iter_key(at))};
        fn(arg, &member);
    }
}

/* --- numbers --------------------------------------------------------------------- */

/* The number as it would be written. */
static void number_text(const json_node *n, char out[JSON_NUMBER_BYTES]) {
    uint64_t big = 0;
    if (json_doc_big(n->doc, n->value, &big))
        (void)snprintf(out, JSON_NUMBER_BYTES, "%" PRIu64, big);
    else if (json_is_integer(n->value))
        (void)snprintf(out, JSON_NUMBER_BYTES, "%" PRId64, (int64_t)json_integer_value(n->value));
    else
        (void)json_format_f64(out, json_real_value(n->value));
}

static status not_whole(const json_node *n, error *err) {
    char path[JSON_PATH_BYTES], found[JSON_NUMBER_BYTES];
    json_node_path(n, path);
    number_text(n, found);
    return error_set(err, ERR_INVALID, "%s: want integer, found %s", path, found);
}

/* The value of a node that is set; 1.0 is a whole number, too. */
static status get_whole(const json_node *n, whole *out, error *err) {
    uint64_t big = 0;
    if (!json_is_number(n->value)) return json_node_wrong_type(n, "integer", err);
    if (json_is_integer(n->value)) {
        *out = json_integer_value(n->value);
        return OK;
    }
    if (json_doc_big(n->doc, n->value, &big)) {
        *out = big;
        return OK;
    }
    double real = json_real_value(n->value);
    if (real != trunc(real)) return not_whole(n, err);
    *out = (whole)fmax(fmin(real, 0x1p100), -0x1p100); /* far outside every range anyway */
    return OK;
}

static void whole_text(whole v, char out[JSON_NUMBER_BYTES]) {
    if (v < 0)
        (void)snprintf(out, JSON_NUMBER_BYTES, "%" PRId64, (int64_t)v);
    else
        (void)snprintf(out, JSON_NUMBER_BYTES, "%" PRIu64, (uint64_t)v);
}

/* The bounds are numbers of int64_t or uint64_t. */
static status get_whole_within(const json_node *n, whole min, whole max, whole *out, error *err) {
    whole value = 0;
    TRY(get_whole(n, &value, err));
    if (value >= min && value <= max) {
        *out = value;
        return OK;
    }
    char path[JSON_PATH_BYTES], found[JSON_NUMBER_BYTES];
    char low[JSON_NUMBER_BYTES], high[JSON_NUMBER_BYTES];
    json_node_path(n, path);
    number_text(n, found);
    whole_text(min, low);
    whole_text(max, high);
    return error_set(err, ERR_INVALID, "%s: %s is outside %s to %s", path, found, low, high);
}

status json_node_u32(const json_node *n, uint32_t min, uint32_t max, uint32_t *inout, error *err) {
    whole value = *inout;
    if (json_node_is_set(n)) TRY(get_whole_within(n, min, max, &value, err));
    *inout = (uint32_t)value;
    return OK;
}

status json_node_i32(const json_node *n, int32_t min, int32_t max, int32_t *inout, error *err) {
    whole value = *inout;
    if (json_node_is_set(n)) TRY(get_whole_within(n, min, max, &value, err));
    *inout = (int32_t)value;
    return OK;
}

status json_node_u64(const json_node *n, uint64_t min, uint64_t max, uint64_t *inout, error *err) {
    whole value = *inout;
    if (json_node_is_set(n)) TRY(get_whole_within(n, min, max, &value, err));
    *inout = (uint64_t)value;
    return OK;
}

status json_node_i64(const json_node *n, int64_t min, int64_t max, int64_t *inout, error *err) {
    whole value = *inout;
    if (json_node_is_set(n)) TRY(get_whole_within(n, min, max, &value, err));
    *inout = (int64_t)value;
    return OK;
}

status json_node_f64(const json_node *n, double min, double max, double *inout, error *err) {
    if (!json_node_is_set(n)) return OK;
    if (!json_is_number(n->value)) return json_node_wrong_type(n, "number", err);
    double value = json_number_value(n->value);
    if (value < min || value > max) {
        char path[JSON_PATH_BYTES], found[JSON_NUMBER_BYTES];
        json_node_path(n, path);
        number_text(n, found);
        return error_set(err, ERR_INVALID, "%s: %s is outside %g to %g", path, found, min, max);
    }
    *inout = value;
    return OK;
}

status json_node_f32(const json_node *n, float min, float max, float *inout, error *err) {
    double value = (double)*inout;
    TRY(json_node_f64(n, (double)min, (double)max, &value, err));
    *inout = (float)value;
    return OK;
}

/* --- other values ---------------------------------------------------------------- */

status json_node_bool(const json_node *n, bool *inout, error *err) {
    if (!json_node_is_set(n)) return OK;
    if (!json_is_boolean(n->value)) return json_node_wrong_type(n, "true or false", err);
    *inout = json_is_true(n->value);
    return OK;
}

status json_node_str(const json_node *n, size_t bytes_max, str *inout, error *err) {
    if (!json_node_is_set(n)) return OK;
    if (!json_is_string(n->value)) return json_node_wrong_type(n, "string", err);
    str value = {json_string_value(n->value), json_string_length(n->value)};
    if (value.n > bytes_max) {
        char path[JSON_PATH_BYTES];
        json_node_path(n, path);
        return error_set(err, ERR_INVALID, "%s: %zu bytes, at most %zu are allowed", path, value.n,
                         bytes_max);
    }
    *inout = value;
    return OK;
}

static status no_such_choice(const json_node *n, str found, const char *const *names,
                             uint32_t count, error *err) {
    char path[JSON_PATH_BYTES], list[128];
    size_t used = 0;
    list[0] = '\0';
    for (uint32_t i = 0; i < count && used < sizeof list; i++)
        used +=
            (size_t)snprintf(list + used, sizeof list - used, "%s%s", i != 0 ? ", " : "", names[i]);
    json_node_path(n, path);
    found.n = found.n < 40 ? found.n : 40;
    return error_set(err, ERR_INVALID, "%s: '%.*s' is not one of %s", path, STR(found), list);
}

status json_node_choice(const json_node *n, const char *const *names, uint32_t count,
                        uint32_t *inout, error *err) {
    str found = {0};
    if (!json_node_is_set(n)) return OK;
    TRY(json_node_str(n, SIZE_MAX, &found, err));
    for (uint32_t i = 0; i < count; i++) {
        if (!str_eq_c(found, names[i])) continue;
        *inout = i;
        return OK;
    }
    return no_such_choice(n, found, names, count, err);
}

/* --- fields ---------------------------------------------------------------------- */

status json_fields_open(json_fields *f, const json_node *n, error *err) {
    if (!json_is_object(n->value)) return json_node_wrong_type(n, "object", err);
    f->node = *n;
    f->asked_count = 0;
    return OK;
}

static bool was_asked(const json_fields *f, const void *member) {
    for (uint32_t i = 0; i < f->asked_count; i++)
        if (f->asked[i] == member) return true;
    return false;
}

json_node json_field(json_fields *f, const char *key) {
    json_node n = {.doc = f->node.doc, .up = &f->node, .key = str_of(key)};
    const void *member = json_object_iter_at((json_t *)f->node.value, key);
    if (member == NULL) return n;
    n.value = json_object_iter_value((void *)member);
    if (!was_asked(f, member)) {
        ASSERT(f->asked_count < JSON_FIELDS_MAX);
        f->asked[f->asked_count++] = member;
    }
    return n;
}

status json_field_need(json_fields *f, const char *key, json_node *out, error *err) {
    json_node n = json_field(f, key);
    if (!json_node_is_set(&n)) {
        char path[JSON_PATH_BYTES];
        json_node_path(&n, path);
        return error_set(err, ERR_INVALID, "%s: is required", path);
    }
    *out = n;
    return OK;
}

status json_get_bool(json_fields *f, const char *key, bool *inout, error *err) {
    json_node n = json_field(f, key);
    return json_node_bool(&n, inout, err);
}

status json_get_u32(json_fields *f, const char *key, uint32_t min, uint32_t max, uint32_t *inout,
                    error *err) {
    json_node n = json_field(f, key);
    return json_node_u32(&n, min, max, inout, err);
}

status json_get_i32(json_fields *f, const char *key, int32_t min, int32_t max, int32_t *inout,
                    error *err) {
    json_node n = json_field(f, key);
    return json_node_i32(&n, min, max, inout, err);
}

status json_get_u64(json_fields *f, const char *key, uint64_t min, uint64_t max, uint64_t *inout,
                    error *err) {
    json_node n = json_field(f, key);
    return json_node_u64(&n, min, max, inout, err);
}

status json_get_i64(json_fields *f, const char *key, int64_t min, int64_t max, int64_t *inout,
                    error *err) {
    json_node n = json_field(f, key);
    return json_node_i64(&n, min, max, inout, err);
}

status json_get_f32(json_fields *f, const char *key, float min, float max, float *inout,
                    error *err) {
    json_node n = json_field(f, key);
    return json_node_f32(&n, min, max, inout, err);
}

status json_get_f64(json_fields *f, const char *key, double min, double max, double *inout,
                    error *err) {
    json_node n = json_field(f, key);
    return json_node_f64(&n, min, max, inout, err);
}

status json_get_str(json_fields *f, const char *key, size_t bytes_max, str *inout, error *err) {
    json_node n = json_field(f, key);
    return json_node_str(&n, bytes_max, inout, err);
}

status json_get_choice(json_fields *f, const char *key, const char *const *names, uint32_t count,
                       uint32_t *inout, error *err) {
    json_node n = json_field(f, key);
    return json_node_choice(&n, names, count, inout, err);
}

status json_get_array(json_fields *f, const char *key, size_t count_max, json_node *out,
                      error *err) {
    json_node n = json_field(f, key);
    if (!json_node_is_set(&n)) {
        n.value = NULL;
    } else if (!json_is_array(n.value)) {
        return json_node_wrong_type(&n, "array", err);
    } else if (json_node_count(&n) > count_max) {
        char path[JSON_PATH_BYTES];
        json_node_path(&n, path);
        return error_set(err, ERR_INVALID, "%s: %zu elements, at most %zu are allowed", path,
                         json_node_count(&n), count_max);
    }
    *out = n;
    return OK;
}

status json_get_object(json_fields *f, const char *key, json_node *out, error *err) {
    json_node n = json_field(f, key);
    if (!json_node_is_set(&n))
        n.value = NULL;
    else if (!json_is_object(n.value))
        return json_node_wrong_type(&n, "object", err);
    *out = n;
    return OK;
}

size_t json_fields_unused(const json_fields *f, void (*fn)(void *arg, str key), void *arg) {
    size_t count = json_object_size(f->node.value) - f->asked_count;
    json_t *value = (json_t *)f->node.value;
    if (count == 0 || fn == NULL) return count;
    for (void *at = json_object_iter(value); at != NULL; at = json_object_iter_next(value, at))
        if (!was_asked(f, at)) fn(arg, str_of(json_object_iter_key(at)));
    return count;
}

/* --- back to text ------------------------------------------------------------------ */

static void write_value(const json_doc *doc, json_t *value, json_writer *w);

static void write_object(const json_doc *doc, json_t *value, json_writer *w) {
    json_begin_object(w);
    for (void *at = json_object_iter(value); at != NULL; at = json_object_iter_next(value, at)) {
        json_key(w, str_of(json_object_iter_key(at)));
        write_value(doc, json_object_iter_value(at), w);
    }
    json_end_object(w);
}

static void write_array(const json_doc *doc, json_t *value, json_writer *w) {
    json_begin_array(w);
    for (size_t i = 0; i < json_array_size(value); i++)
        write_value(doc, json_array_get(value, i), w);
    json_end_array(w);
}

/* A real stays one: 1.0 is written with its fraction, and -0.0 keeps its sign. */
static void write_real(const json_doc *doc, json_t *value, json_writer *w) {
    char text[JSON_NUMBER_BYTES];
    uint64_t big = 0;
    if (json_doc_big(doc, value, &big)) {
        json_uint(w, big);
        return;
    }
    size_t n = json_format_f64(text, json_real_value(value));
    if (strpbrk(text, ".e") == NULL) {
        text[n++] = '.';
        text[n++] = '0';
    }
    json_raw(w, (str){text, n});
}

static void write_value(const json_doc *doc, json_t *value, json_writer *w) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        write_object(doc, value, w);
        return;
    case JSON_ARRAY:
        write_array(doc, value, w);
        return;
    case JSON_STRING:
        json_str(w, (str){json_string_value(value), json_string_length(value)});
        return;
    case JSON_INTEGER:
        json_int(w, json_integer_value(value));
        return;
    case JSON_REAL:
        write_real(doc, value, w);
        return;
    case JSON_TRUE:
        json_bool(w, true);
        return;
    case JSON_FALSE:
        json_bool(w, false);
        return;
    case JSON_NULL:
        json_put_null(w);
        return;
    }
}

void json_node_write(const json_node *n, json_writer *w) {
    ASSERT(n->value != NULL);
    write_value(n->doc, (json_t *)n->value, w);
}
