/* test_tok_split.c - scanners against PCRE2 with the same patterns, behaviors, hostile text. */
#include "base/alloc.h"
#include "growth.h"
#include "test.h"
#include "text/tok_split_internal.h"

static const char *const family_names[] = {
    "default",  "gpt-2",        "starcoder",      "falcon",      "llama-bpe",  "qwen2",
    "qwen35",   "ufakzeka",     "laguna",         "seed-coder",  "bailingmoe", "exaone-moe",
    "minicpm5", "jais-2",       "gpt-4o",         "tiny_aya",    "tekken",     "youtu",
    "kimi-k2",  "deepseek-llm", "deepseek-coder", "deepseek-v3", "spark2_5",   "afmoe",
    "superbpe", "chameleon",    "bloom",          "viking",      "gemma4",     "whitespace",
};
enum { FAMILIES = sizeof family_names / sizeof *family_names };

/* --- words as text ------------------------------------------------------------------------- */

/* "[a][ b]": the words of a text. */
static const char *words_of(const tok_split *steps, uint32_t count, str text) {
    static char shown[4096];
    buf words, spare;
    tok_splitter *s = NULL;
    size_t at = 0;
    error err = {0};
    buf_init(&words, SIZE_MAX / 2);
    buf_init(&spare, SIZE_MAX / 2);
    shown[0] = '\0';
    if (tok_splitter_create(&s, steps, count, &err) != OK) return err.msg[0] != 0 ? "error" : "?";
    CHECK_EQ(tok_split_text(s, text, &words, &spare, &err), OK);
    const tok_word *w = (const tok_word *)(const void *)words.p;
    for (size_t i = 0; i < words.n / sizeof *w; i++)
        at += (size_t)snprintf(shown + at, sizeof shown - at, "[%.*s]",
                               (int)(w[i].end - w[i].begin), text.p + w[i].begin);
    tok_splitter_destroy(s);
    buf_deinit(&words);
    buf_deinit(&spare);
    return shown;
}

static const char *family_words(const char *name, const char *text) {
    const tok_family *f = tok_family_find(str_of(name));
    CHECK(f != NULL);
    return f == NULL ? "" : words_of(f->splits, f->splits_count, str_of(text));
}

static const char *pattern_words(const char *pattern, const char *text) {
    tok_split step = {.kind = TOK_SPLIT_REGEX, .pattern = str_of(pattern)};
    return words_of(&step, 1, str_of(text));
}

/* --- against PCRE2 ------------------------------------------------------------------------- */

static uint64_t random_state;

static uint32_t random_below(uint32_t n) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

/* Letters of all cases and several scripts, marks, digits of several scripts, all kinds of white
 * space, apostrophes, suffixes, signs, characters without a meaning and broken ones.  All assigned
 * ones are older than Unicode 12, since PCRE2 brings a table of its own. */
static const char *const pieces[] = {
    "a",
    "b",
    "Z",
    "Q",
    "ß",
    "É",
    "é",
    "e\xCC\x81",
    "ǅ",
    "ʰ",
    "ª",
    "中",
    "文",
    "の",
    "カ",
    "ー",
    "한",
    "ก",
    "\xE0\xB8\xB4",
    "न",
    "\xE0\xA4\xBF",
    "\xE0\xA5\x8D",
    "\xE2\x83\x9D",
    "Я",
    "я",
    "Ω",
    "1",
    "23",
    "456",
    "7890",
    "٣",
    "Ⅷ",
    "½",
    " ",
    "  ",
    "    ",
    "\t",
    "\n",
    "\r\n",
    "\r",
    "\xC2\xA0",
    "\xE3\x80\x80",
    "\xE2\x80\xA8",
    "\xC2\x85",
    "\x0B",
    "'",
    "’",
    "'s",
    "'S",
    "'\xC5\xBF",
    "'ll",
    "'Re",
    "'vE",
    "'d",
    "'x",
    "!",
    "/",
    "//",
    "$",
    "+",
    "…",
    "。",
    "😀",
    "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x94\xAC",
    "\xFF",
    "\xE2\x82",
    "\xF0\x9F",
    "\xC0",
    "\xED\xA0\x80",
    "\x01",
    "\xE2\x80\x8D",
    "\xCD\xB8",
    "々",
    "〇",
    "⺀",
    "IMGIMGAB",
    "Z",
    "<sentinel:",
    ">",
    "(",
    "|",
    "،",
    "ㄱ",
    "ㄅ",
    "ﬀ",
    "𐐀",
    "𝟘",
    "～",
    "ﾟ",
};

static str random_text(char *out, size_t room) {
    size_t n = 0;
    uint32_t count = 1 + random_below(24), favourite = random_below(sizeof pieces / sizeof *pieces);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t k =
            random_below(3) == 0 ? favourite : random_below(sizeof pieces / sizeof *pieces);
        size_t bytes = strlen(pieces[k]);
        if (n + bytes > room) break;
        memcpy(out + n, pieces[k], bytes);
        n += bytes;
    }
    if (random_below(8) == 0 && n < room) out[n++] = '\0';
    return (str){out, n};
}

static size_t all_matches(split_matcher *m, str text, size_t *places, size_t room) {
    split_search s;
    size_t count = 0;
    bool found = true;
    CHECK_EQ(split_search_init(&s, m, text.n, NULL), OK);
    CHECK_EQ(split_search_text(&s, text, NULL), OK);
    while (found && count + 2 <= room) {
        CHECK_EQ(split_search_next(&s, &found, &places[count], &places[count + 1], NULL), OK);
        if (found) count += 2;
    }
    split_search_deinit(&s);
    return count;
}

static void show(str pattern, str text) {
    (void)fprintf(stderr, "  pattern %.*s\n  text ", (int)pattern.n, pattern.p);
    for (size_t i = 0; i < text.n; i++) (void)fprintf(stderr, "%02x", (unsigned char)text.p[i]);
    (void)fprintf(stderr, "\n");
}

/* PCRE2 counts other marks, joiners and numbers among word characters, which \b notices. */
static bool differs_by_word(str pattern, str text) {
    static const char *const others[] = {"\xE0", "\xCC", "\xE2\x83", "\xE2\x80\x8D", "\xC2\xBD"};
    if (memmem(pattern.p, pattern.n, "\\b", 2) == NULL) return false;
    for (uint32_t i = 0; i < sizeof others / sizeof *others; i++)
        if (memmem(text.p, text.n, others[i], strlen(others[i])) != NULL) return true;
    return false;
}

static void compare_with_pcre2(str pattern, uint32_t texts) {
    split_matcher scanner = {0}, regex = {0};
    bool linear = false;
    char room[512];
    size_t ours[1024], theirs[1024];
    CHECK_EQ(split_program_parse(&scanner.program, pattern, &linear, NULL), OK);
    CHECK_EQ(split_regex_create(&regex.regex, pattern, NULL), OK);
    for (uint32_t i = 0; linear && i < texts; i++) {
        str text = random_text(room, sizeof room);
        if (differs_by_word(pattern, text)) continue;
        size_t n = all_matches(&scanner, text, ours, 1024),
               m = all_matches(&regex, text, theirs, 1024);
        bool same = n == m && memcmp(ours, theirs, n * sizeof *ours) == 0;
        CHECK(same);
        if (same) continue;
        show(pattern, text);
        break;
    }
    split_matcher_deinit(&scanner);
    split_matcher_deinit(&regex);
}

TEST(tok_split_scanners_find_what_pcre2_finds) {
    random_state = 1;
    for (uint32_t i = 0; i < FAMILIES; i++) {
        const tok_family *f = tok_family_find(str_of(family_names[i]));
        CHECK(f != NULL);
        for (uint32_t k = 0; f != NULL && k < f->splits_count; k++)
            compare_with_pcre2(f->splits[k].pattern, 1500);
    }
}

TEST(tok_split_every_published_pattern_is_linear) {
    for (uint32_t i = 0; i < FAMILIES; i++) {
        const tok_family *f = tok_family_find(str_of(family_names[i]));
        for (uint32_t k = 0; f != NULL && k < f->splits_count; k++) {
            split_program p;
            bool linear = false;
            str pattern = f->splits[k].pattern;
            CHECK_EQ(split_program_parse(&p, pattern, &linear, NULL), OK);
            bool odd = str_starts(pattern, S("<sentinel")) || str_starts(pattern, S("(IMGIMG)"));
            CHECK_EQ(linear, !odd);
            if (!linear && !odd) show(pattern, S(""));
            split_program_deinit(&p);
        }
    }
}
/* --- known words --------------------------------------------------------------------------- */

TEST(tok_split_families_split_as_their_models_do) {
    CHECK_STR(family_words("gpt-2", "Hello  world, it's 1234!\n"),
              "[Hello][ ][ world][,][ it]['s][ 1234][!][\n]");
    CHECK_STR(family_words("llama-bpe", "I'LL pay $12345 now!!\n\n  x"),
              "[I]['LL][ pay][ $][123][45][ now][!!\n\n][ ][ x]");
    CHECK_STR(family_words("qwen2", "a 123"), "[a][ ][1][2][3]");
    CHECK_STR(family_words("gpt-4o", "HelloWorld's fooBAR//\n/"),
              "[Hello][World's][ foo][BAR][//\n/]");
    CHECK_STR(family_words("deepseek-v3", "12345 \xE4\xB8\xADx.foo bar"),
              "[123][45][ ][\xE4\xB8\xAD][x][.foo][ bar]");
    CHECK_STR(family_words("falcon", "ab`` 12345"), "[ab][``][ ][123][45]");
    CHECK_STR(family_words("superbpe", "n 1234567 x"), "[n ][1][234][567][ x]");
    CHECK_STR(family_words("tiny_aya", "1234567x 1234567"), "[123][456][7][x][ ][1][234][567]");
    CHECK_STR(family_words("kimi-k2", "\xE4\xB8\xAD\xE6\x96\x87"
                                      "abc"),
              "[\xE4\xB8\xAD\xE6\x96\x87][abc]");
    CHECK_STR(family_words("exaone-moe", "a bc d  e"), "[a bc d][ ][ e]");
    CHECK_STR(family_words("viking", "ab, 12"), "[ab][,][ ][1][2]");
    CHECK_STR(family_words("default", "a+b 1234"), "[a][+][b][ ][123][4]");
    CHECK(tok_family_find(S("")) == NULL || tok_family_find(S(""))->splits_count == 4);
    CHECK(tok_family_find(S("nobody")) == NULL);
}

static const char *behaving(tok_split_behavior behavior, bool invert, const char *text) {
    tok_split step = {
        .kind = TOK_SPLIT_LITERAL, .behavior = behavior, .invert = invert, .pattern = S("-")};
    return words_of(&step, 1, str_of(text));
}

/* The example of Hugging Face's documentation: "the-final--countdown". */
TEST(tok_split_behaviors) {
    const char *text = "the-final--countdown";
    CHECK_STR(behaving(TOK_SPLIT_REMOVED, false, text), "[the][final][countdown]");
    CHECK_STR(behaving(TOK_SPLIT_ISOLATED, false, text), "[the][-][final][-][-][countdown]");
    CHECK_STR(behaving(TOK_SPLIT_MERGED_WITH_PREVIOUS, false, text),
              "[the-][final-][-][countdown]");
    CHECK_STR(behaving(TOK_SPLIT_MERGED_WITH_NEXT, false, text), "[the][-final][-][-countdown]");
    CHECK_STR(behaving(TOK_SPLIT_CONTIGUOUS, false, text), "[the][-][final][--][countdown]");
    CHECK_STR(behaving(TOK_SPLIT_REMOVED, true, text), "[-][-][-]");
    CHECK_STR(behaving(TOK_SPLIT_MERGED_WITH_NEXT, false, "a--"), "[a][-][-]");
    CHECK_STR(behaving(TOK_SPLIT_MERGED_WITH_PREVIOUS, false, "--a"), "[-][-][a]");
}

static const char *kind_words(tok_split_kind kind, const char *text) {
    tok_split step = {.kind = kind, .length = 2};
    return words_of(&step, 1, str_of(text));
}

TEST(tok_split_kinds) {
    CHECK_STR(kind_words(TOK_SPLIT_WHITESPACE, "Hi, you_2 \xE0\xA4\xA8\xE0\xA4\xBF!?"),
              "[Hi][,][you_2][\xE0\xA4\xA8\xE0\xA4\xBF][!?]");
    CHECK_STR(kind_words(TOK_SPLIT_SPACES, " a\t b,\xE3\x80\x80"
                                           "c"),
              "[a][b,][c]");
    CHECK_STR(kind_words(TOK_SPLIT_BERT, "a,$b  \xE3\x80\x82"), "[a][,][$][b][\xE3\x80\x82]");
    CHECK_STR(kind_words(TOK_SPLIT_PUNCTUATION, "a!?b"), "[a][!][?][b]");
    CHECK_STR(kind_words(TOK_SPLIT_DIGITS, "a12\xC2\xBD"
                                           "b"),
              "[a][12\xC2\xBD][b]");
    CHECK_STR(kind_words(TOK_SPLIT_METASPACE, "a\xE2\x96\x81"
                                              "b\xE2\x96\x81\xE2\x96\x81"
                                              "c"),
              "[a][\xE2\x96\x81"
              "b][\xE2\x96\x81][\xE2\x96\x81"
              "c]");
    CHECK_STR(kind_words(TOK_SPLIT_LENGTH, "ab\xC3\xA9"
                                           "de"),
              "[ab][\xC3\xA9"
              "d][e]");
    CHECK_STR(
        kind_words(TOK_SPLIT_SCRIPTS, "abc\xD0\xB9\xD0\xB8 de\xE3\x81\x82\xE4\xB8\xAD\xE3\x83\xBC"),
        "[abc][\xD0\xB9\xD0\xB8 ][de][\xE3\x81\x82\xE4\xB8\xAD\xE3\x83\xBC]");
    tok_split digits = {.kind = TOK_SPLIT_DIGITS, .each = true};
    CHECK_STR(words_of(&digits, 1, S("a12b")), "[a][1][2][b]");
    CHECK_STR(words_of(NULL, 0, S("all of it")), "[all of it]");
    CHECK_STR(words_of(NULL, 0, S("")), "");
}

/* --- other patterns ------------------------------------------------------------------------ */

TEST(tok_split_other_patterns_run_in_pcre2) {
    CHECK_STR(pattern_words("(a|b)c", "xacbc"), "[x][ac][bc]");
    CHECK_STR(pattern_words("(?:b)\\p{Han}", "\xFF"
                                             "b\xE4\xB8\xAD\xFF"),
              "[\xFF][b\xE4\xB8\xAD][\xFF]");
    CHECK_STR(pattern_words("x[\\p{L}&&[^a]]+?y", "xabyxcdy"), "[xaby][xcdy]");
    CHECK_STR(pattern_words("(x)[a[bc]]", "xbxd"), "[xb][xd]");
    CHECK_STR(pattern_words("(?=x)", "axbx"), "[a][xb][x]");
    CHECK_STR(pattern_words("(?:)\\u4e2d", "a\xE4\xB8\xAD"), "[a][\xE4\xB8\xAD]");
    CHECK_STR(pattern_words("(?:)\\w+", "\xE0\xA4\xA8\xE0\xA4\xBF a"),
              "[\xE0\xA4\xA8\xE0\xA4\xBF][ ][a]");
}

static status create_error(const char *pattern, error *err) {
    tok_split step = {.kind = TOK_SPLIT_REGEX, .pattern = str_of(pattern)};
    tok_splitter *s = NULL;
    status st = tok_splitter_create(&s, &step, 1, err);
    tok_splitter_destroy(s);
    return st;
}

TEST(tok_split_broken_patterns_are_errors) {
    error err = {0};
    CHECK_EQ(create_error("a(b", &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "at byte 3 of 3");
    CHECK_EQ(create_error("[z-a]", &err), ERR_FORMAT);
    CHECK_EQ(create_error("[a", &err), ERR_FORMAT);
    CHECK_EQ(create_error("[a[^b]]", &err), ERR_UNSUPPORTED);
    CHECK_EQ(create_error("[^a&&b]", &err), ERR_UNSUPPORTED);
    CHECK_EQ(create_error("\xFF(a)", &err), ERR_FORMAT);
    CHECK_EQ(create_error("(?C1)(a|\\C)", &err), ERR_FORMAT);
}

/* --- hostile input ------------------------------------------------------------------------- */

TEST(tok_split_patterns_that_blow_up_are_limit_errors) {
    static const char *const patterns[] = {"(a+)+b", "(a|aa)+$x", "(?:a*)*c", "(.*)(.*)(.*)!!",
                                           "(a+)+(?=b)"};
    enum { BYTES = 20000 };
    char *text = mem_alloc(BYTES);
    memset(text, 'a', BYTES);
    memcpy(text + BYTES - 4, "!bxc", 4); /* so that PCRE2 cannot see at once that nothing matches */
    for (uint32_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        tok_split step = {.kind = TOK_SPLIT_REGEX, .pattern = str_of(patterns[i])};
        tok_splitter *s = NULL;
        buf words, spare;
        error err = {0};
        buf_init(&words, SIZE_MAX / 2);
        buf_init(&spare, SIZE_MAX / 2);
        CHECK_EQ(tok_splitter_create(&s, &step, 1, &err), OK);
        CHECK_EQ(tok_split_text(s, (str){text, BYTES}, &words, &spare, &err), ERR_LIMIT);
        tok_splitter_destroy(s);
        buf_deinit(&words);
        buf_deinit(&spare);
    }
    mem_free(text);
}

TEST(tok_split_every_failing_allocation_is_reported) {
    const tok_family *f = tok_family_find(S("chameleon"));
    status st = ERR_NOMEM;
    for (int64_t allowed = 0; st != OK && allowed < 400; allowed++) {
        tok_splitter *s = NULL;
        buf words, spare;
        buf_init(&words, 4096);
        buf_init(&spare, 4096);
        mem_fail_after(allowed);
        st = tok_splitter_create(&s, f->splits, f->splits_count, NULL);
        if (st == OK) st = tok_split_text(s, S("a <sentinel:1>\xFF 12"), &words, &spare, NULL);
        mem_fail_after(-1);
        CHECK(st == OK || st == ERR_NOMEM);
        tok_splitter_destroy(s);
        buf_deinit(&words);
        buf_deinit(&spare);
    }
    CHECK_EQ(st, OK);
}

typedef struct split_job {
    tok_splitter *s;
    const char *text;
    buf words, spare;
} split_job;

static void split_some(void *arg, size_t bytes) {
    split_job *j = arg;
    CHECK_EQ(tok_split_text(j->s, (str){j->text, bytes}, &j->words, &j->spare, NULL), OK);
}

static double split_growth(const tok_family *f, str text) {
    split_job j = {.text = text.p};
    buf_init(&j.words, SIZE_MAX / 2);
    buf_init(&j.spare, SIZE_MAX / 2);
    CHECK_EQ(tok_splitter_create(&j.s, f->splits, f->splits_count, NULL), OK);
    double growth = growth_of(split_some, &j, text.n / 4);
    tok_splitter_destroy(j.s);
    buf_deinit(&j.words);
    buf_deinit(&j.spare);
    return growth;
}

TEST(tok_split_time_is_linear_in_hostile_text) {
    static const char *const units[] = {
        "a",
        "A",
        "7",
        " ",
        "\n",
        "\r",
        "'",
        "/",
        "\xE2\x80\x89",
        "\xFF",
        "\xCC\x81",
        "\xE4\xB8\xAD",
        "\xF0\x9F\x98\x80",
        "\xC2\xAA",
        "a ",
        " '",
        "\n ",
        "The quick brown fox, it's 12 o'clock. ",
    };
    enum { BYTES = 1 << 14 };
    char *text = mem_alloc(BYTES);
    for (uint32_t u = 0; u < sizeof units / sizeof *units; u++) {
        for (size_t i = 0, n = strlen(units[u]); i < BYTES; i++) text[i] = units[u][i % n];
        text[BYTES / 4 - 1] = text[BYTES - 1] = 'x'; /* what a run promised is not kept */
        for (uint32_t k = 0; k < FAMILIES; k++) {
            const tok_family *f = tok_family_find(str_of(family_names[k]));
            if (split_growth(f, (str){text, BYTES}) < GROWTH_MAX) continue;
            (void)fprintf(stderr, "%s on %s: ", family_names[k], units[u]);
            CHECK(!"linear");
        }
    }
    mem_free(text);
}
