/* thread.c - see thread.h. */
#include "base/thread.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/alloc.h"
#include "base/os.h"
#include "base/str.h"

typedef struct start_args {
    void (*run)(void *);
    void *arg;
    _Atomic bool *ended; /* owned by the thread struct, which outlives the thread */
    char name[16];
} start_args;

static void *thread_main(void *p) {
    start_args args = *(start_args *)p;
    mem_free(p);
    (void)pthread_setname_np(pthread_self(), args.name);
    args.run(args.arg);
    *args.ended = true;
    return NULL;
}

status thread_start(thread *t, const char *name, void (*run)(void *), void *arg, error *err) {
    start_args *args = mem_try_alloc(sizeof *args);
    _Atomic bool *ended = mem_try_calloc(1, sizeof *ended);
    if (args == NULL || ended == NULL) {
        mem_free(args);
        mem_free((void *)ended);
        return error_set(err, ERR_NOMEM, "thread '%s': no memory", name);
    }
    *args = (start_args){.run = run, .arg = arg, .ended = ended};
    str_copy_c(args->name, sizeof args->name, str_of(name));
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc =
        os_fault(OS_CALL_THREAD) ? EAGAIN : pthread_create(&t->handle, NULL, thread_main, args);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        mem_free(args);
        mem_free((void *)ended);
        return error_set(err, ERR_NOMEM, "thread '%s': cannot start (error %d)", name, rc);
    }
    t->started = true;
    t->ended = ended;
    return OK;
}

bool thread_has_ended(const thread *t) { return !t->started || *t->ended; }

void thread_join(thread *t) {
    if (!t->started) return;
    (void)pthread_join(t->handle, NULL);
    mem_free((void *)t->ended);
    *t = (thread){0};
}

void thread_owner_claim(thread_owner *o) {
    if (o->claimed) return;
    o->self = pthread_self();
    o->claimed = true;
}

bool thread_is_owner(const thread_owner *o) {
    return !o->claimed || pthread_equal(o->self, pthread_self());
}
