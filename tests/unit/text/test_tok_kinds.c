/* test_tok_kinds.c - the kinds of vocabulary beside SentencePiece BPE: merges by rank, unigram,
 * WordPiece, RWKV, whole words; special tokens with flags; how each spells text again. */
#include <math.h>

#include "base/alloc.h"
#include "growth.h"
#include "small_vocab.h"
#include "text/detok.h"
#include "text/tok_bytes.h"

#define MARK "\xE2\x96\x81"

/* --- vocabularies --------------------------------------------------------------------------- */

/* No tokens yet, nothing around the text, unknown token 0 once there is one. */
static void kind_init(small_vocab *v, tok_kind kind, tok_form form) {
    memset(v, 0, sizeof *v);
    v->vocab = (tok_vocab){.kind = kind,
                           .form = form,
                           .pieces = v->pieces,
                           .scores = v->scores,
                           .types = v->types,
                           .bos_id = TOK_ID_NONE,
                           .eos_id = TOK_ID_NONE,
                           .eot_id = TOK_ID_NONE,
                           .unk_id = TOK_ID_NONE};
}

static void add_pieces(small_vocab *v, const char *const *pieces) {
    for (; *pieces != NULL; pieces++) (void)small_add_piece(v, *pieces, 0);
}

#define ADD_PIECES(v, ...) add_pieces(v, (const char *const[]){__VA_ARGS__, NULL})

static void add_unknown(small_vocab *v) {
    v->vocab.unk_id = small_add(v, S("[UNK]"), 0, TOK_TYPE_UNKNOWN);
}

static void set_merges(small_vocab *v, const tok_merge *merges, uint32_t count) {
    v->vocab.merges = merges;
    v->vocab.merges_count = count;
}

/* Pieces of the text in a new tokenizer of the vocabulary. */
static const char *pieces_of(const small_vocab *v, const char *text) {
    tokenizer *t = small_create(v);
    if (t == NULL) return "";
    const char *shown = small_pieces(t, str_of(text), SMALL_PLAIN);
    tok_destroy(t);
    return shown;
}

/* The text that encoding and decoding make of a text. */
static const char *there_and_back(const small_vocab *v, const char *text) {
    static char shown[256];
    tokenizer *t = small_create(v);
    buf ids, out;
    buf_init(&ids, 1 << 16);
    buf_init(&out, 1 << 16);
    CHECK_EQ(tok_encode(t, str_of(text), &SMALL_PLAIN, &ids, NULL), OK);
    CHECK_EQ(tok_decode(t, (const int32_t *)(const void *)ids.p,
                        (uint32_t)(ids.n / sizeof(int32_t)), &out, NULL),
             OK);
    str_copy_c(shown, sizeof shown, buf_view(&out));
    buf_deinit(&out);
    buf_deinit(&ids);
    tok_destroy(t);
    return shown;
}

/* --- merges by rank ------------------------------------------------------------------------- */

TEST(tok_bpe_merges_the_lowest_rank_first_and_then_the_leftmost) {
    static const tok_merge merges[] = {
        {S("b"), S("c")}, {S("a"), S("b")}, {S("ab"), S("ab")}, {S("x"), S("y")}, {S("a"), S("z")}};
    small_vocab v;
    kind_init(&v, TOK_KIND_BPE, TOK_FORM_PLAIN);
    ADD_PIECES(&v, "a", "b", "c", "ab", "bc", "abab", "xy", "abc");
    set_merges(&v, merges, 5);
    CHECK_STR(pieces_of(&v, "abc"), "a|bc");
    CHECK_STR(pieces_of(&v, "ababab"), "abab|ab");
    CHECK_STR(pieces_of(&v, "azxy"), "a"); /* no token for z, x and y, nor an unknown one */
    v.vocab.ignore_merges = true;
    CHECK_STR(pieces_of(&v, "abc"), "abc");
}

TEST(tok_bpe_spells_bytes_in_the_alphabet) {
    static const tok_merge merges[] = {{S("\xC4\xA0"), S("h")}, {S("\xC3\x83"), S("\xC2\xA9")}};
    small_vocab v;
    kind_init(&v, TOK_KIND_BPE, TOK_FORM_BYTE_LEVEL);
    for (int b = 0; b < 256; b++) {
        uint32_t n = tok_alphabet_spell((uint8_t)b, v.byte_text[b]);
        (void)small_add(&v, (str){v.byte_text[b], n}, 0, TOK_TYPE_NORMAL);
    }
    ADD_PIECES(&v, "\xC4\xA0h", "\xC3\x83\xC2\xA9");
    set_merges(&v, merges, 2);
    CHECK_STR(pieces_of(&v, "h h"), "h|\xC4\xA0h");
    CHECK_STR(pieces_of(&v, "\xC3\xA9"), "\xC3\x83\xC2\xA9"); /* one character, two bytes */
    CHECK_STR(there_and_back(&v, "h h\xC3\xA9 \n\x7F\xC2\xAD"), "h h\xC3\xA9 \n\x7F\xC2\xAD");
    CHECK_STR(there_and_back(&v, "\xFF\xC0\xAF"), "\xEF\xBF\xBD/"); /* made a text first */
    v.types[' '] = TOK_TYPE_UNUSED;
    v.types['\n'] = TOK_TYPE_CONTROL; /* no text becomes a control token */
    CHECK_STR(there_and_back(&v, "h\nh"), "hh");
}

TEST(tok_bpe_alphabet_has_a_character_for_each_byte) {
    bool seen[512] = {false};
    for (int b = 0; b < 256; b++) {
        char text[2], back[2];
        size_t n = 0;
        uint32_t bytes = tok_alphabet_spell((uint8_t)b, text);
        uint32_t c = bytes == 1 ? (uint32_t)text[0]
                                : (uint32_t)(text[0] & 0x1F) << 6 | (uint32_t)(text[1] & 0x3F);
        CHECK(c < 512 && !seen[c]);
        seen[c] = true;
        CHECK(tok_alphabet_read((str){text, bytes}, back, &n));
        CHECK(n == 1 && (unsigned char)back[0] == b);
    }
    char out[8];
    size_t n = 0;
    CHECK(!tok_alphabet_read(S(" "), out, &n));
    CHECK(!tok_alphabet_read(S("\xC5\x84"), out, &n)); /* U+0144, the first behind the alphabet */
    CHECK(!tok_alphabet_read(S("\xC4"), out, &n));
    CHECK(!tok_alphabet_read(S("\xE4\xB8\xAD"), out, &n));
}

TEST(tok_bpe_falls_back_to_bytes_then_to_one_unknown_for_many) {
    small_vocab v;
    kind_init(&v, TOK_KIND_BPE, TOK_FORM_METASPACE);
    add_unknown(&v);
    ADD_PIECES(&v, "a");
    CHECK_STR(pieces_of(&v, "axya"), "a|[UNK]|[UNK]|a");
    v.vocab.fuse_unknown = true;
    CHECK_STR(pieces_of(&v, "axya"), "a|[UNK]|a");
    v.vocab.drop_unknown = true;
    CHECK_STR(pieces_of(&v, "axya"), "a|a");
    v.vocab.drop_unknown = false;
    v.vocab.byte_fallback = true;
    (void)small_add(&v, S("<0xC3>"), 0, TOK_TYPE_BYTE);
    CHECK_STR(pieces_of(&v, "a\xC3\xA9"), "a|[UNK]"); /* one of the two bytes is missing */
    (void)small_add(&v, S("<0xA9>"), 0, TOK_TYPE_BYTE);
    CHECK_STR(pieces_of(&v, "a\xC3\xA9"), "a|<0xC3>|<0xA9>");
}

TEST(tok_bpe_marks_the_end_of_words_and_what_goes_on) {
    static const tok_merge ends[] = {{S("a"), S("b</w>")}};
    static const tok_merge goes_on[] = {{S("a"), S("##b")}, {S("ab"), S("##c")}};
    static const tok_split spaces = {.kind = TOK_SPLIT_SPACES};
    small_vocab v;
    kind_init(&v, TOK_KIND_BPE, TOK_FORM_PLAIN);
    v.vocab.end_of_word = S("</w>");
    v.vocab.splits = &spaces;
    v.vocab.splits_count = 1;
    ADD_PIECES(&v, "a", "b", "a</w>", "b</w>", "ab</w>");
    set_merges(&v, ends, 1);
    CHECK_STR(pieces_of(&v, "ab a abb"), "ab</w>|a</w>|a|b|b</w>");
    CHECK_STR(there_and_back(&v, "ab a abb"), "ab a abb");
    kind_init(&v, TOK_KIND_BPE, TOK_FORM_HASH_MARK);
    v.vocab.continuing_prefix = S("##");
    v.vocab.splits = &spaces;
    v.vocab.splits_count = 1;
    ADD_PIECES(&v, "a", "##b", "##c", "ab", "abc");
    set_merges(&v, goes_on, 2);
    CHECK_STR(pieces_of(&v, "abc acb"), "abc|a|##c|##b");
    CHECK_STR(there_and_back(&v, "abc acb"), "abc acb");
}

/* The rule in its plainest form, on letters: merge the pair of the lowest rank, begin again. */
static size_t model_bpe(const tok_merge *merges, uint32_t count, str text, str *parts) {
    size_t n = 0;
    for (; n < text.n; n++) parts[n] = (str){text.p + n, 1};
    for (uint32_t rank = 0; rank < count;) {
        size_t i = 0;
        while (i + 1 < n &&
               !(str_eq(parts[i], merges[rank].left) && str_eq(parts[i + 1], merges[rank].right)))
            i++;
        rank++;
        if (i + 1 >= n) continue;
        parts[i].n += parts[i + 1].n;
        memmove(&parts[i + 1], &parts[i + 2], (n - i - 2) * sizeof *parts);
        n--;
        rank = 0;
    }
    return n;
}

/* Random merges of pieces that are there, each making a new piece. */
static uint32_t add_random_merges(small_vocab *v, tok_merge *merges, char (*texts)[32],
                                  uint64_t *seed) {
    uint32_t count = 0;
    for (int i = 0; i < 60; i++) {
        str left = v->pieces[small_random(seed, v->vocab.count)];
        str right = v->pieces[small_random(seed, v->vocab.count)];
        if (left.n + right.n > 30) continue;
        memcpy(texts[i], left.p, left.n);
        memcpy(texts[i] + left.n, right.p, right.n);
        merges[count++] = (tok_merge){left, right};
        (void)small_add(v, (str){texts[i], left.n + right.n}, 0, TOK_TYPE_NORMAL);
    }
    return count;
}

static void check_random_bpe(const small_vocab *v, const tokenizer *t, uint64_t *seed) {
    char text[96], want[400];
    str parts[96];
    size_t n = 0;
    str s = small_random_text(seed, text, 1 + small_random(seed, 90), "abc");
    size_t count = model_bpe(v->vocab.merges, v->vocab.merges_count, s, parts);
    for (size_t i = 0; i < count; i++)
        n += (size_t)snprintf(want + n, sizeof want - n, "%s%.*s", i > 0 ? "|" : "", STR(parts[i]));
    CHECK_STR(small_pieces(t, s, SMALL_PLAIN), want);
}

TEST(tok_bpe_merges_like_the_plain_rule_on_random_vocabularies) {
    static char texts[60][32];
    static tok_merge merges[60];
    uint64_t seed = 5;
    for (int round = 0; round < 40; round++) {
        small_vocab v;
        kind_init(&v, TOK_KIND_BPE, TOK_FORM_PLAIN);
        ADD_PIECES(&v, "a", "b", "c");
        set_merges(&v, merges, add_random_merges(&v, merges, texts, &seed));
        tokenizer *t = small_create(&v);
        for (int k = 0; k < 20; k++) check_random_bpe(&v, t, &seed);
        tok_destroy(t);
    }
}

/* --- unigram -------------------------------------------------------------------------------- */

TEST(tok_unigram_takes_the_likeliest_way) {
    small_vocab v;
    kind_init(&v, TOK_KIND_UNIGRAM, TOK_FORM_METASPACE);
    v.vocab.unk_id = small_add(&v, S("<unk>"), 0, TOK_TYPE_UNKNOWN);
    (void)small_add_piece(&v, "a", -3);
    (void)small_add_piece(&v, "b", -3);
    (void)small_add_piece(&v, "ab", -4);
    (void)small_add_piece(&v, "abc", -20);
    (void)small_add_piece(&v, "c", -2);
    CHECK_STR(pieces_of(&v, "abc"), "ab|c"); /* -6 against -20 and -8 */
    CHECK_STR(pieces_of(&v, "axxb"), "a|<unk>|<unk>|b");
    v.vocab.fuse_unknown = true;
    CHECK_STR(pieces_of(&v, "axxb"), "a|<unk>|b");
    v.scores[4] = -INFINITY;
    CHECK_STR(pieces_of(&v, "abc"), "ab|c");
    (void)small_add(&v, S("bc"), -100, TOK_TYPE_USER_DEFINED);
    CHECK_STR(pieces_of(&v, "abc"), "a|bc"); /* cut out before anything is weighed */
}

static double score_of_parts(const small_vocab *v, str text, size_t at, double *memo) {
    if (at == text.n) return 0;
    if (memo[at] > 0) {
        double best = -1e9;
        for (uint32_t id = 1; id < v->vocab.count; id++) {
            str p = v->pieces[id];
            if (!str_starts(str_skip(text, at), p)) continue;
            double score = (double)v->scores[id] + score_of_parts(v, text, at + p.n, memo);
            if (score > best) best = score;
        }
        memo[at] = best;
    }
    return memo[at];
}

TEST(tok_unigram_finds_the_best_score_on_random_vocabularies) {
    static char texts[30][8];
    uint64_t seed = 11;
    for (int round = 0; round < 40; round++) {
        small_vocab v;
        kind_init(&v, TOK_KIND_UNIGRAM, TOK_FORM_METASPACE);
        v.vocab.unk_id = small_add(&v, S("?"), 0, TOK_TYPE_UNKNOWN);
        ADD_PIECES(&v, "a", "b");
        v.scores[1] = v.scores[2] = -9;
        for (int i = 0; i < 30; i++) {
            str p = small_random_text(&seed, texts[i], 2 + small_random(&seed, 5), "ab");
            (void)small_add(&v, p, -(float)small_random(&seed, 20), TOK_TYPE_NORMAL);
        }
        tokenizer *t = small_create(&v);
        char text[40];
        double memo[41], got = 0;
        buf ids;
        str s = small_random_text(&seed, text, 40, "ab");
        buf_init(&ids, 4096);
        for (int i = 0; i < 41; i++) memo[i] = 1;
        CHECK_EQ(tok_encode(t, s, &SMALL_PLAIN, &ids, NULL), OK);
        for (size_t i = 0; i < ids.n; i += sizeof(int32_t)) {
            int32_t id = 0;
            memcpy(&id, ids.p + i, sizeof id);
            /* of tokens with the same text the first counts; the model takes the best */
            got += (double)v.scores[id];
        }
        bool unique = true;
        for (uint32_t a = 0; a < v.vocab.count; a++)
            for (uint32_t b = 0; b < a; b++) unique = unique && !str_eq(v.pieces[a], v.pieces[b]);
        double best = score_of_parts(&v, s, 0, memo);
        CHECK(unique ? got == best : got <= best);
        buf_deinit(&ids);
        tok_destroy(t);
    }
}

/* --- the longest piece ---------------------------------------------------------------------- */

static const tok_split SPACES = {.kind = TOK_SPLIT_SPACES};

TEST(tok_wordpiece_takes_the_longest_piece_or_gives_the_word_up) {
    small_vocab v;
    kind_init(&v, TOK_KIND_WORDPIECE, TOK_FORM_HASH_MARK);
    add_unknown(&v);
    ADD_PIECES(&v, "un", "##aff", "##able", "##a", "u", "##");
    v.vocab.continuing_prefix = S("##");
    v.vocab.splits = &SPACES;
    v.vocab.splits_count = 1;
    CHECK_STR(pieces_of(&v, "unaffable un unx"), "un|##aff|##able|un|[UNK]");
    CHECK_STR(there_and_back(&v, "unaffable  un"), "unaffable un");
    v.vocab.word_chars_max = 8;
    CHECK_STR(pieces_of(&v, "unaffable un"), "[UNK]|un");
}

TEST(tok_wordpiece_knows_words_by_their_first_mark) {
    small_vocab v;
    kind_init(&v, TOK_KIND_WORDPIECE, TOK_FORM_WORD_MARK);
    add_unknown(&v);
    ADD_PIECES(&v, (MARK "un"), "able", "a", "b");
    v.vocab.splits = &SPACES;
    v.vocab.splits_count = 1;
    CHECK_STR(pieces_of(&v, "unable unb able"), MARK "un|able|" MARK "un|b|[UNK]");
    CHECK_STR(there_and_back(&v, "unable unb"), " unable unb");
    ADD_PIECES(&v, MARK);
    CHECK_STR(pieces_of(&v, "able"), MARK "|able");
}

TEST(tok_rwkv_takes_the_longest_piece_at_each_byte) {
    small_vocab v;
    kind_init(&v, TOK_KIND_RWKV, TOK_FORM_PLAIN);
    ADD_PIECES(&v, "a", "ab", "abcd", "c", "\xFF\xFE");
    CHECK_STR(pieces_of(&v, "abcab"), "ab|c|ab");
    CHECK_STR(pieces_of(&v, "abcd\xFF\xFE"), "abcd|\xFF\xFE");
    CHECK_STR(there_and_back(&v, "abc\xFF\xFE!"), "abc\xFF\xFE");
    add_unknown(&v);
    CHECK_STR(pieces_of(&v, "a!c"), "a|[UNK]|c");
}

TEST(tok_wordlevel_knows_whole_words) {
    small_vocab v;
    kind_init(&v, TOK_KIND_WORDLEVEL, TOK_FORM_HASH_MARK);
    add_unknown(&v);
    ADD_PIECES(&v, "hello", "world");
    v.vocab.splits = &SPACES;
    v.vocab.splits_count = 1;
    CHECK_STR(pieces_of(&v, "hello big world"), "hello|[UNK]|world");
    CHECK_STR(there_and_back(&v, "hello world"), "hello world");
}

/* --- special tokens with flags ---------------------------------------------------------------- */

static uint8_t flags[SMALL_TOKENS_MAX];

static const char *pieces_with_flag(small_vocab *v, int32_t id, uint8_t flag, const char *text) {
    memset(flags, 0, sizeof flags);
    flags[id] = flag;
    v->vocab.flags = flags;
    tokenizer *t = small_create(v);
    const char *shown = small_pieces(t, str_of(text), SMALL_SPECIAL);
    tok_destroy(t);
    return shown;
}

TEST(tok_special_tokens_take_blanks_along_or_stand_alone) {
    static const tok_norm lower = {.kind = TOK_NORM_LOWERCASE};
    small_vocab v;
    kind_init(&v, TOK_KIND_RWKV, TOK_FORM_PLAIN);
    ADD_PIECES(&v, "a", " ", "<", "s", ">", "\xC3\xA9");
    int32_t id = small_add(&v, S("<s>"), 0, TOK_TYPE_CONTROL);
    (void)small_add(&v, S("  "), 0, TOK_TYPE_USER_DEFINED);
    CHECK_STR(pieces_with_flag(&v, id, 0, "a <s> a"), "a| |<s>| |a");
    CHECK_STR(pieces_with_flag(&v, id, TOK_FLAG_LSTRIP, "a \n <s> a"), "a|<s>| |a");
    CHECK_STR(pieces_with_flag(&v, id, TOK_FLAG_RSTRIP, "a <s> \xC2\xA0  a"), "a| |<s>|a");
    CHECK_STR(pieces_with_flag(&v, id, TOK_FLAG_RSTRIP, "<s> <s>  "), "<s>|<s>");
    CHECK_STR(pieces_with_flag(&v, id, TOK_FLAG_SINGLE_WORD, "<s> a<s> \xC3\xA9<s>"),
              "<s>| |a|<|s|>| |\xC3\xA9|<|s|>");
    CHECK_STR(pieces_with_flag(&v, id, 0, "a<S>"), "a|<|>");
    v.vocab.norms = &lower;
    v.vocab.norms_count = 1;
    CHECK_STR(pieces_with_flag(&v, id, 0, "A<S>"), "a|<|s|>");
    CHECK_STR(pieces_with_flag(&v, id, TOK_FLAG_NORMALIZED, "A<S><s>"), "a|<s>|<s>");
}

/* --- decoding ------------------------------------------------------------------------------- */

TEST(tok_decoding_cleans_up_whole_texts_and_leaves_streams_alone) {
    small_vocab v;
    detok d;
    buf out;
    kind_init(&v, TOK_KIND_RWKV, TOK_FORM_PLAIN);
    ADD_PIECES(&v, "Do n't ", "stop , I 'm ", "here ' s . ");
    v.vocab.decode_cleanup = true;
    const char *text = "Do n't stop , I 'm here ' s . ";
    CHECK_STR(there_and_back(&v, text), "Do n't stop, I'm here's. ");
    tokenizer *t = small_create(&v);
    buf_init(&out, 256);
    detok_init(&d, t, true);
    for (int32_t id = 0; id < 3; id++) detok_push(&d, id, &out);
    CHECK(str_eq_c(buf_view(&out), text));
    buf_deinit(&out);
    tok_destroy(t);
}

/* --- the end of a generation -------------------------------------------------------------- */

TEST(tok_message_ends_end_nothing_where_returning_has_a_token) {
    small_vocab v;
    kind_init(&v, TOK_KIND_RWKV, TOK_FORM_PLAIN);
    int32_t end = small_add(&v, S("<|end|>"), 0, TOK_TYPE_CONTROL);
    int32_t call = small_add(&v, S("<|call|>"), 0, TOK_TYPE_CONTROL);
    tokenizer *t = small_create(&v);
    CHECK(tok_is_eog(t, end) && tok_is_eog(t, call));
    tok_destroy(t);
    int32_t ret = small_add(&v, S("<|return|>"), 0, TOK_TYPE_CONTROL);
    (void)small_add_piece(&v, "<eos>", 0); /* ordinary text ends nothing */
    t = small_create(&v);
    CHECK(!tok_is_eog(t, end) && tok_is_eog(t, call) && tok_is_eog(t, ret));
    CHECK(!tok_is_eog(t, ret + 1));
    tok_destroy(t);
}

/* --- hostile vocabularies ----------------------------------------------------------------- */

static void check_refused_kind(const small_vocab *v, status code, const char *words) {
    tokenizer *t = NULL;
    error err = {0};
    CHECK_EQ(tok_create(&t, &v->vocab, &err), code);
    CHECK_HAS(err.msg, words);
}

TEST(tok_refuses_pieces_that_would_make_walking_slow) {
    static char text[TOK_PIECE_BYTES_MAX];
    small_vocab v;
    kind_init(&v, TOK_KIND_RWKV, TOK_FORM_PLAIN);
    memset(text, 'a', sizeof text);
    (void)small_add(&v, (str){text, 256}, 0, TOK_TYPE_NORMAL);
    tok_destroy(small_create(&v));
    (void)small_add(&v, (str){text, 257}, 0, TOK_TYPE_NORMAL);
    check_refused_kind(&v, ERR_LIMIT, "token 1 has 257 bytes, at most 256");
    v.types[1] = TOK_TYPE_CONTROL; /* these are not walked to */
    tok_destroy(small_create(&v));
    kind_init(&v, TOK_KIND_WORDLEVEL, TOK_FORM_HASH_MARK);
    (void)small_add(&v, (str){text, 1024}, 0, TOK_TYPE_NORMAL);
    check_refused_kind(&v, ERR_LIMIT, "token 0 has 1024 bytes, at most 1023");
    kind_init(&v, TOK_KIND_UNIGRAM, TOK_FORM_METASPACE);
    ADD_PIECES(&v, "a");
    v.vocab.scores = NULL;
    check_refused_kind(&v, ERR_FORMAT, "no scores for 1 tokens");
}

enum { LONG_TEXT_BYTES = 1 << 17 };

typedef struct long_text {
    tokenizer *t;
    char *letters; /* [LONG_TEXT_BYTES] */
} long_text;

static void encode_long_text(void *arg, size_t bytes) {
    long_text *l = arg;
    buf ids;
    buf_init(&ids, 1 << 24);
    CHECK_EQ(tok_encode(l->t, (str){l->letters, bytes}, &SMALL_PLAIN, &ids, NULL), OK);
    buf_deinit(&ids);
}

static double growth_for_letters(const small_vocab *v) {
    long_text l = {.t = small_create(v), .letters = mem_alloc(LONG_TEXT_BYTES)};
    memset(l.letters, 'a', LONG_TEXT_BYTES);
    double growth = growth_of(encode_long_text, &l, LONG_TEXT_BYTES / 4);
    tok_destroy(l.t);
    mem_free(l.letters);
    return growth;
}

TEST(tok_time_is_linear_in_words_of_one_letter) {
    static char letters[TOK_PIECE_BYTES_MAX + 1];
    static tok_merge merges[16];
    small_vocab v;
    memset(letters, 'a', sizeof letters);
    letters[sizeof letters - 1] = 'b';
    kind_init(&v, TOK_KIND_BPE, TOK_FORM_PLAIN);
    for (uint32_t n = 1, i = 0; n <= TOK_PIECE_BYTES_MAX; n *= 2, i++) {
        (void)small_add(&v, (str){letters, n}, 0, TOK_TYPE_NORMAL);
        merges[i] = (tok_merge){{letters, n}, {letters, n}};
    }
    set_merges(&v, merges, 10);
    CHECK(growth_for_letters(&v) < GROWTH_MAX);
    static const tok_kind kinds[] = {TOK_KIND_UNIGRAM, TOK_KIND_RWKV, TOK_KIND_WORDPIECE};
    for (int i = 0; i < 3; i++) {
        kind_init(&v, kinds[i], TOK_FORM_PLAIN);
        (void)small_add(&v, (str){letters, 1}, -1, TOK_TYPE_NORMAL);
        (void)small_add(&v, (str){letters + sizeof letters - 256, 256}, -1, TOK_TYPE_NORMAL);
        CHECK(growth_for_letters(&v) < GROWTH_MAX);
    }
}

/* Creates and encodes with only `n` allocations that succeed. */
static status try_with_memory(const small_vocab *v, int64_t n) {
    tokenizer *t = NULL;
    buf ids;
    buf_init(&ids, 1 << 16);
    mem_fail_after(n);
    status st = tok_create(&t, &v->vocab, NULL);
    if (st == OK)
        st = tok_encode(t, S("ab aab\xFF<s>abababababababababababababababababa"), &SMALL_SPECIAL,
                        &ids, NULL);
    mem_fail_after(-1);
    CHECK(st == OK || ids.n == 0);
    buf_deinit(&ids);
    tok_destroy(t);
    return st;
}

TEST(tok_kinds_survive_every_failing_allocation) {
    static const tok_merge merges[] = {{S("a"), S("b")}};
    static const tok_norm lower = {.kind = TOK_NORM_LOWERCASE};
    for (int kind = TOK_KIND_SPM; kind <= TOK_KIND_WORDLEVEL; kind++) {
        small_vocab v;
        kind_init(&v, (tok_kind)kind, kind == TOK_KIND_BPE ? TOK_FORM_BYTE_LEVEL : TOK_FORM_PLAIN);
        add_unknown(&v);
        ADD_PIECES(&v, "a", "b", "ab", "\xC4\xA0");
        (void)small_add(&v, S("<s>"), 0, TOK_TYPE_CONTROL);
        set_merges(&v, merges, 1);
        memset(flags, 0, sizeof flags);
        flags[v.vocab.count - 1] = TOK_FLAG_NORMALIZED;
        v.vocab.flags = flags;
        v.vocab.norms = &lower;
        v.vocab.norms_count = 1;
        v.vocab.splits = &SPACES;
        v.vocab.splits_count = 1;
        status st = ERR_NOMEM;
        for (int64_t n = 0; st != OK && n < 200; n++) st = try_with_memory(&v, n);
        CHECK_EQ(st, OK);
    }
}
