/* test_tokenizer.c - the rules of encoding on a small vocabulary, what creation refuses, limits and
 * exhausted memory. */
#include "base/alloc.h"
#include "base/thread.h"
#include "small_vocab.h"

/* --- spaces, bytes, broken UTF-8 ------------------------------------------------------------ */

static void add_words(small_vocab *v) {
    (void)small_add_piece(v, "\xE2\x96\x81", -3);
    (void)small_add_piece(v, "\xE2\x96\x81hi", -2);
    (void)small_add_piece(v, "hi", -1);
    (void)small_add_piece(v, "\xC3\xA9", -5);
    (void)small_add(v, S("<user>"), 0, TOK_TYPE_USER_DEFINED);
    (void)small_add(v, S("<|im_end|>"), 0, TOK_TYPE_CONTROL);
}

TEST(tok_puts_a_space_before_the_first_text_and_behind_special_tokens) {
    small_vocab v;
    small_init(&v);
    add_words(&v);
    tokenizer *t = small_create(&v);
    CHECK_STR(small_pieces(t, S("hi"), SMALL_PLAIN), "\xE2\x96\x81hi");
    CHECK_STR(small_pieces(t, S(" hi"), SMALL_PLAIN), "\xE2\x96\x81|\xE2\x96\x81hi");
    CHECK_STR(small_pieces(t, S("<user>hi"), SMALL_PLAIN), "<user>|\xE2\x96\x81hi");
    CHECK_STR(small_pieces(t, S("hi<user>hi"), SMALL_PLAIN),
              "\xE2\x96\x81hi|<user>|\xE2\x96\x81hi");
    CHECK_STR(small_pieces(t, S("<user><user>"), SMALL_PLAIN), "<user>|<user>");
    CHECK_STR(small_pieces(t, S(""), SMALL_PLAIN), "");
    tok_destroy(t);
    v.vocab.add_space_prefix = false;
    t = small_create(&v);
    CHECK_STR(small_pieces(t, S("hi<user>hi"), SMALL_PLAIN), "hi|<user>|hi");
    tok_destroy(t);
}

TEST(tok_falls_back_to_bytes_then_to_the_unknown_token) {
    small_vocab v;
    small_init(&v);
    add_words(&v);
    v.vocab.add_space_prefix = false;
    tokenizer *t = small_create(&v);
    CHECK_STR(small_pieces(t, S("\xC3\xA9\xE4\xB8\xAD"), SMALL_PLAIN),
              "\xC3\xA9|<0xE4>|<0xB8>|<0xAD>");
    tok_destroy(t);
    v.types[SMALL_BYTE_0 + 0xB8] = TOK_TYPE_UNUSED;
    t = small_create(&v);
    CHECK_STR(small_pieces(t, S("\xE4\xB8\xAD"), SMALL_PLAIN), "<0xE4>|<unk>|<0xAD>");
    tok_destroy(t);
}

TEST(tok_takes_along_what_a_broken_first_byte_announces) {
    small_vocab v;
    small_init(&v);
    add_words(&v);
    v.vocab.add_space_prefix = false;
    tokenizer *t = small_create(&v);
    CHECK_STR(small_pieces(t, S("\xC3hi"), SMALL_PLAIN), "<0xC3>|<0x68>|<0x69>");
    CHECK_STR(small_pieces(t, S("\x80hi"), SMALL_PLAIN), "<0x80>|hi");
    CHECK_STR(small_pieces(t, S("hi\xF0\x9F"), SMALL_PLAIN), "hi|<0xF0>|<0x9F>");
    CHECK_STR(small_pieces(t, S("\xF5\x90\x80\x80hi"), SMALL_PLAIN),
              "<0xF5>|<0x90>|<0x80>|<0x80>|hi");
    tok_destroy(t);
}

/* --- special tokens ------------------------------------------------------------------------- */

TEST(tok_parses_control_tokens_only_when_asked) {
    small_vocab v;
    small_init(&v);
    add_words(&v);
    (void)small_add_piece(&v, "<s",
                          -1); /* the way to "<s>" by merging is open, but must not be taken */
    (void)small_add_piece(&v, "<", -9);
    (void)small_add_piece(&v, "s", -9);
    (void)small_add_piece(&v, ">", -9);
    tokenizer *t = small_create(&v);
    CHECK_STR(small_pieces(t, S("<s>hi"), SMALL_SPECIAL), "<s>|\xE2\x96\x81hi");
    CHECK_STR(small_pieces(t, S("<unk>"), SMALL_SPECIAL), "<unk>");
    CHECK_STR(small_pieces(t, S("<s>"), SMALL_PLAIN), "\xE2\x96\x81|<s|>");
    CHECK_STR(small_pieces(t, S("<0x41>"), SMALL_SPECIAL),
              "\xE2\x96\x81|<|<0x30>|<0x78>|<0x34>|<0x31>|>");
    tok_destroy(t);
}

TEST(tok_puts_bos_and_eos_where_the_vocabulary_asks_for_them) {
    small_vocab v;
    small_init(&v);
    add_words(&v);
    tok_options options = {.add_special = true, .tokens_max = UINT32_MAX};
    tokenizer *t = small_create(&v);
    CHECK_STR(small_pieces(t, S("hi"), options), "<s>|\xE2\x96\x81hi");
    CHECK_STR(small_pieces(t, S(""), options), "<s>");
    tok_destroy(t);
    v.vocab.before_count = 0;
    v.vocab.after[v.vocab.after_count++] = SMALL_EOS;
    t = small_create(&v);
    CHECK_STR(small_pieces(t, S("hi"), options), "\xE2\x96\x81hi|</s>");
    CHECK_STR(small_pieces(t, S("hi"), SMALL_PLAIN), "\xE2\x96\x81hi");
    tok_destroy(t);
}

/* --- questions ---------------------------------------------------------------------------- */

TEST(tok_answers_what_its_tokens_are) {
    small_vocab v;
    small_init(&v);
    add_words(&v);
    int32_t unused = small_add(&v, S("left over"), 0, TOK_TYPE_UNUSED);
    int32_t user = SMALL_FIRST + 4, im_end = SMALL_FIRST + 5;
    char out[TOK_PIECE_BYTES_MAX];
    tokenizer *t = small_create(&v);
    CHECK_EQ(tok_vocab_count(t), v.vocab.count);
    CHECK_EQ(tok_bos(t), SMALL_BOS);
    CHECK_EQ(tok_eos(t), SMALL_EOS);
    CHECK_EQ(tok_eot(t), TOK_ID_NONE);
    CHECK_EQ(tok_unk(t), SMALL_UNK);
    CHECK(tok_adds_bos(t) && tok_adds_space_prefix(t));
    CHECK(tok_is_valid(t, 0) && tok_is_valid(t, unused));
    CHECK(!tok_is_valid(t, -1) && !tok_is_valid(t, unused + 1));
    CHECK(tok_is_control(t, SMALL_BOS) && !tok_is_control(t, user) && !tok_is_control(t, -5));
    CHECK(tok_is_eog(t, SMALL_EOS) && tok_is_eog(t, im_end));
    CHECK(!tok_is_eog(t, SMALL_BOS) && !tok_is_eog(t, TOK_ID_NONE));
    CHECK_EQ(tok_piece_bytes(t, SMALL_BOS, false, out), 0);
    CHECK_EQ(tok_piece_bytes(t, SMALL_BOS, true, out), 3);
    CHECK_EQ(tok_piece_bytes(t, SMALL_BYTE_0 + 0xFF, false, out), 1);
    CHECK_EQ((unsigned char)out[0], 0xFF);
    CHECK_EQ(tok_piece_bytes(t, SMALL_FIRST + 1, false, out), 3);
    CHECK(memcmp(out, " hi", 3) == 0);
    CHECK_EQ(tok_piece_bytes(t, user, false, out), 6);
    CHECK_EQ(tok_piece_bytes(t, unused, true, out), 0);
    CHECK_EQ(tok_piece_bytes(t, 100000, true, out), 0);
    CHECK_EQ(tok_piece_view(t, -1).n, 0);
    CHECK(str_eq(tok_piece_view(t, unused), S("left over")));
    tok_destroy(t);
    tok_destroy(NULL);
}

/* --- what creation refuses ------------------------------------------------------------------ */

static void check_refused(const small_vocab *v, status code, const char *words) {
    tokenizer *t = NULL;
    error err = {0};
    CHECK_EQ(tok_create(&t, &v->vocab, &err), code);
    CHECK(t == NULL);
    CHECK_HAS(err.msg, words);
}

TEST(tok_refuses_vocabularies_that_contradict_themselves) {
    small_vocab v;
    static char long_piece[TOK_PIECE_BYTES_MAX + 1];
    small_init(&v);
    v.vocab.kind = TOK_KIND_NONE;
    check_refused(&v, ERR_UNSUPPORTED, "kind 0, expected 1 to 6");
    small_init(&v);
    v.vocab.count = 0;
    check_refused(&v, ERR_LIMIT, "0 tokens, at least 1");
    v.vocab.count = TOK_VOCAB_COUNT_MAX + 1;
    check_refused(&v, ERR_LIMIT, "16777217 tokens");
    small_init(&v);
    v.vocab.eos_id = SMALL_FIRST;
    check_refused(&v, ERR_FORMAT, "eos token is 259, the vocabulary has 259 tokens");
    small_init(&v);
    v.vocab.before[0] = TOK_ID_NONE;
    check_refused(&v, ERR_FORMAT, "in front token is -1");
    small_init(&v);
    (void)small_add(&v, (str){long_piece, sizeof long_piece}, 0, TOK_TYPE_NORMAL);
    check_refused(&v, ERR_LIMIT, "token 259 has 1025 bytes, at most 1024");
}

TEST(tok_refuses_byte_tokens_that_name_no_byte) {
    static const char *const bad[] = {"<0x-1>", "<0x100>", "<0xG0>", "<0x>",
                                      "",       "<0x 1>",  "[0x41]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        small_vocab v;
        small_init(&v);
        (void)small_add(&v, str_of(bad[i]), 0, TOK_TYPE_BYTE);
        check_refused(&v, ERR_FORMAT, "not <0xXX>");
    }
}

TEST(tok_refuses_a_vocabulary_in_which_nothing_stands_for_a_byte) {
    small_vocab v;
    small_init(&v);
    v.types[SMALL_BYTE_0 + 0x7F] = TOK_TYPE_NORMAL;
    v.vocab.unk_id = TOK_ID_NONE;
    check_refused(&v, ERR_FORMAT, "no token for byte 0x7F, and no unknown token");
    (void)small_add_piece(&v, "\x7F", 0);
    tok_destroy(small_create(&v));
}

/* --- limits and exhausted memory ------------------------------------------------------------ */

TEST(tok_stops_at_the_token_limit_with_both_numbers) {
    small_vocab v;
    small_init(&v);
    tokenizer *t = small_create(&v); /* no pieces: each letter is a byte token, a space three */
    error err = {0};
    buf ids;
    buf_init(&ids, 1 << 20);
    buf_put(&ids, "keep", 4);
    tok_options options = {.add_special = true, .tokens_max = 8};
    CHECK_EQ(tok_encode(t, S("abcd"), &options, &ids, &err), OK); /* BOS, 3 of the prefix, 4 */
    CHECK_EQ(ids.n, 4 + 8 * sizeof(int32_t));
    ids.n = 4;
    CHECK_EQ(tok_encode(t, S("abcde"), &options, &ids, &err), ERR_LIMIT);
    CHECK_HAS(err.msg, "prompt: at least 9 tokens, at most 8");
    CHECK_EQ(ids.n, 4);
    options.tokens_max = 0;
    CHECK_EQ(tok_encode(t, S(""), &options, &ids, &err), ERR_LIMIT);
    CHECK_HAS(err.msg, "at least 1 tokens, at most 0");
    CHECK_EQ(tok_encode(t, S("</s></s>"), &SMALL_SPECIAL, &ids, &err), OK);
    options = (tok_options){.parse_special = true, .tokens_max = 1};
    CHECK_EQ(tok_encode(t, S("</s></s>"), &options, &ids, &err), ERR_LIMIT);
    CHECK_HAS(err.msg, "at least 2 tokens, at most 1");
    buf_deinit(&ids);
    tok_destroy(t);
}

TEST(tok_refuses_a_text_longer_than_its_limit_without_reading_it) {
    small_vocab v;
    small_init(&v);
    tokenizer *t = small_create(&v);
    error err = {0};
    buf ids;
    buf_init(&ids, 64);
    str text = {"", (size_t)TOK_TEXT_BYTES_MAX + 1};
    CHECK_EQ(tok_encode(t, text, &SMALL_PLAIN, &ids, &err), ERR_LIMIT);
    CHECK_HAS(err.msg, "prompt: 1073741825 bytes, at most 1073741824");
    text.n = SIZE_MAX;
    CHECK_EQ(tok_encode(t, text, &SMALL_PLAIN, &ids, &err), ERR_LIMIT);
    text.n =
        TOK_TEXT_BYTES_MAX; /* longer than 100 tokens of the longest piece, so not read either */
    tok_options options = {.tokens_max = 100};
    CHECK_EQ(tok_encode(t, text, &options, &ids, &err), ERR_LIMIT);
    CHECK_HAS(err.msg, "at most 100");
    CHECK_EQ(ids.n, 0);
    buf_deinit(&ids);
    tok_destroy(t);
}

TEST(tok_reports_a_full_output_buffer) {
    small_vocab v;
    small_init(&v);
    tokenizer *t = small_create(&v);
    error err = {0};
    buf ids;
    buf_init(&ids, 10);
    CHECK_EQ(tok_encode(t, S("abc"), &SMALL_PLAIN, &ids, &err), ERR_LIMIT);
    CHECK_EQ(ids.n, 0);
    buf_deinit(&ids);
    tok_destroy(t);
}

TEST(tok_survives_every_failing_allocation) {
    small_vocab v;
    small_init(&v);
    add_words(&v);
    (void)small_add_piece(&v, "hihi", -0.5F);
    char text[3000];
    for (size_t i = 0; i < sizeof text; i++) text[i] = "hihi<s>hihihi"[i % 13];
    status st = ERR_NOMEM;
    int64_t n = 0;
    for (; st != OK && n < 200; n++) {
        tokenizer *t = NULL;
        buf ids;
        buf_init(&ids, 1 << 20);
        mem_fail_after(n);
        st = tok_create(&t, &v.vocab, NULL);
        if (st == OK) st = tok_encode(t, (str){text, sizeof text}, &SMALL_SPECIAL, &ids, NULL);
        mem_fail_after(-1);
        CHECK(st == OK || st == ERR_NOMEM || st == ERR_LIMIT);
        CHECK(st == OK || ids.n == 0);
        buf_deinit(&ids);
        tok_destroy(t);
    }
    CHECK_EQ(st, OK);
    CHECK(n > 10);
}

/* --- threads --------------------------------------------------------------------------- */

typedef struct encode_job {
    const tokenizer *t;
    buf ids;
    status st;
} encode_job;

static void run_encode_job(void *arg) {
    encode_job *job = arg;
    for (int i = 0; i < 200 && job->st == OK; i++) {
        buf_clear(&job->ids);
        job->st = tok_encode(job->t, S("hi <user>hi <s> hihi"), &SMALL_SPECIAL, &job->ids, NULL);
    }
}

TEST(tok_may_be_used_by_many_threads_at_once) {
    small_vocab v;
    thread threads[4];
    encode_job jobs[4] = {0};
    small_init(&v);
    add_words(&v);
    tokenizer *t = small_create(&v);
    for (int i = 0; i < 4; i++) {
        jobs[i].t = t;
        buf_init(&jobs[i].ids, 4096);
        CHECK_EQ(thread_start(&threads[i], "encode", run_encode_job, &jobs[i], NULL), OK);
    }
    for (int i = 0; i < 4; i++) thread_join(&threads[i]);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(jobs[i].st, OK);
        CHECK(str_eq(buf_view(&jobs[i].ids), buf_view(&jobs[0].ids)));
    }
    for (int i = 0; i < 4; i++) buf_deinit(&jobs[i].ids);
    tok_destroy(t);
}
