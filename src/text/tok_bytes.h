/* tok_bytes.h - the two ways in which pieces spell bytes: <0xXX>, and the alphabet of GPT-2.
 *
 * In the alphabet each byte is one printable character: the printable ones of Latin-1 stand for
 * themselves, the other 68 are U+0100 and up, in order.  Pure functions, any thread.
 * Source: the encoder published with GPT-2 (OpenAI 2019), "bytes_to_unicode". */
#ifndef TEXT_TOK_BYTES_H
#define TEXT_TOK_BYTES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* The byte of a piece "<0xXX>", -1 when it is not of that form. */
int tok_byte_of_piece(str piece);

/* The character that stands for `byte`, as UTF-8 in `out`; returns its length, 1 or 2. */
uint32_t tok_alphabet_spell(uint8_t byte, char out[2]);

/* The bytes a text in the alphabet stands for, at most text.n of them, to `out`.  False, with
 * `out` undefined, when a character is not of the alphabet. */
bool tok_alphabet_read(str text, char *out, size_t *bytes);

#endif
