/* test_oracle.c - the tokenizer against recorded ids and bytes of an independent one: every case
 * of the shared fixtures must match exactly, in both directions. */
#include <jansson.h>

#include "golden_paths.h"
#include "text/detok.h"
#include "text/tokenizer.h"
#include "vocab_file.h"

typedef struct oracle_case {
    str field[6]; /* case, add_special, parse_special, text_hex, ids, detok_hex */
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

static void check_same(const char *what, const oracle_case *c, str got, str want) {
    bool same = str_eq(got, want);
    CHECK(same);
    if (!same)
        (void)fprintf(stderr, "  %s of case %.*s (%.*s %.*s): %.*s, want %.*s\n", what,
                      STR(c->field[0]), STR(c->field[1]), STR(c->field[2]), STR(got), STR(want));
}

static void check_case(const tokenizer *t, const oracle_case *c) {
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
    check_same("ids", c, buf_view(&shown), c->field[4]);

    buf_clear(&shown);
    uint32_t count = (uint32_t)(ids.n / sizeof(int32_t));
    CHECK_EQ(tok_decode(t, (const int32_t *)(const void *)ids.p, count, &bytes, &err), OK);
    put_hex(&shown, buf_view(&bytes));
    check_same("bytes", c, buf_view(&shown), c->field[5]);
    buf_deinit(&bytes);
    buf_deinit(&shown);
    buf_deinit(&ids);
    buf_deinit(&text);
}

static void check_cases(const tok_vocab *vocab, file_bytes cases, int expected) {
    tokenizer *t = NULL;
    error err = {0};
    CHECK_EQ(tok_create(&t, vocab, &err), OK);
    str rest = {cases.p, cases.n};
    oracle_case c;
    int count = 0;
    (void)next_case(&rest, &c); /* the heading */
    for (; t != NULL && next_case(&rest, &c); count++) check_case(t, &c);
    CHECK_EQ(count, expected);
    tok_destroy(t);
}

TEST(tokenizer_gives_the_recorded_ids_for_the_llama_vocabulary) {
    SHARED_OR_SKIP(vocab_path, "oracle/public/tokenizer/ggml-vocab-llama-spm.gguf");
    SHARED_OR_SKIP(cases_path, "oracle/public/tokenizer/llama-spm.cases.tsv");
    file_bytes cases = read_file(cases_path);
    vocab_file v;
    vocab_file_parse(&v, read_file(vocab_path));
    check_cases(&v.vocab, cases, 400);
    vocab_file_free(&v);
    free(cases.p);
}

TEST(tokenizer_gives_the_recorded_ids_for_the_512_token_vocabulary) {
    SHARED_OR_SKIP(vocab_path, "oracle/public/tokenizer/spm-tok512.gguf");
    SHARED_OR_SKIP(cases_path, "oracle/public/tokenizer/spm-tok512.cases.tsv");
    file_bytes cases = read_file(cases_path);
    vocab_file v;
    vocab_file_parse(&v, read_file(vocab_path));
    check_cases(&v.vocab, cases, 400);
    vocab_file_free(&v);
    free(cases.p);
}

/* One line of ids per text, texts separated by a marker line. */
static void check_inp_out(const tokenizer *t, str inp, str out) {
    const str marker = S("\n__ggml_vocab_test__\n");
    tok_options options = {.tokens_max = UINT32_MAX};
    error err = {0};
    int count = 0;
    while (out.n > 0) {
        const char *end = inp.n > 0 ? memmem(inp.p, inp.n, marker.p, marker.n) : NULL;
        str text = {inp.p, end != NULL ? (size_t)(end - inp.p) : inp.n};
        const char *line_end = memchr(out.p, '\n', out.n);
        str line = {out.p, line_end != NULL ? (size_t)(line_end - out.p) : out.n};
        oracle_case c = {.field = {S("inp"), S(""), S("")}};
        buf ids, shown;
        buf_init(&ids, 1 << 20);
        buf_init(&shown, 1 << 20);
        CHECK_EQ(tok_encode(t, text, &options, &ids, &err), OK);
        if (ids.n > 0) buf_put_char(&shown, ' ');
        put_ids(&shown, &ids, " ");
        check_same("ids", &c, buf_view(&shown), line);
        buf_deinit(&ids);
        buf_deinit(&shown);
        inp = str_skip(inp, text.n + (end != NULL ? marker.n : 0));
        out = str_skip(out, line.n + (line_end != NULL));
        count++;
    }
    CHECK(count > 40);
    CHECK_EQ(inp.n, 0);
}

TEST(tokenizer_gives_the_ids_of_the_published_vocabulary_test) {
    vocab_file v;
    tokenizer *t = NULL;
    error err = {0};
    SHARED_OR_SKIP(vocab_path, "oracle/public/tokenizer/ggml-vocab-llama-spm.gguf");
    SHARED_OR_SKIP(inp_path, "oracle/public/tokenizer/ggml-vocab-llama-spm.gguf.inp");
    SHARED_OR_SKIP(out_path, "oracle/public/tokenizer/ggml-vocab-llama-spm.gguf.out");
    file_bytes inp = read_file(inp_path), out = read_file(out_path);
    vocab_file_parse(&v, read_file(vocab_path));
    CHECK_EQ(tok_create(&t, &v.vocab, &err), OK);
    if (t != NULL) check_inp_out(t, (str){inp.p, inp.n}, (str){out.p, out.n});
    tok_destroy(t);
    vocab_file_free(&v);
    free(inp.p);
    free(out.p);
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
    tokenizer *t = NULL;
    error err = {0};
    SHARED_OR_SKIP(model_path, "oracle/public/stories260k/gguf/stories260K-F16.gguf");
    SHARED_OR_SKIP(index_path, "oracle/public/stories260k/index.json");
    file_bytes index = read_file(index_path);
    vocab_file_parse(&v, read_file(model_path));
    json_t *root = json_loadb(index.p, index.n, 0, NULL);
    const json_t *prompts = json_object_get(root, "prompts");
    CHECK(json_array_size(prompts) == 10);
    CHECK_EQ(tok_create(&t, &v.vocab, &err), OK);
    for (size_t i = 0; t != NULL && i < json_array_size(prompts); i++) {
        const json_t *prompt = json_array_get(prompts, i);
        tok_options options = {.add_special = true, .tokens_max = UINT32_MAX};
        check_prompt(t, prompt, "ids", options);
        options.parse_special = true;
        check_prompt(t, prompt, "ids_parse_special", options);
        options = (tok_options){.tokens_max = UINT32_MAX};
        check_prompt(t, prompt, "ids_no_bos", options);
    }
    tok_destroy(t);
    json_decref(root);
    vocab_file_free(&v);
    free(index.p);
}
