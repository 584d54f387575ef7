/* checkpoint.c - see checkpoint.h. */
#include "train/checkpoint.h"

#include <inttypes.h>

#include "base/os.h"
#include "base/outfile.h"
#include "train/files.h"

/* --- writing ----------------------------------------------------------------------------- */

static status put(const outfile *f, uint64_t *hash, const void *bytes, size_t n, error *err) {
    *hash = file_hash(*hash, bytes, n);
    return os_write_full(f->fd, bytes, n, err);
}

static status put_all(const outfile *f, const checkpoint *c, error *err) {
    const adamw *a = c->optimizer;
    const size_t bytes = a->count * sizeof(float);
    const checkpoint_head h = {.magic = CHECKPOINT_MAGIC,
                               .fingerprint = c->fingerprint,
                               .params = a->count,
                               .step = a->steps,
                               .epoch = c->documents->state.epoch,
                               .at = c->documents->state.at};
    uint64_t hash = FILE_HASH_BEGIN;
    TRY(put(f, &hash, &h, sizeof h, err));
    TRY(put(f, &hash, c->params, bytes, err));
    TRY(put(f, &hash, a->m, bytes, err));
    TRY(put(f, &hash, a->v, bytes, err));
    return os_write_full(f->fd, &hash, sizeof hash, err);
}

status checkpoint_write(const char *path, const checkpoint *c, error *err) {
    outfile f;
    status st = outfile_open(&f, path, err);
    if (st == OK) st = put_all(&f, c, err);
    if (st == OK) st = outfile_commit(&f, err);
    outfile_abort(&f);
    return st;
}

/* --- reading ----------------------------------------------------------------------------- */

static status check(const char *path, const buf *file, const checkpoint *c, error *err) {
    const uint64_t params = c->optimizer->count;
    const size_t want = sizeof(checkpoint_head) + 3 * params * sizeof(float) + sizeof(uint64_t);
    checkpoint_head h = {0};
    uint64_t hash = 0;
    if (file->n >= sizeof h) memcpy(&h, file->p, sizeof h);
    if (memcmp(h.magic, CHECKPOINT_MAGIC, sizeof h.magic) != 0)
        return error_set(err, ERR_FORMAT, "checkpoint: '%s' is none", path);
    if (h.fingerprint != c->fingerprint || h.params != params)
        return error_set(err, ERR_INVALID,
                         "checkpoint: '%s' is of another run: options, corpus or vocabulary make "
                         "%016" PRIx64 ", it has %016" PRIx64,
                         path, c->fingerprint, h.fingerprint);
    if (file->n != want)
        return error_set(err, ERR_FORMAT, "checkpoint: '%s' has %zu bytes, must have %zu", path,
                         file->n, want);
    memcpy(&hash, file->p + want - sizeof hash, sizeof hash);
    if (hash != file_hash(FILE_HASH_BEGIN, file->p, want - sizeof hash))
        return error_set(err, ERR_FORMAT, "checkpoint: '%s' is damaged", path);
    if (h.at > c->documents->count)
        return error_set(err, ERR_FORMAT, "checkpoint: document %u of %u", h.at,
                         c->documents->count);
    return OK;
}

static void take(const buf *file, const checkpoint *c) {
    adamw *a = c->optimizer;
    const size_t bytes = a->count * sizeof(float);
    const char *at = file->p + sizeof(checkpoint_head);
    checkpoint_head h;
    memcpy(&h, file->p, sizeof h);
    memcpy(c->params, at, bytes);
    memcpy(a->m, at + bytes, bytes);
    memcpy(a->v, at + 2 * bytes, bytes);
    a->steps = h.step;
    walk_restore(c->documents, (walk_state){h.epoch, h.at});
}

status checkpoint_read(const char *path, const checkpoint *c, error *err) {
    buf file;
    buf_init(&file, (size_t)16 << 30);
    status st = file_read(path, &file, err);
    if (st == OK) st = check(path, &file, c, err);
    if (st == OK) take(&file, c);
    buf_deinit(&file);
    return st;
}
