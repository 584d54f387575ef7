/* test_synth.c - models of random weights: shape, statistics, repeatability. */
#include "model/synth.h"

#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/os.h"
#include "model/model.h"
#include "tensor/convert.h"
#include "test.h"

static const char *const types[] = {"f32", "f16", "bf16", "q8_0", "q4_0"};
enum { TYPES = sizeof types / sizeof *types };

static model *open_tiny(const char *type) {
    char arg[32];
    model *m = NULL;
    error err = {0};
    (void)snprintf(arg, sizeof arg, "synth:tiny:%s", type);
    CHECK_EQ(model_open(&m, arg, &err), OK);
    CHECK_STR(err.msg, "");
    return m;
}

TEST(synth_arguments_are_told_from_file_names) {
    CHECK(synth_is("synth:tiny:f32") && !synth_is("synth.gguf") && !synth_is(""));
    CHECK(str_eq(synth_spec("synth:tiny:f32"), S("tiny:f32")));
}

TEST(synth_tiny_is_a_complete_model_in_every_computable_type) {
    for (size_t i = 0; i < TYPES; i++) {
        model *m = open_tiny(types[i]);
        if (m == NULL) continue;
        CHECK(str_eq_nocase(str_of(dtype_name(m->layers[1].w_down.type)), str_of(types[i])));
        CHECK_EQ(m->hparams.layers, 2);
        CHECK_EQ(m->hparams.n_ff, 160);
        CHECK_EQ(m->vocab.count, 512);
        CHECK(!m->hparams.tied_output);
        CHECK(m->file_bytes < 1000000);
        CHECK(((const float *)m->output_norm.data)[63] == 1.0f);
        model_close(m);
    }
}

/* Mean 0 and the deviation that keeps an input's variance, 1 / sqrt(cols).  With 10,240
 * elements the mean is within 0.05 and the deviation within 5 % by a wide margin. */
TEST(synth_weights_have_the_promised_mean_and_deviation) {
    for (size_t i = 0; i < TYPES; i++) {
        model *m = open_tiny(types[i]);
        if (m == NULL) continue;
        const model_tensor *t = &m->layers[0].w_down;
        const uint32_t elems = t->rows * t->cols;
        float *w = malloc(elems * sizeof *w);
        double sum = 0, squares = 0;
        CHECK(w != NULL);
        dequant_row(t->type, t->data, w, elems);
        for (uint32_t k = 0; k < elems; k++) {
            sum += (double)w[k];
            squares += (double)w[k] * (double)w[k];
        }
        double sigma = sqrt(squares / elems), want = 1 / sqrt((double)t->cols);
        CHECK(fabs(sum / elems) < 0.05 * want);
        CHECK(fabs(sigma / want - 1) < 0.05);
        free(w);
        model_close(m);
    }
}

TEST(synth_the_same_spec_gives_the_same_bytes) {
    model *a = open_tiny("q4_0"), *b = open_tiny("q4_0");
    CHECK_EQ(a->file_bytes, b->file_bytes);
    CHECK(memcmp(a->output.data, b->output.data, a->output.bytes) == 0);
    CHECK(memcmp(a->layers[0].wq.data, a->layers[1].wq.data, a->layers[0].wq.bytes) != 0);
    model_close(a);
    model_close(b);
}

TEST(synth_vocabulary_has_all_bytes_and_characters_and_no_piece_twice) {
    model *m = open_tiny("q4_0");
    const tok_vocab *v = &m->vocab;
    bool bytes[256] = {false};
    for (uint32_t i = 0; i < v->count; i++) {
        if (v->types[i] == TOK_TYPE_BYTE)
            bytes[strtoul((char[]){v->pieces[i].p[3], v->pieces[i].p[4], 0}, NULL, 16)] = true;
        for (uint32_t k = 0; k < i; k++) CHECK(!str_eq(v->pieces[i], v->pieces[k]));
    }
    for (uint32_t i = 0; i < 256; i++) CHECK(bytes[i]);
    CHECK(str_eq(v->pieces[259], S("\xe2\x96\x81")));
    CHECK(str_eq(v->pieces[260], S("!")) && str_eq(v->pieces[353], S("~")));
    CHECK_EQ(v->bos_id, 1);
    CHECK(v->add_bos);
    model_close(m);
}

TEST(synth_refuses_what_it_does_not_know_or_cannot_make) {
    static const struct {
        const char *spec;
        status want;
        const char *words;
    } bad[] = {
        {"tiny", ERR_INVALID, "must be SHAPE:TYPE"},
        {"", ERR_INVALID, "must be SHAPE:TYPE"},
        {"huge:f32", ERR_INVALID, "shape 'huge' is not known; known: tiny, llama-1.1b"},
        {"tiny:q9", ERR_INVALID, "type 'q9' is not known"},
        {"tiny:q4_k_m", ERR_UNSUPPORTED, "computable types: F32, F16, Q4_0, Q8_0, BF16"},
        {"tiny:q5_k_m", ERR_UNSUPPORTED, "computable types"},
        {"tiny:q6_k", ERR_UNSUPPORTED, "computable types"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error err = {0};
        CHECK_EQ(synth_write(str_of(bad[i].spec), -1, &err), bad[i].want);
        CHECK_HAS(err.msg, bad[i].words);
    }
}

TEST(synth_every_allocation_may_fail) {
    int64_t n = 0;
    for (; n < 1000; n++) {
        model *m = NULL;
        error err = {0};
        mem_fail_after(n);
        status st = model_open(&m, "synth:tiny:q4_0", &err);
        mem_fail_after(-1);
        model_close(m);
        if (st == OK) break;
        CHECK(err.msg[0] != '\0');
    }
    CHECK(n > 10 && n < 1000);
}
