/* test_cuda_probe.c - what is said about each reason not to use a GPU, and the choice of one. */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/cuda/cuda_host.h"
#include "backend/cuda/cuda_probe.h"
#include "cuda_fake.h"
#include "test.h"

/* --- a machine made of files ------------------------------------------------- */

static char root[64];

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where) {
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

static void probe_root_clear(void) {
    CHECK_EQ(nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
    root[0] = '\0';
}

static void probe_root_new(void) {
    (void)snprintf(root, sizeof root, "/tmp/gantry-test-cuda-XXXXXX");
    CHECK(mkdtemp(root) != NULL);
}

/* A file with its folders. */
static void probe_file(const char *path, const char *text) {
    char full[256];
    int n = snprintf(full, sizeof full, "%s%s", root, path);
    CHECK(n > 0 && (size_t)n < sizeof full);
    for (char *at = strchr(full + strlen(root) + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
        *at = '\0';
        (void)mkdir(full, 0755);
        *at = '/';
    }
    FILE *f = fopen(full, "we");
    CHECK(f != NULL);
    if (f == NULL) return;
    (void)fputs(text, f);
    (void)fclose(f);
}

static void probe_pci(const char *id, const char *vendor, const char *class) {
    char path[128];
    (void)snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/vendor", id);
    probe_file(path, vendor);
    (void)snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/class", id);
    probe_file(path, class);
}

TEST(cuda_host_sees_cards_modules_nodes_and_containers) {
    probe_root_new();
    cuda_host host = cuda_host_look(root);
    CHECK(!host.module && !host.nodes && !host.container);
    CHECK_EQ(host.pci_count, 0);
    probe_pci("0000:00:01.0", "0x8086\n", "0x030000\n");
    probe_pci("0000:01:00.0", "0x10de\n", "0x030200\n");
    probe_pci("0000:01:00.1", "0x10de\n", "0x040300\n"); /* its sound */
    probe_pci("0000:02:00.0", "0x10de\n", "0x030000\n");
    probe_file("/proc/driver/nvidia/version", "NVRM version: 580\n");
    probe_file("/dev/nvidiactl", "");
    probe_file("/run/.containerenv", "");
    host = cuda_host_look(root);
    CHECK(host.module && host.nodes && host.container);
    CHECK_EQ(host.pci_count, 2);
    probe_root_clear();
}

/* --- no driver --------------------------------------------------------------- */

static cuda_probe_report report;

static void probe_without_library(void) {
    cuda_probe(&(cuda_probe_options){.library = "/nowhere/libcuda.so.1",
                                     .root = root,
                                     .images = cuda_fake_images()},
               &report);
    CHECK(!report.driver_found && !report.driver_usable);
    CHECK_EQ(report.devices_count, 0);
    CHECK_EQ(report.usable_count, 0);
}

TEST(cuda_probe_tells_no_gpu_from_no_driver_from_a_bare_container) {
    probe_root_new();
    probe_without_library();
    CHECK_STR(report.why, "there is no NVIDIA GPU in this machine");
    CHECK_STR(report.fix, "none needed: models run on the CPU");

    probe_pci("0000:01:00.0", "0x10de\n", "0x030200\n");
    probe_without_library();
    CHECK_STR(report.why, "1 NVIDIA GPU in this machine, but no driver: there is no "
                          "/nowhere/libcuda.so.1");
    CHECK_STR(report.fix, "install the NVIDIA driver, version 470 or newer");

    probe_file("/.dockerenv", "");
    probe_without_library();
    CHECK_HAS(report.fix, "on the host");
    CHECK_HAS(report.fix, "--gpus all");

    probe_file("/proc/driver/nvidia/version", "NVRM version: 580\n");
    probe_without_library();
    CHECK_HAS(report.why, "the NVIDIA driver runs on this machine");
    CHECK_HAS(report.fix, "docker run --gpus all");

    char path[96];
    (void)snprintf(path, sizeof path, "%s/.dockerenv", root);
    (void)unlink(path);
    probe_without_library();
    CHECK_HAS(report.fix, "libnvidia-compute");
    probe_root_clear();
}

TEST(cuda_probe_of_a_library_that_is_no_driver_says_so) {
    cuda_probe(&(cuda_probe_options){.library = "libm.so.6", .images = cuda_fake_images()},
               &report);
    CHECK(!report.driver_found);
    CHECK_HAS(report.why, "lacks cuInit");
    CHECK_HAS(report.fix, "install the NVIDIA driver");
}

/* --- a driver that refuses ---------------------------------------------------- */

static cu_driver probed;

static void probe_again(const char *visible) {
    cuda_probe(&(cuda_probe_options){.driver = &probed,
                                     .root = root[0] != '\0' ? root : "/nowhere",
                                     .visible = visible,
                                     .images = cuda_fake_images()},
               &report);
}

static void probe_with(int init_result, const char *visible) {
    fake.init_result = init_result;
    probe_again(visible);
    CHECK(report.driver_found && !report.driver_usable);
    CHECK(report.fix[0] != '\0');
}

TEST(cuda_probe_has_a_line_for_each_reason_of_a_driver) {
    probed = cuda_fake_driver();
    probe_root_new();
    probe_with(CU_STUB_LIBRARY, NULL);
    CHECK_HAS(report.why, "'/usr/lib/libcuda.so.1' is the CUDA toolkit's stub");
    probe_with(CU_SYSTEM_DRIVER_MISMATCH, NULL);
    CHECK_HAS(report.why, "different versions");
    probe_with(CU_SYSTEM_NOT_READY, NULL);
    CHECK_HAS(report.fix, "nvidia-fabricmanager");
    probe_with(CU_COMPAT_NOT_SUPPORTED_ON_DEVICE, NULL);
    CHECK_HAS(report.fix, "cuda-compat");

    probe_with(CU_NO_DEVICE, "");
    CHECK_HAS(report.why, "CUDA_VISIBLE_DEVICES='' leaves no GPU");
    probe_with(CU_NO_DEVICE, NULL);
    CHECK_STR(report.why, "there is no NVIDIA GPU in this machine");
    probe_pci("0000:01:00.0", "0x10de\n", "0x030200\n");
    probe_with(CU_NO_DEVICE, NULL);
    CHECK_HAS(report.why, "no /dev/nvidiactl");
    CHECK_HAS(report.fix, "modprobe nvidia");
    probe_file("/.dockerenv", "");
    probe_with(CU_UNKNOWN, NULL);
    CHECK_HAS(report.why, "this container has no GPU");
    CHECK_HAS(report.fix, "--gpus all");
    probe_file("/dev/nvidiactl", "");
    probe_with(CU_NO_DEVICE, NULL);
    CHECK_HAS(report.fix, "MIG");
    probe_with(CU_UNKNOWN, NULL);
    CHECK_HAS(report.why, "cuInit: CUDA_ERROR_UNKNOWN (999): what the driver says");
    CHECK_HAS(report.fix, "dmesg");
    fake.devices_count = 0;
    probe_with(CU_SUCCESS, NULL);
    CHECK_HAS(report.fix, "MIG");
    probe_root_clear();
}

TEST(cuda_probe_refuses_drivers_before_470_without_asking_them_more) {
    probed = cuda_fake_driver();
    probed.version = 11020;
    probe_again(NULL);
    CHECK(report.driver_found && !report.driver_usable);
    CHECK_EQ(report.driver_version, 11020);
    CHECK_STR(report.why, "the driver knows CUDA 11.2, but 11.4 is needed");
    CHECK_HAS(report.fix, "470");
    CHECK_EQ(cuda_fake_count("cuInit"), 0);
}

/* --- devices ------------------------------------------------------------------ */

TEST(cuda_probe_describes_a_device_without_a_context) {
    probed = cuda_fake_driver();
    probe_again(NULL);
    CHECK(report.driver_usable);
    CHECK_STR(report.driver_path, "/usr/lib/libcuda.so.1");
    CHECK_EQ(report.usable_count, 1);
    CHECK_STR(report.why, "");
    const cuda_device_info *d = &report.devices[0];
    CHECK(d->usable && !d->free_known);
    CHECK_STR(d->name, "Tesla T4");
    CHECK_STR(d->uuid, "GPU-a0111111-1111-1111-1111-111111111111");
    CHECK_STR(d->pci, "0000:00:04.0");
    CHECK_EQ(d->cc, 75);
    CHECK_EQ(d->sm_count, 40);
    CHECK_EQ(d->memory_bytes, (uint64_t)16 << 30);
    CHECK_EQ(d->code_path, 750);
    CHECK_STR(d->image, "sm_75 cubin");
    CHECK_EQ(cuda_fake_count("cuDevicePrimaryCtxRetain"), 0);
}

TEST(cuda_probe_measures_free_memory_when_asked_and_leaves_no_context) {
    probed = cuda_fake_driver();
    cuda_probe_options opt = {
        .driver = &probed, .images = cuda_fake_images(), .measure_free = true};
    cuda_probe(&opt, &report);
    CHECK(report.devices[0].free_known);
    CHECK_EQ(report.devices[0].free_bytes, (uint64_t)15 << 30);
    CHECK_EQ(fake.contexts, 0);
    static const struct {
        const char *call;
        int result;
        const char *why;
    } cases[] = {{"cuDevicePrimaryCtxRetain", CU_OUT_OF_MEMORY, "its memory is full"},
                 {"cuDevicePrimaryCtxRetain", CU_DEVICE_UNAVAILABLE, "for itself"},
                 {"cuMemGetInfo_v2", CU_UNKNOWN, "CUDA_ERROR_UNKNOWN (999)"},
                 {"cuDevicePrimaryCtxRelease", CU_UNKNOWN, "CUDA_ERROR_UNKNOWN (999)"}};
    for (size_t i = 0; i < 3; i++) {
        probed = cuda_fake_driver();
        fake.fail_call = cases[i].call;
        fake.fail_at = 1;
        fake.fail_result = cases[i].result;
        cuda_probe(&opt, &report);
        CHECK(!report.devices[0].usable && !report.devices[0].free_known);
        CHECK_HAS(report.devices[0].why, cases[i].why);
        CHECK(report.devices[0].fix[0] != '\0');
        CHECK_HAS(report.why, cases[i].why);
        CHECK_EQ(fake.contexts, 0);
    }
}

TEST(cuda_probe_says_why_a_device_is_not_used) {
    probed = cuda_fake_driver();
    fake.devices[0].major = 6;
    fake.devices[0].minor = 1;
    probe_again(NULL);
    CHECK_EQ(report.usable_count, 0);
    CHECK_STR(report.devices[0].why,
              "compute capability 6.1; 7.5 (Turing) is the oldest that works");
    CHECK_STR(report.why, "GPU 0 'Tesla T4': compute capability 6.1; 7.5 (Turing) is the oldest "
                          "that works");
    probed = cuda_fake_driver();
    fake.devices[0].mode = 2;
    probe_again(NULL);
    CHECK_HAS(report.devices[0].why, "prohibited");
    CHECK_STR(report.devices[0].fix, "nvidia-smi -i 0000:00:04.0 -c DEFAULT");

    probed = cuda_fake_driver();
    fake.fail_call = "cuDeviceTotalMem_v2";
    fake.fail_at = 1;
    fake.fail_result = CU_UNKNOWN;
    probe_again(NULL);
    CHECK(!report.devices[0].usable);
    CHECK_HAS(report.devices[0].why, "cuDeviceTotalMem_v2");
}

TEST(cuda_probe_names_what_to_do_where_the_program_has_no_kernels) {
    probed = cuda_fake_driver();
    cuda_probe(&(cuda_probe_options){.driver = &probed}, &report);
    CHECK_HAS(report.devices[0].why, "built without GPU kernels");
    cuda_blob blob = {
        .name = "norm", .fatbin = fake_fatbin, .fatbin_end = fake_fatbin + fake_fatbin_bytes};
    cuda_probe_options opt = {.driver = &probed, .images = {&blob, 1}};
    probed.version = 12040;
    cuda_probe(&opt, &report);
    CHECK_HAS(report.devices[0].why, "knows CUDA 12.4");
    CHECK_HAS(report.devices[0].fix, "580");
    probed.version = 13000;
    fake.devices[0].major = 8;
    fake.devices[0].minor = 7;
    cuda_probe(&opt, &report);
    CHECK_HAS(report.devices[0].why, "no kernels for compute capability 8.7");
    CHECK_HAS(report.devices[0].fix, "SM=87");
}

/* --- the choice ---------------------------------------------------------------- */

static void probe_four(void) {
    probed = cuda_fake_driver();
    fake.devices_count = 4;
    for (int i = 1; i < 4; i++) fake.devices[i] = fake.devices[0];
    fake.devices[1].uuid0 = 0xa1;
    fake.devices[1].pci = "0000:3b:00.0";
    fake.devices[1].memory = (size_t)80 << 30;
    fake.devices[2].uuid0 = 0xb2;
    fake.devices[2].pci = "0001:3b:00.0";
    fake.devices[2].memory = (size_t)80 << 30;
    fake.devices[3].uuid0 = 0xc3;
    fake.devices[3].pci = "00000000:AF:00.0";
    fake.devices[3].memory = (size_t)90 << 30;
    fake.devices[3].major = 6;
    probe_again(NULL);
    CHECK_EQ(report.usable_count, 3);
}

TEST(cuda_choose_takes_numbers_uuids_and_pci_ids) {
    probe_four();
    static const struct {
        const char *selector;
        int ordinal;
    } cases[] = {{NULL, 1},
                 {"", 1},
                 {"auto", 1},
                 {"0", 0},
                 {"2", 2},
                 {"GPU-a0", 0},
                 {"gpu-A1", 1},
                 {"b2", 2},
                 {"GPU-b2111111-1111-1111-1111-111111111111", 2},
                 {"00:04.0", 0},
                 {"0000:3B:00.0", 1},
                 {"00000001:3b:00.0", 2},
                 {"0:3b:0.0", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const cuda_device_info *found = NULL;
        CHECK_EQ(cuda_choose(&report, cases[i].selector, &found, NULL), OK);
        CHECK(found != NULL);
        if (found != NULL) CHECK_EQ(found->ordinal, cases[i].ordinal);
    }
}

TEST(cuda_choose_says_what_there_is_what_is_ambiguous_and_what_cannot_be_used) {
    probe_four();
    const cuda_device_info *found = NULL;
    error err = {0};
    CHECK_EQ(cuda_choose(&report, "7", &found, &err), ERR_NOT_FOUND);
    CHECK_HAS(err.msg, "no GPU '7'; there is 0: Tesla T4 (GPU-a0111111-");
    CHECK_HAS(err.msg, "0000:3b:00.0");
    CHECK_EQ(cuda_choose(&report, "GPU-a", &found, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "means GPU 0");
    CHECK_HAS(err.msg, "and GPU 1");
    CHECK_EQ(cuda_choose(&report, "3b:00.0", &found, &err), ERR_INVALID);
    CHECK_EQ(cuda_choose(&report, "3", &found, &err), ERR_UNSUPPORTED);
    CHECK_HAS(err.msg, "compute capability 6.5");
    CHECK_EQ(cuda_choose(&report, "af:00.0", &found, &err), ERR_UNSUPPORTED);
    static const char *const wrong[] = {
        "GPU-", "a0x", "00:04", "00:04.0 ", ":04.0", "123456789:04:00.0", "0000:00:04.1", "-1"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CHECK_EQ(cuda_choose(&report, wrong[i], &found, NULL), ERR_NOT_FOUND);
    CHECK(found == NULL);
}

TEST(cuda_choose_list_takes_some_and_all) {
    probe_four();
    static const struct {
        const char *selectors;
        uint32_t count;
        int ordinals[3];
    } cases[] = {{"0", 1, {0}},         {"2,0", 2, {2, 0}},
                 {" 2, 0 ", 2, {2, 0}}, {"b2,GPU-a1,0000:00:04.0", 3, {2, 1, 0}},
                 {"auto", 1, {1}},      {"all", 3, {1, 2, 0}}};
    const cuda_device_info *found[4];
    uint32_t count = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_EQ(cuda_choose_list(&report, cases[i].selectors, 3, found, &count, NULL), OK);
        CHECK_EQ(count, cases[i].count);
        for (uint32_t k = 0; k < cases[i].count && k < count; k++)
            CHECK_EQ(found[k]->ordinal, cases[i].ordinals[k]);
    }
    CHECK_EQ(cuda_usable(&report, 2, found), 3);
}

TEST(cuda_choose_list_says_which_entry_is_wrong) {
    probe_four();
    static const struct {
        const char *selectors;
        status code;
        const char *words;
    } cases[] = {{"0,7", ERR_NOT_FOUND, "no GPU '7'; there is 0: Tesla T4"},
                 {"1,a1", ERR_INVALID, "GPU 1 '"},
                 {"1,a1", ERR_INVALID, "' is named twice"},
                 {"0,,1", ERR_INVALID, "entry 2 of a list of GPUs has 0 bytes, want 1 to 127"},
                 {"0,1,", ERR_INVALID, "entry 3 of a list of GPUs has 0 bytes"},
                 {"0,3", ERR_UNSUPPORTED, "compute capability 6.5"},
                 {"0,1,2", ERR_LIMIT, "3 GPUs are named, a model takes 2 at most"},
                 {"0, ", ERR_INVALID, "entry 2 of a list of GPUs has 0 bytes"},
                 {"all", ERR_LIMIT, "3 GPUs can be used, a model takes 2 at most: name them"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const cuda_device_info *found[2];
        uint32_t count = 0;
        error err = {0};
        CHECK_EQ(cuda_choose_list(&report, cases[i].selectors, 2, found, &count, &err),
                 cases[i].code);
        CHECK_HAS(err.msg, cases[i].words);
    }
}

TEST(cuda_choose_without_devices_gives_the_reason) {
    probed = cuda_fake_driver();
    fake.init_result = CU_STUB_LIBRARY;
    probe_again(NULL);
    const cuda_device_info *found = NULL;
    error err = {0};
    CHECK_EQ(cuda_choose(&report, NULL, &found, &err), ERR_UNSUPPORTED);
    CHECK_HAS(err.msg, "stub");
    CHECK_HAS(err.msg, "LD_LIBRARY_PATH");
    CHECK_EQ(cuda_choose(&report, "0", &found, &err), ERR_NOT_FOUND);
    CHECK_HAS(err.msg, "stub");
    uint32_t count = 0;
    CHECK_EQ(cuda_choose_list(&report, "all", 1, &found, &count, &err), ERR_UNSUPPORTED);
    CHECK_HAS(err.msg, "stub");
}

TEST(cuda_probe_counts_devices_beyond_its_limit) {
    probed = cuda_fake_driver();
    fake.devices_count = FAKE_DEVICES_MAX;
    for (int i = 1; i < FAKE_DEVICES_MAX; i++) fake.devices[i] = fake.devices[0];
    probe_again(NULL);
    CHECK_EQ(report.devices_count, CUDA_DEVICES_MAX);
    CHECK_EQ(report.devices_left_out, FAKE_DEVICES_MAX - CUDA_DEVICES_MAX);
}
