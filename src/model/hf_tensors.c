/* hf_tensors.c - the tensors of a SafeTensors set under their GGUF names.
 *
 * First every tensor finds its module (one weight may be several tensors when it is quantized),
 * then every module becomes one GGUF tensor and perhaps a bias; the modules of a layer's experts
 * become one together.  Matrices stay where they are in the files; what hf_names.c marks is
 * copied, and vectors become f32.  A tensor nobody has a place for is an error. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/map.h"
#include "base/num.h"
#include "model/hf_tensors.h"
#include "tensor/convert.h"

typedef struct tensor_job {
    hf_job *j;
    map index; /* module to its place in j->modules */
} tensor_job;

/* --- modules ------------------------------------------------------------------------ */
static bool has_layer(const hf_name *row) { return strchr(row->hf, '#') != NULL; }
static bool is_counted(const hf_name *row) { return strchr(row->hf, '@') != NULL; }

/* Layers behind the last guess further tokens (multi-token prediction); they are not computed. */
static bool is_spare_layer(const hf_job *j, const hf_match *m) {
    const char *arch = j->class->arch;
    return m->row != NULL && has_layer(m->row) && m->layer >= j->layers &&
           (strcmp(arch, "deepseek2") == 0 || strcmp(arch, "glm4moe") == 0);
}

/* "model.layers.61.embed_tokens" of such a layer has no row at all. */
static bool is_spare_name(const hf_job *j, str name) {
    hf_match m = {0};
    static const hf_name any[] = {{"layers.#", NULL, HF_SKIPPED}, {NULL, NULL, 0}};
    hf_class c = *j->class;
    c.names = any;
    hf_name_match(&c, name, &m);
    return m.row == any && is_spare_layer(j, &m);
}

static status check_counts(const hf_job *j, const safetensor *t, const hf_match *m, error *err) {
    uint32_t experts = (m->row->bits & HF_PER_HEAD) != 0 ? MODEL_HEADS_MAX : j->experts;
    if (has_layer(m->row) && m->layer >= j->layers)
        return error_set(err, ERR_FORMAT, "tensor '%.*s' is of layer %u, config.json has %u",
                         STR(t->name), m->layer, j->layers);
    if (is_counted(m->row) && m->expert >= experts)
        return error_set(err, ERR_FORMAT, "tensor '%.*s' is of expert %u, config.json has %u",
                         STR(t->name), m->expert, experts);
    return OK;
}

static status add_piece(tensor_job *tj, const safetensor *t, const hf_match *m, error *err) {
    hf_job *j = tj->j;
    hf_piece piece = HF_PIECE_WEIGHT;
    uint32_t i = 0;
    if (!hf_piece_find(m->suffix, &piece))
        return error_set(err, ERR_UNSUPPORTED, "tensor '%.*s': '%.*s' of a module is not known",
                         STR(t->name), STR(m->suffix));
    if (!map_get(&tj->index, m->module, &i)) {
        i = j->modules_count++;
        j->modules[i].match = *m;
        (void)map_add(&tj->index, m->module, i);
    }
    if (j->modules[i].pieces[piece] != NULL)
        return error_set(err, ERR_FORMAT, "tensors '%.*s' and '%.*s' are the same part of a module",
                         STR(j->modules[i].pieces[piece]->name), STR(t->name));
    j->modules[i].pieces[piece] = t;
    return OK;
}

static status find_place(tensor_job *tj, const safetensor *t, error *err) {
    hf_job *j = tj->j;
    hf_match m;
    hf_name_match(j->class, t->name, &m);
    bool skipped = m.row != NULL && (m.row->bits & HF_SKIPPED) != 0;
    if (skipped || is_spare_layer(j, &m) || (m.row == NULL && is_spare_name(j, t->name))) {
        j->skipped++;
        return OK;
    }
    if (m.row == NULL)
        return error_set(err, ERR_UNSUPPORTED, "tensor '%.*s' has no place in %s", STR(t->name),
                         j->class->name);
    TRY(check_counts(j, t, &m, err));
    return add_piece(tj, t, &m, err);
}

/* --- plain tensors --------------------------------------------------------------------- */
status hf_plain_type(const safetensor *t, dtype *out, error *err) {
    switch (t->type) {
    case SAFETENSORS_F32:
        *out = DTYPE_F32;
        return OK;
    case SAFETENSORS_F16:
        *out = DTYPE_F16;
        return OK;
    case SAFETENSORS_BF16:
        *out = DTYPE_BF16;
        return OK;
    default:
        return error_set(err, ERR_UNSUPPORTED, "tensor '%.*s' is %s, must be F32, F16 or BF16",
                         STR(t->name), safetensors_type_name(t->type));
    }
}

status hf_take(hf_job *j, const safetensor *t, uint64_t bytes, void **out, error *err) {
    *out = gguf_make_take(j->maker, bytes);
    if (*out != NULL) return OK;
    return error_set(err, ERR_NOMEM, "no memory for %" PRIu64 " bytes of '%.*s'", bytes,
                     STR(t->name));
}

/* Elements as f32, with what is done to them. */
static status read_vector(hf_job *j, const safetensor *t, uint32_t bits, float *out, error *err) {
    dtype type = DTYPE_F32;
    TRY(hf_plain_type(t, &type, err));
    if (t->elems > MODEL_VOCAB_MAX * (uint64_t)64)
        return error_set(err, ERR_LIMIT,
                         "tensor '%.*s' has %" PRIu64 " elements, as a vector at most "
                         "%" PRIu64,
                         STR(t->name), t->elems, MODEL_VOCAB_MAX * (uint64_t)64);
    dequant_row(type, t->data, out, (uint32_t)t->elems);
    float add = (bits & HF_PLUS_ONE) != 0 && (j->class->bits & HF_NORMS_MINUS) != 0 ? 1.0F : 0.0F;
    for (uint64_t i = 0; add != 0 && i < t->elems; i++) out[i] += add;
    for (uint64_t i = 0; (bits & HF_NEG_EXP) != 0 && i < t->elems; i++) out[i] = -expf(out[i]);
    return OK;
}

/* Innermost first; those that are 1 go when `squeeze`, and a number alone is a vector of one. */
static status set_dims(const safetensor *t, bool squeeze, gguf_tensor *out, error *err) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < GGUF_DIMS_MAX; i++) out->dims[i] = 1;
    for (uint32_t i = t->dims_count; i-- > 0;) {
        if (squeeze && t->dims[i] == 1) continue;
        if (n == GGUF_DIMS_MAX)
            return error_set(err, ERR_UNSUPPORTED, "tensor '%.*s' has %u dimensions, at most %d",
                             STR(t->name), t->dims_count, GGUF_DIMS_MAX);
        out->dims[n++] = t->dims[i];
    }
    out->dims_count = n > 0 ? n : 1;
    return OK;
}

static status put_vector(hf_job *j, const safetensor *t, uint32_t bits, gguf_tensor *out,
                         error *err) {
    void *taken = NULL;
    uint64_t bytes = 0;
    TRY(set_dims(t, true, out, err));
    if (!num_mul_u64(&bytes, t->elems, sizeof(float)))
        return error_set(err, ERR_FORMAT, "tensor '%.*s' has %" PRIu64 " elements", STR(t->name),
                         t->elems);
    TRY(hf_take(j, t, bytes, &taken, err));
    TRY(read_vector(j, t, bits, taken, err));
    out->type = DTYPE_F32;
    out->data = taken;
    gguf_make_tensor(j->maker, out);
    return OK;
}

/* --- copies ------------------------------------------------------------------------------ */
static status need_matrix(const safetensor *t, error *err) {
    if (t->dims_count == 2) return OK;
    return error_set(err, ERR_FORMAT, "tensor '%.*s' has %u dimensions, must have 2", STR(t->name),
                     t->dims_count);
}

static status transpose(hf_job *j, const safetensor *t, gguf_tensor *out, error *err) {
    void *taken = NULL;
    TRY(need_matrix(t, err));
    uint64_t ins = t->dims[0], outs = t->dims[1], size = dtype_get(out->type)->block_bytes;
    const char *from = t->data;
    TRY(hf_take(j, t, t->bytes, &taken, err));
    char *to = taken;
    for (uint64_t o = 0; o < outs; o++)
        for (uint64_t i = 0; i < ins; i++, to += size)
            memcpy(to, from + (i * outs + o) * size, size);
    out->data = taken;
    out->dims[0] = ins;
    out->dims[1] = outs;
    return OK;
}

static status split_matrix(hf_job *j, const safetensor *t, gguf_tensor *out, error *err) {
    void *moved = NULL;
    TRY(need_matrix(t, err));
    uint64_t row_bytes = t->dims[1] * dtype_get(out->type)->block_bytes;
    TRY(hf_split_heads(j, t, row_bytes, t->data, &moved, err));
    out->data = moved;
    return OK;
}

/* --- one module ---------------------------------------------------------------------------- */
uint32_t hf_halves_of(const hf_job *j, uint32_t bits) {
    if ((j->class->bits & HF_HALVES) == 0) return 0;
    return (bits & HF_QUERY_ROWS) != 0 ? j->heads : (bits & HF_KEY_ROWS) != 0 ? j->kv_heads : 0;
}

/* Whoever computes loads numbers of four bytes at once; files written by the usual tools begin
 * every tensor at such an address. */
static status align(hf_job *j, const safetensor *t, gguf_tensor *out, error *err) {
    void *taken = NULL;
    out->data = t->data;
    if ((uintptr_t)t->data % sizeof(float) == 0) return OK;
    TRY(hf_take(j, t, t->bytes, &taken, err));
    memcpy(taken, t->data, (size_t)t->bytes);
    out->data = taken;
    return OK;
}

/* Without the rows in front. */
static status from_row(hf_job *j, const safetensor *t, gguf_tensor *out, error *err) {
    TRY(need_matrix(t, err));
    if (t->dims[0] <= j->first_row)
        return error_set(err, ERR_FORMAT,
                         "tensor '%.*s' has %" PRIu64 " rows, of which %u are not used",
                         STR(t->name), t->dims[0], j->first_row);
    TRY(align(j, t, out, err));
    uint64_t row_bytes = t->dims[1] * dtype_get(out->type)->block_bytes;
    uint64_t skipped = j->first_row * row_bytes;
    out->data = (const char *)out->data + skipped;
    out->dims[1] = t->dims[0] - j->first_row;
    if (skipped % sizeof(float) == 0) return OK;
    void *taken = NULL; /* rows of an odd number of halves */
    TRY(hf_take(j, t, t->bytes - skipped, &taken, err));
    memcpy(taken, out->data, (size_t)(t->bytes - skipped));
    out->data = taken;
    return OK;
}

static status put_plain(hf_job *j, const hf_module *mod, gguf_tensor *out, error *err) {
    const safetensor *t = mod->pieces[HF_PIECE_WEIGHT];
    uint32_t bits = mod->match.row->bits;
    TRY(hf_plain_type(t, &out->type, err));
    if (t->dims_count < 2 || (bits & HF_VECTOR) != 0) return put_vector(j, t, bits, out, err);
    TRY(set_dims(t, false, out, err));
    if ((bits & HF_FROM_ROW) != 0 && j->first_row > 0)
        TRY(from_row(j, t, out, err));
    else if ((bits & HF_TRANSPOSED) != 0)
        TRY(transpose(j, t, out, err));
    else if (hf_is_by_head(j, bits))
        TRY(split_matrix(j, t, out, err));
    else if ((bits & HF_UNIT_ROWS) != 0 && j->unit_rows)
        TRY(hf_unit_rows(j, t, out, err));
    else
        TRY(align(j, t, out, err));
    if ((bits & HF_SLICED) != 0) return hf_put_slices(j, &mod->match, out, "weight", err);
    out->halves_heads = out->dims_count == 2 ? hf_halves_of(j, bits) : 0;
    gguf_make_tensor(j->maker, out);
    return OK;
}

/* Which rows of a packed matrix are whose cannot be changed.  GPTQ stores Conv1D modules as it does
 * others. */
static status check_packed_order(const hf_job *j, const hf_module *mod, const packed_matrix *p,
                                 error *err) {
    uint32_t bits = mod->match.row->bits;
    const char *what =
        hf_is_by_head(j, bits) || (bits & HF_SLICED) != 0 ? "with rows of several matrices in it"
        : (bits & HF_TRANSPOSED) != 0 && p->kind != PACKED_GPTQ ? "and transposed"
        : (bits & HF_UNIT_ROWS) != 0 && j->unit_rows ? "and not made of rows of length one"
                                                     : NULL;
    if (what == NULL) return OK;
    return error_set(err, ERR_UNSUPPORTED, "module '%.*s' is quantized %s, which cannot be read",
                     STR(mod->match.module), what);
}

static status put_packed(hf_job *j, const hf_module *mod, gguf_tensor *out, error *err) {
    packed_matrix p;
    uint32_t bits = mod->match.row->bits;
    TRY(hf_quant_matrix(j, mod, &p, err));
    TRY(check_packed_order(j, mod, &p, err));
    *out = (gguf_tensor){.name = out->name,
                         .type = DTYPE_F32,
                         .dims_count = 2,
                         .dims = {p.cols, p.rows, 1, 1},
                         .packed = &p,
                         .halves_heads = hf_halves_of(j, bits)};
    gguf_make_tensor(j->maker, out);
    return OK;
}

static status put_bias(hf_job *j, const hf_module *mod, gguf_tensor *out, error *err) {
    const safetensor *t = mod->pieces[HF_PIECE_BIAS];
    uint32_t bits = mod->match.row->bits;
    void *taken = NULL, *moved = NULL;
    TRY(set_dims(t, true, out, err));
    TRY(hf_take(j, t, t->elems <= UINT32_MAX ? t->elems * sizeof(float) : UINT64_MAX, &taken, err));
    TRY(read_vector(j, t, 0, taken, err));
    if (hf_is_by_head(j, bits)) {
        TRY(hf_split_heads(j, t, sizeof(float), taken, &moved, err));
        taken = moved;
    }
    out->type = DTYPE_F32;
    out->data = taken;
    if ((bits & HF_SLICED) != 0) return hf_put_slices(j, &mod->match, out, "bias", err);
    out->halves_heads = out->dims_count == 1 ? hf_halves_of(j, bits) : 0;
    gguf_make_tensor(j->maker, out);
    return OK;
}

/* "blk.3.attn_q" and ".weight" */
static status gguf_name(const hf_module *mod, const char *suffix, char out[GGUF_NAME_BYTES_MAX],
                        error *err) {
    const hf_match *m = &mod->match;
    bool whole = (m->row->bits & HF_WHOLE) != 0;
    bool fits = hf_name_expand(m->row->gguf, m->layer, m->expert, out, GGUF_NAME_BYTES_MAX);
    size_t n = fits ? strlen(out) : 0;
    if (fits && !whole)
        fits = snprintf(out + n, GGUF_NAME_BYTES_MAX - n, ".%s", suffix) <
               (int)(GGUF_NAME_BYTES_MAX - n);
    if (fits) return OK;
    return error_set(err, ERR_INTERNAL, "module '%.*s' has a name too long for GGUF",
                     STR(m->module));
}

static status put_module(hf_job *j, const hf_module *mod, error *err) {
    char name[GGUF_NAME_BYTES_MAX];
    bool packed = hf_quant_is_packed(mod);
    if (!packed && mod->pieces[HF_PIECE_WEIGHT] == NULL && mod->pieces[HF_PIECE_BIAS] == NULL)
        return error_set(err, ERR_FORMAT, "module '%.*s' has neither weight nor bias",
                         STR(mod->match.module));
    if (packed || mod->pieces[HF_PIECE_WEIGHT] != NULL) {
        TRY(gguf_name(mod, "weight", name, err));
        gguf_tensor t = {.name = str_of(name)};
        TRY(packed ? put_packed(j, mod, &t, err) : put_plain(j, mod, &t, err));
    }
    if (mod->pieces[HF_PIECE_BIAS] == NULL) return OK;
    TRY(gguf_name(mod, "bias", name, err));
    gguf_tensor t = {.name = str_of(name)};
    return put_bias(j, mod, &t, err);
}

/* --- experts --------------------------------------------------------------------------------- */
/* The same module of another expert (or head); NULL when there is none. */
static const hf_module *sibling(const tensor_job *tj, const hf_module *mod, uint32_t expert) {
    char name[HF_NAME_BYTES_MAX];
    const hf_match *m = &mod->match;
    uint32_t i = 0;
    if (m->prefix >= sizeof name) return NULL;
    memcpy(name, m->module.p, m->prefix);
    if (!hf_name_expand(m->row->hf, m->layer, expert, name + m->prefix, sizeof name - m->prefix))
        return NULL;
    return map_get(&tj->index, str_of(name), &i) ? &tj->j->modules[i] : NULL;
}

typedef struct experts_made {
    gguf_part *parts;       /* owned; [experts] */
    packed_matrix *packed;  /* owned; [experts] */
    const safetensor *like; /* a plain one, which the others must equal in type and shape */
} experts_made;

static status plain_part(experts_made *x, const hf_module *mod, uint32_t i, gguf_tensor *t,
                         error *err) {
    const safetensor *w = mod->pieces[HF_PIECE_WEIGHT];
    TRY(need_matrix(w, err));
    TRY(hf_plain_type(w, &t->type, err));
    if (x->like == NULL) x->like = w;
    if (w->type != x->like->type || w->dims[0] != x->like->dims[0] ||
        w->dims[1] != x->like->dims[1])
        return error_set(err, ERR_FORMAT,
                         "tensor '%.*s' is %s [%" PRIu64 ", %" PRIu64 "], that of another expert "
                         "%s [%" PRIu64 ", %" PRIu64 "]",
                         STR(w->name), safetensors_type_name(w->type), w->dims[0], w->dims[1],
                         safetensors_type_name(x->like->type), x->like->dims[0], x->like->dims[1]);
    x->parts[i].data = w->data;
    t->dims[0] = w->dims[1];
    t->dims[1] = w->dims[0];
    return OK;
}

static status packed_part(hf_job *j, experts_made *x, const hf_module *mod, uint32_t i,
                          gguf_tensor *t, error *err) {
    packed_matrix *p = &x->packed[i];
    TRY(hf_quant_matrix(j, mod, p, err));
    t->type = DTYPE_F32;
    if (i > 0 && (p->cols != t->dims[0] || p->rows != t->dims[1]))
        return error_set(err, ERR_FORMAT,
                         "module '%.*s' is [%u, %u], that of another expert [%" PRIu64 ", %" PRIu64
                         "]",
                         STR(mod->match.module), p->rows, p->cols, t->dims[1], t->dims[0]);
    x->parts[i].packed = p;
    t->dims[0] = p->cols;
    t->dims[1] = p->rows;
    return OK;
}

static bool is_zeros(const void *data, uint64_t bytes) {
    const unsigned char *p = data;
    return bytes == 0 || (p[0] == 0 && memcmp(p, p + 1, (size_t)bytes - 1) == 0);
}

/* Older GPTQ files have a bias of zeros for every module. */
static status check_no_bias(hf_job *j, const safetensor *bias, error *err) {
    if (bias == NULL) return OK;
    if (is_zeros(bias->data, bias->bytes)) {
        j->skipped++;
        return OK;
    }
    return error_set(err, ERR_UNSUPPORTED, "tensor '%.*s': biases of single experts are not known",
                     STR(bias->name));
}

static status fill_experts(const tensor_job *tj, const hf_module *first, experts_made *x,
                           gguf_tensor *t, error *err) {
    hf_job *j = tj->j;
    bool packed = hf_quant_is_packed(first);
    for (uint32_t i = 0; i < j->experts; i++) {
        const hf_module *mod = sibling(tj, first, i);
        bool there = mod != NULL &&
                     (packed ? hf_quant_is_packed(mod)
                             : !hf_quant_is_packed(mod) && mod->pieces[HF_PIECE_WEIGHT] != NULL);
        if (!there)
            return error_set(err, ERR_FORMAT, "module '%.*s' has no like of expert %u, of %u",
                             STR(first->match.module), i, j->experts);
        TRY(check_no_bias(j, mod->pieces[HF_PIECE_BIAS], err));
        TRY(packed ? packed_part(j, x, mod, i, t, err) : plain_part(x, mod, i, t, err));
    }
    return OK;
}

static status put_experts(const tensor_job *tj, const hf_module *first, error *err) {
    hf_job *j = tj->j;
    char name[GGUF_NAME_BYTES_MAX];
    TRY(gguf_name(first, "weight", name, err));
    experts_made x = {.parts = mem_try_calloc(j->experts, sizeof *x.parts),
                      .packed = mem_try_calloc(j->experts, sizeof *x.packed)};
    gguf_tensor t = {.name = str_of(name), .dims_count = 3, .dims = {0, 0, j->experts, 1}};
    status st = x.parts == NULL || x.packed == NULL
                    ? error_set(err, ERR_NOMEM, "no memory for %u experts", j->experts)
                    : fill_experts(tj, first, &x, &t, err);
    t.parts = x.parts;
    if (st == OK) gguf_make_tensor(j->maker, &t);
    mem_free(x.parts);
    mem_free(x.packed);
    return st;
}

/* [experts, rows, cols] in one tensor; with the gate above the up projection it is two. */
static status put_stack(hf_job *j, const safetensor *t, const char *name, uint64_t row0,
                        uint64_t rows, error *err) {
    gguf_tensor out = {
        .name = str_of(name), .dims_count = 3, .dims = {t->dims[2], rows, j->experts, 1}};
    TRY(hf_plain_type(t, &out.type, err));
    uint64_t row_bytes = t->dims[2] * dtype_get(out.type)->block_bytes;
    gguf_part *parts = mem_try_calloc(j->experts, sizeof *parts);
    if (parts == NULL) return error_set(err, ERR_NOMEM, "no memory for %u experts", j->experts);
    for (uint32_t i = 0; i < j->experts; i++)
        parts[i].data = (const char *)t->data + (i * t->dims[1] + row0) * row_bytes;
    out.parts = parts;
    gguf_make_tensor(j->maker, &out);
    mem_free(parts);
    return OK;
}

static status put_stacked(hf_job *j, const hf_module *mod, error *err) {
    const safetensor *t = mod->pieces[HF_PIECE_WEIGHT];
    char name[GGUF_NAME_BYTES_MAX];
    bool two = (mod->match.row->bits & HF_GATE_UP) != 0;
    if (t == NULL || t->dims_count != 3 || t->dims[0] != j->experts || t->dims[1] % (two ? 2 : 1))
        return error_set(err, ERR_FORMAT, "module '%.*s' is no stack of %u matrices",
                         STR(mod->match.module), j->experts);
    TRY(gguf_name(mod, "weight", name, err));
    if (!two) return put_stack(j, t, name, 0, t->dims[1], err);
    uint64_t half = t->dims[1] / 2;
    TRY(put_stack(j, t, name, 0, half, err));
    if (!hf_name_expand("blk.#.ffn_up_exps.weight", mod->match.layer, 0, name, sizeof name))
        return error_set(err, ERR_INTERNAL, "layer %u has a name too long", mod->match.layer);
    return put_stack(j, t, name, half, half, err);
}

/* One vector for each head, one after the other. */
static status put_per_head(const tensor_job *tj, const hf_module *first, error *err) {
    hf_job *j = tj->j;
    const safetensor *t = first->pieces[HF_PIECE_WEIGHT];
    char name[GGUF_NAME_BYTES_MAX];
    void *taken = NULL;
    uint32_t heads = 0;
    while (heads < MODEL_HEADS_MAX && sibling(tj, first, heads) != NULL) heads++;
    if (t == NULL || t->dims_count != 1 || t->elems > MODEL_HEAD_DIM_MAX)
        return error_set(err, ERR_FORMAT, "module '%.*s' is no vector of a head",
                         STR(first->match.module));
    TRY(hf_take(j, t, heads * t->elems * sizeof(float), &taken, err));
    for (uint32_t i = 0; i < heads; i++) {
        const hf_module *mod = sibling(tj, first, i);
        const safetensor *w = mod->pieces[HF_PIECE_WEIGHT];
        if (w == NULL || w->elems != t->elems)
            return error_set(err, ERR_FORMAT,
                             "module '%.*s' has %" PRIu64 " elements, want %" PRIu64,
                             STR(mod->match.module), w != NULL ? w->elems : 0, t->elems);
        TRY(read_vector(j, w, 0, (float *)taken + i * t->elems, err));
    }
    TRY(gguf_name(first, "weight", name, err));
    gguf_tensor out = {.name = str_of(name),
                       .type = DTYPE_F32,
                       .dims_count = 2,
                       .dims = {t->elems, heads, 1, 1},
                       .data = taken};
    gguf_make_tensor(j->maker, &out);
    return OK;
}

/* --- all --------------------------------------------------------------------------- */
static status put_any(const tensor_job *tj, const hf_module *mod, error *err) {
    const hf_name *row = mod->match.row;
    hf_job *j = tj->j;
    if (j->tied && strcmp(row->gguf, "output") == 0) return OK; /* token_embd again */
    if ((row->bits & HF_MXFP4) != 0) return hf_mxfp4_read(j, mod, err);
    if ((row->bits & HF_STACKED) != 0) return put_stacked(j, mod, err);
    if (!is_counted(row)) return put_module(j, mod, err);
    if (mod->match.expert != 0) return OK; /* with the first one */
    return (row->bits & HF_PER_HEAD) != 0 ? put_per_head(tj, mod, err) : put_experts(tj, mod, err);
}

/* Without a first expert nothing would be put for the others, and nobody would notice. */
static status check_first(const tensor_job *tj, error *err) {
    const hf_job *j = tj->j;
    for (uint32_t i = 0; i < j->modules_count; i++) {
        const hf_module *mod = &j->modules[i];
        if (!is_counted(mod->match.row) || sibling(tj, mod, 0) != NULL) continue;
        return error_set(err, ERR_FORMAT, "module '%.*s' has no like of number 0",
                         STR(mod->match.module));
    }
    return OK;
}

static status check_output(const hf_job *j, error *err) {
    bool wanted = j->tied_said && !j->tied && (j->class->bits & HF_ENCODER) == 0;
    bool found = false;
    for (uint32_t i = 0; wanted && i < j->modules_count; i++)
        if (strcmp(j->modules[i].match.row->gguf, "output") == 0) found = true;
    if (found || !wanted) return OK;
    return error_set(err, ERR_FORMAT,
                     "there is no lm_head, and config.json says that the embeddings are not tied");
}

static status read_all(tensor_job *tj, error *err) {
    hf_job *j = tj->j;
    for (uint32_t i = 0; i < safetensors_count(j->weights); i++)
        TRY(find_place(tj, safetensors_get(j->weights, i), err));
    TRY(check_first(tj, err));
    TRY(check_output(j, err));
    for (uint32_t i = 0; i < j->modules_count; i++) TRY(put_any(tj, &j->modules[i], err));
    if (j->skipped > 0)
        log_info("model", "%u tensors are left out: parts that are not text, or not used",
                 j->skipped);
    return OK;
}

status hf_tensors_read(hf_job *j, error *err) {
    tensor_job tj = {.j = j};
    uint32_t count = safetensors_count(j->weights);
    if (count == 0) return error_set(err, ERR_FORMAT, "the SafeTensors files hold no tensors");
    j->modules = mem_try_calloc(count, sizeof *j->modules);
    if (j->modules == NULL) return error_set(err, ERR_NOMEM, "no memory for %u tensors", count);
    TRY(map_init(&tj.index, count, err));
    status st = read_all(&tj, err);
    map_deinit(&tj.index);
    return st;
}
