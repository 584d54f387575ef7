/* lora_rig.c - see lora_rig.h. */
#include "cudasim/lora_rig.h"

enum { PROMPT_ROWS = 5 }; /* of a lane in a step */

engine_options crowd_options(const rig_engine *on, bool fast, bool no_adapters) {
    engine_options opt = rig_options(on, DTYPE_F16, 64);
    opt.rows_max = opt.taken_rows_max = CROWD_LANES * PROMPT_ROWS;
    opt.fast = fast;
    opt.lora_rank_max = no_adapters ? 0 : CROWD_RANK_MAX;
    return opt;
}

/* --- adapters -------------------- */

void crowd_write_adapter(rig_adapter *out, const engine *e, uint32_t rank, uint32_t left_out,
                         uint64_t seed) {
    char name[128];
    for (uint32_t i = 0; i < engine_lora_slots(e); i++) {
        const lora_slot s = engine_lora_slot(e, i);
        if (i == left_out) continue;
        CHECK_EQ(s.row0, 0);
        (void)snprintf(name, sizeof name, "%.*s.lora_a", STR(s.tensor));
        rig_fill(rig_matrix_add(out, name, rank, s.cols, NULL), (size_t)rank * s.cols, 0.2f,
                 seed + i);
        (void)snprintf(name, sizeof name, "%.*s.lora_b", STR(s.tensor));
        rig_fill(rig_matrix_add(out, name, s.rows, rank, NULL), (size_t)rank * s.rows, 0.2f,
                 seed + 500 + i);
    }
    rig_write_gguf(out, engine_model(e)->hparams.arch, (float)rank);
}

static void load_adapters(crowd *c) {
    static const uint32_t ranks[CROWD_ADAPTERS] = {CROWD_RANK_MAX, 3, 1};
    for (uint32_t i = 0; i < CROWD_ADAPTERS; i++) {
        lora_report report;
        error err = {0};
        crowd_write_adapter(&c->files[i], c->e, ranks[i], 2 * i + 1, 1000 * (uint64_t)(i + 1));
        CHECK_EQ(lora_table_load(c->t, i, c->files[i].path, &report, &err), OK);
        CHECK_STR(err.msg, "");
    }
}

/* Each fourth has none; neighbours 4 and 5 have the same. */
static void choose_mixes(crowd *c) {
    for (uint32_t i = 0; i < CROWD_LANES; i++) {
        lora_mix *mix = &c->lanes[i].mix;
        if (i % 4 == 3) continue;
        const uint32_t first = i == 5 ? 4 : i;
        CHECK(lora_table_use(c->t, first % CROWD_ADAPTERS, 0.25f * (float)(first + 1), mix));
        if (i % 4 == 2) CHECK(lora_table_use(c->t, 1, -0.5f, mix));
        if (i % 4 == 2) CHECK(lora_table_use(c->t, 0, 0.0f, mix)); /* which is none */
    }
}

/* --- life cycle -------------------- */

crowd *crowd_open(const char *spec, const engine_options *opt) {
    crowd *c = calloc(1, sizeof *c);
    error err = {0};
    CHECK(c != NULL);
    status st = model_open(&c->m, spec, &err);
    if (st == OK) st = engine_open(&c->e, c->m, opt, &err);
    if (st == OK && opt->lora_rank_max > 0)
        st = lora_table_create(&c->t, c->e, CROWD_ADAPTERS + 1, &err);
    CHECK_STR(err.msg, "");
    if (st != OK) {
        crowd_close(c);
        return NULL;
    }
    for (uint32_t i = 0; i < CROWD_LANES; i++) {
        crowd_lane *lane = &c->lanes[i];
        lane->count = CROWD_TOKENS - i % 3;
        lane->prompt_count = i == 0 ? 0 : 3 + i;
        lane->begin = i / 2;
        for (uint32_t k = 0; k < lane->count; k++)
            lane->ids[k] = (int32_t)((i * 37 + k * 11 + 3) % 256);
        lane->logits = calloc((size_t)lane->count * engine_vocab(c->e), sizeof *lane->logits);
    }
    if (c->t == NULL) return c;
    load_adapters(c);
    choose_mixes(c);
    return c;
}

void crowd_close(crowd *c) {
    if (c == NULL) return;
    for (uint32_t i = 0; i < CROWD_LANES; i++) {
        if (c->t != NULL) lora_table_give(c->t, &c->lanes[i].mix);
        free(c->lanes[i].logits);
    }
    for (uint32_t i = 0; i < CROWD_ADAPTERS; i++)
        if (c->files[i].count > 0) rig_adapter_drop(&c->files[i]);
    lora_table_destroy(c->t);
    engine_close(c->e);
    model_close(c->m);
    free(c);
}

/* --- steps -------------------- */

/* The rows of a lane in this step, if they are of that kind. */
static uint32_t rows_of(const crowd_lane *lane, uint32_t step, bool prompt) {
    if (step < lane->begin || lane->pos >= lane->count) return 0;
    if ((lane->pos < lane->prompt_count) != prompt) return 0;
    const uint32_t left = lane->prompt_count - lane->pos;
    return !prompt ? 1 : left < PROMPT_ROWS ? left : PROMPT_ROWS;
}

typedef struct step_rows {
    engine_row rows[CROWD_LANES * PROMPT_ROWS];
    uint32_t owner[CROWD_LANES * PROMPT_ROWS];
    uint32_t count;
} step_rows;

static void add_rows(crowd *c, uint32_t i, uint32_t step, bool prompt, step_rows *to) {
    crowd_lane *lane = &c->lanes[i];
    const uint32_t rows = rows_of(lane, step, prompt);
    if (rows == 0) return;
    CHECK_EQ(kv_seat_grow(engine_kv(c->e), i, lane->pos + rows, NULL), OK);
    for (uint32_t k = 0; k < rows; k++) {
        to->owner[to->count] = i;
        to->rows[to->count++] = (engine_row){.token = lane->ids[lane->pos + k],
                                             .pos = lane->pos + k,
                                             .seat = i,
                                             .prompt = prompt,
                                             .wants_logits = true,
                                             .lora = lane->mix.count > 0 ? &lane->mix : NULL};
    }
}

bool crowd_step(crowd *c, uint32_t lanes, uint32_t step) {
    step_rows s = {.count = 0};
    bool left = false;
    for (int prompt = 0; prompt < 2; prompt++)
        for (uint32_t i = 0; i < CROWD_LANES; i++)
            if (lanes >> i & 1) add_rows(c, i, step, prompt != 0, &s);
    for (uint32_t i = 0; i < CROWD_LANES; i++)
        left = left || ((lanes >> i & 1) != 0 && c->lanes[i].pos < c->lanes[i].count);
    if (s.count == 0) return left;
    const size_t vocab = engine_vocab(c->e);
    const float *logits = engine_step(c->e, s.rows, s.count);
    if (engine_fault(c->e) != NULL) (void)fprintf(stderr, "%s\n", engine_fault(c->e)->msg);
    CHECK(engine_fault(c->e) == NULL);
    if (engine_fault(c->e) != NULL) return false;
    for (uint32_t r = 0; r < s.count; r++) {
        crowd_lane *lane = &c->lanes[s.owner[r]];
        memcpy(lane->logits + lane->pos++ * vocab, logits + r * vocab, vocab * sizeof *logits);
    }
    return true;
}

void crowd_rewind(crowd *c) {
    for (uint32_t i = 0; i < CROWD_LANES; i++) {
        kv_seat_clear(engine_kv(c->e), i);
        c->lanes[i].pos = 0;
    }
}

void crowd_run(crowd *c, uint32_t lanes) {
    crowd_rewind(c);
    for (uint32_t step = 0; crowd_step(c, lanes, step); step++) continue;
}

float *crowd_logits(const crowd *c, uint32_t lanes, size_t *floats) {
    const size_t vocab = engine_vocab(c->e);
    float *out = calloc((size_t)CROWD_LANES * CROWD_TOKENS * vocab, sizeof *out);
    *floats = 0;
    for (uint32_t i = 0; i < CROWD_LANES; i++) {
        if (!(lanes >> i & 1)) continue;
        const size_t n = c->lanes[i].count * vocab;
        memcpy(out + *floats, c->lanes[i].logits, n * sizeof *out);
        *floats += n;
    }
    return out;
}
