/* split.c - a program in several places: first layers on the CPU, the others on one GPU or more.
 *
 *   batch -> [ cpu: embed, layers 0 .. a - 1 ] -- rows -> [ cuda: layers a .. b - 1 ] -- rows ->
 *                                     ... -- rows -> [ cuda: layers .., head ] -> result
 *
 * For models that are larger than a GPU's memory.  On the host embeddings cost nothing, for a row
 * of them is read at a time; the head, which every token reads whole, is the last GPU's.  There may
 * be no layers on the CPU, and then there is more than one GPU.  Each part is an instance of its
 * own backend with a program of its own (program_cut), its own blocks of the KV cache under the
 * same numbers, and its own states.  Where the CPU computes experts of the GPUs' layers, one
 * instance does so for all of them (host_experts.h).  What they do in a step is in split_step.c.
 * Owner: the engine; calls from one thread at a time. */
#include <stdio.h>
#include <string.h>

#include "backend/split/split_internal.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "base/str.h"

/* --- the parts -------------------- */

static void parts_deinit(parts *s) {
    for (uint32_t i = 0; i < s->count; i++) program_destroy(s->of[i].p);
    program_destroy(s->device);
    program_destroy(s->host);
    *s = (parts){0};
}

static part *add_part(parts *s, const backend_ops *ops, const backend_options *opt,
                      uint32_t layers) {
    part *a = &s->of[s->count++];
    *a = (part){.ops = ops, .layers = layers, .opt = *opt};
    a->opt.host_layers = a->opt.shares_count = a->opt.host_experts = 0;
    return a;
}

static void list_parts(parts *s, const backend_options *opt) {
    *s = (parts){0};
    if (opt->host_layers > 0) (void)add_part(s, &backend_cpu, opt, opt->host_layers);
    for (uint32_t i = 0; i < opt->shares_count; i++) {
        const backend_share *share = &opt->shares[i];
        part *a = add_part(s, &backend_cuda, opt, share->layers);
        a->opt.device = share->device;
        a->opt.device_bytes_max = share->bytes_max;
        a->opt.device_available = share->available;
    }
}

static status cut_parts(parts *s, const program *p, error *err) {
    uint32_t first = 0, experts = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        part *a = &s->of[i];
        TRY(program_cut(&a->p, p, first, first + a->layers, err));
        a->opt.experts_first = experts;
        experts += program_host_layers(a->p);
        first += a->layers;
    }
    return OK;
}

/* Experts that the host computes leave the program before it is cut. */
static status split_parts(parts *s, const program *p, const backend_options *opt, error *err) {
    if (opt->host_experts == 0) return cut_parts(s, p, err);
    TRY(program_split_experts(&s->device, &s->host, p, opt->host_experts, err));
    return cut_parts(s, s->device, err);
}

static status check_layers(const parts *s, const backend_options *opt, uint32_t all, error *err) {
    uint32_t sum = 0;
    bool each = opt->shares_count > 0 && s->count > 1;
    for (uint32_t i = 0; i < s->count; i++) {
        sum += s->of[i].layers;
        each = each && s->of[i].layers > 0;
    }
    if (each && sum == all) return OK;
    return error_set(err, ERR_UNSUPPORTED,
                     "split: %u layers on the host and %u on %u GPUs, want %u together, and some "
                     "of them in each of two places or more",
                     opt->host_layers, sum - opt->host_layers, opt->shares_count, all);
}

static status parts_init(parts *s, const program *p, const backend_options *opt, error *err) {
    ASSERT(opt->shares_count <= BACKEND_DEVICES_MAX);
    ASSERT(opt->host_experts == 0 || opt->host_layers == 0);
    list_parts(s, opt);
    status st = check_layers(s, opt, program_layers(p), err);
    if (st == OK) st = split_parts(s, p, opt, err);
    if (st != OK) parts_deinit(s);
    return st;
}

/* --- planning -------------------- */

static status plan_part(const part *a, backend_memory *out, error *err) {
    TRY(a->ops->plan(a->p, &a->opt, out, err));
    out->layers = a->layers;
    out->stored = program_stored_bytes(a->p);
    out->states = a->p->state_floats * sizeof(float);
    ASSERT(out->replaced <= out->stored);
    return OK;
}

static status split_plan(const program *p, const backend_options *opt,
                         backend_memory out[BACKEND_PARTS_MAX], uint32_t *count, error *err) {
    parts s;
    TRY(parts_init(&s, p, opt, err));
    uint32_t n = 0;
    status st = s.host != NULL ? host_experts_plan(s.host, opt, &out[n++], err) : OK;
    for (uint32_t i = 0; st == OK && i < s.count; i++) st = plan_part(&s.of[i], &out[n++], err);
    *count = n;
    parts_deinit(&s);
    return st;
}

/* --- life cycle -------------------- */

static void split_close(backend *b) {
    if (b == NULL) return;
    for (uint32_t i = b->parts.count; i-- > 0;) b->parts.of[i].ops->close(b->of[i].b);
    host_experts_close(b->experts);
    parts_deinit(&b->parts);
    split_cut_deinit(&b->cut);
    mem_free(b->all_rows);
    mem_free(b->best);
    mem_free(b->logprobs);
    mem_free(b);
}

/* Neighbours of one kind may have a shorter way than by host memory. */
static status link_parts(backend *b, error *err) {
    for (uint32_t i = 1; i < b->parts.count; i++) {
        const backend_ops *ops = b->parts.of[i].ops;
        if (ops != b->parts.of[i - 1].ops || ops->link == NULL) continue;
        TRY(ops->link(b->of[i].b, b->of[i - 1].b, err));
    }
    return OK;
}

static status open_rows(backend *b, error *err) {
    const uint32_t rows = b->p->max.rows, head = num_max_u32(b->p->max.head, 1);
    b->all_rows = mem_try_calloc(rows, sizeof *b->all_rows);
    b->best = mem_try_calloc(head, sizeof *b->best);
    b->logprobs = mem_try_calloc(head, sizeof *b->logprobs);
    if (b->all_rows == NULL || b->best == NULL || b->logprobs == NULL)
        return error_set(err, ERR_NOMEM, "split: no memory for %u rows", rows);
    for (uint32_t r = 0; r < rows; r++) b->all_rows[r] = r;
    return OK;
}

static status open_parts(backend *b, const backend_options *opt, error *err) {
    TRY(parts_init(&b->parts, b->p, opt, err));
    if (b->parts.host != NULL) TRY(host_experts_open(&b->experts, b->parts.host, opt, err));
    for (uint32_t i = 0; i < b->parts.count; i++) {
        part *a = &b->parts.of[i];
        a->opt.experts = b->experts;
        TRY(a->ops->open(&b->of[i].b, a->p, &a->opt, err));
        b->layers += a->layers;
    }
    TRY(link_parts(b, err));
    TRY(split_cut_init(&b->cut, b->p, opt, b->parts.count, err));
    return open_rows(b, err);
}

static status split_open(backend **out, const program *p, const backend_options *opt, error *err) {
    backend *b = mem_try_calloc(1, sizeof *b);
    if (b == NULL) return error_set(err, ERR_NOMEM, "split: no memory");
    b->p = p;
    const status st = open_parts(b, opt, err);
    if (st != OK) {
        split_close(b);
        return st;
    }
    *out = b;
    return OK;
}

/* A block has as many bytes for each layer, a sequence's state what the parts' programs say. */
static size_t part_of_kv(const backend *b, uint32_t idx, size_t kv_bytes) {
    ASSERT(kv_bytes % b->layers == 0);
    return kv_bytes / b->layers * b->parts.of[idx].layers;
}

static size_t part_of_states(const backend *b, uint32_t idx, size_t state_bytes) {
    const size_t floats = b->p->state_floats;
    return floats == 0 ? 0 : state_bytes / floats * b->parts.of[idx].p->state_floats;
}

/* Batches bring the addresses of the first part that has any, which stand for all. */
static status split_memory(backend *b, size_t kv_bytes, size_t state_bytes, void **kv,
                           float **states, error *err) {
    *kv = NULL;
    *states = NULL;
    for (uint32_t i = 0; i < b->parts.count; i++) {
        instance *of = &b->of[i];
        TRY(b->parts.of[i].ops->memory(of->b, part_of_kv(b, i, kv_bytes),
                                       part_of_states(b, i, state_bytes), &of->kv, &of->states,
                                       err));
        if (*kv == NULL) *kv = of->kv;
        if (*states == NULL) *states = of->states;
    }
    return OK;
}

/* --- blocks that move to the host's memory, each part's in its own -------------------- */

static status split_kv_host(backend *b, size_t block_bytes, uint32_t blocks, error *err) {
    for (uint32_t i = 0; i < b->parts.count; i++) {
        const backend_ops *ops = b->parts.of[i].ops;
        const status st = ops->kv_host(b->of[i].b, part_of_kv(b, i, block_bytes), blocks, err);
        if (st == OK) continue;
        for (uint32_t k = 0; k < i; k++) (void)!b->parts.of[k].ops->kv_host(b->of[k].b, 0, 0, NULL);
        return st;
    }
    return OK;
}

static void split_kv_save(backend *b, const kv_move *moves, uint32_t count) {
    for (uint32_t i = 0; i < b->parts.count; i++)
        b->parts.of[i].ops->kv_save(b->of[i].b, moves, count);
}

static void split_kv_load(backend *b, const kv_move *moves, uint32_t count) {
    for (uint32_t i = 0; i < b->parts.count; i++)
        b->parts.of[i].ops->kv_load(b->of[i].b, moves, count);
}

/* --- loading -------------------- */

enum { LAYER_STEPS = 1000 }; /* of progress */

/* Parts tell of bytes, each of its own; together they are as far as their layers are. */
typedef struct load_share {
    const backend_progress *progress;
    uint32_t before, layers, all;
} load_share;

static bool tell_share(void *ctx, uint64_t done, uint64_t total) {
    const load_share *s = ctx;
    const double done_of_it = total > 0 ? (double)done / (double)total : 1;
    return s->progress->tell(s->progress->ctx,
                             (uint64_t)((s->before + done_of_it * s->layers) * LAYER_STEPS),
                             (uint64_t)s->all * LAYER_STEPS);
}

static status split_load(backend *b, const backend_progress *progress, error *err) {
    load_share s = {.progress = progress, .all = b->layers};
    const backend_progress shared = {tell_share, &s};
    if (b->experts != NULL) {
        s.layers = program_expert_layers(b->parts.host);
        s.all += s.layers;
        TRY(host_experts_load(b->experts, progress != NULL ? &shared : NULL, err));
        s.before = s.layers;
    }
    for (uint32_t i = 0; i < b->parts.count; i++) {
        const part *a = &b->parts.of[i];
        s.layers = a->layers;
        TRY(a->ops->load(b->of[i].b, progress != NULL ? &shared : NULL, err));
        s.before += a->layers;
    }
    return OK;
}

/* --- adapters: all parts have the slots of the whole program -------------------- */

static void drop_from(backend *b, uint32_t count, const lora_pair *pairs) {
    for (uint32_t i = 0; i < count; i++) {
        const backend_ops *ops = b->parts.of[i].ops;
        if (ops->adapter_drop != NULL) ops->adapter_drop(b->of[i].b, pairs);
    }
}

static status split_adapter_add(backend *b, const lora_pair *pairs, error *err) {
    for (uint32_t i = 0; i < b->parts.count; i++) {
        const backend_ops *ops = b->parts.of[i].ops;
        const status st = ops->adapter_add != NULL ? ops->adapter_add(b->of[i].b, pairs, err) : OK;
        if (st == OK) continue;
        drop_from(b, i, pairs);
        return st;
    }
    return OK;
}

static void split_adapter_drop(backend *b, const lora_pair *pairs) {
    drop_from(b, b->parts.count, pairs);
}

/* --- reports -------------------- */

/* "cuda sm_75 x2 + sm_90 + cpu avx512": GPUs of a kind once, and the CPU last. */
static void describe(const backend *b, const backend_report *of, char *out, size_t bytes) {
    size_t n = 0;
    for (uint32_t k = 0; k < b->parts.count; k++) {
        const uint32_t i = b->parts.of[0].ops == &backend_cpu ? (k + 1) % b->parts.count : k;
        const str what = str_of(of[i].what), family = S("cuda ");
        uint32_t alike = 0, before = 0;
        for (uint32_t j = 0; j < b->parts.count; j++) {
            const bool same = str_eq(what, str_of(of[j].what));
            alike += same;
            before += same && j < i;
        }
        if (before > 0) continue;
        const bool again = n > 0 && str_starts(what, family);
        const str shown = again ? str_skip(what, family.n) : what;
        n += (size_t)snprintf(out + n, bytes - n, "%s%.*s", n > 0 ? " + " : "", STR(shown));
        if (alike > 1 && n < bytes) n += (size_t)snprintf(out + n, bytes - n, " x%u", alike);
        if (n >= bytes) return;
    }
}

static void split_report(const backend *b, backend_report *out) {
    backend_report of[BACKEND_PARTS_MAX] = {0};
    *out = (backend_report){.numerics = "exact"};
    for (uint32_t i = 0; i < b->parts.count; i++) {
        b->parts.of[i].ops->report(b->of[i].b, &of[i]);
        if (str_eq(str_of(of[i].numerics), S("fast"))) out->numerics = of[i].numerics;
        out->tasks += of[i].tasks;
        out->ops_fused += of[i].ops_fused;
        out->ops_unfused += of[i].ops_unfused;
    }
    describe(b, of, out->what, sizeof out->what);
    if (b->experts != NULL) host_experts_report(b->experts, out);
}

static uint32_t split_places(const backend *b, backend_place out[BACKEND_PARTS_MAX]) {
    for (uint32_t i = 0; i < b->parts.count; i++) {
        const part *a = &b->parts.of[i];
        out[i] = (backend_place){.ops = a->ops, .p = a->p, .on_device = a->ops == &backend_cuda};
    }
    if (b->experts == NULL) return b->parts.count;
    out[b->parts.count] = (backend_place){.ops = host_experts_ops, .p = b->parts.host};
    return b->parts.count + 1;
}

/* --- profiles -------------------- */

static status split_profile(backend *b, bool on, error *err) {
    b->is_measured = true;
    for (uint32_t i = 0; i < b->parts.count; i++)
        TRY(b->parts.of[i].ops->profile(b->of[i].b, on, err));
    if (b->experts != NULL) TRY(host_experts_profile(b->experts, on, err));
    b->is_measured = on;
    return OK;
}

/* Several GPUs are counted in the order of their layers: "cuda sm_75 (2 of 4)". */
static void number_device(backend_profile *out, uint32_t number, uint32_t count) {
    const size_t n = strlen(out->where);
    if (count > 1)
        (void)snprintf(out->where + n, sizeof out->where - n, " (%u of %u)", number, count);
}

static uint32_t split_profiled(const backend *b, backend_profile out[BACKEND_PARTS_MAX]) {
    const uint32_t count = b->parts.count;
    const uint32_t host = b->parts.of[0].ops == &backend_cpu ? 1 : 0;
    for (uint32_t i = 0; i < count; i++) {
        (void)b->parts.of[i].ops->profiled(b->of[i].b, &out[i]);
        if (i >= host) number_device(&out[i], i - host + 1, count - host);
    }
    return b->experts == NULL ? count : count + host_experts_profiled(b->experts, &out[count]);
}

const backend_ops backend_split = {
    .name = "cuda + cpu",
    .samples = true,
    .plan_parts = split_plan,
    .open = split_open,
    .memory = split_memory,
    .kv_host = split_kv_host,
    .kv_save = split_kv_save,
    .kv_load = split_kv_load,
    .load = split_load,
    .adapter_add = split_adapter_add,
    .adapter_drop = split_adapter_drop,
    .step = split_step,
    .report = split_report,
    .places = split_places,
    .profile = split_profile,
    .profiled = split_profiled,
    .close = split_close,
};
