/* sock.h - the socket calls of this room, in one place.
 *
 * Descriptors belong to the caller.  Any thread. */
#ifndef NET_SOCK_H
#define NET_SOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct sockaddr;

/* Listen on host (an IPv4 or IPv6 address, "localhost" = 127.0.0.1, NULL or "" = all, both
 * families where the system has them) and port (0: any free one). */
NODISCARD status sock_listen(int *fd, const char *host, uint16_t port, error *err);
uint16_t sock_port(int fd);

/* Connect to such a host and port.  The socket blocks; a connection, a read or a write that takes
 * longer than wait_s seconds fails. */
NODISCARD status sock_connect(int *fd, const char *host, uint16_t port, uint32_t wait_s,
                              error *err);

enum { SOCK_PEER_BYTES = 48 };
/* The address as text, without port; an IPv4 client of a dual socket reads as IPv4. */
void sock_peer_text(const struct sockaddr *address, char out[SOCK_PEER_BYTES]);

/* What has come on a connected socket, waiting for it; 0 bytes at the end. */
NODISCARD status sock_receive(int fd, void *bytes, size_t room, size_t *got, error *err);

/* Shut both directions: whoever waits on the socket wakes and sees its end.  Bytes that were
 * sent already are still delivered. */
void sock_cut(int fd);
/* End with a reset, which no peer can take for a clean end.  Unsent bytes are lost. */
void sock_reset(int fd);
/* Has the peer closed (at least its sending half), with nothing left to read? */
bool sock_is_at_end(int fd);
/* A second descriptor of the same socket; -1 when there is none to be had. */
int sock_dup(int fd);

typedef enum sock_drained {
    SOCK_DRAINED_EMPTY, /* nothing more there for the moment */
    SOCK_DRAINED_END,   /* the peer has closed, or the socket failed */
    SOCK_DRAINED_FULL,  /* *bytes_left is used up */
} sock_drained;
/* Read and forget what has arrived, at most *bytes_left, which is counted down. */
sock_drained sock_drain(int fd, uint64_t *bytes_left);

#endif
