/* embedded.c - see embedded.h.  The assembler reads the file: a C array of its size would take a
 * compiler seconds.  The Makefile compiles this anew when the file changes. */
#include "store/embedded.h"

__asm__(".pushsection .rodata\n"
        ".balign 4096\n" /* EMBEDDED_ALIGN_BYTES */
        "embedded_begin:\n"
        ".incbin \"models/gantry-mini/gantry-mini.gguf\"\n"
        "embedded_end:\n"
        ".byte 0\n"
        ".popsection\n");

extern const char embedded_begin[], embedded_end[];

str embedded_view(void) { return (str){embedded_begin, (size_t)(embedded_end - embedded_begin)}; }

status blob_open_embedded(blob **out, error *err) {
    return blob_open_memory(out, embedded_view(), EMBEDDED_NAME, err);
}
