/* quantize.c - `gantry quantize IN OUT TYPE`: a GGUF file with its weights in another type.
 *
 * Stdout gets one line at the end; stderr the warnings and, on a terminal, how far it is. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "app/commands.h"
#include "base/os.h"
#include "model/requant.h"
#include "tensor/quant.h"

enum { PROGRESS_MS = 100 };

/* --- being stopped -------------------- */
static volatile sig_atomic_t stopped;

static void on_stop(int signal_number) {
    (void)signal_number;
    stopped = 1;
}

/* What whoever started us has ignored stays ignored (nohup, jobs in the background of a script).
 * A limit on the size of files is an error of the write, not the end. */
static void catch_stop(void) {
    const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    const struct sigaction act = {.sa_handler = on_stop};
    stopped = 0;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction old;
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            (void)sigaction(signals[i], &act, NULL);
    }
    (void)signal(SIGXFSZ, SIG_IGN);
}

/* --- progress -------------------- */
typedef struct progress {
    bool shown;
    uint64_t start_ns;
    uint64_t last_ns;
} progress;

#define CLEAR_LINE "\r\033[K"

static void show_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes) {
    progress *p = ctx;
    const uint64_t now = os_now_ns();
    if (now - p->last_ns < PROGRESS_MS * UINT64_C(1000000)) return;
    p->last_ns = now;
    p->shown = true;
    const double s = (double)(now - p->start_ns) / 1e9, done = (double)done_bytes;
    (void)fprintf(stderr, CLEAR_LINE "%3.0f %%  %.0f of %.0f MB, %.0f MB/s",
                  100.0 * done / (double)(total_bytes > 0 ? total_bytes : 1), done / 1e6,
                  (double)total_bytes / 1e6, done / 1e6 / s);
    (void)fflush(stderr);
}

static void end_progress(const progress *p) {
    if (p->shown) (void)fprintf(stderr, CLEAR_LINE);
}

/* --- the arguments -------------------- */
static status refuse_type(const char *flag, str name, error *err) {
    char names[256];
    size_t n = 0;
    for (uint32_t i = 0; i < DTYPE_ID_END; i++) {
        if (!quant_is_writable((dtype)i)) continue;
        const char *type = dtype_name((dtype)i);
        const size_t bytes = strlen(type);
        if (n + bytes + 2 > sizeof names) break;
        names[n++] = ' ';
        memcpy(names + n, type, bytes + 1);
        n += bytes;
    }
    return error_set(err, ERR_INVALID, "usage: --%s: no type '%.*s' can be written; types:%s", flag,
                     STR(name), names);
}

static status parse_type(const char *flag, str name, dtype *type, const dtype **out, error *err) {
    if (name.n == 0) return OK;
    if (!dtype_from_name(name, type) || !quant_is_writable(*type))
        return refuse_type(flag, name, err);
    *out = type;
    return OK;
}

static status parse_mix(const char *name, quant_mix *out, error *err) {
    dtype t = DTYPE_F32;
    if (quant_mix_from_name(str_of(name), out)) return OK;
    if (dtype_from_name(str_of(name), &t))
        return error_set(err, ERR_INVALID,
                         "usage: type '%s' can be read, but not written; types: %s", name,
                         quant_mix_names());
    return error_set(err, ERR_INVALID, "usage: no type '%.32s'; types: %s", name,
                     quant_mix_names());
}

/* --- the summary -------------------- */
static double per(double a, double b) { return b > 0 ? a / b : 0; }

static void print_summary(const char *out, const requant_report *r) {
    const double s = (double)r->ns / 1e9, elems = (double)r->elems;
    printf("%s: %.1f MB to %.1f MB, %.2f to %.2f bits per weight, %u of %u tensors converted", out,
           (double)r->in_bytes / 1e6, (double)r->out_bytes / 1e6,
           per(8.0 * (double)r->in_bytes, elems), per(8.0 * (double)r->out_bytes, elems),
           r->converted, r->tensors);
    if (r->fallbacks > 0) printf(", %u of them to a fallback type", r->fallbacks);
    if (r->without_importance > 0) printf(", %u without importance", r->without_importance);
    printf(", %.2f s, %.1f MB/s of f32\n", s, per((double)r->f32_bytes / 1e6, s));
}

/* --- the command -------------------- */
status command_quantize(const config *c, error *err) {
    progress p = {.start_ns = os_now_ns()};
    requant_options opt = {.threads = c->threads, .pure = c->pure, .stop = &stopped};
    requant_report report;
    dtype output, token_embd;
    if (c->argc_rest != 3)
        return error_set(err, ERR_INVALID, "usage: IN, OUT and TYPE are wanted, %d given",
                         c->argc_rest);
    TRY(parse_mix(c->argv_rest[2], &opt.mix, err));
    TRY(parse_type("output-type", c->output_type, &output, &opt.output, err));
    TRY(parse_type("token-embd-type", c->token_embd_type, &token_embd, &opt.token_embd, err));
    if (c->imatrix_file.n > 0) opt.imatrix = c->imatrix_file.p;
    if (isatty(2)) {
        opt.progress = show_progress;
        opt.progress_ctx = &p;
    }
    catch_stop();
    status st = requant_file(c->argv_rest[0], c->argv_rest[1], &opt, &report, err);
    end_progress(&p);
    if (st == OK) print_summary(c->argv_rest[1], &report);
    return st;
}
