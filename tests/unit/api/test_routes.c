/* test_routes.c - every route is found, guarded and named. */
#include "api/routes.h"
#include "test.h"

static bool finds(const char *method, const char *path) {
    return route_find(str_of(method), str_of(path)).route != NULL;
}

TEST(routes_all_have_a_scope_and_only_health_is_open) {
    uint32_t count = 0, open = 0;
    for (const route *r = NULL; (r = route_at(count)) != NULL; count++) {
        CHECK(r->handle != NULL);
        CHECK(r->scope != ROUTE_GUARDED); /* somebody has thought about it */
        if (r->scope != ROUTE_OPEN) continue;
        open++;
        CHECK_EQ(r->metrics, METRICS_ENDPOINT_HEALTH);
    }
    CHECK(count >= 8);
    CHECK_EQ(open, 3);
}

TEST(routes_answer_with_and_without_v1) {
    char path[128];
    const route *r = NULL;
    for (uint32_t i = 0; (r = route_at(i)) != NULL; i++) {
        bool prefix = r->path[strlen(r->path) - 1] == '/';
        (void)snprintf(path, sizeof path, "/v1%s%s", r->path, prefix ? "x" : "");
        CHECK(route_find(str_of(r->method), str_of(path)).route == r);
        CHECK(route_find(str_of(r->method), str_of(path + 3)).route == r);
    }
}

TEST(routes_take_head_where_get_is_and_name_what_is_allowed) {
    CHECK(finds("HEAD", "/health"));
    CHECK(!finds("HEAD", "/v1/completions"));
    route_match m = route_find(S("GET"), S("/v1/chat/completions"));
    CHECK(m.route == NULL && m.path_known);
    CHECK_STR(m.allow, "POST, OPTIONS");
    m = route_find(S("DELETE"), S("/health"));
    CHECK(m.route == NULL && m.path_known);
    CHECK_STR(m.allow, "GET, HEAD, OPTIONS");
}

TEST(routes_do_not_guess) {
    static const char *const paths[] = {"",           "/",        "/v1",           "/v1/",
                                        "//health",   "/health/", "/v1/v1/health", "/Health",
                                        "/v2/models", "/models/", "/v1/models/",   "/v1/../health",
                                        "/healthz",   "/%68ealth"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        route_match m = route_find(S("GET"), str_of(paths[i]));
        CHECK(m.route == NULL && !m.path_known);
    }
    route_match m = route_find(S("GET"), S("/v1/models/org/name"));
    CHECK(m.route != NULL && str_eq(m.tail, S("org/name")));
}
