/* test_vocab_json.c - tokenizer.json: models, added tokens, and what a file is refused for. */
#include "base/alloc.h"
#include "vocab_rig.h"

#define BPE    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"<0x0A>\":3}"
#define MERGES ",\"merges\":[\"a b\"]}"

static const char *refusal(const char *members) {
    static char text[sizeof(error)];
    vocab_rig r;
    rig_init(&r);
    str_copy_c(text, sizeof text, str_of(rig_json(&r, members)));
    rig_deinit(&r);
    return text;
}

TEST(vocab_json_reads_a_bpe_model) {
    vocab_rig r;
    rig_init(&r);
    const tok_vocab *v = rig_vocab(
        &r, BPE ",\"dropout\":null,\"unk_token\":\"a\",\"continuing_subword_prefix\":\"\","
                "\"end_of_word_suffix\":\"</w>\",\"fuse_unk\":true,\"byte_fallback\":true,"
                "\"ignore_merges\":true,\"merges\":[\"#version: 0.2\",\"a b\",[\"a\",\"b\"]]}");
    CHECK_EQ(v->kind, TOK_KIND_BPE);
    CHECK_EQ(v->form, TOK_FORM_PLAIN);
    CHECK_EQ(v->count, 4);
    CHECK_EQ(v->merges_count, 2);
    CHECK(v->merges_count == 2 && str_eq_c(v->merges[0].left, "a") &&
          str_eq_c(v->merges[1].right, "b"));
    CHECK(v->fuse_unknown && v->byte_fallback && v->ignore_merges && !v->drop_unknown);
    CHECK(str_eq_c(v->end_of_word, "</w>") && v->continuing_prefix.n == 0);
    CHECK_EQ(v->unk_id, 0);
    CHECK_EQ(v->types[2], TOK_TYPE_NORMAL);
    CHECK_EQ(v->types[3], TOK_TYPE_BYTE);
    CHECK(v->scores == NULL);
    CHECK(model_gguf(r.m) == NULL);
    CHECK_HAS(r.m->name, "gantry-vocab-");
    rig_deinit(&r);
}

TEST(vocab_json_model_without_type_is_told_by_its_keys) {
    vocab_rig r;
    rig_init(&r);
    CHECK_EQ(rig_vocab(&r, "\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}")->kind, TOK_KIND_BPE);
    CHECK_EQ(rig_vocab(&r, "\"model\":{\"vocab\":[[\"a\",0.5]]}")->kind, TOK_KIND_UNIGRAM);
    CHECK_EQ(rig_vocab(&r, "\"model\":{\"vocab\":{\"a\":0},\"unk_token\":\"a\"}")->kind,
             TOK_KIND_WORDLEVEL);
    const tok_vocab *v = rig_vocab(&r, "\"model\":{\"vocab\":{\"a\":0},\"unk_token\":\"[UNK]\","
                                       "\"continuing_subword_prefix\":\"##\","
                                       "\"max_input_chars_per_word\":100}");
    CHECK_EQ(v->kind, TOK_KIND_WORDPIECE);
    CHECK_EQ(v->form, TOK_FORM_HASH_MARK);
    CHECK_EQ(v->word_chars_max, 100);
    CHECK_EQ(v->unk_id, TOK_ID_NONE);
    CHECK(str_eq_c(v->continuing_prefix, "##"));
    rig_deinit(&r);
}

TEST(vocab_json_reads_a_unigram_model) {
    vocab_rig r;
    rig_init(&r);
    const tok_vocab *v =
        rig_vocab(&r, "\"model\":{\"type\":\"Unigram\",\"unk_id\":1,\"byte_fallback\":false,"
                      "\"vocab\":[[\"\\u2581a\",-1.5],[\"<unk>\",0],[\"a\",-2e0],[\"a\",-3]]}");
    CHECK_EQ(v->kind, TOK_KIND_UNIGRAM);
    CHECK_EQ(v->count, 4);
    CHECK(v->scores != NULL && v->scores[0] == -1.5F && v->scores[2] == -2.0F);
    CHECK(str_eq_c(v->pieces[0], "\xE2\x96\x81"
                                 "a"));
    CHECK_EQ(v->unk_id, 1);
    CHECK_EQ(v->types[1], TOK_TYPE_UNKNOWN);
    CHECK(v->fuse_unknown);
    rig_deinit(&r);
}

TEST(vocab_json_added_tokens_get_their_place) {
    vocab_rig r;
    rig_init(&r);
    const tok_vocab *v = rig_vocab(
        &r, BPE MERGES
        ",\"added_tokens\":[{\"id\":6,\"content\":\"<s>\",\"special\":true,\"lstrip\":false,"
        "\"rstrip\":true,\"single_word\":true,\"normalized\":false},"
        "{\"id\":9,\"content\":\"\\u00e9\",\"special\":false,\"lstrip\":true,\"normalized\":true},"
        "{\"id\":40,\"content\":\"ab\",\"special\":true},"
        "{\"id\":5,\"content\":\"\"}]");
    CHECK_EQ(v->count, 10);
    CHECK_EQ(v->types[6], TOK_TYPE_CONTROL);
    CHECK_EQ(v->flags[6], TOK_FLAG_RSTRIP | TOK_FLAG_SINGLE_WORD);
    CHECK_EQ(v->types[9], TOK_TYPE_USER_DEFINED);
    CHECK_EQ(v->flags[9], TOK_FLAG_LSTRIP | TOK_FLAG_NORMALIZED);
    CHECK(str_eq_c(v->pieces[9], "\xC3\xA9"));
    CHECK_EQ(v->types[2], TOK_TYPE_CONTROL); /* "ab" is a token already */
    CHECK_EQ(v->types[5], TOK_TYPE_UNUSED);
    CHECK(v->pieces[5].p != NULL && v->pieces[5].n == 0);
    CHECK_EQ(rig_vocab(&r, BPE MERGES ",\"added_tokens\":null")->count, 4);
    rig_deinit(&r);
}

TEST(vocab_json_names_what_is_wrong_with_the_file) {
    CHECK_HAS(refusal("\"x\":1"), "tokenizer.json: 'x' is not known");
    CHECK_HAS(refusal("\"version\":\"2.0\""), "version is \"2.0\", known is \"1.0\"");
    CHECK_HAS(refusal("\"x\":null"), "key 'model' is missing");
    CHECK_HAS(refusal("\"truncation\":{},\"padding\":{}"), "key 'model' is missing");
    CHECK_HAS(refusal("\"decoder\":null,\"decoder\":null"), "'decoder' is there twice");
    CHECK_HAS(refusal(BPE MERGES "," BPE MERGES), "'model' is there twice");
    CHECK_HAS(refusal("\"added_tokens\":[],\"added_tokens\":[]"), "is there twice");
    CHECK_HAS(refusal("\"model\":1"), "want object, found number");
    CHECK_HAS(refusal(BPE MERGES "} x"), "text behind the document");
    CHECK_HAS(refusal("\"model\":"), "tokenizer.json: byte ");
    CHECK_HAS(refusal("\"normalizer\":[1"), "tokenizer.json: byte ");
}

TEST(vocab_json_names_what_is_wrong_with_the_model) {
    CHECK_HAS(refusal("\"model\":{\"type\":\"Cat\",\"vocab\":{\"a\":0}}"),
              "model: type 'Cat' is not known");
    CHECK_HAS(refusal("\"model\":{\"type\":5}"), "want string, found number");
    CHECK_HAS(refusal("\"model\":{}"), "no model.vocab");
    CHECK_HAS(refusal("\"model\":{\"vocab\":{}}"), "the vocabulary has 0 tokens");
    CHECK_HAS(refusal("\"model\":{\"vocab\":3}"), "want object or array, found number");
    CHECK_HAS(refusal("\"model\":{\"cat\":3}"), "model: 'cat' is not known");
    CHECK_HAS(refusal("\"model\":{\"cat\":null}"), "no model.vocab");
    CHECK_HAS(refusal("\"model\":{\"vocab\":{},\"vocab\":{}}"), "model.vocab is there twice");
    CHECK_HAS(refusal(BPE ",\"type\":\"Unigram\"}"), "model.vocab is an object, want an array");
    CHECK_HAS(refusal("\"model\":{\"type\":\"BPE\",\"vocab\":[]}"),
              "model.vocab is an array, want an object");
    CHECK_HAS(refusal(BPE "}"), "model.merges is missing");
    CHECK_HAS(refusal("\"model\":{\"type\":\"WordLevel\",\"vocab\":{},\"merges\":[]}"),
              "model.merges of a model other than BPE");
    CHECK_HAS(refusal("\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]],\"unk_id\":1}"),
              "model.unk_id is 1, there are 1 tokens");
    CHECK_HAS(refusal("\"model\":{\"vocab\":[],\"unk_id\":-1}"), "model.unk_id is -1, must be 0");
    CHECK_HAS(refusal("\"model\":{\"vocab\":[],\"unk_id\":\"a\"}"), "want number, found string");
    CHECK_HAS(refusal(BPE ",\"dropout\":0.1" MERGES), "model.dropout is 0.1, must be 0");
    CHECK_HAS(refusal(BPE ",\"dropout\":\"x\"" MERGES), "want number, found string");
    CHECK_HAS(refusal(BPE ",\"fuse_unk\":1" MERGES), "want true or false, found number");
    CHECK_HAS(refusal(BPE ",\"unk_token\":1" MERGES), "want string, found number");
    CHECK_STR(refusal(BPE ",\"dropout\":0.0,\"unk_token\":null,\"fuse_unk\":null,\"unk_id\":null"
                          ",\"end_of_word_suffix\":null" MERGES),
              "");
}

TEST(vocab_json_names_what_is_wrong_with_a_token) {
    CHECK_HAS(refusal("\"model\":{\"vocab\":{\"a\":4194304}}"), "'4194304' is no id, 0 to 4194303");
    CHECK_HAS(refusal("\"model\":{\"vocab\":{\"a\":-1}}"), "'-1' is no id");
    CHECK_HAS(refusal("\"model\":{\"vocab\":{\"a\":1.0}}"), "'1.0' is no id");
    CHECK_HAS(refusal("\"model\":{\"vocab\":{\"a\":\"b\"}}"), "want number, found string");
    CHECK_HAS(refusal("\"model\":{\"vocab\":{\"a\":0,\"a\":1}}"), "token 'a' has ids 0 and 1");
    CHECK_HAS(refusal("\"model\":{\"vocab\":{\"a\":0,\"b\":0}}"),
              "id 0 is given to 'a' and to 'b'");
    CHECK_HAS(refusal("\"model\":{\"vocab\":[1]}"), "want array, found number");
    CHECK_HAS(refusal("\"model\":{\"vocab\":[[1]]}"), "want string, found number");
    CHECK_HAS(refusal("\"model\":{\"vocab\":[[\"a\",\"b\"]]}"), "want number, found string");
    CHECK_HAS(refusal("\"model\":{\"vocab\":[[\"a\",1,2]]}"), "want end of array, found number");
    CHECK_HAS(refusal("\"model\":{\"vocab\":[[\"a\",1e400]]}"), "token 0 has score '1e400'");
    CHECK_HAS(refusal(BPE ",\"merges\":[\"ab\"]}"), "merge 0 is 'ab', not two pieces");
    CHECK_HAS(refusal(BPE ",\"merges\":[\"\"]}"), "merge 0 is '', not two pieces");
    CHECK_HAS(refusal(BPE ",\"merges\":[\" a\"]}"), "not two pieces");
    CHECK_HAS(refusal(BPE ",\"merges\":[\"a \"]}"), "not two pieces");
    CHECK_HAS(refusal(BPE ",\"merges\":[\"a b a\"]}"), "not two pieces");
    CHECK_HAS(refusal(BPE ",\"merges\":[1]}"), "want string or array, found number");
    CHECK_HAS(refusal(BPE ",\"merges\":[[\"a\"]]}"), "want string, found end of array");
    CHECK_HAS(refusal(BPE ",\"merges\":[[\"a\",\"b\",\"c\"]]}"), "want end of array, found string");
    CHECK_HAS(refusal(BPE ",\"merges\":{}}"), "want array, found object");
    CHECK_HAS(refusal(BPE ",\"merges\":[\"b a\"]}"), "merge 0 needs 'ba', which is no token");
    CHECK_HAS(refusal(BPE ",\"merges\":[\"x a\"]}"), "merge 0 needs 'x', which is no token");
    CHECK_HAS(refusal(BPE ",\"merges\":[\"a x\"]}"), "merge 0 needs 'x', which is no token");
}

TEST(vocab_json_names_what_is_wrong_with_an_added_token) {
    CHECK_HAS(refusal(BPE MERGES ",\"added_tokens\":1"), "want array, found number");
    CHECK_HAS(refusal(BPE MERGES ",\"added_tokens\":[1]"), "want object, found number");
    CHECK_HAS(refusal(BPE MERGES ",\"added_tokens\":[{}]"), "an added token without id");
    CHECK_HAS(refusal(BPE MERGES ",\"added_tokens\":[{\"id\":5}]"), "without content");
    CHECK_HAS(refusal(BPE MERGES ",\"added_tokens\":[{\"id\":\"5\"}]"),
              "want number, found string");
    CHECK_HAS(refusal(BPE MERGES ",\"added_tokens\":[{\"id\":9999999}]"),
              "added_tokens: id 9999999, must be 0 to 4194303");
    CHECK_HAS(refusal(BPE MERGES ",\"added_tokens\":[{\"cat\":true}]"),
              "added_tokens: 'cat' is not known");
    CHECK_HAS(refusal(BPE MERGES ",\"added_tokens\":[{\"special\":1}]"),
              "want true or false, found number");
    CHECK_HAS(refusal(BPE MERGES ",\"added_tokens\":[{\"content\":1}]"),
              "want string, found number");
    CHECK_HAS(refusal(BPE MERGES ",\"added_tokens\":[{\"id\":1,\"content\":\"x\"}]"),
              "added token 'x' has id 1, which is 'b'");
}

TEST(vocab_json_a_piece_of_more_than_1024_bytes_is_refused) {
    vocab_rig r;
    buf b;
    rig_init(&r);
    for (int n = 1024; n <= 1025; n++) {
        buf_init(&b, 1 << 20);
        buf_printf(&b, "\"model\":{\"vocab\":{\"");
        for (int i = 0; i < n; i++) buf_put_char(&b, 'x');
        buf_printf(&b, "\":0}}");
        buf_put_char(&b, '\0');
        CHECK_HAS(rig_json(&r, b.p), n == 1024 ? "" : "token 0 has 1025 bytes, at most 1024");
        CHECK((n == 1024) == (r.m != NULL));
        buf_deinit(&b);
    }
    rig_deinit(&r);
}

/* Every allocation that can fail does so once; nothing leaks and no file is half read. */
TEST(vocab_json_survives_running_out_of_memory) {
    vocab_rig r;
    error err = {0};
    rig_init(&r);
    CHECK_STR(rig_json(&r, BPE MERGES
                       ",\"added_tokens\":[{\"id\":6,\"content\":\"<s>\",\"special\":true}],"
                       "\"normalizer\":{\"type\":\"Prepend\",\"prepend\":\"x\"},"
                       "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"x\"},"
                       "\"behavior\":\"Removed\",\"invert\":false},"
                       "\"decoder\":{\"type\":\"Fuse\"}"),
              "");
    rig_put(&r, "tokenizer_config.json", S("{\"bos_token\":\"<s>\",\"chat_template\":\"hi\"}"));
    status st = ERR_NOMEM;
    int n = 0;
    for (; st != OK && n < 1000; n++) {
        model *m = NULL;
        mem_fail_after(n);
        st = model_open_vocab(&m, r.dir, &err);
        mem_fail_after(-1);
        if (st != OK) CHECK_EQ(st, ERR_NOMEM);
        model_close(m);
    }
    CHECK(n > 10 && n < 1000);
    rig_deinit(&r);
}
