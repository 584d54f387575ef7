/* test_tok_special.c - which special tokens are cut out of a text, and a model that does it the
 * plain way. */
#include "base/alloc.h"
#include "small_vocab.h"
#include "text/tok_internal.h"

TEST(tok_cuts_the_longest_special_first_then_the_leftmost) {
    small_vocab v;
    small_init(&v);
    v.vocab.add_space_prefix = false;
    (void)small_add(&v, S("abc"), 0, TOK_TYPE_USER_DEFINED);
    (void)small_add(&v, S("cdef"), 0, TOK_TYPE_USER_DEFINED);
    (void)small_add(&v, S("ab"), 0, TOK_TYPE_USER_DEFINED);
    (void)small_add(&v, S("yy"), 0, TOK_TYPE_USER_DEFINED);
    tokenizer *t = small_create(&v);
    CHECK_STR(small_pieces(t, S("abcdef"), SMALL_PLAIN), "ab|cdef"); /* abc runs into cdef */
    CHECK_STR(small_pieces(t, S("abcde"), SMALL_PLAIN), "abc|<0x64>|<0x65>");
    CHECK_STR(small_pieces(t, S("yyy"), SMALL_PLAIN), "yy|<0x79>");
    tok_destroy(t);
}

/* The rule as it is told: for each special token, longest first, look through all that is left. */
static void model_cut(const small_vocab *v, str text, int32_t *owner) {
    for (size_t i = 0; i < text.n; i++) owner[i] = 0;
    for (size_t len = 8; len > 0; len--) {
        for (uint32_t id = SMALL_FIRST; id < v->vocab.count; id++) {
            str p = v->pieces[id];
            for (size_t at = 0; p.n == len && at + len <= text.n; at++) {
                bool is_free = memcmp(text.p + at, p.p, len) == 0;
                for (size_t k = 0; k < len; k++) is_free = is_free && owner[at + k] == 0;
                for (size_t k = 0; is_free && k < len; k++)
                    owner[at + k] = k == 0 ? (int32_t)id : -1;
            }
        }
    }
}

TEST(tok_finds_special_tokens_like_the_plain_rule_on_random_text) {
    uint64_t seed = 7;
    static char pieces[12][8];
    for (int round = 0; round < 300; round++) {
        small_vocab v;
        tok_special special;
        error err = {0};
        small_init(&v);
        for (int i = 0; i < 12; i++) {
            str p = small_random_text(&seed, pieces[i], 1 + small_random(&seed, 8), "ab");
            (void)small_add(&v, p, 0, TOK_TYPE_USER_DEFINED);
        }
        CHECK_EQ(special_init(&special, &v.vocab, NULL, (special_choice){.raw = true}, &err), OK);
        for (int k = 0; k < 10; k++) {
            char text[40];
            int32_t owner[40];
            special_cuts cuts;
            size_t at = 0, cut = 0;
            str s = small_random_text(&seed, text, small_random(&seed, 40), k % 2 ? "abc" : "ab");
            model_cut(&v, s, owner);
            CHECK_EQ(special_find(&special, s, &(special_breaks){0}, &cuts, &err), OK);
            for (; at < s.n; at++) {
                bool here = cut < cuts.count && cuts.cuts[cut].begin == at;
                CHECK_EQ(here ? special.tokens[cuts.cuts[cut].rank].id : 0,
                         owner[at] > 0 ? owner[at] : 0);
                cut += here;
            }
            CHECK_EQ(cut, cuts.count);
            mem_free(cuts.cuts);
        }
        special_deinit(&special);
    }
}

/* A token across a break is passed over for shorter ones; all other text is as without breaks. */
TEST(tok_sees_no_special_token_across_a_break) {
    small_vocab v;
    small_init(&v);
    (void)small_add_piece(&v, "\xE2\x96\x81", -1);
    (void)small_add_piece(&v, "ab", -2);
    (void)small_add(&v, S("<x>"), 0, TOK_TYPE_CONTROL);
    (void)small_add(&v, S("<x>ab"), 0, TOK_TYPE_CONTROL);
    tokenizer *t = small_create(&v);
    const uint32_t inside[] = {3, 4, 4, 9}, beside[] = {0, 3, 8, 9, 100};
    tok_options o = {.parse_special = true, .tokens_max = UINT32_MAX};
    CHECK_STR(small_pieces(t, S("abc<x>abab"), o), "\xE2\x96\x81|ab|<0x63>|<x>ab|\xE2\x96\x81|ab");
    o.breaks = inside;
    o.breaks_count = 4;
    CHECK_STR(small_pieces(t, S("abc<x>abab"), o),
              "\xE2\x96\x81|ab|<0x63>|<0x3C>|<0x78>|<0x3E>|ab|ab");
    o.breaks = beside;
    o.breaks_count = 5;
    CHECK_STR(small_pieces(t, S("abc<x>abab"), o), "\xE2\x96\x81|ab|<0x63>|<x>ab|\xE2\x96\x81|ab");
    o.breaks = (const uint32_t[]){6};
    o.breaks_count = 1;
    CHECK_STR(small_pieces(t, S("abc<x>abab"), o), "\xE2\x96\x81|ab|<0x63>|<x>|\xE2\x96\x81|ab|ab");
    tok_destroy(t);
}

/* Tokens that are looked for in normalized text: breaks are applied before. */
TEST(tok_sees_no_normalized_special_token_across_a_break) {
    static uint8_t flags[SMALL_TOKENS_MAX];
    static const tok_norm lower[] = {{.kind = TOK_NORM_LOWERCASE}};
    small_vocab v;
    small_init(&v);
    int32_t id = small_add(&v, S("<x>"), 0, TOK_TYPE_CONTROL);
    flags[id] = TOK_FLAG_NORMALIZED;
    v.vocab.flags = flags;
    v.vocab.norms = lower;
    v.vocab.norms_count = 1;
    v.vocab.add_space_prefix = false;
    tokenizer *t = small_create(&v);
    tok_options o = {.parse_special = true, .tokens_max = UINT32_MAX};
    CHECK_STR(small_pieces(t, S("A<X><X>"), o), "<0x61>|<x>|<x>");
    o.breaks = (const uint32_t[]){2, 2};
    o.breaks_count = 2;
    CHECK_STR(small_pieces(t, S("A<X><X>"), o), "<0x61>|<0x3C>|<0x78>|<0x3E>|<x>");
    tok_destroy(t);
    flags[id] = 0;
}

TEST(tok_refuses_more_special_text_than_the_automaton_can_number) {
    enum { COUNT = 210000 };
    static str pieces[COUNT];
    static uint8_t types[COUNT];
    static char text[TOK_PIECE_BYTES_MAX];
    tok_special special;
    error err = {0};
    for (int i = 0; i < COUNT; i++) pieces[i] = (str){text, sizeof text};
    memset(types, TOK_TYPE_CONTROL, sizeof types);
    tok_vocab vocab = {.kind = TOK_KIND_SPM, .count = COUNT, .pieces = pieces, .types = types};
    CHECK_EQ(
        special_init(&special, &vocab, NULL, (special_choice){.control = true, .raw = true}, &err),
        ERR_LIMIT);
    CHECK_HAS(err.msg, "special tokens of 215040000 bytes, at most 214748364");
    CHECK(special.tokens == NULL && special.nodes == NULL);
}
