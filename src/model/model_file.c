/* model_file.c - from the MODEL of a command to bytes: a file, random weights made in memory, or
 * the model that is part of the binary. */
#include "base/log.h"
#include "base/os.h"
#include "model/model_internal.h"
#include "model/synth.h"
#include "store/embedded.h"

/* --- the model in the binary ------------------------------------------------ */
static bool is_name(const char *model_arg) { return strcmp(model_arg, EMBEDDED_NAME) == 0; }

/* What is there and cannot be read is there, too: opening it says why. */
static bool is_there(const char *path) {
    os_stamp stamp;
    return os_file_stamp(path, &stamp, NULL) != ERR_NOT_FOUND;
}

bool model_is_embedded(const char *model_arg) { return is_name(model_arg) && !is_there(model_arg); }

void model_note_namesake(const char *model_arg) {
    if (is_name(model_arg) && is_there(model_arg))
        log_warn("model", "'%s' is here as a file or directory: used instead of the built-in model",
                 model_arg);
}

/* --- bytes ------------------------------------------------------------------ */
static status open_synth(blob **out, const char *model_arg, error *err) {
    int fd = -1;
    TRY(os_memfd("synth", &fd, err));
    status st = synth_write(synth_spec(model_arg), fd, err);
    if (st != OK) {
        os_close(fd);
        return st;
    }
    return blob_open_fd(out, fd, model_arg, err);
}

status model_open_file(blob **out, const char *model_arg, error *err) {
    if (synth_is(model_arg)) return open_synth(out, model_arg, err);
    if (model_is_embedded(model_arg)) return blob_open_embedded(out, err);
    model_note_namesake(model_arg);
    return blob_open_file(out, model_arg, err);
}
