/* stack.h - one loaded model with everything that runs it: description, tokenizer, engine,
 * the text and engine roles, their links and threads.
 *
 *   front, or a command ── stack_link ──▶ text thread ──▶ engine thread
 *
 * Owner: the main thread. */
#ifndef APP_STACK_H
#define APP_STACK_H

#include "app/config.h"
#include "engine/engine.h"
#include "text/tokenizer.h"
#include "wire/link.h"
#include "wire/wire.h"

typedef struct stack stack;

/* Load `path` and plan its memory; nothing runs yet.  `name` is what clients call it. */
NODISCARD status stack_open(stack **out, const config *c, str name, str path, error *err);
/* Start the two threads. */
NODISCARD status stack_start(stack *s, error *err);
/* The caller is the upper side. */
wire_link *stack_link(stack *s);
const model_desc *stack_desc(const stack *s);
/* Let the roles finish what runs, then end their threads and free everything.  The upper
 * side of the link must have stopped; what the roles still send is thrown away. */
void stack_close(stack *s);

/* --- shared by the commands that use an engine without roles -------------------- */
/* Engine options as configured; command defaults where nothing was given. */
NODISCARD status stack_engine_options(const config *c, dtype kv_default, engine_options *out,
                                      error *err);
/* --gpu and --numerics against what this build can do: refused, or logged. */
NODISCARD status stack_check_device(const config *c, error *err);

#endif
