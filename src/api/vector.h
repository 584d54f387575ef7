/* vector.h - the vectors of an answer: embeddings as clients want them, scores of a reranker. */
#ifndef API_VECTOR_H
#define API_VECTOR_H

#include "api/gen.h"
#include "json/write.h"

/* Values of the vector of input i. */
uint32_t vector_count(const gen_call *g, uint32_t i);
float vector_value(const gen_call *g, uint32_t i, uint32_t at);

/* The vector of input i, cut to form.dimensions and then scaled to length 1 (Matryoshka embeddings,
 * Kusupati et al. 2022), as numbers or in base64. */
void vector_write(json_writer *w, const gen_call *g, uint32_t i);

/* Score of input i between 0 and 1: the sigmoid of a single label, or the last label's share in
 * the softmax over all of them. */
double vector_score(const gen_call *g, uint32_t i);

/* Callbacks of a dialect whose answer is written when all vectors are there: nothing before. */
void vector_on_accepted(gen_call *g);
void vector_on_text(gen_call *g, uint32_t choice, const gen_event *e);
void vector_on_finish(gen_call *g, uint32_t choice);

/* "usage" of a call that generates nothing: prompt_tokens, total_tokens. */
void vector_usage(json_writer *w, const gen_call *g);

#endif
