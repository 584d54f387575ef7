/* embedded.h - the model file that is part of this binary.
 *
 * The build puts models/gantry-mini/gantry-mini.gguf into the read-only data.  Like a mapping it
 * begins on a page boundary, is paged in as it is read and is shared by all processes. */
#ifndef STORE_EMBEDDED_H
#define STORE_EMBEDDED_H

#include "base/error.h"
#include "base/str.h"
#include "store/blob.h"

/* What commands call it. */
#define EMBEDDED_NAME "gantry-mini"

enum { EMBEDDED_ALIGN_BYTES = 4096 };

str embedded_view(void);

/* A blob over it, named EMBEDDED_NAME. */
NODISCARD status blob_open_embedded(blob **out, error *err);

#endif
