/* safetensors_header.c - the JSON header of one SafeTensors file, and where its data lies.
 *
 *   u64 header bytes | header | data
 *   header:  {"NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}
 *   begin and end count from where data begins */
#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"
#include "store/safetensors_internal.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the header's length is copied as it is");

enum {
    DTYPE_BYTES_MAX = 64, /* of a name in a message */
    VALUE_BYTES_MAX = 16 << 20,
};

/* What an entry must have, each once. */
enum {
    HAS_DTYPE = 1,
    HAS_SHAPE = 2,
    HAS_OFFSETS = 4,
    HAS_ALL = 7,
};

typedef struct header {
    const char *name; /* of the file */
    str data;         /* what the offsets count in */
    uint32_t shard;
    json_stream in;
    arena *text; /* borrowed, like the following */
    buf *tensors;
    buf *pairs;
} header;

static const char *const type_names[] = {
#define SAFETENSORS_TYPE_NAME(name, bits) #name,
    SAFETENSORS_TYPES(SAFETENSORS_TYPE_NAME)
#undef SAFETENSORS_TYPE_NAME
};

enum { TYPES_COUNT = sizeof type_names / sizeof *type_names };

const char *safetensors_type_name(safetensors_type t) {
    return (uint32_t)t < TYPES_COUNT ? type_names[t] : "?";
}

static uint64_t type_bytes(safetensors_type t) {
    static const uint8_t bits[] = {
#define SAFETENSORS_TYPE_BITS(name, bits) bits,
        SAFETENSORS_TYPES(SAFETENSORS_TYPE_BITS)
#undef SAFETENSORS_TYPE_BITS
    };
    return bits[t] / 8;
}

/* --- numbers ---------------------------------------------------------------------- */

/* The next whole number of an array, or its end. */
static status next_number(header *h, const safetensor *t, const char *what, bool *end,
                          uint64_t *out, error *err) {
    json_token token = JSON_TOKEN_END;
    TRY(json_stream_next(&h->in, &token, err));
    *end = token == JSON_TOKEN_ARRAY_END;
    if (*end) return OK;
    if (token == JSON_TOKEN_NUMBER && str_to_u64(h->in.raw, out)) return OK;
    const bool shown = token == JSON_TOKEN_NUMBER;
    const str found = shown ? h->in.raw : str_of(json_token_name(token));
    return error_set(err, ERR_FORMAT,
                     "%s: tensor '%.*s': %s has %.*s, must be whole numbers below 2^64", h->name,
                     STR(t->name), what, STR(found));
}

static status read_shape(header *h, safetensor *t, error *err) {
    TRY(json_stream_want(&h->in, JSON_TOKEN_ARRAY_BEGIN, err));
    t->dims_count = 0;
    t->elems = 1;
    for (;;) {
        bool end = false;
        uint64_t dim = 0;
        TRY(next_number(h, t, "shape", &end, &dim, err));
        if (end) return OK;
        if (t->dims_count == SAFETENSORS_DIMS_MAX)
            return error_set(err, ERR_LIMIT, "%s: tensor '%.*s' has more than %d dimensions",
                             h->name, STR(t->name), SAFETENSORS_DIMS_MAX);
        t->dims[t->dims_count++] = dim;
        if (!num_mul_u64(&t->elems, t->elems, dim))
            return error_set(err, ERR_FORMAT,
                             "%s: tensor '%.*s' has over 2^64 elements up to dimension %u", h->name,
                             STR(t->name), t->dims_count - 1);
    }
}

static status read_offsets(header *h, safetensor *t, error *err) {
    uint64_t offsets[2] = {0};
    uint32_t count = 0;
    TRY(json_stream_want(&h->in, JSON_TOKEN_ARRAY_BEGIN, err));
    for (;;) {
        bool end = false;
        uint64_t offset = 0;
        TRY(next_number(h, t, "data_offsets", &end, &offset, err));
        if (end && count == 2) break;
        if (end || count == 2)
            return error_set(err, ERR_FORMAT, "%s: tensor '%.*s' has %s than 2 data_offsets",
                             h->name, STR(t->name), end ? "fewer" : "more");
        offsets[count++] = offset;
    }
    if (offsets[0] > offsets[1])
        return error_set(err, ERR_FORMAT,
                         "%s: tensor '%.*s' begins at %" PRIu64 " and ends at %" PRIu64, h->name,
                         STR(t->name), offsets[0], offsets[1]);
    if (offsets[1] > h->data.n)
        return error_set(err, ERR_FORMAT,
                         "%s: tensor '%.*s' ends at %" PRIu64 ", there are %zu bytes of data",
                         h->name, STR(t->name), offsets[1], h->data.n);
    t->data = h->data.p + offsets[0];
    t->bytes = offsets[1] - offsets[0];
    return OK;
}

/* --- one tensor ------------------------------------------------------------------- */
static status read_type(header *h, safetensor *t, error *err) {
    str name;
    TRY(json_stream_want(&h->in, JSON_TOKEN_STRING, err));
    TRY(safetensors_name(&h->in, "dtype", DTYPE_BYTES_MAX, h->text, &name, err));
    for (uint32_t i = 0; i < TYPES_COUNT; i++) {
        if (!str_eq_c(name, type_names[i])) continue;
        t->type = (safetensors_type)i;
        return OK;
    }
    return error_set(err, ERR_UNSUPPORTED, "%s: tensor '%.*s' has dtype '%.*s', which is not known",
                     h->name, STR(t->name), STR(name));
}

static status read_member(header *h, safetensor *t, uint32_t *has, error *err) {
    str key, skipped;
    TRY(safetensors_text(&h->in, "key", SAFETENSORS_NAME_BYTES_MAX, h->text, &key, err));
    const uint32_t which = str_eq(key, S("dtype"))          ? HAS_DTYPE
                           : str_eq(key, S("shape"))        ? HAS_SHAPE
                           : str_eq(key, S("data_offsets")) ? HAS_OFFSETS
                                                            : 0;
    if ((*has & which) != 0)
        return error_set(err, ERR_FORMAT, "%s: tensor '%.*s' has '%.*s' twice", h->name,
                         STR(t->name), STR(key));
    *has |= which;
    if (which == HAS_DTYPE) return read_type(h, t, err);
    if (which == HAS_SHAPE) return read_shape(h, t, err);
    if (which == HAS_OFFSETS) return read_offsets(h, t, err);
    return json_stream_skip(&h->in, &skipped, err);
}

static status check_size(const header *h, const safetensor *t, error *err) {
    uint64_t bytes = 0;
    if (num_mul_u64(&bytes, t->elems, type_bytes(t->type)) && bytes == t->bytes) return OK;
    return error_set(err, ERR_FORMAT,
                     "%s: tensor '%.*s' has %" PRIu64 " elements of %s, but %" PRIu64 " bytes",
                     h->name, STR(t->name), t->elems, safetensors_type_name(t->type), t->bytes);
}

static status read_tensor(header *h, str name, error *err) {
    safetensor t = {.name = name, .shard = h->shard};
    uint32_t has = 0;
    TRY(json_stream_want(&h->in, JSON_TOKEN_OBJECT_BEGIN, err));
    for (;;) {
        json_token token = JSON_TOKEN_END;
        TRY(json_stream_next(&h->in, &token, err));
        if (token == JSON_TOKEN_OBJECT_END) break;
        TRY(read_member(h, &t, &has, err));
    }
    if (has != HAS_ALL)
        return error_set(err, ERR_FORMAT, "%s: tensor '%.*s' has no %s", h->name, STR(name),
                         (has & HAS_DTYPE) == 0   ? "dtype"
                         : (has & HAS_SHAPE) == 0 ? "shape"
                                                  : "data_offsets");
    TRY(check_size(h, &t, err));
    buf_put(h->tensors, &t, sizeof t);
    return buf_status(h->tensors, "safetensors: tensors", err);
}

/* --- all of them ------------------------------------------------------------------ */
static status read_metadata(header *h, error *err) {
    TRY(json_stream_want(&h->in, JSON_TOKEN_OBJECT_BEGIN, err));
    for (;;) {
        json_token token = JSON_TOKEN_END;
        safetensors_pair pair = {.shard = h->shard};
        TRY(json_stream_next(&h->in, &token, err));
        if (token == JSON_TOKEN_OBJECT_END) return OK;
        TRY(safetensors_text(&h->in, "metadata key", VALUE_BYTES_MAX, h->text, &pair.key, err));
        TRY(json_stream_want(&h->in, JSON_TOKEN_STRING, err));
        TRY(safetensors_text(&h->in, "metadata", VALUE_BYTES_MAX, h->text, &pair.value, err));
        buf_put(h->pairs, &pair, sizeof pair);
        TRY(buf_status(h->pairs, "safetensors: metadata", err));
    }
}

static status read_entries(header *h, error *err) {
    json_token token = JSON_TOKEN_END;
    bool metadata_seen = false;
    TRY(json_stream_want(&h->in, JSON_TOKEN_OBJECT_BEGIN, err));
    for (;;) {
        str name;
        TRY(json_stream_next(&h->in, &token, err));
        if (token == JSON_TOKEN_OBJECT_END) break;
        TRY(safetensors_name(&h->in, "tensor name", SAFETENSORS_NAME_BYTES_MAX, h->text, &name,
                             err));
        if (!str_eq(name, S("__metadata__"))) {
            TRY(read_tensor(h, name, err));
            continue;
        }
        if (metadata_seen)
            return error_set(err, ERR_FORMAT, "%s: '__metadata__' appears twice", h->name);
        metadata_seen = true;
        TRY(read_metadata(h, err));
    }
    return json_stream_want(&h->in, JSON_TOKEN_END, err);
}

static int by_place(const void *a, const void *b) {
    const safetensor *x = a, *y = b;
    if (x->data != y->data) return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* One behind the other from the first byte to the last. */
static status check_places(const header *h, const safetensor *tensors, size_t count, error *err) {
    const char *end = h->data.p;
    for (size_t i = 0; i < count; i++) {
        const safetensor *t = &tensors[i];
        const char *begin = t->data;
        if (begin != end)
            return error_set(
                err, ERR_FORMAT, "%s: tensor '%.*s' begins at %zu, the data before it ends at %zu",
                h->name, STR(t->name), (size_t)(begin - h->data.p), (size_t)(end - h->data.p));
        end = begin + t->bytes;
    }
    if (end == h->data.p + h->data.n) return OK;
    return error_set(err, ERR_FORMAT, "%s: tensors end at %zu, there are %zu bytes of data",
                     h->name, (size_t)(end - h->data.p), h->data.n);
}

/* Finds header and data in the file. */
static status cut(header *h, str file, error *err) {
    uint64_t bytes = 0;
    if (file.n < sizeof bytes)
        return error_set(err, ERR_FORMAT, "%s: %zu bytes, a SafeTensors file has at least %zu",
                         h->name, file.n, sizeof bytes);
    memcpy(&bytes, file.p, sizeof bytes);
    const str rest = str_skip(file, sizeof bytes);
    if (bytes > SAFETENSORS_HEADER_BYTES_MAX)
        return error_set(err, ERR_LIMIT, "%s: header of %" PRIu64 " bytes, at most %d", h->name,
                         bytes, SAFETENSORS_HEADER_BYTES_MAX);
    if (bytes > rest.n)
        return error_set(err, ERR_FORMAT, "%s: header of %" PRIu64 " bytes, the file has %zu more",
                         h->name, bytes, rest.n);
    if (bytes == 0 || rest.p[0] != '{')
        return error_set(err, ERR_FORMAT, "%s: header of %" PRIu64 " bytes does not begin with '{'",
                         h->name, bytes);
    json_stream_init(&h->in, (str){rest.p, (size_t)bytes}, h->name);
    h->data = str_skip(rest, (size_t)bytes);
    return OK;
}

status safetensors_read_header(str file, const char *name, uint32_t shard, arena *text,
                               buf *tensors, buf *pairs, error *err) {
    header h = {.name = name, .shard = shard, .text = text, .tensors = tensors, .pairs = pairs};
    const size_t before = tensors->n;
    TRY(cut(&h, file, err));
    TRY(read_entries(&h, err));
    const size_t count = (tensors->n - before) / sizeof(safetensor);
    if (count == 0) return check_places(&h, NULL, 0, err);
    safetensor *mine = (safetensor *)(void *)(tensors->p + before);
    qsort(mine, count, sizeof *mine, by_place);
    return check_places(&h, mine, count, err);
}
