/* stop.h - finds stop strings in streamed text, whatever the split.
 *
 * Text is held back while it could be the beginning of a stop string, and released as soon as it
 * cannot.  A match ends the text: what stands before it is released, the match and what follows
 * is dropped.  The match that is complete first wins, since generation must not go on behind a
 * finished stop string; of several that are complete at the same byte the one that starts
 * earliest, which is the longest, and of equal ones the one added first.  So the answer depends
 * on the text only, never on how it was cut into tokens.
 *
 * Works on bytes.  With UTF-8 stop strings and whole characters pushed, whole characters come
 * out.  Time is O(bytes x stop strings).  Owner: plain values of the caller; a set is
 * read-only while matching and may be shared by the choices of one request.
 * Source: one Knuth-Morris-Pratt 1977 automaton for each string. */
#ifndef TEXT_STOP_H
#define TEXT_STOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"

enum {
    STOP_STRINGS_MAX = 17, /* 16 of a client and one of the chat template */
    STOP_BYTES_MAX = 256,
    STOP_NONE = -1
};

typedef struct stop_string {
    uint16_t bytes;                 /* 1..STOP_BYTES_MAX */
    char text[STOP_BYTES_MAX];      /* copied in */
    uint8_t border[STOP_BYTES_MAX]; /* [i]: longest proper prefix that ends text[0..i] */
} stop_string;

typedef struct stop_set {
    uint32_t count;
    stop_string strings[STOP_STRINGS_MAX];
} stop_set;

/* The state of one choice. */
typedef struct stop_match {
    const stop_set *set;               /* borrowed, outlives us */
    uint16_t prefix[STOP_STRINGS_MAX]; /* bytes of each stop string that the text ends with */
    uint16_t held_bytes;               /* text pushed but not released: the longest prefix */
    int8_t held_by;                    /* the stop string it is a prefix of */
    int8_t hit;                        /* the stop string found, or STOP_NONE */
    bool done;                         /* a stop string was found: nothing comes out any more */
} stop_match;

void stop_set_init(stop_set *set);

/* ERR_INVALID for an empty string, ERR_LIMIT past STOP_STRINGS_MAX or STOP_BYTES_MAX. */
NODISCARD status stop_set_add(stop_set *set, str text, error *err);

void stop_match_init(stop_match *m, const stop_set *set);

/* Appends to `out` what can be given out now; true when a stop string is complete
 * (m->hit says which).  m->held_bytes is what is still held.  After a match: ignored. */
bool stop_push(stop_match *m, str text, buf *out);

/* The end of the stream: what is held comes out. */
void stop_finish(stop_match *m, buf *out);

#endif
