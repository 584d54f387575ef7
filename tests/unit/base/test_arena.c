/* test_arena.c - arena.h: aligned, zeroed, limited, one free. */
#include "base/alloc.h"
#include "base/arena.h"
#include "test.h"

#include <stdint.h>

TEST(arena_memory_is_aligned_and_zeroed) {
    arena a;
    arena_init(&a, 1 << 20);
    for (size_t bytes = 0; bytes < 300; bytes++) {
        unsigned char *p = arena_take(&a, bytes);
        CHECK(p != NULL && (uintptr_t)p % 16 == 0);
        unsigned sum = 0;
        for (size_t i = 0; p != NULL && i < bytes; i++) sum |= p[i];
        CHECK_EQ(sum, 0);
        if (p != NULL) memset(p, 0xA5, bytes);
    }
    arena_deinit(&a);
    CHECK(a.chunks == NULL);
}

TEST(arena_pieces_do_not_overlap) {
    arena a;
    arena_init(&a, 1 << 20);
    unsigned char *p[200];
    for (unsigned i = 0; i < 200; i++) {
        p[i] = arena_take(&a, 1 + i * 3);
        if (p[i] != NULL) memset(p[i], (int)i, 1 + i * 3);
    }
    for (unsigned i = 0; i < 200; i++) CHECK(p[i] != NULL && p[i][0] == i && p[i][i * 3] == i);
    arena_deinit(&a);
}

TEST(arena_stops_at_its_limit) {
    arena a;
    arena_init(&a, 64 << 10);
    size_t taken = 0;
    while (arena_take(&a, 1000) != NULL) taken += 1000;
    CHECK(taken <= 64 << 10);
    CHECK(taken >= 48 << 10);
    CHECK(a.bytes <= a.bytes_max);
    CHECK(arena_take(&a, SIZE_MAX) == NULL);
    CHECK(arena_take(&a, SIZE_MAX - 15) == NULL);
    arena_deinit(&a);
}

TEST(arena_smaller_than_a_chunk_can_be_used) {
    arena a;
    arena_init(&a, 100);
    CHECK(arena_take(&a, 64) != NULL);
    CHECK(arena_take(&a, 64) == NULL);
    arena_deinit(&a);
    arena_init(&a, 0);
    CHECK(arena_take(&a, 1) == NULL);
    arena_deinit(&a);
}

TEST(arena_takes_one_large_piece) {
    arena a;
    arena_init(&a, 1 << 20);
    CHECK(arena_take(&a, 1 << 20) != NULL);
    CHECK(arena_take(&a, 16) == NULL);
    arena_deinit(&a);
}

TEST(arena_dup_terminates_its_copy) {
    arena a;
    arena_init(&a, 1 << 16);
    str copy = arena_dup(&a, (str){"ab\0c", 4});
    CHECK_EQ(copy.n, 4);
    CHECK(memcmp(copy.p, "ab\0c", 5) == 0);
    str none = arena_dup(&a, (str){NULL, 0});
    CHECK(none.p != NULL && none.n == 0 && none.p[0] == '\0');
    mem_fail_after(0);
    str failed = arena_dup(&a, (str){"x", 1 << 15});
    mem_fail_after(-1);
    CHECK(failed.p == NULL && failed.n == 0);
    arena_deinit(&a);
}
