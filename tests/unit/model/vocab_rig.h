/* vocab_rig.h - a model directory made by a test: files go in, a vocabulary or a refusal comes
 * out. */
#ifndef VOCAB_RIG_H
#define VOCAB_RIG_H

#include <dirent.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
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

static inline void rig_deinit(vocab_rig *r) {
    char path[512];
    DIR *dir = opendir(r->dir);
    for (struct dirent *e = dir != NULL ? readdir(dir) : NULL; e != NULL; e = readdir(dir)) {
        (void)snprintf(path, sizeof path, "%s/%s", r->dir, e->d_name);
        (void)unlink(path);
    }
    if (dir != NULL) (void)closedir(dir);
    (void)rmdir(r->dir);
    model_close(r->m);
}

static inline void rig_put(vocab_rig *r, const char *name, str text) {
    char path[512];
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
