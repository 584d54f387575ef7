/* test_gguf_hostile.c - files that lie, one test per kind of lie.
 *
 * The kinds are those of published advisories and issues of GGUF readers.  Every file is
 * an exact heap block, so under the sanitizers one byte read too far is a failure. */
#include <inttypes.h>

#include "base/log.h"
#include "base/num.h"
#include "gguf_build.h"

static const uint64_t huge_counts[] = {UINT64_MAX, (uint64_t)1 << 63, 1000000000};
enum { HUGE_COUNTS = sizeof huge_counts / sizeof *huge_counts };

/* A file of one key whose value is the given bytes. */
static str one_value(uint32_t type, const void *value, size_t bytes) {
    build b;
    build_init(&b);
    add_key(&b, S("k"), type);
    buf_put(&b.kv, value, bytes);
    return build_finish(&b);
}

static void check_refused(str bytes, const char *words) {
    error err = {0};
    CHECK(try_gguf(bytes, &err) != OK);
    CHECK_HAS(err.msg, words);
    free((void *)(uintptr_t)bytes.p);
}

/* --- header ---------------------------------------------------------------- */
TEST(gguf_the_smallest_model_opens_so_the_lies_below_are_the_only_fault) {
    build b;
    build_good(&b, NULL);
    CHECK_STR(model_refusal(&b), "opened");
}

TEST(gguf_four_bytes_of_magic_are_not_a_file) {
    error err = {0};
    CHECK_EQ(try_gguf(S("GGUF"), &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "version");
    CHECK_EQ(try_gguf(S("GG"), &err), ERR_FORMAT);
}

TEST(gguf_another_magic_is_shown) {
    error err = {0};
    CHECK_EQ(try_gguf(S("FUGG\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "46554747");
}

TEST(gguf_versions_other_than_2_and_3_are_named) {
    static const uint32_t versions[] = {0, 1, 4, 99};
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        build b;
        char want[32];
        build_good(&b, NULL);
        b.version = versions[i];
        (void)snprintf(want, sizeof want, "version %u", versions[i]);
        CHECK_HAS(refusal(&b), want);
    }
}

TEST(gguf_version_2_reads_like_version_3) {
    build b;
    build_good(&b, NULL);
    b.version = 2;
    CHECK_STR(model_refusal(&b), "opened");
}

TEST(gguf_a_big_endian_file_is_told_apart) {
    build b;
    build_good(&b, NULL);
    b.version = 3u << 24;
    CHECK_HAS(refusal(&b), "big-endian");
}

TEST(gguf_counts_beyond_the_limits_are_refused_before_memory_is_taken) {
    for (size_t i = 0; i < HUGE_COUNTS; i++) {
        build b;
        build_good(&b, NULL);
        b.kv_count = huge_counts[i];
        CHECK_HAS(refusal(&b), "at most 65536");
        build_good(&b, NULL);
        b.tensors_count = huge_counts[i];
        CHECK_HAS(refusal(&b), "at most 65536");
    }
}

TEST(gguf_counts_that_the_file_cannot_hold_are_refused) {
    build b;
    build_init(&b);
    b.kv_count = 65536;
    CHECK_HAS(refusal(&b), "65536 key-values announced");
    build_init(&b);
    b.tensors_count = 65536;
    CHECK_HAS(refusal(&b), "65536 tensors announced");
}

/* --- keys and values ------------------------------------------------------- */
TEST(gguf_key_lengths_past_the_end_are_refused) {
    for (size_t i = 0; i < HUGE_COUNTS; i++) {
        build b;
        build_init(&b);
        put_u64(&b.kv, huge_counts[i]);
        buf_put_str(&b.kv, S("abcdefghij"));
        b.kv_count = 1;
        CHECK_HAS(refusal(&b), "inside key");
    }
}

TEST(gguf_string_and_array_lengths_past_the_end_are_refused) {
    for (size_t i = 0; i < HUGE_COUNTS; i++) {
        uint64_t n = huge_counts[i];
        unsigned char array[12];
        check_refused(one_value(GGUF_TYPE_STRING, &n, sizeof n), "inside a string value");
        memcpy(array, &(uint32_t){GGUF_TYPE_U32}, 4);
        memcpy(array + 4, &n, 8);
        check_refused(one_value(GGUF_TYPE_ARRAY, array, sizeof array), "elements of 4 bytes");
        memcpy(array, &(uint32_t){GGUF_TYPE_STRING}, 4);
        check_refused(one_value(GGUF_TYPE_ARRAY, array, sizeof array), "strings");
    }
}

TEST(gguf_array_bytes_that_wrap_around_are_refused) {
    unsigned char array[20] = {GGUF_TYPE_U64};
    memcpy(array + 4, &(uint64_t){((uint64_t)1 << 61) + 1}, 8);
    check_refused(one_value(GGUF_TYPE_ARRAY, array, sizeof array), "elements of 8 bytes");
}

TEST(gguf_arrays_of_arrays_are_refused_without_recursion) {
    enum { DEPTH = 20000, LEVEL_BYTES = 12 };
    unsigned char *nested = malloc((size_t)DEPTH * LEVEL_BYTES);
    CHECK(nested != NULL);
    for (size_t i = 0; i < DEPTH; i++) {
        memcpy(nested + i * LEVEL_BYTES, &(uint32_t){GGUF_TYPE_ARRAY}, 4);
        memcpy(nested + i * LEVEL_BYTES + 4, &(uint64_t){1}, 8);
    }
    check_refused(one_value(GGUF_TYPE_ARRAY, nested, (size_t)DEPTH * LEVEL_BYTES),
                  "'k' is an array of arrays");
    free(nested);
}

TEST(gguf_unknown_value_types_are_named) {
    static const uint32_t types[] = {13, 0x7fffffff, UINT32_MAX};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        unsigned char array[16] = {0};
        memcpy(array, &types[i], 4);
        check_refused(one_value(types[i], "\0\0\0\0\0\0\0", 8), "'k' has value type");
        check_refused(one_value(GGUF_TYPE_ARRAY, array, sizeof array), "'k' has element type");
    }
}

TEST(gguf_keys_must_be_printable_text) {
    static const str keys[] = {{"", 0}, {"a\0b", 3}, {"\xff\xfe", 2}, {"a\x1b[31m", 6}};
    static const char *const words[] = {"empty key", "printable", "printable", "printable"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        build b;
        build_good(&b, NULL);
        add_key(&b, keys[i], GGUF_TYPE_U32);
        put_u32(&b.kv, 1);
        CHECK_HAS(refusal(&b), words[i]);
    }
}

TEST(gguf_a_key_longer_than_the_specification_allows_is_refused) {
    static char key[GGUF_KEY_BYTES_MAX + 1];
    memset(key, 'k', sizeof key);
    build b;
    build_good(&b, NULL);
    add_key(&b, (str){key, sizeof key}, GGUF_TYPE_U32);
    put_u32(&b.kv, 1);
    CHECK_HAS(refusal(&b), "65536 bytes, at most 65535");
}

TEST(gguf_a_key_may_appear_only_once) {
    build b;
    build_good(&b, NULL);
    add_u32(&b, "llama.block_count", 1);
    CHECK_HAS(refusal(&b), "'llama.block_count' appears twice");
}

TEST(gguf_a_bool_of_2_is_read_as_true) {
    build b;
    blob *file = NULL;
    gguf *g = NULL;
    error err = {0};
    bool yes = false;
    build_good(&b, NULL);
    add_bool(&b, "x", 2);
    str bytes = build_finish(&b);
    CHECK_EQ(blob_open_memory(&file, bytes, "test", &err), OK);
    CHECK_EQ(gguf_open(&g, file, &err), OK);
    CHECK_EQ(gguf_get_bool(g, S("x"), &yes, &err), OK);
    CHECK_EQ(yes, true);
    gguf_close(g);
    blob_close(file);
    free((void *)(uintptr_t)bytes.p);
}

TEST(gguf_alignment_is_a_power_of_two_within_reason) {
    static const uint32_t bad[] = {0, 3, 33, (uint32_t)1 << 31, UINT32_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        build b;
        build_good(&b, NULL);
        add_u32(&b, "general.alignment", bad[i]);
        CHECK_HAS(refusal(&b), "'general.alignment' is");
    }
}

TEST(gguf_alignment_of_another_type_is_refused) {
    build b;
    build_good(&b, NULL);
    add_i32(&b, "general.alignment", 32);
    CHECK_HAS(refusal(&b), "'general.alignment' is i32, must be u32");
    build_good(&b, NULL);
    add_str(&b, "general.alignment", "32");
    CHECK_HAS(refusal(&b), "'general.alignment' is string, must be u32");
}

TEST(gguf_alignment_1_divides_nothing_by_zero) {
    build b;
    build_good(&b, NULL);
    add_u32(&b, "general.alignment", 1);
    (void)refusal(&b);
}

TEST(gguf_a_part_of_a_split_file_says_what_to_do) {
    build b;
    build_good(&b, NULL);
    add_key(&b, S("split.count"), GGUF_TYPE_U16);
    buf_put(&b.kv, "\xff\xff", 2);
    add_key(&b, S("split.no"), GGUF_TYPE_U16);
    buf_put(&b.kv, "\0\0", 2);
    CHECK_HAS(refusal(&b), "split file: part 1 of 65535; merge the parts first");
    build_good(&b, NULL);
    add_u32(&b, "split.count", 1);
    CHECK_STR(refusal(&b), "opened");
}

/* --- tensor descriptions --------------------------------------------------- */
/* The keys of a good file and one tensor described as given, with 512 bytes of data. */
static const char *lie_refusal(uint64_t cols, uint64_t rows, uint32_t type, uint64_t offset) {
    build b;
    build_keys(&b, NULL);
    add_lie(&b, cols, rows, type, offset);
    b.data_bytes = 512;
    return refusal(&b);
}

TEST(gguf_an_honest_tensor_opens_so_the_lies_below_are_the_only_fault) {
    CHECK_STR(lie_refusal(32, 4, DTYPE_F32, 0), "opened");
}

TEST(gguf_dimensions_are_at_least_1) {
    CHECK_HAS(lie_refusal(32, 0, DTYPE_F32, 0), "0 elements in dimension 1");
    CHECK_HAS(lie_refusal(0, 4, DTYPE_F32, 0), "0 elements in dimension 0");
    CHECK_HAS(lie_refusal(32, (uint64_t)1 << 63, DTYPE_F32, 0), "must be at least 1");
    CHECK_HAS(lie_refusal(32, UINT64_MAX, DTYPE_F32, 0), "-1 elements in dimension 1");
}

TEST(gguf_products_of_dimensions_that_wrap_are_refused) {
    const uint64_t dims[4] = {(uint64_t)1 << 32, (uint64_t)1 << 32, 1, 1};
    build b;
    CHECK_HAS(lie_refusal(1152, 4398046511105, DTYPE_Q8_0, 0), "token_embd.weight");
    build_keys(&b, NULL);
    add_tensor_raw(&b, S("t"), 4, 4, dims, DTYPE_F32, 0);
    CHECK_HAS(refusal(&b), "more than 2^63 elements");
}

TEST(gguf_sums_of_sizes_and_offsets_that_wrap_are_refused) {
    const uint64_t dims[1] = {((uint64_t)1 << 60) - 32};
    build b;
    build_keys(&b, NULL);
    for (uint64_t i = 0; i < 5; i++) {
        char name[2] = {(char)('a' + i), 0};
        add_tensor_raw(&b, str_of(name), 1, 1, dims, DTYPE_F32, (i & 3) << 62);
    }
    CHECK_HAS(refusal(&b), "tensor 'a' ends at");
    CHECK_HAS(lie_refusal(32, 4, DTYPE_F32, UINT64_MAX - 31), "past 2^64");
    CHECK_HAS(lie_refusal(INT64_MAX - 31, 1, DTYPE_I64, 0), "over 2^64 bytes");
    CHECK_HAS(lie_refusal(UINT64_MAX - 7, 1, DTYPE_I8, 0), "must be at least 1");
}

TEST(gguf_the_number_of_dimensions_is_1_to_4) {
    static const uint32_t bad[] = {0, 5, 255, UINT32_MAX};
    const uint64_t dims[4] = {1, 1, 1, 1};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        build b;
        build_keys(&b, NULL);
        add_tensor_raw(&b, S("t"), bad[i], 4, dims, DTYPE_F32, 0);
        CHECK_HAS(refusal(&b), "dimensions, must be 1 to 4");
    }
}

TEST(gguf_unknown_and_withdrawn_tensor_types_are_named) {
    static const uint32_t bad[] = {4, 5, 31, 33, 36, 38, 43, 0xffff, 0x80000000, UINT32_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char want[48];
        (void)snprintf(want, sizeof want, "has type %u, which is no ggml type", bad[i]);
        CHECK_HAS(lie_refusal(32, 1, bad[i], 0), want);
    }
}

TEST(gguf_rows_are_whole_blocks) {
    CHECK_HAS(lie_refusal(31, 2, DTYPE_Q4_0, 0), "rows of 31, Q4_0 packs 32");
}

TEST(gguf_no_tensor_reaches_past_the_file) {
    CHECK_HAS(lie_refusal(32, 4, DTYPE_F32, (uint64_t)1 << 40), "file has");
    CHECK_HAS(lie_refusal(32, 1024, DTYPE_F32, 0), "file has");
    CHECK_HAS(lie_refusal(32, 4, DTYPE_F32, 32), "file has");
}

TEST(gguf_offsets_keep_the_alignment) {
    CHECK_HAS(lie_refusal(32, 4, DTYPE_F32, 7), "at offset 7, alignment is 32");
}

TEST(gguf_tensors_do_not_overlap) {
    const uint64_t dims[1] = {32};
    build b;
    build_keys(&b, NULL);
    add_tensor_raw(&b, S("a"), 1, 1, dims, DTYPE_F32, 96);
    add_tensor_raw(&b, S("b"), 1, 1, dims, DTYPE_F32, 0);
    b.data_bytes = 512;
    CHECK_HAS(refusal(&b), "tensor 'a' begins at");
    build_keys(&b, NULL);
    add_tensor_raw(&b, S("a"), 1, 1, dims, DTYPE_F32, 128);
    add_tensor_raw(&b, S("b"), 1, 1, dims, DTYPE_F32, 0);
    b.data_bytes = 512;
    CHECK_STR(refusal(&b), "opened");
}

TEST(gguf_tensor_names_are_short_printable_and_unique) {
    static char name[1 << 20];
    const uint64_t dims[1] = {8};
    memset(name, 'n', sizeof name);
    static const size_t lengths[] = {0, 65, sizeof name};
    static const char *const words[] = {"empty tensor name", "65 bytes, at most 64", "at most 64"};
    for (size_t i = 0; i < 3; i++) {
        build b;
        build_keys(&b, NULL);
        add_tensor_raw(&b, (str){name, lengths[i]}, 1, 1, dims, DTYPE_F32, 0);
        b.data_bytes = 64;
        CHECK_HAS(refusal(&b), words[i]);
    }
    build b;
    build_keys(&b, NULL);
    add_tensor_raw(&b, (str){name, 64}, 1, 1, dims, DTYPE_F32, 0);
    add_tensor_raw(&b, (str){name, 64}, 1, 1, dims, DTYPE_F32, 32);
    b.data_bytes = 64;
    CHECK_HAS(refusal(&b), "appears twice");
}

TEST(gguf_the_last_tensor_is_padded_in_full_or_not_at_all) {
    const uint64_t dims[1] = {9};
    static const uint64_t ends[] = {35, 36, 37, 63, 64};
    static const char *const words[] = {"file has", "opened", "padding behind", "padding behind",
                                        "opened"};
    for (size_t i = 0; i < 5; i++) {
        build b;
        build_keys(&b, NULL);
        add_tensor_raw(&b, S("t"), 1, 1, dims, DTYPE_F32, 0);
        b.data_bytes = ends[i];
        CHECK_HAS(refusal(&b), words[i]);
    }
}

/* --- damage ---------------------------------------------------------------- */
TEST(gguf_a_file_cut_anywhere_is_refused) {
    build b;
    build_good(&b, NULL);
    str whole = build_finish(&b);
    error err = {0};
    CHECK_EQ(try_model(whole, &err), OK);
    for (size_t n = 1; n < whole.n; n += n < 2048 ? 1 : 61) {
        char *cut = malloc(n);
        CHECK(cut != NULL);
        memcpy(cut, whole.p, n);
        err = (error){0};
        CHECK(try_model((str){cut, n}, &err) != OK);
        CHECK(err.msg[0] != '\0');
        free(cut);
    }
    free((void *)(uintptr_t)whole.p);
}

/* --- long names in messages -------------------------------------------------- */

/* A key that a message shows only the beginning of. */
static str long_key(void) {
    static char key[300];
    memset(key, 'k', sizeof key);
    return (str){key, sizeof key};
}

static str long_value(uint32_t type, const void *value, size_t bytes) {
    build b;
    build_init(&b);
    add_key(&b, long_key(), type);
    buf_put(&b.kv, value, bytes);
    return build_finish(&b);
}

TEST(gguf_refusals_cut_a_long_key) {
    const struct {
        uint32_t type;
        uint32_t element;
        uint64_t count;
        const char *words;
    } values[] = {
        {13, 0, 0, "k' has value type 13"},
        {GGUF_TYPE_ARRAY, 13, 0, "k' has element type 13"},
        {GGUF_TYPE_ARRAY, GGUF_TYPE_ARRAY, 1, "k' is an array of arrays"},
        {GGUF_TYPE_ARRAY, GGUF_TYPE_STRING, 1000, "k' announces 1000 strings"},
        {GGUF_TYPE_ARRAY, GGUF_TYPE_U32, 1000, "k' announces 1000 elements of 4 bytes"},
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        unsigned char array[12];
        memcpy(array, &values[i].element, 4);
        memcpy(array + 4, &values[i].count, 8);
        check_refused(long_value(values[i].type, array, sizeof array), values[i].words);
    }
    build b;
    build_init(&b);
    for (uint32_t i = 0; i < 2; i++) {
        add_key(&b, long_key(), GGUF_TYPE_U8);
        buf_put_char(&b.kv, 0);
    }
    CHECK_HAS(refusal(&b), "k' appears twice");
}

/* Every getter, of a long key with this value. */
typedef status getter(const gguf *g, str key, error *err);

static status get_u32(const gguf *g, str key, error *err) {
    uint32_t v = 0;
    return gguf_get_u32(g, key, &v, err);
}

static status get_f32(const gguf *g, str key, error *err) {
    float v = 0;
    return gguf_get_f32_or(g, key, 1.0f, &v, err);
}

static status get_array(const gguf *g, str key, error *err) {
    gguf_array v;
    return gguf_get_array(g, key, GGUF_TYPE_F32, &v, err);
}

static void check_getter(uint32_t type, const void *value, size_t bytes, getter *get,
                         const char *words) {
    const str file = long_value(type, value, bytes);
    blob *b = NULL;
    gguf *g = NULL;
    error err = {0};
    CHECK_EQ(blob_open_memory(&b, file, "test", &err), OK);
    CHECK_EQ(gguf_open(&g, b, &err), OK);
    CHECK(get(g, long_key(), &err) != OK);
    CHECK_HAS(err.msg, words);
    CHECK_EQ(get_u32(g, str_skip(long_key(), 1), &err), ERR_NOT_FOUND);
    CHECK_HAS(err.msg, "kkk' is missing");
    gguf_close(g);
    blob_close(b);
    free((void *)(uintptr_t)file.p);
}

TEST(gguf_getters_cut_a_long_key) {
    const unsigned char array[12] = {GGUF_TYPE_U32};
    check_getter(GGUF_TYPE_I32, &(int32_t){-1}, 4, get_u32, "k' is -1, must be 0 to");
    check_getter(GGUF_TYPE_U64, &(uint64_t){1ull << 40}, 8, get_u32, "k' is 1099511627776, must");
    check_getter(GGUF_TYPE_F32, &(float){0}, 4, get_u32, "k' is f32, must be an integer");
    check_getter(GGUF_TYPE_F64, &(double){1e300}, 8, get_f32, "k' is 1e+300, must be finite");
    check_getter(GGUF_TYPE_ARRAY, array, sizeof array, get_array, "k' is an array of u32");
}

TEST(gguf_names_with_terminal_commands_are_refused) {
    static const char *const names[] = {"a\x1b[2J", "a\x7f",
                                        ("a\xc2\x9b"
                                         "2J"),
                                        "a\xc2\x85"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        build b;
        build_init(&b);
        add_u32(&b, names[i], 1);
        CHECK_HAS(refusal(&b), "not printable");
    }
    build b;
    build_init(&b);
    add_u32(&b, "caf\xc3\xa9 \xc2\xa0 \xe2\x82\x80", 1); /* nothing of the kind */
    CHECK_STR(refusal(&b), "opened");
}

TEST(gguf_split_numbers_of_another_type_are_refused) {
    build b;
    build_good(&b, NULL);
    add_str(&b, "split.count", "two");
    CHECK_HAS(refusal(&b), "'split.count' is string, must be an integer");
    build_good(&b, NULL);
    add_bool(&b, "split.no", 1);
    CHECK_HAS(refusal(&b), "'split.no' is bool, must be an integer");
}

TEST(gguf_a_type_that_is_none_has_no_name) {
    CHECK_STR(gguf_type_name((gguf_type)13), "?");
    CHECK_STR(gguf_type_name(GGUF_TYPE_F64), "f64");
}

/* A flipped bit may be harmless (a score, a name): the reader must only survive it and
 * have a reason when it refuses. */
TEST(gguf_every_flipped_bit_is_survived) {
    build b;
    build_good(&b, NULL);
    str whole = build_finish(&b);
    char *bytes = (char *)(uintptr_t)whole.p;
    uint32_t refused = 0;
    size_t header = num_min_size(whole.n, 2304);
    log_set_level(LOG_OFF);
    for (size_t bit = 0; bit < header * 8; bit++) {
        error err = {0};
        bytes[bit / 8] = (char)(bytes[bit / 8] ^ (1 << bit % 8));
        if (try_model(whole, &err) != OK) {
            refused++;
            CHECK(err.msg[0] != '\0');
        }
        bytes[bit / 8] = (char)(bytes[bit / 8] ^ (1 << bit % 8));
    }
    log_set_level(LOG_INFO);
    CHECK(refused > header * 2); /* names, lengths, counts and offsets fill most of a header */
    free(bytes);
}
