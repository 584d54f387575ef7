/* inspect.h - what a person wants to know about a model file, as text or JSON.
 *
 * Works for every GGUF file that parses, whatever its architecture and types, and says
 * at the end whether this version can run it and if not, exactly why.  Only headers are read, so a
 * file of any size answers at once.  A directory of SafeTensors files is shown in the terms of
 * GGUF; of one that is not understood it tells the tokenizer and the chat template. */
#ifndef MODEL_INSPECT_H
#define MODEL_INSPECT_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"
#include "store/blob.h"
#include "tensor/dtype.h"

/* `path` is a file or "synth:SHAPE:TYPE".  Appends to out. */
NODISCARD status model_inspect(const char *path, bool json, buf *out, error *err);

typedef struct inspect_options {
    bool json;
    const char *(*how)(dtype t); /* how products with that type are computed; NULL: not said */
} inspect_options;
NODISCARD status model_inspect_with(const char *path, const inspect_options *o, buf *out,
                                    error *err);

/* The same for bytes at hand; takes b, also on failure. */
NODISCARD status model_inspect_blob(blob *b, bool json, buf *out, error *err);

#endif
