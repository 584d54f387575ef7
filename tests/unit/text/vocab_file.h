/* vocab_file.h - test vocabularies: read from a GGUF file, or built by hand.
 *
 * A reader just large enough for the tokenizer tests, so that they do not depend on the rooms
 * above text/.  It trusts its files.  Layout: the GGUF specification. */
#ifndef VOCAB_FILE_H
#define VOCAB_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/tok_vocab.h"

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
    file_bytes file; /* owned */
    str *pieces;     /* owned, like the next two */
    float *scores;
    uint8_t *types;
    tok_vocab vocab; /* borrows all of the above */
} vocab_file;

typedef struct gguf_cursor {
    const char *p;
} gguf_cursor;

static uint64_t gguf_take(gguf_cursor *c, size_t bytes) {
    uint64_t v = 0;
    memcpy(&v, c->p, bytes);
    c->p += bytes;
    return v;
}

static str gguf_take_str(gguf_cursor *c) {
    size_t n = (size_t)gguf_take(c, 8);
    str s = {c->p, n};
    c->p += n;
    return s;
}

/* Bytes of a scalar of each GGUF type; 8 is a string, 9 an array. */
static size_t gguf_scalar_bytes(uint32_t type) {
    static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return bytes[type];
}

static void vocab_take_array(vocab_file *v, str key, gguf_cursor *c) {
    uint32_t type = (uint32_t)gguf_take(c, 4);
    size_t count = (size_t)gguf_take(c, 8);
    bool tokens = str_eq_c(key, "tokenizer.ggml.tokens");
    if (tokens) {
        v->vocab.count = (uint32_t)count;
        v->pieces = calloc(count, sizeof *v->pieces);
        v->scores = calloc(count, sizeof *v->scores);
        v->types = malloc(count);
        memset(v->types, TOK_TYPE_NORMAL, count);
    }
    for (size_t i = 0; i < count; i++) {
        if (type == 8) {
            str s = gguf_take_str(c);
            if (tokens) v->pieces[i] = s;
            continue;
        }
        uint64_t value = gguf_take(c, gguf_scalar_bytes(type));
        if (str_eq_c(key, "tokenizer.ggml.scores")) memcpy(&v->scores[i], &value, sizeof(float));
        if (str_eq_c(key, "tokenizer.ggml.token_type")) v->types[i] = (uint8_t)value;
    }
}

static void vocab_take_scalar(tok_vocab *v, str key, uint64_t value) {
    if (str_eq_c(key, "tokenizer.ggml.bos_token_id")) v->bos_id = (int32_t)value;
    if (str_eq_c(key, "tokenizer.ggml.eos_token_id")) v->eos_id = (int32_t)value;
    if (str_eq_c(key, "tokenizer.ggml.eot_token_id")) v->eot_id = (int32_t)value;
    if (str_eq_c(key, "tokenizer.ggml.unknown_token_id")) v->unk_id = (int32_t)value;
    if (str_eq_c(key, "tokenizer.ggml.add_bos_token")) v->add_bos = value != 0;
    if (str_eq_c(key, "tokenizer.ggml.add_eos_token")) v->add_eos = value != 0;
    if (str_eq_c(key, "tokenizer.ggml.add_space_prefix")) v->add_space_prefix = value != 0;
}

/* Takes over the bytes of `file`. */
UNUSED_OK static void vocab_file_parse(vocab_file *v, file_bytes file) {
    *v = (vocab_file){.file = file};
    /* the defaults of the "llama" tokenizer model */
    v->vocab = (tok_vocab){.kind = TOK_KIND_SPM,
                           .bos_id = 1,
                           .eos_id = 2,
                           .eot_id = TOK_ID_NONE,
                           .unk_id = 0,
                           .add_bos = true,
                           .add_space_prefix = true};
    gguf_cursor c = {file.p + 16};
    for (uint64_t left = gguf_take(&c, 8); left > 0; left--) {
        str key = gguf_take_str(&c);
        uint32_t type = (uint32_t)gguf_take(&c, 4);
        if (type == 9)
            vocab_take_array(v, key, &c);
        else if (type == 8)
            (void)gguf_take_str(&c);
        else
            vocab_take_scalar(&v->vocab, key, gguf_take(&c, gguf_scalar_bytes(type)));
    }
    v->vocab.pieces = v->pieces;
    v->vocab.scores = v->scores;
    v->vocab.types = v->types;
}

UNUSED_OK static void vocab_file_free(vocab_file *v) {
    free(v->file.p);
    free(v->pieces);
    free(v->scores);
    free(v->types);
}

#endif
