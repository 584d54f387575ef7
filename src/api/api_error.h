/* api_error.h - everything that can be wrong with a request, as HTTP and OpenAI say it.
 *
 * One table (api_error.c) gives each kind its HTTP status, `type` and `code`.  A fault is
 * a plain value: it is filled where the mistake is found and written where it is answered.
 * Owner: none. */
#ifndef API_API_ERROR_H
#define API_API_ERROR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "wire/wire.h"

typedef enum api_kind {
    API_OK,
    API_INVALID,        /* a field has the wrong type or is out of range */
    API_UNSUPPORTED,    /* a field asks for something this server does not do */
    API_CONTEXT_LENGTH, /* the prompt does not fit */
    API_PROMPT,         /* messages or ids themselves are wrong */
    API_TEMPLATE,       /* the model's chat template cannot be used */
    API_TEMPLATE_ERROR, /* it refuses these messages, or fails on them */
    API_UNAUTHORIZED,
    API_FORBIDDEN,
    API_NO_ROUTE,
    API_NO_MODEL,
    API_METHOD,
    API_TOO_LARGE,
    API_MEDIA_TYPE,
    API_REPLY_LIMIT, /* the answer outgrew what a plain reply may hold */
    API_QUEUE_FULL,  /* 503, not 429: the server is full, the client broke no quota of its own */
    API_BUSY,        /* what is asked for is being done for another call */
    API_DRAINING,
    API_NOT_READY,
    API_STALLED, /* a model's step loop shows no life */
    API_NOMEM,
    API_TIMEOUT,
    API_CANCELED,
    API_DEVICE,
    API_INTERNAL,
    API_KIND_COUNT
} api_kind;

typedef struct api_fault {
    api_kind kind;
    char param[96]; /* path of the field, "" for none */
    char message[512];
} api_fault;

/* The row of a kind. */
typedef struct api_error_row {
    const char *type;
    const char *code; /* NULL: null */
    unsigned http_status;
    uint32_t retry_after_s; /* 0: no Retry-After */
} api_error_row;
const api_error_row *api_error_row_of(api_kind kind);

/* Fill *f with a message; param may be NULL.  Returns false, so that a check can say
 * `return api_fault_set(...)`. */
__attribute__((format(printf, 4, 5))) bool api_fault_set(api_fault *f, api_kind kind,
                                                         const char *param, const char *fmt, ...);

/* What a GEN_ERROR event means to a client. */
void api_fault_from_event(api_fault *f, const gen_event *e);

/* Append {"error":{"message","type","param","code"}}. */
void api_error_write(buf *out, const api_fault *f);

#endif
