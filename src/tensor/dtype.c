/* dtype.c - see dtype.h. */
#include "tensor/dtype.h"

#include <stddef.h>

#include "base/num.h"

/* Indexed by id; withdrawn ids have no name. */
static const dtype_info infos[DTYPE_ID_END] = {
#define DTYPE_INFO(name, id, elems, bytes, integer) [id] = {#name, id, elems, bytes, integer},
    DTYPES(DTYPE_INFO)
#undef DTYPE_INFO
};

const dtype_info *dtype_get(uint32_t id) {
    if (id >= DTYPE_ID_END || infos[id].name == NULL) return NULL;
    return &infos[id];
}

const char *dtype_name(dtype t) {
    const dtype_info *info = dtype_get((uint32_t)t);
    return info != NULL ? info->name : "?";
}

bool dtype_row_bytes(dtype t, uint64_t elems, uint64_t *bytes) {
    const dtype_info *info = dtype_get((uint32_t)t);
    if (info == NULL || elems % info->block_elems != 0) return false;
    return num_mul_u64(bytes, elems / info->block_elems, info->block_bytes);
}

bool dtype_from_name(str name, dtype *out) {
    for (uint32_t id = 0; id < DTYPE_ID_END; id++) {
        if (infos[id].name == NULL || !str_eq_nocase(name, str_of(infos[id].name))) continue;
        *out = (dtype)id;
        return true;
    }
    return false;
}

const char *dtype_names(void) {
#define DTYPE_COMMA_NAME(name, id, elems, bytes, integer) ", " #name
    static const char names[] = DTYPES(DTYPE_COMMA_NAME);
#undef DTYPE_COMMA_NAME
    return names + 2; /* without the comma before the first */
}
