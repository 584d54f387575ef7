/* test_tok_merge.c - merging by score: the order, a model that does it the plain way, and the
 * amount of work and memory. */
#include "base/alloc.h"
#include "small_vocab.h"
#include "text/tok_internal.h"

TEST(tok_merges_the_best_score_first) {
    small_vocab v;
    small_init(&v);
    (void)small_add_piece(&v, "a", -10);
    (void)small_add_piece(&v, "b", -10);
    (void)small_add_piece(&v, "c", -10);
    (void)small_add_piece(&v, "ab", -2);
    (void)small_add_piece(&v, "bc", -1);
    v.vocab.add_space_prefix = false;
    tokenizer *t = small_create(&v);
    CHECK_STR(small_pieces(t, S("abc"), SMALL_PLAIN), "a|bc");
    CHECK_STR(small_pieces(t, S("abab"), SMALL_PLAIN), "ab|ab");
    tok_destroy(t);
}

TEST(tok_merges_the_leftmost_of_equal_scores) {
    small_vocab v;
    small_init(&v);
    (void)small_add_piece(&v, "a", -10);
    (void)small_add_piece(&v, "aa", -1);
    (void)small_add_piece(&v, "ab", -1);
    v.vocab.add_space_prefix = false;
    tokenizer *t = small_create(&v);
    CHECK_STR(small_pieces(t, S("aaa"), SMALL_PLAIN), "aa|a");
    CHECK_STR(small_pieces(t, S("aab"), SMALL_PLAIN), "aa|<0x62>");
    CHECK_STR(small_pieces(t, S("aaaaa"), SMALL_PLAIN), "aa|aa|a");
    tok_destroy(t);
}

TEST(tok_merges_through_characters_that_are_no_tokens) {
    small_vocab v;
    small_init(&v);
    (void)small_add_piece(&v, "xy", -1); /* neither x nor y is a token */
    v.vocab.add_space_prefix = false;
    tokenizer *t = small_create(&v);
    CHECK_STR(small_pieces(t, S("xyx"), SMALL_PLAIN), "xy|<0x78>");
    tok_destroy(t);
}

TEST(tok_treats_a_score_that_is_no_number_as_the_worst_and_minus_zero_as_zero) {
    small_vocab v;
    small_init(&v);
    (void)small_add_piece(&v, "ab", __builtin_nanf(""));
    (void)small_add_piece(&v, "bc", -1e30F);
    (void)small_add_piece(&v, "de", -0.0F);
    (void)small_add_piece(&v, "ef", 0.0F);
    (void)small_add_piece(&v, "gh", 1.0F);
    (void)small_add_piece(&v, "hi", 2.0F);
    v.vocab.add_space_prefix = false;
    tokenizer *t = small_create(&v);
    CHECK_STR(small_pieces(t, S("abc"), SMALL_PLAIN), "<0x61>|bc");
    CHECK_STR(small_pieces(t, S("def"), SMALL_PLAIN), "de|<0x66>");
    CHECK_STR(small_pieces(t, S("ghi"), SMALL_PLAIN), "<0x67>|hi");
    tok_destroy(t);
}

TEST(tok_uses_the_lower_id_of_two_tokens_with_the_same_text) {
    small_vocab v;
    small_init(&v);
    int32_t first = small_add_piece(&v, "a", -1);
    (void)small_add_piece(&v, "a", -1);
    v.vocab.add_space_prefix = false;
    tokenizer *t = small_create(&v);
    buf ids;
    buf_init(&ids, 64);
    CHECK_EQ(tok_encode(t, S("a"), &SMALL_PLAIN, &ids, NULL), OK);
    CHECK_EQ(((const int32_t *)(const void *)ids.p)[0], first);
    buf_deinit(&ids);
    tok_destroy(t);
}

/* The rule in its plainest form: look at all neighbours, merge the best, begin again. */
static size_t model_merge(const small_vocab *v, str text, int32_t *ids) {
    str parts[64];
    size_t n = 0;
    for (; n < text.n; n++) parts[n] = (str){text.p + n, 1};
    for (;;) {
        size_t best_at = n;
        float best = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            str both = {parts[i].p, parts[i].n + parts[i + 1].n};
            for (uint32_t id = SMALL_FIRST; id < v->vocab.count; id++) {
                if (!str_eq(v->pieces[id], both)) continue;
                if (best_at == n || v->scores[id] > best) best_at = i, best = v->scores[id];
                break;
            }
        }
        if (best_at == n) break;
        parts[best_at].n += parts[best_at + 1].n;
        memmove(&parts[best_at + 1], &parts[best_at + 2], (n - best_at - 2) * sizeof *parts);
        n--;
    }
    for (size_t i = 0; i < n; i++) {
        ids[i] = SMALL_BYTE_0 + (unsigned char)parts[i].p[0];
        for (uint32_t id = v->vocab.count; id-- > SMALL_FIRST;)
            if (str_eq(v->pieces[id], parts[i])) ids[i] = (int32_t)id;
    }
    return n;
}

TEST(tok_merges_like_the_plain_rule_on_random_vocabularies) {
    uint64_t seed = 1;
    static char pieces[40][8];
    for (int round = 0; round < 60; round++) {
        small_vocab v;
        small_init(&v);
        v.vocab.add_space_prefix = false;
        for (int i = 0; i < 40; i++) {
            str p = small_random_text(&seed, pieces[i], 1 + small_random(&seed, 5), "abc");
            (void)small_add(&v, p, -(float)small_random(&seed, 12), TOK_TYPE_NORMAL);
        }
        tokenizer *t = small_create(&v);
        for (int k = 0; k < 20; k++) {
            char text[48];
            int32_t want[64];
            buf ids;
            str s = small_random_text(&seed, text, small_random(&seed, 48), "abcd");
            size_t count = model_merge(&v, s, want);
            buf_init(&ids, 4096);
            CHECK_EQ(tok_encode(t, s, &SMALL_PLAIN, &ids, NULL), OK);
            CHECK(str_eq(buf_view(&ids), (str){(const char *)want, count * sizeof *want}));
            buf_deinit(&ids);
        }
        tok_destroy(t);
    }
}

/* --- the queue ------------------------------------------------------------------------------ */

/* Against a plain look for the smallest, with orders that share slots and come in any order. */
TEST(merge_queue_gives_the_smallest_order_and_then_the_leftmost) {
    enum { SYMBOLS = 300 };
    merge_queue q = {0};
    error err = {0};
    uint64_t state = 7;
    for (int round = 0; round < 200; round++) {
        uint64_t held[3 * SYMBOLS];
        size_t count = 0, pushes = 0;
        uint32_t orders = 1U << (round % 12);
        CHECK_EQ(merge_queue_begin(&q, SYMBOLS, &err), OK);
        while (pushes < 3 * SYMBOLS || count > 0) {
            uint32_t order = small_random(&state, orders), left = small_random(&state, 1000);
            bool room = pushes < 3 * SYMBOLS && count < 2 * SYMBOLS;
            if (room && (count == 0 || small_random(&state, 3) != 0)) {
                (void)merge_queue_push(&q, order, left);
                held[count++] = (uint64_t)order << 32 | left;
                pushes++;
                continue;
            }
            size_t best = 0;
            for (size_t i = 1; i < count; i++)
                if (held[i] < held[best]) best = i;
            (void)merge_queue_pop(&q, &order, &left);
            CHECK_EQ((uint64_t)order << 32 | left, held[best]);
            held[best] = held[--count];
        }
        CHECK_EQ(q.heap_count, 0);
    }
    merge_queue_deinit(&q);
}

/* --- time ----------------------------------------------------------------------------------- */

/* Look-ups and levels of the queue for n letters of a repeated pattern as one fragment. */
static uint64_t work_of(const tokenizer *t, str pattern, size_t n) {
    char *text = mem_alloc(n);
    for (size_t i = 0; i < n; i++) text[i] = pattern.p[i % pattern.n];
    merge_scratch scratch = {0};
    error err = {0};
    buf ids;
    buf_init(&ids, 1 << 26);
    tok_sink sink = {.ids = &ids, .tokens_max = UINT32_MAX};
    CHECK_EQ(merge_encode(t, (str){text, n}, &scratch, &sink, &err), OK);
    uint64_t work = scratch.work;
    size_t queue = 3 * sizeof *scratch.queue.nodes + 2 * sizeof *scratch.queue.heap;
    size_t each = sizeof *scratch.symbols + queue;
    CHECK(n < 10000 || scratch.cap * each <= n * TOK_SCRATCH_BYTES_PER_BYTE);
    merge_scratch_deinit(&scratch);
    buf_deinit(&ids);
    mem_free(text);
    return work;
}

TEST(tok_work_grows_no_faster_than_n_log_n) {
    static const char *const patterns[] = {
        "a", "ab", "aab", "\xE2\x96\x81", "\xE4\xB8\xAD", "\xC3\xE2\x96\x81", "a \n"};
    small_vocab v;
    small_init(&v);
    for (uint32_t n = 1; n <= 64; n *= 2) {
        static char runs[2][128];
        for (uint32_t i = 0; i < n; i++) {
            runs[0][n + i] = 'a';
            runs[1][n + i] = "ab"[i % 2];
        }
        (void)small_add(&v, (str){runs[0] + n, n}, -1.0F / (float)n, TOK_TYPE_NORMAL);
        if (n > 1) (void)small_add(&v, (str){runs[1] + n, n}, -2.0F / (float)n, TOK_TYPE_NORMAL);
    }
    (void)small_add_piece(&v, "\xE2\x96\x81\xE2\x96\x81", -1);
    (void)small_add_piece(&v, "b", -9);
    tokenizer *t = small_create(&v);
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        uint64_t small = work_of(t, str_of(patterns[i]), 20000);
        uint64_t large = work_of(t, str_of(patterns[i]), 80000);
        CHECK(small < 20000 * 60); /* a few look-ups, and pops of at most log4(40000) levels */
        CHECK(large < 6 * small);  /* 4 times the text; a quadratic algorithm would need 16 */
    }
    tok_destroy(t);
}
