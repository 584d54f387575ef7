/* fuzz_imatrix.c - any bytes as an importance matrix, in either form.
 *
 * What is accepted must be fit to steer with: names that are found again, values that are
 * finite and not negative; a refusal comes with a reason. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "fuzz.h"
#include "model/imatrix.h"

static void check_entry(const imatrix *m, const imatrix_entry *e) {
    uint64_t stride = 0;
    ASSERT(imatrix_find(m, e->name) == e && e->count > 0);
    for (uint64_t i = 0; i < e->count; i++) ASSERT(isfinite(e->values[i]) && e->values[i] >= 0);
    ASSERT(imatrix_fit(e, e->count, 7, &stride, NULL) == OK && stride == 0);
    ASSERT(imatrix_fit(e, 1, e->count, &stride, NULL) == OK);
    ASSERT(imatrix_fit(e, e->count + 1, 1, &stride, NULL) == ERR_FORMAT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    imatrix *m = NULL;
    error err = {0};
    log_set_level(LOG_OFF);
    /* an exact, aligned block, whatever the fuzzer hands out */
    char *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL) return 0;
    memcpy(copy, data, size);
    if (imatrix_read(&m, (str){copy, size}, "fuzz", &err) != OK) ASSERT(err.msg[0] != '\0');
    free(copy); /* nothing of it is needed any more */
    for (uint32_t i = 0; m != NULL && i < imatrix_count(m); i++) check_entry(m, imatrix_get(m, i));
    if (m != NULL) ASSERT(str_is_utf8(imatrix_dataset(m)));
    imatrix_close(m);
    return 0;
}
