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

/* Load `path` and plan its memory; nothing runs yet.  `name` is what clients call it.
 * spoken_for_bytes of the free memory belong to models that were opened before. */
NODISCARD status stack_open(stack **out, const config *c, str name, str path,
                            uint64_t spoken_for_bytes, error *err);
/* What the model may come to use beyond its mapped file: KV cache and workspace. */
uint64_t stack_planned_bytes(const stack *s);
/* Start the two threads. */
NODISCARD status stack_start(stack *s, error *err);
/* The caller is the upper side. */
wire_link *stack_link(stack *s);
const model_desc *stack_desc(const stack *s);
/* End the threads and free everything.  The upper side of the link must have stopped: what
 * still runs is canceled, what the roles still send is thrown away. */
void stack_close(stack *s);

/* --- shared by the commands that use an engine without roles -------------------- */
/* Engine options as configured.  --gpu and --numerics are held against what this build can
 * do: refused, or logged. */
NODISCARD status stack_engine_options(const config *c, engine_options *out, error *err);

#endif
