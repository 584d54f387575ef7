/* test_ring.c - ring.h: whole frames in order, back-pressure, two threads.
 *
 * The two-thread test sends frames whose bytes follow from their number, so a lost, cut
 * or mixed frame is seen; under ThreadSanitizer it also proves the ordering claim. */
#include "base/os.h"
#include "base/ring.h"
#include "base/thread.h"
#include "test.h"

#include <errno.h>
#include <poll.h>

static bool is_readable(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

/* xorshift32 */
static uint32_t next_random(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

TEST(ring_returns_frames_in_order_over_the_wrap) {
    ring *r = NULL;
    CHECK_EQ(ring_create(&r, 97, NULL), OK);
    uint32_t state = 7, sent = 0, received = 0, wrong = 0;
    char frame[97], got[97];
    while (received < 5000) {
        uint32_t bytes = 1 + (sent * 7) % 40;
        memset(frame, (int)sent, bytes);
        if (next_random(&state) % 3 != 0 && ring_send(r, frame, bytes)) {
            sent++;
        } else if (received < sent) {
            uint32_t want = 1 + (received * 7) % 40;
            wrong += ring_next_bytes(r) != want;
            ring_recv(r, got);
            wrong += got[0] != (char)received || got[want - 1] != (char)received;
            received++;
        }
    }
    CHECK_EQ(wrong, 0);
    while (ring_next_bytes(r) != 0) ring_drop(r);
    ring_destroy(r);
}

TEST(ring_fits_exactly_its_bytes) {
    ring *r = NULL;
    char frame[100] = {0};
    CHECK_EQ(ring_create(&r, 40, NULL), OK);
    CHECK(!ring_send(r, frame, 37)); /* 4 bytes of length */
    CHECK(ring_send(r, frame, 36));
    CHECK(!ring_has_room(r, 1));
    ring_drop(r);
    CHECK(ring_send(r, frame, 16) && ring_send(r, frame, 16));
    CHECK(!ring_send(r, frame, 1));
    CHECK(!ring_send(r, frame, UINT32_MAX));
    CHECK(!ring_send(r, frame, UINT32_MAX - 3));
    ring_destroy(r);
    ring_destroy(NULL);
}

TEST(ring_signals_frames_and_room) {
    ring *r = NULL;
    char frame[32] = {0};
    CHECK_EQ(ring_create(&r, 40, NULL), OK);
    CHECK(!is_readable(ring_fd(r)));
    CHECK(ring_send(r, frame, 20));
    CHECK(is_readable(ring_fd(r)));
    os_event_clear(ring_fd(r));
    CHECK(!is_readable(ring_fd(r)));
    CHECK_EQ(ring_next_bytes(r), 20);
    CHECK(!is_readable(ring_room_fd(r)));
    CHECK(!ring_send(r, frame, 30));
    CHECK(!is_readable(ring_room_fd(r)));
    ring_drop(r);
    CHECK(is_readable(ring_room_fd(r)));
    ring_destroy(r);
}

TEST(ring_still_signals_room_after_a_smaller_frame_fitted) {
    ring *r = NULL;
    char frame[32] = {0};
    CHECK_EQ(ring_create(&r, 40, NULL), OK);
    CHECK(ring_send(r, frame, 16));
    CHECK(!ring_send(r, frame, 30));
    CHECK(ring_send(r, frame, 4));
    ring_drop(r);
    CHECK(is_readable(ring_room_fd(r)));
    ring_destroy(r);
}

TEST(ring_create_reports_what_the_system_refuses) {
    ring *r = NULL;
    error err = {0};
    os_fail_after(OS_CALL_MMAP, 0, ENOMEM);
    CHECK_EQ(ring_create(&r, 4096, &err), ERR_NOMEM);
    os_fail_after(OS_CALL_MMAP, -1, 0);
    for (int after = 0; after < 2; after++) {
        os_fail_after(OS_CALL_EVENT, after, EMFILE);
        CHECK_EQ(ring_create(&r, 4096, &err), ERR_IO);
        os_fail_after(OS_CALL_EVENT, -1, 0);
    }
    CHECK(r == NULL);
}

/* --- two threads -------------------- */

enum { FRAMES = 100000, FRAME_BYTES_MAX = 200, RING_BYTES = 1024 };

static uint32_t fill(unsigned char *frame, uint32_t number) {
    uint32_t state = number * 2654435761u + 1;
    uint32_t bytes = 4 + next_random(&state) % (FRAME_BYTES_MAX - 4);
    memcpy(frame, &number, sizeof number);
    for (uint32_t i = 4; i < bytes; i++) frame[i] = (unsigned char)(state >> (i % 24));
    return bytes;
}

static void produce(void *arg) {
    ring *r = arg;
    unsigned char frame[FRAME_BYTES_MAX];
    for (uint32_t i = 0; i < FRAMES; i++) {
        uint32_t bytes = fill(frame, i);
        while (!ring_send(r, frame, bytes)) {
            int fd = ring_room_fd(r);
            os_wait(&fd, 1, 10000);
            os_event_clear(fd);
        }
    }
}

TEST(ring_carries_frames_between_two_threads) {
    ring *r = NULL;
    thread t = {0};
    unsigned char want[FRAME_BYTES_MAX], got[FRAME_BYTES_MAX];
    uint32_t received = 0, wrong = 0, waits = 0;
    CHECK_EQ(ring_create(&r, RING_BYTES, NULL), OK);
    CHECK_EQ(thread_start(&t, "producer", produce, r, NULL), OK);
    while (received < FRAMES && waits < 2 * FRAMES) {
        int fd = ring_fd(r);
        os_wait(&fd, 1, 10000);
        waits++;
        os_event_clear(fd);
        for (uint32_t n = ring_next_bytes(r); n != 0; n = ring_next_bytes(r)) {
            uint32_t bytes = fill(want, received++);
            if (n != bytes) {
                wrong++;
                ring_drop(r);
                continue;
            }
            ring_recv(r, got);
            wrong += memcmp(got, want, bytes) != 0;
        }
    }
    thread_join(&t);
    CHECK_EQ(received, FRAMES);
    CHECK_EQ(wrong, 0);
    CHECK_EQ(ring_next_bytes(r), 0);
    ring_destroy(r);
}
