/* model_internal.h - how a model is put together, for src/model only. */
#ifndef MODEL_MODEL_INTERNAL_H
#define MODEL_MODEL_INTERNAL_H

#include "base/arena.h"
#include "model/model.h"

/* Everything a model owns besides its file comes from one arena with this limit. */
#define MODEL_ARENA_BYTES_MAX ((size_t)1 << 30)

enum { MODEL_CHAT_TEMPLATE_BYTES_MAX = 1 << 20 };

struct model_internal {
    blob *file;  /* owned */
    gguf *gguf;  /* owned */
    arena arena; /* layers, vocabulary arrays, converted vectors */
    bool *bound; /* [tensors] in the arena: part of the description */
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

/* The bytes behind a model argument: a file, or a synthetic model in memory. */
NODISCARD status model_open_file(blob **out, const char *path_or_synth, error *err);

/* Any file that parses; takes b, also on failure.  *verdict is why it cannot be run, with
 * code OK when it can; the description is complete only then, and vocab is filled when the
 * tokenizer is known. */
NODISCARD status model_open_any(model **out, blob *b, error *verdict, error *err);

/* --- bind.c: tensors of the file to fields of the model ------------------------
 * Both refuse another shape, naming the two numbers.  An optional tensor that is absent
 * leaves *out zeroed. */
/* [rows, cols] of a computable type. */
NODISCARD status model_bind_matrix(model *m, const char *name, uint32_t rows, uint32_t cols,
                                   model_tensor *out, error *err);
/* [cols] as f32. */
NODISCARD status model_bind_vector(model *m, const char *name, uint32_t cols, bool optional,
                                   model_tensor *out, error *err);
/* Is every tensor of the file bound?  Otherwise an error that names the first one. */
NODISCARD status model_check_bound(const model *m, error *err);

/* --- llama.c ------------------------------------------------------------------- */
NODISCARD status llama_describe(model *m, error *err);

/* --- vocab_gguf.c ------------------------------------------------------------------ */
/* Fills m->vocab and m->chat_template. */
NODISCARD status model_read_vocab(model *m, error *err);

#endif
