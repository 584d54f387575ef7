/* test_best.c - best.h: the first of a row, and that the order is one. */
#include "tensor/best.h"

#include <math.h>

#include "test.h"

static const float odd[] = {NAN, -INFINITY, INFINITY, 0.0f, -0.0f, 1e-45f, -1e-45f, 3, -3, 3};
enum { ODD = sizeof odd / sizeof odd[0] };

TEST(best_is_the_largest_then_the_smallest_id) {
    CHECK_EQ(best_of((const float[]){-5}, 1), 0);
    CHECK_EQ(best_of((const float[]){1, 3, 2, 3}, 4), 1);
    CHECK_EQ(best_of((const float[]){-0.0f, 0.0f}, 2), 0);
    CHECK_EQ(best_of((const float[]){-1, -0.0f, 0.0f}, 3), 1);
    CHECK_EQ(best_of((const float[]){NAN, NAN}, 2), 0);
    CHECK_EQ(best_of((const float[]){NAN, -INFINITY, NAN}, 3), 1);
    CHECK_EQ(best_of((const float[]){2, NAN, INFINITY, INFINITY}, 4), 2);
    CHECK_EQ(best_of((const float[]){-INFINITY, -INFINITY}, 2), 0);
    CHECK_EQ(best_of(odd, ODD), 2);
}

TEST(best_before_is_a_total_order) {
    for (int a = 0; a < ODD; a++)
        for (int b = 0; b < ODD; b++) {
            const bool ab = best_before(odd[a], a, odd[b], b);
            CHECK(ab != best_before(odd[b], b, odd[a], a) || (a == b && !ab));
            for (int c = 0; c < ODD; c++)
                CHECK(!ab || !best_before(odd[b], b, odd[c], c) ||
                      best_before(odd[a], a, odd[c], c));
        }
}
