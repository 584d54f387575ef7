/* tool_calls_json.c - see tool_calls_json.h.  The grammar is that of RFC 8259. */
#include "text/tool_calls_json.h"

#include <string.h>

#include "text/tool_calls.h"

typedef enum want {
    WANT_OBJECT,     /* the '{' of the whole */
    WANT_VALUE,      /* behind ':' or the ',' of an array */
    WANT_ELEMENT,    /* behind '[': a value or ']' */
    WANT_FIRST_NAME, /* behind '{': a name or '}' */
    WANT_NAME,       /* behind the ',' of an object */
    WANT_COLON,
    WANT_NEXT, /* behind a value: ',' or the end of what it is in */
} want;

void tool_json_init(tool_json *j) { *j = (tool_json){.want = WANT_OBJECT}; }

static bool in_object(const tool_json *j) {
    uint32_t level = j->depth - 1;
    return (j->objects[level / 64] >> level % 64 & 1) != 0;
}

static tool_json_verdict open_level(tool_json *j, bool object) {
    if (j->depth == TOOL_JSON_DEPTH_MAX) return TOOL_JSON_BROKEN;
    uint64_t bit = (uint64_t)1 << j->depth % 64;
    uint64_t *word = &j->objects[j->depth / 64];
    *word = object ? *word | bit : *word & ~bit;
    j->depth++;
    j->want = object ? WANT_FIRST_NAME : WANT_ELEMENT;
    return TOOL_JSON_OPEN;
}

static tool_json_verdict close_level(tool_json *j) {
    j->want = WANT_NEXT;
    return --j->depth == 0 ? TOOL_JSON_WHOLE : TOOL_JSON_OPEN;
}

static tool_json_verdict begin_string(tool_json *j, want behind) {
    j->in_string = true;
    j->want = (uint8_t)behind;
    return TOOL_JSON_OPEN;
}

static tool_json_verdict string_byte(tool_json *j, char c) {
    if ((unsigned char)c < 0x20) return TOOL_JSON_BROKEN;
    bool quoted = j->escaped;
    j->escaped = !quoted && c == '\\';
    if (!quoted && c == '"') j->in_string = false;
    return TOOL_JSON_OPEN;
}

static bool begins_word(char c) { return c != '\0' && strchr("-0123456789tfn", c) != NULL; }
static bool is_in_word(char c) { return c != '\0' && strchr("-+.0123456789Eaeflnrstu", c) != NULL; }

static tool_json_verdict begin_value(tool_json *j, char c) {
    if (c == '{' || c == '[') return open_level(j, c == '{');
    if (c == '"') return begin_string(j, WANT_NEXT);
    if (!begins_word(c)) return TOOL_JSON_BROKEN;
    j->in_word = true;
    j->want = WANT_NEXT;
    return TOOL_JSON_OPEN;
}

static tool_json_verdict behind_value(tool_json *j, char c) {
    bool object = in_object(j);
    if (c == (object ? '}' : ']')) return close_level(j);
    if (c != ',') return TOOL_JSON_BROKEN;
    j->want = object ? WANT_NAME : WANT_VALUE;
    return TOOL_JSON_OPEN;
}

static tool_json_verdict structure_byte(tool_json *j, char c) {
    switch ((want)j->want) {
    case WANT_OBJECT:
        return c == '{' ? open_level(j, true) : TOOL_JSON_BROKEN;
    case WANT_ELEMENT:
        return c == ']' ? close_level(j) : begin_value(j, c);
    case WANT_VALUE:
        return begin_value(j, c);
    case WANT_FIRST_NAME:
        if (c == '}') return close_level(j);
        return c == '"' ? begin_string(j, WANT_COLON) : TOOL_JSON_BROKEN;
    case WANT_NAME:
        return c == '"' ? begin_string(j, WANT_COLON) : TOOL_JSON_BROKEN;
    case WANT_COLON:
        if (c != ':') return TOOL_JSON_BROKEN;
        j->want = WANT_VALUE;
        return TOOL_JSON_OPEN;
    case WANT_NEXT:
        return behind_value(j, c);
    }
    return TOOL_JSON_BROKEN;
}

tool_json_verdict tool_json_push(tool_json *j, char c) {
    if (j->in_string) return string_byte(j, c);
    if (j->in_word && is_in_word(c)) return TOOL_JSON_OPEN;
    j->in_word = false;
    if (tool_is_blank(c)) return TOOL_JSON_OPEN;
    return structure_byte(j, c);
}
