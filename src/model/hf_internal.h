/* hf_internal.h - how a Hugging Face directory becomes a GGUF description, for src/model only.
 *
 * One hf_job goes through the files in this order:
 *   hf_config.c   config.json: the class of the model, and from it the keys
 *   hf_rope.c     rope_scaling
 *   hf_quant.c    quantization_config: which tensors together are one matrix
 *   hf_names.c    tensor names of the classes, and what they are called in GGUF
 *   hf_match.c    the row of a name
 *   hf_tensors.c  the tensors; hf_split.c those that are several in GGUF
 *   hf_vocab.c    the tokenizer's keys, from the vocabulary that vocab_dir.h read
 * One thread; a job lives as long as hf_dir_open() runs. */
#ifndef MODEL_HF_INTERNAL_H
#define MODEL_HF_INTERNAL_H

#include "model/gguf_make.h"
#include "model/hf_dir.h"
#include "store/safetensors.h"
#include "json/read.h"

enum {
    HF_CONFIG_BYTES_MAX = 16 << 20,
    HF_NAME_BYTES_MAX = 256,    /* of a tensor, as far as it is known */
    HF_CLASS_NAMES_BYTES = 700, /* of all classes in one message */
};

/* --- names: hf_names.c ------------------------------------------------------------ */
/* What is done to a tensor on the way, besides the name; bits. */
enum {
    HF_PLUS_ONE = 1,        /* norms that are stored minus one */
    HF_TRANSPOSED = 2,      /* Conv1D of GPT-2: [inputs, outputs] */
    HF_QUERY_ROWS = 4,      /* rows of query heads; halves where the class has them */
    HF_KEY_ROWS = 8,        /* rows of key heads; likewise */
    HF_QKV_BY_HEAD = 16,    /* q, k and v of one (group of) head(s) after the other */
    HF_NEG_EXP = 32,        /* -exp(x) */
    HF_FIRST_ROW = 64,      /* a matrix of which only the first row counts, kept as it is */
    HF_STACKED = 128,       /* [experts, rows, cols] in one tensor */
    HF_GATE_UP = 256,       /* the same with rows of the gate above rows of up: two targets */
    HF_PER_HEAD = 512,      /* '@' counts heads, and the vectors become one */
    HF_WHOLE = 1024,        /* the pattern is the tensor's whole name, and so is the GGUF name */
    HF_VECTOR = 2048,       /* f32 also when it has two dimensions */
    HF_MXFP4 = 4096,        /* NAME_blocks, NAME_scales and NAME_bias of GPT-OSS */
    HF_SKIPPED = 8192,      /* known, and of no use */
    HF_QKV_APART = 1 << 14, /* rows of q, k and v: three tensors, which have halves of their own */
    HF_UP_GATE = 1 << 15,   /* rows of up above rows of the gate: two tensors */
    HF_UNIT_ROWS = 1 << 16, /* rows of length one, where the class makes them so */
    HF_FROM_ROW = 1 << 17,  /* rows from first_row on */
    HF_SLICED = HF_QKV_APART | HF_UP_GATE,
};

/* '#' in a pattern is the layer, '@' the expert. */
typedef struct hf_name {
    const char *hf;   /* module, without ".weight" or ".bias" */
    const char *gguf; /* likewise; "blk.#." is written out */
    uint32_t bits;
} hf_name;

typedef struct hf_match {
    const hf_name *row; /* NULL: the name is not known */
    str module;         /* the part of the name that matched, with its prefix */
    size_t prefix;      /* bytes of it in front of the pattern */
    str suffix;         /* "weight", "qweight", ...; empty with HF_WHOLE */
    uint32_t layer, expert;
} hf_match;

/* --- classes: hf_class.c ------------------------------------------------------------ */
/* bits of a class */
enum {
    HF_HALVES = 1,       /* rotary pairs are halves where GGUF has this architecture adjacent */
    HF_LAYER_NORM = 2,   /* with mean: another key for epsilon */
    HF_TIED = 4,         /* tie_word_embeddings when config.json does not say */
    HF_NO_ROPE = 8,      /* learned positions, ALiBi, or no attention at all */
    HF_NORMS_MINUS = 16, /* every norm is stored minus one */
    HF_ENCODER = 32,
    HF_TEXT_PART = 64, /* a model of several media: its text part is read */
    HF_BASE = 128,     /* a class without a head: no lm_head wanted */
    HF_NO_ATTENTION = 256,
    HF_SPACE = 512, /* positions in space; those of a text are the ordinary ones */
};

typedef struct hf_job hf_job;

/* What config.json may leave out, as the class in transformers has it; 0: nothing, or as said. */
typedef struct hf_class {
    const char *name; /* "architectures"[0] */
    const char *arch; /* "general.architecture" */
    const hf_name *names;
    uint32_t bits;
    const char *acts; /* names of the activation this architecture computes, blanks between; the
                         first is the default */
    status (*keys)(hf_job *j, error *err); /* keys of this family only, or NULL */
    float eps;
    float theta;
    uint32_t ctx;
    uint32_t heads, kv_heads, head_dim; /* kv_heads 0: as heads; head_dim 0: embedding / heads */
    float rotary;                       /* partial_rotary_factor; 0: all */
    uint32_t n_ff;                      /* 0: must be said; HF_FF_TIMES_4 */
} hf_class;

enum { HF_FF_TIMES_4 = 1 };

/* NULL when it is not known. */
const hf_class *hf_class_find(str name);
/* The first class of that architecture, which has the names of all; NULL when there is none. */
const hf_class *hf_class_of_arch(str arch);

/* --- quantization: hf_quant.c --------------------------------------------------------- */
typedef enum hf_method {
    HF_METHOD_NONE,
    HF_METHOD_GPTQ,
    HF_METHOD_AWQ,
    HF_METHOD_FP8,        /* per tensor, or blocks with weight_scale_inv */
    HF_METHOD_COMPRESSED, /* compressed-tensors: int4, int8 or fp8, by what a module has */
} hf_method;

typedef struct hf_quant {
    hf_method method;
    uint32_t bits;
    uint32_t group;                  /* inputs per scale; 0: whole rows */
    bool symmetric;                  /* compressed-tensors, int4 */
    uint32_t zero_added;             /* GPTQ: what is added to stored zero points */
    uint32_t block_rows, block_cols; /* FP8; 0: no blocks */
} hf_quant;

/* The tensors of one module that together are its weight. */
typedef enum hf_piece {
    HF_PIECE_WEIGHT,
    HF_PIECE_BIAS,
    HF_PIECE_DATA, /* qweight, weight_packed */
    HF_PIECE_SCALES,
    HF_PIECE_SCALES_INV, /* weight_scale_inv: a scale in spite of its name */
    HF_PIECE_ZEROS,
    HF_PIECE_GROUPS, /* g_idx */
    HF_PIECE_SHAPE,
    HF_PIECE_UNUSED, /* scales of activations: weights only are used */
    HF_PIECE_COUNT,
} hf_piece;

typedef struct hf_module {
    hf_match match;
    const safetensor *pieces[HF_PIECE_COUNT];
} hf_module;

/* --- the job --------------------------------------------------------------------------- */
struct hf_job {
    model *m;        /* borrowed */
    const char *dir; /* borrowed */
    const safetensors *weights;
    gguf_maker *maker;
    json_doc doc;
    json_node root, text_node;
    json_fields top, text; /* text: "text_config" of models of several media, else as top */
    const hf_class *class;
    hf_quant quant;
    uint32_t n_embd, layers, heads, kv_heads, head_dim, n_ff, ctx, vocab, experts;
    uint32_t rope_dims;
    float theta;
    bool tied, tied_said; /* tie_word_embeddings, and whether config.json has it */
    bool new_decoder;     /* Falcon: two norms */
    bool unit_rows;       /* HF_UNIT_ROWS counts */
    uint32_t first_row;   /* HF_FROM_ROW */
    char pooling[8];      /* "mean", "cls" or "last"; empty: not said */
    hf_module *modules;   /* [modules_count] by first appearance; owned */
    uint32_t modules_count;
    uint32_t skipped; /* tensors of parts that are not text */
};

/* hf_dir.c: what hf_dir_open() makes of the text of a config.json and m->internal->weights. */
NODISCARD status hf_describe(model *m, str config, gguf **out, error *err);

/* hf_config.c.  Reads j->doc; fills the numbers above and puts the keys. */
NODISCARD status hf_config_read(hf_job *j, error *err);
/* hf_rope.c */
NODISCARD status hf_rope_read(hf_job *j, error *err);
/* hf_quant.c */
NODISCARD status hf_quant_read(hf_job *j, error *err);
/* Which piece of a module is called that; false when none is. */
bool hf_piece_find(str suffix, hf_piece *out);
/* Is the module's weight packed?  Otherwise it is a plain tensor, HF_PIECE_WEIGHT. */
bool hf_quant_is_packed(const hf_module *mod);
/* Checked: it is safe to read. */
NODISCARD status hf_quant_matrix(hf_job *j, const hf_module *mod, packed_matrix *out, error *err);
/* hf_match.c */
void hf_name_match(const hf_class *c, str name, hf_match *out);
/* "blk.3.attn_q" from "blk.#.attn_q"; the name of a module with another expert. */
bool hf_name_expand(const char *pattern, uint32_t layer, uint32_t expert, char *out, size_t n);
/* hf_tensors.c */
NODISCARD status hf_tensors_read(hf_job *j, error *err);
/* hf_mxfp4.c: [experts, rows, blocks, 16] and scales as blocks of ggml, copied. */
NODISCARD status hf_mxfp4_read(hf_job *j, const hf_module *mod, error *err);
/* hf_vocab.c: as many tokens as the embedding has rows.  Files leave room behind their vocabulary;
 * fewer rows than tokens is ERR_FORMAT. */
NODISCARD status hf_vocab_pad(model *m, error *err);
/* hf_vocab.c: "tokenizer.*" keys from m->vocab.  ERR_UNSUPPORTED, saying why, when a GGUF file
 * cannot hold this tokenizer. */
NODISCARD status hf_vocab_put(hf_job *j, error *err);

/* --- reading config.json: hf_config.c ---------------------------------------------------- */
/* `names` are alternatives, '|' between them; text_config goes before the top level.  A value that
 * is absent or null leaves *inout as it is.  Errors begin with "config.json: ". */
bool hf_has(hf_job *j, const char *names);
json_node hf_node(hf_job *j, const char *names);
NODISCARD status hf_u32(hf_job *j, const char *names, uint32_t max, uint32_t *inout, error *err);
NODISCARD status hf_need_u32(hf_job *j, const char *names, uint32_t max, uint32_t *out, error *err);
NODISCARD status hf_f32(hf_job *j, const char *names, float *inout, error *err);
NODISCARD status hf_bool(hf_job *j, const char *names, bool *inout, error *err);
NODISCARD status hf_str(hf_job *j, const char *names, str *inout, error *err);
/* The value has to be this one, because nothing else is computed. */
NODISCARD status hf_only_bool(hf_job *j, const char *names, bool fallback, bool want, error *err);
/* "config.json: " in front of a message. */
status hf_blame(status st, error *err);

/* Keys "ARCH.suffix". */
void hf_put_u32(hf_job *j, const char *suffix, uint32_t value);
void hf_put_f32(hf_job *j, const char *suffix, float value);
void hf_put_bool(hf_job *j, const char *suffix, bool value);
void hf_put_str(hf_job *j, const char *suffix, const char *value);
/* A number that is copied when config.json has it. */
NODISCARD status hf_copy_u32(hf_job *j, const char *names, const char *suffix, uint32_t max,
                             error *err);
NODISCARD status hf_copy_f32(hf_job *j, const char *names, const char *suffix, error *err);

#endif
