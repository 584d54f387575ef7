/* test_front_empty.c - a server without any model: alive, not ready, and clear about why. */
#include <string.h>

#include "base/log.h"
#include "rig.h"
#include "test.h"

#define CHAT "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static void run_front(void *arg) { front_run(((rig *)arg)->front); }

static void count_ready(void *ctx) { ++*(int *)ctx; }

/* The link is for rig_close() only. */
static void open_empty(rig *r, int *ready) {
    error err = {0};
    front_options o = {.http.host = "127.0.0.1", .on_ready = count_ready, .on_ready_ctx = ready};
    memset(r, 0, sizeof *r);
    log_set_level(LOG_OFF);
    CHECK_EQ(link_open(&r->link, 1 << 16, 1 << 16, &err), OK);
    CHECK_EQ(front_open(&r->front, &o, &err), OK);
    CHECK_EQ(thread_start(&r->net, "net", run_front, r, &err), OK);
}

static void check_answer(const rig *r, const char *path, const char *body, int want,
                         const char *words) {
    web_answer a =
        web_ask(r, body != NULL ? "POST" : "GET", path, "Content-Type: application/json\r\n", body);
    CHECK_EQ(a.status, want);
    CHECK_HAS(a.body, words);
    web_answer_free(&a);
}

TEST(front_without_a_model_is_alive_and_says_why_it_is_not_ready) {
    rig r;
    int ready = 0;
    open_empty(&r, &ready);
    check_answer(&r, "/livez", NULL, 200, "{\"status\":\"ok\"}");
    check_answer(&r, "/readyz", NULL, 503, "no model is loaded");
    check_answer(&r, "/health", NULL, 503, "\"code\":\"not_ready\"");
    check_answer(&r, "/v1/models", NULL, 200, "{\"object\":\"list\",\"data\":[]}");
    check_answer(&r, "/v1/models/tiny", NULL, 404, "there is: none");
    check_answer(&r, "/metrics", NULL, 200, "gantry_");
    rig_close(&r);
    CHECK_EQ(ready, 1);
}

TEST(front_without_a_model_refuses_what_wants_one) {
    static const struct {
        const char *path, *fields;
    } asked[] = {
        {"/v1/chat/completions", CHAT},
        {"/v1/chat/completions", CHAT ",\"stream\":true"},
        {"/v1/completions", "\"prompt\":\"hi\""},
        {"/v1/embeddings", "\"input\":\"hi\""},
        {"/v1/rerank", "\"query\":\"q\",\"documents\":[\"d\"]"},
        {"/v1/load_lora_adapter", "\"lora_name\":\"a\",\"lora_path\":\"b\""},
    };
    rig r;
    int ready = 0;
    open_empty(&r, &ready);
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        char body[256];
        (void)snprintf(body, sizeof body, "{%s}", asked[i].fields);
        check_answer(&r, asked[i].path, body, 503, "no model is loaded");
        if (strstr(asked[i].path, "lora") != NULL) continue; /* calls its model otherwise */
        (void)snprintf(body, sizeof body, "{\"model\":\"gpt-4\",%s}", asked[i].fields);
        check_answer(&r, asked[i].path, body, 404, "no model 'gpt-4' here; there is: none");
    }
    rig_close(&r);
}

TEST(front_without_a_model_drains) {
    rig r;
    int ready = 0;
    open_empty(&r, &ready);
    check_answer(&r, "/livez", NULL, 200, "ok");
    front_drain(r.front);
    thread_join(&r.net);
    rig_close(&r);
}
