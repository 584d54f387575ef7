/* sock.c - see sock.h. */
#include "net/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "base/num.h"
#include "base/os.h"
#include "base/str.h"

enum {
    BACKLOG = 1024,
    /* A client whose machine vanished sends no end: probes find out after 60 + 4 * 15 s. */
    PROBE_AFTER_S = 60,
    PROBE_EVERY_S = 15,
    PROBES = 4,
};

typedef union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} address;

static socklen_t address_bytes(const address *a) {
    return a->any.sa_family == AF_INET6 ? sizeof a->v6 : sizeof a->v4;
}

static void set_option(int fd, int level, int option, int value) {
    (void)setsockopt(fd, level, option, &value, sizeof value);
}

static status bind_and_listen(int fd, const address *a, const char *host, uint16_t port,
                              error *err) {
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    /* accepted sockets inherit these */
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, PROBE_AFTER_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, PROBE_EVERY_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, PROBES);
    if (a->any.sa_family == AF_INET6) {
        bool all = memcmp(&a->v6.sin6_addr, &in6addr_any, sizeof in6addr_any) == 0;
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, !all);
    }
    if (os_fault(OS_CALL_OPEN) || bind(fd, &a->any, address_bytes(a)) != 0 ||
        listen(fd, BACKLOG) != 0)
        return error_set(err, ERR_IO, "http: cannot listen on %s port %u: %s", host, (unsigned)port,
                         strerror(errno)); /* NOLINT: a constant text */
    return OK;
}

static status listen_on(int *out, const address *a, const char *host, uint16_t port, error *err) {
    int fd = os_fault(OS_CALL_OPEN)
                 ? -1
                 : socket(a->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set(err, ERR_IO, "http: no socket for %s port %u: %s", host, (unsigned)port,
                         strerror(errno)); /* NOLINT: a constant text */
    status st = bind_and_listen(fd, a, host, port, err);
    if (st != OK) {
        os_close(fd);
        return st;
    }
    *out = fd;
    return OK;
}

static status listen_on_all(int *fd, uint16_t port, error *err) {
    address v6 = {.v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)}};
    address v4 = {.v4 = {.sin_family = AF_INET, .sin_port = htons(port)}};
    /* a kernel without IPv6 has no such socket; any other failure repeats with IPv4 */
    if (listen_on(fd, &v6, "[::]", port, NULL) == OK) return OK;
    return listen_on(fd, &v4, "0.0.0.0", port, err);
}

static status address_of(address *a, const char *host, uint16_t port, error *err) {
    const char *text = strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
    *a = (address){.v4 = {.sin_family = AF_INET, .sin_port = htons(port)}};
    if (inet_pton(AF_INET, text, &a->v4.sin_addr) == 1) return OK;
    *a = (address){.v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)}};
    if (inet_pton(AF_INET6, text, &a->v6.sin6_addr) == 1) return OK;
    return error_set(err, ERR_INVALID, "http: host '%s' is no IPv4 or IPv6 address", host);
}

status sock_listen(int *fd, const char *host, uint16_t port, error *err) {
    address a;
    if (host == NULL || host[0] == '\0') return listen_on_all(fd, port, err);
    TRY(address_of(&a, host, port, err));
    return listen_on(fd, &a, host, port, err);
}

status sock_connect(int *out, const char *host, uint16_t port, uint32_t wait_s, error *err) {
    address a;
    TRY(address_of(&a, host, port, err));
    int fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval wait = {.tv_sec = (time_t)wait_s};
    if (fd >= 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    }
    if (fd < 0 || connect(fd, &a.any, address_bytes(&a)) != 0) {
        status st = error_set(err, ERR_IO, "http: cannot connect to %s port %u: %s", host,
                              (unsigned)port, strerror(errno)); /* NOLINT: a constant text */
        if (fd >= 0) os_close(fd);
        return st;
    }
    *out = fd;
    return OK;
}

uint16_t sock_port(int fd) {
    address a = {0};
    socklen_t bytes = sizeof a;
    if (getsockname(fd, &a.any, &bytes) != 0) return 0;
    return ntohs(a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
}

void sock_peer_text(const struct sockaddr *from, char out[SOCK_PEER_BYTES]) {
    static const char mapped[] = "::ffff:"; /* IPv4 on a dual socket: RFC 4291, 2.5.5.2 */
    char text[SOCK_PEER_BYTES] = "?";
    address a = {0};
    if (from != NULL && from->sa_family == AF_INET) {
        memcpy(&a.v4, from, sizeof a.v4);
        (void)inet_ntop(AF_INET, &a.v4.sin_addr, text, sizeof text);
    } else if (from != NULL && from->sa_family == AF_INET6) {
        memcpy(&a.v6, from, sizeof a.v6);
        (void)inet_ntop(AF_INET6, &a.v6.sin6_addr, text, sizeof text);
    }
    bool is_mapped = strncmp(text, mapped, sizeof mapped - 1) == 0;
    str_copy_c(out, SOCK_PEER_BYTES, str_of(is_mapped ? text + sizeof mapped - 1 : text));
}

status sock_receive(int fd, void *bytes, size_t room, size_t *got, error *err) {
    ssize_t n = -1;
    do n = recv(fd, bytes, room, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return error_set(err, ERR_IO, "http: no answer: %s",
                         strerror(errno)); /* NOLINT: a constant text */
    *got = (size_t)n;
    return OK;
}

void sock_cut(int fd) { (void)shutdown(fd, SHUT_RDWR); }

void sock_reset(int fd) {
    /* Dissolving the association sends a reset at once; SO_LINGER would let the orderly end of
     * a shutdown() leave first. */
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    (void)connect(fd, &none, sizeof none);
}

bool sock_is_at_end(int fd) {
    char byte;
    ssize_t n = recv(fd, &byte, sizeof byte, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

int sock_dup(int fd) { return fcntl(fd, F_DUPFD_CLOEXEC, 0); }

sock_drained sock_drain(int fd, uint64_t *bytes_left) {
    char waste[16384];
    while (*bytes_left > 0) {
        size_t want = (size_t)num_min_u64(*bytes_left, sizeof waste);
        ssize_t n = os_fault(OS_CALL_READ) ? -1 : recv(fd, waste, want, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return SOCK_DRAINED_EMPTY;
        if (n <= 0) return SOCK_DRAINED_END;
        *bytes_left -= (uint64_t)n;
    }
    return SOCK_DRAINED_FULL;
}
