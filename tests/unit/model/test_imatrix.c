/* test_imatrix.c - importance matrices in both forms, and what is refused. */
#include "model/imatrix.h"

#include <math.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/os.h"
#include "model/gguf_write.h"
#include "store/blob.h"
#include "test.h"

/* --- records -------------------------------------------------------------------- */
static void rec_u32(buf *b, uint32_t v) { buf_put(b, &v, sizeof v); }

static void rec_entry(buf *b, const char *name, uint32_t calls, const float *values,
                      uint32_t count) {
    rec_u32(b, (uint32_t)strlen(name));
    buf_put_str(b, str_of(name));
    rec_u32(b, calls);
    rec_u32(b, count);
    buf_put(b, values, count * sizeof *values);
}

static void rec_sample(buf *b) {
    buf_init(b, 1 << 20);
    rec_u32(b, 2);
    rec_entry(b, "blk.0.attn_q.weight", 2, (float[]){2, 4, 6}, 3);
    rec_entry(b, "blk.0.ffn_up_exps.weight", 1, (float[]){1, 2, 3, 4, 5, 6}, 6);
    rec_u32(b, 17);
    rec_u32(b, 4);
    buf_put_str(b, S("wiki"));
}

static status rec_read(imatrix **m, const buf *b, error *err) {
    return imatrix_read(m, buf_view(b), "test", err);
}

TEST(imatrix_records_are_read) {
    buf b;
    imatrix *m = NULL;
    error err = {0};
    uint64_t stride = 9;
    rec_sample(&b);
    CHECK_EQ(rec_read(&m, &b, &err), OK);
    CHECK_EQ(imatrix_count(m), 2);
    CHECK_EQ(imatrix_chunks(m), 17);
    CHECK(str_eq(imatrix_dataset(m), S("wiki")));
    const imatrix_entry *q = imatrix_find(m, S("blk.0.attn_q.weight"));
    CHECK(q != NULL && q->count == 3 && q->values[2] == 3.0f); /* by the number of calls */
    CHECK(imatrix_find(m, S("blk.1.attn_q.weight")) == NULL);
    CHECK_EQ(imatrix_fit(q, 3, 1, &stride, &err), OK);
    CHECK_EQ(stride, 0);
    CHECK_EQ(imatrix_fit(imatrix_get(m, 1), 3, 2, &stride, &err), OK);
    CHECK_EQ(stride, 3);
    CHECK_EQ(imatrix_fit(q, 4, 1, &stride, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "has 3 values, the tensor has 4 columns");
    CHECK_EQ(imatrix_fit(imatrix_get(m, 1), 4, 1, &stride, &err), ERR_FORMAT);
    imatrix_close(m);
    buf_deinit(&b);
}

TEST(imatrix_records_may_end_before_the_chunks) {
    buf b;
    imatrix *m = NULL;
    rec_sample(&b);
    b.n -= 12;
    CHECK_EQ(rec_read(&m, &b, NULL), OK);
    CHECK_EQ(imatrix_chunks(m), 0);
    CHECK_EQ(imatrix_dataset(m).n, 0);
    imatrix_close(m);
    buf_deinit(&b);
}

TEST(imatrix_cut_anywhere_is_refused_or_whole) {
    buf b;
    rec_sample(&b);
    const size_t whole = b.n;
    for (size_t n = 1; n < whole; n++) {
        imatrix *m = NULL;
        error err = {0};
        b.n = n;
        const bool is_end = n == whole - 12 || n == whole - 8; /* before chunks, before dataset */
        CHECK_EQ(rec_read(&m, &b, &err) == OK, is_end);
        CHECK(is_end || err.msg[0] != '\0');
        imatrix_close(m);
    }
    buf_deinit(&b);
}

static void check_refused_record(const char *name, float value, uint32_t count, const char *words) {
    buf b;
    imatrix *m = NULL;
    error err = {0};
    const float values[2] = {1.0f, value};
    buf_init(&b, 1 << 20);
    rec_u32(&b, 1);
    rec_entry(&b, name, 1, values, count);
    CHECK_EQ(rec_read(&m, &b, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, words);
    buf_deinit(&b);
}

TEST(imatrix_values_must_be_finite_and_not_negative) {
    check_refused_record("a", NAN, 2, "'a' has nan as value 1 of 2");
    check_refused_record("a", INFINITY, 2, "inf");
    check_refused_record("a", -1.0f, 2, "-1");
    check_refused_record("a", 1.0f, 0, "no values");
    check_refused_record("", 1.0f, 2, "name of 0 bytes");
    check_refused_record("\xff", 1.0f, 2, "UTF-8");
}

TEST(imatrix_names_must_differ_and_counts_fit) {
    buf b;
    imatrix *m = NULL;
    error err = {0};
    buf_init(&b, 1 << 20);
    rec_u32(&b, 2);
    rec_entry(&b, "a", 1, (float[]){1}, 1);
    rec_entry(&b, "a", 1, (float[]){1}, 1);
    CHECK_EQ(rec_read(&m, &b, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "'a' is there twice");
    buf_clear(&b);
    rec_u32(&b, 70000);
    CHECK_EQ(rec_read(&m, &b, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "70000 entries");
    buf_deinit(&b);
}

TEST(imatrix_without_memory_is_an_error) {
    buf b;
    rec_sample(&b);
    for (int64_t n = 0;; n++) {
        imatrix *m = NULL;
        mem_fail_after(n);
        const status st = rec_read(&m, &b, NULL);
        mem_fail_after(-1);
        imatrix_close(m);
        if (st == OK) break;
        CHECK_EQ(st, ERR_NOMEM);
        CHECK(n < 100);
    }
    buf_deinit(&b);
}

/* --- GGUF ------------------------------------------------------------------------ */
typedef struct sums_file {
    const char *type;
    uint64_t counts; /* how many */
    float sum;       /* the last one */
} sums_file;

static status put_sums(void *ctx, uint32_t idx, gguf_sink *s, error *err) {
    const sums_file *f = ctx;
    const float sums[6] = {4, 8, 12, 0, 0, f->sum}, counts[3] = {4, 0, 1};
    if (idx == 0) return gguf_sink_put(s, sums, sizeof sums, err);
    return gguf_sink_put(s, counts, (size_t)f->counts * sizeof *counts, err);
}

static status read_sums_file(imatrix **m, sums_file f, error *err) {
    gguf_writer *w = NULL;
    blob *b = NULL;
    int fd = -1;
    CHECK_EQ(os_memfd("imatrix", &fd, err), OK);
    CHECK_EQ(gguf_writer_create(&w, err), OK);
    gguf_write_str(w, "general.type", str_of(f.type));
    gguf_write_strs(w, "imatrix.datasets", (str[]){S("books"), S("code")}, 2);
    gguf_write_u32(w, "imatrix.chunk_count", 5);
    gguf_write_tensor(w, "blk.0.ffn_up_exps.weight.in_sum2", DTYPE_F32, 2, 3);
    gguf_write_tensor(w, "blk.0.ffn_up_exps.weight.counts", DTYPE_F32, f.counts, 1);
    CHECK_EQ(gguf_write_finish(w, fd, put_sums, &f, err), OK);
    gguf_writer_destroy(w);
    CHECK_EQ(blob_open_fd(&b, fd, "imatrix", err), OK);
    status st = imatrix_read(m, blob_view(b), "imatrix", err);
    blob_close(b);
    return st;
}

TEST(imatrix_gguf_sums_are_divided_by_their_counts) {
    imatrix *m = NULL;
    error err = {0};
    CHECK_EQ(read_sums_file(&m, (sums_file){"imatrix", 2, 0}, &err), OK);
    const imatrix_entry *e = imatrix_find(m, S("blk.0.ffn_up_exps.weight"));
    CHECK(e != NULL && e->count == 6);
    if (e != NULL) CHECK(e->values[0] == 1.0f && e->values[2] == 3.0f);
    if (e != NULL) CHECK(e->values[3] == 1.0f && e->values[5] == 1.0f); /* never chosen */
    CHECK_EQ(imatrix_chunks(m), 5);
    CHECK(str_eq(imatrix_dataset(m), S("books")));
    imatrix_close(m);
}

TEST(imatrix_gguf_that_is_something_else_is_refused) {
    imatrix *m = NULL;
    error err = {0};
    CHECK_EQ(read_sums_file(&m, (sums_file){"model", 2, 0}, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "general.type is 'model'");
    CHECK_EQ(read_sums_file(&m, (sums_file){"imatrix", 3, 0}, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "3 counts for 2 matrices");
}
