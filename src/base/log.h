/* log.h - one line per event on stderr: time, level, room, event, key=value with units.
 *
 * Any thread.  A line is built aside and leaves in one write, so lines never mix.
 * Prompt and completion text never goes through here at INFO or above. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

typedef enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF } log_level;

void log_set_level(log_level level);
bool log_is_on(log_level level);

__attribute__((format(printf, 3, 4))) void log_write(log_level level, const char *room,
                                                     const char *fmt, ...);

#define log_debug(room, ...) log_write(LOG_DEBUG, room, __VA_ARGS__)
#define log_info(room, ...)  log_write(LOG_INFO, room, __VA_ARGS__)
#define log_warn(room, ...)  log_write(LOG_WARN, room, __VA_ARGS__)
#define log_error(room, ...) log_write(LOG_ERROR, room, __VA_ARGS__)

/* For anything a client can trigger: at most one line per `every_ms` from this place;
 * the next line that gets through says how many were held back. */
typedef struct log_gate {
    _Atomic uint64_t open_at_ms;
    _Atomic uint32_t held;
} log_gate;

/* May this place log now?  *held gets the number of lines held back since the last one. */
bool log_gate_pass(log_gate *gate, uint32_t every_ms, uint32_t *held);

#define LOG_EVERY(every_ms, level, room, fmt, ...)                      \
    do {                                                                \
        static log_gate gate_;                                          \
        uint32_t held_ = 0;                                             \
        if (log_gate_pass(&gate_, (every_ms), &held_))                  \
            log_write(level, room, "held=%u " fmt, held_, __VA_ARGS__); \
    } while (0)

#endif
