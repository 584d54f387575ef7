/* vocab_json_frame.c - "post_processor" of a tokenizer.json: the tokens around a text.
 *
 * Only what happens to a single text; "pair" is of no use here.  Each processor of a Sequence
 * goes around what the ones before it made.  Source: Hugging Face tokenizers,
 * "Post-processors". */
#include "model/vocab_json.h"

/* What one processor adds. */
typedef struct frame {
    int32_t before[TOK_AROUND_MAX];
    uint32_t before_count;
    int32_t after[TOK_AROUND_MAX];
    uint32_t after_count;
    bool behind; /* the text itself has been seen */
} frame;

static status too_many(const json_node *n, error *err) {
    char path[JSON_PATH_BYTES];
    json_node_path(n, path);
    return error_set(err, ERR_LIMIT, "%s: more than %d tokens around a text", path, TOK_AROUND_MAX);
}

static status add_id(frame *fr, const json_node *where, uint32_t id, error *err) {
    uint32_t *count = fr->behind ? &fr->after_count : &fr->before_count;
    if (*count == TOK_AROUND_MAX) return too_many(where, err);
    (fr->behind ? fr->after : fr->before)[(*count)++] = (int32_t)id;
    return OK;
}

/* Around what is there already. */
static status put_around(vocab_draft *d, const json_node *where, const frame *fr, error *err) {
    tok_vocab *v = &d->v;
    if (v->before_count + fr->before_count > TOK_AROUND_MAX ||
        v->after_count + fr->after_count > TOK_AROUND_MAX)
        return too_many(where, err);
    memmove(v->before + fr->before_count, v->before, v->before_count * sizeof *v->before);
    memcpy(v->before, fr->before, fr->before_count * sizeof *v->before);
    memcpy(v->after + v->after_count, fr->after, fr->after_count * sizeof *v->after);
    v->before_count += fr->before_count;
    v->after_count += fr->after_count;
    return OK;
}

/* --- TemplateProcessing ---------------------------------------------------- */
/* A special token of the template stands for the ids that `tokens` lists under its name. */
static status add_special(frame *fr, const json_node *where, const json_node *tokens, str name,
                          error *err) {
    char key[MODEL_TEXT_BYTES * 4], path[JSON_PATH_BYTES];
    json_fields all, one;
    json_node entry, ids;
    str_copy_c(key, sizeof key, name);
    TRY(json_fields_open(&all, tokens, err));
    entry = json_field(&all, key);
    if (entry.value == NULL || name.n >= sizeof key) {
        json_node_path(where, path);
        return error_set(err, ERR_INVALID, "%s: '%.*s' is not in special_tokens", path, STR(name));
    }
    TRY(json_fields_open(&one, &entry, err));
    TRY(json_field_need(&one, "ids", &ids, err));
    TRY(json_get_array(&one, "ids", TOK_AROUND_MAX, &ids, err));
    for (size_t i = 0; i < json_node_count(&ids); i++) {
        json_node n = json_node_element(&ids, i);
        uint32_t id = 0;
        TRY(json_node_u32(&n, 0, MODEL_VOCAB_MAX - 1, &id, err));
        TRY(add_id(fr, where, id, err));
    }
    return OK;
}

static status add_sequence(frame *fr, const json_node *where, str name, error *err) {
    char path[JSON_PATH_BYTES];
    if (str_eq_nocase(name, S("A")) && !fr->behind) {
        fr->behind = true;
        return OK;
    }
    json_node_path(where, path);
    return error_set(err, ERR_UNSUPPORTED, "%s: sequence '%.*s', want one A", path, STR(name));
}

/* "[CLS]", "$A", "$", "$0", each with ":TYPE" or without. */
static status add_word(frame *fr, const json_node *where, const json_node *tokens, str word,
                       error *err) {
    const char *colon = word.n > 0 ? memrchr(word.p, ':', word.n) : NULL;
    uint64_t number = 0;
    if (colon != NULL) {
        str type = str_skip(word, (size_t)(colon - word.p) + 1);
        if (str_to_u64(type, &number)) word.n = (size_t)(colon - word.p);
    }
    if (word.n == 0 || word.p[0] != '$') return add_special(fr, where, tokens, word, err);
    str name = str_skip(word, 1);
    bool first = name.n == 0 || str_to_u64(name, &number);
    return add_sequence(fr, where, first ? S("A") : name, err);
}

/* {"SpecialToken": {"id": "<s>", "type_id": 0}} or {"Sequence": {"id": "A", "type_id": 0}} */
static status add_piece(frame *fr, const json_node *n, const json_node *tokens, error *err) {
    json_fields f, inner;
    json_node member, id;
    str name = {0};
    TRY(json_fields_open(&f, n, err));
    member = json_field(&f, "Sequence");
    bool sequence = member.value != NULL;
    if (!sequence) TRY(json_field_need(&f, "SpecialToken", &member, err));
    TRY(json_fields_open(&inner, &member, err));
    TRY(json_field_need(&inner, "id", &id, err));
    TRY(json_node_str(&id, MODEL_TEXT_BYTES * 4 - 1, &name, err));
    (void)json_field(&inner, "type_id");
    TRY(vocab_json_all_known(&inner, err));
    TRY(vocab_json_all_known(&f, err));
    return sequence ? add_sequence(fr, n, name, err) : add_special(fr, n, tokens, name, err);
}

static status add_words(frame *fr, const json_node *n, const json_node *tokens, error *err) {
    str text = {0};
    TRY(json_node_str(n, VOCAB_STRING_BYTES_MAX, &text, err));
    while (text.n > 0) {
        const char *space = memchr(text.p, ' ', text.n);
        size_t bytes = space != NULL ? (size_t)(space - text.p) : text.n;
        TRY(add_word(fr, n, tokens, (str){text.p, bytes}, err));
        text = str_skip(text, bytes + (space != NULL));
    }
    return OK;
}

static status read_template(vocab_draft *d, json_fields *f, error *err) {
    frame fr = {0};
    json_node single, tokens;
    TRY(json_field_need(f, "single", &single, err));
    tokens = json_field(f, "special_tokens");
    (void)json_field(f, "pair");
    if (json_is_string(single.value)) {
        TRY(add_words(&fr, &single, &tokens, err));
    } else {
        TRY(json_get_array(f, "single", VOCAB_STEPS_MAX, &single, err));
    }
    for (size_t i = 0; i < json_node_count(&single); i++) {
        json_node piece = json_node_element(&single, i);
        TRY(json_is_string(piece.value) ? add_words(&fr, &piece, &tokens, err)
                                        : add_piece(&fr, &piece, &tokens, err));
    }
    if (!fr.behind)
        return error_set(err, ERR_UNSUPPORTED, "single: the template has no place for the text");
    return put_around(d, &single, &fr, err);
}

/* --- the others ------------------------------------------------------------ */
/* ["[CLS]", 101] */
static status read_pair(json_fields *f, const char *key, frame *fr, error *err) {
    json_node n;
    uint32_t id = 0;
    TRY(json_field_need(f, key, &n, err));
    TRY(json_get_array(f, key, 2, &n, err));
    if (json_node_count(&n) != 2) return json_node_wrong_type(&n, "a token and its id", err);
    json_node number = json_node_element(&n, 1);
    if (!json_node_is_set(&number)) return json_node_wrong_type(&number, "an id", err);
    TRY(json_node_u32(&number, 0, MODEL_VOCAB_MAX - 1, &id, err));
    return add_id(fr, &n, id, err);
}

/* [CLS] TEXT [SEP]; the options of Roberta say nothing of ids. */
static status read_cls_sep(vocab_draft *d, json_fields *f, error *err) {
    frame fr = {0};
    TRY(read_pair(f, "cls", &fr, err));
    fr.behind = true;
    TRY(read_pair(f, "sep", &fr, err));
    (void)json_field(f, "trim_offsets");
    (void)json_field(f, "add_prefix_space");
    return put_around(d, &f->node, &fr, err);
}

/* Moves offsets only. */
static status read_byte_level(vocab_draft *d, json_fields *f, error *err) {
    (void)d;
    (void)err;
    (void)json_field(f, "add_prefix_space");
    (void)json_field(f, "trim_offsets");
    (void)json_field(f, "use_regex");
    return OK;
}

/* --- the table ------------------------------------------------------------- */
static const struct {
    const char *name;
    status (*parse)(vocab_draft *d, json_fields *f, error *err);
} types[] = {
    {"TemplateProcessing", read_template},
    {"BertProcessing", read_cls_sep},
    {"RobertaProcessing", read_cls_sep},
    {"ByteLevel", read_byte_level},
};

static status read_type(vocab_draft *d, json_fields *f, str type, error *err) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (str_eq_c(type, types[i].name)) return types[i].parse(d, f, err);
    return vocab_json_unknown(&f->node, type, err);
}

status vocab_json_post_processor(vocab_draft *d, const json_node *n, error *err) {
    return vocab_json_parts(d, n, "processors", read_type, err);
}
