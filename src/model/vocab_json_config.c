/* vocab_json_config.c - the files beside a tokenizer: tokenizer_config.json,
 * special_tokens_map.json, added_tokens.json, generation_config.json, config.json,
 * chat_template.json.  All are small and full of keys for other programs, which are passed over.
 * Source: transformers, tokenization_utils_base and the pages on chat templates. */
#include <inttypes.h>

#include "model/vocab_json.h"

enum { CONFIG_TEMPLATES_MAX = 64, CONFIG_EOS_MAX = 16, CONFIG_NAME_BYTES_MAX = 1024 };

/* --- what all of them need ------------------------------------------------- */
typedef status (*config_reader)(vocab_draft *d, json_fields *f, error *err);

static status read_file(vocab_draft *d, str text, const char *name, config_reader parse,
                        error *err) {
    json_doc doc = {0};
    json_fields f;
    error cause = {0};
    status st = json_parse(text, &doc, &cause);
    if (st == OK) {
        json_node root = json_root(&doc);
        st = json_fields_open(&f, &root, &cause);
        if (st == OK) st = parse(d, &f, &cause);
        json_doc_deinit(&doc);
    }
    if (st == OK) return OK;
    return error_set(err, st == ERR_INVALID ? ERR_FORMAT : st, "%s: %s", name, cause.msg);
}

/* "<s>" or {"content": "<s>", ...}; *out stays as it is when there is none. */
static status read_token(const json_node *n, str *out, error *err) {
    json_fields f;
    if (!json_node_is_set(n)) return OK;
    if (!json_is_object(n->value)) return json_node_str(n, CONFIG_NAME_BYTES_MAX, out, err);
    TRY(json_fields_open(&f, n, err));
    json_node content;
    TRY(json_field_need(&f, "content", &content, err));
    return json_node_str(&content, CONFIG_NAME_BYTES_MAX, out, err);
}

/* The first file that names the token has the word. */
static status note_token(vocab_draft *d, json_fields *f, const char *key, str *out, error *err) {
    str name = {0};
    json_node n = json_field(f, key);
    TRY(read_token(&n, &name, err));
    if (name.p == NULL) return OK;
    TRY(vocab_draft_name(d, name, err));
    return out->p == NULL ? vocab_draft_keep(d, name, out, err) : OK;
}

/* Padding is left out: some files name an ordinary token for it. */
static status note_tokens(vocab_draft *d, json_fields *f, error *err) {
    str ignored = S("");
    TRY(note_token(d, f, "bos_token", &d->config.bos, err));
    TRY(note_token(d, f, "eos_token", &d->config.eos, err));
    TRY(note_token(d, f, "unk_token", &d->config.unk, err));
    TRY(note_token(d, f, "cls_token", &d->config.cls, err));
    TRY(note_token(d, f, "sep_token", &d->config.sep, err));
    TRY(note_token(d, f, "mask_token", &ignored, err));
    json_node list = json_field(f, "additional_special_tokens");
    for (size_t i = 0; i < json_node_count(&list); i++) {
        json_node n = json_node_element(&list, i);
        str name = {0};
        TRY(read_token(&n, &name, err));
        TRY(vocab_draft_name(d, name, err));
    }
    return OK;
}

/* --- chat templates -------------------------------------------------------- */
static status keep_template(vocab_draft *d, const json_node *n, str *out, error *err) {
    str text = {0};
    TRY(json_node_str(n, MODEL_CHAT_TEMPLATE_BYTES_MAX, &text, err));
    return out->n == 0 ? vocab_draft_keep(d, text, out, err) : OK;
}

/* A string, or a list of {"name", "template"}, of which two names mean something. */
static status note_template(vocab_draft *d, json_fields *f, error *err) {
    json_node list = json_field(f, "chat_template");
    if (!json_node_is_set(&list)) return OK;
    if (!json_is_array(list.value)) return keep_template(d, &list, &d->m->chat_template, err);
    TRY(json_get_array(f, "chat_template", CONFIG_TEMPLATES_MAX, &list, err));
    for (size_t i = 0; i < json_node_count(&list); i++) {
        json_node n = json_node_element(&list, i), text;
        json_fields one;
        str name = {0};
        TRY(json_fields_open(&one, &n, err));
        TRY(json_get_str(&one, "name", CONFIG_NAME_BYTES_MAX, &name, err));
        TRY(json_field_need(&one, "template", &text, err));
        if (str_eq_c(name, "default")) TRY(keep_template(d, &text, &d->m->chat_template, err));
        if (str_eq_c(name, "tool_use"))
            TRY(keep_template(d, &text, &d->m->chat_template_tools, err));
    }
    return OK;
}

status vocab_config_template(vocab_draft *d, str text, error *err) {
    return read_file(d, text, "chat_template.json", note_template, err);
}

/* --- added tokens ---------------------------------------------------------- */
/* Walks the members of an object until one is refused. */
typedef struct added_walk {
    vocab_draft *d;
    error *err;
    status st;
} added_walk;

static status parse_id(const json_node *member, uint32_t *out, error *err) {
    uint64_t id = 0;
    char path[JSON_PATH_BYTES];
    if (str_to_u64(member->key, &id) && id < MODEL_VOCAB_MAX) {
        *out = (uint32_t)id;
        return OK;
    }
    json_node_path(member, path);
    return error_set(err, ERR_INVALID, "%s: the key is no id, 0 to %d", path, MODEL_VOCAB_MAX - 1);
}

static status add_bit(json_fields *f, const char *key, bool fallback, uint8_t bit, uint8_t *flags,
                      error *err) {
    bool on = fallback;
    TRY(json_get_bool(f, key, &on, err));
    if (on) *flags |= bit;
    return OK;
}

/* "5": {"content": "<x>", "lstrip": false, ...} */
static status read_decoder_entry(vocab_draft *d, const json_node *member, error *err) {
    vocab_added a = {.wins = true};
    json_fields f;
    json_node content;
    TRY(parse_id(member, &a.id, err));
    TRY(json_fields_open(&f, member, err));
    TRY(json_field_need(&f, "content", &content, err));
    TRY(json_node_str(&content, VOCAB_STRING_BYTES_MAX, &a.content, err));
    TRY(json_get_bool(&f, "special", &a.special, err));
    TRY(add_bit(&f, "lstrip", false, TOK_FLAG_LSTRIP, &a.flags, err));
    TRY(add_bit(&f, "rstrip", false, TOK_FLAG_RSTRIP, &a.flags, err));
    TRY(add_bit(&f, "single_word", false, TOK_FLAG_SINGLE_WORD, &a.flags, err));
    TRY(add_bit(&f, "normalized", !a.special, TOK_FLAG_NORMALIZED, &a.flags, err));
    if (a.content.n == 0) return OK;
    TRY(vocab_draft_keep(d, a.content, &a.content, err));
    return vocab_draft_added(d, &a, err);
}

static void walk_decoder(void *arg, const json_node *member) {
    added_walk *w = arg;
    if (w->st == OK) w->st = read_decoder_entry(w->d, member, w->err);
}

/* "<x>": 32000 */
static status read_added_entry(vocab_draft *d, const json_node *member, error *err) {
    vocab_added a = {.flags = TOK_FLAG_NORMALIZED};
    if (!json_node_is_set(member)) return json_node_wrong_type(member, "an id", err);
    TRY(json_node_u32(member, 0, MODEL_VOCAB_MAX - 1, &a.id, err));
    if (member->key.n == 0) return OK;
    TRY(vocab_draft_keep(d, member->key, &a.content, err));
    return vocab_draft_added(d, &a, err);
}

static void walk_added(void *arg, const json_node *member) {
    added_walk *w = arg;
    if (w->st == OK) w->st = read_added_entry(w->d, member, w->err);
}

static status note_added(vocab_draft *d, json_fields *f, error *err) {
    added_walk w = {.d = d, .err = err};
    json_node_each(&f->node, walk_added, &w);
    return w.st;
}

status vocab_config_added(vocab_draft *d, str text, error *err) {
    return read_file(d, text, "added_tokens.json", note_added, err);
}

/* --- tokenizer_config.json ------------------------------------------------- */
static status note_switch(json_fields *f, const char *key, int8_t *out, error *err) {
    json_node n = json_field(f, key);
    bool on = false;
    if (!json_node_is_set(&n)) return OK;
    TRY(json_node_bool(&n, &on, err));
    *out = on ? 1 : 0;
    return OK;
}

static status note_tokenizer(vocab_draft *d, json_fields *f, error *err) {
    vocab_config *c = &d->config;
    added_walk w = {.d = d, .err = err};
    json_node added;
    TRY(json_get_str(f, "tokenizer_class", MODEL_TEXT_BYTES, &c->tokenizer_class, err));
    if (c->tokenizer_class.n > 0)
        TRY(vocab_draft_keep(d, c->tokenizer_class, &c->tokenizer_class, err));
    TRY(note_tokens(d, f, err));
    TRY(note_switch(f, "add_bos_token", &c->add_bos, err));
    TRY(note_switch(f, "add_eos_token", &c->add_eos, err));
    TRY(note_switch(f, "legacy", &c->legacy, err));
    TRY(note_switch(f, "do_lower_case", &c->lower_case, err));
    TRY(note_switch(f, "strip_accents", &c->strip_accents, err));
    TRY(note_switch(f, "tokenize_chinese_chars", &c->chinese_chars, err));
    TRY(json_get_object(f, "added_tokens_decoder", &added, err));
    if (added.value != NULL) json_node_each(&added, walk_decoder, &w);
    TRY(w.st);
    return note_template(d, f, err);
}

status vocab_config_tokenizer(vocab_draft *d, str text, error *err) {
    return read_file(d, text, "tokenizer_config.json", note_tokenizer, err);
}

status vocab_config_special(vocab_draft *d, str text, error *err) {
    return read_file(d, text, "special_tokens_map.json", note_tokens, err);
}

/* --- generation_config.json, config.json ----------------------------------- */
/* -1 is a way to say that there is none. */
static status note_id(const json_node *n, int32_t *out, error *err) {
    int32_t id = TOK_ID_NONE;
    if (*out != TOK_ID_NONE) return OK;
    TRY(json_node_i32(n, -1, MODEL_VOCAB_MAX - 1, &id, err));
    *out = id;
    return OK;
}

/* One id, or a list of those that end a generation. */
static status note_ids(vocab_draft *d, json_fields *f, error *err) {
    vocab_config *c = &d->config;
    json_node bos = json_field(f, "bos_token_id"), eos = json_field(f, "eos_token_id");
    TRY(note_id(&bos, &c->bos_id, err));
    if (!json_node_is_set(&eos) || c->eos_ids_count > 0) return OK;
    bool list = json_is_array(eos.value);
    if (list) TRY(json_get_array(f, "eos_token_id", CONFIG_EOS_MAX, &eos, err));
    size_t count = list ? json_node_count(&eos) : 1;
    for (size_t i = 0; i < count; i++) {
        json_node n = list ? json_node_element(&eos, i) : eos;
        int32_t id = TOK_ID_NONE;
        TRY(note_id(&n, &id, err));
        if (id != TOK_ID_NONE) c->eos_ids[c->eos_ids_count++] = id;
    }
    return OK;
}

status vocab_config_ids(vocab_draft *d, str text, const char *name, error *err) {
    return read_file(d, text, name, note_ids, err);
}
