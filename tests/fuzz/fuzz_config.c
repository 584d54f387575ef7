/* fuzz_config.c - bytes as an option file: read or refused with a message, never more. */
#include <stdlib.h>
#include <string.h>

#include "app/config_internal.h"
#include "base/assert.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    config c;
    error err = {0};
    buf out;
    command cmd = size != 0 && data[0] % 2 != 0 ? COMMAND_RUN : COMMAND_SERVE;
    ASSERT(config_init(&c, cmd, &err) == OK);
    status st = config_file_parse(&c, (str){(const char *)data, size}, "f.yaml", &err);
    ASSERT((st == OK) == (err.msg[0] == '\0'));
    buf_init(&out, SIZE_MAX);
    config_dump(&c, &out); /* whatever was taken can be shown */
    ASSERT(!out.failed);
    buf_deinit(&out);
    config_deinit(&c);
    return 0;
}
