/* test_profile.c - the times of tasks: what a backend tells of a step, what many steps come to. */
#include "backend/profile.h"

#include "backend/ref_rig.h"
#include "base/alloc.h"
#include "test.h"

static float results_unused;

/* embed, norm, two products of it, their sum, take: something of everything that is fused. */
static program *small_program(void) {
    program *p = refrig_program();
    weight a = refrig_table(1, 32, 32), b = refrig_table(2, 32, 32);
    a.name = S("blk.0.left.weight");
    b.name = S("blk.0.right.weight");
    value_id x = refrig_input(p, 0, 32);
    value_id n = pg_norm(p, x, (op_norm){.kind = NORM_RMS, .group = 32, .eps = 1e-5F});
    value_id l = pg_matmul(p, n, a, NULL), r = pg_matmul(p, n, b, NULL);
    refrig_finish(p, pg_add(p, x, pg_mul(p, l, r)));
    return p;
}

static backend *open_cpu(const program *p) {
    backend *b = NULL;
    const backend_options opt = {.threads = 2, .isa_cap = CPU_ISA_AUTO};
    CHECK_EQ(backend_cpu.open(&b, p, &opt, NULL), OK);
    return b;
}

static void step(backend *b, const program *p, uint32_t rows) {
    static refrig_batch rows_of;
    refrig_batch_init(&rows_of, p, (kv_layout){.type = DTYPE_F32});
    refrig_batch_run(&rows_of, 0, 0, 0, rows);
    mem_freeze("step");
    const step_result r = backend_cpu.step(b, &rows_of.in);
    mem_thaw();
    results_unused += r.hidden[0];
}

TEST(profile_of_the_cpu_has_each_op_once_and_times_within_the_step) {
    program *p = small_program();
    backend *b = open_cpu(p);
    backend_profile parts[BACKEND_PARTS_MAX], *part = parts;
    error err = {0};
    CHECK_EQ(backend_cpu.profile(b, true, &err), OK);
    for (uint32_t rows = 1; rows <= 33; rows += 16) {
        uint32_t seen[16] = {0};
        uint64_t ns = 0;
        step(b, p, rows);
        CHECK_EQ(backend_cpu.profiled(b, parts), 1);
        CHECK(part->p == p && part->count > 0 && part->ns > 0);
        CHECK_HAS(part->where, "cpu ");
        for (uint32_t i = 0; i < part->count; i++) {
            const backend_task *t = &part->tasks[i];
            ns += t->ns;
            CHECK(t->ran && t->name[0] != '\0');
            for (uint32_t k = 0; k < t->ops_count; k++) seen[t->ops[k]]++;
        }
        CHECK(ns <= part->ns);
        for (uint32_t i = 0; i < p->ops_count; i++) CHECK_EQ(seen[i], 1);
    }
    CHECK_EQ(backend_cpu.profile(b, false, &err), OK);
    step(b, p, 4);
    backend_cpu.profiled(b, parts);
    CHECK(part->tasks == NULL && part->count == 0);
    backend_cpu.close(b);
    program_destroy(p);
}

TEST(profile_survives_every_failed_allocation_and_leaves_the_backend_as_it_was) {
    program *p = small_program();
    backend *b = open_cpu(p);
    status st = ERR_NOMEM;
    for (int64_t n = 0; st != OK && n < 10; n++) {
        error err = {0};
        mem_fail_after(n);
        st = backend_cpu.profile(b, true, &err);
        mem_fail_after(-1);
        if (st == OK) break;
        CHECK_EQ(st, ERR_NOMEM);
        step(b, p, 3);
    }
    CHECK_EQ(st, OK);
    step(b, p, 3);
    backend_cpu.close(b); /* while it is on */
    program_destroy(p);
}

TEST(profile_is_not_made_by_the_reference) { CHECK(backend_ref.profile == NULL); }

/* --- many steps -------------------- */

enum { TASKS = 3 };

/* A step of two products of one kind and a helper, so many nanoseconds each. */
static void add_step(profile *f, const program *p, backend_task tasks[TASKS], uint64_t ns,
                     uint32_t rows) {
    for (int i = 0; i < TASKS; i++) tasks[i].ns = ns;
    const backend_profile part = {.p = p, .tasks = tasks, .count = TASKS, .ns = 10 * ns};
    profile_add(f, &part, 1, rows);
}

static void fill_tasks(backend_task tasks[TASKS]) {
    memset(tasks, 0, TASKS * sizeof *tasks);
    for (uint32_t i = 0; i < 2; i++)
        tasks[i] = (backend_task){.name = "MATMUL",
                                  .ops = {2 + i},
                                  .ops_count = 1,
                                  .ran = true,
                                  .work = {.weight_bytes = 100, .flops = 7}};
    tasks[2] = (backend_task){.name = "HELP", .ran = true};
}

TEST(profile_tells_the_step_whose_time_is_the_median) {
    static const uint64_t ns[] = {50, 10, 30, 20, 40};
    program *p = small_program();
    p->ops[3].w.name = p->ops[2].w.name; /* the same tensor of another layer */
    profile *f = NULL;
    static profile_view view;
    backend_task tasks[TASKS];
    fill_tasks(tasks);
    CHECK_EQ(profile_create(&f, 5, TASKS, NULL), OK);
    profile_median(f, &view);
    CHECK(view.steps == 0 && view.lines_count == 0);
    for (uint32_t i = 0; i < 5; i++) add_step(f, p, tasks, ns[i], i);
    add_step(f, p, tasks, 1, 99); /* one too many is left out */
    CHECK_EQ(profile_steps(f), 5);
    profile_median(f, &view);
    CHECK(view.steps == 5 && view.ns == 300 && view.batch_rows == 2);
    CHECK_EQ(view.lines_count, 2);
    const profile_line *l = view.lines;
    CHECK_STR(l[0].row->name, "MATMUL"); /* longest first */
    CHECK_STR(l[0].row->what, "left F32");
    CHECK(l[0].tasks == 2 && l[0].ops == 2 && l[0].ns == 60);
    CHECK(l[0].work.weight_bytes == 200 && l[0].work.flops == 14);
    CHECK(l[1].tasks == 1 && l[1].ops == 0 && l[1].ns == 30);
    profile_destroy(f);
    program_destroy(p);
}

TEST(profile_of_another_kernel_or_tensor_is_another_row) {
    program *p = small_program();
    profile *f = NULL;
    static profile_view view;
    backend_task tasks[TASKS];
    fill_tasks(tasks);
    CHECK_EQ(profile_create(&f, 3, TASKS, NULL), OK);
    add_step(f, p, tasks, 10, 1);
    profile_median(f, &view);
    CHECK_EQ(view.lines_count, 3); /* left, right, help */
    tasks[0].name = "MATMUL_MANY";
    tasks[1].ran = false;
    add_step(f, p, tasks, 10, 1);
    add_step(f, p, tasks, 10, 1);
    profile_median(f, &view);
    CHECK_EQ(view.lines_count, 2);
    CHECK_EQ(view.lines[0].tasks + view.lines[1].tasks, 2);
    profile_destroy(f);
    program_destroy(p);
}

TEST(profile_with_more_kinds_than_rows_has_the_rest_in_one) {
    enum { KINDS = PROFILE_ROWS_MAX + 40 };
    static char names[KINDS][8];
    static backend_task tasks[KINDS];
    static profile_view view;
    program *p = small_program();
    profile *f = NULL;
    uint32_t count = 0;
    CHECK_EQ(profile_create(&f, 2, KINDS, NULL), OK);
    for (uint32_t i = 0; i < KINDS; i++) {
        (void)snprintf(names[i], sizeof names[i], "t%u", i);
        tasks[i] = (backend_task){.name = names[i], .ran = true, .ns = 1};
    }
    const backend_profile part = {.p = p, .tasks = tasks, .count = KINDS, .ns = KINDS};
    for (int i = 0; i < 2; i++) profile_add(f, &part, 1, 1);
    profile_median(f, &view);
    CHECK_EQ(view.lines_count, PROFILE_ROWS_MAX);
    CHECK_STR(view.lines[0].row->name, "others");
    CHECK_EQ(view.lines[0].tasks, 41);
    for (uint32_t i = 0; i < view.lines_count; i++) count += view.lines[i].tasks;
    CHECK_EQ(count, KINDS);
    profile_destroy(f);
    program_destroy(p);
}
