/* line.c - see line.h. */
#include "gpu/line.h"

#include <stdio.h>

#include "base/assert.h"

enum { LINE_BYTES_MAX = 4096 };

void line_begin(line *l) {
    buf_init(&l->text, LINE_BYTES_MAX);
    json_writer_init(&l->w, &l->text);
    json_begin_object(&l->w);
}

void line_end(line *l) {
    json_end_object(&l->w);
    ASSERT(!l->text.failed);
    (void)fwrite(l->text.p, 1, l->text.n, stdout);
    (void)putchar('\n');
    (void)fflush(stdout);
    buf_deinit(&l->text);
}
