/* test_dtype.c - the table of element types. */
#include "golden_paths.h"
#include "tensor/dtype.h"
#include "test.h"

TEST(dtype_sizes_agree_with_the_recorded_ones_of_every_type) {
    SHARED_OR_SKIP(path, "oracle/public/dequant/index.tsv");
    FILE *fp = fopen(path, "r");
    char line[512], name[32];
    unsigned id = 0, elems = 0, bytes = 0, rows = 0;
    CHECK(fp != NULL && fgets(line, sizeof line, fp) != NULL); /* the heading */
    while (fgets(line, sizeof line, fp) != NULL) {
        CHECK_EQ(sscanf(line, "%31s %u %u %u", name, &id, &elems, &bytes), 4);
        const dtype_info *info = dtype_get(id);
        CHECK(info != NULL);
        if (info == NULL) continue;
        CHECK_STR(info->name, name);
        CHECK_EQ(info->block_elems, elems);
        CHECK_EQ(info->block_bytes, bytes);
        rows++;
    }
    (void)fclose(fp);
    CHECK_EQ(rows, 29);
}

TEST(dtype_ids_that_were_withdrawn_are_no_types) {
    static const uint32_t gone[] = {4, 5, 31, 32, 33, 36, 37, 38, 43, 1000, UINT32_MAX};
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++) CHECK(dtype_get(gone[i]) == NULL);
    CHECK_STR(dtype_name((dtype)4), "?");
}

TEST(dtype_rows_are_whole_blocks_and_do_not_wrap) {
    uint64_t bytes = 7;
    CHECK(dtype_row_bytes(DTYPE_Q4_0, 64, &bytes));
    CHECK_EQ(bytes, 36);
    CHECK(dtype_row_bytes(DTYPE_Q6_K, 0, &bytes));
    CHECK_EQ(bytes, 0);
    bytes = 7;
    CHECK(!dtype_row_bytes(DTYPE_Q4_0, 33, &bytes));
    CHECK(!dtype_row_bytes(DTYPE_F32, UINT64_MAX / 2, &bytes));
    CHECK(!dtype_row_bytes((dtype)5, 32, &bytes));
    CHECK_EQ(bytes, 7);
}

TEST(dtype_is_found_by_name_in_any_case) {
    dtype t = DTYPE_F32;
    CHECK(dtype_from_name(S("iq4_nl"), &t));
    CHECK_EQ(t, DTYPE_IQ4_NL);
    CHECK(dtype_from_name(S("Q4_K"), &t));
    CHECK_EQ(t, DTYPE_Q4_K);
    CHECK(!dtype_from_name(S("Q4"), &t));
    CHECK(!dtype_from_name(S(""), &t));
    CHECK_EQ(t, DTYPE_Q4_K);
}

TEST(dtype_the_list_for_messages_names_every_type) {
    uint32_t commas = 0, types = 0;
    for (const char *p = dtype_names(); *p != '\0'; p++) commas += *p == ',';
    for (uint32_t id = 0; id < DTYPE_ID_END; id++) {
        if (dtype_get(id) == NULL) continue;
        types++;
        CHECK_HAS(dtype_names(), dtype_name((dtype)id));
    }
    CHECK_EQ(types, commas + 1);
    CHECK(strncmp(dtype_names(), "F32, F16, Q4_0", 14) == 0);
}

TEST(dtype_only_plain_integers_are_no_weights) {
    uint32_t integers = 0;
    for (uint32_t id = 0; id < DTYPE_ID_END; id++)
        integers += dtype_get(id) != NULL && dtype_get(id)->is_integer;
    CHECK_EQ(integers, 4);
    CHECK(dtype_get(DTYPE_I64)->is_integer && !dtype_get(DTYPE_Q8_0)->is_integer);
}
