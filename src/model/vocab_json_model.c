/* vocab_json_model.c - "model" of a tokenizer.json: pieces, merges, switches, straight from the
 * stream.  Files without "type" are old; what else is there tells the type, in the order in
 * which Hugging Face tries them.  Source: Hugging Face tokenizers, "Models". */
#include <inttypes.h>
#include <math.h>

#include "model/vocab_json.h"

/* The keys of all types together; bits say which were there. */
enum {
    KEY_VOCAB = 1,
    KEY_MERGES = 2,
    KEY_LIST = 4, /* vocab is a list of pieces with scores */
    KEY_PREFIX = 8,
    KEY_CHARS = 16,
    KEY_UNK_TOKEN = 32,
};

typedef struct reading {
    vocab_draft *d;
    json_stream *s;
    uint32_t seen; /* KEY_* */
    str type;      /* p == NULL: none */
} reading;

static status refuse(const reading *r, const char *want, json_token found, error *err) {
    return error_set(err, ERR_FORMAT, "%s: byte %zu: want %s, found %s", r->d->file, r->s->raw_at,
                     want, json_token_name(found));
}

/* --- values ---------------------------------------------------------------- */
/* The string just read: a view where it has no escapes. */
static status take_text(reading *r, str *out, error *err) {
    void *copy = NULL;
    *out = r->s->raw;
    if (!r->s->escaped) return OK;
    TRY(model_take(r->d->m, r->s->raw.n, 1, "a token", &copy, err));
    *out = (str){copy, json_stream_text(r->s, copy)};
    return OK;
}

static status read_text(reading *r, str *out, error *err) {
    TRY(json_stream_want(r->s, JSON_TOKEN_STRING, err));
    return take_text(r, out, err);
}

static status read_id(reading *r, uint32_t *out, error *err) {
    uint64_t id = 0;
    TRY(json_stream_want(r->s, JSON_TOKEN_NUMBER, err));
    if (!str_to_u64(r->s->raw, &id) || id >= MODEL_VOCAB_MAX)
        return error_set(err, ERR_LIMIT, "%s: byte %zu: '%.*s' is no id, 0 to %d", r->d->file,
                         r->s->raw_at, STR(r->s->raw), MODEL_VOCAB_MAX - 1);
    *out = (uint32_t)id;
    return OK;
}

/* null leaves *out as it is. */
static status read_bool(reading *r, bool *out, error *err) {
    json_token t = JSON_TOKEN_END;
    TRY(json_stream_next(r->s, &t, err));
    if (t == JSON_TOKEN_TRUE || t == JSON_TOKEN_FALSE)
        *out = t == JSON_TOKEN_TRUE;
    else if (t != JSON_TOKEN_NULL)
        return refuse(r, "true or false", t, err);
    return OK;
}

static status read_optional_text(reading *r, str *out, error *err) {
    json_token t = JSON_TOKEN_END;
    TRY(json_stream_next(r->s, &t, err));
    if (t == JSON_TOKEN_NULL) return OK;
    if (t != JSON_TOKEN_STRING) return refuse(r, "string", t, err);
    return take_text(r, out, err);
}

/* --- pieces ---------------------------------------------------------------- */
static status read_object_vocab(reading *r, error *err) {
    for (;;) {
        json_token t = JSON_TOKEN_END;
        vocab_entry e = {.type = TOK_TYPE_NORMAL};
        TRY(json_stream_next(r->s, &t, err));
        if (t == JSON_TOKEN_OBJECT_END) return OK;
        TRY(take_text(r, &e.piece, err));
        TRY(read_id(r, &e.id, err));
        TRY(vocab_draft_entry(r->d, &e, err));
    }
}

/* ["piece", -1.5] behind its '[' */
static status read_scored(reading *r, uint32_t id, error *err) {
    vocab_entry e = {.type = TOK_TYPE_NORMAL, .id = id};
    double score = 0;
    TRY(read_text(r, &e.piece, err));
    TRY(json_stream_want(r->s, JSON_TOKEN_NUMBER, err));
    if (!str_to_f64(r->s->raw, &score) || !isfinite((float)score))
        return error_set(err, ERR_FORMAT, "%s: token %u has score '%.*s', which is no float",
                         r->d->file, id, STR(r->s->raw));
    e.score = (float)score;
    TRY(json_stream_want(r->s, JSON_TOKEN_ARRAY_END, err));
    return vocab_draft_entry(r->d, &e, err);
}

static status read_list_vocab(reading *r, error *err) {
    for (uint32_t id = 0;; id++) {
        json_token t = JSON_TOKEN_END;
        TRY(json_stream_next(r->s, &t, err));
        if (t == JSON_TOKEN_ARRAY_END) return OK;
        if (t != JSON_TOKEN_ARRAY_BEGIN) return refuse(r, "array", t, err);
        TRY(read_scored(r, id, err));
    }
}

static status read_vocab(reading *r, error *err) {
    json_token t = JSON_TOKEN_END;
    TRY(json_stream_next(r->s, &t, err));
    if (t == JSON_TOKEN_OBJECT_BEGIN) return read_object_vocab(r, err);
    if (t != JSON_TOKEN_ARRAY_BEGIN) return refuse(r, "object or array", t, err);
    r->seen |= KEY_LIST;
    return read_list_vocab(r, err);
}

/* --- merges ---------------------------------------------------------------- */
/* "a b", or ["a", "b"] behind its '[' */
static status read_merge(reading *r, json_token t, error *err) {
    if (t == JSON_TOKEN_STRING) {
        str line = {0};
        TRY(take_text(r, &line, err));
        if (str_starts(line, S("#version"))) return OK; /* of a merges.txt, taken over */
        return vocab_draft_merge_line(r->d, line, err);
    }
    if (t != JSON_TOKEN_ARRAY_BEGIN) return refuse(r, "string or array", t, err);
    tok_merge merge = {0};
    TRY(read_text(r, &merge.left, err));
    TRY(read_text(r, &merge.right, err));
    TRY(json_stream_want(r->s, JSON_TOKEN_ARRAY_END, err));
    return vocab_draft_merge(r->d, merge, err);
}

static status read_merges(reading *r, error *err) {
    TRY(json_stream_want(r->s, JSON_TOKEN_ARRAY_BEGIN, err));
    for (;;) {
        json_token t = JSON_TOKEN_END;
        TRY(json_stream_next(r->s, &t, err));
        if (t == JSON_TOKEN_ARRAY_END) return OK;
        TRY(read_merge(r, t, err));
    }
}

/* --- switches -------------------------------------------------------------- */
/* A model that leaves out merges at random is for training; 0 is off. */
static status read_dropout(reading *r, error *err) {
    json_token t = JSON_TOKEN_END;
    double share = 0;
    TRY(json_stream_next(r->s, &t, err));
    if (t == JSON_TOKEN_NULL) return OK;
    if (t != JSON_TOKEN_NUMBER) return refuse(r, "number", t, err);
    if (str_to_f64(r->s->raw, &share) && share == 0) return OK;
    return error_set(err, ERR_UNSUPPORTED, "%s: model.dropout is %.*s, must be 0", r->d->file,
                     STR(r->s->raw));
}

static status read_number(reading *r, const char *key, uint32_t *out, error *err) {
    json_token t = JSON_TOKEN_END;
    uint64_t value = 0;
    TRY(json_stream_next(r->s, &t, err));
    if (t == JSON_TOKEN_NULL) return OK;
    if (t != JSON_TOKEN_NUMBER) return refuse(r, "number", t, err);
    if (!str_to_u64(r->s->raw, &value) || value > INT32_MAX)
        return error_set(err, ERR_FORMAT, "%s: model.%s is %.*s, must be 0 to %d", r->d->file, key,
                         STR(r->s->raw), INT32_MAX);
    *out = (uint32_t)value;
    return OK;
}

static status read_unk_id(reading *r, error *err) {
    uint32_t id = UINT32_MAX;
    TRY(read_number(r, "unk_id", &id, err));
    if (id != UINT32_MAX) r->d->v.unk_id = (int32_t)id;
    return OK;
}

static status read_prefix(reading *r, error *err) {
    return read_optional_text(r, &r->d->v.continuing_prefix, err);
}

static status read_suffix(reading *r, error *err) {
    return read_optional_text(r, &r->d->v.end_of_word, err);
}

static status read_unk(reading *r, error *err) { return read_optional_text(r, &r->d->unk, err); }

static status read_type(reading *r, error *err) { return read_text(r, &r->type, err); }

static status read_chars(reading *r, error *err) {
    return read_number(r, "max_input_chars_per_word", &r->d->v.word_chars_max, err);
}

static status read_fuse(reading *r, error *err) { return read_bool(r, &r->d->v.fuse_unknown, err); }

static status read_fallback(reading *r, error *err) {
    return read_bool(r, &r->d->v.byte_fallback, err);
}

static status read_ignore(reading *r, error *err) {
    return read_bool(r, &r->d->v.ignore_merges, err);
}

static const struct {
    const char *name;
    uint32_t bit; /* KEY_* */
    status (*parse)(reading *r, error *err);
} keys[] = {
    {"type", 0, read_type},
    {"vocab", KEY_VOCAB, read_vocab},
    {"merges", KEY_MERGES, read_merges},
    {"dropout", 0, read_dropout},
    {"unk_token", KEY_UNK_TOKEN, read_unk},
    {"unk_id", 0, read_unk_id},
    {"continuing_subword_prefix", KEY_PREFIX, read_prefix},
    {"end_of_word_suffix", 0, read_suffix},
    {"fuse_unk", 0, read_fuse},
    {"byte_fallback", 0, read_fallback},
    {"ignore_merges", 0, read_ignore},
    {"max_input_chars_per_word", KEY_CHARS, read_chars},
};

/* A key nobody knows says nothing when it is null. */
static status read_other(reading *r, str key, error *err) {
    str raw = {0};
    char text[MODEL_TEXT_BYTES];
    TRY(json_stream_skip(r->s, &raw, err));
    if (str_eq_c(raw, "null")) return OK;
    model_copy_text(text, sizeof text, key);
    return error_set(err, ERR_UNSUPPORTED, "%s: model: '%s' is not known", r->d->file, text);
}

static status read_key(reading *r, error *err) {
    str key = r->s->raw;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (!str_eq_c(key, keys[i].name)) continue;
        if ((r->seen & keys[i].bit) != 0)
            return error_set(err, ERR_FORMAT, "%s: model.%s is there twice, again at byte %zu",
                             r->d->file, keys[i].name, r->s->raw_at);
        r->seen |= keys[i].bit;
        return keys[i].parse(r, err);
    }
    return read_other(r, key, err);
}

/* --- type ------------------------------------------------------------------ */
static status find_kind(const reading *r, tok_kind *out, error *err) {
    static const struct {
        const char *name;
        tok_kind kind;
    } kinds[] = {{"BPE", TOK_KIND_BPE},
                 {"Unigram", TOK_KIND_UNIGRAM},
                 {"WordPiece", TOK_KIND_WORDPIECE},
                 {"WordLevel", TOK_KIND_WORDLEVEL}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!str_eq_c(r->type, kinds[i].name)) continue;
        *out = kinds[i].kind;
        return OK;
    }
    char text[MODEL_TEXT_BYTES];
    model_copy_text(text, sizeof text, r->type);
    return error_set(err, ERR_UNSUPPORTED, "%s: model: type '%s' is not known", r->d->file, text);
}

static tok_kind guess_kind(uint32_t seen) {
    if ((seen & KEY_LIST) != 0) return TOK_KIND_UNIGRAM;
    if ((seen & KEY_MERGES) != 0) return TOK_KIND_BPE;
    bool wordpiece = (seen & KEY_PREFIX) != 0 && (seen & KEY_CHARS) != 0;
    return wordpiece ? TOK_KIND_WORDPIECE : TOK_KIND_WORDLEVEL;
}

static status check_shape(const reading *r, error *err) {
    tok_vocab *v = &r->d->v;
    const char *file = r->d->file;
    bool list = (r->seen & KEY_LIST) != 0, merges = (r->seen & KEY_MERGES) != 0;
    if ((r->seen & KEY_VOCAB) == 0) return error_set(err, ERR_FORMAT, "%s: no model.vocab", file);
    if (list != (v->kind == TOK_KIND_UNIGRAM))
        return error_set(err, ERR_FORMAT, "%s: model.vocab is %s, want %s", file,
                         list ? "an array" : "an object", list ? "an object" : "an array");
    if (merges != (v->kind == TOK_KIND_BPE))
        return error_set(err, ERR_FORMAT, "%s: model.merges %s", file,
                         merges ? "of a model other than BPE" : "is missing");
    uint32_t count = (uint32_t)(r->d->entries.n / sizeof(vocab_entry));
    if (list && v->unk_id != TOK_ID_NONE && (uint32_t)v->unk_id >= count)
        return error_set(err, ERR_FORMAT, "%s: model.unk_id is %d, there are %u tokens", file,
                         v->unk_id, count);
    return OK;
}

status vocab_json_model(vocab_draft *d, json_stream *s, error *err) {
    reading r = {.d = d, .s = s};
    json_token t = JSON_TOKEN_END;
    TRY(json_stream_want(s, JSON_TOKEN_OBJECT_BEGIN, err));
    for (;;) {
        TRY(json_stream_next(s, &t, err));
        if (t == JSON_TOKEN_OBJECT_END) break;
        TRY(read_key(&r, err));
    }
    d->v.kind = guess_kind(r.seen);
    if (r.type.p != NULL) TRY(find_kind(&r, &d->v.kind, err));
    if (d->v.kind == TOK_KIND_UNIGRAM) d->v.fuse_unknown = true; /* its only way */
    return check_shape(&r, err);
}

status vocab_json_vocab(vocab_draft *d, str text, error *err) {
    json_stream s;
    json_stream_init(&s, text, d->file);
    reading r = {.d = d, .s = &s};
    TRY(json_stream_want(&s, JSON_TOKEN_OBJECT_BEGIN, err));
    TRY(read_object_vocab(&r, err));
    return json_stream_want(&s, JSON_TOKEN_END, err);
}
