/* vocab_json_part.c - what the components of a tokenizer.json have in common: a type, options of
 * which none may go unread, patterns, sequences. */
#include "model/vocab_json.h"

/* Names the place and what is there, for types and options nobody knows. */
static status not_known(const json_node *n, const char *what, str name, error *err) {
    char path[JSON_PATH_BYTES], text[MODEL_TEXT_BYTES];
    json_node_path(n, path);
    model_copy_text(text, sizeof text, name);
    return error_set(err, ERR_UNSUPPORTED, "%s: %s'%s' is not known", path, what, text);
}

status vocab_json_unknown(const json_node *n, str type, error *err) {
    return not_known(n, "type ", type, err);
}

static status read_type(json_fields *f, str *out, error *err) {
    json_node n;
    TRY(json_field_need(f, "type", &n, err));
    return json_node_str(&n, MODEL_TEXT_BYTES, out, err);
}

typedef struct unread {
    json_fields *fields;
    str key; /* p == NULL: none so far */
} unread;

static void note_unread(void *arg, str key) {
    unread *u = arg;
    if (u->key.p != NULL) return;
    json_node member = json_field(u->fields, key.p);
    if (json_node_is_set(&member)) u->key = key;
}

status vocab_json_all_known(const json_fields *f, error *err) {
    json_fields asked = *f; /* looking at a member would make it one that was asked for */
    unread u = {.fields = &asked};
    (void)json_fields_unused(f, note_unread, &u);
    return u.key.p == NULL ? OK : not_known(&f->node, "", u.key, err);
}

status vocab_json_string(vocab_draft *d, json_fields *f, const char *key, str *out, error *err) {
    json_node n;
    str s = {0};
    TRY(json_field_need(f, key, &n, err));
    TRY(json_node_str(&n, VOCAB_STRING_BYTES_MAX, &s, err));
    return vocab_draft_keep(d, s, out, err);
}

status vocab_json_pattern(vocab_draft *d, json_fields *f, bool *regex, str *out, error *err) {
    json_node n;
    json_fields pattern;
    TRY(json_field_need(f, "pattern", &n, err));
    TRY(json_fields_open(&pattern, &n, err));
    json_node member = json_field(&pattern, "Regex");
    *regex = member.value != NULL;
    TRY(vocab_json_string(d, &pattern, *regex ? "Regex" : "String", out, err));
    return vocab_json_all_known(&pattern, err);
}

/* --- sequences --------------------------------------------------------------- */
/* What stays the same from part to part of one component. */
typedef struct parts_walk {
    vocab_draft *d;
    const char *list; /* the member of a Sequence that holds its parts */
    vocab_json_reader parse;
} parts_walk;

static status read_part(const parts_walk *w, const json_node *n, uint32_t level, error *err);

static status read_sequence(const parts_walk *w, json_fields *f, uint32_t level, error *err) {
    json_node list;
    char path[JSON_PATH_BYTES];
    if (level == VOCAB_NESTING_MAX) {
        json_node_path(&f->node, path);
        return error_set(err, ERR_LIMIT, "%s: more than %d sequences in one another", path,
                         VOCAB_NESTING_MAX);
    }
    TRY(json_field_need(f, w->list, &list, err));
    TRY(json_get_array(f, w->list, VOCAB_STEPS_MAX, &list, err));
    for (size_t i = 0; i < json_node_count(&list); i++) {
        json_node element = json_node_element(&list, i);
        TRY(read_part(w, &element, level + 1, err));
    }
    return OK;
}

/* Calls itself through read_sequence(), VOCAB_NESTING_MAX deep at most. */
static status read_part(const parts_walk *w, const json_node *n, uint32_t level, error *err) {
    json_fields f;
    str type = {0};
    TRY(json_fields_open(&f, n, err));
    TRY(read_type(&f, &type, err));
    bool sequence = str_eq_c(type, "Sequence");
    TRY(sequence ? read_sequence(w, &f, level, err) : w->parse(w->d, &f, type, err));
    return vocab_json_all_known(&f, err);
}

status vocab_json_parts(vocab_draft *d, const json_node *n, const char *list,
                        vocab_json_reader parse, error *err) {
    const parts_walk w = {.d = d, .list = list, .parse = parse};
    return json_node_is_set(n) ? read_part(&w, n, 0, err) : OK;
}
