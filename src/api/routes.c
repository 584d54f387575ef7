/* routes.c - see routes.h. */
#include "api/routes.h"

#include <stdio.h>

#include "api/front_internal.h"

enum {
    NO_BODY_BYTES = 4096, /* what a GET may carry before it is read and ignored */
    ADMIN_BODY_BYTES = 256 << 10,
};

#define E(id) METRICS_ENDPOINT_##id
static const route TABLE[] = {
    {"GET", "/livez", ROUTE_OPEN, E(HEALTH), NO_BODY_BYTES, health_live},
    {"GET", "/readyz", ROUTE_OPEN, E(HEALTH), NO_BODY_BYTES, health_ready},
    {"GET", "/health", ROUTE_OPEN, E(HEALTH), NO_BODY_BYTES, health_report},
    {"GET", "/metrics", ROUTE_ADMIN, E(METRICS), NO_BODY_BYTES, metrics_page},
    {"GET", "/debug/roofline", ROUTE_ADMIN, E(ADMIN), NO_BODY_BYTES, roofline_handle},
    {"GET", "/models", ROUTE_INFERENCE, E(MODELS), NO_BODY_BYTES, models_list},
    {"GET", "/models/", ROUTE_INFERENCE, E(MODELS), NO_BODY_BYTES, models_one},
    {"POST", "/chat/completions", ROUTE_INFERENCE, E(CHAT), 0, openai_chat_handle},
    {"POST", "/completions", ROUTE_INFERENCE, E(COMPLETIONS), 0, openai_completions_handle},
    {"POST", "/embeddings", ROUTE_INFERENCE, E(EMBEDDINGS), 0, openai_embeddings_handle},
    {"POST", "/rerank", ROUTE_INFERENCE, E(EMBEDDINGS), 0, rerank_handle},
    {"POST", "/reranking", ROUTE_INFERENCE, E(EMBEDDINGS), 0, rerank_handle},
    {"GET", "/lora-adapters", ROUTE_ADMIN, E(ADMIN), NO_BODY_BYTES, adapters_list_handle},
    {"POST", "/lora-adapters", ROUTE_ADMIN, E(ADMIN), ADMIN_BODY_BYTES, adapters_scale_handle},
    {"POST", "/load_lora_adapter", ROUTE_ADMIN, E(ADMIN), ADMIN_BODY_BYTES, adapters_load_handle},
    {"POST", "/unload_lora_adapter", ROUTE_ADMIN, E(ADMIN), ADMIN_BODY_BYTES,
     adapters_unload_handle},
};
#undef E
enum { TABLE_COUNT = sizeof TABLE / sizeof TABLE[0] };

const route *route_at(uint32_t i) { return i < TABLE_COUNT ? &TABLE[i] : NULL; }

static bool path_matches(const route *r, str path, str *tail) {
    str own = str_of(r->path);
    *tail = (str){"", 0};
    if (!str_ends(own, S("/"))) return str_eq(path, own);
    if (!str_starts(path, own) || path.n == own.n) return false;
    *tail = str_skip(path, own.n);
    return true;
}

static bool method_matches(const route *r, str method) {
    if (str_eq_c(method, r->method)) return true;
    return str_eq(method, S("HEAD")) && strcmp(r->method, "GET") == 0;
}

static void allow_add(char *allow, size_t bytes, const char *method) {
    bool get = strcmp(method, "GET") == 0;
    size_t at = strlen(allow);
    (void)snprintf(allow + at, bytes - at, "%s%s", method, get ? ", HEAD, " : ", ");
}

route_match route_find(str method, str path) {
    route_match m = {0};
    if (str_starts(path, S("/v1/"))) path = str_skip(path, 3);
    for (uint32_t i = 0; i < TABLE_COUNT; i++) {
        str tail;
        if (!path_matches(&TABLE[i], path, &tail)) continue;
        m.path_known = true;
        allow_add(m.allow, sizeof m.allow, TABLE[i].method);
        if (m.route != NULL || !method_matches(&TABLE[i], method)) continue;
        m.route = &TABLE[i];
        m.tail = tail;
    }
    if (m.path_known) allow_add(m.allow, sizeof m.allow, "OPTIONS");
    size_t n = strlen(m.allow);
    if (n >= 2) m.allow[n - 2] = '\0'; /* the last ", " */
    return m;
}
