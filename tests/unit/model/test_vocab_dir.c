/* test_vocab_dir.c - directories: which file is taken, what the files beside it add, and the
 * recorded ids of real and published vocabularies. */
#include <jansson.h>
#include <sys/stat.h>

#include "text/detok.h"
#include "text/tokenizer.h"
#include "vocab_rig.h"

#define WORDS "\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"a\",\"vocab\":{\"a\":0,\"b\":1,"
#define REST  "\"<s>\":2,\"</s>\":3,\"<|x|>\":4}}"

static void put(vocab_rig *r, const char *name, const char *text) {
    rig_put(r, name, str_of(text));
}

/* --- which file -------------------------------------------------------------------- */
TEST(vocab_dir_without_a_tokenizer_says_what_it_looked_for) {
    vocab_rig r;
    rig_init(&r);
    const char *msg = rig_open(&r);
    CHECK_HAS(msg, "no tokenizer in '/tmp/gantry-vocab-");
    CHECK_HAS(msg, "tokenizer.json, tokenizer.model, spiece.model, vocab.json with merges.txt, "
                   "encoder.json with vocab.bpe, vocab.txt");
    put(&r, "vocab.json", "{\"a\":0}");
    CHECK_HAS(rig_open(&r), "vocab.json: there is no merges.txt beside it");
    put(&r, "tokenizer.json", "");
    CHECK_HAS(rig_open(&r), "is empty (0 bytes)");
    rig_deinit(&r);
}

TEST(vocab_dir_takes_one_of_its_files_for_the_whole) {
    vocab_rig r;
    char path[160];
    error err = {0};
    model *m = NULL;
    rig_init(&r);
    put(&r, "special_tokens_map.json", "{\"eos_token\":\"</s>\"}");
    put(&r, "other.json", " \n{" WORDS REST "}");
    (void)snprintf(path, sizeof path, "%s/other.json", r.dir);
    CHECK_EQ(model_open_vocab(&m, path, &err), OK);
    CHECK_STR(err.msg, "");
    if (m != NULL) CHECK_EQ(m->vocab.eos_id, 3);
    if (m != NULL) CHECK_HAS(m->name, "gantry-vocab-");
    model_close(m);
    m = NULL;
    put(&r, "data.bin", "{x");
    (void)snprintf(path, sizeof path, "%s/none.json", r.dir);
    CHECK_EQ(model_open_vocab(&m, path, &err), ERR_NOT_FOUND);
    put(&r, "data.gguf", "no model");
    (void)snprintf(path, sizeof path, "%s/data.gguf", r.dir);
    CHECK_EQ(model_open_vocab(&m, path, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "gguf");
    put(&r, "data.gguf", " ");
    CHECK_EQ(model_open_vocab(&m, path, &err), ERR_FORMAT);
    rig_deinit(&r);
}

/* What a file without a known name is, its first bytes tell. */
TEST(vocab_dir_knows_files_by_their_first_bytes) {
    static const struct {
        const char *name, *words;
        str bytes;
    } rows[] = {
        {"x.model", "x.model: byte 2: model: a field of 5 bytes, 0 are left", S("\n\5")},
        {"x.bin", "gguf", S("\n\5")},   /* SentencePiece's first byte, but not its name */
        {"x.model", "gguf", S("GG\n")}, /* its name, but not its first byte */
        {"x.json", "gguf", S(" \0{}")}, /* NUL is no white space */
        {"x.json", "gguf", S(" \t\r\n")},
        {"x.json", "x.json: key 'model' is missing", S(" \t\r\n{}")},
    };
    vocab_rig r;
    rig_init(&r);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[160];
        model *m = NULL;
        error err = {0};
        rig_put(&r, rows[i].name, rows[i].bytes);
        (void)snprintf(path, sizeof path, "%s/%s", r.dir, rows[i].name);
        CHECK_EQ(model_open_vocab(&m, path, &err), ERR_FORMAT);
        CHECK_HAS(err.msg, rows[i].words);
    }
    rig_deinit(&r);
}

TEST(vocab_dir_takes_a_file_of_the_current_directory) {
    vocab_rig r;
    char before[1024];
    error err = {0};
    model *m = NULL;
    rig_init(&r);
    put(&r, "tokenizer.json", "{" WORDS REST "}");
    put(&r, "config.json", "{\"eos_token_id\":3}");
    CHECK(getcwd(before, sizeof before) != NULL && chdir(r.dir) == 0);
    CHECK_EQ(model_open_vocab(&m, "tokenizer.json", &err), OK);
    CHECK_EQ(chdir(before), 0);
    CHECK_STR(err.msg, "");
    if (m != NULL) CHECK_STR(m->name, "tokenizer.json"); /* there is no directory to name it by */
    if (m != NULL) CHECK_EQ(m->vocab.eos_id, 3);
    model_close(m);
    rig_deinit(&r);
}

TEST(vocab_dir_refuses_files_of_more_than_a_gibibyte) {
    vocab_rig r;
    char path[160];
    rig_init(&r);
    put(&r, "tokenizer.json", "{");
    (void)snprintf(path, sizeof path, "%s/tokenizer.json", r.dir);
    CHECK_EQ(truncate(path, ((off_t)1 << 30) + 1), 0); /* a hole: no such bytes on the disk */
    CHECK_HAS(rig_open(&r), "tokenizer.json' has 1073741825 bytes, at most 1073741824");
    rig_deinit(&r);
}

TEST(vocab_dir_reads_the_template_for_tools_from_its_folder) {
    vocab_rig r;
    static char text[(1 << 20) + 2];
    const char *name = "additional_chat_templates/tool_use.jinja";
    rig_init(&r);
    put(&r, "tokenizer.json", "{" WORDS REST "}");
    put(&r, name, "{{ tools }}");
    CHECK_STR(rig_open(&r), "");
    if (r.m != NULL) CHECK(str_eq_c(r.m->chat_template_tools, "{{ tools }}"));
    memset(text, 'x', sizeof text - 1);
    put(&r, name, text);
    CHECK_HAS(rig_open(&r), "tool_use.jinja: 1048577 bytes, at most 1048576");
    rig_deinit(&r);
}

TEST(vocab_dir_refuses_paths_that_are_too_long) {
    char path[5000];
    error err = {0};
    model *m = NULL;
    memset(path, 'x', sizeof path); /* as a file; with "/." it would be one byte too long */
    path[4095] = '\0';
    CHECK_EQ(model_open_vocab(&m, path, &err), ERR_IO);
    memset(path, 'x', sizeof path);
    path[sizeof path - 1] = '\0';
    CHECK_EQ(model_open_vocab(&m, path, &err), ERR_LIMIT);
    CHECK_HAS(err.msg, "the path has 4999 bytes, at most 4095");
    memset(path, '/', 4090);
    memcpy(path, "/tmp", 4);
    path[4090] = '\0';
    CHECK_EQ(model_open_vocab(&m, path, &err), ERR_LIMIT);
    CHECK_HAS(err.msg, "the path of 'tokenizer.json' has 4104 bytes");
}

/* --- what is beside it --------------------------------------------------------------- */
TEST(vocab_dir_takes_special_tokens_from_the_files_beside) {
    vocab_rig r;
    rig_init(&r);
    put(&r, "tokenizer_config.json",
        "{\"bos_token\":{\"content\":\"<s>\",\"lstrip\":false},\"unk_token\":null,"
        "\"add_bos_token\":true,\"add_eos_token\":true,\"pad_token\":\"b\","
        "\"additional_special_tokens\":[\"<|x|>\",\"gone\"]}");
    put(&r, "special_tokens_map.json", "{\"eos_token\":\"</s>\",\"bos_token\":\"a\"}");
    put(&r, "generation_config.json", "{\"eos_token_id\":[3,4,1],\"bos_token_id\":1}");
    put(&r, "config.json", "{\"eos_token_id\":0}");
    const tok_vocab *v = rig_vocab(&r, WORDS REST);
    CHECK_EQ(v->bos_id, 2);
    CHECK_EQ(v->eos_id, 3);
    CHECK_EQ(v->unk_id, 0);
    CHECK_EQ(v->ends_count, 2);
    CHECK(v->ends[0] == 4 && v->ends[1] == 1);
    CHECK(v->before_count == 1 && v->before[0] == 2);
    CHECK(v->after_count == 1 && v->after[0] == 3);
    CHECK_EQ(v->types[1], TOK_TYPE_NORMAL);
    CHECK_EQ(v->types[2], TOK_TYPE_CONTROL);
    CHECK_EQ(v->types[4], TOK_TYPE_CONTROL);
    rig_deinit(&r);
}

TEST(vocab_dir_takes_ids_where_no_text_is_given) {
    vocab_rig r;
    rig_init(&r);
    put(&r, "config.json", "{\"eos_token_id\":3,\"bos_token_id\":2,\"x\":{}}");
    const tok_vocab *v = rig_vocab(&r, WORDS REST);
    CHECK(v->bos_id == 2 && v->eos_id == 3 && v->ends_count == 0);
    put(&r, "config.json", "{\"eos_token_id\":-1,\"bos_token_id\":null}");
    v = rig_vocab(&r, WORDS REST);
    CHECK(v->bos_id == TOK_ID_NONE && v->eos_id == TOK_ID_NONE);
    put(&r, "config.json", "{\"eos_token_id\":5}");
    CHECK_HAS(rig_open(&r), "eos_token_id is 5, the vocabulary has 5 tokens");
    put(&r, "config.json", "{\"eos_token_id\":[3,5]}");
    CHECK_HAS(rig_open(&r), "eos_token_id is 5, the vocabulary has 5 tokens");
    put(&r, "config.json", "{\"bos_token_id\":5}");
    CHECK_HAS(rig_open(&r), "bos_token_id is 5");
    put(&r, "config.json", "{\"eos_token_id\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}");
    CHECK_HAS(rig_open(&r), "config.json: eos_token_id");
    put(&r, "config.json", "{\"eos_token_id\":\"x\"}");
    CHECK_HAS(rig_open(&r), "config.json: eos_token_id: want ");
    put(&r, "config.json", "[]");
    CHECK_HAS(rig_open(&r), "config.json: the document: want object, found array");
    rig_deinit(&r);
}

TEST(vocab_dir_lets_the_configuration_change_added_tokens) {
    vocab_rig r;
    rig_init(&r);
    put(&r, "tokenizer_config.json",
        "{\"added_tokens_decoder\":{\"4\":{\"content\":\"<|y|>\",\"special\":false},"
        "\"1\":{\"content\":\"b\",\"special\":true,\"rstrip\":true,\"lstrip\":true,"
        "\"single_word\":true},\"7\":{\"content\":\"<n>\",\"normalized\":false},"
        "\"8\":{\"content\":\"\"}}}");
    const tok_vocab *v = rig_vocab(&r, WORDS REST);
    CHECK_EQ(v->count, 8);
    CHECK(str_eq_c(v->pieces[4], "<|y|>") && v->types[4] == TOK_TYPE_USER_DEFINED);
    CHECK_EQ(v->flags[4], TOK_FLAG_NORMALIZED);
    CHECK_EQ(v->types[1], TOK_TYPE_CONTROL);
    CHECK_EQ(v->flags[1], TOK_FLAG_RSTRIP | TOK_FLAG_LSTRIP | TOK_FLAG_SINGLE_WORD);
    CHECK(str_eq_c(v->pieces[7], "<n>") && v->flags[7] == 0);
    CHECK_EQ(v->types[6], TOK_TYPE_UNUSED);
    static const char *const bad[][2] = {
        {"{\"added_tokens_decoder\":{\"x\":{}}}", "added_tokens_decoder.x: the key is no id"},
        {"{\"added_tokens_decoder\":{\"4194304\":{}}}", "4194304: the key is no id, 0 to 4194303"},
        {"{\"added_tokens_decoder\":{\"1\":5,\"2\":6}}", "want object, found number"},
        {"{\"added_tokens_decoder\":{\"1\":{}}}", "content: is required"},
        {"{\"added_tokens_decoder\":[]}", "want object, found array"},
        {"{\"bos_token\":5}", "bos_token: want string, found number"},
        {"{\"bos_token\":{}}", "bos_token.content: is required"},
        {"{\"add_bos_token\":5}", "add_bos_token: want"},
        {"{\"tokenizer_class\":5}", "tokenizer_class: want string"},
        {"{\"chat_template\":5}", "chat_template: want string"},
        {"{\"chat_template\":[5]}", "chat_template[0]: want object"},
        {"{\"chat_template\":[{\"name\":\"default\"}]}", "chat_template[0].template: is required"},
        {"{", "tokenizer_config.json: json: "},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put(&r, "tokenizer_config.json", bad[i][0]);
        CHECK_HAS(rig_open(&r), "tokenizer_config.json: ");
        CHECK_HAS(rig_open(&r), bad[i][1]);
    }
    rig_deinit(&r);
}

TEST(vocab_dir_reads_chat_templates_from_all_their_places) {
    vocab_rig r;
    rig_init(&r);
    put(&r, "tokenizer_config.json", "{\"chat_template\":\"config\"}");
    (void)rig_vocab(&r, WORDS REST);
    CHECK(r.m != NULL && str_eq_c(r.m->chat_template, "config"));
    CHECK(r.m != NULL && r.m->chat_template_tools.n == 0);
    put(&r, "tokenizer_config.json",
        "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"tools\"},"
        "{\"name\":\"default\",\"template\":\"plain\"},{\"name\":\"rag\",\"template\":\"r\"}]}");
    CHECK_STR(rig_open(&r), "");
    CHECK(r.m != NULL && str_eq_c(r.m->chat_template, "plain"));
    CHECK(r.m != NULL && str_eq_c(r.m->chat_template_tools, "tools"));
    put(&r, "chat_template.json", "{\"chat_template\":\"json\"}");
    CHECK_STR(rig_open(&r), "");
    CHECK(r.m != NULL && str_eq_c(r.m->chat_template, "json"));
    put(&r, "chat_template.jinja", "jinja");
    CHECK_STR(rig_open(&r), "");
    CHECK(r.m != NULL && str_eq_c(r.m->chat_template, "jinja"));
    char *big = calloc(1, (1 << 20) + 2);
    memset(big, 'x', (1 << 20) + 1);
    put(&r, "chat_template.jinja", big);
    CHECK_HAS(rig_open(&r), "chat_template.jinja: 1048577 bytes, at most 1048576");
    free(big);
    rig_deinit(&r);
}

TEST(vocab_dir_llama_classes_obey_the_configuration) {
    vocab_rig r;
    rig_init(&r);
    const char *frame = WORDS REST ",\"post_processor\":{\"type\":\"BertProcessing\","
                                   "\"cls\":[\"a\",0],\"sep\":[\"b\",1]}";
    put(&r, "tokenizer_config.json",
        "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\","
        "\"add_bos_token\":true,\"add_eos_token\":true}");
    const tok_vocab *v = rig_vocab(&r, frame);
    CHECK(v->before_count == 1 && v->before[0] == 0 && v->after_count == 1);
    put(&r, "tokenizer_config.json",
        "{\"tokenizer_class\":\"LlamaTokenizerFast\",\"bos_token\":\"<s>\",\"eos_token\":\"b\","
        "\"add_bos_token\":true,\"add_eos_token\":false}");
    v = rig_vocab(&r, frame);
    CHECK(v->before_count == 2 && v->before[0] == 2 && v->after_count == 0);
    put(&r, "tokenizer_config.json",
        "{\"tokenizer_class\":\"GemmaTokenizer\",\"bos_token\":\"a\",\"eos_token\":\"</s>\","
        "\"add_bos_token\":false,\"add_eos_token\":true}");
    v = rig_vocab(&r, frame);
    CHECK(v->before_count == 0 && v->after_count == 2 && v->after[1] == 3);
    put(&r, "tokenizer_config.json",
        "{\"tokenizer_class\":\"LlamaTokenizer\",\"bos_token\":\"<s>\"}");
    v = rig_vocab(&r, WORDS REST);
    CHECK(v->before_count == 1 && v->before[0] == 2 && v->after_count == 0);
    rig_deinit(&r);
}

/* --- vocab.json with merges.txt ---------------------------------------------------------- */
/* Pieces of `digits` digits each, and signs with letters where `mixed`. */
static void put_pairs(vocab_rig *r, uint32_t digits, bool mixed) {
    buf b;
    uint32_t id = 0, numbers = 1;
    buf_init(&b, 1 << 20);
    buf_printf(&b, "{\"a\":%u,\"b\":%u,\"ab\":%u,\"<|endoftext|>\":%u", id, id + 1, id + 2, id + 3);
    id += 4;
    for (uint32_t i = 0; i < digits; i++) numbers *= 10;
    for (uint32_t i = 0; i < numbers; i++) buf_printf(&b, ",\"%0*u\":%u", (int)digits, i, id++);
    for (char c = 'a'; mixed && c <= 'z'; c++) buf_printf(&b, ",\".%c%c\":%u", c, c, id++);
    buf_put_char(&b, '}');
    rig_put(r, "vocab.json", buf_view(&b));
    buf_deinit(&b);
}

static str pattern_of(const vocab_rig *r) {
    bool has = r->m != NULL && r->m->vocab.splits_count > 0;
    return has ? r->m->vocab.splits[0].pattern : S("");
}

TEST(vocab_dir_pairs_tell_their_family) {
    vocab_rig r;
    rig_init(&r);
    put(&r, "merges.txt", "#version: 0.2\r\n\na b\r\n");
    put_pairs(&r, 3, false);
    CHECK_STR(rig_open(&r), "");
    CHECK(str_starts(pattern_of(&r), S("'s|'t")));
    if (r.m != NULL) {
        const tok_vocab *v = &r.m->vocab;
        CHECK(v->form == TOK_FORM_BYTE_LEVEL && v->merges_count == 1 && v->drop_unknown);
        CHECK(v->bos_id == 3 && v->eos_id == 3 && v->types[3] == TOK_TYPE_CONTROL);
        CHECK(v->before_count == 0 && v->after_count == 0);
    }
    put_pairs(&r, 3, true);
    CHECK_STR(rig_open(&r), "");
    CHECK(memmem(pattern_of(&r).p, pattern_of(&r).n, "{1,3}", 5) != NULL);
    CHECK(r.m != NULL && r.m->vocab.ignore_merges);
    put_pairs(&r, 1, true);
    CHECK_STR(rig_open(&r), "");
    CHECK(memmem(pattern_of(&r).p, pattern_of(&r).n, "\\p{N}|", 6) != NULL);
    put_pairs(&r, 4, true);
    CHECK_STR(rig_open(&r), "");
    CHECK(str_starts(pattern_of(&r), S("'s|'t")));
    put(&r, "tokenizer_config.json", "{\"tokenizer_class\":\"Qwen2TokenizerFast\"}");
    CHECK_STR(rig_open(&r), "");
    CHECK(r.m != NULL && r.m->vocab.bos_id == TOK_ID_NONE && r.m->vocab.eos_id == 3);
    CHECK(r.m != NULL && r.m->vocab.norms_count == 1 && r.m->vocab.norms[0].kind == TOK_NORM_NFC);
    put(&r, "tokenizer_config.json",
        "{\"tokenizer_class\":\"RobertaTokenizer\",\"bos_token\":"
        "\"a\",\"eos_token\":\"b\"}");
    CHECK_STR(rig_open(&r), "");
    CHECK(r.m != NULL && r.m->vocab.before_count == 1 && r.m->vocab.after_count == 1);
    put(&r, "tokenizer_config.json",
        "{\"tokenizer_class\":\"BartTokenizer\",\"bos_token\":\"a\",\"eos_token\":\"b\","
        "\"add_bos_token\":false,\"add_eos_token\":false}");
    CHECK_STR(rig_open(&r), "");
    CHECK(r.m != NULL && r.m->vocab.before_count == 0 && r.m->vocab.after_count == 0);
    put(&r, "vocab.json", "{\"a</w>\":0}");
    CHECK_HAS(rig_open(&r), "pieces end in </w>");
    put(&r, "vocab.json", "{\"a\":0} 1");
    CHECK_HAS(rig_open(&r), "text behind the document");
    put(&r, "vocab.json", "{\"a\":0}");
    put(&r, "merges.txt", "ab");
    CHECK_HAS(rig_open(&r), "vocab.json: merge 0 is 'ab', not two pieces");
    rig_deinit(&r);
}

/* All numbers of three digits, and yet the pattern is another: a longer one, a number with a letter
 * behind it; digits alone, and two of them together. */
TEST(vocab_dir_pairs_weigh_the_evidence) {
    static const struct {
        uint32_t digits;
        const char *more, *pattern;
    } rows[] = {
        {3, "\"12x\":90000,\"\\u0000\":90001,\".\":90002", "{1,3}"},
        {3, "\"1234\":90000", "'s|'t"},
        {1, "\"12\":90000", "'s|'t"},
        {1, "\"7x\":90000", "\\p{N}|"},
    };
    vocab_rig r;
    rig_init(&r);
    put(&r, "merges.txt", "a b\n");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[160];
        put_pairs(&r, rows[i].digits, true);
        (void)snprintf(path, sizeof path, "%s/vocab.json", r.dir);
        FILE *fp = fopen(path, "r+b"); /* the closing brace gives way */
        CHECK(fp != NULL && fseek(fp, -1, SEEK_END) == 0 && fprintf(fp, ",%s}", rows[i].more) > 0);
        if (fp != NULL) (void)fclose(fp);
        CHECK_STR(rig_open(&r), "");
        str p = pattern_of(&r);
        CHECK(memmem(p.p, p.n, rows[i].pattern, strlen(rows[i].pattern)) != NULL);
    }
    rig_deinit(&r);
}

/* --- recorded ids ---------------------------------------------------------------------- */
static bool has_ids(const buf *ids, json_t *want) {
    if (ids->n != json_array_size(want) * sizeof(int32_t)) return false;
    for (size_t i = 0; i < json_array_size(want); i++) {
        int32_t id = 0;
        memcpy(&id, ids->p + i * sizeof id, sizeof id);
        if (id != json_integer_value(json_array_get(want, i))) return false;
    }
    return true;
}

static void check_prompt(const tokenizer *t, json_t *prompt, const char *key, bool special,
                         bool parse) {
    buf ids;
    error err = {0};
    json_t *text = json_object_get(prompt, "text");
    tok_options opt = {.add_special = special, .parse_special = parse, .tokens_max = UINT32_MAX};
    buf_init(&ids, 1 << 20);
    str s = {json_string_value(text), json_string_length(text)};
    CHECK_EQ(tok_encode(t, s, &opt, &ids, &err), OK);
    bool same = has_ids(&ids, json_object_get(prompt, key));
    CHECK(same);
    if (!same) (void)fprintf(stderr, "  %s of \"%.*s\"\n", key, STR(s));
    buf_deinit(&ids);
}

static void check_directory(const char *path, json_t *prompts) {
    model *m = NULL;
    tokenizer *t = NULL;
    error err = {0};
    CHECK_EQ(model_open_vocab(&m, path, &err), OK);
    if (m != NULL) CHECK_EQ(tok_create(&t, &m->vocab, &err), OK);
    CHECK_STR(err.msg, "");
    for (size_t i = 0; t != NULL && i < json_array_size(prompts); i++) {
        json_t *p = json_array_get(prompts, i);
        check_prompt(t, p, "ids", true, false);
        check_prompt(t, p, "ids_no_bos", false, false);
        check_prompt(t, p, "ids_parse_special", true, true);
    }
    tok_destroy(t);
    model_close(m);
}

TEST(vocab_dir_gives_the_recorded_ids_of_stories260k) {
    static const char *const places[] = {"hf-f32", "hf-bf16-2shards", "hf-f16",
                                         "hf-f32/tokenizer.model", "hf-f32/tokenizer.json"};
    SHARED_OR_SKIP(root, "oracle/public/stories260k");
    char path[1200];
    (void)snprintf(path, sizeof path, "%s/index.json", root);
    json_t *index = json_load_file(path, 0, NULL);
    json_t *prompts = json_object_get(index, "prompts");
    CHECK(json_array_size(prompts) == 10);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", root, places[i]);
        check_directory(path, prompts);
    }
    json_decref(index);
}

/* The next text of a file whose texts are cut by `mark`; false at the end. */
static bool next_part(str *rest, str mark, str *out) {
    if (rest->p == NULL) return false;
    const char *end = memmem(rest->p, rest->n, mark.p, mark.n);
    *out = (str){rest->p, end != NULL ? (size_t)(end - rest->p) : rest->n};
    *rest = end != NULL ? str_skip(*rest, out->n + mark.n) : (str){NULL, 0};
    return true;
}

static str slurp(const char *path) {
    FILE *fp = fopen(path, "rb");
    char *bytes = calloc(1, 1 << 20);
    size_t n = fp != NULL ? fread(bytes, 1, 1 << 20, fp) : 0;
    if (fp != NULL) (void)fclose(fp);
    return (str){bytes, n};
}

static void check_line(const tokenizer *t, str text, str want) {
    buf ids, shown;
    error err = {0};
    tok_options opt = {.tokens_max = UINT32_MAX};
    buf_init(&ids, 1 << 20);
    buf_init(&shown, 1 << 20);
    CHECK_EQ(tok_encode(t, text, &opt, &ids, &err), OK);
    for (size_t i = 0; i < ids.n; i += sizeof(int32_t)) {
        int32_t id = 0;
        memcpy(&id, ids.p + i, sizeof id);
        buf_printf(&shown, " %d", id);
    }
    bool same = str_eq(buf_view(&shown), want);
    CHECK(same);
    if (!same) (void)fprintf(stderr, "  \"%.*s\"\n", STR(text));
    buf_deinit(&ids);
    buf_deinit(&shown);
}

TEST(vocab_dir_gives_the_published_ids_of_llama_3) {
    SHARED_OR_SKIP(dir, "suites/tokenizer-vectors/ollama-llama3.2");
    SHARED_OR_SKIP(in, "suites/tokenizer-vectors/llama.cpp/ggml-vocab-llama-bpe.gguf.inp");
    SHARED_OR_SKIP(out, "suites/tokenizer-vectors/llama.cpp/ggml-vocab-llama-bpe.gguf.out");
    model *m = NULL;
    tokenizer *t = NULL;
    error err = {0};
    CHECK_EQ(model_open_vocab(&m, dir, &err), OK);
    if (m != NULL) CHECK_EQ(tok_create(&t, &m->vocab, &err), OK);
    CHECK_STR(err.msg, "");
    str texts = slurp(in), lines = slurp(out);
    str text, line, rest_texts = texts, rest_lines = lines;
    int count = 0;
    while (t != NULL && next_part(&rest_texts, S("\n__ggml_vocab_test__\n"), &text) &&
           next_part(&rest_lines, S("\n"), &line)) {
        check_line(t, text, line);
        count++;
    }
    CHECK_EQ(count, 47);
    free((void *)(uintptr_t)texts.p);
    free((void *)(uintptr_t)lines.p);
    tok_destroy(t);
    model_close(m);
}

static void check_ids_file(const char *dir, const char *name) {
    char path[1200];
    model *a = NULL, *b = NULL;
    error err = {0};
    (void)snprintf(path, sizeof path, "%s/%s/hf-bf16", dir, name);
    CHECK_EQ(model_open_vocab(&a, path, &err), OK);
    (void)snprintf(path, sizeof path, "%s/%s/model-f32.gguf", dir, name);
    CHECK_EQ(model_open_vocab(&b, path, &err), OK);
    CHECK_STR(err.msg, "");
    if (a != NULL && b != NULL) {
        CHECK_EQ(a->vocab.count, b->vocab.count);
        CHECK_EQ(a->vocab.bos_id, b->vocab.bos_id);
        CHECK_EQ(a->vocab.eos_id, b->vocab.eos_id);
        CHECK_EQ(a->vocab.before_count, b->vocab.before_count);
        for (uint32_t i = 0; i < a->vocab.count; i++) {
            CHECK(str_eq(a->vocab.pieces[i], b->vocab.pieces[i]));
            CHECK_EQ(a->vocab.types[i], b->vocab.types[i]);
            CHECK(a->vocab.scores[i] == b->vocab.scores[i]);
        }
    }
    model_close(a);
    model_close(b);
}

TEST(vocab_dir_agrees_with_the_gguf_file_of_the_same_model) {
    SHARED_OR_SKIP(dir, "oracle/public/models");
    static const char *const names[] = {"gemma", "llama3-gqa-ropefreqs", "mixtral", "qwen2",
                                        "qwen3"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) check_ids_file(dir, names[i]);
}
