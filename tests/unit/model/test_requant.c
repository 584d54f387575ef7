/* test_requant.c - whole files through the quantizer, in a folder of their own.
 *
 * Besides the result, what must hold each time: the output is there whole or not at all, and no
 * temporary stays behind. */
#include "model/requant.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/os.h"
#include "golden_paths.h"
#include "model/gguf_write.h"
#include "model/imatrix.h"
#include "store/blob.h"
#include "tensor/convert.h"
#include "test.h"

enum { EMBD = 256, LONG = 70144, VOCAB = 3, EXPERTS = 2 };

typedef struct sample {
    uint32_t bad; /* put `value` at element `at` of tensor bad - 1; 0: nowhere */
    uint32_t at;
    float value;
    uint32_t parts; /* split.count */
} sample;

typedef struct folder {
    char path[64];
    char in[96], out[96], imatrix[96];
} folder;

static const struct {
    const char *name;
    uint32_t dims_count;
    uint64_t dims[3];
} sample_tensors[] = {
    {"token_embd.weight", 2, {EMBD, VOCAB}},
    {"blk.0.attn_norm.weight", 1, {EMBD}},
    {"blk.0.attn_q.weight", 2, {EMBD, 1500}},
    {"blk.0.attn_v.weight", 2, {EMBD / 4, 100}},
    {"blk.0.ffn_up_exps.weight", 3, {EMBD, 300, EXPERTS}},
    {"blk.0.ffn_gate_inp.weight", 2, {EMBD, EXPERTS}},
    {"output.weight", 2, {LONG, VOCAB}}, /* a row longer than a chunk */
};
enum { SAMPLE_TENSORS = sizeof sample_tensors / sizeof *sample_tensors };

static uint64_t sample_elems(uint32_t idx) {
    uint64_t n = 1;
    for (uint32_t i = 0; i < sample_tensors[idx].dims_count; i++) n *= sample_tensors[idx].dims[i];
    return n;
}

static float sample_value(uint32_t idx, uint64_t i) {
    return sinf((float)(i % 9973) * 0.71f + (float)idx) * (1.0f + (float)(i % 7));
}

static status put_sample(void *ctx, uint32_t idx, gguf_sink *s, error *err) {
    const sample *what = ctx;
    const uint64_t n = sample_elems(idx);
    float *values = malloc(n * sizeof *values);
    for (uint64_t i = 0; i < n; i++) values[i] = sample_value(idx, i);
    if (what->bad == idx + 1) values[what->at] = what->value;
    status st = gguf_sink_put(s, values, n * sizeof *values, err);
    free(values);
    return st;
}

static void write_sample_model(const char *path, sample what) {
    gguf_writer *w = NULL;
    int fd = -1;
    CHECK_EQ(os_open_write(path, &fd, NULL), OK);
    CHECK_EQ(gguf_writer_create(&w, NULL), OK);
    gguf_writer_align(w, 64);
    gguf_write_str(w, "general.architecture", S("llama"));
    gguf_write_u32(w, "general.alignment", 64);
    gguf_write_u32(w, "general.file_type", 0);
    gguf_write_u32(w, "llama.block_count", 1);
    gguf_write_i32s(w, "llama.attention.head_count", (int32_t[]){8, 8}, 2);
    gguf_write_u32(w, "llama.attention.head_count_kv", 2);
    gguf_write_strs(w, "tokenizer.ggml.tokens", (str[]){S("a"), S(""), S("c")}, VOCAB);
    if (what.parts > 0) gguf_write_u32(w, "split.count", what.parts);
    for (uint32_t i = 0; i < SAMPLE_TENSORS; i++)
        gguf_write_tensor_dims(w, str_of(sample_tensors[i].name), DTYPE_F32,
                               sample_tensors[i].dims_count, sample_tensors[i].dims);
    CHECK_EQ(gguf_write_finish(w, fd, put_sample, &what, NULL), OK);
    gguf_writer_destroy(w);
    os_close(fd);
}

static folder make_folder(sample what) {
    static uint32_t made;
    folder f = {0};
    log_set_level(LOG_ERROR);
    (void)snprintf(f.path, sizeof f.path, "/tmp/gantry-requant-%d-%u", (int)getpid(), made++);
    CHECK_EQ(mkdir(f.path, 0700), 0);
    (void)snprintf(f.in, sizeof f.in, "%s/in.gguf", f.path);
    (void)snprintf(f.out, sizeof f.out, "%s/out.gguf", f.path);
    (void)snprintf(f.imatrix, sizeof f.imatrix, "%s/imatrix.dat", f.path);
    write_sample_model(f.in, what);
    return f;
}

static uint32_t files_in(const char *path) {
    uint32_t count = 0;
    DIR *d = opendir(path);
    CHECK(d != NULL);
    for (struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL; e = readdir(d))
        count += e->d_name[0] != '.';
    if (d != NULL) (void)closedir(d);
    return count;
}

static void drop_folder(folder *f) {
    os_unlink(f->in);
    os_unlink(f->out);
    os_unlink(f->imatrix);
    CHECK_EQ(files_in(f->path), 0);
    CHECK_EQ(rmdir(f->path), 0);
    log_set_level(LOG_INFO);
}

static status requant_sample(const folder *f, const requant_options *opt, error *err) {
    requant_report r;
    return requant_file(f->in, f->out, opt, &r, err);
}

/* The whole job is refused: code, words of the message, nothing new in the folder. */
static void check_job_refused(folder *f, const requant_options *opt, status code,
                              const char *words) {
    error err = {0};
    const uint32_t before = files_in(f->path);
    CHECK_EQ(requant_sample(f, opt, &err), code);
    CHECK_HAS(err.msg, words);
    CHECK_EQ(files_in(f->path), before);
}

/* --- what comes out ---------------------------------------------------------------- */
static void check_close(const gguf_tensor *t, uint32_t idx, double tolerance) {
    float *values = malloc(t->elems * sizeof *values);
    double e = 0, all = 0;
    dequant_row(t->type, t->data, values, (uint32_t)t->elems);
    for (uint64_t i = 0; i < t->elems; i++) {
        const double want = (double)sample_value(idx, i);
        e += pow((double)values[i] - want, 2);
        all += want * want;
    }
    CHECK(e <= tolerance * tolerance * all);
    free(values);
}

TEST(requant_gives_each_tensor_its_type_and_copies_the_rest) {
    static const dtype want[SAMPLE_TENSORS] = {DTYPE_Q4_K, DTYPE_F32, DTYPE_Q4_K, DTYPE_Q5_0,
                                               DTYPE_Q4_K, DTYPE_F32, DTYPE_Q6_K};
    folder f = make_folder((sample){0});
    const requant_options opt = {.mix = QUANT_MIX_Q4_K_S, .threads = 2};
    requant_report r = {0};
    blob *b = NULL;
    gguf *g = NULL;
    uint32_t number = 0;
    CHECK_EQ(requant_file(f.in, f.out, &opt, &r, NULL), OK);
    CHECK_EQ(blob_open_file(&b, f.out, NULL), OK);
    CHECK_EQ(gguf_open(&g, b, NULL), OK);
    CHECK_EQ(gguf_alignment(g), 64);
    CHECK(gguf_get_u32(g, S("general.file_type"), &number, NULL) == OK && number == 14);
    CHECK(gguf_get_u32(g, S("general.quantization_version"), &number, NULL) == OK && number == 2);
    CHECK_EQ(gguf_kv_count(g), 8);
    CHECK(gguf_kv_find(g, S("tokenizer.ggml.tokens")) != NULL);
    for (uint32_t i = 0; i < SAMPLE_TENSORS; i++) {
        const gguf_tensor *t = gguf_tensor_get(g, i);
        CHECK(str_eq_c(t->name, sample_tensors[i].name));
        CHECK_EQ(t->type, i == 3 ? DTYPE_Q5_1 : want[i]); /* attn_v of layer 0 asked for Q5_K */
        CHECK_EQ(t->elems, sample_elems(i));
        check_close(t, i, t->type == DTYPE_F32 ? 0.0 : 0.1);
    }
    CHECK_EQ(r.tensors, SAMPLE_TENSORS);
    CHECK_EQ(r.converted, 5);
    CHECK_EQ(r.fallbacks, 1);
    CHECK_EQ(r.requantized, 0);
    gguf_close(g);
    blob_close(b);
    drop_folder(&f);
}

static bool files_are_equal(const char *a, const char *b) {
    blob *x = NULL, *y = NULL;
    CHECK_EQ(blob_open_file(&x, a, NULL), OK);
    CHECK_EQ(blob_open_file(&y, b, NULL), OK);
    const bool equal = str_eq(blob_view(x), blob_view(y));
    blob_close(x);
    blob_close(y);
    return equal;
}

TEST(requant_bytes_do_not_depend_on_the_threads) {
    folder f = make_folder((sample){0});
    char one[96];
    (void)snprintf(one, sizeof one, "%s/one.gguf", f.path);
    for (uint32_t threads = 1; threads <= 5; threads += 2) {
        const requant_options opt = {.mix = QUANT_MIX_Q3_K_M, .threads = threads};
        CHECK_EQ(requant_sample(&f, &opt, NULL), OK);
        if (threads == 1)
            CHECK_EQ(rename(f.out, one), 0);
        else
            CHECK(files_are_equal(one, f.out));
    }
    os_unlink(one);
    drop_folder(&f);
}

TEST(requant_of_a_quantized_file_is_counted_and_to_the_same_type_is_a_copy) {
    folder f = make_folder((sample){0});
    requant_options opt = {.mix = QUANT_MIX_Q8_0, .threads = 1};
    requant_report r = {0};
    CHECK_EQ(requant_sample(&f, &opt, NULL), OK);
    CHECK_EQ(rename(f.out, f.in), 0);
    CHECK_EQ(requant_file(f.in, f.out, &opt, &r, NULL), OK);
    CHECK_EQ(r.converted, 0);
    CHECK(files_are_equal(f.in, f.out));
    opt.mix = QUANT_MIX_Q4_0;
    CHECK_EQ(requant_file(f.in, f.out, &opt, &r, NULL), OK);
    CHECK_EQ(r.requantized, 5);
    drop_folder(&f);
}

/* --- against files that were made elsewhere ------------------------------------------ */
static void check_types_equal(const char *got, const char *want) {
    blob *x = NULL, *y = NULL;
    gguf *g = NULL, *w = NULL;
    CHECK_EQ(blob_open_file(&x, got, NULL), OK);
    CHECK_EQ(blob_open_file(&y, want, NULL), OK);
    CHECK_EQ(gguf_open(&g, x, NULL), OK);
    CHECK_EQ(gguf_open(&w, y, NULL), OK);
    CHECK_EQ(gguf_tensor_count(g), gguf_tensor_count(w));
    for (uint32_t i = 0; i < gguf_tensor_count(w); i++) {
        const gguf_tensor *t = gguf_tensor_find(g, gguf_tensor_get(w, i)->name);
        CHECK(t != NULL);
        if (t != NULL) CHECK_EQ(t->type, gguf_tensor_get(w, i)->type);
    }
    gguf_close(g);
    gguf_close(w);
    blob_close(x);
    blob_close(y);
}

TEST(requant_mixes_types_like_the_reference_files) {
    static const struct {
        const char *model, *type;
        quant_mix mix;
    } files[] = {
        {"llama-mha", "Q4_K_M", QUANT_MIX_Q4_K_M}, {"llama-mha", "Q6_K", QUANT_MIX_Q6_K},
        {"llama-mha", "Q8_0", QUANT_MIX_Q8_0},     {"llama-mha", "Q4_0", QUANT_MIX_Q4_0},
        {"mixtral", "Q8_0", QUANT_MIX_Q8_0},       {"deepseek2", "Q8_0", QUANT_MIX_Q8_0},
    };
    SHARED_OR_SKIP(models, "oracle/public/models");
    folder f = make_folder((sample){0});
    for (uint32_t i = 0; i < sizeof files / sizeof *files; i++) {
        char in[1200], want[1200];
        requant_report r;
        const requant_options opt = {.mix = files[i].mix, .threads = 2};
        (void)snprintf(in, sizeof in, "%s/%s/model-f32.gguf", models, files[i].model);
        (void)snprintf(want, sizeof want, "%s/%s/quant/model-%s.gguf", models, files[i].model,
                       files[i].type);
        CHECK_EQ(requant_file(in, f.out, &opt, &r, NULL), OK);
        check_types_equal(f.out, want);
    }
    drop_folder(&f);
}

/* --- importance ---------------------------------------------------------------------- */
static void write_importance(const folder *f, const char *name, uint32_t count) {
    const uint32_t head[2] = {1, (uint32_t)strlen(name)}, tail[2] = {1, count};
    float values[EMBD * EXPERTS];
    int fd = -1;
    for (uint32_t i = 0; i < count; i++) values[i] = i % EMBD < 32 ? 50.0f : 0.5f;
    CHECK_EQ(os_open_write(f->imatrix, &fd, NULL), OK);
    CHECK_EQ(os_write_full(fd, head, sizeof head, NULL), OK);
    CHECK_EQ(os_write_full(fd, name, strlen(name), NULL), OK);
    CHECK_EQ(os_write_full(fd, tail, sizeof tail, NULL), OK);
    CHECK_EQ(os_write_full(fd, values, count * sizeof *values, NULL), OK);
    os_close(fd);
}

TEST(requant_with_importance_says_so_in_the_file) {
    folder f = make_folder((sample){0});
    const requant_options opt = {.mix = QUANT_MIX_Q4_K_S, .imatrix = f.imatrix, .threads = 1};
    requant_report r = {0};
    blob *b = NULL;
    gguf *g = NULL;
    uint32_t entries = 0;
    str file = {0};
    write_importance(&f, "blk.0.ffn_up_exps.weight", EMBD * EXPERTS);
    CHECK_EQ(requant_file(f.in, f.out, &opt, &r, NULL), OK);
    CHECK_EQ(r.without_importance, 4);
    CHECK_EQ(blob_open_file(&b, f.out, NULL), OK);
    CHECK_EQ(gguf_open(&g, b, NULL), OK);
    CHECK(gguf_get_str(g, S("quantize.imatrix.file"), &file, NULL) == OK);
    CHECK(str_eq_c(file, f.imatrix));
    CHECK_EQ(gguf_get_u32(g, S("quantize.imatrix.entries_count"), &entries, NULL), OK);
    CHECK_EQ(entries, 1);
    gguf_close(g);
    blob_close(b);
    drop_folder(&f);
}

TEST(requant_refuses_the_importance_of_another_model) {
    folder f = make_folder((sample){0});
    const requant_options opt = {.mix = QUANT_MIX_Q4_K_S, .imatrix = f.imatrix, .threads = 1};
    write_importance(&f, "blk.0.ffn_up_exps.weight", EMBD + 1);
    check_job_refused(&f, &opt, ERR_FORMAT, "257 values, the tensor has 256 columns in 2");
    os_unlink(f.imatrix);
    check_job_refused(&f, &opt, ERR_NOT_FOUND, f.imatrix);
    drop_folder(&f);
}

/* --- what is refused -------------------------------------------------------------------- */
TEST(requant_names_the_element_that_is_no_number) {
    const requant_options opt = {.mix = QUANT_MIX_Q4_K_S, .threads = 2};
    folder f = make_folder((sample){.bad = 3, .at = 300000, .value = NAN});
    check_job_refused(&f, &opt, ERR_FORMAT, "'blk.0.attn_q.weight': element 300000 of 384000 is");
    drop_folder(&f);
    f = make_folder((sample){.bad = 2, .at = 7, .value = -INFINITY});
    check_job_refused(&f, &opt, ERR_FORMAT, "'blk.0.attn_norm.weight': element 7 of 256 is -inf");
    drop_folder(&f);
}

TEST(requant_names_the_element_that_is_too_large_for_f16) {
    folder f = make_folder((sample){.bad = 3, .at = 5, .value = 70000.0f});
    const requant_options f16 = {.mix = QUANT_MIX_F16, .threads = 1};
    const requant_options bf16 = {.mix = QUANT_MIX_BF16, .threads = 1};
    check_job_refused(&f, &f16, ERR_FORMAT, "element 5 is 70000, F16 holds at most");
    CHECK_EQ(requant_sample(&f, &bf16, NULL), OK);
    drop_folder(&f);
}

TEST(requant_refuses_what_is_no_whole_model_file) {
    const requant_options opt = {.mix = QUANT_MIX_Q8_0, .threads = 1};
    folder f = make_folder((sample){.parts = 2});
    check_job_refused(&f, &opt, ERR_UNSUPPORTED, "part 1 of 2");
    error err = {0};
    requant_report r;
    CHECK_EQ(requant_file(f.in, f.in, &opt, &r, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "the same file");
    CHECK_EQ(requant_file(f.path, f.out, &opt, &r, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "a directory");
    CHECK_EQ(truncate(f.in, 3), 0);
    check_job_refused(&f, &opt, ERR_FORMAT, "no GGUF file");
    drop_folder(&f);
}

TEST(requant_that_is_stopped_leaves_nothing) {
    const volatile sig_atomic_t stop = 1;
    folder f = make_folder((sample){0});
    const requant_options opt = {.mix = QUANT_MIX_Q8_0, .threads = 1, .stop = &stop};
    check_job_refused(&f, &opt, ERR_CANCELED, "interrupted");
    drop_folder(&f);
}

/* Every write fails once: the header, a tensor, padding, the sync at the end. */
TEST(requant_onto_a_full_disk_leaves_nothing) {
    folder f = make_folder((sample){0});
    const requant_options opt = {.mix = QUANT_MIX_Q8_0, .threads = 1};
    for (int64_t n = 0;; n++) {
        error err = {0};
        os_fail_after(OS_CALL_WRITE, n, ENOSPC);
        const status st = requant_sample(&f, &opt, &err);
        os_fail_after(OS_CALL_WRITE, -1, 0);
        if (st == OK) break;
        CHECK_EQ(st, ERR_IO);
        CHECK_HAS(err.msg, "No space left");
        CHECK_HAS(err.msg, f.out);
        CHECK_EQ(files_in(f.path), 1);
        CHECK(n < 200);
    }
    drop_folder(&f);
}

TEST(requant_keeps_an_older_output_when_it_fails) {
    folder f = make_folder((sample){0});
    const requant_options opt = {.mix = QUANT_MIX_Q8_0, .threads = 1};
    write_sample_model(f.out, (sample){0});
    os_fail_after(OS_CALL_RENAME, 0, EIO);
    check_job_refused(&f, &opt, ERR_IO, "rename");
    os_fail_after(OS_CALL_RENAME, -1, 0);
    CHECK(files_are_equal(f.in, f.out));
    drop_folder(&f);
}

TEST(requant_without_memory_leaves_nothing) {
    folder f = make_folder((sample){0});
    const requant_options opt = {.mix = QUANT_MIX_F16, .threads = 1};
    for (int64_t n = 0;; n++) {
        mem_fail_after(n);
        const status st = requant_sample(&f, &opt, NULL);
        mem_fail_after(-1);
        if (st == OK) break;
        CHECK_EQ(st, ERR_NOMEM);
        CHECK_EQ(files_in(f.path), 1);
        CHECK(n < 200);
    }
    drop_folder(&f);
}
