/* test_synth.c - models of random weights: shape, statistics, repeatability. */
#include "model/synth.h"

#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/os.h"
#include "model/model.h"
#include "model/synth_internal.h"
#include "tensor/convert.h"
#include "test.h"

static const char *const types[] = {"f32",  "f16",  "bf16",   "q8_0",  "q4_0", "q4_1",
                                    "q5_0", "q5_1", "iq4_nl", "mxfp4", "f64",  "q8_1"};
enum { TYPES = sizeof types / sizeof *types };

static model *open_synth(const char *shape, const char *type) {
    char arg[48];
    model *m = NULL;
    error err = {0};
    (void)snprintf(arg, sizeof arg, "synth:%s:%s", shape, type);
    CHECK_EQ(model_open(&m, arg, &err), OK);
    CHECK_STR(err.msg, "");
    return m;
}

static model *open_tiny(const char *type) { return open_synth("tiny", type); }

TEST(synth_arguments_are_told_from_file_names) {
    CHECK(synth_is("synth:tiny:f32") && !synth_is("synth.gguf") && !synth_is(""));
    CHECK(str_eq(synth_spec("synth:tiny:f32"), S("tiny:f32")));
}

TEST(synth_tiny_is_a_complete_model_in_every_type_of_short_blocks) {
    for (size_t i = 0; i < TYPES; i++) {
        model *m = open_tiny(types[i]);
        if (m == NULL) continue;
        CHECK(str_eq_nocase(str_of(dtype_name(m->layers[1].down.w.type)), str_of(types[i])));
        CHECK_EQ(m->hparams.layers, 2);
        CHECK_EQ(m->hparams.n_ff, 160);
        CHECK_EQ(m->vocab.count, 512);
        CHECK(!m->hparams.tied_output);
        CHECK(m->file_bytes < 2000000);
        CHECK(((const float *)m->output_norm.gain.data)[63] == 1.0f);
        model_close(m);
    }
}

/* Mean 0 and the deviation that was asked for, in every type.  With 65,536 elements in blocks of up
 * to 256 the mean is within 0.05 deviations and the deviation within 5 % by a wide margin; the
 * smallest sigma is that of the widest rows of any shape, 1 / sqrt(28672). */
TEST(synth_weights_have_the_promised_mean_and_deviation) {
    enum { ROWS = 64, COLS = 1024 };
    static const float sigmas[] = {1.0f, 0.022f, 0.0059f};
    static uint8_t row[COLS * 8];
    static float w[COLS];
    for (uint32_t k = 0; k < DTYPE_ID_END * 3; k++) {
        const dtype_info *info = dtype_get(k / 3);
        const double want = (double)sigmas[k % 3];
        double sum = 0, squares = 0;
        if (info == NULL || info->is_integer) continue;
        for (uint32_t r = 0; r < ROWS; r++) {
            synth_fill_row((dtype)(k / 3), 7, r, sigmas[k % 3], COLS, row);
            dequant_row((dtype)(k / 3), row, w, COLS);
            for (uint32_t c = 0; c < COLS; c++) sum += (double)w[c];
            for (uint32_t c = 0; c < COLS; c++) squares += (double)w[c] * (double)w[c];
        }
        double sigma = sqrt(squares / (ROWS * COLS)), mean = sum / (ROWS * COLS);
        if (fabs(mean) >= 0.05 * want || fabs(sigma / want - 1) >= 0.05)
            (void)fprintf(stderr, "%s of %g: mean %g, sigma %g\n", info->name, want, mean, sigma);
        CHECK(fabs(mean) < 0.05 * want);
        CHECK(fabs(sigma / want - 1) < 0.05);
    }
}

static uint32_t file_type_in(const model *m) {
    uint32_t v = UINT32_MAX;
    CHECK_EQ(gguf_get_u32(model_gguf(m), S("general.file_type"), &v, NULL), OK);
    return v;
}

/* A mix gives the types of the real files; a type's own name means that type everywhere. */
TEST(synth_mixes_are_those_of_real_files) {
    static const struct {
        const char *type;
        dtype embd, down, output;
        uint32_t file_type;
    } want[] = {
        {"q4_k_m", DTYPE_Q4_K, DTYPE_Q6_K, DTYPE_Q6_K, 15},
        {"Q4_K_S", DTYPE_Q4_K, DTYPE_Q4_K, DTYPE_Q6_K, 14},
        {"q5_k_m", DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_Q6_K, 17},
        {"q5_k_s", DTYPE_Q5_K, DTYPE_Q5_K, DTYPE_Q6_K, 16},
        {"q3_k_m", DTYPE_Q3_K, DTYPE_Q4_K, DTYPE_Q6_K, 12},
        {"q6_k", DTYPE_Q6_K, DTYPE_Q6_K, DTYPE_Q6_K, 18},
        {"q2_k", DTYPE_Q2_K, DTYPE_Q2_K, DTYPE_Q2_K, 10},
        {"q4_0", DTYPE_Q4_0, DTYPE_Q4_0, DTYPE_Q4_0, 2},
        {"iq2_xxs", DTYPE_IQ2_XXS, DTYPE_IQ2_XXS, DTYPE_IQ2_XXS, 19},
        {"nvfp4", DTYPE_NVFP4, DTYPE_NVFP4, DTYPE_NVFP4, 39},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        model *m = open_synth("small", want[i].type);
        if (m == NULL) continue;
        CHECK_EQ(m->token_embd.type, want[i].embd);
        CHECK_EQ(m->layers[1].down.w.type, want[i].down);
        CHECK_EQ(m->output.w.type, want[i].output);
        CHECK_EQ(file_type_in(m), want[i].file_type);
        model_close(m);
    }
}

TEST(synth_rows_that_are_no_whole_blocks_get_stand_ins) {
    model *m = open_tiny("q4_k_m");
    if (m == NULL) return;
    CHECK_EQ(m->layers[0].q.w.type, DTYPE_Q5_0);
    CHECK_EQ(m->output.w.type, DTYPE_Q8_0);
    model_close(m);
}

TEST(synth_the_same_spec_gives_the_same_bytes) {
    model *a = open_tiny("q4_0"), *b = open_tiny("q4_0");
    CHECK_EQ(a->file_bytes, b->file_bytes);
    CHECK(memcmp(a->output.w.data, b->output.w.data, a->output.w.bytes) == 0);
    CHECK(memcmp(a->layers[0].q.w.data, a->layers[1].q.w.data, a->layers[0].q.w.bytes) != 0);
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
    CHECK(tok_vocab_adds_bos(v));
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
        {"huge:f32", ERR_INVALID,
         "shape 'huge' is not known; known: tiny, thin, small, deep, llama-1.1b"},
        {"tiny:q9", ERR_INVALID, "type 'q9' is not known"},
        {"tiny:i8", ERR_UNSUPPORTED, "weights cannot be integers (i8)"},
        {"tiny:iq2_xxs", ERR_INVALID, "rows of 64, which is no multiple of the 256 elements"},
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
