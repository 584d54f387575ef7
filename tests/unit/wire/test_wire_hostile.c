/* test_wire_hostile.c - wire.h: bytes that are wrong anywhere are an error, nothing more.
 *
 * Frames are copied into heap blocks of their exact size, so that the sanitizers see the
 * first byte read past the end. */
#include "test.h"
#include "wire/wire.h"
#include "wire/wire_samples.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

static sample_bytes samples;

/* The whole way of a frame: open it and decode what it says it is. */
static status decode(str frame, error *err) {
    static union {
        gen_request request;
        gen_cancel cancel;
        gen_credit credit;
        engine_status status;
        model_desc model;
        model_loading loading;
        adapter_order order;
        adapter_state adapter;
        profile_order profile;
        profile_report report;
        gen_event event;
    } m;
    wire_type type = WIRE_TYPE_END;
    str body = {0};
    bool more = true;
    TRY(wire_open(frame, &type, &body, err));
    switch (type) {
    case WIRE_REQUEST:
        return wire_get_request(body, &m.request, err);
    case WIRE_CANCEL:
        return wire_get_cancel(body, &m.cancel, err);
    case WIRE_CREDIT:
        return wire_get_credit(body, &m.credit, err);
    case WIRE_STATUS:
        return wire_get_status(body, &m.status, err);
    case WIRE_MODEL:
        return wire_get_model(body, &m.model, err);
    case WIRE_LOADING:
        return wire_get_loading(body, &m.loading, err);
    case WIRE_ADAPTER:
        return wire_get_adapter(body, &m.order, err);
    case WIRE_ADAPTER_STATE:
        return wire_get_adapter_state(body, &m.adapter, err);
    case WIRE_PROFILE:
        return wire_get_profile(body, &m.profile, err);
    case WIRE_PROFILE_REPORT:
        return wire_get_profile_report(body, &m.report, err);
    case WIRE_EVENTS:
        while (more) TRY(wire_get_event(&body, &m.event, &more, err));
        return OK;
    default:
        return OK;
    }
}

static status decode_exact(const char *bytes, size_t n, error *err) {
    char *copy = malloc(n > 0 ? n : 1);
    if (n > 0) memcpy(copy, bytes, n);
    status st = decode((str){copy, n}, err);
    free(copy);
    return st;
}

/* As decode_exact, but the header's length is made to agree first. */
static status decode_resized(const char *bytes, size_t n, error *err) {
    char *copy = malloc(n);
    uint32_t body = (uint32_t)(n - WIRE_HEADER_BYTES);
    memcpy(copy, bytes, n);
    memcpy(copy, &body, sizeof body);
    status st = decode((str){copy, n}, err);
    free(copy);
    return st;
}

/* One frame of the type from sample `seed`; events frames hold one event of each kind. */
static void put_sample(buf *out, wire_type type, uint64_t seed) {
    sample_init(&samples, seed);
    gen_request request = sample_request(&samples);
    engine_status st = sample_status(&samples);
    model_desc model = sample_model(&samples);
    adapter_order order = sample_adapter(&samples);
    adapter_state adapter = sample_adapter_state(&samples);
    profile_report report = sample_profile_report(&samples);
    size_t begun = 0;
    switch (type) {
    case WIRE_REQUEST:
        wire_put_request(out, &request);
        break;
    case WIRE_CANCEL:
        wire_put_cancel(out, &(gen_cancel){.id = seed, .choice = 3});
        break;
    case WIRE_CREDIT:
        wire_put_credit(out, &(gen_credit){.id = seed, .tokens = 3});
        break;
    case WIRE_STATUS:
        wire_put_status(out, &st);
        break;
    case WIRE_MODEL:
        wire_put_model(out, &model);
        break;
    case WIRE_LOADING:
        wire_put_loading(out, &(model_loading){.phase = LOAD_PHASE_MEMORY, .permille = 250});
        break;
    case WIRE_ADAPTER:
        wire_put_adapter(out, &order);
        break;
    case WIRE_ADAPTER_STATE:
        wire_put_adapter_state(out, &adapter);
        break;
    case WIRE_PROFILE:
        wire_put_profile(out, &(profile_order){.id = 5, .steps = 6, .ms_max = 7});
        break;
    case WIRE_PROFILE_REPORT:
        wire_put_profile_report(out, &report);
        break;
    case WIRE_EVENTS:
        begun = wire_events_begin(out);
        for (int kind = 0; kind < GEN_EVENT_END; kind++) {
            gen_event e = sample_event(&samples, (gen_event_kind)kind);
            wire_events_add(out, &e);
        }
        wire_events_end(out, begun);
        break;
    default:
        wire_put_drain(out);
        break;
    }
}

TEST(wire_every_truncation_is_an_error) {
    for (int type = WIRE_REQUEST; type < WIRE_TYPE_END; type++) {
        for (uint64_t seed = 0; seed < 6; seed++) {
            buf out;
            buf_init(&out, WIRE_FRAME_BYTES_MAX);
            put_sample(&out, (wire_type)type, seed);
            CHECK_EQ(decode_exact(out.p, out.n, NULL), OK);
            for (size_t n = 0; n < out.n; n++) CHECK_EQ(decode_exact(out.p, n, NULL), ERR_FORMAT);
            buf_deinit(&out);
        }
    }
}

/* Cut frames whose header admits it.  An events body may end between two events. */
TEST(wire_every_shorter_body_is_an_error) {
    for (int type = WIRE_REQUEST; type < WIRE_TYPE_END; type++) {
        for (uint64_t seed = 0; seed < 6; seed++) {
            buf out;
            unsigned accepted = 0;
            buf_init(&out, WIRE_FRAME_BYTES_MAX);
            put_sample(&out, (wire_type)type, seed);
            for (size_t n = WIRE_HEADER_BYTES; n < out.n; n++) {
                error err = {0};
                status st = decode_resized(out.p, n, &err);
                accepted += st == OK;
                if (st != OK) CHECK_HAS(err.msg, "wire: ");
            }
            CHECK_EQ(accepted, type == WIRE_EVENTS ? GEN_EVENT_END : 0);
            buf_deinit(&out);
        }
    }
}

TEST(wire_bytes_after_a_message_are_an_error) {
    for (int type = WIRE_REQUEST; type < WIRE_TYPE_END; type++) {
        buf out;
        buf_init(&out, WIRE_FRAME_BYTES_MAX);
        put_sample(&out, (wire_type)type, 1);
        buf_put_char(&out, '\0');
        CHECK_EQ(decode_exact(out.p, out.n, NULL), ERR_FORMAT);
        if (type != WIRE_DRAIN) CHECK_EQ(decode_resized(out.p, out.n, NULL), ERR_FORMAT);
        buf_deinit(&out);
    }
}

/* Any byte may be anything: the answer may be OK, but nothing is read outside. */
TEST(wire_damaged_bytes_do_no_harm) {
    for (int type = WIRE_REQUEST; type < WIRE_TYPE_END; type++) {
        buf out;
        buf_init(&out, WIRE_FRAME_BYTES_MAX);
        put_sample(&out, (wire_type)type, 4);
        for (size_t i = WIRE_HEADER_BYTES; i < out.n; i++) {
            char before = out.p[i];
            static const unsigned char values[] = {0x00, 0x01, 0x7F, 0x80, 0xFF};
            for (size_t v = 0; v < sizeof values; v++) {
                out.p[i] = (char)values[v];
                status st = decode_exact(out.p, out.n, NULL);
                CHECK(st == OK || st == ERR_FORMAT);
            }
            out.p[i] = before;
        }
        buf_deinit(&out);
    }
}

TEST(wire_header_errors_name_what_is_wrong) {
    static const struct {
        const char bytes[9];
        size_t n;
        status want;
        const char *words;
    } cases[] = {
        {"", 0, ERR_FORMAT, "0 bytes"},
        {"\0\0\0\0\12\7\0", 7, ERR_FORMAT, "7 bytes"},
        {"\1\0\0\0\12\7\0\0", 8, ERR_FORMAT, "says 1 bytes"},
        {"\xFF\xFF\xFF\xFF\12\7\0\0", 8, ERR_FORMAT, "4294967295"},
        {"\0\0\0\0\1\7\0\0", 8, ERR_UNSUPPORTED, "version 1"},
        {"\0\0\0\0\0\7\0\0", 8, ERR_UNSUPPORTED, "version 0"},
        {"\0\0\0\0\12\0\0\0", 8, ERR_FORMAT, "type 0"},
        {"\0\0\0\0\12\15\0\0", 8, ERR_FORMAT, "type 13"},
        {"\0\0\0\0\12\7\1\0", 8, ERR_FORMAT, "type"},
        {"\0\0\0\0\12\7\0\1", 8, ERR_FORMAT, "type"},
        {"\0\0\0\0\12\7\0\0", 8, OK, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        error err = {0};
        CHECK_EQ(decode_exact(cases[i].bytes, cases[i].n, &err), cases[i].want);
        CHECK_HAS(err.msg, cases[i].words);
    }
}

/* --- values out of range -------------------- */

static gen_request valid_request(void) {
    return (gen_request){
        .id = 1, .choices = 1, .text = S("hi"), .sampling = gen_sampling_default()};
}

static void check_refused(const gen_request *r, const char *words) {
    buf out;
    error err = {0};
    buf_init(&out, (size_t)WIRE_FRAME_BYTES_MAX * 2);
    wire_put_request(&out, r);
    CHECK_EQ(decode_exact(out.p, out.n, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, words);
    buf_deinit(&out);
}

typedef struct f32_range {
    const char *name;
    size_t offset; /* in gen_sampling */
    float lo, hi;
} f32_range;

TEST(wire_sampling_numbers_out_of_range_are_refused) {
    static const f32_range ranges[] = {
        {"temperature", offsetof(gen_sampling, temperature), 0, 100},
        {"top_p", offsetof(gen_sampling, top_p), 0, 1},
        {"min_p", offsetof(gen_sampling, min_p), 0, 1},
        {"repetition_penalty", offsetof(gen_sampling, repetition_penalty), 1e-3f, 100},
        {"presence_penalty", offsetof(gen_sampling, presence_penalty), -100, 100},
        {"frequency_penalty", offsetof(gen_sampling, frequency_penalty), -100, 100},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        const float bad[] = {NAN,
                             -NAN,
                             INFINITY,
                             -INFINITY,
                             nextafterf(ranges[i].lo, -INFINITY),
                             nextafterf(ranges[i].hi, INFINITY)};
        for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
            gen_request r = valid_request();
            memcpy((char *)&r.sampling + ranges[i].offset, &bad[k], sizeof bad[k]);
            check_refused(&r, ranges[i].name);
        }
    }
}

TEST(wire_request_counts_out_of_range_are_refused) {
    static char many[(WIRE_ALLOWED_IDS_MAX + 1) * 4];
    gen_request r = valid_request();
    r.choices = 0;
    check_refused(&r, "0 choices");
    r.choices = WIRE_CHOICES_MAX + 1;
    check_refused(&r, "129 choices");
    r = valid_request();
    r.credits = WIRE_CREDITS_MAX + 1;
    check_refused(&r, "credits");
    r = valid_request();
    r.sampling.top_logprobs = 21;
    check_refused(&r, "top_logprobs is 21");
    r = valid_request();
    r.sampling.tokens_max = 0;
    check_refused(&r, "tokens_max");
    r = valid_request();
    r.prompt = GEN_PROMPT_END;
    check_refused(&r, "prompt kind");
    r = valid_request();
    r.sampling.stop_ids = (wire_array){many, WIRE_STOP_IDS_MAX + 1};
    check_refused(&r, "129 elements");
    r = valid_request();
    r.sampling.bias_ids = r.sampling.biases = (wire_array){many, WIRE_BIASES_MAX + 1};
    check_refused(&r, "1025 elements");
    r.sampling.bias_ids = (wire_array){many, 3};
    r.sampling.biases = (wire_array){many, 2};
    check_refused(&r, "2 biases for 3 ids");
    r = valid_request();
    r.sampling.allowed_ids = (wire_array){many, WIRE_ALLOWED_IDS_MAX + 1};
    check_refused(&r, "262145 elements");
    r = valid_request();
    r.stops_count = 1;
    check_refused(&r, "stop string 0 is empty");
    r.stops[0] = (str){many, WIRE_STOP_BYTES_MAX + 1};
    check_refused(&r, "257 bytes");
}

TEST(wire_biases_must_be_finite) {
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    for (int i = 0; i < 3; i++) {
        gen_request r = valid_request();
        int32_t id = 5;
        r.sampling.bias_ids = (wire_array){&id, 1};
        r.sampling.biases = (wire_array){&bad[i], 1};
        check_refused(&r, "not finite");
    }
}

/* Put a u32 over the frame where `find` stands and decode. */
static void check_patched(const buf *frame, size_t at, uint32_t v, const char *words) {
    char *copy = malloc(frame->n);
    error err = {0};
    memcpy(copy, frame->p, frame->n);
    memcpy(copy + at, &v, sizeof v);
    CHECK_EQ(decode_exact(copy, frame->n, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, words);
    free(copy);
}

TEST(wire_lengths_beyond_the_frame_are_refused) {
    buf out;
    gen_request r = valid_request();
    buf_init(&out, WIRE_FRAME_BYTES_MAX);
    wire_put_request(&out, &r);
    /* id 8, kinds and flags 6, choices 2, credits 4: then the lengths of text and pair, three flags
     * of the chat and the lengths of its four texts, ids, adapters and their scales */
    size_t text_at = WIRE_HEADER_BYTES + 20, chat_at = text_at + 4 + 2 + 4, ids_at = chat_at + 19;
    size_t stops_at = ids_at + 12;
    check_patched(&out, chat_at, 2, "add_generation_prompt is 2");
    check_patched(&out, chat_at + 3, 1000, "tools has 1000 bytes");
    check_patched(&out, chat_at + 15, UINT32_MAX, "chat_template has 4294967295 bytes");
    check_patched(&out, text_at, 1000, "text has 1000 bytes");
    check_patched(&out, text_at, UINT32_MAX, "text has 4294967295 bytes");
    check_patched(&out, ids_at, 1000, "ids needs 4000 bytes");
    check_patched(&out, ids_at, UINT32_MAX, "ids has 4294967295 elements");
    check_patched(&out, ids_at, 1u << 30, "ids");
    check_patched(&out, stops_at, WIRE_STOPS_MAX + 1, "17 stop strings");
    check_patched(&out, stops_at, UINT32_MAX, "stop strings");
    check_patched(&out, stops_at, 16, "");
    buf_deinit(&out);
}

static void check_event_refused(const gen_event *e, const char *words) {
    buf out;
    error err = {0};
    buf_init(&out, WIRE_FRAME_BYTES_MAX);
    size_t begun = wire_events_begin(&out);
    wire_events_add(&out, e);
    wire_events_end(&out, begun);
    CHECK_EQ(decode_exact(out.p, out.n, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, words);
    buf_deinit(&out);
}

TEST(wire_events_out_of_range_are_refused) {
    static char many[4 * 100];
    gen_event e = {.kind = GEN_EVENT_END};
    check_event_refused(&e, "event kind");
    e = (gen_event){.kind = GEN_PAUSED, .paused = GEN_PAUSE_END};
    check_event_refused(&e, "pause");
    e = (gen_event){.kind = GEN_FINISH};
    e.finish.reason = GEN_FINISH_END;
    check_event_refused(&e, "finish reason");
    e = (gen_event){.kind = GEN_ERROR};
    check_event_refused(&e, "code OK");
    e.error.code = STATUS_COUNT;
    check_event_refused(&e, "error code");
    e.error.code = ERR_IO;
    e.error.fault = GEN_FAULT_END;
    check_event_refused(&e, "fault");
    e = (gen_event){.kind = GEN_TOKENS};
    e.tokens.ids = (wire_array){many, 3};
    e.tokens.logprobs = (wire_array){many, 2};
    check_event_refused(&e, "2 logprobs for 3 tokens");
    e.tokens.logprobs.count = 0;
    e.tokens.top = 2;
    check_event_refused(&e, "alternatives");
    e.tokens.top_ids = (wire_array){many, 6};
    e.tokens.top_logprobs = (wire_array){many, 5};
    check_event_refused(&e, "alternatives");
    e.tokens.top = 21;
    check_event_refused(&e, "top is 21");
}

TEST(wire_text_logprobs_must_be_whole_entries) {
    gen_event e = {.kind = GEN_TEXT};
    wire_logprob token = {S("abc"), 1, -1.0f};
    buf blob;
    buf_init(&blob, 1000);
    wire_logprob_put(&blob, &token, &token, 1);
    for (size_t n = 1; n < blob.n; n++) {
        e.text.logprobs = (str){blob.p, n};
        check_event_refused(&e, "not whole entries");
    }
    blob.p[15] = 21; /* the number of alternatives, after 4 + 3 + 4 + 4 bytes */
    e.text.logprobs = buf_view(&blob);
    check_event_refused(&e, "not whole entries");
    buf_deinit(&blob);
}

TEST(wire_model_texts_must_be_terminated) {
    model_desc d = {0};
    error err = {0};
    buf out;
    memset(d.name, 'x', sizeof d.name);
    buf_init(&out, 4096);
    wire_put_model(&out, &d);
    CHECK_EQ(decode_exact(out.p, out.n, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "name is not terminated");
    buf_deinit(&out);
}

TEST(wire_credit_and_status_limits) {
    static uint64_t many[WIRE_STATUS_VALUES_MAX + 1];
    error err = {0};
    buf out;
    buf_init(&out, 8192);
    wire_put_credit(&out, &(gen_credit){.id = 1, .tokens = WIRE_CREDITS_MAX + 1});
    CHECK_EQ(decode_exact(out.p, out.n, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "credits");
    buf_clear(&out);
    wire_put_status(&out, &(engine_status){.values = {many, WIRE_STATUS_VALUES_MAX + 1}});
    CHECK_EQ(decode_exact(out.p, out.n, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "257 elements");
    buf_deinit(&out);
}

TEST(wire_failed_decode_leaves_the_result_alone) {
    buf out;
    gen_request r = valid_request(), got;
    memset(&got, 0x5A, sizeof got);
    r.choices = 0;
    buf_init(&out, 4096);
    wire_put_request(&out, &r);
    str body = str_skip(buf_view(&out), WIRE_HEADER_BYTES);
    CHECK_EQ(wire_get_request(body, &got, NULL), ERR_FORMAT);
    const unsigned char *bytes = (const unsigned char *)&got;
    unsigned changed = 0;
    for (size_t i = 0; i < sizeof got; i++) changed += bytes[i] != 0x5A;
    CHECK_EQ(changed, 0);
    buf_deinit(&out);
}
