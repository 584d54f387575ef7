/* os.c - see os.h. */
#include "base/os.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/num.h"
#include "base/str.h"

/* --- clock ----------------------------------------------------------------- */
static const _Atomic uint64_t *_Atomic fake_clock_ns;

uint64_t os_now_ns(void) {
    const _Atomic uint64_t *fake = atomic_load(&fake_clock_ns);
    if (fake != NULL) return atomic_load(fake);
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t os_wall_ms(void) {
    const _Atomic uint64_t *fake = atomic_load(&fake_clock_ns);
    if (fake != NULL) return atomic_load(fake) / 1000000u;
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

void os_clock_set(const _Atomic uint64_t *ns) { atomic_store(&fake_clock_ns, ns); }

void os_sleep_ms(uint32_t ms) {
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000L};
    while (nanosleep(&t, &t) != 0 && errno == EINTR) {
    }
}

/* --- fault injection ------------------------------------------------------- */
typedef struct fault {
    int64_t left;
    int error_number;
    bool on;
} fault;

static _Thread_local fault faults[OS_CALL_COUNT];

void os_fail_after(os_call call, int64_t count, int error_number) {
    faults[call] = (fault){.on = count >= 0, .left = count, .error_number = error_number};
}

bool os_fault(os_call call) {
    fault *f = &faults[call];
    if (!f->on) return false;
    if (f->left > 0) {
        f->left--;
        return false;
    }
    errno = f->error_number;
    return true;
}

/* --- files ----------------------------------------------------------------- */
static status io_error(error *err, const char *what, const char *object) {
    int saved = errno;
    char text[128];
    /* the GNU strerror_r: returns the text, in its own storage or ours */
    const char *why = strerror_r(saved, text, sizeof text);
    status code = saved == ENOENT ? ERR_NOT_FOUND : saved == ENOMEM ? ERR_NOMEM : ERR_IO;
    return error_set(err, code, "%s '%s': %s", what, object, why);
}

static status open_path(const char *path, int flags, int *fd, error *err) {
    int got = os_fault(OS_CALL_OPEN) ? -1 : open(path, flags | O_CLOEXEC, 0644);
    if (got < 0) return io_error(err, "open", path);
    *fd = got;
    return OK;
}

status os_open_read(const char *path, int *fd, error *err) {
    return open_path(path, O_RDONLY, fd, err);
}

status os_open_read_at_once(const char *path, int *fd, error *err) {
    return open_path(path, O_RDONLY | O_NONBLOCK, fd, err);
}

status os_open_write(const char *path, int *fd, error *err) {
    return open_path(path, O_WRONLY | O_CREAT | O_TRUNC, fd, err);
}

status os_memfd(const char *name, int *fd, error *err) {
    int got = os_fault(OS_CALL_OPEN) ? -1 : memfd_create(name, MFD_CLOEXEC);
    if (got < 0) return io_error(err, "memfd", name);
    *fd = got;
    return OK;
}

static const char *file_kind(mode_t mode) {
    if (S_ISDIR(mode)) return "a directory";
    if (S_ISFIFO(mode)) return "a pipe";
    return S_ISCHR(mode) || S_ISBLK(mode) ? "a device" : "a socket";
}

status os_file_bytes(int fd, const char *path, uint64_t *bytes, error *err) {
    struct stat st;
    if (os_fault(OS_CALL_STAT) || fstat(fd, &st) != 0) return io_error(err, "stat", path);
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERR_INVALID, "'%s' is %s, not a regular file", path,
                         file_kind(st.st_mode));
    *bytes = (uint64_t)st.st_size;
    return OK;
}

status os_file_stamp(const char *path, os_stamp *out, error *err) {
    struct stat st;
    if (os_fault(OS_CALL_STAT) || stat(path, &st) != 0) return io_error(err, "stat", path);
    *out = (os_stamp){.device = st.st_dev,
                      .inode = st.st_ino,
                      .bytes = (uint64_t)st.st_size,
                      .modified_s = st.st_mtim.tv_sec,
                      .modified_ns = st.st_mtim.tv_nsec};
    return OK;
}

status os_make_dir(const char *path, error *err) {
    if (os_fault(OS_CALL_OPEN) || (mkdir(path, 0755) != 0 && errno != EEXIST))
        return io_error(err, "mkdir", path);
    return OK;
}

status os_read_some(int fd, void *out, size_t bytes, size_t *got, error *err) {
    for (;;) {
        ssize_t n = os_fault(OS_CALL_READ) ? -1 : read(fd, out, bytes);
        if (n >= 0) {
            *got = (size_t)n;
            return OK;
        }
        if (errno != EINTR) return io_error(err, "read", "input");
    }
}

status os_read_full(int fd, void *out, size_t bytes, size_t *got, error *err) {
    size_t total = 0;
    while (total < bytes) {
        size_t n = 0;
        TRY(os_read_some(fd, (char *)out + total, bytes - total, &n, err));
        if (n == 0) break;
        total += n;
    }
    *got = total;
    return OK;
}

status os_write_full(int fd, const void *bytes, size_t n, error *err) {
    const char *p = bytes;
    while (n > 0) {
        ssize_t done = os_fault(OS_CALL_WRITE) ? -1 : write(fd, p, n);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return io_error(err, "write", "output");
        p += done;
        n -= (size_t)done;
    }
    return OK;
}

status os_rename(const char *from, const char *to, error *err) {
    if (os_fault(OS_CALL_RENAME) || rename(from, to) != 0) return io_error(err, "rename to", to);
    return OK;
}

status os_disk_free(const char *path, uint64_t *bytes, error *err) {
    struct statvfs fs;
    int rc = os_fault(OS_CALL_STAT) ? -1 : statvfs(path, &fs);
    if (rc != 0) return io_error(err, "statvfs", path);
    *bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    return OK;
}

void os_unlink(const char *path) { (void)unlink(path); }

void os_close(int fd) {
    if (fd >= 0) (void)close(fd);
}

bool os_path_exists(const char *path) { return access(path, F_OK) == 0; }

void os_folder_each(const char *path, bool (*visit)(void *ctx, const char *name), void *ctx) {
    DIR *folder = os_fault(OS_CALL_OPEN) ? NULL : opendir(path);
    if (folder == NULL) return;
    for (struct dirent *e = readdir(folder); e != NULL; e = readdir(folder)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (!visit(ctx, e->d_name)) break;
    }
    (void)closedir(folder);
}

/* --- shared libraries ------------------------------------------------------- */
status os_library_open(const char *name, void **out, error *err) {
    if (os_fault(OS_CALL_LIBRARY)) return io_error(err, "load", name);
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        const char *why = dlerror();
        return error_set(err, ERR_NOT_FOUND, "load '%s': %s", name,
                         why != NULL ? why : "no reason");
    }
    *out = library;
    return OK;
}

void *os_library_symbol(void *library, const char *symbol) { return dlsym(library, symbol); }

void os_library_path(void *library, char *out, size_t out_bytes) {
    struct link_map *map = NULL;
    bool known = dlinfo(library, RTLD_DI_LINKMAP, (void *)&map) == 0 && map != NULL;
    str_copy_c(out, out_bytes, str_of(known ? map->l_name : ""));
}

void os_library_close(void *library) {
    if (library != NULL) (void)dlclose(library);
}

/* --- memory ---------------------------------------------------------------- */
status os_map_file(int fd, size_t bytes, const void **out, error *err) {
    ASSERT(bytes > 0);
    void *p =
        os_fault(OS_CALL_MMAP) ? MAP_FAILED : mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) return io_error(err, "mmap", "file");
    *out = p;
    return OK;
}

status os_map_pages(size_t bytes, void **out, error *err) {
    ASSERT(bytes > 0);
    void *p = os_fault(OS_CALL_MMAP) ? MAP_FAILED
                                     : mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return error_set(err, ERR_NOMEM, "no address space for %zu bytes of pages", bytes);
    if (bytes >= (size_t)4 << 20) (void)madvise(p, bytes, MADV_HUGEPAGE);
    *out = p;
    return OK;
}

void os_unmap(const void *p, size_t bytes) {
    if (p != NULL) (void)munmap((void *)(uintptr_t)p, bytes);
}

void os_pages_drop(void *p, size_t bytes) { (void)madvise(p, bytes, MADV_DONTNEED); }

/* --- machine --------------------------------------------------------------- */
/* The first `count` numbers of a small system file; false when it cannot be read. */
static bool read_numbers(const char *path, const char *format, unsigned long long *a,
                         unsigned long long *b) {
    FILE *fp = fopen(path, "re");
    if (fp == NULL) return false;
    int want = b != NULL ? 2 : 1;
    int got =
        b != NULL ? fscanf(fp, format, a, b) : fscanf(fp, format, a); /* NOLINT: kernel text */
    (void)fclose(fp);
    return got == want;
}

bool os_tile_registers_ask(void) {
#if defined(__x86_64__) && defined(SYS_arch_prctl)
    enum { ASK_PERMISSION = 0x1023, TILE_DATA = 18 }; /* linux/Documentation/arch/x86/xstate.rst */
    return syscall(SYS_arch_prctl, ASK_PERMISSION, TILE_DATA) == 0;
#else
    return false;
#endif
}

uint32_t os_cpu_count(void) {
    cpu_set_t set;
    uint32_t count = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        count = (uint32_t)CPU_COUNT(&set);
    else if (sysconf(_SC_NPROCESSORS_ONLN) > 0) /* more CPUs than a cpu_set_t holds */
        count = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    unsigned long long quota = 0, period = 0;
    bool capped = read_numbers("/sys/fs/cgroup/cpu.max", "%llu %llu", &quota, &period) ||
                  (read_numbers("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "%llu", &quota, NULL) &&
                   read_numbers("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "%llu", &period, NULL));
    /* cgroup v1 writes -1 for "no quota", which %llu reads as a huge number */
    if (capped && period > 0 && quota > 0 && quota / period < count)
        count = (uint32_t)((quota + period - 1) / period);
    return count > 0 ? count : 1;
}

/* The number behind `key` in a file of "key number" lines; 0 when it is not there. */
static uint64_t read_keyed(const char *path, const char *key) {
    FILE *fp = fopen(path, "re");
    if (fp == NULL) return 0;
    char line[128];
    unsigned long long value = 0;
    while (fgets(line, sizeof line, fp) != NULL)
        if (strncmp(line, key, strlen(key)) == 0) value = strtoull(line + strlen(key), NULL, 10);
    (void)fclose(fp);
    return (uint64_t)value;
}

uint64_t os_memory_available(void) {
    uint64_t bytes = read_keyed("/proc/meminfo", "MemAvailable:") * 1024u;
    unsigned long long limit = 0, used = 0;
    bool capped =
        (read_numbers("/sys/fs/cgroup/memory.max", "%llu", &limit, NULL) &&
         read_numbers("/sys/fs/cgroup/memory.current", "%llu", &used, NULL)) ||
        (read_numbers("/sys/fs/cgroup/memory/memory.limit_in_bytes", "%llu", &limit, NULL) &&
         read_numbers("/sys/fs/cgroup/memory/memory.usage_in_bytes", "%llu", &used, NULL));
    /* the page cache counts as used there, but what is not in use of it can be had */
    uint64_t cache = read_keyed("/sys/fs/cgroup/memory.stat", "inactive_file ") +
                     read_keyed("/sys/fs/cgroup/memory/memory.stat", "total_inactive_file ");
    used -= num_min_u64(used, cache);
    if (capped) bytes = num_min_u64(bytes, limit > used ? limit - used : 0);
    return bytes;
}

uint64_t os_descriptors_raise(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    return (uint64_t)limit.rlim_cur;
}

void os_random(void *out, size_t bytes) {
    char *p = out;
    while (bytes > 0) {
        ssize_t n = getrandom(p, bytes, 0);
        if (n < 0 && errno == EINTR) continue;
        ASSERT(n > 0);
        p += n;
        bytes -= (size_t)n;
    }
}

/* --- wakeups --------------------------------------------------------------- */
status os_event_open(int *fd, error *err) {
    int got = os_fault(OS_CALL_EVENT) ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (got < 0) return io_error(err, "eventfd", "wakeup");
    *fd = got;
    return OK;
}

void os_event_signal(int fd) {
    uint64_t one = 1;
    while (write(fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

void os_event_clear(int fd) {
    uint64_t count = 0;
    while (read(fd, &count, sizeof count) < 0 && errno == EINTR) {
    }
}

void os_wait(const int *fds, uint32_t count, int timeout_ms) {
    enum { WAIT_FDS_MAX = 8 };
    ASSERT(count <= WAIT_FDS_MAX);
    struct pollfd p[WAIT_FDS_MAX];
    for (uint32_t i = 0; i < count; i++) p[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    if (os_fault(OS_CALL_POLL)) return;
    (void)poll(p, count, timeout_ms);
}
