/* test_cuda_driver.c - the driver's table and its results, and which image a card gets. */
#include "backend/cuda/cu_driver.h"
#include "backend/cuda/cuda_image.h"
#include "cuda_fake.h"
#include "test.h"

TEST(cuda_driver_that_is_not_there_is_not_found) {
    cu_driver d = {.version = 7};
    error err = {0};
    CHECK_EQ(cu_driver_open(&d, "/nowhere/libcuda.so.1", &err), ERR_NOT_FOUND);
    CHECK_HAS(err.msg, "/nowhere/libcuda.so.1");
    CHECK_EQ(d.version, 7); /* untouched */
}

TEST(cuda_library_without_the_functions_names_the_first_one_missing) {
    cu_driver d = {.version = 7};
    error err = {0};
    CHECK_EQ(cu_driver_open(&d, "libm.so.6", &err), ERR_UNSUPPORTED);
    CHECK_HAS(err.msg, "libm.so.6");
    CHECK_HAS(err.msg, "cuInit");
    CHECK_EQ(d.version, 7);
}

TEST(cuda_results_become_errors_with_name_number_and_text) {
    cu_driver d = cuda_fake_driver();
    error err = {0};
    CHECK_EQ(cu_check(&d, CU_SUCCESS, "cuInit", &err), OK);
    CHECK_EQ(cu_check(&d, CU_OUT_OF_MEMORY, "cuMemAlloc_v2", &err), ERR_NOMEM);
    CHECK_STR(err.msg, "cuda: cuMemAlloc_v2: NAME_OF_2 (2): what the driver says");
    CHECK_EQ(cu_check(&d, CU_ILLEGAL_ADDRESS, "k_norm", &err), ERR_DEVICE);
    CHECK_STR(err.msg, "cuda: k_norm: NAME_OF_700 (700): what the driver says");
    /* where the driver has no name, we have one, for the codes that we tell apart */
    CHECK_EQ(cu_check(&d, CU_STUB_LIBRARY, "cuInit", &err), ERR_DEVICE);
    CHECK_HAS(err.msg, "CUDA_ERROR_STUB_LIBRARY (34)");
    CHECK_EQ(cu_check(&(cu_driver){.version = 0}, 12345, "cuInit", &err), ERR_DEVICE);
    CHECK_STR(err.msg, "cuda: cuInit: CUDA_ERROR (12345): no description");
}

TEST(cuda_sticky_results_are_those_that_need_a_new_process) {
    static const int sticky[] = {214, 220, 226, 700, 702, 710, 714, 715,
                                 716, 717, 718, 719, 721, 810, 911, 999};
    static const int mild[] = {0, 1, 2, 46, 100, 209, 600, 701, 800, 801, 900, 901, 906};
    for (size_t i = 0; i < sizeof sticky / sizeof sticky[0]; i++) CHECK(cu_is_sticky(sticky[i]));
    for (size_t i = 0; i < sizeof mild / sizeof mild[0]; i++) CHECK(!cu_is_sticky(mild[i]));
}

/* --- images ------------------------------------------------------------------ */

TEST(cuda_image_is_machine_code_where_it_fits_and_ptx_elsewhere) {
    cuda_images images = cuda_fake_images(); /* sm_75, sm_90a, PTX for 12.0; and PTX for 7.5 */
    static const struct {
        int cc, driver, kind, code_path;
        const char *name;
    } cases[] = {
        {75, 13000, CUDA_IMAGE_FATBIN, 750, "sm_75 cubin"},
        {90, 13000, CUDA_IMAGE_FATBIN, 900, "sm_90a cubin"},
        {120, 13000, CUDA_IMAGE_FATBIN, 900, "compute_120 PTX"},
        {121, 13010, CUDA_IMAGE_FATBIN, 900, "compute_120 PTX"},
        {80, 13000, CUDA_IMAGE_PTX, 750, "PTX"},
        {100, 13000, CUDA_IMAGE_PTX, 750, "PTX"}, /* sm_90a is for that one only */
        {75, 12040, CUDA_IMAGE_PTX, 750, "PTX"},
        {90, 11040, CUDA_IMAGE_PTX, 750, "PTX"},
        {70, 13000, CUDA_IMAGE_NONE, 0, ""},
        {61, 12040, CUDA_IMAGE_NONE, 0, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cuda_image image = cuda_image_pick(&images, cases[i].cc, cases[i].driver);
        CHECK_EQ(image.kind, cases[i].kind);
        CHECK_EQ(image.code_path, cases[i].code_path);
        CHECK_STR(image.name, cases[i].name);
    }
    cuda_images none = {NULL, 0};
    CHECK_EQ(cuda_image_pick(&none, 75, 13000).kind, CUDA_IMAGE_NONE);
}

TEST(cuda_image_of_an_older_toolkit_loads_with_older_drivers) {
    unsigned char bytes[256];
    memcpy(bytes, fake_fatbin, fake_fatbin_bytes);
    bytes[16 + 24] = 7; /* ELF ABI version of the first entry, sm_75 */
    cuda_blob blob = {.name = "norm", .fatbin = bytes, .fatbin_end = bytes + fake_fatbin_bytes};
    cuda_images images = {&blob, 1};
    CHECK_STR(cuda_image_pick(&images, 75, 11040).name, "sm_75 cubin");
    CHECK_EQ(cuda_image_pick(&images, 90, 12080).kind, CUDA_IMAGE_NONE);
    CHECK_EQ(cuda_image_ptx(&images, 75).kind, CUDA_IMAGE_NONE);
}

TEST(cuda_image_without_ptx_or_machine_code_takes_the_other) {
    cuda_blob blob = {.name = "norm",
                      .fatbin = fake_fatbin,
                      .fatbin_end = fake_fatbin + fake_fatbin_bytes,
                      .ptx = fake_fatbin,
                      .ptx_end = fake_fatbin};
    cuda_images images = {&blob, 1};
    CHECK_EQ(cuda_image_pick(&images, 75, 13000).kind, CUDA_IMAGE_FATBIN);
    CHECK_EQ(cuda_image_pick(&images, 75, 12080).kind, CUDA_IMAGE_NONE);
    CHECK_EQ(cuda_image_pick(&images, 87, 13000).kind, CUDA_IMAGE_NONE);
    blob.fatbin_end = blob.fatbin;
    blob.ptx_end = blob.ptx + 3;
    CHECK_EQ(cuda_image_pick(&images, 75, 13000).kind, CUDA_IMAGE_PTX);
}

/* Cut anywhere, and with any byte changed, it is read within its bounds. */
TEST(cuda_image_of_a_damaged_file_is_no_machine_code_and_no_crash) {
    unsigned char bytes[256];
    CHECK(fake_fatbin_bytes <= sizeof bytes);
    for (size_t cut = 0; cut <= fake_fatbin_bytes; cut++) {
        unsigned char *copy = bytes + sizeof bytes - cut; /* ends where the array ends */
        memcpy(copy, fake_fatbin, cut);
        cuda_blob blob = {.name = "norm", .fatbin = copy, .fatbin_end = copy + cut};
        cuda_images images = {&blob, 1};
        cuda_image image = cuda_image_pick(&images, 75, 13000);
        CHECK_EQ(image.kind, cut >= 16 + 48 ? CUDA_IMAGE_FATBIN : CUDA_IMAGE_NONE);
    }
    for (size_t i = 0; i < fake_fatbin_bytes; i++) {
        memcpy(bytes, fake_fatbin, fake_fatbin_bytes);
        bytes[i] = 0xff;
        cuda_blob blob = {.name = "norm", .fatbin = bytes, .fatbin_end = bytes + fake_fatbin_bytes};
        cuda_images images = {&blob, 1};
        cuda_image image = cuda_image_pick(&images, 90, 13000);
        CHECK(image.kind == CUDA_IMAGE_NONE || image.kind == CUDA_IMAGE_FATBIN);
    }
}
