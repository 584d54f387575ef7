/* test_vocab_draft.c - a draft with little room: memory of the model, steps and names run out at
 * each place where a reader takes some, and what it then says.
 *
 * The readers are called as vocab_dir_read() calls them, with a draft whose room is n, for n from 0
 * until there is enough: every n before that is the same error, never a crash or half a
 * vocabulary. */
#include "base/alloc.h"
#include "gguf_build.h"
#include "model/vocab_json.h"
#include "test.h"

typedef struct draft_rig {
    model m;
    struct model_internal internal;
    vocab_draft *d;
} draft_rig;

static void draft_rig_init(draft_rig *r, size_t arena_bytes) {
    error err = {0};
    *r = (draft_rig){0};
    arena_init(&r->internal.arena, arena_bytes);
    r->m.internal = &r->internal;
    r->m.chat_template = r->m.chat_template_tools = S("");
    CHECK_EQ(vocab_draft_create(&r->d, &r->m, "the file", &err), OK);
}

static void draft_rig_deinit(draft_rig *r) {
    vocab_draft_destroy(r->d);
    arena_deinit(&r->internal.arena);
}

/* --- readers, each with a text that makes it take something -------------------------------- */
#define MARK  "\xE2\x96\x81"
#define ADDED "\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"special\":true}],"
#define BPE                                                                                   \
    "\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"\\u0061b\":2},\"merges\":[\"\\u0061 b\"],\"end_" \
    "of_word_suffix\":\"\\u0041\"}"
#define NORMS                                                                                   \
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":"      \
    "\"BertNormalizer\"},{\"type\":\"Strip\"},{\"type\":\"StripAccents\"},{\"type\":"           \
    "\"Replace\",\"pattern\":{\"String\":\"x\"},\"content\":\"y\"},{\"type\":\"Precompiled\","  \
    "\"precompiled_charsmap\":\"AZaz09+/\"},{\"type\":\"Prepend\",\"prepend\":\"z\"},{\"type\"" \
    ":\"Lowercase\"}]},"
#define BYTE_SPLITS                                                                          \
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},{" \
    "\"type\":\"Digits\"},{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[0-9]{1,3}\"},"       \
    "\"behavior\":\"Isolated\"}]},"
#define SPLITS                                                                                  \
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"" \
    "},{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\"},{\"type\":\"Punctuation\"},{"      \
    "\"type\":\"CharDelimiterSplit\",\"delimiter\":\"-\"},{\"type\":\"FixedLength\"},{\"type\"" \
    ":\"Whitespace\"}]},"
#define DECODED                                                                            \
    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{" \
    "\"String\":\"" MARK "\"},\"content\":\" \"},{\"type\":\"Fuse\"},{\"type\":\"Strip\"," \
    "\"content\":\" \",\"start\":1}]},"
#define WORDS                                                                                   \
    "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\"},\"model\":{\"type\":\"WordPiece\"," \
    "\"vocab\":{\"a\":0}}"

static status read_bytes(draft_rig *r, error *err) {
    return vocab_json_read(r->d, S("{" ADDED NORMS BYTE_SPLITS BPE "}"), err);
}

static status read_marks(draft_rig *r, error *err) {
    return vocab_json_read(r->d, S("{" ADDED NORMS SPLITS DECODED BPE "}"), err);
}

static status read_words(draft_rig *r, error *err) {
    return vocab_json_read(r->d, S("{" WORDS "}"), err);
}

static status read_spm(draft_rig *r, error *err) {
    return vocab_spm_read(r->d, S("\x0A\x05\x0A\x01x\x18\x02\x0A\x03\x0A\x01y"), err);
}

static status read_pairs(draft_rig *r, error *err) {
    r->d->config.tokenizer_class = S("RobertaTokenizer");
    TRY(vocab_json_pairs(r->d, S("{\"a\":0,\"b\":1,\"ab\":2,\"<s>\":3,\"</s>\":4}"),
                         S("#version: 0.2\na b\r\n"), err));
    CHECK(r->d->config.add_bos == 1 && r->d->config.add_eos == 1);
    return OK;
}

static status read_qwen(draft_rig *r, error *err) {
    r->d->config.tokenizer_class = S("Qwen2TokenizerFast");
    return vocab_json_pairs(r->d, S("{\"a\":0,\"<|endoftext|>\":1}"), S(""), err);
}

static status read_lines(draft_rig *r, error *err) {
    return vocab_txt_read(r->d, S("[UNK]\n[CLS]\n[SEP]\n[PAD]\n[MASK]\na\n"), err);
}

static status read_sides(draft_rig *r, error *err) {
    static const char config[] =
        "{\"tokenizer_class\":\"X\",\"bos_token\":\"a\",\"eos_token\":\"b\",\"unk_token\":\"u\","
        "\"cls_token\":\"c\",\"sep_token\":\"s\",\"mask_token\":\"m\",\"additional_special_"
        "tokens\":"
        "[\"t\"],\"added_tokens_decoder\":{\"1\":{\"content\":\"b\"}},\"chat_template\":\"y\"}";
    TRY(vocab_config_template(r->d,
                              S("{\"chat_template\":[{\"name\":\"default\",\"template\":"
                                "\"x\"},{\"name\":\"tool_use\",\"template\":\"z\"}]}"),
                              err));
    TRY(vocab_config_tokenizer(r->d, str_of(config), err));
    TRY(vocab_config_special(r->d, S("{\"unk_token\":\"a\"}"), err));
    TRY(vocab_config_added(r->d, S("{\"z\":3}"), err));
    return vocab_json_read(r->d, S("{" BPE "}"), err);
}

typedef status (*draft_reader)(draft_rig *r, error *err);
static const draft_reader READERS[] = {read_bytes, read_marks, read_words, read_spm,
                                       read_pairs, read_qwen,  read_lines, read_sides};
enum { READERS_COUNT = sizeof READERS / sizeof *READERS };

/* --- the model's memory ---------------------------------------------------------------------- */
/* 16 bytes more each time: the arena hands out no less. */
TEST(vocab_draft_says_so_wherever_the_memory_of_the_model_ends) {
    for (size_t i = 0; i < READERS_COUNT; i++) {
        status st = ERR_NOMEM;
        size_t room = 0;
        error err = {0};
        for (; st == ERR_NOMEM && room < 1 << 16; room += 16) {
            draft_rig r;
            draft_rig_init(&r, room);
            st = READERS[i](&r, &err);
            if (st == OK) st = vocab_draft_finish(r.d, &err);
            if (st == ERR_NOMEM) CHECK_HAS(err.msg, "no memory for");
            CHECK_EQ(r.m.vocab.count > 0, st == OK);
            draft_rig_deinit(&r);
        }
        CHECK_STR(st == OK ? "" : err.msg, "");
        CHECK(room > 16);
    }
}

TEST(vocab_gguf_says_so_wherever_the_memory_of_the_model_ends) {
    static const char *const kinds[] = {"llama", "gpt2",   "bert",      "t5",
                                        "rwkv",  "gemma4", "whitespace"};
    static const char *const tokens[] = {"<s>", "</s>", "a", "<mask>"}, *const merges[] = {"a a"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        build b;
        blob *file = NULL;
        gguf *g = NULL;
        build_init(&b);
        add_str(&b, "tokenizer.ggml.model", kinds[i]);
        add_str(&b, "tokenizer.ggml.pre", "jina-v2-de");
        add_strs(&b, "tokenizer.ggml.tokens", 4, tokens);
        add_f32s(&b, "tokenizer.ggml.scores", 4, (float[]){0, 0, 0, 0});
        add_strs(&b, "tokenizer.ggml.merges", 1, merges);
        add_u32(&b, "tokenizer.ggml.cls_token_id", 0);
        add_u32(&b, "tokenizer.ggml.bos_token_id", 0);
        add_u32(&b, "tokenizer.ggml.separator_token_id", 1);
        add_bool(&b, "tokenizer.ggml.normalizer.lowercase", 1);
        str bytes = build_finish(&b);
        error err = {0};
        CHECK_EQ(blob_open_memory(&file, bytes, "test", &err), OK);
        CHECK_EQ(gguf_open(&g, file, &err), OK);
        status st = ERR_NOMEM;
        for (size_t room = 0; st == ERR_NOMEM && room < 1 << 16; room += 16) {
            model m = {0};
            struct model_internal internal = {.gguf = g};
            arena_init(&internal.arena, room);
            m.internal = &internal;
            st = model_read_vocab(&m, &err);
            CHECK_EQ(m.vocab.count > 0, st == OK);
            arena_deinit(&internal.arena);
        }
        CHECK_STR(st == OK ? "" : err.msg, "");
        gguf_close(g);
        blob_close(file);
        free((void *)(uintptr_t)bytes.p);
    }
}

TEST(vocab_draft_says_so_where_the_heap_ends) {
    draft_rig r;
    error err = {0};
    vocab_draft *none = NULL;
    vocab_draft_destroy(none);
    mem_fail_after(0);
    CHECK_EQ(vocab_draft_create(&none, NULL, "x.json", &err), ERR_NOMEM);
    mem_fail_after(-1);
    CHECK_HAS(err.msg, "x.json: no memory for ");
    CHECK(none == NULL);
    draft_rig_init(&r, 1 << 16);
    mem_fail_after(0);
    vocab_entry e = {.piece = S("a"), .type = TOK_TYPE_NORMAL};
    CHECK_EQ(vocab_draft_entry(r.d, &e, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "bytes of tokens");
    CHECK_EQ(vocab_draft_added(r.d, &(vocab_added){.content = S("a")}, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "bytes of added tokens");
    CHECK_EQ(vocab_draft_merge_line(r.d, S("a b"), &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "bytes of merges");
    mem_fail_after(-1);
    draft_rig_deinit(&r);
}

/* --- room for steps and names ---------------------------------------------------------------- */
/* Reads with a counter set so that `room` of `max` are left, from none to enough. */
static void run_out(draft_reader read, size_t counter, uint32_t max, const char *words) {
    status st = ERR_LIMIT;
    uint32_t room = 0;
    for (; st == ERR_LIMIT && room <= max; room++) {
        draft_rig r;
        error err = {0};
        draft_rig_init(&r, 1 << 20);
        *(uint32_t *)(void *)((char *)r.d + counter) = max - room;
        st = read(&r, &err);
        if (st != OK) CHECK_HAS(err.msg, words);
        draft_rig_deinit(&r);
    }
    CHECK_EQ(st, OK);
}

TEST(vocab_draft_has_room_for_so_many_steps_and_names) {
    for (size_t i = 0; i < READERS_COUNT; i++) {
        run_out(READERS[i], offsetof(vocab_draft, v.norms_count), VOCAB_STEPS_MAX,
                "more than 256 normalizing steps");
        /* Metaspace looks at the splits before it: those that only fill are none */
        if (READERS[i] != read_marks && READERS[i] != read_bytes)
            run_out(READERS[i], offsetof(vocab_draft, v.splits_count), VOCAB_STEPS_MAX,
                    "more than 256 splitting steps");
        run_out(READERS[i], offsetof(vocab_draft, config.names_count), VOCAB_NAMES_MAX,
                "more than 1024 special tokens");
    }
}

TEST(vocab_draft_tokens_have_ids_and_lengths_in_range) {
    static char text[1100];
    draft_rig r;
    error err = {0};
    memset(text, 'x', sizeof text);
    draft_rig_init(&r, 1 << 10);
    vocab_entry e = {.piece = {text, 250}, .id = MODEL_VOCAB_MAX};
    CHECK_EQ(vocab_draft_entry(r.d, &e, &err), ERR_LIMIT);
    CHECK_HAS(err.msg, "xxx' has id 4194304, at most 4194303");
    vocab_added a = {.content = {text, 3}, .id = MODEL_VOCAB_MAX};
    CHECK_EQ(vocab_draft_added(r.d, &a, &err), ERR_LIMIT);
    CHECK_STR(err.msg, "the file: token 'xxx' has id 4194304, at most 4194303");
    a = (vocab_added){.content = {text, 1025}, .id = 1};
    CHECK_EQ(vocab_draft_added(r.d, &a, &err), ERR_LIMIT);
    CHECK_STR(err.msg, "the file: token 1 has 1025 bytes, at most 1024");
    draft_rig_deinit(&r);
}

/* --- base64 ---------------------------------------------------------------------------------- */
static const char *decoded(const char *text, str *out) {
    static error err;
    draft_rig r;
    static char bytes[64];
    err = (error){0};
    draft_rig_init(&r, 1 << 10);
    if (vocab_unbase64(r.d, str_of(text), out, &err) == OK) {
        memcpy(bytes, out->p, out->n);
        *out = (str){bytes, out->n};
    }
    draft_rig_deinit(&r);
    return err.msg;
}

TEST(vocab_base64_is_that_of_rfc_4648) {
    static const char *const rows[][2] = {
        {"", ""},        {"Zg==", "f"},        {"Zg", "f"},           {"Zm8=", "fo"},
        {"Zm9v", "foo"}, {"Zm9vYg==", "foob"}, {"Zm9vYmE=", "fooba"}, {"+/+/", "\xFB\xFF\xBF"}};
    str out = S("");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK_STR(decoded(rows[i][0], &out), "");
        CHECK(str_eq_c(out, rows[i][1]));
    }
    CHECK_STR(decoded("Zm9vY", &out), "5 characters of base64 are cut off");
    CHECK_STR(decoded("====", &out), "");
    CHECK_EQ(out.n, 0);
    static const char *const bad[] = {"Zm9-", "Zm9@", "Zm9[", "Zm9`",
                                      "Zm9{", "Zm9:", "Zm9 ", "Zm9\xFF"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_STR(decoded(bad[i], &out), "byte 3 of 4 is not base64");
}
