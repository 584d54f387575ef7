/* test_vocab.c - the tokenizer's keys: types, lengths, ids, defaults. */
#include <math.h>

#include "gguf_build.h"
#include "golden_paths.h"
#include "model/model_internal.h"

static model *open_vocab(build *b, str *bytes) {
    blob *file = NULL;
    model *m = NULL;
    error err = {0};
    *bytes = build_finish(b);
    CHECK_EQ(blob_open_memory(&file, *bytes, "test", &err), OK);
    CHECK_EQ(model_open_blob(&m, file, &err), OK);
    CHECK_STR(err.msg, "");
    return m;
}

TEST(vocab_absent_ids_are_those_of_the_first_llama) {
    build b;
    str bytes;
    build_good(&b, NULL);
    model *m = open_vocab(&b, &bytes);
    CHECK_EQ(m->vocab.kind, TOK_KIND_SPM);
    CHECK_EQ(m->vocab.bos_id, 1);
    CHECK_EQ(m->vocab.eos_id, 2);
    CHECK_EQ(m->vocab.unk_id, 0);
    CHECK_EQ(m->vocab.eot_id, TOK_ID_NONE);
    CHECK(tok_vocab_adds_bos(&m->vocab) && m->vocab.add_space_prefix);
    CHECK_EQ(m->vocab.before_count, 1);
    CHECK_EQ(m->vocab.after_count, 0);
    CHECK(str_eq(m->vocab.pieces[3], S("a")));
    CHECK_EQ(m->vocab.types[1], TOK_TYPE_CONTROL);
    model_close(m);
    free((void *)(uintptr_t)bytes.p);
}

TEST(vocab_keys_win_over_defaults) {
    build b;
    str bytes;
    build_good(&b, NULL);
    add_u32(&b, "tokenizer.ggml.bos_token_id", 3);
    add_u32(&b, "tokenizer.ggml.eot_token_id", 2);
    add_bool(&b, "tokenizer.ggml.add_bos_token", 0);
    add_bool(&b, "tokenizer.ggml.add_space_prefix", 0);
    model *m = open_vocab(&b, &bytes);
    CHECK_EQ(m->vocab.bos_id, 3);
    CHECK_EQ(m->vocab.eot_id, 2);
    CHECK(!tok_vocab_adds_bos(&m->vocab) && !m->vocab.add_space_prefix);
    model_close(m);
    free((void *)(uintptr_t)bytes.p);
}

TEST(vocab_a_model_without_a_tokenizer_has_none) {
    build b;
    str bytes;
    build_good(&b, "tokenizer.ggml.model");
    model *m = open_vocab(&b, &bytes);
    CHECK_EQ(m->vocab.kind, TOK_KIND_NONE);
    CHECK_EQ(m->vocab.bos_id, TOK_ID_NONE);
    model_close(m);
    free((void *)(uintptr_t)bytes.p);
}

TEST(vocab_ids_past_the_vocabulary_are_refused_for_every_special_token) {
    static const char *const names[] = {"bos", "eos", "unknown", "padding", "eot", "fim_pre"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        build b;
        char key[64];
        (void)snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", names[i]);
        build_good(&b, NULL);
        add_u32(&b, key, 2147483647);
        CHECK_HAS(model_refusal(&b), "is 2147483647, there are 4 tokens");
        build_good(&b, NULL);
        add_i32(&b, key, -1);
        CHECK_HAS(model_refusal(&b), "is -1");
    }
}

TEST(vocab_arrays_of_another_type_are_refused) {
    static const char *const keys[] = {"tokenizer.ggml.scores", "tokenizer.ggml.token_type",
                                       "tokenizer.ggml.tokens"};
    static const char *const words[] = {"must be of f32", "must be of i32", "must be of string"};
    for (size_t i = 0; i < 3; i++) {
        build b;
        build_good(&b, keys[i]);
        add_array(&b, keys[i], GGUF_TYPE_U8, BUILD_VOCAB);
        buf_put(&b.kv, "\1\1\1\1", BUILD_VOCAB);
        CHECK_HAS(model_refusal(&b), words[i]);
        build_good(&b, keys[i]);
        bool needed = i != 1; /* without types, tokens are normal */
        CHECK_HAS(model_refusal(&b), needed ? "is missing" : "opened");
    }
}

TEST(vocab_arrays_of_another_length_show_both_lengths) {
    build b;
    build_good(&b, "tokenizer.ggml.scores");
    add_f32s(&b, "tokenizer.ggml.scores", 1, &(float){0});
    CHECK_HAS(model_refusal(&b), "'tokenizer.ggml.scores' has 1 elements for 4 tokens");
    build_good(&b, "tokenizer.ggml.tokens");
    add_array(&b, "tokenizer.ggml.tokens", GGUF_TYPE_STRING, 0);
    CHECK_HAS(model_refusal(&b), "0 tokens, must be 1 to 4194304");
}

TEST(vocab_scores_must_be_numbers) {
    const float scores[BUILD_VOCAB] = {0, 0, NAN, 0};
    build b;
    build_good(&b, "tokenizer.ggml.scores");
    add_f32s(&b, "tokenizer.ggml.scores", BUILD_VOCAB, scores);
    CHECK_HAS(model_refusal(&b), "token 2 has no number");
}

TEST(vocab_types_are_1_to_6_and_byte_tokens_have_two_hex_digits) {
    static const char *const bad[] = {"<0x-1>", "<0xG0>", "<0x0>", "<0x000>", "0x0A", ""};
    build b;
    build_good(&b, "tokenizer.ggml.token_type");
    add_i32s(&b, "tokenizer.ggml.token_type", BUILD_VOCAB, (int32_t[]){1, 1, 7, 1});
    CHECK_HAS(model_refusal(&b), "token 2 has type 7, must be 1 to 6");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *tokens[BUILD_VOCAB] = {"<unk>", "<0x0a>", "<0xFF>", bad[i]};
        build_good(&b, "tokenizer.ggml.tokens");
        add_strs(&b, "tokenizer.ggml.tokens", BUILD_VOCAB, tokens);
        CHECK_STR(model_refusal(&b), "opened"); /* plain text, as long as no type says byte */
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *tokens[BUILD_VOCAB] = {"<unk>", "<0x0a>", "<0xFF>", bad[i]};
        build_init(&b);
        add_str(&b, "general.architecture", "llama");
        add_str(&b, "tokenizer.ggml.model", "llama");
        add_strs(&b, "tokenizer.ggml.tokens", BUILD_VOCAB, tokens);
        add_f32s(&b, "tokenizer.ggml.scores", BUILD_VOCAB, (float[]){0, 0, 0, 0});
        add_i32s(&b, "tokenizer.ggml.token_type", BUILD_VOCAB, (int32_t[]){2, 6, 6, 6});
        CHECK_HAS(model_refusal(&b), "byte token 3");
    }
}

TEST(vocab_other_tokenizers_are_refused_by_name) {
    build b;
    build_good(&b, "tokenizer.ggml.model");
    add_str(&b, "tokenizer.ggml.model", "plamo2");
    CHECK_HAS(model_refusal(&b),
              "tokenizer 'plamo2' is not known; known: llama gpt2 bert t5 rwkv gemma4 whitespace");
    build_good(&b, "tokenizer.ggml.model");
    add_u32(&b, "tokenizer.ggml.model", 1);
    CHECK_HAS(model_refusal(&b), "is u32, must be string");
}

TEST(vocab_chat_templates_are_text_of_a_bounded_size) {
    static char text[(1 << 20) + 2];
    build b;
    memset(text, 'x', sizeof text - 1);
    build_good(&b, NULL);
    add_str(&b, "tokenizer.chat_template", text);
    CHECK_HAS(model_refusal(&b), "has 1048577 bytes, at most 1048576");
    build_good(&b, NULL);
    add_u32(&b, "tokenizer.chat_template", 7);
    CHECK_HAS(model_refusal(&b), "'tokenizer.chat_template' is u32");
    build_good(&b, NULL);
    add_str(&b, "tokenizer.chat_template.tool_use", text);
    CHECK_HAS(model_refusal(&b), "'tokenizer.chat_template.tool_use' has 1048577 bytes");
}

TEST(vocab_a_file_with_a_vocabulary_and_no_tensors_gives_it) {
    SHARED_OR_SKIP(path, "oracle/public/tokenizer/spm-tok512.gguf");
    model *m = NULL;
    error err = {0};
    CHECK_EQ(model_open(&m, path, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "'token_embd.weight' is missing");
    CHECK_EQ(model_open_vocab(&m, path, &err), OK);
    CHECK_EQ(m->vocab.count, 512);
    CHECK(str_eq(m->vocab.pieces[3], S("<0x00>")));
    CHECK_EQ(m->vocab.types[3], TOK_TYPE_BYTE);
    CHECK(m->vocab.scores[511] < 0.0f);
    CHECK_STR(m->name, "spm tok512");
    CHECK_EQ(gguf_tensor_count(model_gguf(m)), 0);
    model_close(m);
}

/* --- other kinds ------------------------------------------------------------------ */

/* A good file but for its tokenizer, which is of `kind` with these four tokens and types. */
static void build_kind(build *b, const char *kind, const char *const *tokens,
                       const int32_t *types) {
    build_init(b);
    add_str(b, "general.architecture", "llama");
    good_counts(b, NULL);
    add_f32(b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    good_tensors(b, NULL);
    add_str(b, "tokenizer.ggml.model", kind);
    add_strs(b, "tokenizer.ggml.tokens", BUILD_VOCAB, tokens);
    if (types != NULL) add_i32s(b, "tokenizer.ggml.token_type", BUILD_VOCAB, types);
}

static void close_vocab(model *m, str bytes) {
    model_close(m);
    free((void *)(uintptr_t)bytes.p);
}

TEST(vocab_gpt2_has_merges_and_a_family) {
    static const char *const tokens[] = {"a", "b", "ab", "<|im_end|>"};
    static const char *const merges[] = {"a b", "\xC4\xA0 a"};
    static const char *const no_pair[] = {"ab"};
    build b;
    str bytes;
    build_kind(&b, "gpt2", tokens, NULL);
    CHECK_HAS(model_refusal(&b), "'tokenizer.ggml.merges' is missing");
    build_kind(&b, "gpt2", tokens, NULL);
    add_strs(&b, "tokenizer.ggml.merges", 1, no_pair);
    CHECK_HAS(model_refusal(&b), "merge 0 'ab' is no pair");
    build_kind(&b, "gpt2", tokens, NULL);
    add_strs(&b, "tokenizer.ggml.merges", 2, merges);
    add_str(&b, "tokenizer.ggml.pre", "llama-bpe");
    CHECK_HAS(model_refusal(&b), "add_bos_token is set, but there is no such token");
    build_kind(&b, "gpt2", tokens, NULL);
    add_strs(&b, "tokenizer.ggml.merges", 2, merges);
    add_str(&b, "tokenizer.ggml.pre", "qwen2");
    model *m = open_vocab(&b, &bytes);
    const tok_vocab *v = &m->vocab;
    CHECK(v->kind == TOK_KIND_BPE && v->form == TOK_FORM_BYTE_LEVEL);
    CHECK_EQ(v->merges_count, 2);
    CHECK(str_eq(v->merges[1].left, S("\xC4\xA0")) && str_eq(v->merges[1].right, S("a")));
    CHECK(v->splits_count > 0 && !v->decode_cleanup && v->scores == NULL);
    CHECK_EQ(v->bos_id, TOK_ID_NONE); /* 11 lies outside */
    CHECK_EQ(v->before_count, 0);
    CHECK_EQ(v->types[0], TOK_TYPE_NORMAL);
    CHECK_EQ(v->types[3],
             TOK_TYPE_CONTROL); /* the end of a turn, though the file does not say so */
    close_vocab(m, bytes);
}

TEST(vocab_gemma4_begins_with_bos_also_where_the_file_says_no) {
    static const char *const tokens[] = {"<bos>", "\xE2\x96\x81", "a", "<0x0A>"};
    static const int32_t types[] = {3, 1, 1, 6};
    static const char *const merges[] = {"\xE2\x96\x81 a"};
    build b;
    str bytes;
    build_kind(&b, "gemma4", tokens, types);
    add_strs(&b, "tokenizer.ggml.merges", 1, merges);
    add_bool(&b, "tokenizer.ggml.add_bos_token", 0);
    add_u32(&b, "tokenizer.ggml.bos_token_id", 0);
    model *m = open_vocab(&b, &bytes);
    const tok_vocab *v = &m->vocab;
    CHECK(v->form == TOK_FORM_METASPACE && v->byte_fallback && !v->drop_unknown);
    CHECK(tok_vocab_adds_bos(v));
    close_vocab(m, bytes);
}

TEST(vocab_whitespace_is_bpe_over_plain_characters) {
    static const char *const tokens[] = {"a", "\xE4\xB8\xAD", "a\xE4\xB8\xAD", "<0x0A>"};
    static const int32_t types[] = {1, 1, 1, 6};
    static const char *const merges[] = {"a \xE4\xB8\xAD"};
    for (int lower = 0; lower < 2; lower++) {
        build b;
        str bytes;
        build_kind(&b, "whitespace", tokens, types);
        add_strs(&b, "tokenizer.ggml.merges", 1, merges);
        add_bool(&b, "tokenizer.ggml.normalizer.lowercase", lower);
        model *m = open_vocab(&b, &bytes);
        const tok_vocab *v = &m->vocab;
        CHECK(v->kind == TOK_KIND_BPE && v->form == TOK_FORM_PLAIN && v->byte_fallback);
        CHECK_EQ(v->splits[0].kind, TOK_SPLIT_SPACES);
        CHECK_EQ(v->norms_count, lower);
        CHECK_EQ(v->before_count, 0);
        close_vocab(m, bytes);
    }
}

TEST(vocab_bert_goes_between_its_class_and_separator_tokens) {
    static const char *const tokens[] = {"[UNK]", "[CLS]", "[SEP]",
                                         ("\xE2\x96\x81"
                                          "a")};
    static const int32_t types[] = {3, 3, 3, 1};
    build b;
    str bytes;
    build_kind(&b, "bert", tokens, types);
    CHECK_HAS(model_refusal(&b), "the class token is set, but there is no such token");
    build_kind(&b, "bert", tokens, types);
    add_u32(&b, "tokenizer.ggml.cls_token_id", 1);
    add_u32(&b, "tokenizer.ggml.seperator_token_id", 2);
    add_u32(&b, "tokenizer.ggml.unknown_token_id", 0);
    add_bool(&b, "tokenizer.ggml.add_bos_token", 0); /* the frame is part of the model */
    model *m = open_vocab(&b, &bytes);
    const tok_vocab *v = &m->vocab;
    CHECK(v->kind == TOK_KIND_WORDPIECE && v->form == TOK_FORM_WORD_MARK);
    CHECK(v->before_count == 1 && v->before[0] == 1 && v->after_count == 1 && v->after[0] == 2);
    CHECK(tok_vocab_adds_bos(v) && v->unk_id == 0);
    close_vocab(m, bytes);
}

TEST(vocab_rwkv_pieces_are_written_with_escapes) {
    static const char *const tokens[] = {"<s>", "\\x00\\xfFz", "\\n\\t\\r\\\\\\'\\\"", "a b"};
    static const char *const broken[] = {"<s>", "\\x0", "a", "b"};
    build b;
    str bytes;
    build_kind(&b, "rwkv", tokens, NULL);
    model *m = open_vocab(&b, &bytes);
    CHECK(str_eq(m->vocab.pieces[1], S("\0\xFF"
                                       "z")));
    CHECK(str_eq(m->vocab.pieces[2], S("\n\t\r\\'\"")));
    CHECK(str_eq(m->vocab.pieces[3], S("a b")));
    CHECK_EQ(m->vocab.before_count + m->vocab.after_count, 0);
    close_vocab(m, bytes);
    build_kind(&b, "rwkv", broken, NULL);
    CHECK_HAS(model_refusal(&b), "token 1 '\\x0' has a broken escape");
}

TEST(vocab_t5_ends_with_eos_and_names_further_ends) {
    static const char *const tokens[] = {"<pad>", "</s>", "<unk>", "a"};
    static const int32_t types[] = {3, 3, 2, 1};
    static const int32_t ends[] = {0, 4};
    build b;
    str bytes;
    build_kind(&b, "t5", tokens, types);
    CHECK_HAS(model_refusal(&b), "'tokenizer.ggml.scores' is missing");
    build_kind(&b, "t5", tokens, types);
    add_f32s(&b, "tokenizer.ggml.scores", BUILD_VOCAB, (float[]){0, 0, 0, -1});
    add_i32s(&b, "tokenizer.ggml.eos_token_ids", 2, ends);
    CHECK_HAS(model_refusal(&b), "'tokenizer.ggml.eos_token_ids' holds 4, there are 4 tokens");
    build_kind(&b, "t5", tokens, types);
    add_f32s(&b, "tokenizer.ggml.scores", BUILD_VOCAB, (float[]){0, 0, 0, -1});
    add_i32s(&b, "tokenizer.ggml.eos_token_ids", 1, ends);
    add_bool(&b, "tokenizer.ggml.add_space_prefix", 1);
    model *m = open_vocab(&b, &bytes);
    const tok_vocab *v = &m->vocab;
    CHECK(v->kind == TOK_KIND_UNIGRAM && v->unk_id == 2 && v->eos_id == 1);
    CHECK(v->before_count == 0 && v->after_count == 1 && v->after[0] == 1);
    CHECK(v->ends_count == 1 && v->ends[0] == 0);
    CHECK_EQ(v->norms_count, 2); /* spaces to U+2581, and one in front */
    close_vocab(m, bytes);
}

/* --- what files leave unsaid ------------------------------------------------------------- */

/* A file of kind gpt2 with these tokens, a family and a name, which may be NULL. */
static model *open_named(const char *const tokens[BUILD_VOCAB], const int32_t *types,
                         const char *pre, const char *name, str *bytes) {
    static const char *const merges[] = {"a b"};
    build b;
    build_kind(&b, "gpt2", tokens, types);
    add_strs(&b, "tokenizer.ggml.merges", 1, merges);
    if (pre != NULL) add_str(&b, "tokenizer.ggml.pre", pre);
    if (name != NULL) add_str(&b, "general.name", name);
    add_bool(&b, "tokenizer.ggml.add_bos_token", 0);
    return open_vocab(&b, bytes);
}

TEST(vocab_special_tokens_of_phi_3_take_the_blanks_behind_them) {
    static const char *const tokens[] = {"<|endoftext|>", "<|user|>", "<unk>", "a"};
    static const int32_t types[] = {3, 4, 2, 1};
    static const char *const names[] = {"Microsoft Phi-3 mini", "my PHI3"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        str bytes;
        model *m = open_named(tokens, types, NULL, names[i], &bytes);
        const tok_vocab *v = &m->vocab;
        CHECK(v->flags != NULL && v->flags[1] == TOK_FLAG_RSTRIP);
        CHECK(v->flags[0] == 0 && v->flags[2] == 0 && v->flags[3] == 0);
        close_vocab(m, bytes);
    }
    static const char *const more[] = {"<s>", "<|system|>", "<x>", "a"};
    static const int32_t kinds[] = {3, 3, 2, 1};
    str bytes;
    model *m = open_named(more, kinds, NULL, "phi-3", &bytes);
    CHECK(m->vocab.flags[0] == 0 && m->vocab.flags[1] == TOK_FLAG_RSTRIP &&
          m->vocab.flags[2] == TOK_FLAG_RSTRIP && m->vocab.flags[3] == 0);
    close_vocab(m, bytes);
    m = open_named(tokens, types, NULL, "phi", &bytes);
    CHECK(m->vocab.flags == NULL);
    close_vocab(m, bytes);
}

TEST(vocab_masks_of_encoders_take_the_blanks_before_them) {
    static const char *const tokens[] = {"<mask>", "[MASK]", "a", "b"};
    static const int32_t types[] = {3, 3, 1, 1};
    static const struct {
        const char *pre, *name;
        uint32_t mask;
    } rows[] = {{"jina-v2-de", NULL, 0},
                {"jina-v2-es", NULL, 0},
                {"jina-v2-code", NULL, 0},
                {NULL, "nomic modern-bert-embed", 1}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        str bytes;
        model *m = open_named(tokens, types, rows[i].pre, rows[i].name, &bytes);
        for (uint32_t id = 0; id < BUILD_VOCAB; id++)
            CHECK_EQ(m->vocab.flags[id], id == rows[i].mask ? TOK_FLAG_LSTRIP : 0);
        close_vocab(m, bytes);
    }
}

/* The vocabulary of a file that is no model. */
typedef struct bare {
    model m;
    struct model_internal internal;
    blob *file;
    str bytes;
} bare;

static void bare_open(bare *r, build *b) {
    error err = {0};
    *r = (bare){.bytes = build_finish(b)};
    r->m.internal = &r->internal;
    arena_init(&r->internal.arena, 1 << 16);
    CHECK_EQ(blob_open_memory(&r->file, r->bytes, "test", &err), OK);
    CHECK_EQ(gguf_open(&r->internal.gguf, r->file, &err), OK);
    CHECK_EQ(model_read_vocab(&r->m, &err), OK);
    CHECK_STR(err.msg, "");
}

static void bare_close(bare *r) {
    arena_deinit(&r->internal.arena);
    gguf_close(r->internal.gguf);
    blob_close(r->file);
    free((void *)(uintptr_t)r->bytes.p);
}

/* Two encoders are known by their architecture. */
TEST(vocab_masks_are_known_by_architecture_too) {
    static const char *const archs[] = {"nomic-bert-moe", "jina-bert-v3"};
    static const char *const tokens[] = {"a", "b", "<mask>", "c"};
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        build b;
        bare r;
        build_init(&b);
        add_str(&b, "general.architecture", archs[i]);
        add_str(&b, "tokenizer.ggml.model", "rwkv");
        add_strs(&b, "tokenizer.ggml.tokens", BUILD_VOCAB, tokens);
        bare_open(&r, &b);
        CHECK(r.m.vocab.flags != NULL && r.m.vocab.flags[2] == TOK_FLAG_LSTRIP);
        bare_close(&r);
    }
}

/* The end of a turn must not be written by a user, whatever type the file gives it; but where a
 * vocabulary calls tools by <|call|> and ends with <|return|>, <|end|> ends nothing. */
TEST(vocab_texts_that_end_a_turn_become_control_tokens) {
    static const char *const ends[] = {"<|im_end|>", "<|eot_id|>", "</s>", "a"};
    static const char *const calls[] = {"<|return|>", "<|call|>", "<|end|>", "a"};
    static const int32_t types[] = {1, 4, 1, 1};
    str bytes;
    model *m = open_named(ends, types, NULL, NULL, &bytes);
    CHECK(m->vocab.types[0] == TOK_TYPE_CONTROL && m->vocab.types[1] == TOK_TYPE_CONTROL);
    CHECK(m->vocab.types[2] == TOK_TYPE_NORMAL && m->vocab.types[3] == TOK_TYPE_NORMAL);
    close_vocab(m, bytes);
    m = open_named(calls, types, NULL, NULL, &bytes);
    CHECK(m->vocab.types[0] == TOK_TYPE_CONTROL && m->vocab.types[2] == TOK_TYPE_NORMAL);
    close_vocab(m, bytes);
}

TEST(vocab_families_have_their_own_ways) {
    static const char *const tokens[] = {"a", "b", "ab", "<bos>"};
    static const struct {
        const char *pre;
        tok_form form;
        bool has_bos, begins;
    } rows[] = {{"sarvam-moe", TOK_FORM_METASPACE, true, false},
                {"granite-embed-multi-311m", TOK_FORM_METASPACE, true, true},
                {"gpt-2", TOK_FORM_BYTE_LEVEL, true, false}};
    static const char *const merges[] = {"a b"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        build b;
        str bytes;
        build_kind(&b, "gpt2", tokens, NULL);
        add_strs(&b, "tokenizer.ggml.merges", 1, merges);
        add_str(&b, "tokenizer.ggml.pre", rows[i].pre);
        add_bool(&b, "tokenizer.ggml.add_bos_token", 0);
        add_u32(&b, "tokenizer.ggml.bos_token_id", 3);
        model *m = open_vocab(&b, &bytes);
        CHECK_EQ(m->vocab.form, rows[i].form);
        CHECK_EQ(m->vocab.bos_id, 3);
        CHECK_EQ(m->vocab.before_count, rows[i].begins);
        close_vocab(m, bytes);
    }
}

TEST(vocab_glm_has_no_bos_unless_the_file_names_one) {
    static const char *const names[] = {"chatglm-bpe", "glm4", "gpt-2"};
    static char text[12][2];
    const char *tokens[12];
    static const char *const merges[] = {"a b"};
    for (int i = 0; i < 12; i++) {
        text[i][0] = (char)('a' + i);
        tokens[i] = text[i];
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        build b;
        bare r;
        build_init(&b);
        add_str(&b, "tokenizer.ggml.model", "gpt2");
        add_str(&b, "tokenizer.ggml.pre", names[i]);
        add_strs(&b, "tokenizer.ggml.tokens", 12, tokens);
        add_strs(&b, "tokenizer.ggml.merges", 1, merges);
        bare_open(&r, &b);
        CHECK_EQ(r.m.vocab.bos_id, i < 2 ? TOK_ID_NONE : 11);
        bare_close(&r);
    }
}

TEST(vocab_none_may_be_said_in_two_ways) {
    static const char *const names[] = {"none", "no_vocab"};
    for (size_t i = 0; i < 2; i++) {
        build b;
        str bytes;
        build_good(&b, "tokenizer.ggml.model");
        add_str(&b, "tokenizer.ggml.model", names[i]);
        model *m = open_vocab(&b, &bytes);
        CHECK_EQ(m->vocab.kind, TOK_KIND_NONE);
        close_vocab(m, bytes);
    }
}

/* --- hostile numbers and lengths ----------------------------------------------------------- */

TEST(vocab_ends_lists_have_room_for_sixteen) {
    static const int32_t many[17] = {0};
    static const int32_t below[1] = {-1};
    build b;
    build_good(&b, NULL);
    add_i32s(&b, "tokenizer.ggml.eos_token_ids", 17, many);
    CHECK_HAS(model_refusal(&b), "'tokenizer.ggml.eos_token_ids' has 17 tokens, room for 16");
    build_good(&b, NULL);
    add_u32(&b, "tokenizer.ggml.eom_token_id", 1);
    add_i32s(&b, "tokenizer.ggml.eos_token_ids", 8, many);
    add_i32s(&b, "tokenizer.ggml.eog_token_ids", 8, many);
    CHECK_HAS(model_refusal(&b), "'tokenizer.ggml.eog_token_ids' has 8 tokens, room for 7");
    build_good(&b, NULL);
    add_i32s(&b, "tokenizer.ggml.eog_token_ids", 1, below);
    CHECK_HAS(model_refusal(&b), "holds -1, there are 4 tokens");
    for (int big = 0; big < 2; big++) { /* without a sign, too */
        build_good(&b, NULL);
        add_array(&b, "tokenizer.ggml.eos_token_ids", GGUF_TYPE_U32, 1);
        put_u32(&b.kv, big ? UINT32_MAX : 3);
        CHECK_HAS(model_refusal(&b), big ? "holds 4294967295, there are 4 tokens" : "opened");
    }
}

TEST(vocab_charsmaps_are_bytes_with_or_without_a_sign) {
    static const char *const tokens[] = {"<pad>", "</s>", "<unk>", "a"};
    static const uint32_t types[] = {GGUF_TYPE_I8, GGUF_TYPE_U8, GGUF_TYPE_I16};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        build b;
        build_kind(&b, "t5", tokens, NULL);
        add_f32s(&b, "tokenizer.ggml.scores", BUILD_VOCAB, (float[]){0, 0, 0, -1});
        add_array(&b, "tokenizer.ggml.precompiled_charsmap", types[i], 4);
        buf_put(&b.kv, "\0\0\0\0\0\0\0\0", types[i] == GGUF_TYPE_I16 ? 8 : 4);
        CHECK_HAS(model_refusal(&b), i < 2 ? "opened" : "must be of u8");
    }
}

TEST(vocab_broken_escapes_and_types_are_shown) {
    static const char *const broken[] = {"\\", "\\x", "\\x1", "\\x1g", "\\xg1", "\\x-1", "a\\"};
    build b;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        const char *tokens[] = {"a", broken[i], "b", "c"};
        build_kind(&b, "rwkv", tokens, NULL);
        CHECK_HAS(model_refusal(&b), "token 1 '");
        build_kind(&b, "rwkv", tokens, NULL);
        CHECK_HAS(model_refusal(&b), "has a broken escape");
    }
    build_good(&b, "tokenizer.ggml.token_type");
    add_i32s(&b, "tokenizer.ggml.token_type", BUILD_VOCAB, (int32_t[]){1, 0, 1, 1});
    CHECK_HAS(model_refusal(&b), "token 1 has type 0, must be 1 to 6");
}

TEST(vocab_messages_show_the_beginning_of_long_names) {
    static const char *const few[] = {"a", "b", "ab", "c"};
    char name[260], key[300];
    build b;
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    (void)snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", name);
    build_good(&b, NULL);
    add_u32(&b, key, 4);
    CHECK_HAS(model_refusal(&b), "xxx' is 4, there are 4 tokens");
    const char *merges[] = {name};
    build_kind(&b, "gpt2", few, NULL);
    add_strs(&b, "tokenizer.ggml.merges", 1, merges);
    CHECK_HAS(model_refusal(&b), "xxx' is no pair");
    name[258] = '\\';
    const char *tokens[] = {"a", name, "b", "c"};
    build_kind(&b, "rwkv", tokens, NULL);
    CHECK_HAS(model_refusal(&b), "xxx' has a broken escape");
}
