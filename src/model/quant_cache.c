/* quant_cache.c - see quant_cache.h. */
#include "model/quant_cache.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>

#include "base/log.h"
#include "base/os.h"
#include "base/outfile.h"
#include "model/hf_dir.h"
#include "model/model.h"
#include "store/safetensors.h"

enum { HASH_BYTES = 16, HEX_BYTES = 2 * HASH_BYTES + 1 };

/* Whoever changes how copies are made changes this. */
static const char version[] = "gantry quant cache 1";

typedef crypto_generichash_state hash_state;

static void hash_begin(hash_state *h) {
    (void)crypto_generichash_init(h, NULL, 0, HASH_BYTES);
    (void)crypto_generichash_update(h, (const unsigned char *)version, sizeof version);
}

static void hash_put(hash_state *h, const void *bytes, size_t n) {
    uint64_t count = n; /* so that no two lists of parts give the same bytes */
    (void)crypto_generichash_update(h, (const unsigned char *)&count, sizeof count);
    (void)crypto_generichash_update(h, bytes, n);
}

static void hash_end(hash_state *h, char hex[HEX_BYTES]) {
    unsigned char sum[HASH_BYTES];
    (void)crypto_generichash_final(h, sum, sizeof sum);
    (void)sodium_bin2hex(hex, HEX_BYTES, sum, sizeof sum);
}

static status path_of(char out[QUANT_CACHE_PATH_BYTES], const char *dir, const char *name,
                      const char *end, error *err) {
    int n = snprintf(out, QUANT_CACHE_PATH_BYTES, "%s/%s%s", dir, name, end);
    if (n >= 0 && n < QUANT_CACHE_PATH_BYTES) return OK;
    return error_set(err, ERR_LIMIT, "the path of '%s' has %d bytes, at most %d", name, n,
                     QUANT_CACHE_PATH_BYTES - 1);
}

/* --- the files of a source -------------------------------------------------------------- */
/* Everything that has a part in what a directory's model computes or says. */
static const char *const side_files[] = {
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "encoder.json",
    "vocab.bpe",
    "vocab.txt",
    "spiece.model",
    "chat_template.jinja",
    "chat_template.json",
    "1_Pooling/config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "additional_chat_templates/tool_use.jinja",
};

typedef status (*file_fn)(hash_state *h, const char *path, error *err);

static status add_stamp(hash_state *h, const char *path, error *err) {
    os_stamp stamp = {0};
    TRY(os_file_stamp(path, &stamp, err));
    hash_put(h, path, strlen(path));
    hash_put(h, &stamp, sizeof stamp);
    return OK;
}

/* The name within the directory counts, not where the directory is. */
static status add_content(hash_state *h, const char *path, error *err) {
    const char *slash = strrchr(path, '/');
    blob *b = NULL;
    TRY(blob_open_file(&b, path, err));
    str bytes = blob_view(b);
    if (slash != NULL && !str_ends(str_of(path), S(".gguf"))) hash_put(h, slash, strlen(slash));
    hash_put(h, bytes.p, bytes.n);
    blob_forget(b, bytes.p, bytes.n);
    blob_close(b);
    return OK;
}

static status each_shard(const char *source, hash_state *h, file_fn fn, error *err) {
    safetensors *set = NULL;
    TRY(safetensors_open(&set, source, err));
    status st = OK;
    for (uint32_t i = 0; st == OK && i < safetensors_shards(set); i++)
        st = fn(h, safetensors_shard_path(set, i), err);
    safetensors_close(set);
    return st;
}

static status each_file(const char *source, hash_state *h, file_fn fn, error *err) {
    char path[QUANT_CACHE_PATH_BYTES];
    error cause = {0};
    if (!hf_dir_is(source)) return fn(h, source, err);
    for (size_t i = 0; i < sizeof side_files / sizeof *side_files; i++) {
        TRY(path_of(path, source, side_files[i], "", err));
        status st = fn(h, path, &cause);
        if (st != OK && st != ERR_NOT_FOUND) return error_set(err, st, "%s", cause.msg);
    }
    return each_shard(source, h, fn, err);
}

static status hash_files(const char *source, file_fn fn, char hex[HEX_BYTES], error *err) {
    hash_state h;
    hash_begin(&h);
    TRY(each_file(source, &h, fn, err));
    hash_end(&h, hex);
    return OK;
}

/* --- what is known of files ---------------------------------------------------------------- */
/* `count` hashes in a file of their own; false when it is no such file. */
static bool read_hashes(const char *path, char hex[][HEX_BYTES], uint32_t count) {
    for (uint32_t i = 0; i < count; i++) hex[i][0] = '\0';
    int fd = -1;
    bool good = os_open_read(path, &fd, NULL) == OK;
    for (uint32_t i = 0; good && i < count; i++) {
        size_t got = 0;
        good = os_read_full(fd, hex[i], HEX_BYTES - 1, &got, NULL) == OK && got == HEX_BYTES - 1;
        hex[i][HEX_BYTES - 1] = '\0';
        good = good && strspn(hex[i], "0123456789abcdef") == HEX_BYTES - 1;
    }
    os_close(fd);
    return good;
}

static status write_hashes(const char *path, char hex[][HEX_BYTES], uint32_t count, error *err) {
    outfile f;
    status st = outfile_open(&f, path, err);
    for (uint32_t i = 0; st == OK && i < count; i++)
        st = os_write_full(f.fd, hex[i], HEX_BYTES - 1, err);
    if (st == OK) st = outfile_commit(&f, err);
    outfile_abort(&f);
    return st;
}

static status content_of(const char *dir, const char *source, char hex[HEX_BYTES], error *err) {
    char stamp[HEX_BYTES], read[1][HEX_BYTES], known[QUANT_CACHE_PATH_BYTES];
    TRY(hash_files(source, add_stamp, stamp, err));
    TRY(path_of(known, dir, stamp, ".known", err));
    if (!read_hashes(known, read, 1)) {
        log_info("cache", "reading '%s' to know its content", source);
        TRY(hash_files(source, add_content, read[0], err));
        TRY(write_hashes(known, read, 1, err));
    }
    memcpy(hex, read[0], HEX_BYTES);
    return OK;
}

/* --- is a copy what was written? -------------------------------------------------------- */
/* Beside a copy lie the hash of its bytes and that of the file's stamp.  Where the stamp is the
 * same nobody has touched the file; else the bytes decide. */
enum { SUM_CONTENT, SUM_STAMP, SUM_COUNT };

static status write_sum(const char *copy, const char *sum, error *err) {
    char now[SUM_COUNT][HEX_BYTES];
    TRY(hash_files(copy, add_content, now[SUM_CONTENT], err));
    TRY(hash_files(copy, add_stamp, now[SUM_STAMP], err));
    return write_hashes(sum, now, SUM_COUNT, err);
}

static bool is_whole(const char *copy, const char *sum) {
    char known[SUM_COUNT][HEX_BYTES], now[SUM_COUNT][HEX_BYTES];
    if (!read_hashes(sum, known, SUM_COUNT)) return false;
    if (hash_files(copy, add_stamp, now[SUM_STAMP], NULL) != OK) return false;
    if (strcmp(known[SUM_STAMP], now[SUM_STAMP]) == 0) return true;
    if (hash_files(copy, add_content, now[SUM_CONTENT], NULL) != OK) return false;
    if (strcmp(known[SUM_CONTENT], now[SUM_CONTENT]) != 0) return false;
    (void)write_hashes(sum, now, SUM_COUNT, NULL); /* else the next start reads it again */
    return true;
}

/* --- making ------------------------------------------------------------------------------- */
/* As a GGUF file that goes away again: what is quantized is read from a file. */
static status make_from_dir(const char *source, const char *target, const requant_options *opt,
                            error *err) {
    requant_report report;
    model *m = NULL;
    outfile f;
    TRY(model_open(&m, source, err));
    status st = outfile_open(&f, target, err);
    if (st == OK) st = hf_dir_write(m, source, f.fd, err);
    model_close(m);
    if (st == OK) st = requant_file(f.temp, target, opt, &report, err);
    outfile_abort(&f);
    return st;
}

static status make_copy(const char *source, const char *target, const requant_options *opt,
                        error *err) {
    requant_report report;
    if (hf_dir_is(source)) return make_from_dir(source, target, opt, err);
    return requant_file(source, target, opt, &report, err);
}

static bool is_there(const char *path) {
    os_stamp stamp;
    return os_file_stamp(path, &stamp, NULL) == OK;
}

static status make_folders(const char *dir, error *err) {
    char parent[QUANT_CACHE_PATH_BYTES];
    const char *slash = strrchr(dir, '/');
    if (slash != NULL && slash != dir) {
        str_copy_c(parent, sizeof parent, (str){dir, (size_t)(slash - dir)});
        TRY(os_make_dir(parent, err));
    }
    return os_make_dir(dir, err);
}

status quant_cache_get(char out[QUANT_CACHE_PATH_BYTES], const char *dir, const char *source,
                       const requant_options *opt, bool *made, error *err) {
    char hex[HEX_BYTES], name[HEX_BYTES + 32], sum[QUANT_CACHE_PATH_BYTES];
    TRY(make_folders(dir, err));
    TRY(content_of(dir, source, hex, err));
    (void)snprintf(name, sizeof name, "%s-%s", hex, quant_mix_name(opt->mix));
    TRY(path_of(out, dir, name, ".gguf", err));
    TRY(path_of(sum, dir, name, ".sum", err));
    *made = !is_there(out) || !is_whole(out, sum);
    if (!*made) return OK;
    if (is_there(out)) log_warn("cache", "'%s' is not what was written: made again", out);
    TRY(make_copy(source, out, opt, err));
    return write_sum(out, sum, err);
}
