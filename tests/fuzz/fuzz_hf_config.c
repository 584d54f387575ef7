/* fuzz_hf_config.c - any bytes as a config.json, a NUL, and a SafeTensors file.
 *
 * What comes out as a description has its data inside the input or in memory of its own, and is
 * written as a GGUF file that opens again; a refusal comes with a reason. */
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/os.h"
#include "fuzz.h"
#include "model/gguf_make.h"
#include "model/hf_internal.h"

enum { WRITE_BYTES_MAX = 1 << 20 };

static void check_written(const gguf *g) {
    gguf *again = NULL;
    blob *b = NULL;
    error err = {0};
    int fd = -1;
    if (gguf_file_bytes(g) > WRITE_BYTES_MAX || os_memfd("fuzz", &fd, &err) != OK) return;
    if (gguf_make_write(g, fd, &err) != OK) {
        ASSERT(err.msg[0] != '\0'); /* a packed value that is no finite number */
        os_close(fd);
        return;
    }
    ASSERT(blob_open_fd(&b, fd, "fuzz", &err) == OK);
    ASSERT(gguf_open(&again, b, &err) == OK);
    ASSERT(gguf_tensor_count(again) == gguf_tensor_count(g));
    gguf_close(again);
    blob_close(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *end = size > 0 ? memchr(data, 0, size) : NULL;
    size_t config_bytes = end != NULL ? (size_t)(end - data) : size;
    str config = {(const char *)data, config_bytes};
    str file = end != NULL ? (str){(const char *)end + 1, size - config_bytes - 1} : S("");
    struct model_internal internal = {0};
    model m = {.internal = &internal};
    error err = {0};
    gguf *g = NULL;
    log_set_level(LOG_OFF);
    if (safetensors_open_bytes(&internal.weights, file, "fuzz", &err) != OK) return 0;
    if (hf_describe(&m, config, &g, &err) == OK)
        check_written(g);
    else
        ASSERT(err.msg[0] != '\0');
    gguf_close(g);
    safetensors_close(internal.weights);
    return 0;
}
