/* tool_calls.c - see tool_calls.h.
 *
 * One byte at a time through the phases below.  A phase takes the byte or refuses it; a refused
 * byte makes everything held content and is then looked at as text, which takes any byte:
 *
 *   TEXT ──mark──▶ OPENED ──'{'──▶ OBJECT ──'}'──▶ CLOSING ──close──▶ TEXT         hermes
 *                    │ ├──'['──▶ ELEMENT ──'{'──▶ OBJECT ──'}'──▶ LIST ──']'──▶ TEXT    mistral
 *                    │ │            ▲───────────────────','─────────┘
 *                    │ └──name──▶ NAME ──'{'──▶ OBJECT ──'}'──▶ TEXT
 *   START ──mark?────┴──'{'──▶ OBJECT ──'}'──▶ WHOLE ──end of the answer             llama
 *
 * No marker has its first character a second time, so a marker that breaks off can only begin
 * anew at the byte that broke it. */
#include "text/tool_calls.h"

#include <string.h>

#include "base/assert.h"
#include "json/stream.h"

typedef enum phase {
    PHASE_TEXT,
    PHASE_START,   /* of an answer that may be a call as a whole */
    PHASE_OPENED,  /* behind a mark */
    PHASE_NAME,    /* in a bare name, or in what stands between it and its '{' */
    PHASE_ELEMENT, /* behind the '[' or ',' of a list */
    PHASE_OBJECT,
    PHASE_CLOSING, /* behind a call that a marker may close */
    PHASE_LIST,    /* behind an element of a list */
    PHASE_WHOLE,   /* behind the object that may be the whole answer */
    PHASE_PASS,    /* all that comes is content */
} phase;

enum {
    BLANKS_MAX = 64,      /* held in front of a mark; more are content */
    BARE_BYTES_MAX = 256, /* of a name with what stands behind it */
    KEY_BYTES_MAX = 64,   /* of a member's name that is looked at; the known ones are short */
    REFED_BYTES_MAX = 2 * BLANKS_MAX
};

void tool_parser_init(tool_parser *p, tool_family family, bool one_call) {
    const tool_format *f = tool_format_of(family);
    phase first = f == NULL ? PHASE_PASS : f->whole_answer ? PHASE_START : PHASE_TEXT;
    *p = (tool_parser){.format = f, .phase = (uint8_t)first, .one_call = one_call};
    buf_init(&p->held, TOOL_CALL_BYTES_MAX);
}

void tool_parser_deinit(tool_parser *p) { buf_deinit(&p->held); }

/* --- what is held ------------------------------------------------------------------------- */

/* False when there is no room for the byte; what is held stays. */
static bool hold(tool_parser *p, char c) {
    buf_put_char(&p->held, c);
    if (!p->held.failed) return true;
    p->held.failed = p->held.no_memory = false;
    return false;
}

static bool hold_as(tool_parser *p, char c, phase next) {
    p->phase = (uint8_t)next;
    return hold(p, c);
}

static void forget_held(tool_parser *p) {
    buf_clear(&p->held);
    p->matched = 0;
}

/* It is no call. */
static void give_up(tool_parser *p, const tool_sink *sink) {
    if (p->held.n > 0) sink->text(sink->arg, buf_view(&p->held));
    forget_held(p);
    p->in_list = false;
    p->phase = p->format->whole_answer ? PHASE_PASS : PHASE_TEXT;
}

/* --- the object --------------------------------------------------------------------------- */

/* The value of the member just named is the call's name. */
static bool read_name(tool_parser *p, json_stream *s) {
    json_token token = JSON_TOKEN_END;
    if (p->name_bytes > 0 || json_stream_next(s, &token, NULL) != OK) return false;
    if (token != JSON_TOKEN_STRING || s->raw.n > sizeof p->name) return false;
    p->name_bytes = (uint32_t)json_stream_text(s, p->name);
    return p->name_bytes > 0;
}

static bool read_arguments(tool_parser *p, json_stream *s) {
    str value = {0};
    if (p->arguments_bytes > 0 || json_stream_skip(s, &value, NULL) != OK) return false;
    p->arguments_at = (size_t)(value.p - p->held.p);
    p->arguments_bytes = value.n;
    return value.p[0] == '{';
}

/* One member behind its name. */
static bool read_member(tool_parser *p, json_stream *s) {
    char room[KEY_BYTES_MAX];
    str key = {0}, ignored;
    if (s->raw.n <= sizeof room) key = (str){room, json_stream_text(s, room)};
    if (str_eq(key, S("name"))) return read_name(p, s);
    if (str_eq(key, str_of(p->format->arguments))) return read_arguments(p, s);
    return json_stream_skip(s, &ignored, NULL) == OK;
}

/* {"name": STRING, ARGUMENTS: OBJECT}, other members as they like. */
static bool read_object(tool_parser *p, str object) {
    json_stream s;
    json_token token = JSON_TOKEN_END;
    json_stream_init(&s, object, "call");
    p->name_bytes = 0;
    p->arguments_bytes = 0;
    if (json_stream_want(&s, JSON_TOKEN_OBJECT_BEGIN, NULL) != OK) return false;
    while (json_stream_next(&s, &token, NULL) == OK && token == JSON_TOKEN_KEY)
        if (!read_member(p, &s)) return false;
    if (token != JSON_TOKEN_OBJECT_END || json_stream_want(&s, JSON_TOKEN_END, NULL) != OK)
        return false;
    return p->name_bytes > 0 && p->arguments_bytes > 0;
}

/* The object alone is the arguments. */
static bool read_bare(tool_parser *p, str object) {
    json_stream s;
    str value = {0};
    json_stream_init(&s, object, "call");
    if (json_stream_skip(&s, &value, NULL) != OK) return false;
    p->arguments_at = p->object_at;
    p->arguments_bytes = value.n;
    return json_stream_want(&s, JSON_TOKEN_END, NULL) == OK;
}

static void deliver(tool_parser *p, const tool_sink *sink) {
    str arguments = {p->held.p + p->arguments_at, p->arguments_bytes};
    sink->call(sink->arg, p->calls++, (str){p->name, p->name_bytes}, arguments);
    forget_held(p);
    p->done = p->one_call;
    p->phase = p->in_list                    ? PHASE_LIST
               : p->format->close[0] != '\0' ? PHASE_CLOSING
               : p->format->whole_answer     ? PHASE_PASS
                                             : PHASE_TEXT;
}

static void object_is_whole(tool_parser *p, const tool_sink *sink) {
    str object = str_skip(buf_view(&p->held), p->object_at);
    bool is_call = p->bare ? read_bare(p, object) : read_object(p, object);
    if (!is_call)
        give_up(p, sink);
    else if (p->format->whole_answer)
        p->phase = PHASE_WHOLE;
    else
        deliver(p, sink);
}

static bool begin_object(tool_parser *p, bool bare) {
    p->bare = bare;
    p->object_at = p->held.n;
    tool_json_init(&p->json);
    (void)tool_json_push(&p->json, '{');
    return hold_as(p, '{', PHASE_OBJECT);
}

static bool take_object(tool_parser *p, char c, const tool_sink *sink) {
    tool_json_verdict v = tool_json_push(&p->json, c);
    if (v == TOOL_JSON_BROKEN || !hold(p, c)) return false;
    if (v == TOOL_JSON_WHOLE) object_is_whole(p, sink);
    return true;
}

/* --- bare names --------------------------------------------------------------------------- */

static bool is_name_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.' || c == ':' || c == '/';
}

/* Nothing, "[ARGS]", or "[CALL_ID]", an id and "[ARGS]". */
static bool is_between(str s) {
    const str id = S("[CALL_ID]"), args = S("[ARGS]");
    if (s.n == 0 || str_eq(s, args)) return true;
    if (!str_starts(s, id) || !str_ends(s, args) || s.n <= id.n + args.n) return false;
    return memchr(s.p + id.n, '[', s.n - id.n - args.n) == NULL;
}

static bool read_bare_name(tool_parser *p) {
    str head = str_skip(buf_view(&p->held), p->name_at);
    const char *bracket = memchr(head.p, '[', head.n);
    size_t n = bracket != NULL ? (size_t)(bracket - head.p) : head.n;
    if (n == 0 || !is_between(str_skip(head, n))) return false;
    memcpy(p->name, head.p, n);
    p->name_bytes = (uint32_t)n;
    return true;
}

static bool take_name(tool_parser *p, char c) {
    _Static_assert((int)BARE_BYTES_MAX <= (int)TOOL_NAME_BYTES_MAX, "a bare name fits");
    if (c == '{') return read_bare_name(p) && begin_object(p, true);
    bool fits = is_name_byte(c) || c == '[' || c == ']';
    return fits && p->held.n - p->name_at < BARE_BYTES_MAX && hold(p, c);
}

/* --- the phases --------------------------------------------------------------------------- */

/* The next byte of a marker; `next` is the phase behind it. */
static bool take_marker(tool_parser *p, const char *marker, char c, phase next) {
    if (c != marker[p->matched] || !hold(p, c)) return false;
    if (marker[++p->matched] != '\0') return true;
    p->matched = 0;
    p->phase = (uint8_t)next;
    return true;
}

static bool take_text(tool_parser *p, char c, const tool_sink *sink) {
    const char *mark = p->format->mark;
    if (p->matched > 0) return take_marker(p, mark, c, PHASE_OPENED);
    bool blank = tool_is_blank(c) && p->held.n < BLANKS_MAX;
    if (blank && hold(p, c)) return true;
    if (c == mark[0] && take_marker(p, mark, c, PHASE_OPENED)) return true;
    if (p->held.n > 0) return false;
    sink->text(sink->arg, (str){&c, 1});
    return true;
}

static bool take_start(tool_parser *p, char c) {
    if (p->matched > 0) return take_marker(p, p->format->mark, c, PHASE_OPENED);
    if (tool_is_blank(c)) return hold(p, c);
    if (c == '{') return begin_object(p, false);
    return take_marker(p, p->format->mark, c, PHASE_OPENED);
}

static bool take_opened(tool_parser *p, char c) {
    if (tool_is_blank(c)) return hold(p, c);
    if (c == '{') return begin_object(p, false);
    if (!p->format->lists) return false;
    p->in_list = c == '[';
    if (p->in_list) return hold_as(p, c, PHASE_ELEMENT);
    p->name_at = p->held.n;
    return is_name_byte(c) && hold_as(p, c, PHASE_NAME);
}

static bool take_element(tool_parser *p, char c) {
    if (c == '{') return begin_object(p, false);
    return tool_is_blank(c) && hold(p, c);
}

/* The byte in the phase the parser is in; false when it does not fit there. */
static bool take(tool_parser *p, char c, const tool_sink *sink) {
    switch ((phase)p->phase) {
    case PHASE_TEXT:
        return take_text(p, c, sink);
    case PHASE_START:
        return take_start(p, c);
    case PHASE_OPENED:
        return take_opened(p, c);
    case PHASE_NAME:
        return take_name(p, c);
    case PHASE_ELEMENT:
        return take_element(p, c);
    case PHASE_OBJECT:
        return take_object(p, c, sink);
    case PHASE_WHOLE:
        return tool_is_blank(c) && hold(p, c);
    case PHASE_PASS:
        sink->text(sink->arg, (str){&c, 1});
        return true;
    case PHASE_CLOSING:
    case PHASE_LIST:
        break;
    }
    return false; /* those two: take_behind() */
}

static void take_or_give_up(tool_parser *p, char c, const tool_sink *sink) {
    while (!take(p, c, sink)) give_up(p, sink);
}

/* Behind a call: blanks, and what closes it or leads to the next one. */
static bool take_behind(tool_parser *p, char c) {
    if (p->matched == 0 && tool_is_blank(c)) return p->held.n < BLANKS_MAX && hold(p, c);
    if (p->phase == PHASE_LIST) {
        if (c == ',') return hold_as(p, c, PHASE_ELEMENT);
        if (c != ']') return false;
        p->in_list = false;
        p->phase = PHASE_TEXT;
    } else if (!take_marker(p, p->format->close, c, PHASE_TEXT)) {
        return false;
    }
    if (p->phase == PHASE_TEXT) forget_held(p);
    return true;
}

/* What is held behind a call does not belong to it: it is text, which a mark may follow. */
static void back_to_text(tool_parser *p, const tool_sink *sink) {
    char again[REFED_BYTES_MAX];
    size_t n = p->held.n;
    ASSERT(n <= sizeof again);
    for (size_t i = 0; i < n; i++) again[i] = p->held.p[i];
    forget_held(p);
    p->in_list = false;
    p->phase = PHASE_TEXT;
    for (size_t i = 0; i < n; i++) take_or_give_up(p, again[i], sink);
}

static void push_byte(tool_parser *p, char c, const tool_sink *sink) {
    if (p->phase == PHASE_CLOSING || p->phase == PHASE_LIST) {
        if (take_behind(p, c)) return;
        back_to_text(p, sink);
    }
    take_or_give_up(p, c, sink);
}

/* Bytes at the front of `text` that are content whatever follows. */
static size_t plain_bytes(const tool_parser *p, str text) {
    size_t n = 0;
    if (p->phase == PHASE_PASS) return text.n;
    if (p->phase != PHASE_TEXT || p->held.n > 0) return 0;
    while (n < text.n && !tool_is_blank(text.p[n]) && text.p[n] != p->format->mark[0]) n++;
    return n;
}

bool tool_parser_push(tool_parser *p, str text, const tool_sink *sink) {
    while (text.n > 0 && !p->done) {
        size_t n = plain_bytes(p, text);
        if (n > 0)
            sink->text(sink->arg, (str){text.p, n});
        else
            push_byte(p, text.p[0], sink);
        text = str_skip(text, n > 0 ? n : 1);
    }
    return p->done;
}

void tool_parser_finish(tool_parser *p, const tool_sink *sink) {
    phase at = (phase)p->phase;
    bool behind = at == PHASE_CLOSING || at == PHASE_LIST;
    bool blanks = at == PHASE_TEXT && p->matched == 0 && p->calls > 0;
    if (p->done || at == PHASE_PASS) return;
    if (at == PHASE_WHOLE)
        deliver(p, sink);
    else if (behind || blanks)
        forget_held(p);
    else
        give_up(p, sink);
}
