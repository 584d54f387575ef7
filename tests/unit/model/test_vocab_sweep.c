/* test_vocab_sweep.c - vocabularies with one thing wrong at a time: every tokenizer key of a GGUF
 * file absent, of another type, too long or out of range, and every JSON value of a model directory
 * replaced by each other kind of value.  Whatever comes, it is a vocabulary or a message. */
#include "base/alloc.h"
#include "gguf_build.h"
#include "text/tokenizer.h"
#include "vocab_rig.h"

/* A vocabulary that was read can be used, or is refused with a message. */
static void use(const model *m) {
    const tok_options options = {.add_special = true, .parse_special = true, .tokens_max = 1000};
    tokenizer *t = NULL;
    error err = {0};
    buf ids;
    if (m->vocab.kind == TOK_KIND_NONE) return;
    if (tok_create(&t, &m->vocab, &err) != OK) {
        CHECK(err.msg[0] != '\0');
        return;
    }
    buf_init(&ids, 1 << 16);
    if (tok_encode(t, S("ab a \xC3\xA4 <s>"), &options, &ids, &err) != OK)
        CHECK(err.msg[0] != '\0');
    buf_deinit(&ids);
    tok_destroy(t);
}

static status open_used(const char *path) {
    error err = {0};
    model *m = NULL;
    status st = model_open_vocab(&m, path, &err);
    if (st == OK)
        use(m);
    else
        CHECK(err.msg[0] != '\0');
    if (st == OK) model_close(m);
    return st;
}

/* --- GGUF ------------------------------------------------------------------------------ */
typedef enum wrong {
    WRONG_NOTHING,
    WRONG_ABSENT,
    WRONG_TYPE,  /* a value of another type */
    WRONG_VALUE, /* an array of another length, an id past the end, a word nobody knows */
    WRONG_END
} wrong;

typedef enum key_form {
    FORM_STR,
    FORM_BOOL,
    FORM_ID,
    FORM_TOKENS,
    FORM_SCORES,
    FORM_TYPES,
    FORM_MERGES,
    FORM_IDS,
    FORM_BYTES
} key_form;

static const struct {
    const char *key;
    key_form form;
    const char *text; /* of FORM_STR; NULL is the kind */
} KEYS[] = {
    {"tokenizer.ggml.model", FORM_STR, NULL},
    {"tokenizer.ggml.pre", FORM_STR, "llama-bpe"},
    {"tokenizer.ggml.tokens", FORM_TOKENS, NULL},
    {"tokenizer.ggml.scores", FORM_SCORES, NULL},
    {"tokenizer.ggml.token_type", FORM_TYPES, NULL},
    {"tokenizer.ggml.merges", FORM_MERGES, NULL},
    {"tokenizer.ggml.bos_token_id", FORM_ID, NULL},
    {"tokenizer.ggml.eos_token_id", FORM_ID, NULL},
    {"tokenizer.ggml.unknown_token_id", FORM_ID, NULL},
    {"tokenizer.ggml.eot_token_id", FORM_ID, NULL},
    {"tokenizer.ggml.eom_token_id", FORM_ID, NULL},
    {"tokenizer.ggml.cls_token_id", FORM_ID, NULL},
    {"tokenizer.ggml.separator_token_id", FORM_ID, NULL},
    {"tokenizer.ggml.seperator_token_id", FORM_ID, NULL},
    {"tokenizer.ggml.fim_pad_token_id", FORM_ID, NULL},
    {"tokenizer.ggml.fim_rep_token_id", FORM_ID, NULL},
    {"tokenizer.ggml.fim_sep_token_id", FORM_ID, NULL},
    {"tokenizer.ggml.eos_token_ids", FORM_IDS, NULL},
    {"tokenizer.ggml.eog_token_ids", FORM_IDS, NULL},
    {"tokenizer.ggml.add_bos_token", FORM_BOOL, NULL},
    {"tokenizer.ggml.add_eos_token", FORM_BOOL, NULL},
    {"tokenizer.ggml.add_space_prefix", FORM_BOOL, NULL},
    {"tokenizer.ggml.remove_extra_whitespaces", FORM_BOOL, NULL},
    {"tokenizer.ggml.normalizer.lowercase", FORM_BOOL, NULL},
    {"tokenizer.ggml.normalizer.strip_accents", FORM_BOOL, NULL},
    {"tokenizer.ggml.precompiled_charsmap", FORM_BYTES, NULL},
    {"tokenizer.chat_template", FORM_STR, "x"},
    {"tokenizer.chat_template.tool_use", FORM_STR, "y"},
};
enum { KEYS_COUNT = sizeof KEYS / sizeof *KEYS, TOKENS = 8, BYTES = 12 };

static void put_array(build *b, const char *key, key_form form, uint32_t extra) {
    static const char *const tokens[TOKENS + 1] = {"<s>", "</s>",   "<unk>",        "a", "b",
                                                   "ab",  "<0x41>", "\xE2\x96\x81", "c"};
    static const char *const merges[2] = {"a b", "a"};
    static const float scores[TOKENS + 1] = {0, 0, 0, -1, -2, -3, 0, -4, -5};
    static const int32_t types[TOKENS + 1] = {3, 3, 2, 1, 1, 1, 6, 1, 1};
    static const int32_t ids[2] = {1, 77};
    if (form == FORM_TOKENS) add_strs(b, key, TOKENS + extra, tokens);
    if (form == FORM_SCORES) add_f32s(b, key, TOKENS + extra, scores);
    if (form == FORM_TYPES) add_i32s(b, key, TOKENS + extra, types);
    if (form == FORM_MERGES) add_strs(b, key, 1 + extra, merges);
    if (form == FORM_IDS) add_i32s(b, key, 1 + extra, ids);
}

static void put_bytes(build *b, const char *key, uint32_t count) {
    add_array(b, key, GGUF_TYPE_U8, count); /* no units, no replacements */
    for (uint32_t i = 0; i < count; i++) buf_put_char(&b->kv, 0);
}

static void put_key(build *b, const char *kind, int k, wrong how) {
    const char *key = KEYS[k].key, *text = KEYS[k].text;
    key_form form = KEYS[k].form;
    bool valued = how == WRONG_VALUE;
    if (how == WRONG_ABSENT) return;
    if (how == WRONG_TYPE && form == FORM_BOOL) return add_f32(b, key, 1.5f);
    if (how == WRONG_TYPE) return add_bool(b, key, 1);
    if (form == FORM_STR) return add_str(b, key, valued ? "never heard of" : text ? text : kind);
    if (form == FORM_BOOL) return add_bool(b, key, !valued);
    if (form == FORM_ID) return add_u32(b, key, valued ? 99 : 1);
    if (form == FORM_BYTES) return put_bytes(b, key, valued ? 3 : BYTES);
    put_array(b, key, form, valued);
}

static status open_with(vocab_rig *r, const char *kind, int wrong_key, wrong how) {
    build b;
    char path[128];
    build_init(&b);
    for (int k = 0; k < KEYS_COUNT; k++) put_key(&b, kind, k, k == wrong_key ? how : WRONG_NOTHING);
    str bytes = build_finish(&b);
    rig_put(r, "m.gguf", bytes);
    free((void *)(uintptr_t)bytes.p);
    (void)snprintf(path, sizeof path, "%s/m.gguf", r->dir);
    return open_used(path);
}

static const char *const KINDS[] = {"llama", "gpt2", "bert", "t5", "rwkv", "gemma4", "whitespace"};

TEST(vocab_gguf_with_one_key_wrong_is_a_vocabulary_or_a_message) {
    vocab_rig r;
    rig_init(&r);
    int refused = 0;
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        for (int k = 0; k < KEYS_COUNT; k++)
            for (int how = WRONG_NOTHING; how < WRONG_END; how++)
                refused += open_with(&r, KINDS[i], k, (wrong)how) != OK;
    CHECK(refused > 200);
    rig_deinit(&r);
}

TEST(vocab_gguf_survives_running_out_of_memory) {
    vocab_rig r;
    char path[128];
    rig_init(&r);
    (void)snprintf(path, sizeof path, "%s/m.gguf", r.dir);
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
        status st = open_with(&r, KINDS[i], -1, WRONG_NOTHING), found = ERR_NOMEM;
        for (int n = 0; found == ERR_NOMEM && n < 500; n++) {
            error err = {0};
            model *m = NULL;
            mem_fail_after(n);
            found = model_open_vocab(&m, path, &err);
            mem_fail_after(-1);
            if (found == OK) model_close(m);
        }
        CHECK_EQ(found, st);
    }
    rig_deinit(&r);
}

/* --- JSON -------------------------------------------------------------------------------- */
/* Behind the value that begins at `i`. */
static size_t value_end(str text, size_t i) {
    int depth = 0;
    for (bool in_string = false; i < text.n; i++) {
        char c = text.p[i];
        if (in_string && c == '\\') i++;
        if (c == '"') in_string = !in_string;
        if (in_string) continue;
        if (depth == 0 && (c == ',' || c == '}' || c == ']')) break;
        if (c == '[' || c == '{') depth++;
        if (c == ']' || c == '}') depth--;
        if (depth == 0 && (c == ']' || c == '}' || c == '"')) return i + 1;
    }
    return i;
}

/* Does a value begin at `i`?  Behind a colon or an opening bracket, or behind a comma with
 * something else than a key. */
static bool value_begins(str text, size_t i) {
    if (i == 0 || strchr("\"[{-0123456789tfn", text.p[i]) == NULL) return false;
    char before = text.p[i - 1];
    size_t end = value_end(text, i);
    if (before == ':' || before == '[') return true;
    return before == ',' && (end >= text.n || text.p[end] != ':');
}

static void replace_each(vocab_rig *r, const char *file, str text) {
    static const char *const others[] = {"null", "7",  "-1.5", "\"x\"",
                                         "true", "[]", "{}",   "[\"x\",99]"};
    buf changed;
    buf_init(&changed, 1 << 20);
    for (size_t i = 0; i < text.n; i++) {
        if (!value_begins(text, i)) continue;
        size_t end = value_end(text, i);
        for (size_t k = 0; k < sizeof others / sizeof *others; k++) {
            buf_clear(&changed);
            buf_put(&changed, text.p, i);
            buf_put_str(&changed, str_of(others[k]));
            buf_put_str(&changed, str_skip(text, end));
            rig_put(r, file, buf_view(&changed));
            (void)open_used(r->dir);
        }
    }
    rig_put(r, file, text);
    buf_deinit(&changed);
    CHECK_STR(rig_open(r), "");
}

#define PIECES "\"a\":0,\"b\":1,\"ab\":2,\"x\":3,\"\\u0120\":4"
#define ADDED                                                                            \
    "\"added_tokens\":[{\"id\":5,\"content\":\"<s>\",\"special\":true,\"lstrip\":false," \
    "\"rstrip\":true,\"single_word\":false,\"normalized\":false}],"
#define STEP_NORMS                                                                              \
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":"      \
    "\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,\"strip_accents\":"   \
    "null,\"lowercase\":false},{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true},"  \
    "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x+\"},\"content\":\"y\"},{\"type\":"        \
    "\"Precompiled\",\"precompiled_charsmap\":\"AAAAAA==\"},{\"type\":\"Prepend\",\"prepend\":" \
    "\"z\"}]},"
#define STEP_SPLITS                                                                             \
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\","         \
    "\"individual_digits\":true},{\"type\":\"Split\",\"pattern\":{\"String\":\"q\"},"           \
    "\"behavior\":\"MergedWithNext\",\"invert\":false},{\"type\":\"Punctuation\",\"behavior\":" \
    "\"Isolated\"},{\"type\":\"CharDelimiterSplit\",\"delimiter\":\"-\"},{\"type\":"            \
    "\"FixedLength\",\"length\":5},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"         \
    "\"use_regex\":true}]},"
#define FRAMED                                                                                   \
    "\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},{"       \
    "\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":" \
    "0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],\"special_tokens\":{\"<s>\":{" \
    "\"id\":\"<s>\",\"ids\":[5],\"tokens\":[\"<s>\"]}}}]},"
#define DECODED                                                                            \
    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteLevel\"},{\"type\":" \
    "\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},"

static const char *const TOKENIZERS[] = {
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null," ADDED STEP_NORMS STEP_SPLITS FRAMED
        DECODED "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":\"a\","
    "\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":\"\",\"fuse_unk\":false,"
    "\"byte_fallback\":false,\"ignore_merges\":true,\"vocab\":{" PIECES "},\"merges\":"
    "[[\"a\",\"b\"]]}}",
    "{" ADDED "\"normalizer\":{\"type\":\"Lowercase\"},\"pre_tokenizer\":{\"type\":\"Metaspace\","
    "\"replacement\":\"\xE2\x96\x81\",\"prepend_scheme\":\"always\",\"split\":true},"
    "\"post_processor\":{\"type\":\"RobertaProcessing\",\"sep\":[\"<s>\",5],\"cls\":"
    "[\"<s>\",5],\"trim_offsets\":true,\"add_prefix_space\":false},\"decoder\":{\"type\":"
    "\"Metaspace\",\"replacement\":\"\xE2\x96\x81\",\"prepend_scheme\":\"always\"},"
    "\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"byte_fallback\":false,\"vocab\":[["
    "\"u\",0],[\"a\",-1.5],[\"b\",-2],[\"ab\",-3],[\"c\",-4]]}}",
    "{" ADDED
    "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"_\"},"
    "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"post_processor\":{\"type\":"
    "\"BertProcessing\",\"sep\":[\"<s>\",5],\"cls\":[\"<s>\",5]},\"decoder\":{\"type\":"
    "\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},\"model\":{\"type\":\"WordPiece\","
    "\"unk_token\":\"a\",\"continuing_subword_prefix\":\"##\","
    "\"max_input_chars_per_word\":9,\"vocab\":{" PIECES "}}}",
    "{" ADDED "\"decoder\":{\"type\":\"BPEDecoder\",\"suffix\":\"</w>\"},\"model\":{\"type\":"
    "\"BPE\",\"end_of_word_suffix\":\"</w>\",\"vocab\":{" PIECES "},\"merges\":[\"a b\"]}}",
    "{" ADDED "\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"a\",\"vocab\":{" PIECES "}}}",
};

TEST(vocab_json_with_one_value_of_another_kind_is_a_vocabulary_or_a_message) {
    vocab_rig r;
    rig_init(&r);
    for (size_t i = 0; i < sizeof TOKENIZERS / sizeof *TOKENIZERS; i++)
        replace_each(&r, "tokenizer.json", str_of(TOKENIZERS[i]));
    rig_deinit(&r);
}

TEST(vocab_side_files_with_one_value_of_another_kind_are_read_or_refused) {
    static const char *const sides[][2] = {
        {"tokenizer_config.json",
         "{\"bos_token\":{\"content\":\"<s>\"},\"eos_token\":\"b\",\"unk_token\":\"a\","
         "\"cls_token\":\"a\",\"sep_token\":\"a\",\"do_lower_case\":true,\"strip_accents\":null,"
         "\"tokenize_chinese_chars\":false,"
         "\"add_bos_token\":true,\"add_eos_token\":false,\"legacy\":true,\"tokenizer_class\":\"X\","
         "\"additional_special_tokens\":[\"ab\"],\"added_tokens_decoder\":{\"5\":{\"content\":"
         "\"<s>\",\"special\":true,\"lstrip\":true,\"rstrip\":false,\"single_word\":false,"
         "\"normalized\":false}},\"chat_template\":[{\"name\":\"default\",\"template\":\"x\"},"
         "{\"name\":\"tool_use\",\"template\":\"y\"}]}"},
        {"special_tokens_map.json", "{\"unk_token\":\"a\",\"mask_token\":{\"content\":\"b\"}}"},
        {"generation_config.json", "{\"bos_token_id\":0,\"eos_token_id\":[1,2]}"},
        {"config.json", "{\"model_type\":\"llama\",\"eos_token_id\":1}"},
        {"chat_template.json", "{\"chat_template\":\"x\"}"},
    };
    vocab_rig r;
    rig_init(&r);
    rig_put(&r, "tokenizer.json", str_of(TOKENIZERS[0]));
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++)
        replace_each(&r, sides[i][0], str_of(sides[i][1]));
    rig_deinit(&r);
}
