/* sim_internal.h - the state of the software GPU's driver and what its files ask of each other.
 *
 *   entry.c    each call's way in and out: lock, counters, fault rules, lost and poisoned GPUs
 *   handles.c  handles, which stay invalid after their object is gone
 *   memory.c   device and pinned memory            image.c   fatbin, cubin and PTX
 *   queue.c    streams: operations and their order  run.c     what an operation does
 *   capture.c  capture                             account.c launches, leaks, the report
 *   api_*.c    the exported symbols
 *
 * One mutex, taken in sim_enter() and given back in sim_leave(), guards everything here; kernels
 * run under it. */
#ifndef CUDASIM_SIM_INTERNAL_H
#define CUDASIM_SIM_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/cuda/cu_abi.h"
#include "cudasim/driver/sim_driver.h"
#include "cudasim/exec.h"
#include "cudasim/topology.h"

/* Results that cu_abi.h does not name, as the host treats them alike. */
enum {
    SIM_PEER_UNSUPPORTED = 217,
    SIM_ILLEGAL_STATE = 401,
    SIM_PEER_NOT_ENABLED = 705,
    SIM_CAPTURE_MERGE = 902,
    SIM_CAPTURE_UNMATCHED = 903,
    SIM_CAPTURE_UNJOINED = 904,
    SIM_CAPTURE_ISOLATION = 905,
    SIM_CAPTURED_EVENT = 907,
    SIM_CAPTURE_WRONG_THREAD = 908
};

enum { SIM_SHARED_DEFAULT = 48 << 10, SIM_PATH_MAX = 64 };

typedef enum sim_call {
#define SIM_CALL_ENUM(need, field, symbol, args) SIM_CALL_##symbol,
    CU_FUNCTIONS(SIM_CALL_ENUM)
#undef SIM_CALL_ENUM
        SIM_CALLS_COUNT
} sim_call;

/* The exported prototypes: a definition that drifts from cu_abi.h does not compile. */
#define SIM_EXPORT                               __attribute__((visibility("default")))
#define SIM_PROTOTYPE(need, field, symbol, args) SIM_EXPORT cu_result symbol args;
CU_FUNCTIONS(SIM_PROTOTYPE)
#undef SIM_PROTOTYPE

typedef struct sim_stream sim_stream;
typedef struct sim_capture sim_capture;
typedef struct sim_marker sim_marker;
typedef struct sim_op sim_op;

/* A GPU and its primary context, the only one. */
typedef struct sim_device {
    const sim_gpu *gpu;
    uint32_t index;    /* in the topology */
    uint32_t refs;     /* of the context */
    cu_context handle; /* NULL: there is no context */
    cu_result poison;  /* 0, or what every call of the context returns from now on */
    bool lost;
    bool peers[SIM_GPUS_MAX]; /* whose memory it may reach, by topology index */
    sim_stream *default_stream;
    uint64_t clock_ns; /* pretended time of work done */
    sim_memory_use memory;
} sim_device;

typedef struct sim_module {
    sim_device *device;
    cu_module handle;
    int path; /* 750, 800 or 900: which compilation of the kernels */
    int arch; /* 75, 80 ... of the part of the image that was loaded */
    bool is_ptx;
    char *text; /* owned copy of that part, searched for names; NULL: it is compressed */
    size_t text_bytes;
    struct sim_function *functions;
} sim_module;

typedef struct sim_function {
    struct sim_function *next;
    sim_module *module;
    cu_function handle;
    const sim_kernel *kernel;
    uint32_t dynamic_max; /* bytes of shared memory that a launch may ask for */
    bool opted_in;        /* dynamic_max was set */
} sim_function;

/* A place in a stream: done once everything before it ran.  Shared by the record operation, the
 * event and the operations that wait for it. */
struct sim_marker {
    uint32_t refs;
    bool done;
    uint64_t at_ns;     /* when done */
    sim_stream *stream; /* that has the record; NULL when done */
};

typedef struct sim_event {
    sim_device *device;
    cu_event handle;
    bool timing;
    sim_marker *last;      /* NULL: never recorded */
    uint64_t capture_id;   /* not 0: recorded last in that capture */
    sim_stream *branch;    /* there */
    uint64_t branch_nodes; /* nodes of the branch before it */
} sim_event;

typedef enum sim_op_kind { OP_KERNEL, OP_COPY, OP_FILL, OP_CALL, OP_RECORD, OP_WAIT } sim_op_kind;

typedef struct sim_kernel_op {
    const sim_kernel *kernel;
    cu_module module; /* must still be loaded when it runs */
    void *args;       /* owned */
    uint32_t grid[3], block[3], shared_bytes, shared_max;
    bool early; /* may start before the one ahead of it has ended */
} sim_kernel_op;

/* What memory an end of a copy must be in when it runs. */
typedef enum sim_place { PLACE_DEVICE, PLACE_PINNED, PLACE_PAGEABLE } sim_place;

typedef struct sim_copy_op {
    void *dst;
    const void *src;
    size_t bytes;
    sim_place to, from;
    void *staged; /* owned: src's bytes as they were at the call; NULL: src is read when it runs */
} sim_copy_op;

typedef struct sim_fill_op {
    void *dst;
    size_t count;
    uint32_t value;
    uint32_t unit; /* 1 or 4 bytes */
} sim_fill_op;

/* A function of the host's; it is not called in a context that is poisoned. */
typedef struct sim_call_op {
    cu_host_fn fn;
    void *ctx;
} sim_call_op;

struct sim_op {
    sim_op *next;
    sim_op_kind kind;
    union {
        sim_kernel_op kernel;
        sim_copy_op copy;
        sim_fill_op fill;
        sim_call_op call;
        sim_marker *marker; /* OP_RECORD, OP_WAIT */
    };
};

typedef struct sim_op_list {
    sim_op *head, **tail; /* tail NULL: empty */
    uint64_t count;
} sim_op_list;

struct sim_stream {
    sim_stream *next; /* of all streams */
    sim_device *device;
    cu_stream handle; /* NULL: the default stream, or destroyed with work left */
    bool blocking;    /* waits for the default stream and is waited for */
    bool destroyed;
    sim_op_list queue;
    sim_capture *capture; /* it is recorded into this one; borrowed from its origin's */
    uint64_t branch_nodes;
    bool unjoined; /* recorded work that the origin has not waited for */
};

/* Owned by its origin stream, from begin to end. */
struct sim_capture {
    uint64_t id;
    sim_stream *origin;
    pthread_t thread;
    int mode;
    bool broken;
    sim_op_list nodes;
};

typedef struct sim_graph {
    sim_device *device;
    void *handle;
    sim_op_list nodes;
    sim_marker *last; /* of an executable graph: its last launch, which the next one waits for */
} sim_graph;

typedef enum sim_kind {
    SIM_CONTEXT = 1,
    SIM_MODULE,
    SIM_FUNCTION,
    SIM_STREAM,
    SIM_EVENT,
    SIM_GRAPH,
    SIM_EXEC,
    SIM_KINDS_COUNT
} sim_kind;

typedef struct sim_state {
    pthread_mutex_t mutex;
    bool ready;  /* the fields below describe the topology */
    bool inited; /* cuInit() was called with success */
    const sim_topology *topology;
    uint32_t devices_count, visible[SIM_GPUS_MAX]; /* ordinal -> index in devices */
    sim_device devices[SIM_GPUS_MAX];
    sim_stream *streams;
    uint64_t random;
    uint64_t captures; /* begun so far: ids */
    uint64_t default_stream_uses;
} sim_state;
extern sim_state sim;

/* --- entry.c -------------------- */

cu_result sim_enter(sim_call call);
/* As sim_enter; *device is the one of the thread's current context.  It is an error when that has
 * none, or is poisoned or lost. */
cu_result sim_enter_context(sim_call call, sim_device **device);
/* As sim_enter for calls that name a device; ordinals are checked. */
cu_result sim_enter_device(sim_call call, cu_device ordinal, sim_device **device);
cu_result sim_leave(cu_result result);
/* For the sim_* functions. */
void sim_lock(void);
void sim_unlock(void);

#define SIM_ANY(symbol, work)                             \
    do {                                                  \
        cu_result r_ = sim_enter(SIM_CALL_##symbol);      \
        return sim_leave(r_ != CU_SUCCESS ? r_ : (work)); \
    } while (0)
#define SIM_IN_CONTEXT(symbol, work)                                  \
    do {                                                              \
        sim_device *device = NULL;                                    \
        cu_result r_ = sim_enter_context(SIM_CALL_##symbol, &device); \
        return sim_leave(r_ != CU_SUCCESS ? r_ : (work));             \
    } while (0)
#define SIM_OF_DEVICE(symbol, ordinal, work)                                  \
    do {                                                                      \
        sim_device *device = NULL;                                            \
        cu_result r_ = sim_enter_device(SIM_CALL_##symbol, ordinal, &device); \
        return sim_leave(r_ != CU_SUCCESS ? r_ : (work));                     \
    } while (0)

bool sim_result_is_sticky(cu_result result);
/* Every later call of the context returns `result`; what its streams still hold never runs. */
void sim_poison(sim_device *device, cu_result result, const char *why);
/* The context's result after work was made to run. */
cu_result sim_status(const sim_device *device);
/* The rule that fires for this launch, or 0: `asked` at cuLaunchKernel, else when it runs. */
cu_result sim_kernel_rule(const char *kernel, uint64_t count, bool asked);
/* For the report: calls of the index-th symbol. */
uint64_t entry_calls(uint32_t index, const char **name);
/* The thread's current context; the handle may be stale. */
cu_context sim_current(void);
void sim_set_current(cu_context ctx);
/* xorshift64* from the topology's seed. */
uint64_t sim_random(void);

/* --- handles.c -------------------- */

void *sim_handle_new(sim_kind kind, void *object);
/* NULL: no such handle, of another kind, or its object is gone. */
void *sim_handle_get(sim_kind kind, const void *handle);
void sim_handle_drop(const void *handle);
/* The first object of the kind at or after *at, which is moved behind it; NULL: no more. */
void *sim_handle_next(sim_kind kind, uint32_t *at);
uint64_t sim_handle_count(sim_kind kind);
void sim_handle_reset(void);
/* calloc() that ends the process when there is none. */
void *sim_new(size_t bytes);

/* --- memory.c -------------------- */

cu_result memory_take(sim_device *device, size_t bytes, cu_ptr *out);
cu_result memory_give(sim_device *device, cu_ptr at);
cu_result memory_host_take(size_t bytes, void **out);
cu_result memory_host_give(const void *at);
cu_result memory_register(void *at, size_t bytes);
cu_result memory_unregister(const void *at);
/* Bytes that are in use as cuMemGetInfo counts, the context included. */
uint64_t memory_used(const sim_device *device);
/* All of [at, at + bytes) is in one device block; *owner may be NULL. */
bool memory_is_device(const void *at, size_t bytes, sim_device **owner);
bool memory_is_pinned(const void *at, size_t bytes);
/* Some of it is in a device block. */
bool memory_touches_device(const void *at, size_t bytes);
/* Shows kernels of this device what they may reach. */
void memory_expose(sim_device *device);
void memory_forget_exposed(void);
/* Gives back all of one device; NULL: everything. */
uint64_t memory_release(sim_device *device);
uint64_t memory_host_blocks(void);
/* Allocations so far. */
extern uint64_t memory_takes;

/* --- image.c -------------------- */

/* Which part of an image the driver would load on this GPU. */
typedef struct image_choice {
    int arch; /* 75, 80, 90 ... */
    bool is_ptx;
    const char *text; /* in the image; NULL: compressed */
    size_t text_bytes;
} image_choice;
cu_result image_choose(const void *image, const sim_gpu *gpu, int driver, image_choice *out);
bool image_has_kernel(const sim_module *module, const char *name);

/* --- queue.c -------------------- */

sim_stream *queue_open(sim_device *device, bool blocking);
/* The stream goes once its work is done. */
void queue_destroy(sim_stream *stream);
/* Takes the op: into the stream's capture, or into its queue, from where the mode lets it run. */
cu_result queue_submit(sim_stream *stream, sim_op *op);
/* As queue_submit past the capture: what a graph launch adds. */
void queue_push(sim_stream *stream, sim_op *op);
/* Lets the mode run what it would after a new operation. */
void queue_settle(sim_stream *stream);
void queue_drain(sim_stream *stream);
void queue_drain_device(const sim_device *device);
void queue_reach(sim_marker *marker);
bool queue_is_empty(const sim_stream *stream);
/* Some steps of the mode "random". */
void queue_stir(void);
/* Drops what the device's streams hold. */
void queue_discard(const sim_device *device);
/* Frees destroyed streams that have nothing left to do. */
void queue_reap(void);
sim_marker *marker_new(sim_stream *stream);
sim_marker *marker_ref(sim_marker *marker);
void marker_unref(sim_marker *marker);

sim_op *op_new(sim_op_kind kind);
sim_op *op_marker(sim_op_kind kind, sim_marker *marker);
sim_op *op_clone(const sim_op *op); /* of kernels, copies, fills, calls */
void op_free(sim_op *op);
void op_list_add(sim_op_list *list, sim_op *op);
sim_op *op_list_take(sim_op_list *list);
void op_list_clear(sim_op_list *list);

/* --- run.c -------------------- */

void op_run(sim_device *device, sim_op *op);

/* --- capture.c -------------------- */

/* For calls that may not be made while this thread captures (or any, in the global mode): breaks
 * the capture and says so. */
cu_result capture_unsafe(void);
/* As capture_unsafe for calls on one stream: also while that stream itself is recorded. */
cu_result capture_unsafe_on(sim_stream *stream);
cu_result capture_add(sim_stream *stream, sim_op *op);
cu_result capture_record(sim_stream *stream, sim_event *event);
cu_result capture_wait(sim_stream *stream, const sim_event *event);
/* Of an event: 0, or what a host call on it returns and breaks. */
cu_result capture_event_check(const sim_event *event);
/* The begin and end of a stream's capture; nodes gets what was recorded. */
cu_result capture_begin(sim_stream *stream, int mode);
cu_result capture_end(sim_stream *stream, sim_op_list *nodes);
/* Of the default stream, which may not be used while a blocking stream is recorded. */
cu_result capture_implicit(const sim_device *device);
void capture_drop(sim_stream *stream);
/* The kinds of host memory that a copy may have in a capture. */
cu_result capture_pageable(sim_stream *stream);

/* --- api_stream.c -------------------- */

/* The stream of a handle; counts and checks the default stream.  NULL: *result says why. */
sim_stream *stream_find(sim_device *device, cu_stream handle, cu_result *result);

/* --- api_*.c: takes away what a context still has; the number of objects -------------------- */

uint64_t modules_release(const sim_device *device);
uint64_t streams_release(sim_device *device);
uint64_t graphs_release(const sim_device *device);

/* --- account.c -------------------- */

void account_reset(void);
/* The number, from 1, of a cuLaunchKernel of that kernel, and of a launch that is about to run. */
uint64_t account_ask(const char *kernel);
uint64_t account_launch(const char *kernel, bool early);
/* How many there were. */
uint64_t account_asked(const char *kernel);
uint64_t account_launches(const char *kernel);
void account_counters(const char *kernel, const sim_counters *counters);
bool account_is_counting(void);
void account_copied(sim_place to, sim_place from, uint64_t bytes);
void account_leaked(uint64_t objects);

#endif
