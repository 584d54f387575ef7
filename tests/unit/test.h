/* test.h - the whole test harness.  TEST(name) registers itself; `make check`
 * links all tests in one binary; argv filters by substring.  A test that cannot run
 * here calls SKIP("why") and returns. */
#ifndef TEST_H
#define TEST_H
#include <stdio.h>
#include <string.h>

typedef struct test_case {
    const char *name;
    void (*fn)(void);
    struct test_case *next;
} test_case;

extern test_case *test_list;
extern int test_failures;     /* failed checks so far */
extern const char *test_skip; /* why the running test was skipped, NULL when it ran */

#define TEST(id)                                                        \
    static void test_##id(void);                                        \
    static test_case test_case_##id = {#id, test_##id, NULL};           \
    __attribute__((constructor)) static void test_register_##id(void) { \
        test_case_##id.next = test_list;                                \
        test_list = &test_case_##id;                                    \
    }                                                                   \
    static void test_##id(void)

#define SKIP(why)          \
    do {                   \
        test_skip = (why); \
        return;            \
    } while (0)

#define CHECK(cond)                                                                 \
    do {                                                                            \
        if (!(cond)) {                                                              \
            test_failures++;                                                        \
            (void)fprintf(stderr, "%s:%d: CHECK(%s)\n", __FILE__, __LINE__, #cond); \
        }                                                                           \
    } while (0)
#define CHECK_EQ(a, b)                                                                          \
    do {                                                                                        \
        long long a_ = (long long)(a), b_ = (long long)(b);                                     \
        if (a_ != b_) {                                                                         \
            test_failures++;                                                                    \
            (void)fprintf(stderr, "%s:%d: %s == %lld, want %lld\n", __FILE__, __LINE__, #a, a_, \
                          b_);                                                                  \
        }                                                                                       \
    } while (0)
#define CHECK_STR(a, b)                                                                         \
    do {                                                                                        \
        const char *a_ = (a), *b_ = (b);                                                        \
        if (strcmp(a_, b_) != 0) {                                                              \
            test_failures++;                                                                    \
            (void)fprintf(stderr, "%s:%d: %s == \"%s\", want \"%s\"\n", __FILE__, __LINE__, #a, \
                          a_, b_);                                                              \
        }                                                                                       \
    } while (0)
/* The message of an error must contain the words that help its reader. */
#define CHECK_HAS(text, words)                                                                 \
    do {                                                                                       \
        const char *t_ = (text), *w_ = (words);                                                \
        if (strstr(t_, w_) == NULL) {                                                          \
            test_failures++;                                                                   \
            (void)fprintf(stderr, "%s:%d: \"%s\" lacks \"%s\"\n", __FILE__, __LINE__, t_, w_); \
        }                                                                                      \
    } while (0)
#endif
