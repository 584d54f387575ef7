/* progress.c - see progress.h. */
#include "train/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "base/os.h"

enum { BAR_CELLS = 20, SHOW_MS = 100 };

/* "\r" goes back, "\033[K" clears to the end of the line (ECMA-48, EL). */
#define CLEAR_LINE "\r\033[K"

void train_progress_begin(progress *p, uint32_t first, uint32_t steps, uint32_t every, bool quiet) {
    *p = (progress){.terminal = isatty(2) != 0,
                    .quiet = quiet,
                    .steps = steps,
                    .every = every,
                    .begin_ns = os_now_ns(),
                    .first = first,
                    .validation = -1};
}

static double tokens_per_s(const progress *p, double seconds) {
    return seconds > 0 ? (double)p->tokens / seconds : 0;
}

void train_progress_text(const progress *p, const train_progress_step *s, double seconds,
                         char out[PROGRESS_BYTES]) {
    char bar[BAR_CELLS + 1], validation[32] = "";
    const uint32_t full = (uint32_t)((uint64_t)s->step * BAR_CELLS / p->steps);
    const uint32_t done = s->step - p->first;
    const double left = done > 0 ? seconds / done * (p->steps - s->step) : 0;
    for (uint32_t i = 0; i < BAR_CELLS; i++) bar[i] = i < full ? '#' : '-';
    bar[BAR_CELLS] = '\0';
    if (p->validation >= 0)
        (void)snprintf(validation, sizeof validation, "  validation %.3f", p->validation);
    (void)snprintf(out, PROGRESS_BYTES, "step %u/%u [%s] loss %.3f%s  %.0f tokens/s  %u:%02u left",
                   s->step, p->steps, bar, p->loss, validation, tokens_per_s(p, seconds),
                   (unsigned)left / 60, (unsigned)left % 60);
}

static void show_terminal(progress *p, const train_progress_step *s, uint64_t now) {
    char text[PROGRESS_BYTES];
    if (p->shown_ns != 0 && now - p->shown_ns < SHOW_MS * UINT64_C(1000000)) return;
    p->shown_ns = now;
    train_progress_text(p, s, (double)(now - p->begin_ns) / 1e9, text);
    (void)fprintf(stderr, CLEAR_LINE "%s", text);
    (void)fflush(stderr);
}

void train_progress_show(progress *p, const train_progress_step *s) {
    const uint64_t now = os_now_ns();
    p->tokens += s->tokens;
    p->loss_sum += s->loss;
    p->loss_count++;
    const bool due = s->step % p->every == 0 || s->step == p->steps;
    if (due || p->loss == 0) p->loss = p->loss_sum / p->loss_count;
    if (!p->quiet && p->terminal) show_terminal(p, s, now);
    if (!due) return;
    p->loss_sum = 0;
    p->loss_count = 0;
    if (!p->quiet && !p->terminal)
        (void)fprintf(stderr, "step %u/%u loss %.4f rate %.2e norm %.2f tokens/s %.0f\n", s->step,
                      p->steps, p->loss, (double)s->rate, (double)s->norm,
                      tokens_per_s(p, (double)(now - p->begin_ns) / 1e9));
}

void train_progress_validation(progress *p, uint32_t step, double loss) {
    p->validation = loss;
    if (!p->quiet)
        (void)fprintf(stderr, "%sstep %u/%u validation %.4f\n", p->terminal ? CLEAR_LINE : "", step,
                      p->steps, loss);
}

void train_progress_end(progress *p) {
    if (!p->quiet && p->terminal && p->shown_ns != 0) (void)fprintf(stderr, CLEAR_LINE);
}
