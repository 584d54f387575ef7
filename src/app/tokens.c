/* tokens.c - `gantry tokenize` and `gantry detokenize`. */
#include <stdio.h>

#include "app/commands.h"
#include "model/model.h"
#include "text/detok.h"
#include "text/tokenizer.h"

enum { INPUT_BYTES_MAX = 1 << 30 };

typedef struct vocabulary {
    model *model;
    tokenizer *tok;
} vocabulary;

static void vocabulary_close(vocabulary *v) {
    tok_destroy(v->tok);
    model_close(v->model);
}

static status vocabulary_open(vocabulary *out, const config *c, error *err) {
    const char *path = NULL;
    vocabulary v = {0};
    TRY(command_model_arg(c, &path, err));
    status st = model_open_vocab(&v.model, path, err);
    if (st == OK && v.model->vocab.kind == TOK_KIND_NONE)
        st = error_set(err, ERR_UNSUPPORTED, "'%s' has no tokenizer", path);
    if (st == OK) st = tok_create(&v.tok, &v.model->vocab, err);
    if (st != OK) {
        vocabulary_close(&v);
        return command_blame(path, err);
    }
    *out = v;
    return OK;
}

/* A megabyte of hostile text is a million ids, which printf() would take longer to write than the
 * tokenizer to find.  Ids are not negative. */
static void put_decimal(buf *out, int32_t id) {
    char digits[10]; /* of INT32_MAX */
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + id % 10);
        id /= 10;
    } while (id > 0);
    buf_put(out, digits + at, sizeof digits - at);
}

/* "1 403 407\n" */
static status print_ids(const buf *ids, error *err) {
    buf out;
    buf_init(&out, SIZE_MAX / 2);
    for (size_t i = 0; i < ids->n; i += sizeof(int32_t)) {
        int32_t id = 0;
        memcpy(&id, ids->p + i, sizeof id);
        if (i > 0) buf_put_char(&out, ' ');
        put_decimal(&out, id);
    }
    buf_put_char(&out, '\n');
    status st = buf_status(&out, "ids", err);
    if (st == OK) st = command_write_stdout(out.p, out.n, err);
    buf_deinit(&out);
    return st;
}

status command_tokenize(const config *c, error *err) {
    vocabulary v = {0};
    buf text, ids;
    tok_options opt = {.add_special = !c->no_special,
                       .parse_special = !c->no_parse_special,
                       .tokens_max = UINT32_MAX};
    TRY(vocabulary_open(&v, c, err));
    buf_init(&text, INPUT_BYTES_MAX);
    buf_init(&ids, SIZE_MAX / 2);
    status st = command_read_stdin(&text, err);
    if (st == OK) st = tok_encode(v.tok, buf_view(&text), &opt, &ids, err);
    if (st == OK) st = print_ids(&ids, err);
    buf_deinit(&text);
    buf_deinit(&ids);
    vocabulary_close(&v);
    return st;
}

/* Blank-separated decimal ids to int32 in `ids`. */
status command_parse_ids(str text, buf *ids, error *err) {
    size_t i = 0;
    while (i < text.n) {
        size_t begin = i;
        while (i < text.n && strchr(" \t\r\n,", text.p[i]) == NULL) i++;
        str word = {text.p + begin, i - begin};
        if (i < text.n) i++;
        if (word.n == 0) continue;
        uint64_t value = 0;
        if (!str_to_u64(word, &value) || value > INT32_MAX)
            return error_set(err, ERR_FORMAT, "'%.*s' is no token id", STR(word));
        int32_t id = (int32_t)value;
        buf_put(ids, &id, sizeof id);
    }
    return buf_status(ids, "ids", err);
}

status command_detokenize(const config *c, error *err) {
    vocabulary v = {0};
    buf text, ids, out;
    TRY(vocabulary_open(&v, c, err));
    buf_init(&text, INPUT_BYTES_MAX);
    buf_init(&ids, SIZE_MAX / 2);
    buf_init(&out, SIZE_MAX / 2);
    status st = command_read_stdin(&text, err);
    if (st == OK) st = command_parse_ids(buf_view(&text), &ids, err);
    if (st == OK)
        st = tok_decode(v.tok, (const int32_t *)(const void *)ids.p,
                        (uint32_t)(ids.n / sizeof(int32_t)), &out, err);
    if (st == OK) st = command_write_stdout(out.p, out.n, err);
    buf_deinit(&text);
    buf_deinit(&ids);
    buf_deinit(&out);
    vocabulary_close(&v);
    return st;
}
