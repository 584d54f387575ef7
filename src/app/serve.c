/* serve.c - `gantry serve`: listen, load the models, wait for signals.
 *
 * The port is open before the first model is read: requests that come early wait in the ring to
 * their model and streams among them are told how far it is.  A model that cannot be loaded ends
 * the server with the reason.  Without any model it serves an empty list, and says so.
 *
 * Threads: main (this file: signals and lifecycle), net (the front), loader (until every model
 * is there), and per model a text and an engine thread with its CPU pool. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "api/front.h"
#include "app/commands.h"
#include "app/device.h"
#include "app/lora_args.h"
#include "app/progress.h"
#include "app/stack.h"
#include "base/log.h"
#include "base/os.h"
#include "base/thread.h"
#include "text/tool_calls.h"

/* Unsent bytes of one stream: tokens up to its credits, and a tool call of every choice, which
 * comes at once when it is whole (text/tool_calls.h) and is escaped as JSON in JSON. */
enum { STREAM_BYTES_MAX = 1 << 20, CALL_BYTES_MAX = 2 * TOOL_CALL_BYTES_MAX };

typedef struct server {
    const config *c;
    device_choice device;
    stack *stacks[CONFIG_LIST_MAX];
    uint32_t stacks_count;
    gpu_monitor *gpus; /* NULL: --gpu off, --gpu-monitor off */
    front *front;
    const char *hosts[CONFIG_LIST_MAX];
    const char *origins[CONFIG_LIST_MAX];
    thread net;
    thread loader;
    progress_line line; /* of the loader */
    status load_status; /* of the loader, when it has ended */
    error load_error;
    _Atomic bool stop_loading; /* set by main, looked at by the loader: no order is needed */
    _Atomic bool loaded;       /* set by the loader as the last thing it does well */
    bool broken;               /* a device has failed: the process ends with an error */
} server;

/* --- opening -------------------- */

static uint32_t pointers(const config_list *list, const char **out) {
    for (uint32_t i = 0; i < list->count; i++) out[i] = list->items[i].p;
    return list->count;
}

/* Connections come out of the same limit as everything else the process opens. */
static status check_descriptors(const config *c, error *err) {
    enum { OTHERS = 256 };
    uint64_t limit = os_descriptors_raise();
    if (limit == 0 || c->connections_max + OTHERS <= limit) return OK;
    return error_set(err, ERR_LIMIT,
                     "%u connections need %u descriptors, the process may have %" PRIu64
                     ": lower --connections-max or raise the limit (ulimit -n)",
                     c->connections_max, c->connections_max + OTHERS, limit);
}

/* On the net thread, when the first request would be answered. */
static void print_ready(void *ctx) {
    const server *s = ctx;
    const char *host = s->c->host.n > 0 ? s->c->host.p : "127.0.0.1";
    bool ipv6 = strchr(host, ':') != NULL;
    char models[128] = "no model"; /* names are short: stack.c */
    if (s->stacks_count > 0)
        (void)snprintf(models, sizeof models, "%u %s, first '%s'", s->stacks_count,
                       s->stacks_count == 1 ? "model" : "models", stack_name(s->stacks[0]));
    (void)fprintf(stderr, "gantry %s ready: http://%s%s%s:%u (%s)\n", GANTRY_VERSION,
                  ipv6 ? "[" : "", host, ipv6 ? "]" : "", front_port(s->front), models);
}

/* The front knows the adapters that the model's stack is going to load. */
static status add_adapters(server *s, error *err) {
    for (uint32_t i = 0; i < s->c->loras.count; i++) {
        lora_arg a;
        TRY(lora_arg_parse(s->c->loras.items[i], &a, err));
        if (front_add_adapter(s->front, a.name, a.path, a.scale, err) != OK)
            return command_blame(a.path, err);
    }
    return OK;
}

static status open_monitor(server *s, error *err) {
    const config *c = s->c;
    if (!c->gpu_monitor || c->gpu == CONFIG_GPU_OFF) return OK;
    const gpu_monitor_options o = {.interval_ms = 1000,
                                   .expected = s->device.backend == &backend_cuda};
    return gpu_monitor_open(&s->gpus, &o, err);
}

static status open_front(server *s, error *err) {
    const config *c = s->c;
    TRY(check_descriptors(c, err));
    front_options o = {
        .http = {.host = c->host.p,
                 .port = (uint16_t)c->port,
                 .connections_max = c->connections_max,
                 .header_bytes_max = (size_t)c->header_bytes_max,
                 .body_bytes_max = (size_t)c->request_bytes_max,
                 .idle_ms_max = c->idle_ms_max,
                 .head_ms_max = c->head_ms_max,
                 .body_ms_max = c->body_ms_max,
                 .stream_bytes_max = STREAM_BYTES_MAX + (size_t)c->choices_max * CALL_BYTES_MAX},
        .requests_max = (c->queue_max + c->parallel) * (s->stacks_count != 0 ? s->stacks_count : 1),
        .credits = c->credits_tokens,
        .choices_max = c->choices_max,
        .stall_ms_max = c->stall_ms_max,
        .request_templates = c->request_templates,
        .api_key = c->api_key.n > 0 ? c->api_key.p : NULL,
        .allowed_hosts = s->hosts,
        .allowed_hosts_count = pointers(&c->allowed_hosts, s->hosts),
        .cors_origins = s->origins,
        .cors_origins_count = pointers(&c->cors_origins, s->origins),
        .gpu_note = s->device.note,
        .gpus = s->gpus,
        .on_ready = print_ready,
        .on_ready_ctx = s,
    };
    TRY(front_open(&s->front, &o, err));
    for (uint32_t i = 0; i < s->stacks_count; i++)
        TRY(front_add_model(s->front, stack_name(s->stacks[i]), stack_link(s->stacks[i]), err));
    return add_adapters(s, err);
}

/* An empty server is a server: it is alive, says why it is not ready, and refuses politely. */
static status serve_nothing(const config *c, error *err) {
    if (c->loras.count > 0)
        return error_set(err, ERR_INVALID,
                         "usage: --lora changes a model, but there is no model: give one with -m "
                         "MODEL");
    log_warn("serve", "no model: give one with -m MODEL (-m gantry-mini is built in); requests "
                      "that want one are refused");
    return OK;
}

static void log_device(const server *s) {
    const config *c = s->c;
    if (s->device.backend == &backend_cuda)
        log_info("gpu", "used: %s", s->device.note);
    else if (c->gpu == CONFIG_GPU_PREFER && c->backend == CONFIG_BACKEND_AUTO)
        log_warn("gpu", "%s (--gpu off silences this)", s->device.note);
}

static status create_stacks(server *s, error *err) {
    const config *c = s->c;
    TRY(device_choose(c, &s->device, err));
    uint32_t given = c->models.count + (uint32_t)c->argc_rest;
    if (given == 0) return serve_nothing(c, err);
    if (given > CONFIG_LIST_MAX)
        return error_set(err, ERR_LIMIT, "%u models, at most %d", given, CONFIG_LIST_MAX);
    if (given > 1 && c->loras.count > 0)
        return error_set(err, ERR_INVALID,
                         "usage: --lora does not say which of %u models it is for: load it with "
                         "POST /v1/load_lora_adapter",
                         given);
    for (uint32_t i = 0; i < given; i++) {
        str name, path;
        str item =
            i < c->models.count ? c->models.items[i] : str_of(c->argv_rest[i - c->models.count]);
        config_model_split(item, &name, &path);
        TRY(stack_create(&s->stacks[i], c, name, path, err));
        s->stacks_count++;
    }
    log_device(s);
    return OK;
}

static void close_all(server *s) {
    if (s->front != NULL) front_close(s->front);
    for (uint32_t i = 0; i < s->stacks_count; i++) stack_close(s->stacks[i]);
    if (s->gpus != NULL) gpu_monitor_close(s->gpus);
}

/* --- loading -------------------- */

static bool on_progress(void *ctx, load_phase phase, uint32_t permille) {
    server *s = ctx;
    progress_show(&s->line, load_phase_name(phase), permille);
    return !s->stop_loading;
}

/* One after the other: each plans with the memory that those before it leave. */
static status load_all(server *s, error *err) {
    uint64_t spoken_for_bytes = 0;
    for (uint32_t i = 0; i < s->stacks_count; i++) {
        stack *k = s->stacks[i];
        progress_begin(&s->line, str_of(stack_name(k)));
        status st = stack_load(k, spoken_for_bytes, &(load_watch){on_progress, s}, err);
        progress_end(&s->line);
        if (st == OK) st = stack_start(k, err);
        if (st != OK) return st;
        spoken_for_bytes += stack_planned_bytes(k);
    }
    return OK;
}

static void loader_main(void *arg) {
    server *s = arg;
    s->load_status = load_all(s, &s->load_error);
    s->loaded = s->load_status == OK;
}

/* --- running -------------------- */

static void net_main(void *arg) { front_run(((server *)arg)->front); }

/* Has the device of a model failed? */
static bool is_broken(const server *s) {
    for (uint32_t i = 0; s->loaded && i < s->stacks_count; i++)
        if (stack_is_broken(s->stacks[i])) return true;
    return false;
}

/* Signals go to this thread only.  While models load, one ends the server.  Later the first one
 * drains, a second one or the drain's deadline stops.  A device that failed drains, too.  Returns
 * when the net thread and the loader have ended. */
static void wait_for_end(server *s, const sigset_t *signals) {
    enum { LOOK_MS = 50 };
    uint64_t stop_at_ns = 0;
    while (!thread_has_ended(&s->net)) {
        struct timespec look = {.tv_nsec = LOOK_MS * 1000000L};
        int got = sigtimedwait(signals, NULL, &look);
        bool ended = thread_has_ended(&s->loader), failed = ended && !s->loaded;
        if (failed || (got > 0 && !s->loaded)) {
            s->stop_loading = true;
            front_stop(s->front);
            break;
        }
        if (!s->broken && is_broken(s)) {
            log_error("serve", "a device has failed: what runs ends, and then this process");
            s->broken = true;
            if (stop_at_ns == 0) {
                front_drain(s->front);
                stop_at_ns = os_now_ns() + (uint64_t)s->c->drain_ms_max * 1000000u;
            }
        } else if (got > 0 && stop_at_ns == 0) {
            log_info("serve", "drain signal=%d drain_ms_max=%u", got, s->c->drain_ms_max);
            stop_at_ns = os_now_ns() + (uint64_t)s->c->drain_ms_max * 1000000u;
            front_drain(s->front);
        } else if (got > 0 || (stop_at_ns != 0 && os_now_ns() > stop_at_ns)) {
            log_warn("serve", "stop: %s", got > 0 ? "second signal" : "the drain took too long");
            front_stop(s->front);
            break;
        }
    }
    thread_join(&s->loader);
    thread_join(&s->net);
}

static status start_all(server *s, error *err) {
    TRY(thread_start(&s->net, "net", net_main, s, err));
    log_info("serve", "listening port=%u models=%u", front_port(s->front), s->stacks_count);
    status st = thread_start(&s->loader, "loader", loader_main, s, err);
    if (st == OK) return OK;
    front_stop(s->front);
    thread_join(&s->net);
    return st;
}

/* What serving ended with; being told to stop is no failure. */
static status verdict(const server *s, error *err) {
    if (s->broken) return error_set(err, ERR_DEVICE, "a device has failed: start this server anew");
    if (s->load_status == OK || s->load_status == ERR_CANCELED) return OK;
    return error_set(err, s->load_status, "%s", s->load_error.msg);
}

status command_serve(const config *c, error *err) {
    server s = {.c = c};
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    status st = OK;
    if (c->pooling == CONFIG_POOLING_NONE)
        st = error_set(err, ERR_INVALID, "usage: --pooling none: a server gives texts one vector");
    /* before a driver starts threads of its own, which would take our signals */
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    if (st == OK) st = create_stacks(&s, err);
    if (st == OK) st = open_monitor(&s, err);
    if (st == OK) st = open_front(&s, err);
    if (st == OK) st = start_all(&s, err);
    if (st == OK) {
        wait_for_end(&s, &signals);
        st = verdict(&s, err);
        if (st == OK) log_info("serve", "stopped");
    }
    close_all(&s);
    return st;
}
