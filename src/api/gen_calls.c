/* gen_calls.c - the tool calls of a choice, kept until a plain reply is written; see gen.h.
 *
 * A call is a head with three sizes, then the bytes of its id, name and arguments.  Only the
 * last one still grows. */
#include <string.h>

#include "api/gen.h"
#include "base/assert.h"

typedef struct call_head {
    uint32_t id_bytes;
    uint32_t name_bytes;
    uint32_t arguments_bytes;
} call_head;

const char *gen_calls_doubt(const gen_call *g, const gen_choice *c, const gen_event *e) {
    bool begins = e->call.id.n > 0;
    if (g->dialect->on_call == NULL || !g->tools) return "a tool call that was not asked for";
    if (begins && e->call.index != c->calls_count) return "a tool call out of turn";
    if (!begins && e->call.index + (uint64_t)1 != c->calls_count)
        return "arguments of a tool call that is not the latest";
    return NULL;
}

void gen_calls_put(gen_choice *c, const gen_event *e) {
    call_head head = {0};
    if (e->call.id.n > 0) {
        head.id_bytes = (uint32_t)e->call.id.n;
        head.name_bytes = (uint32_t)e->call.name.n;
        c->call_at = c->calls.n;
        buf_put(&c->calls, &head, sizeof head);
        buf_put_str(&c->calls, e->call.id);
        buf_put_str(&c->calls, e->call.name);
    }
    buf_put_str(&c->calls, e->call.arguments);
    if (c->calls.failed) return;
    memcpy(&head, c->calls.p + c->call_at, sizeof head);
    head.arguments_bytes += (uint32_t)e->call.arguments.n;
    memcpy(c->calls.p + c->call_at, &head, sizeof head);
}

static str take(str *blob, size_t n) {
    str s = {blob->p, n};
    ASSERT(n <= blob->n);
    *blob = str_skip(*blob, n);
    return s;
}

bool gen_calls_next(str *blob, gen_tool_call *out) {
    call_head head;
    if (blob->n == 0) return false;
    memcpy(&head, take(blob, sizeof head).p, sizeof head);
    out->id = take(blob, head.id_bytes);
    out->name = take(blob, head.name_bytes);
    out->arguments = take(blob, head.arguments_bytes);
    return true;
}
