/* vocab_dir.c - see vocab_dir.h. */
#include "model/vocab_dir.h"

#include <stdio.h>

#include "base/os.h"
#include "model/vocab_json.h"

/* --- paths ----------------------------------------------------------------- */
/* DIR/NAME */
static status join(char out[VOCAB_PATH_BYTES_MAX], const char *dir, const char *name, error *err) {
    str d = str_of(dir);
    const char *slash = d.n == 0 || str_ends(d, S("/")) ? "" : "/";
    int n = snprintf(out, VOCAB_PATH_BYTES_MAX, "%.*s%s%s", (int)d.n, d.p, slash, name);
    if (n < VOCAB_PATH_BYTES_MAX) return OK;
    return error_set(err, ERR_LIMIT, "the path of '%s' has %d bytes, at most %d", name, n,
                     VOCAB_PATH_BYTES_MAX - 1);
}

static bool is_directory(const char *path) {
    char inside[VOCAB_PATH_BYTES_MAX];
    int fd = -1;
    if (join(inside, path, ".", NULL) != OK || os_open_read(inside, &fd, NULL) != OK) return false;
    os_close(fd);
    return true;
}

static status open_path(blob **out, const char *path, error *err) {
    blob *b = NULL;
    TRY(blob_open_file(&b, path, err));
    size_t bytes = blob_view(b).n;
    if (bytes > VOCAB_FILE_BYTES_MAX) {
        blob_close(b);
        return error_set(err, ERR_LIMIT, "'%s' has %zu bytes, at most %zu", path, bytes,
                         VOCAB_FILE_BYTES_MAX);
    }
    *out = b;
    return OK;
}

/* *out is NULL when there is no such file. */
static status open_beside(blob **out, const char *dir, const char *name, error *err) {
    char path[VOCAB_PATH_BYTES_MAX];
    error cause = {0};
    TRY(join(path, dir, name, err));
    status st = open_path(out, path, &cause);
    if (st == ERR_NOT_FOUND) {
        *out = NULL;
        return OK;
    }
    return st == OK ? OK : error_set(err, st, "%s", cause.msg);
}

/* --- finding --------------------------------------------------------------- */
static const struct {
    const char *name;
    vocab_source source;
    const char *merges; /* the file that has to be beside it */
} mains[] = {
    {"tokenizer.json", VOCAB_SOURCE_TOKENIZER_JSON, NULL},
    {"tokenizer.model", VOCAB_SOURCE_SPM, NULL},
    {"spiece.model", VOCAB_SOURCE_SPM, NULL},
    {"vocab.json", VOCAB_SOURCE_PAIRS, "merges.txt"},
    {"encoder.json", VOCAB_SOURCE_PAIRS, "vocab.bpe"},
    {"vocab.txt", VOCAB_SOURCE_TXT, NULL},
};

static status find_in_directory(vocab_place *p, const char *path, error *err) {
    str_copy_c(p->dir, sizeof p->dir, str_of(path));
    for (size_t i = 0; i < sizeof mains / sizeof *mains; i++) {
        TRY(open_beside(&p->file, path, mains[i].name, err));
        if (p->file == NULL) continue;
        p->source = mains[i].source;
        str_copy_c(p->name, sizeof p->name, str_of(mains[i].name));
        return OK;
    }
    return error_set(err, ERR_NOT_FOUND,
                     "no tokenizer in '%s': looked for tokenizer.json, tokenizer.model, "
                     "spiece.model, vocab.json with merges.txt, encoder.json with vocab.bpe, "
                     "vocab.txt",
                     path);
}

/* By name where the name says it, else by content: "{" is JSON, a first field of pieces is
 * SentencePiece. */
static vocab_source source_of(str name, str bytes) {
    for (size_t i = 0; i < sizeof mains / sizeof *mains; i++)
        if (str_eq_c(name, mains[i].name)) return mains[i].source;
    size_t i = 0;
    while (i < bytes.n && strchr(" \t\r\n", bytes.p[i]) != NULL && bytes.p[i] != '\0') i++;
    if (i < bytes.n && bytes.p[i] == '{') return VOCAB_SOURCE_TOKENIZER_JSON;
    bool pieces = str_starts(bytes, S("\n")); /* field 1, length in front */
    return pieces && str_ends(name, S(".model")) ? VOCAB_SOURCE_SPM : VOCAB_SOURCE_NONE;
}

static status find_file(vocab_place *p, const char *path, error *err) {
    const char *slash = strrchr(path, '/');
    str name = str_of(slash != NULL ? slash + 1 : path);
    blob *b = NULL;
    TRY(blob_open_file(&b, path, err));
    p->source = source_of(name, blob_view(b));
    blob_close(b);
    if (p->source == VOCAB_SOURCE_NONE) return OK;
    str_copy_c(p->dir, sizeof p->dir, (str){path, strlen(path) - name.n});
    str_copy_c(p->name, sizeof p->name, name);
    return open_path(&p->file, path, err);
}

status vocab_dir_find(vocab_place *out, const char *path, error *err) {
    vocab_place p = {.source = VOCAB_SOURCE_NONE};
    if (strlen(path) >= VOCAB_PATH_BYTES_MAX)
        return error_set(err, ERR_LIMIT, "the path has %zu bytes, at most %d", strlen(path),
                         VOCAB_PATH_BYTES_MAX - 1);
    TRY(is_directory(path) ? find_in_directory(&p, path, err) : find_file(&p, path, err));
    *out = p;
    return OK;
}

/* --- the files beside it --------------------------------------------------- */
typedef status (*side_reader)(vocab_draft *d, str text, error *err);

static status read_generation(vocab_draft *d, str text, error *err) {
    return vocab_config_ids(d, text, "generation_config.json", err);
}

static status read_config(vocab_draft *d, str text, error *err) {
    return vocab_config_ids(d, text, "config.json", err);
}

static status check_template(const char *name, str text, error *err) {
    if (text.n <= MODEL_CHAT_TEMPLATE_BYTES_MAX) return OK;
    return error_set(err, ERR_LIMIT, "%s: %zu bytes, at most %d", name, text.n,
                     MODEL_CHAT_TEMPLATE_BYTES_MAX);
}

static status read_jinja(vocab_draft *d, str text, error *err) {
    TRY(check_template("chat_template.jinja", text, err));
    return vocab_draft_keep(d, text, &d->m->chat_template, err);
}

static status read_jinja_tools(vocab_draft *d, str text, error *err) {
    TRY(check_template("additional_chat_templates/tool_use.jinja", text, err));
    return vocab_draft_keep(d, text, &d->m->chat_template_tools, err);
}

/* In this order: the first to say something has the word. */
static const struct {
    const char *name;
    side_reader parse;
    bool without_json; /* only where no tokenizer.json is: it has the same itself */
} sides[] = {
    {"chat_template.jinja", read_jinja, false},
    {"additional_chat_templates/tool_use.jinja", read_jinja_tools, false},
    {"chat_template.json", vocab_config_template, false},
    {"tokenizer_config.json", vocab_config_tokenizer, false},
    {"special_tokens_map.json", vocab_config_special, false},
    {"added_tokens.json", vocab_config_added, true},
    {"generation_config.json", read_generation, false},
    {"config.json", read_config, false},
};

static status read_sides(vocab_draft *d, const vocab_place *p, error *err) {
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) {
        blob *b = NULL;
        if (sides[i].without_json && p->source == VOCAB_SOURCE_TOKENIZER_JSON) continue;
        TRY(open_beside(&b, p->dir, sides[i].name, err));
        if (b == NULL) continue;
        status st = sides[i].parse(d, blob_view(b), err);
        blob_close(b);
        TRY(st);
    }
    return OK;
}

/* --- reading --------------------------------------------------------------- */
/* Their ids are not those of tokenizer.model: the class moves them. */
static status check_class(const vocab_draft *d, error *err) {
    static const char *const moved[] = {"XLMRoberta", "Camembert", "MBart",  "Nllb",
                                        "Barthez",    "XGLM",      "Pegasus"};
    str name = d->config.tokenizer_class;
    for (size_t i = 0; i < sizeof moved / sizeof *moved; i++) {
        if (!str_starts(name, str_of(moved[i]))) continue;
        return error_set(err, ERR_UNSUPPORTED,
                         "%s: %.*s gives other ids than its file: its tokenizer.json is needed",
                         d->file, STR(name));
    }
    return OK;
}

/* A space in front only where the text begins, and not twice: what LlamaTokenizer does unless
 * "legacy" is on, which is its default. */
static status settle_legacy(vocab_draft *d, error *err) {
    if (d->config.legacy != 0 || !d->norms[0].left || d->v.kind != TOK_KIND_SPM) return OK;
    d->norms[0].left = false;
    d->v.norms_late++;
    return vocab_draft_norm(d,
                            (tok_norm){.kind = TOK_NORM_PREPEND,
                                       .a = S("\xE2\x96\x81"),
                                       .first_only = true,
                                       .unless_there = true},
                            err);
}

static status read_spm(vocab_draft *d, str bytes, error *err) {
    TRY(vocab_spm_read(d, bytes, err));
    TRY(check_class(d, err));
    return settle_legacy(d, err);
}

static status read_pairs(vocab_draft *d, const vocab_place *p, str vocab, error *err) {
    const char *name = str_eq_c(str_of(p->name), "encoder.json") ? "vocab.bpe" : "merges.txt";
    blob *b = NULL;
    str merges = {0};
    TRY(open_beside(&b, p->dir, name, err));
    if (b == NULL)
        return error_set(err, ERR_NOT_FOUND, "%s: there is no %s beside it", p->name, name);
    status st = vocab_draft_keep(d, blob_view(b), &merges, err);
    blob_close(b);
    TRY(st);
    return vocab_json_pairs(d, vocab, merges, err);
}

static status read_main(vocab_draft *d, const vocab_place *p, error *err) {
    str bytes = blob_view(p->file);
    if (p->source == VOCAB_SOURCE_TOKENIZER_JSON) return vocab_json_read(d, bytes, err);
    if (p->source == VOCAB_SOURCE_SPM) return read_spm(d, bytes, err);
    if (p->source == VOCAB_SOURCE_PAIRS) return read_pairs(d, p, bytes, err);
    return vocab_txt_read(d, bytes, err);
}

/* The directory's own name, "model" in ".../model/". */
static void read_name(model *m, const vocab_place *p) {
    str dir = str_of(p->dir);
    while (dir.n > 1 && dir.p[dir.n - 1] == '/') dir.n--;
    const char *slash = dir.n > 0 ? memrchr(dir.p, '/', dir.n) : NULL;
    str name = slash != NULL ? str_skip(dir, (size_t)(slash - dir.p) + 1) : dir;
    model_copy_text(m->name, sizeof m->name, name.n > 0 ? name : str_of(p->name));
}

status vocab_dir_read(model *m, const vocab_place *place, error *err) {
    vocab_draft *d = NULL;
    m->chat_template = S("");
    m->chat_template_tools = S("");
    read_name(m, place);
    TRY(vocab_draft_create(&d, m, place->name, err));
    status st = read_sides(d, place, err);
    if (st == OK) st = read_main(d, place, err);
    if (st == OK) st = vocab_draft_finish(d, err);
    vocab_draft_destroy(d);
    return st;
}
