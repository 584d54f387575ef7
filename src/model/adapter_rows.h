/* adapter_rows.h - rows of matrix B in the order of the model's rows, for adapter*.c only.
 *
 * Query and key rows of some architectures stand in another order in GGUF files (pairs that a
 * rotary position turns are adjacent) than in Hugging Face files (they are half a head apart).  An
 * adapter may come from one world and the model from the other. */
#ifndef MODEL_ADAPTER_ROWS_H
#define MODEL_ADAPTER_ROWS_H

#include "model/adapter_internal.h"

/* b is in GGUF's order.  A model of a Hugging Face directory has the other one. */
NODISCARD status adapter_rows_from_gguf(adapter *a, str tensor, model_tensor *b, error *err);
/* b is in Hugging Face's order of a tensor with `heads` heads whose pairs are halves there. */
NODISCARD status adapter_rows_from_halves(adapter *a, str tensor, uint32_t heads, model_tensor *b,
                                          error *err);

#endif
