/* door.h - who may come in: host, origin and key of a request, before anything is read.
 *
 * Host:   a server on loopback answers only to loopback names, so that a name an attacker
 *         points at 127.0.0.1 (DNS rebinding) opens nothing.
 * Origin: a browser page of another origin is refused unless the operator lists it.
 * Key:    compared as BLAKE2b hashes in constant time, whatever its length.
 * Change: without a key, what changes the server is open to loopback clients only.
 * Owner: the net thread. */
#ifndef API_DOOR_H
#define API_DOOR_H

#include <stdbool.h>
#include <stdint.h>

#include "api/api_error.h"
#include "api/front.h"

enum { DOOR_HASH_BYTES = 32 };

typedef struct door {
    const front_options *options; /* borrowed */
    bool loopback;                /* bound to a loopback address */
    bool guarded;                 /* a key is set */
    uint8_t key_hash[DOOR_HASH_BYTES];
} door;

void door_init(door *d, const front_options *options);

/* What one request says about itself; p == NULL where a header is absent. */
typedef struct door_visit {
    str host;
    str origin;
    str authorization;
    str api_key; /* x-api-key */
} door_visit;

/* Each answers false and fills *f when the request must be refused. */
bool door_host_ok(const door *d, const door_visit *v, api_fault *f);
bool door_origin_ok(const door *d, const door_visit *v, api_fault *f);
bool door_key_ok(const door *d, const door_visit *v, api_fault *f);
/* May it change the server?  With a key, whoever has it; without one, only clients of this
 * machine.  `peer` is the address of the client's end of the connection. */
bool door_change_ok(const door *d, str peer, api_fault *f);

/* Is this origin one of the listed ones, whose pages may read our answers? */
bool door_origin_listed(const door *d, str origin);

/* Is that the name or address of this machine's loopback, with or without a port? */
bool door_is_loopback(str host);

#endif
