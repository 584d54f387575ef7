/* openai.h - the two OpenAI generation dialects: bodies in, answers out.
 *
 * Source of every field: the OpenAI OpenAPI description and openai-python's types; the
 * extensions are those that vLLM and llama.cpp accept.  Parsing is a pure function of the
 * body, so that it can be fuzzed; what it accepts, wire can carry.
 * Owner: the net thread. */
#ifndef API_OPENAI_H
#define API_OPENAI_H

#include "api/gen.h"
#include "base/arena.h"
#include "json/read.h"

/* --- parsing (openai_params.c, openai_lora.c, openai_chat.c ...) ------------- */

/* Strings and arrays of *out live in the arena. */
bool openai_chat_parse(str body, arena *a, gen_spec *out, api_fault *fault);
bool openai_completions_parse(str body, arena *a, gen_spec *out, api_fault *fault);
bool openai_embeddings_parse(str body, arena *a, gen_spec *out, api_fault *fault);
bool rerank_parse(str body, arena *a, gen_spec *out, api_fault *fault);

/* What both bodies share while they are read. */
typedef struct openai_body {
    arena *a;       /* borrowed */
    gen_spec *spec; /* being filled */
    json_fields f;  /* the body's members */
} openai_body;

/* Run `own` over the body's members between the shared fields and the list of ignored
 * ones; turns its error into a fault with the field's path. */
bool openai_parse(str body, arena *a, gen_spec *out, api_fault *fault,
                  status (*own)(openai_body *b, error *err));
/* The same for a body without sampling and streaming: only `model` is shared. */
bool openai_parse_plain(str body, arena *a, gen_spec *out, api_fault *fault,
                        status (*own)(openai_body *b, error *err));
/* Room for `count` inputs of the spec; inputs_count stays 0. */
status openai_inputs(openai_body *b, size_t count, error *err);
/* Append an input: a text, or an array of token ids. */
status openai_add_text(openai_body *b, const json_node *n, error *err);
status openai_add_ids(openai_body *b, const json_node *array, error *err);
/* `key` is string | string[] | int[] | int[][], with 1 .. inputs_max texts or id lists. */
status openai_read_inputs(openai_body *b, const char *key, uint32_t inputs_max, error *err);
/* The list "lora" of a body. */
status openai_read_loras(openai_body *b, error *err);
/* Nobody reads that field of the body: `spec` (a gen_spec) lists it as ignored. */
void openai_ignore(void *spec, str key);
/* A copy of s in the arena. */
status openai_keep(openai_body *b, str s, str *out, error *err);
/* A member as JSON text again, in the arena. */
status openai_keep_json(openai_body *b, const json_node *n, str *out, error *err);
/* tools, tool_choice and parallel_tool_calls of a chat body (openai_tools.c). */
status openai_read_tools(openai_body *b, error *err);
/* Is the value more than null, false, "", [] or {}: does it ask for something? */
bool openai_asks(const json_node *n);
/* ERR_UNSUPPORTED when that member asks for something. */
status openai_refuse(openai_body *b, const char *key, const char *why, error *err);

/* --- writing (openai_write.c) ------------------------------------------------------ */

/* Begin the object: id, object, created, model, system_fingerprint. */
void openai_begin(json_writer *w, const gen_call *g, const char *object);
/* "usage" and "timings" of the whole call. */
void openai_usage(json_writer *w, const gen_call *g);
void openai_timings(json_writer *w, const gen_call *g);
/* "stop" or "length". */
str openai_finish_name(gen_finish reason);
/* The entries of GEN_TEXT blobs as the chat dialect has them; null when not wanted. */
void openai_logprobs_chat(json_writer *w, bool wanted, str blob);
/* The same in the legacy form; offset is the place of the first token in the text, in code
 * points. */
void openai_logprobs_legacy(json_writer *w, bool wanted, str blob, uint64_t offset);
/* "tool_calls" of a message, unless there is none (openai_tools.c). */
void openai_calls(json_writer *w, const gen_choice *c);
/* The members of a delta: a call begins, its arguments go on; of a gen_event. */
void openai_delta_call(json_writer *w, const void *event);
void openai_delta_arguments(json_writer *w, const void *event);
/* Code points of a text. */
uint64_t openai_chars(str text);
/* A stream: its head, one event, its end (usage where asked for, and [DONE]). */
void openai_stream_begin(gen_call *g);
void openai_send(gen_call *g, const buf *json);
void openai_stream_end(gen_call *g, const char *object);
/* on_error of both dialects. */
void openai_on_error(gen_call *g, const api_fault *fault);

#endif
