/* vocab_json_decoder.c - "decoder" of a tokenizer.json: how pieces become text again.
 *
 * A decoder is a chain of small steps, but only a few chains make sense, and what they do is in
 * tok_form and a few switches.  So the steps are noted as bits; those that no bit stands for are
 * refused by name.  Source: Hugging Face tokenizers, "Decoders". */
#include "model/vocab_json.h"

static status refuse(const json_fields *f, const char *why, error *err) {
    char path[JSON_PATH_BYTES];
    json_node_path(&f->node, path);
    return error_set(err, ERR_UNSUPPORTED, "%s: %s", path, why);
}

static status read_byte_level(vocab_draft *d, json_fields *f, error *err) {
    (void)err;
    (void)json_field(f, "add_prefix_space");
    (void)json_field(f, "trim_offsets");
    (void)json_field(f, "use_regex");
    d->decoder |= VOCAB_DECODER_BYTE_LEVEL;
    return OK;
}

static status read_metaspace(vocab_draft *d, json_fields *f, error *err) {
    static const char *const names[] = {"always", "first", "never"};
    uint32_t scheme = 0;
    bool prefix = true;
    json_node mark;
    str text = {0};
    TRY(json_field_need(f, "replacement", &mark, err));
    TRY(json_node_str(&mark, MODEL_TEXT_BYTES, &text, err));
    TRY(json_get_choice(f, "prepend_scheme", names, 3, &scheme, err));
    TRY(json_get_bool(f, "add_prefix_space", &prefix, err));
    (void)json_field(f, "split");
    (void)json_field(f, "str_rep");
    if (!str_eq_c(text, "\xE2\x96\x81")) return refuse(f, "a replacement other than U+2581", err);
    d->decoder |= VOCAB_DECODER_METASPACE;
    if (prefix && scheme != 2) d->decoder |= VOCAB_DECODER_STRIP;
    return OK;
}

/* U+2581 becomes a space, or a space itself: nothing else. */
static status read_replace(vocab_draft *d, json_fields *f, error *err) {
    bool regex = false;
    str from = {0}, to = {0};
    TRY(vocab_json_pattern(d, f, &regex, &from, err));
    TRY(vocab_json_string(d, f, "content", &to, err));
    if (regex || !str_eq_c(from, "\xE2\x96\x81") || !str_eq_c(to, " "))
        return refuse(f, "a Replace other than U+2581 to a space", err);
    d->decoder |= VOCAB_DECODER_METASPACE;
    return OK;
}

static status read_strip(vocab_draft *d, json_fields *f, error *err) {
    uint32_t start = 0, stop = 0;
    str content = {0};
    TRY(vocab_json_string(d, f, "content", &content, err));
    TRY(json_get_u32(f, "start", 0, UINT32_MAX, &start, err));
    TRY(json_get_u32(f, "stop", 0, UINT32_MAX, &stop, err));
    if (start == 0 && stop == 0) return OK;
    if (!str_eq_c(content, " ") || start != 1 || stop != 0 ||
        (d->decoder & VOCAB_DECODER_FUSE) == 0)
        return refuse(f, "a Strip other than of one space at the front, behind Fuse", err);
    d->decoder |= VOCAB_DECODER_STRIP;
    return OK;
}

static status read_wordpiece(vocab_draft *d, json_fields *f, error *err) {
    str prefix = {0};
    d->v.cleanup_tokens = true;
    TRY(vocab_json_string(d, f, "prefix", &prefix, err));
    TRY(json_get_bool(f, "cleanup", &d->v.cleanup_tokens, err));
    if (d->v.continuing_prefix.n > 0 && !str_eq(prefix, d->v.continuing_prefix))
        return refuse(f, "another prefix than the model's", err);
    d->v.continuing_prefix = prefix;
    d->decoder |= VOCAB_DECODER_WORDPIECE;
    return OK;
}

static status read_suffix(vocab_draft *d, json_fields *f, error *err) {
    str suffix = S("</w>");
    json_node n = json_field(f, "suffix");
    TRY(json_node_str(&n, MODEL_TEXT_BYTES, &suffix, err));
    if (!str_eq(suffix, d->v.end_of_word)) return refuse(f, "another suffix than the model's", err);
    d->decoder |= VOCAB_DECODER_SUFFIX;
    return OK;
}

static status read_bytes(vocab_draft *d, json_fields *f, error *err) {
    (void)f;
    (void)err;
    d->decoder |= VOCAB_DECODER_BYTES;
    return OK;
}

static status read_fuse(vocab_draft *d, json_fields *f, error *err) {
    (void)f;
    (void)err;
    d->decoder |= VOCAB_DECODER_FUSE;
    return OK;
}

/* --- the table ------------------------------------------------------------- */
static const struct {
    const char *name;
    status (*parse)(vocab_draft *d, json_fields *f, error *err);
} types[] = {
    {"ByteLevel", read_byte_level}, {"Metaspace", read_metaspace}, {"Replace", read_replace},
    {"Strip", read_strip},          {"WordPiece", read_wordpiece}, {"BPEDecoder", read_suffix},
    {"ByteFallback", read_bytes},   {"Fuse", read_fuse},
};

static status read_type(vocab_draft *d, json_fields *f, str type, error *err) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (str_eq_c(type, types[i].name)) return types[i].parse(d, f, err);
    return vocab_json_unknown(&f->node, type, err);
}

status vocab_json_decoder(vocab_draft *d, const json_node *n, error *err) {
    return vocab_json_parts(d, n, "decoders", read_type, err);
}
