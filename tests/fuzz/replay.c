/* replay.c - run a fuzz target over corpus files without libFuzzer, so plain
 * `make check` replays every past crash under any compiler. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

static int replay(const char *path) {
    FILE *fp = fopen(path, "rb");
    if (fp == NULL) {
        perror(path);
        return 1;
    }
    (void)fseek(fp, 0, SEEK_END);
    long size = ftell(fp);
    (void)fseek(fp, 0, SEEK_SET);
    /* an exact heap block: the sanitizer sees the first byte read past the input */
    uint8_t *bytes = malloc(size > 0 ? (size_t)size : 1);
    size_t n = bytes != NULL ? fread(bytes, 1, (size_t)size, fp) : 0;
    (void)fclose(fp);
    if (bytes != NULL) (void)LLVMFuzzerTestOneInput(bytes, n);
    free(bytes);
    return bytes == NULL;
}

int main(int argc, char **argv) {
    int bad = 0;
    for (int i = 1; i < argc; i++) bad += replay(argv[i]);
    const char *name = strrchr(argv[0], '/');
    printf("%s: %d passed, %d failed, 0 skipped\n", name != NULL ? name + 1 : argv[0],
           argc - 1 - bad, bad);
    return bad != 0 || argc < 2;
}
