/* vocab_json_norm.c - "normalizer" of a tokenizer.json: a table of types, each a few steps of
 * text/tok_norm.h.  Source: Hugging Face tokenizers, "Normalizers". */
#include "model/vocab_json.h"

typedef struct norm_type {
    const char *name;
    tok_norm_kind kind; /* where parse is NULL: this one step, no options */
    status (*parse)(vocab_draft *d, json_fields *f, error *err);
} norm_type;

static status add(vocab_draft *d, tok_norm_kind kind, error *err) {
    return vocab_draft_norm(d, (tok_norm){.kind = kind}, err);
}

/* --- types with options ---------------------------------------------------- */
/* strip_accents that is absent or null is what lowercase is. */
static status read_bert(vocab_draft *d, json_fields *f, error *err) {
    bool clean = true, chinese = true, lower = true;
    TRY(json_get_bool(f, "clean_text", &clean, err));
    TRY(json_get_bool(f, "handle_chinese_chars", &chinese, err));
    TRY(json_get_bool(f, "lowercase", &lower, err));
    bool accents = lower;
    TRY(json_get_bool(f, "strip_accents", &accents, err));
    if (clean) TRY(add(d, TOK_NORM_BERT_CLEAN, err));
    if (chinese) TRY(add(d, TOK_NORM_BERT_CHINESE, err));
    if (accents) TRY(add(d, TOK_NORM_NFD, err));
    if (accents) TRY(add(d, TOK_NORM_STRIP_ACCENTS, err));
    return lower ? add(d, TOK_NORM_LOWERCASE, err) : OK;
}

static status read_strip(vocab_draft *d, json_fields *f, error *err) {
    tok_norm step = {.kind = TOK_NORM_STRIP, .left = true, .right = true};
    TRY(json_get_bool(f, "strip_left", &step.left, err));
    TRY(json_get_bool(f, "strip_right", &step.right, err));
    return vocab_draft_norm(d, step, err);
}

/* Every kind of mark, where TOK_NORM_STRIP_ACCENTS drops the nonspacing ones. */
static status read_strip_accents(vocab_draft *d, json_fields *f, error *err) {
    (void)f;
    return vocab_draft_norm(
        d, (tok_norm){.kind = TOK_NORM_REPLACE_REGEX, .a = S("\\p{M}"), .b = S("")}, err);
}

static status read_replace(vocab_draft *d, json_fields *f, error *err) {
    bool regex = false;
    tok_norm step = {.kind = TOK_NORM_REPLACE};
    TRY(vocab_json_pattern(d, f, &regex, &step.a, err));
    TRY(vocab_json_string(d, f, "content", &step.b, err));
    if (regex) step.kind = TOK_NORM_REPLACE_REGEX;
    if (step.a.n == 0)
        return error_set(err, ERR_UNSUPPORTED, "the pattern of a Replace is empty (0 bytes)");
    if (!regex && str_eq_c(step.a, " ") && str_eq_c(step.b, "\xE2\x96\x81")) d->metaspace = true;
    return vocab_draft_norm(d, step, err);
}

static status read_prepend(vocab_draft *d, json_fields *f, error *err) {
    tok_norm step = {.kind = TOK_NORM_PREPEND};
    TRY(vocab_json_string(d, f, "prepend", &step.a, err));
    return vocab_draft_norm(d, step, err);
}

static status read_precompiled(vocab_draft *d, json_fields *f, error *err) {
    json_node n;
    str text = {0};
    tok_norm step = {.kind = TOK_NORM_CHARSMAP};
    TRY(json_field_need(f, "precompiled_charsmap", &n, err));
    TRY(json_node_str(&n, VOCAB_STRING_BYTES_MAX, &text, err));
    if (text.n == 0) return OK;
    TRY(vocab_unbase64(d, text, &step.a, err));
    return vocab_draft_norm(d, step, err);
}

static status read_byte_level(vocab_draft *d, json_fields *f, error *err) {
    (void)f;
    (void)err;
    d->byte_level = true;
    return OK;
}

/* --- the table ------------------------------------------------------------- */
static const norm_type types[] = {
    {"BertNormalizer", 0, read_bert},
    {"Bert", 0, read_bert},
    {"Strip", 0, read_strip},
    {"StripAccents", 0, read_strip_accents},
    {"NFC", TOK_NORM_NFC, NULL},
    {"NFD", TOK_NORM_NFD, NULL},
    {"NFKC", TOK_NORM_NFKC, NULL},
    {"NFKD", TOK_NORM_NFKD, NULL},
    {"Lowercase", TOK_NORM_LOWERCASE, NULL},
    {"Nmt", TOK_NORM_NMT, NULL},
    {"Precompiled", 0, read_precompiled},
    {"Replace", 0, read_replace},
    {"Prepend", 0, read_prepend},
    {"ByteLevel", 0, read_byte_level},
};

/* The alphabet of GPT-2 is how the model spells text, not a step: nothing may come behind it. */
static status check_not_spelled(const vocab_draft *d, const json_node *n, str type, error *err) {
    char path[JSON_PATH_BYTES];
    if (!d->byte_level) return OK;
    json_node_path(n, path);
    return error_set(err, ERR_UNSUPPORTED, "%s: '%.*s' behind ByteLevel", path, STR(type));
}

static status read_type(vocab_draft *d, json_fields *f, str type, error *err) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (!str_eq_c(type, types[i].name)) continue;
        TRY(check_not_spelled(d, &f->node, type, err));
        return types[i].parse != NULL ? types[i].parse(d, f, err) : add(d, types[i].kind, err);
    }
    return vocab_json_unknown(&f->node, type, err);
}

status vocab_json_normalizer(vocab_draft *d, const json_node *n, error *err) {
    return vocab_json_parts(d, n, "normalizers", read_type, err);
}
