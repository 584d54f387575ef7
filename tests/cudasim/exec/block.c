/* block.c - the threads of one block: fibers that take turns.
 *
 * A thread runs until a barrier or a warp operation that others have not reached, and then switches
 * to the next thread that can run: one of its own warp when there is one.  The last to arrive goes
 * on without a switch.  When none can run and not all have ended, that is a deadlock.
 *
 * A launch that may start early is run behind the one ahead of it all the same: a thread that has
 * not waited may touch nothing that could tell the difference.
 *
 * The turn is by position: bit p of runnable[w] is the thread at position 32 * w + p, and the
 * launch's order says which thread sits where (warps stay together).  A warp operation has two sets
 * of slots that it uses in turn: a thread may put its next value while a slower one still reads the
 * last.
 *
 * For ThreadSanitizer a thread of the block is a TSan fiber.  Arriving at a barrier or warp
 * operation releases, leaving acquires; two objects in turn, so that a slow thread does not acquire
 * what a fast one did after this meeting.  Blocks share no object but the launch's start, which is
 * released once, and its end, which only the launch acquires: races between blocks are seen.  Even
 * and odd blocks have fibers of their own, else a thread could not race with its like in the next
 * block. */
#include <stdio.h>
#include <string.h>

#include "cudasim/exec/exec_internal.h"
#include "cudasim/exec/fiber.h"

enum { FIBER_SETS = SIM_TSAN ? 2 : 1 };

typedef enum meeting { MEET_SYNC, MEET_SHUFFLE, MEET_BALLOT, MEET_MMA, MEET_LDMATRIX } meeting;
static const char *const MEETING_NAMES[] = {"in ck_syncwarp", "in a shuffle", "in a ballot",
                                            "in an mma", "in an ldmatrix"};

typedef enum thread_state { RUNS, IN_BARRIER, IN_WARP_OP, ENDED } thread_state;

typedef struct sim_thread {
    fiber *fiber;
    uint16_t position;
    uint8_t state;
    uint8_t warp_ops, barriers; /* so far, modulo 2: which slots, which object */
    bool has_waited;            /* in ck_pdl_wait() */
} sim_thread;

typedef struct sim_warp {
    uint32_t arrived;
    meeting kind; /* of the first that arrived */
    uint32_t ballot[2];
    uint32_t value[2][SIM_WARP_LANES];
    _Alignas(16) uint32_t gathered[2][SIM_GATHER_WORDS * SIM_WARP_LANES];
} sim_warp;

static fiber fibers[FIBER_SETS][SIM_BLOCK_THREADS_MAX];
static fiber launcher;
static char start_tag, end_tag, fence_tag;

static struct {
    uint32_t threads, warps;
    uint32_t ended, in_barrier;
    uint64_t barriers;
    const sim_span *spans;                  /* of threads that may touch memory */
    uint32_t runnable[SIM_BLOCK_WARPS_MAX]; /* by position */
    uint32_t warps_runnable;
    uint16_t thread_at[SIM_BLOCK_THREADS_MAX];
    sim_thread thread[SIM_BLOCK_THREADS_MAX];
    sim_warp warp[SIM_BLOCK_WARPS_MAX];
} block;

static const sim_span no_spans[SIM_SPANS];

__thread sim_place sim_here;

/* --- who is next -------------------- */

static void set_runnable(uint32_t warp_position, uint32_t lanes) {
    block.runnable[warp_position] = lanes;
    if (lanes != 0)
        block.warps_runnable |= UINT32_C(1) << warp_position;
    else
        block.warps_runnable &= ~(UINT32_C(1) << warp_position);
}

static void stop_running(const sim_thread *t) {
    uint32_t w = t->position / SIM_WARP_LANES;
    set_runnable(w, block.runnable[w] & ~(UINT32_C(1) << t->position % SIM_WARP_LANES));
}

/* The first bit of `set` above bit `i`, else the first at all; set is not 0. */
static uint32_t bit_after(uint32_t set, uint32_t i) {
    uint32_t above = set & ~(UINT32_MAX >> (31 - i));
    return (uint32_t)__builtin_ctz(above != 0 ? above : set);
}

/* NULL: no thread can run. */
static sim_thread *next_after(const sim_thread *t) {
    if (block.warps_runnable == 0) return NULL;
    uint32_t w = t->position / SIM_WARP_LANES, lane;
    if (block.runnable[w] != 0) {
        lane = bit_after(block.runnable[w], t->position % SIM_WARP_LANES);
    } else {
        w = bit_after(block.warps_runnable, w);
        lane = (uint32_t)__builtin_ctz(block.runnable[w]);
    }
    return &block.thread[block.thread_at[w * SIM_WARP_LANES + lane]];
}

static sim_thread *running(void) { return &block.thread[sim_here.tid]; }

bool sim_block_may_touch(void) { return running()->has_waited || !sim_now.launch->early; }

static void set_running(uint32_t tid) {
    sim_here.tid = tid;
    sim_here.spans = sim_block_may_touch() ? block.spans : no_spans;
}

/* The running thread waits; returns when it is its turn again. */
static void wait_turn(sim_thread *me) {
    stop_running(me);
    const sim_thread *next = next_after(me);
    uint32_t tid = sim_here.tid;
    if (next != NULL) set_running((uint32_t)(next - block.thread));
    fiber_switch(me->fiber, next != NULL ? next->fiber : &launcher);
    set_running(tid);
}

void sim_block_give_up(void) {
    fiber_release(&end_tag);
    fiber_leave(running()->fiber, &launcher);
}

/* --- barriers -------------------- */

static void open_barrier(void) {
    block.in_barrier = 0;
    block.barriers++;
    for (uint32_t i = 0; i < block.threads; i++) {
        sim_thread *t = &block.thread[i];
        t->state = RUNS;
        uint32_t w = t->position / SIM_WARP_LANES;
        set_runnable(w, block.runnable[w] | UINT32_C(1) << t->position % SIM_WARP_LANES);
    }
    if (sim_now.counters == NULL) return;
    sim_now.counters->barriers++;
    for (uint32_t w = 0; w < block.warps; w++) sim_sectors_flush(w);
}

static char *barrier_tag(const sim_thread *t) { return sim_shared_tag(t->barriers & 1u); }

void sim_block_sync(void) {
    sim_thread *me = running();
    fiber_release(barrier_tag(me));
    me->state = IN_BARRIER;
    if (++block.in_barrier == block.threads)
        open_barrier();
    else
        wait_turn(me);
    fiber_acquire(barrier_tag(me));
    me->barriers++;
}

void sim_fence(void) {
    fiber_release(&fence_tag);
    fiber_acquire(&fence_tag);
}

/* --- warp operations -------------------- */

static void complete_meeting(sim_warp *w, uint32_t warp) {
    const bool mma = w->kind == MEET_MMA;
    w->arrived = 0;
    for (uint32_t i = 0; i < SIM_WARP_LANES; i++)
        block.thread[warp * SIM_WARP_LANES + i].state = RUNS;
    set_runnable(running()->position / SIM_WARP_LANES, UINT32_MAX);
    if (sim_now.counters == NULL) return;
    sim_now.counters->warp_ops++;
    sim_now.counters->mma += mma;
    sim_sectors_flush(warp);
}

/* What a lane brings is in the slots already. */
static void meet(sim_thread *me, meeting kind) {
    uint32_t warp = sim_here.tid / SIM_WARP_LANES;
    sim_warp *w = &block.warp[warp];
    if (w->arrived == 0) w->kind = kind;
    if (w->kind != kind)
        SIM_FAIL(SIM_DEADLOCK, "is %s, other lanes of its warp are %s", MEETING_NAMES[kind],
                 MEETING_NAMES[w->kind]);
    char *tag = sim_shared_tag(2 + 2 * warp + (me->warp_ops & 1u));
    fiber_release(tag);
    me->state = IN_WARP_OP;
    if (++w->arrived == SIM_WARP_LANES)
        complete_meeting(w, warp);
    else
        wait_turn(me);
    fiber_acquire(tag);
    me->warp_ops++;
}

void sim_warp_sync(void) { meet(running(), MEET_SYNC); }

uint32_t sim_warp_shuffle(uint32_t value, uint32_t from_lane) {
    sim_thread *me = running();
    sim_warp *w = &block.warp[sim_here.tid / SIM_WARP_LANES];
    uint32_t *slots = w->value[me->warp_ops & 1u];
    slots[sim_here.tid % SIM_WARP_LANES] = value;
    meet(me, MEET_SHUFFLE);
    return slots[from_lane];
}

uint32_t sim_warp_ballot(bool predicate) {
    sim_thread *me = running();
    sim_warp *w = &block.warp[sim_here.tid / SIM_WARP_LANES];
    uint32_t *ballot = &w->ballot[me->warp_ops & 1u];
    if (w->arrived == 0) *ballot = 0;
    *ballot |= (uint32_t)predicate << sim_here.tid % SIM_WARP_LANES;
    meet(me, MEET_BALLOT);
    return *ballot;
}

void sim_fail_misaligned_row(const void *row) {
    SIM_FAIL(SIM_MISALIGNED, "has a row of an ldmatrix at %p, which is not 16-aligned", row);
}

const uint32_t *sim_warp_gather(sim_gather what, const uint32_t *words, uint32_t count) {
    sim_thread *me = running();
    sim_warp *w = &block.warp[sim_here.tid / SIM_WARP_LANES];
    uint32_t *slots = w->gathered[me->warp_ops & 1u];
    for (uint32_t i = 0; i < count; i++)
        slots[i * SIM_WARP_LANES + sim_here.tid % SIM_WARP_LANES] = words[i];
    meet(me, what == SIM_GATHER_MMA ? MEET_MMA : MEET_LDMATRIX);
    return slots;
}

/* --- kernels that overlap -------------------- */

void sim_pdl_wait(void) {
    running()->has_waited = true;
    set_running(sim_here.tid);
}

/* Whether or not this launch is early: the next one may be. */
void sim_pdl_launch(void) {
    if (!running()->has_waited)
        SIM_FAIL(SIM_TOO_EARLY, "lets the next kernel start before its own ck_pdl_wait");
}

/* --- a block from begin to end -------------------- */

static void thread_run(void) {
    fiber_acquire(&start_tag);
    sim_now.kernel->entry(sim_now.args);
    if (!sim_block_may_touch()) SIM_FAIL(SIM_TOO_EARLY, "ends without ck_pdl_wait");
    fiber_release(&end_tag);
    sim_thread *me = running();
    me->state = ENDED;
    block.ended++;
    stop_running(me);
    const sim_thread *next = next_after(me);
    if (next != NULL) set_running((uint32_t)(next - block.thread));
    fiber_leave(me->fiber, next != NULL ? next->fiber : &launcher);
}

static uint64_t random_next(uint64_t *state) { /* splitmix64, Steele et al. 2014 */
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* out: a permutation of 0..count-1 in the launch's order. */
static void permutation(uint8_t *out, uint32_t count, uint64_t *random) {
    for (uint32_t i = 0; i < count; i++)
        out[i] = (uint8_t)(sim_now.launch->order == SIM_DESCENDING ? count - 1 - i : i);
    if (sim_now.launch->order != SIM_SHUFFLED) return;
    for (uint32_t i = count; i > 1; i--) {
        uint32_t j = (uint32_t)(random_next(random) % i);
        uint8_t t = out[i - 1];
        out[i - 1] = out[j];
        out[j] = t;
    }
}

static void place_threads(uint64_t number) {
    uint64_t random = sim_now.launch->seed ^ number * UINT64_C(0xD1B54A32D192ED03);
    uint8_t warps[SIM_BLOCK_WARPS_MAX], lanes[SIM_WARP_LANES];
    block.warps_runnable = 0; /* of a block that was abandoned there may be more */
    permutation(warps, block.warps, &random);
    for (uint32_t w = 0; w < block.warps; w++) {
        uint32_t set = 0;
        permutation(lanes, SIM_WARP_LANES, &random);
        for (uint32_t i = 0; i < SIM_WARP_LANES; i++) {
            uint32_t tid = warps[w] * (uint32_t)SIM_WARP_LANES + lanes[i];
            if (tid >= block.threads) continue;
            block.thread_at[w * SIM_WARP_LANES + i] = (uint16_t)tid;
            block.thread[tid] = (sim_thread){.fiber = &fibers[number % FIBER_SETS][tid],
                                             .position = (uint16_t)(w * SIM_WARP_LANES + i)};
            set |= UINT32_C(1) << i;
        }
        block.warp[warps[w]].arrived = 0;
        set_runnable(w, set);
    }
}

/* --- deadlocks in words -------------------- */

static const char *state_name(const sim_thread *t, uint32_t warp) {
    switch (t->state) {
    case IN_BARRIER:
        return "in a barrier";
    case IN_WARP_OP:
        return MEETING_NAMES[block.warp[warp].kind];
    case ENDED:
        return "ended";
    default:
        return "running";
    }
}

/* "warp 0: lanes 0-15 in a barrier, lanes 16-31 ended; " for each warp that does not wait whole. */
static void describe_warp(char *out, size_t room, uint32_t warp) {
    uint32_t first = warp * SIM_WARP_LANES, end = first + SIM_WARP_LANES;
    if (end > block.threads) end = block.threads;
    size_t used = (size_t)snprintf(out, room, "%s warp %u:", warp > 0 ? ";" : "", warp);
    for (uint32_t i = first; i < end && used < room;) {
        uint32_t j = i + 1;
        while (j < end && block.thread[j].state == block.thread[i].state) j++;
        used += (size_t)snprintf(out + used, room - used, "%s lanes %u-%u %s", i > first ? "," : "",
                                 i - first, j - 1 - first, state_name(&block.thread[i], warp));
        i = j;
    }
}

static void explain_deadlock(void) {
    char text[1024] = "";
    for (uint32_t w = 0; w < block.warps; w++) {
        size_t used = strlen(text);
        describe_warp(text + used, sizeof text - used, w);
    }
    sim_explain(SIM_DEADLOCK, false, "deadlock, barriers so far %llu:%s",
                (unsigned long long)block.barriers, text);
}

/* --- around it -------------------- */

bool sim_block_prepare(uint32_t threads) {
    for (uint32_t set = 0; set < FIBER_SETS; set++)
        if (!fibers_make(fibers[set], threads)) return false;
    fiber_init_thread(&launcher);
    block.threads = threads;
    block.spans = sim_here.spans;
    block.warps = (threads + SIM_WARP_LANES - 1) / SIM_WARP_LANES;
    fiber_release(&start_tag);
    return true;
}

/* Its threads lie where the fault found them; each has released what it did when it last waited. */
static void abandon_block(void) {
    for (uint32_t i = 0; i < SIM_SHARED_TAGS; i++) fiber_acquire(sim_shared_tag(i));
    for (uint32_t i = 0; i < block.threads; i++) fiber_abandon(block.thread[i].fiber);
    sim_sectors_forget();
    if (sim_now.counters != NULL) sim_ahead_flush();
}

static void make_room(void) {
    if (sim_shared_has_room()) return;
    fiber_acquire(&end_tag); /* blocks so far are before those that use their memory again */
    fiber_release(&start_tag);
    sim_shared_reuse();
}

bool sim_block_run(uint64_t number) {
    make_room();
    sim_shared_begin(sim_now.launch->shared_bytes);
    block.ended = block.in_barrier = 0;
    block.barriers = 0;
    place_threads(number);
    for (uint32_t i = 0; i < block.threads; i++) fiber_start(block.thread[i].fiber, thread_run);
    set_running(block.thread_at[(uint32_t)__builtin_ctz(block.runnable[0])]);
    fiber_switch(&launcher, block.thread[sim_here.tid].fiber);
    if (sim_now.fault == SIM_OK && block.ended < block.threads) explain_deadlock();
    if (sim_now.fault != SIM_OK || !sim_shared_check()) {
        abandon_block();
        return false;
    }
    if (sim_now.counters == NULL) return true;
    for (uint32_t w = 0; w < block.warps; w++) sim_sectors_flush(w);
    sim_ahead_flush();
    return true;
}

void sim_block_finish(void) { fiber_acquire(&end_tag); }
