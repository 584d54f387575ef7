/* test_vocab_txt.c - BERT's vocab.txt: lines, what the configuration changes, refusals. */
#include "base/alloc.h"
#include "text/tokenizer.h"
#include "vocab_rig.h"

#define LINES "[PAD]\n[UNK]\n[CLS]\n[SEP]\r\nhello\n\n##s\ne\nE\n\xE4\xB8\xAD\n[MASK]"

static const tok_vocab *open_txt(vocab_rig *r, const char *config) {
    static const tok_vocab none;
    rig_put(r, "vocab.txt", S(LINES));
    rig_put(r, "tokenizer_config.json", str_of(config));
    CHECK_STR(rig_open(r), "");
    return r->m != NULL ? &r->m->vocab : &none;
}

static void check_ids(const tok_vocab *v, const char *text, const char *want) {
    tokenizer *t = NULL;
    buf ids, shown;
    tok_options opt = {.add_special = true, .parse_special = true, .tokens_max = UINT32_MAX};
    CHECK_EQ(tok_create(&t, v, NULL), OK);
    if (t == NULL) return;
    buf_init(&ids, 1 << 16);
    buf_init(&shown, 1 << 16);
    CHECK_EQ(tok_encode(t, str_of(text), &opt, &ids, NULL), OK);
    for (size_t i = 0; i < ids.n / sizeof(int32_t); i++)
        buf_printf(&shown, i == 0 ? "%d" : " %d", ((const int32_t *)(const void *)ids.p)[i]);
    buf_put_char(&shown, '\0');
    CHECK_STR(shown.p, want);
    buf_deinit(&ids);
    buf_deinit(&shown);
    tok_destroy(t);
}

TEST(vocab_txt_lines_are_pieces_and_their_numbers_ids) {
    vocab_rig r;
    rig_init(&r);
    const tok_vocab *v = open_txt(&r, "{}");
    CHECK_EQ(v->kind, TOK_KIND_WORDPIECE);
    CHECK_EQ(v->count, 11);
    CHECK_EQ(v->unk_id, 1);
    CHECK(v->types[2] == TOK_TYPE_CONTROL && v->types[10] == TOK_TYPE_CONTROL);
    CHECK_EQ(v->types[5], TOK_TYPE_UNUSED); /* the empty line */
    check_ids(v, "Hellos \xC3\x89[MASK]x", "2 4 6 7 10 1 3");
    rig_deinit(&r);
}

TEST(vocab_txt_obeys_the_configuration) {
    vocab_rig r;
    rig_init(&r);
    const tok_vocab *v = open_txt(
        &r, "{\"tokenizer_class\":\"BertTokenizerFast\",\"do_lower_case\":false,"
            "\"tokenize_chinese_chars\":false,\"cls_token\":\"hello\",\"sep_token\":\"x\"}");
    check_ids(v, "E \xE4\xB8\xAD\xE4\xB8\xAD \xC3\x89", "4 8 1 1");
    v = open_txt(&r, "{\"do_lower_case\":false,\"strip_accents\":true}");
    check_ids(v, "E \xE4\xB8\xAD\xE4\xB8\xAD \xC3\x89", "2 8 9 9 8 3");
    rig_deinit(&r);
}

TEST(vocab_txt_the_unknown_token_may_have_another_name) {
    vocab_rig r;
    rig_init(&r);
    const tok_vocab *v = open_txt(&r, "{\"unk_token\":\"hello\"}");
    CHECK(v->unk_id == 4 && v->types[1] == TOK_TYPE_NORMAL);
    check_ids(v, "q e", "2 4 7 3");
    rig_deinit(&r);
}

TEST(vocab_txt_names_what_it_refuses) {
    vocab_rig r;
    rig_init(&r);
    rig_put(&r, "vocab.txt", S("a\n\xFF\n"));
    CHECK_HAS(rig_open(&r), "vocab.txt: line 2 of 1 bytes is not UTF-8");
    rig_put(&r, "vocab.txt", S("a\nb\na\n"));
    CHECK_HAS(rig_open(&r), "vocab.txt: token 'a' has ids 0 and 2");
    rig_put(&r, "vocab.txt", S("\n\n"));
    CHECK_HAS(rig_open(&r), "the vocabulary has 0 tokens");
    rig_put(&r, "vocab.txt", S(LINES));
    rig_put(&r, "tokenizer_config.json", S("{\"tokenizer_class\":\"BertJapaneseTokenizer\"}"));
    CHECK_HAS(rig_open(&r), "BertJapaneseTokenizer needs its tokenizer.json");
    rig_deinit(&r);
}

TEST(vocab_txt_survives_running_out_of_memory) {
    vocab_rig r;
    bool opened = false;
    rig_init(&r);
    rig_put(&r, "vocab.txt", S(LINES));
    rig_put(&r, "tokenizer_config.json",
            S("{\"bos_token\":\"hello\",\"additional_special_tokens\":[\"e\"],"
              "\"added_tokens_decoder\":{\"12\":{\"content\":\"<x>\"}}}"));
    for (int n = 0; n < 1000 && !opened; n++) {
        error err = {0};
        model *m = NULL;
        mem_fail_after(n);
        status st = model_open_vocab(&m, r.dir, &err);
        mem_fail_after(-1);
        opened = st == OK;
        CHECK(opened || st == ERR_NOMEM);
        if (opened) model_close(m);
    }
    CHECK(opened);
    rig_deinit(&r);
}
