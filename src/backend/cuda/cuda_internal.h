/* cuda_internal.h - what the files of the CUDA backend share: one program on one GPU.
 *
 *   cuda_plan.c     where everything lies on the device, before there is any of it
 *   cuda_lower*.c   the program's ops as launches of kernels, with addresses
 *   cuda_load.c     weights and constants on their way there
 *   cuda_step.c     a step: one upload, the launches, what is wanted of the results
 *   cuda_draw.c     what its tokens are drawn by, and the answer
 *   cuda_adapter.c  adapters on their way there and back, and what a step says of them
 *   cuda_queue.c    the launches, one by one or as a graph
 *   cuda_overlap.c  whether each may start while the one ahead of it ends
 *   cuda_peer.c     rows that another GPU has left
 *   cuda_profile.c  the time of each launch
 *   cuda_elsewhere.c experts that the CPU computes
 *
 * Memory of an instance, each part one allocation for as long as it lives:
 *
 *   weights    planes of the matrices (cuda_planar.h), every distinct one once
 *   workspace  | values, as the program lays them out | codes | sums | rope tables |
 *              | descriptor | answer | rules, changes and masks of drawn rows
 *              | their log-probabilities |
 *              | uses of adapters | parts of argmax | parts of attention, or x . A^T of adapters |
 *              | pairs of rows and experts, their tiles | rows for another GPU | constants |
 *              | matrices of experts |
 *   adapters   each its own, from when it is added until it is dropped
 *   kv, states as the engine asks for them
 *
 * Owner: the engine; calls from one thread at a time. */
#ifndef BACKEND_CUDA_INTERNAL_H
#define BACKEND_CUDA_INTERNAL_H

#include <stdatomic.h>

#include "abi.h"
#include "backend/backend.h"
#include "backend/cuda/cuda_attention.h"
#include "backend/cuda/cuda_device.h"
#include "backend/cuda/cuda_memory.h"
#include "backend/cuda/cuda_planar.h"
#include "backend/cuda/cuda_probe.h"
#include "backend/cuda/cuda_profile.h"
#include "backend/cuda/cuda_stage.h"
#include "base/num.h"

/* --- where everything lies: offsets into the arenas -------------------- */

typedef struct cuda_weight {
    const weight *w; /* borrowed, the program's */
    ck_form form;
    cuda_conversion how;
    uint64_t planes[CK_PLANES_MAX]; /* into the arena of weights */
} cuda_weight;

/* Numbers of the model that kernels read as they are: gains, biases, frequencies. */
typedef struct cuda_constant {
    const void *data; /* borrowed, the program's */
    uint64_t bytes;
    uint64_t at; /* into the workspace */
} cuda_constant;

/* The ck_matrix of each expert of an op. */
typedef struct cuda_matrices {
    uint32_t op_idx;
    uint64_t at; /* into the workspace */
} cuda_matrices;

/* Cosines and sines of the positions of a step, made once for all ops that turn by them. */
typedef struct cuda_rope {
    const double *freqs; /* borrowed, the program's */
    uint32_t pairs;
    float magnitude;
    uint64_t at; /* f32 [rows, pairs, 2], into the workspace */
} cuda_rope;

/* The step's descriptor: offsets from its beginning, the same on the host and on the device. */
typedef struct cuda_descriptor {
    uint64_t counts;        /* ck_counts */
    uint64_t tickets;       /* u32 [head], 0: for k_argmax to count in */
    uint64_t splits;        /* ck_splits: rows that several blocks of k_attention share */
    uint64_t split_tickets; /* u32 [split rows, groups], 0: for these to count in */
    uint64_t slots;         /* u32 [rows] of the splits */
    uint64_t ids;           /* u32 [rows] */
    uint64_t pos;           /* u32 [rows] */
    uint64_t tables_of;     /* u32 [rows] the row of `tables` that is the row's sequence's */
    uint64_t seen;          /* u32 [rows] tokens that a row sees of its sequence, when causal */
    uint64_t whole;         /* u32 [rows] and when it is not */
    uint64_t taken;         /* u32 [taken] */
    uint64_t head;          /* u32 [head] */
    uint64_t runs;          /* ck_run [sequences] */
    uint64_t tables;        /* u32 [sequences, table_stride]; last: only what is used is sent */
    uint32_t table_stride;
    uint32_t sequences;  /* of a step, at most */
    uint32_t split_rows; /* of a step, at most */
    uint64_t bytes;
} cuda_descriptor;

/* What rows are drawn by, sent in steps that draw: offsets as above. */
typedef struct cuda_sample {
    uint64_t rules;   /* sample_rule [head] */
    uint64_t changes; /* sample_change [changes_max]; sent with the rules, as far as it is used */
    uint64_t masks;   /* u32 [head, mask_words]; sent apart, likewise */
    uint32_t changes_max;
    uint32_t mask_words; /* of a row */
    uint64_t bytes;      /* 0 where there are no logits */
} cuda_sample;
_Static_assert(sizeof(sample_rule) == 56 && sizeof(sample_change) == 16, "kernel ABI");
_Static_assert(sizeof(sample_logprobs) == sizeof(uint64_t) * (1 + SAMPLE_TOP_MAX), "kernel ABI");

/* What k_group leaves of the experts that rows use: one place for all layers, each of which writes
 * it anew.  Offsets into the workspace. */
typedef struct cuda_groups {
    uint64_t pairs_at, tiles_at, tiles_count_at;
} cuda_groups;

/* Which rows of a step use which adapters, sent in steps that have such rows: offsets as above. */
typedef struct cuda_lora {
    uint64_t counts;      /* u32 [3] segments, by row_set */
    uint64_t segments[3]; /* ck_lora_segment [rows of the set], by row_set */
    uint64_t mixes;       /* ck_lora_mix [rows]; last: only what is used is sent */
    uint64_t bytes;       /* 0 where nothing can be adapted */
} cuda_lora;
_Static_assert((int)CK_LORA_USES_MAX == (int)LORA_PER_ROW_MAX, "kernel ABI");

typedef struct cuda_layout {
    const program *p;     /* borrowed */
    cuda_weight *weights; /* owned; [weights_count] */
    uint32_t weights_count, weights_cap;
    uint32_t *op_weights;     /* owned; [ops_count] the op's weight, or the first of its experts */
    cuda_constant *constants; /* owned; [constants_count] */
    uint32_t constants_count, constants_cap;
    cuda_matrices *matrices; /* owned; [matrices_count] */
    uint32_t matrices_count, matrices_cap;
    cuda_rope *ropes; /* owned; [ropes_count] */
    uint32_t ropes_count, ropes_cap;
    cuda_descriptor desc;
    cuda_sample sample;
    cuda_lora lora;
    uint64_t sample_at;                  /* into the workspace */
    uint64_t logprobs_at;                /* sample_logprobs [head], likewise */
    uint64_t lora_at, lora_mid_at;       /* into the workspace */
    uint64_t lora_mid_stride;            /* floats of x . A^T of one product, of all rows */
    uint64_t codes_at, sums_at, desc_at; /* into the workspace; that of values is 0 */
    uint64_t answer_at; /* likewise: u32, 0 as long as all is well, else 1 + the row whose token or
                           position is in no table; then u32 [head] ids that the step found or drew,
                           which the next step may read.  Both come down at once */
    uint64_t parts_at;  /* u64 [head, blocks of a row], of k_argmax */
    uint64_t splits_at; /* what blocks of k_attention leave for the last */
    cuda_groups groups; /* of rows of prompts, where these are computed apart, ... */
    cuda_groups few_groups; /* ... and of the others */
    uint64_t given_at;      /* f32 [rows, n_embd] where program.goes_on: hidden states of all
                          micro-batches of a step, for another GPU to take */
    uint64_t gated_codes_at, gated_sums_at; /* of one row: k_gemvt_* reads and writes codes */
    uint64_t tickets_at;                    /* u32 [tickets], 0 between launches: of k_gemvt_* */
    uint32_t tickets;
    uint64_t weights_bytes, workspace_bytes;
    uint64_t input_bytes; /* pinned, for what op INPUT takes; 0 without it */
    uint64_t hidden_bytes, logits_bytes, answer_bytes; /* pinned, for the results */
    uint64_t answer_logprobs; /* where in the answer sample_logprobs [head] are */
} cuda_layout;

/* ERR_UNSUPPORTED names the op and the tensor that cannot be computed. */
NODISCARD status cuda_layout_init(cuda_layout *l, const program *p, error *err);
void cuda_layout_deinit(cuda_layout *l); /* harmless when zeroed */

/* Where the device multiplies BF16 on no tensor cores: matrices that prompts are multiplied with
 * become F16, if they can (cuda_halves.c).  All offsets and sizes stay. */
void cuda_layout_halve(cuda_layout *l, const cuda_device *d);
/* May this matrix of BF16 be F16, and what does that make of it? */
bool cuda_halves_fit(const weight *w, cuda_conversion *how);

/* Offsets of what the program points to; all of it was found by cuda_layout_init(). */
uint64_t cuda_constant_at(const cuda_layout *l, const void *data, uint64_t bytes);
const cuda_rope *cuda_rope_of(const cuda_layout *l, const op_rope *rope);
uint64_t cuda_matrices_at(const cuda_layout *l, uint32_t op_idx);

/* The weight of an op; of EXPERTS the first one's, all of which have its form. */
static inline const cuda_weight *cuda_weight_of(const cuda_layout *l, uint32_t op_idx) {
    return &l->weights[l->op_weights[op_idx]];
}

/* Its planes, where the arena of weights begins at `base`. */
ck_matrix cuda_matrix(const cuda_weight *placed, cu_ptr base);

/* Are products with weights of this form made from 8-bit activations? */
static inline bool cuda_form_is_quantized(ck_form form) { return form >= CK_FORM_Q8_0; }

/* The output matrix gets its activations in pairs of codes, 15 bits: its errors are in the logits
 * as they are, nothing behind it evens them out. */
static inline bool cuda_in_pairs(const cuda_layout *l, uint32_t op_idx) {
    const op *o = &l->p->ops[op_idx];
    return o->kind == OP_MATMUL && l->p->values[o->out].rows == ROWS_HEAD &&
           cuda_form_is_quantized(cuda_weight_of(l, op_idx)->form);
}

static inline cuda_attention_cut cuda_attention_cut_of_op(const op *o) {
    const op_attention *t = &o->attn;
    return cuda_attention_cut_of(t->heads, t->kv_heads, t->key_dim, t->value_dim);
}

/* Splits of a row that there is room for. */
static inline uint32_t cuda_attention_splits_room(const program *p, const cuda_attention_cut *cut) {
    return cuda_attention_splits(cut, p->max.ctx);
}

/* Blocks of k_argmax for each row of logits; 0 where there are none. */
static inline uint32_t cuda_argmax_blocks(const program *p) {
    if (p->logits == VALUE_NONE) return 0;
    return num_div_up_u32(p->values[p->logits].cols, CK_ARGMAX_COLS);
}

/* --- a program as launches -------------------- */

/* What a step decides of a grid. */
typedef enum cuda_grid {
    CUDA_GRID_ROWS_X,     /* (rows, 1) */
    CUDA_GRID_ROWS_Y,     /* (width, rows) */
    CUDA_GRID_RUNS_Y,     /* (width, runs) */
    CUDA_GRID_SEGMENTS_Y, /* (width, segments of rows that have adapters) */
    CUDA_GRID_SPLIT_Y     /* (width, rows, and the further blocks of those that are shared) */
} cuda_grid;

/* Steps that a launch is for: all; those of one row, which go on with what is the next launch for
 * others; those with a row of batch.best, of batch.samples, of such that want log-probabilities;
 * those with rows of prompts, and those with `skinny_from` others or more: one row of blocks
 * whatever their number. */
typedef enum cuda_when {
    CUDA_ALWAYS,
    CUDA_FOR_ONE_ROW,
    CUDA_FOR_MANY_ROWS,
    CUDA_WHEN_BEST,
    CUDA_WHEN_SAMPLED,
    CUDA_WHEN_LOGPROBS,
    CUDA_WHEN_PROMPTS,
    CUDA_WHEN_CROWDED
} cuda_when;

/* Parts of the arguments that are known when the first batch comes, and may change with a batch. */
typedef enum cuda_patch { CUDA_PATCH_NONE, CUDA_PATCH_KV, CUDA_PATCH_STATE } cuda_patch;

typedef struct cuda_launch_entry {
    cuda_kernel_id kernel; /* CUDA_KERNEL_COUNT: a call of the host, cuda_elsewhere.c */
    cuda_kernel_id many;   /* instead of it when there is more than one row ... */
    uint32_t many_rows;    /* ... with so many to a block */
    cuda_grid grid;
    cuda_when when;
    row_set rows;
    uint32_t width;
    uint32_t per_row; /* blocks along rows for each of them: 1, or the used experts */
    cuda_kernel_id skinny;
    uint32_t skinny_tiles; /* > 0: `skinny` with so many blocks along w instead of both, ... */
    uint32_t skinny_rows;  /* ... with so many rows to a block, ... */
    uint32_t skinny_from;  /* ... from so many rows on; the bits are the same */
    uint32_t
        skinny_experts; /* > 0: so many have these rows, per_row each, and `skinny_rows` are the
                                pairs of a tile of k_group */
    bool no_prompts;    /* rows of prompts have nothing to do with it; as prompt_tiles says of
                                products */
    cuda_kernel_id prompt;
    uint32_t
        prompt_tiles; /* > 0: `prompt` with so many blocks along w, or heads of the cache, computes
                              the rows of prompts, `kernel` and `many` those that were generated */
    uint32_t prompt_experts; /* > 0: so many have these rows, per_row each, in tiles of k_group */
    uint32_t prompt_queries; /* attention that has such a kernel for all caches but F32: query
                                heads of a head of the cache; else 0 */
    uint32_t prompt_tile;    /* rows times these that its blocks have */
    uint32_t prompt_shared_bytes;
    uint32_t shared_bytes;
    uint32_t args_at, args_bytes; /* into cuda_lowered.args */
    cuda_patch patch;
    uint16_t layer;
} cuda_launch_entry;

/* Of a call of the host what goes there and comes back. */
static inline const char *cuda_launch_name(cuda_kernel_id kernel) {
    return kernel == CUDA_KERNEL_COUNT ? "to the CPU and back" : cuda_kernel_name(kernel);
}

/* Rows from which on a product with quantized weights is made on tensor cores; one of the output
 * matrix, whose rows are pairs of codes (docs/gpu.md). */
enum { CUDA_SKINNY_FROM = 5, CUDA_SKINNY_FROM_PAIRS = 3 };

static const uint32_t CUDA_NO_LAUNCH = UINT32_MAX;

/* Launches of steps in which no row has adapters, then those of steps in which some have. */
struct cuda_lowered {
    cuda_launch_entry *launches; /* owned; [count] */
    uint32_t count, cap;
    uint32_t plain_count;   /* of the first kind */
    uint32_t count_for_one; /* of these in a step of one row, without those behind the logits */
    uint32_t *op_launches;  /* owned; [op_maps, ops_count] the launch that computes it in steps of
                               many rows, and of one; or CUDA_NO_LAUNCH */
    uint32_t op_maps;       /* 2, or with launches for adapters 4 */
    uint8_t *args;          /* owned; [args_bytes] */
    size_t args_bytes, args_cap;
    uint32_t ops_fused, ops_unfused;
    uint32_t prompt_products;   /* launches with a kernel for prompts: products, ... */
    uint32_t prompt_attentions; /* ... attention */
};

/* Are rows of prompts computed apart from those that were generated? */
static inline bool cuda_lowered_has_prompts(const cuda_lowered *l) {
    return l->prompt_products + l->prompt_attentions > 0;
}

/* Where the arenas begin; what batches bring is patched in later. */
typedef struct cuda_bases {
    cu_ptr weights, workspace;
} cuda_bases;

/* What the rows of prompts get in mode `fast`. */
typedef struct cuda_prompts {
    const cuda_device *on; /* whose kernels for them are used, where it has them; NULL: all rows are
                              computed alike */
    dtype kv;              /* of the cache */
} cuda_prompts;

NODISCARD status cuda_lower(cuda_lowered *out, const cuda_layout *l, cuda_bases bases,
                            cuda_prompts prompts, error *err);
void cuda_lowered_deinit(cuda_lowered *l); /* harmless when zeroed */

/* --- graphs -------------------- */

enum {
    CUDA_GRAPH_SIZES = 7,  /* up to 1, 2, 4 ... 64 rows */
    CUDA_GRAPH_SPANS = 5,  /* up to 0, 4, 16, 64, 256 further blocks of k_attention */
    CUDA_GRAPH_KINDS = 16, /* cuda_graph_kind() */
};

typedef struct cuda_graph {
    cu_graph_exec exec; /* NULL: not recorded */
    uint64_t steps;     /* of its size, so far */
} cuda_graph;

typedef struct cuda_graphs {
    cuda_graph of[CUDA_GRAPH_SIZES][CUDA_GRAPH_SPANS][CUDA_GRAPH_KINDS];
    bool refused; /* none is made: not wanted, or the driver would not */
} cuda_graphs;

/* --- the instance -------------------- */

/* An adapter that is there: ck_lora_pair [lora_slots], then matrices, as one allocation. */
typedef struct cuda_adapter {
    const lora_pair *pairs; /* borrowed; by which batches name it */
    cuda_arena memory;
    struct cuda_adapter *next; /* owned */
} cuda_adapter;

/* At most so many are queued at a time: one is computed, and the next one is behind it. */
enum { CUDA_STEPS_MAX = 2 };

/* The pinned memory of a step: what goes up, and the answer.  The host writes that of the next step
 * while copies of this one may still be on their way. */
typedef struct cuda_staging {
    cuda_pinned desc, sample, lora;
    cuda_pinned answer; /* the layout's, behind it sample_logprobs [head] */
    uint32_t rows;
    uint32_t taken_rows;
    uint32_t head_rows;
    batch_before before;
    bool tokens;      /* the answer has ids, */
    bool logprobs;    /* and log-probabilities */
    bool draws_later; /* cuda_draw() queues what draws, and then the answer */
    error fault;      /* code OK: it was queued */
} cuda_staging;

/* What a HOST of the device's program reads and makes: normed rows, the choice, sums. */
enum { CUDA_ELSEWHERE_BLOCKS = 3 };

typedef struct cuda_elsewhere_args {
    cu_ptr at[CUDA_ELSEWHERE_BLOCKS];
    uint32_t cols[CUDA_ELSEWHERE_BLOCKS];
    uint32_t idx; /* among the layers of the device's program */
} cuda_elsewhere_args;

struct cuda_elsewhere_gate;

/* What a call of the driver's is about. */
typedef struct cuda_elsewhere_layer {
    struct cuda_elsewhere_gate *gate; /* borrowed */
    uint32_t layer;                   /* of the host's program */
    uint32_t cols;                    /* of the sums */
    bool is_last;                     /* of a step */
    uint64_t ns;                      /* that the host needed in the last step */
} cuda_elsewhere_layer;

/* What the host has to know of a step. */
typedef struct cuda_elsewhere_step {
    uint32_t rows;
    bool *prompt; /* owned; [rows of the program] */
} cuda_elsewhere_step;

typedef struct cuda_elsewhere {
    program *device, *host;           /* owned; NULL where somebody else has split the program */
    struct host_experts *own;         /* owned; likewise */
    struct host_experts *experts;     /* own, or whoever's; NULL: all experts are on the device */
    struct cuda_elsewhere_gate *gate; /* owned, unless it is left behind */
    cuda_pinned pinned[CUDA_ELSEWHERE_BLOCKS];
    cuda_elsewhere_step steps[CUDA_STEPS_MAX]; /* of step i number i % CUDA_STEPS_MAX */
    uint64_t steps_done;                       /* by the host; only its calls look at it */
} cuda_elsewhere;

struct backend {
    const program *p; /* borrowed, or elsewhere.device */
    cuda_elsewhere elsewhere;
    cuda_probe_report report; /* has the driver's functions */
    cuda_device dev;
    cuda_layout layout;
    cuda_lowered lowered;
    cuda_graphs graphs;
    cuda_arena weights, workspace, kv, states;
    cuda_pinned input, hidden, logits;
    cuda_staging staging[CUDA_STEPS_MAX]; /* of step i number i % CUDA_STEPS_MAX */
    uint64_t steps_begun, steps_ended;
    cu_event first_done;    /* recorded behind the first of two steps */
    cuda_pinned kv_host;    /* copies of blocks of the KV cache */
    size_t kv_host_bytes;   /* of one of them */
    bool kv_moved;          /* blocks are on their way: the next step waits for them */
    uint32_t *row_mixes;    /* owned; [rows] the mix of each row of a step; NULL without adapters */
    cuda_adapter *adapters; /* owned */
    uint64_t device_bytes_max; /* 0: what is free */
    uint64_t adapter_bytes;    /* of adapters that the plan left room for */
    bool loaded;
    struct backend *source; /* borrowed; whose hidden states op INPUT takes; NULL: the host's */
    bool no_peers;          /* by way of the host always, ... */
    bool is_direct;         /* ... or else from its memory to ours, which no host sees */
    bool keeps_hidden;      /* somebody takes ours so: they do not come to the host */
    kv_layout kv_layout;    /* what the launches are patched for */
    const void *kv_blocks;
    const float *state_memory;
    bool patched;
    cuda_profile profile;
    error fault; /* of the step that failed; code OK: none */
};

/* Where an offset into the workspace is. */
static inline cu_ptr cuda_at(const backend *b, uint64_t offset) {
    return b->workspace.base + offset;
}

/* cuda_load.c */
NODISCARD status cuda_load(backend *b, const backend_progress *progress, error *err);

/* cuda_peer.c */
NODISCARD status cuda_link(backend *b, backend *from, error *err);
/* Queue the copy of what op INPUT takes in a step. */
void cuda_take_input(backend *b, const batch *in);
/* Where somebody takes our hidden states: queue the copy to where they stay. */
void cuda_give_hidden(backend *b, const batch *in);

/* cuda_elsewhere.c; all but the first two do nothing where all experts are on the device. */
uint64_t cuda_elsewhere_pinned_bytes(const program *device);
NODISCARD status cuda_elsewhere_split(cuda_elsewhere *e, const program *p, uint32_t layers,
                                      error *err);
NODISCARD status cuda_elsewhere_open(backend *b, const backend_options *opt, error *err);
void cuda_elsewhere_close(backend *b);
/* Of the host's share, and all that loading tells of. */
uint64_t cuda_elsewhere_load_bytes(const backend *b);
NODISCARD status cuda_elsewhere_load(backend *b, const backend_progress *progress, uint64_t all,
                                     error *err);
void cuda_elsewhere_begin(backend *b, const batch *in); /* the step that is queued next */
void cuda_elsewhere_queue(backend *b, const cuda_launch_entry *entry, uint32_t n); /* of n rows */
void cuda_elsewhere_report(const backend *b, backend_report *out);
NODISCARD status cuda_elsewhere_profile(backend *b, bool on, error *err);
void cuda_elsewhere_settle(backend *b); /* the profile of a step */
uint32_t cuda_elsewhere_profiled(const backend *b, backend_profile *out);

/* cuda_kv_host.c: see backend_ops. */
NODISCARD status cuda_kv_host(backend *b, size_t block_bytes, uint32_t blocks, error *err);
void cuda_kv_save(backend *b, const kv_move *moves, uint32_t count);
void cuda_kv_load(backend *b, const kv_move *moves, uint32_t count);
/* What is queued on `compute` from now on finds the blocks where they were moved to. */
void cuda_kv_arrive(backend *b);
void cuda_kv_host_close(backend *b); /* harmless without */

/* Of the step that is being described. */
static inline cuda_staging *cuda_staged(backend *b) {
    return &b->staging[b->steps_begun % CUDA_STEPS_MAX];
}

/* cuda_step.c: see backend_ops. */
step_result cuda_step(backend *b, const batch *in);
void cuda_begin(backend *b, const batch *in);
step_result cuda_end(backend *b);
/* Wait for what was begun and not ended; its results are lost. */
void cuda_abandon(backend *b);

/* Rows of a step as grids see them. */
typedef struct cuda_step_rows {
    uint32_t of[3]; /* row_set */
    uint32_t runs;
    uint32_t prompt_runs; /* of them, those with rows of prompts */
    uint32_t further;     /* blocks of k_attention beside one for each row */
    uint32_t generated;   /* of all rows, those that are not of prompts */
    bool best;            /* of some head rows only the best is wanted */
    bool sampled;         /* of some a drawn token, by orders that are known ... */
    bool logprobs;        /* ... and of some of these log-probabilities */
    bool adapted;         /* some rows have adapters ... */
    uint32_t segments[3]; /* ... and these are so many pieces of each row_set */
} cuda_step_rows;

/* Steps that have the same launches. */
static inline uint32_t cuda_graph_kind(const cuda_step_rows *rows) {
    return (rows->best ? 1 : 0) + (rows->sampled ? 2 : 0) + (rows->adapted ? 4 : 0) +
           (rows->logprobs ? 8 : 0);
}

/* cuda_draw.c.  Samples [head_rows] of the step that `s` is about, NULL where a row has none; or
 * NULL. */
bool cuda_has_samples(const sample_order *const *samples, uint32_t head_rows);
/* Queues what launches read of them, and says which launches there are. */
void cuda_send_samples(backend *b, cuda_staging *s, const sample_order *const *samples,
                       cuda_step_rows *rows);
/* Queue the copy of the answer. */
void cuda_fetch_answer(backend *b, const cuda_staging *s, const sample_order *const *samples);
void cuda_draw(backend *b, const sample_order *const *samples); /* see backend_ops */
static inline sample_logprobs *cuda_logprobs_of(const backend *b, const cuda_staging *s) {
    return (sample_logprobs *)(void *)((char *)s->answer.host + b->layout.answer_logprobs);
}

/* cuda_adapter.c: see backend_ops. */
uint64_t cuda_adapter_bytes(const program *p, const lora_pair *pairs);
NODISCARD status cuda_adapter_add(backend *b, const lora_pair *pairs, error *err);
void cuda_adapter_drop(backend *b, const lora_pair *pairs);
void cuda_adapters_close(backend *b); /* all of them */
/* Has any row of this batch an adapter? */
bool cuda_has_adapters(const backend *b, const batch *in);
/* Queues what launches read of them, and counts the segments. */
void cuda_send_adapters(backend *b, const batch *in, uint32_t segments[3]);

/* cuda_queue.c.  Failures are the device's. */
void cuda_queue_launches(backend *b, const cuda_step_rows *rows);
/* Those that draw alone, behind the others of a step that draws later. */
void cuda_queue_drawing(backend *b, const cuda_step_rows *rows);
/* To be called before arguments of launches change, and before the device is closed. */
void cuda_graphs_drop(backend *b);

#endif
