/* progress.h - one line on the terminal that shows how far something has come.
 *
 * Rewritten in place, at most 20 times a second, and only where stderr is a terminal; it is gone
 * when the work is done.  Owner: whoever holds the struct; one thread. */
#ifndef APP_PROGRESS_H
#define APP_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

enum { PROGRESS_LINE_BYTES = 160 };

typedef struct progress_line {
    bool on; /* there is a terminal */
    char name[48];
    uint64_t shown_ns; /* when it was last written */
} progress_line;

void progress_begin(progress_line *p, str name);
/* `what` is short; permille is 0..1000. */
void progress_show(progress_line *p, const char *what, uint32_t permille);
void progress_end(progress_line *p);

/* The line's text, for tests: "name  43 % [####------] what". */
void progress_text(const progress_line *p, const char *what, uint32_t permille,
                   char out[PROGRESS_LINE_BYTES]);

#endif
