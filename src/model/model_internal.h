/* model_internal.h - how a model is put together, for src/model only. */
#ifndef MODEL_MODEL_INTERNAL_H
#define MODEL_MODEL_INTERNAL_H

#include "base/arena.h"
#include "model/model.h"
#include "store/safetensors.h"

/* Everything a model owns besides its file comes from one arena with this limit. */
#define MODEL_ARENA_BYTES_MAX ((size_t)1 << 30)

enum { MODEL_CHAT_TEMPLATE_BYTES_MAX = 1 << 20 };

struct model_internal {
    blob *file;      /* owned */
    gguf *gguf;      /* owned */
    arena arena;     /* layers, vocabulary arrays, converted vectors */
    bool *bound;     /* [tensors] in the arena: part of the description */
    bool *keys_read; /* [key-values] in the arena */
    /* Of a SafeTensors directory (hf_dir.h): */
    safetensors *weights; /* owned; NULL for other files */
};

/* Zeroed memory that lives as long as the model; `what` names it in the error. */
NODISCARD status model_take(model *m, uint64_t count, size_t bytes, const char *what, void **out,
                            error *err);

/* File content on its way into a message, a name or JSON: cut between characters, what
 * is no printable UTF-8 becomes '?'. */
/* How many bytes at the start of s are one thing that no terminal should see raw: a control
 * character, a change of direction, a byte that is no character when not `utf8`; 0 is none.
 * s.n > 0. */
uint32_t model_command_bytes(str s, bool utf8);
enum { MODEL_TEXT_BYTES = 64 };
void model_copy_text(char *out, size_t out_bytes, str s);

/* Any file that parses; takes b, also on failure.  *verdict is why it cannot be run, with
 * code OK when it can; the description is complete only then, and vocab is filled when the
 * tokenizer is known. */
NODISCARD status model_open_any(model **out, blob *b, error *verdict, error *err);

/* The same of a directory of SafeTensors files that hf_dir.h understands. */
NODISCARD status model_open_any_dir(model **out, const char *dir, error *verdict, error *err);

/* --- model_file.c ------------------------------------------------------------------ */
/* The bytes of a MODEL that is no directory: a file, a synthetic model, the one in the binary. */
NODISCARD status model_open_file(blob **out, const char *model_arg, error *err);
/* Warns when a file or directory stands in front of the model in the binary. */
void model_note_namesake(const char *model_arg);

/* --- keys.c: the file's "ARCH.suffix" keys ---------------------------------------
 * ARCH is hparams.arch.  Every key that is asked for counts as read; model_check_keys() is about
 * the others.  An error names the whole key; *out is untouched then. */
bool model_key_has(const model *m, const char *suffix);
/* The value as it is; NULL when absent. */
const gguf_value *model_key_value(model *m, const char *suffix);
/* Required, 1 .. max.  An array with one number per layer is read as its one number; different
 * numbers are refused.  The next one does the same. */
NODISCARD status model_key_count(model *m, const char *suffix, uint32_t max, uint32_t *out,
                                 error *err);
/* 0 .. max; an absent key gives the fallback. */
NODISCARD status model_key_count_or(model *m, const char *suffix, uint32_t max, uint32_t fallback,
                                    uint32_t *out, error *err);
/* A finite number; an absent key gives the fallback. */
NODISCARD status model_key_f32_or(model *m, const char *suffix, float fallback, float *out,
                                  error *err);
/* Required, above 0. */
NODISCARD status model_key_positive(model *m, const char *suffix, float *out, error *err);
NODISCARD status model_key_bool_or(model *m, const char *suffix, bool fallback, bool *out,
                                   error *err);
/* Empty when absent. */
NODISCARD status model_key_str_or(model *m, const char *suffix, str *out, error *err);
/* A key of the architecture that nobody read: a warning, or ERR_UNSUPPORTED when it is known to
 * change the computation and does not hold the value at which it does nothing. */
NODISCARD status model_check_keys(const model *m, error *err);

/* --- bind.c: tensors of the file to fields of the model ------------------------
 * `stem` is a tensor's name without "blk.LAYER." in front and, but for vectors, without ".weight"
 * or ".bias" behind.  Another shape is refused, naming the two numbers.  An optional tensor that
 * is absent leaves *out zeroed. */
enum { MODEL_LAYER_NONE = UINT32_MAX };
typedef enum model_need { MODEL_REQUIRED, MODEL_OPTIONAL } model_need;

/* "STEM.weight" [rows, cols]. */
NODISCARD status model_bind_matrix(model *m, uint32_t layer, const char *stem, uint32_t rows,
                                   uint32_t cols, model_need need, model_tensor *out, error *err);
/* The same, and "STEM.bias" [rows] as f32 where there is one. */
NODISCARD status model_bind_linear(model *m, uint32_t layer, const char *stem, uint32_t rows,
                                   uint32_t cols, model_need need, model_linear *out, error *err);
/* "STEM.weight" and "STEM.bias" [cols] as f32.  A bias alone is refused. */
NODISCARD status model_bind_norm(model *m, uint32_t layer, const char *stem, uint32_t cols,
                                 model_need need, model_norm *out, error *err);
/* The whole name behind "blk.LAYER.": [cols] as f32, also when it is stored as [rows, cols / rows]
 * or so: only the number of elements counts. */
NODISCARD status model_bind_vector(model *m, uint32_t layer, const char *name, uint32_t cols,
                                   model_need need, model_tensor *out, error *err);
/* "STEM.weight" [experts, rows, cols] as parts. */
NODISCARD status model_bind_experts(model *m, uint32_t layer, const char *stem, uint32_t rows,
                                    uint32_t cols, model_need need, model_tensor *out, error *err);
/* "STEM.weight" [heads, rows, cols] as one matrix of heads * rows rows; required. */
NODISCARD status model_bind_stack(model *m, uint32_t layer, const char *stem, uint32_t heads,
                                  uint32_t rows, uint32_t cols, model_tensor *out, error *err);
/* "STEM.weight", if there is one, says what another tensor says: it may be left over. */
void model_leave(model *m, uint32_t layer, const char *stem);
/* Rows that "STEM.weight" has in the file; 0 when it is absent. */
uint64_t model_weight_rows(const model *m, uint32_t layer, const char *stem);
/* Rows row0 .. row0 + rows - 1 of a matrix, or of a linear with its bias; nothing is copied. */
model_tensor model_slice_rows(const model_tensor *from, uint32_t row0, uint32_t rows);
model_linear model_slice_linear(const model_linear *from, uint32_t row0, uint32_t rows);

/* Is every tensor of the file bound?  Otherwise an error that names the first one. */
NODISCARD status model_check_bound(const model *m, error *err);

/* --- model_rope.c ------------------------------------------------------------------ */
/* Fills `out` for positions turned by `base`^(-2i / dims), with the file's "rope.scaling.*" keys
 * and its rope_freqs / rope_factors tensors applied when `scaled`.  An arch calls it once per
 * scheme; what YaRN does to scores beyond positions is the architecture's to add. */
NODISCARD status model_rope_init(model *m, model_rope *out, rope_pairs pairs, uint32_t dims,
                                 float base, bool scaled, error *err);
/* ln(factor) of YaRN, 0 without: for architectures that scale by more than positions. */
NODISCARD status model_rope_yarn_log(model *m, double *out, error *err);
/* hparams.alibi_*; hparams.heads is known. */
NODISCARD status model_alibi_init(model *m, float bias_max, error *err);

/* --- arch_*.c: families that are no row of traits (model/arch.h) -------------------------
 * Reads hyper-parameters, allocates m->layers and binds every tensor.  m->hparams.arch, the
 * vocabulary and, from the embedding's shape, hparams.vocab and n_embd are there already. */
NODISCARD status arch_encoder_describe(model *m, error *err); /* bert, nomic-bert, jina-bert-v2 */
NODISCARD status arch_mamba_describe(model *m, error *err);
NODISCARD status arch_rwkv6_describe(model *m, error *err);

/* --- vocab_gguf.c ------------------------------------------------------------------ */
/* Fills m->vocab and m->chat_template. */
NODISCARD status model_read_vocab(model *m, error *err);

#endif
