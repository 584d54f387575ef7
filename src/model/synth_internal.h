/* synth_internal.h - the parts of synthetic models: words, and weights of every type. */
#ifndef MODEL_SYNTH_INTERNAL_H
#define MODEL_SYNTH_INTERNAL_H

#include "model/gguf_write.h"

/* A SentencePiece vocabulary of `count` tokens, at least SYNTH_VOCAB_MIN and at most
 * SYNTH_VOCAB_MAX: specials, all bytes, ASCII characters, then made-up syllables. */
enum { SYNTH_VOCAB_MIN = 3 + 256 + 95, SYNTH_VOCAB_MAX = 400000 };
NODISCARD status synth_write_vocab(gguf_writer *w, uint32_t count, error *err);

/* One row of `cols` random elements, whole blocks, of any type but the integers, into `bytes`;
 * the same (tensor, row) always gives the same ones.  Mean 0, standard deviation `sigma`. */
void synth_fill_row(dtype t, uint32_t tensor, uint64_t row, float sigma, uint32_t cols,
                    void *bytes);

/* --- between synth_random.c and synth_blocks.c ------------------------------- */
typedef struct synth_stream {
    uint64_t state;
} synth_stream;

/* The next 64 random bits. */
uint64_t synth_next(synth_stream *s);

/* Quantized types whose blocks are random bits with chosen scales. */
bool synth_has_blocks(dtype t);
void synth_fill_blocks(dtype t, synth_stream *s, float sigma, uint32_t cols, uint8_t *row);

#endif
