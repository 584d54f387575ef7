/* tool_calls_family.c - see tool_calls_family.h. */
#include "text/tool_calls_family.h"

#include <string.h>

#include "base/buf.h"

/* Qwen3-Coder and GLM have "<tool_call>" too, around something else than JSON. */
static const tool_format FORMATS[TOOL_FAMILY_END] = {
    [TOOL_FAMILY_HERMES] = {.capability = "calls_hermes",
                            .mark = "<tool_call>",
                            .close = "</tool_call>",
                            .arguments = "arguments",
                            .signs = {"<tool_call>", "arguments"},
                            .others = {"<function=", "<arg_key>", "[TOOL_CALLS]"},
                            .tokens = {"<tool_call>", "</tool_call>"}},
    [TOOL_FAMILY_MISTRAL] = {.capability = "calls_mistral",
                             .mark = "[TOOL_CALLS]",
                             .close = "",
                             .arguments = "arguments",
                             .lists = true,
                             .short_ids = true,
                             .signs = {"[TOOL_CALLS]"},
                             .others = {"<tool_call>"},
                             .tokens = {"[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"}},
    [TOOL_FAMILY_LLAMA] = {.capability = "calls_llama",
                           .mark = "<|python_tag|>",
                           .close = "",
                           .arguments = "parameters",
                           .whole_answer = true,
                           .signs = {"<|start_header_id|>", "ipython", "parameters"},
                           .others = {"<tool_call>", "[TOOL_CALLS]", "<function="},
                           .tokens = {"<|python_tag|>"}},
};

static bool has(str source, const char *sign) {
    return source.n > 0 && memmem(source.p, source.n, sign, strlen(sign)) != NULL;
}

static bool is_of(str source, const tool_format *f) {
    for (size_t i = 0; i < TOOL_SIGNS_MAX && f->signs[i] != NULL; i++)
        if (!has(source, f->signs[i])) return false;
    for (size_t i = 0; i < TOOL_SIGNS_MAX && f->others[i] != NULL; i++)
        if (has(source, f->others[i])) return false;
    return true;
}

tool_family tool_family_of(str template_source) {
    for (tool_family i = TOOL_FAMILY_NONE + 1; i < TOOL_FAMILY_END; i++)
        if (is_of(template_source, &FORMATS[i])) return i;
    return TOOL_FAMILY_NONE;
}

const tool_format *tool_format_of(tool_family family) {
    if (family <= TOOL_FAMILY_NONE || family >= TOOL_FAMILY_END) return NULL;
    return &FORMATS[family];
}

/* --- markers that are tokens -------------------------------------------------------------- */

/* The control token with exactly that text; TOK_ID_NONE when there is none. */
static status control_token(const tokenizer *tok, str text, int32_t *id, error *err) {
    tok_options o = {.parse_special = true, .tokens_max = UINT32_MAX};
    buf ids;
    buf_init(&ids, 4096);
    status st = tok_encode(tok, text, &o, &ids, err);
    *id = TOK_ID_NONE;
    if (st == OK && ids.n == sizeof *id) memcpy(id, ids.p, sizeof *id);
    if (*id != TOK_ID_NONE && !tok_is_control(tok, *id)) *id = TOK_ID_NONE;
    buf_deinit(&ids);
    return st;
}

status tool_marks_init(tool_marks *m, tool_family family, const tokenizer *tok, error *err) {
    const tool_format *f = tool_format_of(family);
    *m = (tool_marks){0};
    for (size_t i = 0; f != NULL && i < TOOL_TOKENS_MAX && f->tokens[i] != NULL; i++) {
        str text = str_of(f->tokens[i]);
        int32_t id = TOK_ID_NONE;
        TRY(control_token(tok, text, &id, err));
        if (id == TOK_ID_NONE) continue;
        m->ids[m->count] = id;
        m->texts[m->count++] = text;
    }
    return OK;
}

str tool_marks_text(const tool_marks *m, int32_t id) {
    for (uint32_t i = 0; i < m->count; i++)
        if (m->ids[i] == id) return m->texts[i];
    return (str){0};
}
