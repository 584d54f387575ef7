/* gen_table.c - places and ids of the prompts in flight; see gen.h. */
#include "api/gen.h"
#include "base/alloc.h"
#include "base/assert.h"

status gen_table_init(gen_table *t, uint32_t parts_max, error *err) {
    *t = (gen_table){.parts_max = parts_max, .free_count = parts_max};
    t->parts = mem_try_calloc(parts_max, sizeof *t->parts);
    if (t->parts == NULL)
        return error_set(err, ERR_NOMEM, "api: no memory for %u requests in flight", parts_max);
    for (uint32_t i = 0; i < parts_max; i++) t->parts[i].next_free = i + 1;
    return OK;
}

void gen_call_free(gen_call *g) {
    for (uint32_t i = 0; i < g->choices_count; i++) {
        buf_deinit(&g->choices[i].text);
        buf_deinit(&g->choices[i].logprobs);
        buf_deinit(&g->choices[i].document);
        buf_deinit(&g->choices[i].calls);
    }
    buf_deinit(&g->early);
    buf_deinit(&g->pending);
    mem_free(g->parts);
    mem_free(g);
}

void gen_table_deinit(gen_table *t) {
    while (t->calls != NULL) {
        gen_call *g = t->calls;
        t->calls = g->next;
        gen_call_free(g);
    }
    mem_free(t->parts);
    *t = (gen_table){0};
}

uint32_t gen_part_index(uint64_t id) { return (uint32_t)id; }

gen_part *gen_part_take(gen_table *t, gen_call *g) {
    ASSERT(t->free_count > 0 && t->free_head < t->parts_max);
    uint32_t i = t->free_head;
    gen_part *p = &t->parts[i];
    t->free_head = p->next_free;
    t->free_count--;
    /* generation 0 is skipped, so that 0 is no id */
    uint32_t generation = p->generation + 1 != 0 ? p->generation + 1 : 1;
    *p = (gen_part){.id = (uint64_t)generation << 32 | i,
                    .generation = generation,
                    .state = PART_SENT,
                    .call = g};
    return p;
}

void gen_part_give(gen_table *t, gen_part *p) {
    uint32_t i = gen_part_index(p->id);
    ASSERT(p->state != PART_FREE && i < t->parts_max && &t->parts[i] == p);
    *p = (gen_part){.generation = p->generation, .next_free = t->free_head};
    t->free_head = i;
    t->free_count++;
}

gen_part *gen_part_find(const gen_table *t, const model_entry *m, uint64_t id) {
    uint32_t i = gen_part_index(id);
    if (i >= t->parts_max || id == 0) return NULL;
    gen_part *p = &t->parts[i];
    return p->id == id && p->call->model == m ? p : NULL;
}
