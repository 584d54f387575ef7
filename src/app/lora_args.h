/* lora_args.h - adapters given on the command line: --lora FILE[:SCALE]. */
#ifndef APP_LORA_ARGS_H
#define APP_LORA_ARGS_H

#include "app/config.h"
#include "engine/lora.h"
#include "wire/wire.h"

typedef struct lora_arg {
    char path[4096];
    char name[64]; /* base name without ".gguf", or NAME of NAME=FILE */
    float scale;   /* 1 when not given */
} lora_arg;

/* [NAME=]FILE[:SCALE]: what follows the last colon is the scale when it is a number. */
NODISCARD status lora_arg_parse(str text, lora_arg *out, error *err);

/* All adapters of c->loras, numbered from 0; errors name the file. */
NODISCARD status lora_args_load_into(const config *c, lora_table *t, error *err);

/* What they will take of a GPU's memory beside `m` with these options.  One that cannot be loaded
 * takes nothing; loading it says why. */
uint64_t lora_args_bytes(const config *c, const model *m, const engine_options *opt);

/* What a request to a stack with them has to say: their numbers, but for scales of 0. */
typedef struct lora_use {
    uint32_t count;
    uint32_t adapters[WIRE_ADAPTERS_MAX];
    float scales[WIRE_ADAPTERS_MAX];
} lora_use;
NODISCARD status lora_args_use(const config *c, lora_use *out, error *err);

/* Load them into a table of their own, in *mix with their scales; *out stays NULL when there is
 * none.  The caller destroys *out before the engine. */
NODISCARD status lora_args_load(const config *c, engine *e, lora_table **out, lora_mix *mix,
                                error *err);

#endif
