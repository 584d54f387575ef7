/* stop.c - see stop.h.
 *
 * No text is kept: what is held is the prefix of a stop string, and the set has its bytes. */
#include "text/stop.h"

#include <string.h>

#include "base/assert.h"

void stop_set_init(stop_set *set) { set->count = 0; }

/* border[i] is the length of the longest proper prefix of the string that also ends
 * text[0..i]: where matching goes on after a mismatch behind i. */
static void fill_borders(stop_string *s) {
    s->border[0] = 0;
    for (uint32_t i = 1, k = 0; i < s->bytes; i++) {
        while (k > 0 && s->text[i] != s->text[k]) k = s->border[k - 1];
        if (s->text[i] == s->text[k]) k++;
        s->border[i] = (uint8_t)k; /* k <= i <= 255 */
    }
}

status stop_set_add(stop_set *set, str text, error *err) {
    if (text.n == 0) return error_set(err, ERR_INVALID, "stop[%u]: empty string", set->count);
    if (text.n > STOP_BYTES_MAX)
        return error_set(err, ERR_LIMIT, "stop[%u]: %zu bytes, at most %d", set->count, text.n,
                         STOP_BYTES_MAX);
    if (set->count == STOP_STRINGS_MAX)
        return error_set(err, ERR_LIMIT, "stop: more than %d strings", STOP_STRINGS_MAX);
    stop_string *s = &set->strings[set->count++];
    s->bytes = (uint16_t)text.n;
    memcpy(s->text, text.p, text.n);
    fill_borders(s);
    return OK;
}

void stop_match_init(stop_match *m, const stop_set *set) {
    *m = (stop_match){.set = set, .hit = STOP_NONE};
}

/* The bytes of `s` that the text ends with after one more byte, from `k` before; k < bytes. */
static uint32_t advance(const stop_string *s, uint32_t k, char byte) {
    while (k > 0 && s->text[k] != byte) k = s->border[k - 1];
    return s->text[k] == byte ? k + 1 : 0;
}

/* Moves every string on by one byte.  The longest complete one becomes m->hit. */
static void match_byte(stop_match *m, char byte) {
    uint32_t hit_bytes = 0;
    for (uint32_t i = 0; i < m->set->count; i++) {
        const stop_string *s = &m->set->strings[i];
        m->prefix[i] = (uint16_t)advance(s, m->prefix[i], byte);
        if (m->prefix[i] < s->bytes || s->bytes <= hit_bytes) continue;
        hit_bytes = s->bytes;
        m->hit = (int8_t)i;
        m->done = true;
    }
}

static void hold_longest(stop_match *m) {
    m->held_bytes = 0;
    for (uint32_t i = 0; i < m->set->count; i++) {
        if (m->prefix[i] <= m->held_bytes) continue;
        m->held_bytes = m->prefix[i];
        m->held_by = (int8_t)i;
    }
}

/* Puts the first `n` bytes of (held text, text) to `out`. */
static void release(const char *held, size_t held_bytes, str text, size_t n, buf *out) {
    size_t from_held = n < held_bytes ? n : held_bytes;
    buf_put(out, held, from_held);
    buf_put(out, text.p, n - from_held);
}

bool stop_push(stop_match *m, str text, buf *out) {
    if (m->done) return true;
    const char *held = m->set->strings[m->held_by].text;
    size_t held_bytes = m->held_bytes, read = 0;
    while (read < text.n && !m->done) match_byte(m, text.p[read++]);
    hold_longest(m);
    size_t kept = m->done ? m->set->strings[m->hit].bytes : m->held_bytes;
    ASSERT(kept <= held_bytes + read);
    release(held, held_bytes, text, held_bytes + read - kept, out);
    if (m->done) m->held_bytes = 0;
    return m->done;
}

void stop_finish(stop_match *m, buf *out) {
    if (m->held_bytes > 0) buf_put(out, m->set->strings[m->held_by].text, m->held_bytes);
    m->held_bytes = 0;
    memset(m->prefix, 0, sizeof m->prefix);
}
