/* safetensors_index.c - model.safetensors.index.json: which shard has which tensor.
 *
 *   {"metadata": {..}, "weight_map": {"TENSOR": "FILE", ..}}
 * Source: the Hugging Face documentation of sharded checkpoints. */
#include <inttypes.h>

#include "store/safetensors_internal.h"

enum { FILE_NAME_BYTES_MAX = 255 };

/* File names of the index are opened beside it, and nowhere else. */
static status check_file_name(str name, const char *document, error *err) {
    const bool leaves =
        memchr(name.p, '/', name.n) != NULL || str_eq(name, S("..")) || str_eq(name, S("."));
    if (!leaves) return OK;
    return error_set(err, ERR_FORMAT, "%s: '%.*s' is not the name of a file beside it", document,
                     STR(name));
}

static status shard_of(safetensors_index_file *f, str name, const char *document, uint32_t *out,
                       error *err) {
    if (map_get(&f->shard_index, name, out)) return OK;
    TRY(check_file_name(name, document, err));
    *out = f->shard_index.count;
    if (*out == SAFETENSORS_SHARDS_MAX)
        return error_set(err, ERR_LIMIT, "%s: more than %d files", document,
                         SAFETENSORS_SHARDS_MAX);
    buf_put(&f->shards, &name, sizeof name);
    (void)map_add(&f->shard_index, name, *out);
    return buf_status(&f->shards, "safetensors: shards", err);
}

static status read_weight_map(safetensors_index_file *f, json_stream *in, error *err) {
    TRY(json_stream_want(in, JSON_TOKEN_OBJECT_BEGIN, err));
    for (;;) {
        json_token token = JSON_TOKEN_END;
        safetensors_where w = {0};
        str file;
        TRY(json_stream_next(in, &token, err));
        if (token == JSON_TOKEN_OBJECT_END) return OK;
        TRY(safetensors_name(in, "tensor name", SAFETENSORS_NAME_BYTES_MAX, &f->text, &w.name,
                             err));
        TRY(json_stream_want(in, JSON_TOKEN_STRING, err));
        TRY(safetensors_name(in, "file name", FILE_NAME_BYTES_MAX, &f->text, &file, err));
        TRY(shard_of(f, file, in->name, &w.shard, err));
        buf_put(&f->where, &w, sizeof w);
        TRY(buf_status(&f->where, "safetensors: weight_map", err));
    }
}

static status read_document(safetensors_index_file *f, json_stream *in, error *err) {
    bool seen = false;
    TRY(json_stream_want(in, JSON_TOKEN_OBJECT_BEGIN, err));
    for (;;) {
        json_token token = JSON_TOKEN_END;
        str key, skipped;
        TRY(json_stream_next(in, &token, err));
        if (token == JSON_TOKEN_OBJECT_END) break;
        TRY(safetensors_text(in, "key", SAFETENSORS_NAME_BYTES_MAX, &f->text, &key, err));
        if (!str_eq(key, S("weight_map"))) {
            TRY(json_stream_skip(in, &skipped, err));
            continue;
        }
        if (seen) return error_set(err, ERR_FORMAT, "%s: 'weight_map' appears twice", in->name);
        seen = true;
        TRY(read_weight_map(f, in, err));
    }
    TRY(json_stream_want(in, JSON_TOKEN_END, err));
    if (f->where.n == 0)
        return error_set(err, ERR_FORMAT, "%s: %s", in->name,
                         seen ? "'weight_map' is empty" : "'weight_map' is missing");
    return OK;
}

static status index_names(safetensors_index_file *f, const char *name, error *err) {
    const uint32_t count = (uint32_t)(f->where.n / sizeof(safetensors_where));
    const safetensors_where *where = (const safetensors_where *)(const void *)f->where.p;
    TRY(map_init(&f->where_index, count, err));
    for (uint32_t i = 0; i < count; i++)
        if (!map_add(&f->where_index, where[i].name, i))
            return error_set(err, ERR_FORMAT, "%s: tensor '%.*s' appears twice, at %u and before",
                             name, STR(where[i].name), i);
    return OK;
}

status safetensors_index_read(safetensors_index_file *f, str document, const char *name,
                              error *err) {
    json_stream in;
    *f = (safetensors_index_file){0};
    arena_init(&f->text, SIZE_MAX); /* text is never longer than the escapes it was written in */
    buf_init(&f->shards, SAFETENSORS_SHARDS_MAX * sizeof(str));
    buf_init(&f->where, SAFETENSORS_TENSORS_MAX * sizeof(safetensors_where));
    TRY(map_init(&f->shard_index, SAFETENSORS_SHARDS_MAX, err));
    json_stream_init(&in, document, name);
    TRY(read_document(f, &in, err));
    return index_names(f, name, err);
}

void safetensors_index_free(safetensors_index_file *f) {
    arena_deinit(&f->text);
    map_deinit(&f->shard_index);
    map_deinit(&f->where_index);
    buf_deinit(&f->shards);
    buf_deinit(&f->where);
}
