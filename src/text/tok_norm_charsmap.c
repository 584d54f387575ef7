/* tok_norm_charsmap.c - SentencePiece's compiled character maps.
 *
 * The blob is {u32 bytes of the trie, the trie, the replacements}.  The trie is a double array of
 * darts-clone; a unit is a little-endian u32:
 *   bits 0-7   the label, bit 31 is 0 for units that are reached by a label
 *   bit 8      a value hangs here: it is in the unit at the offset itself
 *   bit 9      the offset below is times 256
 *   bits 10-30 the offset, to be combined with the unit's place by exclusive or
 * A value is a place in the replacements; bit 31 is set there.
 * The longest source string that begins at a place is replaced, as SentencePiece does; a
 * character that begins none stays, and a byte that begins no character becomes U+FFFD.
 * Source: SentencePiece, normalizer and darts-clone's unit layout. */
#include "text/tok_norm_internal.h"
#include "text/unicode.h"

static uint32_t read_u32(const char *p) {
    const unsigned char *b = (const unsigned char *)p;
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

status charsmap_open(charsmap *m, str blob, error *err) {
    *m = (charsmap){0};
    if (blob.n == 0) return OK;
    if (blob.n < 4)
        return error_set(err, ERR_FORMAT, "tokenizer: charsmap of %zu bytes, at least 4", blob.n);
    uint32_t units_bytes = read_u32(blob.p);
    if (units_bytes > blob.n - 4)
        return error_set(err, ERR_FORMAT, "tokenizer: charsmap has a trie of %u bytes in %zu",
                         units_bytes, blob.n);
    if (units_bytes % 4 != 0)
        return error_set(err, ERR_FORMAT,
                         "tokenizer: charsmap has a trie of %u bytes, not whole "
                         "units of 4",
                         units_bytes);
    str replacements = str_skip(blob, 4 + (size_t)units_bytes);
    if (replacements.n > 0 && replacements.p[replacements.n - 1] != '\0')
        return error_set(err, ERR_FORMAT,
                         "tokenizer: charsmap has %zu bytes of replacements and no "
                         "NUL behind them",
                         replacements.n);
    *m = (charsmap){.units = {blob.p + 4, units_bytes}, .replacements = replacements};
    return OK;
}

/* The unit at an index; 0 outside, which has neither label nor value. */
static uint32_t unit_at(const charsmap *m, uint32_t index) {
    return index < m->units.n / 4 ? read_u32(m->units.p + (size_t)index * 4) : 0;
}

static uint32_t unit_offset(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }

/* The longest source string at the start of the text: how many bytes, 0 is none. */
static size_t find_longest(const charsmap *m, str text, uint32_t *value) {
    size_t longest = 0;
    uint32_t at = unit_offset(unit_at(m, 0));
    for (size_t i = 0; i < text.n && i < CHARSMAP_MATCH_BYTES_MAX; i++) {
        unsigned char byte = (unsigned char)text.p[i];
        at ^= byte;
        uint32_t unit = unit_at(m, at);
        if (byte == 0 || (unit & 0x800000FFu) != byte) break;
        at ^= unit_offset(unit);
        if ((unit >> 8 & 1) == 0) continue;
        *value = unit_at(m, at) & 0x7FFFFFFFu;
        longest = i + 1;
    }
    return longest;
}

size_t charsmap_read(const charsmap *m, str text, str *out) {
    uint32_t value = 0, cp = 0;
    size_t bytes = find_longest(m, text, &value);
    if (bytes > 0) {
        *out = value < m->replacements.n ? str_of(m->replacements.p + value) : S("");
        return bytes;
    }
    bytes = unicode_decode(text.p, text.n, &cp);
    bool broken = bytes == 1 && cp == UNICODE_REPLACEMENT;
    *out = broken ? S("\xEF\xBF\xBD") : (str){text.p, bytes};
    return bytes;
}

void charsmap_apply(const charsmap *m, str text, buf *out) {
    while (text.n > 0 && !out->failed) {
        str replacement;
        text = str_skip(text, charsmap_read(m, text, &replacement));
        buf_put_str(out, replacement);
    }
}
