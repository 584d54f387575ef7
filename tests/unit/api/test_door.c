/* test_door.c - who may come in. */
#include "api/door.h"
#include "test.h"

static front_options on_loopback(void) { return (front_options){.http = {.host = "127.0.0.1"}}; }

static bool host_ok(const front_options *o, const char *host) {
    door d;
    api_fault f = {0};
    door_init(&d, o);
    bool ok = door_host_ok(&d, &(door_visit){.host = str_of(host)}, &f);
    CHECK(ok || f.kind == API_FORBIDDEN);
    return ok;
}

TEST(door_on_loopback_takes_only_loopback_names) {
    front_options o = on_loopback();
    CHECK(host_ok(&o, "localhost"));
    CHECK(host_ok(&o, "LOCALHOST:8080"));
    CHECK(host_ok(&o, "127.0.0.1:1"));
    CHECK(host_ok(&o, "127.9.8.7"));
    CHECK(host_ok(&o, "[::1]:80"));
    CHECK(host_ok(&o, "[::1]"));
    CHECK(!host_ok(&o, ""));
    CHECK(!host_ok(&o, "attacker.example"));
    CHECK(!host_ok(&o, "localhost.attacker.example"));
    CHECK(!host_ok(&o, "127.0.0.1.attacker.example"));
    CHECK(!host_ok(&o, "127.0.0.999"));
    CHECK(!host_ok(&o, "127.0.0.1."));
    CHECK(!host_ok(&o, "127.1"));
    CHECK(!host_ok(&o, "2130706433"));
    CHECK(!host_ok(&o, "[::1"));
    door d;
    api_fault f;
    door_init(&d, &o);
    CHECK(!door_host_ok(&d, &(door_visit){0}, &f)); /* no Host at all */
}

TEST(door_takes_the_hosts_that_are_listed) {
    const char *hosts[] = {"gantry.internal"};
    front_options o = on_loopback();
    o.allowed_hosts = hosts;
    o.allowed_hosts_count = 1;
    CHECK(host_ok(&o, "gantry.internal"));
    CHECK(host_ok(&o, "Gantry.Internal:8080"));
    CHECK(!host_ok(&o, "other.internal"));
    o.http.host = NULL; /* all interfaces: any name may point here */
    CHECK(host_ok(&o, "other.internal"));
}

static bool origin_ok(const front_options *o, const char *host, const char *origin) {
    door d;
    api_fault f = {0};
    door_init(&d, o);
    return door_origin_ok(&d, &(door_visit){.host = str_of(host), .origin = str_of(origin)}, &f);
}

TEST(door_takes_the_same_origin_and_listed_ones) {
    const char *origins[] = {"https://app.example"};
    front_options o = on_loopback();
    CHECK(origin_ok(&o, "localhost:8080", "http://localhost:8080"));
    CHECK(origin_ok(&o, "localhost", "http://localhost:80"));
    CHECK(origin_ok(&o, "gantry.example", "https://gantry.example:443"));
    CHECK(!origin_ok(&o, "localhost:8080", "http://localhost:3000"));
    CHECK(!origin_ok(&o, "localhost", "http://attacker.example"));
    CHECK(!origin_ok(&o, "localhost", "null"));
    CHECK(!origin_ok(&o, "localhost", "file://localhost"));
    CHECK(!origin_ok(&o, "localhost", ""));
    CHECK(!origin_ok(&o, "localhost", "https://app.example"));
    o.cors_origins = origins;
    o.cors_origins_count = 1;
    CHECK(origin_ok(&o, "localhost", "https://app.example"));
    CHECK(!origin_ok(&o, "localhost", "https://app.example.attacker.example"));
    origins[0] = "*";
    CHECK(origin_ok(&o, "localhost", "http://attacker.example"));
}

static bool key_ok(const char *authorization, const char *api_key) {
    front_options o = {.api_key = "s3cret"};
    door d;
    api_fault f = {0};
    door_visit v = {0};
    if (authorization != NULL) v.authorization = str_of(authorization);
    if (api_key != NULL) v.api_key = str_of(api_key);
    door_init(&d, &o);
    bool ok = door_key_ok(&d, &v, &f);
    CHECK(ok || f.kind == API_UNAUTHORIZED);
    return ok;
}

TEST(door_takes_the_key_in_both_headers_and_nothing_else) {
    CHECK(key_ok("Bearer s3cret", NULL));
    CHECK(key_ok("bearer s3cret", NULL));
    CHECK(key_ok(NULL, "s3cret"));
    CHECK(!key_ok(NULL, NULL));
    CHECK(!key_ok("Bearer ", NULL));
    CHECK(!key_ok("Bearer s3cre", NULL));
    CHECK(!key_ok("Bearer s3cret ", NULL));
    CHECK(!key_ok("Bearer s3crets", NULL));
    CHECK(!key_ok("Basic s3cret", NULL));
    CHECK(!key_ok("s3cret", NULL));
    CHECK(!key_ok(NULL, ""));
    CHECK(!key_ok("Bearer wrong", "s3cret"));
}
