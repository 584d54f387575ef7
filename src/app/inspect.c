/* inspect.c - `gantry inspect`: what is in a model file, without reading a tensor. */
#include "model/inspect.h"
#include "app/commands.h"
#include "backend/backend.h"

enum { OUTPUT_BYTES_MAX = 1 << 28 };

static const char *how_computed(dtype t) {
    bool integer = dtype_get(t) != NULL && dtype_get(t)->is_integer;
    return integer ? "no weights" : backend_path_name(backend_find("cpu")->path(t));
}

status command_inspect(const config *c, error *err) {
    const char *path = NULL;
    buf out;
    TRY(command_model_arg(c, &path, err));
    buf_init(&out, OUTPUT_BYTES_MAX);
    status st = model_inspect_with(path, &(inspect_options){c->json, how_computed}, &out, err);
    if (st != OK) (void)command_blame(path, err);
    if (st == OK) st = command_write_stdout(out.p, out.n, err);
    buf_deinit(&out);
    return st;
}
