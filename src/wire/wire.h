/* wire.h - the messages between the front, the text role and the engine worker.
 *
 *   front ──REQUEST, CREDIT, CANCEL, ADAPTER, PROFILE──▶ text ──the same, prompt as ids──▶ engine
 *   front ◀──EVENTS (text), STATUS, LOADING, MODEL, ADAPTER_STATE, PROFILE_REPORT── text
 *                                                   text ◀──EVENTS (ids), STATUS ...── engine
 *
 * Roles talk in these bytes only, also when they share a process.  No pointer crosses:
 * a decoded message holds views into the frame and is valid as long as the frame is.
 * Each side treats the other's bytes as hostile: decoding checks every length, count,
 * enum and range here; what only a model can tell (token ids) is checked by the roles.
 *
 * Frame: u32 body bytes | u8 version | u8 type | u16 zero | body.  Little-endian.
 * One EVENTS frame carries everything one engine step has to say.
 *
 * The event direction never waits for the request direction, which is why two bounded
 * rings between two roles cannot deadlock (ARCHITECTURE.md, "Flow control"). */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"

enum {
    WIRE_VERSION = 10,
    WIRE_HEADER_BYTES = 8,
    WIRE_FRAME_BYTES_MAX = 64 << 20,
    WIRE_CHOICES_MAX = 128,
    WIRE_STOPS_MAX = 16,
    WIRE_STOP_BYTES_MAX = 256,
    WIRE_STOP_IDS_MAX = 128,
    WIRE_BIASES_MAX = 1024,
    WIRE_ALLOWED_IDS_MAX = 1 << 18,
    WIRE_TOP_LOGPROBS_MAX = 20,
    WIRE_STATUS_VALUES_MAX = 256,
    WIRE_ADAPTERS_MAX = 8, /* of one request */
    WIRE_PATH_BYTES_MAX = 4096,
    WIRE_CALL_ID_BYTES_MAX = 64,
    WIRE_CALL_NAME_BYTES_MAX = 256,
    WIRE_EMBEDDING_VALUES_MAX = 1 << 20,
    WIRE_CREDITS_MAX = 1 << 24, /* tokens in flight per request */
    WIRE_PROFILE_STEPS_MAX = 64,
    WIRE_PROFILE_MS_MAX = 30000,
    WIRE_PROFILE_PLACES_MAX = 9,
    WIRE_PROFILE_LIMITS = 4, /* memory, then the kinds of arithmetic */
    WIRE_PROFILE_ENTRIES_MAX = 256,
    WIRE_PROFILE_TEXT_BYTES_MAX = 256,
    WIRE_PROFILE_ENTRIES_BYTES_MAX = 256 << 10,
};

typedef enum wire_type {
    WIRE_REQUEST = 1,    /* gen_request */
    WIRE_CANCEL,         /* gen_cancel */
    WIRE_CREDIT,         /* gen_credit */
    WIRE_EVENTS,         /* gen_event, many */
    WIRE_STATUS,         /* engine_status */
    WIRE_MODEL,          /* model_desc, once, when the role is ready */
    WIRE_DRAIN,          /* no body: nobody is above any more; end what is left, then stop */
    WIRE_LOADING,        /* model_loading, any number before MODEL */
    WIRE_ADAPTER,        /* adapter_order */
    WIRE_ADAPTER_STATE,  /* adapter_state: the answer to each order */
    WIRE_PROFILE,        /* profile_order */
    WIRE_PROFILE_REPORT, /* profile_report: the answer to each of these */
    WIRE_TYPE_END
} wire_type;

/* A packed array inside a frame: `count` elements, unaligned.  Read with wire_*_at(). */
typedef struct wire_array {
    const void *p;
    uint32_t count;
} wire_array;

static inline int32_t wire_i32_at(wire_array a, uint32_t i) {
    int32_t v = 0;
    memcpy(&v, (const char *)a.p + (size_t)i * sizeof v, sizeof v);
    return v;
}
static inline float wire_f32_at(wire_array a, uint32_t i) {
    float v = 0;
    memcpy(&v, (const char *)a.p + (size_t)i * sizeof v, sizeof v);
    return v;
}
static inline uint64_t wire_u64_at(wire_array a, uint32_t i) {
    uint64_t v = 0;
    memcpy(&v, (const char *)a.p + (size_t)i * sizeof v, sizeof v);
    return v;
}

/* --- down: front -> text -> engine ----------------------------------------- */

/* What to do with the logits of one choice.  Neutral values switch a stage off:
 * temperature 1, top_k 0, top_p 1, min_p 0, penalties 1 / 0 / 0.  temperature 0 is greedy. */
typedef struct gen_sampling {
    float temperature;        /* [0, 100] */
    float top_p;              /* [0, 1] */
    float min_p;              /* [0, 1] */
    float repetition_penalty; /* (0, 100]; over prompt and output */
    float presence_penalty;   /* [-100, 100]; over the output */
    float frequency_penalty;  /* [-100, 100]; over the output */
    uint32_t top_k;
    uint32_t penalty_tokens; /* penalties look at the last so many tokens; UINT32_MAX: all */
    uint64_t seed;           /* choice i of a request draws from Philox(seed, i, position) */
    uint32_t tokens_max;     /* output tokens, >= 1; UINT32_MAX: as many as the context holds */
    uint32_t tokens_min;     /* end-of-sequence tokens are not sampled before */
    bool ignore_eos;
    bool logprobs;
    uint8_t top_logprobs;   /* <= WIRE_TOP_LOGPROBS_MAX */
    wire_array stop_ids;    /* i32, <= WIRE_STOP_IDS_MAX */
    wire_array bias_ids;    /* i32, <= WIRE_BIASES_MAX */
    wire_array biases;      /* f32, as many as bias_ids */
    wire_array allowed_ids; /* i32, <= WIRE_ALLOWED_IDS_MAX: no other token comes out; none: any */
} gen_sampling;

gen_sampling gen_sampling_default(void);

/* What is wanted of the prompt. */
typedef enum gen_kind {
    GEN_KIND_GENERATE, /* tokens that go on from it */
    GEN_KIND_EMBED,    /* one vector: its final hidden states, pooled */
    GEN_KIND_RANK,     /* the scores that the model's classification head gives it */
    GEN_KIND_END
} gen_kind;

/* EMBED: how the hidden states of the tokens become one vector. */
typedef enum gen_pooling {
    GEN_POOLING_MODEL, /* as the model's file says; else LAST, or MEAN for an encoder */
    GEN_POOLING_MEAN,
    GEN_POOLING_FIRST,
    GEN_POOLING_LAST,
    GEN_POOLING_END
} gen_pooling;

typedef enum gen_prompt {
    GEN_PROMPT_TEXT, /* `text` is encoded as it stands */
    GEN_PROMPT_CHAT, /* `text` is the JSON array of messages, `chat` what goes with it */
    GEN_PROMPT_IDS,  /* `ids` is the prompt */
    GEN_PROMPT_PAIR, /* `text` is a question, `pair` a document: put together as the model was
                        trained to compare them */
    GEN_PROMPT_END
} gen_prompt;

/* What a chat template gets besides the messages.  Texts are JSON, or empty: none. */
typedef struct gen_chat {
    bool add_generation_prompt; /* the prompt ends where the assistant begins to speak */
    bool continue_final;        /* ... or within the last message, which is gone on with */
    bool one_call;              /* the first tool call ends the answer */
    str tools;                  /* array; then calls are taken out of the answer's text */
    str documents;              /* array */
    str variables;              /* object: further variables of the template */
    str chat_template;          /* Jinja instead of the model's own; no JSON */
} gen_chat;

typedef struct gen_request {
    uint64_t id; /* chosen by the front; unique among the requests in flight */
    gen_kind kind;
    gen_pooling pooling;
    gen_prompt prompt;
    bool add_special;   /* TEXT: add BOS/EOS the way the model wants them */
    bool parse_special; /* TEXT: special tokens written in the text become tokens */
    bool echo;          /* the prompt's text comes back before the first token */
    uint16_t choices;   /* 1..WIRE_CHOICES_MAX */
    uint32_t credits;   /* tokens the engine may send before the first CREDIT */
    str text;
    str pair;
    gen_chat chat;
    wire_array ids;            /* i32 */
    wire_array adapters;       /* u32, <= WIRE_ADAPTERS_MAX; by the numbers of adapter_order */
    wire_array adapter_scales; /* f32, as many */
    uint32_t stops_count;
    str stops[WIRE_STOPS_MAX]; /* each 1..WIRE_STOP_BYTES_MAX bytes */
    gen_sampling sampling;
} gen_request;

enum { GEN_CHOICE_ALL = UINT16_MAX };

typedef struct gen_cancel {
    uint64_t id;
    uint16_t choice; /* or GEN_CHOICE_ALL */
} gen_cancel;

typedef struct gen_credit {
    uint64_t id;
    uint32_t tokens;
} gen_credit;

/* Load or unload a low-rank adapter (LoRA). */
typedef struct adapter_order {
    uint32_t adapter; /* its number, chosen by the front; never used twice */
    bool load;        /* else unload: requests that use it go on, new ones do not find it */
    str path;         /* of its file or directory */
} adapter_order;

/* Measure where the next steps spend their time. */
typedef struct profile_order {
    uint32_t id;     /* chosen by the front, for the answer to name */
    uint32_t steps;  /* the next so many, 1..WIRE_PROFILE_STEPS_MAX, ... */
    uint32_t ms_max; /* ... or those of so many milliseconds, 1..WIRE_PROFILE_MS_MAX */
} profile_order;

/* --- up: engine -> text -> front -------------------------------------------- */

typedef enum gen_event_kind {
    GEN_ACCEPTED, /* once, before anything else: the request is valid and queued */
    GEN_PROGRESS, /* prompt tokens computed so far */
    GEN_TOKENS,   /* engine -> text */
    GEN_TEXT,     /* text -> front */
    GEN_CALL,     /* text -> front: a tool call begins, or goes on */
    GEN_VECTOR,   /* the result of EMBED or RANK */
    GEN_PAUSED,   /* waiting for credits, or moved out of the cache for a while */
    GEN_FINISH,   /* this choice is complete */
    GEN_USAGE,    /* last event of a request that was accepted: all choices are complete */
    GEN_ERROR,    /* last event of a request that fails */
    GEN_EVENT_END
} gen_event_kind;

#define GEN_FINISHES(X)                                                   \
    X(EOS)         /* the model's end-of-sequence or end-of-turn token */ \
    X(STOP_TOKEN)  /* one of sampling.stop_ids */                         \
    X(STOP_STRING) /* one of stops; found by the text role */             \
    X(CALL)        /* the only call that was wanted is there; likewise */ \
    X(LENGTH)      /* sampling.tokens_max reached */                      \
    X(CONTEXT)     /* the context is full */                              \
    X(VECTOR)      /* EMBED, RANK: the vector is there */                 \
    X(CANCELED)
typedef enum gen_finish {
#define GEN_FINISH_ENUM(name) GEN_FINISH_##name,
    GEN_FINISHES(GEN_FINISH_ENUM)
#undef GEN_FINISH_ENUM
        GEN_FINISH_END
} gen_finish;

typedef enum gen_pause { GEN_PAUSE_CREDITS, GEN_PAUSE_PREEMPTED, GEN_PAUSE_END } gen_pause;

/* Why a request failed, beyond its status code: what a dialect needs to name it. */
typedef enum gen_fault {
    GEN_FAULT_NONE,
    GEN_FAULT_CONTEXT_LENGTH, /* have = prompt tokens, limit = what the context holds */
    GEN_FAULT_QUEUE_FULL,     /* have = waiting requests, limit = how many may wait */
    GEN_FAULT_PROMPT,         /* the messages or ids themselves are wrong */
    GEN_FAULT_TEMPLATE,       /* the model's chat template cannot be used, or refused (INVALID) */
    GEN_FAULT_DRAINING,       /* the server is stopping */
    GEN_FAULT_INPUT_LENGTH,   /* of EMBED or RANK: have = tokens, limit = what is computed */
    GEN_FAULT_KIND,           /* the model does not do what `kind` wants */
    GEN_FAULT_ADAPTER,        /* have = number of an adapter that is not loaded */
    GEN_FAULT_END
} gen_fault;

typedef struct gen_usage {
    uint32_t prompt_tokens;
    uint32_t completion_tokens; /* over all choices */
    uint32_t cached_tokens;     /* prompt tokens not computed again */
    uint32_t queue_us;          /* accepted -> first row computed */
    uint32_t prompt_us;         /* first row -> first token */
    uint32_t decode_us;         /* first token -> last token */
} gen_usage;

typedef struct gen_event {
    uint64_t id;
    uint16_t choice; /* 0 where the event is about the whole request */
    gen_event_kind kind;
    union {
        struct {
            uint32_t prompt_tokens;
            uint32_t cached_tokens;
            uint32_t queue_position; /* sequences ahead of it in the queue */
            uint32_t eta_ms;         /* until its first row is computed, as far as known */
        } accepted;
        struct {
            uint32_t done;
            uint32_t total;
        } progress;
        struct {
            wire_array ids;          /* i32 [count] */
            wire_array logprobs;     /* f32 [count], or none */
            uint8_t top;             /* alternatives per token */
            wire_array top_ids;      /* i32 [count, top] */
            wire_array top_logprobs; /* f32 [count, top], best first */
        } tokens;
        struct {
            uint32_t tokens; /* credits this text used up */
            str text;        /* whole UTF-8 characters; may be empty */
            str logprobs;    /* wire_logprob entries, or empty */
        } text;
        struct {
            uint32_t index; /* of the call in its choice, from 0 */
            str id;         /* with `name`, not empty: the call begins; both empty: it goes on */
            str name;
            str arguments; /* the next piece of a JSON object's text */
        } call;
        wire_array vector; /* f32 [values], not normalised; scores of RANK */
        gen_pause paused;
        struct {
            gen_finish reason;
            str stop; /* the stop string that matched */
        } finish;
        gen_usage usage;
        struct {
            status code;
            gen_fault fault;
            uint64_t have;
            uint64_t limit;
            str message;
        } error;
    };
} gen_event;

/* One token of a GEN_TEXT event's `logprobs`. */
typedef struct wire_logprob {
    str bytes; /* the token's own bytes; not always whole UTF-8 */
    int32_t id;
    float logprob;
} wire_logprob;

/* What the front knows about a model.  A fixed struct: the ledger and /v1/models see
 * this and nothing of the file. */
typedef struct model_desc {
    char name[64];
    char description[200]; /* what the file says it is; may be empty, like the next */
    char license[64];
    char arch[32];
    char types[96];       /* weight types by bytes, "Q4_0 92 %, F32 8 %" */
    char chat[16];        /* "plain", "jinja", "none" */
    char chat_check[240]; /* what the template's self-check said: "ok", "1 warning: ..." */
    char chat_caps[192];  /* what it can do, ", " between: "system, tools" */
    char backend[96];     /* what computes: "cpu avx2", "cuda sm_75 x2 + cpu avx2" */
    char device[192];     /* the GPUs that it computes on, "Tesla T4 x2"; "" on a CPU */
    char fallback[240];   /* why it does not compute where it was to; "" when it does */
    char reduced[248];    /* what memory was too short for: "ctx 131072 -> 32768, kv_tokens .." */
    char numerics[8];     /* "exact" or "fast" */
    char kv_type[8];
    uint64_t params;
    uint64_t file_bytes;
    uint64_t kv_bytes;
    uint64_t device_bytes;  /* all that it takes there, together */
    uint32_t device_layers; /* the last so many are computed there; 0 on a CPU */
    uint32_t host_experts;  /* of them, those whose experts the CPU computes */
    uint32_t vocab;
    uint32_t n_embd;
    uint32_t layers;
    uint32_t ctx_train;
    uint32_t ctx_max;          /* tokens per sequence here */
    uint32_t embed_tokens_max; /* of one input to EMBED or RANK; 0: the model does neither */
    uint32_t embed_dims;       /* values of an EMBED vector */
    uint32_t rank_labels;      /* scores of a RANK vector; 0: no classification head */
    uint32_t adapter_rank_max; /* of an adapter; 0: none can be loaded */
    uint32_t parallel;
    uint32_t threads;
    bool generates; /* has a head to sample tokens from */
} model_desc;

/* X(id, what it says): the phases of loading, in their order. */
#define LOAD_PHASES(X)                     \
    X(HEADERS, "reading the headers")      \
    X(TOKENIZER, "building the tokenizer") \
    X(MEMORY, "planning memory")           \
    X(WEIGHTS, "reading the weights")      \
    X(WARM_UP, "warming up")
typedef enum load_phase {
#define LOAD_PHASE_ENUM(id, text) LOAD_PHASE_##id,
    LOAD_PHASES(LOAD_PHASE_ENUM)
#undef LOAD_PHASE_ENUM
        LOAD_PHASE_END
} load_phase;

/* How far a model that is being loaded has come. */
typedef struct model_loading {
    load_phase phase;
    uint32_t permille; /* of the whole, 0..1000 */
} model_loading;

/* What became of an adapter_order. */
typedef struct adapter_state {
    uint32_t adapter;
    bool loaded;
    status code; /* OK, or why the order failed; the adapter is not loaded then */
    uint32_t rank;
    uint32_t weights; /* matrices it changes */
    uint64_t bytes;
    str message; /* of the failure */
} adapter_state;

/* What speed is a fraction of; per_s 0: not known. */
typedef struct profile_limit {
    uint64_t per_s; /* bytes, or operations */
    char name[32];  /* what it was made of: "memory clock x bus" */
} profile_limit;

/* A device that computes a part of the model. */
typedef struct profile_place {
    char where[32];
    uint64_t ops; /* of its program */
    profile_limit limits[WIRE_PROFILE_LIMITS];
} profile_place;

/* Tasks of a kind, in one step. */
typedef struct profile_entry {
    uint32_t place; /* index */
    uint32_t arith; /* index into the place's limits, >= 1 */
    uint32_t tasks;
    uint32_t ops; /* of the program, in all of them */
    uint64_t ns;
    uint64_t weight_bytes, value_bytes, cache_bytes;
    uint64_t flops;
    str name;  /* "k_gemv_q4_k_n1" */
    str kinds; /* of the ops of each task: "MATMUL+ADD" */
    str what;  /* tensors and types: "ffn_down Q4_K" */
} profile_entry;

/* The median of steps that are alike. */
typedef struct profile_table {
    uint32_t steps; /* that were measured; 0: all else is empty */
    uint32_t rows;  /* of the median step */
    uint64_t ns;    /* the same: the whole of it */
    uint32_t places_count;
    profile_place places[WIRE_PROFILE_PLACES_MAX];
    str entries; /* profile_entry, longest first */
} profile_table;

/* What became of a profile_order. */
typedef struct profile_report {
    uint32_t id;
    status code;          /* OK, or why nothing was measured */
    str message;          /* of the failure */
    profile_table prompt; /* steps with rows of prompts */
    profile_table decode; /* steps without */
} profile_report;

/* The worker's heartbeat: sent between steps, about every 100 ms. */
typedef struct engine_status {
    uint64_t steps;
    uint32_t running;
    uint32_t waiting;
    wire_array values; /* u64, the ENGINE rows of obs/metrics.def in table order */
} engine_status;

/* --- codec ------------------------------------------------------------------ */

/* Append one frame to `out`.  The spans a message points to are copied. */
void wire_put_request(buf *out, const gen_request *r);
void wire_put_cancel(buf *out, const gen_cancel *c);
void wire_put_credit(buf *out, const gen_credit *c);
void wire_put_status(buf *out, const engine_status *s);
void wire_put_model(buf *out, const model_desc *d);
void wire_put_loading(buf *out, const model_loading *l);
void wire_put_adapter(buf *out, const adapter_order *o);
void wire_put_adapter_state(buf *out, const adapter_state *s);
void wire_put_profile(buf *out, const profile_order *o);
void wire_put_profile_report(buf *out, const profile_report *r);
void wire_put_drain(buf *out);

/* An EVENTS frame: begin, add, end.  Nothing is left in `out` when no event was added. */
size_t wire_events_begin(buf *out);
void wire_events_add(buf *out, const gen_event *e);
void wire_events_end(buf *out, size_t begun);

/* Append one entry to a GEN_TEXT logprobs blob: the token, then its alternatives. */
void wire_logprob_put(buf *out, const wire_logprob *token, const wire_logprob *top, uint8_t count);
/* Take one entry off `blob`; `top` has room for WIRE_TOP_LOGPROBS_MAX.  False at the end
 * (the blob was checked when its event was decoded). */
bool wire_logprob_next(str *blob, wire_logprob *token, wire_logprob *top, uint8_t *count);

/* Append one entry to a table's `entries`. */
void wire_profile_entry_put(buf *out, const profile_entry *e);
/* Take one entry off them; false at the end (they were checked when the report was decoded). */
bool wire_profile_entry_next(str *entries, profile_entry *out);

/* Type and body of a whole frame; ERR_FORMAT when header or length is wrong. */
NODISCARD status wire_open(str frame, wire_type *type, str *body, error *err);

NODISCARD status wire_get_request(str body, gen_request *out, error *err);
NODISCARD status wire_get_cancel(str body, gen_cancel *out, error *err);
NODISCARD status wire_get_credit(str body, gen_credit *out, error *err);
NODISCARD status wire_get_status(str body, engine_status *out, error *err);
NODISCARD status wire_get_model(str body, model_desc *out, error *err);
NODISCARD status wire_get_loading(str body, model_loading *out, error *err);
NODISCARD status wire_get_adapter(str body, adapter_order *out, error *err);
NODISCARD status wire_get_adapter_state(str body, adapter_state *out, error *err);
NODISCARD status wire_get_profile(str body, profile_order *out, error *err);
NODISCARD status wire_get_profile_report(str body, profile_report *out, error *err);
/* Take the next event off an EVENTS body; *more is false at its end. */
NODISCARD status wire_get_event(str *body, gen_event *out, bool *more, error *err);

const char *gen_finish_name(gen_finish reason);
/* "reading the weights". */
const char *load_phase_name(load_phase phase);

#endif
