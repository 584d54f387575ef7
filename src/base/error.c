/* error.c - see error.h. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

#undef error_set
status error_set(error *err, status code, const char *fmt, ...) {
    if (err == NULL) return code;
    /* The text may quote err->msg itself (adding context), so it is built aside. */
    char msg[sizeof err->msg];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    err->code = code;
    (void)snprintf(err->msg, sizeof err->msg, "%s", msg);
    return code;
}

const char *status_name(status code) {
    static const char *const names[] = {
#define STATUS_NAME(name) #name,
        STATUS_CODES(STATUS_NAME)
#undef STATUS_NAME
    };
    return (unsigned)code < STATUS_COUNT ? names[code] : "?";
}
