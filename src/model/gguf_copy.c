/* gguf_copy.c - see gguf_copy.h. */
#include "model/gguf_copy.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/map.h"
#include "model/gguf_write.h"

typedef struct part {
    blob *file; /* owned */
    gguf *g;    /* owned */
} part;

typedef struct copy {
    const char *path; /* borrowed; of any part */
    part *parts;      /* owned; [count] */
    uint32_t count;
    uint32_t tensors;           /* of all parts */
    const gguf_tensor **places; /* owned; [tensors] in the order of the parts */
    uint64_t bytes;
} copy;

/* --- parts ----------------------------------------------------------------------- */
static status open_part(part *p, const char *path, error *err) {
    TRY(blob_open_file(&p->file, path, err));
    return gguf_open_part(&p->g, p->file, err);
}

static void close_parts(copy *c) {
    for (uint32_t i = 0; c->parts != NULL && i < c->count; i++) {
        gguf_close(c->parts[i].g);
        if (c->parts[i].file != NULL) blob_close(c->parts[i].file);
    }
    mem_free(c->parts);
    mem_free(c->places);
}

/* "-00002-of-00003.gguf" at the end of a name becomes that of another part. */
static status path_of(const copy *c, uint32_t no, char *out, size_t out_bytes, error *err) {
    char end[32];
    enum { END_BYTES = sizeof "-00001-of-00001.gguf" - 1 };
    const size_t n = strlen(c->path);
    (void)snprintf(end, sizeof end, "-of-%05u.gguf", c->count);
    if (n < END_BYTES || !str_ends(str_of(c->path), str_of(end)))
        return error_set(err, ERR_FORMAT, "'%s' is a part of %u, whose name should end in -00001%s",
                         c->path, c->count, end);
    const int bytes =
        snprintf(out, out_bytes, "%.*s-%05u%s", (int)(n - END_BYTES), c->path, no + 1, end);
    if (bytes >= 0 && (size_t)bytes < out_bytes) return OK;
    return error_set(err, ERR_LIMIT, "the path of part %u has %d bytes, at most %zu", no + 1, bytes,
                     out_bytes - 1);
}

static status check_part(const copy *c, uint32_t no, error *err) {
    uint32_t said_no = 0, said_count = 0;
    const gguf *g = c->parts[no].g;
    TRY(gguf_get_u32(g, S("split.no"), &said_no, err));
    TRY(gguf_get_u32(g, S("split.count"), &said_count, err));
    if (said_no == no && said_count == c->count) return OK;
    return error_set(err, ERR_FORMAT, "'%s': split.no is %u of %u, should be %u of %u",
                     blob_name(c->parts[no].file), said_no, said_count, no, c->count);
}

/* The parts of the one that is open in parts[0], each in its place. */
static status open_others(copy *c, error *err) {
    char path[4096];
    part given = c->parts[0];
    c->parts[0] = (part){0};
    gguf_close(given.g);
    blob_close(given.file);
    for (uint32_t i = 0; i < c->count; i++) {
        TRY(path_of(c, i, path, sizeof path, err));
        TRY(open_part(&c->parts[i], path, err));
        TRY(check_part(c, i, err));
    }
    return OK;
}

static status open_parts(copy *c, error *err) {
    uint32_t count = 1;
    c->parts = mem_try_calloc(GGUF_PARTS_MAX, sizeof *c->parts);
    c->count = 1;
    if (c->parts == NULL) return error_set(err, ERR_NOMEM, "gguf: no memory for the parts");
    TRY(open_part(&c->parts[0], c->path, err));
    TRY(gguf_get_u32_or(c->parts[0].g, S("split.count"), 1, &count, err));
    if (count > GGUF_PARTS_MAX)
        return error_set(err, ERR_LIMIT, "gguf: split.count is %u, at most %d", count,
                         GGUF_PARTS_MAX);
    if (count <= 1) return OK;
    c->count = count;
    return open_others(c, err);
}

/* --- tensors ----------------------------------------------------------------------- */
static status check_total(const copy *c, error *err) {
    uint32_t said = c->tensors;
    TRY(gguf_get_u32_or(c->parts[0].g, S("split.tensors.count"), said, &said, err));
    if (c->count == 1 || said == c->tensors) return OK;
    return error_set(err, ERR_FORMAT, "gguf: split.tensors.count is %u, the %u parts have %u", said,
                     c->count, c->tensors);
}

static status place_all(copy *c, map *names, error *err) {
    uint32_t n = 0, other = 0;
    for (uint32_t i = 0; i < c->count; i++)
        for (uint32_t k = 0; k < gguf_tensor_count(c->parts[i].g); k++) {
            const gguf_tensor *t = gguf_tensor_get(c->parts[i].g, k);
            if (map_get(names, t->name, &other))
                return error_set(err, ERR_FORMAT, "gguf: tensor '%.*s' is in two parts",
                                 STR(t->name));
            (void)map_add(names, t->name, n);
            c->places[n++] = t;
            c->bytes += t->bytes;
        }
    return OK;
}

static status find_tensors(copy *c, error *err) {
    map names;
    for (uint32_t i = 0; i < c->count; i++) c->tensors += gguf_tensor_count(c->parts[i].g);
    TRY(check_total(c, err));
    if (c->tensors > GGUF_TENSORS_MAX)
        return error_set(err, ERR_LIMIT, "gguf: the parts have %u tensors, at most %d", c->tensors,
                         GGUF_TENSORS_MAX);
    c->places = mem_try_calloc(c->tensors > 0 ? c->tensors : 1, sizeof(const gguf_tensor *));
    if (c->places == NULL)
        return error_set(err, ERR_NOMEM, "gguf: no memory for %u tensors", c->tensors);
    TRY(map_init(&names, c->tensors, err));
    const status st = place_all(c, &names, err);
    map_deinit(&names);
    return st;
}

/* --- writing ------------------------------------------------------------------------- */
static status put_tensor(void *ctx, uint32_t idx, gguf_sink *sink, error *err) {
    const copy *c = ctx;
    return gguf_sink_put(sink, c->places[idx]->data, (size_t)c->places[idx]->bytes, err);
}

static status write_all(gguf_writer *w, copy *c, int fd, error *err) {
    const gguf *first = c->parts[0].g;
    gguf_writer_align(w, gguf_alignment(first));
    for (uint32_t i = 0; i < gguf_kv_count(first); i++) {
        const gguf_value *v = gguf_kv_get(first, i);
        if (c->count == 1 || !str_starts(v->key, S("split."))) gguf_write_copy(w, v);
    }
    for (uint32_t i = 0; i < c->tensors; i++) {
        const gguf_tensor *t = c->places[i];
        gguf_write_tensor_dims(w, t->name, t->type, t->dims_count, t->dims);
    }
    return gguf_write_finish(w, fd, put_tensor, c, err);
}

static status copy_open(copy *c, int fd, error *err) {
    gguf_writer *w = NULL;
    TRY(open_parts(c, err));
    TRY(find_tensors(c, err));
    TRY(gguf_writer_create(&w, err));
    const status st = write_all(w, c, fd, err);
    gguf_writer_destroy(w);
    return st;
}

status gguf_copy(const char *path, int fd, gguf_copied *out, error *err) {
    copy c = {.path = path};
    const status st = copy_open(&c, fd, err);
    if (st == OK) *out = (gguf_copied){c.count, c.tensors, c.bytes};
    close_parts(&c);
    return st;
}
