/* unicode.c - UTF-8 of more than one byte, and scripts by name. */
#include "text/unicode.h"

#include "base/assert.h"

static bool is_continuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

/* Table 3-7 of the Unicode standard: how many bytes a lead byte announces, and between which the
 * second must lie.  0 for a byte that begins no character. */
static uint32_t lead_bytes(unsigned char lead, unsigned char *low, unsigned char *high) {
    *low = 0x80;
    *high = 0xBF;
    if (lead < 0xC2 || lead > 0xF4) return 0;
    if (lead < 0xE0) return 2;
    if (lead == 0xE0) *low = 0xA0;  /* shorter forms exist below */
    if (lead == 0xED) *high = 0x9F; /* surrogates lie above */
    if (lead < 0xF0) return 3;
    if (lead == 0xF0) *low = 0x90;  /* shorter forms exist below */
    if (lead == 0xF4) *high = 0x8F; /* U+10FFFF is the last */
    return 4;
}

uint32_t unicode_decode_long(const char *p, size_t n, uint32_t *cp) {
    const unsigned char *b = (const unsigned char *)p;
    unsigned char low, high;
    uint32_t bytes = lead_bytes(b[0], &low, &high);
    *cp = UNICODE_REPLACEMENT;
    if (bytes == 0 || n < bytes || b[1] < low || b[1] > high) return 1;
    uint32_t value = ((b[0] & (0x7Fu >> bytes)) << 6) | (b[1] & 0x3Fu);
    for (uint32_t i = 2; i < bytes; i++) {
        if (!is_continuation(b[i])) return 1;
        value = (value << 6) | (b[i] & 0x3Fu);
    }
    *cp = value;
    return bytes;
}

uint32_t unicode_encode(uint32_t cp, char out[UNICODE_BYTES_MAX]) {
    ASSERT(cp <= UNICODE_POINT_MAX);
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    uint32_t bytes = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (uint32_t i = bytes - 1; i > 0; i--, cp >>= 6) out[i] = (char)(0x80 | (cp & 0x3F));
    out[0] = (char)((0xF00u >> bytes) | cp);
    return bytes;
}

uint32_t unicode_script_find(str name) {
    for (uint32_t i = 1; i < unicode_scripts_count; i++)
        if (str_eq_c(name, unicode_script_names[i])) return i;
    return UNICODE_SCRIPT_NONE;
}
