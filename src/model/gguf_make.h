/* gguf_make.h - a GGUF description put together in memory from other files.
 *
 * A SafeTensors directory is described in GGUF terms: the same keys and tensor names, with data
 * that stays where it is in the mapped files.  Everything that reads a gguf (the architectures,
 * inspect, requantizing) works on it; gguf_make_write() turns it into a file.
 *
 * Call order: gguf_make_create, keys and tensors in any order, gguf_make_finish.  What fails in
 * between (no memory, a name twice) is kept and reported by finish.  Texts and arrays are copied;
 * tensor data is borrowed and must outlive the gguf.  One thread until finished.
 * Then it is a gguf of version 3 whose file bytes are those of all tensors together. */
#ifndef MODEL_GGUF_MAKE_H
#define MODEL_GGUF_MAKE_H

#include "model/gguf.h"
#include "model/gguf_write.h"

typedef struct gguf_maker gguf_maker;

NODISCARD status gguf_make_create(gguf_maker **out, error *err);
/* Harmless on NULL.  Not after gguf_make_finish(), which takes the maker. */
void gguf_make_destroy(gguf_maker *g);

void gguf_make_u32(gguf_maker *g, const char *key, uint32_t value);
void gguf_make_f32(gguf_maker *g, const char *key, float value);
void gguf_make_bool(gguf_maker *g, const char *key, bool value);
void gguf_make_str(gguf_maker *g, const char *key, str value);
void gguf_make_u32s(gguf_maker *g, const char *key, const uint32_t *values, uint32_t count);
void gguf_make_i32s(gguf_maker *g, const char *key, const int32_t *values, uint32_t count);
void gguf_make_f32s(gguf_maker *g, const char *key, const float *values, uint32_t count);
void gguf_make_strs(gguf_maker *g, const char *key, const str *values, uint32_t count);

/* Zeroed memory that lives as long as the gguf, for data that had to be changed on the way (norms
 * plus one, transposed matrices).  NULL when there is none: then finish fails, and tensors that
 * are added meanwhile are not looked at. */
void *gguf_make_take(gguf_maker *g, uint64_t bytes);

/* t->name, type, dims, and one of data, packed, parts; the rest is filled in.  Parts and
 * packed_matrix structs are copied, what they point to is borrowed.  Packed rows passed
 * packed_check() and have a type that quant_row() writes; bytes counts them in that type. */
void gguf_make_tensor(gguf_maker *g, const gguf_tensor *t);

/* The finished description; the maker is gone, also on failure.  gguf_close() frees it. */
NODISCARD status gguf_make_finish(gguf_maker *g, gguf **out, error *err);

/* Writes it as a GGUF v3 file: parts one after the other, packed rows unpacked into the tensor's
 * type, rows of halves_heads in GGUF order, keys that begin with "gantry." left out. */
NODISCARD status gguf_make_write(const gguf *g, int fd, error *err);

#endif
