/* test_gpu_snapshot.c - what NVML says arrives as it is, and what it does not say stays unknown. */
#include <stdlib.h>

#include "gpu/gpu_json.h"
#include "gpu/gpu_table.h"
#include "test.h"

static gpu_snapshot snap, later;

static bool is_unknown(uint64_t v) { return v == GPU_UNKNOWN; }

TEST(gpu_snapshot_has_what_nvml_says) {
    nvml n = gpu_table_new();
    gpu_table.processes = 2;
    gpu_snapshot_read(&n, NULL, &snap);
    const gpu_info *g = &snap.gpus[1];
    CHECK_EQ(snap.source, GPU_SOURCE_OK);
    CHECK_EQ(snap.count, 2);
    CHECK_STR(snap.driver_version, "580.65.06");
    CHECK_STR(snap.cuda_version, "12.4");
    CHECK_STR(g->name, "Tesla T4");
    CHECK_STR(g->uuid, "GPU-0001");
    CHECK_STR(g->pci_bus_id, "00000000:05:00.0");
    CHECK_STR(g->compute_capability, "7.5");
    CHECK_EQ(g->memory_total_bytes, 16 << 20);
    CHECK_EQ(g->memory_used_bytes, 5 << 20);
    CHECK_EQ(g->memory_free_bytes, 10 << 20);
    CHECK_EQ(g->memory_reserved_bytes, 1 << 20);
    CHECK_EQ(g->utilization_gpu_percent, 87);
    CHECK_EQ(g->utilization_memory_percent, 40);
    CHECK_EQ(g->temperature_celsius, 41);
    CHECK_EQ(g->power_draw_mw, 27450);
    CHECK_EQ(g->power_limit_mw, 70000);
    CHECK_EQ(g->clocks_sm_mhz, 585);
    CHECK_EQ(g->clocks_memory_mhz, 5000);
    CHECK_EQ(g->clocks_max_sm_mhz, 1590);
    CHECK_EQ(g->clocks_max_memory_mhz, 5001);
    CHECK_EQ(g->throttle_reasons_bits, 0x44);
    CHECK_EQ(g->ecc_enabled, 1);
    CHECK_EQ(g->ecc_corrected_errors, 3);
    CHECK_EQ(g->ecc_uncorrected_errors, 0);
    CHECK_EQ(g->pcie_generation, 1);
    CHECK_EQ(g->pcie_generation_max, 3);
    CHECK_EQ(g->pcie_width, 16);
    CHECK(is_unknown(g->mig_enabled)); /* this card does not tell */
    CHECK_EQ(g->processes_count, 2);
    CHECK_EQ(g->processes[0].pid, 101); /* the larger one first */
    CHECK(gpu_snapshot_find(&snap, "gpu-0001") == g);
    CHECK(gpu_snapshot_find(&snap, "GPU-0002") == NULL);
    CHECK(gpu_snapshot_find(&snap, "") == NULL);
}

TEST(gpu_snapshot_knows_how_gpus_are_connected) {
    nvml n = gpu_table_new();
    gpu_snapshot_read(&n, NULL, &snap);
    CHECK_STR(gpu_path_name(snap.links[0][1].path), "PHB");
    CHECK_EQ(snap.links[0][1].p2p, GPU_ANSWER_YES);
    CHECK_EQ(snap.links[0][1].nvlinks, 2);
    CHECK_EQ(snap.links[1][0].nvlinks, 2);
    CHECK_EQ(snap.gpus[0].nvlinks_active, 3); /* one goes to a switch */
    CHECK_EQ(gpu_table.links_asked, 2);
    gpu_snapshot_read(&n, &snap, &later); /* connections are not asked for again */
    CHECK_EQ(gpu_table.links_asked, 2);
    CHECK_EQ(later.links[0][1].nvlinks, 2);
    CHECK_EQ(later.gpus[0].nvlinks_active, 3);
}

TEST(gpu_snapshot_takes_memory_from_both_versions) {
    nvml n = gpu_table_new();
    gpu_table.used_with_reserved = true;
    gpu_snapshot_read(&n, NULL, &snap);
    CHECK_EQ(snap.gpus[0].memory_used_bytes, 5 << 20);
    CHECK_EQ(snap.gpus[0].memory_free_bytes, 10 << 20);
    n.memory_v2 = NULL; /* older than branch 510 */
    gpu_snapshot_read(&n, NULL, &snap);
    CHECK_EQ(snap.gpus[0].memory_total_bytes, 16 << 20);
    CHECK_EQ(snap.gpus[0].memory_used_bytes, 6 << 20);
    CHECK(is_unknown(snap.gpus[0].memory_reserved_bytes));
}

/* Only what we cannot do without is there. */
TEST(gpu_snapshot_of_a_silent_driver_is_all_unknown) {
    nvml n = gpu_table_new();
    nvml bare = {.init = n.init, .device_count = n.device_count, .device_at = n.device_at};
    gpu_snapshot_read(&bare, NULL, &snap);
    CHECK_EQ(snap.count, 2);
    CHECK_EQ(snap.gpus[0].state, GPU_STATE_OK);
    CHECK_STR(snap.gpus[0].name, "");
    CHECK_STR(snap.driver_version, "");
#define CHECK_UNKNOWN(kind, field, text) CHECK(is_unknown(snap.gpus[0].field));
    GPU_NUMBERS(CHECK_UNKNOWN)
#undef CHECK_UNKNOWN
    CHECK_EQ(snap.links[0][1].path, GPU_PATH_UNKNOWN);
    CHECK_EQ(snap.links[0][1].p2p, GPU_ANSWER_UNKNOWN);
}

TEST(gpu_snapshot_of_a_lost_gpu_keeps_its_name) {
    nvml n = gpu_table_new();
    gpu_snapshot_read(&n, NULL, &snap);
    gpu_table.result[1] = NVML_GPU_IS_LOST;
    gpu_snapshot_read(&n, &snap, &later);
    const gpu_info *g = &later.gpus[1];
    CHECK_EQ(g->state, GPU_STATE_LOST);
    CHECK_EQ(g->result, NVML_GPU_IS_LOST);
    CHECK_STR(g->name, "Tesla T4");
    CHECK_STR(g->uuid, "GPU-0001");
    CHECK(is_unknown(g->memory_used_bytes));
    CHECK_EQ(later.gpus[0].state, GPU_STATE_OK);
    gpu_table.result[1] = NVML_NO_PERMISSION;
    gpu_snapshot_read(&n, &later, &snap);
    CHECK_STR(gpu_state_name(snap.gpus[1].state), "no_permission");
    gpu_table.result[1] = NVML_UNKNOWN;
    gpu_snapshot_read(&n, NULL, &snap);
    CHECK_STR(gpu_state_name(snap.gpus[1].state), "unreadable");
    CHECK_STR(snap.gpus[1].name, "");
}

static nvml_result lost_at_power(nvml_device dev, unsigned *mw) {
    (void)dev, (void)mw;
    return NVML_GPU_IS_LOST;
}

TEST(gpu_snapshot_sees_a_gpu_that_is_lost_between_two_questions) {
    nvml n = gpu_table_new();
    n.power = lost_at_power;
    gpu_snapshot_read(&n, NULL, &snap);
    CHECK_EQ(snap.gpus[0].state, GPU_STATE_LOST);
    CHECK_STR(snap.gpus[0].name, "Tesla T4");
}

TEST(gpu_snapshot_keeps_the_largest_processes) {
    nvml n = gpu_table_new();
    gpu_table.processes = 20;
    gpu_snapshot_read(&n, NULL, &snap);
    CHECK_EQ(snap.gpus[0].processes_count, 20);
    CHECK_EQ(snap.gpus[0].processes_listed, GPU_PROCESSES_MAX);
    CHECK_EQ(snap.gpus[0].processes[0].pid, 119);
    CHECK_EQ(snap.gpus[0].processes[15].pid, 104);
    gpu_table.processes = 65; /* more than are asked for */
    gpu_snapshot_read(&n, NULL, &snap);
    CHECK_EQ(snap.gpus[0].processes_count, 65);
    CHECK_EQ(snap.gpus[0].processes_listed, 0);
}

TEST(gpu_snapshot_says_when_there_are_more_gpus) {
    nvml n = gpu_table_new();
    gpu_table.count = 40;
    gpu_snapshot_read(&n, NULL, &snap);
    CHECK_EQ(snap.count, GPU_COUNT_MAX);
    CHECK_EQ(snap.count_seen, 40);
}

static nvml_result garbage_name(nvml_device dev, char *out, unsigned bytes) {
    (void)dev;
    memset(out, 'x', bytes); /* no end */
    return NVML_SUCCESS;
}

static nvml_result garbage_uuid(nvml_device dev, char *out, unsigned bytes) {
    (void)dev, (void)bytes;
    memcpy(out, "\x1b[31m\xff", 7);
    return NVML_SUCCESS;
}

TEST(gpu_snapshot_does_not_trust_texts) {
    nvml n = gpu_table_new();
    n.name = garbage_name;
    n.uuid = garbage_uuid;
    gpu_snapshot_read(&n, NULL, &snap);
    CHECK_EQ(strlen(snap.gpus[0].name), GPU_NAME_BYTES - 1);
    CHECK_STR(snap.gpus[0].uuid, "");
}

TEST(gpu_snapshot_without_nvml_says_why) {
    nvml n = gpu_table_new();
    gpu_table.count_result = NVML_UNINITIALIZED;
    gpu_snapshot_read(&n, NULL, &snap);
    CHECK_EQ(snap.source, GPU_SOURCE_FAILED);
    CHECK_EQ(snap.count, 0);
    CHECK_STR(snap.why, "the library is not initialized");
    CHECK(snap.fix[0] != '\0');
}

TEST(gpu_throttle_reasons_have_names) {
    uint64_t bits = 0x1044;
    CHECK_STR(gpu_throttle_reason_next(&bits), "sw_power_cap");
    CHECK_STR(gpu_throttle_reason_next(&bits), "hw_thermal_slowdown");
    CHECK_STR(gpu_throttle_reason_next(&bits), "other");
    CHECK(gpu_throttle_reason_next(&bits) == NULL);
}

TEST(nvml_that_is_not_there_is_no_fault) {
    error err = {0};
    nvml n = {0};
    CHECK_EQ(nvml_load(&n, "libnvidia-ml-nowhere.so.1", &err), ERR_NOT_FOUND);
    CHECK(n.library == NULL);
    nvml_unload(&n);
    CHECK_EQ(nvml_load(&n, "libm.so.6", &err), ERR_UNSUPPORTED);
    CHECK_HAS(err.msg, "has no nvmlInit_v2");
    CHECK_HAS(nvml_missing_fix(), "driver");
}

TEST(nvml_that_refuses_says_what_to_do) {
    error err = {0};
    nvml_result r = 0;
    nvml n = gpu_table_new();
    gpu_table.init_result = NVML_LIB_RM_VERSION_MISMATCH;
    CHECK_EQ(nvml_start(&n, &r, &err), ERR_DEVICE);
    CHECK_EQ(r, 18);
    CHECK_HAS(err.msg, "answers 18: the driver's library and its kernel module do not match");
    CHECK_HAS(nvml_result_fix(r), "reboot");
    CHECK_HAS(nvml_result_words(12345), "not known");
}

/* --- as JSON -------------------- */

static char text[64 << 10];

static void write_gpu(const gpu_snapshot *s, uint32_t gpu, gpu_json_detail detail) {
    buf out;
    json_writer w;
    buf_init(&out, sizeof text);
    json_writer_init(&w, &out);
    json_begin_object(&w);
    gpu_json_members(&w, s, gpu, detail);
    json_end_object(&w);
    CHECK(json_writer_is_done(&w) && !out.failed);
    str_copy_c(text, sizeof text, buf_view(&out));
    buf_deinit(&out);
}

TEST(gpu_json_has_units_in_its_names) {
    nvml n = gpu_table_new();
    gpu_table.processes = 1;
    gpu_snapshot_read(&n, NULL, &snap);
    write_gpu(&snap, 0, GPU_JSON_ALL);
    CHECK_HAS(text, "{\"state\":\"ok\",\"name\":\"Tesla T4\",\"uuid\":\"GPU-0000\"");
    CHECK_HAS(text, "\"memory_used_bytes\":5242880,");
    CHECK_HAS(text, "\"power_draw_watts\":27.45,");
    CHECK_HAS(text, "\"ecc_enabled\":true,");
    CHECK_HAS(text, "\"mig_enabled\":null,");
    CHECK_HAS(text, "\"clocks_throttle_reasons\":[\"sw_power_cap\",\"hw_thermal_slowdown\"]");
    CHECK_HAS(text, "\"links\":[{\"gpu\":1,\"path\":\"PHB\",\"nvlinks\":2,\"p2p\":true}]");
    CHECK_HAS(text, "\"processes\":[{\"pid\":100,\"used_memory_bytes\":1048576}]");
    write_gpu(&snap, 0, GPU_JSON_PUBLIC);
    CHECK(strstr(text, "pid") == NULL);
    CHECK_HAS(text, "\"processes_count\":1");
}

TEST(gpu_json_of_a_lost_gpu_has_nulls) {
    nvml n = gpu_table_new();
    gpu_table.result[0] = NVML_GPU_IS_LOST;
    gpu_snapshot_read(&n, NULL, &snap);
    write_gpu(&snap, 0, GPU_JSON_ALL);
    CHECK_HAS(text, "\"state\":\"lost\",\"name\":null,\"uuid\":null,\"pci_bus_id\":null,");
    CHECK_HAS(text, "\"memory_total_bytes\":null,");
    CHECK_HAS(text, "\"power_draw_watts\":null,");
    CHECK_HAS(text, "\"clocks_throttle_reasons\":null,");
    CHECK_HAS(text, "\"processes\":null");
    CHECK_HAS(text, "\"p2p\":null");
}
