/* jinja_text.h - what can be done to a string: shared by filters and methods.
 *
 * The names are those of Python's str.  Counts and widths are in characters. */
#ifndef TEXT_JINJA_TEXT_H
#define TEXT_JINJA_TEXT_H

#include "text/jinja_run.h"

NODISCARD status jinja_str_upper(jinja_run *r, str s, jinja_value *out);
NODISCARD status jinja_str_lower(jinja_run *r, str s, jinja_value *out);
NODISCARD status jinja_str_swapcase(jinja_run *r, str s, jinja_value *out);
NODISCARD status jinja_str_capitalize(jinja_run *r, str s, jinja_value *out);
/* Every run of letters; the filter `title` is another matter. */
NODISCARD status jinja_str_title(jinja_run *r, str s, jinja_value *out);
/* Letters of s in lower case to the end of the text, the first as a title or as it would be. */
void jinja_put_lower(jinja_run *r, str s);
void jinja_put_capitalized(jinja_run *r, str s, bool upper);

/* chars: MISSING or none is white space. */
NODISCARD status jinja_str_strip(jinja_run *r, str s, const jinja_value *chars, bool left,
                                 bool right, str *out);
/* count < 0: all. */
NODISCARD status jinja_str_replace(jinja_run *r, str s, str old, str with, int64_t count,
                                   jinja_value *out);
/* separator: MISSING or none is runs of white space.  most < 0: no limit. */
NODISCARD status jinja_str_split(jinja_run *r, str s, const jinja_value *separator, int64_t most,
                                 bool from_right, jinja_value *out);
NODISCARD status jinja_str_splitlines(jinja_run *r, str s, bool keep_ends, jinja_value *out);
NODISCARD status jinja_str_join(jinja_run *r, str separator, const jinja_value *items, size_t count,
                                bool only_strings, jinja_value *out);
/* left and right fill as str.center does it, ljust, rjust by `align`: c, l, r. */
NODISCARD status jinja_str_pad(jinja_run *r, str s, int64_t width, uint32_t fill, char align,
                               jinja_value *out);

#endif
