/* forward.h - an architecture's forward pass, recorded as a program. */
#ifndef ENGINE_FORWARD_H
#define ENGINE_FORWARD_H

#include "backend/program.h"
#include "model/model.h"

/* Record `m` for batches of at most rows_max rows, of which at most taken_rows_max want
 * logits, each looking back on at most ctx_max tokens.  The model must outlive it. */
NODISCARD status forward_record(program **out, const model *m, uint32_t rows_max,
                                uint32_t taken_rows_max, uint32_t ctx_max, error *err);

#endif
