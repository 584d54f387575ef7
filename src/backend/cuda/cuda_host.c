/* cuda_host.c - see cuda_host.h. */
#include "backend/cuda/cuda_host.h"

#include <stddef.h>
#include <stdio.h>

#include "base/os.h"
#include "base/str.h"

enum { PATH_BYTES = 512 };

static bool exists(const char *root, const char *path) {
    char full[PATH_BYTES];
    int n = snprintf(full, sizeof full, "%s%s", root, path);
    return n > 0 && (size_t)n < sizeof full && os_path_exists(full);
}

/* The first bytes of a small file of the kernel; {NULL-free, 0} when it cannot be read. */
static str read_start(const char *path, char *text, size_t text_bytes) {
    int fd = -1;
    size_t got = 0;
    if (os_open_read_at_once(path, &fd, NULL) != OK) return (str){text, 0};
    if (os_read_full(fd, text, text_bytes, &got, NULL) != OK) got = 0;
    os_close(fd);
    return (str){text, got};
}

typedef struct pci_walk {
    char folder[PATH_BYTES / 2];
    uint32_t count;
} pci_walk;

static bool device_file_starts(const pci_walk *w, const char *device, const char *file,
                               const char *start) {
    char path[PATH_BYTES], text[16];
    int n = snprintf(path, sizeof path, "%s/%s/%s", w->folder, device, file);
    if (n < 0 || (size_t)n >= sizeof path) return false;
    return str_starts(read_start(path, text, sizeof text), str_of(start));
}

/* Class 0x03....: display controllers, which compute cards without a display are, too; it leaves
 * out their sound and USB functions. */
static bool visit_pci(void *ctx, const char *device) {
    pci_walk *w = ctx;
    if (device_file_starts(w, device, "vendor", "0x10de") &&
        device_file_starts(w, device, "class", "0x03"))
        w->count++;
    return true;
}

static uint32_t count_pci(const char *root) {
    pci_walk w = {.count = 0};
    int n = snprintf(w.folder, sizeof w.folder, "%s/sys/bus/pci/devices", root);
    if (n < 0 || (size_t)n >= sizeof w.folder) return 0;
    os_folder_each(w.folder, visit_pci, &w);
    return w.count;
}

cuda_host cuda_host_look(const char *root) {
    if (root == NULL) root = "";
    return (cuda_host){
        .module = exists(root, "/proc/driver/nvidia/version"),
        .nodes = exists(root, "/dev/nvidiactl") || exists(root, "/dev/dxg"),
        .container = exists(root, "/.dockerenv") || exists(root, "/run/.containerenv") ||
                     exists(root, "/var/run/secrets/kubernetes.io"),
        .pci_count = count_pci(root),
    };
}
