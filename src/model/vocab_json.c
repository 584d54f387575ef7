/* vocab_json.c - a tokenizer.json: the large parts (model, added tokens) straight from the
 * stream, the small ones (normalizer ...) as trees once the model is known.
 * Source: Hugging Face tokenizers, "tokenizer.json", version 1.0. */
#include "model/vocab_json.h"

#include <inttypes.h>

/* --- added_tokens ---------------------------------------------------------- */
static status refuse(const vocab_draft *d, const json_stream *s, const char *want, json_token found,
                     error *err) {
    return error_set(err, ERR_FORMAT, "%s: byte %zu: want %s, found %s", d->file, s->raw_at, want,
                     json_token_name(found));
}

static status read_content(vocab_draft *d, json_stream *s, str *out, error *err) {
    void *copy = NULL;
    TRY(json_stream_want(s, JSON_TOKEN_STRING, err));
    TRY(model_take(d->m, s->raw.n + 1, 1, "an added token", &copy, err));
    *out = (str){copy, json_stream_text(s, copy)};
    return OK;
}

static status read_added_id(vocab_draft *d, json_stream *s, uint32_t *out, error *err) {
    uint64_t id = 0;
    TRY(json_stream_want(s, JSON_TOKEN_NUMBER, err));
    if (!str_to_u64(s->raw, &id) || id >= MODEL_VOCAB_MAX)
        return error_set(err, ERR_LIMIT, "%s: added_tokens: id %.*s, must be 0 to %d", d->file,
                         STR(s->raw), MODEL_VOCAB_MAX - 1);
    *out = (uint32_t)id;
    return OK;
}

static status read_flag(vocab_draft *d, json_stream *s, str key, vocab_added *a, error *err) {
    static const struct {
        const char *name;
        uint8_t flag; /* 0: special */
    } flags[] = {{"special", 0},
                 {"lstrip", TOK_FLAG_LSTRIP},
                 {"rstrip", TOK_FLAG_RSTRIP},
                 {"single_word", TOK_FLAG_SINGLE_WORD},
                 {"normalized", TOK_FLAG_NORMALIZED}};
    json_token t = JSON_TOKEN_END;
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        if (!str_eq_c(key, flags[i].name)) continue;
        TRY(json_stream_next(s, &t, err));
        bool on = t == JSON_TOKEN_TRUE;
        if (!on && t != JSON_TOKEN_FALSE) return refuse(d, s, "true or false", t, err);
        if (flags[i].flag == 0)
            a->special = on;
        else
            a->flags = (uint8_t)(on ? a->flags | flags[i].flag : a->flags & ~flags[i].flag);
        return OK;
    }
    char text[MODEL_TEXT_BYTES];
    model_copy_text(text, sizeof text, key);
    return error_set(err, ERR_UNSUPPORTED, "%s: added_tokens: '%s' is not known", d->file, text);
}

/* {"id": 5, "content": "<x>", ...} behind its '{' */
static status read_added(vocab_draft *d, json_stream *s, error *err) {
    vocab_added a = {0};
    bool has_id = false;
    for (;;) {
        json_token t = JSON_TOKEN_END;
        TRY(json_stream_next(s, &t, err));
        if (t == JSON_TOKEN_OBJECT_END) break;
        str key = s->raw;
        if (str_eq_c(key, "id")) {
            TRY(read_added_id(d, s, &a.id, err));
            has_id = true;
        } else if (str_eq_c(key, "content")) {
            TRY(read_content(d, s, &a.content, err));
        } else {
            TRY(read_flag(d, s, key, &a, err));
        }
    }
    if (!has_id || a.content.p == NULL)
        return error_set(err, ERR_FORMAT, "%s: byte %zu: an added token without %s", d->file,
                         s->raw_at, has_id ? "content" : "id");
    return a.content.n == 0 ? OK : vocab_draft_added(d, &a, err); /* no text is no token */
}

static status read_added_tokens(vocab_draft *d, json_stream *s, error *err) {
    json_token t = JSON_TOKEN_END;
    TRY(json_stream_next(s, &t, err));
    if (t == JSON_TOKEN_NULL) return OK;
    if (t != JSON_TOKEN_ARRAY_BEGIN) return refuse(d, s, "array", t, err);
    for (;;) {
        TRY(json_stream_next(s, &t, err));
        if (t == JSON_TOKEN_ARRAY_END) return OK;
        if (t != JSON_TOKEN_OBJECT_BEGIN) return refuse(d, s, "object", t, err);
        TRY(read_added(d, s, err));
    }
}

/* --- the top --------------------------------------------------------------- */
enum { PART_NORMALIZER, PART_PRE_TOKENIZER, PART_DECODER, PART_POST_PROCESSOR, PART_COUNT };

static const struct {
    const char *name;
    status (*parse)(vocab_draft *d, const json_node *n, error *err);
} parts[PART_COUNT] = {
    [PART_NORMALIZER] = {"normalizer", vocab_json_normalizer},
    [PART_PRE_TOKENIZER] = {"pre_tokenizer", vocab_json_pre_tokenizer},
    [PART_DECODER] = {"decoder", vocab_json_decoder},
    [PART_POST_PROCESSOR] = {"post_processor", vocab_json_post_processor},
};

typedef struct top {
    str parts[PART_COUNT]; /* their text; p == NULL: not there */
    bool has_model, has_added;
} top;

static status twice(const vocab_draft *d, const json_stream *s, str key, error *err) {
    return error_set(err, ERR_FORMAT, "%s: '%.*s' is there twice, again before byte %zu", d->file,
                     STR(key), s->at);
}

static status read_part(vocab_draft *d, json_stream *s, str key, top *t, error *err) {
    str raw = {0};
    TRY(json_stream_skip(s, &raw, err));
    for (size_t i = 0; i < PART_COUNT; i++) {
        if (!str_eq_c(key, parts[i].name)) continue;
        if (t->parts[i].p != NULL) return twice(d, s, key, err);
        t->parts[i] = raw;
        return OK;
    }
    if (str_eq_c(key, "version") && !str_eq_c(raw, "\"1.0\""))
        return error_set(err, ERR_UNSUPPORTED, "%s: version is %.*s, known is \"1.0\"", d->file,
                         STR(raw));
    /* truncation and padding are wishes of whoever saved the file, not part of the vocabulary */
    bool idle = str_eq_c(key, "version") || str_eq_c(key, "truncation") || str_eq_c(key, "padding");
    if (idle || str_eq_c(raw, "null")) return OK;
    char text[MODEL_TEXT_BYTES];
    model_copy_text(text, sizeof text, key);
    return error_set(err, ERR_UNSUPPORTED, "%s: '%s' is not known", d->file, text);
}

static status read_top(vocab_draft *d, json_stream *s, top *out, error *err) {
    json_token t = JSON_TOKEN_END;
    TRY(json_stream_want(s, JSON_TOKEN_OBJECT_BEGIN, err));
    for (;;) {
        TRY(json_stream_next(s, &t, err));
        if (t == JSON_TOKEN_OBJECT_END) break;
        str key = s->raw;
        bool is_model = str_eq_c(key, "model"), is_added = str_eq_c(key, "added_tokens");
        if ((is_model && out->has_model) || (is_added && out->has_added))
            return twice(d, s, key, err);
        out->has_model |= is_model;
        out->has_added |= is_added;
        TRY(is_model   ? vocab_json_model(d, s, err)
            : is_added ? read_added_tokens(d, s, err)
                       : read_part(d, s, key, out, err));
    }
    TRY(json_stream_want(s, JSON_TOKEN_END, err));
    if (out->has_model) return OK;
    return error_set(err, ERR_FORMAT, "%s: key 'model' is missing", d->file);
}

/* "tokenizer.json: normalizer.normalizers[1]: ..."; the fault is the file's. */
static status blame(const vocab_draft *d, const char *part, const error *cause, error *err) {
    str root = S("the document");
    str msg = str_of(cause->msg);
    bool whole = str_starts(msg, root);
    if (whole) msg = str_skip(msg, root.n);
    status code = cause->code == ERR_INVALID ? ERR_FORMAT : cause->code;
    const char *dot = whole ? "" : str_starts(msg, S("json:")) ? ": " : ".";
    return error_set(err, code, "%s: %s%s%.*s", d->file, part, dot, (int)msg.n, msg.p);
}

static status read_tree(vocab_draft *d, uint32_t part, str text, error *err) {
    json_doc doc = {0};
    error cause = {0};
    status st = json_parse(text, &doc, &cause);
    if (st == OK) {
        json_node root = json_root(&doc);
        st = parts[part].parse(d, &root, &cause);
        json_doc_deinit(&doc);
    }
    return st == OK ? OK : blame(d, parts[part].name, &cause, err);
}

status vocab_json_read(vocab_draft *d, str text, error *err) {
    json_stream s;
    top t = {0};
    json_stream_init(&s, text, d->file);
    d->v.cut_leftmost = true;
    TRY(read_top(d, &s, &t, err));
    for (uint32_t i = 0; i < PART_COUNT; i++)
        if (t.parts[i].p != NULL) TRY(read_tree(d, i, t.parts[i], err));
    return OK;
}
