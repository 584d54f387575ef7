/* write.h - JSON out: appends compact RFC 8259 text to a buf, commas included.
 *
 * The text is always valid: strings may hold any bytes (what is not UTF-8 becomes U+FFFD),
 * and no raw CR, LF or NUL ever leaves, so a value may stand in an SSE or NDJSON line as it
 * is.  Wrong order of calls (a value without its key, a missing end) is an ASSERT; a buf that
 * is full only marks itself `failed`, so check buf_status() once at the end.
 * Every name that jansson has not taken is json_NAME; its json_null forces json_put_null.
 * Owner: whoever holds the struct; it borrows the buf. */
#ifndef JSON_WRITE_H
#define JSON_WRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

enum {
    JSON_WRITE_DEPTH_MAX = 512, /* twice what json_parse accepts, so any value read fits in */
    JSON_NUMBER_BYTES = 32      /* room for any number as text, terminator included */
};

typedef struct json_writer {
    buf *out;       /* borrowed */
    uint32_t depth; /* open objects and arrays */
    bool comma;     /* the next key or element must be set off from the one before */
    bool keyed;     /* a key was written and waits for its value */
    uint8_t is_object[JSON_WRITE_DEPTH_MAX / 8]; /* bit per level */
} json_writer;

void json_writer_init(json_writer *w, buf *out);
/* Is every object and array closed again? */
bool json_writer_is_done(const json_writer *w);

void json_begin_object(json_writer *w);
void json_end_object(json_writer *w);
void json_begin_array(json_writer *w);
void json_end_array(json_writer *w);
void json_key(json_writer *w, str key);

void json_str(json_writer *w, str s);
void json_bool(json_writer *w, bool b);
void json_put_null(json_writer *w);
void json_int(json_writer *w, int64_t v);
void json_uint(json_writer *w, uint64_t v);
/* The shortest of 15 to 17 (6 to 9) digits that reads back as the same double (float);
 * infinities and NaN, which JSON has no word for, become null. */
void json_f64(json_writer *w, double v);
void json_f32(json_writer *w, float v);
/* One value that is valid JSON already, without line breaks. */
void json_raw(json_writer *w, str valid_json);

/* Key and value in one call, inside an object. */
void json_kv_str(json_writer *w, const char *key, str s);
void json_kv_bool(json_writer *w, const char *key, bool b);
void json_kv_null(json_writer *w, const char *key);
void json_kv_int(json_writer *w, const char *key, int64_t v);
void json_kv_uint(json_writer *w, const char *key, uint64_t v);
void json_kv_f64(json_writer *w, const char *key, double v);
void json_kv_f32(json_writer *w, const char *key, float v);
void json_kv_raw(json_writer *w, const char *key, str valid_json);
void json_kv_object(json_writer *w, const char *key); /* begins it */
void json_kv_array(json_writer *w, const char *key);  /* begins it */

/* The number alone, as json_f64 and json_f32 write it; v is finite.  Returns its bytes. */
size_t json_format_f64(char out[JSON_NUMBER_BYTES], double v);
size_t json_format_f32(char out[JSON_NUMBER_BYTES], float v);

#endif
