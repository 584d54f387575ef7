/* test_vocab_json_parts.c - the components of a tokenizer.json: normalizer, pre_tokenizer,
 * post_processor, decoder. */
#include "vocab_rig.h"

#define MODEL \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"
#define MARK "\xE2\x96\x81"

/* The vocabulary with one component; the rig's directory keeps it until the next. */
static const tok_vocab *with(vocab_rig *r, const char *part, const char *text) {
    char members[2048];
    (void)snprintf(members, sizeof members, MODEL ",\"%s\":%s", part, text);
    return rig_vocab(r, members);
}

/* Each row: what is in the component, what the message has to say. */
static void check_refusals(const char *part, const char *const rows[][2], size_t count) {
    vocab_rig r;
    char members[2048];
    rig_init(&r);
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(members, sizeof members, MODEL ",\"%s\":%s", part, rows[i][0]);
        CHECK_HAS(rig_json(&r, members), "tokenizer.json: ");
        CHECK_HAS(rig_json(&r, members), rows[i][1]);
    }
    rig_deinit(&r);
}

/* --- normalizer ------------------------------------------------------------------ */
TEST(vocab_json_normalizers_become_steps) {
    static const tok_norm_kind want[] = {
        TOK_NORM_NFC,        TOK_NORM_NFD,           TOK_NORM_NFKC,    TOK_NORM_NFKD,
        TOK_NORM_LOWERCASE,  TOK_NORM_NMT,           TOK_NORM_STRIP,   TOK_NORM_REPLACE_REGEX,
        TOK_NORM_REPLACE,    TOK_NORM_REPLACE_REGEX, TOK_NORM_PREPEND, TOK_NORM_CHARSMAP,
        TOK_NORM_BERT_CLEAN, TOK_NORM_BERT_CHINESE,  TOK_NORM_NFD,     TOK_NORM_STRIP_ACCENTS,
        TOK_NORM_LOWERCASE,  TOK_NORM_LOWERCASE};
    vocab_rig r;
    rig_init(&r);
    const tok_vocab *v =
        with(&r, "normalizer",
             "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"NFD\"},"
             "{\"type\":\"NFKC\"},{\"type\":\"NFKD\"},{\"type\":\"Sequence\",\"normalizers\":["
             "{\"type\":\"Lowercase\"},{\"type\":\"Nmt\"}]},"
             "{\"type\":\"Strip\",\"strip_left\":false,\"strip_right\":true},{\"type\":"
             "\"StripAccents\"},"
             "{\"type\":\"Replace\",\"pattern\":{\"String\":\"x\"},\"content\":\"y\"},"
             "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\"\"},"
             "{\"type\":\"Prepend\",\"prepend\":\"_\"},"
             "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AQID/w==\"},"
             "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"\"},"
             "{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,"
             "\"strip_accents\":null,\"lowercase\":true},"
             "{\"type\":\"BertNormalizer\",\"clean_text\":false,\"handle_chinese_chars\":false,"
             "\"strip_accents\":false,\"lowercase\":true}]}");
    CHECK_EQ(v->norms_count, sizeof want / sizeof *want);
    for (uint32_t i = 0; i < v->norms_count; i++) CHECK_EQ(v->norms[i].kind, want[i]);
    CHECK(!v->norms[6].left && v->norms[6].right);
    CHECK(str_eq_c(v->norms[8].a, "x") && str_eq_c(v->norms[8].b, "y"));
    CHECK(str_eq_c(v->norms[9].a, " {2,}") && v->norms[9].b.n == 0);
    CHECK(str_eq(v->norms[11].a, S("\1\2\3\xFF")));
    CHECK_EQ(v->form, TOK_FORM_PLAIN);
    v = with(&r, "normalizer", "{\"type\":\"ByteLevel\"}");
    CHECK_EQ(v->form, TOK_FORM_BYTE_LEVEL);
    CHECK_EQ(with(&r, "normalizer", "null")->norms_count, 0);
    rig_deinit(&r);
}

TEST(vocab_json_normalizers_that_are_not_known_are_named) {
    static const char *const rows[][2] = {
        {"5", "normalizer: want object, found number"},
        {"{}", "normalizer.type: is required"},
        {"{\"type\":\"Cat\"}", "normalizer: type 'Cat' is not known"},
        {"{\"type\":\"NFC\",\"x\":1}", "normalizer: 'x' is not known"},
        {"{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Cat\"}]}",
         "normalizer.normalizers[1]: type 'Cat' is not known"},
        {"{\"type\":\"Sequence\"}", "normalizer.normalizers: is required"},
        {"{\"type\":\"Sequence\",\"normalizers\":[],\"x\":1}", "normalizer: 'x' is not known"},
        {"{\"type\":\"Replace\",\"content\":\"\"}", "normalizer.pattern: is required"},
        {"{\"type\":\"Replace\",\"pattern\":{},\"content\":\"\"}", "pattern.String: is required"},
        {"{\"type\":\"Replace\",\"pattern\":{\"String\":\"x\",\"X\":1},\"content\":\"\"}",
         "pattern: 'X' is not known"},
        {"{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"\"}", "is empty"},
        {"{\"type\":\"Prepend\"}", "normalizer.prepend: is required"},
        {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"A*\"}", "byte 1 of 2 is not base64"},
        {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAAA\"}", "cut off"},
        {"{\"type\":\"BertNormalizer\",\"lowercase\":1}", "normalizer.lowercase: want"},
        {"{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"ByteLevel\"},{\"type\":\"NFC\"}]}",
         "normalizers[1]: 'NFC' behind ByteLevel"},
        {"{\"type\":\"NFC\",\"type\":\"NFD\"}", "normalizer: json: "},
    };
    check_refusals("normalizer", rows, sizeof rows / sizeof *rows);
}

TEST(vocab_json_sequences_nest_to_a_limit) {
    vocab_rig r;
    buf b;
    rig_init(&r);
    for (int levels = 8; levels <= 9; levels++) {
        buf_init(&b, 1 << 16);
        for (int i = 0; i < levels; i++) buf_printf(&b, "{\"type\":\"Sequence\",\"normalizers\":[");
        for (int i = 0; i < levels; i++) buf_printf(&b, "]}");
        buf_put_char(&b, '\0');
        char members[2048];
        (void)snprintf(members, sizeof members, MODEL ",\"normalizer\":%s", b.p);
        CHECK_HAS(rig_json(&r, members), levels == 8 ? "" : "more than 8 sequences in one another");
        CHECK((r.m != NULL) == (levels == 8));
        buf_deinit(&b);
    }
    rig_deinit(&r);
}

/* --- pre_tokenizer --------------------------------------------------------------- */
TEST(vocab_json_byte_level_splits_like_gpt_2) {
    vocab_rig r;
    rig_init(&r);
    const tok_vocab *v = with(&r, "pre_tokenizer",
                              "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
                              "\"trim_offsets\":true}");
    CHECK_EQ(v->form, TOK_FORM_BYTE_LEVEL);
    CHECK(v->norms_count == 1 && v->norms[0].kind == TOK_NORM_PREPEND && v->norms[0].unless_there);
    CHECK(v->splits_count == 1 && v->splits[0].kind == TOK_SPLIT_REGEX);
    CHECK(v->splits_count == 1 && str_starts(v->splits[0].pattern, S("'s|'t|'re|")));
    CHECK(!v->add_space_prefix);
    v = with(&r, "pre_tokenizer",
             "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
             "{\"Regex\":\"\\\\d\"},\"behavior\":\"Removed\",\"invert\":true},"
             "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false},"
             "{\"type\":\"Digits\",\"individual_digits\":true},"
             "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[0-9][0-9][0-9]\"},"
             "\"behavior\":\"Isolated\",\"invert\":false}]}");
    CHECK_EQ(v->norms_count, 0);
    CHECK_EQ(v->splits_count, 3);
    CHECK(v->splits[0].behavior == TOK_SPLIT_REMOVED && v->splits[0].invert);
    CHECK(v->splits[1].kind == TOK_SPLIT_BYTE_DIGITS && v->splits[1].each);
    rig_deinit(&r);
}

TEST(vocab_json_metaspace_becomes_norms_and_a_split) {
    vocab_rig r;
    rig_init(&r);
    const tok_vocab *v =
        with(&r, "pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\"}");
    CHECK_EQ(v->form, TOK_FORM_METASPACE);
    CHECK(v->norms_count == 2 && v->norms[0].kind == TOK_NORM_REPLACE &&
          v->norms[1].kind == TOK_NORM_PREPEND && v->norms[1].unless_there &&
          !v->norms[1].first_only);
    CHECK(v->splits_count == 1 && v->splits[0].kind == TOK_SPLIT_METASPACE);
    v = with(&r, "pre_tokenizer",
             "{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\",\"prepend_scheme\":\"first\","
             "\"split\":false,\"str_rep\":\"" MARK "\"}");
    CHECK(v->norms_count == 2 && v->norms[1].first_only && v->splits_count == 0);
    v = with(&r, "pre_tokenizer",
             "{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\",\"add_prefix_space\":false}");
    CHECK(v->norms_count == 1 && v->splits_count == 1);
    v = with(&r, "pre_tokenizer",
             "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},"
             "{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\"}]}");
    CHECK(v->norms_count == 5 && v->norms_late == 5 && v->norms[0].kind == TOK_NORM_REPLACE_REGEX &&
          v->norms[1].kind == TOK_NORM_STRIP && v->splits_count == 1);
    v = with(&r, "pre_tokenizer",
             "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\"},{\"type\":"
             "\"Punctuation\"},{\"type\":\"Metaspace\",\"replacement\":\"" MARK
             "\",\"prepend_scheme\":\"never\"}]}");
    CHECK(v->norms_count == 1 && v->splits_count == 3);
    rig_deinit(&r);
}

TEST(vocab_json_pre_tokenizers_become_splits) {
    static const tok_split_kind want[] = {
        TOK_SPLIT_WHITESPACE, TOK_SPLIT_SPACES,      TOK_SPLIT_BERT,    TOK_SPLIT_SCRIPTS,
        TOK_SPLIT_DIGITS,     TOK_SPLIT_PUNCTUATION, TOK_SPLIT_LITERAL, TOK_SPLIT_LITERAL,
        TOK_SPLIT_LENGTH,     TOK_SPLIT_LENGTH,      TOK_SPLIT_LENGTH};
    vocab_rig r;
    rig_init(&r);
    const tok_vocab *v =
        with(&r, "pre_tokenizer",
             "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Whitespace\"},"
             "{\"type\":\"WhitespaceSplit\"},{\"type\":\"BertPreTokenizer\"},"
             "{\"type\":\"UnicodeScripts\"},{\"type\":\"Digits\",\"individual_digits\":false},"
             "{\"type\":\"Punctuation\",\"behavior\":\"Contiguous\"},"
             "{\"type\":\"CharDelimiterSplit\",\"delimiter\":\"\\u00e9\"},"
             "{\"type\":\"Split\",\"pattern\":{\"String\":\"x\"},\"behavior\":"
             "\"MergedWithNext\",\"invert\":false},{\"type\":\"FixedLength\"},"
             "{\"type\":\"FixedLength\",\"length\":7},{\"type\":\"Split\",\"pattern\":"
             "{\"String\":\"\"},\"behavior\":\"Isolated\",\"invert\":false}]}");
    CHECK_EQ(v->splits_count, sizeof want / sizeof *want);
    for (uint32_t i = 0; i < v->splits_count; i++) CHECK_EQ(v->splits[i].kind, want[i]);
    CHECK_EQ(v->splits[4].behavior, TOK_SPLIT_CONTIGUOUS);
    CHECK_EQ(v->splits[5].behavior, TOK_SPLIT_CONTIGUOUS);
    CHECK(str_eq_c(v->splits[6].pattern, "\xC3\xA9"));
    CHECK_EQ(v->splits[6].behavior, TOK_SPLIT_REMOVED);
    CHECK_EQ(v->splits[7].behavior, TOK_SPLIT_MERGED_WITH_NEXT);
    CHECK(v->splits[8].length == 5 && v->splits[9].length == 7 && v->splits[10].length == 1);
    rig_deinit(&r);
}

#define SEQ(a, b) "{\"type\":\"Sequence\",\"pretokenizers\":[{" a "},{" b "}]}"
#define BYTES     "\"type\":\"ByteLevel\",\"add_prefix_space\":false"
#define META      "\"type\":\"Metaspace\",\"replacement\":\"" MARK "\""

TEST(vocab_json_pre_tokenizers_that_are_not_known_are_named) {
    static const char *const rows[][2] = {
        {"{\"type\":\"Cat\"}", "pre_tokenizer: type 'Cat' is not known"},
        {SEQ(BYTES, "\"type\":\"X\""), "pre_tokenizer.pretokenizers[1]: type 'X' is not known"},
        {"{\"type\":\"Digits\",\"x\":true}", "pre_tokenizer: 'x' is not known"},
        {"{\"type\":\"Sequence\",\"pretokenizers\":[],\"x\":1}", "'x' is not known"},
        {"{\"type\":\"Sequence\",\"pretokenizers\":5}", "pretokenizers: want array"},
        {"{\"type\":\"ByteLevel\",\"trim_offsets\":1}", "trim_offsets"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\",\"add_prefix_space\":1}",
         "add_prefix_space"},
        {SEQ("\"type\":\"WhitespaceSplit\"", META ",\"prepend_scheme\":\"never\""),
         "[1]: Metaspace behind another pre-tokenizer"},
        {SEQ(BYTES, BYTES), "[1]: ByteLevel behind ByteLevel"},
        {SEQ(META, BYTES), "[1]: ByteLevel behind ByteLevel or Metaspace"},
        {SEQ(BYTES, META), "[1]: Metaspace behind ByteLevel"},
        {SEQ("\"type\":\"Digits\"", "\"type\":\"ByteLevel\""), "add_prefix_space behind"},
        {SEQ("\"type\":\"Digits\"", META), "[1]: Metaspace behind another pre-tokenizer"},
        {SEQ("\"type\":\"Whitespace\"", META), "[1]: Metaspace behind another pre-tokenizer"},
        {SEQ(BYTES, "\"type\":\"Whitespace\""), "white space behind ByteLevel"},
        {SEQ(BYTES, "\"type\":\"Punctuation\""), "Punctuation behind ByteLevel"},
        {SEQ(BYTES, "\"type\":\"FixedLength\""), "behind ByteLevel that may tell"},
        {SEQ(BYTES, "\"type\":\"CharDelimiterSplit\",\"delimiter\":\" \""), "behind ByteLevel"},
        {SEQ(BYTES,
             "\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\s\"},\"behavior\":\"Removed\""),
         "behind ByteLevel that may tell"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\"}", "a replacement other than U+2581"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"__\"}", "'replacement' has 2 characters"},
        {"{\"type\":\"Metaspace\"}", "replacement: is required"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\",\"prepend_scheme\":\"x\"}",
         "prepend_scheme"},
        {"{\"type\":\"Split\",\"pattern\":{\"String\":\"\"},\"behavior\":\"Isolated\","
         "\"invert\":true}",
         "an empty pattern, inverted"},
        {"{\"type\":\"Split\",\"pattern\":{\"String\":\"x\"},\"behavior\":\"X\"}", "behavior"},
        {"{\"type\":\"FixedLength\",\"length\":0}", "length"},
    };
    check_refusals("pre_tokenizer", rows, sizeof rows / sizeof *rows);
}

/* --- post_processor -------------------------------------------------------------- */
#define TOKENS                                                                        \
    ",\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[1],\"tokens\":[\"<s>\"]}," \
    "\"</s>\":{\"id\":\"</s>\",\"ids\":[2,0],\"tokens\":[\"a\",\"b\"]}}}"

#define OBJECTS                                                                       \
    "[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\"," \
    "\"type_id\":0}},{\"SpecialToken\":{\"id\":\"</s>\",\"type_id\":0}}]"

TEST(vocab_json_templates_become_tokens_around) {
    static const char *const singles[] = {OBJECTS, "\"<s> $A </s>\"",
                                          "[\"<s>:1\",\"$:0\",\"</s>\"]", "\"<s>:0 $0 </s>:1\"",
                                          "\"<s> $a </s>\""};
    vocab_rig r;
    char text[1024];
    rig_init(&r);
    for (size_t i = 0; i < sizeof singles / sizeof *singles; i++) {
        (void)snprintf(text, sizeof text,
                       "{\"type\":\"TemplateProcessing\",\"single\":%s,\"pair\":[]" TOKENS,
                       singles[i]);
        const tok_vocab *v = with(&r, "post_processor", text);
        CHECK(v->before_count == 1 && v->before[0] == 1);
        CHECK(v->after_count == 2 && v->after[0] == 2 && v->after[1] == 0);
    }
    rig_deinit(&r);
}

TEST(vocab_json_processors_go_around_one_another) {
    vocab_rig r;
    rig_init(&r);
    const tok_vocab *v =
        with(&r, "post_processor",
             "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\",\"trim_offsets\":"
             "false,\"add_prefix_space\":true,\"use_regex\":true},{\"type\":\"BertProcessing\","
             "\"cls\":[\"a\",0],\"sep\":[\"b\",1]},{\"type\":\"RobertaProcessing\",\"cls\":"
             "[\"b\",1],\"sep\":[\"ab\",2],\"trim_offsets\":true,\"add_prefix_space\":false}]}");
    CHECK(v->before_count == 2 && v->before[0] == 1 && v->before[1] == 0);
    CHECK(v->after_count == 2 && v->after[0] == 1 && v->after[1] == 2);
    CHECK_EQ(with(&r, "post_processor", "null")->before_count, 0);
    rig_deinit(&r);
}

#define SINGLE(s) "{\"type\":\"TemplateProcessing\",\"single\":" s TOKENS

TEST(vocab_json_post_processors_that_are_not_known_are_named) {
    static const char *const rows[][2] = {
        {"{\"type\":\"Cat\"}", "post_processor: type 'Cat' is not known"},
        {"{\"type\":\"ByteLevel\",\"x\":1}", "post_processor: 'x' is not known"},
        {"{\"type\":\"Sequence\",\"processors\":[],\"x\":1}", "'x' is not known"},
        {SINGLE("\"<s>\""), "single: the template has no place for the text"},
        {SINGLE("\"$A $A\""), "single: sequence 'A', want one A"},
        {SINGLE("\"$B\""), "single: sequence 'B', want one A"},
        {SINGLE("\"<x> $A\""), "'<x>' is not in special_tokens"},
        {SINGLE("\"<s>  $A\""), "'' is not in special_tokens"},
        {SINGLE("\"<s>:x $A\""), "'<s>:x' is not in special_tokens"},
        {SINGLE("5"), "single: want array"},
        {SINGLE("[5]"), "single[0]: want object"},
        {SINGLE("[{}]"), "SpecialToken: is required"},
        {SINGLE("[{\"Sequence\":{}}]"), "Sequence.id: is required"},
        {SINGLE("[{\"Sequence\":{\"id\":\"A\",\"x\":1}}]"), "Sequence: 'x' is not known"},
        {SINGLE("[{\"Sequence\":{\"id\":\"A\"},\"x\":1}]"), "single[0]: 'x' is not known"},
        {SINGLE("\"</s> </s> </s> </s> </s> $A\""), "more than 8 tokens around a text"},
        {"{\"type\":\"TemplateProcessing\",\"single\":\"x $A\"}", "want object"},
        {"{\"type\":\"TemplateProcessing\",\"single\":\"x $A\",\"special_tokens\":{\"x\":{}}}",
         "special_tokens.x.ids: is required"},
        {"{\"type\":\"TemplateProcessing\",\"single\":\"x $A\",\"special_tokens\":{\"x\":{\"ids\":"
         "[-1]}}}",
         "ids[0]"},
        {"{\"type\":\"TemplateProcessing\",\"single\":\"x $A\",\"special_tokens\":{\"x\":{\"ids\":"
         "[3]}}}",
         "post_processor adds token 3, there are 3 tokens"},
        {"{\"type\":\"TemplateProcessing\",\"single\":\"$A x\",\"special_tokens\":{\"x\":{\"ids\":"
         "[3]}}}",
         "post_processor adds token 3, there are 3 tokens"},
        {"{\"type\":\"BertProcessing\",\"cls\":[\"a\"],\"sep\":[\"b\",1]}", "cls: want a token"},
        {"{\"type\":\"BertProcessing\",\"cls\":[\"a\",null],\"sep\":[\"b\",1]}", "want an id"},
        {"{\"type\":\"BertProcessing\",\"cls\":[\"a\",0]}", "sep: is required"},
        {"{\"type\":\"Sequence\",\"processors\":[" SINGLE("\"</s> </s> </s> $A\"") "," SINGLE(
             "\"</s> </s> </s> $A\"") "]}",
         "more than 8 tokens around a text"},
    };
    check_refusals("post_processor", rows, sizeof rows / sizeof *rows);
}

/* --- decoder --------------------------------------------------------------------- */
#define LLAMA                                                                                    \
    "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"" MARK \
    "\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}"

TEST(vocab_json_decoders_become_a_form) {
    vocab_rig r;
    rig_init(&r);
    const tok_vocab *v = with(&r, "decoder", LLAMA "]}");
    CHECK(v->form == TOK_FORM_METASPACE && !v->add_space_prefix);
    v = with(&r, "decoder",
             LLAMA ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}");
    CHECK(v->form == TOK_FORM_METASPACE && v->add_space_prefix);
    v = with(&r, "decoder", "{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\",\"split\":true}");
    CHECK(v->form == TOK_FORM_METASPACE && v->add_space_prefix);
    v = with(&r, "decoder",
             "{\"type\":\"Metaspace\",\"replacement\":\"" MARK
             "\",\"prepend_scheme\":\"never\",\"str_rep\":\"x\"}");
    CHECK(v->form == TOK_FORM_METASPACE && !v->add_space_prefix);
    v = with(&r, "decoder",
             "{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\",\"add_prefix_space\":false}");
    CHECK(v->form == TOK_FORM_METASPACE && !v->add_space_prefix);
    v = with(&r, "decoder", "{\"type\":\"Fuse\",\"unknown\":null}"); /* null says nothing */
    CHECK_EQ(v->form, TOK_FORM_PLAIN);
    v = rig_vocab(&r, "\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0}},\"decoder\":{"
                      "\"type\":\"Fuse\"}");
    CHECK_EQ(v->form, TOK_FORM_PLAIN); /* words side by side; without a decoder: spaces between */
    v = rig_vocab(&r, "\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0}}");
    CHECK_EQ(v->form, TOK_FORM_HASH_MARK);
    v = with(&r, "decoder", "{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":false}");
    CHECK(v->form == TOK_FORM_HASH_MARK && !v->cleanup_tokens);
    CHECK(str_eq_c(v->continuing_prefix, "##"));
    v = with(&r, "decoder", "{\"type\":\"WordPiece\",\"prefix\":\"@@\"}");
    CHECK(v->cleanup_tokens && !v->decode_cleanup);
    v = with(&r, "decoder", "{\"type\":\"Strip\",\"content\":\" \",\"start\":0,\"stop\":0}");
    CHECK_EQ(v->form, TOK_FORM_PLAIN);
    v = rig_vocab(&r,
                  "\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"end_of_word_suffix\":\"</w>\"}"
                  ",\"decoder\":{\"type\":\"BPEDecoder\"}");
    CHECK_EQ(v->form, TOK_FORM_PLAIN);
    v = rig_vocab(&r, MODEL ",\"pre_tokenizer\":{" BYTES "},\"decoder\":{\"type\":\"ByteLevel\","
                            "\"trim_offsets\":true,\"add_prefix_space\":true,\"use_regex\":true}");
    CHECK_EQ(v->form, TOK_FORM_BYTE_LEVEL);
    rig_deinit(&r);
}

TEST(vocab_json_decoders_that_are_not_known_are_named) {
    static const char *const rows[][2] = {
        {"{\"type\":\"CTC\"}", "decoder: type 'CTC' is not known"},
        {"{\"type\":\"Fuse\",\"x\":1}", "decoder: 'x' is not known"},
        {"{\"type\":\"Fuse\",\"n\":null,\"x\":1,\"y\":2}", "' is not known"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\",\"add_prefix_space\":1}",
         "add_prefix_space"},
        {"{\"type\":\"Replace\",\"content\":\" \"}", "pattern: is required"},
        {"{\"type\":\"Replace\",\"pattern\":{\"String\":\"x\"}}", "content: is required"},
        {"{\"type\":\"Strip\",\"content\":\" \",\"start\":0,\"stop\":1}", "a Strip other than"},
        {"{\"type\":\"Sequence\",\"decoders\":[],\"x\":1}", "'x' is not known"},
        {"{\"type\":\"ByteLevel\"}", "ByteLevel is off for text on its way in, on on its way out"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\"}", "a replacement other than U+2581"},
        {"{\"type\":\"Replace\",\"pattern\":{\"String\":\"x\"},\"content\":\" \"}",
         "decoder: a Replace other than"},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"" MARK "\"},\"content\":\" \"}",
         "a Replace other than"},
        {"{\"type\":\"Replace\",\"pattern\":{\"String\":\"" MARK "\"},\"content\":\"\"}",
         "a Replace other than"},
        {"{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}", "a Strip other than"},
        {LLAMA ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":1}]}", "a Strip other"},
        {LLAMA ",{\"type\":\"Strip\",\"content\":\" \",\"start\":2}]}", "a Strip other"},
        {LLAMA ",{\"type\":\"Strip\",\"content\":\"x\",\"start\":1}]}", "a Strip other"},
        {"{\"type\":\"BPEDecoder\",\"suffix\":\"</w>\"}", "another suffix than the model's"},
    };
    check_refusals("decoder", rows, sizeof rows / sizeof *rows);
    vocab_rig r;
    rig_init(&r);
    CHECK_HAS(rig_json(&r, MODEL ",\"pre_tokenizer\":{" BYTES "},\"decoder\":" LLAMA "]}"),
              "ByteLevel is on for text on its way in, off on its way out");
    CHECK_HAS(rig_json(&r, "\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0},"
                           "\"continuing_subword_prefix\":\"@\"},\"decoder\":{\"type\":"
                           "\"WordPiece\",\"prefix\":\"##\"}"),
              "another prefix than the model's");
    rig_deinit(&r);
}
