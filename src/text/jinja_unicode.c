/* jinja_unicode.c - see jinja_unicode.h. */
#include "text/jinja_unicode.h"

#include <utf8proc.h>

/* --- walking -------------------------------------------------------------------------- */

size_t jinja_char_get(str s, uint32_t *code) {
    const unsigned char *p = (const unsigned char *)s.p;
    if (p[0] < 0x80) {
        *code = p[0];
        return 1;
    }
    size_t n = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    uint32_t c = p[0] & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) c = c << 6 | (p[i] & 0x3Fu);
    *code = c;
    return n;
}

size_t jinja_char_get_last(str s, uint32_t *code) {
    size_t at = s.n - 1;
    while (at > 0 && ((unsigned char)s.p[at] & 0xC0) == 0x80) at--;
    return jinja_char_get(str_skip(s, at), code);
}

size_t jinja_char_put(char out[JINJA_CHAR_BYTES], uint32_t code) {
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)code, (utf8proc_uint8_t *)out);
}

static bool is_start(char c) { return ((unsigned char)c & 0xC0) != 0x80; }

size_t jinja_char_count(str s) {
    size_t count = 0;
    for (size_t i = 0; i < s.n; i++) count += is_start(s.p[i]);
    return count;
}

size_t jinja_char_offset(str s, size_t chars) {
    if (chars >= s.n) return s.n;
    size_t at = 0;
    for (; at < s.n; at++)
        if (is_start(s.p[at]) && chars-- == 0) return at;
    return at;
}

/* --- classes -------------------------------------------------------------------------- */

static utf8proc_category_t category(uint32_t code) {
    return utf8proc_category((utf8proc_int32_t)code);
}

bool jinja_char_is_space(uint32_t c) {
    if (c < 0x80) return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20);
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool jinja_char_is_line_end(uint32_t c) {
    return (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

bool jinja_char_is_alpha(uint32_t c) {
    if (c < 0x80) return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool jinja_char_is_numeric(uint32_t c) {
    if (c < 0x80) return c >= '0' && c <= '9';
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO;
}

bool jinja_char_is_digit(uint32_t c) {
    if (c < 0x80) return c >= '0' && c <= '9';
    if (c == 0xB2 || c == 0xB3 || c == 0xB9) return true;
    if (c == 0x2070 || (c >= 0x2074 && c <= 0x2079) || (c >= 0x2080 && c <= 0x2089)) return true;
    return category(c) == UTF8PROC_CATEGORY_ND;
}

bool jinja_char_is_word(uint32_t c) {
    return c == '_' || jinja_char_is_alpha(c) || jinja_char_is_numeric(c);
}

/* Characters outside L* that Unicode counts as cased: Other_Uppercase and Other_Lowercase. */
static bool is_other_upper(uint32_t c) {
    return (c >= 0x2160 && c <= 0x216F) || (c >= 0x24B6 && c <= 0x24CF) ||
           (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
           (c >= 0x1F170 && c <= 0x1F189);
}

static bool is_other_lower(uint32_t c) {
    return c == 0xAA || c == 0xBA || (c >= 0x2B0 && c <= 0x2B8) || c == 0x2C0 || c == 0x2C1 ||
           (c >= 0x2E0 && c <= 0x2E4) || c == 0x345 || c == 0x37A || (c >= 0x1D2C && c <= 0x1D6A) ||
           c == 0x1D78 || (c >= 0x1D9B && c <= 0x1DBF) || c == 0x2071 || c == 0x207F ||
           (c >= 0x2090 && c <= 0x209C) || (c >= 0x2170 && c <= 0x217F) ||
           (c >= 0x24D0 && c <= 0x24E9) || c == 0x2C7C || c == 0x2C7D;
}

bool jinja_char_is_upper(uint32_t c) {
    if (c < 0x80) return c >= 'A' && c <= 'Z';
    return category(c) == UTF8PROC_CATEGORY_LU || is_other_upper(c);
}

bool jinja_char_is_lower(uint32_t c) {
    if (c < 0x80) return c >= 'a' && c <= 'z';
    return category(c) == UTF8PROC_CATEGORY_LL || is_other_lower(c);
}

bool jinja_char_is_title(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_LT; }

bool jinja_char_is_printable(uint32_t c) {
    if (c < 0x80) return c >= 0x20 && c < 0x7F;
    utf8proc_category_t k = category(c);
    return k != UTF8PROC_CATEGORY_CN && (k < UTF8PROC_CATEGORY_ZS || k > UTF8PROC_CATEGORY_CO);
}

/* --- case ----------------------------------------------------------------------------- */

/* The unconditional mappings to several characters (but for those of Greek with iota, which
 * follow a rule).  Source: SpecialCasing.txt of the Unicode character database. */
typedef struct special_case {
    uint32_t code;
    uint32_t upper[JINJA_CASE_CHARS];
    uint32_t title[JINJA_CASE_CHARS];
} special_case;

static const special_case SPECIAL[] = {
    {0x00DF, {'S', 'S'}, {'S', 's'}},
    {0x0149, {0x2BC, 'N'}, {0x2BC, 'N'}},
    {0x01F0, {'J', 0x30C}, {'J', 0x30C}},
    {0x0390, {0x399, 0x308, 0x301}, {0x399, 0x308, 0x301}},
    {0x03B0, {0x3A5, 0x308, 0x301}, {0x3A5, 0x308, 0x301}},
    {0x0587, {0x535, 0x552}, {0x535, 0x582}},
    {0x1E96, {'H', 0x331}, {'H', 0x331}},
    {0x1E97, {'T', 0x308}, {'T', 0x308}},
    {0x1E98, {'W', 0x30A}, {'W', 0x30A}},
    {0x1E99, {'Y', 0x30A}, {'Y', 0x30A}},
    {0x1E9A, {'A', 0x2BE}, {'A', 0x2BE}},
    {0xFB00, {'F', 'F'}, {'F', 'f'}},
    {0xFB01, {'F', 'I'}, {'F', 'i'}},
    {0xFB02, {'F', 'L'}, {'F', 'l'}},
    {0xFB03, {'F', 'F', 'I'}, {'F', 'f', 'i'}},
    {0xFB04, {'F', 'F', 'L'}, {'F', 'f', 'l'}},
    {0xFB05, {'S', 'T'}, {'S', 't'}},
    {0xFB06, {'S', 'T'}, {'S', 't'}},
    {0xFB13, {0x544, 0x546}, {0x544, 0x576}},
    {0xFB14, {0x544, 0x535}, {0x544, 0x565}},
    {0xFB15, {0x544, 0x53B}, {0x544, 0x56B}},
    {0xFB16, {0x54E, 0x546}, {0x54E, 0x576}},
    {0xFB17, {0x544, 0x53D}, {0x544, 0x56D}},
};

static const special_case *find_special(uint32_t c) {
    for (size_t i = 0; i < sizeof SPECIAL / sizeof *SPECIAL; i++)
        if (SPECIAL[i].code == c) return &SPECIAL[i];
    return NULL;
}

static size_t copy_case(const uint32_t from[JINJA_CASE_CHARS], uint32_t out[JINJA_CASE_CHARS]) {
    size_t n = 0;
    while (n < JINJA_CASE_CHARS && from[n] != 0) {
        out[n] = from[n];
        n++;
    }
    return n;
}

size_t jinja_char_upper(uint32_t c, uint32_t out[JINJA_CASE_CHARS]) {
    const special_case *s = c < 0x80 ? NULL : find_special(c);
    if (s != NULL) return copy_case(s->upper, out);
    out[0] = (uint32_t)utf8proc_toupper((utf8proc_int32_t)c);
    return 1;
}

size_t jinja_char_title(uint32_t c, uint32_t out[JINJA_CASE_CHARS]) {
    const special_case *s = c < 0x80 ? NULL : find_special(c);
    if (s != NULL) return copy_case(s->title, out);
    out[0] = (uint32_t)utf8proc_totitle((utf8proc_int32_t)c);
    return 1;
}

size_t jinja_char_lower(uint32_t c, uint32_t out[JINJA_CASE_CHARS]) {
    if (c == 0x130) { /* I with a dot above keeps its dot */
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    out[0] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
    return 1;
}

/* --- white space at the ends ---------------------------------------------------------- */

str jinja_strip_left(str s) {
    uint32_t c = 0;
    while (s.n != 0) {
        size_t n = jinja_char_get(s, &c);
        if (!jinja_char_is_space(c)) break;
        s = str_skip(s, n);
    }
    return s;
}

str jinja_strip_right(str s) {
    uint32_t c = 0;
    while (s.n != 0) {
        size_t n = jinja_char_get_last(s, &c);
        if (!jinja_char_is_space(c)) break;
        s.n -= n;
    }
    return s;
}
