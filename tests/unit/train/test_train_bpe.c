/* test_train_bpe.c - what is learnt, in which order, and that Gantry encodes by it. */
#include "train/bpe.h"

#include <stdlib.h>

#include "base/os.h"
#include "model/model.h"
#include "test.h"
#include "text/tok_vocab.h"
#include "text/tokenizer.h"
#include "train/vocab_file.h"
#include "train/words.h"

static bpe learn(const char *const *texts, size_t count, uint32_t tokens) {
    words w;
    bpe b;
    error err = {0};
    CHECK_EQ(words_init(&w, S("qwen2"), &err), OK);
    for (size_t i = 0; i < count; i++) CHECK_EQ(words_add(&w, str_of(texts[i]), &err), OK);
    CHECK_EQ(bpe_train(&b, &w, tokens, &err), OK);
    CHECK_STR(err.msg, "");
    words_deinit(&w);
    return b;
}

static bool token_is(const bpe *b, uint32_t id, const char *text) {
    return id < b->tokens_count && str_eq_c(b->tokens[id], text);
}

TEST(train_bpe_takes_the_most_frequent_pair_first) {
    const char *const texts[] = {"abab abab xyxy", "abab"};
    bpe b = learn(texts, 2, 260);
    CHECK(token_is(&b, 256, "ab"));   /* 6 times */
    CHECK(token_is(&b, 257, "abab")); /* 3 times */
    CHECK(token_is(&b, 258, "xy"));   /* 2 times; " x", "yx" and so on stand once */
    CHECK_EQ(b.tokens_count, 259);    /* no other pair stands twice */
    bpe_deinit(&b);
}

TEST(train_bpe_breaks_ties_by_bytes_whatever_the_order_of_words) {
    const char *const one[] = {"zq", "da", "zq", "bc", "bc", "da"};
    const char *const other[] = {"bc", "da", "da", "zq", "bc", "zq"};
    bpe a = learn(one, 6, 259), b = learn(other, 6, 259);
    CHECK(token_is(&a, 256, "bc") && token_is(&a, 257, "da") && token_is(&a, 258, "zq"));
    for (uint32_t i = 256; i < 259; i++) CHECK(str_eq(a.tokens[i], b.tokens[i]));
    bpe_deinit(&a);
    bpe_deinit(&b);
}

TEST(train_bpe_gives_a_name_the_same_tokens_everywhere) {
    words w;
    bpe b;
    error err = {0};
    CHECK_EQ(words_init(&w, S("qwen2"), &err), OK);
    w.letters_apart = true;
    CHECK_EQ(words_add(&w, S("a Lom \"Lom\" go_Lom of-Lom Lom Lom7 !!"), &err), OK);
    CHECK_EQ(bpe_train(&b, &w, 300, &err), OK);
    CHECK(token_is(&b, 256, "Lo") || token_is(&b, 256, "om"));
    CHECK(token_is(&b, 257, "Lom"));
    for (uint32_t i = 256; i < b.tokens_count; i++)
        CHECK(b.tokens[i].n > 1 && strchr(" _-\"", b.tokens[i].p[0]) == NULL);
    bpe_deinit(&b);
    words_deinit(&w);
}

TEST(train_bpe_refuses_impossible_sizes) {
    words w;
    bpe b;
    error err = {0};
    CHECK_EQ(words_init(&w, S("qwen2"), &err), OK);
    CHECK_EQ(bpe_train(&b, &w, 255, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "255 tokens, must be 256 to 65536");
    bpe_deinit(&b);
    words_deinit(&w);
    CHECK_EQ(words_init(&w, S("nobody"), &err), ERR_NOT_FOUND);
    words_deinit(&w);
}

TEST(train_specials_are_checked) {
    vocab_plan plan = {0};
    error err = {0};
    CHECK_EQ(vocab_plan_specials(&plan, S("<a>,<b>"), TOK_TYPE_CONTROL, &err), OK);
    CHECK_EQ(plan.specials_count, 2);
    CHECK_EQ(vocab_plan_specials(&plan, S("<b>"), TOK_TYPE_CONTROL, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "'<b>' is empty or twice");
}

/* --- the file in Gantry ------------------------------------------------------------------ */

static const char *const TEXTS[] = {
    "The quick brown fox jumps over the lazy dog; the dog sleeps.",
    "  spaces   and\ttabs\n\nlines, 1234 + 56 = 1290, it's fine",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. \xF0\x9F\x98\x80"};

static void text_survives(const tokenizer *t, str text) {
    const tok_options opt = {.parse_special = true, .tokens_max = UINT32_MAX};
    buf ids;
    size_t at = 0;
    buf_init(&ids, 1 << 20);
    CHECK_EQ(tok_encode(t, text, &opt, &ids, NULL), OK);
    CHECK(ids.n / sizeof(int32_t) < text.n); /* merges are used */
    for (size_t i = 0; i < ids.n / sizeof(int32_t); i++) {
        char piece[TOK_PIECE_BYTES_MAX];
        const int32_t id = ((const int32_t *)(const void *)ids.p)[i];
        const size_t n = tok_piece_bytes(t, id, true, piece);
        CHECK(at + n <= text.n && memcmp(text.p + at, piece, n) == 0);
        at += n;
    }
    CHECK_EQ(at, text.n);
    buf_deinit(&ids);
}

TEST(train_vocabulary_encodes_in_gantry) {
    char path[] = "/tmp/gantry-vocab-XXXXXX";
    const int fd = mkstemp(path);
    vocab_plan plan = {.pre = S("qwen2"), .eos = S("<|end|>")};
    error err = {0};
    model *m = NULL;
    tokenizer *t = NULL;
    bpe b = learn(TEXTS, 3, 300);
    CHECK(fd >= 0);
    CHECK_EQ(vocab_plan_specials(&plan, S("<|end|>"), TOK_TYPE_CONTROL, &err), OK);
    CHECK_EQ(vocab_file_write(path, &plan, &b, &err), OK);
    CHECK_EQ(model_open_vocab(&m, path, &err), OK);
    CHECK_EQ(tok_create(&t, &m->vocab, &err), OK);
    CHECK_STR(err.msg, "");
    CHECK_EQ(tok_vocab_count(t), b.tokens_count + 1);
    CHECK_EQ(tok_eos(t), b.tokens_count);
    for (int i = 0; i < 3; i++) text_survives(t, str_of(TEXTS[i]));
    tok_destroy(t);
    model_close(m);
    plan.eot = S("<|nobody|>");
    CHECK_EQ(vocab_file_write(path, &plan, &b, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "'<|nobody|>' is none of the 1 special tokens");
    bpe_deinit(&b);
    os_close(fd);
    os_unlink(path);
}
