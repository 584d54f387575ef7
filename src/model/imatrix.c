/* imatrix.c - see imatrix.h. */
#include "model/imatrix.h"

#include <inttypes.h>
#include <math.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/map.h"
#include "model/gguf.h"
#include "store/blob.h"

#define SUMS   ".in_sum2"
#define COUNTS ".counts"

/* Copies of every value of the largest models' files fit many times over. */
#define MEMORY_BYTES_MAX ((size_t)4 << 30)

struct imatrix {
    buf entries;  /* of imatrix_entry, in file order */
    arena memory; /* owned; names, values, dataset */
    map index;    /* name -> position in entries */
    str dataset;  /* in memory */
    uint32_t chunks;
};

static imatrix_entry *entries_of(const imatrix *m) { return (imatrix_entry *)(void *)m->entries.p; }

uint32_t imatrix_count(const imatrix *m) {
    return (uint32_t)(m->entries.n / sizeof(imatrix_entry));
}

const imatrix_entry *imatrix_get(const imatrix *m, uint32_t idx) { return entries_of(m) + idx; }

const imatrix_entry *imatrix_find(const imatrix *m, str name) {
    uint32_t idx = 0;
    return map_get(&m->index, name, &idx) ? imatrix_get(m, idx) : NULL;
}

str imatrix_dataset(const imatrix *m) { return m->dataset; }
uint32_t imatrix_chunks(const imatrix *m) { return m->chunks; }

status imatrix_fit(const imatrix_entry *e, uint64_t cols, uint64_t matrices, uint64_t *stride,
                   error *err) {
    if (e->count != cols && e->count / cols != matrices)
        return error_set(err, ERR_FORMAT,
                         "imatrix: '%.*s' has %" PRIu64 " values, the tensor has %" PRIu64
                         " columns in %" PRIu64 " matrices",
                         STR(e->name), e->count, cols, matrices);
    if (e->count != cols && e->count % cols != 0)
        return error_set(err, ERR_FORMAT,
                         "imatrix: '%.*s' has %" PRIu64
                         " values, no multiple of the tensor's %" PRIu64 " columns",
                         STR(e->name), e->count, cols);
    *stride = e->count == cols ? 0 : cols;
    return OK;
}

/* --- collecting entries ------------------------------------------------------ */
static status copy_str(imatrix *m, str s, str *out, error *err) {
    const str copy = arena_dup(&m->memory, s);
    if (copy.p == NULL) return error_set(err, ERR_NOMEM, "imatrix: no memory for %zu bytes", s.n);
    *out = copy;
    return OK;
}

/* A new last entry with room for `count` values, which the caller fills. */
static status add_entry(imatrix *m, str name, uint64_t count, float **values, error *err) {
    imatrix_entry e = {.count = count};
    if (name.n == 0 || name.n > IMATRIX_NAME_BYTES_MAX || !str_is_utf8(name))
        return error_set(err, ERR_FORMAT,
                         "imatrix: entry %u has a name of %zu bytes, want 1 .. %d of UTF-8",
                         imatrix_count(m), name.n, IMATRIX_NAME_BYTES_MAX);
    if (count == 0) return error_set(err, ERR_FORMAT, "imatrix: '%.*s' has no values", STR(name));
    if (imatrix_count(m) == IMATRIX_ENTRIES_MAX)
        return error_set(err, ERR_LIMIT, "imatrix: more than %d entries", IMATRIX_ENTRIES_MAX);
    TRY(copy_str(m, name, &e.name, err));
    *values = arena_take(&m->memory, count * sizeof **values);
    if (*values == NULL)
        return error_set(err, ERR_NOMEM, "imatrix: no memory for %" PRIu64 " values of '%.*s'",
                         count, STR(name));
    e.values = *values;
    if (!map_add(&m->index, e.name, imatrix_count(m)))
        return error_set(err, ERR_FORMAT, "imatrix: '%.*s' is there twice", STR(name));
    buf_put(&m->entries, &e, sizeof e);
    return buf_status(&m->entries, "imatrix: entries", err);
}

static status check_values(str name, const float *values, uint64_t count, error *err) {
    for (uint64_t i = 0; i < count; i++)
        if (!isfinite(values[i]) || values[i] < 0.0f)
            return error_set(err, ERR_FORMAT,
                             "imatrix: '%.*s' has %g as value %" PRIu64 " of %" PRIu64
                             ", want a finite number that is not negative",
                             STR(name), (double)values[i], i, count);
    return OK;
}

static status keep_dataset(imatrix *m, str name, error *err) {
    if (!str_is_utf8(name))
        return error_set(err, ERR_FORMAT, "imatrix: the dataset's name, %zu bytes, is no UTF-8",
                         name.n);
    return copy_str(m, name, &m->dataset, err);
}

/* --- records ------------------------------------------------------------------
 * u32 entries; for each u32 bytes of the name, the name, u32 calls, u32 count, f32 [count].
 * Newer files go on: u32 chunks, u32 bytes of the dataset's name, the name. */

typedef struct cursor {
    const char *p;
    uint64_t left;
} cursor;

static status take(cursor *c, uint64_t n, const char *what, const char **out, error *err) {
    if (n > c->left)
        return error_set(err, ERR_FORMAT,
                         "imatrix: %s needs %" PRIu64 " bytes, the file has %" PRIu64 " more", what,
                         n, c->left);
    *out = c->p;
    c->p += n;
    c->left -= n;
    return OK;
}

static status take_u32(cursor *c, const char *what, uint32_t *out, error *err) {
    const char *p = NULL;
    TRY(take(c, sizeof *out, what, &p, err));
    memcpy(out, p, sizeof *out);
    return OK;
}

static status take_str(cursor *c, const char *what, str *out, error *err) {
    uint32_t n = 0;
    TRY(take_u32(c, what, &n, err));
    const char *p = NULL;
    TRY(take(c, n, what, &p, err));
    *out = (str){p, n};
    return OK;
}

static status read_record(imatrix *m, cursor *c, error *err) {
    str name = {0};
    uint32_t calls = 0, count = 0;
    const char *stored = NULL;
    float *values = NULL;
    TRY(take_str(c, "a name", &name, err));
    TRY(take_u32(c, "a number of calls", &calls, err));
    TRY(take_u32(c, "a number of values", &count, err));
    TRY(take(c, (uint64_t)count * sizeof *values, "an entry's values", &stored, err));
    TRY(add_entry(m, name, count, &values, err));
    memcpy(values, stored, (size_t)count * sizeof *values);
    TRY(check_values(name, values, count, err));
    for (uint32_t i = 0; calls > 0 && i < count; i++) values[i] /= (float)calls;
    return OK;
}

static status read_records(imatrix *m, str bytes, error *err) {
    cursor c = {bytes.p, bytes.n};
    uint32_t count = 0;
    str dataset = {0};
    TRY(take_u32(&c, "the number of entries", &count, err));
    if (count == 0 || count > IMATRIX_ENTRIES_MAX)
        return error_set(err, ERR_FORMAT, "imatrix: %u entries, want 1 .. %d", count,
                         IMATRIX_ENTRIES_MAX);
    TRY(map_init(&m->index, count, err));
    for (uint32_t i = 0; i < count; i++) TRY(read_record(m, &c, err));
    if (c.left == 0) return OK;
    TRY(take_u32(&c, "the number of chunks", &m->chunks, err));
    if (c.left == 0) return OK;
    TRY(take_str(&c, "the dataset's name", &dataset, err));
    return keep_dataset(m, dataset, err);
}

/* --- GGUF ---------------------------------------------------------------------
 * NAME.in_sum2 f32 [matrices, columns] and NAME.counts f32 [matrices, 1]. */

static float f32_at(const gguf_tensor *t, uint64_t i) {
    float f = 0;
    memcpy(&f, (const char *)t->data + i * sizeof f, sizeof f);
    return f;
}

static status find_counts(const gguf *g, str name, const gguf_tensor *sums, const gguf_tensor **out,
                          error *err) {
    char text[GGUF_NAME_BYTES_MAX + sizeof COUNTS];
    memcpy(text, name.p, name.n);
    memcpy(text + name.n, COUNTS, sizeof COUNTS);
    const gguf_tensor *counts = gguf_tensor_find(g, str_of(text));
    if (counts == NULL)
        return error_set(err, ERR_FORMAT, "imatrix: '%.*s' has sums, but no '%s'", STR(name), text);
    if (sums->type != DTYPE_F32 || counts->type != DTYPE_F32)
        return error_set(err, ERR_FORMAT, "imatrix: '%.*s' is %s and %s, want F32", STR(name),
                         dtype_name(sums->type), dtype_name(counts->type));
    if (sums->dims[0] == 0 || counts->elems != sums->elems / sums->dims[0])
        return error_set(
            err, ERR_FORMAT, "imatrix: '%.*s' has %" PRIu64 " counts for %" PRIu64 " matrices",
            STR(name), counts->elems, sums->dims[0] == 0 ? 0 : sums->elems / sums->dims[0]);
    *out = counts;
    return OK;
}

/* A matrix that met nothing (an expert never chosen) says nothing: all its columns are equal. */
static status read_sums(imatrix *m, const gguf *g, const gguf_tensor *sums, error *err) {
    const str name = {sums->name.p, sums->name.n - S(SUMS).n};
    const gguf_tensor *counts = NULL;
    float *values = NULL;
    TRY(find_counts(g, name, sums, &counts, err));
    TRY(add_entry(m, name, sums->elems, &values, err));
    const uint64_t cols = sums->dims[0];
    for (uint64_t i = 0; i < sums->elems; i++) {
        const float count = f32_at(counts, i / cols);
        values[i] = count > 0.0f ? f32_at(sums, i) / count : 1.0f;
    }
    return check_values(name, values, sums->elems, err);
}

static status read_facts(imatrix *m, const gguf *g, error *err) {
    gguf_array datasets;
    str first = {0};
    TRY(gguf_get_u32_or(g, S("imatrix.chunk_count"), 0, &m->chunks, err));
    if (gguf_kv_find(g, S("imatrix.datasets")) == NULL) return OK;
    TRY(gguf_get_array(g, S("imatrix.datasets"), GGUF_TYPE_STRING, &datasets, err));
    gguf_strings it = gguf_strings_of(&datasets);
    if (!gguf_strings_next(&it, &first)) return OK;
    return keep_dataset(m, first, err);
}

static status read_gguf(imatrix *m, const gguf *g, error *err) {
    str type = {0};
    TRY(gguf_get_str(g, S("general.type"), &type, err));
    if (!str_eq(type, S("imatrix")))
        return error_set(err, ERR_FORMAT, "imatrix: general.type is '%.*s', want 'imatrix'",
                         STR(type));
    TRY(map_init(&m->index, gguf_tensor_count(g), err));
    for (uint32_t i = 0; i < gguf_tensor_count(g); i++) {
        const gguf_tensor *t = gguf_tensor_get(g, i);
        if (str_ends(t->name, S(SUMS))) TRY(read_sums(m, g, t, err));
    }
    if (imatrix_count(m) == 0)
        return error_set(err, ERR_FORMAT, "imatrix: none of %u tensors is called '*%s'",
                         gguf_tensor_count(g), SUMS);
    return read_facts(m, g, err);
}

/* --- either ------------------------------------------------------------------ */
static status read_any(imatrix *m, const blob *b, error *err) {
    gguf *g = NULL;
    const str bytes = blob_view(b);
    arena_init(&m->memory, MEMORY_BYTES_MAX);
    buf_init(&m->entries, IMATRIX_ENTRIES_MAX * sizeof(imatrix_entry));
    if (!str_starts(bytes, S("GGUF"))) return read_records(m, bytes, err);
    TRY(gguf_open(&g, b, err));
    status st = read_gguf(m, g, err);
    gguf_close(g);
    return st;
}

static status read_blob(imatrix **out, const blob *b, error *err) {
    imatrix *m = mem_try_calloc(1, sizeof *m);
    if (m == NULL) return error_set(err, ERR_NOMEM, "imatrix: no memory");
    status st = read_any(m, b, err);
    if (st == OK)
        *out = m;
    else
        imatrix_close(m);
    return st;
}

status imatrix_read(imatrix **out, str bytes, const char *name, error *err) {
    blob *b = NULL;
    TRY(blob_open_memory(&b, bytes, name, err));
    status st = read_blob(out, b, err);
    blob_close(b);
    return st;
}

status imatrix_open(imatrix **out, const char *path, error *err) {
    blob *b = NULL;
    TRY(blob_open_file(&b, path, err));
    status st = read_blob(out, b, err);
    blob_close(b);
    return st;
}

void imatrix_close(imatrix *m) {
    if (m == NULL) return;
    map_deinit(&m->index);
    buf_deinit(&m->entries);
    arena_deinit(&m->memory);
    mem_free(m);
}
