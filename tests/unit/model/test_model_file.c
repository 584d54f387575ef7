/* test_model_file.c - which bytes a MODEL stands for; the model in the binary, and who goes
 * before it. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/os.h"
#include "model/inspect.h"
#include "model/model_internal.h"
#include "store/embedded.h"
#include "test.h"

/* An empty folder to stand in, and where we stood before. */
typedef struct elsewhere {
    char before[4096];
    char dir[32];
} elsewhere;

static void go_elsewhere(elsewhere *e) {
    (void)snprintf(e->dir, sizeof e->dir, "/tmp/gantry-name-%s", "XXXXXX");
    CHECK(getcwd(e->before, sizeof e->before) != NULL);
    CHECK(mkdtemp(e->dir) != NULL);
    CHECK_EQ(chdir(e->dir), 0);
    log_set_level(LOG_OFF);
}

static void come_back(elsewhere *e) {
    log_set_level(LOG_INFO);
    CHECK_EQ(chdir(e->before), 0);
    CHECK_EQ(rmdir(e->dir), 0);
}

static void put_file(const char *path, str bytes) {
    int fd = -1;
    CHECK_EQ(os_open_write(path, &fd, NULL), OK);
    CHECK_EQ(os_write_full(fd, bytes.p, bytes.n, NULL), OK);
    os_close(fd);
}

TEST(model_in_the_binary_opens_by_its_name) {
    elsewhere e;
    model *m = NULL;
    error err = {0};
    go_elsewhere(&e);
    CHECK(model_is_embedded("gantry-mini"));
    CHECK_EQ(model_open(&m, "gantry-mini", &err), OK);
    CHECK_STR(err.msg, "");
    CHECK_STR(m->hparams.arch, "llama");
    CHECK_STR(m->name, "gantry-mini");
    CHECK_HAS(m->description, "demonstration model");
    CHECK_STR(m->license, "Apache-2.0");
    CHECK_EQ(m->file_bytes, embedded_view().n);
    CHECK(m->chat_template.n > 0);
    const char *weights = m->token_embd.data;
    CHECK(weights > embedded_view().p && weights < embedded_view().p + embedded_view().n);
    CHECK_EQ((uintptr_t)weights % 32, 0);
    model_close(m);
    come_back(&e);
}

TEST(model_in_the_binary_has_a_vocabulary_and_can_be_inspected) {
    elsewhere e;
    model *m = NULL;
    buf out;
    error err = {0};
    go_elsewhere(&e);
    buf_init(&out, 1 << 24);
    CHECK_EQ(model_open_vocab(&m, "gantry-mini", &err), OK);
    CHECK(m->vocab.count > 1000);
    model_close(m);
    CHECK_EQ(model_inspect("gantry-mini", false, &out, &err), OK);
    buf_put_char(&out, '\0');
    CHECK_HAS(out.p, "demonstration model");
    buf_deinit(&out);
    come_back(&e);
}

TEST(model_in_the_binary_has_one_spelling) {
    elsewhere e;
    model *m = NULL;
    error err = {0};
    go_elsewhere(&e);
    CHECK(!model_is_embedded("Gantry-mini") && !model_is_embedded("./gantry-mini"));
    CHECK(!model_is_embedded("gantry-mini.gguf") && !model_is_embedded(""));
    CHECK_EQ(model_open(&m, "./gantry-mini", &err), ERR_NOT_FOUND);
    CHECK(m == NULL);
    come_back(&e);
}

TEST(model_file_of_that_name_goes_before_the_binary) {
    elsewhere e;
    model *m = NULL;
    error err = {0};
    go_elsewhere(&e);
    put_file("gantry-mini", S("no model at all"));
    CHECK(!model_is_embedded("gantry-mini"));
    CHECK_EQ(model_open(&m, "gantry-mini", &err), ERR_FORMAT);
    CHECK_EQ(model_open_vocab(&m, "gantry-mini", &err), ERR_FORMAT);
    put_file("gantry-mini", embedded_view());
    CHECK_EQ(model_open(&m, "gantry-mini", &err), OK);
    const char *weights = m->token_embd.data;
    CHECK(weights < embedded_view().p || weights >= embedded_view().p + embedded_view().n);
    model_close(m);
    CHECK_EQ(unlink("gantry-mini"), 0);
    CHECK(model_is_embedded("gantry-mini"));
    come_back(&e);
}

TEST(model_folder_of_that_name_goes_before_the_binary) {
    elsewhere e;
    model *m = NULL;
    error err = {0};
    go_elsewhere(&e);
    CHECK_EQ(mkdir("gantry-mini", 0700), 0);
    CHECK(!model_is_embedded("gantry-mini"));
    CHECK_EQ(model_open(&m, "gantry-mini", &err), ERR_NOT_FOUND);
    CHECK_HAS(err.msg, "no model.safetensors");
    CHECK_EQ(rmdir("gantry-mini"), 0);
    come_back(&e);
}
