/* test_oracle.c - the tokenizer against recorded ids and bytes of an independent one: every case
 * of the shared fixtures must match exactly, in both directions. */
#include <jansson.h>

#include "base/num.h"
#include "golden_paths.h"
#include "text/detok.h"
#include "text/tok_internal.h"
#include "text/tokenizer.h"
#include "vocab_file.h"

/* Fields of a case: case, add_special, parse_special, text_hex, ids, detok_hex. */
typedef struct oracle_case {
    str field[6];
} oracle_case;

/* Cuts the next line of `rest` into its fields; false at the end. */
static bool next_case(str *rest, oracle_case *c) {
    *c = (oracle_case){0};
    if (rest->n == 0) return false;
    const char *end = memchr(rest->p, '\n', rest->n);
    str line = {rest->p, end != NULL ? (size_t)(end - rest->p) : rest->n};
    *rest = str_skip(*rest, line.n + (end != NULL));
    for (int i = 0; i < 6; i++) {
        const char *tab = line.n > 0 ? memchr(line.p, '\t', line.n) : NULL;
        size_t n = tab != NULL ? (size_t)(tab - line.p) : line.n;
        c->field[i] = (str){line.p, n};
        line = str_skip(line, n + (tab != NULL));
    }
    return true;
}

static void put_unhex(buf *out, str hex) {
    for (size_t i = 0; i + 1 < hex.n; i += 2) {
        char pair[3] = {hex.p[i], hex.p[i + 1], '\0'};
        buf_put_char(out, (char)strtoul(pair, NULL, 16));
    }
}

static void put_hex(buf *out, str bytes) {
    for (size_t i = 0; i < bytes.n; i++) buf_printf(out, "%02x", (unsigned char)bytes.p[i]);
}

static void put_ids(buf *out, const buf *ids, const char *separator) {
    const int32_t *id = (const int32_t *)(const void *)ids->p;
    for (size_t i = 0; i < ids->n / sizeof *id; i++)
        buf_printf(out, "%s%d", i > 0 ? separator : "", id[i]);
}

/* Reports the first few; a wrong vocabulary would fill the screen. */
static bool check_same(const char *name, const char *what, const oracle_case *c, str got,
                       str want) {
    static int shown;
    bool same = str_eq(got, want);
    CHECK(same);
    if (!same && shown++ < 20)
        (void)fprintf(stderr, "  %s: %s of case %.*s (%.*s %.*s): %.*s, want %.*s\n", name, what,
                      STR(c->field[0]), STR(c->field[1]), STR(c->field[2]), STR(got), STR(want));
    return same;
}

/* Texts on which the recording differs from what the models were trained with: a row of pre,
 * text_hex, recorded ids, ids of the published pattern.  Both spell the same text. */
static bool is_known_difference(str known, const char *name, const oracle_case *c, str got) {
    oracle_case row;
    while (next_case(&known, &row))
        if (str_ends(str_of(name), row.field[0]) && str_eq(c->field[3], row.field[1]) &&
            str_ends(got, row.field[3]))
            return true;
    return false;
}

static void check_case(const char *name, const tokenizer *t, const oracle_case *c, str known) {
    buf text, ids, shown, bytes;
    error err = {0};
    buf_init(&text, 1 << 24);
    buf_init(&ids, 1 << 24);
    buf_init(&shown, 1 << 24);
    buf_init(&bytes, 1 << 24);
    put_unhex(&text, c->field[3]);
    tok_options options = {.add_special = str_eq_c(c->field[1], "1"),
                           .parse_special = str_eq_c(c->field[2], "1"),
                           .tokens_max = UINT32_MAX};
    CHECK_EQ(tok_encode(t, buf_view(&text), &options, &ids, &err), OK);
    put_ids(&shown, &ids, ",");
    bool differs = is_known_difference(known, name, c, buf_view(&shown));
    if (!differs) (void)check_same(name, "ids", c, buf_view(&shown), c->field[4]);

    buf_clear(&shown);
    uint32_t count = (uint32_t)(ids.n / sizeof(int32_t));
    CHECK_EQ(tok_decode(t, (const int32_t *)(const void *)ids.p, count, &bytes, &err), OK);
    put_hex(&shown, buf_view(&bytes));
    (void)check_same(name, "bytes", c, buf_view(&shown), c->field[5]);
    buf_deinit(&bytes);
    buf_deinit(&shown);
    buf_deinit(&ids);
    buf_deinit(&text);
}

static void check_cases(const char *name, const tokenizer *t, str cases, str known, int expected) {
    oracle_case c;
    int count = 0;
    (void)next_case(&cases, &c); /* the heading */
    for (; next_case(&cases, &c); count++) check_case(name, t, &c, known);
    CHECK_EQ(count, expected);
}

/* Every vocabulary of the index: name, kind, vocab_gguf, cases, n_cases, oracle. */
TEST(tokenizer_gives_the_recorded_ids_for_every_recorded_vocabulary) {
    SHARED_OR_SKIP(index_path, "oracle/public/tokenizer/index.tsv");
    SHARED_OR_SKIP(known_path, "oracle/public/tokenizer/known_hf_differences.tsv");
    file_bytes index = read_file(index_path), known = read_file(known_path);
    str rest = {index.p, index.n};
    oracle_case row;
    int rows = 0;
    (void)next_case(&rest, &row);
    for (; next_case(&rest, &row); rows++) {
        char path[256];
        vocab_file v;
        (void)snprintf(path, sizeof path, "oracle/public/tokenizer/%.*s", STR(row.field[3]));
        file_bytes cases = read_file(shared_path(path));
        (void)snprintf(path, sizeof path, "oracle/public/tokenizer/%.*s", STR(row.field[2]));
        vocab_file_open(&v, shared_path(path));
        (void)snprintf(path, sizeof path, "%.*s", STR(row.field[0]));
        uint64_t expected = 0;
        CHECK(str_to_u64(row.field[4], &expected) && expected >= 200);
        if (v.tok != NULL)
            check_cases(path, v.tok, (str){cases.p, cases.n}, (str){known.p, known.n},
                        (int)expected);
        vocab_file_close(&v);
        free(cases.p);
    }
    CHECK_EQ(rows, 16);
    free(known.p);
    free(index.p);
}

/* One line of ids per text, texts separated by a marker line. */
static void check_inp_out(const char *name, const tokenizer *t, str inp, str out) {
    const str marker = S("\n__ggml_vocab_test__\n");
    tok_options options = {.tokens_max = UINT32_MAX};
    error err = {0};
    int count = 0;
    while (out.n > 0) {
        const char *end = inp.n > 0 ? memmem(inp.p, inp.n, marker.p, marker.n) : NULL;
        str text = {inp.p, end != NULL ? (size_t)(end - inp.p) : inp.n};
        const char *line_end = memchr(out.p, '\n', out.n);
        str line = {out.p, line_end != NULL ? (size_t)(line_end - out.p) : out.n};
        oracle_case c = {.field = {{line.p, num_min_size(line.n, 40)}, text, S("")}};
        buf ids, shown;
        buf_init(&ids, 1 << 20);
        buf_init(&shown, 1 << 20);
        CHECK_EQ(tok_encode(t, text, &options, &ids, &err), OK);
        if (ids.n > 0) buf_put_char(&shown, ' ');
        put_ids(&shown, &ids, " ");
        (void)check_same(name, "ids", &c, buf_view(&shown), line);
        buf_deinit(&ids);
        buf_deinit(&shown);
        inp = str_skip(inp, text.n + (end != NULL ? marker.n : 0));
        out = str_skip(out, line.n + (line_end != NULL));
        count++;
    }
    CHECK(count > 40);
    CHECK_EQ(inp.n, 0);
}

/* One of the published vocabularies with its texts and ids. */
static void check_published(const char *name) {
    char path[256];
    vocab_file v;
    (void)snprintf(path, sizeof path, "suites/tokenizer-vectors/llama.cpp/ggml-vocab-%s.gguf.inp",
                   name);
    file_bytes inp = read_file(shared_path(path));
    (void)snprintf(path, sizeof path, "suites/tokenizer-vectors/llama.cpp/ggml-vocab-%s.gguf.out",
                   name);
    file_bytes out = read_file(shared_path(path));
    (void)snprintf(path, sizeof path, "suites/tokenizer-vectors/llama.cpp/ggml-vocab-%s.gguf",
                   name);
    vocab_file_open(&v, shared_path(path));
    if (v.tok != NULL) check_inp_out(name, v.tok, (str){inp.p, inp.n}, (str){out.p, out.n});
    vocab_file_close(&v);
    free(inp.p);
    free(out.p);
}

static const char *const PUBLISHED[] = {"bert-bge", "deepseek-coder", "deepseek-llm", "falcon",
                                        "gpt-2",    "llama-spm",      "mpt",          "phi-3",
                                        "refact",   "starcoder"};
enum { PUBLISHED_COUNT = sizeof PUBLISHED / sizeof *PUBLISHED };

TEST(tokenizer_gives_the_ids_of_the_published_vocabulary_tests) {
    SHARED_OR_SKIP(one, "suites/tokenizer-vectors/llama.cpp/ggml-vocab-gpt-2.gguf");
    (void)one;
    for (int i = 0; i < PUBLISHED_COUNT; i++) check_published(PUBLISHED[i]);
}

/* Encodes, decodes, and streams; the text is UTF-8 and no vocabulary is asked to clean up. */
static void check_round_trip(const char *name, const tokenizer *t, str text) {
    buf ids, back, stream;
    detok d;
    error err = {0};
    oracle_case c = {.field = {text, S(""), S("")}};
    tok_options options = {.tokens_max = UINT32_MAX};
    buf_init(&ids, 1 << 20);
    buf_init(&back, 1 << 20);
    buf_init(&stream, 1 << 20);
    CHECK_EQ(tok_encode(t, text, &options, &ids, &err), OK);
    const int32_t *id = (const int32_t *)(const void *)ids.p;
    uint32_t count = (uint32_t)(ids.n / sizeof *id);
    CHECK_EQ(tok_decode(t, id, count, &back, &err), OK);
    (void)check_same(name, "round trip", &c, buf_view(&back), text);
    detok_init(&d, t, true);
    for (uint32_t i = 0; i < count; i++) detok_push(&d, id[i], &stream);
    detok_finish(&d, &stream);
    (void)check_same(name, "stream", &c, buf_view(&stream), text);
    buf_deinit(&stream);
    buf_deinit(&back);
    buf_deinit(&ids);
}

/* Does the vocabulary have a token for each byte of the text? */
static bool has_all_bytes(const tokenizer *t, str text) {
    for (size_t i = 0; i < text.n; i++)
        if (t->bytes[(unsigned char)text.p[i]] == TOK_ID_NONE) return false;
    return true;
}

/* Unknown characters do not come back from word pieces, control characters not from a vocabulary
 * that lacks them, nor U+2581 from where it is a space. */
TEST(tokenizer_gives_naughty_strings_back) {
    SHARED_OR_SKIP(strings_path, "suites/naughty-strings/blns.json");
    SHARED_OR_SKIP(one, "suites/tokenizer-vectors/llama.cpp/ggml-vocab-gpt-2.gguf");
    (void)one;
    file_bytes file = read_file(strings_path);
    json_t *strings = json_loadb(file.p, file.n, JSON_ALLOW_NUL, NULL);
    CHECK(json_array_size(strings) > 500);
    for (int i = 0; i < PUBLISHED_COUNT; i++) {
        char path[256];
        model *m = NULL;
        tokenizer *t = NULL;
        if (strcmp(PUBLISHED[i], "bert-bge") == 0) continue;
        (void)snprintf(path, sizeof path, "suites/tokenizer-vectors/llama.cpp/ggml-vocab-%s.gguf",
                       PUBLISHED[i]);
        CHECK_EQ(model_open_vocab(&m, shared_path(path), NULL), OK);
        if (m == NULL) continue;
        tok_vocab exact = m->vocab;
        exact.decode_cleanup = false;
        CHECK_EQ(tok_create(&t, &exact, NULL), OK);
        for (size_t k = 0; t != NULL && k < json_array_size(strings); k++) {
            const json_t *s = json_array_get(strings, k);
            str text = {json_string_value(s), json_string_length(s)};
            if (memmem(text.p, text.n, "\xE2\x96\x81", 3) != NULL) continue;
            if (!has_all_bytes(t, text)) continue;
            check_round_trip(PUBLISHED[i], t, text);
        }
        tok_destroy(t);
        model_close(m);
    }
    json_decref(strings);
    free(file.p);
}

static void check_prompt(const tokenizer *t, const json_t *prompt, const char *key,
                         tok_options options) {
    const json_t *text = json_object_get(prompt, "text"), *want = json_object_get(prompt, key);
    error err = {0};
    buf ids;
    buf_init(&ids, 1 << 20);
    str view = {json_string_value(text), json_string_length(text)};
    CHECK_EQ(tok_encode(t, view, &options, &ids, &err), OK);
    size_t count = ids.n / sizeof(int32_t);
    const int32_t *id = (const int32_t *)(const void *)ids.p;
    CHECK_EQ(count, json_array_size(want));
    for (size_t i = 0; i < count && i < json_array_size(want); i++)
        CHECK_EQ(id[i], json_integer_value(json_array_get(want, i)));
    buf_deinit(&ids);
}

TEST(tokenizer_gives_the_ids_of_the_stories_prompts) {
    vocab_file v;
    SHARED_OR_SKIP(model_path, "oracle/public/stories260k/gguf/stories260K-F16.gguf");
    SHARED_OR_SKIP(index_path, "oracle/public/stories260k/index.json");
    file_bytes index = read_file(index_path);
    vocab_file_open(&v, model_path);
    json_t *root = json_loadb(index.p, index.n, 0, NULL);
    const json_t *prompts = json_object_get(root, "prompts");
    CHECK(json_array_size(prompts) == 10);
    for (size_t i = 0; v.tok != NULL && i < json_array_size(prompts); i++) {
        const json_t *prompt = json_array_get(prompts, i);
        tok_options options = {.add_special = true, .tokens_max = UINT32_MAX};
        check_prompt(v.tok, prompt, "ids", options);
        options.parse_special = true;
        check_prompt(v.tok, prompt, "ids_parse_special", options);
        options = (tok_options){.tokens_max = UINT32_MAX};
        check_prompt(v.tok, prompt, "ids_no_bos", options);
    }
    json_decref(root);
    vocab_file_close(&v);
    free(index.p);
}
