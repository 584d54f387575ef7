/* text_calls.c - see text_calls.h. */
#include "worker/text_calls.h"

#include <string.h>

#include "base/os.h"

enum {
    ARGUMENTS_PIECE_BYTES = 4096, /* of a call's arguments in one event */
    ID_RANDOM = 24,
    ID_RANDOM_SHORT = 9, /* Mistral's templates refuse ids of any other length */
};

/* "call_" and letters and digits, or nine letters and digits alone.  Random, so that ids differ
 * over all answers of a conversation. */
static str make_id(bool is_short, char room[WIRE_CALL_ID_BYTES_MAX]) {
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    uint8_t random[ID_RANDOM];
    size_t n = 0, count = is_short ? ID_RANDOM_SHORT : ID_RANDOM;
    str prefix = is_short ? S("") : S("call_");
    os_random(random, sizeof random);
    for (; n < prefix.n; n++) room[n] = prefix.p[n];
    for (size_t i = 0; i < count; i++) room[n++] = digits[random[i] % (sizeof digits - 1)];
    return (str){room, n};
}

static gen_event event_of(const text_out *out, gen_event_kind kind) {
    return (gen_event){.id = out->t->id, .choice = out->choice, .kind = kind};
}

static void flush_content(text_out *out) {
    if (out->content->n == 0 && out->tokens == 0 && out->logprobs.n == 0) return;
    gen_event e = event_of(out, GEN_TEXT);
    e.text.tokens = out->tokens;
    e.text.text = buf_view(out->content);
    e.text.logprobs = out->logprobs;
    wire_events_add(out->up, &e);
    buf_clear(out->content);
    out->tokens = 0;
    out->logprobs = (str){0};
}

static void take_content(void *arg, str text) {
    text_out *out = arg;
    buf_put_str(out->content, text);
}

/* At most ARGUMENTS_PIECE_BYTES of the text, in whole characters. */
static str first_piece(str text) {
    if (text.n <= ARGUMENTS_PIECE_BYTES) return text;
    size_t n = ARGUMENTS_PIECE_BYTES;
    while (n > 0 && ((unsigned char)text.p[n] & 0xC0) == 0x80) n--;
    return (str){text.p, n > 0 ? n : ARGUMENTS_PIECE_BYTES};
}

static void take_call(void *arg, uint32_t index, str name, str arguments) {
    text_out *out = arg;
    char room[WIRE_CALL_ID_BYTES_MAX];
    flush_content(out); /* what stands in front of the call */
    gen_event e = event_of(out, GEN_CALL);
    e.call.index = index;
    e.call.id = make_id(tool_format_of(out->t->calls)->short_ids, room);
    e.call.name = name;
    while (arguments.n > 0) {
        e.call.arguments = first_piece(arguments);
        wire_events_add(out->up, &e);
        arguments = str_skip(arguments, e.call.arguments.n);
        e.call.id = e.call.name = (str){0};
    }
}

bool text_calls_send(text_out *out, const text_piece *piece, uint32_t tokens, bool last) {
    tool_parser *p = &out->t->choices[out->choice].parser;
    tool_sink sink = {out, take_content, take_call};
    _Static_assert((int)TOOL_NAME_BYTES_MAX <= (int)WIRE_CALL_NAME_BYTES_MAX, "names travel");
    out->tokens = tokens;
    out->logprobs = piece->logprobs;
    buf_clear(out->content);
    bool ended = tool_parser_push(p, piece->text, &sink);
    if (last) tool_parser_finish(p, &sink);
    flush_content(out);
    return ended;
}
