/* test_program.c - program.h: the layout never lets two living values share memory. */
#include "backend/program.h"
#include "base/alloc.h"
#include "test.h"

static float data[64 * 64];

static weight f32_weight(uint32_t rows, uint32_t cols) {
    return (weight){DTYPE_F32, rows, cols, data};
}

static size_t floats_of(const program *p, const value *v) {
    return (size_t)(v->taken ? p->taken_rows_max : p->rows_max) * v->cols;
}

/* Do the memory and the lives of a and b both meet?  A result may take the place of an
 * operand that dies in its op, so a life that ends where the other begins is apart. */
static bool collide(const program *p, const value *a, const value *b) {
    size_t a_end = a->offset + floats_of(p, a), b_end = b->offset + floats_of(p, b);
    bool memory = a->offset < b_end && b->offset < a_end;
    return memory && a->op_def < b->op_end && b->op_def < a->op_end;
}

/* Values that die where another one is made may share only its exact place. */
static bool half_overlaps(const program *p, const value *a, const value *b) {
    size_t a_end = a->offset + floats_of(p, a), b_end = b->offset + floats_of(p, b);
    bool touch = a->op_end == b->op_def && a->offset < b_end && b->offset < a_end;
    return touch && a->offset != b->offset;
}

static void check_layout(const program *p) {
    for (uint32_t i = 0; i < p->values_count; i++) {
        const value *a = &p->values[i];
        CHECK_EQ(a->offset % 32, 0);
        CHECK(a->offset + floats_of(p, a) <= p->workspace_floats);
        for (uint32_t k = 0; k < p->values_count; k++) {
            if (k == i) continue;
            CHECK(!collide(p, a, &p->values[k]));
            CHECK(!half_overlaps(p, a, &p->values[k]));
        }
    }
}

/* A random program: every op reads values that are already there. */
static void record_random(program *p, uint64_t seed) {
    value_id live[200];
    uint32_t count = 0;
    uint64_t state = seed;
    live[count++] = pg_embed(p, f32_weight(64, 24));
    while (count < 60) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        value_id a = live[(state >> 33) % count], b = live[(state >> 40) % count];
        uint32_t cols = p->values[a].cols;
        bool same = cols == p->values[b].cols;
        switch ((state >> 50) % 6) {
        case 0:
            live[count++] = pg_norm_rms(p, a, f32_weight(1, cols), 1e-5f);
            break;
        case 1:
            live[count++] = pg_matmul(p, a, f32_weight((state >> 45) % 2 ? 24 : 40, cols), NULL);
            break;
        case 2:
            live[count++] = pg_rope(p, a, (op_rope){1, cols, cols, 1e4f, 1.0f, NULL});
            break;
        case 3:
            if (same) live[count++] = pg_add(p, a, b);
            break;
        case 4:
            if (same) live[count++] = pg_act_mul(p, a, b);
            break;
        default:
            if (same) pg_kv_write(p, a, b);
            break;
        }
    }
}

TEST(program_layout_keeps_living_values_apart) {
    for (uint64_t seed = 1; seed <= 60; seed++) {
        program *p = NULL;
        CHECK_EQ(program_create(&p, 7, 3, 100, NULL), OK);
        record_random(p, seed);
        value_id last = (value_id)(p->values_count - 1);
        CHECK_EQ(program_finish(p, pg_take_rows(p, last), NULL), OK);
        check_layout(p);
        program_destroy(p);
    }
}

TEST(program_reuses_memory_and_works_in_place) {
    program *p = NULL;
    CHECK_EQ(program_create(&p, 16, 16, 100, NULL), OK);
    value_id x = pg_embed(p, f32_weight(64, 64));
    for (int i = 0; i < 20; i++) {
        value_id y = pg_matmul(p, x, f32_weight(64, 64), NULL);
        value_id sum = pg_add(p, x, y);
        x = sum;
    }
    value_id out = pg_take_rows(p, x);
    CHECK_EQ(program_finish(p, out, NULL), OK);
    CHECK(p->workspace_floats <= (size_t)3 * 16 * 64);
    CHECK_EQ(p->values[x].offset, p->values[0].offset);
    check_layout(p);
    program_destroy(p);
}

TEST(program_stamps_layers_and_taken_rows) {
    program *p = NULL;
    CHECK_EQ(program_create(&p, 8, 2, 100, NULL), OK);
    value_id x = pg_embed(p, f32_weight(64, 32));
    pg_layer(p, 3);
    value_id y = pg_matmul(p, x, f32_weight(16, 32), NULL);
    value_id t = pg_take_rows(p, y), z = pg_matmul(p, t, f32_weight(8, 16), NULL);
    CHECK_EQ(program_finish(p, z, NULL), OK);
    CHECK_EQ(p->ops[0].layer, 0);
    CHECK_EQ(p->ops[1].layer, 3);
    CHECK(!p->values[y].taken && p->values[t].taken && p->values[z].taken);
    CHECK_EQ(p->values[z].cols, 8);
    CHECK_EQ(p->logits, z);
    program_destroy(p);
    program_destroy(NULL);
}

TEST(program_without_memory_is_an_error) {
    program *p = NULL;
    error err = {0};
    mem_fail_after(0);
    CHECK_EQ(program_create(&p, 8, 2, 100, &err), ERR_NOMEM);
    mem_fail_after(-1);
    CHECK_EQ(program_create(&p, 8, 2, 100, NULL), OK);
    value_id t = pg_take_rows(p, pg_embed(p, f32_weight(64, 32)));
    mem_fail_after(0);
    CHECK_EQ(program_finish(p, t, &err), ERR_NOMEM);
    mem_fail_after(-1);
    program_destroy(p);
}

TEST(program_names_its_ops) {
    CHECK_STR(op_kind_name(OP_EMBED), "EMBED");
    CHECK_STR(op_kind_name(OP_TAKE_ROWS), "TAKE_ROWS");
    CHECK_STR(op_kind_name(OP_KIND_COUNT), "?");
}
