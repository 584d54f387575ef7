/* test_cuda_attention.c - how attention is cut into blocks, and who shares rows. */
#include <string.h>

#include "backend/cuda/cuda_attention.h"
#include "test.h"

enum { ROWS_MAX = 600, SPLIT_TOKENS = CK_SPLIT_BLOCKS * CK_KV_BLOCK_TOKENS };

TEST(cuda_attention_has_every_head_in_one_block) {
    static const uint32_t dims[] = {1, 8, 33, 64, 80, 128, 136, 256, 264, 512, 520, 1024};
    for (uint32_t kv_heads = 1; kv_heads <= 8; kv_heads += 7)
        for (uint32_t group = 1; group <= 71; group++)
            for (size_t d = 0; d < sizeof dims / sizeof dims[0]; d++) {
                const uint32_t dim = dims[d];
                const cuda_attention_cut c =
                    cuda_attention_cut_of(kv_heads * group, kv_heads, dim, dim);
                const uint32_t blocks = c.groups / kv_heads;
                CHECK_EQ(c.groups % kv_heads, 0);
                CHECK(blocks * c.per_block >= group && (blocks - 1) * c.per_block < group);
                CHECK(c.per_block <= 8 && c.per_block * dim <= 1024);
                CHECK(dim % 8 == 0 || c.per_block == 1);
                CHECK(c.splits_max >= 4 && c.splits_max <= 64);
                CHECK(c.shared_bytes + 8192 <= 48 << 10); /* what every card gives a block */
                if (dim <= 128 && dim % 8 == 0) CHECK_EQ(blocks, (group + 7) / 8);
            }
}

TEST(cuda_attention_names_its_kernel) {
    static const struct {
        uint32_t type, per_block, dim;
        const char *name;
    } cases[] = {
        {CK_KV_F16, 1, 128, "k_attention_f16_n1"}, {CK_KV_F32, 2, 64, "k_attention_f32_n2"},
        {CK_KV_Q8, 3, 64, "k_attention_q8_n4"},    {CK_KV_Q4, 2, 64, "k_attention_q4_n2"},
        {CK_KV_F16, 8, 128, "k_attention_f16_n8"}, {CK_KV_F16, 5, 64, "k_attention_f16_n8"},
        {CK_KV_F32, 1, 9, "k_attention_f32_any"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[CUDA_ATTENTION_NAME_BYTES];
        const k_attention_args a = {
            .kv = {.type = cases[i].type, .key_dim = cases[i].dim, .value_dim = cases[i].dim},
            .per_block = cases[i].per_block};
        cuda_attention_name(&a, name);
        CHECK_STR(name, cases[i].name);
    }
}

TEST(cuda_attention_splits_as_many_as_there_is_room_for) {
    const cuda_attention_cut c = {.splits_max = 8};
    CHECK_EQ(cuda_attention_splits(&c, 1), 1);
    CHECK_EQ(cuda_attention_splits(&c, SPLIT_TOKENS), 1);
    CHECK_EQ(cuda_attention_splits(&c, SPLIT_TOKENS + 1), 2);
    CHECK_EQ(cuda_attention_splits(&c, 8 * SPLIT_TOKENS), 8);
    CHECK_EQ(cuda_attention_splits(&c, 100 * SPLIT_TOKENS), 8);
}

static uint32_t slots[ROWS_MAX];

static ck_splits shared(const batch_run *runs, uint32_t count, uint32_t slots_max) {
    const batch in = {
        .runs = runs, .runs_count = count, .rows = runs[count - 1].row0 + runs[count - 1].rows};
    ck_splits s;
    cuda_attention_share(&in, in.rows, slots_max, &s, slots);
    uint32_t found = 0;
    for (uint32_t r = 0; r < in.rows; r++) {
        if (slots[r] == CK_SPLIT_NONE) continue;
        CHECK(slots[r] < s.rows && s.row[slots[r]] == r);
        found++;
    }
    CHECK_EQ(found, s.rows);
    CHECK(s.rows <= slots_max && s.blocks >= 1);
    CHECK(cuda_attention_further(&s) <= CUDA_ATTENTION_FURTHER_MAX);
    return s;
}

TEST(cuda_attention_shares_rows_of_long_spans) {
    const batch_run alone = {.rows = 1, .pos0 = 4095};
    CHECK_EQ(shared(&alone, 1, 16).blocks, 16);
    const batch_run brief = {.rows = 1, .pos0 = SPLIT_TOKENS - 1};
    CHECK_EQ(shared(&brief, 1, 16).rows, 0);
    const batch_run prompt = {.rows = 512, .pos0 = 4096};
    CHECK_EQ(shared(&prompt, 1, 16).rows, 0);
    const batch_run mixed[] = {{0, 512, 0, 4096}, {512, 1, 1, 100}, {513, 1, 2, 9999}};
    const ck_splits s = shared(mixed, 3, 16);
    CHECK(s.rows == 1 && s.row[0] == 513 && s.blocks == 40);
    const batch_run tail = {.rows = 7, .pos0 = 1000};
    CHECK_EQ(shared(&tail, 1, 16).rows, 7);
}

TEST(cuda_attention_shares_the_longest_first) {
    batch_run runs[40];
    for (uint32_t i = 0; i < 40; i++)
        runs[i] = (batch_run){.row0 = i, .rows = 1, .seat = i, .pos0 = 300 + i * 37 % 40 * 1000};
    const ck_splits s = shared(runs, 40, 16);
    CHECK_EQ(s.rows, 16);
    for (uint32_t i = 0; i < 16; i++) CHECK(runs[s.row[i]].pos0 >= 300 + 24 * 1000);
    CHECK_EQ(s.blocks, 16); /* 64 splits in four rounds */
}

/* --- rows of prompts on tensor cores -------------------- */

/* Rows behind the first ones are somebody else's, also those of a run that began before. */
TEST(cuda_attention_shares_only_rows_that_it_computes) {
    const batch_run runs[] = {{0, 1, 0, 4095}, {1, 2, 1, 8000}, {3, 4, 2, 600}};
    const batch in = {.runs = runs, .runs_count = 3, .rows = 7};
    ck_splits s;
    cuda_attention_share(&in, 2, 16, &s, slots);
    CHECK_EQ(s.rows, 2);
    CHECK(s.row[0] == 1 && s.row[1] == 0 && slots[0] == 1 && slots[1] == 0);
    for (uint32_t r = 2; r < 7; r++) CHECK_EQ(slots[r], CK_SPLIT_NONE);
    cuda_attention_share(&in, 0, 16, &s, slots);
    CHECK(s.rows == 0 && cuda_attention_further(&s) == 0);
}

static const char *prompt_name(uint32_t type, uint32_t key_dim, uint32_t value_dim) {
    static char name[CUDA_ATTENTION_NAME_BYTES];
    const k_attention_args a = {.kv = {.type = type, .key_dim = key_dim, .value_dim = value_dim}};
    cuda_prompt_name(&a, name);
    return name;
}

TEST(cuda_prompt_attention_is_for_whole_units_up_to_576_and_512) {
    CHECK_STR(prompt_name(CK_KV_F16, 64, 64), "k_prompt_attention_f16_d64");
    CHECK_STR(prompt_name(CK_KV_F16, 16, 80), "k_prompt_attention_f16_d128");
    CHECK_STR(prompt_name(CK_KV_Q8, 192, 128), "k_prompt_attention_q8_d256");
    CHECK_STR(prompt_name(CK_KV_F16, 256, 256), "k_prompt_attention_f16_d256");
    CHECK_STR(prompt_name(CK_KV_Q4, 64, 32), "k_prompt_attention_q4_d64");
    CHECK_STR(prompt_name(CK_KV_Q4, 128, 128), "k_prompt_attention_q4_d128");
    CHECK_STR(prompt_name(CK_KV_F16, 272, 64), "k_prompt_attention_f16_d576");
    CHECK_STR(prompt_name(CK_KV_F16, 256, 272), "k_prompt_attention_f16_d576");
    CHECK_STR(prompt_name(CK_KV_Q8, 576, 512), "k_prompt_attention_q8_d576");
    CHECK_STR(prompt_name(CK_KV_Q4, 576, 512), "k_prompt_attention_q4_d576");
    CHECK_STR(prompt_name(CK_KV_F16, 592, 512), "");
    CHECK_STR(prompt_name(CK_KV_F16, 576, 528), "");
    CHECK_STR(prompt_name(CK_KV_F16, 72, 64), "");
    CHECK_STR(prompt_name(CK_KV_F16, 64, 40), "");
    CHECK_STR(prompt_name(CK_KV_F32, 64, 64), "");
}

/* Of a T4: 64 KB, of which the kernel has some for itself. */
TEST(cuda_prompt_attention_fits_into_the_smallest_shared_memory) {
    enum { MOST = 64 * 1024 - 2048, OF_THREE = 64 * 1024 / 3 - 2048 };
    for (uint32_t k = CK_PROMPT_UNIT; k <= 576; k += CK_PROMPT_UNIT)
        for (uint32_t v = CK_PROMPT_UNIT; v <= 512; v += CK_PROMPT_UNIT) {
            CHECK(cuda_prompt_shared_bytes(k, v, false) <= MOST);
            if (v <= k) CHECK(cuda_prompt_shared_bytes(k, v, true) <= MOST);
            if (k <= 128 && v <= 128) CHECK(cuda_prompt_shared_bytes(k, v, false) <= OF_THREE);
        }
}

static void check_tiles(uint32_t queries) {
    static const uint32_t rows[] = {1, 2, 15, 16, 17, 63, 64, 65, 200};
    for (uint32_t group = 1; group <= 80; group++)
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
            for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
                const uint32_t one = (rows[i] * group + queries - 1) / queries;
                const uint32_t two = (rows[k] * group + queries - 1) / queries;
                const uint32_t room = cuda_prompt_tiles(rows[i] + rows[k], 2, group, queries);
                CHECK(room >= one + two && room <= one + two + 2);
            }
}

TEST(cuda_prompt_attention_has_blocks_for_all_tiles) {
    CHECK_EQ(cuda_prompt_tile_queries(256, 256), CK_PROMPT_QUERIES);
    CHECK_EQ(cuda_prompt_tile_queries(272, 256), CK_PROMPT_WIDE_QUERIES);
    check_tiles(CK_PROMPT_QUERIES);
    check_tiles(CK_PROMPT_WIDE_QUERIES);
}
