/* gguf.c - see gguf.h.  Outline of a file: header (magic, version, two counts), the
 * key-values, the tensor descriptions, padding to the alignment, tensor data. */
#include "model/gguf.h"

#include <inttypes.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "model/gguf_internal.h"

enum {
    VERSION_MIN = 2,
    VERSION_MAX = 3,
    KV_BYTES_MIN = 8 + 1 + 4 + 1,             /* key length, key, type, value */
    TENSOR_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8, /* name, dimensions, type, offset */
};

/* --- open ------------------------------------------------------------------ */
static status read_version(gguf *g, gguf_cursor *c, error *err) {
    uint32_t magic = 0;
    TRY(gguf_read_u32(c, "the magic", &magic, err));
    if (memcmp(&magic, "GGUF", 4) != 0)
        return error_set(err, ERR_FORMAT, "gguf: magic is %08" PRIx32 ", not %08x ('GGUF')",
                         __builtin_bswap32(magic), 0x47475546u);
    TRY(gguf_read_u32(c, "the version", &g->version, err));
    if (g->version != 0 && (g->version & 0xffffu) == 0)
        return error_set(err, ERR_UNSUPPORTED,
                         "gguf: big-endian file of version %" PRIu32 "; only little-endian "
                         "files can be read",
                         __builtin_bswap32(g->version));
    if (g->version < VERSION_MIN || g->version > VERSION_MAX)
        return error_set(err, ERR_UNSUPPORTED, "gguf: version %" PRIu32 ", must be %d to %d",
                         g->version, VERSION_MIN, VERSION_MAX);
    return OK;
}

/* Counts are believed only as far as the file could hold that many. */
static status check_count(const gguf_cursor *c, const char *what, uint64_t count,
                          uint32_t count_max, uint32_t bytes_min, error *err) {
    if (count > count_max)
        return error_set(err, ERR_LIMIT, "gguf: %" PRIu64 " %s, at most %u", count, what,
                         count_max);
    if (count > c->left / bytes_min)
        return error_set(err, ERR_FORMAT, "gguf: %" PRIu64 " %s announced, %" PRIu64 " bytes left",
                         count, what, c->left);
    return OK;
}

static status read_counts(gguf *g, gguf_cursor *c, error *err) {
    uint64_t tensors = 0, kvs = 0;
    TRY(gguf_read_u64(c, "the tensor count", &tensors, err));
    TRY(gguf_read_u64(c, "the key-value count", &kvs, err));
    TRY(check_count(c, "tensors", tensors, GGUF_TENSORS_MAX, TENSOR_BYTES_MIN, err));
    TRY(check_count(c, "key-values", kvs, GGUF_KV_MAX, KV_BYTES_MIN, err));
    g->tensors_count = (uint32_t)tensors;
    g->kv_count = (uint32_t)kvs;
    return OK;
}

status gguf_read_alignment(gguf *g, error *err) {
    g->alignment = GGUF_ALIGNMENT_DEFAULT;
    const gguf_value *v = gguf_kv_find(g, S("general.alignment"));
    if (v == NULL) return OK;
    if (v->type != GGUF_TYPE_U32)
        return error_set(err, ERR_FORMAT, "gguf: 'general.alignment' is %s, must be %s",
                         gguf_type_name(v->type), gguf_type_name(GGUF_TYPE_U32));
    uint64_t n = v->as.u64;
    if (n == 0 || (n & (n - 1)) != 0 || n > GGUF_ALIGNMENT_MAX)
        return error_set(err, ERR_FORMAT,
                         "gguf: 'general.alignment' is %" PRIu64
                         ", must be a power of two up to %d",
                         n, GGUF_ALIGNMENT_MAX);
    g->alignment = (uint32_t)n;
    return OK;
}

static status refuse_split(const gguf *g, error *err) {
    uint32_t parts = 0, part = 0;
    TRY(gguf_get_u32_or(g, S("split.count"), 1, &parts, err));
    TRY(gguf_get_u32_or(g, S("split.no"), 0, &part, err)); /* counted from 0 */
    if (parts <= 1) return OK;
    return error_set(err, ERR_UNSUPPORTED, "gguf: split file: part %u of %u; merge the parts first",
                     part + 1, parts);
}

/* Where tensor data begins, and whether the file goes on that far. */
static status find_data(gguf *g, const gguf_cursor *c, bool header_is_enough, error *err) {
    uint64_t header_bytes = g->file.n - c->left;
    g->data_offset = (header_bytes + g->alignment - 1) & ~((uint64_t)g->alignment - 1);
    if (g->tensors_count > 0 && g->data_offset > g->file.n)
        return error_set(err, ERR_FORMAT,
                         "gguf: tensor data begins at %" PRIu64 ", file has %zu bytes",
                         g->data_offset, g->file.n);
    g->has_data = g->tensors_count == 0 || g->data_offset < g->file.n || !header_is_enough;
    return OK;
}

/* What is enough to open a file. */
typedef struct open_options {
    bool header_is_enough;
    bool part_is_enough; /* of a split model */
} open_options;

static status parse(gguf *g, open_options opt, error *err) {
    gguf_cursor c = {(const unsigned char *)g->file.p, g->file.n};
    TRY(read_version(g, &c, err));
    TRY(read_counts(g, &c, err));
    TRY(gguf_read_kvs(g, &c, err));
    TRY(gguf_read_alignment(g, err));
    if (!opt.part_is_enough) TRY(refuse_split(g, err));
    TRY(gguf_read_tensors(g, &c, err));
    TRY(find_data(g, &c, opt.header_is_enough, err));
    return gguf_place_tensors(g, err);
}

static status open_blob(gguf **out, const blob *b, open_options opt, error *err) {
    gguf *g = mem_try_calloc(1, sizeof *g);
    if (g == NULL) return error_set(err, ERR_NOMEM, "gguf: no memory to open '%s'", blob_name(b));
    g->file = blob_view(b);
    g->file_bytes = g->file.n;
    status st = parse(g, opt, err);
    if (st != OK) {
        gguf_close(g);
        return st;
    }
    *out = g;
    return OK;
}

status gguf_open(gguf **out, const blob *b, error *err) {
    return open_blob(out, b, (open_options){.part_is_enough = false}, err);
}

status gguf_open_part(gguf **out, const blob *b, error *err) {
    return open_blob(out, b, (open_options){.part_is_enough = true}, err);
}

status gguf_open_header(gguf **out, const blob *b, error *err) {
    return open_blob(out, b, (open_options){.header_is_enough = true}, err);
}

void gguf_close(gguf *g) {
    if (g == NULL) return;
    map_deinit(&g->kv_index);
    map_deinit(&g->tensor_index);
    mem_free(g->kv);
    mem_free(g->tensors);
    arena_deinit(&g->own);
    mem_free(g);
}

/* --- content --------------------------------------------------------------- */
uint32_t gguf_version(const gguf *g) { return g->version; }
uint32_t gguf_alignment(const gguf *g) { return g->alignment; }
uint64_t gguf_file_bytes(const gguf *g) { return g->file_bytes; }
bool gguf_has_data(const gguf *g) { return g->has_data; }

uint32_t gguf_tensor_count(const gguf *g) { return g->tensors_count; }

const gguf_tensor *gguf_tensor_get(const gguf *g, uint32_t idx) {
    ASSERT(idx < g->tensors_count);
    return &g->tensors[idx];
}

const gguf_tensor *gguf_tensor_find(const gguf *g, str name) {
    uint32_t idx = 0;
    return map_get(&g->tensor_index, name, &idx) ? &g->tensors[idx] : NULL;
}

uint32_t gguf_tensor_index(const gguf *g, const gguf_tensor *t) {
    ASSERT(t >= g->tensors && t < g->tensors + g->tensors_count);
    return (uint32_t)(t - g->tensors);
}

uint32_t gguf_kv_count(const gguf *g) { return g->kv_count; }

const gguf_value *gguf_kv_get(const gguf *g, uint32_t idx) {
    ASSERT(idx < g->kv_count);
    return &g->kv[idx];
}

const gguf_value *gguf_kv_find(const gguf *g, str key) {
    uint32_t idx = 0;
    return map_get(&g->kv_index, key, &idx) ? &g->kv[idx] : NULL;
}
