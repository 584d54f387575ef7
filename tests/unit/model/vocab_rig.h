/* vocab_rig.h - a model directory made by a test: files go in, a vocabulary or a refusal comes
 * out. */
#ifndef VOCAB_RIG_H
#define VOCAB_RIG_H

#include <dirent.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "golden_paths.h"
#include "model/model.h"

typedef struct vocab_rig {
    char dir[64];
    model *m; /* of the last rig_open() */
} vocab_rig;

static inline void rig_init(vocab_rig *r) {
    *r = (vocab_rig){.dir = "/tmp/gantry-vocab-"};
    memset(r->dir + strlen(r->dir), 'X', 6); /* for mkdtemp() to fill */
    CHECK(mkdtemp(r->dir) != NULL);
}

/* The folder `name` of the directory, or the directory itself, with the files in it. */
static inline void rig_remove(const vocab_rig *r, const char *name) {
    char path[1024], folder[512];
    (void)snprintf(folder, sizeof folder, "%s/%s", r->dir, name);
    DIR *dir = opendir(folder);
    for (struct dirent *e = dir != NULL ? readdir(dir) : NULL; e != NULL; e = readdir(dir)) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        (void)unlink(path);
    }
    if (dir != NULL) (void)closedir(dir);
    (void)rmdir(folder);
}

static inline void rig_deinit(vocab_rig *r) {
    rig_remove(r, "additional_chat_templates");
    rig_remove(r, "");
    model_close(r->m);
}

/* `name` may lie in a folder, which is made then. */
static inline void rig_put(vocab_rig *r, const char *name, str text) {
    char path[512];
    const char *slash = strchr(name, '/');
    (void)snprintf(path, sizeof path, "%s/%.*s", r->dir, slash != NULL ? (int)(slash - name) : 0,
                   name);
    if (slash != NULL) (void)mkdir(path, 0700);
    (void)snprintf(path, sizeof path, "%s/%s", r->dir, name);
    FILE *fp = fopen(path, "wb");
    CHECK(fp != NULL && fwrite(text.p, 1, text.n, fp) == text.n);
    if (fp != NULL) (void)fclose(fp);
}

/* Opens the directory; the message is empty when that went well. */
static inline const char *rig_open(vocab_rig *r) {
    static error err;
    err = (error){0};
    model_close(r->m);
    r->m = NULL;
    if (model_open_vocab(&r->m, r->dir, &err) != OK) {
        CHECK(err.msg[0] != '\0');
        r->m = NULL;
    }
    return err.msg;
}

/* A tokenizer.json of these members, behind the version. */
static inline const char *rig_json(vocab_rig *r, const char *members) {
    buf b;
    buf_init(&b, 1 << 20);
    buf_printf(&b, "{\"version\":\"1.0\",%s}", members);
    rig_put(r, "tokenizer.json", buf_view(&b));
    buf_deinit(&b);
    return rig_open(r);
}

/* The vocabulary of such a file; it has to open. */
static inline const tok_vocab *rig_vocab(vocab_rig *r, const char *members) {
    static const tok_vocab none;
    CHECK_STR(rig_json(r, members), "");
    return r->m != NULL ? &r->m->vocab : &none;
}

#endif
