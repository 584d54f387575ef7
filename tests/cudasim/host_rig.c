/* host_rig.c - see host_rig.h. */
#include "cudasim/host_rig.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/os.h"

const char *const host_gpu_numbers[BACKEND_DEVICES_MAX] = {"0", "1", "2", "3", "4", "5", "6", "7"};

host_rig host;

static bool find_library(void) {
    if (host.driver.library != NULL) return host.reset != NULL;
    if (cu_driver_load(&host.driver, NULL, NULL) != OK) return false;
    void *symbol;
#define HOST_SIM_FIND(name, result, arguments)                     \
    symbol = os_library_symbol(host.driver.library, "sim_" #name); \
    memcpy(&host.name, &symbol, sizeof symbol);                    \
    if (symbol == NULL) return false;
    HOST_SIM(HOST_SIM_FIND)
#undef HOST_SIM_FIND
    return true;
}

bool host_machine(const char *cudasim) {
    if (!find_library()) return false;
    log_set_level(LOG_ERROR);
    host.reset(cudasim);
    host.fault_lines(false);
    if (host.driver.driver_version(&host.driver.version) != CU_SUCCESS)
        host.driver.version = 0; /* the toolkit's stub */
    return true;
}

/* --- images ------------------------------------------------------------------ */

static const struct {
    const char *file, *name;
} ENTRIES[] = {
#define X(file, name, args, threads) {#file, #name},
#include "kernels.def"
#undef X
};
enum { ENTRIES_COUNT = sizeof ENTRIES / sizeof ENTRIES[0], TEXT_BYTES = 16384 };

static char text[TEXT_BYTES];

/* The entries of one file; what a kernel does comes from the executor's table, not from here. */
static size_t write_ptx(size_t at, const char *version, const char *file) {
    int n = snprintf(text + at, sizeof text - at, ".version %s\n.target sm_75\n.address_size 64\n",
                     version);
    size_t end = at + (size_t)n;
    for (size_t i = 0; i < ENTRIES_COUNT; i++) {
        if (strcmp(ENTRIES[i].file, file) != 0) continue;
        n = snprintf(text + end, sizeof text - end, ".visible .entry %s()\n", ENTRIES[i].name);
        end += (size_t)n;
        CHECK(end < sizeof text);
    }
    return end;
}

cuda_images host_images(const char *ptx_version) {
    static cuda_blob blobs[CUDA_MODULES_MAX];
    size_t count = 0, at = 0;
    for (size_t i = 0; i < ENTRIES_COUNT; i++) {
        size_t k = 0;
        while (k < count && strcmp(blobs[k].name, ENTRIES[i].file) != 0) k++;
        if (k < count) continue;
        size_t end = write_ptx(at, ptx_version, ENTRIES[i].file);
        const unsigned char *ptx = (const unsigned char *)text;
        blobs[count++] =
            (cuda_blob){.name = ENTRIES[i].file, .ptx = ptx + at, .ptx_end = ptx + end};
        at = end + 1; /* a 0 stays between them */
    }
    return (cuda_images){blobs, count};
}

/* --- the device --------------------------------------------------------------- */

void host_device(int ordinal) {
    CHECK_EQ(host.driver.init(0), CU_SUCCESS);
    cuda_images images = host_images("6.5");
    error err = {0};
    CHECK_EQ(cuda_device_open(&host.dev, &host.driver, ordinal, &images, &err), OK);
    CHECK_STR(err.msg, "");
}

void host_end(void) {
    cuda_device_close(&host.dev);
    CHECK_EQ(host.leaks(), 0);
    CHECK_EQ(host.default_stream_uses(), 0);
}
