/* test_share.c - how many layers each of several devices gets (src/engine/share.c). */
#include "engine/plan_internal.h"
#include "test.h"

enum { LAYERS = 24, HEAD_BYTES = 500 };

/* Layers of 100 bytes, the last one with the head, and blocks of a byte on each layer. */
static share_task task_of(uint32_t count, const uint64_t *available) {
    static uint64_t bytes[LAYERS];
    for (int i = 0; i < LAYERS; i++) bytes[i] = 100;
    bytes[LAYERS - 1] += HEAD_BYTES;
    share_task t = {.layer_bytes = bytes,
                    .layers = LAYERS,
                    .kv_layer_bytes = 1,
                    .kv_fraction = 1,
                    .blocks_min = 10,
                    .blocks_max = 100,
                    .count = count};
    for (uint32_t d = 0; d < count; d++) t.devices[d].available = available[d];
    return t;
}

static void check_layers_at(share_task *t, const uint32_t *want, int line) {
    share_layers(t);
    for (uint32_t d = 0; d < t->count; d++) {
        if (t->devices[d].layers != want[d])
            (void)fprintf(stderr, "line %d: device %u has %u layers, want %u\n", line, d,
                          t->devices[d].layers, want[d]);
        CHECK_EQ(t->devices[d].layers, want[d]);
    }
}
#define check_layers(t, ...) check_layers_at((t), (const uint32_t[]){__VA_ARGS__}, __LINE__)

/* 24 layers and their cache are 4800 bytes, and the head is 500, as much as two and a half. */
TEST(share_gives_each_as_much_of_what_is_free) {
    share_task t = task_of(2, (const uint64_t[]){100000, 100000});
    check_layers(&t, 13, 11);
    t = task_of(2, (const uint64_t[]){100000, 50000});
    check_layers(&t, 18, 6);
    t = task_of(2, (const uint64_t[]){50000, 100000});
    check_layers(&t, 9, 15);
    t = task_of(4, (const uint64_t[]){100000, 100000, 100000, 100000});
    check_layers(&t, 7, 7, 7, 3);
    t = task_of(1, (const uint64_t[]){1});
    check_layers(&t, LAYERS);
}

TEST(share_counts_what_steps_take) {
    share_task t = task_of(2, (const uint64_t[]){10000, 10000});
    t.devices[0].workspace = 2000;
    t.devices[1].workspace = 1000;
    check_layers(&t, 11, 13);
}

/* Without room for 100 blocks: the runs with room for most. */
TEST(share_leaves_room_for_the_most_blocks) {
    share_task t = task_of(2, (const uint64_t[]){2100, 1900});
    check_layers(&t, 15, 9); /* 40 blocks and 55; with 13 and 11 it is 61 and 27 */
    t = task_of(2, (const uint64_t[]){1400, 2600});
    check_layers(&t, 10, 14); /* 40 and 50; with 8 and 16 it is 75 and 31 */
    t.kv_layer_bytes = 0;     /* a model of states: what fits, fits */
    check_layers(&t, 10, 14);
}

/* What does not fit overloads none more than the others. */
TEST(share_spreads_what_is_too_much) {
    share_task t = task_of(2, (const uint64_t[]){1000, 1000});
    check_layers(&t, 14, 10);
    t = task_of(3, (const uint64_t[]){1000, 1, 1000});
    share_layers(&t);
    CHECK_EQ(t.devices[1].layers, 1);
    t = task_of(8, (const uint64_t[]){1, 1, 1, 1, 1, 1, 1, 1});
    share_layers(&t);
    uint32_t sum = 0;
    for (uint32_t d = 0; d < t.count; d++) {
        CHECK(t.devices[d].layers >= 1);
        sum += t.devices[d].layers;
    }
    CHECK_EQ(sum, LAYERS);
}

TEST(share_gives_each_a_layer) {
    share_task t = task_of(3, (const uint64_t[]){1 << 30, 1, 1 << 30});
    t.layers = 3;
    check_layers(&t, 1, 1, 1);
}
