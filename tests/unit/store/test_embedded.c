/* test_embedded.c - the model file that is part of this very test binary. */
#include "store/embedded.h"

#include "base/alloc.h"
#include "test.h"

TEST(embedded_is_a_gguf_file_that_begins_on_a_page) {
    str bytes = embedded_view();
    CHECK_EQ((uintptr_t)bytes.p % EMBEDDED_ALIGN_BYTES, 0);
    CHECK(str_starts(bytes, S("GGUF\3")));
    CHECK(bytes.n > 1 << 20 && bytes.n < 16 << 20);
}

TEST(embedded_blob_shows_the_bytes_themselves) {
    blob *b = NULL;
    error err = {0};
    CHECK_EQ(blob_open_embedded(&b, &err), OK);
    CHECK(blob_view(b).p == embedded_view().p);
    CHECK_EQ(blob_view(b).n, embedded_view().n);
    CHECK_STR(blob_name(b), "gantry-mini");
    blob_forget(b, blob_view(b).p, blob_view(b).n);
    CHECK(str_starts(blob_view(b), S("GGUF")));
    blob_close(b);
}

TEST(embedded_blob_without_memory_is_an_error) {
    blob *b = NULL;
    error err = {0};
    mem_fail_after(0);
    CHECK_EQ(blob_open_embedded(&b, &err), ERR_NOMEM);
    mem_fail_after(-1);
    CHECK_HAS(err.msg, "'gantry-mini'");
    CHECK(b == NULL);
}
