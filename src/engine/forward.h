/* forward.h - an architecture's forward pass, recorded as a program.
 *
 * One pass per way of mixing tokens: attention and latent attention share a transformer that does
 * what the model's description says is there; Mamba and RWKV-6 have layers of their own. */
#ifndef ENGINE_FORWARD_H
#define ENGINE_FORWARD_H

#include "backend/program.h"
#include "model/model.h"

/* Record `m` for steps within `max`, where max->ctx also says for how many tokens the context is
 * created.  The model must outlive the program. */
NODISCARD status forward_record(program **out, const model *m, const program_limits *max,
                                error *err);

#endif
