/* doctor_machine.c - the processor, memory, disk and limits, as far as they decide what runs how
 * fast here.
 *
 * What the kernel tells is read from /proc and /sys (proc(5); Linux documentation, "Control Group
 * v2" and "Transparent Hugepage Support"). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "app/doctor_internal.h"
#include "backend/cpu/cpu_kernels.h"
#include "base/os.h"

enum { GIB_SHIFT = 30, SYSTEM_FILE_BYTES = 4096, PATH_BYTES = 4096 };
enum { MEMORY_LOW_GIB = 2, DISK_LOW_GIB = 10, FILES_LOW = 4096 + 64 };

static double gib(uint64_t bytes) { return (double)bytes / 0x1p30; }

/* The beginning of a small file of the kernel; empty when it cannot be read. */
static str read_file(const char *path, char *text, size_t bytes) {
    int fd = -1;
    size_t got = 0;
    if (os_open_read_at_once(path, &fd, NULL) != OK) return (str){text, 0};
    if (os_read_full(fd, text, bytes, &got, NULL) != OK) got = 0;
    os_close(fd);
    return (str){text, got};
}

/* The decimal number at the beginning of s, blanks before it; false when there is none. */
static bool leading_number(str s, uint64_t *out) {
    while (s.n > 0 && (*s.p == ' ' || *s.p == '\t')) s = str_skip(s, 1);
    size_t digits = 0;
    while (digits < s.n && s.p[digits] >= '0' && s.p[digits] <= '9') digits++;
    return str_to_u64((str){s.p, digits}, out);
}

/* The number behind `key`, which begins a line. */
static bool keyed_number(str text, str key, uint64_t *out) {
    while (text.n > 0) {
        if (str_starts(text, key)) return leading_number(str_skip(text, key.n), out);
        const char *end = memchr(text.p, '\n', text.n);
        if (end == NULL) return false;
        text = str_skip(text, (size_t)(end - text.p) + 1);
    }
    return false;
}

/* --- processor -------------------- */

static void check_cpu(doctor *d) {
    const cpu_kernels *k = NULL;
    error err = {0};
    if (cpu_kernels_choose(CPU_ISA_AUTO, &k, &err) != OK) {
        doctor_say(d, "cpu", DOCTOR_WARN, "%s", err.msg);
        return;
    }
    bool slow = strcmp(k->isa, "scalar") == 0;
    doctor_say(d, "cpu", slow ? DOCTOR_WARN : DOCTOR_OK, "instructions of class %s%s", k->isa,
               slow ? ": models run, but many times slower than with AVX2 or NEON" : "");
    if (slow) doctor_fix(d, "run where the CPU has AVX2; a virtual machine may hide it (cpu host)");
}

static void check_threads(doctor *d) {
    uint64_t seen = 0;
    char text[SYSTEM_FILE_BYTES];
    uint32_t may = os_cpu_count(), asked = d->c->threads;
    str online = read_file("/sys/devices/system/cpu/online", text, sizeof text);
    /* "0-15", "0,2-7": the last number is the highest CPU */
    while (online.n > 0 && (online.p[online.n - 1] < '0' || online.p[online.n - 1] > '9'))
        online.n--;
    size_t from = online.n;
    while (from > 0 && online.p[from - 1] >= '0' && online.p[from - 1] <= '9') from--;
    bool known = str_to_u64(str_skip(online, from), &seen);
    if (asked > may) {
        doctor_say(d, "threads", DOCTOR_WARN, "--threads %u, but this process may use %u CPUs",
                   asked, may);
        doctor_fix(d, "leave --threads out, or give the process more CPUs (cgroup, taskset)");
    } else if (known && may < seen + 1) {
        doctor_say(d, "threads", DOCTOR_OK,
                   "%u of the machine's %" PRIu64 " CPUs, as affinity and cgroup allow",
                   asked > 0 ? asked : may, seen + 1);
    } else {
        doctor_say(d, "threads", DOCTOR_OK, "%u CPUs", asked > 0 ? asked : may);
    }
}

/* --- memory -------------------- */

static void check_memory(doctor *d) {
    char text[SYSTEM_FILE_BYTES];
    uint64_t total_kib = 0, available = os_memory_available();
    str info = read_file("/proc/meminfo", text, sizeof text);
    (void)keyed_number(info, S("MemTotal:"), &total_kib);
    bool low = available < (uint64_t)MEMORY_LOW_GIB << GIB_SHIFT;
    doctor_say(d, "memory", low ? DOCTOR_WARN : DOCTOR_OK, "%.1f GiB free of %.1f GiB",
               gib(available), gib(total_kib * 1024));
    if (low) doctor_fix(d, "end other programs, or choose small models");
}

static void check_memory_limit(doctor *d) {
    static const char *const files[] = {"/sys/fs/cgroup/memory.max",
                                        "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    char text[SYSTEM_FILE_BYTES];
    uint64_t limit = UINT64_MAX;
    for (size_t i = 0; i < 2 && limit == UINT64_MAX; i++) {
        str s = read_file(files[i], text, sizeof text);
        if (!leading_number(s, &limit)) limit = UINT64_MAX; /* "max", or no such file */
    }
    /* version 1 writes a huge number for "no limit" */
    if (limit > (uint64_t)1 << 60)
        doctor_say(d, "memory limit", DOCTOR_OK, "this process's cgroup has none");
    else
        doctor_say(d, "memory limit", DOCTOR_OK,
                   "the cgroup allows %.1f GiB; models are planned to fit in it", gib(limit));
}

static void check_huge_pages(doctor *d) {
    char text[SYSTEM_FILE_BYTES];
    str s = read_file("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof text - 1);
    text[s.n] = '\0';
    if (s.n == 0) {
        doctor_say(d, "huge pages", DOCTOR_OK, "this kernel has none; a little slower");
    } else if (strstr(text, "[never]") != NULL) {
        doctor_say(d, "huge pages", DOCTOR_WARN, "switched off: weights are read a little slower");
        doctor_fix(d, "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
    } else {
        doctor_say(d, "huge pages", DOCTOR_OK, "used for weights and caches");
    }
}

/* --- disk and descriptors -------------------- */

/* Shorten the path until something is there. */
static void nearest_existing(char *path) {
    while (!os_path_exists(path)) {
        char *slash = strrchr(path, '/');
        if (slash == NULL) {
            memcpy(path, ".", 2);
            return;
        }
        slash[slash == path] = '\0'; /* "/" stays */
        if (slash == path) return;
    }
}

static void check_cache(doctor *d) {
    char folder[PATH_BYTES], path[PATH_BYTES];
    uint64_t bytes = 0;
    error err = {0};
    if (!config_cache_dir(d->c, folder, sizeof folder)) {
        doctor_say(d, "cache", DOCTOR_WARN, "no folder for copies of models: HOME is not set");
        doctor_fix(d, "give one with --cache-dir");
        return;
    }
    memcpy(path, folder, sizeof path);
    nearest_existing(path);
    if (os_disk_free(path, &bytes, &err) != OK) {
        doctor_say(d, "cache", DOCTOR_WARN, "'%.300s': %.300s", folder, err.msg);
        doctor_fix(d, "give a folder that can be written with --cache-dir");
        return;
    }
    bool low = bytes < (uint64_t)DISK_LOW_GIB << GIB_SHIFT;
    doctor_say(d, "cache", low ? DOCTOR_WARN : DOCTOR_OK, "%.1f GiB free for '%.400s'", gib(bytes),
               folder);
    if (low)
        doctor_fix(d, "a copy made with --quantize takes some GiB: give another disk's folder "
                      "with --cache-dir");
}

static void check_files(doctor *d) {
    uint64_t limit = os_descriptors_raise();
    bool low = limit < FILES_LOW;
    doctor_say(d, "open files", low ? DOCTOR_WARN : DOCTOR_OK, "%" PRIu64 " at most%s", limit,
               low ? ": fewer than the connections that a server allows by default" : "");
    if (low)
        doctor_fix(d, "raise the hard limit (ulimit -Hn, LimitNOFILE=), or lower "
                      "--connections-max");
}

void doctor_check_machine(doctor *d) {
    check_cpu(d);
    check_threads(d);
    check_memory(d);
    check_memory_limit(d);
    check_huge_pages(d);
    check_cache(d);
    check_files(d);
}
