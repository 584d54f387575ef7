/* model_source.h - the model that a command's arguments mean: as it is, or a quantized copy of it
 * from the cache (--quantize TYPE). */
#ifndef APP_MODEL_SOURCE_H
#define APP_MODEL_SOURCE_H

#include "app/config.h"
#include "model/model.h"

/* Says in one log line when a copy is made or taken; a line on the terminal shows how far the
 * making is. */
NODISCARD status model_source_open(model **out, const config *c, const char *path, error *err);

#endif
