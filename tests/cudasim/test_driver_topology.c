/* test_driver_topology.c - the pretended machine: presets, JSON, CUDA_VISIBLE_DEVICES. */
#include "cudasim/driver/test_rig.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static const char THREE[] =
    "{\"driver\":\"550.54.15\",\"cuda\":12040,\"p2p\":[[0,2]],\"gpus\":["
    "{\"uuid\":\"GPU-11111111-0000-4000-8000-000000000001\",\"memory_mib\":400},"
    "{\"uuid\":\"GPU-11112222-0000-4000-8000-000000000002\",\"pci\":\"00000001:AF:1C.0\"},"
    "{\"preset\":\"h100\",\"uuid\":\"GPU-33333333-0000-4000-8000-00000000abcd\",\"name\":\"Big\"}]"
    "}";

/* The first bytes of the visible GPUs' names or UUIDs, by their last UUID digit: "13" for two. */
static const char *visible(const char *devices) {
    static char seen[SIM_GPUS_MAX + 1];
    int count = 0;
    if (devices == NULL)
        (void)unsetenv("CUDA_VISIBLE_DEVICES");
    else
        (void)setenv("CUDA_VISIBLE_DEVICES", devices, 1);
    sim_reset(THREE);
    cu_result result = cuInit(0);
    if (result == CU_SUCCESS)
        OK_CALL(cuDeviceGetCount(&count));
    else
        CHECK_EQ(result, CU_NO_DEVICE);
    for (int i = 0; i < count; i++) {
        cu_uuid uuid;
        OK_CALL(cuDeviceGetUuid(&uuid, i));
        seen[i] = uuid.bytes[15] == 0xcd ? '3' : (char)('0' + uuid.bytes[15]);
    }
    seen[count] = '\0';
    (void)unsetenv("CUDA_VISIBLE_DEVICES");
    return seen;
}

TEST(sim_topology_visible_devices_are_the_drivers_rules) {
    CHECK_STR(visible(NULL), "123");
    CHECK_STR(visible(""), "");
    CHECK_STR(visible("-1"), "");
    CHECK_STR(visible("1"), "2");
    CHECK_STR(visible("2,0"), "31");
    CHECK_STR(visible(" 2 , 0 "), "31");
    CHECK_STR(visible("0,3,1"), "1"); /* no such GPU: the list ends */
    CHECK_STR(visible("0,-1,1"), "1");
    CHECK_STR(visible("none"), "");
    CHECK_STR(visible("1x"), "");
    CHECK_STR(visible("0,0"), "1");
    CHECK_STR(visible("GPU-33333333-0000-4000-8000-00000000abcd"), "3");
    CHECK_STR(visible("GPU-3,0"), "31");
    CHECK_STR(visible("GPU-1111"), ""); /* of two */
    CHECK_STR(visible("GPU-11112,GPU-4"), "2");
    sim_reset(NULL);
}

TEST(sim_topology_json_changes_a_preset) {
    char name[64];
    int major = 0, bus = 0, domain = 0, can = 0;
    size_t bytes = 0;
    sim_reset(THREE);
    OK_CALL(cuInit(0));
    OK_CALL(cuDriverGetVersion(&major));
    CHECK_EQ(major, 12040);
    OK_CALL(cuDeviceGetName(name, sizeof name, 2));
    CHECK_STR(name, "Big");
    OK_CALL(cuDeviceGetName(name, sizeof name, 0));
    CHECK_STR(name, "Tesla T4");
    OK_CALL(cuDeviceTotalMem_v2(&bytes, 0));
    CHECK_EQ(bytes, 400 << 20);
    OK_CALL(cuDeviceGetAttribute(&major, CU_ATTR_CC_MAJOR, 2));
    CHECK_EQ(major, 9);
    OK_CALL(cuDeviceGetPCIBusId(name, sizeof name, 1));
    CHECK_STR(name, "0001:AF:1C.0");
    OK_CALL(cuDeviceGetAttribute(&bus, CU_ATTR_PCI_BUS, 1));
    OK_CALL(cuDeviceGetAttribute(&domain, CU_ATTR_PCI_DOMAIN, 1));
    CHECK_EQ(bus, 0xaf);
    CHECK_EQ(domain, 1);
    OK_CALL(cuDeviceCanAccessPeer(&can, 0, 2));
    CHECK_EQ(can, 1);
    OK_CALL(cuDeviceCanAccessPeer(&can, 0, 1));
    CHECK_EQ(can, 0);
    CHECK_EQ(cuDeviceGetAttribute(&can, 9999, 0), CU_INVALID_VALUE);
    sim_reset(NULL);
}

TEST(sim_topology_presets_are_told_apart) {
    int count = 0, major = 0;
    cu_uuid a, b;
    sim_reset("p100,k80,t4,t4");
    OK_CALL(cuInit(0));
    OK_CALL(cuDeviceGetCount(&count));
    CHECK_EQ(count, 4);
    OK_CALL(cuDeviceGetAttribute(&major, CU_ATTR_CC_MAJOR, 1));
    CHECK_EQ(major, 3);
    OK_CALL(cuDeviceGetUuid(&a, 2));
    OK_CALL(cuDeviceGetUuid(&b, 3));
    CHECK(memcmp(&a, &b, sizeof a) != 0);
    sim_reset(NULL);
}

TEST(sim_topology_drivers_that_do_not_start) {
    int count = 0;
    cu_context ctx = NULL;
    sim_reset("{\"stub\":true}");
    CHECK_EQ(cuInit(0), CU_STUB_LIBRARY);
    CHECK_EQ(cuDriverGetVersion(&count), CU_STUB_LIBRARY);
    sim_reset("{\"init_result\":803}");
    CHECK_EQ(cuInit(0), CU_SYSTEM_DRIVER_MISMATCH);
    sim_reset("{\"gpus\":[]}");
    CHECK_EQ(cuInit(0), CU_NO_DEVICE);
    sim_reset("{\"gpus\":[{\"prohibited\":true}]}");
    OK_CALL(cuInit(0));
    OK_CALL(cuDeviceGetAttribute(&count, CU_ATTR_COMPUTE_MODE, 0));
    CHECK_EQ(count, 2);
    CHECK_EQ(cuDevicePrimaryCtxRetain(&ctx, 0), CU_DEVICE_UNAVAILABLE);
    sim_reset(NULL);
}

TEST(sim_topology_is_read_from_a_file) {
    char path[] = "/tmp/cudasim_topology_XXXXXX";
    int file = mkstemp(path), count = 0;
    CHECK(file >= 0);
    if (file < 0) return;
    CHECK_EQ(write(file, THREE, sizeof THREE - 1), sizeof THREE - 1);
    (void)close(file);
    sim_reset(path);
    (void)unlink(path);
    OK_CALL(cuInit(0));
    OK_CALL(cuDeviceGetCount(&count));
    CHECK_EQ(count, 3);
    sim_reset(NULL);
}

/* The exit status of a process that reads this. */
static int status_of(const char *cudasim) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        (void)dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        sim_reset(cudasim);
        _exit(0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(sim_topology_mistakes_end_the_process) {
    static const char *const wrong[] = {
        "t5",
        "t4,",
        "/no/such/file.json",
        "{\"gpus\":[}",
        "{\"gpu\":[]}",
        "{\"gpus\":[{\"memory\":1}]}",
        "{\"gpus\":[{\"cc\":\"seven\"}]}",
        "{\"gpus\":[{\"memory_mib\":-1}]}",
        "{\"gpus\":[{\"memory_mib\":100,\"context_mib\":200}]}",
        "{\"p2p\":[[0,1]]}",
        "{\"streams\":\"lazy\"}",
        "{\"faults\":[{\"call\":\"cuInit\",\"at\":0,\"result\":1}]}",
    };
    CHECK_EQ(status_of("t4"), 0);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        int status = status_of(wrong[i]);
        if (status != 2) (void)fprintf(stderr, "%s\n", wrong[i]);
        CHECK_EQ(status, 2);
    }
}
