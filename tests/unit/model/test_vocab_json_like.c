/* test_vocab_json_like.c - small tokenizer.json files and what Hugging Face tokenizers 0.22 makes
 * of a text with them: ids, and the text that comes back. */
#include "text/detok.h"
#include "text/tokenizer.h"
#include "vocab_rig.h"

#define MARK "\xE2\x96\x81"

/* Byte-level BPE over a few letters; \u0120 is the space. */
#define BYTES                                                                                   \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"d\":3,\"\\u0120\":4,"     \
    "\"1\":5,\"\\u00c2\":6,\"\\u00bd\":7,\"\\u0120\\u00c2\":8,\"\\u0120a\":9,\"\\u00bd1\":10}," \
    "\"merges\":[\"\\u0120 \\u00c2\",\"\\u0120 a\",\"\\u00bd 1\"]}"
#define LETTERS                                                                                    \
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"?\",\"vocab\":{\"?\":0,\"" MARK                   \
    "\":1,\"a\":2,\"b\":3,\"" MARK "a\":4,\"" MARK MARK "\":5},\"merges\":[\"" MARK " a\",\"" MARK \
    " " MARK "\"]}"
#define WORDS                                                                                     \
    "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"?\",\"continuing_subword_prefix\":\"##\"," \
    "\"max_input_chars_per_word\":100,\"vocab\":{\"?\":0,\"it\":1,\"'\":2,\"s\":3,\",\":4,\"a\":" \
    "5,"                                                                                          \
    "\"##b\":6,\".\":7}}"
#define ADDED(id, text, flags) \
    "{\"id\":" #id ",\"content\":\"" text "\",\"special\":false" flags "}"

typedef struct like_case {
    const char *parts, *text;
    const char *ids;  /* as "1 2 3" */
    const char *back; /* NULL: the text itself */
} like_case;

static const like_case cases[] = {
    /* a digits step behind ByteLevel sees the alphabet: U+00BD is 0xC2 0xBD, whose second byte
     * is a number there */
    {BYTES ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\","
           "\"add_prefix_space\":false},{\"type\":\"Digits\",\"individual_digits\":false}]},"
           "\"decoder\":{\"type\":\"ByteLevel\"}",
     "a \xC2\xBD"
     "1",
     "0 8 10", NULL},
    {BYTES ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\","
           "\"add_prefix_space\":false},{\"type\":\"Digits\",\"individual_digits\":true}]},"
           "\"decoder\":{\"type\":\"ByteLevel\"}",
     "a \xC2\xBD"
     "11",
     "0 8 7 5 5", NULL},
    /* of overlapping tokens the first in the text is cut out, then the longest */
    {BYTES ",\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
           "\"decoder\":{\"type\":\"ByteLevel\"},\"added_tokens\":[" ADDED(11, "ab", "") "," ADDED(
               12, "bcd", "") "," ADDED(13, "abca", "") "]",
     "abcd bcd abcab", "11 2 3 4 12 4 13 1", NULL},
    /* and one that may not stand there keeps its text from the others */
    {BYTES
     ",\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
     "\"decoder\":{\"type\":\"ByteLevel\"},\"added_tokens\":[" ADDED(
         11, "abc", ",\"single_word\":true") "," ADDED(12, "ab", "") "," ADDED(13, "cd", "") "]",
     "abcd abc ab", "0 1 2 3 4 11 4 12", NULL},
    /* what a pre-tokenizer puts in front comes behind the cut of normalized tokens */
    {BYTES ",\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true},"
           "\"decoder\":{\"type\":\"ByteLevel\"},\"added_tokens\":[" ADDED(
               11, "<t>", ",\"normalized\":true") "]",
     "<t>a<t>b", "11 9 11 4 1", "<t> a<t> b"},
    {LETTERS ",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"" MARK
             "\",\"prepend_scheme\":\"first\",\"split\":false},\"decoder\":{\"type\":\"Metaspace\","
             "\"replacement\":\"" MARK "\",\"prepend_scheme\":\"first\"},\"added_tokens\":[" ADDED(
                 6, "<t>", ",\"normalized\":true") "]",
     "a<t>b a", "4 6 3 4", NULL},
    /* words that begin with the mark get no second one */
    {LETTERS ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":"
             "\"WhitespaceSplit\"},{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\"}]},"
             "\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\"}",
     "b \t" MARK "a  a ", "1 3 4 4", "b a a"},
    /* marks of added tokens are spaces, too: Gemma */
    {LETTERS
     ",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" MARK
     "\"},\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\","
     "\"pattern\":{\"String\":\"" MARK "\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},"
     "{\"type\":\"Fuse\"}]},\"added_tokens\":[" ADDED(5, MARK MARK, "") "]",
     "a  b", "2 5 3", NULL},
    /* clean-up looks at one token at a time: a lone apostrophe keeps its space */
    {WORDS ",\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"decoder\":{\"type\":\"WordPiece\","
           "\"prefix\":\"##\",\"cleanup\":true}",
     "it 's , ab.", "1 2 3 4 5 6 7", "it ' s, ab."},
    {WORDS ",\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"decoder\":{\"type\":\"WordPiece\","
           "\"prefix\":\"##\",\"cleanup\":false}",
     "it,ab.", "1 4 5 6 7", "it , ab ."},
};

static void check_case(vocab_rig *r, const like_case *c) {
    tokenizer *t = NULL;
    buf ids, shown, back;
    tok_options opt = {.add_special = true, .parse_special = true, .tokens_max = UINT32_MAX};
    const tok_vocab *v = rig_vocab(r, c->parts);
    CHECK_EQ(tok_create(&t, v, NULL), OK);
    if (t == NULL) return;
    buf_init(&ids, 1 << 20);
    buf_init(&shown, 1 << 20);
    buf_init(&back, 1 << 20);
    CHECK_EQ(tok_encode(t, str_of(c->text), &opt, &ids, NULL), OK);
    const int32_t *id = (const int32_t *)(const void *)ids.p;
    uint32_t count = (uint32_t)(ids.n / sizeof *id);
    for (uint32_t i = 0; i < count; i++) buf_printf(&shown, i == 0 ? "%d" : " %d", id[i]);
    buf_put_char(&shown, '\0');
    CHECK_STR(shown.p, c->ids);
    CHECK_EQ(tok_decode(t, id, count, &back, NULL), OK);
    buf_put_char(&back, '\0');
    CHECK_STR(back.p, c->back != NULL ? c->back : c->text);
    buf_deinit(&back);
    buf_deinit(&shown);
    buf_deinit(&ids);
    tok_destroy(t);
}

TEST(vocab_json_encodes_and_decodes_like_hugging_face) {
    vocab_rig r;
    rig_init(&r);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_case(&r, &cases[i]);
    rig_deinit(&r);
}
