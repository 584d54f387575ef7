/* lora.c - see lora.h. */
#include "engine/lora.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "engine/forward.h"
#include "model/adapter.h"

/* A place of the table.  FREE -> LOADED [load] -> LEAVING [unload while in use] -> FREE [last use
 * given back], or LOADED -> FREE at once. */
typedef enum place_state { PLACE_FREE, PLACE_LOADED, PLACE_LEAVING } place_state;

typedef struct place {
    place_state state;
    uint32_t number;
    uint32_t uses;
    adapter *file;    /* owned */
    lora_pair *pairs; /* owned; [slots] */
    bool added;       /* the engine knows them */
} place;

/* What an adapter is bound to. */
typedef struct target {
    lora_slot *slots; /* owned; [count] */
    uint32_t count;
    uint32_t rank_max;
} target;

struct lora_table {
    engine *e;     /* borrowed */
    place *places; /* owned; [places_count] */
    uint32_t places_count;
    target target;
};

/* --- life cycle -------------------- */

status lora_table_create(lora_table **out, engine *e, uint32_t adapters_max, error *err) {
    lora_table *t = mem_try_calloc(1, sizeof *t);
    place *places = mem_try_calloc(adapters_max, sizeof *places);
    const uint32_t count = engine_lora_slots(e);
    lora_slot *slots = mem_try_calloc(count, sizeof *slots);
    if (t == NULL || places == NULL || slots == NULL) {
        mem_free(t);
        mem_free(places);
        mem_free(slots);
        return error_set(err, ERR_NOMEM, "lora: no memory for %u adapters", adapters_max);
    }
    for (uint32_t i = 0; i < count; i++) slots[i] = engine_lora_slot(e, i);
    *t = (lora_table){
        .e = e,
        .places = places,
        .places_count = adapters_max,
        .target = {.slots = slots, .count = count, .rank_max = engine_lora_rank_max(e)}};
    *out = t;
    return OK;
}

static void place_clear(const lora_table *t, place *p) {
    if (p->added) engine_adapter_drop(t->e, p->pairs);
    adapter_close(p->file);
    mem_free(p->pairs);
    *p = (place){0};
}

void lora_table_destroy(lora_table *t) {
    if (t == NULL) return;
    for (uint32_t i = 0; i < t->places_count; i++) place_clear(t, &t->places[i]);
    mem_free(t->target.slots);
    mem_free(t->places);
    mem_free(t);
}

static place *find_loaded(const lora_table *t, uint32_t number) {
    for (uint32_t i = 0; i < t->places_count; i++)
        if (t->places[i].state == PLACE_LOADED && t->places[i].number == number)
            return &t->places[i];
    return NULL;
}

static place *find_free(const lora_table *t) {
    for (uint32_t i = 0; i < t->places_count; i++)
        if (t->places[i].state == PLACE_FREE) return &t->places[i];
    return NULL;
}

uint32_t lora_table_count(const lora_table *t) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->places_count; i++) n += t->places[i].state == PLACE_LOADED;
    return n;
}

/* --- binding: pairs of the file to slots of the engine -------------------- */

static weight weight_of(const model_tensor *t) {
    return (weight){
        .type = t->type, .rows = t->rows, .cols = t->cols, .data = t->data, .name = t->name};
}

/* Rows row0 .. row0 + rows of B, for the part of a fused tensor that a slot is. */
static weight part_of(const model_tensor *b, uint32_t row0, uint32_t rows) {
    weight w = weight_of(b);
    uint64_t row_bytes = 0;
    bool whole = dtype_row_bytes(b->type, b->cols, &row_bytes);
    ASSERT(whole);
    w.data = (const char *)b->data + row_bytes * row0;
    w.rows = rows;
    return w;
}

/* Rows of the whole tensor, whose slots are its parts; 0 when it has none. */
static uint32_t tensor_rows(const target *t, str tensor) {
    uint32_t rows = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        const lora_slot s = t->slots[i];
        if (str_eq(s.tensor, tensor) && s.row0 + s.rows > rows) rows = s.row0 + s.rows;
    }
    return rows;
}

static status bind_pair(const target *t, const adapter_pair *p, lora_pair *pairs, error *err) {
    uint32_t rows = tensor_rows(t, p->tensor);
    /* It may be the head as well, and would be adapted in one of its two places only. */
    if (str_eq(p->tensor, S("token_embd.weight"))) rows = 0;
    if (rows == 0)
        return error_set(err, ERR_UNSUPPORTED,
                         "lora: '%.*s' is no matrix of this model that can be adapted",
                         STR(p->tensor));
    if (p->b.rows != rows)
        return error_set(err, ERR_FORMAT,
                         "lora: '%.*s' has %u rows in the adapter, %u in the model", STR(p->tensor),
                         p->b.rows, rows);
    for (uint32_t i = 0; i < t->count; i++) {
        const lora_slot s = t->slots[i];
        if (!str_eq(s.tensor, p->tensor)) continue;
        if (p->a.cols != s.cols)
            return error_set(err, ERR_FORMAT,
                             "lora: '%.*s' has %u columns in the adapter, %u in the model",
                             STR(p->tensor), p->a.cols, s.cols);
        pairs[i] = (lora_pair){
            .a = weight_of(&p->a), .b = part_of(&p->b, s.row0, s.rows), .scale = p->scale};
    }
    return OK;
}

static status bind(const target *t, place *p, error *err) {
    uint32_t rank = adapter_rank(p->file), most = t->rank_max;
    if (rank > most)
        return error_set(
            err, ERR_LIMIT,
            "lora: the adapter has rank %u, memory is planned for %u (--lora-rank-max)", rank,
            most);
    p->pairs = mem_try_calloc(t->count, sizeof *p->pairs);
    if (p->pairs == NULL)
        return error_set(err, ERR_NOMEM, "lora: no memory for %u matrices", t->count);
    for (uint32_t i = 0; i < adapter_count(p->file); i++)
        TRY(bind_pair(t, adapter_get(p->file, i), p->pairs, err));
    return OK;
}

/* --- loading -------------------- */

static lora_report report_of(const place *p) {
    return (lora_report){.rank = adapter_rank(p->file),
                         .weights = adapter_count(p->file),
                         .bytes = adapter_bytes(p->file)};
}

status lora_table_load(lora_table *t, uint32_t number, const char *path, lora_report *out,
                       error *err) {
    place loaded = {.state = PLACE_LOADED, .number = number};
    place *p = find_free(t);
    if (find_loaded(t, number) != NULL)
        return error_set(err, ERR_INVALID, "lora: adapter %u is loaded already", number);
    if (p == NULL)
        return error_set(err, ERR_LIMIT, "lora: %u adapters are loaded or still in use, at most %u",
                         t->places_count, t->places_count);
    status st = adapter_open(&loaded.file, engine_model(t->e), path, err);
    if (st == OK) st = bind(&t->target, &loaded, err);
    if (st == OK) st = engine_adapter_add(t->e, loaded.pairs, err);
    loaded.added = st == OK;
    if (st != OK) {
        place_clear(t, &loaded);
        return st;
    }
    *p = loaded;
    *out = report_of(p);
    return OK;
}

bool lora_table_get(const lora_table *t, uint32_t number, lora_report *out) {
    const place *p = find_loaded(t, number);
    if (p != NULL) *out = report_of(p);
    return p != NULL;
}

status lora_table_unload(lora_table *t, uint32_t number, error *err) {
    place *p = find_loaded(t, number);
    if (p == NULL) return error_set(err, ERR_NOT_FOUND, "lora: adapter %u is not loaded", number);
    if (p->uses > 0)
        p->state = PLACE_LEAVING;
    else
        place_clear(t, p);
    return OK;
}

/* --- planning -------------------- */

/* The slots of an engine that is not there yet. */
static status target_of_program(const program *p, target *out, error *err) {
    *out = (target){.count = p->lora_slots, .rank_max = p->max.lora_rank};
    out->slots = mem_try_calloc(out->count, sizeof *out->slots);
    if (out->slots == NULL)
        return error_set(err, ERR_NOMEM, "lora: no memory for %u matrices", out->count);
    for (uint32_t i = 0; i < p->ops_count; i++) {
        const weight *w = &p->ops[i].w;
        if (p->ops[i].lora_slot == LORA_SLOT_NONE) continue;
        out->slots[p->ops[i].lora_slot] =
            (lora_slot){.tensor = w->name, .row0 = w->row0, .rows = w->rows, .cols = w->cols};
    }
    return OK;
}

static status measure(const model *m, const backend_ops *ops, const program *p, const char *path,
                      uint64_t *bytes, error *err) {
    target t = {0};
    place at = {0};
    status st = target_of_program(p, &t, err);
    if (st == OK) st = adapter_open(&at.file, m, path, err);
    if (st == OK) st = bind(&t, &at, err);
    if (st == OK) *bytes = ops->adapter_bytes(p, at.pairs);
    adapter_close(at.file);
    mem_free(at.pairs);
    mem_free(t.slots);
    return st;
}

status lora_device_bytes(const model *m, const engine_options *opt, const char *path,
                         uint64_t *bytes, error *err) {
    /* how long steps and contexts are changes no matrix */
    const program_limits one = {.rows = 1,
                                .taken = 1,
                                .head = 1,
                                .ctx = 1,
                                .ctx_asked = 1,
                                .lora_rank = opt->lora_rank_max,
                                .seats = 1};
    program *p = NULL;
    *bytes = 0;
    if (opt->backend->adapter_bytes == NULL || opt->lora_rank_max == 0) return OK;
    TRY(forward_record(&p, m, &one, err));
    const status st = measure(m, opt->backend, p, path, bytes, err);
    program_destroy(p);
    return st;
}

/* --- using -------------------- */

bool lora_table_use(lora_table *t, uint32_t number, float scale, lora_mix *mix) {
    place *p = find_loaded(t, number);
    if (p == NULL || mix->count == LORA_PER_ROW_MAX) return false;
    mix->uses[mix->count].pairs = p->pairs;
    mix->uses[mix->count].scale = scale;
    mix->count++;
    p->uses++;
    return true;
}

static void give_one(lora_table *t, const lora_pair *pairs) {
    for (uint32_t i = 0; i < t->places_count; i++) {
        place *p = &t->places[i];
        if (p->state == PLACE_FREE || p->pairs != pairs) continue;
        ASSERT(p->uses > 0);
        p->uses--;
        if (p->uses == 0 && p->state == PLACE_LEAVING) place_clear(t, p);
        return;
    }
    ASSERT(!"a use of an adapter that is not in the table");
}

void lora_table_give(lora_table *t, lora_mix *mix) {
    for (uint32_t i = 0; i < mix->count; i++) give_one(t, mix->uses[i].pairs);
    *mix = (lora_mix){0};
}
