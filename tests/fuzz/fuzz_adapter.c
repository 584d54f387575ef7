/* fuzz_adapter.c - any bytes as a low-rank adapter of a small model.
 *
 * Input: one byte that selects the form, then a GGUF file (even), or the text of an
 * adapter_config.json, a NUL and a SafeTensors file (odd).
 * A refusal comes with a reason.  What is accepted has halves that meet; a GGUF file that also fits
 * the model goes through a step of it. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/os.h"
#include "engine/lora.h"
#include "fuzz.h"
#include "model/adapter_internal.h"

enum { FILE_BYTES_MAX = 1 << 20, RANK_MAX = 16 };

static model *small;
static engine *eng;
static lora_table *table;

/* Once: its memory is the process's. */
static void open_engine(void) {
    engine_options opt = {.backend = &backend_ref,
                          .threads = 1,
                          .kv_type = DTYPE_F32,
                          .ctx_max = 16,
                          .seats = 1,
                          .rows_max = 1,
                          .taken_rows_max = 1,
                          .lora_rank_max = RANK_MAX};
    if (table != NULL) return;
    log_set_level(LOG_OFF);
    ASSERT(model_open(&small, "synth:tiny:f32", NULL) == OK);
    ASSERT(engine_open(&eng, small, &opt, NULL) == OK);
    ASSERT(lora_table_create(&table, eng, 1, NULL) == OK);
}

static void check_pairs(const adapter *a) {
    static volatile char sink; /* keeps the reads */
    ASSERT(adapter_count(a) > 0);
    for (uint32_t i = 0; i < adapter_count(a); i++) {
        const adapter_pair *p = adapter_get(a, i);
        uint64_t row_bytes = 0;
        ASSERT(p->a.rows == p->b.cols && p->a.rows > 0 && p->a.rows <= adapter_rank(a));
        bool whole = dtype_row_bytes(p->a.type, p->a.cols, &row_bytes);
        ASSERT(whole && row_bytes * p->a.rows == p->a.bytes);
        whole = dtype_row_bytes(p->b.type, p->b.cols, &row_bytes);
        ASSERT(whole && row_bytes * p->b.rows == p->b.bytes);
        if (p->a.bytes > 0) sink = ((const char *)p->a.data)[p->a.bytes - 1];
        if (p->b.bytes > 0) sink = ((const char *)p->b.data)[p->b.bytes - 1];
        (void)sink;
    }
}

static void step_with_it(void) {
    lora_mix mix = {0};
    bool used = lora_table_use(table, 1, 0.5f, &mix);
    ASSERT(used);
    kv_seat_clear(engine_kv(eng), 0);
    ASSERT(kv_seat_grow(engine_kv(eng), 0, 1, NULL) == OK);
    (void)engine_step(eng, &(engine_row){.token = 1, .wants_logits = true, .lora = &mix}, 1);
    lora_table_give(table, &mix);
    ASSERT(lora_table_unload(table, 1, NULL) == OK);
}

/* Through a file, as in a server. */
static void try_table(str file) {
    char path[64];
    int fd = -1;
    error err = {0};
    lora_report report;
    if (os_memfd("fuzz", &fd, NULL) != OK) return;
    ASSERT(os_write_full(fd, file.p, file.n, NULL) == OK);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (lora_table_load(table, 1, path, &report, &err) == OK) {
        ASSERT(report.rank > 0 && report.rank <= RANK_MAX && report.weights > 0);
        step_with_it();
    } else {
        ASSERT(err.msg[0] != '\0');
    }
    os_close(fd);
}

static void try_gguf(str file) {
    adapter *a = NULL;
    error err = {0};
    if (adapter_open_gguf_bytes(&a, small, file, &err) == OK) {
        check_pairs(a);
        adapter_close(a);
        try_table(file);
    } else {
        ASSERT(err.msg[0] != '\0');
    }
}

static void try_peft(str input) {
    const char *end = memchr(input.p, 0, input.n);
    adapter *a = NULL;
    error err = {0};
    if (end == NULL) return;
    str config = {input.p, (size_t)(end - input.p)}, tensors = str_skip(input, config.n + 1);
    if (adapter_open_peft_bytes(&a, small, config, tensors, &err) == OK) {
        check_pairs(a);
        adapter_close(a);
    } else {
        ASSERT(err.msg[0] != '\0');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0 || size > FILE_BYTES_MAX) return 0;
    open_engine();
    /* an exact, aligned block, whatever the fuzzer hands out */
    char *copy = mem_try_alloc(size - 1 > 0 ? size - 1 : 1);
    if (copy == NULL) return 0;
    memcpy(copy, data + 1, size - 1);
    if (data[0] % 2 == 0)
        try_gguf((str){copy, size - 1});
    else
        try_peft((str){copy, size - 1});
    mem_free(copy);
    return 0;
}
