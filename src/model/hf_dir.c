/* hf_dir.c - see hf_dir.h: the files of a directory, in order. */
#include "model/hf_dir.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/os.h"
#include "model/hf_internal.h"
#include "model/vocab_dir.h"

/* --- files ----------------------------------------------------------------------------- */
static status join(char out[VOCAB_PATH_BYTES_MAX], const char *dir, const char *name, error *err) {
    int n = snprintf(out, VOCAB_PATH_BYTES_MAX, "%s/%s", dir, name);
    if (n >= 0 && n < VOCAB_PATH_BYTES_MAX) return OK;
    return error_set(err, ERR_LIMIT, "the path of '%s' has %d bytes, at most %d", name, n,
                     VOCAB_PATH_BYTES_MAX - 1);
}

bool hf_dir_is(const char *path) {
    char inside[VOCAB_PATH_BYTES_MAX];
    int fd = -1;
    if (join(inside, path, ".", NULL) != OK || os_open_read(inside, &fd, NULL) != OK) return false;
    os_close(fd);
    return true;
}

static status open_json(const char *dir, const char *name, json_doc *out, error *err) {
    char path[VOCAB_PATH_BYTES_MAX];
    error cause = {0};
    blob *b = NULL;
    TRY(join(path, dir, name, err));
    TRY(blob_open_file(&b, path, err));
    str text = blob_view(b);
    status st = ERR_LIMIT;
    if (text.n > HF_CONFIG_BYTES_MAX)
        (void)error_set(err, st, "%s has %zu bytes, at most %d", name, text.n, HF_CONFIG_BYTES_MAX);
    else
        st = json_parse(text, out, &cause);
    blob_close(b);
    if (cause.code == OK) return st;
    return error_set(err, st == ERR_INVALID ? ERR_FORMAT : st, "%s: %.720s", name, cause.msg);
}

/* sentence-transformers keeps how states are pooled in a folder of its own; it may be absent. */
static void read_pooling(hf_job *j) {
    static const struct {
        const char *key, *name;
    } modes[] = {{"pooling_mode_mean_tokens", "mean"},
                 {"pooling_mode_cls_token", "cls"},
                 {"pooling_mode_lasttoken", "last"}};
    json_doc doc;
    json_fields f;
    bool on = false;
    if (open_json(j->dir, "1_Pooling/config.json", &doc, NULL) != OK) return;
    json_node root = json_root(&doc);
    if (json_fields_open(&f, &root, NULL) == OK)
        for (size_t i = 0; i < 3 && !on; i++)
            if (json_get_bool(&f, modes[i].key, &on, NULL) == OK && on)
                str_copy_c(j->pooling, sizeof j->pooling, str_of(modes[i].name));
    json_doc_deinit(&doc);
}

/* --- the description -------------------------------------------------------------------- */
static status describe(hf_job *j, bool whole, error *err) {
    TRY(hf_config_read(j, err));
    TRY(hf_tensors_read(j, err));
    return whole ? hf_vocab_put(j, err) : OK;
}

static status make(hf_job *j, bool whole, gguf **out, error *err) {
    TRY(gguf_make_create(&j->maker, err));
    status st = describe(j, whole, err);
    if (st == OK)
        st = gguf_make_finish(j->maker, out, err);
    else
        gguf_make_destroy(j->maker);
    mem_free(j->modules);
    return st;
}

status hf_describe(model *m, str config, gguf **out, error *err) {
    error cause = {0};
    hf_job *j = mem_try_calloc(1, sizeof *j);
    if (j == NULL) return error_set(err, ERR_NOMEM, "no memory to read config.json");
    *j = (hf_job){.m = m, .dir = "", .weights = m->internal->weights};
    status st = json_parse(config, &j->doc, &cause);
    if (st == OK) {
        st = make(j, false, out, err);
        json_doc_deinit(&j->doc);
    } else {
        st = error_set(err, st == ERR_INVALID ? ERR_FORMAT : st, "config.json: %.720s", cause.msg);
    }
    mem_free(j);
    return st;
}

/* `whole`: with the tokenizer's keys. */
static status make_from(model *m, const char *dir, bool whole, gguf **out, error *err) {
    hf_job *j = mem_try_calloc(1, sizeof *j);
    if (j == NULL) return error_set(err, ERR_NOMEM, "no memory to read '%s'", dir);
    *j = (hf_job){.m = m, .dir = dir, .weights = m->internal->weights};
    read_pooling(j);
    status st = open_json(dir, "config.json", &j->doc, err);
    if (st == OK) {
        st = make(j, whole, out, err);
        json_doc_deinit(&j->doc);
    }
    mem_free(j);
    return st;
}

/* --- the tokenizer ---------------------------------------------------------------------- */
static status read_vocab(model *m, const char *dir, error *err) {
    vocab_place place = {.source = VOCAB_SOURCE_NONE};
    error cause = {0};
    status st = vocab_dir_find(&place, dir, &cause);
    if (st == ERR_NOT_FOUND) {
        m->vocab = (tok_vocab){.kind = TOK_KIND_NONE,
                               .bos_id = TOK_ID_NONE,
                               .eos_id = TOK_ID_NONE,
                               .eot_id = TOK_ID_NONE,
                               .unk_id = TOK_ID_NONE};
        return OK;
    }
    if (st != OK) return error_set(err, st, "%s", cause.msg);
    m->internal->file = place.file;
    return vocab_dir_read(m, &place, err);
}

/* --- the whole ---------------------------------------------------------------------------- */
status hf_dir_open(model *m, const char *dir, error *err) {
    struct model_internal *in = m->internal;
    TRY(safetensors_open(&in->weights, dir, err));
    m->file_bytes = safetensors_file_bytes(in->weights);
    TRY(read_vocab(m, dir, err));
    TRY(make_from(m, dir, false, &in->gguf, err));
    return hf_vocab_pad(m, err);
}

status hf_dir_write(model *m, const char *dir, int fd, error *err) {
    gguf *g = NULL;
    TRY(make_from(m, dir, true, &g, err));
    status st = gguf_make_write(g, fd, err);
    gguf_close(g);
    return st;
}
