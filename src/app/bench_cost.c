/* bench_cost.c - what a test must read from memory and multiply, whoever computes it.
 *
 * Weights count as they are stored in the file, each once per step, and only those that the step
 * uses: of the embeddings next to nothing, unless they are the output matrix too; of experts those
 * that independent rows would choose.  Of keys and values every sequence reads what its rows see.
 * Products are those with matrices, and attention's with keys and values; norms, rotations and
 * sums do not count. */
#include <math.h>

#include "app/bench_internal.h"
#include "base/num.h"
#include "model/gguf.h"

/* A test in steps of equal kind. */
typedef struct steps {
    double count;
    double rows; /* of one step */
    double rows_with_logits;
} steps;

static steps steps_of(const mem_plan *plan, const bench_test *t) {
    if (t->batch > 0) return (steps){t->tokens, t->batch, (double)t->tokens * t->batch};
    const uint32_t count = num_max_u32(num_div_up_u32(t->tokens, plan->rows_max), 1);
    return (steps){count, (double)t->tokens / count, 1};
}

/* --- weights -------------------- */

/* Of the experts of a layer, how many do `rows` rows leave alone? */
static double idle_experts(const model_experts *e, double rows) {
    if (e->count == 0) return 0;
    return e->count * pow(1 - (double)e->used / e->count, rows);
}

typedef double tensor_size(const model_tensor *t);

static double bytes_of(const model_tensor *t) { return (double)t->bytes; }
static double elems_of(const model_tensor *t) { return (double)t->rows * t->cols; }

/* Of one expert, over all layers. */
static double expert_size(const model *m, tensor_size *size) {
    double sum = 0;
    for (uint32_t i = 0; i < m->hparams.layers; i++) {
        const model_layer *l = &m->layers[i];
        const model_tensor *parts[] = {l->gate_exps.parts, l->up_exps.parts, l->down_exps.parts};
        for (int k = 0; k < 3; k++)
            if (parts[k] != NULL) sum += size(&parts[k][0]);
    }
    return sum;
}

/* Tables of which a row reads one line. */
static double table_size(const model *m, tensor_size *size) {
    double sum = model_has(&m->position_embd) ? size(&m->position_embd) : 0;
    return m->hparams.tied_output ? sum : sum + size(&m->token_embd);
}

static double head_products(const model *m) {
    if (m->hparams.tied_output) return elems_of(&m->token_embd);
    return model_has(&m->output.w) ? elems_of(&m->output.w) : 0;
}

static double weight_bytes(const model *m, double rows) {
    const double idle = idle_experts(&m->hparams.experts, rows);
    return (double)m->weight_bytes - table_size(m, bytes_of) - idle * expert_size(m, bytes_of);
}

/* Of one row without the head. */
static double weight_products(const model *m) {
    const double idle = idle_experts(&m->hparams.experts, 1);
    return (double)m->params - table_size(m, elems_of) - idle * expert_size(m, elems_of) -
           head_products(m);
}

/* --- attention -------------------- */

/* Sum of min(v, window) for v = from + 1 .. to; window 0 is none. */
static double sum_seen(double from, double to, double window) {
    const double full = window == 0 ? to : fmin(fmax(window, from), to);
    return (full * (full + 1) - from * (from + 1)) / 2 + (to - full) * window;
}

/* Tokens seen, over all layers, by the rows at positions from .. to - 1 of one sequence. */
static double seen_by_rows(const model *m, double from, double to) {
    const model_hparams *h = &m->hparams;
    if (h->is_encoder) return h->layers * to * to;
    double sum = 0;
    for (uint32_t i = 0; i < h->layers; i++) sum += sum_seen(from, to, m->layers[i].window);
    return sum;
}

static double kv_bytes_of_token_and_layer(const model *m, const mem_plan *plan) {
    const double tokens = (double)plan->kv_blocks * KV_BLOCK_TOKENS;
    return tokens > 0 ? (double)plan->kv_bytes / tokens / m->hparams.layers : 0;
}

/* Keys and values that are read: a generated row reads what it sees, and a step of a prompt once
 * what its last row sees. */
static double kv_bytes(const model *m, const mem_plan *plan, const bench_test *t) {
    const double unit = kv_bytes_of_token_and_layer(m, plan);
    if (t->batch > 0)
        return unit * t->batch * seen_by_rows(m, t->depth, (double)t->depth + t->tokens);
    double seen = 0;
    for (uint32_t end = 0; end < t->tokens;) {
        end += num_min_u32(t->tokens - end, plan->rows_max);
        for (uint32_t i = 0; i < m->hparams.layers; i++)
            seen += sum_seen(end - 1.0, end, m->layers[i].window);
    }
    return unit * seen;
}

static double attention_products(const model *m, const bench_test *t) {
    const model_hparams *h = &m->hparams;
    const double of_pair = (double)h->heads * ((double)h->head_dim + h->value_dim);
    return of_pair * num_max_u32(t->batch, 1) *
           seen_by_rows(m, t->depth, (double)t->depth + t->tokens);
}

/* --- together -------------------- */

bench_cost bench_cost_of(const model *m, const mem_plan *plan, const bench_test *t) {
    const steps s = steps_of(plan, t);
    const double states = plan->seats > 0 ? (double)plan->state_bytes / plan->seats : 0;
    const double sequences = num_max_u32(t->batch, 1);
    return (bench_cost){
        .bytes = s.count * (weight_bytes(m, s.rows) + sequences * states) + kv_bytes(m, plan, t),
        .products = s.count * s.rows * weight_products(m) + s.rows_with_logits * head_products(m) +
                    attention_products(m, t),
    };
}

roof_arith bench_arith_of(const model *m) {
    const gguf *g = model_gguf(m);
    uint64_t bytes[ROOF_ARITH_COUNT] = {0};
    roof_arith most = ROOF_FLOAT;
    for (uint32_t i = 0; i < gguf_tensor_count(g); i++) {
        const gguf_tensor *t = gguf_tensor_get(g, i);
        const dtype_info *info = dtype_get(t->type);
        bytes[info->block_elems > 1  ? ROOF_INTEGER
              : t->type == DTYPE_F32 ? ROOF_FLOAT
                                     : ROOF_HALF] += t->bytes;
    }
    for (int i = 0; i < ROOF_ARITH_COUNT; i++)
        if (bytes[i] > bytes[most]) most = (roof_arith)i;
    return most;
}

machine_figure bench_figure_of(const bench *b, bool fast, bool quantized, uint32_t *digits) {
    const uint32_t parts = fast ? 1 : 2;
    machine_figure best = MACHINE_F32;
    double rate = b->figures[MACHINE_F32];
    *digits = 1;
    for (machine_figure f = MACHINE_AVX512_BF16; fast && f <= MACHINE_AMX_BF16; f++) {
        if (b->figures[f] <= rate) continue;
        best = f;
        rate = b->figures[f];
    }
    if (!quantized) return best;
    for (machine_figure f = MACHINE_INT8; f <= MACHINE_AMX_INT8; f++) {
        if (b->figures[f] / parts <= rate) continue;
        best = f;
        rate = b->figures[f] / parts;
        *digits = parts;
    }
    return best;
}

machine_figure bench_ops_figure(const bench *b, const bench_test *t, uint32_t *digits) {
    const bool prompt = t->batch == 0 && !t->is_exact;
    const roof_arith arith = bench_arith_of(b->model);
    const bool fast =
        prompt && arith != ROOF_FLOAT && str_eq(str_of(b->report.numerics), S("fast"));
    return bench_figure_of(b, fast, arith == ROOF_INTEGER, digits);
}
