/* hf_tensors.h - what hf_tensors.c and hf_split.c share. */
#ifndef MODEL_HF_TENSORS_H
#define MODEL_HF_TENSORS_H

#include "model/hf_internal.h"

/* F32, F16 or BF16; ERR_UNSUPPORTED for others. */
NODISCARD status hf_plain_type(const safetensor *t, dtype *out, error *err);
/* Zeroed memory of the description, for a copy of `t`. */
NODISCARD status hf_take(hf_job *j, const safetensor *t, uint64_t bytes, void **out, error *err);
/* Heads whose rows are rotary halves in this class and adjacent in GGUF; 0: none. */
uint32_t hf_halves_of(const hf_job *j, uint32_t bits);

/* --- hf_split.c ------------------------------------------------------------------------ */
/* Are q, k and v fused head by head?  With a single key head there is nothing to move. */
bool hf_is_by_head(const hf_job *j, uint32_t bits);
/* Rows of q, k and v come group by group, a group being a key head with its query heads; *out gets
 * all rows of q, then all of k, then all of v.  data: rows of row_bytes. */
NODISCARD status hf_split_heads(hf_job *j, const safetensor *t, uint64_t row_bytes,
                                const void *data, void **out, error *err);
/* `whole`, whose rows are those of q, k and v in turn (HF_QKV_APART) or of up and gate
 * (HF_UP_GATE), as tensors of their own; `suffix` is "weight" or "bias". */
NODISCARD status hf_put_slices(hf_job *j, const hf_match *m, const gguf_tensor *whole,
                               const char *suffix, error *err);
/* Every row of `t` divided by its length, as f32. */
NODISCARD status hf_unit_rows(hf_job *j, const safetensor *t, gguf_tensor *out, error *err);

#endif
