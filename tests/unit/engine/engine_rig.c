/* engine_rig.c - see engine_rig.h. */
#include "engine/engine_rig.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "golden_paths.h"
#include "tensor/best.h"

#if defined(__x86_64__)
#define BEST CPU_ISA_AVX2
#else
#define BEST CPU_ISA_AUTO
#endif

const rig_engine rig_engines[RIG_ENGINES] = {
    {"ref", &backend_ref, 1, CPU_ISA_AUTO},
    {"scalar, 1 thread", &backend_cpu, 1, CPU_ISA_SCALAR},
    {"scalar, 2 threads", &backend_cpu, 2, CPU_ISA_SCALAR},
    {"best, 1 thread", &backend_cpu, 1, BEST},
    {"best, 2 threads", &backend_cpu, 2, BEST},
};

model *rig_open_model(const char *path) {
    model *m = NULL;
    error err = {0};
    const status st = path != NULL ? model_open(&m, path, &err) : ERR_NOT_FOUND;
    if (st != OK) (void)fprintf(stderr, "%s: %s\n", path != NULL ? path : "?", err.msg);
    CHECK_EQ(st, OK);
    return m;
}

model *rig_open_oracle(const char *name, const char *type) {
    char path[256];
    (void)snprintf(path, sizeof path, "oracle/public/models/%s/%smodel-%s.gguf", name,
                   strcmp(type, "f32") == 0 ? "" : "quant/", type);
    return rig_open_model(shared_path(path));
}

void rig_fill_ids(int32_t *ids, uint32_t count, uint32_t vocab, uint32_t salt) {
    for (uint32_t i = 0; i < count; i++)
        ids[i] = (int32_t)(((i + salt * 131) * 2654435761u >> 9) % vocab);
}

bool rig_tell_share(void *ctx, uint64_t done, uint64_t total) {
    double *last = ctx;
    const double share = (double)done / (double)total;
    CHECK(share >= *last && share <= 1);
    *last = share;
    return true;
}

engine_options rig_options(const rig_engine *e, dtype kv_type, uint32_t ctx_max) {
    return (engine_options){.backend = e->backend,
                            .threads = e->threads,
                            .isa_cap = e->isa_cap,
                            .kv_type = kv_type,
                            .ctx_max = ctx_max,
                            .seats = 8,
                            .rows_max = RIG_TOKENS_MAX,
                            .taken_rows_max = RIG_TOKENS_MAX};
}

/* The rows of a step, sequence after sequence, and whose they are. */
static uint32_t fill_rows(const rig_sequence *list, uint32_t count, uint32_t rows,
                          engine_row *step_rows, uint32_t *owner) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++) {
        const rig_sequence *s = &list[i];
        for (uint32_t at = s->done; at < s->count && at < s->done + rows; at++) {
            ASSERT(n < RIG_TOKENS_MAX);
            step_rows[n] = (engine_row){.token = s->ids[at],
                                        .pos = at,
                                        .seat = s->seat,
                                        .prompt = at < s->prompt_count,
                                        .wants_logits = true};
            owner[n++] = i;
        }
    }
    return n;
}

void rig_advance(engine *e, rig_sequence *list, uint32_t count, uint32_t rows) {
    static engine_row step_rows[RIG_TOKENS_MAX];
    static uint32_t owner[RIG_TOKENS_MAX];
    size_t vocab = engine_logits_cols(e), n_embd = engine_hidden_cols(e);
    for (uint32_t i = 0; i < count; i++) {
        rig_sequence *s = &list[i];
        uint32_t end = s->count - s->done < rows ? s->count : s->done + rows;
        status st = kv_seat_grow(engine_kv(e), s->seat, end, NULL);
        ASSERT(st == OK);
    }
    uint32_t n = fill_rows(list, count, rows, step_rows, owner);
    if (n == 0) return;
    const float *logits = engine_step(e, step_rows, n), *hidden = engine_hidden(e);
    for (uint32_t r = 0; r < n; r++) {
        rig_sequence *s = &list[owner[r]];
        size_t pos = step_rows[r].pos;
        if (s->logits != NULL)
            memcpy(s->logits + pos * vocab, logits + r * vocab, vocab * sizeof *logits);
        if (s->hidden != NULL)
            memcpy(s->hidden + pos * n_embd, hidden + r * n_embd, n_embd * sizeof *hidden);
        s->done = (uint32_t)pos + 1;
    }
}

static engine *open_or_fail(const model *m, const engine_options *opt) {
    engine *e = NULL;
    error err = {0};
    status st = engine_open(&e, m, opt, &err);
    if (st != OK) (void)fprintf(stderr, "%s\n", err.msg);
    CHECK_EQ(st, OK);
    return e;
}

float *rig_all_logits(const model *m, const engine_options *opt, const int32_t *ids, uint32_t count,
                      uint32_t chunk) {
    engine *e = open_or_fail(m, opt);
    if (e == NULL) return NULL;
    rig_sequence s = {.ids = ids, .count = count, .prompt_count = opt->fast ? count : 0, .seat = 3};
    s.logits = calloc((size_t)count * engine_logits_cols(e), sizeof *s.logits);
    while (s.done < count) rig_advance(e, &s, 1, chunk);
    engine_close(e);
    return s.logits;
}

float *rig_all_hidden(const model *m, const engine_options *opt, const int32_t *ids, uint32_t count,
                      uint32_t chunk) {
    engine *e = open_or_fail(m, opt);
    if (e == NULL) return NULL;
    rig_sequence s = {.ids = ids, .count = count, .prompt_count = opt->fast ? count : 0, .seat = 3};
    s.hidden = calloc((size_t)count * engine_hidden_cols(e), sizeof *s.hidden);
    while (s.done < count) rig_advance(e, &s, 1, chunk);
    engine_close(e);
    return s.hidden;
}

/* --- the best instead of logits -------------------- */

static engine_row row_wanting(char what, int32_t token, uint32_t pos) {
    return (engine_row){.token = token,
                        .pos = pos,
                        .seat = 2,
                        .wants_best = what == 'b',
                        .wants_logits = what == 'l',
                        .wants_hidden = what == 'h'};
}

/* The results of the step stand in the order of the rows, with gaps. */
static void check_wanted(engine *e, const char *wants, const float *got, const float *logits,
                         const float *states) {
    const size_t vocab = engine_logits_cols(e), n_embd = engine_hidden_cols(e);
    const float *hidden = engine_hidden(e);
    const int32_t *best = engine_best(e);
    CHECK(best != NULL);
    for (size_t i = 0; wants[i] != '\0' && best != NULL; i++) {
        const float *row = logits + i * vocab, *state = states + i * n_embd;
        if (wants[i] == '-') continue;
        if (wants[i] != 'b') CHECK(memcmp(hidden, state, n_embd * sizeof *state) == 0);
        hidden += n_embd;
        if (wants[i] == 'h') continue;
        if (wants[i] == 'b') CHECK_EQ(*best, best_of(row, (uint32_t)vocab));
        if (wants[i] == 'l') CHECK(memcmp(got, row, vocab * sizeof *row) == 0);
        got += vocab;
        best++;
    }
}

enum { WANTING_MAX = 9 };

/* One row for each letter; its logits. */
static const float *step_wanting(engine *e, const char *wants, const int32_t *ids) {
    engine_row rows[WANTING_MAX];
    const uint32_t count = (uint32_t)strlen(wants);
    kv_seat_clear(engine_kv(e), 2);
    CHECK_EQ(kv_seat_grow(engine_kv(e), 2, count, NULL), OK);
    for (uint32_t i = 0; i < count; i++) rows[i] = row_wanting(wants[i], ids[i], i);
    return engine_step(e, rows, count);
}

void rig_check_best(const model *m, const engine_options *opt) {
    static const char *const steps[] = {"b", "bl-hbbllb", "bbb", "hb-"};
    static const int32_t ids[WANTING_MAX] = {1, 5, 9, 13, 17, 21, 25, 29, 33};
    engine *e = open_or_fail(m, opt);
    if (e == NULL) return;
    float *logits = rig_all_logits(m, opt, ids, WANTING_MAX, WANTING_MAX);
    float *states = rig_all_hidden(m, opt, ids, WANTING_MAX, WANTING_MAX);
    for (size_t s = 0; s < sizeof steps / sizeof steps[0]; s++)
        check_wanted(e, steps[s], step_wanting(e, steps[s], ids), logits, states);
    (void)step_wanting(e, "lh", ids); /* it is none of the step before */
    CHECK(engine_best(e) == NULL);
    engine_close(e);
    free(logits);
    free(states);
}

/* --- reference data -------------------- */

size_t rig_read_file(const char *relative, void *out, size_t bytes_max) {
    const char *path = shared_path(relative);
    FILE *fp = path != NULL ? fopen(path, "rb") : NULL;
    if (fp == NULL) return 0;
    size_t n = fread(out, 1, bytes_max, fp);
    (void)fclose(fp);
    return n / 4;
}

/* --- pages of weights -------------------- */

enum { PAGE = 4096 };

/* Where whole pages begin in the matrices of a layer's experts, and how many there are. */
static uintptr_t expert_pages(const model *m, uint32_t layer, size_t *count) {
    const model_tensor *t = &m->layers[layer].gate_exps;
    const uint32_t last = m->hparams.experts.count - 1;
    const uintptr_t from = (uintptr_t)t->parts[0].data,
                    to = (uintptr_t)t->parts[last].data + t->parts[last].bytes;
    const uintptr_t first = (from + PAGE - 1) / PAGE * PAGE;
    CHECK(to > first + PAGE);
    *count = (to - first) / PAGE;
    return first;
}

void rig_experts_forget(const model *m, uint32_t layer) {
    size_t count = 0;
    const uintptr_t first = expert_pages(m, layer, &count);
    CHECK_EQ(madvise((void *)first, count * PAGE, MADV_DONTNEED), 0);
}

/* One word for each page, whose highest bit says that it is there (Linux, pagemap). */
size_t rig_experts_missing(const model *m, uint32_t layer) {
    size_t count = 0, missing = 0;
    const uintptr_t first = expert_pages(m, layer, &count);
    const int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    for (size_t i = 0; i < count; i++) {
        uint64_t word = 0;
        CHECK(pread(fd, &word, sizeof word, (off_t)((first / PAGE + i) * sizeof word)) ==
              (ssize_t)sizeof word);
        missing += word >> 63 == 0;
    }
    (void)close(fd);
    return missing;
}

double rig_nmse(const float *a, const float *b, size_t count) {
    double wrong = 0, all = 0;
    for (size_t i = 0; i < count; i++) {
        double d = (double)a[i] - (double)b[i];
        wrong += d * d;
        all += (double)b[i] * (double)b[i];
    }
    return wrong / all;
}
