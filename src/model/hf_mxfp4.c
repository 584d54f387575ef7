/* hf_mxfp4.c - the experts of GPT-OSS: MXFP4 in two tensors, as blocks of ggml's MXFP4.
 *
 *   file   blocks u8 [experts, rows, cols / 32, 16]: element 2i in the low half of byte i, 2i + 1
 *          in the high half;  scales u8 [experts, rows, cols / 32];  bias [experts, rows]
 *   ggml   17 bytes a block: the scale, then element i in the low half of byte i, i + 16 above it
 * In "gate_up_proj" rows of gate and up take turns.  Everything is copied: the two orders have no
 * common place.  Sources: the model card of gpt-oss; ggml's block_mxfp4. */
#include <inttypes.h>
#include <stdio.h>

#include "base/num.h"
#include "model/hf_internal.h"

enum { BLOCK_ELEMS = 32, FILE_BYTES = 16, BLOCK_BYTES = 17 };

typedef struct mxfp4 {
    const uint8_t *blocks, *scales;
    uint64_t rows, row_blocks;
    uint32_t step; /* 2: every other row */
} mxfp4;

static void put_block(uint8_t *out, uint8_t scale, const uint8_t *in) {
    out[0] = scale;
    for (uint32_t i = 0; i < FILE_BYTES; i++) {
        uint32_t low = i / 2, high = i / 2 + FILE_BYTES / 2, shift = i % 2 * 4;
        out[1 + i] = (uint8_t)((in[low] >> shift & 15) | (in[high] >> shift & 15) << 4);
    }
}

/* Rows row0, row0 + step, ... of every expert. */
static status put_rows(hf_job *j, const mxfp4 *x, uint32_t row0, const char *name, error *err) {
    uint64_t rows = x->rows / x->step, bytes = 0;
    if (!num_mul_u64(&bytes, (uint64_t)j->experts * rows, x->row_blocks * BLOCK_BYTES))
        return error_set(err, ERR_FORMAT, "'%s' has too many elements", name);
    uint8_t *out = gguf_make_take(j->maker, bytes);
    if (out == NULL)
        return error_set(err, ERR_NOMEM, "no memory for %" PRIu64 " bytes of '%s'", bytes, name);
    gguf_tensor t = {.name = str_of(name),
                     .type = DTYPE_MXFP4,
                     .dims_count = 3,
                     .dims = {x->row_blocks * BLOCK_ELEMS, rows, j->experts, 1},
                     .data = out};
    for (uint64_t e = 0; e < j->experts; e++)
        for (uint64_t r = row0; r < x->rows; r += x->step)
            for (uint64_t b = 0; b < x->row_blocks; b++, out += BLOCK_BYTES) {
                uint64_t at = (e * x->rows + r) * x->row_blocks + b;
                put_block(out, x->scales[at], x->blocks + at * FILE_BYTES);
            }
    gguf_make_tensor(j->maker, &t);
    return OK;
}

static float load(const safetensor *t, uint64_t i) {
    float f = 0;
    uint32_t word = 0;
    uint16_t half = 0;
    if (t->type == SAFETENSORS_F32) {
        memcpy(&f, (const char *)t->data + i * sizeof f, sizeof f);
        return f;
    }
    memcpy(&half, (const char *)t->data + i * sizeof half, sizeof half);
    word = (uint32_t)half << 16; /* BF16 */
    memcpy(&f, &word, sizeof f);
    return f;
}

static status put_bias(hf_job *j, const safetensor *t, uint64_t rows_in, uint32_t row0,
                       uint32_t step, const char *name, error *err) {
    uint64_t rows = rows_in / step;
    if ((t->type != SAFETENSORS_F32 && t->type != SAFETENSORS_BF16) || t->dims_count != 2 ||
        t->dims[0] != j->experts || t->dims[1] != rows_in)
        return error_set(err, ERR_FORMAT, "tensor '%.*s' must be BF16 or F32 [%u, %" PRIu64 "]",
                         STR(t->name), j->experts, rows_in);
    float *out = gguf_make_take(j->maker, j->experts * rows * sizeof *out);
    if (out == NULL) return error_set(err, ERR_NOMEM, "no memory for '%s'", name);
    for (uint64_t e = 0; e < j->experts; e++)
        for (uint64_t r = 0; r < rows; r++)
            out[e * rows + r] = load(t, e * rows_in + row0 + r * step);
    gguf_tensor made = {.name = str_of(name),
                        .type = DTYPE_F32,
                        .dims_count = 2,
                        .dims = {rows, j->experts, 1, 1},
                        .data = out};
    gguf_make_tensor(j->maker, &made);
    return OK;
}

static status check(hf_job *j, const hf_module *mod, mxfp4 *out, error *err) {
    const safetensor *b = mod->pieces[HF_PIECE_DATA], *s = mod->pieces[HF_PIECE_SCALES];
    bool stacked = b != NULL && s != NULL && b->type == SAFETENSORS_U8 &&
                   s->type == SAFETENSORS_U8 && b->dims_count == 4 && s->dims_count == 3 &&
                   b->dims[0] == j->experts && b->dims[3] == FILE_BYTES;
    if (!stacked)
        return error_set(err, ERR_UNSUPPORTED,
                         "module '%.*s' has no blocks of 16 bytes (u8) and scales of %u experts, "
                         "which is how MXFP4 is stored",
                         STR(mod->match.module), j->experts);
    for (uint32_t i = 0; i < 3; i++)
        if (b->dims[i] != s->dims[i])
            return error_set(err, ERR_FORMAT,
                             "tensor '%.*s': dimension %u is %" PRIu64
                             ", that of its scales %" PRIu64,
                             STR(b->name), i, b->dims[i], s->dims[i]);
    *out = (mxfp4){b->data, s->data, b->dims[1], b->dims[2], out->step};
    if (out->rows % out->step == 0) return OK;
    return error_set(err, ERR_FORMAT,
                     "tensor '%.*s' has %" PRIu64 " rows, want pairs of gate and up", STR(b->name),
                     out->rows);
}

static status put_target(hf_job *j, const hf_module *mod, const mxfp4 *x, uint32_t row0,
                         const char *pattern, error *err) {
    char stem[GGUF_NAME_BYTES_MAX - 8], name[GGUF_NAME_BYTES_MAX];
    const safetensor *bias = mod->pieces[HF_PIECE_BIAS];
    if (!hf_name_expand(pattern, mod->match.layer, 0, stem, sizeof stem))
        return error_set(err, ERR_INTERNAL, "layer %u has a name too long", mod->match.layer);
    (void)snprintf(name, sizeof name, "%s.weight", stem);
    TRY(put_rows(j, x, row0, name, err));
    if (bias == NULL) return OK;
    (void)snprintf(name, sizeof name, "%s.bias", stem);
    return put_bias(j, bias, x->rows, row0, x->step, name, err);
}

status hf_mxfp4_read(hf_job *j, const hf_module *mod, error *err) {
    bool two = (mod->match.row->bits & HF_GATE_UP) != 0;
    mxfp4 x = {.step = two ? 2 : 1};
    TRY(check(j, mod, &x, err));
    TRY(put_target(j, mod, &x, 0, mod->match.row->gguf, err));
    return two ? put_target(j, mod, &x, 1, "blk.#.ffn_up_exps", err) : OK;
}
