/* test_gpu_list.c - what CUDA and NVML say about the same GPUs is put together by UUID. */
#include "app/gpu_list.h"
#include "base/str.h"
#include "test.h"

static gpu_list list;

static void see_by_nvml(const char *uuid) {
    gpu_info *g = &list.nvml.gpus[list.nvml.count++];
    gpu_info_init(g);
    str_copy_c(g->uuid, sizeof g->uuid, str_of(uuid));
    g->temperature_celsius = 40 + list.nvml.count;
}

static cuda_device_info *see_by_cuda(const char *uuid) {
    cuda_device_info *d = &list.cuda.devices[list.cuda.devices_count];
    *d = (cuda_device_info){.ordinal = (int)list.cuda.devices_count++,
                            .name = "Tesla T4",
                            .cc = 75,
                            .memory_bytes = 15637086208,
                            .usable = true};
    str_copy_c(d->uuid, sizeof d->uuid, str_of(uuid));
    list.cuda.usable_count++;
    return d;
}

static void begin(void) {
    memset(&list, 0, sizeof list);
    list.nvml.source = GPU_SOURCE_OK;
    list.cuda.driver_found = list.cuda.driver_usable = true;
}

TEST(gpu_list_matches_by_uuid_whatever_the_order) {
    begin();
    see_by_nvml("GPU-aa");
    see_by_nvml("GPU-bb");
    see_by_cuda("gpu-bb"); /* CUDA_VISIBLE_DEVICES=1,0 */
    see_by_cuda("GPU-aa");
    gpu_list_merge(&list, "1,0");
    CHECK_EQ(list.nvml.count, 2);
    CHECK_EQ(list.rows[0].device->ordinal, 1);
    CHECK_EQ(list.rows[1].device->ordinal, 0);
    CHECK_EQ(list.rows[1].index, 1);
    CHECK_STR(list.rows[0].why, "");
}

TEST(gpu_list_says_why_cuda_does_not_see_a_gpu) {
    begin();
    see_by_nvml("GPU-aa");
    see_by_nvml("GPU-bb");
    see_by_cuda("GPU-aa");
    gpu_list_merge(&list, "0");
    CHECK(list.rows[1].device == NULL);
    CHECK_HAS(list.rows[1].why, "CUDA_VISIBLE_DEVICES='0' hides it");
    CHECK(list.rows[1].fix[0] != '\0');
    gpu_list_merge(&list, NULL);
    CHECK_HAS(list.rows[1].why, "does not list it");
    list.nvml.gpus[1].state = GPU_STATE_LOST;
    list.nvml.gpus[1].result = NVML_GPU_IS_LOST;
    gpu_list_merge(&list, NULL);
    CHECK_HAS(list.rows[1].why, "fallen off the bus");
    list.nvml.gpus[1].state = GPU_STATE_OK;
    list.cuda = (cuda_probe_report){.driver_found = true, .why = "cuInit says no", .fix = "ask it"};
    gpu_list_merge(&list, NULL);
    CHECK_STR(list.rows[0].why, "cuInit says no");
    CHECK_STR(list.rows[0].fix, "ask it");
}

TEST(gpu_list_takes_a_nameless_device_for_the_lost_gpu) {
    begin();
    see_by_nvml("GPU-aa");
    see_by_nvml("GPU-bb");
    list.nvml.gpus[1].state = GPU_STATE_LOST;
    list.nvml.gpus[1].result = NVML_GPU_IS_LOST;
    see_by_cuda("GPU-aa");
    see_by_cuda("")->usable = false;
    gpu_list_merge(&list, NULL);
    CHECK_EQ(list.nvml.count, 2);
    CHECK_EQ(list.rows[1].device->ordinal, 1);
    CHECK_HAS(list.rows[1].why, "fallen off the bus");
}

/* What a container with NVIDIA_DRIVER_CAPABILITIES=utility sees. */
TEST(gpu_list_of_nvml_alone_names_the_missing_library) {
    begin();
    list.cuda = (cuda_probe_report){.why = "there is no NVIDIA GPU in this machine"};
    see_by_nvml("GPU-aa");
    gpu_list_merge(&list, NULL);
    CHECK_STR(list.rows[0].why, "NVML sees 1 GPU, but there is no libcuda.so.1 that can be loaded");
    CHECK_HAS(list.rows[0].fix, "NVIDIA_DRIVER_CAPABILITIES");
}

TEST(gpu_list_without_nvml_has_what_cuda_knows) {
    begin();
    list.nvml.source = GPU_SOURCE_ABSENT;
    cuda_device_info *d = see_by_cuda("GPU-aa");
    d->free_bytes = 7;
    d->free_known = true;
    see_by_cuda("GPU-bb");
    gpu_list_merge(&list, NULL);
    CHECK_EQ(list.nvml_count, 0);
    CHECK_EQ(list.nvml.count, 2);
    CHECK_EQ(list.rows[0].index, -1);
    CHECK_STR(list.nvml.gpus[0].name, "Tesla T4");
    CHECK_STR(list.nvml.gpus[0].compute_capability, "7.5");
    CHECK_EQ(list.nvml.gpus[0].memory_total_bytes, 15637086208);
    CHECK_EQ(list.nvml.gpus[0].memory_free_bytes, 7);
    CHECK(list.nvml.gpus[1].memory_free_bytes == GPU_UNKNOWN);
    CHECK(list.nvml.gpus[0].temperature_celsius == GPU_UNKNOWN);
    CHECK(gpu_list_expects_gpu(&list));
}
