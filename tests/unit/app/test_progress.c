/* test_progress.c - the line on the terminal. */
#include "app/progress.h"

#include "test.h"

TEST(progress_line_shows_name_fraction_and_what_is_done) {
    progress_line p = {.name = "tiny"};
    char text[PROGRESS_LINE_BYTES];
    progress_text(&p, "reading the weights", 500, text);
    CHECK_STR(text, "tiny  50 % [############------------] reading the weights");
    progress_text(&p, "x", 0, text);
    CHECK_STR(text, "tiny   0 % [------------------------] x");
    progress_text(&p, "x", 1000, text);
    CHECK_STR(text, "tiny 100 % [########################] x");
}

TEST(progress_line_is_silent_without_a_terminal) {
    progress_line p = {0};
    progress_show(&p, "x", 10); /* nothing is written, nothing is remembered */
    CHECK_EQ(p.shown_ns, 0);
    progress_end(&p);
}
