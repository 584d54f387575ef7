/* fuzz_safetensors.c - any bytes as a SafeTensors file, or behind an "I" as an index.
 *
 * Input that begins with "H" is a header without its length, up to the first NUL, and data: so
 * mutations of the JSON need not keep a length right.
 * What is accepted covers the data once and in order, no file of an index lies elsewhere, and a
 * refusal comes with a reason. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "fuzz.h"
#include "store/safetensors_internal.h"

static void check_tensor(const safetensors *s, const safetensor *t, str file) {
    const char *begin = t->data;
    volatile uint64_t sum = 0; /* keeps the reads */
    ASSERT(safetensors_find(s, t->name) == t);
    ASSERT(t->name.n > 0 && str_is_utf8(t->name) && t->dims_count <= SAFETENSORS_DIMS_MAX);
    ASSERT(begin >= file.p && t->bytes <= (uint64_t)(file.p + file.n - begin));
    ASSERT(t->elems == 0 || t->bytes / t->elems <= 8);
    for (uint64_t i = 0; i < t->bytes; i++) sum = sum + (unsigned char)begin[i];
    (void)sum;
}

static void check_set(const safetensors *s, str file) {
    const char *end = NULL;
    for (uint32_t i = 0; i < safetensors_count(s); i++) {
        const safetensor *t = safetensors_get(s, i);
        check_tensor(s, t, file);
        ASSERT(end == NULL || end == t->data);
        end = (const char *)t->data + t->bytes;
    }
    ASSERT(end == NULL || end == file.p + file.n);
    ASSERT(str_is_utf8(safetensors_metadata(s, S("format"))));
}

static void try_bytes(str file) {
    safetensors *s = NULL;
    error err = {0};
    if (safetensors_open_bytes(&s, file, "fuzz", &err) == OK)
        check_set(s, file);
    else
        ASSERT(err.msg[0] != '\0' && s == NULL);
    safetensors_close(s);
}

static void check_index(const safetensors_index_file *f) {
    const str *files = (const str *)(const void *)f->shards.p;
    const safetensors_where *where = (const safetensors_where *)(const void *)f->where.p;
    const size_t shards = f->shards.n / sizeof *files, tensors = f->where.n / sizeof *where;
    ASSERT(shards > 0 && shards <= tensors);
    for (size_t i = 0; i < shards; i++) {
        ASSERT(files[i].n > 0 && str_is_utf8(files[i]) && !str_eq(files[i], S("..")));
        ASSERT(memchr(files[i].p, '/', files[i].n) == NULL);
        ASSERT(memchr(files[i].p, '\0', files[i].n) == NULL);
    }
    for (size_t i = 0; i < tensors; i++) ASSERT(where[i].shard < shards);
}

static void try_index(str document) {
    safetensors_index_file f;
    error err = {0};
    if (safetensors_index_read(&f, document, "fuzz", &err) == OK)
        check_index(&f);
    else
        ASSERT(err.msg[0] != '\0');
    safetensors_index_free(&f);
}

/* A header without its length gets one. */
static str as_file(char *copy, size_t size) {
    const char *zero = memchr(copy + 8, 0, size - 1);
    const uint64_t n = zero != NULL ? (uint64_t)(zero - copy - 8) : size - 1;
    memcpy(copy, &n, sizeof n);
    return (str){copy, size + 7};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    log_set_level(LOG_OFF);
    const bool is_header = size > 0 && data[0] == 'H';
    const size_t before = is_header ? 7 : 0; /* "H" gives way to eight bytes of length */
    /* an exact block, whatever the fuzzer hands out */
    char *copy = malloc(size + before > 0 ? size + before : 1);
    if (copy == NULL) return 0;
    memcpy(copy + before, data, size);
    if (size > 0 && data[0] == 'I')
        try_index((str){copy + 1, size - 1});
    else
        try_bytes(is_header ? as_file(copy, size) : (str){copy, size});
    free(copy);
    return 0;
}
