/* wire_internal.h - the codec under the walks of wire.c and wire_events.c.
 *
 * A walk visits the fields of a message in wire order.  The codec either appends each field to a
 * buffer or fills it from a frame, so encoder and decoder cannot drift apart.  When reading, the
 * first thing that is wrong is kept and everything after it is skipped. */
#ifndef WIRE_WIRE_INTERNAL_H
#define WIRE_WIRE_INTERNAL_H

#include "wire/wire.h"

typedef struct codec {
    buf *out; /* writing: where fields go; NULL when reading */
    str in;   /* reading: what is left */
    status st;
    error *err;
} codec;

static inline bool codec_is_reading(const codec *c) { return c->out == NULL; }

/* The message is wrong. */
__attribute__((format(printf, 2, 3))) void codec_bad(codec *c, const char *fmt, ...);

/* n fixed bytes at p, in the direction of the codec. */
void codec_bytes(codec *c, void *p, size_t n, const char *name);
void codec_bool(codec *c, bool *v, const char *name);
/* A number that must lie in [lo, hi]; NaN never does. */
void codec_f32(codec *c, float *v, float lo, float hi, const char *name);
void codec_str(codec *c, str *s, size_t bytes_max, const char *name);
/* Text in a fixed char array: terminated within it. */
void codec_chars(codec *c, char *text, size_t bytes, const char *name);
void codec_array(codec *c, wire_array *a, size_t elem_bytes, uint32_t count_max, const char *name);

/* An enum or small number in one byte, below `end`. */
#define FIELD_ENUM(c, v, end, name)                                                   \
    do {                                                                              \
        uint8_t byte_ = (uint8_t)(v);                                                 \
        codec_bytes((c), &byte_, 1, (name));                                          \
        if (byte_ >= (end))                                                           \
            codec_bad((c), "%s is %u, want less than %d", (name), byte_, (int)(end)); \
        else                                                                          \
            (v) = byte_;                                                              \
    } while (0)

#define FIELD(c, v) codec_bytes((c), &(v), sizeof(v), #v)

/* One event of an EVENTS frame (wire_events.c). */
void codec_event(codec *c, gen_event *e);

/* wire_profile.c */
void codec_profile(codec *c, profile_order *o);
void codec_profile_report(codec *c, profile_report *r);

#endif
