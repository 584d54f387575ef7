/* hf_dir.h - a Hugging Face model directory as a model.
 *
 * config.json, model.safetensors (or shards with their index) and the tokenizer's files become a
 * GGUF description in memory (model/gguf_make.h) and a vocabulary.  Weights stay where they are in
 * the mapped files; vectors become f32, and what a class stores in another order than GGUF
 * (Conv1D, fused qkv by heads, MXFP4 blocks) is copied.  docs/safetensors.md has the tables.
 * Errors name the file, the key or tensor, and the numbers that disagree: ERR_FORMAT for files that
 * are broken, ERR_UNSUPPORTED for what is not known, by name. */
#ifndef MODEL_HF_DIR_H
#define MODEL_HF_DIR_H

#include <stdbool.h>

#include "model/model_internal.h"

/* Is it a directory?  Then models are opened with the function below. */
bool hf_dir_is(const char *path);

/* Fills m->internal->gguf, weights and file, and of m the vocabulary, the chat templates, name and
 * file_bytes.  The gguf has the keys and tensors that the architectures read, but not the
 * tokenizer's.  A directory without a tokenizer gives vocab.kind == TOK_KIND_NONE.  m stays the
 * caller's to close, also on failure. */
NODISCARD status hf_dir_open(model *m, const char *dir, error *err);

/* Writes the model, which was opened from `dir`, as a GGUF file that needs nothing beside it.
 * ERR_UNSUPPORTED when GGUF keys cannot say what its tokenizer does. */
NODISCARD status hf_dir_write(model *m, const char *dir, int fd, error *err);

/* "Llama Mistral ... BertModel": the classes that are known, "ForCausalLM" left out; cut to fit. */
void hf_class_names(char *out, size_t out_bytes);

#endif
