/* convert.c - `gantry convert IN OUT`: a Hugging Face directory as one GGUF file.
 *
 * The file appears when it is complete.  Weights keep their type; what other tools have quantized
 * (GPTQ, AWQ, FP8 ...) becomes F32, which holds each of its values exactly. */
#include <inttypes.h>
#include <stdio.h>

#include "app/commands.h"
#include "base/os.h"
#include "base/outfile.h"
#include "model/hf_dir.h"
#include "model/model.h"

static status check_input(const char *in, error *err) {
    int fd = -1;
    TRY(os_open_read(in, &fd, err));
    os_close(fd);
    if (hf_dir_is(in)) return OK;
    return error_set(err, ERR_INVALID,
                     "'%s' is no directory; GGUF files are changed by gantry quantize", in);
}

static status write_file(model *m, const char *in, const char *out, error *err) {
    outfile f;
    status st = outfile_open(&f, out, err);
    if (st == OK) st = hf_dir_write(m, in, f.fd, err);
    if (st == OK) st = outfile_commit(&f, err);
    outfile_abort(&f);
    return st;
}

status command_convert(const config *c, error *err) {
    model *m = NULL;
    const uint64_t start_ns = os_now_ns();
    if (c->argc_rest != 2)
        return error_set(err, ERR_INVALID, "usage: IN and OUT are wanted, %d given", c->argc_rest);
    const char *in = c->argv_rest[0], *out = c->argv_rest[1];
    TRY(check_input(in, err));
    status st = model_open(&m, in, err);
    if (st == OK) st = write_file(m, in, out, err);
    if (st == OK)
        printf("%s: %s, %u tensors, %.1f MB, %.2f s\n", out, m->hparams.arch,
               gguf_tensor_count(model_gguf(m)), (double)m->file_bytes / 1e6,
               (double)(os_now_ns() - start_ns) / 1e9);
    model_close(m);
    return st == OK ? OK : command_blame(in, err);
}
