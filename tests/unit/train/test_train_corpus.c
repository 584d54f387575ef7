/* test_train_corpus.c - which bytes are answers, which tokens are learnt, how batches are made. */
#include "base/alloc.h"
#include "test.h"
#include "train/bpe.h"
#include "train/dataset.h"
#include "train/random.h"
#include "train/words.h"

#define TEMPLATE                                                                      \
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% " \
    "endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
#define MESSAGE(role, text) "{\"role\":\"" role "\",\"content\":\"" text "\"}"
#define TALK(messages)      "{\"messages\":[" messages "]}"

static chat_template *template_of(const char *text, const tokenizer *tok) {
    chat_template *t = NULL;
    const chat_source source = {.kind = CHAT_KIND_JINJA, .text = str_of(text), .tok = tok};
    CHECK_EQ(chat_template_create(&t, &source, NULL), OK);
    return t;
}

/* --- conversations ----------------------------------------------------------------------- */

TEST(train_answers_are_what_the_template_adds_for_the_assistant) {
    chat_template *t = template_of(TEMPLATE, NULL);
    conversation c;
    error err = {0};
    conversation_init(&c);
    CHECK_EQ(
        conversation_read(
            &c, t,
            S(TALK(MESSAGE("user", "a") "," MESSAGE("assistant", "one") "," MESSAGE(
                "user", "b") "," MESSAGE("assistant", "two") "," MESSAGE("user", "unanswered"))),
            &err),
        OK);
    CHECK_STR(err.msg, "");
    const str text = buf_view(&c.whole.text);
    const span *s = (const span *)(const void *)c.answers.p;
    CHECK_EQ(c.answers.n, 2 * sizeof *s);
    CHECK(str_eq_c((str){text.p + s[0].begin, s[0].end - s[0].begin}, "one<|im_end|>\n"));
    CHECK(str_eq_c((str){text.p + s[1].begin, s[1].end - s[1].begin}, "two<|im_end|>\n"));
    CHECK_EQ(s[1].end, text.n);
    conversation_deinit(&c);
    chat_template_destroy(t);
}

static void is_refused(const char *template_text, const char *line, const char *why) {
    chat_template *t = template_of(template_text, NULL);
    conversation c;
    error err = {0};
    conversation_init(&c);
    CHECK(conversation_read(&c, t, str_of(line), &err) != OK);
    CHECK_HAS(err.msg, why);
    conversation_deinit(&c);
    chat_template_destroy(t);
}

TEST(train_conversations_that_teach_nothing_are_refused) {
    is_refused(TEMPLATE, "{", "line 1");
    is_refused(TEMPLATE, "{\"messages\":[]}", "messages: an array of one or more");
    is_refused(TEMPLATE, "{\"messages\":3}", "messages: want array, found number");
    is_refused(TEMPLATE, TALK(MESSAGE("user", "a")), "none is the assistant's");
    is_refused("{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}",
               TALK(MESSAGE("user", "a") "," MESSAGE("assistant", "b")),
               "messages[1]: the template writes the 2 bytes before it differently");
}

/* --- tokens ------------------------------------------------------------------------------ */

/* A vocabulary of the 256 bytes in the alphabet of GPT-2 and two special tokens. */
enum { ID_START = 256, ID_END = 257, VOCAB = 258 };

typedef struct byte_vocab {
    char texts[256][4];
    str pieces[VOCAB];
    uint8_t types[VOCAB];
    tok_vocab v;
    tokenizer *tok;
} byte_vocab;

static void spell_byte(uint32_t byte, char out[4]) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    uint32_t c = byte, skipped = 0;
    for (uint32_t b = 0; b < byte; b++)
        skipped += !((b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD));
    if (!printable) c = 0x100 + skipped;
    if (c < 0x80) {
        out[0] = (char)c;
        return;
    }
    out[0] = (char)(0xC0 | c >> 6);
    out[1] = (char)(0x80 | (c & 0x3F));
}

static void byte_vocab_init(byte_vocab *b) {
    memset(b, 0, sizeof *b);
    for (uint32_t i = 0; i < 256; i++) {
        spell_byte(i, b->texts[i]);
        b->pieces[i] = str_of(b->texts[i]);
        b->types[i] = TOK_TYPE_NORMAL;
    }
    b->pieces[ID_START] = S("<|im_start|>");
    b->pieces[ID_END] = S("<|im_end|>");
    b->types[ID_START] = b->types[ID_END] = TOK_TYPE_CONTROL;
    b->v = (tok_vocab){.kind = TOK_KIND_BPE,
                       .form = TOK_FORM_BYTE_LEVEL,
                       .count = VOCAB,
                       .pieces = b->pieces,
                       .types = b->types,
                       .bos_id = TOK_ID_NONE,
                       .eos_id = ID_END,
                       .eot_id = TOK_ID_NONE,
                       .unk_id = TOK_ID_NONE};
    CHECK_EQ(tok_create(&b->tok, &b->v, NULL), OK);
}

static status read_text(dataset *d, const char *text, const byte_vocab *b,
                        const char *template_text, uint32_t ctx, error *err) {
    chat_template *t = template_of(template_text, b->tok);
    corpus c = {0};
    buf_init(&c.text, CORPUS_BYTES_MAX);
    buf_put_str(&c.text, str_of(text));
    const dataset_options opt = {ctx, 0.25f};
    const status st = dataset_read(d, &c, t, b->tok, &opt, err);
    corpus_close(&c);
    chat_template_destroy(t);
    return st;
}

TEST(train_answers_are_learnt_up_to_their_end_token) {
    byte_vocab b;
    dataset d;
    error err = {0};
    byte_vocab_init(&b);
    CHECK_EQ(read_text(&d, TALK(MESSAGE("user", "a") "," MESSAGE("assistant", "yes")) "\n\n", &b,
                       TEMPLATE, 100, &err),
             OK);
    CHECK_STR(err.msg, "");
    const int32_t *ids = (const int32_t *)(const void *)d.ids.p;
    const float *weights = (const float *)(const void *)d.weights.p;
    const size_t n = d.ids.n / sizeof *ids;
    CHECK_EQ(d.docs, 1);
    CHECK_EQ(d.answers, 4); /* y e s <|im_end|> */
    for (size_t i = 0; i < n; i++) {
        const bool answer = i >= n - 5 && i < n - 1;
        CHECK(weights[i] == (answer ? 1.0f : 0.25f));
    }
    CHECK_EQ(ids[n - 2], ID_END);
    CHECK_EQ(ids[n - 1], '\n');
    CHECK_EQ(ids[n - 5], 'y');
    dataset_deinit(&d);
    tok_destroy(b.tok);
}

TEST(train_template_without_an_end_is_refused_with_its_line) {
    byte_vocab b;
    dataset d;
    error err = {0};
    byte_vocab_init(&b);
    CHECK_EQ(read_text(&d, "\n" TALK(MESSAGE("user", "a") "," MESSAGE("assistant", "yes")), &b,
                       "{% for m in messages %}{{ m.content }};{% endfor %}", 100, &err),
             ERR_INVALID);
    CHECK_HAS(err.msg, "corpus: line 2: ");
    CHECK_HAS(err.msg, "without an end-of-generation token");
    dataset_deinit(&d);
    tok_destroy(b.tok);
}

/* --- batches ----------------------------------------------------------------------------- */

/* Documents of the given lengths in tokens; token i of document d is d. */
static dataset made(const uint32_t *lengths, uint32_t docs) {
    dataset d = {.docs = docs};
    uint32_t at = 0;
    buf_init(&d.ids, 1 << 20);
    buf_init(&d.weights, 1 << 20);
    buf_init(&d.begins, 1 << 20);
    buf_put(&d.begins, &at, sizeof at);
    for (uint32_t i = 0; i < docs; i++) {
        for (uint32_t k = 0; k < lengths[i]; k++) {
            const int32_t id = (int32_t)i;
            const float weight = 1;
            buf_put(&d.ids, &id, sizeof id);
            buf_put(&d.weights, &weight, sizeof weight);
        }
        at += lengths[i];
        buf_put(&d.begins, &at, sizeof at);
    }
    return d;
}

TEST(train_batches_hold_whole_documents_and_each_epoch_has_all) {
    static const uint32_t lengths[] = {5, 9, 3, 7, 7, 2, 10, 4};
    enum { DOCS = 8, TOKENS = 16 };
    dataset d = made(lengths, DOCS);
    walk train, validation;
    batch_buffer b;
    uint32_t seen[DOCS] = {0};
    CHECK_EQ(walk_split(&d, 3, 2, &train, &validation, NULL), OK);
    CHECK_EQ(train.count + validation.count, DOCS);
    CHECK_EQ(batch_buffer_init(&b, TOKENS, NULL), OK);
    for (uint32_t docs = 0; docs < 3 * train.count;) {
        CHECK(walk_next(&train, &b, false));
        CHECK(b.view.tokens <= TOKENS && b.weight == (double)b.view.tokens);
        for (uint32_t i = 0; i < b.view.docs; i++) {
            const uint32_t begin = b.begins[i], count = b.begins[i + 1] - begin;
            const int32_t doc = b.ids[begin];
            CHECK_EQ(count + 1, lengths[doc]);
            CHECK_EQ(b.positions[begin + count - 1], count - 1);
            if (docs + i < 3 * train.count) seen[doc]++;
        }
        docs += b.view.docs;
    }
    for (uint32_t i = 0; i < train.count; i++) CHECK_EQ(seen[train.docs[i]], 3);
    for (uint32_t i = 0; i < validation.count; i++) CHECK_EQ(seen[validation.docs[i]], 0);
    walk_deinit(&train);
    walk_deinit(&validation);
    batch_buffer_deinit(&b);
    dataset_deinit(&d);
}

TEST(train_walk_goes_on_where_it_was) {
    static const uint32_t lengths[] = {5, 9, 3, 7, 7, 2, 10, 4};
    dataset d = made(lengths, 8);
    walk one, other, none;
    batch_buffer a, b;
    CHECK_EQ(walk_split(&d, 9, 0, &one, &none, NULL), OK);
    CHECK_EQ(walk_split(&d, 9, 0, &other, &none, NULL), OK);
    CHECK_EQ(batch_buffer_init(&a, 16, NULL), OK);
    CHECK_EQ(batch_buffer_init(&b, 16, NULL), OK);
    for (int i = 0; i < 7; i++) CHECK(walk_next(&one, &a, false));
    walk_restore(&other, one.state);
    for (int i = 0; i < 7; i++) {
        CHECK(walk_next(&one, &a, false) && walk_next(&other, &b, false));
        CHECK_EQ(a.view.tokens, b.view.tokens);
        CHECK(memcmp(a.ids, b.ids, a.view.tokens * sizeof *a.ids) == 0);
    }
    walk_deinit(&one);
    walk_deinit(&other);
    batch_buffer_deinit(&a);
    batch_buffer_deinit(&b);
    dataset_deinit(&d);
}
