/* line.h - one JSON object on one line of stdout: what our programs tell check.py and bench.py. */
#ifndef TESTS_GPU_LINE_H
#define TESTS_GPU_LINE_H

#include "json/write.h"

typedef struct line {
    buf text;
    json_writer w; /* inside the object */
} line;

void line_begin(line *l);
void line_end(line *l); /* written out at once */

#endif
