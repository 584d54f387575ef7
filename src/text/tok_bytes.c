/* tok_bytes.c - see tok_bytes.h. */
#include "text/tok_bytes.h"

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

int tok_byte_of_piece(str piece) {
    if (piece.n != 6 || !str_starts(piece, S("<0x")) || piece.p[5] != '>') return -1;
    int high = hex_digit(piece.p[3]), low = hex_digit(piece.p[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* --- the alphabet -------------------------------------------------------------------------- */

/* The bytes without a character of their own lie in three stretches, numbered from U+0100 on. */
enum {
    CONTROLS_END = 0x21, /* 0x00..0x20 are U+0100..U+0120 */
    MIDDLE_BEGIN = 0x7F, /* 0x7F..0xA0 are U+0121..U+0142 */
    MIDDLE_END = 0xA1,   /* and 0xAD, the soft hyphen, is U+0143 */
    MIDDLE_FIRST = 0x121,
    SOFT_HYPHEN = 0xAD,
    SOFT_HYPHEN_STANDIN = 0x143,
};

static uint32_t character_of(uint8_t byte) {
    if (byte < CONTROLS_END) return 0x100u + byte;
    if (byte >= MIDDLE_BEGIN && byte < MIDDLE_END) return MIDDLE_FIRST + (byte - MIDDLE_BEGIN);
    return byte == SOFT_HYPHEN ? SOFT_HYPHEN_STANDIN : byte;
}

/* -1 when the character stands for no byte. */
static int byte_of(uint32_t c) {
    if (c >= 0x100 && c < 0x100 + CONTROLS_END) return (int)(c - 0x100);
    if (c >= MIDDLE_FIRST && c < SOFT_HYPHEN_STANDIN) return (int)(c - MIDDLE_FIRST + MIDDLE_BEGIN);
    if (c == SOFT_HYPHEN_STANDIN) return SOFT_HYPHEN;
    return c < 0x100 && character_of((uint8_t)c) == c ? (int)c : -1;
}

uint32_t tok_alphabet_spell(uint8_t byte, char out[2]) {
    uint32_t c = character_of(byte);
    out[0] = (char)c;
    if (c < 0x80) return 1;
    out[0] = (char)(0xC0 | c >> 6);
    out[1] = (char)(0x80 | (c & 0x3F));
    return 2;
}

bool tok_alphabet_read(str text, char *out, size_t *bytes) {
    *bytes = 0;
    while (text.n > 0) {
        const unsigned char *p = (const unsigned char *)text.p;
        bool two = text.n > 1 && p[0] >= 0xC2 && p[0] <= 0xDF && (p[1] & 0xC0) == 0x80;
        if (!two && p[0] >= 0x80) return false;
        int byte = byte_of(two ? (uint32_t)(p[0] & 0x1F) << 6 | (p[1] & 0x3F) : p[0]);
        if (byte < 0) return false;
        out[(*bytes)++] = (char)byte;
        text = str_skip(text, two ? 2 : 1);
    }
    return true;
}
