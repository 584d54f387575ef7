/* export.h - the trained model as a GGUF file in F32, for `gantry run` and `gantry quantize`. */
#ifndef TRAIN_EXPORT_H
#define TRAIN_EXPORT_H

#include "model/gguf.h"
#include "train/shape.h"

typedef struct export_about {
    const char *name, *description, *license; /* "general.*"; NULL or empty: left out */
} export_about;

/* The keys of the tokenizer are copied from `vocab`.  params [shape_params(s)]. */
NODISCARD status export_gguf(const char *path, const shape *s, const float *params,
                             const gguf *vocab, const export_about *about, error *err);

#endif
