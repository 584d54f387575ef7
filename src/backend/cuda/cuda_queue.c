/* cuda_queue.c - the launches of a step: one by one, or recorded as a CUDA graph and played.
 *
 * A launch has the same arguments in every step, and blocks of a grid beyond the rows that the
 * descriptor counts end at once (abi.h).  So what was recorded with grids for N rows does every
 * step of up to N: a graph is made once for each power of two, and nothing in it is ever updated.
 * The blocks that share long spans are counted by the descriptor as well: once for each power of
 * four.  Steps in which rows have adapters have a list of their own, and so graphs of their own.
 * Steps in which each row is another sequence's are played, which is what generating is made of;
 * those with prompts are launched one by one, they are long enough for it not to matter.
 *
 * Either way the kernels of a step are a chain, in which each may start while the one ahead of it
 * ends (cuda_device_overlap); the first one, and one behind a call of the host, comes behind
 * copies, and waits for them whole.
 *
 * What draws tokens is part of that where it is known when the step begins, and else comes behind
 * it, launched by itself (cuda_draw.c).
 *
 * The first step of a size is launched one by one, too: what happens only once is not recorded, and
 * what happens only once is not worth recording. */
#include "backend/cuda/cuda_experts.h"
#include "backend/cuda/cuda_internal.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/num.h"

/* --- one by one -------------------- */

/* Along which the grid of a launch goes. */
static uint32_t rows_of(const cuda_launch_entry *e, const cuda_step_rows *rows) {
    if (e->grid == CUDA_GRID_RUNS_Y) return rows->runs;
    if (e->grid == CUDA_GRID_SEGMENTS_Y) return rows->segments[e->rows];
    if (e->when == CUDA_WHEN_BEST && !rows->best) return 0;
    if (e->when == CUDA_WHEN_SAMPLED && !rows->sampled) return 0;
    if (e->when == CUDA_WHEN_LOGPROBS && !rows->logprobs) return 0;
    if (e->when == CUDA_WHEN_PROMPTS) return rows->of[e->rows] > rows->generated ? 1 : 0;
    const bool apart = e->prompt_tiles > 0 || e->no_prompts;
    const uint32_t n = apart ? rows->generated : rows->of[e->rows];
    if (e->when == CUDA_WHEN_CROWDED) return n >= e->skinny_from ? 1 : 0;
    return e->grid == CUDA_GRID_SPLIT_Y ? n + rows->further : n;
}

/* Is it one of the launches for such a number of rows?  A single row of a prompt has the launches
 * of many where prompts have kernels of their own. */
static bool is_for(const backend *b, const cuda_launch_entry *e, const cuda_step_rows *rows) {
    const bool prompt =
        b->lowered.prompt_products > 0 && e->rows == ROWS_ALL && rows->generated == 0;
    const bool one = rows->of[e->rows] == 1 && !prompt;
    return e->when != (one ? CUDA_FOR_MANY_ROWS : CUDA_FOR_ONE_ROW);
}

static bool is_skinny(const cuda_launch_entry *e, uint32_t n) {
    return e->skinny_tiles > 0 && n >= e->skinny_from;
}

/* What computes n rows that are none of a prompt. */
static cuda_kernel_id kernel_for(const cuda_launch_entry *e, uint32_t n) {
    if (is_skinny(e, n)) return e->skinny;
    return n > 1 ? e->many : e->kernel;
}

static void launch_rows(backend *b, const cuda_launch_entry *e, uint32_t n) {
    const cuda_kernel_id kernel = kernel_for(e, n);
    const bool many = n > 1 && e->many_rows > 0;
    const uint32_t along = (many ? num_div_up_u32(n, e->many_rows) : n) * e->per_row;
    uint32_t x = e->grid == CUDA_GRID_ROWS_X ? along : e->width;
    uint32_t y = e->grid == CUDA_GRID_ROWS_X ? 1 : along;
    if (is_skinny(e, n)) {
        x = num_div_up_u32(n, e->skinny_rows);
        if (e->skinny_experts > 0)
            x = cuda_tiles_max(n * e->per_row, e->skinny_experts, e->skinny_rows);
        y = e->skinny_tiles;
    }
    (void)cuda_launch(&b->dev, kernel, x, y, b->dev.kernels[kernel].threads_max, e->shared_bytes,
                      b->lowered.args + e->args_at, e->args_bytes);
}

static void launch_prompts(backend *b, const cuda_launch_entry *e, uint32_t n, uint32_t runs) {
    uint32_t x = num_div_up_u32(n, CK_GEMM_TILE);
    if (e->prompt_experts > 0) x = cuda_tiles_max(n * e->per_row, e->prompt_experts, CK_GEMM_TILE);
    if (e->prompt_queries > 0) x = cuda_prompt_tiles(n, runs, e->prompt_queries, e->prompt_tile);
    (void)cuda_launch(&b->dev, e->prompt, x, e->prompt_tiles, b->dev.kernels[e->prompt].threads_max,
                      e->prompt_shared_bytes, b->lowered.args + e->args_at, e->args_bytes);
}

static void launch(backend *b, const cuda_launch_entry *e, const cuda_step_rows *rows) {
    const uint32_t n = rows_of(e, rows);
    const uint32_t prompts = e->prompt_tiles > 0 ? rows->of[e->rows] - rows->generated : 0;
    if (e->width == 0 || n + prompts == 0 || !is_for(b, e, rows)) return;
    const uint32_t idx = (uint32_t)(e - b->lowered.launches);
    const bool measured = b->profile.tasks != NULL;
    const cuda_kernel_id kernel = prompts > 0 ? e->prompt : kernel_for(e, n);
    if (measured) {
        cuda_profile_before(&b->profile, &b->dev, idx, cuda_launch_name(kernel));
        b->profile.tasks[idx].halves = prompts > 0 && e->prompt_queries > 0;
    }
    if (kernel == CUDA_KERNEL_COUNT)
        cuda_elsewhere_queue(b, e, n);
    else if (n > 0)
        launch_rows(b, e, n);
    if (prompts > 0) launch_prompts(b, e, prompts, rows->prompt_runs);
    if (measured) cuda_profile_after(&b->profile, &b->dev, idx);
}

/* One of the two lists.  Where launches are measured there are events between them. */
static void launch_all(backend *b, const cuda_step_rows *rows, bool recording) {
    const cuda_lowered *l = &b->lowered;
    const uint32_t end = rows->adapted ? l->count : l->plain_count;
    cuda_chain(&b->dev, b->profile.tasks == NULL, recording);
    for (uint32_t i = rows->adapted ? l->plain_count : 0; i < end; i++)
        launch(b, &l->launches[i], rows);
    cuda_chain(&b->dev, false, recording);
}

static bool draws(const cuda_launch_entry *e) {
    return e->when == CUDA_WHEN_SAMPLED || e->when == CUDA_WHEN_LOGPROBS;
}

/* Both lists have the same. */
void cuda_queue_drawing(backend *b, const cuda_step_rows *rows) {
    cuda_chain(&b->dev, true, false);
    for (uint32_t i = 0; i < b->lowered.plain_count; i++)
        if (draws(&b->lowered.launches[i])) launch(b, &b->lowered.launches[i], rows);
    cuda_chain(&b->dev, false, false);
}

/* --- graphs -------------------- */

/* Of the steps that a graph is for. */
typedef struct graph_size {
    uint32_t rows, further;
} graph_size;

/* The graph for steps like this one; NULL: there is none for such. */
static cuda_graph *graph_for(backend *b, const cuda_step_rows *rows, graph_size *most) {
    const uint32_t n = rows->of[ROWS_ALL];
    const bool apart = b->dev.check_each_launch || b->profile.tasks != NULL;
    const bool prompts = cuda_lowered_has_prompts(&b->lowered) && rows->generated < n;
    if (b->graphs.refused || apart || prompts || rows->runs != n) return NULL;
    uint32_t size = 0, span = 0;
    *most = (graph_size){.rows = 1};
    for (; most->rows < n; size++) most->rows *= 2;
    for (; most->further < rows->further; span++) most->further = 4u << 2 * span;
    if (size >= CUDA_GRAPH_SIZES) return NULL;
    ASSERT(span < CUDA_GRAPH_SPANS);
    return &b->graphs.of[size][span][cuda_graph_kind(rows)];
}

/* What the driver says no to is said once, and costs nothing but time. */
static void refuse(backend *b, cu_result code, const char *call) {
    error err = {0};
    (void)!cu_check(b->dev.driver, code, call, &err);
    log_warn("cuda", "no CUDA graphs, steps are launched kernel by kernel: %s", err.msg);
    b->graphs.refused = true;
}

/* Records the launches; code of the call that failed, or CU_SUCCESS. */
static cu_result record(backend *b, const cuda_step_rows *rows, cu_graph *out, const char **call) {
    const cu_driver *d = b->dev.driver;
    *call = "cuStreamBeginCapture_v2";
    const cu_result begun = d->capture_begin(b->dev.compute, CU_CAPTURE_THREAD_LOCAL);
    if (begun != CU_SUCCESS) return begun;
    launch_all(b, rows, true);
    *call = "cuStreamEndCapture";
    const cu_result ended = d->capture_end(b->dev.compute, out);
    if (b->dev.fault == CU_SUCCESS) return ended;
    /* A launch that may not be recorded: nothing has run, so the GPU is none the worse. */
    const cu_result code = b->dev.fault;
    if (!cu_is_sticky(code)) b->dev.fault = CU_SUCCESS;
    *call = b->dev.last_launch;
    return code;
}

/* Records and instantiates; likewise. */
static cu_result instantiate(backend *b, cuda_graph *g, const cuda_step_rows *rows,
                             const char **call) {
    const cu_driver *d = b->dev.driver;
    cu_graph graph = NULL;
    cu_result code = record(b, rows, &graph, call);
    if (code == CU_SUCCESS) {
        *call = "cuGraphInstantiateWithFlags";
        code = d->graph_instantiate(&g->exec, graph, 0);
    }
    if (graph != NULL) (void)d->graph_destroy(graph);
    if (code != CU_SUCCESS) g->exec = NULL;
    return code;
}

static void make(backend *b, cuda_graph *g, const cuda_step_rows *rows, graph_size size) {
    cuda_step_rows most = {.runs = num_min_u32(size.rows, b->layout.desc.sequences),
                           .further = size.further,
                           .generated = num_min_u32(size.rows, b->p->max.rows),
                           .best = rows->best,
                           .sampled = rows->sampled,
                           .logprobs = rows->logprobs,
                           .adapted = rows->adapted};
    for (row_set set = ROWS_ALL; set <= ROWS_HEAD; set++)
        most.of[set] = most.segments[set] = num_min_u32(size.rows, program_rows_max(b->p, set));
    const char *call = NULL;
    cu_result code = instantiate(b, g, &most, &call);
    if (code != CU_SUCCESS && b->dev.overlaps_in_graphs && !cu_is_sticky(code)) {
        cuda_overlap_unrecorded(&b->dev, code, call);
        code = instantiate(b, g, &most, &call);
    }
    if (code != CU_SUCCESS) {
        refuse(b, code, call);
        return;
    }
    log_debug("cuda", "graph for up to %u rows and %u further blocks of spans%s%s%s%s", size.rows,
              size.further, rows->best ? ", of which the best token is found" : "",
              rows->sampled ? ", of which a token is drawn" : "",
              rows->logprobs ? ", with log-probabilities" : "",
              rows->adapted ? ", with adapters" : "");
}

/* False: the driver would not, and nothing has run.  A graph may take its memory as late as now. */
static bool play(backend *b, cuda_graph *g) {
    const cu_result code = b->dev.driver->graph_launch(g->exec, b->dev.compute);
    b->dev.last_launch = "a graph";
    if (code == CU_SUCCESS || cu_is_sticky(code)) {
        (void)cuda_note(&b->dev, code, "cuGraphLaunch");
        return true;
    }
    (void)b->dev.driver->graph_exec_destroy(g->exec);
    g->exec = NULL;
    refuse(b, code, "cuGraphLaunch");
    return false;
}

void cuda_queue_launches(backend *b, const cuda_step_rows *rows) {
    graph_size size = {0};
    cuda_graph *g = graph_for(b, rows, &size);
    if (b->dev.fault != CU_SUCCESS) return;
    if (g != NULL && g->exec == NULL && g->steps > 0) make(b, g, rows, size);
    if (g == NULL || g->exec == NULL || !play(b, g)) launch_all(b, rows, false);
    if (g != NULL) g->steps++;
}

void cuda_graphs_drop(backend *b) {
    cuda_graph *all = &b->graphs.of[0][0][0];
    for (size_t i = 0; i < sizeof b->graphs.of / sizeof *all; i++) {
        if (all[i].exec != NULL) (void)b->dev.driver->graph_exec_destroy(all[i].exec);
        all[i] = (cuda_graph){0};
    }
}
