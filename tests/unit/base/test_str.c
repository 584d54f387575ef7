/* test_str.c - str.h: comparisons, numbers to the letter, UTF-8 after RFC 3629. */
#include "base/str.h"
#include "test.h"

#include <math.h>

TEST(str_compares_bytes) {
    CHECK(str_eq(S(""), (str){NULL, 0}));
    CHECK(str_eq((str){"a\0b", 3}, (str){"a\0b", 3}));
    CHECK(!str_eq((str){"a\0b", 3}, (str){"a\0c", 3}));
    CHECK(str_eq_c(S("abc"), "abc"));
    CHECK(str_eq_c(S(""), NULL));
    CHECK(str_starts(S("abc"), S("")) && str_starts(S("abc"), S("ab")));
    CHECK(!str_starts(S("a"), S("ab")) && !str_starts(S("abc"), S("b")));
    CHECK(str_ends(S("abc"), S("bc")) && str_ends(S("abc"), S("")));
    CHECK(!str_ends(S("c"), S("bc")) && !str_ends(S("abc"), S("ab")));
    CHECK(str_eq(str_skip(S("abc"), 3), S("")));
}

TEST(str_copy_cuts_and_terminates) {
    char out[4] = "xxx";
    str_copy_c(out, sizeof out, S("abcdef"));
    CHECK_STR(out, "abc");
    str_copy_c(out, sizeof out, S(""));
    CHECK_STR(out, "");
    str_copy_c(out, 1, S("abc"));
    CHECK_STR(out, "");
}

TEST(str_nocase_is_ascii_only) {
    CHECK(str_eq_nocase(S("Content-TYPE"), S("content-type")));
    CHECK(!str_eq_nocase(S("a"), S("b")) && !str_eq_nocase(S("a"), S("aa")));
    CHECK(!str_eq_nocase(S("\xC3\x84"), S("\xC3\xA4")));
    CHECK(!str_eq_nocase(S("@"), S("`")) && !str_eq_nocase(S("["), S("{")));
}

TEST(str_to_u64_takes_digits_only) {
    static const struct {
        const char *text;
        bool ok;
        uint64_t want;
    } cases[] = {
        {"0", true, 0},
        {"007", true, 7},
        {"18446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"99999999999999999999", false, 0},
        {"184467440737095516150", false, 0},
        {"", false, 0},
        {"-1", false, 0},
        {"+1", false, 0},
        {" 1", false, 0},
        {"1 ", false, 0},
        {"1e3", false, 0},
        {"0x1", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t got = 77;
        CHECK_EQ(str_to_u64(str_of(cases[i].text), &got), cases[i].ok);
        CHECK(got == (cases[i].ok ? cases[i].want : 77));
    }
}

TEST(str_to_f64_takes_decimal_numbers_only) {
    static const struct {
        const char *text;
        bool ok;
        double want;
    } cases[] = {
        {"0", true, 0},      {"1.5", true, 1.5}, {"-2.25e2", true, -225}, {"1e-3", true, 0.001},
        {"+4", true, 4},     {"0.7", true, 0.7}, {"", false, 0},          {" 1", false, 0},
        {"1 ", false, 0},    {"1,5", false, 0},  {"1.5x", false, 0},      {"e5", false, 0},
        {"nan", false, 0},   {"inf", false, 0},  {"-infinity", false, 0}, {"0x10", false, 0},
        {"0x1p3", false, 0}, {"1e", false, 0},   {"--1", false, 0},       {".", false, 0},
        {"1.2.3", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double got = 77;
        bool ok = str_to_f64(str_of(cases[i].text), &got);
        if (ok != cases[i].ok) (void)fprintf(stderr, "number '%s'\n", cases[i].text);
        CHECK_EQ(ok, cases[i].ok);
        CHECK(got == (cases[i].ok ? cases[i].want : 77));
    }
    double got = 0;
    CHECK(!str_to_f64((str){"1\0002", 3}, &got));
    CHECK(str_to_f64((str){"12345", 2}, &got) && got == 12.0);
}

TEST(str_utf8_table) {
    static const struct {
        const char *bytes;
        size_t n;
        bool ok;
    } cases[] = {
        {"", 0, true},
        {"plain", 5, true},
        {"\0", 1, true},
        {"\x7F", 1, true},
        {"\xC2\x80", 2, true},
        {"\xDF\xBF", 2, true},
        {"\xE0\xA0\x80", 3, true},
        {"\xED\x9F\xBF", 3, true},     /* U+D7FF, the last before the surrogates */
        {"\xEE\x80\x80", 3, true},     /* U+E000, the first after them */
        {"\xEF\xBF\xBF", 3, true},     /* U+FFFF */
        {"\xF0\x90\x80\x80", 4, true}, /* U+10000 */
        {"\xF4\x8F\xBF\xBF", 4, true}, /* U+10FFFF */
        {"\x80", 1, false},
        {"\xBF", 1, false},
        {"\xC0\x80", 2, false},         /* overlong NUL */
        {"\xC1\xBF", 2, false},         /* overlong */
        {"\xE0\x9F\xBF", 3, false},     /* overlong */
        {"\xF0\x8F\xBF\xBF", 4, false}, /* overlong */
        {"\xED\xA0\x80", 3, false},     /* U+D800 */
        {"\xED\xBF\xBF", 3, false},     /* U+DFFF */
        {"\xF4\x90\x80\x80", 4, false}, /* U+110000 */
        {"\xF5\x80\x80\x80", 4, false},
        {"\xF8\x88\x80\x80\x80", 5, false},
        {"\xFE", 1, false},
        {"\xFF", 1, false},
        {"\xC2", 1, false},
        {"\xE2\x82", 2, false},
        {"\xF0\x9F\x98", 3, false},
        {"\xC2\x41", 2, false},
        {"\xE2\x41\x82", 3, false},
        {"\xE2\x82\x41", 3, false},
        {"ok\xF0\x9F\x98\x80ok", 8, true},
        {"ok\xF0\x9F\x98ok", 7, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool ok = str_is_utf8((str){cases[i].bytes, cases[i].n});
        if (ok != cases[i].ok) (void)fprintf(stderr, "utf-8 case %zu\n", i);
        CHECK_EQ(ok, cases[i].ok);
    }
}

/* Encode the code point the way UTF-8 would, surrogates included. */
static size_t encode(uint32_t cp, unsigned char *out) {
    if (cp < 0x80) return out[0] = (unsigned char)cp, 1;
    size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n; i-- > 1; cp >>= 6) out[i] = (unsigned char)(0x80 | (cp & 63));
    out[0] = (unsigned char)(lead[n] | cp);
    return n;
}

TEST(str_utf8_accepts_every_code_point_but_surrogates) {
    unsigned wrong = 0;
    for (uint32_t cp = 0; cp < 0x120000; cp += cp < 0x11000 ? 1 : 37) {
        unsigned char bytes[4];
        size_t n = encode(cp, bytes);
        bool want = cp <= 0x10FFFF && (cp < 0xD800 || cp > 0xDFFF);
        wrong += str_is_utf8((str){(const char *)bytes, n}) != want;
    }
    CHECK_EQ(wrong, 0);
}

TEST(str_control_characters_are_those_that_terminals_obey) {
    static const str has[] = {{"a\nb", 3}, {"\0", 1},       {"\x1b[31m", 5},
                              {"\x7f", 1}, {"\xc2\x80", 2}, {"x\xc2\x9fy", 4}};
    static const str has_not[] = {
        {"", 0}, {"a b~", 4}, {"\xc2\xa0", 2}, {"\xc3\x80", 2}, {"\xe2\x82\x80", 3}};
    for (size_t i = 0; i < sizeof has / sizeof has[0]; i++) CHECK(str_has_control(has[i]));
    for (size_t i = 0; i < sizeof has_not / sizeof has_not[0]; i++)
        CHECK(!str_has_control(has_not[i]));
}
