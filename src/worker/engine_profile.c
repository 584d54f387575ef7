/* engine_profile.c - see engine_profile.h. */
#include "worker/engine_profile.h"

#include "base/log.h"
#include "worker/engine_worker.h"
#include "worker/profile_tables.h"

static void release(engine_profile *f) {
    profile_destroy(f->prompt);
    profile_destroy(f->decode);
    *f = (engine_profile){0};
}

static void refuse(const profile_order *order, const error *why, buf *out) {
    wire_put_profile_report(
        out, &(profile_report){.id = order->id, .code = why->code, .message = str_of(why->msg)});
}

static status begin(engine_profile *f, const stepper *s, error *err) {
    backend_profile parts[BACKEND_PARTS_MAX];
    if (s->profile == NULL)
        return error_set(err, ERR_UNSUPPORTED, "profile: nothing here measures its tasks");
    TRY(s->profile(s->ctx, true, err));
    const uint32_t tasks = profile_tasks(parts, s->profiled(s->ctx, parts));
    TRY(profile_create(&f->prompt, f->order.steps, tasks, err));
    return profile_create(&f->decode, f->order.steps, tasks, err);
}

void engine_profile_begin(engine_profile *f, const stepper *s, const profile_order *order,
                          uint64_t now_ns, buf *out) {
    error err = {0};
    if (f->on) {
        (void)error_set(&err, ERR_BUSY, "profile: order %u is being followed", f->order.id);
        refuse(order, &err, out);
        return;
    }
    *f = (engine_profile){
        .on = true, .order = *order, .end_ns = now_ns + (uint64_t)order->ms_max * 1000000};
    if (begin(f, s, &err) == OK) {
        log_info("engine", "profile begins steps=%u ms_max=%u", order->steps, order->ms_max);
        return;
    }
    refuse(order, &err, out);
    engine_profile_cancel(f, s);
}

void engine_profile_step(engine_profile *f, const stepper *s, uint32_t rows, bool has_prompt) {
    backend_profile parts[BACKEND_PARTS_MAX];
    const uint32_t count = s->profiled(s->ctx, parts);
    profile_add(has_prompt ? f->prompt : f->decode, parts, count, rows);
    f->steps++;
}

static void report(const engine_profile *f, const stepper *s, buf *out) {
    backend_profile parts[BACKEND_PARTS_MAX];
    const uint32_t count = s->profiled(s->ctx, parts);
    profile_report r = {.id = f->order.id};
    buf prompt, decode;
    buf_init(&prompt, WIRE_PROFILE_ENTRIES_BYTES_MAX);
    buf_init(&decode, WIRE_PROFILE_ENTRIES_BYTES_MAX);
    profile_table_fill(&r.prompt, &prompt, f->prompt, parts, count);
    profile_table_fill(&r.decode, &decode, f->decode, parts, count);
    const error no_memory = {.code = ERR_NOMEM, .msg = "profile: no memory for the report"};
    if (prompt.failed || decode.failed)
        refuse(&f->order, &no_memory, out);
    else
        wire_put_profile_report(out, &r);
    buf_deinit(&prompt);
    buf_deinit(&decode);
}

void engine_profile_look(engine_profile *f, const stepper *s, uint64_t now_ns, buf *out) {
    if (!f->on || (f->steps < f->order.steps && now_ns < f->end_ns)) return;
    report(f, s, out);
    log_info("engine", "profile ends steps=%u", f->steps);
    engine_profile_cancel(f, s);
}

void engine_profile_cancel(engine_profile *f, const stepper *s) {
    error ignored; /* of a device that is lost */
    if (f->on && s->profile != NULL) (void)!s->profile(s->ctx, false, &ignored);
    release(f);
}
