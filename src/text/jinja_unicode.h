/* jinja_unicode.h - characters as Python sees them: classes, case, and walking through UTF-8.
 *
 * Every string here is valid UTF-8: the source and the context are checked at the door, and no
 * operation cuts inside a character.  Pure functions, any thread.
 * Source: the Python library reference, "Text Sequence Type - str"; character data: utf8proc. */
#ifndef TEXT_JINJA_UNICODE_H
#define TEXT_JINJA_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

enum { JINJA_CHAR_BYTES = 4, JINJA_CASE_CHARS = 3 };

/* The character at s.p and its bytes; s is not empty. */
size_t jinja_char_get(str s, uint32_t *code);
/* The last character of s and its bytes; s is not empty. */
size_t jinja_char_get_last(str s, uint32_t *code);
/* Writes it; returns its bytes.  code is a Unicode scalar value. */
size_t jinja_char_put(char out[JINJA_CHAR_BYTES], uint32_t code);

/* Characters in s. */
size_t jinja_char_count(str s);
/* Bytes of the first `chars` characters, all of s when it has fewer. */
size_t jinja_char_offset(str s, size_t chars);

bool jinja_char_is_space(uint32_t code); /* str.isspace, \s */
bool jinja_char_is_line_end(uint32_t code);
bool jinja_char_is_word(uint32_t code); /* \w */
bool jinja_char_is_alpha(uint32_t code);
bool jinja_char_is_digit(uint32_t code);   /* str.isdigit, ASCII and decimal digits */
bool jinja_char_is_numeric(uint32_t code); /* str.isnumeric: N* */
bool jinja_char_is_upper(uint32_t code);
bool jinja_char_is_lower(uint32_t code);
bool jinja_char_is_title(uint32_t code);
bool jinja_char_is_printable(uint32_t code); /* repr shows it as it is */

/* The case mappings; a few characters become two or three.  Returns how many. */
size_t jinja_char_upper(uint32_t code, uint32_t out[JINJA_CASE_CHARS]);
size_t jinja_char_title(uint32_t code, uint32_t out[JINJA_CASE_CHARS]);
size_t jinja_char_lower(uint32_t code, uint32_t out[JINJA_CASE_CHARS]);

/* Without white space at its left, right end. */
str jinja_strip_left(str s);
str jinja_strip_right(str s);

#endif
