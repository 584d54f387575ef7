/* test_stop.c - the stop matcher against a plain search over the whole text. */
#include "small_vocab.h"
#include "text/stop.h"

static void set_of(stop_set *set, const char *a, const char *b) {
    stop_set_init(set);
    if (a != NULL) CHECK_EQ(stop_set_add(set, str_of(a), NULL), OK);
    if (b != NULL) CHECK_EQ(stop_set_add(set, str_of(b), NULL), OK);
}

static void check_push(stop_match *m, const char *text, const char *released, int held) {
    buf out;
    buf_init(&out, 256);
    (void)stop_push(m, str_of(text), &out);
    buf_put_char(&out, '\0');
    CHECK_STR(out.p, released);
    CHECK_EQ(m->held_bytes, held);
    buf_deinit(&out);
}

TEST(stop_holds_back_what_may_become_a_stop_string) {
    stop_set set;
    stop_match m;
    set_of(&set, "\nUser:", NULL);
    stop_match_init(&m, &set);
    check_push(&m, "hello\nUs", "hello", 3);
    check_push(&m, "eless\n", "\nUseless", 1);
    check_push(&m, "\n", "\n", 1);
    check_push(&m, "User", "", 5);
    CHECK(!m.done);
    check_push(&m, ": more", "", 0);
    CHECK(m.done);
    CHECK_EQ(m.hit, 0);
    check_push(&m, "even more", "", 0);
    CHECK(m.done);
}

TEST(stop_finds_strings_that_overlap_themselves) {
    stop_set set;
    stop_match m;
    set_of(&set, "aab", NULL);
    stop_match_init(&m, &set);
    check_push(&m, "aaab", "a", 0);
    CHECK(m.done);
    stop_match_init(&m, &set);
    check_push(&m, "a", "", 1);
    check_push(&m, "a", "", 2);
    check_push(&m, "a", "a", 2);
    check_push(&m, "ba", "", 0);
    CHECK(m.done);
}

TEST(stop_takes_the_first_complete_string_and_of_those_the_longest) {
    stop_set set;
    stop_match m;
    set_of(&set, "bc", "abcd");
    stop_match_init(&m, &set);
    check_push(&m, "xabcd", "xa", 0); /* "bc" is complete before "abcd" */
    CHECK_EQ(m.hit, 0);
    set_of(&set, "cd", "abcd");
    stop_match_init(&m, &set);
    check_push(&m, "xabcd", "x", 0); /* both at once */
    CHECK_EQ(m.hit, 1);
    set_of(&set, "cd", "cd");
    stop_match_init(&m, &set);
    check_push(&m, "cd", "", 0);
    CHECK_EQ(m.hit, 0);
}

TEST(stop_gives_out_the_rest_at_the_end) {
    stop_set set;
    stop_match m;
    buf out;
    set_of(&set, "<end>", "<em");
    stop_match_init(&m, &set);
    check_push(&m, "a<e", "a", 2);
    buf_init(&out, 16);
    stop_finish(&m, &out);
    stop_finish(&m, &out);
    CHECK(str_eq(buf_view(&out), S("<e")));
    CHECK_EQ(m.held_bytes, 0);
    buf_deinit(&out);
    set_of(&set, NULL, NULL);
    stop_match_init(&m, &set);
    check_push(&m, "no stop strings", "no stop strings", 0);
}

TEST(stop_set_has_limits) {
    static char text[STOP_BYTES_MAX + 1];
    stop_set set;
    error err = {0};
    memset(text, 'x', sizeof text);
    stop_set_init(&set);
    CHECK_EQ(stop_set_add(&set, S(""), &err), ERR_INVALID);
    CHECK_HAS(err.msg, "stop[0]: empty");
    CHECK_EQ(stop_set_add(&set, (str){text, sizeof text}, &err), ERR_LIMIT);
    CHECK_HAS(err.msg, "stop[0]: 257 bytes, at most 256");
    for (int i = 0; i < STOP_STRINGS_MAX; i++)
        CHECK_EQ(stop_set_add(&set, (str){text, STOP_BYTES_MAX}, &err), OK);
    CHECK_EQ(stop_set_add(&set, S("x"), &err), ERR_LIMIT);
    CHECK_HAS(err.msg, "more than 17 strings");

    stop_match m;
    buf out;
    buf_init(&out, 1024);
    stop_match_init(&m, &set);
    CHECK(!stop_push(&m, (str){text, STOP_BYTES_MAX - 1}, &out));
    CHECK_EQ(m.held_bytes, STOP_BYTES_MAX - 1);
    CHECK_EQ(out.n, 0);
    CHECK(stop_push(&m, S("x"), &out));
    CHECK_EQ(out.n, 0);
    buf_deinit(&out);
}

/* --- the plain search ----------------------------------------------------------------------- */

/* The match that ends first, and of those the longest: where it begins, or text.n. */
static size_t model_stop(const stop_set *set, str text, int *hit) {
    *hit = STOP_NONE;
    for (size_t end = 1; end <= text.n; end++) {
        size_t longest = 0;
        for (uint32_t i = 0; i < set->count; i++) {
            str s = {set->strings[i].text, set->strings[i].bytes};
            if (!str_ends((str){text.p, end}, s) || s.n <= longest) continue;
            longest = s.n;
            *hit = (int)i;
        }
        if (longest > 0) return end - longest;
    }
    return text.n;
}

/* The longest end of `text` that a stop string begins with. */
static size_t model_held(const stop_set *set, str text) {
    for (size_t n = text.n; n > 0; n--)
        for (uint32_t i = 0; i < set->count; i++)
            if (n < set->strings[i].bytes &&
                memcmp(set->strings[i].text, text.p + text.n - n, n) == 0)
                return n;
    return 0;
}

static void check_stream(const stop_set *set, str text, uint64_t *seed) {
    stop_match m;
    buf out;
    int hit = 0;
    size_t pushed = 0;
    buf_init(&out, 256);
    stop_match_init(&m, set);
    while (pushed < text.n && !m.done) {
        size_t n = 1 + small_random(seed, 5);
        if (n > text.n - pushed) n = text.n - pushed;
        bool done = stop_push(&m, (str){text.p + pushed, n}, &out);
        CHECK_EQ(done, m.done);
        pushed += n;
        size_t held = m.done ? 0 : model_held(set, (str){text.p, pushed});
        CHECK_EQ(m.held_bytes, held);
        if (!m.done) CHECK_EQ(out.n, pushed - held);
    }
    stop_finish(&m, &out);
    size_t want = model_stop(set, text, &hit);
    CHECK_EQ(m.hit, hit);
    CHECK(str_eq(buf_view(&out), (str){text.p, want}));
    buf_deinit(&out);
}

TEST(stop_agrees_with_a_plain_search_on_random_text) {
    uint64_t seed = 11;
    for (int round = 0; round < 20000; round++) {
        const char *letters = round % 2 == 0 ? "ab" : "abc";
        char stop[8], text[48];
        stop_set set;
        stop_set_init(&set);
        for (uint32_t i = small_random(&seed, 4); i > 0; i--) {
            str s = small_random_text(&seed, stop, 1 + small_random(&seed, 6), letters);
            CHECK_EQ(stop_set_add(&set, s, NULL), OK);
        }
        check_stream(&set, small_random_text(&seed, text, small_random(&seed, 48), letters), &seed);
    }
}
