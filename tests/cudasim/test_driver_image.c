/* test_driver_image.c - which images the software GPU's driver loads, and as which code path. */
#include "cudasim/driver/test_rig.h"

#include <elf.h>
#include <stdlib.h>

/* --- fat binaries made here -------------------- */

typedef struct entry {
    int arch, version; /* of PTX 90 = 9.0; of a cubin its ELF ABI */
    bool is_ptx, this_arch_only, compressed;
} entry;

typedef struct fatbin {
    unsigned char bytes[8192];
    size_t count;
} fatbin;

static void put(fatbin *f, const void *bytes, size_t count) {
    memcpy(f->bytes + f->count, bytes, count);
    f->count += count;
}

static void put_u64(fatbin *f, uint64_t v) { put(f, &v, 8); }
static void put_u32(fatbin *f, uint32_t v) { put(f, &v, 4); }
static void put_u16(fatbin *f, uint16_t v) { put(f, &v, 2); }

static const char NAMES[] = "....text.k_test_address\0.text.k_test_atomic\0\0\0\0";

static void put_entry(fatbin *f, const entry *e) {
    const char *text = e->is_ptx ? RIG_PTX("9.0", "sm_75") : NAMES;
    size_t bytes = e->is_ptx ? strlen(text) + 1 : sizeof NAMES;
    uint64_t flags = 0x11 | (e->this_arch_only ? 0x100000u : 0u) | (e->compressed ? 0x8000u : 0u);
    put_u16(f, e->is_ptx ? 1 : 2);
    put_u16(f, 0x101);
    put_u32(f, 64);
    put_u64(f, bytes);
    put_u64(f, 0);
    put_u16(f, (uint16_t)(e->is_ptx ? e->version % 10 : e->version));
    put_u16(f, (uint16_t)(e->is_ptx ? e->version / 10 : 1));
    put_u32(f, (uint32_t)e->arch);
    put_u64(f, 0);
    put_u64(f, flags);
    put_u64(f, 0);
    put_u64(f, 0);
    put(f, text, bytes);
}

static void make_fatbin(fatbin *f, const entry *entries, size_t count) {
    memset(f, 0, sizeof *f);
    f->count = 16;
    for (size_t i = 0; i < count; i++) put_entry(f, &entries[i]);
    size_t end = f->count;
    f->count = 0;
    put_u32(f, 0xba55ed50u);
    put_u16(f, 1);
    put_u16(f, 16);
    put_u64(f, end - 16);
    f->count = end;
}

static cu_result load(const void *image, int *arch) {
    cu_module m = NULL;
    cu_function f = NULL;
    cu_result result = cuModuleLoadDataEx(&m, image, 0, NULL, NULL);
    if (result != CU_SUCCESS) return result;
    OK_CALL(cuModuleGetFunction(&f, m, "k_test_atomic"));
    if (arch != NULL) OK_CALL(cuFuncGetAttribute(arch, CU_FUNC_PTX_VERSION, f));
    OK_CALL(cuModuleUnload(m));
    return CU_SUCCESS;
}

/* --- which part is taken -------------------- */

static const entry GANTRY[] = {{75, 8, false, false, false}, {80, 8, false, false, false},
                               {86, 8, false, false, false}, {89, 8, false, false, false},
                               {90, 8, false, true, false},  {120, 90, true, false, true}};

typedef struct choice {
    const char *machine;
    cu_result want;
    int arch;
} choice;

TEST(sim_driver_fatbin_gives_the_best_code) {
    static const choice choices[] = {
        {"t4", CU_SUCCESS, 75},
        {"a100", CU_SUCCESS, 80},
        {"a10", CU_SUCCESS, 86},
        {"l4", CU_SUCCESS, 89},
        {"h100", CU_SUCCESS, 90},
        {"{\"gpus\":[{\"cc\":\"8.7\"}]}", CU_SUCCESS, 86},
        {"{\"gpus\":[{\"cc\":\"10.0\"}]}", CU_NO_BINARY_FOR_GPU, 0},
        {"{\"gpus\":[{\"cc\":\"12.1\"}]}", CU_SUCCESS, 120},
        {"p100", CU_NO_BINARY_FOR_GPU, 0},
        {"k80", CU_NO_BINARY_FOR_GPU, 0},
        {"{\"cuda\":12090}", CU_NO_BINARY_FOR_GPU, 0},
        {"{\"cuda\":12090,\"gpus\":[{\"cc\":\"12.0\"}]}", CU_UNSUPPORTED_PTX_VERSION, 0},
    };
    fatbin f;
    make_fatbin(&f, GANTRY, sizeof GANTRY / sizeof GANTRY[0]);
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        int arch = 0;
        (void)rig_machine(choices[i].machine);
        CHECK_EQ(load(f.bytes, &arch), choices[i].want);
        CHECK_EQ(arch, choices[i].arch);
    }
    rig_close_machine();
}

TEST(sim_driver_fatbin_that_is_cut_is_refused) {
    fatbin f;
    uint64_t cut;
    (void)rig_machine("t4");
    make_fatbin(&f, GANTRY, 2);
    cut = f.count - 16 - 1;
    memcpy(f.bytes + 8, &cut, 8);
    CHECK_EQ(load(f.bytes, NULL), CU_INVALID_IMAGE);
    cut = UINT64_MAX;
    memcpy(f.bytes + 8, &cut, 8);
    CHECK_EQ(load(f.bytes, NULL), CU_INVALID_IMAGE);
    CHECK_EQ(load("not an image", NULL), CU_INVALID_IMAGE);
    CHECK_EQ(load("", NULL), CU_INVALID_IMAGE);
    CHECK_EQ(cuModuleLoadDataEx(NULL, "", 0, NULL, NULL), CU_INVALID_VALUE);
    rig_close_machine();
}

TEST(sim_driver_compressed_code_needs_a_driver_that_knows_it) {
    static const entry packed = {75, 65, true, false, true}, plain = {75, 65, true, false, false};
    fatbin f;
    make_fatbin(&f, &packed, 1);
    (void)rig_machine("{\"cuda\":12030}");
    CHECK_EQ(load(f.bytes, NULL), CU_NO_BINARY_FOR_GPU);
    (void)rig_machine("{\"cuda\":12040}");
    OK_CALL(load(f.bytes, NULL));
    make_fatbin(&f, &plain, 1);
    (void)rig_machine("{\"cuda\":11040}");
    OK_CALL(load(f.bytes, NULL));
    rig_close_machine();
}

/* --- PTX text -------------------- */

typedef struct ptx_case {
    const char *machine, *ptx;
    cu_result want;
} ptx_case;

TEST(sim_driver_ptx_is_held_to_driver_and_gpu) {
    static const ptx_case cases[] = {
        {"t4", RIG_PTX("9.0", "sm_75"), CU_SUCCESS},
        {"t4", RIG_PTX("9.1", "sm_75"), CU_UNSUPPORTED_PTX_VERSION},
        {"{\"cuda\":12090}", RIG_PTX("9.0", "sm_75"), CU_UNSUPPORTED_PTX_VERSION},
        {"{\"cuda\":11040}", RIG_PTX("7.4", "sm_75"), CU_SUCCESS},
        {"{\"cuda\":11040}", RIG_PTX("7.5", "sm_75"), CU_UNSUPPORTED_PTX_VERSION},
        {"{\"cuda\":10020}", RIG_PTX("6.5", "sm_75"), CU_SUCCESS},
        {"h100", RIG_PTX("6.5", "sm_75"), CU_SUCCESS},
        {"h100", RIG_PTX("9.0", "sm_90a"), CU_SUCCESS},
        {"{\"gpus\":[{\"cc\":\"12.0\"}]}", RIG_PTX("9.0", "sm_90a"), CU_INVALID_PTX},
        {"t4", RIG_PTX("6.5", "sm_80"), CU_INVALID_PTX},
        {"p100", RIG_PTX("6.5", "sm_75"), CU_INVALID_PTX},
        {"t4", "//\n.version 6.5\n.address_size 64\n", CU_INVALID_PTX},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        (void)rig_machine(cases[i].machine);
        CHECK_EQ(load(cases[i].ptx, NULL), cases[i].want);
    }
    rig_close_machine();
}

TEST(sim_driver_jit_log_says_why) {
    char log[100] = "";
    cu_module m = NULL;
    int options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_BYTES};
    void *values[] = {log, (void *)(uintptr_t)sizeof log};
    (void)rig_machine("{\"cuda\":11040}");
    CHECK_EQ(cuModuleLoadDataEx(&m, RIG_PTX("9.0", "sm_75"), 2, options, values),
             CU_UNSUPPORTED_PTX_VERSION);
    CHECK_HAS(log, ".version");
    rig_close_machine();
}

/* --- names -------------------- */

TEST(sim_driver_functions_must_be_in_the_image) {
    cu_module m = NULL;
    cu_function f = NULL, again = NULL;
    (void)rig_machine("t4");
    OK_CALL(cuModuleLoadDataEx(&m, RIG_PTX("6.5", "sm_75"), 0, NULL, NULL));
    OK_CALL(cuModuleGetFunction(&f, m, "k_test_atomic"));
    OK_CALL(cuModuleGetFunction(&again, m, "k_test_atomic"));
    CHECK(f == again);
    CHECK_EQ(cuModuleGetFunction(&f, m, "k_test_ato"), CU_NOT_FOUND);
    CHECK_EQ(cuModuleGetFunction(&f, m, "k_test_sectors"), CU_NOT_FOUND); /* of another image */
    CHECK_EQ(cuModuleGetFunction(&f, m, "k_none"), CU_NOT_FOUND);
    CHECK_EQ(cuModuleGetFunction(&f, m, ""), CU_INVALID_VALUE);
    OK_CALL(cuModuleUnload(m));
    CHECK_EQ(cuModuleGetFunction(&f, m, "k_test_atomic"), CU_INVALID_HANDLE);
    CHECK_EQ(cuFuncSetAttribute(again, CU_FUNC_MAX_DYNAMIC_SHARED, 1), CU_INVALID_HANDLE);
    rig_close_machine();
}

TEST(sim_driver_cubin_is_read_from_its_header) {
    struct {
        Elf64_Ehdr header;
        Elf64_Shdr sections[1];
        char names[sizeof NAMES];
    } cubin = {.header = {.e_ident = {0x7f, 'E', 'L', 'F', 2, 1, 1, 0x41, 8},
                          .e_machine = 190,
                          .e_shoff = sizeof(Elf64_Ehdr),
                          .e_shentsize = sizeof(Elf64_Shdr),
                          .e_shnum = 1,
                          .e_flags = 0x06004b04},
               .sections = {{.sh_type = SHT_STRTAB,
                             .sh_offset = sizeof(Elf64_Ehdr) + sizeof(Elf64_Shdr),
                             .sh_size = sizeof NAMES}}};
    int arch = 0;
    memcpy(cubin.names, NAMES, sizeof NAMES);
    (void)rig_machine("t4");
    OK_CALL(load(&cubin, &arch));
    CHECK_EQ(arch, 75);
    (void)rig_machine("a10");
    CHECK_EQ(load(&cubin, NULL), CU_NO_BINARY_FOR_GPU);
    (void)rig_machine("{\"cuda\":12090}");
    CHECK_EQ(load(&cubin, NULL), CU_NO_BINARY_FOR_GPU);
    cubin.header.e_ident[8] = 7; /* as CUDA 12 made them */
    cubin.header.e_flags = 0x004b054b;
    OK_CALL(load(&cubin, &arch));
    CHECK_EQ(arch, 75);
    rig_close_machine();
}
