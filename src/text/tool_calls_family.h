/* tool_calls_family.h - the ways in which models write a tool call, in a table.
 *
 * A model writes calls as its chat template taught it to, so the template's source tells the
 * family: it names the markers.  Families differ in the marker that begins a call, in what stands
 * behind it and in which name the arguments have.
 *
 *   hermes    <tool_call>\n{"name": N, "arguments": {..}}\n</tool_call>, any number of them
 *   mistral   [TOOL_CALLS] [{"name": N, "arguments": {..}}, ..], or, in newer models, any number
 *             of [TOOL_CALLS]N{..}, [TOOL_CALLS]N[ARGS]{..}, [TOOL_CALLS]N[CALL_ID]I[ARGS]{..}
 *   llama     {"name": N, "parameters": {..}} as the whole answer, perhaps behind <|python_tag|>
 *
 * Sources: the chat templates of NousResearch/Hermes-2-Pro, Qwen/Qwen2.5 and Qwen3,
 * mistralai/Mistral-7B-Instruct-v0.3 and Mistral-Small-3.2, meta-llama/Llama-3.1 and 3.2. */
#ifndef TEXT_TOOL_CALLS_FAMILY_H
#define TEXT_TOOL_CALLS_FAMILY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"
#include "text/tokenizer.h"

typedef enum tool_family {
    TOOL_FAMILY_NONE, /* calls stay text */
    TOOL_FAMILY_HERMES,
    TOOL_FAMILY_MISTRAL,
    TOOL_FAMILY_LLAMA,
    TOOL_FAMILY_END
} tool_family;

enum { TOOL_SIGNS_MAX = 3, TOOL_TOKENS_MAX = 3 };

typedef struct tool_format {
    const char *capability;              /* as inspect and /v1/models call it */
    const char *mark;                    /* begins a call; its first character is in it once */
    const char *close;                   /* ends a call, may be missing; "" when there is none */
    const char *arguments;               /* the member that has them */
    bool whole_answer;                   /* a call is all of the answer, with or without mark */
    bool lists;                          /* behind the mark: a list of calls, or a bare name */
    bool short_ids;                      /* its templates want ids of nine letters and digits */
    const char *signs[TOOL_SIGNS_MAX];   /* all are in the template's source; NULL: no more */
    const char *others[TOOL_SIGNS_MAX];  /* none of them is: they are of another family */
    const char *tokens[TOOL_TOKENS_MAX]; /* markers that may be tokens; NULL: no more */
} tool_format;

tool_family tool_family_of(str template_source);
/* NULL for TOOL_FAMILY_NONE. */
const tool_format *tool_format_of(tool_family family);

/* The markers that are control tokens of a vocabulary: such tokens have no text for a client. */
typedef struct tool_marks {
    uint32_t count;
    int32_t ids[TOOL_TOKENS_MAX];
    str texts[TOOL_TOKENS_MAX];
} tool_marks;

/* Errors of tok_encode(). */
NODISCARD status tool_marks_init(tool_marks *m, tool_family family, const tokenizer *tok,
                                 error *err);
/* The text of that token where it is such a marker; else n == 0. */
str tool_marks_text(const tool_marks *m, int32_t id);

#endif
