/* test_tok_norm.c - each normalizing step, sequences of them, and hostile input. */
#include "base/alloc.h"
#include "growth.h"
#include "test.h"
#include "text/tok_norm.h"
#include "text/unicode.h"

/* The text after the steps; in a buffer of its own until the next call. */
static const char *normalized(const tok_norm *steps, uint32_t count, str text, bool first) {
    static char shown[1024];
    buf out, spare;
    tok_normalizer *n = NULL;
    error err = {0};
    buf_init(&out, sizeof shown - 1);
    buf_init(&spare, sizeof shown - 1);
    shown[0] = '\0';
    CHECK_EQ(tok_normalizer_create(&n, steps, count, &err), OK);
    if (n != NULL) CHECK_EQ(tok_normalize(n, text, first, &out, &spare, &err), OK);
    if (out.n > 0) memcpy(shown, out.p, out.n);
    shown[out.n] = '\0';
    tok_normalizer_destroy(n);
    buf_deinit(&out);
    buf_deinit(&spare);
    return shown;
}

static const char *one(tok_norm_kind kind, const char *text) {
    tok_norm step = {.kind = kind};
    return normalized(&step, 1, str_of(text), true);
}

TEST(tok_norm_forms_of_annex_15) {
    CHECK_STR(one(TOK_NORM_NFC, "e\xCC\x81x"), "\xC3\xA9x");
    CHECK_STR(one(TOK_NORM_NFD, "\xC3\xA9"), "e\xCC\x81");
    CHECK_STR(one(TOK_NORM_NFKC, "\xEF\xAC\x81\xC2\xB2\xEF\xBC\xA1"), "fi2A");
    CHECK_STR(one(TOK_NORM_NFKD, "\xE1\xBA\x9B\xCC\xA3"), "s\xCC\xA3\xCC\x87");
    CHECK_STR(one(TOK_NORM_NFC, "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB"),
              "\xED\x95\x9C"); /* Hangul */
    CHECK_STR(one(TOK_NORM_NFD, "\xED\x95\x9C"), "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB");
    CHECK_STR(one(TOK_NORM_NFC, "\xE2\x84\xA6\xE2\x84\xAB"), "\xCE\xA9\xC3\x85"); /* singletons */
    CHECK_STR(one(TOK_NORM_NFC, "\xE0\xA5\x98"), "\xE0\xA4\x95\xE0\xA4\xBC");     /* excluded */
    CHECK_STR(one(TOK_NORM_NFC, "a\xCC\x81\xCC\xA3"), "\xE1\xBA\xA1\xCC\x81");    /* ordered */
    CHECK_STR(one(TOK_NORM_NFC, "ab\xFF"), "ab\xEF\xBF\xBD");
    CHECK_STR(one(TOK_NORM_NFC, ""), "");
}

TEST(tok_norm_long_runs_of_marks_are_ordered_like_short_ones) {
    /* 60 marks of classes 220 and 230 in turn: all of 220 come first. */
    char text[1 + 60 * 4 + 1] = "q", want[sizeof text] = "q";
    for (int i = 0; i < 60; i++) {
        memcpy(text + 1 + i * 4, "\xCC\x81\xCC\xA3", 4);
        memcpy(want + 1 + i * 2, "\xCC\xA3", 2);
        memcpy(want + 1 + 120 + i * 2, "\xCC\x81", 2);
    }
    CHECK_STR(one(TOK_NORM_NFD, text), want);
}

TEST(tok_norm_steps_on_characters) {
    CHECK_STR(one(TOK_NORM_LOWERCASE, "AbÉΣ\xC4\xB0"), "abéσi\xCC\x87");
    CHECK_STR(one(TOK_NORM_STRIP_ACCENTS, "e\xCC\x81\xE0\xA4\xBF"), "e\xE0\xA4\xBF");
    CHECK_STR(one(TOK_NORM_NMT, "a\x01\tb\xE2\x80\x8B"
                                "c\x0B"),
              "a b c");
    CHECK_STR(one(TOK_NORM_BERT_CLEAN, "a\x01\t\xC2\xA0\xFF\xE2\x80\x8B"
                                       "b"),
              "a  b");
    CHECK_STR(one(TOK_NORM_BERT_CHINESE, "a中文b"), "a 中  文 b");
    CHECK_STR(one(TOK_NORM_COLLAPSE_SPACES, "  a   b c  "), "a b c");
    CHECK_STR(one(TOK_NORM_COLLAPSE_SPACES, "   "), "");
}

TEST(tok_norm_strip_and_prefixes) {
    tok_norm strip = {.kind = TOK_NORM_STRIP, .left = true, .right = true};
    tok_norm right = {.kind = TOK_NORM_STRIP, .right = true};
    tok_norm prepend = {
        .kind = TOK_NORM_PREPEND, .a = S("_"), .first_only = true, .unless_there = true};
    CHECK_STR(normalized(&strip, 1, S("\t \xC2\xA0x y\xE3\x80\x80\n"), true), "x y");
    CHECK_STR(normalized(&right, 1, S(" x\xFF "), true), " x\xFF");
    CHECK_STR(normalized(&strip, 1, S(" \n "), true), "");
    CHECK_STR(normalized(&prepend, 1, S("x"), true), "_x");
    CHECK_STR(normalized(&prepend, 1, S("_x"), true), "_x");
    CHECK_STR(normalized(&prepend, 1, S("x"), false), "x");
    CHECK_STR(normalized(&prepend, 1, S(""), true), "");
}

TEST(tok_norm_replaces_texts_and_matches) {
    tok_norm spaces = {.kind = TOK_NORM_REPLACE, .a = S(" "), .b = S("\xE2\x96\x81")};
    tok_norm runs = {.kind = TOK_NORM_REPLACE_REGEX, .a = S(" {2,}"), .b = S("_")};
    tok_norm quotes = {.kind = TOK_NORM_REPLACE_REGEX, .a = S("``|''"), .b = S("\"")};
    CHECK_STR(normalized(&spaces, 1, S("a \xFF b"), true), "a\xE2\x96\x81\xFF\xE2\x96\x81"
                                                           "b");
    CHECK_STR(normalized(&runs, 1, S("a  b c    d"), true), "a_b c_d");
    CHECK_STR(normalized(&quotes, 1, S("``a''"), true), "\"a\"");
}

TEST(tok_norm_steps_follow_each_other) {
    tok_norm bert[] = {{.kind = TOK_NORM_BERT_CLEAN},
                       {.kind = TOK_NORM_BERT_CHINESE},
                       {.kind = TOK_NORM_NFD},
                       {.kind = TOK_NORM_STRIP_ACCENTS},
                       {.kind = TOK_NORM_LOWERCASE}};
    tok_normalizer *n = NULL;
    CHECK_STR(normalized(bert, 5, S("H\xC3\xA9llo\t中!"), true), "hello  中 !");
    CHECK_STR(normalized(bert, 4, S("\xC3\x89"), true), "E");
    CHECK_STR(normalized(bert, 0, S("as it is"), true), "as it is");
    CHECK_EQ(tok_normalizer_create(&n, NULL, 0, NULL), OK);
    CHECK(tok_normalizer_is_identity(n));
    tok_normalizer_destroy(n);
    CHECK_EQ(tok_normalizer_create(&n, bert, 1, NULL), OK);
    CHECK(!tok_normalizer_is_identity(n));
    tok_normalizer_destroy(n);
}

TEST(tok_norm_limits_hold_on_the_way) {
    tok_norm longer[] = {{.kind = TOK_NORM_REPLACE, .a = S("a"), .b = S("bbbbbbbbbb")},
                         {.kind = TOK_NORM_REPLACE, .a = S("b"), .b = S("")}};
    tok_normalizer *n = NULL;
    buf out, spare;
    error err = {0};
    buf_init(&out, 64);
    buf_init(&spare, 1 << 20);
    CHECK_EQ(tok_normalizer_create(&n, longer, 2, &err), OK);
    CHECK_EQ(tok_normalize(n, S("aaaaaaa"), true, &out, &spare, &err), ERR_LIMIT);
    CHECK_EQ(tok_normalize(n, S("aaaaaa"), true, &out, &spare, &err), OK);
    CHECK_EQ(out.n, 0);
    CHECK_EQ(spare.bytes_max, 1 << 20);
    tok_normalizer_destroy(n);
    buf_deinit(&out);
    buf_deinit(&spare);
}

/* --- charsmaps ----------------------------------------------------------------------------- */

/* A double array by hand: 'A' -> "a", 'A' 'B' -> "xy".  The root's offset is 0x100, so 'A' is unit
 * 0x141; its offset 0x200 makes its value unit 0x141 ^ 0x200 = 0x341 and 'B' unit 0x303. */
enum { MAP_UNITS = 0x400, MAP_BYTES = 4 + MAP_UNITS * 4 + 6 };

static void put_u32(char *at, uint32_t v) {
    for (int i = 0; i < 4; i++) at[i] = (char)(v >> (8 * i) & 0xFF);
}

static void build_map(char map[MAP_BYTES]) {
    memset(map, 0, MAP_BYTES);
    put_u32(map, MAP_UNITS * 4);
    put_u32(map + 4, 0x100u << 10);
    put_u32(map + 4 + 0x141 * 4, 'A' | 1u << 8 | 0x200u << 10);
    put_u32(map + 4 + 0x341 * 4, 0x80000000u | 0);
    put_u32(map + 4 + 0x303 * 4, 'B' | 1u << 8 | 0x001u << 10);
    put_u32(map + 4 + 0x302 * 4, 0x80000000u | 2);
    memcpy(map + 4 + MAP_UNITS * 4, "a\0xyz", 6);
}

TEST(tok_norm_charsmap_replaces_the_longest_match) {
    char map[MAP_BYTES];
    build_map(map);
    tok_norm step = {.kind = TOK_NORM_CHARSMAP, .a = {map, MAP_BYTES}};
    CHECK_STR(normalized(&step, 1, S("AABBA"), true), "axyzBa");
    CHECK_STR(normalized(&step, 1, S("\xC3\xA9\xFF"), true), "\xC3\xA9\xEF\xBF\xBD");
    CHECK_STR(normalized(&step, 1, S("A"), true), "a");
}

/* --- SentencePiece ------------------------------------------------------------------------- */

#define M "\xE2\x96\x81"

TEST(tok_norm_sentencepiece_marks_spaces_and_collapses_steps) {
    tok_norm plain = {.kind = TOK_NORM_SENTENCEPIECE};
    tok_norm front = {.kind = TOK_NORM_SENTENCEPIECE, .collapse = true, .left = true};
    tok_norm behind = {.kind = TOK_NORM_SENTENCEPIECE, .right = true};
    CHECK_STR(normalized(&plain, 1, S(" a  b "), true), M "a" M M "b" M);
    CHECK_STR(normalized(&plain, 1, S("a\xFF"), true), "a\xEF\xBF\xBD");
    CHECK_STR(normalized(&behind, 1, S("a "), true), "a" M M);
    CHECK_STR(normalized(&front, 1, S("  a  b  "), true), M "a" M "b");
    CHECK_STR(normalized(&front, 1, S("   "), true), "");
    CHECK_STR(normalized(&front, 1, S(""), true), "");
    CHECK_STR(normalized(&front, 1, S(M "a" M M " b" M), true), M M "a" M M M "b");
    CHECK_STR(normalized(&front, 1, S(M), true), ""); /* nothing but spaces at the end */
}

TEST(tok_norm_sentencepiece_leaves_kept_texts_alone) {
    static const str kept[] = {{"x y", 3}, {"  z", 3}, {"q ", 2}};
    static const bool use[] = {true, true, true};
    const tok_norm rule = {.kind = TOK_NORM_SENTENCEPIECE, .collapse = true, .left = true};
    tok_normalizer *n = NULL;
    tok_trie trie;
    buf out, spare;
    error err = {0};
    CHECK_EQ(tok_trie_init(&trie, kept, use, 3, &err), OK);
    CHECK_EQ(tok_normalizer_create(&n, &rule, 1, &err), OK);
    tok_normalizer_keep(n, &trie);
    buf_init(&out, 1 << 10);
    buf_init(&spare, 1 << 10);
    /* spaces in front of a kept text go, if one came before it; those inside become marks */
    CHECK_EQ(tok_normalize(n, S("a x y   z  z q  b"), true, &out, &spare, &err), OK);
    CHECK(str_eq(buf_view(&out), S(M "a" M "x" M "y" M "z" M M "z" M "q" M "b")));
    CHECK_EQ(tok_normalize(n, S("  z"), true, &out, &spare, &err), OK);
    CHECK(str_eq(buf_view(&out), S(M "z")));
    buf_deinit(&out);
    buf_deinit(&spare);
    tok_normalizer_destroy(n);
    tok_trie_deinit(&trie);
}

TEST(tok_norm_broken_charsmaps_are_errors_or_harmless) {
    char map[MAP_BYTES];
    tok_normalizer *n = NULL;
    error err = {0};
    build_map(map);
    tok_norm step = {.kind = TOK_NORM_CHARSMAP, .a = {map, 3}};
    CHECK_EQ(tok_normalizer_create(&n, &step, 1, &err), ERR_FORMAT);
    step.a.n = 100;
    CHECK_EQ(tok_normalizer_create(&n, &step, 1, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "4096");
    step.a.n = MAP_BYTES - 1;
    CHECK_EQ(tok_normalizer_create(&n, &step, 1, &err), ERR_FORMAT);
    step.a.n = MAP_BYTES;
    uint64_t random = 7;
    for (int round = 0; round < 200; round++) { /* any units at all */
        for (int i = 0; i < MAP_UNITS * 4; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            map[4 + i] = (char)(random >> 56);
        }
        (void)normalized(&step, 1, S("AABBA hello \xC3\xA9"), true);
    }
}

/* --- hostile input -------------------------------------------------------------------------- */

TEST(tok_norm_every_failing_allocation_is_reported) {
    char map[MAP_BYTES];
    build_map(map);
    tok_norm steps[] = {{.kind = TOK_NORM_NFKC},
                        {.kind = TOK_NORM_REPLACE_REGEX, .a = S("(a|b)(?=c)"), .b = S("x")},
                        {.kind = TOK_NORM_CHARSMAP, .a = {map, MAP_BYTES}}};
    status st = ERR_NOMEM;
    for (int64_t allowed = 0; st != OK && allowed < 100; allowed++) {
        tok_normalizer *n = NULL;
        buf out, spare;
        buf_init(&out, 4096);
        buf_init(&spare, 4096);
        mem_fail_after(allowed);
        st = tok_normalizer_create(&n, steps, 3, NULL);
        if (st == OK)
            st = tok_normalize(n,
                               S("ac \xEF\xAC\x81\xFF"
                                 "bc"),
                               true, &out, &spare, NULL);
        mem_fail_after(-1);
        CHECK(st == OK || st == ERR_NOMEM);
        tok_normalizer_destroy(n);
        buf_deinit(&out);
        buf_deinit(&spare);
    }
    CHECK_EQ(st, OK);
}

typedef struct norm_job {
    tok_normalizer *n;
    const char *text;
    buf out, spare;
} norm_job;

static void normalize_some(void *arg, size_t bytes) {
    norm_job *j = arg;
    CHECK_EQ(tok_normalize(j->n, (str){j->text, bytes}, true, &j->out, &j->spare, NULL), OK);
}

TEST(tok_norm_time_is_linear_in_hostile_text) {
    static const char *const units[] = {
        "a",        "\xCC\x81\xCC\xA3", " ", "\xFF", "\xE4\xB8\xAD", "\xED\x95\x9C", "\xE1\x84\x92",
        "e\xCC\x81"};
    enum { BYTES = 1 << 16 };
    char *text = mem_alloc(BYTES);
    norm_job j = {.text = text};
    buf_init(&j.out, SIZE_MAX / 2);
    buf_init(&j.spare, SIZE_MAX / 2);
    for (uint32_t u = 0; u < sizeof units / sizeof *units; u++) {
        for (size_t i = 0, n = strlen(units[u]); i < BYTES; i++) text[i] = units[u][i % n];
        for (int kind = TOK_NORM_NFC; kind <= TOK_NORM_BERT_CHINESE; kind++) {
            tok_norm step = {.kind = (tok_norm_kind)kind, .left = true, .right = true};
            if (kind == TOK_NORM_REPLACE_REGEX) step.a = S("e+$");
            CHECK_EQ(tok_normalizer_create(&j.n, &step, 1, NULL), OK);
            CHECK(growth_of(normalize_some, &j, BYTES / 4) < GROWTH_MAX);
            tok_normalizer_destroy(j.n);
        }
    }
    buf_deinit(&j.out);
    buf_deinit(&j.spare);
    mem_free(text);
}
