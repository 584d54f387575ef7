/* fuzz_tokenizer.c - text and flags in: encode, decode, stream, stop strings, chat messages.
 *
 * The first byte holds flags, the second a seed for splits and failing allocations, the rest is
 * the text.  A small vocabulary built here has byte tokens, merges, user-defined and control
 * tokens.  With FLAG_OWN_VOCAB the vocabulary comes from the input as well: kind, form, switches,
 * norms, splits, tokens and merges stand in front of the text.
 * Properties: decoding gives the text back, the stream is valid UTF-8 after every token
 * and equals the whole, the stop matcher loses no byte. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "fuzz.h"
#include "text/chat.h"
#include "text/detok.h"
#include "text/stop.h"

#define MARK "\xE2\x96\x81" /* stands for a space in pieces */

enum {
    FLAG_SPACE_PREFIX = 1,
    FLAG_PARSE_SPECIAL = 2,
    FLAG_ADD_SPECIAL = 4,
    FLAG_FAIL_ALLOC = 8,
    FLAG_LIMIT = 16,
    FLAG_OWN_VOCAB = 32,
    OWN_TOKENS_MAX = 64,
    OWN_STEPS_MAX = 4,
    VOCAB_MAX = 320,
    IDS_BYTES_MAX = 1 << 26,
};

/* --- the vocabulary ------------------------------------------------------------------------- */

static str pieces[VOCAB_MAX];
static float scores[VOCAB_MAX];
static uint8_t types[VOCAB_MAX];
static char byte_text[256][8];
static tok_vocab vocab = {.kind = TOK_KIND_SPM,
                          .pieces = pieces,
                          .scores = scores,
                          .types = types,
                          .bos_id = 1,
                          .eos_id = 2,
                          .eot_id = TOK_ID_NONE,
                          .unk_id = 0,
                          .before = {1},
                          .before_count = 1,
                          .after = {2},
                          .after_count = 1};
static tokenizer *tokenizers[2]; /* without and with a space prefix */

static void add(str piece, float score, tok_type type) {
    ASSERT(vocab.count < VOCAB_MAX);
    pieces[vocab.count] = piece;
    scores[vocab.count] = score;
    types[vocab.count++] = (uint8_t)type;
}

static void build_vocab(void) {
    static const char *const words[] = {MARK,
                                        "a",
                                        "b",
                                        "c",
                                        "aa",
                                        "ab",
                                        "abc",
                                        "bc",
                                        "aaaa",
                                        (MARK "a"),
                                        (MARK MARK),
                                        "\n",
                                        "\n\n",
                                        "\xC3\xA9",
                                        "\xE4\xB8\xAD",
                                        "\xE4\xB8\xAD\xE6\x96\x87",
                                        "\xC3",
                                        "\xF0\x9F\x98\x80",
                                        "<",
                                        "<s",
                                        "s>",
                                        "User",
                                        "er"};
    static const char *const user_defined[] = {"<u>", "<u><u>", "u><", "abab", "\n<"};
    static const char *const control[] = {"<|im_end|>", "<|im", "im_end", "<s><s>"};
    add(S("<unk>"), 0, TOK_TYPE_UNKNOWN);
    add(S("<s>"), 0, TOK_TYPE_CONTROL);
    add(S("</s>"), 0, TOK_TYPE_CONTROL);
    for (unsigned b = 0; b < 256; b++) {
        (void)snprintf(byte_text[b], sizeof byte_text[b], "<0x%02X>", b & 0xFF);
        add(str_of(byte_text[b]), 0, TOK_TYPE_BYTE);
    }
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        add(str_of(words[i]), -(float)(i * 7 % 5), TOK_TYPE_NORMAL);
    for (unsigned i = 0; i < sizeof user_defined / sizeof *user_defined; i++)
        add(str_of(user_defined[i]), 0, TOK_TYPE_USER_DEFINED);
    for (unsigned i = 0; i < sizeof control / sizeof *control; i++)
        add(str_of(control[i]), 0, TOK_TYPE_CONTROL);
    for (int prefix = 0; prefix < 2; prefix++) {
        tok_vocab v = vocab;
        v.add_space_prefix = prefix != 0;
        ASSERT(tok_create(&tokenizers[prefix], &v, NULL) == OK);
    }
}

/* --- properties ----------------------------------------------------------------------------- */

typedef struct fuzz_input {
    uint8_t flags, seed;
    str text;
} fuzz_input;

static bool has_special(const int32_t *ids, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (types[ids[i]] != TOK_TYPE_NORMAL && types[ids[i]] != TOK_TYPE_BYTE) return true;
    return false;
}

/* Does the text come back as it was?  Not with U+2581, which is a space afterwards, nor with
 * special tokens and a space prefix: the space behind them stays. */
static bool is_reversible(const fuzz_input *in, const int32_t *ids, uint32_t count) {
    if (!str_is_utf8(in->text) || (in->flags & FLAG_ADD_SPECIAL) != 0) return false;
    if (in->text.n >= 3 && memmem(in->text.p, in->text.n, MARK, 3) != NULL) return false;
    return (in->flags & FLAG_SPACE_PREFIX) == 0 || !has_special(ids, count);
}

static void check_decode(const tokenizer *t, const fuzz_input *in, const int32_t *ids,
                         uint32_t count) {
    buf whole, stream;
    detok d;
    bool reversible = is_reversible(in, ids, count);
    buf_init(&whole, IDS_BYTES_MAX);
    buf_init(&stream, IDS_BYTES_MAX);
    ASSERT(tok_decode(t, ids, count, &whole, NULL) == OK);
    if (reversible) ASSERT(str_eq(buf_view(&whole), in->text));
    detok_init(&d, t, true);
    for (uint32_t i = 0; i < count; i++) {
        size_t before = stream.n;
        detok_push(&d, ids[i], &stream);
        ASSERT(str_is_utf8(str_skip(buf_view(&stream), before)));
    }
    detok_finish(&d, &stream);
    ASSERT(str_is_utf8(buf_view(&stream)));
    if (reversible && !has_special(ids, count)) ASSERT(str_eq(buf_view(&stream), in->text));
    buf_deinit(&stream);
    buf_deinit(&whole);
}

static void check_encode(const fuzz_input *in) {
    const tokenizer *t = tokenizers[(in->flags & FLAG_SPACE_PREFIX) != 0];
    tok_options options = {
        .add_special = (in->flags & FLAG_ADD_SPECIAL) != 0,
        .parse_special = (in->flags & FLAG_PARSE_SPECIAL) != 0,
        .tokens_max = (in->flags & FLAG_LIMIT) != 0 ? in->seed : UINT32_MAX,
    };
    buf ids;
    buf_init(&ids, IDS_BYTES_MAX);
    if ((in->flags & FLAG_FAIL_ALLOC) != 0) mem_fail_after(in->seed % 16);
    status st = tok_encode(t, in->text, &options, &ids, NULL);
    mem_fail_after(-1);
    uint32_t count = (uint32_t)(ids.n / sizeof(int32_t));
    ASSERT(count <= options.tokens_max);
    ASSERT(st == OK || count == 0);
    ASSERT(st == OK || (in->flags & (FLAG_LIMIT | FLAG_FAIL_ALLOC)) != 0);
    for (uint32_t i = 0; i < count; i++)
        ASSERT(tok_is_valid(t, ((const int32_t *)(const void *)ids.p)[i]));
    if (st == OK) check_decode(t, in, (const int32_t *)(const void *)ids.p, count);
    buf_deinit(&ids);
}

/* Stop strings are cut out of the text itself, so that they occur. */
static void fill_stops(stop_set *set, const fuzz_input *in) {
    stop_set_init(set);
    for (size_t i = 0; i < in->seed % 5u; i++) {
        size_t at = in->text.n * i / 5;
        size_t n = 1 + (in->seed * (i + 3)) % 40;
        if (at + n > in->text.n) continue;
        ASSERT(stop_set_add(set, (str){in->text.p + at, n}, NULL) == OK);
    }
}

static void check_stop(const fuzz_input *in) {
    stop_set set;
    stop_match m;
    buf out;
    size_t pushed = 0;
    buf_init(&out, IDS_BYTES_MAX);
    fill_stops(&set, in);
    stop_match_init(&m, &set);
    for (unsigned step = in->seed; pushed < in->text.n && !m.done; step = step * 5 + 1) {
        size_t n = 1 + step % 7;
        if (n > in->text.n - pushed) n = in->text.n - pushed;
        (void)stop_push(&m, (str){in->text.p + pushed, n}, &out);
        pushed += n;
        ASSERT(m.done || out.n + m.held_bytes == pushed);
    }
    stop_finish(&m, &out);
    ASSERT(str_starts(in->text, buf_view(&out)));
    str rest = str_skip(in->text, out.n);
    if (!m.done) ASSERT(rest.n == 0);
    if (m.done) ASSERT(str_starts(rest, (str){set.strings[m.hit].text, set.strings[m.hit].bytes}));
    buf_deinit(&out);
}

static void check_chat(const fuzz_input *in) {
    buf out;
    buf_init(&out, IDS_BYTES_MAX);
    status st = chat_render_plain(in->text, &out, NULL);
    ASSERT(st == OK || out.n == 0);
    if (st == OK) ASSERT(str_is_utf8(buf_view(&out)) && str_ends(buf_view(&out), S("Assistant:")));
    buf_deinit(&out);
}

/* --- vocabularies from the input ------------------------------------------------------------ */

static uint8_t take_byte(str *in) {
    if (in->n == 0) return 0;
    uint8_t byte = (uint8_t)in->p[0];
    *in = str_skip(*in, 1);
    return byte;
}

/* A short piece of the input, as it stands there. */
static str take_text(str *in, size_t max) {
    size_t n = take_byte(in) % (max + 1);
    if (n > in->n) n = in->n;
    str text = {in->p, n};
    *in = str_skip(*in, n);
    return text;
}

typedef struct own_vocab {
    str pieces[OWN_TOKENS_MAX];
    float scores[OWN_TOKENS_MAX];
    uint8_t types[OWN_TOKENS_MAX];
    uint8_t flags[OWN_TOKENS_MAX];
    tok_merge merges[OWN_TOKENS_MAX];
    tok_norm norms[OWN_STEPS_MAX];
    tok_split splits[OWN_STEPS_MAX];
    tok_vocab vocab;
} own_vocab;

static void take_tokens(own_vocab *v, str *in) {
    uint32_t count = take_byte(in) % OWN_TOKENS_MAX + 1;
    for (uint32_t id = 0; id < count; id++) {
        uint8_t byte = take_byte(in);
        v->types[id] = (uint8_t)(byte % 6 + 1);
        v->flags[id] = byte >> 4;
        v->scores[id] = -(float)(int8_t)take_byte(in);
        v->pieces[id] = take_text(in, 300);
    }
    v->vocab.count = count;
    ASSERT(count > 0);
    uint32_t merges = take_byte(in) % OWN_TOKENS_MAX;
    for (uint32_t i = 0; i < merges; i++)
        v->merges[i] =
            (tok_merge){v->pieces[take_byte(in) % count], v->pieces[take_byte(in) % count]};
    v->vocab.merges_count = merges;
}

static void take_steps(own_vocab *v, str *in) {
    uint8_t byte = take_byte(in);
    v->vocab.norms_count = (byte & 15) % (OWN_STEPS_MAX + 1);
    v->vocab.splits_count = byte / 16 % (OWN_STEPS_MAX + 1);
    for (uint32_t i = 0; i < v->vocab.norms_count; i++) {
        uint8_t bits = take_byte(in);
        v->norms[i] = (tok_norm){.kind = (tok_norm_kind)(bits % (TOK_NORM_BERT_CHINESE + 1)),
                                 .left = (bits & 32) != 0,
                                 .right = (bits & 64) != 0,
                                 .first_only = (bits & 128) != 0};
        v->norms[i].a = take_text(in, 12);
        v->norms[i].b = take_text(in, 12);
    }
    for (uint32_t i = 0; i < v->vocab.splits_count; i++) {
        uint8_t bits = take_byte(in);
        v->splits[i] = (tok_split){.kind = (tok_split_kind)((bits & 15) % (TOK_SPLIT_LENGTH + 1)),
                                   .behavior = (tok_split_behavior)(bits / 16 % 5),
                                   .invert = (bits & 128) != 0,
                                   .length = 1 + bits % 7u};
        v->splits[i].pattern = take_text(in, 20);
    }
}

static int32_t take_id(str *in, uint32_t count) {
    uint8_t byte = take_byte(in);
    return byte >= 128 ? TOK_ID_NONE : (int32_t)(byte % (count + 1));
}

static void take_vocab(own_vocab *v, str *in) {
    memset(v, 0, sizeof *v);
    uint8_t kind = take_byte(in), bits = take_byte(in);
    v->vocab = (tok_vocab){.kind = (tok_kind)((kind & 15) % (TOK_KIND_WORDLEVEL + 1)),
                           .form = (tok_form)(kind / 16 % (TOK_FORM_PLAIN + 1)),
                           .pieces = v->pieces,
                           .scores = v->scores,
                           .types = v->types,
                           .flags = v->flags,
                           .merges = v->merges,
                           .norms = v->norms,
                           .splits = v->splits,
                           .add_space_prefix = (bits & 1) != 0,
                           .ignore_merges = (bits & 2) != 0,
                           .byte_fallback = (bits & 4) != 0,
                           .fuse_unknown = (bits & 8) != 0,
                           .drop_unknown = (bits & 16) != 0,
                           .decode_cleanup = (bits & 32) != 0,
                           .word_chars_max = bits / 64};
    take_steps(v, in);
    take_tokens(v, in);
    v->vocab.bos_id = take_id(in, v->vocab.count);
    v->vocab.eos_id = take_id(in, v->vocab.count);
    v->vocab.eot_id = take_id(in, v->vocab.count);
    v->vocab.unk_id = take_id(in, v->vocab.count);
    v->vocab.before[0] = v->vocab.bos_id;
    v->vocab.before_count = v->vocab.bos_id != TOK_ID_NONE;
    v->vocab.continuing_prefix = take_text(in, 3);
    v->vocab.end_of_word = take_text(in, 3);
}

/* What text alone can become: never a control or unknown token by its text. */
static void check_own_ids(const own_vocab *v, const buf *ids, bool plain) {
    for (size_t i = 0; i < ids->n; i += sizeof(int32_t)) {
        int32_t id = 0;
        memcpy(&id, ids->p + i, sizeof id);
        ASSERT(id >= 0 && (uint32_t)id < v->vocab.count);
        if (plain && v->types[id] == TOK_TYPE_CONTROL) ASSERT(id == v->vocab.unk_id);
    }
}

static void check_own_decode(const tokenizer *t, const buf *ids) {
    const int32_t *id = (const int32_t *)(const void *)ids->p;
    uint32_t count = (uint32_t)(ids->n / sizeof *id);
    buf whole, stream;
    detok d;
    buf_init(&whole, IDS_BYTES_MAX);
    buf_init(&stream, IDS_BYTES_MAX);
    ASSERT(tok_decode(t, id, count, &whole, NULL) == OK);
    detok_init(&d, t, true);
    for (uint32_t i = 0; i < count; i++) {
        size_t before = stream.n;
        detok_push(&d, id[i], &stream);
        ASSERT(str_is_utf8(str_skip(buf_view(&stream), before)));
    }
    detok_finish(&d, &stream);
    buf_deinit(&stream);
    buf_deinit(&whole);
}

static void check_own_vocab(const fuzz_input *in) {
    static own_vocab v;
    str text = in->text;
    tokenizer *t = NULL;
    error err = {0};
    buf ids;
    take_vocab(&v, &text);
    if ((in->flags & FLAG_FAIL_ALLOC) != 0) mem_fail_after(in->seed % 64);
    status st = tok_create(&t, &v.vocab, &err);
    ASSERT(st == OK || err.msg[0] != '\0');
    bool plain = (in->flags & (FLAG_PARSE_SPECIAL | FLAG_ADD_SPECIAL)) == 0;
    tok_options options = {.add_special = (in->flags & FLAG_ADD_SPECIAL) != 0,
                           .parse_special = (in->flags & FLAG_PARSE_SPECIAL) != 0,
                           .tokens_max = (in->flags & FLAG_LIMIT) != 0 ? in->seed : UINT32_MAX};
    buf_init(&ids, IDS_BYTES_MAX);
    if (st == OK) st = tok_encode(t, text, &options, &ids, &err);
    mem_fail_after(-1);
    ASSERT(st == OK || ids.n == 0);
    check_own_ids(&v, &ids, plain);
    if (st == OK) check_own_decode(t, &ids);
    buf_deinit(&ids);
    tok_destroy(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (tokenizers[0] == NULL) build_vocab();
    if (size < 2) return 0;
    fuzz_input in = {data[0], data[1], {(const char *)data + 2, size - 2}};
    log_set_level(LOG_OFF);
    if ((in.flags & FLAG_OWN_VOCAB) != 0) {
        check_own_vocab(&in);
        return 0;
    }
    check_encode(&in);
    check_stop(&in);
    check_chat(&in);
    return 0;
}
