/* safetensors.c - see safetensors.h: opening one file or many, finding tensors. */
#include "store/safetensors.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/os.h"
#include "store/safetensors_internal.h"

#define INDEX_NAME "model.safetensors.index.json"

/* A set that is being opened. */
typedef struct opening {
    safetensors *s; /* owned */
    buf tensors;    /* of safetensor */
    buf pairs;      /* of safetensors_pair */
} opening;

/* --- names and paths ------------------------------------------------------------------------ */
/* The last component, for messages. */
static const char *file_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

status safetensors_text(const json_stream *in, const char *what, size_t bytes_max, arena *text,
                        str *out, error *err) {
    str s = in->raw;
    if (in->escaped) {
        char *p = arena_take(text, in->raw.n);
        if (p == NULL)
            return error_set(err, ERR_NOMEM, "%s: no memory for a %s of %zu bytes", in->name, what,
                             in->raw.n);
        s = (str){p, json_stream_text(in, p)};
    }
    if (s.n > bytes_max)
        return error_set(err, ERR_LIMIT, "%s: byte %zu: %s of %zu bytes, at most %zu", in->name,
                         in->raw_at, what, s.n, bytes_max);
    *out = s;
    return OK;
}

status safetensors_name(const json_stream *in, const char *what, size_t bytes_max, arena *text,
                        str *out, error *err) {
    str s;
    TRY(safetensors_text(in, what, bytes_max, text, &s, err));
    if (s.n == 0 || str_has_control(s))
        return error_set(err, ERR_FORMAT, "%s: byte %zu: %s %s", in->name, in->raw_at, what,
                         s.n == 0 ? "is empty" : "has control characters");
    *out = s;
    return OK;
}

/* DIR/NAME, as a C string */
static status join(char out[SAFETENSORS_PATH_BYTES_MAX], const char *dir, str name, error *err) {
    const char *slash = dir[0] == '\0' || str_ends(str_of(dir), S("/")) ? "" : "/";
    const int n =
        snprintf(out, SAFETENSORS_PATH_BYTES_MAX, "%s%s%.*s", dir, slash, (int)name.n, name.p);
    if (n >= 0 && n < SAFETENSORS_PATH_BYTES_MAX) return OK;
    return error_set(err, ERR_LIMIT, "the path of '%.*s' has %d bytes, at most %d", STR(name), n,
                     SAFETENSORS_PATH_BYTES_MAX - 1);
}

/* *out is NULL when there is no such file; `path` is where it would be. */
static status open_beside(blob **out, char path[SAFETENSORS_PATH_BYTES_MAX], const char *dir,
                          str name, error *err) {
    error cause = {0};
    TRY(join(path, dir, name, err));
    *out = NULL;
    const status st = blob_open_file(out, path, &cause);
    if (st == OK || st == ERR_NOT_FOUND) return OK;
    return error_set(err, st, "%s", cause.msg);
}

/* --- what was read ---------------------------------------------------------------- */
static status index_tensors(safetensors *s, error *err) {
    TRY(map_init(&s->index, s->count, err));
    for (uint32_t i = 0; i < s->count; i++) {
        const safetensor *t = &s->tensors[i];
        if (!map_add(&s->index, t->name, i))
            return error_set(err, ERR_FORMAT, "%s: tensor '%.*s' appears twice",
                             file_name(s->shards[t->shard].path), STR(t->name));
    }
    return OK;
}

/* The same key in several shards is usual; twice in one is not. */
static status index_pairs(safetensors *s, error *err) {
    TRY(map_init(&s->pair_index, s->pairs_count, err));
    for (uint32_t i = 0; i < s->pairs_count; i++) {
        uint32_t first = 0;
        if (map_add(&s->pair_index, s->pairs[i].key, i)) continue;
        (void)map_get(&s->pair_index, s->pairs[i].key, &first);
        if (s->pairs[first].shard == s->pairs[i].shard)
            return error_set(err, ERR_FORMAT, "%s: a key of '__metadata__' appears twice",
                             file_name(s->shards[s->pairs[i].shard].path));
    }
    return OK;
}

/* Gives what the buffer holds to the set; `one` bytes each. */
static void *hand_over(buf *b, size_t one, uint32_t *count) {
    void *p = b->p;
    *count = (uint32_t)(b->n / one);
    *b = (buf){0};
    return p;
}

static status settle(opening *o, error *err) {
    safetensors *s = o->s;
    s->tensors = hand_over(&o->tensors, sizeof *s->tensors, &s->count);
    s->pairs = hand_over(&o->pairs, sizeof *s->pairs, &s->pairs_count);
    for (uint32_t i = 0; i < s->shards_count; i++) s->file_bytes += blob_view(s->shards[i].file).n;
    TRY(index_tensors(s, err));
    return index_pairs(s, err);
}

/* --- one file --------------------------------------------------------------------- */
static status begin(opening *o, uint32_t shards_max, error *err) {
    *o = (opening){.s = mem_try_calloc(1, sizeof *o->s)};
    if (o->s == NULL) return error_set(err, ERR_NOMEM, "safetensors: no memory");
    arena_init(&o->s->text, SIZE_MAX);
    buf_init(&o->tensors, SAFETENSORS_TENSORS_MAX * sizeof(safetensor));
    buf_init(&o->pairs, SAFETENSORS_TENSORS_MAX * sizeof(safetensors_pair));
    o->s->shards = mem_try_calloc(shards_max, sizeof *o->s->shards);
    if (o->s->shards == NULL)
        return error_set(err, ERR_NOMEM, "safetensors: no memory for %u files", shards_max);
    return OK;
}

/* Either gives the set away or frees it. */
static status end(opening *o, status st, safetensors **out) {
    buf_deinit(&o->tensors);
    buf_deinit(&o->pairs);
    if (st == OK)
        *out = o->s;
    else
        safetensors_close(o->s);
    return st;
}

/* Takes the file as the next shard. */
static status add_shard(opening *o, blob *file, const char *path, error *err) {
    safetensors *s = o->s;
    const uint32_t shard = s->shards_count++;
    s->shards[shard] = (safetensors_shard){file, arena_dup(&s->text, str_of(path)).p};
    if (s->shards[shard].path == NULL)
        return error_set(err, ERR_NOMEM, "safetensors: no memory for the path '%s'", path);
    return safetensors_read_header(blob_view(file), file_name(path), shard, &s->text, &o->tensors,
                                   &o->pairs, err);
}

static status open_one(safetensors **out, blob *file, const char *path, error *err) {
    opening o;
    status st = begin(&o, 1, err);
    if (st == OK)
        st = add_shard(&o, file, path, err);
    else
        blob_close(file);
    if (st == OK) st = settle(&o, err);
    return end(&o, st, out);
}

status safetensors_open_bytes(safetensors **out, str bytes, const char *name, error *err) {
    blob *file = NULL;
    TRY(blob_open_memory(&file, bytes, name, err));
    return open_one(out, file, name, err);
}

/* --- shards ----------------------------------------------------------------------- */

/* A file that is missing makes the directory a broken one, not one that is not there. */
static status open_shard(opening *o, const char *dir, str name, error *err) {
    char path[SAFETENSORS_PATH_BYTES_MAX];
    blob *file = NULL;
    TRY(open_beside(&file, path, dir, name, err));
    if (file != NULL) return add_shard(o, file, path, err);
    return error_set(err, ERR_FORMAT, "%s: '%.*s' is not there", INDEX_NAME, STR(name));
}

/* Drops tensors that the index does not have in the shard they are in; says so once. */
static void drop_others(opening *o, const safetensors_index_file *f) {
    safetensor *tensors = (safetensor *)(void *)o->tensors.p;
    const safetensors_where *where = (const safetensors_where *)(const void *)f->where.p;
    const size_t count = o->tensors.n / sizeof *tensors;
    size_t kept = 0, dropped = 0;
    str first = S("");
    for (size_t i = 0; i < count; i++) {
        uint32_t at = 0;
        const safetensor *t = &tensors[i];
        if (map_get(&f->where_index, t->name, &at) && where[at].shard == t->shard) {
            tensors[kept++] = *t;
            continue;
        }
        if (dropped++ == 0) first = t->name;
    }
    o->tensors.n = kept * sizeof *tensors;
    if (dropped > 0)
        log_warn("store", "%s does not name tensors=%zu of its files, first='%.*s'; left out",
                 INDEX_NAME, dropped, STR(first));
}

static status check_all_there(const safetensors *s, const safetensors_index_file *f, error *err) {
    const safetensors_where *where = (const safetensors_where *)(const void *)f->where.p;
    const str *files = (const str *)(const void *)f->shards.p;
    for (size_t i = 0; i < f->where.n / sizeof *where; i++)
        if (!map_get(&s->index, where[i].name, NULL))
            return error_set(err, ERR_FORMAT, "%s: tensor '%.*s' is not in '%.*s'", INDEX_NAME,
                             STR(where[i].name), STR(files[where[i].shard]));
    return OK;
}

static status open_shards(opening *o, const char *dir, const safetensors_index_file *f,
                          error *err) {
    const str *files = (const str *)(const void *)f->shards.p;
    const uint32_t count = (uint32_t)(f->shards.n / sizeof *files);
    TRY(begin(o, count, err));
    for (uint32_t i = 0; i < count; i++) TRY(open_shard(o, dir, files[i], err));
    drop_others(o, f);
    TRY(settle(o, err));
    return check_all_there(o->s, f, err);
}

static status open_index(safetensors **out, const char *dir, const blob *index, error *err) {
    safetensors_index_file f;
    opening o = {0};
    status st = safetensors_index_read(&f, blob_view(index), INDEX_NAME, err);
    if (st == OK) st = open_shards(&o, dir, &f, err);
    safetensors_index_free(&f);
    return end(&o, st, out);
}

/* --- paths ------------------------------------------------------------------------ */
static bool is_directory(const char *path) {
    char inside[SAFETENSORS_PATH_BYTES_MAX];
    int fd = -1;
    if (join(inside, path, S("."), NULL) != OK || os_open_read(inside, &fd, NULL) != OK)
        return false;
    os_close(fd);
    return true;
}

static status open_directory(safetensors **out, const char *dir, error *err) {
    char path[SAFETENSORS_PATH_BYTES_MAX];
    blob *file = NULL;
    TRY(open_beside(&file, path, dir, S("model.safetensors"), err));
    if (file != NULL) return open_one(out, file, path, err);
    TRY(open_beside(&file, path, dir, S(INDEX_NAME), err));
    if (file == NULL)
        return error_set(err, ERR_NOT_FOUND, "no model.safetensors or %s in '%s'", INDEX_NAME, dir);
    const status st = open_index(out, dir, file, err);
    blob_close(file);
    return st;
}

status safetensors_open(safetensors **out, const char *path, error *err) {
    blob *file = NULL;
    if (is_directory(path)) return open_directory(out, path, err);
    TRY(blob_open_file(&file, path, err));
    return open_one(out, file, path, err);
}

void safetensors_close(safetensors *s) {
    if (s == NULL) return;
    for (uint32_t i = 0; i < s->shards_count; i++) blob_close(s->shards[i].file);
    mem_free(s->shards);
    mem_free(s->tensors);
    mem_free(s->pairs);
    map_deinit(&s->index);
    map_deinit(&s->pair_index);
    arena_deinit(&s->text);
    mem_free(s);
}

/* --- content ---------------------------------------------------------------------- */
uint32_t safetensors_count(const safetensors *s) { return s->count; }

const safetensor *safetensors_get(const safetensors *s, uint32_t idx) {
    ASSERT(idx < s->count);
    return &s->tensors[idx];
}

const safetensor *safetensors_find(const safetensors *s, str name) {
    uint32_t idx = 0;
    return map_get(&s->index, name, &idx) ? &s->tensors[idx] : NULL;
}

uint32_t safetensors_index(const safetensors *s, const safetensor *t) {
    ASSERT(t >= s->tensors && t < s->tensors + s->count);
    return (uint32_t)(t - s->tensors);
}

str safetensors_metadata(const safetensors *s, str key) {
    uint32_t idx = 0;
    return map_get(&s->pair_index, key, &idx) ? s->pairs[idx].value : S("");
}

uint64_t safetensors_file_bytes(const safetensors *s) { return s->file_bytes; }

uint32_t safetensors_shards(const safetensors *s) { return s->shards_count; }

const char *safetensors_shard_path(const safetensors *s, uint32_t shard) {
    ASSERT(shard < s->shards_count);
    return s->shards[shard].path;
}
