/* test_gguf_make.c - descriptions put together in memory, and the files made of them. */
#include "model/gguf_make.h"

#include <errno.h>
#include <math.h>

#include "base/alloc.h"
#include "base/os.h"
#include "tensor/convert.h"
#include "test.h"

/* --- helpers ---------------------------------------------------------------------- */
static gguf_maker *maker(void) {
    gguf_maker *g = NULL;
    CHECK_EQ(gguf_make_create(&g, NULL), OK);
    return g;
}

static gguf *finished(gguf_maker *m) {
    gguf *g = NULL;
    error err = {0};
    CHECK_EQ(gguf_make_finish(m, &g, &err), OK);
    CHECK_STR(err.msg, "");
    return g;
}

static char make_text[sizeof((error *)0)->msg];

static const char *finish_refusal(gguf_maker *m, status want) {
    gguf *g = NULL;
    error err = {0};
    CHECK_EQ(gguf_make_finish(m, &g, &err), want);
    CHECK(g == NULL);
    (void)snprintf(make_text, sizeof make_text, "%s", err.msg);
    return make_text;
}

/* A description after a trip through a file. */
typedef struct written {
    blob *file;
    gguf *g;
} written;

static written write_and_read(const gguf *g) {
    written w = {0};
    int fd = -1;
    error err = {0};
    CHECK_EQ(os_memfd("made", &fd, &err), OK);
    CHECK_EQ(gguf_make_write(g, fd, &err), OK);
    CHECK_STR(err.msg, "");
    CHECK_EQ(blob_open_fd(&w.file, fd, "made", &err), OK);
    CHECK_EQ(gguf_open(&w.g, w.file, &err), OK);
    CHECK_STR(err.msg, "");
    return w;
}

static void written_close(written *w) {
    gguf_close(w->g);
    blob_close(w->file);
}

static const char *write_refusal(gguf_maker *m, status want) {
    int fd = -1;
    error err = {0};
    gguf *g = finished(m);
    CHECK_EQ(os_memfd("made", &fd, &err), OK);
    CHECK_EQ(gguf_make_write(g, fd, &err), want);
    (void)snprintf(make_text, sizeof make_text, "%s", err.msg);
    os_close(fd);
    gguf_close(g);
    return make_text;
}

/* A tensor of two dimensions, or with rows 0 of one. */
static gguf_tensor tensor_of(const char *name, dtype type, uint64_t rows, uint64_t cols,
                             const void *data) {
    return (gguf_tensor){.name = str_of(name),
                         .type = type,
                         .dims_count = rows > 0 ? 2 : 1,
                         .dims = {cols, rows},
                         .data = data};
}

/* The tensor's elements from its first one on. */
static void check_elems(const gguf *g, const char *name, const float *want, uint32_t count) {
    const gguf_tensor *t = gguf_tensor_find(g, str_of(name));
    float got[4096];
    CHECK(t != NULL && t->elems == count);
    if (t == NULL || t->elems != count) return;
    dequant_row(t->type, t->data, got, count);
    for (uint32_t i = 0; i < count; i++) {
        if (got[i] == want[i]) continue;
        (void)fprintf(stderr, "%s %u: %g, want %g\n", name, i, (double)got[i], (double)want[i]);
        CHECK(!"an element differs");
        return;
    }
}

/* --- key-values ------------------------------------------------------------------- */
static void check_keys(const gguf *g) {
    uint32_t u = 0;
    bool yes = false;
    float f = 0;
    str s = S("");
    gguf_array a;
    CHECK(gguf_get_u32(g, S("u"), &u, NULL) == OK && u == UINT32_MAX);
    CHECK(gguf_get_f32(g, S("f"), &f, NULL) == OK && f == 0.1f);
    CHECK(gguf_get_bool(g, S("b"), &yes, NULL) == OK && yes);
    CHECK(gguf_get_str(g, S("s"), &s, NULL) == OK && str_eq(s, S("t\0xt")));
    CHECK(gguf_get_array(g, S("us"), GGUF_TYPE_U32, &a, NULL) == OK && a.count == 2);
    CHECK_EQ(gguf_array_get(&a, 1).as.u64, 8);
    CHECK(gguf_get_array(g, S("is"), GGUF_TYPE_I32, &a, NULL) == OK && a.count == 1);
    CHECK_EQ(gguf_array_i32(&a, 0), -7);
    CHECK(gguf_get_array(g, S("fs"), GGUF_TYPE_F32, &a, NULL) == OK && a.count == 0);
    CHECK(gguf_get_array(g, S("ss"), GGUF_TYPE_STRING, &a, NULL) == OK && a.count == 3);
    gguf_strings it = gguf_strings_of(&a);
    CHECK(gguf_strings_next(&it, &s) && str_eq(s, S("x")));
    CHECK(gguf_strings_next(&it, &s) && s.n == 0);
    CHECK(gguf_strings_next(&it, &s) && str_eq(s, S("yz")));
    CHECK(!gguf_strings_next(&it, &s));
    CHECK_STR(gguf_type_name(gguf_kv_get(g, 0)->type), "u32");
}

TEST(gguf_make_keys_are_read_like_those_of_a_file) {
    gguf_maker *m = maker();
    char word[] = "yz";
    gguf_make_u32(m, "u", UINT32_MAX);
    gguf_make_f32(m, "f", 0.1f);
    gguf_make_bool(m, "b", true);
    gguf_make_str(m, "s", S("t\0xt"));
    gguf_make_u32s(m, "us", (uint32_t[]){7, 8}, 2);
    gguf_make_i32s(m, "is", (int32_t[]){-7}, 1);
    gguf_make_f32s(m, "fs", NULL, 0);
    gguf_make_str(m, "gantry.note", S("ours"));
    gguf_make_strs(m, "ss", (str[]){S("x"), S(""), {word, 2}}, 3);
    memset(word, '-', 2); /* texts are copied */
    gguf *g = finished(m);
    CHECK_EQ(gguf_kv_count(g), 9);
    CHECK_EQ(gguf_version(g), 3);
    CHECK_EQ(gguf_alignment(g), GGUF_ALIGNMENT_DEFAULT);
    CHECK_EQ(gguf_file_bytes(g), 0);
    CHECK(gguf_has_data(g));
    CHECK_EQ(gguf_tensor_count(g), 0);
    check_keys(g);
    written w = write_and_read(g);
    check_keys(w.g);
    CHECK_EQ(gguf_kv_count(w.g), 8); /* not gantry.note */
    CHECK(gguf_kv_find(g, S("gantry.note")) != NULL);
    CHECK(gguf_kv_find(w.g, S("gantry.note")) == NULL);
    written_close(&w);
    gguf_close(g);
}

TEST(gguf_make_alignment_is_where_tensors_begin) {
    static const float three[3] = {1, 2, 3};
    gguf_maker *m = maker();
    gguf_make_u32(m, "general.alignment", 256);
    gguf_make_tensor(m,
                     &(gguf_tensor){.name = S("a"), .dims_count = 1, .dims = {3}, .data = three});
    gguf_make_tensor(m,
                     &(gguf_tensor){.name = S("b"), .dims_count = 1, .dims = {3}, .data = three});
    gguf *g = finished(m);
    CHECK_EQ(gguf_alignment(g), 256);
    written w = write_and_read(g);
    CHECK_EQ(gguf_alignment(w.g), 256);
    CHECK_EQ(gguf_tensor_get(w.g, 0)->offset % 256, 0);
    CHECK_EQ(gguf_tensor_get(w.g, 1)->offset - gguf_tensor_get(w.g, 0)->offset, 256);
    check_elems(w.g, "b", three, 3);
    written_close(&w);
    gguf_close(g);
    m = maker();
    gguf_make_u32(m, "general.alignment", 48);
    CHECK_HAS(finish_refusal(m, ERR_FORMAT), "'general.alignment' is 48, must be a power of two");
}

/* --- tensors ---------------------------------------------------------------------- */
TEST(gguf_make_tensors_are_found_and_measured) {
    static const float six[6] = {1, 2, 3, 4, 5, 6};
    char name[] = "m";
    gguf_maker *m = maker();
    gguf_tensor t = tensor_of(name, DTYPE_F32, 2, 3, six);
    t.offset = 99; /* of another file */
    gguf_make_tensor(m, &t);
    float *mine = gguf_make_take(m, 3 * sizeof *mine);
    for (int i = 0; i < 3; i++) mine[i] = six[i] + 1;
    t = tensor_of("v", DTYPE_F32, 0, 3, mine);
    gguf_make_tensor(m, &t);
    name[0] = '-';
    gguf *g = finished(m);
    const gguf_tensor *found = gguf_tensor_find(g, S("m"));
    CHECK(found != NULL && found == gguf_tensor_get(g, 0));
    CHECK_EQ(gguf_tensor_index(g, gguf_tensor_find(g, S("v"))), 1);
    CHECK(found->elems == 6 && found->bytes == 24 && found->offset == 0 && found->data == six);
    CHECK(found->dims[2] == 1 && found->dims[3] == 1);
    CHECK_EQ(gguf_file_bytes(g), 36);
    written w = write_and_read(g);
    check_elems(w.g, "m", six, 6);
    check_elems(w.g, "v", (float[]){2, 3, 4}, 3);
    CHECK_EQ(gguf_tensor_find(w.g, S("v"))->dims_count, 1);
    written_close(&w);
    gguf_close(g);
}

/* [heads][2 halves][half][cols] as [heads][half][2][cols]. */
static void reorder(const float *in, float *out, uint32_t heads, uint32_t half, uint32_t cols) {
    for (uint32_t h = 0; h < heads; h++)
        for (uint32_t i = 0; i < half; i++)
            for (uint32_t which = 0; which < 2; which++)
                memcpy(out + ((h * half + i) * 2 + which) * cols,
                       in + ((h * 2 + which) * half + i) * cols, cols * sizeof *in);
}

TEST(gguf_make_rows_of_halves_become_neighbours) {
    static float in[4096], want[4096];
    for (int i = 0; i < 4096; i++) in[i] = (float)i;
    const struct {
        uint32_t heads, half, cols;
    } shapes[] = {{1, 1, 5}, {2, 4, 3}, {3, 8, 32}, {2, 64, 16}, {4, 512, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const uint32_t heads = shapes[i].heads, half = shapes[i].half, cols = shapes[i].cols;
        const uint32_t rows = heads * half * 2;
        gguf_maker *m = maker();
        gguf_tensor t = tensor_of("q", DTYPE_F32, rows, cols, in);
        t.halves_heads = heads;
        gguf_make_tensor(m, &t);
        t = tensor_of("bias", DTYPE_F32, 0, rows, in);
        t.halves_heads = heads;
        gguf_make_tensor(m, &t);
        gguf *g = finished(m);
        CHECK(gguf_tensor_get(g, 0)->data == in); /* only the file has another order */
        written w = write_and_read(g);
        reorder(in, want, heads, half, cols);
        check_elems(w.g, "q", want, rows * cols);
        reorder(in, want, heads, half, 1);
        check_elems(w.g, "bias", want, rows);
        written_close(&w);
        gguf_close(g);
    }
}

/* Rows longer than a panel may take, in a type of blocks. */
TEST(gguf_make_long_rows_are_written_a_few_at_a_time) {
    enum { ROWS = 64, COLS = 32768, ROW_BYTES = COLS / 32 * 18 };
    static unsigned char data[ROWS * ROW_BYTES];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)(i / ROW_BYTES);
    gguf_maker *m = maker();
    gguf_tensor t = tensor_of("q", DTYPE_Q4_0, ROWS, COLS, data);
    t.halves_heads = 1;
    gguf_make_tensor(m, &t);
    gguf *g = finished(m);
    written w = write_and_read(g);
    const unsigned char *out = gguf_tensor_find(w.g, S("q"))->data;
    for (int r = 0; r < ROWS; r++) {
        CHECK_EQ(out[(size_t)r * ROW_BYTES], r / 2 + r % 2 * ROWS / 2);
        CHECK_EQ(out[(size_t)(r + 1) * ROW_BYTES - 1], r / 2 + r % 2 * ROWS / 2);
    }
    written_close(&w);
    gguf_close(g);
}

/* --- packed and parts --------------------------------------------------------------- */
enum { INT8_ROWS = 64, INT8_COLS = 32 };

/* Row r is r * 0.5 times the bytes, whose largest is 127 in every row. */
typedef struct int8_sample {
    packed_matrix m;
    int8_t data[INT8_ROWS][INT8_COLS];
    float scales[INT8_ROWS];
    float want[INT8_ROWS * INT8_COLS];
} int8_sample;

static void int8_make(int8_sample *s, uint32_t rows, int seed) {
    *s = (int8_sample){.m = {.kind = PACKED_INT8,
                             .rows = rows,
                             .cols = INT8_COLS,
                             .data = s->data,
                             .scales = s->scales,
                             .scale_type = DTYPE_F32,
                             .group = INT8_COLS,
                             .row_group = 1}};
    for (uint32_t r = 0; r < rows; r++) {
        s->scales[r] = (float)(r + 1) * 0.5f;
        for (uint32_t i = 0; i < INT8_COLS; i++) {
            s->data[r][i] = (int8_t)(i == 0 ? 127 : (int)(r * 7 + i * 13 + (uint32_t)seed) % 127);
            s->want[r * INT8_COLS + i] = s->scales[r] * (float)s->data[r][i];
        }
    }
}

TEST(gguf_make_packed_rows_are_written_in_the_type_of_the_tensor) {
    static int8_sample s;
    static float reordered[INT8_ROWS * INT8_COLS];
    int8_make(&s, INT8_ROWS, 1);
    packed_matrix borrowed = s.m;
    gguf_maker *m = maker();
    const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_Q8_0};
    for (size_t i = 0; i < 3; i++) {
        gguf_tensor t = tensor_of(dtype_name(types[i]), types[i], INT8_ROWS, INT8_COLS, NULL);
        t.packed = &borrowed;
        gguf_make_tensor(m, &t);
    }
    gguf_tensor t = tensor_of("halves", DTYPE_F32, INT8_ROWS, INT8_COLS, NULL);
    t.packed = &borrowed;
    t.halves_heads = 2;
    gguf_make_tensor(m, &t);
    borrowed.rows = 0; /* the struct is copied, its data is not */
    gguf *g = finished(m);
    const gguf_tensor *found = gguf_tensor_get(g, 0);
    CHECK(found->data == NULL && found->packed->data == s.data);
    CHECK_EQ(found->bytes, INT8_ROWS * INT8_COLS * 4);
    written w = write_and_read(g);
    check_elems(w.g, "F32", s.want, INT8_ROWS * INT8_COLS);
    check_elems(w.g, "Q8_0", s.want, INT8_ROWS * INT8_COLS); /* the same scales and quanta */
    for (int i = 0; i < INT8_ROWS * INT8_COLS; i++)
        reordered[i] = convert_f16_to_f32(convert_f32_to_f16(s.want[i]));
    check_elems(w.g, "F16", reordered, INT8_ROWS * INT8_COLS);
    reorder(s.want, reordered, 2, INT8_ROWS / 4, INT8_COLS);
    check_elems(w.g, "halves", reordered, INT8_ROWS * INT8_COLS);
    written_close(&w);
    gguf_close(g);
}

TEST(gguf_make_parts_lie_one_behind_the_other_in_the_file) {
    static int8_sample a, b;
    static float want[3 * 8 * INT8_COLS];
    enum { PART = 8 * INT8_COLS };
    int8_make(&a, 8, 3);
    int8_make(&b, 8, 5);
    gguf_maker *m = maker();
    gguf_part parts[3] = {{.packed = &a.m}, {.data = b.want}, {.packed = &b.m}};
    gguf_tensor t = {.name = S("e"), .dims_count = 3, .dims = {INT8_COLS, 8, 3}, .parts = parts};
    gguf_make_tensor(m, &t);
    memset(parts, 0, sizeof parts); /* the array is copied */
    gguf *g = finished(m);
    const gguf_tensor *found = gguf_tensor_get(g, 0);
    CHECK(found->data == NULL && found->parts[1].data == b.want);
    CHECK(found->parts[2].packed->data == b.data);
    written w = write_and_read(g);
    memcpy(want, a.want, PART * sizeof *want);
    memcpy(want + PART, b.want, PART * sizeof *want);
    memcpy(want + 2 * PART, b.want, PART * sizeof *want);
    check_elems(w.g, "e", want, 3 * PART);
    CHECK_EQ(gguf_tensor_find(w.g, S("e"))->dims[2], 3);
    written_close(&w);
    gguf_close(g);
}

/* --- refusals --------------------------------------------------------------------- */
TEST(gguf_make_names_are_unique_and_short) {
    static const float one = 1;
    char name[80];
    gguf_maker *m = maker();
    gguf_make_u32(m, "k", 1);
    gguf_make_str(m, "k", S("x"));
    CHECK_HAS(finish_refusal(m, ERR_FORMAT), "key 'k' appears twice");
    m = maker();
    gguf_tensor t = tensor_of("t", DTYPE_F32, 0, 1, &one);
    gguf_make_tensor(m, &t);
    gguf_make_tensor(m, &t);
    CHECK_HAS(finish_refusal(m, ERR_FORMAT), "tensor 't' appears twice");
    m = maker();
    memset(name, 'n', sizeof name);
    t.name = (str){name, GGUF_NAME_BYTES_MAX + 1};
    gguf_make_tensor(m, &t);
    CHECK_HAS(finish_refusal(m, ERR_LIMIT), "tensor name of 65 bytes, at most 64");
    m = maker();
    gguf_make_u32(m, "", 1);
    gguf_make_u32(m, "a\nb", 1);
    CHECK_HAS(finish_refusal(m, ERR_FORMAT), "empty key"); /* the first of the two */
    gguf_make_destroy(NULL);
    gguf_make_destroy(maker());
}

static const char *tensor_refusal(gguf_tensor t, status want) {
    gguf_maker *m = maker();
    gguf_make_tensor(m, &t);
    return finish_refusal(m, want);
}

TEST(gguf_make_shapes_belong_to_their_data) {
    static int8_sample s;
    static const float six[6];
    int8_make(&s, 8, 1);
    gguf_part part = {.packed = &s.m};
    gguf_tensor t = tensor_of("w", DTYPE_F32, 9, INT8_COLS, NULL);
    t.packed = &s.m;
    CHECK_HAS(tensor_refusal(t, ERR_FORMAT), "tensor 'w' is [9, 32], its int8 [8, 32]");
    t = tensor_of("w", DTYPE_IQ2_XXS, 8, 256, NULL);
    s.m.cols = 256;
    t.packed = &s.m;
    CHECK_HAS(tensor_refusal(t, ERR_UNSUPPORTED), "is int8 and cannot become IQ2_XXS");
    s.m.cols = INT8_COLS;
    t = tensor_of("w", DTYPE_F32, 8, INT8_COLS, NULL);
    t.parts = &part;
    CHECK_HAS(tensor_refusal(t, ERR_FORMAT), "has parts and 2 dimensions, must have 3");
    t = (gguf_tensor){.name = S("w"), .dims_count = 3, .dims = {INT8_COLS, 7, 1}, .parts = &part};
    CHECK_HAS(tensor_refusal(t, ERR_FORMAT), "tensor 'w' is [7, 32], its int8 [8, 32]");
    t = tensor_of("w", DTYPE_F32, 6, 1, six);
    t.halves_heads = 2;
    CHECK_HAS(tensor_refusal(t, ERR_FORMAT), "has 6 rows for 2 heads of two halves");
    CHECK_HAS(tensor_refusal(tensor_of("w", DTYPE_Q4_0, 1, 6, six), ERR_FORMAT),
              "has rows of 6, Q4_0 packs 32 elements");
    CHECK_HAS(tensor_refusal(tensor_of("w", DTYPE_F32, INT64_MAX, 6, six), ERR_FORMAT),
              "has more than 2^63 elements up to dimension 1");
    CHECK_HAS(tensor_refusal(tensor_of("w", DTYPE_F32, 0, 0, six), ERR_FORMAT),
              "0 elements in dimension 0");
}

TEST(gguf_make_write_refuses_what_a_type_cannot_hold) {
    static int8_sample s;
    int8_make(&s, 8, 1);
    s.scales[5] = 1000;
    gguf_maker *m = maker();
    gguf_tensor t = tensor_of("w", DTYPE_F16, 8, INT8_COLS, NULL);
    t.packed = &s.m;
    gguf_make_tensor(m, &t);
    CHECK_HAS(write_refusal(m, ERR_FORMAT), "'w': row 5, column 0 is 127000, F16 holds at most");
    s.scales[5] = NAN;
    m = maker();
    t.type = DTYPE_F32;
    gguf_make_tensor(m, &t);
    CHECK_HAS(write_refusal(m, ERR_FORMAT), "'w': row 5, column 0 is nan");
}

static void make_everything(gguf_maker *m, const int8_sample *s) {
    gguf_part parts[1] = {{.packed = &s->m}};
    gguf_make_u32(m, "general.alignment", 64);
    gguf_make_strs(m, "ss", (str[]){S("x")}, 1);
    gguf_make_tensor(
        m,
        &(gguf_tensor){.name = S("e"), .dims_count = 3, .dims = {INT8_COLS, 8, 1}, .parts = parts});
    float *mine = gguf_make_take(m, sizeof *mine);
    gguf_tensor t = tensor_of("v", DTYPE_F32, 0, 1, mine);
    gguf_make_tensor(m, &t);
}

TEST(gguf_make_survives_running_out_of_memory) {
    static int8_sample s;
    int8_make(&s, 8, 1);
    for (int64_t n = 0;; n++) {
        gguf_maker *m = NULL;
        gguf *g = NULL;
        error err = {0};
        int fd = -1;
        CHECK_EQ(os_memfd("made", &fd, &err), OK);
        mem_fail_after(n);
        status st = gguf_make_create(&m, &err);
        if (st == OK) {
            make_everything(m, &s);
            st = gguf_make_finish(m, &g, &err);
        }
        if (st == OK) st = gguf_make_write(g, fd, &err);
        mem_fail_after(-1);
        gguf_close(g);
        os_close(fd);
        if (st == OK) break;
        CHECK_EQ(st, ERR_NOMEM);
        CHECK(err.msg[0] != '\0' && n < 100);
    }
}

TEST(gguf_make_write_reports_a_full_disk) {
    static int8_sample s;
    int8_make(&s, 8, 1);
    for (int64_t n = 0; n < 4; n++) {
        int fd = -1;
        error err = {0};
        gguf_maker *m = maker();
        make_everything(m, &s);
        gguf *g = finished(m);
        CHECK_EQ(os_memfd("made", &fd, &err), OK);
        os_fail_after(OS_CALL_WRITE, n, ENOSPC);
        CHECK_EQ(gguf_make_write(g, fd, &err), ERR_IO);
        os_fail_after(OS_CALL_WRITE, -1, 0);
        os_close(fd);
        gguf_close(g);
    }
}
