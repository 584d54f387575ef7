/* test_detok.c - the streamed text equals the whole text, and is valid UTF-8 at every step. */
#include "small_vocab.h"
#include "text/detok.h"

/* Pushes one byte token per byte, checks every step, returns all text in a static buffer. */
static str stream_bytes(const tokenizer *t, str bytes) {
    static char all[4096];
    detok d;
    buf out;
    buf_init(&out, sizeof all);
    detok_init(&d, t, false);
    for (size_t i = 0; i < bytes.n; i++) {
        detok_push(&d, SMALL_BYTE_0 + (unsigned char)bytes.p[i], &out);
        CHECK(str_is_utf8(buf_view(&out)));
        CHECK(d.held <= 3);
    }
    detok_finish(&d, &out);
    CHECK_EQ(d.held, 0);
    CHECK(str_is_utf8(buf_view(&out)));
    str result = {all, out.n};
    memcpy(all, buf_view(&out).p, out.n);
    buf_deinit(&out);
    return result;
}

#define BAD "\xEF\xBF\xBD"

TEST(detok_gives_out_whole_characters_only) {
    small_vocab v;
    small_init(&v);
    tokenizer *t = small_create(&v);
    detok d;
    buf out;
    buf_init(&out, 64);
    detok_init(&d, t, false);
    const char *face = "\xF0\x9F\x98\x80";
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(out.n, 0);
        detok_push(&d, SMALL_BYTE_0 + (unsigned char)face[i], &out);
    }
    CHECK(str_eq(buf_view(&out), str_of(face)));
    buf_deinit(&out);
    tok_destroy(t);
}

/* Examples of the Unicode standard, section 3.9, tables 3-8 to 3-11. */
TEST(detok_replaces_each_maximal_invalid_part_once) {
    small_vocab v;
    small_init(&v);
    tokenizer *t = small_create(&v);
    CHECK(str_eq(stream_bytes(t, S("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82"
                                   "A")),
                 S(BAD BAD BAD BAD BAD BAD BAD BAD "A")));
    CHECK(str_eq(stream_bytes(t, S("\xED\xA0\x80\xED\xBF\xBF\xED\xAF"
                                   "A")),
                 S(BAD BAD BAD BAD BAD BAD BAD BAD "A")));
    CHECK(str_eq(stream_bytes(t, S("\xF4\x91\x92\x93\xFF"
                                   "A\x80\xBF"
                                   "B")),
                 S(BAD BAD BAD BAD BAD "A" BAD BAD "B")));
    CHECK(str_eq(stream_bytes(t, S("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF"
                                   "A")),
                 S(BAD BAD BAD BAD "A")));
    CHECK(str_eq(stream_bytes(t, S("ok\xF0\x9F\x98")), S("ok" BAD)));
    CHECK(str_eq(stream_bytes(t, S("\xC3\xC3\xA9")), S(BAD "\xC3\xA9")));
    tok_destroy(t);
}

TEST(detok_passes_every_valid_character_and_no_surrogate) {
    small_vocab v;
    small_init(&v);
    tokenizer *t = small_create(&v);
    static const char *const edges[] = {
        "\x01",         "\x7F",         "\xC2\x80",     "\xDF\xBF",         "\xE0\xA0\x80",
        "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF",
    };
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        CHECK(str_eq(stream_bytes(t, str_of(edges[i])), str_of(edges[i])));
    tok_destroy(t);
}

static void add_words(small_vocab *v) {
    (void)small_add_piece(v, "\xE2\x96\x81", -3);
    (void)small_add_piece(v, "\xE2\x96\x81hi", -2);
    (void)small_add_piece(v, "hi", -1);
    (void)small_add(v, S("<user>"), 0, TOK_TYPE_USER_DEFINED);
}

/* Streamed text of `ids` from the state `at_text_start`, in a static buffer. */
static const char *stream_ids(const tokenizer *t, const int32_t *ids, size_t count, bool start) {
    static char all[256];
    detok d;
    buf out;
    buf_init(&out, sizeof all - 1);
    detok_init(&d, t, start);
    for (size_t i = 0; i < count; i++) detok_push(&d, ids[i], &out);
    detok_finish(&d, &out);
    str_copy_c(all, sizeof all, buf_view(&out));
    buf_deinit(&out);
    return all;
}

TEST(detok_drops_the_one_space_that_encoding_put_first) {
    small_vocab v;
    small_init(&v);
    add_words(&v);
    tokenizer *t = small_create(&v);
    int32_t space = SMALL_FIRST, word = SMALL_FIRST + 1;
    CHECK_STR(stream_ids(t, (int32_t[]){word, word}, 2, true), "hi hi");
    CHECK_STR(stream_ids(t, (int32_t[]){word, word}, 2, false), " hi hi");
    CHECK_STR(stream_ids(t, (int32_t[]){space, word}, 2, true), " hi");
    CHECK_STR(stream_ids(t, (int32_t[]){SMALL_BOS, SMALL_EOS, word}, 3, true), "hi");
    CHECK_STR(stream_ids(t, (int32_t[]){SMALL_FIRST + 3, word}, 2, true), "<user> hi");
    CHECK_STR(stream_ids(t, (int32_t[]){-1, 100000, word}, 3, true), "hi");
    tok_destroy(t);
    v.vocab.add_space_prefix = false;
    t = small_create(&v);
    CHECK_STR(stream_ids(t, (int32_t[]){word, word}, 2, true), " hi hi");
    tok_destroy(t);
}

TEST(detok_raw_decoding_shows_control_tokens_and_raw_bytes) {
    small_vocab v;
    small_init(&v);
    add_words(&v);
    tokenizer *t = small_create(&v);
    error err = {0};
    buf out;
    buf_init(&out, 64);
    int32_t ids[] = {SMALL_BOS, SMALL_FIRST + 1, SMALL_BYTE_0 + 0xFF, SMALL_EOS};
    CHECK_EQ(tok_decode(t, ids, 4, &out, &err), OK);
    CHECK(str_eq(buf_view(&out), S("<s> hi\xFF</s>")));
    buf_clear(&out);
    CHECK_EQ(tok_decode(t, ids + 1, 1, &out, &err), OK);
    CHECK(str_eq(buf_view(&out), S("hi")));
    ids[2] = 5000;
    CHECK_EQ(tok_decode(t, ids, 4, &out, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "tokens[2]: id 5000, the vocabulary has 263 tokens");
    buf_deinit(&out);
    buf_init(&out, 3);
    CHECK_EQ(tok_decode(t, ids, 2, &out, &err), ERR_LIMIT);
    buf_deinit(&out);
    tok_destroy(t);
}

TEST(detok_stream_equals_the_whole_text_for_random_tokens) {
    static const char *const pieces[] = {"\xC3",          "\xA9\xF0", "\x9F\x98", "\x80",
                                         "\xE2\x96\x81x", "y",        "\xE4\xB8", "\xAD"};
    small_vocab v;
    small_init(&v);
    for (size_t i = 0; i < 8; i++) (void)small_add_piece(&v, pieces[i], 0);
    tokenizer *t = small_create(&v);
    uint64_t seed = 3;
    int valid = 0;
    for (int round = 0; round < 3000; round++) {
        int32_t ids[6];
        buf whole;
        buf_init(&whole, 256);
        uint32_t count = 1 + small_random(&seed, 6);
        for (uint32_t i = 0; i < count; i++) ids[i] = SMALL_FIRST + (int32_t)small_random(&seed, 8);
        CHECK_EQ(tok_decode(t, ids, count, &whole, NULL), OK);
        buf_put_char(&whole, '\0');
        if (str_is_utf8(buf_view(&whole))) {
            CHECK_STR(stream_ids(t, ids, count, true), whole.p);
            valid++;
        }
        buf_deinit(&whole);
    }
    CHECK(valid > 100);
    tok_destroy(t);
}
