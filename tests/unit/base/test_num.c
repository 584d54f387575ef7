/* test_num.c - num.h: checked arithmetic leaves its result alone when it does not fit. */
#include "base/num.h"
#include "test.h"

TEST(num_checked_forms_know_their_limits) {
    uint64_t u = 5;
    size_t s = 5;
    CHECK(num_mul_u64(&u, UINT32_MAX, UINT32_MAX) && u == 0xFFFFFFFE00000001ull);
    u = 5;
    CHECK(!num_mul_u64(&u, 1ull << 32, 1ull << 32) && u == 5);
    CHECK(num_mul_u64(&u, UINT64_MAX, 1) && u == UINT64_MAX);
    CHECK(num_mul_u64(&u, UINT64_MAX, 0) && u == 0);
    CHECK(num_add_u64(&u, UINT64_MAX - 1, 1) && u == UINT64_MAX);
    CHECK(!num_add_u64(&u, UINT64_MAX, 1) && u == UINT64_MAX);
    CHECK(!num_mul_size(&s, SIZE_MAX, 2) && s == 5);
    CHECK(num_mul_size(&s, SIZE_MAX / 2, 2) && s == SIZE_MAX - 1);
    CHECK(!num_add_size(&s, SIZE_MAX, SIZE_MAX) && s == SIZE_MAX - 1);
    CHECK(num_add_size(&s, 1, 2) && s == 3);
}

TEST(num_rounding_helpers) {
    CHECK_EQ(num_div_up_u32(0, 16), 0);
    CHECK_EQ(num_div_up_u32(1, 16), 1);
    CHECK_EQ(num_div_up_u32(16, 16), 1);
    CHECK_EQ(num_div_up_u32(17, 16), 2);
    CHECK_EQ(num_div_up_u32(UINT32_MAX, 2), 1u << 31);
    CHECK(num_div_up_size(SIZE_MAX, SIZE_MAX) == 1);
    CHECK_EQ(num_align_size(0, 64), 0);
    CHECK_EQ(num_align_size(1, 64), 64);
    CHECK_EQ(num_align_size(64, 64), 64);
    CHECK_EQ(num_min_u32(2, 3) + num_max_u32(2, 3), 5);
    CHECK_EQ(num_min_u64(2, 3) + num_max_u64(2, 3), 5);
    CHECK_EQ(num_min_size(2, 3), 2);
}
