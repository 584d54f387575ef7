/* test_hf_rope.c - rope_scaling of config.json: the frequencies and magnitudes it comes to.
 *
 * Numbers are worked out by hand or, for YaRN's ramp, by the formulas of its paper. */
#include <math.h>

#include "model/hf_dir.h"
#include "model/model.h"
#include "store/safetensors_build.h"

/* One layer, one head of 8, 2 tokens; all weights are zeros in F32. */
typedef struct made {
    st_folder folder;
    model *m;
    error err;
} made;

static const struct {
    const char *name, *shape;
    uint32_t floats;
} tensors[] = {
    {"model.embed_tokens.weight", "[2,8]", 16},
    {"model.norm.weight", "[8]", 8},
    {"model.layers.0.input_layernorm.weight", "[8]", 8},
    {"model.layers.0.post_attention_layernorm.weight", "[8]", 8},
    {"model.layers.0.self_attn.q_proj.weight", "[8,8]", 64},
    {"model.layers.0.self_attn.k_proj.weight", "[8,8]", 64},
    {"model.layers.0.self_attn.v_proj.weight", "[8,8]", 64},
    {"model.layers.0.self_attn.o_proj.weight", "[8,8]", 64},
    {"model.layers.0.mlp.gate_proj.weight", "[4,8]", 32},
    {"model.layers.0.mlp.up_proj.weight", "[4,8]", 32},
    {"model.layers.0.mlp.down_proj.weight", "[8,4]", 32},
};

static void put_weights(st_folder *f) {
    buf header;
    uint32_t at = 0;
    buf_init(&header, 1 << 16);
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        buf_printf(&header, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%u,%u]}",
                   i > 0 ? "," : "{", tensors[i].name, tensors[i].shape, at,
                   at + 4 * tensors[i].floats);
        at += 4 * tensors[i].floats;
    }
    buf_put_str(&header, S("}"));
    st_folder_shard(f, "model.safetensors", buf_view(&header), at);
    buf_deinit(&header);
}

/* A Llama with this member of config.json. */
static void open_made(made *d, const char *member) {
    buf config;
    *d = (made){.m = NULL};
    st_folder_make(&d->folder);
    put_weights(&d->folder);
    buf_init(&config, 1 << 16);
    buf_printf(&config,
               "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":8,"
               "\"num_hidden_layers\":1,\"num_attention_heads\":1,\"intermediate_size\":4,"
               "\"max_position_embeddings\":4096,\"tie_word_embeddings\":true,\"vocab_size\":2,"
               "\"rope_theta\":10000%s%s}",
               member[0] != '\0' ? "," : "", member);
    st_folder_put(&d->folder, "config.json", buf_view(&config));
    buf_deinit(&config);
    if (model_open(&d->m, d->folder.path, &d->err) != OK) d->m = NULL;
}

static void close_made(made *d) {
    model_close(d->m);
    st_folder_drop(&d->folder);
}

static bool is_near(double a, double b) { return fabs(a - b) <= 2e-6 * fabs(b); }

static void check_rope(const char *member, const double freqs[4], double magnitude) {
    made d;
    open_made(&d, member);
    CHECK_STR(d.err.msg, "");
    if (d.m != NULL) {
        const model_rope *r = &d.m->ropes[0];
        CHECK_EQ(r->dims, 8);
        for (uint32_t i = 0; i < 4 && r->dims == 8; i++) {
            CHECK(is_near(r->freqs[i], freqs[i]));
            if (!is_near(r->freqs[i], freqs[i])) CHECK_STR(member, "another frequency");
        }
        CHECK(is_near((double)r->magnitude, magnitude));
    }
    close_made(&d);
}

#define ROPE(members) "\"rope_scaling\":{" members "}"
#define YARN(more)    ROPE("\"rope_type\":\"yarn\",\"factor\":4" more)
#define PLAIN \
    { 1, 0.1, 0.01, 0.001 }

static const double log4 = 1.3862943611198906;

TEST(hf_rope_scalings_come_to_their_frequencies) {
    check_rope("", (const double[])PLAIN, 1);
    check_rope("\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":10000}",
               (const double[])PLAIN, 1);
    check_rope(ROPE("\"type\":\"linear\",\"factor\":2"), (const double[]){0.5, 0.05, 0.005, 0.0005},
               1);
    check_rope(ROPE("\"type\":\"dynamic\",\"factor\":2"), (const double[])PLAIN, 1);
}

/* Within 4096 tokens pair 1.3 turns 32 times and pair 2.81 once: the ramp is from 1 to 3. */
static const double yarn_freqs[] = {1, 0.1, 0.01 * (0.5 + 0.5 / 4), 0.001 / 4};

TEST(hf_rope_yarn_has_the_magnitude_that_transformers_gives_it) {
    const double usual = 1 + 0.1 * log4;
    check_rope(YARN(""), yarn_freqs, usual);
    check_rope(YARN(",\"attention_factor\":1.5"), yarn_freqs, 1.5);
    check_rope(YARN(",\"attention_factor\":1"), yarn_freqs, 1);
    check_rope(YARN(",\"mscale\":1,\"mscale_all_dim\":1"), yarn_freqs, 1);
    check_rope(YARN(",\"mscale\":2,\"mscale_all_dim\":1"), yarn_freqs, (1 + 0.2 * log4) / usual);
    check_rope(YARN(",\"mscale\":2"), yarn_freqs, usual); /* counts only with the other one */
    check_rope(YARN(",\"original_max_position_embeddings\":4096"), yarn_freqs, usual);
}

/* The ramp is from 1.306 to 2.813. */
TEST(hf_rope_yarn_without_truncation_leaves_the_ramp_between_pairs) {
    const double low = 4 * log(4096 / (32 * 6.283185307179586)) / log(10000);
    const double high = 4 * log(4096 / 6.283185307179586) / log(10000);
    const double keep = 1 - (2 - low) / (high - low);
    check_rope(YARN(",\"truncate\":false"),
               (const double[]){1, 0.1, 0.01 * (keep + (1 - keep) / 4), 0.001 / 4}, 1 + 0.1 * log4);
}

#define LONG(more) \
    ROPE("\"type\":\"longrope\",\"short_factor\":[1,1,2,2],\"long_factor\":[1,2,4,8]" more)

TEST(hf_rope_longrope_has_two_sets_of_factors) {
    const double near[] = {1, 0.1, 0.005, 0.0005};
    const double stretched = sqrt(1 + log(4) / log(1024));
    made d;
    check_rope(LONG(",\"original_max_position_embeddings\":1024"), near, stretched);
    check_rope(LONG("") ",\"original_max_position_embeddings\":1024", near, stretched);
    check_rope(LONG(",\"factor\":4"), near, sqrt(1 + log(4) / log(4096)));
    check_rope(LONG(",\"attention_factor\":1.25"), near, 1.25);
    check_rope(LONG(""), near, 1);
    open_made(&d, LONG("") ",\"original_max_position_embeddings\":1024");
    CHECK(d.m != NULL);
    if (d.m != NULL) {
        const model_rope *r = &d.m->ropes[0];
        CHECK_EQ(r->ctx_short, 1024);
        CHECK(r->freqs_long != NULL && is_near(r->freqs_long[3], 0.001 / 8));
        CHECK(is_near((double)r->magnitude_long, stretched));
    }
    close_made(&d);
}

static void check_refused(const char *member, const char *words) {
    made d;
    open_made(&d, member);
    CHECK(d.m == NULL);
    CHECK_HAS(d.err.msg, words);
    close_made(&d);
}

TEST(hf_rope_with_numbers_out_of_range_is_refused) {
    check_refused(ROPE("\"type\":\"yarn\",\"factor\":0.5"), "factor is 0.5, with yarn");
    check_refused(ROPE("\"type\":\"yarn\",\"factor\":4,\"beta_fast\":0"), "beta_fast");
    check_refused(ROPE("\"type\":\"mrope\",\"mrope_section\":[1]"), "mrope_section");
    check_refused(ROPE("\"type\":\"longrope\",\"short_factor\":[1],\"long_factor\":[1]"),
                  "has 1 numbers for 4 pairs");
    check_refused("\"rope_parameters\":{\"full_attention\":{\"rope_theta\":10000},"
                  "\"sliding_attention\":{\"rope_theta\":5}}",
                  "sliding_attention");
}
