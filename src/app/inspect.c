/* inspect.c - `gantry inspect`: what is in a model file, without reading a tensor. */
#include "model/inspect.h"
#include "app/commands.h"

enum { OUTPUT_BYTES_MAX = 1 << 28 };

status command_inspect(const config *c, error *err) {
    const char *path = NULL;
    buf out;
    TRY(command_model_arg(c, &path, err));
    buf_init(&out, OUTPUT_BYTES_MAX);
    status st = model_inspect(path, c->json, &out, err);
    if (st != OK) (void)command_blame(path, err);
    if (st == OK) st = command_write_stdout(out.p, out.n, err);
    buf_deinit(&out);
    return st;
}
