/* fiber.h - stacks that one thread of the host switches between, and the switch.
 *
 * A switch is a dozen instructions of our own: swapcontext() makes a system call each time, which
 * is eight times slower for a kernel.  The sanitizers are told of every switch.  A fiber runs its
 * function to fiber_leave(), or is left lying where it is and started anew. */
#ifndef CUDASIM_EXEC_FIBER_H
#define CUDASIM_EXEC_FIBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__SANITIZE_ADDRESS__)
#define SIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIM_ASAN 1
#endif
#endif
#ifndef SIM_ASAN
#define SIM_ASAN 0
#endif
/* The executor is not instrumented for ThreadSanitizer, only linked with it: sim.mk says so. */
#ifndef SIM_TSAN
#define SIM_TSAN 0
#endif

typedef struct fiber {
    void *sp;             /* while it does not run */
    unsigned char *stack; /* lowest byte */
    size_t stack_bytes;
    void *fake_stack; /* ASan's */
    void *tsan;       /* TSan's */
    void (*run)(void);
} fiber;

/* Gives each that has none (all zero) a stack, and a page that faults below it.  They are kept for
 * the life of the process.  false: no memory. */
bool fibers_make(fiber *fibers, uint32_t count);
/* The fiber that the calling thread is: to switch away from, and back to. */
void fiber_init_thread(fiber *f);
/* The next switch to it begins `run`, which must not return. */
void fiber_start(fiber *f, void (*run)(void));
void fiber_switch(fiber *from, fiber *to);
/* The same for the last time: `from` has ended. */
void fiber_leave(fiber *from, fiber *to) __attribute__((noreturn));
/* It was left in the middle of its function: forget what the sanitizers know of it. */
void fiber_abandon(fiber *f);

/* For ThreadSanitizer alone.  What happened before a fiber_release(object) is known to have
 * happened after a fiber_acquire(object).  What a fiber does between unwatch and watch is not
 * looked at: the executor's own work on behalf of all of them, which calls the C library. */
#if SIM_TSAN
void __tsan_acquire(void *object);
void __tsan_release(void *object);
/* Weak: clang's runtime does not export these two to libraries that are loaded. */
void __tsan_ignore_thread_begin(void) __attribute__((weak));
void __tsan_ignore_thread_end(void) __attribute__((weak));
static inline void fiber_acquire(void *object) { __tsan_acquire(object); }
static inline void fiber_release(void *object) { __tsan_release(object); }
static inline void fiber_unwatch(void) {
    if (__tsan_ignore_thread_begin != NULL) __tsan_ignore_thread_begin();
}
static inline void fiber_watch(void) {
    if (__tsan_ignore_thread_end != NULL) __tsan_ignore_thread_end();
}
#else
static inline void fiber_acquire(void *object) { (void)object; }
static inline void fiber_release(void *object) { (void)object; }
static inline void fiber_unwatch(void) {}
static inline void fiber_watch(void) {}
#endif

#endif
