/* image.c - what the driver makes of a module's image: a fat binary, a cubin or PTX text.
 *
 * A fat binary (nvcc 13's and earlier, as observed): header {u32 magic, u16 version, u16 header
 * bytes, u64 bytes behind it}; then entries {u16 kind: 1 PTX, 2 cubin; u16; u32 header bytes; u64
 * bytes; u32 compressed bytes; u32; u16 minor, u16 major; u32 arch; u32 0 [2]; ...} with u64 flags
 * at 40. minor.major is the PTX version, or minor the ELF ABI version of a cubin.
 * A cubin is ELF: ABI version in e_ident[8]; e_flags has the arch in bits 8-15 from ABI 8 on, in
 * bits 0-7 before. */
#include "cudasim/driver/sim_internal.h"

#include <ctype.h>
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FATBIN_MAGIC = (int)0xba55ed50u,
    FATBIN_HEADER = 16,
    ENTRY_HEADER_MIN = 64,
    ENTRY_PTX = 1,
    ENTRY_CUBIN = 2,
    ENTRY_LZ4 = 0x2000,
    ENTRY_ZSTD = 0x8000,
    ENTRY_THIS_ARCH_ONLY = 0x100000, /* sm_90a */
    ABI_OF_CUDA_13 = 8,
    CUDA_13 = 13000,
    CUDA_WITH_ZSTD = 12040, /* driver 550 */
    IMAGE_BYTES_MAX = 64 << 20
};

/* A part of an image that could be loaded. */
typedef struct candidate {
    int arch, version; /* version: of PTX 10 * major + minor, else the ELF ABI */
    bool is_ptx, is_compressed, is_exact;
    const char *text;
    size_t text_bytes;
} candidate;

static uint32_t read_u32(const unsigned char *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t read_u64(const unsigned char *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint16_t read_u16(const unsigned char *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* --- rules of the driver -------------------- */

/* The newest PTX that the JIT of a CUDA version knows; PTX ISA, release notes. */
static int ptx_version_max(int driver) {
    static const int table[][2] = {{13000, 90}, {12090, 88}, {12080, 87}, {12070, 86}, {12050, 85},
                                   {12040, 84}, {12030, 83}, {12020, 82}, {12010, 81}, {12000, 80},
                                   {11080, 78}, {11070, 77}, {11060, 76}, {11050, 75}, {11040, 74},
                                   {11030, 73}, {11020, 72}, {11010, 71}, {11000, 70}, {10020, 65},
                                   {10010, 64}, {10000, 63}, {0, 60}};
    size_t i = 0;
    while (driver < table[i][0]) i++;
    return table[i][1];
}

static bool arch_fits(const candidate *c, const sim_gpu *gpu) {
    int device = gpu->cc_major * 10 + gpu->cc_minor;
    if (c->is_exact) return c->arch == device;
    if (c->is_ptx) return c->arch <= device;
    return c->arch / 10 == gpu->cc_major && c->arch <= device;
}

/* Whether this driver could load it, if the arch is right. */
static cu_result driver_fits(const candidate *c, int driver) {
    if (c->is_compressed && driver < CUDA_WITH_ZSTD) return CU_NO_BINARY_FOR_GPU;
    if (c->is_ptx)
        return c->version <= ptx_version_max(driver) ? CU_SUCCESS : CU_UNSUPPORTED_PTX_VERSION;
    return c->version >= ABI_OF_CUDA_13 && driver < CUDA_13 ? CU_NO_BINARY_FOR_GPU : CU_SUCCESS;
}

/* A cubin is better than PTX, then the newer arch. */
static bool is_better(const candidate *a, const candidate *b) {
    if (a->is_ptx != b->is_ptx) return !a->is_ptx;
    return a->arch > b->arch;
}

/* --- cubin -------------------- */

/* Where the last thing that the headers name ends; 0: they name nothing sensible. */
static size_t elf_bytes(const unsigned char *image) {
    Elf64_Ehdr h;
    memcpy(&h, image, sizeof h);
    if (h.e_shentsize != sizeof(Elf64_Shdr) || h.e_shoff > IMAGE_BYTES_MAX) return 0;
    size_t end = h.e_shoff + (size_t)h.e_shnum * sizeof(Elf64_Shdr);
    for (size_t i = 0; i < h.e_shnum; i++) {
        Elf64_Shdr s;
        memcpy(&s, image + h.e_shoff + i * sizeof s, sizeof s);
        if (s.sh_type == SHT_NOBITS || s.sh_offset > IMAGE_BYTES_MAX || s.sh_size > IMAGE_BYTES_MAX)
            continue;
        if (s.sh_offset + s.sh_size > end) end = s.sh_offset + s.sh_size;
    }
    return end;
}

static bool read_cubin(const unsigned char *image, candidate *c) {
    Elf64_Ehdr h;
    memcpy(&h, image, sizeof h);
    if (memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 || h.e_machine != 190 /* EM_CUDA */) return false;
    c->version = h.e_ident[EI_ABIVERSION];
    c->arch = (int)(h.e_flags >> (c->version >= ABI_OF_CUDA_13 ? 8 : 0) & 0xff);
    c->text = (const char *)image;
    c->text_bytes = elf_bytes(image);
    return c->text_bytes != 0;
}

/* --- PTX -------------------- */

/* Of ".version 6.5": 65; of ".target sm_90a, debug": 90 and its suffix.  0: there is no such
 * line. */
static int directive(const char *text, const char *name, const char *format, char *suffix) {
    const char *at = strstr(text, name);
    int major = 0, minor = 0;
    if (at == NULL) return 0;
    at += strlen(name);
    if (suffix == NULL) return sscanf(at, format, &major, &minor) == 2 ? major * 10 + minor : 0;
    return sscanf(at, format, &major, suffix) >= 1 ? major : 0;
}

static bool read_ptx(const char *text, candidate *c) {
    char suffix = '\0';
    c->is_ptx = true;
    c->version = directive(text, ".version", "%d.%d", NULL);
    c->arch = directive(text, ".target", " sm_%d%c", &suffix);
    c->is_exact = suffix == 'a';
    c->text = text;
    c->text_bytes = strlen(text);
    return c->version != 0 && c->arch != 0;
}

/* --- fat binary -------------------- */

/* The entry at `p`; 0: it does not fit in `room`, else its bytes with its header. */
static size_t read_entry(const unsigned char *p, size_t room, candidate *c) {
    if (room < ENTRY_HEADER_MIN) return 0;
    uint32_t header = read_u32(p + 4);
    uint64_t bytes = read_u64(p + 8), flags = read_u64(p + 40);
    if (header < ENTRY_HEADER_MIN || header > room || bytes > room - header) return 0;
    c->is_ptx = read_u16(p) == ENTRY_PTX;
    c->version = c->is_ptx ? read_u16(p + 26) * 10 + read_u16(p + 24) : read_u16(p + 24);
    c->arch = (int)read_u32(p + 28);
    c->is_compressed = (flags & (ENTRY_LZ4 | ENTRY_ZSTD)) != 0;
    c->is_exact = (flags & ENTRY_THIS_ARCH_ONLY) != 0;
    c->text = c->is_compressed ? NULL : (const char *)p + header;
    c->text_bytes = c->is_compressed ? 0 : bytes;
    return header + bytes;
}

typedef struct choosing {
    const sim_gpu *gpu;
    int driver;
    bool found;
    candidate best;
    cu_result refused; /* why the best that was not taken was not */
} choosing;

static void consider(choosing *ch, const candidate *c) {
    if (!arch_fits(c, ch->gpu)) return;
    cu_result fits = driver_fits(c, ch->driver);
    if (fits != CU_SUCCESS) {
        if (ch->refused != CU_UNSUPPORTED_PTX_VERSION) ch->refused = fits;
    } else if (!ch->found || is_better(c, &ch->best)) {
        ch->best = *c;
        ch->found = true;
    }
}

static cu_result read_fatbin(const unsigned char *image, choosing *ch) {
    uint64_t room = read_u64(image + 8);
    const unsigned char *p = image + read_u16(image + 6);
    if (read_u16(image + 6) < FATBIN_HEADER || room > IMAGE_BYTES_MAX) return CU_INVALID_IMAGE;
    while (room > 0) {
        candidate c = {0};
        size_t bytes = read_entry(p, room, &c);
        if (bytes == 0) return CU_INVALID_IMAGE;
        consider(ch, &c);
        p += bytes;
        room -= bytes;
    }
    return CU_SUCCESS;
}

/* --- the choice -------------------- */

static cu_result consider_one(choosing *ch, const candidate *c) {
    consider(ch, c);
    if (!ch->found && c->is_ptx && ch->refused == CU_SUCCESS) ch->refused = CU_INVALID_PTX;
    return CU_SUCCESS;
}

cu_result image_choose(const void *image, const sim_gpu *gpu, int driver, image_choice *out) {
    choosing ch = {.gpu = gpu, .driver = driver};
    candidate c = {0};
    const unsigned char *bytes = image;
    cu_result result = CU_INVALID_IMAGE;
    if (bytes[0] == 0x50 && read_u32(bytes) == (uint32_t)FATBIN_MAGIC)
        result = read_fatbin(bytes, &ch);
    else if (bytes[0] == 0x7f)
        result = read_cubin(bytes, &c) ? consider_one(&ch, &c) : result;
    else if (read_ptx(image, &c))
        result = consider_one(&ch, &c);
    else if (c.text_bytes > 0 && c.version != 0)
        result = CU_INVALID_PTX;
    if (result != CU_SUCCESS) return result;
    if (!ch.found) return ch.refused != CU_SUCCESS ? ch.refused : (cu_result)CU_NO_BINARY_FOR_GPU;
    *out = (image_choice){.arch = ch.best.arch,
                          .is_ptx = ch.best.is_ptx,
                          .text = ch.best.text,
                          .text_bytes = ch.best.text_bytes};
    return CU_SUCCESS;
}

/* --- names -------------------- */

static bool is_name_char(char c) { return isalnum((unsigned char)c) || c == '_' || c == '$'; }

/* `name` as a whole word behind `before`: ".entry k_norm(" in PTX, ".text.k_norm\0" in a cubin. */
bool image_has_kernel(const sim_module *module, const char *name) {
    const char *text = module->text, *end = text + module->text_bytes;
    size_t name_bytes = strlen(name);
    if (text == NULL) return true; /* nothing to read: the kernels' table decides */
    while ((text = memmem(text, (size_t)(end - text), name, name_bytes)) != NULL) {
        const char *after = text + name_bytes;
        bool is_entry = module->is_ptx
                            ? text - module->text >= 7 && memcmp(text - 7, ".entry ", 7) == 0
                            : text - module->text >= 6 && memcmp(text - 6, ".text.", 6) == 0;
        if (is_entry && after < end && !is_name_char(*after)) return true;
        text++;
    }
    return false;
}
