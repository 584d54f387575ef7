/* test_unicode.c - decoding by table 3-7, and the pinned table against known characters. */
#include "test.h"
#include "text/unicode.h"

static uint32_t decode(const char *bytes, size_t n, uint32_t *cp) {
    *cp = 0;
    return unicode_decode(bytes, n, cp);
}

TEST(unicode_every_character_survives_encoding) {
    for (uint32_t cp = 0; cp <= UNICODE_POINT_MAX; cp++) {
        char bytes[UNICODE_BYTES_MAX];
        uint32_t back;
        if (cp >= 0xD800 && cp <= 0xDFFF) continue;
        uint32_t n = unicode_encode(cp, bytes);
        bool same = unicode_decode(bytes, n, &back) == n && back == cp;
        if (!same) CHECK_EQ(cp, back);
        /* Cut short it is broken. */
        if (n > 1 && unicode_decode(bytes, n - 1, &back) != 1) CHECK_EQ(cp, 0);
    }
}

TEST(unicode_decodes_what_str_is_utf8_accepts) {
    /* All leads with all seconds, and ends that are right or wrong. */
    for (uint32_t i = 0; i < 256 * 256 * 2; i++) {
        char bytes[4] = {(char)(i & 255), (char)(i >> 8 & 255), (char)0x80,
                         (char)((i >> 16) != 0 ? 0x41 : 0xBF)};
        for (size_t n = 1; n <= 4; n++) {
            uint32_t cp;
            uint32_t used = unicode_decode(bytes, n, &cp);
            bool broken = used == 1 && cp == UNICODE_REPLACEMENT;
            bool valid = false;
            for (size_t k = 1; k <= n && !valid; k++) valid = str_is_utf8((str){bytes, k});
            if (valid == broken) CHECK_EQ(i, n);
        }
    }
}

TEST(unicode_broken_bytes_are_one_replacement_each) {
    uint32_t cp;
    CHECK_EQ(decode("\xC0\x80", 2, &cp), 1);
    CHECK_EQ(cp, 0xFFFD);
    CHECK_EQ(decode("\xED\xA0\x80", 3, &cp), 1); /* a surrogate */
    CHECK_EQ(decode("\xF4\x90\x80\x80", 4, &cp), 1);
    CHECK_EQ(cp, 0xFFFD);
    CHECK_EQ(decode("\xEF\xBF\xBD", 3, &cp), 3); /* U+FFFD itself */
    CHECK_EQ(cp, 0xFFFD);
}

TEST(unicode_table_knows_characters) {
    CHECK_STR(unicode_version, "15.0.0");
    CHECK_EQ(unicode_get('A')->category, UNICODE_LU);
    CHECK_EQ(unicode_get(0x1C5)->category, UNICODE_LT);
    CHECK_EQ(unicode_get(0x301)->category, UNICODE_MN);
    CHECK_EQ(unicode_get(0x4E2D)->script, UNICODE_SCRIPT_HAN);
    CHECK_EQ(unicode_get(0x3042)->script, UNICODE_SCRIPT_HIRAGANA);
    CHECK_EQ(unicode_get(0x378)->category, UNICODE_CN);
    CHECK_EQ(unicode_get(0x1FA77)->category, UNICODE_SO); /* new in 15.0 */
    CHECK_EQ(unicode_get(UNICODE_POINT_MAX)->category, UNICODE_CN);
    CHECK_EQ(unicode_lower(0x130), 'i');
    CHECK_EQ(unicode_lower(0x1E9E), 0xDF);
    CHECK_EQ(unicode_lower(0x10400), 0x10428);
    CHECK_EQ(unicode_lower('a'), 'a');
    uint32_t spaces = 0;
    for (uint32_t cp = 0; cp <= UNICODE_POINT_MAX; cp++) spaces += unicode_is_space(cp);
    CHECK_EQ(spaces, 25); /* PropList.txt says so */
    CHECK(!unicode_is_space(0x180E));
    CHECK_EQ(unicode_script_find(S("Han")), UNICODE_SCRIPT_HAN);
    CHECK(unicode_script_find(S("Thai")) > UNICODE_SCRIPT_KATAKANA);
    CHECK_EQ(unicode_script_find(S("Klingon")), UNICODE_SCRIPT_NONE);
}
