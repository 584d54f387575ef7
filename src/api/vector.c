/* vector.c - see vector.h. */
#include "api/vector.h"

#include <math.h>
#include <sodium.h>

#include "base/num.h"

uint32_t vector_count(const gen_call *g, uint32_t i) {
    return (uint32_t)(g->choices[i].text.n / sizeof(float));
}

float vector_value(const gen_call *g, uint32_t i, uint32_t at) {
    float v = 0;
    memcpy(&v, g->choices[i].text.p + at * sizeof v, sizeof v);
    return v;
}

/* The factor that makes the first `count` values a vector of length 1; 1 for zeros. */
static double scale_of(const gen_call *g, uint32_t i, uint32_t count) {
    double squares = 0;
    for (uint32_t k = 0; k < count; k++) {
        double v = (double)vector_value(g, i, k);
        squares += v * v;
    }
    return squares > 0 ? 1 / sqrt(squares) : 1;
}

enum { CHUNK_VALUES = 192 }; /* 768 bytes, a multiple of 3: base64 of chunks can be joined */

static void write_base64(json_writer *w, const gen_call *g, uint32_t i, uint32_t count,
                         double scale) {
    char text[sodium_base64_ENCODED_LEN(CHUNK_VALUES * sizeof(float),
                                        sodium_base64_VARIANT_ORIGINAL)];
    buf all;
    buf_init(&all, SIZE_MAX);
    for (uint32_t at = 0; at < count; at += CHUNK_VALUES) {
        float values[CHUNK_VALUES];
        uint32_t n = num_min_u32(count - at, CHUNK_VALUES);
        for (uint32_t k = 0; k < n; k++)
            values[k] = (float)((double)vector_value(g, i, at + k) * scale);
        sodium_bin2base64(text, sizeof text, (const unsigned char *)values, n * sizeof values[0],
                          sodium_base64_VARIANT_ORIGINAL);
        buf_put_str(&all, str_of(text));
    }
    if (all.failed) w->out->failed = true;
    json_str(w, buf_view(&all));
    buf_deinit(&all);
}

void vector_write(json_writer *w, const gen_call *g, uint32_t i) {
    uint32_t count = vector_count(g, i);
    if (g->form.dimensions != 0) count = num_min_u32(count, g->form.dimensions);
    double scale = scale_of(g, i, count);
    if (g->form.base64) {
        write_base64(w, g, i, count, scale);
        return;
    }
    json_begin_array(w);
    for (uint32_t k = 0; k < count; k++)
        json_f32(w, (float)((double)vector_value(g, i, k) * scale));
    json_end_array(w);
}

double vector_score(const gen_call *g, uint32_t i) {
    uint32_t count = vector_count(g, i);
    double last = (double)vector_value(g, i, count - 1), sum = 0;
    if (count == 1) return 1 / (1 + exp(-last));
    for (uint32_t k = 0; k < count; k++) sum += exp((double)vector_value(g, i, k) - last);
    return 1 / sum;
}

void vector_usage(json_writer *w, const gen_call *g) {
    json_kv_object(w, "usage");
    json_kv_uint(w, "prompt_tokens", g->usage.prompt_tokens);
    json_kv_uint(w, "total_tokens", g->usage.prompt_tokens);
    json_end_object(w);
}

void vector_on_accepted(gen_call *g) { (void)g; }
void vector_on_text(gen_call *g, uint32_t choice, const gen_event *e) {
    (void)g, (void)choice, (void)e;
}
void vector_on_finish(gen_call *g, uint32_t choice) { (void)g, (void)choice; }
