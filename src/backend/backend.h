/* backend.h - what executes a program.
 *
 * A backend knows ops, weights and KV blocks; it knows no model.  One instance runs one
 * program.  Owner: the engine; all calls from the engine thread.
 *
 * Numerics.  What a row computes depends only on (weight type, instruction-set class,
 * mode), never on how many rows are in the batch, which rows they are, how a prompt was
 * cut into chunks or how many threads work.  In mode `exact` all rows are computed alike; in mode
 * `fast` the rows of a prompt (batch.prompt) are rounded more coarsely than those that were
 * generated, and these may be summed up in another order.  ref is always exact.
 * Tolerances of cpu against ref, on unit-variance inputs:
 *   quantized weights    normalised mean squared error 1e-8 (activations rounded to 16 bits
 *                        per block of 32); prompts in mode fast 1e-4 (8 bits)
 *   F32, F16, BF16, rows dequantized to f32
 *                        1e-11 (f32 accumulation; the weights are read exactly); with AVX512-BF16
 *                        or AMX prompts with F16 and BF16 in mode fast 1e-4 (both in bf16)
 *   attention            1e-11 (f32 accumulation); with AVX512-BF16 or AMX prompts in mode fast
 *                        3e-5 (queries, keys, values and probabilities in bf16), where keys are
 *                        whole 32 elements and values whole 16
 * of cuda against ref:
 *   quantized weights    1e-4 (activations rounded to 8 bits per block of 32, whole sums; those
 *                        of the output matrix to 15 bits); prompts in mode fast the same, in
 *                        another order of sums
 *   F32, F16, BF16       1e-6 (f32 accumulation), also of types that are stored as F16 there, as
 *                        is BF16 in mode fast on cards before 8.0 where 1e-9 of a matrix' square
 *                        is all that this can take; prompts in mode fast 1e-4 (activations in the
 *                        type of the weights, but for F32 and what stays BF16 on such cards);
 *                        generated rows in mode fast 1e-6 on tensor cores, with activations as sums
 *                        of numbers of that type, those beyond 65504 becoming that with F16
 *   attention            1e-11 (f32 accumulation); prompts in mode fast 1e-6 (queries, keys, values
 *                        and probabilities in f16) with a cache of F16, Q8_0 or Q4_0, where keys
 *                        and values are whole 16 elements, 576 and 512 at most
 *   what adapters add    1e-11 (f32 activations and accumulation, matrices read exactly), also in
 *                        prompts
 *   experts on the host  as cpu against ref: what is rounded, and when, is cpu's (host_experts) */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/batch.h"
#include "backend/program.h"
#include "backend/roofline.h"
#include "base/error.h"

typedef struct backend backend;

typedef enum cpu_isa {
    CPU_ISA_AUTO,
    CPU_ISA_SCALAR,
    CPU_ISA_AVX2,
    CPU_ISA_AVX512,
    CPU_ISA_AMX,
    CPU_ISA_NEON
} cpu_isa;

enum { BACKEND_DEVICES_MAX = 8, BACKEND_PARTS_MAX = 1 + BACKEND_DEVICES_MAX };

/* What one of several devices computes. */
typedef struct backend_share {
    const char *device; /* as in backend_options; borrowed */
    uint32_t layers;    /* 1.. */
    uint64_t available; /* likewise */
    uint64_t bytes_max;
} backend_share;

typedef struct backend_options {
    uint32_t threads;   /* >= 1, the calling thread included */
    cpu_isa isa_cap;    /* the cpu backend uses the best class up to this one */
    bool fast;          /* mode `fast` for the rows of prompts, where the backend has one */
    dtype kv_type;      /* of the cache that batches bring: what prompts get in mode `fast` may
                           depend on it, and another one is computed as in `exact` */
    const char *device; /* a GPU by number or UUID; NULL: the first that can be used; borrowed */
    uint64_t device_bytes_max; /* of its memory we may take this much; 0: what is free */
    uint64_t adapter_bytes;    /* of it, left for adapters added before the first step */
    uint64_t device_available; /* what plan() said of it before (backend_memory); 0: it asks */
    bool no_graphs;            /* of a GPU: every step is launched kernel by kernel */
    bool no_pdl;               /* of a GPU: no kernel starts before the one ahead of it ended */
    bool no_peers;             /* link() finds no shorter way */
    bool no_micro_batches;     /* backend_split: one part after the other computes all rows */
    uint32_t micro_rows;       /* likewise: rows of a micro-batch at least; 0: as many as pay */
    /* Of GPUs without host_layers: the routed experts of the first so many layers that have any
     * are computed on the host, by backend_cpu. */
    uint32_t host_experts;
    /* backend_cuda, whose program is without some already: who computes them, and which of that
     * one's layers is the program's first; borrowed, outlives the instance.  NULL: nobody */
    struct host_experts *experts;
    uint32_t experts_first;
    /* backend_split: the first so many layers are the CPU's, the next ones those of the first
     * share, and so on.  All of them together are the program's. */
    uint32_t host_layers; /* 0: none */
    uint32_t shares_count;
    backend_share shares[BACKEND_DEVICES_MAX];
} backend_options;

/* How products with weights of a type are computed: from the stored form, from a copy that is
 * made when the backend is loaded, from rows that are turned into f32 first, once per step
 * whatever the number of activation rows; on a device from planes of the same bits, or of another
 * type that the weights are turned into when they are loaded. */
typedef enum backend_path {
    BACKEND_PATH_NATIVE,
    BACKEND_PATH_REPACKED,
    BACKEND_PATH_ROWS,
    BACKEND_PATH_PLANAR,
    BACKEND_PATH_CONVERTED
} backend_path;

/* "native", "repacked", "rows dequantized to f32", "planar rows", "converted" */
const char *backend_path_name(backend_path path);

enum { BACKEND_WHAT_BYTES = 96 };

typedef struct backend_report {
    char what[BACKEND_WHAT_BYTES]; /* "cpu avx2", "cuda sm_75 x2 + cpu avx2" */
    const char *numerics;          /* "exact" or "fast" */
    uint32_t tasks;                /* parallel phases per step */
    uint32_t ops_fused;            /* primitives that run inside another one's phase */
    uint32_t ops_unfused;
} backend_report;

/* Bytes of an instance, or of a part of it, besides the weights as they are stored, and the KV
 * cache. */
typedef struct backend_memory {
    size_t workspace;
    size_t repacked;    /* copies of weights on the host */
    uint64_t replaced;  /* of the stored weights: no product reads them once the copies are made */
    bool on_device;     /* workspace, weights, KV cache and states are memory of a device */
    uint64_t weights;   /* bytes of weights there; 0 on the host */
    uint64_t available; /* on_device: what all of them may take together */
    uint64_t pinned;    /* on_device: of the host's memory, for what goes there and comes back */
    char device[64];    /* on_device: its name */
    int ordinal;        /* on_device: its number, which devices of one name are told apart by */
    /* Of a part: */
    uint32_t layers; /* that it computes */
    uint64_t stored; /* bytes of its weights as they are stored */
    uint64_t states; /* of a sequence */
} backend_memory;

/* How far a long operation has come; false: stop.  Called on the caller's thread. */
typedef struct backend_progress {
    bool (*tell)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
} backend_progress;

/* Valid until the next step begins.  Rows of batch.best and batch.samples have their place in
 * `hidden` and `logits`, and nothing of use there: on a device it is not even copied to the host.
 */
typedef struct step_result {
    const float *hidden; /* [taken_rows, n_embd] after the last norm */
    const float *logits; /* [head_rows, vocab]; NULL where the program has no head */
    const int32_t *best; /* [head_rows] ids, of the rows of batch.best and batch.samples; NULL
                            without such rows */
    const sample_logprobs *logprobs; /* [head_rows] of the rows whose rule of batch.samples wants
                                        them; NULL without such rows */
    uint32_t micro_batches; /* that the step was cut into, so that several parts compute at a time;
                               0: it was not cut */
    const error *fault;     /* NULL: all went well.  Else there are no results, and this instance
                            never steps again: it can only be closed; the backend's */
} step_result;

enum { BACKEND_TASK_OPS_MAX = 8, BACKEND_LIMIT_NAME_BYTES = 32 };

/* What a step does at a time: a phase of the CPU, a kernel of a device. */
typedef struct backend_task {
    const char *name; /* static */
    uint32_t ops[BACKEND_TASK_OPS_MAX];
    uint32_t ops_count; /* 0: work that is the backend's own, no op of the program */
    bool ran;           /* in the last step */
    bool halves;        /* no product, and yet of prompts in mode fast computed as those are */
    uint64_t ns;
    roof_work work; /* of its ops */
} backend_task;

/* Per second; 0: not known. */
typedef struct backend_limit {
    uint64_t per_s;
    char name[BACKEND_LIMIT_NAME_BYTES]; /* what it was made of */
} backend_limit;

/* The last step of a program on one device, or of a part of it.  Each op is in one task. */
typedef struct backend_profile {
    char where[32]; /* "cpu avx2", "cuda sm_75" */
    const program *p;
    const backend_task *tasks; /* [count] in the order they run; valid until the next step */
    uint32_t count;
    uint64_t ns; /* from its begin to its results, with all that is no task */
    backend_limit bytes;
    backend_limit ops[ROOF_ARITH_COUNT];
} backend_profile;

struct backend_ops;

/* A program that is computed in one place: an instance's, or a part of it. */
typedef struct backend_place {
    const struct backend_ops *ops;
    const program *p; /* borrowed */
    bool on_device;
} backend_place;

typedef struct backend_ops {
    const char *name;
    bool samples; /* steps draw tokens, and find their log-probabilities: batch.samples */
    const struct backend_ops *split; /* the same with host_layers and shares; NULL: all in one */
    /* For every type but the integers, which are no weights; and for packed matrices.  Parts of
     * backend_split have theirs: places(). */
    backend_path (*path)(dtype t);
    backend_path packed_path;
    /* open() takes exactly these. */
    NODISCARD status (*plan)(const program *p, const backend_options *opt, backend_memory *out,
                             error *err);
    /* Instead of it, where each part has a memory of its own: *count of them, in the order of
     * their layers.  With host_experts > 0: the host's, which has no layer of its own, and the
     * devices'. */
    NODISCARD status (*plan_parts)(const program *p, const backend_options *opt,
                                   backend_memory out[BACKEND_PARTS_MAX], uint32_t *count,
                                   error *err);
    NODISCARD status (*open)(backend **out, const program *p, const backend_options *opt,
                             error *err);
    /* What the kv.blocks and states of batches point to: addresses of the backend's own kind, freed
     * by close(); NULL for 0 bytes.  Once, before the first step. */
    NODISCARD status (*memory)(backend *b, size_t kv_bytes, size_t state_bytes, void **kv,
                               float **states, error *err);
    /* Memory of the host for copies of so many blocks, block_bytes each over all layers; with 0
     * blocks it is given back, as close() does.  After memory(), before the first step.  ERR_NOMEM:
     * the driver has no such memory.  Optional, the next two with it. */
    NODISCARD status (*kv_host)(backend *b, size_t block_bytes, uint32_t blocks, error *err);
    /* Copy blocks down to the host's memory, or from there up again: as if done at once, but the
     * caller does not wait, the next step does.  Between steps; failures are that step's. */
    void (*kv_save)(backend *b, const kv_move *moves, uint32_t count);
    void (*kv_load)(backend *b, const kv_move *moves, uint32_t count);
    /* Make the copies of weights; `progress` may be NULL.  ERR_CANCELED when it says stop.  The
     * first step does it when nobody has. */
    NODISCARD status (*load)(backend *b, const backend_progress *progress, error *err);
    /* What adding such pairs takes of a device's memory, for whoever plans; NULL: nothing. */
    uint64_t (*adapter_bytes)(const program *p, const lora_pair *pairs); /* optional */
    /* An adapter that batches will name by this address: pairs [program.lora_slots], borrowed
     * until it is dropped, of ranks up to program.max.lora_rank.  Before or after load(), also
     * behind begin(). ERR_NOMEM with what it needs and what there is: all others stay as they are.
     * NULL: what pairs point to is read where it lies. */
    NODISCARD status (*adapter_add)(backend *b, const lora_pair *pairs, error *err); /* optional */
    /* With it or not at all.  What was begun is waited for, if need be. */
    void (*adapter_drop)(backend *b, const lora_pair *pairs);
    /* What op INPUT takes are the hidden states of `from`, another instance of this kind, of the
     * step or micro-batch of the same rows, which has ended: they may take a shorter way, and then
     * `from` has none for the host.  `from` outlives the steps of b.  Once, before the first step.
     * Optional.  Errors are the device's: where there is no shorter way the rows come as ever. */
    NODISCARD status (*link)(backend *b, backend *from, error *err);
    /* Run the program once.  Allocates nothing. */
    step_result (*step)(backend *b, const batch *in);
    /* Layer `layer` alone, of a program of experts (program_split_experts): rows, prompt, input and
     * routed of the batch are read.  Returns their sums [rows, cols], until the next call.  On any
     * thread, one at a time.  Optional: backend_cpu has it. */
    const float *(*step_layer)(backend *b, uint32_t layer, const batch *in);
    /* The two halves of it, for steps that are queued one behind the other: begin() reads the batch
     * and returns while it is computed, end() waits for the step that was begun first.  Two may be
     * begun and not ended.  The second one then gives tokens only (batch.best, batch.samples), and
     * its batch.tokens may be negative: ~h is the token that head row h of the first one makes.
     * Results of a step are valid until the next one is begun.  What goes wrong in begin() comes
     * out of end(); after a fault there is nothing left to end.  Optional, both or none: without
     * them steps are computed at once.  Not while profile() is on.
     *   A step may come as micro-batches, one behind the other, which together are no more than a
     * step may have.  batch.before of each says what those in front of it have.  Hidden states and
     * logits stand behind theirs, and all of them are there until the next step begins: so each may
     * want anything.  Tokens and log-probabilities are each one's own. */
    void (*begin)(backend *b, const batch *in);
    /* Of the step that was begun last, where batch.draws_later said so: samples [head_rows], NULL
     * where batch.samples was, read before it returns.  A rule that wants nothing leaves any token
     * to its row.  All else of the step is computed meanwhile, and only what draws waits for it;
     * before it neither the next step is begun nor this one ended.  Where there are begin() and
     * `samples`. */
    void (*draw)(backend *b, const sample_order *const *samples);
    step_result (*end)(backend *b);
    void (*report)(const backend *b, backend_report *out);
    /* The programs that steps run, each weight in one of them; returns how many.  Optional: it is
     * the one that open() got, on the host. */
    uint32_t (*places)(const backend *b, backend_place out[BACKEND_PARTS_MAX]);
    /* Take the time of each task from the next step on, or, with on false, of none any more.  A
     * step is slower meanwhile: a look at the clock per phase, two events per kernel.  Takes and
     * gives back memory: between steps. */
    NODISCARD status (*profile)(backend *b, bool on, error *err); /* optional, like the next */
    /* Of the last step, while that is on; returns how many parts there are. */
    uint32_t (*profiled)(const backend *b, backend_profile out[BACKEND_PARTS_MAX]);
    void (*close)(backend *b);
} backend_ops;

extern const backend_ops backend_ref;   /* scalar, double accumulation: the oracle of the rest */
extern const backend_ops backend_cpu;   /* best instruction set at run time, thread pool */
extern const backend_ops backend_cuda;  /* one NVIDIA GPU; plan() says why there is none to use */
extern const backend_ops backend_split; /* cpu, GPUs or both in turn: backend/split/split.c */

/* By name ("ref", "cpu", "cuda"); NULL when there is none of that name. */
const backend_ops *backend_find(const char *name);

/* One INFO line per type of the weights and path: tensors, bytes.  For the owner of the programs to
 * call once they are open. */
void backend_log_weights(const backend_place *places, uint32_t count);

#endif
