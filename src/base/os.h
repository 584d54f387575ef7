/* os.h - the one seam for operating-system calls and the clock.
 *
 * Rooms call these and never the system directly (lint checks it), so tests can make
 * any call fail (os_fail_after) and can own the clock (os_clock_set).  Interrupted and
 * short calls are finished here.  Descriptors belong to the caller; os_close() them.
 * Injection is per thread; the fake clock is per process. */
#ifndef BASE_OS_H
#define BASE_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* --- clock ----------------------------------------------------------------- */
uint64_t os_now_ns(void);  /* monotonic */
uint64_t os_wall_ms(void); /* since 1970-01-01 UTC */
/* Both clocks then read *ns (monotonic) and *ns / 1e6; NULL gives the real ones back. */
void os_clock_set(const _Atomic uint64_t *ns);
void os_sleep_ms(uint32_t ms);

/* --- fault injection ------------------------------------------------------- */
#define OS_CALLS(X) \
    X(OPEN) X(STAT) X(READ) X(WRITE) X(MMAP) X(EVENT) X(POLL) X(THREAD) X(RENAME) X(LIBRARY)
typedef enum os_call {
#define OS_CALL_ENUM(name) OS_CALL_##name,
    OS_CALLS(OS_CALL_ENUM)
#undef OS_CALL_ENUM
        OS_CALL_COUNT
} os_call;
/* Calls of this kind made by this thread succeed `count` times, then fail with errno
 * `error_number`.  A negative count switches it off. */
void os_fail_after(os_call call, int64_t count, int error_number);
/* Does the call have to fail now?  Sets errno; for os.c and base/thread.c. */
bool os_fault(os_call call);

/* --- files ----------------------------------------------------------------- */
NODISCARD status os_open_read(const char *path, int *fd, error *err);
/* The same, but never waits for a pipe's other end: for what is looked at afterwards. */
NODISCARD status os_open_read_at_once(const char *path, int *fd, error *err);
NODISCARD status os_open_write(const char *path, int *fd, error *err); /* new or emptied, 0644 */
NODISCARD status os_memfd(const char *name, int *fd, error *err);
/* ERR_INVALID for a directory, pipe, device or socket. */
NODISCARD status os_file_bytes(int fd, const char *path, uint64_t *bytes, error *err);
/* What changes when a file does; no padding. */
typedef struct os_stamp {
    uint64_t device, inode, bytes;
    int64_t modified_s, modified_ns;
} os_stamp;
NODISCARD status os_file_stamp(const char *path, os_stamp *out, error *err);
/* A folder, 0755; fine when it is there already. */
NODISCARD status os_make_dir(const char *path, error *err);
/* Reads until `bytes` or end of file; *got says how many. */
NODISCARD status os_read_full(int fd, void *out, size_t bytes, size_t *got, error *err);
/* One read of what is there; *got == 0 is the end. */
NODISCARD status os_read_some(int fd, void *out, size_t bytes, size_t *got, error *err);
status os_write_full(int fd, const void *bytes, size_t n, error *err);
NODISCARD status os_rename(const char *from, const char *to, error *err);
void os_unlink(const char *path);
/* Bytes that this user may still write on the disk of an existing path. */
NODISCARD status os_disk_free(const char *path, uint64_t *bytes, error *err);
void os_close(int fd);
bool os_path_exists(const char *path);
/* Calls visit(name) for each entry of a folder except "." and "..", in no order, until it returns
 * false.  A folder that is not there has no entries. */
void os_folder_each(const char *path, bool (*visit)(void *ctx, const char *name), void *ctx);

/* --- memory ---------------------------------------------------------------- */
NODISCARD status os_map_file(int fd, size_t bytes, const void **out, error *err); /* read-only */
/* Zeroed pages, committed as they are touched; huge pages are asked for. */
NODISCARD status os_map_pages(size_t bytes, void **out, error *err);
void os_unmap(const void *p, size_t bytes);
/* Tell the kernel the pages' content is no longer needed (they read as zero afterwards). */
void os_pages_drop(void *p, size_t bytes);

/* --- shared libraries ------------------------------------------------------- */
/* Loads `name` (a path, or a name for the loader's search); its symbols stay in the library.
 * ERR_NOT_FOUND with the loader's reason. */
NODISCARD status os_library_open(const char *name, void **out, error *err);
void *os_library_symbol(void *library, const char *symbol); /* NULL: there is none */
/* Where it was found, in out, cut to fit; "" when the loader does not say. */
void os_library_path(void *library, char *out, size_t out_bytes);
void os_library_close(void *library);

/* --- machine --------------------------------------------------------------- */
/* Ask for the tile registers of Intel AMX for this process; false: there are none. */
bool os_tile_registers_ask(void);
uint32_t os_cpu_count(void); /* what affinity mask and cgroup quota allow, >= 1 */
/* Raise the limit on open descriptors as far as it may be raised; returns it. */
uint64_t os_descriptors_raise(void);
uint64_t os_memory_available(void); /* bytes, cgroup limit respected */
void os_random(void *out, size_t bytes);

/* --- wakeups: an eventfd that any thread may signal and one thread waits on -- */
NODISCARD status os_event_open(int *fd, error *err);
void os_event_signal(int fd);
void os_event_clear(int fd);
/* Wait until one of fds is readable; -1 entries are skipped.  timeout_ms < 0: no limit.
 * Interrupts end the wait early; the caller looks again anyway. */
void os_wait(const int *fds, uint32_t count, int timeout_ms);

#endif
