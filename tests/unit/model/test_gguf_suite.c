/* test_gguf_suite.c - hand-made files of another project, with what must happen to each. */
#include <stdio.h>

#include "golden_paths.h"
#include "model/gguf.h"

/* Files whose name begins with TENSORS_ hold no tensor data: a header is all they have. */
static status open_suite_file(const char *folder, const char *name, error *err) {
    char path[1200];
    blob *file = NULL;
    gguf *g = NULL;
    (void)snprintf(path, sizeof path, "%s/files/%s", folder, name);
    status st = blob_open_file(&file, path, err);
    if (st != OK) return st;
    st = gguf_open_header(&g, file, err);
    gguf_close(g);
    blob_close(file);
    return st;
}

TEST(gguf_every_handcrafted_file_is_accepted_or_refused_as_expected) {
    SHARED_OR_SKIP(folder, "suites/gguf-handcrafted");
    char path[1200], name[128];
    int accept = 0, cases = 0;
    (void)snprintf(path, sizeof path, "%s/expected.tsv", folder);
    FILE *fp = fopen(path, "r");
    CHECK(fp != NULL);
    while (fp != NULL && fscanf(fp, "%127s %d", name, &accept) == 2) {
        error err = {0};
        status st = open_suite_file(folder, name, &err);
        if ((st == OK) != (accept == 1)) (void)fprintf(stderr, "%s: %s\n", name, err.msg);
        CHECK((st == OK) == (accept == 1));
        cases++;
    }
    if (fp != NULL) (void)fclose(fp);
    CHECK_EQ(cases, 54);
}

TEST(gguf_handcrafted_files_without_data_are_refused_when_data_is_asked_for) {
    SHARED_OR_SKIP(path, "suites/gguf-handcrafted/files/TENSORS_SUCCESS_s1.gguf");
    blob *file = NULL;
    gguf *g = NULL;
    error err = {0};
    CHECK_EQ(blob_open_file(&file, path, &err), OK);
    CHECK_EQ(gguf_open(&g, file, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "file has");
    blob_close(file);
}
