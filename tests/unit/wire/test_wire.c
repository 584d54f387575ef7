/* test_wire.c - wire.h: what is put is what is got, field by field. */
#include "test.h"
#include "wire/wire.h"
#include "wire/wire_samples.h"

#include <math.h>

enum { ROUNDS = 200 };

static sample_bytes samples;

static bool same_array(wire_array a, wire_array b, size_t elem_bytes) {
    return a.count == b.count && (a.count == 0 || memcmp(a.p, b.p, a.count * elem_bytes) == 0);
}

/* Body of the one frame in `out`, whose type must be `want`. */
static str body_of(const buf *out, wire_type want) {
    wire_type type = WIRE_TYPE_END;
    str body = {0};
    CHECK_EQ(wire_open(buf_view(out), &type, &body, NULL), OK);
    CHECK_EQ(type, want);
    return body;
}

static void check_sampling(const gen_sampling *a, const gen_sampling *b) {
    CHECK(a->temperature == b->temperature && a->top_p == b->top_p && a->min_p == b->min_p);
    CHECK(a->repetition_penalty == b->repetition_penalty);
    CHECK(a->presence_penalty == b->presence_penalty);
    CHECK(a->frequency_penalty == b->frequency_penalty);
    CHECK(a->top_k == b->top_k && a->penalty_tokens == b->penalty_tokens && a->seed == b->seed);
    CHECK(a->tokens_max == b->tokens_max && a->tokens_min == b->tokens_min);
    CHECK(a->ignore_eos == b->ignore_eos && a->logprobs == b->logprobs);
    CHECK(a->top_logprobs == b->top_logprobs);
    CHECK(same_array(a->stop_ids, b->stop_ids, 4));
    CHECK(same_array(a->bias_ids, b->bias_ids, 4) && same_array(a->biases, b->biases, 4));
    CHECK(same_array(a->allowed_ids, b->allowed_ids, 4));
}

static void check_request(const gen_request *a, const gen_request *b) {
    CHECK(a->id == b->id && a->prompt == b->prompt && a->choices == b->choices);
    CHECK(a->add_special == b->add_special && a->parse_special == b->parse_special);
    CHECK(a->echo == b->echo && a->credits == b->credits);
    CHECK(a->kind == b->kind && a->pooling == b->pooling && str_eq(a->pair, b->pair));
    CHECK(same_array(a->adapters, b->adapters, 4));
    CHECK(same_array(a->adapter_scales, b->adapter_scales, 4));
    CHECK(str_eq(a->text, b->text) && same_array(a->ids, b->ids, 4));
    CHECK(a->chat.add_generation_prompt == b->chat.add_generation_prompt);
    CHECK(a->chat.continue_final == b->chat.continue_final);
    CHECK(a->chat.one_call == b->chat.one_call);
    CHECK(str_eq(a->chat.tools, b->chat.tools) && str_eq(a->chat.documents, b->chat.documents));
    CHECK(str_eq(a->chat.variables, b->chat.variables));
    CHECK(str_eq(a->chat.chat_template, b->chat.chat_template));
    CHECK_EQ(a->stops_count, b->stops_count);
    for (uint32_t i = 0; i < b->stops_count; i++) CHECK(str_eq(a->stops[i], b->stops[i]));
    check_sampling(&a->sampling, &b->sampling);
}

TEST(wire_request_comes_back_as_it_was) {
    for (unsigned i = 0; i < ROUNDS; i++) {
        sample_init(&samples, i);
        buf out;
        gen_request sent = sample_request(&samples), got = {0};
        buf_init(&out, WIRE_FRAME_BYTES_MAX);
        wire_put_request(&out, &sent);
        CHECK_EQ(wire_get_request(body_of(&out, WIRE_REQUEST), &got, NULL), OK);
        check_request(&got, &sent);
        buf_deinit(&out);
    }
}

TEST(wire_default_sampling_is_valid_and_neutral) {
    gen_request sent = {.choices = 1, .sampling = gen_sampling_default()}, got = {0};
    buf out;
    buf_init(&out, WIRE_FRAME_BYTES_MAX);
    wire_put_request(&out, &sent);
    CHECK_EQ(wire_get_request(body_of(&out, WIRE_REQUEST), &got, NULL), OK);
    check_request(&got, &sent);
    CHECK(got.sampling.temperature == 1.0f && got.sampling.top_p == 1.0f);
    CHECK(got.sampling.repetition_penalty == 1.0f && got.sampling.top_k == 0);
    buf_deinit(&out);
}

TEST(wire_small_messages_come_back_as_they_were) {
    buf out;
    buf_init(&out, WIRE_FRAME_BYTES_MAX);
    gen_cancel cancel = {.id = UINT64_MAX - 5, .choice = GEN_CHOICE_ALL}, cancel_got = {0};
    wire_put_cancel(&out, &cancel);
    CHECK_EQ(wire_get_cancel(body_of(&out, WIRE_CANCEL), &cancel_got, NULL), OK);
    CHECK(cancel_got.id == cancel.id && cancel_got.choice == cancel.choice);
    buf_clear(&out);
    gen_credit credit = {.id = 9, .tokens = WIRE_CREDITS_MAX}, credit_got = {0};
    wire_put_credit(&out, &credit);
    CHECK_EQ(wire_get_credit(body_of(&out, WIRE_CREDIT), &credit_got, NULL), OK);
    CHECK(credit_got.id == 9 && credit_got.tokens == WIRE_CREDITS_MAX);
    buf_clear(&out);
    model_loading loading = {.phase = LOAD_PHASE_WEIGHTS, .permille = 1000}, loading_got = {0};
    wire_put_loading(&out, &loading);
    CHECK_EQ(wire_get_loading(body_of(&out, WIRE_LOADING), &loading_got, NULL), OK);
    CHECK(loading_got.phase == loading.phase && loading_got.permille == 1000);
    CHECK_STR(load_phase_name(loading_got.phase), "reading the weights");
    buf_clear(&out);
    loading.permille = 1001;
    wire_put_loading(&out, &loading);
    CHECK_EQ(wire_get_loading(body_of(&out, WIRE_LOADING), &loading_got, NULL), ERR_FORMAT);
    buf_clear(&out);
    wire_put_drain(&out);
    CHECK_EQ(body_of(&out, WIRE_DRAIN).n, 0);
    CHECK_EQ(out.n, WIRE_HEADER_BYTES);
    buf_deinit(&out);
}

TEST(wire_status_and_model_come_back_as_they_were) {
    for (unsigned i = 0; i < ROUNDS; i++) {
        buf out;
        sample_init(&samples, i);
        buf_init(&out, WIRE_FRAME_BYTES_MAX);
        engine_status sent = sample_status(&samples), got = {0};
        wire_put_status(&out, &sent);
        CHECK_EQ(wire_get_status(body_of(&out, WIRE_STATUS), &got, NULL), OK);
        CHECK(got.steps == sent.steps && got.running == sent.running);
        CHECK(got.waiting == sent.waiting && same_array(got.values, sent.values, 8));
        if (sent.values.count > 3) CHECK(wire_u64_at(got.values, 3) == wire_u64_at(sent.values, 3));
        buf_clear(&out);
        model_desc model = sample_model(&samples), model_got = {0};
        wire_put_model(&out, &model);
        CHECK_EQ(wire_get_model(body_of(&out, WIRE_MODEL), &model_got, NULL), OK);
        CHECK(memcmp(&model, &model_got, offsetof(model_desc, threads) + 4) == 0);
        CHECK(model.generates == model_got.generates);
        buf_deinit(&out);
    }
}

TEST(wire_adapter_messages_come_back_as_they_were) {
    for (unsigned i = 0; i < ROUNDS; i++) {
        buf out;
        sample_init(&samples, i);
        buf_init(&out, WIRE_FRAME_BYTES_MAX);
        adapter_order sent = sample_adapter(&samples), got = {0};
        wire_put_adapter(&out, &sent);
        CHECK_EQ(wire_get_adapter(body_of(&out, WIRE_ADAPTER), &got, NULL), OK);
        CHECK(got.adapter == sent.adapter && got.load == sent.load && str_eq(got.path, sent.path));
        buf_clear(&out);
        adapter_state said = sample_adapter_state(&samples), heard = {0};
        wire_put_adapter_state(&out, &said);
        CHECK_EQ(wire_get_adapter_state(body_of(&out, WIRE_ADAPTER_STATE), &heard, NULL), OK);
        CHECK(heard.adapter == said.adapter && heard.loaded == said.loaded);
        CHECK(heard.code == said.code && heard.rank == said.rank && heard.bytes == said.bytes);
        CHECK(heard.weights == said.weights && str_eq(heard.message, said.message));
        buf_deinit(&out);
    }
}

static bool same_entries(str a, str b) {
    profile_entry x, y;
    while (wire_profile_entry_next(&a, &x)) {
        if (!wire_profile_entry_next(&b, &y)) return false;
        if (x.place != y.place || x.arith != y.arith || x.tasks != y.tasks || x.ops != y.ops ||
            x.ns != y.ns || x.weight_bytes != y.weight_bytes || x.value_bytes != y.value_bytes ||
            x.cache_bytes != y.cache_bytes || x.flops != y.flops || !str_eq(x.name, y.name) ||
            !str_eq(x.kinds, y.kinds) || !str_eq(x.what, y.what))
            return false;
    }
    return a.n == 0 && b.n == 0;
}

static bool same_table(const profile_table *a, const profile_table *b) {
    if (a->steps != b->steps || a->rows != b->rows || a->ns != b->ns ||
        a->places_count != b->places_count || !same_entries(a->entries, b->entries))
        return false;
    for (uint32_t i = 0; i < a->places_count; i++) {
        const profile_place *x = &a->places[i], *y = &b->places[i];
        if (strcmp(x->where, y->where) != 0 || x->ops != y->ops) return false;
        for (int k = 0; k < WIRE_PROFILE_LIMITS; k++)
            if (x->limits[k].per_s != y->limits[k].per_s ||
                strcmp(x->limits[k].name, y->limits[k].name) != 0)
                return false;
    }
    return true;
}

TEST(wire_profile_messages_come_back_as_they_were) {
    for (unsigned i = 0; i < ROUNDS; i++) {
        buf out;
        sample_init(&samples, i);
        buf_init(&out, WIRE_FRAME_BYTES_MAX);
        profile_order sent = {.id = i, .steps = 1 + i % WIRE_PROFILE_STEPS_MAX, .ms_max = 1 + i};
        profile_order got = {0};
        wire_put_profile(&out, &sent);
        CHECK_EQ(wire_get_profile(body_of(&out, WIRE_PROFILE), &got, NULL), OK);
        CHECK(got.id == sent.id && got.steps == sent.steps && got.ms_max == sent.ms_max);
        buf_clear(&out);
        profile_report said = sample_profile_report(&samples), heard = {0};
        wire_put_profile_report(&out, &said);
        CHECK_EQ(wire_get_profile_report(body_of(&out, WIRE_PROFILE_REPORT), &heard, NULL), OK);
        CHECK(heard.id == said.id && heard.code == said.code);
        CHECK(str_eq(heard.message, said.message));
        CHECK(same_table(&heard.prompt, &said.prompt) && same_table(&heard.decode, &said.decode));
        buf_deinit(&out);
    }
}

static void check_order_refused(profile_order order, const char *words) {
    buf out;
    error err = {0};
    buf_init(&out, WIRE_FRAME_BYTES_MAX);
    wire_put_profile(&out, &order);
    CHECK_EQ(wire_get_profile(body_of(&out, WIRE_PROFILE), &order, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, words);
    buf_deinit(&out);
}

static void check_report_refused(profile_report r, const char *words) {
    buf out;
    error err = {0};
    buf_init(&out, WIRE_FRAME_BYTES_MAX);
    wire_put_profile_report(&out, &r);
    CHECK_EQ(wire_get_profile_report(body_of(&out, WIRE_PROFILE_REPORT), &r, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, words);
    buf_deinit(&out);
}

TEST(wire_profiles_out_of_bounds_are_an_error) {
    check_order_refused((profile_order){.ms_max = 1}, "0 steps, want 1 to 64");
    check_order_refused((profile_order){.steps = 65, .ms_max = 1}, "65 steps");
    check_order_refused((profile_order){.steps = 1}, "0 ms, want 1 to 30000");
    check_order_refused((profile_order){.steps = 1, .ms_max = 30001}, "30001 ms");
    check_report_refused((profile_report){.prompt.steps = 65}, "65 steps, at most 64");
    check_report_refused((profile_report){.code = ERR_NOMEM, .decode.steps = 1}, "an error");
    buf entries;
    buf_init(&entries, WIRE_FRAME_BYTES_MAX);
    profile_report r = {.decode = {.steps = 1, .places_count = 1}};
    wire_profile_entry_put(&entries, &(profile_entry){.place = 1, .arith = 1});
    r.decode.entries = buf_view(&entries);
    check_report_refused(r, "place 1 of 1");
    r.decode.entries.n--;
    check_report_refused(r, "not whole");
    buf_clear(&entries);
    wire_profile_entry_put(&entries, &(profile_entry){.arith = 0});
    r.decode.entries = buf_view(&entries);
    check_report_refused(r, "not whole");
    buf_clear(&entries);
    for (int i = 0; i <= WIRE_PROFILE_ENTRIES_MAX; i++)
        wire_profile_entry_put(&entries, &(profile_entry){.arith = 1});
    r.decode.entries = buf_view(&entries);
    check_report_refused(r, "257 profile entries, at most 256");
    buf_deinit(&entries);
}

TEST(wire_adapters_that_contradict_themselves_are_an_error) {
    buf out;
    adapter_order order = {0};
    adapter_state state = {0};
    error err = {0};
    buf_init(&out, WIRE_FRAME_BYTES_MAX);
    wire_put_adapter(&out, &(adapter_order){.load = true});
    CHECK_EQ(wire_get_adapter(body_of(&out, WIRE_ADAPTER), &order, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "without a path");
    buf_clear(&out);
    wire_put_adapter_state(&out, &(adapter_state){.loaded = true, .code = ERR_FORMAT});
    CHECK_EQ(wire_get_adapter_state(body_of(&out, WIRE_ADAPTER_STATE), &state, &err), ERR_FORMAT);
    buf_clear(&out);
    float nan_scale = NAN;
    uint32_t id = 1;
    gen_request r = {.choices = 1, .sampling = gen_sampling_default()};
    r.adapters = (wire_array){&id, 1};
    wire_put_request(&out, &r);
    CHECK_EQ(wire_get_request(body_of(&out, WIRE_REQUEST), &r, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "0 scales for 1 adapters");
    buf_clear(&out);
    r = (gen_request){.choices = 1, .sampling = gen_sampling_default()};
    r.adapters = (wire_array){&id, 1};
    r.adapter_scales = (wire_array){&nan_scale, 1};
    wire_put_request(&out, &r);
    CHECK_EQ(wire_get_request(body_of(&out, WIRE_REQUEST), &r, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "not finite");
    buf_clear(&out);
    r = (gen_request){.kind = GEN_KIND_EMBED, .choices = 2, .sampling = gen_sampling_default()};
    wire_put_request(&out, &r);
    CHECK_EQ(wire_get_request(body_of(&out, WIRE_REQUEST), &r, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "2 choices of a vector");
    buf_deinit(&out);
}

/* --- events -------------------- */

static void check_event(const gen_event *a, const gen_event *b) {
    CHECK(a->id == b->id && a->choice == b->choice);
    CHECK_EQ(a->kind, b->kind);
    switch (b->kind) {
    case GEN_ACCEPTED:
        CHECK(memcmp(&a->accepted, &b->accepted, sizeof a->accepted) == 0);
        break;
    case GEN_PROGRESS:
        CHECK(memcmp(&a->progress, &b->progress, sizeof a->progress) == 0);
        break;
    case GEN_TOKENS:
        CHECK(same_array(a->tokens.ids, b->tokens.ids, 4));
        CHECK(same_array(a->tokens.logprobs, b->tokens.logprobs, 4));
        CHECK_EQ(a->tokens.top, b->tokens.top);
        CHECK(same_array(a->tokens.top_ids, b->tokens.top_ids, 4));
        CHECK(same_array(a->tokens.top_logprobs, b->tokens.top_logprobs, 4));
        break;
    case GEN_TEXT:
        CHECK_EQ(a->text.tokens, b->text.tokens);
        CHECK(str_eq(a->text.text, b->text.text) && str_eq(a->text.logprobs, b->text.logprobs));
        break;
    case GEN_CALL:
        CHECK_EQ(a->call.index, b->call.index);
        CHECK(str_eq(a->call.id, b->call.id) && str_eq(a->call.name, b->call.name));
        CHECK(str_eq(a->call.arguments, b->call.arguments));
        break;
    case GEN_VECTOR:
        CHECK(same_array(a->vector, b->vector, 4));
        break;
    case GEN_PAUSED:
        CHECK_EQ(a->paused, b->paused);
        break;
    case GEN_FINISH:
        CHECK_EQ(a->finish.reason, b->finish.reason);
        CHECK(str_eq(a->finish.stop, b->finish.stop));
        break;
    case GEN_USAGE:
        CHECK(memcmp(&a->usage, &b->usage, sizeof a->usage) == 0);
        break;
    case GEN_ERROR:
        CHECK(a->error.code == b->error.code && a->error.fault == b->error.fault);
        CHECK(a->error.have == b->error.have && a->error.limit == b->error.limit);
        CHECK(str_eq(a->error.message, b->error.message));
        break;
    case GEN_EVENT_END:
        break;
    }
}

TEST(wire_events_frame_carries_many_events_in_order) {
    enum { EVENTS = 40 };
    for (unsigned round = 0; round < 20; round++) {
        buf out;
        gen_event sent[EVENTS], got = {0};
        bool more = false;
        buf_init(&out, WIRE_FRAME_BYTES_MAX);
        sample_init(&samples, round);
        size_t begun = wire_events_begin(&out);
        for (unsigned i = 0; i < EVENTS; i++) {
            sent[i] = sample_event(&samples, (gen_event_kind)((i + round) % GEN_EVENT_END));
            wire_events_add(&out, &sent[i]);
        }
        wire_events_end(&out, begun);
        str body = body_of(&out, WIRE_EVENTS);
        for (unsigned i = 0; i < EVENTS; i++) {
            CHECK_EQ(wire_get_event(&body, &got, &more, NULL), OK);
            CHECK(more);
            check_event(&got, &sent[i]);
        }
        CHECK_EQ(wire_get_event(&body, &got, &more, NULL), OK);
        CHECK(!more);
        buf_deinit(&out);
    }
}

TEST(wire_events_frame_without_events_leaves_nothing) {
    buf out;
    buf_init(&out, 100);
    wire_put_drain(&out);
    wire_events_end(&out, wire_events_begin(&out));
    CHECK_EQ(out.n, WIRE_HEADER_BYTES);
    (void)body_of(&out, WIRE_DRAIN);
    buf_deinit(&out);
}

TEST(wire_frame_over_the_limit_of_its_buffer_fails_the_buffer) {
    buf out;
    error err = {0};
    buf_init(&out, 100);
    sample_init(&samples, 3);
    gen_request r = sample_request(&samples);
    wire_put_request(&out, &r);
    CHECK_EQ(buf_status(&out, "frames", &err), ERR_LIMIT);
    wire_events_end(&out, wire_events_begin(&out));
    CHECK(out.failed);
    buf_deinit(&out);
}

TEST(wire_logprob_entries_come_back_as_they_were) {
    wire_logprob token = {S("\xF0\x9F"), 7, -0.25f}, got, top_got[WIRE_TOP_LOGPROBS_MAX];
    wire_logprob top[WIRE_TOP_LOGPROBS_MAX];
    for (int i = 0; i < WIRE_TOP_LOGPROBS_MAX; i++)
        top[i] = (wire_logprob){S("token"), i * 1000, -(float)i};
    buf out;
    uint8_t count = 77;
    buf_init(&out, SIZE_MAX);
    wire_logprob_put(&out, &token, top, WIRE_TOP_LOGPROBS_MAX);
    wire_logprob_put(&out, &top[3], NULL, 0);
    str blob = buf_view(&out);
    CHECK(wire_logprob_next(&blob, &got, top_got, &count));
    CHECK_EQ(count, WIRE_TOP_LOGPROBS_MAX);
    CHECK(str_eq(got.bytes, token.bytes) && got.id == 7 && got.logprob == -0.25f);
    for (int i = 0; i < WIRE_TOP_LOGPROBS_MAX; i++)
        CHECK(top_got[i].id == top[i].id && top_got[i].logprob == top[i].logprob);
    CHECK(wire_logprob_next(&blob, &got, top_got, &count));
    CHECK(count == 0 && got.id == 3000 && str_eq(got.bytes, S("token")));
    CHECK(!wire_logprob_next(&blob, &got, top_got, &count));
    CHECK_EQ(blob.n, 0);
    buf_deinit(&out);
}

TEST(wire_finish_names) {
    CHECK_STR(gen_finish_name(GEN_FINISH_EOS), "EOS");
    CHECK_STR(gen_finish_name(GEN_FINISH_CANCELED), "CANCELED");
    CHECK_STR(gen_finish_name(GEN_FINISH_END), "?");
}
