/* test_vectors.c - /v1/embeddings and /v1/rerank between a real client and a role made by the
 * test. */
#include <stdio.h>
#include <unistd.h>

#include "base/buf.h"
#include "rig.h"
#include "test.h"

#define EMBEDDINGS "/v1/embeddings"
#define RERANK     "/v1/rerank"
#define JSON_HEAD  "Content-Type: application/json\r\n"

static void send_vector(rig *r, uint64_t id, const float *values, uint32_t count) {
    gen_event e = {.id = id, .kind = GEN_VECTOR};
    e.vector = (wire_array){values, count};
    rig_event(r, &e);
}

/* Answer one input with that vector. */
static void serve_vector(rig *r, uint64_t id, const float *values, uint32_t count) {
    rig_accept(r, id, 4);
    send_vector(r, id, values, count);
    rig_finish(r, id, 0, GEN_FINISH_VECTOR);
    rig_usage(r, id, 4, 0);
}

TEST(embeddings_are_scaled_to_length_one) {
    static const float v[] = {3, 0, -4};
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = web_open(&r);
    web_post(fd, EMBEDDINGS, "{\"input\":\"hello\",\"model\":\"tiny\",\"user\":\"me\"}");
    gen_request q = rig_request(&r);
    CHECK_EQ(q.kind, GEN_KIND_EMBED);
    CHECK(q.prompt == GEN_PROMPT_TEXT && str_eq(q.text, S("hello")) && q.add_special);
    serve_vector(&r, q.id, v, 3);
    web_answer a = web_read(fd);
    CHECK_EQ(a.status, 200);
    CHECK_STR(a.body, "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,"
                      "\"embedding\":[0.6,0,-0.8]}],\"model\":\"tiny\",\"usage\":"
                      "{\"prompt_tokens\":4,\"total_tokens\":4}}");
    CHECK(strstr(a.head, "X-Ignored-Params") == NULL);
    web_answer_free(&a);
    (void)close(fd);
    rig_close(&r);
}

TEST(embeddings_can_be_short_and_in_base64) {
    static const float v[] = {3, 4, 100};
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = web_open(&r);
    web_post(fd, EMBEDDINGS, "{\"input\":[5,6],\"dimensions\":2,\"encoding_format\":\"base64\"}");
    gen_request q = rig_request(&r);
    CHECK(q.prompt == GEN_PROMPT_IDS && q.ids.count == 2 && wire_i32_at(q.ids, 1) == 6);
    serve_vector(&r, q.id, v, 3);
    web_answer a = web_read(fd);
    CHECK_HAS(a.body, "\"embedding\":\"mpkZP83MTD8=\""); /* 0.6 and 0.8 */
    web_answer_free(&a);
    (void)close(fd);
    rig_close(&r);
}

/* Many inputs are under way at once, but not all; answers come in any order. */
TEST(embeddings_of_many_inputs_follow_each_other_and_keep_their_places) {
    enum { INPUTS = 200, UNDER_WAY = 64 };
    rig r;
    buf body;
    rig_open(&r, (front_options){.requests_max = 100}, 0);
    buf_init(&body, 1 << 20);
    buf_printf(&body, "{\"input\":[\"0\"");
    for (int i = 1; i < INPUTS; i++) buf_printf(&body, ",\"%d\"", i);
    buf_printf(&body, "]}");
    buf_put_char(&body, '\0');
    int fd = web_open(&r);
    web_post(fd, EMBEDDINGS, body.p);
    uint64_t ids[INPUTS];
    for (int i = 0; i < UNDER_WAY; i++) {
        gen_request q = rig_request(&r);
        char want[16];
        (void)snprintf(want, sizeof want, "%d", i);
        CHECK(str_eq_c(q.text, want));
        ids[i] = q.id;
    }
    str none;
    CHECK_EQ(rig_next(&r, 50, &none), WIRE_TYPE_END);
    for (int done = 0, sent = UNDER_WAY; done < INPUTS; done++) {
        /* of two neighbours the later one is answered first */
        int i = (done ^ 1) < INPUTS ? done ^ 1 : done;
        float v[] = {(float)(i + 1), 0, i % 2 == 0 ? 0 : (float)(i + 1)};
        serve_vector(&r, ids[i], v, 3);
        if (sent < INPUTS) ids[sent++] = rig_request(&r).id;
    }
    web_answer a = web_read(fd);
    CHECK_EQ(a.status, 200);
    CHECK_HAS(a.body, "\"index\":6,\"embedding\":[1,0,0]}");
    CHECK_HAS(a.body, "\"index\":199,\"embedding\":[0.70710677,0,0.70710677]}");
    CHECK_HAS(a.body, "\"prompt_tokens\":800,");
    web_answer_free(&a);
    (void)close(fd);
    buf_deinit(&body);
    rig_close(&r);
}

static void check_refused(rig *r, const char *path, const char *body, const char *words) {
    web_answer a = web_ask(r, "POST", path, JSON_HEAD, body);
    CHECK_EQ(a.status, 400);
    CHECK_HAS(a.body, words);
    web_answer_free(&a);
}

TEST(embeddings_and_rerank_refuse_what_makes_no_sense) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    check_refused(&r, EMBEDDINGS, "{}", "\"param\":\"input\"");
    check_refused(&r, EMBEDDINGS, "{\"input\":[]}", "input: has no prompts");
    check_refused(&r, EMBEDDINGS, "{\"input\":[[]]}", "input[0]: has no tokens");
    check_refused(&r, EMBEDDINGS, "{\"input\":[\"a\",5]}", "input[1]: want string");
    check_refused(&r, EMBEDDINGS, "{\"input\":{\"a\":1}}", "input: want string or array");
    check_refused(&r, EMBEDDINGS, "{\"input\":[[999]]}", "token id 999");
    check_refused(&r, EMBEDDINGS, "{\"input\":\"a\",\"dimensions\":4}", "dimensions: is 4");
    check_refused(&r, EMBEDDINGS, "{\"input\":\"a\",\"dimensions\":0}", "dimensions");
    check_refused(&r, EMBEDDINGS, "{\"input\":\"a\",\"encoding_format\":\"hex\"}",
                  "encoding_format");
    check_refused(&r, RERANK, "{\"query\":\"a\"}", "\"param\":\"documents\"");
    check_refused(&r, RERANK, "{\"documents\":[\"a\"]}", "\"param\":\"query\"");
    check_refused(&r, RERANK, "{\"query\":\"a\",\"documents\":[]}", "documents: has 0 texts");
    check_refused(&r, RERANK, "{\"query\":\"a\",\"documents\":[3]}", "documents[0]: want string");
    check_refused(&r, RERANK, "{\"query\":\"a\",\"documents\":[\"b\"],\"top_n\":0}", "top_n");
    rig_close(&r);
}

TEST(an_error_of_one_input_is_the_answer_and_stops_the_others) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = web_open(&r);
    web_post(fd, EMBEDDINGS, "{\"input\":[\"a\",\"b\"]}");
    uint64_t one = rig_request(&r).id, two = rig_request(&r).id;
    rig_error(&r, one, ERR_LIMIT, GEN_FAULT_INPUT_LENGTH, 600, 512);
    web_answer a = web_read(fd);
    CHECK_EQ(a.status, 400);
    CHECK_HAS(a.body, "context_length_exceeded");
    CHECK_EQ(rig_cancel(&r).id, two);
    web_answer_free(&a);
    (void)close(fd);
    rig_close(&r);
}

TEST(rerank_sorts_by_score) {
    static const float scores[] = {-1, 2, 0};
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = web_open(&r);
    web_post(fd, "/rerank",
             "{\"query\":\"q\",\"documents\":[\"a\",{\"text\":\"b\"},\"c\"],\"top_n\":2,"
             "\"return_documents\":true}");
    for (int i = 0; i < 3; i++) {
        gen_request q = rig_request(&r);
        CHECK(q.kind == GEN_KIND_RANK && q.prompt == GEN_PROMPT_PAIR);
        CHECK(str_eq(q.text, S("q")) && q.pair.n == 1 && q.pair.p[0] == "abc"[i]);
        serve_vector(&r, q.id, &scores[i], 1);
    }
    web_answer a = web_read(fd);
    CHECK_EQ(a.status, 200);
    CHECK_HAS(a.body, "\"results\":[{\"index\":1,\"relevance_score\":0.880797077977882");
    CHECK_HAS(a.body, "\"document\":{\"text\":\"b\"}},{\"index\":2,\"relevance_score\":0.5,");
    CHECK_HAS(a.body, "\"usage\":{\"prompt_tokens\":12,\"total_tokens\":12}}");
    web_answer_free(&a);
    (void)close(fd);
    rig_close(&r);
}

TEST(a_vector_that_nobody_asked_for_is_a_protocol_error) {
    static const float v[] = {1};
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = web_open(&r);
    web_post(fd, "/v1/completions", "{\"prompt\":\"a\"}");
    gen_request q = rig_request(&r);
    rig_accept(&r, q.id, 1);
    send_vector(&r, q.id, v, 1);
    web_answer a = web_read(fd);
    CHECK_EQ(a.status, 500);
    CHECK_HAS(a.body, "a vector that was not asked for");
    web_answer_free(&a);
    (void)close(fd);
    rig_close(&r);
}
