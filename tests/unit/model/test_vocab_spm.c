/* test_vocab_spm.c - SentencePiece tokenizer.model: the wire, pieces, specs, refusals. */
#include "text/tokenizer.h"
#include "vocab_rig.h"

#define MARK "\xE2\x96\x81"

/* --- writing the wire -------------------------------------------------------------- */
static void put_varint(buf *b, uint64_t v) {
    for (; v >= 0x80; v >>= 7) buf_put_char(b, (char)(v | 0x80));
    buf_put_char(b, (char)v);
}

static void put_number(buf *b, uint32_t field, uint64_t v) {
    put_varint(b, field << 3);
    put_varint(b, v);
}

static void put_bytes(buf *b, uint32_t field, str bytes) {
    put_varint(b, field << 3 | 2);
    put_varint(b, bytes.n);
    buf_put_str(b, bytes);
}

static void put_piece(buf *b, const char *text, float score, uint64_t type) {
    buf piece;
    buf_init(&piece, 1 << 16);
    put_bytes(&piece, 1, str_of(text));
    put_varint(&piece, 2 << 3 | 5);
    buf_put(&piece, &score, sizeof score);
    if (type != 0) put_number(&piece, 3, type);
    put_bytes(b, 1, buf_view(&piece));
    buf_deinit(&piece);
}

/* Five pieces as in a real file, then one of each further type. */
static void put_pieces(buf *b) {
    put_piece(b, "<unk>", 0, TOK_TYPE_UNKNOWN);
    put_piece(b, "<s>", 0, TOK_TYPE_CONTROL);
    put_piece(b, "</s>", 0, TOK_TYPE_CONTROL);
    put_piece(b, MARK "a", -1.5F, 0);
    put_piece(b, "a", -2, TOK_TYPE_NORMAL);
    put_piece(b, "<0x0A>", 0, TOK_TYPE_BYTE);
    put_piece(b, MARK MARK "x", 0, TOK_TYPE_USER_DEFINED);
    put_piece(b, "b", 0, TOK_TYPE_UNUSED);
}

static const char *open_spm(vocab_rig *r, buf *b) {
    rig_put(r, "tokenizer.model", buf_view(b));
    buf_deinit(b);
    return rig_open(r);
}

/* The pieces with one more message: a trainer_spec (2), normalizer_spec (3) ... */
static const tok_vocab *open_with(vocab_rig *r, uint32_t field, const buf *message) {
    buf b;
    static const tok_vocab none;
    buf_init(&b, 1 << 20);
    put_pieces(&b);
    if (message != NULL) put_bytes(&b, field, buf_view(message));
    CHECK_STR(open_spm(r, &b), "");
    return r->m != NULL ? &r->m->vocab : &none;
}

/* --- what is read ------------------------------------------------------------------ */
TEST(vocab_spm_defaults_are_those_of_sentencepiece) {
    vocab_rig r;
    rig_init(&r);
    const tok_vocab *v = open_with(&r, 0, NULL);
    CHECK_EQ(v->kind, TOK_KIND_UNIGRAM);
    CHECK_EQ(v->form, TOK_FORM_METASPACE);
    CHECK_EQ(v->count, 8);
    CHECK(v->unk_id == 0 && v->bos_id == 1 && v->eos_id == 2);
    CHECK_EQ(v->types[3], TOK_TYPE_NORMAL);
    CHECK(v->scores != NULL && v->scores[3] == -1.5F);
    CHECK_EQ(v->types[5], TOK_TYPE_BYTE);
    CHECK(str_eq_c(v->pieces[6], MARK MARK "x") && v->types[6] == TOK_TYPE_USER_DEFINED);
    CHECK(v->flags[6] == TOK_FLAG_IN_PLACE && v->flags[5] == 0 && v->float_sums);
    CHECK_EQ(v->types[7], TOK_TYPE_UNUSED);
    CHECK(v->add_space_prefix && v->fuse_unknown && !v->byte_fallback);
    CHECK(v->norms_count == 1 && v->norms_late == 1);
    CHECK(v->norms[0].kind == TOK_NORM_SENTENCEPIECE && v->norms[0].collapse && v->norms[0].left &&
          !v->norms[0].right && v->norms[0].a.n == 0);
    CHECK(v->before_count == 0 && v->after_count == 1 && v->after[0] == 2);
    rig_deinit(&r);
}

TEST(vocab_spm_reads_the_trainer_spec) {
    vocab_rig r;
    buf t;
    rig_init(&r);
    buf_init(&t, 1 << 16);
    put_number(&t, 3, 2);
    put_number(&t, 35, 1);
    put_number(&t, 41, 2);
    put_number(&t, 42, UINT64_MAX); /* -1 */
    put_number(&t, 40, 0);
    put_bytes(&t, 45, S("<unk>"));
    put_varint(&t, 100 << 3 | 1);
    buf_put(&t, "12345678", 8);
    const tok_vocab *v = open_with(&r, 2, &t);
    CHECK_EQ(v->kind, TOK_KIND_SPM);
    CHECK(v->byte_fallback && v->fuse_unknown);
    CHECK(v->bos_id == 2 && v->eos_id == TOK_ID_NONE);
    CHECK(v->before_count == 1 && v->before[0] == 2 && v->after_count == 0);
    CHECK(v->norms_count == 1);
    rig_put(&r, "tokenizer_config.json", S("{\"add_bos_token\":false,\"legacy\":false}"));
    v = open_with(&r, 2, &t);
    CHECK_EQ(v->before_count + v->after_count, 0);
    CHECK(v->norms_count == 2 && v->norms_late == 2 && !v->norms[0].left);
    CHECK(v->norms[1].kind == TOK_NORM_PREPEND && v->norms[1].first_only);
    v = open_with(&r, 0, NULL); /* unigram: "legacy" is of LlamaTokenizer, which is BPE */
    CHECK(v->norms_count == 1 && v->norms[0].left);
    put_number(&t, 24, 1);
    v = open_with(&r, 2, &t);
    CHECK(v->norms_count == 1 && !v->norms[0].left && v->norms[0].right);
    buf_deinit(&t);
    rig_deinit(&r);
}

TEST(vocab_spm_reads_the_normalizer_spec) {
    vocab_rig r;
    buf n;
    rig_init(&r);
    buf_init(&n, 1 << 16);
    put_bytes(&n, 1, S("nmt_nfkc"));
    put_bytes(&n, 2, S("charsmap"));
    put_number(&n, 3, 0);
    put_number(&n, 4, 0);
    put_number(&n, 5, 1);
    const tok_vocab *v = open_with(&r, 3, &n);
    CHECK(!v->add_space_prefix && v->after_count == 1);
    rig_put(&r, "tokenizer_config.json", S("{\"add_eos_token\":false,\"legacy\":false}"));
    v = open_with(&r, 3, &n);
    CHECK(v->after_count == 0 && v->norms_count == 1);
    CHECK(v->norms_count == 1 && str_eq_c(v->norms[0].a, "charsmap"));
    CHECK(!v->norms[0].collapse && !v->norms[0].left && !v->norms[0].right);
    buf_deinit(&n);
    rig_deinit(&r);
}

TEST(vocab_spm_takes_added_tokens_from_beside) {
    vocab_rig r;
    rig_init(&r);
    rig_put(&r, "added_tokens.json", S("{\"<p>\":8,\"<q>\":9,\"\":11}"));
    rig_put(&r, "tokenizer_config.json",
            S("{\"added_tokens_decoder\":{\"7\":{\"content\":\"<|c|>\",\"special\":true},"
              "\"0\":{\"content\":\"<unk>\",\"special\":true}},"
              "\"additional_special_tokens\":[\"<q>\"]}"));
    const tok_vocab *v = open_with(&r, 0, NULL);
    CHECK_EQ(v->count, 10);
    CHECK(str_eq_c(v->pieces[8], "<p>") && v->types[8] == TOK_TYPE_USER_DEFINED);
    CHECK(str_eq_c(v->pieces[9], "<q>") && v->types[9] == TOK_TYPE_CONTROL);
    CHECK(str_eq_c(v->pieces[7], "<|c|>") && v->types[7] == TOK_TYPE_CONTROL);
    CHECK_EQ(v->types[0], TOK_TYPE_UNKNOWN);
    rig_put(&r, "added_tokens.json", S("{\"<p>\":null}"));
    CHECK_HAS(rig_open(&r), "added_tokens.json: <p>: want an id");
    rig_put(&r, "added_tokens.json", S("{\"<p>\":-1,\"x\":\"y\"}"));
    CHECK_HAS(rig_open(&r), "added_tokens.json: <p>");
    rig_deinit(&r);
}

/* --- as SentencePiece encodes ------------------------------------------------------- */
typedef struct spec {
    uint32_t model; /* 1 unigram, 2 BPE */
    bool suffix, dummy, collapse;
} spec;

/* Ids 0 to 11: three with a user's hand in them. */
static void put_text_pieces(buf *b) {
    put_piece(b, "<unk>", 0, TOK_TYPE_UNKNOWN);
    put_piece(b, "<s>", 0, TOK_TYPE_CONTROL);
    put_piece(b, "</s>", 0, TOK_TYPE_CONTROL);
    put_piece(b, MARK, -3, 0);
    put_piece(b, "a", -3, 0);
    put_piece(b, "b", -4, 0);
    put_piece(b, MARK "a", -2, 0);
    put_piece(b, "ab", -5, 0);
    put_piece(b, "foo", 0, TOK_TYPE_USER_DEFINED);
    put_piece(b, MARK MARK, 0, TOK_TYPE_USER_DEFINED);
    put_piece(b, "b b", 0, TOK_TYPE_USER_DEFINED);
    put_piece(b, MARK "b", -6, 0);
}

static tokenizer *open_tokenizer(vocab_rig *r, spec s) {
    buf b, message;
    tokenizer *t = NULL;
    error err = {0};
    buf_init(&b, 1 << 20);
    buf_init(&message, 1 << 10);
    put_text_pieces(&b);
    put_number(&message, 3, s.model);
    put_number(&message, 24, s.suffix);
    put_bytes(&b, 2, buf_view(&message));
    buf_clear(&message);
    put_number(&message, 3, s.dummy);
    put_number(&message, 4, s.collapse);
    put_bytes(&b, 3, buf_view(&message));
    buf_deinit(&message);
    CHECK_STR(open_spm(r, &b), "");
    if (r->m != NULL) CHECK_EQ(tok_create(&t, &r->m->vocab, &err), OK);
    CHECK_STR(err.msg, "");
    return t;
}

/* The ids of a text with spaces between, in a static buffer. */
static const char *ids_of(const tokenizer *t, const char *text, bool parse_special) {
    static char shown[256];
    const tok_options options = {.parse_special = parse_special, .tokens_max = 64};
    error err = {0};
    size_t n = 0;
    buf ids;
    buf_init(&ids, 1 << 10);
    CHECK_EQ(tok_encode(t, str_of(text), &options, &ids, &err), OK);
    const int32_t *id = (const int32_t *)(const void *)ids.p;
    shown[0] = '\0';
    for (size_t i = 0; i < ids.n / sizeof *id; i++)
        n += (size_t)snprintf(shown + n, sizeof shown - n, "%s%d", i > 0 ? " " : "", id[i]);
    buf_deinit(&ids);
    return shown;
}

/* What SentencePiece 0.1.97 makes of these files: the dummy prefix comes once, a user's piece is
 * found before and behind the change of spaces, "b b" only where its space stays one, which is
 * nowhere, and a U+2581 in the text is as good as a space. */
TEST(vocab_spm_user_defined_pieces_are_found_as_sentencepiece_finds_them) {
    static const spec specs[] = {{2, false, true, true}, {2, false, true, false},
                                 {2, true, true, false}, {2, false, false, true},
                                 {1, false, true, true}, {1, true, true, false}};
    enum { SPECS = sizeof specs / sizeof *specs };
    static const struct {
        const char *text;
        const char *ids[SPECS];
    } rows[] = {
        {"", {"", "", "", "", "", ""}},
        {"   ", {"", "9 9", "9 9", "", "", "9 9"}},
        {"a", {"6", "6", "4 3", "4", "6", "4 3"}},
        {"  ab", {"6 5", "9 6 5", "9 7 3", "7", "6 5", "9 7 3"}},
        {"afoob", {"6 8 5", "6 8 5", "4 8 5 3", "4 8 5", "6 8 5", "4 8 5 3"}},
        {"foo foo", {"3 8 3 8", "3 8 3 8", "8 3 8 3", "8 3 8", "3 8 3 8", "8 3 8 3"}},
        {"a  b", {"6 11", "6 9 5", "4 9 5 3", "4 11", "6 11", "4 9 5 3"}},
        {MARK MARK "a", {"9 6", "9 6", "9 4 3", "9 4", "9 6", "9 4 3"}},
        {"ab b", {"6 5 11", "6 5 11", "7 11 3", "7 11", "6 5 11", "7 11 3"}},
        {"xyfoox", {"3 0 8 0", "3 0 8 0", "0 8 0 3", "0 8 0", "3 0 8 0", "0 8 0 3"}},
        {"fofoo  ", {"3 0 8", "3 0 8 9", "0 8 9 3", "0 8", "3 0 8", "0 8 3 9"}},
        {"b" MARK MARK MARK "b",
         {"11 9 11", "11 9 11", "5 9 11 3", "5 9 11", "11 9 11", "5 9 11 3"}},
        {"foo" MARK, {"3 8", "3 8 3", "8 9", "8", "3 8", "8 9"}},
        {"a " MARK "b", {"6 9 5", "6 9 5", "4 9 5 3", "4 9 5", "6 9 5", "4 9 5 3"}},
    };
    for (size_t i = 0; i < SPECS; i++) {
        vocab_rig r;
        rig_init(&r);
        tokenizer *t = open_tokenizer(&r, specs[i]);
        for (size_t k = 0; t != NULL && k < sizeof rows / sizeof *rows; k++)
            CHECK_STR(ids_of(t, rows[k].text, false), rows[k].ids[i]);
        tok_destroy(t);
        rig_deinit(&r);
    }
}

/* Around tokens that are cut out, each stretch is a text of its own, as Python's classes do it. */
TEST(vocab_spm_texts_between_added_tokens_are_texts_for_sentencepiece) {
    vocab_rig r;
    rig_init(&r);
    rig_put(&r, "added_tokens.json", S("{\"[x]\":12}"));
    tokenizer *t = open_tokenizer(&r, (spec){2, false, true, true});
    CHECK_STR(ids_of(t, "a[x]afoo", false), "6 12 6 8");
    CHECK_STR(ids_of(t, "a</s>a", false), "6 0 4"); /* text, but for parse_special */
    CHECK_STR(ids_of(t, "a</s>a", true), "6 2 6");
    tok_destroy(t);
    rig_put(&r, "added_tokens.json", S("{\"foo\":8}")); /* an added token is cut out */
    t = open_tokenizer(&r, (spec){2, false, true, true});
    CHECK_STR(ids_of(t, "afooa", false), "6 8 6");
    tok_destroy(t);
    rig_deinit(&r);
}

TEST(vocab_spm_user_defined_pieces_have_a_limit) {
    vocab_rig r;
    buf b;
    char text[300];
    tokenizer *t = NULL;
    error err = {0};
    rig_init(&r);
    memset(text, 'x', sizeof text);
    text[257] = '\0';
    buf_init(&b, 1 << 20);
    put_text_pieces(&b);
    put_piece(&b, text, 0, TOK_TYPE_USER_DEFINED);
    put_bytes(&b, 2, S("\x18\x02"));
    CHECK_STR(open_spm(&r, &b), "");
    CHECK_EQ(tok_create(&t, &r.m->vocab, &err), ERR_LIMIT);
    CHECK_HAS(err.msg, "token 12 has 257 bytes, at most 256");
    rig_deinit(&r);
}

/* --- what is refused ---------------------------------------------------------------- */
static void check_broken(const char *bytes, size_t n, const char *words) {
    vocab_rig r;
    buf b;
    rig_init(&r);
    buf_init(&b, 1 << 20);
    buf_put(&b, bytes, n);
    CHECK_HAS(open_spm(&r, &b), "tokenizer.model: ");
    CHECK_HAS(rig_open(&r), words);
    rig_deinit(&r);
}

#define BROKEN(lit, words) check_broken(lit, sizeof(lit) - 1, words)

TEST(vocab_spm_checks_the_wire) {
    BROKEN("\x80", "byte 0: model: a number is cut off");
    BROKEN("\x0A", "byte 1: model: a number is cut off");
    BROKEN("\x0A\x05"
           "abc",
           "byte 2: model: a field of 5 bytes, 3 are left");
    BROKEN("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", "a field of 18446744073709551615 bytes");
    BROKEN("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x02", "a number is longer than 64 bits");
    BROKEN("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", "longer than 64 bits");
    BROKEN("\x00\x00", "byte 1: model: no field number");
    BROKEN("\x80\x80\x80\x80\x20", "no field number");
    BROKEN("\x0B", "a wire type that is not known");
    BROKEN("\x0E", "a wire type that is not known");
    BROKEN("\x35\x01\x02\x03", "model: a number is cut off");
    BROKEN("\x31\x01\x02\x03", "model: a number is cut off");
    BROKEN("\x08\x01", "model: field 1 has wire type 0, want 2");
    BROKEN("\x0A\x02\x08\x01", "piece: field 1 has wire type 0, want 2");
    BROKEN("\x0A\x02\x10\x01", "piece: field 2 has wire type 0, want 5");
    BROKEN("\x0A\x03\x1A\x01x", "piece: field 3 has wire type 2, want 0");
    BROKEN("\x0A\x05\x0A\x01x\x18\x07", "piece 0 has type 7, must be 1 to 6");
    BROKEN("\x0A\x05\x0A\x01x\x18\x00", "piece 0 has type 0, must be 1 to 6");
    BROKEN("\x0A\x05\x15\x00\x00\xC0\x7F", "piece: the score is not a number");
    BROKEN("\x0A\x00", "piece 0 is empty (0 bytes)");
    BROKEN("\x0A\x03\x0A\x01\xFF", "piece 0 of 1 bytes is not UTF-8");
    BROKEN("\x0A\x05\x0A\x01x\x18\x06", "byte piece 0 is 'x', not <0x00> to <0xFF>");
    BROKEN("\x12\x00", "there are 0 pieces in 2 bytes");
    BROKEN("\x12\x03\x1A\x01x", "trainer_spec: field 3 has wire type 2, want 0");
    BROKEN("\x12\x05\xC2\x01\x02xx", "trainer_spec: field 24 has wire type 2, want 0");
    BROKEN("\x12\x05\xCA\x02\x02xx", "trainer_spec: field 41 has wire type 2, want 0");
    BROKEN("\x1A\x02\x10\x01", "normalizer_spec: field 2 has wire type 0, want 2");
    BROKEN("\x0A\x03\x0A\x01x\x12\x02\x18\x03", "model type 3 (WORD), known are");
    BROKEN("\x0A\x03\x0A\x01x\x12\x02\x18\x04", "model type 4 (CHAR), known are");
    BROKEN("\x0A\x03\x0A\x01x\x12\x02\x18\x09", "model type 9 (unknown), known are");
    BROKEN("\x0A\x03\x0A\x01x\x1A\x02\x28\x00", "escape_whitespaces is 0, must be 1");
    BROKEN("\x0A\x03\x0A\x01x\x2A\x03\x12\x01x", "denormalizer_spec has a map of 1 bytes");
}

TEST(vocab_spm_shows_the_beginning_of_a_long_byte_piece) {
    vocab_rig r;
    buf b;
    char text[251];
    rig_init(&r);
    memset(text, 'x', sizeof text);
    text[250] = '\0';
    buf_init(&b, 1 << 20);
    put_piece(&b, text, 0, TOK_TYPE_BYTE);
    CHECK_HAS(open_spm(&r, &b), "xxx', not <0x00> to <0xFF>");
    rig_deinit(&r);
}

TEST(vocab_spm_passes_over_what_it_does_not_know) {
    vocab_rig r;
    buf b;
    rig_init(&r);
    buf_init(&b, 1 << 20);
    put_pieces(&b);
    put_number(&b, 4, 5);
    put_bytes(&b, 200, S("x"));
    put_bytes(&b, 3, S("\x0A\x01x\x48\x01"));
    put_bytes(&b, 5, S("\x0A\x01x\x12\x00"));
    put_bytes(&b, 1, S("\x0A\x01z\x20\x05"));
    CHECK_STR(open_spm(&r, &b), "");
    if (r.m != NULL) CHECK_EQ(r.m->vocab.count, 9);
    rig_deinit(&r);
}

TEST(vocab_spm_refuses_long_pieces_and_moved_ids) {
    vocab_rig r;
    buf b;
    char text[1100];
    rig_init(&r);
    memset(text, 'x', sizeof text);
    text[1025] = '\0';
    buf_init(&b, 1 << 20);
    put_piece(&b, text, 0, 0);
    CHECK_HAS(open_spm(&r, &b), "piece 0 has 1025 bytes, at most 1024");
    rig_put(&r, "tokenizer_config.json", S("{\"tokenizer_class\":\"XLMRobertaTokenizer\"}"));
    buf_init(&b, 1 << 20);
    put_pieces(&b);
    CHECK_HAS(open_spm(&r, &b), "XLMRobertaTokenizer gives other ids than its file");
    rig_deinit(&r);
}
