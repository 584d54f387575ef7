/* dequantize.c - `gantry dequantize`: blocks of one type on stdin, f32 on stdout. */
#include <inttypes.h>

#include "app/commands.h"
#include "base/alloc.h"
#include "base/os.h"
#include "model/quant_mix.h"
#include "tensor/convert.h"

enum { CHUNK_ELEMS = 64 << 10 }; /* a multiple of every block */

typedef struct converter {
    const dtype_info *type;
    uint8_t *in; /* owned; [in_bytes_max] */
    size_t in_bytes_max;
    size_t in_bytes; /* read and not yet converted */
    uint64_t total_bytes;
    float *out; /* owned; [CHUNK_ELEMS] */
} converter;

static status find_type(const config *c, const dtype_info **out, error *err) {
    dtype t = DTYPE_F32;
    if (c->argc_rest != 1)
        return error_set(err, ERR_INVALID, "usage: one TYPE is wanted, %d given", c->argc_rest);
    str name = str_of(c->argv_rest[0]);
    if (name.n > 16) name.n = 16; /* longer than any: leave room for those there are */
    if (dtype_from_name(name, &t)) {
        *out = dtype_get((uint32_t)t);
        return OK;
    }
    quant_mix mix = QUANT_MIX_F32;
    if (quant_mix_from_name(name, &mix))
        return error_set(err, ERR_INVALID,
                         "usage: '%.*s' is a mix of types in one model; most blocks of it are %s",
                         STR(name), dtype_name(quant_mix_type(mix)));
    return error_set(err, ERR_INVALID, "usage: type '%.*s' is not one of %s", STR(name),
                     dtype_names());
}

/* The whole blocks that are there; a rest stays at the front. */
static status convert_blocks(converter *v, error *err) {
    const size_t blocks = v->in_bytes / v->type->block_bytes;
    const size_t used = blocks * v->type->block_bytes, elems = blocks * v->type->block_elems;
    dequant_row((dtype)v->type->id, v->in, v->out, (uint32_t)elems);
    v->in_bytes -= used;
    memmove(v->in, v->in + used, v->in_bytes);
    return command_write_stdout(v->out, elems * sizeof *v->out, err);
}

static status convert_stdin(converter *v, error *err) {
    for (;;) {
        size_t got = 0;
        TRY(os_read_some(0, v->in + v->in_bytes, v->in_bytes_max - v->in_bytes, &got, err));
        if (got == 0) break;
        v->in_bytes += got;
        v->total_bytes += got;
        TRY(convert_blocks(v, err));
    }
    if (v->in_bytes == 0) return OK;
    return error_set(err, ERR_FORMAT,
                     "stdin: %" PRIu64 " bytes are no whole number of %s blocks of %u bytes, %zu "
                     "are left over",
                     v->total_bytes, v->type->name, v->type->block_bytes, v->in_bytes);
}

status command_dequantize(const config *c, error *err) {
    converter v = {0};
    TRY(find_type(c, &v.type, err));
    v.in_bytes_max = (size_t)CHUNK_ELEMS / v.type->block_elems * v.type->block_bytes;
    v.in = mem_alloc(v.in_bytes_max);
    v.out = mem_alloc(CHUNK_ELEMS * sizeof *v.out);
    status st = convert_stdin(&v, err);
    mem_free(v.in);
    mem_free(v.out);
    return st;
}
