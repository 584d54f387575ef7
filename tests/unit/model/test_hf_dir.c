/* test_hf_dir.c - the oracle's directories against the GGUF files beside them.
 *
 * A directory is opened, written as a GGUF file and opened again: keys, tensors and tokens must be
 * those of the file beside it, up to the rounding of the directory's type. */
#include "model/hf_dir.h"

#include <math.h>
#include <stdlib.h>

#include "base/os.h"
#include "golden_paths.h"
#include "model/model.h"
#include "tensor/convert.h"

typedef struct pair {
    model *dir;
    blob *dir_file, *like_file;
    gguf *made, *like;
} pair;

static bool pair_open(pair *p, const char *dir, const char *like) {
    error err = {0};
    int fd = -1;
    *p = (pair){0};
    bool ok = model_open(&p->dir, dir, &err) == OK && os_memfd("made", &fd, &err) == OK &&
              hf_dir_write(p->dir, dir, fd, &err) == OK &&
              blob_open_fd(&p->dir_file, fd, "made", &err) == OK &&
              gguf_open(&p->made, p->dir_file, &err) == OK &&
              blob_open_file(&p->like_file, like, &err) == OK &&
              gguf_open(&p->like, p->like_file, &err) == OK;
    CHECK_STR(err.msg, "");
    return ok;
}

static void pair_close(pair *p) {
    gguf_close(p->made);
    gguf_close(p->like);
    blob_close(p->dir_file);
    blob_close(p->like_file);
    model_close(p->dir);
}

/* Numbers and truth values; those that say how the other file was made are its own affair. */
static void compare_key(const pair *p, const gguf_value *want) {
    str key = want->key;
    static const char *const own[] = {".vocab_size", ".rope.dimension_count"};
    if (str_starts(key, S("general.")) || str_starts(key, S("tokenizer."))) return;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (str_ends(key, str_of(own[i]))) return;
    const gguf_value *got = gguf_kv_find(p->made, key);
    char name[96];
    str_copy_c(name, sizeof name, key);
    if (got == NULL) CHECK_STR("missing", name);
    if (got == NULL || got->type != want->type) return;
    if (want->type == GGUF_TYPE_F32) CHECK(fabs(got->as.f64 - want->as.f64) <= 1e-6 * want->as.f64);
    if (want->type == GGUF_TYPE_U32) CHECK_EQ(got->as.u64, want->as.u64);
    if (want->type == GGUF_TYPE_STRING) CHECK(str_eq(got->as.string, want->as.string));
}

static void compare_tensor(const pair *p, const gguf_tensor *want, double tolerance) {
    const gguf_tensor *got = gguf_tensor_find(p->made, want->name);
    char name[96];
    str_copy_c(name, sizeof name, want->name);
    if (got == NULL) CHECK_STR("missing", name);
    if (got == NULL) return;
    CHECK_EQ(got->elems, want->elems);
    for (uint32_t i = 0; i < GGUF_DIMS_MAX; i++) CHECK_EQ(got->dims[i], want->dims[i]);
    float *a = calloc(want->elems, sizeof *a);
    CHECK(a != NULL && got->elems == want->elems);
    if (a == NULL || got->elems != want->elems) return;
    dequant_row(got->type, got->data, a, (uint32_t)got->elems);
    const float *b = want->data;
    double extra = want->dims_count == 1 ? 1 : 3e-5; /* norms less one; subnormal F16 */
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < want->elems; i++)
        if (!(fabs((double)a[i] - (double)b[i]) <= tolerance * (fabs((double)b[i]) + extra)))
            wrong++;
    if (wrong > 0) CHECK_STR("wrong values", name);
    free(a);
}

static void compare_tokens(const pair *p) {
    model *made = NULL;
    error err = {0};
    blob *copy = NULL;
    CHECK_EQ(blob_open_memory(&copy, blob_view(p->dir_file), "made", &err), OK);
    CHECK_EQ(model_open_blob(&made, copy, &err), OK);
    CHECK_STR(err.msg, "");
    if (made == NULL) return;
    const tok_vocab *a = &p->dir->vocab, *b = &made->vocab;
    CHECK_EQ(a->count, b->count);
    CHECK_EQ(a->bos_id, b->bos_id);
    CHECK_EQ(a->eos_id, b->eos_id);
    CHECK_EQ(a->before_count, b->before_count);
    CHECK_EQ(a->after_count, b->after_count);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < a->count && i < b->count; i++)
        if (!str_eq(a->pieces[i], b->pieces[i]) || a->types[i] != b->types[i]) wrong++;
    CHECK_EQ(wrong, 0);
    model_close(made);
}

static void compare(const char *dir, const char *like, double tolerance) {
    pair p;
    if (pair_open(&p, dir, like)) {
        for (uint32_t i = 0; i < gguf_kv_count(p.like); i++)
            compare_key(&p, gguf_kv_get(p.like, i));
        CHECK_EQ(gguf_tensor_count(p.made), gguf_tensor_count(p.like));
        for (uint32_t i = 0; i < gguf_tensor_count(p.like); i++)
            compare_tensor(&p, gguf_tensor_get(p.like, i), tolerance);
        compare_tokens(&p);
    }
    pair_close(&p);
}

/* Half a unit in the last place of eight bits of mantissa; norms are rounded before one is
 * added. */
static const double bf16_tolerance = 1.0 / 256 + 1e-6;

#define COMPARE(dir, like, tolerance)                     \
    do {                                                  \
        SHARED_OR_SKIP(dir_path, "oracle/public/" dir);   \
        SHARED_OR_SKIP(like_path, "oracle/public/" like); \
        compare(dir_path, like_path, tolerance);          \
    } while (0)
#define COMPARE_MODEL(name) \
    COMPARE("models/" name "/hf-bf16", "models/" name "/model-f32.gguf", bf16_tolerance)
#define COMPARE_STORIES(name, tolerance) \
    COMPARE("stories260k/" name, "stories260k/gguf/stories260K-F32.gguf", tolerance)

TEST(hf_dir_of_gemma_is_its_gguf) { COMPARE_MODEL("gemma"); }
TEST(hf_dir_of_llama3_is_its_gguf) { COMPARE_MODEL("llama3-gqa-ropefreqs"); }
TEST(hf_dir_of_mixtral_is_its_gguf) { COMPARE_MODEL("mixtral"); }
TEST(hf_dir_of_qwen2_is_its_gguf) { COMPARE_MODEL("qwen2"); }
TEST(hf_dir_of_qwen3_is_its_gguf) { COMPARE_MODEL("qwen3"); }
TEST(hf_dir_of_stories_f32_is_its_gguf) { COMPARE_STORIES("hf-f32", 0); }
TEST(hf_dir_of_stories_f16_is_its_gguf) { COMPARE_STORIES("hf-f16", 1.0 / 1024); }
TEST(hf_dir_of_stories_in_two_shards_is_its_gguf) {
    COMPARE_STORIES("hf-bf16-2shards", bf16_tolerance);
}
