/* lora_args.c - see lora_args.h. */
#include "app/lora_args.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/commands.h"
#include "base/log.h"

/* Does it begin with a number, and is there nothing else? */
static bool is_scale(const char *text, float *out) {
    char *end = NULL;
    float f = strtof(text, &end);
    if (end == text || *end != '\0' || !isfinite(f)) return false;
    *out = f;
    return true;
}

static void name_of(lora_arg *a) {
    str path = str_of(a->path);
    while (path.n > 1 && path.p[path.n - 1] == '/') path.n--;
    const char *slash = path.n > 0 ? memrchr(path.p, '/', path.n - 1) : NULL;
    str name = slash != NULL ? str_skip(path, (size_t)(slash + 1 - path.p)) : path;
    if (str_ends(name, S(".gguf")) && name.n > S(".gguf").n) name.n -= S(".gguf").n;
    if (name.n >= sizeof a->name) name.n = sizeof a->name - 1;
    str_copy_c(a->name, sizeof a->name, name);
}

/* NAME= in front, where NAME is no path. */
static status take_name(lora_arg *a, error *err) {
    char *equals = strchr(a->path, '=');
    if (equals == NULL || memchr(a->path, '/', (size_t)(equals - a->path)) != NULL) {
        name_of(a);
        return OK;
    }
    str name = {a->path, (size_t)(equals - a->path)};
    if (name.n == 0 || name.n >= sizeof a->name)
        return error_set(err, ERR_INVALID, "--lora: a name of %zu bytes, want 1 to %zu", name.n,
                         sizeof a->name - 1);
    str_copy_c(a->name, sizeof a->name, name);
    memmove(a->path, equals + 1, strlen(equals + 1) + 1);
    return OK;
}

status lora_arg_parse(str text, lora_arg *out, error *err) {
    *out = (lora_arg){.scale = 1.0f};
    if (text.n == 0 || text.n >= sizeof out->path)
        return error_set(err, ERR_INVALID, "--lora: a file name of %zu bytes, want 1 to %zu",
                         text.n, sizeof out->path - 1);
    str_copy_c(out->path, sizeof out->path, text);
    char *colon = strrchr(out->path, ':');
    if (colon != NULL && is_scale(colon + 1, &out->scale)) *colon = '\0';
    TRY(take_name(out, err));
    if (out->path[0] == '\0')
        return error_set(err, ERR_INVALID, "--lora: '%.*s' names no file", STR(text));
    return OK;
}

status lora_args_load_into(const config *c, lora_table *t, error *err) {
    for (uint32_t i = 0; i < c->loras.count; i++) {
        lora_arg a;
        lora_report report;
        TRY(lora_arg_parse(c->loras.items[i], &a, err));
        if (lora_table_load(t, i, a.path, &report, err) != OK) return command_blame(a.path, err);
        if (c->cmd != COMMAND_SERVE) continue; /* others tell people in words of their own */
        log_info("lora",
                 "loaded name=%s id=%u scale=%g rank=%u matrices=%u bytes=%" PRIu64 " path=%s",
                 a.name, i, (double)a.scale, report.rank, report.weights, report.bytes, a.path);
    }
    return OK;
}

uint64_t lora_args_bytes(const config *c, const model *m, const engine_options *opt) {
    uint64_t all = 0;
    for (uint32_t i = 0; i < c->loras.count; i++) {
        lora_arg a;
        uint64_t bytes = 0;
        if (lora_arg_parse(c->loras.items[i], &a, NULL) != OK) continue;
        if (lora_device_bytes(m, opt, a.path, &bytes, NULL) == OK) all += bytes;
    }
    return all;
}

status lora_args_use(const config *c, lora_use *out, error *err) {
    *out = (lora_use){0};
    for (uint32_t i = 0; i < c->loras.count; i++) {
        lora_arg a;
        TRY(lora_arg_parse(c->loras.items[i], &a, err));
        if (a.scale == 0) continue;
        if (out->count == WIRE_ADAPTERS_MAX)
            return error_set(err, ERR_LIMIT, "--lora: more than %d adapters at once",
                             WIRE_ADAPTERS_MAX);
        out->adapters[out->count] = i;
        out->scales[out->count++] = a.scale;
    }
    return OK;
}

status lora_args_load(const config *c, engine *e, lora_table **out, lora_mix *mix, error *err) {
    if (c->loras.count == 0) return OK;
    if (c->loras.count > LORA_PER_ROW_MAX)
        return error_set(err, ERR_LIMIT, "--lora: %u adapters at once, at most %d", c->loras.count,
                         LORA_PER_ROW_MAX);
    TRY(lora_table_create(out, e, c->loras.count, err));
    TRY(lora_args_load_into(c, *out, err));
    for (uint32_t i = 0; i < c->loras.count; i++) {
        lora_arg a;
        TRY(lora_arg_parse(c->loras.items[i], &a, err));
        bool used = lora_table_use(*out, i, a.scale, mix);
        if (!used) return error_set(err, ERR_INTERNAL, "--lora: adapter %u did not load", i);
    }
    return OK;
}
