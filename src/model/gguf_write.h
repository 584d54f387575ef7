/* gguf_write.h - writes a GGUF v3 file front to back.
 *
 * Call order: create, every key-value, every tensor, finish.  Tensor bytes are made when
 * they are due, by the caller's function, so a file may be larger than memory.  Failures
 * of the key-value calls are kept and reported by finish.  One thread. */
#ifndef MODEL_GGUF_WRITE_H
#define MODEL_GGUF_WRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"
#include "model/gguf.h"
#include "tensor/dtype.h"

typedef struct gguf_writer gguf_writer;

/* Where a tensor's bytes go.  Source functions call gguf_sink_put() until all are there. */
typedef struct gguf_sink gguf_sink;
NODISCARD status gguf_sink_put(gguf_sink *s, const void *bytes, size_t n, error *err);

/* Makes the bytes of tensor `idx` (in the order they were added). */
typedef status (*gguf_source)(void *ctx, uint32_t idx, gguf_sink *s, error *err);

NODISCARD status gguf_writer_create(gguf_writer **out, error *err);
void gguf_writer_destroy(gguf_writer *w);

/* Where tensors begin, instead of GGUF_ALIGNMENT_DEFAULT: a power of two up to
 * GGUF_ALIGNMENT_MAX.  The key "general.alignment" is the caller's to write or copy. */
void gguf_writer_align(gguf_writer *w, uint32_t alignment);

void gguf_write_u32(gguf_writer *w, const char *key, uint32_t value);
void gguf_write_f32(gguf_writer *w, const char *key, float value);
void gguf_write_bool(gguf_writer *w, const char *key, bool value);
void gguf_write_str(gguf_writer *w, const char *key, str value);
void gguf_write_strs(gguf_writer *w, const char *key, const str *values, uint32_t count);
void gguf_write_f32s(gguf_writer *w, const char *key, const float *values, uint32_t count);
void gguf_write_i32s(gguf_writer *w, const char *key, const int32_t *values, uint32_t count);

/* A key-value of a file that was read, byte for byte. */
void gguf_write_copy(gguf_writer *w, const gguf_value *value);

/* A matrix [rows, cols], or with rows 0 a vector of cols elements. */
void gguf_write_tensor(gguf_writer *w, const char *name, dtype type, uint64_t rows, uint64_t cols);

/* A tensor of any shape; dims [dims_count], innermost first. */
void gguf_write_tensor_dims(gguf_writer *w, str name, dtype type, uint32_t dims_count,
                            const uint64_t *dims);

/* Writes everything into fd (borrowed) from its current position on.  ERR_INTERNAL when
 * `source` gives a tensor another number of bytes than its shape has. */
NODISCARD status gguf_write_finish(gguf_writer *w, int fd, gguf_source source, void *ctx,
                                   error *err);

#endif
