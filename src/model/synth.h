/* synth.h - model files with random weights of a real shape, for tests and benchmarks.
 *
 * A spec is "SHAPE:TYPE", for example "llama-1.1b:q4_k_m".  The name of a tensor type means that
 * type for every matrix, the name of a mix (model/quant_mix.h) means the mix; rows that are no
 * whole number of blocks get the mix's stand-ins, or are refused when there are none.  The same
 * spec always gives the same bytes.  Weights have the variance that keeps activations of order
 * one, norms are 1; the vocabulary encodes any text. */
#ifndef MODEL_SYNTH_H
#define MODEL_SYNTH_H

#include <stdbool.h>

#include "base/error.h"
#include "base/str.h"

/* Does the model argument name a synthetic model ("synth:...")? */
bool synth_is(const char *model_arg);

/* The spec behind "synth:". */
str synth_spec(const char *model_arg);

/* Writes the GGUF file into fd (borrowed).  ERR_INVALID for an unknown shape or type, or one that
 * does not fit the other; ERR_UNSUPPORTED for a type that is no weight. */
NODISCARD status synth_write(str spec, int fd, error *err);

#endif
