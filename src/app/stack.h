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

/* Who is told how far loading has come, besides the upper side of the link; on the thread that
 * loads.  `tell` says false to stop it; it may be NULL. */
typedef struct load_watch {
    bool (*tell)(void *ctx, load_phase phase, uint32_t permille);
    void *ctx;
} load_watch;

/* A link, and a name by which clients call the model at `path`; that there is such a file is
 * checked, nothing is loaded. */
NODISCARD status stack_create(stack **out, const config *c, str name, str path, error *err);
/* Load the model and plan its memory; nothing runs yet.  Once, on any thread.  spoken_for_bytes
 * of the free memory belong to models that were loaded before.  Requests sent down the link wait
 * there; LOADING frames go up. */
NODISCARD status stack_load(stack *s, uint64_t spoken_for_bytes, const load_watch *watch,
                            error *err);
/* Both, with a line on the terminal meanwhile. */
NODISCARD status stack_open(stack **out, const config *c, str name, str path, error *err);
const char *stack_name(const stack *s);
/* After loading: what the model may come to use beyond its mapped file, KV cache and workspace. */
uint64_t stack_planned_bytes(const stack *s);
/* After loading: has its device failed?  Its requests have ended with the error; the process has to
 * end, for nothing on that device works in it any more. */
bool stack_is_broken(const stack *s);
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
/* An engine with these options.  A GPU that was taken because it is there may turn out too small,
 * or not to do what is asked for: then the CPU computes, opt->backend is changed, *why says the
 * reason and so does a WARN line.  A GPU that is required is an error. */
NODISCARD status stack_engine_open(const config *c, const char *name, const model *m,
                                   engine_options *opt, engine **out, error *why, error *err);

#endif
