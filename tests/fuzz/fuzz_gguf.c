/* fuzz_gguf.c - any bytes as a GGUF file: parse, walk everything, describe, report.
 *
 * Besides surviving, some things have to hold: every view lies inside the input, and a
 * refusal comes with a reason. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "fuzz.h"
#include "model/inspect.h"
#include "model/model.h"

/* Is [p, p + n) within the input? */
static void check_inside(str input, const void *p, uint64_t n) {
    const char *begin = p;
    ASSERT(begin >= input.p && begin <= input.p + input.n);
    ASSERT(n <= (uint64_t)(input.p + input.n - begin));
}

static uint64_t sum_bytes(str input, str s) {
    uint64_t sum = 0;
    check_inside(input, s.p, s.n);
    for (size_t i = 0; i < s.n; i++) sum += (unsigned char)s.p[i];
    return sum;
}

static uint64_t walk_array(str input, const gguf_array *a) {
    uint64_t sum = 0;
    check_inside(input, a->data, a->bytes);
    if (a->type == GGUF_TYPE_STRING) {
        gguf_strings it = gguf_strings_of(a);
        for (str s; gguf_strings_next(&it, &s);) sum += sum_bytes(input, s);
        return sum;
    }
    for (uint64_t i = 0; i < a->count; i++) sum += gguf_array_get(a, i).as.u64;
    return sum;
}

static uint64_t walk_value(str input, const gguf *g, const gguf_value *v) {
    uint32_t u = 0;
    float f = 0;
    bool yes = false;
    str s = S("");
    ASSERT(gguf_kv_find(g, v->key) == v);
    uint64_t sum = sum_bytes(input, v->key);
    if (gguf_get_u32(g, v->key, &u, NULL) == OK) sum += u;
    if (gguf_get_f32(g, v->key, &f, NULL) == OK) sum += f > 0;
    if (gguf_get_bool(g, v->key, &yes, NULL) == OK) sum += yes;
    if (gguf_get_str(g, v->key, &s, NULL) == OK) sum += sum_bytes(input, s);
    if (v->type == GGUF_TYPE_ARRAY) sum += walk_array(input, &v->as.array);
    return sum;
}

static uint64_t walk_tensor(str input, const gguf *g, const gguf_tensor *t) {
    ASSERT(gguf_tensor_find(g, t->name) == t);
    if (t->data == NULL) return 0;
    return sum_bytes(input, t->name) + sum_bytes(input, (str){t->data, t->bytes});
}

static uint64_t walk(str input, const gguf *g) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < gguf_kv_count(g); i++) sum += walk_value(input, g, gguf_kv_get(g, i));
    for (uint32_t i = 0; i < gguf_tensor_count(g); i++)
        sum += walk_tensor(input, g, gguf_tensor_get(g, i));
    return sum;
}

static void check_vocab(str input, const tok_vocab *v) {
    for (uint32_t i = 0; v->kind != TOK_KIND_NONE && i < v->count; i++) {
        check_inside(input, v->pieces[i].p, v->pieces[i].n);
        ASSERT(v->types[i] >= TOK_TYPE_NORMAL && v->types[i] <= TOK_TYPE_BYTE);
    }
    ASSERT(v->bos_id < (int64_t)v->count && v->eos_id < (int64_t)v->count);
}

static void try_header(str input) {
    blob *file = NULL;
    gguf *g = NULL;
    error err = {0};
    if (blob_open_memory(&file, input, "fuzz", &err) != OK) return;
    if (gguf_open_header(&g, file, &err) == OK) {
        static volatile uint64_t sink; /* keeps the reads */
        sink = walk(input, g);
        (void)sink;
    } else {
        ASSERT(err.msg[0] != '\0');
    }
    gguf_close(g);
    blob_close(file);
}

static void try_model(str input) {
    blob *file = NULL;
    model *m = NULL;
    error err = {0};
    if (blob_open_memory(&file, input, "fuzz", &err) != OK) return;
    if (model_open_blob(&m, file, &err) == OK) {
        check_vocab(input, &m->vocab);
        check_inside(input, m->token_embd.data, m->token_embd.bytes);
        ASSERT(m->hparams.heads % m->hparams.kv_heads == 0);
    } else {
        ASSERT(err.msg[0] != '\0');
    }
    model_close(m);
}

static void try_report(str input, bool json) {
    blob *file = NULL;
    buf out;
    error err = {0};
    if (blob_open_memory(&file, input, "fuzz", &err) != OK) return;
    buf_init(&out, 64 << 20);
    if (model_inspect_blob(file, json, &out, &err) == OK)
        ASSERT(str_is_utf8(buf_view(&out)));
    else
        ASSERT(err.msg[0] != '\0');
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    log_set_level(LOG_OFF);
    /* an exact, aligned block, whatever the fuzzer hands out */
    char *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL) return 0;
    memcpy(copy, data, size);
    try_header((str){copy, size});
    try_model((str){copy, size});
    try_report((str){copy, size}, size % 2 == 0); /* both forms say the same: one a time */
    free(copy);
    return 0;
}
