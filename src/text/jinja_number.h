/* jinja_number.h - numbers from text and to text, as Python writes them. Pure functions. */
#ifndef TEXT_JINJA_NUMBER_H
#define TEXT_JINJA_NUMBER_H

#include "text/jinja_value.h"

enum { JINJA_NUMBER_BYTES = 48 };

/* int(s, base): white space around it, a sign, underscores between digits; base 0 goes by the
 * prefix.  False for what is no integer and for what does not fit. */
bool jinja_parse_int(str s, int base, jinja_int *out);
/* float(s), "inf" and "nan" included. */
bool jinja_parse_float(str s, double *out);
/* Decimal; returns its bytes. */
size_t jinja_write_int(char out[JINJA_NUMBER_BYTES], jinja_int v);
/* repr(v): the shortest digits that read back as v. */
size_t jinja_write_float(char out[JINJA_NUMBER_BYTES], double v);
/* Truncated; false for NaN, infinities and what does not fit. */
bool jinja_float_to_int(double f, jinja_int *out);

#endif
