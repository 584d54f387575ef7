/* adapters.h - the low-rank adapters (LoRA) of this server by name, and which ones a request uses.
 *
 *   LOADING -> LOADED -> LEAVING -> (gone)      LOADING -> (gone) when the engine refuses it
 *
 * The engine knows adapters by number; numbers are never used twice, so that a late message never
 * means another adapter.  Names are unique among adapters and models: a request's `model` may be
 * either.  An order to load or unload goes down to the model's engine, and the HTTP call that gave
 * it waits for the answer.
 *
 * What a request uses: the adapter its `model` names, alone and at scale 1; or those of its `lora`
 * list; or, when it chooses nothing, every adapter of the model whose default scale is not 0.
 * Owner: the net thread. */
#ifndef API_ADAPTERS_H
#define API_ADAPTERS_H

#include "api/gen.h"

enum {
    ADAPTERS_MAX = 4096,         /* over all models; each engine has a limit of its own */
    ADAPTER_WAIT_MS_MAX = 60000, /* an HTTP call waits so long for the engine's answer */
};

typedef enum adapter_stage { ADAPTER_LOADING, ADAPTER_LOADED, ADAPTER_LEAVING } adapter_stage;

typedef struct adapter_entry {
    uint32_t number;
    adapter_stage stage;
    model_entry *model; /* borrowed: what it changes */
    char *name;         /* owned */
    char *path;         /* owned */
    float scale;        /* of requests that choose no adapters; 0: not used by them */
    float scale_next;   /* what POST /lora-adapters is about to make of it */
    uint32_t rank;      /* 0: not known */
    uint32_t matrices;
    uint64_t bytes;
    uint64_t created_s;
    uint64_t asked_ms;  /* when the order went down */
    http_call *waiting; /* borrowed; the call that gave the order, NULL: none any more */
} adapter_entry;

typedef struct adapter_list {
    adapter_entry **items; /* owned, in the order of their numbers */
    uint32_t count;
    uint32_t cap;
    uint32_t next_number;
} adapter_list;

void adapters_deinit(adapter_list *l);

/* A new entry under the next number.  ERR_INVALID for a name that is bad or in use. */
NODISCARD status adapters_add(front *f, adapter_entry **out, model_entry *m, str name, str path,
                              error *err);
void adapters_remove(adapter_list *l, adapter_entry *a);

/* By name, whatever its stage; NULL when there is none. */
adapter_entry *adapters_find(const adapter_list *l, str name);
/* The same, but only what requests can use. */
adapter_entry *adapters_find_loaded(const adapter_list *l, str name);
adapter_entry *adapters_find_number(const adapter_list *l, uint32_t number);
/* "/some/where/poet.gguf" as "poet.gguf": paths are nobody's business above. */
str adapter_file_name(const adapter_entry *a);

/* Fill spec->request.adapters for a request to `m`; `named` is the adapter that `model` names, or
 * NULL.  The arrays live in the spec. */
bool adapters_choose(front *f, const model_entry *m, const adapter_entry *named, gen_spec *spec,
                     api_fault *fault);

/* --- adapters_handle.c ----------------------------------------------------------- */
/* What became of an order. */
void adapters_take_state(front *f, model_entry *m, str body);
/* Calls that have waited for too long are answered. */
void adapters_look_at_clock(front *f);
/* That client is gone. */
void adapters_forget_call(front *f, const http_call *c);

void adapters_load_handle(front *f, http_call *c, str tail);
void adapters_unload_handle(front *f, http_call *c, str tail);
void adapters_list_handle(front *f, http_call *c, str tail);
void adapters_scale_handle(front *f, http_call *c, str tail);

#endif
