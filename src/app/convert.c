/* convert.c - `gantry convert IN OUT`: a Hugging Face directory as one GGUF file, or a GGUF file
 * as it is, its parts joined.
 *
 * The file appears when it is complete.  Weights keep their type; what other tools have quantized
 * (GPTQ, AWQ, FP8 ...) becomes F32, which holds each of its values exactly. */
#include <inttypes.h>
#include <stdio.h>

#include "app/commands.h"
#include "base/os.h"
#include "base/outfile.h"
#include "model/gguf_copy.h"
#include "model/hf_dir.h"
#include "model/model.h"

static status write_dir(const char *in, outfile *f, gguf_copied *done, error *err) {
    model *m = NULL;
    TRY(model_open(&m, in, err));
    const status st = hf_dir_write(m, in, f->fd, err);
    if (st == OK) *done = (gguf_copied){1, gguf_tensor_count(model_gguf(m)), m->file_bytes};
    model_close(m);
    return st;
}

static status convert(const char *in, const char *out, gguf_copied *done, error *err) {
    outfile f;
    if (outfile_is_same(in, out))
        return error_set(err, ERR_INVALID, "'%s' and '%s' are the same file", in, out);
    status st = outfile_open(&f, out, err);
    if (st == OK)
        st = hf_dir_is(in) ? write_dir(in, &f, done, err) : gguf_copy(in, f.fd, done, err);
    if (st == OK) st = outfile_commit(&f, err);
    outfile_abort(&f);
    return st;
}

status command_convert(const config *c, error *err) {
    gguf_copied done = {0};
    int fd = -1;
    const uint64_t start_ns = os_now_ns();
    if (c->argc_rest != 2)
        return error_set(err, ERR_INVALID, "usage: IN and OUT are wanted, %d given", c->argc_rest);
    const char *in = c->argv_rest[0], *out = c->argv_rest[1];
    TRY(os_open_read(in, &fd, err)); /* before anything is written */
    os_close(fd);
    const status st = convert(in, out, &done, err);
    if (st != OK) return command_blame(in, err);
    printf("%s: %u tensors", out, done.tensors);
    if (done.parts > 1) printf(" of %u files", done.parts);
    printf(", %.1f MB, %.2f s\n", (double)done.bytes / 1e6, (double)(os_now_ns() - start_ns) / 1e9);
    return OK;
}
