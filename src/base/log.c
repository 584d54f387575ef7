/* log.c - see log.h. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "base/os.h"

static _Atomic int level_min = LOG_INFO;

void log_set_level(log_level level) { level_min = (int)level; }

bool log_is_on(log_level level) { return (int)level >= level_min; }

void log_write(log_level level, const char *room, const char *fmt, ...) {
    static const char *const names[] = {"DEBUG", "INFO", "WARN", "ERROR"};
    if (!log_is_on(level) || level >= LOG_OFF) return;
    char line[1024];
    uint64_t wall_ms = os_wall_ms();
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm t;
    if (gmtime_r(&seconds, &t) == NULL) t = (struct tm){0};
    int n = snprintf(line, sizeof line, "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ %s %s ",
                     t.tm_year + 1900, t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec,
                     (unsigned)(wall_ms % 1000), names[level], room);
    if (n < 0) return;
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
    va_end(ap);
    if (m < 0) return;
    size_t end = (size_t)n + (size_t)m;
    if (end > sizeof line - 2) end = sizeof line - 2;
    for (size_t i = 0; i < end; i++) /* a name from outside must not start a line of its own */
        if ((unsigned char)line[i] < 0x20) line[i] = ' ';
    line[end++] = '\n';
    (void)os_write_full(2, line, end, NULL);
}

bool log_gate_pass(log_gate *gate, uint32_t every_ms, uint32_t *held) {
    uint64_t now_ms = os_now_ns() / 1000000;
    uint64_t open_at_ms = gate->open_at_ms;
    if (now_ms < open_at_ms ||
        !atomic_compare_exchange_strong(&gate->open_at_ms, &open_at_ms, now_ms + every_ms)) {
        atomic_fetch_add(&gate->held, 1);
        return false;
    }
    *held = atomic_exchange(&gate->held, 0);
    return true;
}
