/* cuda_step.c - a step: what the batch says goes up in one copy, what tokens are drawn by in
 * another where any are (cuda_draw.c), and which adapters rows use in a third; the launches follow
 * (cuda_queue.c), results come down, and one look at the end tells whether all went well.
 *
 * Every launch has the same arguments in every step but for the memory that batches bring, which
 * changes rarely; how many rows there are, and where those of prompts begin, is in the descriptor
 * and in the grids. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "backend/cuda/cuda_device_internal.h"
#include "backend/cuda/cuda_internal.h"
#include "base/assert.h"
#include "base/num.h"

/* --- the memory that batches bring -------------------- */

static ck_kv_type kv_type_of(dtype type) {
    if (type == DTYPE_Q8_0) return CK_KV_Q8;
    if (type == DTYPE_Q4_0) return CK_KV_Q4;
    return type == DTYPE_F16 ? CK_KV_F16 : CK_KV_F32;
}

static ck_kv kv_of(const kv_layout *l, const void *blocks, uint32_t layer) {
    return (ck_kv){.blocks = (uint64_t)(uintptr_t)blocks + layer * kv_layer_bytes(l),
                   .block_bytes = kv_block_bytes(l),
                   .type = kv_type_of(l->type),
                   .kv_heads = l->kv_heads,
                   .key_dim = l->key_dim,
                   .value_dim = l->value_dim,
                   .v_in_k = l->v_in_k};
}

static cuda_kernel_id attention_of(const k_attention_args *a) {
    static const cuda_kernel_id kernels[][CUDA_ATTENTION_PACKS] = {
        [CK_KV_F32] = {CUDA_k_attention_f32_any, CUDA_k_attention_f32_n1, CUDA_k_attention_f32_n2,
                       CUDA_k_attention_f32_n4, CUDA_k_attention_f32_n8},
        [CK_KV_F16] = {CUDA_k_attention_f16_any, CUDA_k_attention_f16_n1, CUDA_k_attention_f16_n2,
                       CUDA_k_attention_f16_n4, CUDA_k_attention_f16_n8},
        [CK_KV_Q8] = {CUDA_KERNEL_COUNT, CUDA_k_attention_q8_n1, CUDA_k_attention_q8_n2,
                      CUDA_k_attention_q8_n4, CUDA_k_attention_q8_n8},
        [CK_KV_Q4] = {CUDA_KERNEL_COUNT, CUDA_k_attention_q4_n1, CUDA_k_attention_q4_n2,
                      CUDA_k_attention_q4_n4, CUDA_k_attention_q4_n8}};
    return kernels[a->kv.type]
                  [cuda_attention_pack_of(a->per_block, a->kv.key_dim, a->kv.value_dim)];
}

/* CUDA_KERNEL_COUNT: there is none. */
static cuda_kernel_id prompt_attention_of(const ck_kv *kv) {
    static const cuda_kernel_id kernels[][CUDA_PROMPT_WIDTHS] = {
        [CK_KV_F16] = {CUDA_KERNEL_COUNT, CUDA_k_prompt_attention_f16_d64,
                       CUDA_k_prompt_attention_f16_d128, CUDA_k_prompt_attention_f16_d256,
                       CUDA_k_prompt_attention_f16_d576},
        [CK_KV_Q8] = {CUDA_KERNEL_COUNT, CUDA_k_prompt_attention_q8_d64,
                      CUDA_k_prompt_attention_q8_d128, CUDA_k_prompt_attention_q8_d256,
                      CUDA_k_prompt_attention_q8_d576},
        [CK_KV_Q4] = {CUDA_KERNEL_COUNT, CUDA_k_prompt_attention_q4_d64,
                      CUDA_k_prompt_attention_q4_d128, CUDA_k_prompt_attention_q4_d256,
                      CUDA_k_prompt_attention_q4_d576}};
    if (kv->type == CK_KV_F32) return CUDA_KERNEL_COUNT;
    return kernels[kv->type][cuda_prompt_width_of(kv->key_dim, kv->value_dim)];
}

/* The rows of prompts have a launch of their own, or all rows have one. */
static void patch_prompts(cuda_launch_entry *e, k_attention_args *a) {
    const cuda_kernel_id kernel = prompt_attention_of(&a->kv);
    const bool apart = e->prompt_queries > 0 && kernel != CUDA_KERNEL_COUNT;
    e->prompt_tiles = apart ? a->kv.kv_heads : 0;
    e->prompt = apart ? kernel : e->kernel;
    e->prompt_shared_bytes =
        apart ? cuda_prompt_shared_bytes(a->kv.key_dim, a->kv.value_dim, a->kv.v_in_k) : 0;
    a->count = a->counts + (apart ? offsetof(ck_counts, generated) : offsetof(ck_counts, rows));
}

/* Args begin with the ck_kv, of which the tables are set already. */
static void patch_kv(backend *b, cuda_launch_entry *e, const batch *in) {
    ck_kv *kv = (ck_kv *)(void *)(b->lowered.args + e->args_at);
    const ck_kv old = *kv;
    *kv = kv_of(&in->kv.layout, in->kv.blocks, e->layer);
    kv->tables = old.tables;
    kv->table_stride = old.table_stride;
    if (e->kernel == CUDA_k_kv_write) e->width = in->kv.layout.kv_heads;
    if (e->grid != CUDA_GRID_SPLIT_Y) return;
    e->kernel = e->many = attention_of((const k_attention_args *)(const void *)kv);
    patch_prompts(e, (k_attention_args *)(void *)kv);
}

static void patch_state(backend *b, const cuda_launch_entry *e, const batch *in) {
    ck_state *state = (ck_state *)(void *)(b->lowered.args + e->args_at);
    state->states = (uint64_t)(uintptr_t)in->states;
}

static bool same_layout(const kv_layout *a, const kv_layout *b) {
    return a->type == b->type && a->layers == b->layers && a->kv_heads == b->kv_heads &&
           a->key_dim == b->key_dim && a->value_dim == b->value_dim && a->v_in_k == b->v_in_k;
}

static void patch(backend *b, const batch *in) {
    if (b->patched && b->kv_blocks == in->kv.blocks && b->state_memory == in->states &&
        same_layout(&b->kv_layout, &in->kv.layout))
        return;
    cuda_graphs_drop(b);
    for (uint32_t i = 0; i < b->lowered.count; i++) {
        cuda_launch_entry *e = &b->lowered.launches[i];
        if (e->patch == CUDA_PATCH_KV) patch_kv(b, e, in);
        if (e->patch == CUDA_PATCH_STATE) patch_state(b, e, in);
    }
    b->kv_layout = in->kv.layout;
    b->kv_blocks = in->kv.blocks;
    b->state_memory = in->states;
    b->patched = true;
}

/* --- the descriptor -------------------- */

static void *desc_at(backend *b, uint64_t offset) {
    return (char *)cuda_staged(b)->desc.host + offset;
}

/* A run's sequence, as a row of our tables; rows of it name that row. */
static void describe_run(backend *b, const batch *in, uint32_t idx, uint32_t *blocks) {
    const cuda_descriptor *d = &b->layout.desc;
    const batch_run *run = &in->runs[idx];
    const uint32_t tokens = run->pos0 + run->rows;
    uint32_t *tables_of = desc_at(b, d->tables_of), *seen = desc_at(b, d->seen),
             *whole = desc_at(b, d->whole),
             *table = (uint32_t *)desc_at(b, d->tables) + (size_t)idx * d->table_stride;
    for (uint32_t i = 0; i < run->rows; i++) {
        tables_of[run->row0 + i] = idx;
        seen[run->row0 + i] = run->pos0 + i + 1;
        whole[run->row0 + i] = tokens;
    }
    ((ck_run *)desc_at(b, d->runs))[idx] =
        (ck_run){.row0 = run->row0, .rows = run->rows, .seat = run->seat, .pos0 = run->pos0};
    *blocks = in->kv.tables == NULL ? 0 : num_div_up_u32(tokens, KV_BLOCK_TOKENS);
    ASSERT(*blocks <= d->table_stride && *blocks <= in->kv.table_stride);
    if (*blocks > 0)
        memcpy(table, in->kv.tables + (size_t)run->seat * in->kv.table_stride,
               *blocks * sizeof *table);
}

/* Rows of which none is of a prompt: the first so many. */
static uint32_t generated_rows(const batch *in) {
    if (in->prompt == NULL) return in->rows;
    uint32_t n = 0;
    while (n < in->rows && !in->prompt[n]) n++;
    for (uint32_t r = n; r < in->rows; r++) ASSERT(in->prompt[r]);
    return n;
}

/* The first run that has rows of prompts; runs_count: none has. */
static uint32_t first_prompt_run(const batch *in, uint32_t generated) {
    uint32_t i = 0;
    while (i < in->runs_count && in->runs[i].row0 + in->runs[i].rows <= generated) i++;
    return i;
}

/* Fill it; returns how much of it there is to send. */
static size_t describe(backend *b, const batch *in, const cuda_step_rows *rows) {
    const cuda_descriptor *d = &b->layout.desc;
    const uint32_t shared = b->lowered.prompt_attentions > 0 ? rows->generated : in->rows;
    ASSERT(in->runs_count <= d->sequences);
    *(ck_counts *)desc_at(b, d->counts) =
        (ck_counts){.generated = rows->generated,
                    .rows = in->rows,
                    .taken = in->taken_rows,
                    .head = in->head_rows,
                    .runs = in->runs_count,
                    .prompt_run = in->runs_count - rows->prompt_runs};
    memcpy(desc_at(b, d->ids), in->tokens, in->rows * sizeof *in->tokens);
    memcpy(desc_at(b, d->pos), in->pos, in->rows * sizeof *in->pos);
    if (in->taken_rows > 0)
        memcpy(desc_at(b, d->taken), in->taken, in->taken_rows * sizeof *in->taken);
    if (in->head_rows > 0) memcpy(desc_at(b, d->head), in->head, in->head_rows * sizeof *in->head);
    cuda_attention_share(in, shared, d->split_rows, desc_at(b, d->splits), desc_at(b, d->slots));
    uint32_t blocks = 0;
    for (uint32_t i = 0; i < in->runs_count; i++) describe_run(b, in, i, &blocks);
    const size_t words = (size_t)(in->runs_count - 1) * d->table_stride + blocks;
    return (size_t)d->tables + words * sizeof(uint32_t);
}

/* --- input -------------------- */

/* What another backend has computed. */
static void send_input(backend *b, const batch *in) {
    const op *first = &b->p->ops[0];
    if (first->kind != OP_INPUT) return;
    const bool measured = b->profile.tasks != NULL;
    const uint32_t idx = b->lowered.count;
    if (measured) cuda_profile_before(&b->profile, &b->dev, idx, b->profile.tasks[idx].name);
    cuda_take_input(b, in);
    if (measured) cuda_profile_after(&b->profile, &b->dev, idx);
}

/* --- results -------------------- */

/* Where in pinned memory the rows of a value stand, behind so many of micro-batches before; NULL:
 * there is no such value. */
static float *result_at(const backend *b, const cuda_pinned *of, value_id v, uint32_t before) {
    return v == VALUE_NONE ? NULL : (float *)of->host + (size_t)before * b->p->values[v].cols;
}

/* Rows first .. end - 1 of a value, to where they stand in the result, which `to` is. */
static void fetch_rows(backend *b, value_id v, uint32_t first, uint32_t end, float *to) {
    if (v == VALUE_NONE || first == end) return;
    const value *d = &b->p->values[v];
    const size_t at = (size_t)first * d->cols;
    const cu_ptr from = cuda_at(b, (d->offset + at) * sizeof(float));
    (void)cuda_copy_out(&b->dev, b->dev.compute, to + at, from,
                        (size_t)(end - first) * d->cols * sizeof(float));
}

/* Hidden states and logits, in as few pieces as the rows between them allow of which a token is
 * wanted and nothing else. */
static void fetch_values(backend *b, const batch *in) {
    const program *p = b->p;
    float *hidden = result_at(b, &b->hidden, p->hidden, in->before.taken);
    float *logits = result_at(b, &b->logits, p->logits, in->before.head);
    uint32_t taken = 0, head = 0;
    for (uint32_t h = 0; h < in->head_rows; h++) {
        if (batch_wants_logits(in, h)) continue;
        fetch_rows(b, p->hidden, taken, in->head[h], hidden);
        fetch_rows(b, p->logits, head, h, logits);
        taken = in->head[h] + 1;
        head = h + 1;
    }
    if (b->keeps_hidden)
        cuda_give_hidden(b, in);
    else
        fetch_rows(b, p->hidden, taken, in->taken_rows, hidden);
    fetch_rows(b, p->logits, head, in->head_rows, logits);
}

/* --- the whole -------------------- */

static cuda_step_rows rows_of(const backend *b, const batch *in) {
    const uint32_t generated = generated_rows(in);
    return (cuda_step_rows){
        .of = {[ROWS_ALL] = in->rows, [ROWS_TAKEN] = in->taken_rows, [ROWS_HEAD] = in->head_rows},
        .runs = in->runs_count,
        .prompt_runs = in->runs_count - first_prompt_run(in, generated),
        .generated = generated,
        .best = in->best != NULL,
        .adapted = cuda_has_adapters(b, in)};
}

/* Queue all of it, or all but the drawing.  Failures are kept by the device and come out at the
 * end. */
static void queue(backend *b, const batch *in) {
    const cu_ptr desc = cuda_at(b, b->layout.desc_at);
    const bool samples = cuda_has_samples(in->samples, in->head_rows);
    cuda_staging *s = cuda_staged(b);
    cuda_step_rows rows = rows_of(b, in);
    s->tokens = in->best != NULL || samples;
    s->logprobs = false;
    s->draws_later = in->draws_later;
    const size_t desc_bytes = describe(b, in, &rows);
    rows.further = cuda_attention_further(desc_at(b, b->layout.desc.splits));
    patch(b, in);
    cuda_elsewhere_begin(b, in);
    cuda_kv_arrive(b);
    (void)cuda_copy_in(&b->dev, b->dev.compute, desc, s->desc.host, desc_bytes);
    if (samples && !in->draws_later) cuda_send_samples(b, s, in->samples, &rows);
    if (rows.adapted) cuda_send_adapters(b, in, rows.segments);
    send_input(b, in);
    cuda_queue_launches(b, &rows);
    fetch_values(b, in);
    if (!in->draws_later) cuda_fetch_answer(b, s, in->samples);
}

/* Tokens and positions were checked by whoever made the batch, and drawn ones are in the
 * vocabulary: a wrong one is a mistake of ours. */
static status check_ids(const backend *b, const cuda_staging *s, error *err) {
    const cuda_descriptor *d = &b->layout.desc;
    const uint32_t wrong = *(const uint32_t *)s->answer.host;
    if (wrong == 0) return OK;
    ASSERT(wrong <= s->rows);
    const char *desc = s->desc.host;
    const int32_t id = ((const int32_t *)(const void *)(desc + d->ids))[wrong - 1];
    const uint32_t pos = ((const uint32_t *)(const void *)(desc + d->pos))[wrong - 1];
    char made[48] = "";
    if (id < 0) (void)snprintf(made, sizeof made, ", of row %d of the step before,", ~id);
    return error_set(err, ERR_INTERNAL,
                     "cuda: row %u of a step has token %" PRId32 "%s at position %u, which no "
                     "table of embeddings has",
                     wrong - 1, id, made, pos);
}

/* Of the first step that was begun and not ended. */
static cuda_staging *first_staged(backend *b) {
    return &b->staging[b->steps_ended % CUDA_STEPS_MAX];
}

/* Is it a micro-batch behind the one that `s` is about? */
static bool is_behind(const cuda_staging *s, const batch *in) {
    return in->before.rows > 0 && in->before.rows == s->before.rows + s->rows &&
           in->before.taken == s->before.taken + s->taken_rows &&
           in->before.head == s->before.head + s->head_rows;
}

/* Tokens of the step before exist where it was asked for them.  Host memory of results is there
 * once for all rows of a step: who comes behind one must not want what that one may still be read
 * for, unless it is the next part of the same. */
static void check_follows(backend *b, const batch *in) {
    const bool follows = b->steps_begun > b->steps_ended;
    const cuda_staging *before = first_staged(b);
    const bool is_next = follows && !is_behind(before, in);
    ASSERT(b->steps_begun - b->steps_ended < CUDA_STEPS_MAX);
    ASSERT(!follows || !before->draws_later);
    ASSERT((!follows && !in->draws_later) || b->profile.tasks == NULL);
    ASSERT(!is_next || (in->before.rows == 0 && in->taken_rows == in->head_rows));
    for (uint32_t h = 0; is_next && h < in->head_rows; h++) ASSERT(!batch_wants_logits(in, h));
    for (uint32_t r = 0; r < in->rows; r++)
        ASSERT(in->tokens[r] >= 0 ||
               (follows && before->tokens && (uint32_t)~in->tokens[r] < before->head_rows));
}

void cuda_begin(backend *b, const batch *in) {
    const program *p = b->p;
    cuda_staging *s = cuda_staged(b);
    ASSERT(in->rows > 0 && in->before.rows + in->rows <= p->max.rows &&
           in->before.taken + in->taken_rows <= p->max.taken &&
           in->before.head + in->head_rows <= p->max.head);
    ASSERT(b->fault.code == OK);
    check_follows(b, in);
    s->rows = in->rows;
    s->taken_rows = in->taken_rows;
    s->head_rows = in->head_rows;
    s->before = in->before;
    s->fault = (error){0};
    status st = cuda_load(b, NULL, &s->fault);
    if (st == OK) st = cuda_device_enter(&b->dev, &s->fault);
    if (st == OK && b->steps_begun > b->steps_ended)
        st = cuda_try(&b->dev, b->dev.driver->event_record(b->first_done, b->dev.compute),
                      "cuEventRecord", &s->fault);
    if (st == OK) queue(b, in);
    b->steps_begun++;
}

/* Until the first step's answer is there; a second one may still be computed.  While the CPU
 * computes, waiting by looking again and again would take a core from it: the event sleeps. */
static status wait_for_first(backend *b, error *err) {
    const cu_driver *d = b->dev.driver;
    TRY(cuda_device_enter(&b->dev, err));
    const bool only = b->steps_begun - b->steps_ended == 1;
    if (only && b->elsewhere.experts == NULL) return cuda_sync(&b->dev, err);
    if (only)
        TRY(cuda_try(&b->dev, d->event_record(b->first_done, b->dev.compute), "cuEventRecord",
                     err));
    return cuda_try(&b->dev, d->event_sync(b->first_done), "cuEventSynchronize", err);
}

static step_result fail(backend *b, const error *why) {
    b->fault = *why;
    return (step_result){.fault = &b->fault};
}

/* `measured`: the batch of a step that was measured; else NULL. */
static step_result end(backend *b, const batch *measured) {
    const cuda_staging *s = first_staged(b);
    error err = s->fault;
    ASSERT(b->steps_begun > b->steps_ended && b->fault.code == OK);
    ASSERT(!s->draws_later || err.code != OK);
    status st = err.code;
    if (st == OK) st = wait_for_first(b, &err);
    if (st == OK && measured != NULL) {
        cuda_profile_end(&b->profile, &b->dev, b->p, measured);
        cuda_elsewhere_settle(b);
    }
    if (st == OK) st = check_ids(b, s, &err);
    if (st != OK) return fail(b, &err);
    b->steps_ended++;
    const program *p = b->p;
    step_result result = {.logits = result_at(b, &b->logits, p->logits, s->before.head)};
    if (!b->keeps_hidden) result.hidden = result_at(b, &b->hidden, p->hidden, s->before.taken);
    if (p->logits == VALUE_NONE) return result;
    if (s->tokens) result.best = (const int32_t *)s->answer.host + 1;
    if (s->logprobs) result.logprobs = cuda_logprobs_of(b, s);
    return result;
}

step_result cuda_end(backend *b) { return end(b, NULL); }

step_result cuda_step(backend *b, const batch *in) {
    const bool measured = b->profile.tasks != NULL;
    ASSERT(b->steps_begun == b->steps_ended);
    if (measured) cuda_profile_begin(&b->profile);
    cuda_begin(b, in);
    return end(b, measured ? in : NULL);
}

void cuda_abandon(backend *b) {
    error ignored; /* nobody waits for what it would say */
    if (b->steps_begun > b->steps_ended) (void)!cuda_sync(&b->dev, &ignored);
    b->steps_ended = b->steps_begun;
}
