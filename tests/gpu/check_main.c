/* check_main.c - runs the tests of kernels on a card: check.py of `make check-gpu` starts it, once
 * for each form of the kernels.
 *
 *   check [--device GPU] [--path native|ptx] [--exact] [--after TEST] [FILTER]
 *
 * The first line of stdout describes the card, in JSON; then one line for each test, "ok NAME", or
 * "FAIL NAME: why", or "skip NAME: why"; what was checked is on stderr.  Exit status: 0 none
 * failed, 1 some did, 2 nothing to run on, 3 the card was lost on the way: nothing runs on it in
 * this process any more, and --after goes on behind that test in another one. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "gpu/line.h"
#include "gpu/rig_card.h"
#include "test.h"

enum { EXIT_FAILED = 1, EXIT_NO_CARD = 2, EXIT_LOST = 3 };

test_case *test_list;
int test_failures;
const char *test_skip;

typedef struct check_options {
    card_options card;
    const char *after, *filter; /* NULL: from the first one; all */
    bool exact;
} check_options;

static bool read_options(int argc, char **argv, check_options *o) {
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(word, "--exact") == 0) {
            o->exact = true;
        } else if (strcmp(word, "--after") == 0) {
            o->after = value;
            i++;
        } else if (card_option(&o->card, word, value)) {
            i++;
        } else if (word[0] == '-' || o->filter != NULL) {
            return false;
        } else {
            o->filter = word;
        }
    }
    return true;
}

static void print_card(const card *c) {
    line l;
    line_begin(&l);
    card_describe(c, &l.w);
    line_end(&l);
}

/* Did it pass, as far as it ran? */
static bool run_test(const test_case *t) {
    int before = test_failures;
    test_skip = NULL;
    t->fn();
    int failed = test_failures - before;
    if (failed != 0)
        printf("FAIL %s: %d check%s failed\n", t->name, failed, failed == 1 ? "" : "s");
    else if (test_skip != NULL)
        printf("skip %s: %s\n", t->name, test_skip);
    else
        printf("ok %s\n", t->name);
    (void)fflush(stdout);
    return failed == 0;
}

static int run_tests(const card *c, const check_options *o) {
    bool begun = o->after == NULL;
    int verdict = 0;
    for (const test_case *t = test_list; t != NULL; t = t->next) {
        bool wanted = begun && (o->filter == NULL || strstr(t->name, o->filter) != NULL);
        begun = begun || strcmp(t->name, o->after) == 0;
        if (!wanted || run_test(t)) continue;
        verdict = EXIT_FAILED;
        if (c->dev.fault != CU_SUCCESS) return EXIT_LOST;
    }
    return verdict;
}

int main(int argc, char **argv) {
    static card c;
    check_options o = {.exact = false};
    error err = {0};
    log_set_level(LOG_WARN);
    if (!read_options(argc, argv, &o)) {
        (void)fprintf(stderr, "usage: check [--device GPU] [--path native|ptx] [--exact] "
                              "[--after TEST] [FILTER]\n");
        return EXIT_NO_CARD;
    }
    if (card_open(&c, o.card.device, o.card.path, &err) != OK) {
        card_say_none(&err);
        return EXIT_NO_CARD;
    }
    print_card(&c);
    rig_card_use(&c, o.exact);
    int verdict = run_tests(&c, &o);
    card_close(&c);
    return verdict;
}
