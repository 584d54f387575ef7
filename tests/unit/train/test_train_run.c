/* test_train_run.c - a whole training: corpus to vocabulary to GGUF, stopped and gone on with, and
 * Gantry's engine computing what the trainer computes. */
#include <stdlib.h>
#include <unistd.h>

#include "base/os.h"
#include "engine/engine_rig.h"
#include "model/model.h"
#include "text/tok_vocab.h"
#include "train/bpe.h"
#include "train/learn.h"
#include "train/net.h"
#include "train/vocab_file.h"
#include "train/words.h"
#include "train_rig.h"

#define TEMPLATE                                                                      \
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% " \
    "endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
#define NMSE_MAX 1e-9 /* both are f32; only the order of sums differs */

typedef struct folder {
    char dir[64], corpus[80], vocab[80], out[80], checkpoint[80];
} folder;

static void put_path(const folder *f, char out[80], const char *name) {
    (void)snprintf(out, 80, "%s/%s", f->dir, name);
}

static bool write_file(const char *path, const char *text) {
    int fd = -1;
    bool ok =
        os_open_write(path, &fd, NULL) == OK && os_write_full(fd, text, strlen(text), NULL) == OK;
    if (fd >= 0) os_close(fd);
    return ok;
}

static void write_corpus(const folder *f) {
    static char text[1 << 16];
    size_t n = 0;
    for (int i = 0; i < 60; i++)
        n += (size_t)snprintf(text + n, sizeof text - n,
                              "{\"messages\":[{\"role\":\"user\",\"content\":\"count from %d\"},"
                              "{\"role\":\"assistant\",\"content\":\"%d %d %d\"}],"
                              "\"skill\":\"count\"}\n",
                              i, i, i + 1, i + 2);
    CHECK(write_file(f->corpus, text));
}

static void write_vocab(const folder *f) {
    vocab_plan plan = {.pre = S("qwen2"), .eos = S("<|im_end|>"), .chat_template = S(TEMPLATE)};
    words w;
    bpe b = {0};
    error err = {0};
    CHECK_EQ(vocab_plan_specials(&plan, S("<|im_start|>,<|im_end|>"), TOK_TYPE_CONTROL, &err), OK);
    CHECK_EQ(words_init(&w, plan.pre, &err), OK);
    CHECK_EQ(words_add(&w, S("user\ncount from 10\nassistant\ncount from"), &err), OK);
    CHECK_EQ(bpe_train(&b, &w, 270, &err), OK);
    CHECK_EQ(vocab_file_write(f->vocab, &plan, &b, &err), OK);
    bpe_deinit(&b);
    words_deinit(&w);
}

static void folder_init(folder *f) {
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/gantry-train-XXXXXX");
    CHECK(mkdtemp(f->dir) != NULL);
    put_path(f, f->corpus, "corpus.jsonl");
    put_path(f, f->vocab, "vocab.gguf");
    put_path(f, f->out, "model.gguf");
    put_path(f, f->checkpoint, "checkpoint");
    write_corpus(f);
    write_vocab(f);
}

static void folder_end(folder *f) {
    os_unlink(f->corpus);
    os_unlink(f->vocab);
    os_unlink(f->out);
    os_unlink(f->checkpoint);
    (void)rmdir(f->dir);
}

static learn_settings settings_of(const folder *f) {
    return (learn_settings){
        .corpus = f->corpus,
        .vocab = f->vocab,
        .out = f->out,
        .shape = {.embd = 32,
                  .layers = 2,
                  .heads = 4,
                  .kv_heads = 2,
                  .head_dim = 8,
                  .ff = 48,
                  .ctx = 64,
                  .rope_base = 10000.0f,
                  .norm_eps = 1e-5f},
        .batch_tokens = 128,
        .accumulate = 2,
        .steps = 12,
        .rate = 5e-3f,
        .rate_end = 0.1f,
        .warmup = 3,
        .method = "adamw",
        .optimizer = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .decay = 0.1f, .clip = 1.0f},
        .init_std = 0.05f,
        .seed = 7,
        .held_out = 5,
        .checkpoint = "",
        .threads = 2,
        .log_every = 1,
        .kernels = "",
        .quiet = true};
}

/* The file's bytes; the caller frees. */
static buf read_whole(const char *path) {
    buf b;
    int fd = -1;
    size_t got = 0;
    uint64_t bytes = 0;
    buf_init(&b, (size_t)64 << 20);
    CHECK(os_open_read(path, &fd, NULL) == OK && os_file_bytes(fd, path, &bytes, NULL) == OK);
    void *at = buf_reserve(&b, bytes);
    CHECK(at != NULL && os_read_full(fd, at, bytes, &got, NULL) == OK);
    b.n = got;
    os_close(fd);
    return b;
}

static void stop_and_go_on(const char *method, const char *other) {
    folder f;
    error err = {0};
    folder_init(&f);
    learn_settings s = settings_of(&f);
    s.method = method;
    s.optimizer.momentum = 0.95f;
    CHECK_EQ(learn_run(&s, NULL, &err), OK);
    CHECK_STR(err.msg, "");
    buf whole = read_whole(f.out);
    s.checkpoint = f.checkpoint;
    s.stop_after = 5;
    CHECK_EQ(learn_run(&s, NULL, &err), ERR_CANCELED);
    CHECK_HAS(err.msg, "stopped at step 5 of 12");
    s.stop_after = 0;
    s.resume = true;
    s.threads = 1;
    s.kernels = "plain";
    CHECK_EQ(learn_run(&s, NULL, &err), OK);
    buf parts = read_whole(f.out);
    CHECK(str_eq(buf_view(&whole), buf_view(&parts)));
    s.method = other;
    CHECK_EQ(learn_run(&s, NULL, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "of another run");
    s.method = "sgd";
    CHECK_EQ(learn_run(&s, NULL, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "'sgd' is neither adamw nor muon");
    s.method = method;
    s.seed = 8;
    CHECK_EQ(learn_run(&s, NULL, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "of another run");
    buf_deinit(&whole);
    buf_deinit(&parts);
    folder_end(&f);
}

TEST(train_run_gives_the_same_file_when_stopped_on_the_way) { stop_and_go_on("adamw", "muon"); }

TEST(train_run_with_muon_gives_the_same_file_when_stopped_on_the_way) {
    stop_and_go_on("muon", "adamw");
}

/* The trained weights, back from the file. */
static float *params_of(const model *m, const shape *s) {
    float *params = mem_alloc(shape_params(s) * sizeof *params);
    for (uint32_t i = 0; i < shape_tensors(s); i++) {
        const shape_tensor t = shape_tensor_get(s, i);
        const gguf_tensor *g = gguf_tensor_find(model_gguf(m), str_of(t.name));
        CHECK(g != NULL && g->elems == shape_tensor_count(&t));
        if (g != NULL) memcpy(params + t.at, g->data, g->bytes);
    }
    return params;
}

TEST(train_model_computes_in_gantry_what_it_computed_here) {
    enum { COUNT = 50 };
    static const uint32_t begins[2] = {0, COUNT};
    static int32_t ids[COUNT];
    static uint32_t positions[COUNT];
    folder f;
    model *m = NULL;
    net *n = NULL;
    error err = {0};
    folder_init(&f);
    learn_settings s = settings_of(&f);
    CHECK_EQ(learn_run(&s, NULL, &err), OK);
    CHECK_EQ(model_open(&m, f.out, &err), OK);
    CHECK_STR(err.msg, "");
    s.shape.vocab = m->hparams.vocab;
    for (uint32_t i = 0; i < COUNT; i++) {
        positions[i] = i;
        ids[i] = (int32_t)(i * 37 % s.shape.vocab);
    }
    const doc_batch b = {COUNT, ids, ids, NULL, positions, 1, begins};
    crew c = rig_crew(NULL, 1);
    float *params = params_of(m, &s.shape), *mine = rig_zeros((size_t)COUNT * s.shape.vocab);
    CHECK_EQ(net_create(&n, &s.shape, &c, COUNT, &err), OK);
    net_logits(n, params, &b, mine);
    for (int i = 0; i < 2; i++) {
        const engine_options opt = rig_options(&rig_engines[i], DTYPE_F32, 64);
        float *theirs = rig_all_logits(m, &opt, ids, COUNT, COUNT);
        CHECK(theirs != NULL && rig_nmse(mine, theirs, (size_t)COUNT * s.shape.vocab) < NMSE_MAX);
        free(theirs);
    }
    net_destroy(n);
    pool_destroy(c.pool);
    mem_free(params);
    mem_free(mine);
    model_close(m);
    folder_end(&f);
}
