/* assert.c - see assert.h. */
#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

void assert_fail(const char *expr, const char *file, int line) {
    (void)fprintf(stderr, "%s:%d: ASSERT(%s)\n", file, line, expr);
    abort();
}
