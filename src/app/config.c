/* config.c - defaults, flags, and the order of the sources. */
#include "app/config.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/config_internal.h"
#include "base/assert.h"

enum { MEMORY_BYTES_MAX = 16 << 20 };

bool command_from_name(const char *name, command *out) {
    for (uint32_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(name, command_name((command)i)) != 0) continue;
        *out = (command)i;
        return true;
    }
    return false;
}

const char *command_name(command cmd) {
    static const char *const names[] = {
#define COMMAND_NAME(id, name, args, help) name,
        COMMANDS(COMMAND_NAME)
#undef COMMAND_NAME
    };
    ASSERT((unsigned)cmd < COMMAND_COUNT);
    return names[cmd];
}

/* --- defaults -------------------------------------------------------------------------- */

/* Fields of other commands' options get their defaults, too; where two options share a field,
 * the command's own comes last. */
status config_init(config *out, command cmd, error *err) {
    config c = {.cmd = cmd};
    arena_init(&c.memory, MEMORY_BYTES_MAX);
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < config_options_count; i++) {
            const config_option *o = &config_options[i];
            if (config_option_is_for(o, cmd) != (pass == 1)) continue;
            status st = config_value_default(&c, o, err);
            if (st != OK) {
                config_deinit(&c);
                return st;
            }
        }
    }
    *out = c;
    return OK;
}

void config_deinit(config *c) {
    arena_deinit(&c->memory);
    *c = (config){0};
}

/* --- flags ----------------------------------------------------------------------------- */

/* The command line on its way through. */
typedef struct flags {
    config *c;
    char **argv; /* [argc] */
    int argc;
    int next;
} flags;

static status unknown_flag(const flags *f, str spelled, error *err) {
    char hint[CONFIG_HINT_BYTES];
    str bare = str_skip(spelled, str_starts(spelled, S("--")) ? 2 : 1);
    for (uint32_t i = 0; i < COMMAND_COUNT; i++)
        if (config_find_flag(bare, (command)i) != NULL)
            return error_set(err, ERR_INVALID, "%.*s is no flag of 'gantry %s', but of '%s'",
                             STR(spelled), command_name(f->c->cmd), command_name((command)i));
    config_hint(hint, spelled, SPELLED_FLAG, f->c->cmd);
    return error_set(err, ERR_INVALID, "unknown flag %.*s%s", STR(spelled), hint);
}

/* "--no-json" switches --json off; flags that begin with no- by themselves are found before. */
static const config_option *find_negated(str bare, command cmd) {
    if (!str_starts(bare, S("no-"))) return NULL;
    const config_option *o = config_find_flag(str_skip(bare, 3), cmd);
    return o != NULL && o->type == CONFIG_BOOL ? o : NULL;
}

/* One argument that begins with a dash; takes its value along. */
static status take_flag(flags *f, const char *arg, error *err) {
    const char *equals = strchr(arg, '=');
    str spelled = {arg, equals != NULL ? (size_t)(equals - arg) : strlen(arg)};
    bool is_long = str_starts(spelled, S("--"));
    str bare = str_skip(spelled, is_long ? 2 : 1);
    const config_option *o = is_long == (bare.n > 1) ? config_find_flag(bare, f->c->cmd) : NULL;
    const char *text = equals != NULL ? equals + 1 : NULL;
    if (o == NULL && is_long && text == NULL) {
        o = find_negated(bare, f->c->cmd);
        text = "false";
    }
    if (o == NULL) return unknown_flag(f, spelled, err);
    char label[64];
    (void)snprintf(label, sizeof label, "%.*s", STR(spelled));
    if (text == NULL && o->type == CONFIG_BOOL) text = "true";
    if (text == NULL && f->next < f->argc) text = f->argv[f->next++];
    if (text == NULL)
        return error_set(err, ERR_INVALID, "%s: wants a value (%s)", label, o->operand);
    return config_value_set(f->c, o, str_of(text), CONFIG_SOURCE_FLAG, label, err);
}

/* Everything after "--", and what has no dash, is left over; "-" alone has none. */
static status take_arguments(config *c, int argc, char **argv, error *err) {
    flags f = {.c = c, .argv = argv, .argc = argc};
    c->argv_rest = arena_take(&c->memory, ((size_t)argc + 1) * sizeof *argv);
    if (c->argv_rest == NULL)
        return error_set(err, ERR_LIMIT, "config: no memory for %d arguments", argc);
    bool options = true;
    while (f.next < argc && !c->help) {
        char *arg = argv[f.next++];
        if (options && strcmp(arg, "--") == 0)
            options = false;
        else if (options && arg[0] == '-' && arg[1] != '\0')
            TRY(take_flag(&f, arg, err));
        else
            c->argv_rest[c->argc_rest++] = arg;
    }
    return OK;
}

/* --- what belongs together ------------------------------------------------------------- */

/* Bytes of the port in "host:8080" or "[::1]:8080", 0 when there is none; the colons of a bare
 * IPv6 address are its own. */
static size_t port_bytes(str host) {
    size_t n = 0;
    while (n < host.n && host.p[host.n - 1 - n] != ':') n++;
    if (n == host.n) return 0;
    str before = {host.p, host.n - n - 1};
    bool bracketed = str_starts(before, S("[")) && str_ends(before, S("]"));
    return bracketed || memchr(before.p, ':', before.n) == NULL ? n : 0;
}

static status keep_host(config *c, str host, error *err) {
    c->host = arena_dup(&c->memory, host);
    if (c->host.p != NULL) return OK;
    return error_set(err, ERR_LIMIT, "config: no memory for %zu bytes", host.n);
}

/* --bind 0.0.0.0:8080 sets the port, too, unless that was said with more weight. */
static status split_host(config *c, error *err) {
    size_t n = port_bytes(c->host);
    if (n != 0) {
        const config_option *host = config_find_name(S("server.host"));
        const config_option *port = config_find_name(S("server.port"));
        config_source from = (config_source)c->sources[config_option_index(host)];
        bool was_said = c->sources[config_option_index(port)] == (uint8_t)from;
        uint32_t said = c->port;
        str digits = str_skip(c->host, c->host.n - n);
        TRY(config_value_set(c, port, digits, from, "port of --host", err));
        if (was_said && said != c->port)
            return error_set(err, ERR_INVALID, "--host names port %u, but --port is %u", c->port,
                             said);
        TRY(keep_host(c, (str){c->host.p, c->host.n - n - 1}, err));
    }
    if (!str_starts(c->host, S("[")) || !str_ends(c->host, S("]"))) return OK;
    return keep_host(c, (str){c->host.p + 1, c->host.n - 2}, err);
}

/* --- loading --------------------------------------------------------------------------- */

/* Strongest source first: what comes later finds its place taken. */
static status load_sources(config *c, int argc, char **argv, char *const *env, error *err) {
    TRY(take_arguments(c, argc, argv, err));
    if (c->help) return OK;
    TRY(config_env_load(c, env, err));
    if (c->config_file.n != 0) TRY(config_file_load(c, c->config_file.p, err));
    return c->cmd == COMMAND_SERVE ? split_host(c, err) : OK;
}

status config_load_from(config *out, command cmd, int argc, char **argv, char *const *env,
                        error *err) {
    config c;
    *out = (config){0};
    TRY(config_init(&c, cmd, err));
    status st = load_sources(&c, argc, argv, env, err);
    if (st != OK) {
        config_deinit(&c);
        return st;
    }
    *out = c;
    return OK;
}

status config_load(config *out, command cmd, int argc, char **argv, error *err) {
    return config_load_from(out, cmd, argc, argv, environ, err);
}

bool config_is_given(const config *c, const char *flag) {
    const config_option *o = config_find_flag(str_of(flag), c->cmd);
    ASSERT(o != NULL);
    return c->sources[config_option_index(o)] != CONFIG_SOURCE_DEFAULT;
}

/* --- names of models ------------------------------------------------------------------- */

void config_model_split(str item, str *name, str *path) {
    const char *equals = item.n != 0 ? memchr(item.p, '=', item.n) : NULL;
    if (equals != NULL && equals != item.p) {
        *name = (str){item.p, (size_t)(equals - item.p)};
        *path = str_skip(item, name->n + 1);
        return;
    }
    *name = *path = item;
    if (str_starts(item, S("synth:"))) return;
    while (name->n > 1 && name->p[name->n - 1] == '/') name->n--; /* a folder's slash */
    for (size_t i = name->n; i > 0; i--) {
        if (name->p[i - 1] != '/' || i == name->n) continue;
        *name = str_skip(*name, i);
        break;
    }
    if (str_ends(*name, S(".gguf")) && name->n > 5) name->n -= 5;
}
