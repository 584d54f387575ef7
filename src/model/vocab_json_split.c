/* vocab_json_split.c - "pre_tokenizer" of a tokenizer.json: a table of types, each a step of
 * text/tok_split.h.
 *
 * Two types also change the text.  ByteLevel spells it in the alphabet of GPT-2, which is how the
 * model reads words (TOK_FORM_BYTE_LEVEL), and may put a space in front.  Metaspace turns spaces
 * into U+2581 and may put one in front.  The pipeline normalizes before it splits, so these
 * changes become norms; where an earlier split would have seen the text unchanged, and the
 * difference could show, the file is refused.
 * Source: Hugging Face tokenizers, "Pre-tokenizers". */
#include "model/vocab_json.h"

/* Source: GPT-2, encoder.py. */
#define GPT2_PATTERN \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define METASPACE "\xE2\x96\x81"

typedef struct split_type {
    const char *name;
    tok_split step; /* where parse is NULL */
    status (*parse)(vocab_draft *d, json_fields *f, error *err);
} split_type;

/* "pretokenizers[1]: " and why */
static status refuse(const json_fields *f, const char *why, error *err) {
    char path[JSON_PATH_BYTES];
    json_node_path(&f->node, path);
    return error_set(err, ERR_UNSUPPORTED, "%s: %s", path, why);
}

/* Texts of one character: replacement, delimiter. */
static status read_char(vocab_draft *d, json_fields *f, const char *key, str *out, error *err) {
    char path[JSON_PATH_BYTES];
    TRY(vocab_json_string(d, f, key, out, err));
    size_t chars = 0;
    for (size_t i = 0; i < out->n; i++) chars += ((unsigned char)out->p[i] & 0xC0) != 0x80;
    if (chars == 1) return OK;
    json_node_path(&f->node, path);
    return error_set(err, ERR_INVALID, "%s: '%s' has %zu characters, must be 1", path, key, chars);
}

/* --- ByteLevel ------------------------------------------------------------- */
static status read_byte_level(vocab_draft *d, json_fields *f, error *err) {
    bool prefix = true, trim = true, regex = true;
    TRY(json_get_bool(f, "add_prefix_space", &prefix, err));
    TRY(json_get_bool(f, "trim_offsets", &trim, err)); /* says nothing of ids */
    TRY(json_get_bool(f, "use_regex", &regex, err));
    if (d->byte_level || d->metaspace)
        return refuse(f, "ByteLevel behind ByteLevel or Metaspace", err);
    d->byte_level = true;
    if (prefix) {
        tok_norm step = {.kind = TOK_NORM_PREPEND, .a = S(" "), .unless_there = true};
        if (d->v.splits_count > 0)
            return refuse(f, "add_prefix_space behind another pre-tokenizer", err);
        TRY(vocab_draft_norm(d, step, err));
    }
    if (!regex) return OK;
    return vocab_draft_split(d, (tok_split){.kind = TOK_SPLIT_REGEX, .pattern = S(GPT2_PATTERN)},
                             err);
}

/* --- Metaspace ------------------------------------------------------------- */
enum { SCHEME_ALWAYS, SCHEME_FIRST, SCHEME_NEVER };

static status read_scheme(json_fields *f, uint32_t *scheme, error *err) {
    static const char *const names[] = {"always", "first", "never"};
    bool prefix = true;
    *scheme = SCHEME_ALWAYS;
    TRY(json_get_choice(f, "prepend_scheme", names, 3, scheme, err));
    TRY(json_get_bool(f, "add_prefix_space", &prefix, err)); /* the older way to say it */
    if (!prefix) *scheme = SCHEME_NEVER;
    return OK;
}

/* Words between white space, each with its mark in front unless it begins with one already, are
 * the text with one space for each run of it, and none before a mark. */
static status mark_words(vocab_draft *d, error *err) {
    const tok_norm steps[] = {
        {.kind = TOK_NORM_REPLACE_REGEX, .a = S("\\s+"), .b = S(" ")},
        {.kind = TOK_NORM_STRIP, .left = true, .right = true},
        {.kind = TOK_NORM_REPLACE, .a = S(" " METASPACE), .b = S(METASPACE)},
    };
    d->v.splits_count = 0;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        TRY(vocab_draft_norm(d, steps[i], err));
    return OK;
}

/* May what came before be done behind the change of spaces just as well? */
static status give_way(vocab_draft *d, json_fields *f, uint32_t scheme, error *err) {
    if (d->v.splits_count == 1 && d->splits[0].kind == TOK_SPLIT_SPACES && scheme == SCHEME_ALWAYS)
        return mark_words(d, err);
    for (uint32_t i = 0; i < d->v.splits_count; i++) {
        tok_split_kind kind = d->splits[i].kind;
        bool blind = kind == TOK_SPLIT_DIGITS || kind == TOK_SPLIT_PUNCTUATION;
        if (!blind || scheme == SCHEME_ALWAYS)
            return refuse(f, "Metaspace behind another pre-tokenizer", err);
    }
    return OK;
}

static status read_metaspace(vocab_draft *d, json_fields *f, error *err) {
    uint32_t scheme = SCHEME_ALWAYS;
    bool split = true;
    str mark = {0};
    TRY(read_char(d, f, "replacement", &mark, err));
    TRY(read_scheme(f, &scheme, err));
    TRY(json_get_bool(f, "split", &split, err));
    (void)json_field(f, "str_rep"); /* the replacement once more */
    if (!str_eq_c(mark, METASPACE)) return refuse(f, "a replacement other than U+2581", err);
    if (d->byte_level) return refuse(f, "Metaspace behind ByteLevel", err);
    TRY(give_way(d, f, scheme, err));
    d->metaspace = true;
    TRY(vocab_draft_norm(d, (tok_norm){.kind = TOK_NORM_REPLACE, .a = S(" "), .b = S(METASPACE)},
                         err));
    if (scheme != SCHEME_NEVER)
        TRY(vocab_draft_norm(d,
                             (tok_norm){.kind = TOK_NORM_PREPEND,
                                        .a = S(METASPACE),
                                        .unless_there = true,
                                        .first_only = scheme == SCHEME_FIRST},
                             err));
    if (!split) return OK;
    return vocab_draft_split(
        d, (tok_split){.kind = TOK_SPLIT_METASPACE, .behavior = TOK_SPLIT_MERGED_WITH_NEXT}, err);
}

/* --- Split and the rest ---------------------------------------------------- */
static status read_behavior(json_fields *f, tok_split_behavior *out, error *err) {
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    static const tok_split_behavior values[] = {TOK_SPLIT_ISOLATED, TOK_SPLIT_REMOVED,
                                                TOK_SPLIT_MERGED_WITH_PREVIOUS,
                                                TOK_SPLIT_MERGED_WITH_NEXT, TOK_SPLIT_CONTIGUOUS};
    uint32_t choice = 0;
    TRY(json_get_choice(f, "behavior", names, 5, &choice, err));
    *out = values[choice];
    return OK;
}

/* ASCII digits and how many of them: the same in the alphabet of GPT-2. */
static bool is_digits_pattern(str p) {
    const str allowed = S("0123456789[]{},-");
    for (size_t i = 0; i < p.n; i++)
        if (memchr(allowed.p, p.p[i], allowed.n) == NULL) return false;
    return true;
}

/* Behind ByteLevel a step sees the alphabet of GPT-2.  Here it sees the text itself, so but for
 * digits, which have a kind of their own there, only steps that find the same in both may stand
 * there. */
static status check_spelled(const vocab_draft *d, const json_fields *f, const tok_split *step,
                            error *err) {
    if (!d->byte_level) return OK;
    if (step->kind != TOK_SPLIT_LENGTH && is_digits_pattern(step->pattern)) return OK;
    return refuse(f, "a pre-tokenizer behind ByteLevel that may tell its letters apart", err);
}

/* A pattern that matches nothing is found between any two characters. */
static status read_split(vocab_draft *d, json_fields *f, error *err) {
    bool regex = false;
    tok_split step = {.kind = TOK_SPLIT_LITERAL};
    TRY(vocab_json_pattern(d, f, &regex, &step.pattern, err));
    TRY(read_behavior(f, &step.behavior, err));
    TRY(json_get_bool(f, "invert", &step.invert, err));
    if (regex) step.kind = TOK_SPLIT_REGEX;
    if (step.pattern.n == 0) {
        if (step.invert) return refuse(f, "an empty pattern, inverted", err);
        step = (tok_split){.kind = TOK_SPLIT_LENGTH, .length = 1};
    }
    TRY(check_spelled(d, f, &step, err));
    return vocab_draft_split(d, step, err);
}

static status read_digits(vocab_draft *d, json_fields *f, error *err) {
    tok_split step = {.kind = d->byte_level ? TOK_SPLIT_BYTE_DIGITS : TOK_SPLIT_DIGITS};
    TRY(json_get_bool(f, "individual_digits", &step.each, err));
    step.behavior = step.each ? TOK_SPLIT_ISOLATED : TOK_SPLIT_CONTIGUOUS;
    return vocab_draft_split(d, step, err);
}

static status read_punctuation(vocab_draft *d, json_fields *f, error *err) {
    tok_split step = {.kind = TOK_SPLIT_PUNCTUATION};
    TRY(read_behavior(f, &step.behavior, err));
    if (d->byte_level) return refuse(f, "Punctuation behind ByteLevel", err);
    return vocab_draft_split(d, step, err);
}

static status read_delimiter(vocab_draft *d, json_fields *f, error *err) {
    tok_split step = {.kind = TOK_SPLIT_LITERAL, .behavior = TOK_SPLIT_REMOVED};
    TRY(read_char(d, f, "delimiter", &step.pattern, err));
    TRY(check_spelled(d, f, &step, err));
    return vocab_draft_split(d, step, err);
}

static status read_length(vocab_draft *d, json_fields *f, error *err) {
    tok_split step = {.kind = TOK_SPLIT_LENGTH, .length = 5};
    TRY(json_get_u32(f, "length", 1, UINT32_MAX, &step.length, err));
    TRY(check_spelled(d, f, &step, err));
    return vocab_draft_split(d, step, err);
}

/* --- the table ------------------------------------------------------------- */
static const split_type types[] = {
    {"ByteLevel", {0}, read_byte_level},
    {"Metaspace", {0}, read_metaspace},
    {"Split", {0}, read_split},
    {"Digits", {0}, read_digits},
    {"Punctuation", {0}, read_punctuation},
    {"CharDelimiterSplit", {0}, read_delimiter},
    {"Delimiter", {0}, read_delimiter},
    {"FixedLength", {0}, read_length},
    {"Whitespace", {.kind = TOK_SPLIT_WHITESPACE, .behavior = TOK_SPLIT_REMOVED}, NULL},
    {"WhitespaceSplit", {.kind = TOK_SPLIT_SPACES, .behavior = TOK_SPLIT_REMOVED}, NULL},
    {"BertPreTokenizer", {.kind = TOK_SPLIT_BERT}, NULL},
    {"UnicodeScripts", {.kind = TOK_SPLIT_SCRIPTS}, NULL},
};

static status read_known(vocab_draft *d, const split_type *type, json_fields *f, error *err) {
    if (type->parse != NULL) return type->parse(d, f, err);
    if (d->byte_level) return refuse(f, "a pre-tokenizer of white space behind ByteLevel", err);
    return vocab_draft_split(d, type->step, err);
}

static status read_type(vocab_draft *d, json_fields *f, str type, error *err) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (str_eq_c(type, types[i].name)) return read_known(d, &types[i], f, err);
    return vocab_json_unknown(&f->node, type, err);
}

status vocab_json_pre_tokenizer(vocab_draft *d, const json_node *n, error *err) {
    uint32_t norms = d->v.norms_count;
    TRY(vocab_json_parts(d, n, "pretokenizers", read_type, err));
    d->v.norms_late = d->v.norms_count - norms;
    return OK;
}
