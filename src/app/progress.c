/* progress.c - see progress.h. */
#include "app/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "base/os.h"

enum { BAR_CELLS = 24, SHOW_MS = 50 };

void progress_begin(progress_line *p, str name) {
    *p = (progress_line){.on = isatty(2) != 0};
    str_copy_c(p->name, sizeof p->name, name);
}

void progress_text(const progress_line *p, const char *what, uint32_t permille,
                   char out[PROGRESS_LINE_BYTES]) {
    char bar[BAR_CELLS + 1];
    uint32_t full = permille * BAR_CELLS / 1000;
    for (uint32_t i = 0; i < BAR_CELLS; i++) bar[i] = i < full ? '#' : '-';
    bar[BAR_CELLS] = '\0';
    (void)snprintf(out, PROGRESS_LINE_BYTES, "%s %3u %% [%s] %s", p->name, permille / 10, bar,
                   what);
}

/* "\r" goes back, "\033[K" clears to the end of the line (ECMA-48, EL). */
void progress_show(progress_line *p, const char *what, uint32_t permille) {
    char text[PROGRESS_LINE_BYTES];
    uint64_t now = os_now_ns();
    if (!p->on || (p->shown_ns != 0 && now - p->shown_ns < SHOW_MS * UINT64_C(1000000))) return;
    p->shown_ns = now;
    progress_text(p, what, permille, text);
    (void)fprintf(stderr, "\r\033[K%s", text);
    (void)fflush(stderr);
}

void progress_end(progress_line *p) {
    if (p->on && p->shown_ns != 0) (void)fprintf(stderr, "\r\033[K");
    p->on = false;
}
