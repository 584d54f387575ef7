/* routes.h - the one list of what this server answers.
 *
 * Paths are written without /v1: every route is reachable with and without that prefix,
 * because some gateways forward nothing else.  A path that ends in a slash takes the rest
 * of the request's path as its tail.  HEAD is allowed wherever GET is.
 * Owner: none (constant table). */
#ifndef API_ROUTES_H
#define API_ROUTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/front.h"
#include "obs/metrics.h"

typedef enum route_scope {
    ROUTE_GUARDED,   /* what a forgotten scope means: needs the key */
    ROUTE_INFERENCE, /* needs the key */
    ROUTE_ADMIN,     /* needs the key; to change something without one: door_change_ok() */
    ROUTE_OPEN       /* health only */
} route_scope;

typedef struct route {
    const char *method;
    const char *path;
    route_scope scope;
    metrics_endpoint metrics;
    size_t body_bytes_max; /* 0: what the server's options say */
    void (*handle)(front *f, http_call *c, str tail);
} route;

const route *route_at(uint32_t i); /* NULL at the end of the table */

typedef struct route_match {
    const route *route; /* NULL: no route with this path and method */
    str tail;           /* what follows a path that ends in a slash, as sent */
    bool path_known;    /* some method is served at this path */
    char allow[48];     /* the methods of this path, for Allow */
} route_match;

route_match route_find(str method, str path);

#endif
