/* fiber.c - the switch between stacks, for x86-64 and aarch64, and what sanitizers are told. */
#include "fiber.h"

#include <string.h>
#include <sys/mman.h>

enum { GUARD_BYTES = 4096 };
/* Sanitizers put red zones around every variable. */
enum { STACK_BYTES = SIM_ASAN || SIM_TSAN ? 256 * 1024 : 64 * 1024 };
/* Stacks begin at different offsets in their pages, else all fibers' hot lines fall into the same
 * few sets of the first-level cache. */
enum { STAGGER = 64, STAGGER_BYTES = 192 };

#if SIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if SIM_TSAN
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
enum { TSAN_NO_SYNC = 1 }; /* a switch alone orders nothing */
#endif

/* --- the switch: callee-saved registers on the old stack, then those of the new one ---- */

void fiber_swap(void **save_sp, void *load_sp) __attribute__((visibility("hidden")));
void fiber_begin(void) __attribute__((visibility("hidden")));

#if defined(__x86_64__)
__asm__(".pushsection .text\n"
        ".hidden fiber_swap\n.globl fiber_swap\n.type fiber_swap, @function\n"
        "fiber_swap:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n"
        "    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n"
        "    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size fiber_swap, . - fiber_swap\n"
        /* The first switch "returns" here; rbx has the function. */
        ".hidden fiber_begin\n.globl fiber_begin\n.type fiber_begin, @function\n"
        "fiber_begin:\n"
        "    xorl %ebp, %ebp\n"
        "    call *%rbx\n"
        "    ud2\n"
        ".size fiber_begin, . - fiber_begin\n"
        ".popsection\n");
enum { FRAME_WORDS = 7, FRAME_FUNCTION = 4, FRAME_RETURN = 6 };
#elif defined(__aarch64__)
__asm__(".pushsection .text\n"
        ".hidden fiber_swap\n.globl fiber_swap\n.type fiber_swap, %function\n"
        "fiber_swap:\n"
        "    sub sp, sp, #160\n"
        "    stp x19, x20, [sp, #0]\n    stp x21, x22, [sp, #16]\n"
        "    stp x23, x24, [sp, #32]\n    stp x25, x26, [sp, #48]\n"
        "    stp x27, x28, [sp, #64]\n    stp x29, x30, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n    stp d14, d15, [sp, #144]\n"
        "    mov x9, sp\n"
        "    str x9, [x0]\n"
        "    mov sp, x1\n"
        "    ldp x19, x20, [sp, #0]\n    ldp x21, x22, [sp, #16]\n"
        "    ldp x23, x24, [sp, #32]\n    ldp x25, x26, [sp, #48]\n"
        "    ldp x27, x28, [sp, #64]\n    ldp x29, x30, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n    ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]\n    ldp d14, d15, [sp, #144]\n"
        "    add sp, sp, #160\n"
        "    ret\n"
        ".size fiber_swap, . - fiber_swap\n"
        /* The first switch "returns" here; x19 has the function. */
        ".hidden fiber_begin\n.globl fiber_begin\n.type fiber_begin, %function\n"
        "fiber_begin:\n"
        "    mov x29, #0\n"
        "    blr x19\n"
        "    brk #1\n"
        ".size fiber_begin, . - fiber_begin\n"
        ".popsection\n");
enum { FRAME_WORDS = 20, FRAME_FUNCTION = 0, FRAME_RETURN = 11 };
#else
#error "fiber_swap() is written for x86-64 and aarch64"
#endif

/* --- around the switch: telling the sanitizers -------------------- */

static __thread struct { fiber *from, *to; /* of the latest switch of this thread */ } latest;

static void tell_leaving(fiber *from, fiber *to, bool ends) {
    latest.from = from;
    latest.to = to;
#if SIM_ASAN
    __sanitizer_start_switch_fiber(ends ? NULL : &from->fake_stack, to->stack, to->stack_bytes);
#else
    (void)ends;
#endif
#if SIM_TSAN
    __tsan_switch_to_fiber(to->tsan, TSAN_NO_SYNC);
#endif
}

/* On the new stack.  ASan says where the old one lies, which for a thread's own stack is news. */
static void tell_arrived(fiber *self) {
#if SIM_ASAN
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(self->fake_stack, &bottom, &bytes);
    latest.from->stack = (unsigned char *)(uintptr_t)bottom;
    latest.from->stack_bytes = bytes;
#else
    (void)self;
#endif
}

void fiber_switch(fiber *from, fiber *to) {
    tell_leaving(from, to, false);
    fiber_swap(&from->sp, to->sp);
    tell_arrived(from);
}

void fiber_leave(fiber *from, fiber *to) {
    tell_leaving(from, to, true);
    fiber_swap(&from->sp, to->sp);
    __builtin_unreachable();
}

static void first_run(void) {
    fiber *self = latest.to;
    tell_arrived(self);
    self->run();
    __builtin_trap();
}

void fiber_start(fiber *f, void (*run)(void)) {
    uintptr_t stagger = (uintptr_t)f / sizeof *f % STAGGER * STAGGER_BYTES;
    uintptr_t top = ((uintptr_t)f->stack + f->stack_bytes - stagger) & ~(uintptr_t)15;
    uintptr_t *frame = (uintptr_t *)top - FRAME_WORDS;
    memset(frame, 0, FRAME_WORDS * sizeof *frame);
    frame[FRAME_FUNCTION] = (uintptr_t)first_run;
    frame[FRAME_RETURN] = (uintptr_t)fiber_begin;
    f->sp = frame;
    f->fake_stack = NULL;
    f->run = run;
}

/* --- making them -------------------- */

static bool stack_make(fiber *f) {
    size_t bytes = GUARD_BYTES + STACK_BYTES;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED) return false;
    if (mprotect(p, GUARD_BYTES, PROT_NONE) != 0) {
        (void)munmap(p, bytes);
        return false;
    }
    *f = (fiber){.stack = (unsigned char *)p + GUARD_BYTES, .stack_bytes = STACK_BYTES};
#if SIM_TSAN
    f->tsan = __tsan_create_fiber(0);
#endif
    return true;
}

bool fibers_make(fiber *fibers, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (fibers[i].stack == NULL && !stack_make(&fibers[i])) return false;
    return true;
}

void fiber_init_thread(fiber *f) {
    *f = (fiber){0};
#if SIM_TSAN
    f->tsan = __tsan_get_current_fiber();
#endif
}

void fiber_abandon(fiber *f) {
#if SIM_ASAN
    __asan_unpoison_memory_region(f->stack, f->stack_bytes);
#endif
#if SIM_TSAN
    __tsan_destroy_fiber(f->tsan);
    f->tsan = __tsan_create_fiber(0);
#endif
    (void)f;
}
