/* golden_paths.h - finds the reference data that lies beside the repository.
 *
 * The folder is the environment variable GANTRY_SHARED, or ../shared seen from the
 * repository root.  Tests that need it say SHARED_OR_SKIP(path, "oracle/public/...")
 * and then use `path`; without the folder they skip, or fail when
 * GANTRY_REQUIRE_ORACLE=1 says that it has to be there. */
#ifndef GOLDEN_PATHS_H
#define GOLDEN_PATHS_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"

/* The path of a file or folder under the shared data, NULL when it is not there.
 * The result lives in one of four buffers taken in turn. */
static inline const char *shared_path(const char *relative) {
    static char paths[4][1024];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    const char *root = getenv("GANTRY_SHARED");
    (void)snprintf(path, sizeof paths[0], "%s/%s", root != NULL ? root : "../shared", relative);
    FILE *fp = fopen(path, "rb");
    if (fp == NULL) return NULL;
    (void)fclose(fp);
    return path;
}

static inline bool shared_is_required(void) {
    const char *required = getenv("GANTRY_REQUIRE_ORACLE");
    return required != NULL && strcmp(required, "1") == 0;
}

/* Declares `path_var`; leaves the test when the file is not there. */
#define SHARED_OR_SKIP(path_var, relative)               \
    const char *path_var = shared_path(relative);        \
    if (path_var == NULL) {                              \
        if (!shared_is_required()) SKIP("no " relative); \
        CHECK(!"reference data is required: " relative); \
        return;                                          \
    }

#endif
