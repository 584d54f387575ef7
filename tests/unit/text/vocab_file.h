/* vocab_file.h - files for the tokenizer tests: bytes, and vocabularies with their tokenizer. */
#ifndef VOCAB_FILE_H
#define VOCAB_FILE_H

#include <stdio.h>
#include <stdlib.h>

#include "model/model.h"
#include "test.h"
#include "text/tokenizer.h"

#define UNUSED_OK __attribute__((unused))

typedef struct file_bytes {
    char *p; /* owned, terminated; free() */
    size_t n;
} file_bytes;

UNUSED_OK static file_bytes read_file(const char *path) {
    file_bytes f = {0};
    FILE *fp = fopen(path, "rb");
    if (fp == NULL) return f;
    (void)fseek(fp, 0, SEEK_END);
    long size = ftell(fp);
    (void)fseek(fp, 0, SEEK_SET);
    f.p = malloc((size_t)size + 1);
    f.n = f.p != NULL ? fread(f.p, 1, (size_t)size, fp) : 0;
    if (f.p != NULL) f.p[f.n] = '\0';
    (void)fclose(fp);
    return f;
}

typedef struct vocab_file {
    model *model;   /* owned */
    tokenizer *tok; /* owned; NULL when the file could not be opened, which is a failed check */
} vocab_file;

UNUSED_OK static void vocab_file_open(vocab_file *v, const char *path) {
    error err = {0};
    *v = (vocab_file){0};
    CHECK_EQ(model_open_vocab(&v->model, path, &err), OK);
    if (v->model != NULL) CHECK_EQ(tok_create(&v->tok, &v->model->vocab, &err), OK);
    CHECK_STR(err.msg, "");
}

UNUSED_OK static void vocab_file_close(vocab_file *v) {
    tok_destroy(v->tok);
    model_close(v->model);
}

#endif
