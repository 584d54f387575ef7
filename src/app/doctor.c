/* doctor.c - `gantry doctor`: a list of checks of this machine, each with what would help. */
#include <stdarg.h>
#include <stdio.h>

#include "app/commands.h"
#include "app/doctor_internal.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "gpu/gpu_json.h"
#include "json/write.h"

enum { OUTPUT_BYTES_MAX = 1 << 20 };

static const char *const verdict_names[] = {
#define DOCTOR_VERDICT_NAME(id, name) name,
    DOCTOR_VERDICTS(DOCTOR_VERDICT_NAME)
#undef DOCTOR_VERDICT_NAME
};

/* --- writing down -------------------- */

void doctor_say(doctor *d, const char *name, doctor_verdict verdict, const char *fmt, ...) {
    va_list args;
    ASSERT(d->count < DOCTOR_CHECKS_MAX);
    doctor_check *k = &d->checks[d->count++];
    *k = (doctor_check){.name = name, .verdict = verdict};
    va_start(args, fmt);
    (void)vsnprintf(k->text, sizeof k->text, fmt, args);
    va_end(args);
}

void doctor_fix(doctor *d, const char *fmt, ...) {
    va_list args;
    ASSERT(d->count > 0);
    doctor_check *k = &d->checks[d->count - 1];
    va_start(args, fmt);
    (void)vsnprintf(k->fix, sizeof k->fix, fmt, args);
    va_end(args);
}

static uint32_t count_of(const doctor *d, doctor_verdict verdict) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < d->count; i++) count += d->checks[i].verdict == verdict;
    return count;
}

/* --- telling -------------------- */

static void put_text(buf *out, const doctor *d) {
    for (uint32_t i = 0; i < d->count; i++) {
        const doctor_check *k = &d->checks[i];
        buf_printf(out, "%-4s  %-12s %s\n", verdict_names[k->verdict], k->name, k->text);
        if (k->fix[0] != '\0') buf_printf(out, "%-4s  %-12s -> %s\n", "", "", k->fix);
    }
    buf_printf(out, "\n%u fine, %u to look at, %u that do not work\n", count_of(d, DOCTOR_OK),
               count_of(d, DOCTOR_WARN), count_of(d, DOCTOR_FAIL));
}

static void put_json(buf *out, const doctor *d) {
    json_writer w;
    json_writer_init(&w, out);
    json_begin_object(&w);
    json_kv_str(&w, "version", S(GANTRY_VERSION));
    for (int v = 0; v < DOCTOR_VERDICT_COUNT; v++)
        json_kv_uint(&w, verdict_names[v], count_of(d, (doctor_verdict)v));
    json_kv_array(&w, "checks");
    for (uint32_t i = 0; i < d->count; i++) {
        const doctor_check *k = &d->checks[i];
        json_begin_object(&w);
        json_kv_str(&w, "check", str_of(k->name));
        json_kv_str(&w, "verdict", str_of(verdict_names[k->verdict]));
        json_kv_str(&w, "text", str_of(k->text));
        gpu_json_text(&w, "fix", k->fix);
        json_end_object(&w);
    }
    json_end_array(&w);
    json_end_object(&w);
    buf_put_char(out, '\n');
}

/* The first of those that failed stands for all. */
static status verdict(const doctor *d, error *err) {
    for (uint32_t i = 0; i < d->count; i++)
        if (d->checks[i].verdict == DOCTOR_FAIL)
            return error_set(err, ERR_DEVICE, "%u of %u checks failed, first '%s': %s",
                             count_of(d, DOCTOR_FAIL), d->count, d->checks[i].name,
                             d->checks[i].text);
    return OK;
}

status command_doctor(const config *c, error *err) {
    buf out;
    TRY(command_no_args(c, err));
    doctor *d = mem_calloc(1, sizeof *d);
    d->c = c;
    doctor_check_machine(d);
    doctor_check_gpus(d);
    buf_init(&out, OUTPUT_BYTES_MAX);
    if (c->json)
        put_json(&out, d);
    else
        put_text(&out, d);
    status st = buf_status(&out, "doctor", err);
    if (st == OK) st = command_write_stdout(out.p, out.n, err);
    if (st == OK) st = verdict(d, err);
    buf_deinit(&out);
    mem_free(d);
    return st;
}
