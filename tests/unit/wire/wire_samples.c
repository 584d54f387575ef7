/* wire_samples.c - see wire_samples.h. */
#include "wire/wire_samples.h"

#include "base/assert.h"

void sample_init(sample_bytes *s, uint64_t seed) {
    s->state = seed * 0x9E3779B97F4A7C15ull + 1;
    s->used = 0;
}

static uint64_t next_random(sample_bytes *s) {
    s->state = s->state * 6364136223846793005ull + 1442695040888963407ull;
    uint64_t x = s->state ^ s->state >> 29;
    return x * 0xBF58476D1CE4E5B9ull ^ x >> 32;
}

uint32_t sample_u32(sample_bytes *s, uint32_t below) {
    return (uint32_t)(next_random(s) >> 16) % below;
}

/* Any 32 bits, the ends more often than they deserve. */
static uint32_t any_u32(sample_bytes *s) {
    uint32_t v = (uint32_t)(next_random(s) >> 20);
    return v % 7 == 0 ? 0 : v % 7 == 1 ? UINT32_MAX : v;
}

static bool any_bool(sample_bytes *s) { return sample_u32(s, 2) != 0; }

float sample_f32(sample_bytes *s, float lo, float hi) {
    uint32_t v = sample_u32(s, 1 << 20);
    if (v % 9 == 0) return lo;
    if (v % 9 == 1) return hi;
    float f = lo + (hi - lo) * ((float)v / (float)(1 << 20));
    return f < lo ? lo : f > hi ? hi : f;
}

static char *take(sample_bytes *s, size_t bytes) {
    ASSERT(bytes <= sizeof s->bytes - s->used);
    char *at = s->bytes + s->used;
    s->used += bytes;
    return at;
}

str sample_str(sample_bytes *s, uint32_t bytes_max) {
    uint32_t n = sample_u32(s, bytes_max + 1);
    char *p = take(s, n);
    for (uint32_t i = 0; i < n; i++) p[i] = (char)sample_u32(s, 256);
    return (str){p, n};
}

static wire_array u32_array(sample_bytes *s, uint32_t count) {
    char *p = take(s, (size_t)count * 4);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t v = any_u32(s);
        memcpy(p + (size_t)i * 4, &v, 4);
    }
    return (wire_array){p, count};
}

static wire_array f32_array(sample_bytes *s, uint32_t count) {
    char *p = take(s, (size_t)count * 4);
    for (uint32_t i = 0; i < count; i++) {
        float v = sample_f32(s, -100.0f, 100.0f);
        memcpy(p + (size_t)i * 4, &v, 4);
    }
    return (wire_array){p, count};
}

static gen_sampling any_sampling(sample_bytes *s) {
    uint32_t biases = sample_u32(s, 40);
    return (gen_sampling){
        .temperature = sample_f32(s, 0, 100),
        .top_p = sample_f32(s, 0, 1),
        .min_p = sample_f32(s, 0, 1),
        .repetition_penalty = sample_f32(s, 1e-3f, 100),
        .presence_penalty = sample_f32(s, -100, 100),
        .frequency_penalty = sample_f32(s, -100, 100),
        .top_k = any_u32(s),
        .penalty_tokens = any_u32(s),
        .seed = next_random(s),
        .tokens_max = any_u32(s) | 1,
        .tokens_min = any_u32(s),
        .ignore_eos = any_bool(s),
        .logprobs = any_bool(s),
        .top_logprobs = (uint8_t)sample_u32(s, WIRE_TOP_LOGPROBS_MAX + 1),
        .stop_ids = u32_array(s, sample_u32(s, 20)),
        .bias_ids = u32_array(s, biases),
        .biases = f32_array(s, biases),
        .allowed_ids = u32_array(s, sample_u32(s, 30)),
    };
}

gen_request sample_request(sample_bytes *s) {
    uint32_t adapters = sample_u32(s, WIRE_ADAPTERS_MAX + 1);
    gen_request r = {
        .id = next_random(s),
        .kind = (gen_kind)sample_u32(s, GEN_KIND_END),
        .pooling = (gen_pooling)sample_u32(s, GEN_POOLING_END),
        .prompt = (gen_prompt)sample_u32(s, GEN_PROMPT_END),
        .add_special = any_bool(s),
        .parse_special = any_bool(s),
        .echo = any_bool(s),
        .choices = (uint16_t)(1 + sample_u32(s, WIRE_CHOICES_MAX)),
        .credits = sample_u32(s, WIRE_CREDITS_MAX + 1),
        .text = sample_str(s, 300),
        .pair = sample_str(s, 60),
        .chat = {.add_generation_prompt = any_bool(s),
                 .continue_final = any_bool(s),
                 .one_call = any_bool(s),
                 .tools = sample_str(s, 100),
                 .documents = sample_str(s, 20),
                 .variables = sample_str(s, 50),
                 .chat_template = sample_str(s, 50)},
        .ids = u32_array(s, sample_u32(s, 100)),
        .adapters = u32_array(s, adapters),
        .adapter_scales = f32_array(s, adapters),
        .stops_count = sample_u32(s, WIRE_STOPS_MAX + 1),
        .sampling = any_sampling(s),
    };
    if (r.kind != GEN_KIND_GENERATE) r.choices = 1;
    for (uint32_t i = 0; i < r.stops_count; i++) {
        r.stops[i] = sample_str(s, WIRE_STOP_BYTES_MAX - 1);
        if (r.stops[i].n == 0) r.stops[i] = S("stop");
    }
    return r;
}

static str any_logprobs(sample_bytes *s) {
    buf blob;
    buf_init(&blob, SIZE_MAX);
    for (uint32_t n = sample_u32(s, 4); n > 0; n--) {
        wire_logprob list[1 + WIRE_TOP_LOGPROBS_MAX];
        uint32_t top = sample_u32(s, WIRE_TOP_LOGPROBS_MAX + 1);
        for (uint32_t i = 0; i <= top; i++)
            list[i] = (wire_logprob){.bytes = sample_str(s, 8),
                                     .id = (int32_t)any_u32(s),
                                     .logprob = sample_f32(s, -30, 0)};
        wire_logprob_put(&blob, &list[0], &list[1], (uint8_t)top);
    }
    char *p = take(s, blob.n);
    if (blob.n != 0) memcpy(p, blob.p, blob.n);
    str copy = {p, blob.n};
    buf_deinit(&blob);
    return copy;
}

static void any_tokens(sample_bytes *s, gen_event *e) {
    uint32_t n = sample_u32(s, 6);
    uint8_t top = (uint8_t)(any_bool(s) ? sample_u32(s, WIRE_TOP_LOGPROBS_MAX + 1) : 0);
    e->tokens.ids = u32_array(s, n);
    e->tokens.logprobs = f32_array(s, any_bool(s) ? n : 0);
    e->tokens.top = top;
    e->tokens.top_ids = u32_array(s, n * top);
    e->tokens.top_logprobs = f32_array(s, n * top);
}

gen_event sample_event(sample_bytes *s, gen_event_kind kind) {
    gen_event e = {.id = next_random(s), .choice = (uint16_t)any_u32(s), .kind = kind};
    uint32_t a = any_u32(s), b = any_u32(s), c = any_u32(s), d = any_u32(s);
    switch (kind) {
    case GEN_ACCEPTED:
        e.accepted.prompt_tokens = a;
        e.accepted.cached_tokens = b;
        e.accepted.queue_position = c;
        e.accepted.eta_ms = d;
        break;
    case GEN_PROGRESS:
        e.progress.done = a;
        e.progress.total = b;
        break;
    case GEN_TOKENS:
        any_tokens(s, &e);
        break;
    case GEN_TEXT:
        e.text.tokens = a;
        e.text.text = sample_str(s, 100);
        e.text.logprobs = any_logprobs(s);
        break;
    case GEN_CALL:
        e.call.index = a;
        if (any_bool(s)) {
            e.call.id = (str){take(s, 1), 1};
            e.call.name = (str){take(s, 1), 1};
        }
        e.call.arguments = sample_str(s, 100);
        break;
    case GEN_VECTOR:
        e.vector = f32_array(s, 1 + sample_u32(s, 50));
        break;
    case GEN_PAUSED:
        e.paused = (gen_pause)(a % GEN_PAUSE_END);
        break;
    case GEN_FINISH:
        e.finish.reason = (gen_finish)(a % GEN_FINISH_END);
        e.finish.stop = sample_str(s, WIRE_STOP_BYTES_MAX);
        break;
    case GEN_USAGE:
        e.usage = (gen_usage){a, b, c, d, a ^ c, b ^ d};
        break;
    case GEN_ERROR:
        e.error.code = (status)(1 + a % (STATUS_COUNT - 1));
        e.error.fault = (gen_fault)(b % GEN_FAULT_END);
        e.error.have = next_random(s);
        e.error.limit = next_random(s);
        e.error.message = sample_str(s, 200);
        break;
    case GEN_EVENT_END:
        break;
    }
    return e;
}

engine_status sample_status(sample_bytes *s) {
    uint32_t count = sample_u32(s, WIRE_STATUS_VALUES_MAX + 1);
    engine_status st = {.steps = next_random(s), .running = any_u32(s), .waiting = any_u32(s)};
    st.values = u32_array(s, count * 2);
    st.values.count = count;
    return st;
}

static void any_chars(sample_bytes *s, char *out, size_t bytes) {
    size_t n = sample_u32(s, (uint32_t)bytes);
    memset(out, 0, bytes);
    for (size_t i = 0; i < n; i++) out[i] = (char)('a' + sample_u32(s, 26));
}

adapter_order sample_adapter(sample_bytes *s) {
    adapter_order o = {.adapter = any_u32(s), .load = any_bool(s), .path = sample_str(s, 80)};
    if (o.path.n == 0) o.path = S("adapter.gguf");
    return o;
}

adapter_state sample_adapter_state(sample_bytes *s) {
    adapter_state a = {.adapter = any_u32(s),
                       .loaded = any_bool(s),
                       .rank = any_u32(s),
                       .weights = any_u32(s),
                       .bytes = next_random(s),
                       .message = sample_str(s, 100)};
    if (!a.loaded) a.code = (status)sample_u32(s, STATUS_COUNT);
    return a;
}

model_desc sample_model(sample_bytes *s) {
    model_desc d = {.params = next_random(s),
                    .file_bytes = next_random(s),
                    .kv_bytes = next_random(s),
                    .vocab = any_u32(s),
                    .n_embd = any_u32(s),
                    .layers = any_u32(s),
                    .ctx_train = any_u32(s),
                    .ctx_max = any_u32(s),
                    .embed_tokens_max = any_u32(s),
                    .embed_dims = any_u32(s),
                    .rank_labels = any_u32(s),
                    .generates = any_bool(s),
                    .adapter_rank_max = any_u32(s),
                    .parallel = any_u32(s),
                    .threads = any_u32(s)};
    any_chars(s, d.name, sizeof d.name);
    any_chars(s, d.description, sizeof d.description);
    any_chars(s, d.license, sizeof d.license);
    any_chars(s, d.arch, sizeof d.arch);
    any_chars(s, d.types, sizeof d.types);
    any_chars(s, d.chat, sizeof d.chat);
    any_chars(s, d.chat_check, sizeof d.chat_check);
    any_chars(s, d.chat_caps, sizeof d.chat_caps);
    any_chars(s, d.backend, sizeof d.backend);
    any_chars(s, d.device, sizeof d.device);
    any_chars(s, d.fallback, sizeof d.fallback);
    any_chars(s, d.reduced, sizeof d.reduced);
    any_chars(s, d.numerics, sizeof d.numerics);
    any_chars(s, d.kv_type, sizeof d.kv_type);
    return d;
}

/* --- profiles -------------------- */

static str any_entries(sample_bytes *s, uint32_t places) {
    buf blob;
    buf_init(&blob, SIZE_MAX);
    for (uint32_t n = sample_u32(s, 4); n > 0; n--)
        wire_profile_entry_put(&blob,
                               &(profile_entry){.place = sample_u32(s, places),
                                                .arith = 1 + sample_u32(s, WIRE_PROFILE_LIMITS - 1),
                                                .tasks = any_u32(s),
                                                .ops = any_u32(s),
                                                .ns = next_random(s),
                                                .weight_bytes = next_random(s),
                                                .value_bytes = next_random(s),
                                                .cache_bytes = next_random(s),
                                                .flops = next_random(s),
                                                .name = sample_str(s, 20),
                                                .kinds = sample_str(s, 20),
                                                .what = sample_str(s, 20)});
    char *p = take(s, blob.n);
    if (blob.n != 0) memcpy(p, blob.p, blob.n);
    str copy = {p, blob.n};
    buf_deinit(&blob);
    return copy;
}

static profile_table any_table(sample_bytes *s) {
    profile_table t = {.steps = 1 + sample_u32(s, WIRE_PROFILE_STEPS_MAX),
                       .rows = any_u32(s),
                       .ns = next_random(s),
                       .places_count = 1 + sample_u32(s, WIRE_PROFILE_PLACES_MAX)};
    for (uint32_t i = 0; i < t.places_count; i++) {
        any_chars(s, t.places[i].where, sizeof t.places[i].where);
        t.places[i].ops = next_random(s);
        for (int k = 0; k < WIRE_PROFILE_LIMITS; k++) {
            t.places[i].limits[k].per_s = next_random(s);
            any_chars(s, t.places[i].limits[k].name, sizeof t.places[i].limits[k].name);
        }
    }
    t.entries = any_entries(s, t.places_count);
    return t;
}

profile_report sample_profile_report(sample_bytes *s) {
    profile_report r = {.id = any_u32(s)};
    if (any_bool(s)) {
        r.prompt = any_table(s);
        r.decode = any_table(s);
    } else {
        r.code = (status)sample_u32(s, STATUS_COUNT);
        r.message = sample_str(s, 100);
    }
    return r;
}
