/* error.h - one way to fail.
 *
 * Every fallible function returns `status` (OK == 0) and takes an optional
 * `error *err` as its last parameter.  On failure it fills *err and returns the
 * same code; on success *err is untouched.  Owner: none (plain values). */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

/* X(name): each code means something to a client; api/api_error.c maps them to HTTP. */
#define STATUS_CODES(X) \
    X(OK)               \
    X(ERR_NOMEM)        \
    X(ERR_IO)           \
    X(ERR_FORMAT)       \
    X(ERR_UNSUPPORTED)  \
    X(ERR_INVALID)      \
    X(ERR_LIMIT)        \
    X(ERR_BUSY)         \
    X(ERR_NOT_FOUND)    \
    X(ERR_TIMEOUT)      \
    X(ERR_CANCELED)     \
    X(ERR_DEVICE)       \
    X(ERR_INTERNAL)

typedef enum status {
#define STATUS_ENUM(name) name,
    STATUS_CODES(STATUS_ENUM)
#undef STATUS_ENUM
        STATUS_COUNT
} status;

typedef struct error {
    status code;
    char msg[768]; /* room, object, what is wrong, the two numbers that disagree */
} error;

#define NODISCARD __attribute__((warn_unused_result))

/* Fill *err (may be NULL) and return `code`, so callers write
 * `return error_set(err, ERR_FORMAT, "...")`. */
__attribute__((format(printf, 3, 4))) status error_set(error *err, status code, const char *fmt,
                                                       ...);

/* The static analyzer does not know that error_set() returns its code. */
#ifdef __clang_analyzer__
#define error_set(err, code, ...) (error_set((err), (code), __VA_ARGS__), (code))
#endif

/* "ERR_FORMAT" and so on; "?" for a number that is no code. */
const char *status_name(status code);

/* Forward a failure.  Only where nothing needs releasing. */
#define TRY(expr)                  \
    do {                           \
        status st_ = (expr);       \
        if (st_ != OK) return st_; \
    } while (0)

#endif
