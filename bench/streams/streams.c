/* streams.c - many concurrent event streams on one net thread: what they cost, and how soon a
 * client that hangs up is noticed.
 *
 *   streams [streams] [events] [pace_ms]         defaults: 2000 50 50
 *
 * Two processes, so that the server's processor time is its own: the parent serves, the child
 * is all the clients.  Phases: open all streams; one event per stream and pace_ms (tokens at a
 * human pace); one event as soon as the one before was taken (as fast as it goes); hang up at
 * random, one every 2 ms.  Prints one row per phase. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/os.h"
#include "net/http.h"
#include "net/loop.h"
#include "net/sse.h"

enum { HANGUPS = 200, HANGUP_EVERY_MS = 2, STREAMS_MAX = 20000 };

typedef enum phase { PHASE_OPEN, PHASE_PACED, PHASE_FLOOD, PHASE_HANGUP, PHASE_END } phase;

/* What both processes see. */
typedef struct shared {
    _Atomic uint32_t phase;   /* set by the server */
    _Atomic uint32_t heads;   /* answers that have begun, counted by the clients */
    _Atomic uint64_t events;  /* that have arrived */
    _Atomic uint32_t hung_up; /* set by the clients */
    _Atomic uint64_t left_ns[STREAMS_MAX];
} shared;

typedef struct stream {
    http_call *call; /* NULL: none */
    uint32_t events_left;
} stream;

typedef struct bench {
    shared *sh;
    loop *loop;
    uint32_t streams, events, pace_ms;
    stream list[STREAMS_MAX];
    uint32_t open;
    uint64_t next_ns;
    uint32_t paced; /* events sent to each stream in the paced phase */
    double noticed_ms[HANGUPS];
    uint32_t noticed;
    uint64_t start_ns, cpu_start_ns, rss_idle_bytes;
    buf event;
} bench;

static uint64_t cpu_ns(void) {
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000u +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000u;
}

static uint64_t rss_bytes(void) {
    unsigned long pages = 0;
    FILE *fp = fopen("/proc/self/statm", "re");
    if (fp == NULL) return 0;
    if (fscanf(fp, "%*u %lu", &pages) != 1) pages = 0;
    (void)fclose(fp);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* --- server ------------------------------------------------------------------------ */
static void begin_row(bench *b) {
    b->start_ns = os_now_ns();
    b->cpu_start_ns = cpu_ns();
}

static void print_row(const bench *b, const char *name, uint64_t events) {
    double wall_s = (double)(os_now_ns() - b->start_ns) / 1e9;
    double cpu_s = (double)(cpu_ns() - b->cpu_start_ns) / 1e9;
    printf("%-8s %7u %9llu %8.2f %10.0f %10.0f%% %9.1f\n", name, b->open,
           (unsigned long long)events, wall_s, (double)events / wall_s, 100.0 * cpu_s / wall_s,
           events > 0 ? cpu_s * 1e6 / (double)events : 0.0);
}

static void send_event(bench *b, stream *s) {
    if (s->call == NULL || s->events_left == 0) return;
    if (http_stream_write(s->call, buf_view(&b->event))) s->events_left--;
}

static void on_head(void *ctx, http_call *c) { (void)ctx, (void)c; }

static void on_request(void *ctx, http_call *c) {
    bench *b = ctx;
    str text = http_call_query(c, "i");
    uint64_t i = 0;
    if (!str_to_u64(text, &i) || i >= b->streams) {
        http_respond(c, 400, NULL, S(""));
        return;
    }
    b->list[i].call = c;
    b->open++;
    http_call_set_user(c, &b->list[i]);
    http_stream_begin(c, 200, "text/event-stream");
}

static void on_drained(void *ctx, http_call *c) {
    bench *b = ctx;
    if (b->sh->phase == PHASE_FLOOD) send_event(b, http_call_user(c));
}

static void on_closed(void *ctx, http_call *c, bool finished) {
    bench *b = ctx;
    stream *s = http_call_user(c);
    (void)finished;
    if (s == NULL) return;
    uint64_t left_ns = b->sh->left_ns[s - b->list];
    if (left_ns != 0 && b->noticed < HANGUPS)
        b->noticed_ms[b->noticed++] = (double)(os_now_ns() - left_ns) / 1e6;
    s->call = NULL;
    b->open--;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void next_phase(bench *b, phase p) {
    b->sh->phase = p;
    for (uint32_t i = 0; i < b->streams; i++) b->list[i].events_left = b->events;
    begin_row(b);
    for (uint32_t i = 0; p == PHASE_FLOOD && i < b->streams; i++) send_event(b, &b->list[i]);
}

static void pace(bench *b) {
    if (b->paced == b->events || os_now_ns() < b->next_ns) return;
    b->next_ns = os_now_ns() + (uint64_t)b->pace_ms * 1000000u;
    b->paced++;
    for (uint32_t i = 0; i < b->streams; i++) send_event(b, &b->list[i]);
}

static void print_hangups(bench *b) {
    qsort(b->noticed_ms, b->noticed, sizeof b->noticed_ms[0], by_value);
    printf("\nhang-ups noticed: %u of %u; after ms: median %.3f, 99%% %.3f, max %.3f\n", b->noticed,
           (unsigned)b->sh->hung_up, b->noticed_ms[b->noticed / 2],
           b->noticed_ms[b->noticed * 99 / 100], b->noticed_ms[b->noticed - 1]);
}

/* Every millisecond: is the phase over? */
static void on_tick(void *ctx) {
    bench *b = ctx;
    uint64_t per_phase = (uint64_t)b->streams * b->events;
    if (b->sh->phase == PHASE_OPEN && b->sh->heads == b->streams) {
        print_row(b, "open", 0);
        uint64_t each = (rss_bytes() - b->rss_idle_bytes) / b->streams;
        printf("%-8s %llu bytes of resident memory per stream\n", "", (unsigned long long)each);
        next_phase(b, PHASE_PACED);
    } else if (b->sh->phase == PHASE_PACED) {
        pace(b);
        if (b->sh->events < per_phase) return;
        print_row(b, "paced", per_phase);
        next_phase(b, PHASE_FLOOD);
    } else if (b->sh->phase == PHASE_FLOOD && b->sh->events == 2 * per_phase) {
        print_row(b, "flood", per_phase);
        next_phase(b, PHASE_HANGUP);
    } else if (b->sh->phase == PHASE_HANGUP && b->noticed == HANGUPS) {
        print_row(b, "hang-up", 0);
        print_hangups(b);
        b->sh->phase = PHASE_END;
        loop_stop(b->loop);
    }
}

/* --- clients ------------------------------------------------------------------------- */
static int connect_one(uint16_t port, uint32_t i) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    char request[128];
    int n = snprintf(request, sizeof request, "GET /stream?i=%u HTTP/1.1\r\nHost: a\r\n\r\n", i);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0 ||
        send(fd, request, (size_t)n, MSG_NOSIGNAL) != n) {
        perror("client");
        _exit(1);
    }
    return fd;
}

static uint32_t count(const char *bytes, size_t n, const char *what, size_t what_n) {
    uint32_t found = 0;
    for (const char *p = bytes; (p = memmem(p, n - (size_t)(p - bytes), what, what_n)) != NULL;
         p += what_n)
        found++;
    return found;
}

/* A piece that is cut inside "data: " would be miscounted; pieces here are whole events. */
static void receive(shared *sh, int fd) {
    char bytes[65536];
    ssize_t n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n <= 0) return;
    uint32_t heads = count(bytes, (size_t)n, "HTTP/1.1 200", 12);
    uint32_t events = count(bytes, (size_t)n, "data: ", 6);
    if (heads > 0) atomic_fetch_add(&sh->heads, heads);
    if (events > 0) atomic_fetch_add(&sh->events, events);
}

static void hang_up(shared *sh, int *fds, uint32_t streams) {
    unsigned seed = 1;
    while (sh->hung_up < HANGUPS) {
        uint32_t i = (uint32_t)rand_r(&seed) % streams;
        if (fds[i] < 0) continue;
        sh->left_ns[i] = os_now_ns();
        os_close(fds[i]);
        fds[i] = -1;
        sh->hung_up++;
        os_sleep_ms(HANGUP_EVERY_MS);
    }
}

static void run_clients(shared *sh, uint16_t port, uint32_t streams) {
    static int fds[STREAMS_MAX];
    int ep = epoll_create1(EPOLL_CLOEXEC);
    for (uint32_t i = 0; i < streams; i++) {
        fds[i] = connect_one(port, i);
        struct epoll_event ev = {.events = EPOLLIN, .data.fd = fds[i]};
        (void)epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &ev);
    }
    while (sh->phase < PHASE_HANGUP) {
        struct epoll_event evs[256];
        int n = epoll_wait(ep, evs, 256, 10);
        for (int i = 0; i < n; i++) receive(sh, evs[i].data.fd);
    }
    hang_up(sh, fds, streams);
    while (sh->phase < PHASE_END) os_sleep_ms(1);
}

/* --- main ------------------------------------------------------------------------------ */
static uint32_t argument(int argc, char **argv, int i, uint32_t preset) {
    uint64_t v = 0;
    if (i >= argc || !str_to_u64(str_of(argv[i]), &v) || v == 0) return preset;
    return v < STREAMS_MAX ? (uint32_t)v : STREAMS_MAX;
}

static int serve(bench *b) {
    error err = {0};
    http_server *server = NULL;
    http_options options = {.host = "127.0.0.1", .connections_max = STREAMS_MAX};
    http_handler handler = {.ctx = b,
                            .on_head = on_head,
                            .on_request = on_request,
                            .on_drained = on_drained,
                            .on_closed = on_closed};
    if (loop_create(&b->loop, &err) != OK ||
        http_server_open(&server, b->loop, &options, &handler, &err) != OK ||
        loop_every(b->loop, 1, on_tick, b, &err) != OK) {
        (void)fprintf(stderr, "streams: %s\n", err.msg);
        return 1;
    }
    pid_t clients = fork();
    if (clients == 0) {
        run_clients(b->sh, http_server_port(server), b->streams);
        _exit(0);
    }
    b->rss_idle_bytes = rss_bytes();
    begin_row(b);
    loop_run(b->loop);
    http_server_close(server);
    loop_destroy(b->loop);
    (void)waitpid(clients, NULL, 0);
    return 0;
}

int main(int argc, char **argv) {
    bench *b = mem_calloc(1, sizeof *b);
    void *p = mmap(NULL, sizeof(shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return 1;
    b->sh = p;
    b->streams = argument(argc, argv, 1, 2000);
    b->events = argument(argc, argv, 2, 50);
    b->pace_ms = argument(argc, argv, 3, 50);
    if (b->streams < HANGUPS) b->streams = HANGUPS;
    buf_init(&b->event, 4096);
    sse_event(&b->event,
              S("{\"id\":\"chatcmpl-0123456789\",\"object\":\"chat.completion.chunk\",\"choices\":"
                "[{\"index\":0,\"delta\":{\"content\":\" token\"},\"finish_reason\":null}]}"));
    log_set_level(LOG_WARN);
    printf("%u streams, %u events of %zu bytes each per phase, pace %u ms\n\n", b->streams,
           b->events, b->event.n, b->pace_ms);
    printf("%-8s %7s %9s %8s %10s %11s %9s\n", "phase", "streams", "events", "seconds", "events/s",
           "server CPU", "us/event");
    int rc = serve(b);
    buf_deinit(&b->event);
    mem_free(b);
    return rc;
}
