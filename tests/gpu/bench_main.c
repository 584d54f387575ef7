/* bench_main.c - measures kernels on a card: `make bench-gpu` starts it, once for each form of the
 * kernels, from bench.py.
 *
 *   bench [--device GPU] [--path native|ptx] [--scale N] [--repeats N] [--only NAME]
 *
 * Lines of JSON on stdout: the first one describes the card, the others are figures.  --scale
 * divides all sizes, to try the procedure on something slow.  Exit status: 0, 1 when a case failed,
 * 2 when there is nothing to run on. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "gpu/bench.h"
#include "gpu/line.h"

enum { REPEATS = 21, SCALE_MAX = 4096, EXIT_FAILED = 1, EXIT_NO_CARD = 2 };

static bool read_number(const char *text, uint64_t most, uint32_t *out) {
    uint64_t n = 0;
    if (!str_to_u64(str_of(text), &n) || n < 1 || n > most) return false;
    *out = (uint32_t)n;
    return true;
}

static bool set_option(const char *name, const char *value, card_options *o, bench *b) {
    if (strcmp(name, "--scale") == 0) return read_number(value, SCALE_MAX, &b->scale);
    if (strcmp(name, "--repeats") == 0) return read_number(value, BENCH_REPEATS_MAX, &b->repeats);
    if (strcmp(name, "--only") != 0) return card_option(o, name, value);
    b->only = value;
    return true;
}

static bool read_options(int argc, char **argv, card_options *o, bench *b) {
    for (int i = 1; i < argc; i += 2)
        if (i + 1 == argc || !set_option(argv[i], argv[i + 1], o, b)) return false;
    return true;
}

static void print_card(const bench *b) {
    line l;
    line_begin(&l);
    card_describe(b->card, &l.w);
    json_kv_uint(&l.w, "l2_bytes", b->l2_bytes);
    json_kv_uint(&l.w, "scale", b->scale);
    line_end(&l);
}

static status measure(bench *b, error *err) {
    TRY(bench_open(b, err));
    print_card(b);
    return bench_kernels(b, err);
}

int main(int argc, char **argv) {
    static card c;
    bench b = {.card = &c, .scale = 1, .repeats = REPEATS};
    card_options o = {.device = NULL};
    error err = {0};
    log_set_level(LOG_WARN);
    if (!read_options(argc, argv, &o, &b)) {
        (void)fprintf(stderr, "usage: bench [--device GPU] [--path native|ptx] [--scale N] "
                              "[--repeats N] [--only NAME]\n");
        return EXIT_NO_CARD;
    }
    if (card_open(&c, o.device, o.path, &err) != OK) {
        card_say_none(&err);
        return EXIT_NO_CARD;
    }
    cuda_device_overlap(&c.dev, true);
    status st = measure(&b, &err);
    if (st != OK) (void)fprintf(stderr, "gpu: %s\n", err.msg);
    bench_close(&b);
    card_close(&c);
    return st == OK ? 0 : EXIT_FAILED;
}
