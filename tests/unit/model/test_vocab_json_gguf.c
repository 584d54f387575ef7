/* test_vocab_json_gguf.c - published GGUF vocabularies, written again as tokenizer.json: the ids
 * must be those that were published for the GGUF files. */
#include "text/tokenizer.h"
#include "vocab_rig.h"
#include "json/write.h"

#define MARK "\xE2\x96\x81"

typedef struct family {
    const char *name;  /* of the GGUF file: ggml-vocab-NAME.gguf */
    const char *parts; /* the components its tokenizer.json would have */
    bool words;        /* WordPiece: U+2581 in front becomes no "##" */
} family;

#define BYTES "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true}"

static const family families[] = {
    {"gpt-2", "{\"pre_tokenizer\":" BYTES ",\"decoder\":{\"type\":\"ByteLevel\"}", false},
    {"starcoder",
     "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\","
     "\"individual_digits\":true}," BYTES "]},\"decoder\":{\"type\":\"ByteLevel\"}",
     false},
    {"bert-bge",
     "{\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,"
     "\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},"
     "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"decoder\":{\"type\":\"WordPiece\","
     "\"prefix\":\"##\",\"cleanup\":true}",
     true},
};

static void write_pieces(json_writer *w, const tok_vocab *v, bool words) {
    json_kv_object(w, "vocab");
    for (uint32_t i = 0; i < v->count; i++) {
        char text[TOK_PIECE_BYTES_MAX + 3];
        str piece = v->pieces[i];
        bool begins = str_starts(piece, S(MARK));
        bool goes_on = words && !begins && v->types[i] == TOK_TYPE_NORMAL;
        if (words && begins) piece = str_skip(piece, 3);
        int n = snprintf(text, sizeof text, "%s%.*s", goes_on ? "##" : "", (int)piece.n, piece.p);
        json_key(w, (str){text, (size_t)n});
        json_uint(w, i);
    }
    json_end_object(w);
}

static void write_model(json_writer *w, const tok_vocab *v, bool words) {
    json_kv_object(w, "model");
    json_kv_str(w, "type", words ? S("WordPiece") : S("BPE"));
    write_pieces(w, v, words);
    if (words) {
        json_kv_str(w, "unk_token", S("[UNK]"));
        json_kv_str(w, "continuing_subword_prefix", S("##"));
        json_kv_uint(w, "max_input_chars_per_word", 100);
    } else {
        json_kv_array(w, "merges");
    }
    for (uint32_t i = 0; !words && i < v->merges_count; i++) {
        json_begin_array(w);
        json_str(w, v->merges[i].left);
        json_str(w, v->merges[i].right);
        json_end_array(w);
    }
    if (!words) json_end_array(w);
    json_end_object(w);
}

static void write_added(json_writer *w, const tok_vocab *v) {
    json_kv_array(w, "added_tokens");
    for (uint32_t i = 0; i < v->count; i++) {
        bool special = v->types[i] == TOK_TYPE_CONTROL || v->types[i] == TOK_TYPE_UNKNOWN;
        if (!special && v->types[i] != TOK_TYPE_USER_DEFINED) continue;
        json_begin_object(w);
        json_kv_uint(w, "id", i);
        json_kv_str(w, "content", v->pieces[i]);
        json_kv_bool(w, "special", special);
        json_end_object(w);
    }
    json_end_array(w);
}

static void write_tokenizer(vocab_rig *r, const family *f, const tok_vocab *v) {
    buf b, inner;
    json_writer w;
    buf_init(&b, 1 << 26);
    buf_printf(&b, "%s,", f->parts);
    buf_init(&inner, 1 << 26);
    json_writer_init(&w, &inner);
    json_begin_object(&w);
    write_model(&w, v, f->words);
    write_added(&w, v);
    json_end_object(&w);
    buf_put_str(&b, str_skip(buf_view(&inner), 1)); /* the members go on */
    rig_put(r, "tokenizer.json", buf_view(&b));
    buf_deinit(&inner);
    buf_deinit(&b);
}

/* --- comparing ------------------------------------------------------------------------ */
static void read_all(const char *dir, const char *name, const char *end, buf *out) {
    char path[1200];
    size_t n = 1;
    (void)snprintf(path, sizeof path, "%s/ggml-vocab-%s.gguf%s", dir, name, end);
    FILE *fp = fopen(path, "rb");
    CHECK(fp != NULL);
    while (fp != NULL && n > 0) {
        char part[4096];
        n = fread(part, 1, sizeof part, fp);
        buf_put(out, part, n);
    }
    if (fp != NULL) (void)fclose(fp);
}

/* Cuts the next text off `rest`; the last one goes to the end. */
static str cut_text(str *rest, str mark) {
    const char *end = memmem(rest->p, rest->n, mark.p, mark.n);
    str text = {rest->p, end != NULL ? (size_t)(end - rest->p) : rest->n};
    *rest = str_skip(*rest, end != NULL ? text.n + mark.n : text.n);
    return text;
}

static void check_texts(const tokenizer *t, const char *name, str texts, str lines) {
    tok_options opt = {.tokens_max = UINT32_MAX};
    while (lines.n > 0) {
        buf ids, shown;
        str text = cut_text(&texts, S("\n__ggml_vocab_test__\n")), line = cut_text(&lines, S("\n"));
        buf_init(&ids, 1 << 20);
        buf_init(&shown, 1 << 20);
        CHECK_EQ(tok_encode(t, text, &opt, &ids, NULL), OK);
        for (size_t i = 0; i < ids.n; i += sizeof(int32_t)) {
            int32_t id = 0;
            memcpy(&id, ids.p + i, sizeof id);
            buf_printf(&shown, " %d", id);
        }
        bool same = str_eq(buf_view(&shown), line);
        CHECK(same);
        if (!same) (void)fprintf(stderr, "  %s: \"%.*s\"\n", name, STR(text));
        buf_deinit(&ids);
        buf_deinit(&shown);
    }
}

static void check_family(const char *dir, const family *f) {
    vocab_rig r;
    char path[1200];
    model *m = NULL;
    tokenizer *t = NULL;
    buf texts, lines;
    error err = {0};
    rig_init(&r);
    buf_init(&texts, 1 << 20);
    buf_init(&lines, 1 << 20);
    (void)snprintf(path, sizeof path, "%s/ggml-vocab-%s.gguf", dir, f->name);
    CHECK_EQ(model_open_vocab(&m, path, &err), OK);
    if (m != NULL) write_tokenizer(&r, f, &m->vocab);
    CHECK_STR(rig_open(&r), "");
    if (r.m != NULL) CHECK_EQ(tok_create(&t, &r.m->vocab, &err), OK);
    CHECK_STR(err.msg, "");
    read_all(dir, f->name, ".inp", &texts);
    read_all(dir, f->name, ".out", &lines);
    if (t != NULL) check_texts(t, f->name, buf_view(&texts), buf_view(&lines));
    tok_destroy(t);
    model_close(m);
    buf_deinit(&texts);
    buf_deinit(&lines);
    rig_deinit(&r);
}

TEST(vocab_json_made_from_gguf_gives_the_published_ids) {
    SHARED_OR_SKIP(dir, "suites/tokenizer-vectors/llama.cpp");
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) check_family(dir, &families[i]);
}
