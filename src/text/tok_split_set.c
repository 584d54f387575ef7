/* tok_split_set.c - the sets of characters in a pattern, as far as they are simple.
 *
 * Read here: characters, escapes of one character, \p{category}, \p{Script} (one for a set), \s \d
 * \w and their opposites alone, [...] with ranges, with negation, with unnegated classes inside,
 * and with one "&&[^\p{Script}]" at the end.  What else there is goes to PCRE2.
 * Source: Oniguruma's doc/RE; the documentation of Rust's regex crate, "Character classes". */
#include <stdlib.h>

#include "text/tok_split_internal.h"

static const char category_names[UNICODE_CATEGORY_COUNT][3] = {
    "Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps",
    "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co",
};

/* The bits of a category by its name, "L" or "Lu"; 0 is none. */
static uint32_t category_bits(str name) {
    uint32_t bits = 0;
    if (name.n == 0 || name.n > 2) return 0;
    for (uint32_t i = 0; i < UNICODE_CATEGORY_COUNT; i++)
        if (memcmp(category_names[i], name.p, name.n) == 0) bits |= 1u << i;
    return bits;
}

static bool take(str *s, str prefix) {
    if (!str_starts(*s, prefix)) return false;
    *s = str_skip(*s, prefix.n);
    return true;
}

/* --- adding members ----------------------------------------------------------------------- */

static void add_range(split_set *s, uint32_t first, uint32_t last, buf *ranges) {
    for (uint32_t c = first; c < 128 && c <= last; c++) s->ascii[c >> 6] |= 1ull << (c & 63);
    if (last < 128) return;
    split_range r = {first < 128 ? 128 : first, last};
    buf_put(ranges, &r, sizeof r);
    s->ranges_count++;
}

/* \p{...} behind the p. */
static bool add_property(split_set *s, str *pattern) {
    str name = {pattern->p, 1};
    if (take(pattern, S("{"))) {
        const char *close = memchr(pattern->p, '}', pattern->n);
        if (close == NULL) return false;
        name = (str){pattern->p, (size_t)(close - pattern->p)};
        *pattern = str_skip(*pattern, 1);
    }
    if (pattern->n < name.n || name.n == 0) return false;
    *pattern = str_skip(*pattern, name.n);
    uint32_t bits = category_bits(name), script = unicode_script_find(name);
    s->categories |= bits;
    if (bits != 0) return true;
    if (script == UNICODE_SCRIPT_NONE || s->script != UNICODE_SCRIPT_NONE) return false;
    s->script = (uint8_t)script;
    return true;
}

static bool hex_value(str digits, uint32_t *out) {
    uint32_t value = 0;
    if (digits.n == 0 || digits.n > 6) return false;
    for (size_t i = 0; i < digits.n; i++) {
        char c = digits.p[i];
        uint32_t lower = (unsigned char)c | 0x20u;
        if (c >= '0' && c <= '9') {
            value = value * 16 + (uint32_t)(c - '0');
        } else if (lower >= 'a' && lower <= 'f') {
            value = value * 16 + (lower - 'a' + 10);
        } else {
            return false;
        }
    }
    *out = value;
    return value <= UNICODE_POINT_MAX;
}

/* \x41 \x{41} \u0041 \u{41}, behind the letter. */
static bool hex_escape(str *pattern, size_t digits, uint32_t *cp) {
    str hex = {pattern->p, digits};
    size_t used = digits;
    if (str_starts(*pattern, S("{"))) {
        const char *close = memchr(pattern->p, '}', pattern->n);
        if (close == NULL) return false;
        hex = (str){pattern->p + 1, (size_t)(close - pattern->p) - 1};
        used = hex.n + 2;
    }
    if (pattern->n < used || !hex_value(hex, cp)) return false;
    *pattern = str_skip(*pattern, used);
    return true;
}

/* An escape that is one character, behind the backslash. */
static bool escaped_character(str *pattern, uint32_t *cp) {
    static const char names[] = "nrtf", values[] = "\n\r\t\f";
    char c = pattern->p[0];
    bool letter = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    const char *known = letter ? strchr(names, c) : NULL;
    *pattern = str_skip(*pattern, 1);
    if (c == 'x') return hex_escape(pattern, 2, cp);
    if (c == 'u') return hex_escape(pattern, 4, cp);
    if (letter && known == NULL) return false;
    *cp = (unsigned char)(known != NULL ? values[known - names] : c);
    return *cp < 128;
}

/* One element of a set.  A single character is left to the caller, in *cp: it may begin a range. */
static bool read_element(split_set *s, str *pattern, uint32_t *cp, bool *single) {
    *single = false;
    if (!take(pattern, S("\\"))) {
        *single = true;
        uint32_t bytes = unicode_decode(pattern->p, pattern->n, cp);
        *pattern = str_skip(*pattern, bytes);
        return true;
    }
    if (pattern->n == 0) return false;
    if (take(pattern, S("p"))) return add_property(s, pattern);
    if (take(pattern, S("s"))) {
        s->flags |= UNICODE_FLAG_SPACE;
    } else if (take(pattern, S("w"))) {
        s->flags |= UNICODE_FLAG_WORD;
    } else if (take(pattern, S("d"))) {
        s->categories |= 1u << UNICODE_ND;
    } else {
        *single = true;
        return escaped_character(pattern, cp);
    }
    return true;
}

/* --- classes ------------------------------------------------------------------------------ */

/* "&&[^\\p{Script}]" and the end of the class, behind the "&&". */
static bool read_difference(split_set *s, str *pattern) {
    split_set other = {0};
    if (s->negated || !take(pattern, S("[^\\p")) || !add_property(&other, pattern)) return false;
    s->minus_script = other.script;
    return other.script != UNICODE_SCRIPT_NONE && take(pattern, S("]]"));
}

/* A character that may go on as a range "a-z". */
static bool read_range(split_set *s, str *pattern, uint32_t first, buf *ranges) {
    uint32_t last = first;
    bool single = true;
    if (str_starts(*pattern, S("-")) && !str_starts(*pattern, S("-]"))) {
        *pattern = str_skip(*pattern, 1);
        if (pattern->n == 0 || *pattern->p == '[' || *pattern->p == '-') return false;
        if (!read_element(s, pattern, &last, &single) || !single || last < first) return false;
    }
    add_range(s, first, last, ranges);
    return true;
}

/* [...] behind the first bracket.  Unnegated classes inside add their members. */
static bool read_class(split_set *s, str *pattern, buf *ranges) {
    uint32_t depth = 1;
    s->negated = take(pattern, S("^"));
    if (str_starts(*pattern, S("]"))) return false; /* a member here, for some engines */
    while (pattern->n > 0) {
        uint32_t cp = 0;
        bool single = false;
        if (str_starts(*pattern, S("[:")) || str_starts(*pattern, S("[^"))) return false;
        if (take(pattern, S("&&"))) return depth == 1 && read_difference(s, pattern);
        if (take(pattern, S("["))) {
            depth++;
            continue;
        }
        if (take(pattern, S("]"))) {
            if (--depth == 0) return true;
            continue;
        }
        if (!read_element(s, pattern, &cp, &single)) return false;
        if (single && !read_range(s, pattern, cp, ranges)) return false;
        if (!single && str_starts(*pattern, S("-")) && !str_starts(*pattern, S("-]"))) return false;
    }
    return false;
}

static bool is_opposite(str pattern) {
    return pattern.n >= 2 && *pattern.p == '\\' && pattern.p[1] != '\0' &&
           strchr("SWDP", pattern.p[1]) != NULL;
}

/* \S \W \D \P{...} alone. */
static bool read_opposite(split_set *s, str *pattern) {
    char escape[] = {'\\', (char)(pattern->p[1] - 'A' + 'a')};
    str two = {escape, sizeof escape};
    uint32_t cp;
    bool single;
    *pattern = str_skip(*pattern, 2);
    s->negated = true;
    if (escape[1] == 'p') return add_property(s, pattern);
    return read_element(s, &two, &cp, &single);
}

static int compare_ranges(const void *a, const void *b) {
    const split_range *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* Sorts the ranges of the set and joins those that touch. */
static void join_ranges(split_set *s, buf *ranges) {
    if (s->ranges_count == 0) return;
    split_range *r = (split_range *)(void *)ranges->p + s->ranges_at;
    uint32_t kept = 0;
    qsort(r, s->ranges_count, sizeof *r, compare_ranges);
    for (uint32_t i = 0; i < s->ranges_count; i++) {
        if (kept > 0 && r[i].first <= r[kept - 1].last + 1) {
            if (r[i].last > r[kept - 1].last) r[kept - 1].last = r[i].last;
        } else {
            r[kept++] = r[i];
        }
    }
    s->ranges_count = kept;
    ranges->n = (s->ranges_at + kept) * sizeof *r;
}

static bool has_property(const split_set *s, const unicode_record *u) {
    return (s->categories >> u->category & 1) != 0 || (s->flags & u->flags) != 0 ||
           (s->script != UNICODE_SCRIPT_NONE && s->script == u->script);
}

static bool is_taken_out(const split_set *s, const unicode_record *u) {
    return s->minus_script != UNICODE_SCRIPT_NONE && s->minus_script == u->script;
}

/* Until here `ascii` has the characters that were listed: now it gets the whole answer. */
static void fill_ascii(split_set *s) {
    for (uint32_t c = 0; c < 128; c++) {
        const unicode_record *u = unicode_get(c);
        bool in = split_ascii_has(s->ascii, c) || has_property(s, u);
        in = in != s->negated && !is_taken_out(s, u);
        s->ascii[c >> 6] = (s->ascii[c >> 6] & ~(1ull << (c & 63))) | (uint64_t)in << (c & 63);
    }
}

bool split_is_special(char c) { return c != '\0' && strchr("\\^$.|?*+()[]{}", c) != NULL; }

bool split_set_parse(split_set *s, str *pattern, buf *ranges) {
    uint32_t cp = 0;
    bool single = false;
    *s = (split_set){.ranges_at = (uint32_t)(ranges->n / sizeof(split_range))};
    if (pattern->n == 0) return false;
    if (take(pattern, S("["))) {
        if (!read_class(s, pattern, ranges)) return false;
    } else if (is_opposite(*pattern)) {
        if (!read_opposite(s, pattern)) return false;
    } else {
        if (*pattern->p != '\\' && split_is_special(*pattern->p)) return false;
        if (!read_element(s, pattern, &cp, &single)) return false;
        if (single) add_range(s, cp, cp, ranges);
    }
    if (ranges->failed) return false;
    join_ranges(s, ranges);
    fill_ascii(s);
    return true;
}

bool split_set_has_long(const split_set *s, const split_range *ranges, uint32_t cp) {
    const unicode_record *u = unicode_get(cp);
    bool in = has_property(s, u);
    if (!in && s->ranges_count > 0) {
        const split_range *r = ranges + s->ranges_at;
        for (uint32_t count = s->ranges_count; count > 1;) { /* the last that begins by cp */
            uint32_t half = count / 2;
            if (r[half].first <= cp) r += half;
            count -= half;
        }
        in = r->first <= cp && cp <= r->last;
    }
    return in != s->negated && !is_taken_out(s, u);
}

bool split_set_equal(const split_set *a, const split_set *b, const split_range *ranges) {
    if (a->ascii[0] != b->ascii[0] || a->ascii[1] != b->ascii[1]) return false;
    if (a->categories != b->categories || a->flags != b->flags || a->script != b->script)
        return false;
    if (a->minus_script != b->minus_script || a->negated != b->negated) return false;
    if (a->ranges_count != b->ranges_count) return false;
    return a->ranges_count == 0 || memcmp(ranges + a->ranges_at, ranges + b->ranges_at,
                                          a->ranges_count * sizeof *ranges) == 0;
}
