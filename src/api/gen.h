/* gen.h - generations in flight: from a parsed body to the last byte of its answer.
 *
 *   gen_call   one API call: its client, its choices, its answer
 *   gen_part   one prompt of it on the wire; its id is generation << 32 | index, so that a
 *              late event for an earlier part never reaches a later one
 *
 * The prompts of a generation go down together.  A request for vectors may have many more: some
 * are under way, the others follow as those end.
 *
 *   part:  SENT -> ACCEPTED -> (ended)      any -> CONDEMNED -> (ended)
 *
 * A part ends with USAGE or ERROR from below and with nothing else: until then its place in
 * the table is taken, also when its client is gone.  A call dies when its client and all
 * its parts are gone.
 *
 * Credits: each part may be `window_tokens` ahead of its client.  A token is given back
 * when its bytes have left for the socket (streams) or when it arrives (plain replies,
 * which have a limit of their own), half a window at a time.
 * Owner: the net thread. */
#ifndef API_GEN_H
#define API_GEN_H

#include <stdbool.h>
#include <stdint.h>

#include "api/api_error.h"
#include "api/registry.h"
#include "base/arena.h"
#include "net/http.h"
#include "obs/metrics.h"
#include "wire/wire.h"

enum {
    GEN_PROMPTS_MAX = 64,  /* of one generation: all are under way at once */
    GEN_INPUTS_MAX = 2048, /* of one request for vectors: they follow each other down */
    GEN_INPUTS_UNDER_WAY = 64,
    GEN_WINDOW_TOKENS_MIN = 16, /* below, held-back text could use up a whole window */
    GEN_IGNORED_BYTES_MAX = 512,
    GEN_ID_BYTES_MAX = 48,
    GEN_REQUEST_ID_BYTES_MAX = 80,
};

typedef struct gen_call gen_call;

typedef struct gen_input {
    gen_prompt kind;
    str text;
    str pair;
    wire_array ids;
} gen_input;

/* One element of a request's `lora` list. */
typedef struct gen_lora {
    str name;    /* n == 0: by number */
    uint32_t id; /* its number */
    float scale;
} gen_lora;

/* How the vectors of an answer are written. */
typedef struct gen_vector_form {
    uint32_t dimensions;   /* EMBED: only the first so many values; 0: all */
    bool base64;           /* EMBED: little-endian f32 in base64 instead of numbers */
    uint32_t top_n;        /* RANK: only the best so many */
    bool return_documents; /* RANK: with their texts */
} gen_vector_form;

/* What a body asks for, in any dialect.  Views into the body's tree and its arena. */
typedef struct gen_spec {
    str model;           /* n == 0: the first one */
    gen_request request; /* everything but id, credits and prompt */
    uint32_t inputs_count;
    gen_input *inputs; /* [inputs_count] in the arena */
    gen_vector_form form;
    bool loras_given; /* the body chooses adapters, if only none */
    uint32_t loras_count;
    gen_lora loras[WIRE_ADAPTERS_MAX];
    uint32_t adapter_numbers[WIRE_ADAPTERS_MAX]; /* behind request.adapters: adapters_choose() */
    float adapter_scales[WIRE_ADAPTERS_MAX];
    bool stream;
    bool include_usage;
    uint32_t ignored_count;
    char ignored[GEN_IGNORED_BYTES_MAX]; /* names of unused fields, ", " between */
} gen_spec;

/* One sequence of the answer.  Choice i of prompt p has index p * n + i. */
typedef struct gen_choice {
    buf text;       /* plain replies: all of it so far; a vector's f32 values */
    buf logprobs;   /* plain replies: wire entries */
    buf document;   /* RANK: the text that is scored, where the answer has it */
    buf calls;      /* plain replies: tool calls, see gen_calls_next() */
    size_t call_at; /* of the latest one in `calls` */
    uint32_t calls_count;
    uint64_t chars;   /* code points before its next token, for text_offset */
    uint64_t last_ns; /* its latest token */
    bool finished;
    gen_finish reason;
} gen_choice;

typedef enum part_state { PART_FREE, PART_SENT, PART_ACCEPTED, PART_CONDEMNED } part_state;

typedef struct gen_part {
    uint64_t id; /* 0 when free */
    uint32_t generation;
    part_state state;
    gen_call *call;         /* borrowed; NULL when free */
    uint32_t prompt;        /* which prompt of the call */
    uint32_t window_tokens; /* credits it began with */
    uint32_t credit_tokens; /* what it may still send */
    uint32_t unread_tokens; /* written, not yet taken by the socket */
    uint32_t due_tokens;    /* consumed, not yet given back */
    uint32_t finished;      /* choices that are complete */
    bool cancel_due;        /* CANCEL has to go out */
    uint32_t next_free;
} gen_part;

/* How a protocol reads a body and writes an answer.  Slots in call order. */
typedef struct dialect_ops {
    const char *endpoint; /* "/v1/chat/completions", for the log */
    metrics_endpoint metrics;
    const char *id_prefix; /* "chatcmpl-" */
    /* False and *fault when the body is wrong. */
    bool (*parse)(str body, arena *a, gen_spec *out, api_fault *fault);
    void (*on_accepted)(gen_call *g); /* every prompt is accepted: a stream begins */
    void (*on_text)(gen_call *g, uint32_t choice, const gen_event *e);
    void (*on_call)(gen_call *g, uint32_t choice, const gen_event *e); /* NULL: it has no tools */
    void (*on_finish)(gen_call *g, uint32_t choice);
    void (*on_done)(gen_call *g); /* all choices complete, usage known */
    /* Also before on_accepted; then it is the whole answer. */
    void (*on_error)(gen_call *g, const api_fault *fault);
} dialect_ops;

struct gen_call {
    front *front;       /* borrowed */
    model_entry *model; /* borrowed */
    const dialect_ops *dialect;
    http_call *http; /* borrowed; NULL once it is closed */
    gen_call *prev;
    gen_call *next;
    char id[GEN_ID_BYTES_MAX];
    char name[MODEL_NAME_BYTES_MAX + 1]; /* of the model, or of the adapter asked for as one */
    char request_id[GEN_REQUEST_ID_BYTES_MAX];
    uint64_t created_s;
    uint64_t begun_ns;
    uint64_t first_ns;   /* first token came, 0: none yet */
    uint64_t written_ms; /* last bytes of a stream */
    bool stream;
    bool include_usage;
    bool logprobs;
    bool tools; /* tool calls may come */
    bool begun; /* a stream's head was given */
    bool over;  /* the answer is complete, failed or without a reader */
    bool cut;   /* its connection was aborted by us */
    uint16_t n; /* choices per prompt */
    gen_kind kind;
    gen_vector_form form;
    uint32_t parts_count;   /* prompts under way or ended */
    uint32_t parts_open;    /* not ended yet */
    uint32_t accepted;      /* prompts accepted */
    uint32_t finished;      /* choices whose end was delivered */
    uint32_t last_choice;   /* the one that ended last, for dialects */
    uint32_t tokens_seen;   /* over all choices */
    uint32_t prompt_tokens; /* as announced by ACCEPTED */
    size_t reply_bytes;     /* held in choices */
    gen_usage usage;        /* counts summed, times of the longest prompt */
    buf pending;   /* REQUEST frames of prompts that wait for a place in the table, without ids */
    buf early;     /* events of a stream that came before all prompts were accepted */
    unsigned code; /* HTTP status, 499 when the client left */
    const char *finish; /* for the log */
    uint32_t *parts;    /* owned; [prompts] index in the table */
    uint32_t choices_count;
    gen_choice choices[]; /* [choices_count] */
};

typedef struct gen_table {
    gen_part *parts; /* owned; [parts_max] */
    uint32_t parts_max;
    uint32_t free_head; /* index, parts_max at the end */
    uint32_t free_count;
    gen_call *calls; /* owned, newest first */
    uint64_t malformed;
} gen_table;

NODISCARD status gen_table_init(gen_table *t, uint32_t parts_max, error *err);
/* Frees what is left; the links are still there. */
void gen_table_deinit(gen_table *t);

/* A place for one more prompt of g, state SENT; the caller has looked at free_count. */
gen_part *gen_part_take(gen_table *t, gen_call *g);
void gen_part_give(gen_table *t, gen_part *p);
/* The part of that id; NULL when it has ended, never was, or belongs to another model. */
gen_part *gen_part_find(const gen_table *t, const model_entry *m, uint64_t id);
uint32_t gen_part_index(uint64_t id); /* in the table */
void gen_call_free(gen_call *g);

/* Send prompts that wait, while there are places for them. */
void gen_launch(gen_call *g);

/* A complete body has come for that dialect: answers, now or in time. */
void gen_start(front *f, http_call *c, const dialect_ops *dialect);

/* --- from below ---------------------------------------------------------------- */
void gen_take_events(front *f, model_entry *m, str body);
/* A frame was lost or broken in a way that loses events: what is in flight on that model
 * would miss text, so it fails. */
void gen_fail_all(front *f, model_entry *m, const char *why);
/* A frame that concerns no generation made no sense. */
void gen_note_malformed(front *f, model_entry *m, const char *why);
/* The model has come further in loading: streams that wait for it hear of it. */
void gen_tell_loading(front *f, model_entry *m);
/* The ring to the model has room again. */
void gen_resend(front *f, model_entry *m);

/* --- from the client ------------------------------------------------------------ */
void gen_drained(gen_call *g);
void gen_closed(gen_call *g, bool finished);
/* Streams that were quiet for a while get a comment. */
void gen_ping_all(front *f);

/* --- for dialects ----------------------------------------------------------------- */
/* Status line and headers of a stream, unless it has them: see gen_tell_loading(). */
void gen_stream_begin(gen_call *g, const char *content_type);
/* Add bytes to the stream; a client that is gone or hopelessly slow is cut. */
void gen_write(gen_call *g, const buf *bytes);
/* Break the stream off so that its client sees it is incomplete. */
void gen_cut(gen_call *g, const char *why);
/* The whole answer. */
void gen_respond(gen_call *g, unsigned http_status, const buf *json);
/* The stream is complete. */
void gen_end(gen_call *g);
/* A plain reply keeps text, log-probabilities and tool calls; false at the limit (the call has
 * failed). */
bool gen_keep(gen_call *g, uint32_t choice, const gen_event *e);

/* --- tool calls (gen_calls.c) -------------------------------------------------------- */
typedef struct gen_tool_call {
    str id;
    str name;
    str arguments; /* JSON */
} gen_tool_call;

/* Does a GEN_CALL event fit what came before it?  NULL, or what is wrong. */
const char *gen_calls_doubt(const gen_call *g, const gen_choice *c, const gen_event *e);
/* Append what a GEN_CALL event says to c->calls. */
void gen_calls_put(gen_choice *c, const gen_event *e);
/* Take one call off the view of c->calls; false at the end. */
bool gen_calls_next(str *blob, gen_tool_call *out);

#endif
