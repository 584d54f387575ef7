/* test_vocab_json_limits.c - tokenizer.json files that reach a limit, and a directory that uses
 * nearly everything, read with each allocation failing in turn. */
#include "base/alloc.h"
#include "vocab_rig.h"

#define MODEL \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"
#define CLS    "{\"SpecialToken\":{\"id\":\"x\",\"type_id\":0}}"
#define TEXT_A "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}"
#define FRAME(list)                                                                     \
    "{\"type\":\"TemplateProcessing\",\"single\":[" list "],\"special_tokens\":{\"x\":" \
    "{\"id\":\"x\",\"ids\":[0,1,2,0,1],\"tokens\":[\"x\"]}}}"

/* PART: a Sequence of `count` times `one`, twice. */
static const char *refuse_many(const char *part, const char *list, const char *one, int count) {
    static char text[sizeof(error)];
    vocab_rig r;
    buf b;
    rig_init(&r);
    buf_init(&b, 1 << 22);
    buf_printf(&b, MODEL ",\"%s\":{\"type\":\"Sequence\",\"%s\":[", part, list);
    for (int half = 0; half < 2; half++) {
        buf_printf(&b, "%s{\"type\":\"Sequence\",\"%s\":[", half > 0 ? "," : "", list);
        for (int i = 0; i < count; i++) buf_printf(&b, i > 0 ? ",%s" : "%s", one);
        buf_printf(&b, "]}");
    }
    buf_printf(&b, "]}");
    buf_put_char(&b, '\0');
    str_copy_c(text, sizeof text, str_of(rig_json(&r, b.p)));
    buf_deinit(&b);
    rig_deinit(&r);
    return text;
}

TEST(vocab_json_steps_have_a_limit) {
    CHECK_STR(refuse_many("normalizer", "normalizers", "{\"type\":\"NFC\"}", 128), "");
    CHECK_HAS(refuse_many("normalizer", "normalizers", "{\"type\":\"NFC\"}", 129),
              "more than 256 normalizing steps");
    CHECK_STR(refuse_many("pre_tokenizer", "pretokenizers", "{\"type\":\"Whitespace\"}", 128), "");
    CHECK_HAS(refuse_many("pre_tokenizer", "pretokenizers", "{\"type\":\"Whitespace\"}", 129),
              "more than 256 splitting steps");
    CHECK_HAS(refuse_many("decoder", "decoders", "{\"type\":\"Fuse\"}", 257), "257");
}

TEST(vocab_json_tokens_around_a_text_have_a_limit) {
    vocab_rig r;
    rig_init(&r);
    CHECK_STR(rig_json(&r, MODEL ",\"post_processor\":" FRAME(TEXT_A "," CLS)), "");
    CHECK_EQ(r.m->vocab.after_count, 5);
    CHECK_HAS(rig_json(&r, MODEL ",\"post_processor\":" FRAME(TEXT_A "," CLS "," CLS)),
              "more than 8 tokens around a text");
    CHECK_HAS(
        rig_json(&r, MODEL ",\"post_processor\":{\"type\":\"Sequence\",\"processors\":[" FRAME(
                         TEXT_A "," CLS) "," FRAME(TEXT_A "," CLS) "]}"),
        "more than 8 tokens around a text");
    CHECK_HAS(
        rig_json(&r, MODEL ",\"post_processor\":{\"type\":\"Sequence\",\"processors\":[" FRAME(
                         CLS "," TEXT_A) "," FRAME(CLS "," TEXT_A) "]}"),
        "more than 8 tokens around a text");
    rig_deinit(&r);
}

TEST(vocab_json_special_tokens_by_name_have_a_limit) {
    vocab_rig r;
    buf b;
    rig_init(&r);
    buf_init(&b, 1 << 20);
    buf_printf(&b, "{\"additional_special_tokens\":[\"\",\"t\"");
    for (int i = 0; i < 1024; i++) buf_printf(&b, ",\"t%d\"", i);
    buf_printf(&b, "]}");
    rig_put(&r, "tokenizer_config.json", buf_view(&b));
    CHECK_HAS(rig_json(&r, MODEL), "more than 1024 special tokens");
    buf_deinit(&b);
    rig_deinit(&r);
}

/* A class that puts BOS in front finds no room where the file has eight tokens there already. */
TEST(vocab_json_bos_of_the_class_counts_among_the_tokens_around) {
    vocab_rig r;
    rig_init(&r);
    rig_put(
        &r, "tokenizer_config.json",
        S("{\"tokenizer_class\":\"LlamaTokenizer\",\"bos_token\":\"b\",\"add_bos_token\":true}"));
#define FIVE FRAME(CLS "," TEXT_A)
#define THREE                                                                                  \
    "{\"type\":\"TemplateProcessing\",\"single\":\"y $A\",\"special_tokens\":{\"y\":{\"ids\":" \
    "[0,0,0]}}}"
    CHECK_HAS(rig_json(&r, MODEL ",\"post_processor\":{\"type\":\"Sequence\",\"processors\":[" FIVE
                                 "," THREE "]}"),
              "more than 8 tokens on one side of a text");
    CHECK_STR(rig_json(&r, MODEL ",\"post_processor\":" FIVE), "");
    CHECK_EQ(r.m->vocab.before_count, 6);
    rig_deinit(&r);
}

/* A merge whose right side is the prefix of parts that go on, or has it in front. */
TEST(vocab_json_merges_know_the_prefix_of_parts_that_go_on) {
    vocab_rig r;
    rig_init(&r);
#define PREFIXED(merges)                                                                          \
    "\"model\":{\"type\":\"BPE\",\"continuing_subword_prefix\":\"##\",\"vocab\":{\"a\":0,\"##b\"" \
    ":1,\"ab\":2,\"##\":3},\"merges\":[" merges "]}"
    CHECK_STR(rig_json(&r, PREFIXED("\"a ##b\",\"a ##\"")), "");
    CHECK_EQ(r.m->vocab.merges_count, 2);
    CHECK_HAS(rig_json(&r, PREFIXED("\"##b a\"")), "merge 0 needs '##ba', which is no token");
    rig_deinit(&r);
}

/* Names may be long; a message shows 200 bytes of each. */
TEST(vocab_json_messages_show_the_beginning_of_long_names) {
    static const struct {
        const char *members; /* $ is the name */
        const char *words;
    } rows[] = {
        {"\"model\":{\"vocab\":[[\"$\",1],[\"$\",2]]},\"added_tokens\":[{\"id\":0,\"content\":"
         "\"a\"}]",
         "has id 0, which is 'xxx"},
        {"\"model\":{\"vocab\":[[\"b\",1]]},\"added_tokens\":[{\"id\":0,\"content\":\"$\"}]",
         "xxx' has id 0, which is 'b'"},
        {"\"model\":{\"vocab\":{\"$\":1,\"$\":2},\"merges\":[]}", "xxx' has ids 1 and 2"},
        {"\"model\":{\"vocab\":{\"$\":1,\"y$\":1},\"merges\":[]}", "xxx' and to 'yxx"},
        {"\"model\":{\"vocab\":{\"y\":1},\"merges\":[[\"$\",\"y\"]]}", "xxx', which is no token"},
        {"\"model\":{\"vocab\":{\"y\":1},\"merges\":[\"$\"]}", "xxx', not two pieces"},
        {MODEL ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":\"$ $A\","
               "\"special_tokens\":{}}",
         "xxx' is not in special_tokens"},
        {MODEL ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":"
               "{\"id\":\"$$\"}}],\"special_tokens\":{}}",
         "500 bytes, at most 255"},
        {MODEL ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":\"$$ $A\","
               "\"special_tokens\":{}}",
         "xxx' is not in special_tokens"},
        {MODEL ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":\"$$A\"}",
         "want obj"},
        {MODEL ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":"
               "{\"id\":\"$\"}}]}",
         "xxx', want one A"},
        {"\"model\":{\"vocab\":{\"y\":1#},\"merges\":[]}", "111' is no id"},
        {"\"model\":{\"vocab\":[[\"y\",1#]]}", "111', which is no float"},
        {"\"model\":{\"dropout\":1#,\"vocab\":{\"y\":1},\"merges\":[]}", "model.dropout is 1111"},
        {"\"model\":{\"unk_id\":1#,\"vocab\":[[\"y\",1]]}", "model.unk_id is 1111"},
        {MODEL ",\"added_tokens\":[{\"id\":1#,\"content\":\"y\"}]", "added_tokens: id 1111"},
    };
    vocab_rig r;
    rig_init(&r);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char members[4096];
        size_t n = 0;
        for (const char *c = rows[i].members; *c != '\0'; c++) {
            size_t times = *c == '$' && c[1] != 'A' && c[1] != '0' ? 250 : *c == '#' ? 250 : 1;
            memset(members + n, times == 1 ? *c : *c == '#' ? '1' : 'x', times);
            n += times;
        }
        members[n] = '\0';
        CHECK_HAS(rig_json(&r, members), rows[i].words);
    }
    rig_deinit(&r);
}

/* Every beginning of a file is refused; so is every beginning of its largest part alone. */
TEST(vocab_json_that_is_cut_off_is_refused_wherever_it_ends) {
    const str whole = S("{\"added_tokens\":[{\"id\":4,\"content\":\"<s>\",\"special\":true}],"
                        "\"model\":{\"dropout\":"
                        "null,\"unk_token\":null,\"fuse_unk\":true,\"max_input_chars_per_word\":9,"
                        "\"vocab\":{\"a\":0,"
                        "\"b\":1,\"ab\":2},\"merges\":[\"a b\",[\"a\",\"b\"]],\"x\":null}}");
    const str list = S("{\"model\":{\"unk_id\":0,\"vocab\":[[\"a\",0],[\"b\",-1.5]]}}");
    vocab_rig r;
    rig_init(&r);
    for (size_t n = 1; n < whole.n; n++) {
        rig_put(&r, "tokenizer.json", (str){whole.p, n});
        CHECK_HAS(rig_open(&r), "tokenizer.json: ");
    }
    for (size_t n = 1; n < list.n; n++) {
        rig_put(&r, "tokenizer.json", (str){list.p, n});
        CHECK_HAS(rig_open(&r), "tokenizer.json: ");
    }
    rig_put(&r, "tokenizer.json", whole);
    CHECK_STR(rig_open(&r), "");
    rig_put(&r, "tokenizer.json", list);
    CHECK_STR(rig_open(&r), "");
    rig_deinit(&r);
}

/* --- no memory ------------------------------------------------------------------------ */
static void sweep(vocab_rig *r) {
    status st = ERR_NOMEM;
    int n = 0;
    for (; st != OK && n < 2000; n++) {
        error err = {0};
        model *m = NULL;
        mem_fail_after(n);
        st = model_open_vocab(&m, r->dir, &err);
        mem_fail_after(-1);
        CHECK(st == OK || (st == ERR_NOMEM && err.msg[0] != '\0'));
        if (st == OK) model_close(m);
    }
    CHECK(n > 5 && st == OK);
}

static void put_sides(vocab_rig *r) {
    rig_put(r, "chat_template.jinja", S("hi"));
    rig_put(r, "special_tokens_map.json", S("{\"unk_token\":\"a\",\"mask_token\":\"b\"}"));
    rig_put(r, "generation_config.json", S("{\"bos_token_id\":0,\"eos_token_id\":[1,2]}"));
    rig_put(r, "config.json", S("{\"eos_token_id\":1}"));
    rig_put(r, "tokenizer_config.json",
            S("{\"bos_token\":{\"content\":\"a\"},\"eos_token\":\"b\",\"cls_token\":\"a\","
              "\"tokenizer_class\":\"X\",\"additional_special_tokens\":[\"ab\"],"
              "\"added_tokens_decoder\":{\"4\":{\"content\":\"<t>\",\"special\":true}},"
              "\"chat_template\":[{\"name\":\"default\",\"template\":\"x\"},"
              "{\"name\":\"tool_use\",\"template\":\"y\"}]}"));
}

TEST(vocab_json_of_every_part_survives_running_out_of_memory) {
    vocab_rig r;
    rig_init(&r);
    put_sides(&r);
    CHECK_STR(
        rig_json(
            &r,
            "\"model\":{\"type\":\"BPE\",\"unk_token\":\"\\u0061\",\"vocab\":{\"\\u0061\":0,"
            "\"b\":1,\"ab\":2,\"\\u0120\":3},\"merges\":[[\"\\u0061\",\"b\"]]},"
            "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},"
            "{\"type\":\"BertNormalizer\"},{\"type\":\"Strip\"},{\"type\":\"StripAccents\"},"
            "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x+\"},\"content\":\"y\"},"
            "{\"type\":\"Prepend\",\"prepend\":\"z\"}]},\"pre_tokenizer\":{\"type\":"
            "\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\"},{\"type\":\"Split\","
            "\"pattern\":{\"Regex\":\"a+\"},\"behavior\":\"Isolated\",\"invert\":false},"
            "{\"type\":\"Punctuation\",\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\","
            "\"add_prefix_space\":false}]},\"decoder\":{\"type\":\"Sequence\",\"decoders\":["
            "{\"type\":\"ByteLevel\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \","
            "\"start\":1,\"stop\":0}]},\"post_processor\":" FRAME(CLS "," TEXT_A)),
        "");
    sweep(&r);
    rig_deinit(&r);
}

TEST(vocab_pairs_and_words_survive_running_out_of_memory) {
    vocab_rig r;
    rig_init(&r);
    put_sides(&r);
    rig_put(&r, "vocab.json", S("{\"a\":0,\"b\":1,\"\\u0061b\":2,\"x\":3}"));
    rig_put(&r, "merges.txt", S("#version: 0.2\na b\r\n\n"));
    rig_put(&r, "added_tokens.json", S("{\"<u>\":5,\"\":6}"));
    sweep(&r);
    rig_deinit(&r);
}

TEST(vocab_unigram_and_wordpiece_survive_running_out_of_memory) {
    vocab_rig r;
    rig_init(&r);
    CHECK_STR(rig_json(&r,
                       "\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"\\u0061\",0],"
                       "[\"b\",-1]]},\"normalizer\":{\"type\":\"Lowercase\"},\"pre_tokenizer\":"
                       "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},"
                       "{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\"}]},\"decoder\":"
                       "{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\",\"prepend_scheme\":"
                       "\"always\"}"),
              "");
    sweep(&r);
    CHECK_STR(rig_json(&r,
                       "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"a\","
                       "\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":9,"
                       "\"vocab\":{\"a\":0,\"b\":1}},\"normalizer\":{\"type\":\"BertNormalizer\"},"
                       "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"post_processor\":"
                       "{\"type\":\"BertProcessing\",\"sep\":[\"a\",0],\"cls\":[\"b\",1]},"
                       "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true}"),
              "");
    sweep(&r);
    rig_deinit(&r);
}
