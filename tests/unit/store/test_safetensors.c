/* test_safetensors.c - good files, files that lie, folders of shards. */
#include <errno.h>

#include "base/alloc.h"
#include "base/log.h"
#include "golden_paths.h"
#include "store/safetensors_build.h"

/* --- helpers ---------------------------------------------------------------------- */
static char refusal_text[sizeof((error *)0)->msg];

/* The message with which a file of this header is refused; "" when it opens. */
static const char *refused_as(str header, size_t data_bytes, status want) {
    buf b;
    safetensors *s = NULL;
    error err = {0};
    st_build(&b, header, data_bytes);
    const status st = safetensors_open_bytes(&s, buf_view(&b), "f", &err);
    CHECK_EQ(st, want);
    CHECK(st == OK || s == NULL);
    CHECK_EQ(st, err.code);
    (void)snprintf(refusal_text, sizeof refusal_text, "%s", err.msg);
    safetensors_close(s);
    buf_deinit(&b);
    return refusal_text;
}

static const char *refusal(const char *header, size_t data_bytes) {
    return refused_as(str_of(header), data_bytes, ERR_FORMAT);
}

/* One tensor of the given members. */
static const char *entry_refusal(const char *members, size_t data_bytes) {
    char header[1024];
    (void)snprintf(header, sizeof header, "{\"a\":{%s}}", members);
    return refusal(header, data_bytes);
}

/* --- good files ------------------------------------------------------------------- */
TEST(safetensors_shows_every_tensor_by_place) {
    buf b;
    safetensors *s = NULL;
    error err = {0};
    st_build(&b,
             S("{\"late\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[4,16]},"
               "\"__metadata__\":{\"format\":\"pt\",\"q\\u0041\":\"x\\ny\"},"
               "\"none\":{\"dtype\":\"F64\",\"shape\":[0,7],\"data_offsets\":[16,16]},"
               "\"\\u00e9\":{\"data_offsets\":[0,4],\"shape\":[],\"dtype\":\"F32\",\"more\":[{}]}}"
               "   "),
             16);
    CHECK_EQ(safetensors_open_bytes(&s, buf_view(&b), "f", &err), OK);
    CHECK_EQ(safetensors_count(s), 3);
    CHECK_EQ(safetensors_shards(s), 1);
    CHECK_EQ(safetensors_file_bytes(s), b.n);
    const safetensor *t = safetensors_get(s, 0);
    CHECK(str_eq(t->name, S("\xc3\xa9")));
    CHECK(t->type == SAFETENSORS_F32 && t->dims_count == 0 && t->elems == 1 && t->bytes == 4);
    t = safetensors_get(s, 1);
    CHECK(t == safetensors_find(s, S("late")));
    CHECK_EQ(safetensors_index(s, t), 1);
    CHECK(t->dims_count == 2 && t->dims[0] == 2 && t->dims[1] == 3 && t->elems == 6);
    CHECK(t->bytes == 12 && memcmp(t->data, "\4\5\6\7", 4) == 0);
    CHECK_EQ(safetensors_find(s, S("none"))->elems, 0);
    CHECK(safetensors_find(s, S("__metadata__")) == NULL);
    CHECK(str_eq(safetensors_metadata(s, S("format")), S("pt")));
    CHECK(str_eq(safetensors_metadata(s, S("qA")), S("x\ny")));
    CHECK(str_eq(safetensors_metadata(s, S("absent")), S("")));
    safetensors_close(s);
    safetensors_close(NULL);
    buf_deinit(&b);
}

TEST(safetensors_knows_the_size_of_every_type) {
    static const char *const names[] = {"BOOL", "U8",  "I8",  "F8_E4M3", "F8_E5M2",
                                        "I16",  "U16", "F16", "BF16",    "I32",
                                        "U32",  "F32", "F64", "I64",     "U64"};
    static const int bytes[] = {1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 8, 8, 8};
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
        char header[128];
        (void)snprintf(header, sizeof header,
                       "{\"a\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%d]}}", names[i],
                       3 * bytes[i]);
        CHECK_STR(refused_as(str_of(header), 3 * (size_t)bytes[i], OK), "");
        CHECK_STR(safetensors_type_name((safetensors_type)i), names[i]);
    }
    CHECK_STR(safetensors_type_name((safetensors_type)99), "?");
}

TEST(safetensors_without_tensors_is_a_file_too) {
    CHECK_STR(refused_as(S("{}"), 0, OK), "");
    CHECK_STR(refused_as(S("{\"__metadata__\":{}}"), 0, OK), "");
    CHECK_HAS(refusal("{}", 3), "tensors end at 0, there are 3 bytes of data");
}

/* --- the header as such ----------------------------------------------------------- */
TEST(safetensors_header_length_is_checked_against_file_and_limit) {
    const struct {
        uint64_t length;
        size_t bytes;
        status code;
        const char *words;
    } cases[] = {
        {0, 7, ERR_FORMAT, "7 bytes, a SafeTensors file has at least 8"},
        {0, 8, ERR_FORMAT, "header of 0 bytes does not begin"},
        {3, 10, ERR_FORMAT, "header of 3 bytes, the file has 2 more"},
        {100000000, 10, ERR_FORMAT, "the file has 2 more"},
        {100000001, 10, ERR_LIMIT, "header of 100000001 bytes, at most 100000000"},
        {UINT64_MAX, 10, ERR_LIMIT, "header of 18446744073709551615 bytes"},
        {(uint64_t)1 << 63, 10, ERR_LIMIT, "at most"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char bytes[16] = "........{}";
        safetensors *s = NULL;
        error err = {0};
        memcpy(bytes, &cases[i].length, sizeof cases[i].length);
        CHECK_EQ(safetensors_open_bytes(&s, (str){bytes, cases[i].bytes}, "dir/f", &err),
                 cases[i].code);
        CHECK_HAS(err.msg, cases[i].words);
        CHECK_HAS(err.msg, "f: ");
    }
}

TEST(safetensors_header_is_one_object_from_its_first_byte) {
    CHECK_HAS(refusal(" {}", 0), "does not begin with '{'");
    CHECK_HAS(refusal("[]", 0), "does not begin with '{'");
    CHECK_HAS(refusal("{} {}", 0), "text behind the document");
    CHECK_HAS(refusal("{\"a\":1}", 0), "want object, found number");
    CHECK_HAS(refusal("{\"a\":{}", 0), "no dtype");
    CHECK_HAS(refusal("{\"a\\", 0), "no valid escape");
    CHECK_HAS(refused_as((str){"{\0}", 3}, 0, ERR_FORMAT), "want a key");
    CHECK_HAS(refusal("{\"a\xff\":{}}", 0), "not UTF-8");
}

TEST(safetensors_names_are_unique_printable_and_limited) {
    char header[SAFETENSORS_NAME_BYTES_MAX + 128];
    CHECK_HAS(refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                      "\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
                      2),
              "tensor 'a' appears twice");
    CHECK_HAS(refusal("{\"\":{}}", 0), "tensor name is empty");
    CHECK_HAS(refusal("{\"a\\u001b[m\":{}}", 0), "control characters");
    CHECK_HAS(refusal("{\"\\u009b\":{}}", 0), "control characters");
    for (int n = SAFETENSORS_NAME_BYTES_MAX; n <= SAFETENSORS_NAME_BYTES_MAX + 1; n++) {
        (void)snprintf(header, sizeof header,
                       "{\"%0*d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", n, 0);
        const bool fits = n == SAFETENSORS_NAME_BYTES_MAX;
        CHECK_HAS(refused_as(str_of(header), 1, fits ? OK : ERR_LIMIT),
                  fits ? "" : "tensor name of 1025 bytes, at most 1024");
    }
}

TEST(safetensors_metadata_holds_texts_each_once) {
    CHECK_HAS(refusal("{\"__metadata__\":{\"a\":1}}", 0), "want string, found number");
    CHECK_HAS(refusal("{\"__metadata__\":[]}", 0), "want object, found array");
    CHECK_HAS(refusal("{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0), "appears twice");
    CHECK_HAS(refusal("{\"__metadata__\":{},\"__metadata__\":{}}", 0), "appears twice");
}

/* --- entries ---------------------------------------------------------------------- */
TEST(safetensors_entries_are_complete) {
    CHECK_HAS(entry_refusal("\"shape\":[1],\"data_offsets\":[0,1]", 1), "tensor 'a' has no dtype");
    CHECK_HAS(entry_refusal("\"dtype\":\"U8\",\"data_offsets\":[0,1]", 1), "has no shape");
    CHECK_HAS(entry_refusal("\"dtype\":\"U8\",\"shape\":[1]", 1), "has no data_offsets");
    CHECK_HAS(entry_refusal("\"dtype\":\"U8\",\"dtype\":\"U8\"", 1), "has 'dtype' twice");
    CHECK_HAS(entry_refusal("\"dtype\":8", 1), "want string, found number");
    CHECK_HAS(refused_as(S("{\"a\":{\"dtype\":\"F4\",\"shape\":[1],\"data_offsets\":[0,1]}}"), 1,
                         ERR_UNSUPPORTED),
              "tensor 'a' has dtype 'F4', which is not known");
}

TEST(safetensors_shapes_are_whole_numbers_whose_product_fits) {
    static const char *const bad[] = {"-1",   "1.0", "1e1",  "18446744073709551616",
                                      "null", "[]",  "\"1\""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char members[128];
        (void)snprintf(members, sizeof members, "\"shape\":[%s]", bad[i]);
        CHECK_HAS(entry_refusal(members, 0), "tensor 'a': shape has ");
        (void)snprintf(members, sizeof members, "\"data_offsets\":[0,%s]", bad[i]);
        CHECK_HAS(entry_refusal(members, 0), "tensor 'a': data_offsets has ");
    }
    CHECK_HAS(entry_refusal("\"shape\":[4294967296,4294967296]", 0),
              "over 2^64 elements up to dimension 1");
    CHECK_HAS(entry_refusal("\"dtype\":\"F64\",\"shape\":[2305843009213693952],"
                            "\"data_offsets\":[0,0]",
                            0),
              "has 2305843009213693952 elements of F64, but 0 bytes");
    CHECK_STR(refused_as(S("{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1],"
                           "\"data_offsets\":[0,1]}}"),
                         1, OK),
              "");
    CHECK_HAS(refused_as(S("{\"a\":{\"shape\":[1,1,1,1,1,1,1,1,1]}}"), 1, ERR_LIMIT),
              "more than 8 dimensions");
}

TEST(safetensors_offsets_are_two_in_order_and_inside) {
    CHECK_HAS(entry_refusal("\"data_offsets\":[0]", 1), "fewer than 2 data_offsets");
    CHECK_HAS(entry_refusal("\"data_offsets\":[]", 1), "fewer than 2 data_offsets");
    CHECK_HAS(entry_refusal("\"data_offsets\":[0,1,1]", 1), "more than 2 data_offsets");
    CHECK_HAS(entry_refusal("\"data_offsets\":[1,0]", 1), "begins at 1 and ends at 0");
    CHECK_HAS(entry_refusal("\"data_offsets\":[0,2]", 1), "ends at 2, there are 1 bytes of data");
    CHECK_HAS(entry_refusal("\"data_offsets\":[0,18446744073709551615]", 1),
              "ends at 18446744073709551615, there are 1 bytes");
    CHECK_HAS(entry_refusal("\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,3]", 3),
              "has 2 elements of F16, but 3 bytes");
}

TEST(safetensors_data_is_covered_once_without_holes) {
    const char *form = "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[%d,%d]},"
                       "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[%d,%d]}}";
    char header[256];
    (void)snprintf(header, sizeof header, form, 2, 4, 0, 2);
    CHECK_STR(refused_as(str_of(header), 4, OK), "");
    CHECK_HAS(refusal(header, 5), "tensors end at 4, there are 5 bytes of data");
    (void)snprintf(header, sizeof header, form, 0, 2, 1, 3);
    CHECK_HAS(refusal(header, 3), "tensor 'b' begins at 1, the data before it ends at 2");
    (void)snprintf(header, sizeof header, form, 0, 2, 3, 5);
    CHECK_HAS(refusal(header, 5), "tensor 'b' begins at 3, the data before it ends at 2");
    (void)snprintf(header, sizeof header, form, 1, 3, 3, 5);
    CHECK_HAS(refusal(header, 5), "tensor 'a' begins at 1, the data before it ends at 0");
}

TEST(safetensors_survives_running_out_of_memory) {
    buf b;
    st_build(&b,
             S("{\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
               "\"__metadata__\":{\"k\":\"v\"}}"),
             2);
    for (int64_t n = 0;; n++) {
        safetensors *s = NULL;
        error err = {0};
        mem_fail_after(n);
        const status st = safetensors_open_bytes(&s, buf_view(&b), "f", &err);
        mem_fail_after(-1);
        safetensors_close(s);
        if (st == OK) break;
        CHECK_EQ(st, ERR_NOMEM);
        CHECK(n < 100);
    }
    buf_deinit(&b);
}

/* --- folders ---------------------------------------------------------------------- */
#define ONE(name, first) \
    S("{\"" name "\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}," first "}")
#define HEAD_A ONE("a", "\"__metadata__\":{\"format\":\"pt\"}")
#define HEAD_B ONE("b", "\"__metadata__\":{\"format\":\"tf\",\"more\":\"m\"}")

static const char *folder_refusal(st_folder *f, status want) {
    safetensors *s = NULL;
    error err = {0};
    CHECK_EQ(safetensors_open(&s, f->path, &err), want);
    (void)snprintf(refusal_text, sizeof refusal_text, "%s", err.msg);
    safetensors_close(s);
    st_folder_drop(f);
    return refusal_text;
}

/* A folder of two good shards and the given index. */
static const char *index_refusal(const char *index, status want) {
    st_folder f;
    st_folder_make(&f);
    st_folder_shard(&f, "one", HEAD_A, 2);
    st_folder_shard(&f, "two", HEAD_B, 2);
    st_folder_put(&f, "model.safetensors.index.json", str_of(index));
    log_set_level(LOG_ERROR);
    const char *message = folder_refusal(&f, want);
    log_set_level(LOG_INFO);
    return message;
}

TEST(safetensors_opens_a_file_and_a_folder_with_one) {
    st_folder f;
    char path[ST_PATH_BYTES];
    safetensors *s = NULL;
    error err = {0};
    st_folder_make(&f);
    CHECK_EQ(safetensors_open(&s, f.path, &err), ERR_NOT_FOUND);
    CHECK_HAS(err.msg, "no model.safetensors or model.safetensors.index.json in '/tmp/");
    st_folder_shard(&f, "model.safetensors", HEAD_A, 2);
    CHECK_EQ(safetensors_open(&s, f.path, &err), OK);
    CHECK_EQ(safetensors_count(s), 1);
    safetensors_close(s);
    s = NULL;
    CHECK_EQ(safetensors_open(&s, st_folder_file(&f, 0, path), &err), OK);
    CHECK_EQ(safetensors_count(s), 1);
    safetensors_close(s);
    s = NULL;
    CHECK_EQ(safetensors_open(&s, "/tmp/gantry-no-such-folder", &err), ERR_NOT_FOUND);
    CHECK(s == NULL);
    st_folder_drop(&f);
}

TEST(safetensors_joins_the_shards_of_an_index) {
    st_folder f;
    safetensors *s = NULL;
    error err = {0};
    st_folder_make(&f);
    st_folder_shard(&f, "one", HEAD_A, 2);
    st_folder_shard(&f, "two", HEAD_B, 2);
    st_folder_put(&f, "model.safetensors.index.json",
                  S("{\"metadata\":{\"total_size\":4},"
                    "\"weight_map\":{\"b\":\"two\",\"a\":\"\\u006fne\"},\"x\":[[]]}"));
    CHECK_EQ(safetensors_open(&s, f.path, &err), OK);
    CHECK_STR(err.msg, ""); /* that there is no model.safetensors is nobody's error */
    CHECK_EQ(safetensors_shards(s), 2);
    CHECK_EQ(safetensors_count(s), 2);
    CHECK_EQ(safetensors_find(s, S("b"))->shard, 0);
    CHECK(str_ends(str_of(safetensors_shard_path(s, 0)), S("/two")));
    CHECK(str_starts(str_of(safetensors_shard_path(s, 1)), str_of(f.path)));
    CHECK_EQ(safetensors_find(s, S("a"))->shard, 1);
    CHECK(str_eq(safetensors_metadata(s, S("format")), S("tf"))); /* of the first in the map */
    CHECK(str_eq(safetensors_metadata(s, S("more")), S("m")));
    safetensors_close(s);
    st_folder_drop(&f);
}

/* Deeper than the names of blobs are long. */
TEST(safetensors_paths_are_kept_whole) {
    st_folder f;
    safetensors *s = NULL;
    error err = {0};
    char path[512];
    int n = 0;
    st_folder_make(&f);
    st_folder_shard(&f, "model.safetensors", HEAD_A, 2);
    n = snprintf(path, sizeof path, "%s", f.path);
    for (int i = 0; i < 150; i++) n += snprintf(path + n, sizeof path - (size_t)n, "/.");
    CHECK_EQ(safetensors_open(&s, path, &err), OK);
    CHECK_EQ(strlen(safetensors_shard_path(s, 0)), n + 18);
    CHECK(str_ends(str_of(safetensors_shard_path(s, 0)), S("/./model.safetensors")));
    safetensors_close(s);
    st_folder_drop(&f);
}

TEST(safetensors_index_never_leads_out_of_the_folder) {
    static const char *const bad[] = {"/etc/passwd", "../two",   "sub/two", "..",
                                      ".",           "a/../two", "./two",   "\\u002ftwo"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char index[128];
        (void)snprintf(index, sizeof index, "{\"weight_map\":{\"a\":\"%s\"}}", bad[i]);
        CHECK_HAS(index_refusal(index, ERR_FORMAT), "is not the name of a file beside it");
    }
    CHECK_HAS(index_refusal("{\"weight_map\":{\"a\":\"\"}}", ERR_FORMAT), "file name is empty");
    CHECK_HAS(index_refusal("{\"weight_map\":{\"a\":\"one\\u0000\"}}", ERR_FORMAT),
              "control characters");
}

TEST(safetensors_index_is_believed_only_where_it_is_right) {
    CHECK_HAS(index_refusal("{\"weight_map\":{\"a\":\"two\",\"b\":\"two\"}}", ERR_FORMAT),
              "tensor 'a' is not in 'two'");
    CHECK_HAS(index_refusal("{\"weight_map\":{\"c\":\"two\"}}", ERR_FORMAT),
              "tensor 'c' is not in 'two'");
    CHECK_HAS(index_refusal("{\"weight_map\":{\"a\":\"three\"}}", ERR_FORMAT),
              "'three' is not there");
    CHECK_HAS(index_refusal("{\"weight_map\":{\"a\":\"one\",\"a\":\"one\"}}", ERR_FORMAT),
              "tensor 'a' appears twice");
    CHECK_HAS(index_refusal("{\"weight_map\":{}}", ERR_FORMAT), "'weight_map' is empty");
    CHECK_HAS(index_refusal("{\"metadata\":{}}", ERR_FORMAT), "'weight_map' is missing");
    CHECK_HAS(index_refusal("{\"weight_map\":[]}", ERR_FORMAT), "want object, found array");
    CHECK_HAS(index_refusal("{\"weight_map\":{\"a\":1}}", ERR_FORMAT), "want string");
    CHECK_HAS(index_refusal("{\"weight_map\":{\"a\":\"one\"},\"weight_map\":{}}", ERR_FORMAT),
              "'weight_map' appears twice");
    CHECK_HAS(index_refusal("{\"weight_map\":{\"a\":\"one\"}", ERR_FORMAT), "ends in the middle");
}

TEST(safetensors_outside_the_index_are_left_out) {
    st_folder f;
    safetensors *s = NULL;
    error err = {0};
    st_folder_make(&f);
    st_folder_shard(&f, "one", HEAD_A, 2);
    st_folder_shard(&f, "two",
                    S("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                      "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]},"
                      "\"c\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[3,4]}}"),
                    4);
    st_folder_put(&f, "model.safetensors.index.json",
                  S("{\"weight_map\":{\"a\":\"one\",\"b\":\"two\"}}"));
    log_set_level(LOG_ERROR);
    CHECK_EQ(safetensors_open(&s, f.path, &err), OK);
    log_set_level(LOG_INFO);
    CHECK_EQ(safetensors_count(s), 2);
    CHECK_EQ(safetensors_find(s, S("a"))->elems, 2);
    CHECK(safetensors_find(s, S("c")) == NULL);
    safetensors_close(s);
    st_folder_drop(&f);
}

TEST(safetensors_shards_that_cannot_be_read_are_named) {
    st_folder f;
    safetensors *s = NULL;
    error err = {0};
    st_folder_make(&f);
    st_folder_shard(&f, "one", HEAD_A, 3);
    st_folder_put(&f, "model.safetensors.index.json", S("{\"weight_map\":{\"a\":\"one\"}}"));
    CHECK_EQ(safetensors_open(&s, f.path, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "one: tensors end at 2, there are 3 bytes of data");
    for (int64_t n = 1; n < 3; n++) { /* the directory itself, model.safetensors, the index */
        os_fail_after(OS_CALL_OPEN, n, EACCES);
        CHECK_EQ(safetensors_open(&s, f.path, &err), ERR_IO);
        os_fail_after(OS_CALL_OPEN, -1, 0);
    }
    st_folder_drop(&f);
}

TEST(safetensors_folder_survives_running_out_of_memory) {
    st_folder f;
    st_folder_make(&f);
    st_folder_shard(&f, "one", HEAD_A, 2);
    st_folder_put(&f, "model.safetensors.index.json", S("{\"weight_map\":{\"\\u0061\":\"one\"}}"));
    for (int64_t n = 0;; n++) {
        safetensors *s = NULL;
        error err = {0};
        mem_fail_after(n);
        const status st = safetensors_open(&s, f.path, &err);
        mem_fail_after(-1);
        safetensors_close(s);
        if (st == OK) break;
        CHECK_EQ(st, ERR_NOMEM);
        CHECK(n < 100);
    }
    st_folder_drop(&f);
}

/* --- files of other writers --------------------------------------------------------- */
static void check_reference(const char *path, uint32_t tensors, uint32_t shards) {
    safetensors *s = NULL;
    error err = {0};
    CHECK_EQ(safetensors_open(&s, path, &err), OK);
    CHECK_STR(err.msg, "");
    if (s == NULL) return;
    CHECK_EQ(safetensors_count(s), tensors);
    CHECK_EQ(safetensors_shards(s), shards);
    for (uint32_t i = 0; i < tensors; i++) {
        const safetensor *t = safetensors_get(s, i);
        CHECK(safetensors_find(s, t->name) == t);
        CHECK(t->data != NULL && t->bytes > 0);
    }
    safetensors_close(s);
}

TEST(safetensors_reads_what_others_wrote) {
    SHARED_OR_SKIP(one, "oracle/public/stories260k/hf-f32");
    SHARED_OR_SKIP(two, "oracle/public/stories260k/hf-bf16-2shards");
    SHARED_OR_SKIP(mixtral, "oracle/public/models/mixtral/hf-bf16");
    check_reference(one, 47, 1);
    check_reference(two, 47, 2);
    check_reference(mixtral, 40, 1);
}
