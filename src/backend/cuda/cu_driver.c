/* cu_driver.c - see cu_driver.h. */
#include "backend/cuda/cu_driver.h"

#include <string.h>

#include "base/os.h"
#include "base/str.h"

enum cu_need { CU_NEED_REQUIRED, CU_NEED_OPTIONAL };

/* Where the pointer of a function lies in the table, and what it is called. */
typedef struct cu_entry {
    size_t offset;
    const char *symbol;
    enum cu_need need;
} cu_entry;

static const cu_entry ENTRIES[] = {
#define CU_ENTRY(need, field, symbol, arguments) \
    {offsetof(cu_driver, field), #symbol, CU_NEED_##need},
    CU_FUNCTIONS(CU_ENTRY)
#undef CU_ENTRY
};

static status resolve(cu_driver *d, error *err) {
    for (size_t i = 0; i < sizeof ENTRIES / sizeof ENTRIES[0]; i++) {
        const cu_entry *e = &ENTRIES[i];
        void *symbol = os_library_symbol(d->library, e->symbol);
        if (symbol == NULL && e->need == CU_NEED_REQUIRED)
            return error_set(err, ERR_UNSUPPORTED, "cuda: '%s' lacks %s", d->path, e->symbol);
        memcpy((char *)d + e->offset, &symbol, sizeof symbol);
    }
    return OK;
}

status cu_driver_load(cu_driver *out, const char *path, error *err) {
    cu_driver d = {0};
    if (path == NULL) path = "libcuda.so.1";
    TRY(os_library_open(path, &d.library, err));
    os_library_path(d.library, d.path, sizeof d.path);
    if (d.path[0] == '\0') str_copy_c(d.path, sizeof d.path, str_of(path));
    status st = resolve(&d, err);
    if (st != OK) {
        cu_driver_unload(&d);
        return st;
    }
    if (d.driver_version(&d.version) != CU_SUCCESS) d.version = 0; /* cuInit tells why */
    *out = d;
    return OK;
}

void cu_driver_unload(cu_driver *d) {
    os_library_close(d->library);
    *d = (cu_driver){0};
}

status cu_driver_open(cu_driver *out, const char *path, error *err) {
    cu_driver d = {0};
    TRY(cu_driver_load(&d, path, err));
    TRY(cu_check(&d, d.init(0), "cuInit", err)); /* stays loaded: it may have begun */
    *out = d;
    return OK;
}

/* --- results --------------------------------------------------------------- */

const char *cu_result_name(const cu_driver *d, cu_result code) {
    const char *name = NULL;
    if (d != NULL && d->error_name != NULL && d->error_name(code, &name) == CU_SUCCESS &&
        name != NULL)
        return name;
    switch (code) {
#define CU_RESULT_CASE(id, number) \
    case number:                   \
        return "CUDA_ERROR_" #id;
        CU_RESULTS(CU_RESULT_CASE)
#undef CU_RESULT_CASE
    default:
        return "CUDA_ERROR";
    }
}

status cu_check(const cu_driver *d, cu_result code, const char *call, error *err) {
    if (code == CU_SUCCESS) return OK;
    const char *text = NULL;
    if (d->error_string == NULL || d->error_string(code, &text) != CU_SUCCESS || text == NULL)
        text = "no description";
    return error_set(err, code == CU_OUT_OF_MEMORY ? ERR_NOMEM : ERR_DEVICE,
                     "cuda: %s: %s (%d): %s", call, cu_result_name(d, code), code, text);
}

/* The codes that cuda.h says need a new process, and those that mean the card itself is in trouble:
 * memory, links, a device assertion, and what the driver cannot name. */
bool cu_is_sticky(cu_result code) {
    switch (code) {
    case CU_ECC_UNCORRECTABLE:
    case CU_NVLINK_UNCORRECTABLE:
    case CU_CONTAINED:
    case CU_ILLEGAL_ADDRESS:
    case CU_LAUNCH_TIMEOUT:
    case CU_ASSERT:
    case CU_HARDWARE_STACK_ERROR:
    case CU_ILLEGAL_INSTRUCTION:
    case CU_MISALIGNED_ADDRESS:
    case CU_INVALID_ADDRESS_SPACE:
    case CU_INVALID_PC:
    case CU_LAUNCH_FAILED:
    case CU_EXTERNAL_DEVICE:
    case CU_TENSOR_MEMORY_LEAK:
    case CU_MPS_CLIENT_TERMINATED:
    case CU_UNKNOWN:
        return true;
    default:
        return false;
    }
}
