/* test_host_probe.c - discovery on machines made of software, through the library that it loads. */
#include <stdlib.h>

#include "backend/cuda/cuda_probe.h"
#include "cudasim/host_rig.h"

static cuda_probe_report report;

static void probe(bool measure_free) {
    cuda_probe(&(cuda_probe_options){.root = "/nowhere",
                                     .visible = getenv("CUDA_VISIBLE_DEVICES"),
                                     .images = host_images("6.5"),
                                     .measure_free = measure_free},
               &report);
    CHECK(report.driver_found);
    CHECK_HAS(report.driver_path, "libcuda.so.1");
}

TEST(host_probe_lists_the_machines_gpus) {
    HOST_MACHINE("t4,h100");
    probe(false);
    CHECK(report.driver_usable);
    CHECK_EQ(report.driver_version, 13000);
    CHECK_EQ(report.devices_count, 2);
    CHECK_EQ(report.usable_count, 2);
    CHECK_HAS(report.devices[0].name, "T4");
    CHECK_EQ(report.devices[0].cc, 75);
    CHECK_EQ(report.devices[0].sm_count, 40);
    CHECK_HAS(report.devices[1].name, "H100");
    CHECK_EQ(report.devices[1].cc, 90);
    CHECK_STR(report.devices[1].image, "PTX");
    CHECK(memcmp(report.devices[0].uuid, "GPU-", 4) == 0);
    CHECK(strcmp(report.devices[0].uuid, report.devices[1].uuid) != 0);
    const cuda_device_info *found = NULL;
    CHECK_EQ(cuda_choose(&report, NULL, &found, NULL), OK);
    CHECK(found == &report.devices[1]);
    CHECK_EQ(cuda_choose(&report, "00:04.0", &found, NULL), OK);
    CHECK(found == &report.devices[0]);
    CHECK_EQ(cuda_choose(&report, report.devices[1].uuid, &found, NULL), OK);
    CHECK(found == &report.devices[1]);
    CHECK_EQ(host.calls("cuDevicePrimaryCtxRetain"), 0);
}

TEST(host_probe_measures_free_memory_and_leaves_nothing) {
    HOST_MACHINE("{\"gpus\": [{\"preset\": \"t4\", \"memory_mib\": 1000, \"context_mib\": 300}]}");
    probe(true);
    CHECK_EQ(report.devices[0].memory_bytes, (uint64_t)1000 << 20);
    CHECK(report.devices[0].free_known);
    CHECK_EQ(report.devices[0].free_bytes, (uint64_t)700 << 20);
    CHECK_EQ(host.leaks(), 0);
    CHECK_EQ(host.memory(0).held_now, 0);
}

TEST(host_probe_has_reasons_for_machines_that_do_not_work) {
    static const struct {
        const char *machine, *why, *fix;
    } cases[] = {
        {"{\"stub\": true}", "stub", "LD_LIBRARY_PATH"},
        {"{\"init_result\": 803}", "different versions", "reboot"},
        {"{\"init_result\": 802}", "fabric manager", "nvidia-fabricmanager"},
        {"{\"cuda\": 11020}", "CUDA 11.2, but 11.4 is needed", "470"},
        {"{\"gpus\": []}", "no NVIDIA GPU", "CPU"},
        {"p100", "compute capability 6.0", "newer"},
        {"{\"gpus\": [{\"preset\": \"t4\", \"prohibited\": true}]}", "prohibited", "-c DEFAULT"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        HOST_MACHINE(cases[i].machine);
        probe(false);
        CHECK_EQ(report.usable_count, 0);
        CHECK_HAS(report.why, cases[i].why);
        CHECK_HAS(report.fix, cases[i].fix);
    }
}

TEST(host_probe_sees_what_cuda_visible_devices_leaves) {
    HOST_MACHINE("t4,h100");
    CHECK_EQ(setenv("CUDA_VISIBLE_DEVICES", "1", 1), 0);
    host.reset("t4,h100");
    probe(false);
    CHECK_EQ(report.devices_count, 1);
    CHECK_HAS(report.devices[0].name, "H100");
    CHECK_EQ(report.devices[0].ordinal, 0);
    CHECK_EQ(setenv("CUDA_VISIBLE_DEVICES", "-1", 1), 0);
    host.reset("t4,h100");
    probe(false);
    CHECK_EQ(report.devices_count, 0);
    CHECK_HAS(report.why, "CUDA_VISIBLE_DEVICES='-1' leaves no GPU");
    CHECK_EQ(unsetenv("CUDA_VISIBLE_DEVICES"), 0);
}
