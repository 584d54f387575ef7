/* fuzz_jinja.c - any bytes as a chat template and its context: text or an error with a reason.
 *
 * Up to the first NUL is the template, behind it the context (none: a small conversation).  The
 * limits are small, so that no input takes long; one that is reached must say so. */
#include <string.h>

#include "base/assert.h"
#include "fuzz.h"
#include "text/jinja.h"

static const char CONVERSATION[] =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"hi \\u00e9\"}, {\"role\": \"assistant\", "
    "\"content\": [{\"type\": \"text\", \"text\": \"yo\"}], \"n\": 1.5}], \"tools\": null, "
    "\"bos_token\": \"<s>\", \"a\": [3, 1, 2], \"d\": {\"k\": \"v\", \"l\": [1]}, \"t\": true}";

static jinja_env small_env(bool permissive) {
    return (jinja_env){
        .now_unix_s = 1751632496,
        .utc_offset_s = 3600,
        .limits = {.steps_max = 20000, .memory_bytes_max = 1 << 20, .output_bytes_max = 1 << 16},
        .permissive = permissive};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    jinja_template *t = NULL;
    error err = {0};
    const uint8_t *nul = size != 0 ? memchr(data, 0, size) : NULL;
    size_t n = nul != NULL ? (size_t)(nul - data) : size;
    str source = {(const char *)data, n}, context = str_of(CONVERSATION);
    if (nul != NULL) context = (str){(const char *)nul + 1, size - n - 1};
    bool flag = size % 2 != 0;
    jinja_options options = {
        .trim_blocks = !flag, .lstrip_blocks = !flag, .keep_trailing_newline = flag};
    status st = jinja_parse(&t, source, &options, &err);
    ASSERT((st == OK) == (err.msg[0] == '\0'));
    if (st != OK) return 0;
    jinja_env env = small_env(flag);
    buf out;
    buf_init(&out, SIZE_MAX);
    st = jinja_render(t, context, &env, &out, &err);
    ASSERT((st == OK) == (err.msg[0] == '\0'));
    ASSERT(st != OK || str_is_utf8(buf_view(&out)));
    ASSERT(st == OK || out.n == 0);
    (void)jinja_mentions(t, str_of("tools"));
    buf_deinit(&out);
    jinja_destroy(t);
    return 0;
}
