/* cuda_image.c - see cuda_image.h.
 *
 * A fat binary, as nvcc 13 writes it (seen with a hex dump; all little-endian):
 *   u32 magic, u16 version, u16 header bytes, u64 bytes of all entries
 *   entry: u16 kind (1 PTX, 2 machine code), u16, u32 header bytes, u64 payload bytes, 8 bytes,
 *          u16 minor and u16 major version (of PTX; for code, minor is the ELF ABI's: 8 since CUDA
 *          13), u32 architecture (75, 90, ..), 8 bytes, u32 flags (bit 20: that very one, "90a") */
#include "backend/cuda/cuda_image.h"

#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "base/str.h"

#define FATBIN_MAGIC 0xba55ed50u

enum {
    FATBIN_HEADER_BYTES = 16,
    ENTRY_HEADER_BYTES = 48, /* as far as we read it */
    ENTRY_PTX = 1,
    ENTRY_CODE = 2,
    ENTRY_EXACT = 1 << 20,
    ELF_ABI_CUDA_13 = 8
};

typedef struct entry {
    uint16_t kind, minor;
    uint32_t arch, flags;
} entry;

static uint16_t read_u16(const unsigned char *p) {
    uint16_t v = 0;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint32_t read_u32(const unsigned char *p) {
    uint32_t v = 0;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t read_u64(const unsigned char *p) {
    uint64_t v = 0;
    memcpy(&v, p, sizeof v);
    return v;
}

/* The entry at *at, and *at moved behind it; false at the end, or where nothing of that form is. */
static bool next_entry(const unsigned char *data, size_t bytes, size_t *at, entry *out) {
    if (bytes - *at < ENTRY_HEADER_BYTES) return false;
    const unsigned char *p = data + *at;
    uint64_t total = 0;
    if (!num_add_u64(&total, read_u32(p + 4), read_u64(p + 8))) return false;
    if (total < ENTRY_HEADER_BYTES || total > bytes - *at) return false;
    *out = (entry){.kind = read_u16(p),
                   .minor = read_u16(p + 24),
                   .arch = read_u32(p + 28),
                   .flags = read_u32(p + 40)};
    *at += (size_t)total;
    return true;
}

static bool code_runs(const entry *e, int cc, int driver) {
    if (driver < CUDA_DRIVER_FATBIN_MIN && e->minor >= ELF_ABI_CUDA_13) return false;
    if ((e->flags & ENTRY_EXACT) != 0) return (int)e->arch == cc;
    return (int)(e->arch / 10) == cc / 10 && (int)e->arch <= cc;
}

/* PTX of a fat binary is as new as the toolkit. */
static bool ptx_runs(const entry *e, int cc, int driver) {
    return driver >= CUDA_DRIVER_FATBIN_MIN && e->arch <= INT32_MAX && (int)e->arch <= cc;
}

/* Of `a` and `b` the one that suits better: machine code first, then the newer one. */
static bool entry_better(const entry *a, const entry *b) {
    if (a->kind != b->kind) return a->kind > b->kind;
    return a->arch > b->arch;
}

/* What the driver will take for a card; kind 0 when there is nothing for it. */
static entry fatbin_find(const unsigned char *data, size_t bytes, int cc, int driver) {
    entry best = {0}, e = {0};
    if (bytes < FATBIN_HEADER_BYTES || read_u32(data) != FATBIN_MAGIC) return best;
    size_t at = read_u16(data + 6);
    if (at > bytes) return best;
    while (next_entry(data, bytes, &at, &e)) {
        bool fits = (e.kind == ENTRY_CODE && code_runs(&e, cc, driver)) ||
                    (e.kind == ENTRY_PTX && ptx_runs(&e, cc, driver));
        if (fits && entry_better(&e, &best)) best = e;
    }
    return best;
}

static int code_path_of(uint32_t arch) { return arch >= 90 ? 900 : arch >= 80 ? 800 : 750; }

static cuda_image image_of_fatbin(const cuda_blob *blob, int cc, int driver) {
    size_t bytes = (size_t)(blob->fatbin_end - blob->fatbin);
    entry e = fatbin_find(blob->fatbin, bytes, cc, driver);
    if (e.kind == 0) return (cuda_image){.kind = CUDA_IMAGE_NONE};
    cuda_image image = {.kind = CUDA_IMAGE_FATBIN, .code_path = code_path_of(e.arch)};
    (void)snprintf(image.name, sizeof image.name,
                   e.kind == ENTRY_CODE ? "sm_%u%s cubin" : "compute_%u%s PTX", e.arch,
                   (e.flags & ENTRY_EXACT) != 0 ? "a" : "");
    return image;
}

static const cuda_image NONE = {.kind = CUDA_IMAGE_NONE};

cuda_image cuda_image_ptx(const cuda_images *images, int cc) {
    for (size_t i = 0; i < images->count && cc >= CUDA_CC_MIN; i++)
        if (images->blobs[i].ptx != images->blobs[i].ptx_end)
            return (cuda_image){.kind = CUDA_IMAGE_PTX, .code_path = 750, .name = "PTX"};
    return NONE;
}

cuda_image cuda_image_pick(const cuda_images *images, int cc, int driver_version) {
    cuda_image image = NONE;
    size_t i = 0;
    while (i < images->count && images->blobs[i].fatbin == images->blobs[i].fatbin_end) i++;
    if (i < images->count && cc >= CUDA_CC_MIN)
        image = image_of_fatbin(&images->blobs[i], cc, driver_version);
    return image.kind != CUDA_IMAGE_NONE ? image : cuda_image_ptx(images, cc);
}
