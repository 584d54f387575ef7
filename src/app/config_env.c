/* config_env.c - GANTRY_* variables. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/config_internal.h"
#include "base/log.h"

/* Variables that are ours but no option: the tests' reference data. */
static bool is_extra(str name) {
    return str_eq(name, S("GANTRY_SHARED")) || str_eq(name, S("GANTRY_REQUIRE_ORACLE"));
}

/* For a Service called "gantry", Kubernetes puts GANTRY_PORT=tcp://10.0.0.7:8080 and its kin
 * into every pod of the namespace, ours included.  Source: Kubernetes documentation, "Service",
 * environment variables. */
static bool is_service_link(str name, str text) {
    return str_starts(name, S("GANTRY_SERVICE_")) || str_starts(name, S("GANTRY_PORT_")) ||
           (str_eq(name, S("GANTRY_PORT")) &&
            (str_starts(text, S("tcp://")) || str_starts(text, S("udp://"))));
}

static void warn_unknown(str name, command cmd) {
    char hint[CONFIG_HINT_BYTES];
    config_hint(hint, name, SPELLED_ENV, cmd);
    log_warn("config", "unknown variable %.*s is ignored%s", STR(name), hint);
}

/* A list stands in one variable, its items set off by commas. */
static status take_list(config *c, const config_option *o, str text, const char *label,
                        error *err) {
    while (text.n != 0) {
        const char *comma = memchr(text.p, ',', text.n);
        str item = {text.p, comma != NULL ? (size_t)(comma - text.p) : text.n};
        TRY(config_value_set(c, o, item, CONFIG_SOURCE_ENV, label, err));
        text = str_skip(text, item.n + (comma != NULL));
    }
    return OK;
}

static status take_variable(config *c, str name, str text, error *err) {
    char label[CONFIG_ENV_BYTES];
    if (is_extra(name) || is_service_link(name, text)) return OK;
    const config_option *o = config_find_env(name, c->cmd);
    if (o == NULL) {
        warn_unknown(name, c->cmd);
        return OK;
    }
    if (!config_option_is_for(o, c->cmd)) return OK;
    str_copy_c(label, sizeof label, name);
    if (o->type == CONFIG_LIST) return take_list(c, o, text, label, err);
    return config_value_set(c, o, text, CONFIG_SOURCE_ENV, label, err);
}

status config_env_load(config *c, char *const *env, error *err) {
    for (; *env != NULL; env++) {
        str entry = str_of(*env);
        const char *equals = strchr(*env, '=');
        if (!str_starts(entry, S("GANTRY_")) || equals == NULL) continue;
        str name = {entry.p, (size_t)(equals - entry.p)};
        TRY(take_variable(c, name, str_skip(entry, name.n + 1), err));
    }
    return OK;
}

const char *config_visible_gpus(void) { return getenv("CUDA_VISIBLE_DEVICES"); }

bool config_cache_dir(const config *c, char *out, size_t out_bytes) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = 0;
    if (c->cache_dir.n > 0)
        n = snprintf(out, out_bytes, "%s", c->cache_dir.p);
    else if (cache != NULL && cache[0] == '/')
        n = snprintf(out, out_bytes, "%s/gantry", cache);
    else if (home != NULL && home[0] == '/')
        n = snprintf(out, out_bytes, "%s/.cache/gantry", home);
    return n > 0 && (size_t)n < out_bytes;
}
