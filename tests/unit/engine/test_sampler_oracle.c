/* test_sampler_oracle.c - the distributions that chains of stages leave, against those
 * recorded from an independent implementation (oracle/public/sampling/README).
 *
 * A row of index.tsv: case, logits, history, survivors, file, chain as JSON.  Rows whose
 * chain uses a stage we do not have are counted and passed over.  The recorder knows no
 * prompt: its penalties look at the whole history, so prompt_count is 0 here. */
#include "engine/sampler.h"
#include "golden_paths.h"

#include <jansson.h>
#include <math.h>

/* README of the reference data: same support, |dp| < 2e-5. */
static const double probability_difference_max = 2e-5;
/* e^-29: tokens that much less likely than the best one are no candidates (tensor/sample.h). */
static const double least_of_best = 2.5437e-13;

enum { VOCAB = 512, HISTORY_MAX = 4096, STAGES_MAX = 8, BIASES_MAX = 16, ROWS_MIN = 100 };

/* A chain in our terms. */
typedef struct chain {
    sample_stage stages[STAGES_MAX];
    uint32_t count;
    sample_params params;
    sample_bias biases[BIASES_MAX];
} chain;

static size_t read_numbers(const char *relative, void *out, size_t bytes_max) {
    const char *path = shared_path(relative);
    FILE *fp = path != NULL ? fopen(path, "rb") : NULL;
    if (fp == NULL) return 0;
    size_t n = fread(out, 1, bytes_max, fp);
    (void)fclose(fp);
    return n / 4;
}

static float number_at(const json_t *array, size_t i) {
    return (float)json_number_value(json_array_get(array, i));
}

static bool add_biases(chain *c, const json_t *list) {
    size_t n = json_array_size(list);
    if (n > BIASES_MAX) return false;
    for (size_t i = 0; i < n; i++) {
        const json_t *pair = json_array_get(list, i);
        c->biases[i] = (sample_bias){(int32_t)number_at(pair, 0), number_at(pair, 1)};
    }
    c->params.biases = c->biases;
    c->params.biases_count = (uint32_t)n;
    return true;
}

/* One stage of the recorder; false when we have none like it. */
static bool add_stage(chain *c, const json_t *stage) {
    const char *name = json_string_value(json_array_get(stage, 0));
    sample_stage *out = &c->stages[c->count++];
    if (c->count > STAGES_MAX || name == NULL) return false;
    if (strcmp(name, "penalties") == 0) {
        *out = SAMPLE_PENALTIES;
        c->params.penalty_tokens = (uint32_t)number_at(stage, 1);
        c->params.repetition_penalty = number_at(stage, 2);
        c->params.frequency_penalty = number_at(stage, 3);
        c->params.presence_penalty = number_at(stage, 4);
        return true;
    }
    if (strcmp(name, "logit_bias") == 0) {
        *out = SAMPLE_PENALTIES;
        return add_biases(c, json_array_get(stage, 1));
    }
    if (strcmp(name, "temp") == 0) {
        *out = SAMPLE_TEMPERATURE;
        c->params.temperature = number_at(stage, 1);
        return true;
    }
    if (strcmp(name, "top_k") == 0) {
        *out = SAMPLE_TOP_K;
        c->params.top_k = (uint32_t)number_at(stage, 1);
        return true;
    }
    bool keeps_one = number_at(stage, 2) == 1.0f;
    if (strcmp(name, "top_p") == 0) {
        *out = SAMPLE_TOP_P;
        c->params.top_p = number_at(stage, 1);
        return keeps_one;
    }
    if (strcmp(name, "min_p") == 0) {
        *out = SAMPLE_MIN_P;
        c->params.min_p = number_at(stage, 1);
        return keeps_one;
    }
    return false;
}

/* Stages of the recorder that its arguments switch off. */
static bool is_neutral(const json_t *stage) {
    const char *name = json_string_value(json_array_get(stage, 0));
    if (name == NULL) return false;
    if (strcmp(name, "dry") == 0 || strcmp(name, "xtc") == 0) return number_at(stage, 1) == 0.0f;
    return strcmp(name, "typical") == 0 && number_at(stage, 1) >= 1.0f;
}

/* A temperature without its dynamic range is the plain one. */
static bool add_plain_temperature(chain *c, const json_t *stage) {
    const char *name = json_string_value(json_array_get(stage, 0));
    if (name == NULL || strcmp(name, "temp_ext") != 0 || number_at(stage, 2) != 0.0f) return false;
    if (c->count == STAGES_MAX) return false;
    c->stages[c->count++] = SAMPLE_TEMPERATURE;
    c->params.temperature = number_at(stage, 1);
    return true;
}

static bool parse_chain(chain *c, const char *json) {
    json_error_t err;
    json_t *root = json_loads(json, 0, &err);
    bool ok = root != NULL;
    *c = (chain){.params = sample_params_default()};
    for (size_t i = 0; ok && i < json_array_size(root); i++) {
        const json_t *stage = json_array_get(root, i);
        if (is_neutral(stage) || add_plain_temperature(c, stage)) continue;
        ok = add_stage(c, stage);
    }
    json_decref(root);
    return ok;
}

typedef struct row {
    const char *name, *logits, *history, *kept, *file, *json;
} row;

static bool split_row(char *line, row *out) {
    const char *field[6];
    for (int i = 0; i < 6; i++) {
        field[i] = line;
        char *end = strpbrk(line, i < 5 ? "\t" : "\r\n");
        if (end == NULL) return false;
        *end = '\0';
        line = end + 1;
    }
    *out = (row){field[0], field[1], field[2], field[3], field[4], field[5]};
    return true;
}

static void check_row(sampler *s, const row *r, const chain *c) {
    static float logits[VOCAB], want[VOCAB], got[VOCAB];
    static int32_t history[HISTORY_MAX];
    char path[256];
    (void)snprintf(path, sizeof path, "oracle/public/sampling/logits.%s.f32", r->logits);
    CHECK_EQ(read_numbers(path, logits, sizeof logits), VOCAB);
    (void)snprintf(path, sizeof path, "oracle/public/sampling/%s", r->file);
    CHECK_EQ(read_numbers(path, want, sizeof want), VOCAB);
    size_t seen = 0;
    if (strcmp(r->history, "-") != 0) {
        (void)snprintf(path, sizeof path, "oracle/public/sampling/%s", r->history);
        seen = read_numbers(path, history, sizeof history);
        CHECK(seen > 0);
    }
    chain copy = *c; /* its biases moved with it */
    if (copy.params.biases_count > 0) copy.params.biases = copy.biases;
    sampler_distribution(s, logits, &copy.params, (sample_history){history, (uint32_t)seen, 0},
                         copy.stages, copy.count, got);
    double worst = 0, best = 0;
    for (int i = 0; i < VOCAB; i++) best = fmax(best, (double)want[i]);
    unsigned support = 0, kept = 0;
    for (int i = 0; i < VOCAB; i++) {
        worst = fmax(worst, fabs((double)got[i] - (double)want[i]));
        support += got[i] > 0 ? want[i] <= 0 : (double)want[i] > 1.001 * least_of_best * best;
        kept += got[i] > 0;
    }
    if (worst >= probability_difference_max || support > 0)
        (void)fprintf(stderr, "%s, %s: |dp| %g, support differs in %u, %u kept of %s\n", r->name,
                      r->logits, worst, support, kept, r->kept);
    CHECK(worst < probability_difference_max);
    CHECK_EQ(support, 0);
}

TEST(sampler_distributions_match_the_oracle) {
    SHARED_OR_SKIP(index, "oracle/public/sampling/index.tsv");
    char line[1024];
    unsigned compared = 0;
    sampler *s = NULL;
    FILE *fp = fopen(index, "r");
    CHECK(fp != NULL);
    CHECK_EQ(sampler_create(&s, VOCAB, NULL), OK);
    bool header = true;
    while (fgets(line, sizeof line, fp) != NULL) {
        row r;
        chain c;
        if (!split_row(line, &r) || header || !parse_chain(&c, r.json)) {
            header = false;
            continue;
        }
        check_row(s, &r, &c);
        compared++;
    }
    (void)fclose(fp);
    CHECK(compared >= ROWS_MIN);
    sampler_destroy(s);
}
