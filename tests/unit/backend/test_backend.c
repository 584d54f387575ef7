/* test_backend.c - backend.h and the parts of the cpu backend that are not kernels:
 * which instruction set is chosen, what is fused, how the pool joins, what open() does
 * when something is missing. */
#include "backend/backend.h"
#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/cpu_pool.h"
#include "backend/cpu/cpu_tasks.h"
#include "base/alloc.h"
#include "base/log.h"
#include "base/os.h"
#include "test.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

static float data[64 * 64];

TEST(backend_is_found_by_name) {
    CHECK(backend_find("cpu") == &backend_cpu);
    CHECK(backend_find("ref") == &backend_ref);
    CHECK(backend_find("CPU") == NULL && backend_find("") == NULL && backend_find("tpu") == NULL);
}

TEST(backend_cpu_respects_the_instruction_set_cap) {
    const cpu_kernels *k = NULL;
    error err = {0};
    CHECK_EQ(cpu_kernels_choose(CPU_ISA_SCALAR, &k, &err), OK);
    CHECK_STR(k->isa, "scalar");
#if defined(__x86_64__)
    CHECK_EQ(cpu_kernels_choose(CPU_ISA_AUTO, &k, &err), OK);
    const char *best = k->isa;
    CHECK_EQ(cpu_kernels_choose(CPU_ISA_AMX, &k, &err), OK);
    CHECK_STR(k->isa, best);
    CHECK_EQ(cpu_kernels_choose(CPU_ISA_AVX2, &k, &err), OK);
    CHECK(strcmp(k->isa, "avx2") == 0 || strcmp(k->isa, "scalar") == 0);
    CHECK_EQ(cpu_kernels_choose(CPU_ISA_NEON, &k, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "neon");
#endif
}

/* --- the pool -------------------- */

enum { WORKERS_MAX = 5, PHASES = 30, UNITS_MAX = 9, RUNS = 40 };

typedef struct phases {
    cpu_pool *pool;
    cpu_phase *list;                       /* [PHASES] */
    uint32_t units[PHASES];                /* of each phase */
    uint64_t value[PHASES + 1][UNITS_MAX]; /* plain memory: the phases must order it */
} phases;

/* What unit u of phase i makes of all units of the phase before. */
static uint64_t unit_value(const phases *p, uint32_t i, uint32_t u) {
    uint64_t sum = u + 1;
    for (uint32_t k = 0; k < UNITS_MAX; k++) sum = sum * 31 + p->value[i][k];
    return sum;
}

static void run_phases(void *ctx, uint32_t run, uint32_t worker) {
    phases *p = ctx;
    (void)worker;
    for (uint32_t i = 0; i < PHASES; i++) {
        cpu_units units;
        while (cpu_phase_claim(&p->list[i], run, &units)) {
            for (uint32_t u = units.first; u < units.first + units.count; u++)
                p->value[i + 1][u] = unit_value(p, i, u);
            cpu_phase_done(p->pool, &p->list[i], units.count);
        }
        if (!cpu_phase_wait(p->pool, &p->list[i], run)) return;
    }
}

/* One run: a chain of phases, each of which reads all that the one before wrote. */
static void check_run(phases *p, uint32_t number) {
    uint32_t run = cpu_pool_next_run(p->pool);
    for (uint32_t i = 0; i < PHASES; i++) {
        p->units[i] = (i * 5 + number) % (UNITS_MAX + 1); /* some have none */
        cpu_phase_open(&p->list[i], run, p->units[i], 1 + (i + number) % 4);
    }
    for (uint32_t u = 0; u < UNITS_MAX; u++) p->value[0][u] = number * 100 + u;
    cpu_pool_run(p->pool, run_phases, p);
    for (uint32_t i = 0; i < PHASES; i++)
        for (uint32_t u = 0; u < p->units[i]; u++) CHECK(p->value[i + 1][u] == unit_value(p, i, u));
}

TEST(cpu_pool_phases_follow_each_other) {
    for (uint32_t threads = 1; threads <= WORKERS_MAX; threads++) {
        static phases p;
        memset(&p, 0, sizeof p);
        p.list = mem_try_alloc_aligned(64, PHASES * sizeof *p.list);
        CHECK_EQ(cpu_pool_create(&p.pool, threads, NULL), OK);
        CHECK_EQ(cpu_pool_threads(p.pool), threads);
        for (uint32_t number = 0; number < RUNS; number++) {
            check_run(&p, number);
            if (number % 16 == 7) os_sleep_ms(2); /* long enough for the workers to park */
        }
        cpu_pool_destroy(p.pool);
        mem_free(p.list);
    }
    cpu_pool_destroy(NULL);
}

TEST(cpu_pool_caller_can_do_everything_alone) {
    cpu_pool *pool = NULL;
    cpu_phase phase;
    cpu_units got = {77, 77};
    uint32_t run = 0;
    CHECK_EQ(cpu_pool_create(&pool, 1, NULL), OK);
    run = cpu_pool_next_run(pool);
    cpu_phase_open(&phase, run, 5, 2);
    CHECK(!cpu_phase_claim(&phase, run - 1, &got)); /* a worker of the run before */
    CHECK(!cpu_phase_wait(pool, &phase, run - 1));
    CHECK(cpu_phase_claim(&phase, run, &got) && got.first == 0 && got.count == 2);
    CHECK(cpu_phase_claim(&phase, run, &got) && got.first == 2 && got.count == 1);
    CHECK(cpu_phase_claim(&phase, run, &got) && got.first == 3 && got.count == 1);
    CHECK(cpu_phase_claim(&phase, run, &got) && got.first == 4 && got.count == 1);
    CHECK(!cpu_phase_claim(&phase, run, &got));
    cpu_phase_done(pool, &phase, 4);
    cpu_phase_done(pool, &phase, 1);
    CHECK(cpu_phase_wait(pool, &phase, run));
    cpu_phase_open(&phase, run + 1, 0, UINT32_MAX);
    CHECK(!cpu_phase_claim(&phase, run + 1, &got));
    CHECK(cpu_phase_wait(pool, &phase, run + 1));
    cpu_pool_destroy(pool);
}

TEST(cpu_pool_can_be_destroyed_before_its_first_run) {
    cpu_pool *pool = NULL;
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(cpu_pool_create(&pool, 3, NULL), OK);
        cpu_pool_destroy(pool);
    }
}

static void run_nothing(void *ctx, uint32_t run, uint32_t worker) {
    (void)ctx, (void)run, (void)worker;
}

/* A worker may be anywhere between two instructions when the caller, who needs nobody for a run
 * of no work, stops the pool. */
TEST(cpu_pool_can_be_destroyed_while_its_workers_begin_a_run) {
    for (uint32_t i = 0; i < 4000; i++) {
        cpu_pool *pool = NULL;
        _Atomic uint32_t pauses = 0;
        CHECK_EQ(cpu_pool_create(&pool, 3, NULL), OK);
        while (atomic_load(&pauses) < i % 200 * 50) atomic_fetch_add(&pauses, 1);
        cpu_pool_run(pool, run_nothing, NULL);
        while (atomic_load(&pauses) < i % 200 * 50 + i / 200) atomic_fetch_add(&pauses, 1);
        cpu_pool_destroy(pool);
    }
}

TEST(cpu_pool_without_threads_or_memory_is_an_error) {
    cpu_pool *pool = NULL;
    error err = {0};
    for (int after = 0; after < 3; after++) {
        os_fail_after(OS_CALL_THREAD, after, EAGAIN);
        CHECK_EQ(cpu_pool_create(&pool, 4, &err), ERR_NOMEM);
        os_fail_after(OS_CALL_THREAD, -1, 0);
    }
    for (int after = 0; after < 5; after++) {
        mem_fail_after(after);
        CHECK_EQ(cpu_pool_create(&pool, 3, &err), ERR_NOMEM);
        mem_fail_after(-1);
    }
    CHECK(pool == NULL);
}

/* --- a small llama layer -------------------- */

static const program_limits limits = {.rows = 4, .taken = 2, .head = 2, .ctx = 32};
static const double freqs[16] = {1, 0.5, 0.25, 0.125};

static weight w_of(dtype t, uint32_t rows, uint32_t cols) {
    return (weight){.type = t, .rows = rows, .cols = cols, .data = data};
}

static value_id norm_of(program *p, value_id x) {
    return pg_norm(p, x, (op_norm){.group = 64, .eps = 1e-5f, .gain = data, .gain_len = 64});
}

static program *record_layer(dtype t) {
    program *p = NULL;
    status st = program_create(&p, &limits, NULL);
    CHECK_EQ(st, OK);
    op_rope rope = {.heads = 2, .head_dim = 32, .dims = 32, .freqs = freqs, .magnitude = 1};
    op_attention attn = {
        .heads = 2, .kv_heads = 2, .key_dim = 32, .value_dim = 32, .scale = 0.1f, .causal = true};
    value_id x = pg_embed(p, w_of(DTYPE_F32, 8, 64));
    value_id n = norm_of(p, x);
    value_id q = pg_matmul(p, n, w_of(t, 64, 64), NULL);
    value_id k = pg_matmul(p, n, w_of(t, 64, 64), NULL);
    value_id v = pg_matmul(p, n, w_of(t, 64, 64), NULL);
    q = pg_rope(p, q, rope);
    k = pg_rope(p, k, rope);
    pg_kv_write(p, k, v);
    value_id a = pg_attention(p, q, attn);
    x = pg_add(p, x, pg_matmul(p, a, w_of(t, 64, 64), NULL));
    n = norm_of(p, x);
    value_id gate = pg_matmul(p, n, w_of(t, 64, 64), NULL);
    value_id up = pg_matmul(p, n, w_of(t, 64, 64), NULL);
    x = pg_add(
        p, x,
        pg_matmul(p, pg_act_mul(p, gate, up, (op_act){.kind = ACT_SILU}), w_of(t, 64, 64), NULL));
    st = program_finish(p, pg_take_rows(p, x), VALUE_NONE, NULL);
    CHECK_EQ(st, OK);
    return p;
}

static uint32_t count_kind(const task_list *l, task_kind kind) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->count; i++) n += l->tasks[i].kind == kind;
    return n;
}

TEST(cpu_tasks_fuse_a_llama_layer) {
    program *p = record_layer(DTYPE_F32);
    task_list l;
    CHECK_EQ(cpu_tasks_build(&l, p, NULL, NULL), OK);
    /* embed norm qkv rope+kv attention wo+add norm gate+up act down+add take */
    CHECK_EQ(l.count, 11);
    CHECK_EQ(l.ops_fused + l.ops_unfused, p->ops_count);
    CHECK_EQ(l.ops_unfused, 11);
    CHECK_EQ(count_kind(&l, TASK_ROPE_KV), 1);
    CHECK_EQ(count_kind(&l, TASK_ADD) + count_kind(&l, TASK_ROPE), 0);
    CHECK(!l.any_digits);
    CHECK(l.tasks[10].rows == ROWS_TAKEN && l.tasks[9].rows == ROWS_ALL);
    cpu_tasks_destroy(&l);
    program_destroy(p);
}

TEST(cpu_tasks_make_digits_where_the_row_is_made) {
    program *p = record_layer(DTYPE_Q8_0);
    task_list l;
    CHECK_EQ(cpu_tasks_build(&l, p, NULL, NULL), OK);
    CHECK(l.any_digits);
    CHECK_EQ(count_kind(&l, TASK_DIGITS), 1); /* of the attention's result */
    uint32_t inside = 0;
    for (uint32_t i = 0; i < l.count; i++) inside += l.tasks[i].digits;
    CHECK_EQ(inside, 3); /* two norms and the activation */
    CHECK_EQ(l.ops_fused + l.ops_unfused, p->ops_count);
    cpu_tasks_destroy(&l);
    program_destroy(p);
}

/* Floats are rounded for whatever multiplies prompts in bf16, packed weights only for what is
 * better at them than integers; and digits are not made for nobody. */
TEST(cpu_tasks_round_for_the_weights_that_bf16_takes) {
    static const bf16_kernels vectors = {.takes_packed = false}, tiles = {.takes_packed = true};
    static const struct {
        dtype type;
        const bf16_kernels *bf16;
        bool digits, rounded;
    } cases[] = {{DTYPE_F16, NULL, false, false},     {DTYPE_F16, &vectors, false, true},
                 {DTYPE_BF16, &tiles, false, true},   {DTYPE_F32, &tiles, false, false},
                 {DTYPE_Q8_0, &vectors, true, false}, {DTYPE_Q8_0, &tiles, true, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        program *p = record_layer(cases[i].type);
        task_list l;
        CHECK_EQ(cpu_tasks_build(&l, p, cases[i].bf16, NULL), OK);
        CHECK_EQ(l.any_digits, cases[i].digits);
        CHECK_EQ(l.any_rounded, cases[i].rounded);
        uint32_t inside = 0;
        for (uint32_t k = 0; k < l.count; k++) inside += l.tasks[k].digits;
        const bool any = cases[i].digits || cases[i].rounded;
        CHECK_EQ(inside, any ? 3 : 0);
        CHECK_EQ(count_kind(&l, TASK_DIGITS), any ? 1 : 0);
        cpu_tasks_destroy(&l);
        program_destroy(p);
    }
}

/* A product that nobody reads gives its memory to the next one: not in the same phase. */
TEST(cpu_tasks_keep_products_that_share_memory_apart) {
    program *p = NULL;
    task_list l;
    CHECK_EQ(program_create(&p, &limits, NULL), OK);
    value_id x = pg_embed(p, w_of(DTYPE_F32, 8, 64));
    (void)pg_matmul(p, x, w_of(DTYPE_F32, 64, 64), NULL);
    value_id a = pg_matmul(p, x, w_of(DTYPE_F32, 64, 64), NULL);
    value_id b = pg_matmul(p, x, w_of(DTYPE_F32, 64, 64), NULL);
    CHECK_EQ(program_finish(p, pg_take_rows(p, pg_mul(p, a, b)), VALUE_NONE, NULL), OK);
    CHECK_EQ(cpu_tasks_build(&l, p, NULL, NULL), OK);
    CHECK_EQ(count_kind(&l, TASK_MATMUL), 2);
    CHECK_EQ(l.ops_fused, 1);
    cpu_tasks_destroy(&l);
    program_destroy(p);
}

/* One mixture layer: the input is made int16 once for two products, the rows are sorted once for
 * three. */
TEST(cpu_tasks_prepare_a_mixture_once) {
    static weight w[4];
    program *p = NULL;
    task_list l;
    for (int e = 0; e < 4; e++) w[e] = w_of(DTYPE_Q8_0, 64, 64);
    op_experts experts = {.w = w, .experts = 4, .used = 2, .shared_in = true}, down = experts;
    down.shared_in = false;
    CHECK_EQ(program_create(&p, &limits, NULL), OK);
    value_id n = norm_of(p, pg_embed(p, w_of(DTYPE_F32, 8, 64)));
    value_id logits = pg_matmul(p, n, w_of(DTYPE_F32, 4, 64), NULL);
    value_id routed = pg_route(p, logits, (op_route){.experts = 4, .used = 2, .scale = 1});
    value_id gate = pg_experts(p, n, routed, experts), up = pg_experts(p, n, routed, experts);
    value_id y = pg_act_mul(p, gate, up, (op_act){.kind = ACT_GELU});
    y = pg_experts_sum(p, pg_experts(p, y, routed, down), routed, 2);
    CHECK_EQ(program_finish(p, pg_take_rows(p, y), VALUE_NONE, NULL), OK);
    CHECK_EQ(cpu_tasks_build(&l, p, NULL, NULL), OK);
    CHECK_EQ(count_kind(&l, TASK_GROUP), 1);
    CHECK_EQ(count_kind(&l, TASK_DIGITS), 0);
    CHECK_EQ(count_kind(&l, TASK_EXPERTS), 3);
    CHECK_EQ(l.ops_fused + l.ops_unfused, p->ops_count);
    cpu_tasks_destroy(&l);
    program_destroy(p);
}

/* Adapters cost a task only where the program has room for them and the weight has a name. */
TEST(cpu_tasks_for_adapters_only_where_they_can_be) {
    for (uint32_t i = 0; i < 4; i++) {
        program *p = NULL;
        task_list l;
        program_limits max = limits;
        weight w = w_of(DTYPE_F32, 64, 64);
        max.lora_rank = i % 2 * 8;
        if (i >= 2) w.name = S("blk.0.attn_q.weight");
        CHECK_EQ(program_create(&p, &max, NULL), OK);
        value_id y = pg_matmul(p, pg_embed(p, w_of(DTYPE_F32, 8, 64)), w, NULL);
        CHECK_EQ(program_finish(p, pg_take_rows(p, y), VALUE_NONE, NULL), OK);
        CHECK_EQ(cpu_tasks_build(&l, p, NULL, NULL), OK);
        CHECK_EQ(count_kind(&l, TASK_LORA), i == 3);
        CHECK_EQ(l.ops_fused + l.ops_unfused, p->ops_count);
        cpu_tasks_destroy(&l);
        program_destroy(p);
    }
}

/* A failed open leaks nothing (the sanitizer looks) and says why. */
TEST(backend_open_fails_cleanly) {
    static const backend_ops *const all[] = {&backend_cpu, &backend_ref};
    program *p = record_layer(DTYPE_Q4_0);
    backend_options opt = {.threads = 2, .isa_cap = CPU_ISA_AUTO};
    for (int i = 0; i < 2; i++) {
        backend *b = NULL;
        error err = {0};
        int64_t after = 0;
        status st = ERR_NOMEM;
        for (; after < 50 && st != OK; after++) {
            mem_fail_after(after);
            st = all[i]->open(&b, p, &opt, &err);
            mem_fail_after(-1);
            if (st != OK) CHECK_EQ(st, ERR_NOMEM);
        }
        CHECK_EQ(st, OK);
        CHECK(after > 1);
        all[i]->close(b);
        os_fail_after(OS_CALL_MMAP, 0, ENOMEM);
        CHECK_EQ(all[i]->open(&b, p, &opt, &err), ERR_NOMEM);
        os_fail_after(OS_CALL_MMAP, -1, 0);
    }
    os_fail_after(OS_CALL_THREAD, 0, EAGAIN);
    backend *b = NULL;
    CHECK_EQ(backend_cpu.open(&b, p, &opt, NULL), ERR_NOMEM);
    os_fail_after(OS_CALL_THREAD, -1, 0);
    program_destroy(p);
}

static backend_memory planned(const program *p, uint32_t threads) {
    backend_memory m = {0};
    CHECK_EQ(backend_cpu.plan(p, &(backend_options){.threads = threads}, &m, NULL), OK);
    return m;
}

TEST(backend_plan_grows_with_rows_context_and_threads) {
    program *p = record_layer(DTYPE_Q4_0);
    backend_memory one = planned(p, 1), two = planned(p, 2);
    CHECK(one.workspace >= p->workspace_floats * sizeof(float));
    CHECK(two.workspace > one.workspace);
    CHECK(one.repacked >= one.replaced && one.replaced > 0);
    p->max.rows *= 2;
    one = planned(p, 2);
    CHECK(one.workspace > two.workspace);
    CHECK_EQ(one.repacked, two.repacked);
    program_destroy(p);
}

TEST(backend_reports_what_it_is) {
    program *p = record_layer(DTYPE_F32);
    backend_report report;
    backend *b = NULL;
    CHECK_EQ(
        backend_cpu.open(&b, p, &(backend_options){.threads = 1, .isa_cap = CPU_ISA_SCALAR}, NULL),
        OK);
    backend_cpu.report(b, &report);
    CHECK_STR(report.what, "cpu scalar");
    CHECK_STR(report.numerics, "exact");
    CHECK_EQ(report.tasks, 11);
    CHECK_EQ(report.ops_fused + report.ops_unfused, p->ops_count);
    backend_cpu.close(b);
    CHECK_EQ(
        backend_ref.open(&b, p, &(backend_options){.threads = 1, .isa_cap = CPU_ISA_AUTO}, NULL),
        OK);
    backend_ref.report(b, &report);
    CHECK_STR(report.what, "ref");
    CHECK_STR(report.numerics, "exact");
    CHECK_EQ(report.ops_fused, 0);
    backend_ref.close(b);
    program_destroy(p);
}

/* An embedding that is the output as well, and two matrices of another type between. */
static program *record_tied(void) {
    program *p = NULL;
    status st = program_create(&p, &limits, NULL);
    CHECK_EQ(st, OK);
    weight table = w_of(DTYPE_F32, 8, 64);
    weight a = w_of(DTYPE_Q5_1, 64, 64), b = a;
    a.data = data + 1024;
    b.data = data + 2048;
    value_id x = pg_matmul(p, pg_matmul(p, pg_embed(p, table), a, NULL), b, NULL);
    value_id hidden = pg_take_rows(p, x);
    value_id logits = pg_matmul(p, pg_take_rows(p, hidden), table, NULL);
    st = program_finish(p, hidden, logits, NULL);
    CHECK_EQ(st, OK);
    return p;
}

/* What a child process logs about the weights of a program. */
static void logged_weights(const program *p, char *out, size_t out_bytes) {
    int fds[2];
    size_t n = 0;
    CHECK_EQ(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(fds[1], 2);
        log_set_level(LOG_INFO);
        backend_log_weights(&(backend_place){.ops = &backend_cpu, .p = p}, 1);
        _exit(0);
    }
    os_close(fds[1]);
    CHECK_EQ(os_read_full(fds[0], out, out_bytes - 1, &n, NULL), OK);
    out[n] = '\0';
    os_close(fds[0]);
    (void)waitpid(pid, NULL, 0);
}

TEST(backend_tells_the_path_of_every_type_of_a_program) {
    char text[2048];
    program *p = record_tied();
    logged_weights(p, text, sizeof text);
    CHECK_HAS(text, "INFO engine weights type=F32 tensors=1 bytes=2048 path=\"native\"\n");
    CHECK_HAS(text, "INFO engine weights type=Q5_1 tensors=2 bytes=6144 "
                    "path=\"repacked\"\n");
    program_destroy(p);
}
