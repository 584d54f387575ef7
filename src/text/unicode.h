/* unicode.h - UTF-8 and the properties of characters, from one pinned table.
 *
 * The table is that of Unicode 15.0 (unicode_version[]) and part of the program: which token a
 * text becomes must not depend on the C library, a locale or a package of the distribution.
 * No state, any thread.
 * Source: the Unicode Character Database: UnicodeData, PropList, Scripts, DerivedCoreProperties;
 * tools/gen_unicode.py writes unicode_table.c from them. */
#ifndef TEXT_UNICODE_H
#define TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* General categories, in the order of tools/gen_unicode.py. */
typedef enum unicode_category {
    UNICODE_CN,
    UNICODE_LU,
    UNICODE_LL,
    UNICODE_LT,
    UNICODE_LM,
    UNICODE_LO,
    UNICODE_MN,
    UNICODE_MC,
    UNICODE_ME,
    UNICODE_ND,
    UNICODE_NL,
    UNICODE_NO,
    UNICODE_PC,
    UNICODE_PD,
    UNICODE_PS,
    UNICODE_PE,
    UNICODE_PI,
    UNICODE_PF,
    UNICODE_PO,
    UNICODE_SM,
    UNICODE_SC,
    UNICODE_SK,
    UNICODE_SO,
    UNICODE_ZS,
    UNICODE_ZL,
    UNICODE_ZP,
    UNICODE_CC,
    UNICODE_CF,
    UNICODE_CS,
    UNICODE_CO,
    UNICODE_CATEGORY_COUNT
} unicode_category;

/* Scripts have numbers below unicode_scripts_count; these are known by name here. */
enum {
    UNICODE_SCRIPT_NONE,
    UNICODE_SCRIPT_COMMON,
    UNICODE_SCRIPT_INHERITED,
    UNICODE_SCRIPT_HAN,
    UNICODE_SCRIPT_HIRAGANA,
    UNICODE_SCRIPT_KATAKANA,
};

enum {
    UNICODE_FLAG_SPACE = 1, /* White_Space */
    UNICODE_FLAG_WORD = 2,  /* \w: letters, marks, decimal digits, connectors, joiners */
};

enum {
    UNICODE_POINT_MAX = 0x10FFFF,
    UNICODE_REPLACEMENT = 0xFFFD,
    UNICODE_BYTES_MAX = 4, /* of a character in UTF-8 */
    UNICODE_BLOCK_SHIFT = 7,
};

typedef struct unicode_record {
    int32_t lower; /* distance to the simple lower case */
    uint8_t category, script, flags;
} unicode_record;

extern const char unicode_version[];
extern const unicode_record unicode_records[];
extern const uint16_t unicode_blocks[];
extern const uint16_t unicode_points[];
extern const char *const unicode_script_names[]; /* as in Scripts.txt */
extern const uint32_t unicode_scripts_count;

/* cp <= UNICODE_POINT_MAX. */
static inline const unicode_record *unicode_get(uint32_t cp) {
    uint32_t block = unicode_blocks[cp >> UNICODE_BLOCK_SHIFT];
    uint32_t at = (block << UNICODE_BLOCK_SHIFT) + (cp & ((1u << UNICODE_BLOCK_SHIFT) - 1));
    return &unicode_records[unicode_points[at]];
}

static inline bool unicode_is_space(uint32_t cp) {
    return (unicode_get(cp)->flags & UNICODE_FLAG_SPACE) != 0;
}

/* One bit for each category, to test for several at once. */
static inline uint32_t unicode_category_bit(uint32_t cp) { return 1u << unicode_get(cp)->category; }

static inline uint32_t unicode_lower(uint32_t cp) {
    return (uint32_t)((int32_t)cp + unicode_get(cp)->lower);
}

/* The number of a script by its name, UNICODE_SCRIPT_NONE when there is none. */
uint32_t unicode_script_find(str name);

/* unicode_decode() for a character that does not begin with an ASCII byte. */
uint32_t unicode_decode_long(const char *p, size_t n, uint32_t *cp);

/* The character at p, n > 0 bytes: how many bytes it has.  Where there is no well-formed UTF-8
 * (Unicode table 3-7) it is U+FFFD and has one byte. */
static inline uint32_t unicode_decode(const char *p, size_t n, uint32_t *cp) {
    if ((unsigned char)*p >= 0x80) return unicode_decode_long(p, n, cp);
    *cp = (unsigned char)*p;
    return 1;
}

/* Writes cp, which is no surrogate, as UTF-8; returns how many bytes. */
uint32_t unicode_encode(uint32_t cp, char out[UNICODE_BYTES_MAX]);

#endif
