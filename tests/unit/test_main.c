/* test_main.c - run every registered test whose name contains argv[1]; with argv[2] "K/N" every
 * N-th of them from the K-th on, so that several processes share them.  A slow test is named; one
 * that hangs is, too, and ends the program.  With GANTRY_TEST_TIMES in the environment each test's
 * processor time goes to stderr. */
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "test.h"

enum { PATIENCE_S = 600, SLOW_S = 20 }; /* the slowest, under ThreadSanitizer, takes a minute */

test_case *test_list;
int test_failures;
const char *test_skip;

static const char *running;

static void give_up(int signal_number) {
    static const char hangs[] = ": hangs\n";
    (void)signal_number;
    (void)!write(STDOUT_FILENO, "FAIL ", 5);
    (void)!write(STDOUT_FILENO, running, strlen(running));
    (void)!write(STDOUT_FILENO, hangs, sizeof hangs - 1);
    _exit(1);
}

int main(int argc, char **argv) {
    int passed = 0, failed = 0, skipped = 0;
    unsigned part = 1, parts = 1, seen = 0;
    if (argc > 2 && (sscanf(argv[2], "%u/%u", &part, &parts) != 2 || part < 1 || part > parts)) {
        (void)fprintf(stderr, "%s: '%s' is no part K/N of the tests\n", argv[0], argv[2]);
        return 2;
    }
    const bool times = getenv("GANTRY_TEST_TIMES") != NULL;
    (void)signal(SIGALRM, give_up);
    for (test_case *t = test_list; t != NULL; t = t->next) {
        if (argc > 1 && strstr(t->name, argv[1]) == NULL) continue;
        if (seen++ % parts != part - 1) continue;
        int before = test_failures;
        test_skip = NULL;
        const time_t began = time(NULL);
        const clock_t used = clock();
        running = t->name;
        (void)alarm(PATIENCE_S);
        t->fn();
        if (time(NULL) - began >= SLOW_S)
            printf("slow %s: %d s\n", t->name, (int)(time(NULL) - began));
        if (times)
            (void)fprintf(stderr, "  %6.2f s %s\n", (double)(clock() - used) / CLOCKS_PER_SEC,
                          t->name);
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
