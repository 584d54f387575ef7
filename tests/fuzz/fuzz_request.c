/* fuzz_request.c - a request body of any dialect is hostile bytes.
 *
 * Input: one byte that selects the dialect (its last two bits: chat, completions, embeddings,
 * rerank), then the body.
 * A body that is refused has a fault with a message; what is accepted must travel: each of
 * its prompts encodes as a REQUEST frame that decodes again to the same fields. */
#include "fuzz.h"

#include "api/openai.h"
#include "base/assert.h"

static void check_same(const gen_request *a, const gen_request *b) {
    ASSERT(a->prompt == b->prompt && a->choices == b->choices && a->echo == b->echo);
    ASSERT(a->chat.one_call == b->chat.one_call && str_eq(a->chat.tools, b->chat.tools));
    ASSERT(a->kind == b->kind && str_eq(a->pair, b->pair));
    ASSERT(str_eq(a->text, b->text) && a->ids.count == b->ids.count);
    ASSERT(a->ids.count == 0 || memcmp(a->ids.p, b->ids.p, a->ids.count * 4u) == 0);
    ASSERT(a->stops_count == b->stops_count);
    for (uint32_t i = 0; i < a->stops_count; i++) ASSERT(str_eq(a->stops[i], b->stops[i]));
    ASSERT(a->sampling.seed == b->sampling.seed);
    ASSERT(a->sampling.tokens_max == b->sampling.tokens_max);
    ASSERT(a->sampling.stop_ids.count == b->sampling.stop_ids.count);
    ASSERT(a->sampling.biases.count == b->sampling.biases.count);
    const wire_array allowed = a->sampling.allowed_ids, came = b->sampling.allowed_ids;
    ASSERT(allowed.count == came.count);
    ASSERT(allowed.count == 0 || memcmp(allowed.p, came.p, allowed.count * 4u) == 0);
}

static void check_travels(const gen_spec *spec, uint32_t i) {
    gen_request sent = spec->request, got;
    wire_type type;
    str body;
    buf frame;
    error err;
    sent.id = 1;
    sent.credits = 16;
    sent.prompt = spec->inputs[i].kind;
    sent.text = spec->inputs[i].text;
    sent.pair = spec->inputs[i].pair;
    sent.ids = spec->inputs[i].ids;
    buf_init(&frame, WIRE_FRAME_BYTES_MAX);
    wire_put_request(&frame, &sent);
    ASSERT(!frame.failed);
    ASSERT(wire_open(buf_view(&frame), &type, &body, &err) == OK && type == WIRE_REQUEST);
    ASSERT(wire_get_request(body, &got, &err) == OK);
    check_same(&sent, &got);
    buf_deinit(&frame);
}

static void check_ignored(const gen_spec *spec) {
    size_t n = strnlen(spec->ignored, sizeof spec->ignored);
    ASSERT(n < sizeof spec->ignored && (n > 0) == (spec->ignored_count > 0));
    for (size_t i = 0; i < n; i++) ASSERT(spec->ignored[i] >= ' ' && spec->ignored[i] < 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0 || size > 1 << 20) return 0;
    static gen_spec spec;
    str body = {(const char *)data + 1, size - 1};
    api_fault fault = {.kind = API_OK};
    arena a;
    arena_init(&a, 16 * body.n + (64 << 10));
    static bool (*const parsers[])(str, arena *, gen_spec *, api_fault *) = {
        openai_chat_parse, openai_completions_parse, openai_embeddings_parse, rerank_parse};
    uint32_t dialect = data[0] % 4;
    bool ok = parsers[dialect](body, &a, &spec, &fault);
    ASSERT(ok == (fault.kind == API_OK));
    ASSERT(ok || fault.message[0] != '\0');
    ASSERT(!ok || (spec.inputs_count >= 1 &&
                   spec.inputs_count <= (dialect < 2 ? GEN_PROMPTS_MAX : GEN_INPUTS_MAX)));
    for (uint32_t i = 0; ok && i < spec.inputs_count; i++) check_travels(&spec, i);
    if (ok) check_ignored(&spec);
    arena_deinit(&a);
    return 0;
}
