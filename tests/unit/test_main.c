/* test_main.c - run every registered test whose name contains argv[1]. */
#include "test.h"

test_case *test_list;
int test_failures;
const char *test_skip;

int main(int argc, char **argv) {
    int passed = 0, failed = 0, skipped = 0;
    for (test_case *t = test_list; t != NULL; t = t->next) {
        if (argc > 1 && strstr(t->name, argv[1]) == NULL) continue;
        int before = test_failures;
        test_skip = NULL;
        t->fn();
        if (test_failures != before) {
            failed++;
            printf("FAIL %s\n", t->name);
        } else if (test_skip != NULL) {
            skipped++;
            printf("skip %s: %s\n", t->name, test_skip);
        } else {
            passed++;
        }
        (void)fflush(stdout);
    }
    printf("tests: %d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed != 0 || passed + skipped == 0;
}
