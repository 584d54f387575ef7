/* lora.c - see lora.h. */
#include "engine/lora.h"

#include "base/alloc.h"
#include "base/assert.h"
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

struct lora_table {
    engine *e;     /* borrowed */
    place *places; /* owned; [places_count] */
    uint32_t places_count;
    uint32_t slots;
};

/* --- life cycle -------------------- */

status lora_table_create(lora_table **out, engine *e, uint32_t adapters_max, error *err) {
    lora_table *t = mem_try_calloc(1, sizeof *t);
    place *places = mem_try_calloc(adapters_max, sizeof *places);
    if (t == NULL || places == NULL) {
        mem_free(t);
        mem_free(places);
        return error_set(err, ERR_NOMEM, "lora: no memory for %u adapters", adapters_max);
    }
    *t = (lora_table){
        .e = e, .places = places, .places_count = adapters_max, .slots = engine_lora_slots(e)};
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
static uint32_t tensor_rows(const lora_table *t, str tensor) {
    uint32_t rows = 0;
    for (uint32_t i = 0; i < t->slots; i++) {
        lora_slot s = engine_lora_slot(t->e, i);
        if (str_eq(s.tensor, tensor) && s.row0 + s.rows > rows) rows = s.row0 + s.rows;
    }
    return rows;
}

static status bind_pair(const lora_table *t, const adapter_pair *p, lora_pair *pairs, error *err) {
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
    for (uint32_t i = 0; i < t->slots; i++) {
        lora_slot s = engine_lora_slot(t->e, i);
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

static status bind(const lora_table *t, place *p, error *err) {
    uint32_t rank = adapter_rank(p->file), most = engine_lora_rank_max(t->e);
    if (rank > most)
        return error_set(
            err, ERR_LIMIT,
            "lora: the adapter has rank %u, memory is planned for %u (--lora-rank-max)", rank,
            most);
    p->pairs = mem_try_calloc(t->slots, sizeof *p->pairs);
    if (p->pairs == NULL)
        return error_set(err, ERR_NOMEM, "lora: no memory for %u matrices", t->slots);
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
    if (st == OK) st = bind(t, &loaded, err);
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
