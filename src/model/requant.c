/* requant.c - see requant.h: what becomes of each key and tensor. */
#include "model/requant.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/os.h"
#include "base/outfile.h"
#include "model/requant_internal.h"
#include "tensor/quant.h"

/* Of the block formats as such; every file since 2023 has it. */
enum { QUANTIZATION_VERSION = 2 };

typedef struct requant_job {
    const requant_options *opt;
    blob *file;   /* owned */
    gguf *g;      /* owned */
    imatrix *imx; /* owned; NULL without */
    quant_mix_plan plan;
    requant_tensor *tensors; /* owned; [gguf_tensor_count], in file order */
    gguf_writer *writer;     /* owned */
    requant_crew *crew;      /* owned */
    requant_report report;
    uint64_t done_bytes;
    const char *unread; /* borrowed; what of the current tensor is not done */
} requant_job;

/* --- the model ------------------------------------------------------------------ */

/* ARCH.name as a whole number, of the first layer where it differs between them; `fallback`
 * where it is absent or something else. */
static uint32_t shape_number(const gguf *g, str arch, const char *name, uint32_t fallback) {
    char key[256];
    const int n = snprintf(key, sizeof key, "%.*s.%s", STR(arch), name);
    if (n < 0 || (size_t)n >= sizeof key) return fallback;
    uint32_t number = 0;
    if (gguf_get_u32(g, str_of(key), &number, NULL) == OK) return number;
    const gguf_value *v = gguf_kv_find(g, str_of(key));
    if (v == NULL || v->type != GGUF_TYPE_ARRAY || v->as.array.count == 0) return fallback;
    const gguf_value first = gguf_array_get(&v->as.array, 0);
    const bool is_number = first.type == GGUF_TYPE_U32 || first.type == GGUF_TYPE_I32;
    return is_number ? (uint32_t)first.as.u64 : fallback;
}

static void read_plan(requant_job *j) {
    const gguf *g = j->g;
    str arch = S("");
    if (gguf_get_str(g, S("general.architecture"), &arch, NULL) != OK) arch = S("");
    const uint32_t heads = shape_number(g, arch, "attention.head_count", 1);
    const uint32_t kv_heads = shape_number(g, arch, "attention.head_count_kv", heads);
    j->plan = (quant_mix_plan){
        .mix = j->opt->mix,
        .layers = shape_number(g, arch, "block_count", 0),
        .experts = shape_number(g, arch, "expert_count", 0),
        .heads_per_kv = kv_heads > 0 ? heads / kv_heads : 1,
        .tied = gguf_tensor_find(g, S("output.weight")) == NULL,
        .falcon = str_eq(arch, S("falcon")),
        .has_importance = j->imx != NULL,
        .pure = j->opt->pure,
        .output = j->opt->output,
        .token_embd = j->opt->token_embd,
    };
}

static status open_input(requant_job *j, const char *path, error *err) {
    TRY(blob_open_file(&j->file, path, err));
    if (!str_starts(blob_view(j->file), S("GGUF")))
        return error_set(err, ERR_FORMAT, "no GGUF file, which is what can be quantized");
    return gguf_open(&j->g, j->file, err);
}

/* --- tensors --------------------------------------------------------------------- */
static bool is_float(dtype t) {
    return t == DTYPE_F32 || t == DTYPE_F16 || t == DTYPE_BF16 || t == DTYPE_F64;
}

static status find_importance(requant_job *j, requant_tensor *t, error *err) {
    const gguf_tensor *from = t->from;
    const imatrix_entry *e = imatrix_find(j->imx, from->name);
    if (e == NULL) {
        log_warn("quantize", "no importance tensor=%.*s", STR(from->name));
        j->report.without_importance++;
        return OK;
    }
    const uint64_t matrices = from->elems / (from->dims[0] * from->dims[1]);
    TRY(imatrix_fit(e, from->dims[0], matrices, &t->stride, err));
    t->importance = e->values;
    return OK;
}

static void report_tensor(requant_job *j, const requant_tensor *t, dtype wanted) {
    const gguf_tensor *from = t->from;
    requant_report *r = &j->report;
    r->tensors++;
    r->elems += from->elems;
    r->in_bytes += from->bytes;
    r->out_bytes += requant_bytes(t->type, from->elems);
    if (t->type == from->type) return;
    r->converted++;
    r->f32_bytes += from->elems * sizeof(float);
    if (!is_float(from->type)) r->requantized++;
    if (wanted == t->type) return;
    r->fallbacks++;
    log_warn("quantize", "fallback tensor=%.*s wanted=%s got=%s columns=%" PRIu64 " block=%u",
             STR(from->name), dtype_name(wanted), dtype_name(t->type), from->dims[0],
             dtype_get((uint32_t)wanted)->block_elems);
}

static status plan_tensor(requant_job *j, const gguf_tensor *from, requant_tensor *t, error *err) {
    quant_mix_tensor_info info = {from->name, from->type, from->dims_count, {0}};
    for (uint32_t i = 0; i < GGUF_DIMS_MAX; i++) info.dims[i] = from->dims[i];
    dtype wanted = from->type;
    *t = (requant_tensor){.from = from, .type = from->type};
    if (from->elems > 0) t->type = quant_mix_tensor(&j->plan, &info, &wanted);
    report_tensor(j, t, wanted);
    const bool has_blocks = dtype_get((uint32_t)t->type)->block_elems > 1;
    if (j->imx == NULL || t->type == from->type || !has_blocks) return OK;
    return find_importance(j, t, err);
}

static status plan_tensors(requant_job *j, error *err) {
    const uint32_t count = gguf_tensor_count(j->g);
    j->tensors = mem_try_calloc(count > 0 ? count : 1, sizeof *j->tensors);
    if (j->tensors == NULL)
        return error_set(err, ERR_NOMEM, "quantize: no memory for %u tensors", count);
    for (uint32_t i = 0; i < count; i++)
        TRY(plan_tensor(j, gguf_tensor_get(j->g, i), &j->tensors[i], err));
    if (j->plan.mix == QUANT_MIX_MXFP4 && !j->plan.pure && j->plan.experts == 0)
        log_warn("quantize", "MXFP4 is for experts, and there are none; --pure gives it to every "
                             "matrix");
    if (j->report.requantized > 0)
        log_warn("quantize", "%u of %u tensors are converted from a type that had lost precision",
                 j->report.requantized, j->report.converted);
    return OK;
}

/* --- keys ------------------------------------------------------------------------- */
#define FILE_TYPE      "general.file_type"
#define VERSION        "general.quantization_version"
#define IMATRIX_PREFIX "quantize.imatrix."

static void write_imatrix_keys(const requant_job *j) {
    gguf_writer *w = j->writer;
    gguf_write_str(w, IMATRIX_PREFIX "file", str_of(j->opt->imatrix));
    if (imatrix_dataset(j->imx).n > 0)
        gguf_write_str(w, IMATRIX_PREFIX "dataset", imatrix_dataset(j->imx));
    gguf_write_u32(w, IMATRIX_PREFIX "entries_count", imatrix_count(j->imx));
    if (imatrix_chunks(j->imx) > 0)
        gguf_write_u32(w, IMATRIX_PREFIX "chunks_count", imatrix_chunks(j->imx));
}

/* What a new importance matrix says replaces what an older one said. */
static void write_keys(const requant_job *j) {
    gguf_writer *w = j->writer;
    const uint32_t file_type = quant_mix_file_type(j->plan.mix);
    for (uint32_t i = 0; i < gguf_kv_count(j->g); i++) {
        const gguf_value *v = gguf_kv_get(j->g, i);
        if (str_eq(v->key, S(FILE_TYPE)))
            gguf_write_u32(w, FILE_TYPE, file_type);
        else if (str_eq(v->key, S(VERSION)))
            gguf_write_u32(w, VERSION, QUANTIZATION_VERSION);
        else if (j->imx == NULL || !str_starts(v->key, S(IMATRIX_PREFIX)))
            gguf_write_copy(w, v);
    }
    if (gguf_kv_find(j->g, S(FILE_TYPE)) == NULL) gguf_write_u32(w, FILE_TYPE, file_type);
    if (gguf_kv_find(j->g, S(VERSION)) == NULL) gguf_write_u32(w, VERSION, QUANTIZATION_VERSION);
    if (j->imx != NULL) write_imatrix_keys(j);
}

/* --- the work ---------------------------------------------------------------------- */
static bool is_stopped(const requant_options *opt) { return opt->stop != NULL && *opt->stop != 0; }

/* What is done is forgotten, so memory stays small however large the file is. */
static status pulse(void *ctx, uint64_t bytes, error *err) {
    requant_job *j = ctx;
    blob_forget(j->file, j->unread, (size_t)bytes);
    j->unread += bytes;
    if (is_stopped(j->opt)) return error_set(err, ERR_CANCELED, "quantize: interrupted");
    j->done_bytes += bytes;
    if (j->opt->progress != NULL)
        j->opt->progress(j->opt->progress_ctx, j->done_bytes, j->report.in_bytes);
    return OK;
}

static status put_tensor(void *ctx, uint32_t idx, gguf_sink *sink, error *err) {
    requant_job *j = ctx;
    j->unread = j->tensors[idx].from->data;
    return requant_crew_run(j->crew, &j->tensors[idx], sink, pulse, j, err);
}

static status write_output(requant_job *j, int fd, error *err) {
    TRY(gguf_writer_create(&j->writer, err));
    gguf_writer_align(j->writer, gguf_alignment(j->g));
    write_keys(j);
    for (uint32_t i = 0; i < gguf_tensor_count(j->g); i++) {
        const gguf_tensor *t = j->tensors[i].from;
        gguf_write_tensor_dims(j->writer, t->name, j->tensors[i].type, t->dims_count, t->dims);
    }
    TRY(requant_crew_create(&j->crew, j->opt->threads, err));
    return gguf_write_finish(j->writer, fd, put_tensor, j, err);
}

/* Put the file's name in front of what is wrong with it. */
static status blame(const char *path, status st, error *err) {
    if (st == OK || err == NULL || strstr(err->msg, path) != NULL) return st;
    return error_set(err, st, "'%s': %s", path, err->msg);
}

static status read_inputs(requant_job *j, const char *in, error *err) {
    TRY(blame(in, open_input(j, in, err), err));
    if (j->opt->imatrix != NULL)
        TRY(blame(j->opt->imatrix, imatrix_open(&j->imx, j->opt->imatrix, err), err));
    read_plan(j);
    return plan_tensors(j, err);
}

static status write_file(requant_job *j, const char *out, error *err) {
    outfile f;
    status st = outfile_open(&f, out, err);
    if (st == OK) st = write_output(j, f.fd, err);
    if (st == OK && is_stopped(j->opt)) st = error_set(err, ERR_CANCELED, "quantize: interrupted");
    if (st == OK) st = outfile_commit(&f, err);
    outfile_abort(&f);
    return st == ERR_IO ? blame(out, st, err) : st;
}

status requant_file(const char *in, const char *out, const requant_options *opt,
                    requant_report *report, error *err) {
    requant_job j = {.opt = opt};
    const uint64_t start_ns = os_now_ns();
    if (outfile_is_same(in, out))
        return error_set(err, ERR_INVALID, "quantize: '%s' and '%s' are the same file", in, out);
    status st = read_inputs(&j, in, err);
    if (st == OK) st = write_file(&j, out, err);
    if (st == OK) {
        j.report.ns = os_now_ns() - start_ns;
        *report = j.report;
    }
    requant_crew_destroy(j.crew);
    gguf_writer_destroy(j.writer);
    mem_free(j.tensors);
    imatrix_close(j.imx);
    gguf_close(j.g);
    blob_close(j.file);
    return st;
}
